"""`Training`: what the loop works with, and the way of all its state to a checkpoint and back."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from hubel.config import FitConfig
from hubel.data.loader import Loader
from hubel.engine import Engine, Forward
from hubel.runs import RunFolder
from hubel.tasks import Task
from hubel.train.checkpoint import Checkpoint, save_checkpoint
from hubel.train.distributed import Group
from hubel.train.freezing import Freezing
from hubel.train.lookahead import Lookahead
from hubel.train.optimizers import load_optimizer_tensors, optimizer_tensors
from hubel.train.profile import NoProfile
from hubel.train.progressive import Progressive
from hubel.train.schedules import Schedule
from hubel.train.signals import StopRequest
from hubel.world import World

__all__ = ["Position", "Report", "Training", "checkpoint", "restore"]

Report = Callable[[dict[str, Any]], None]
"""report(facts of the moment): called after a few steps, and with "note" for a sentence."""


@dataclass
class Position:
    """Where the training stands: with the tensors, all that the next step depends on.

    `elapsed_s` is the time spent in the loop, over all resumes; `limit_s` is when it ends,
    in that time, if a budget was given, and `budget_s` that budget. `epoch_…` sum over the
    running epoch.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    samples: int = 0
    elapsed_s: float = 0.0
    limit_s: float | None = None
    budget_s: float = 0.0
    rate: float = 0.0
    epoch_loss: float = 0.0
    epoch_right: float = 0.0
    epoch_samples: int = 0
    best_score: float = -math.inf
    best_loss: float = 0.0
    best_epoch: int = 0
    best: str = ""
    accumulate: int = 1
    rate_scale: float = 1.0
    rollbacks: int = 0
    finished: bool = False


@dataclass
class Training:
    """What the loop works with; put together by `hubel.train.fit`.

    `forward` is what the loop calls: the model, or the model compiled or spread over the
    processes of `group`.
    """

    config: FitConfig
    run: RunFolder
    model: nn.Module
    average: AveragedModel | None
    task: Task
    loader: Loader
    validation: Loader
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    engine: Engine
    stop: StopRequest
    report: Report
    class_weights: torch.Tensor | None = None
    scaler: torch.amp.GradScaler = field(
        default_factory=lambda: torch.amp.GradScaler(enabled=False)
    )
    at: Position = field(default_factory=Position)
    clock: Callable[[], float] = time.monotonic
    freezing: Freezing | None = None
    lookahead: Lookahead | None = None
    progressive: Progressive | None = None
    group: Group = field(default_factory=lambda: Group(World()))
    profile: NoProfile = field(default_factory=NoProfile)
    forward: Forward = field(init=False)

    def __post_init__(self) -> None:
        self.forward = self.model

    @property
    def evaluated(self) -> nn.Module:
        """The network that validation sees: the averaged one where there is one."""
        return self.model if self.average is None else self.average.module


def checkpoint(t: Training, *, border: bool) -> None:
    """A checkpoint of everything the next step depends on."""
    t.group.share_buffers(t.model, t.average)  # batch norm's statistics are the first's
    states = {"cpu": torch.get_rng_state()}
    if t.engine.device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(t.engine.device)
    generators = {
        _stream(kind, rank): value
        for kind, state in states.items()
        for rank, value in enumerate(t.group.each(state))
    }
    tensors = {
        "model": _cpu(t.model.state_dict()),
        "optimizer": optimizer_tensors(t.optimizer),
        "generators": generators,
    }
    if t.average is not None:
        tensors["average"] = _cpu(t.average.state_dict())
    if t.lookahead is not None:
        tensors["lookahead"] = _cpu(t.lookahead.slow)
    position = asdict(t.at)
    if not math.isfinite(position["best_score"]):
        position["best_score"] = None
    state = {
        "position": position,
        "scaler": t.scaler.state_dict(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "engine": str(t.engine),
        "processes": t.group.world.size,
    }
    save_checkpoint(
        t.run, Checkpoint(tensors, state), step=t.at.step, rollbacks=t.at.rollbacks, border=border
    )


def _stream(kind: str, rank: int) -> str:
    """The name of a process's random stream in a checkpoint; the first's is the kind alone."""
    return kind if rank == 0 else f"{kind}.{rank}"


def restore(t: Training, saved: Checkpoint) -> None:
    """Put weights, averages, optimizer, generators, scaler and position back."""
    # load_state_dict copies into the module's own tensors: device and memory order stay.
    t.model.load_state_dict(saved.tensors["model"])
    if t.average is not None:
        t.average.load_state_dict(saved.tensors["average"])
    if t.lookahead is not None:
        t.lookahead.load(saved.tensors["lookahead"])
    load_optimizer_tensors(t.optimizer, saved.tensors.get("optimizer", {}))
    streams, rank = saved.tensors["generators"], t.group.world.rank
    if _stream("cpu", rank) in streams:  # else there were fewer processes: its own goes on
        torch.set_rng_state(streams[_stream("cpu", rank)])
    if t.engine.device.type == "cuda" and _stream("cuda", rank) in streams:
        torch.cuda.set_rng_state(streams[_stream("cuda", rank)], t.engine.device)
    t.scaler.load_state_dict(saved.state["scaler"])
    position = saved.state["position"]
    if position["best_score"] is None:
        position["best_score"] = -math.inf
    for name, value in position.items():
        setattr(t.at, name, value)


def _cpu(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
