"""Hard-example selection: the pictures that a small network finds easy are seen less often.

As in the 96 % record of Jordan (github.com/KellerJordan/cifar10-airbench, "data filtering by a
proxy model") and, for whole data sets, Mindermann et al. 2022 (ICML, arXiv 2206.07137) and
Sorscher et al. 2022 (NeurIPS, arXiv 2206.14486). A small network, `swift_s`, is trained for two
passes; the loss it then has for a picture is that picture's difficulty. In each epoch some of
the easier half are left out, drawn anew each time, so that no picture is lost for good.

Off unless asked for (`--hard-share`): two passes of the proxy must first be won back.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch

from hubel.data.loader import Loader, evaluation_batch
from hubel.engine import Engine
from hubel.errors import UserError
from hubel.inference import outputs, tensors_from_bytes
from hubel.models import MODELS, ModelSpec, build
from hubel.randomness import stream_seed
from hubel.runs import RunFolder, write_atomic
from hubel.shapes import format_shape
from hubel.tasks import Task
from hubel.train.recipe import batch_size_for

__all__ = ["PROXY", "difficulty", "select"]

PROXY = "swift_s"
_PASSES = 2
_LR = 3e-3
_FILE = "difficulty.safetensors"


def select(
    loader: Loader, share: float, run: RunFolder, task: Task, engine: Engine, num_outputs: int
) -> Loader:
    """`loader` that visits `share` of its samples in an epoch, the easier ones less often.

    The difficulties are kept in `run`, so that a resumed run selects the same. Raises
    `UserError` where the proxy cannot take the pictures.
    """
    if share == 1.0:
        return loader
    if loader.balanced:
        raise UserError(
            "--hard-share and --balanced-sampling both choose an epoch's samples; give one of them"
        )
    path = run.path / _FILE
    if path.exists():
        losses = tensors_from_bytes(path.read_bytes(), str(path))["loss"]
    else:
        losses = torch.from_numpy(difficulty(loader, task, engine, num_outputs))
        write_atomic(path, safetensors.torch.save({"loss": losses}))
    return replace(loader, difficulty=losses.numpy(), hard_share=share)


def difficulty(
    loader: Loader, task: Task, engine: Engine, num_outputs: int
) -> npt.NDArray[np.float32]:
    """The proxy's loss (n,) of each sample of `loader`, in the order of its indices."""
    size = loader.preprocess.size
    smallest = MODELS[PROXY].smallest
    if min(size) < smallest:
        raise UserError(
            f"--hard-share needs pictures of at least {smallest} pixels a side for its proxy, got "
            f"{format_shape(*size)}; leave it out"
        )
    torch.manual_seed(stream_seed(loader.seed, "proxy"))
    model = build(ModelSpec(PROXY, loader.preprocess.in_channels, num_outputs, size))
    engine.place(model)
    optimizer = torch.optim.AdamW(model.parameters(), _LR, fused=True)
    # Its own: the run's may be for a larger network, or not measured yet.
    loader = replace(loader, batch_size=batch_size_for(len(loader.indices)))
    steps = _PASSES * len(loader)
    model.train()
    for number, batch in enumerate(b for e in range(_PASSES) for b in loader.epoch(e)):
        for group in optimizer.param_groups:
            group["lr"] = _LR * min(1.0, 5 * (number + 1) / steps) * (1 - number / steps)
        with engine.autocast():
            output = model(engine.input(batch.input))
        task.loss(output, batch.target, label_smoothing=0.1).backward()
        optimizer.step()
        optimizer.zero_grad()
    whole = replace(
        loader, batch_size=evaluation_batch(loader.store), augment=None, transform=None, mixup=0.0
    )
    found, target, _ = outputs(model, whole.evaluation(), engine, task.kept)
    rows = [task.loss(o[None], y[None]) for o, y in zip(found, target, strict=True)]
    losses: npt.NDArray[np.float32] = torch.stack(rows).float().numpy()
    return losses
