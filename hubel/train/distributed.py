"""Several processes that train one network: what they tell each other.

Each computes its share of every batch; DistributedDataParallel makes the mean of the gradients,
so that all take the same step. torchrun starts the processes and ends them all when one fails;
gloo carries what lies on the CPU, nccl what lies on GPUs. Nothing here uses pickle.
"""

import contextlib
import inspect
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from hubel.errors import UserError
from hubel.world import World, read_world

__all__ = ["Group", "PeerLostError", "joined"]

_TIMEOUT = timedelta(hours=12)  # for the others to read the data; a dead one is noticed at once
# What gloo and nccl write when the other end is gone.
_LOST = ("closed by peer", "reset by peer", "gloo", "Gloo", "NCCL", "refused", "Broken pipe")


class PeerLostError(UserError):
    """Another process of the group has ended."""


class Group:
    """The processes of a training. Alone, each method gives back what it was given."""

    def __init__(self, world: World) -> None:
        self.world = world

    @property
    def alone(self) -> bool:
        """Whether there is one process only."""
        return self.world.size == 1

    def threads(self) -> int:
        """CPU threads for this process: its part of the machine's; 0 (no change) alone."""
        if self.alone:
            return 0
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        return max(1, (cores or 1) // self.world.local_size)

    def wait(self) -> None:
        """Until all processes are here."""
        self.most(0.0)

    @contextlib.contextmanager
    def first_before_others(self) -> Iterator[None]:
        """The first process does what is inside, then the others do."""
        if not self.world.first:
            self.wait()
        yield
        if self.world.first:
            self.wait()

    def most(self, *values: float) -> list[float]:
        """The largest over all processes of each value."""
        if self.alone:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
        most: list[float] = tensor.tolist()
        return most

    def total(self, *values: torch.Tensor) -> list[float]:
        """The sum over all processes of each scalar."""
        if self.alone:
            return [float(v) for v in values]
        tensor = torch.stack([v.detach().double().cpu() for v in values])
        dist.all_reduce(tensor)
        total: list[float] = tensor.tolist()
        return total

    def text(self, text: str) -> str:
        """The first process's text."""
        if self.alone:
            return text
        raw = text.encode() if self.world.first else b""
        length = torch.tensor(len(raw))
        dist.broadcast(length, 0)
        content = torch.zeros(int(length), dtype=torch.uint8)
        if raw:
            content.copy_(torch.frombuffer(bytearray(raw), dtype=torch.uint8))
        if int(length):
            dist.broadcast(content, 0)
        return content.numpy().tobytes().decode()

    def each(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """Every process's `tensor` (of one shape and type, on the CPU), by rank."""
        if self.alone:
            return [tensor]
        found = [torch.empty_like(tensor) for _ in range(self.world.size)]
        dist.all_gather(found, tensor.contiguous())
        return found

    def gathered(self, whole: int, *columns: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The `whole` rows of which each process has its share, in their order, everywhere."""
        if self.alone or len(columns[0]) == whole:
            return columns
        counts = [int(c) for c in self.each(torch.tensor(len(columns[0])))]
        joined = []
        for column in columns:
            padded = column.new_zeros((max(counts), *column.shape[1:]))
            padded[: len(column)] = column
            rows = self.each(padded)
            joined.append(torch.cat([r[:count] for r, count in zip(rows, counts, strict=True)]))
        return tuple(joined)

    def share_buffers(self, *models: nn.Module | None) -> None:
        """Give every process the first one's buffers: batch norm's statistics differ."""
        if self.alone:
            return
        for model in models:
            for buffer in () if model is None else model.buffers():
                dist.broadcast(buffer, 0)

    def spread(self, model: nn.Module, *, find_unused: bool) -> nn.Module:
        """`model` as its training calls it: backward leaves the mean gradient of all."""
        if self.alone:
            return model
        # Batch norm's statistics of training steps matter to no other step: see share_buffers.
        known = inspect.signature(DistributedDataParallel.__init__).parameters
        name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
        options: Any = {name: False, "find_unused_parameters": find_unused}
        return DistributedDataParallel(model, **options)


@contextlib.contextmanager
def joined() -> Iterator[Group]:
    """The group that torchrun started this process in; left at the end.

    Raises `PeerLostError` when another process has ended.
    """
    world = read_world()
    group = Group(world)
    if group.alone:
        yield group
        return
    made_here = not dist.is_initialized()
    if made_here:
        gpus = torch.cuda.is_available()
        if world.local_rank < torch.cuda.device_count():
            torch.cuda.set_device(world.local_rank)
        dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo", timeout=_TIMEOUT)
    try:
        yield group
    except RuntimeError as error:
        if any(word in str(error) for word in _LOST):
            raise PeerLostError(
                "another process of this training has ended, its message says why; what was "
                "saved before is whole"
            ) from error
        raise
    if made_here:
        dist.destroy_process_group()
