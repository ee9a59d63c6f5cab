"""The weights of the best epoch so far: a folder for each, which checkpoints name."""

import json
import shutil

import safetensors.torch
import torch
from torch import nn

from hubel.errors import UserError
from hubel.inference import tensors_from_bytes
from hubel.runs import RunFolder, folder_intact, write_checked_folder
from hubel.train.checkpoint import kept_states

__all__ = ["load_best", "prune_best", "save_best"]


def save_best(run: RunFolder, model: nn.Module, name: str, score: float) -> None:
    """Keep the weights of `model`, which scored `score`, under `name`."""
    if not run.writes:
        return
    tensors = {key: t.detach().cpu().contiguous() for key, t in model.state_dict().items()}
    files = {
        "weights.safetensors": safetensors.torch.save(tensors),
        "best.json": json.dumps({"score": score}).encode(),
    }
    folder = run.folder("best") / name
    try:
        write_checked_folder(folder, files)
    except OSError as error:
        raise UserError(
            f"'{folder}' could not be written ({error.strerror or error}); the last checkpoint "
            f"is whole: make room, then hubel fit --resume {run.path}"
        ) from None


def prune_best(run: RunFolder) -> None:
    """Remove the weights that no checkpoint names any more."""
    if not run.writes:
        return
    named = {state["position"]["best"] for state in kept_states(run)}
    for folder in run.folder("best").iterdir():
        if folder.name not in named:
            shutil.rmtree(folder, ignore_errors=True)


def load_best(run: RunFolder, name: str) -> dict[str, torch.Tensor]:
    """The weights kept under `name`. Raises `UserError` if they are damaged."""
    folder = run.path / "best" / name
    problem = folder_intact(folder)
    if problem:
        raise UserError(
            f"the best weights in '{folder}' are damaged ({problem}); restore them from a copy"
        )
    path = folder / "weights.safetensors"
    return tensors_from_bytes(path.read_bytes(), str(path))
