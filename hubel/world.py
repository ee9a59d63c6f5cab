"""`World`: which of several processes this one is, as torchrun says."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from hubel.errors import UserError

__all__ = ["World", "read_world"]

_NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


@dataclass(frozen=True)
class World:
    """One of `size` processes that train together.

    Attributes
    ----------
    rank: its number, from 0; number 0 writes and speaks.
    local_rank, local_size: the same among the processes of this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes and speaks."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """Which of `count` samples are this process's: neighbours, as many as the others' ±1.

        Of fewer than two samples for each process, all take all: batch norm has no spread of
        one sample.
        """
        if count < 2 * self.size:
            return slice(0, count)
        least, more = divmod(count, self.size)
        start = self.rank * least + min(self.rank, more)
        return slice(start, start + least + (self.rank < more))

    def least(self, count: int) -> int:
        """The samples that every process has of `count`, whichever it is."""
        return count if count < 2 * self.size else count // self.size

    def weights(self, mine: int, whole: int) -> tuple[float, float]:
        """What the loss of `mine` of `whole` samples weighs in the mean over processes of the
        gradient, and how often each counts in a sum over processes.
        """
        if mine == whole:
            return 1.0, float(self.first)
        return mine * self.size / whole, 1.0


def read_world(environment: Mapping[str, str] | None = None) -> World:
    """What torchrun wrote into the environment; a process alone where it wrote nothing.

    Raises `UserError` where only a part is there, or no numbers that fit.
    """
    found = os.environ if environment is None else environment
    if not any(name in found for name in _NAMES[:2]):
        return World()
    start = "start the processes by torchrun --nproc-per-node N -m hubel fit …, or unset them"
    missing = [name for name in _NAMES[:3] if name not in found]
    if missing:
        there = next(name for name in _NAMES if name in found)
        raise UserError(f"{there} is set in the environment and {missing[0]} is not; {start}")
    try:
        numbers = [int(found.get(name, found["WORLD_SIZE"])) for name in _NAMES]
    except ValueError:
        numbers = [-1] * 4
    rank, size, local_rank, local_size = numbers
    if not (0 <= rank < size and 0 <= local_rank < local_size <= size):
        shown = ", ".join(f"{name}={found[name]}" for name in _NAMES if name in found)
        raise UserError(f"{shown} in the environment name no process of a group; {start}")
    return World(rank, size, local_rank, local_size)
