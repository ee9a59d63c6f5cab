"""The weights of the best epoch so far, as a folder with a manifest."""

import json

import safetensors.torch
import torch
from torch import nn

from hubel.errors import UserError
from hubel.inference import tensors_from_bytes
from hubel.runs import RunFolder, folder_intact, write_checked_folder

__all__ = ["load_best", "save_best"]


def save_best(run: RunFolder, model: nn.Module, epoch: int, score: float) -> None:
    """Replace the best weights by those of `model`, which scored `score` after `epoch`."""
    tensors = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    files = {
        "weights.safetensors": safetensors.torch.save(tensors),
        "best.json": json.dumps({"epoch": epoch, "score": score}).encode(),
    }
    try:
        write_checked_folder(run.path / "best", files)
    except OSError as error:
        raise UserError(
            f"'{run.path / 'best'}' could not be written ({error.strerror or error}); the last "
            f"checkpoint is whole: make room, then hubel fit --resume {run.path}"
        ) from None


def load_best(run: RunFolder) -> dict[str, torch.Tensor]:
    """The best weights. Raises `UserError` if they are damaged."""
    folder = run.path / "best"
    problem = folder_intact(folder)
    if problem:
        raise UserError(
            f"the best weights in '{folder}' are damaged ({problem}); restore them from a copy"
        )
    path = folder / "weights.safetensors"
    return tensors_from_bytes(path.read_bytes(), str(path))
