"""The batch size: no larger than the set, and with `auto` the one that keeps the device busy."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

import torch

from hubel.config import FitConfig
from hubel.data.loader import Loader
from hubel.engine import Engine, out_of_memory
from hubel.train.engine import allowed_s
from hubel.train.probe import Bench, undisturbed
from hubel.train.setup import optimizer_for
from hubel.train.training import Training

__all__ = ["AUTO", "bounded_batch_size", "measured_batch_size", "saturating"]

AUTO = -1
"""--batch-size auto, as `parse_batch_size` gives it."""

_FIRST = 16
_STEPS_AN_EPOCH = 16  # at least: fewer, larger steps learn less from the same pictures
_GAIN = 1.05  # what doubling has to bring
_MEMORY = 0.8  # share of a device's memory that a step may take
_STEPS = 4  # of each size; the first warms up


def bounded_batch_size(config: FitConfig, num_train: int) -> tuple[FitConfig, str]:
    """`config` with a batch no larger than the training split, and a sentence that says so."""
    if config.batch_size <= num_train:
        return config, ""
    return replace(config, batch_size=num_train), (
        f"--batch-size {config.batch_size} is more than the {num_train} training samples: each "
        f"step takes all {num_train}"
    )


def measured_batch_size(t: Training, clock: Callable[[], float] = time.perf_counter) -> str:
    """Give `t` the batch size that its device is quick with; a sentence about it comes back.

    Weights and random streams stay as they are; what the optimizer does with a layer depends on
    the batch size, so it is to be made again. It takes a twentieth of the training at most.
    """
    n = len(t.loader.indices)
    largest = max(min(n, _FIRST), n // _STEPS_AN_EPOCH)
    sizes = [_FIRST << k for k in range(32) if _FIRST << k <= largest] or [largest]
    learning = {p: p.requires_grad for p in t.model.parameters()}
    assert t.freezing is not None  # noqa: S101 — `assemble` gives one
    shape = (t.loader.store.in_channels, *t.loader.store.size)
    optimizer = optimizer_for(t.model, replace(t.config, batch_size=sizes[-1]), t.freezing, shape)
    begun: float | None = None

    def left_s(images_per_s: float) -> float:
        nonlocal begun
        # From the end of the first size's turn: what that one warms up, a training needs too.
        begun = clock() if begun is None else begun
        return allowed_s(t, 1 / images_per_s)[1] - (clock() - begun)

    with undisturbed(t.engine.device):
        torch.manual_seed(0)
        t.model.train()
        t.freezing.apply(0)
        smallest = replace(t.loader, batch_size=sizes[0])
        with Bench(t.model, optimizer, t.task.loss, next(iter(smallest.epoch(0)))) as bench:

            def speed(samples: int) -> float:
                return samples / _step_s(bench, replace(t.loader, batch_size=samples), t.engine)

            found, tried = saturating(sizes, speed, left_s)
    for parameter, learns in learning.items():  # the next optimizer is for all that ever learn
        parameter.requires_grad_(learns)
    found = int(t.group.most(found if t.group.world.first else 0)[0])
    t.config = replace(t.config, batch_size=found)
    t.loader = replace(t.loader, batch_size=found)
    shown = ", ".join(f"{size}: {images_per_s:,.0f}/s" for size, images_per_s in tried.items())
    return f"batch size {found} by measuring ({shown})"


def saturating(
    sizes: Iterable[int], speed: Callable[[int], float], left_s: Callable[[float], float]
) -> tuple[int, dict[int, float]]:
    """The first of `sizes`, each twice the one before, that the next one hardly betters.

    `speed` gives samples a second, 0 where the memory is too small; where it is so for all, the
    smallest comes back. A size is left out, with those after it, if its steps would take longer
    than `left_s`, which is told the best speed. Also what was measured.
    """
    tried: dict[int, float] = {}
    best = 0
    for size in sizes:
        if best and _STEPS * size / tried[best] > left_s(tried[best]):
            break
        tried[size] = speed(size)
        if tried[size] == 0 or (best and tried[size] < _GAIN * tried[best]):
            break
        best = size
    return best or min(tried), tried


def _step_s(bench: Bench, loader: Loader, engine: Engine) -> float:
    """The shortest of a few steps on the first batch; infinite where they do not fit into the
    memory.
    """
    cuda = engine.device.type == "cuda"
    try:
        if cuda:
            torch.cuda.reset_peak_memory_stats(engine.device)
        bench.batch = next(iter(loader.epoch(0)))
        seconds = min(bench.step_s(engine) for _ in range(_STEPS))
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        return math.inf
    if cuda:
        most = torch.cuda.max_memory_allocated(engine.device)
        whole = torch.cuda.get_device_properties(engine.device).total_memory
        if most > _MEMORY * whole:
            return math.inf
    return seconds
