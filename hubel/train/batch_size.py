"""The batch size: no larger than the set, and with `auto` the one that keeps the device busy."""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace

import torch

from hubel.config import FitConfig
from hubel.engine import Engine
from hubel.train.probe import Bench, undisturbed
from hubel.train.training import Training

__all__ = ["AUTO", "bounded_batch_size", "measured_batch_size", "saturating"]

AUTO = -1
"""--batch-size auto, as `parse_batch_size` gives it."""

_FIRST = 16
_STEPS_AN_EPOCH = 16  # at least: fewer, larger steps learn less from the same pictures
_GAIN = 1.05  # what doubling has to bring
_MEMORY = 0.8  # share of a device's memory that a step may take
_REPEATS = 3


def bounded_batch_size(config: FitConfig, num_train: int) -> tuple[FitConfig, str]:
    """`config` with a batch no larger than the training split, and a sentence that says so."""
    if config.batch_size <= num_train:
        return config, ""
    return replace(config, batch_size=num_train), (
        f"--batch-size {config.batch_size} is more than the {num_train} training samples: each "
        f"step takes all {num_train}"
    )


def measured_batch_size(t: Training) -> str:
    """Give `t` the batch size that its device is quick with; a sentence about it comes back.

    Weights and random streams stay as they are.
    """
    n = len(t.loader.indices)
    largest = max(min(n, _FIRST), n // _STEPS_AN_EPOCH)
    sizes = [_FIRST << k for k in range(32) if _FIRST << k <= largest] or [largest]
    device = t.engine.device
    t.loader = replace(t.loader, batch_size=largest)
    with undisturbed(device):
        torch.manual_seed(0)
        t.model.train()
        batch = next(iter(t.loader.epoch(0)))
        with Bench(t.model, t.optimizer, t.task.loss, batch) as bench:

            def speed(samples: int) -> float:
                part = slice(0, -(-samples // t.group.world.size))
                bench.batch = replace(
                    batch, input=batch.input[part], target=batch.target[part], ids=batch.ids[part]
                )
                return samples / _step_s(bench, t.engine)

            found, tried = saturating(sizes, speed)
    found = int(t.group.most(found if t.group.world.first else 0)[0])
    t.config = replace(t.config, batch_size=found)
    t.loader = replace(t.loader, batch_size=found)
    shown = ", ".join(f"{size}: {images_per_s:,.0f}/s" for size, images_per_s in tried.items())
    return f"batch size {found} by measuring ({shown})"


def saturating(sizes: Iterable[int], speed: Callable[[int], float]) -> tuple[int, dict[int, float]]:
    """The first of `sizes`, each twice the one before, that the next one hardly betters.

    `speed` gives samples a second, 0 where the memory is too small. Also what was measured.
    """
    tried: dict[int, float] = {}
    best = 0
    for size in sizes:
        tried[size] = speed(size)
        if best and tried[size] < _GAIN * tried[best]:
            break
        best = size
    return best, tried


def _step_s(bench: Bench, engine: Engine) -> float:
    """The shortest of a few steps; infinite where they do not fit into the memory."""
    cuda = engine.device.type == "cuda"
    try:
        if cuda:
            torch.cuda.reset_peak_memory_stats(engine.device)
        seconds = min(bench.step_s(engine) for _ in range(1 + _REPEATS))
    except (MemoryError, RuntimeError) as error:
        if "memory" not in str(error) and not isinstance(error, MemoryError):
            raise
        return math.inf
    if cuda:
        most = torch.cuda.max_memory_allocated(engine.device)
        whole = torch.cuda.get_device_properties(engine.device).total_memory
        if most > _MEMORY * whole:
            return math.inf
    return seconds
