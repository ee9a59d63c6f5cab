"""Copies: samples whose bytes are equal. (Pictures that look alike: `hubel.data.near`.)"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["CopyGroups", "exact_copies", "group_copies", "groups_of_copies"]

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class CopyGroups:
    """Which samples are one and the same.

    Attributes
    ----------
    group: int64 (n,), the group of each sample, numbered from 0 by first sample; -1 where
        the sample is unreadable. A sample without a copy is a group of its own.
    first: int64 (num_groups,), the first sample of each group.
    """

    group: Indices
    first: Indices

    def holds(self, members: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Which groups hold one of `members`, a mask (n,)."""
        found = np.zeros(len(self.first), np.bool_)
        found[self.group[members & (self.group >= 0)]] = True
        return found

    def also(self, members: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Mask (n,): the readable samples that are equal to one of `members` (itself counts)."""
        readable = np.flatnonzero(self.group >= 0)
        equal = np.zeros(len(self.group), np.bool_)
        equal[readable] = self.holds(members)[self.group[readable]]
        return equal


def group_copies(digests: npt.NDArray[np.bytes_], readable: npt.NDArray[np.bool_]) -> CopyGroups:
    """The groups of equal `digests` (n,) among the samples that are `readable` (n,)."""
    usable = np.flatnonzero(readable)
    group = np.full(len(digests), -1, np.int64)
    if len(usable) == 0:
        return CopyGroups(group, np.zeros(0, np.int64))
    _, first, inverse = np.unique(digests[usable], return_index=True, return_inverse=True)
    # np.unique numbers by digest; we number by the first sample, so that order means something.
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    group[usable] = rank[inverse.reshape(-1)]
    return CopyGroups(group, usable[first[order]])


def exact_copies(digests: npt.NDArray[np.bytes_], readable: npt.NDArray[np.bool_]) -> list[Indices]:
    """Groups of at least two samples with equal digests, in order of their first sample.

    Each group is its samples' indices, ascending. Unreadable samples are in none.

    >>> [g.tolist() for g in exact_copies(np.array([b"x", b"y", b"x"]), np.ones(3, bool))]
    [[0, 2]]
    """
    copies = group_copies(digests, readable)
    return groups_of_copies(copies, np.ones(len(copies.first), np.bool_))


def groups_of_copies(copies: CopyGroups, wanted: npt.NDArray[np.bool_]) -> list[Indices]:
    """The members, ascending, of those `wanted` groups (num_groups,) that have at least two."""
    members = np.flatnonzero(copies.group >= 0)
    counts = np.bincount(copies.group[members], minlength=len(copies.first))
    members = members[((counts > 1) & wanted)[copies.group[members]]]
    members = members[np.argsort(copies.group[members], kind="stable")]
    if len(members) == 0:
        return []
    borders = np.flatnonzero(np.diff(copies.group[members])) + 1
    split: Sequence[Indices] = np.split(members, borders)
    return list(split)
