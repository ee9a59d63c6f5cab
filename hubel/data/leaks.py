"""Exact copies across splits, found by digest: the part of an inspection that `fit` runs.

A sample that a network was trained on says nothing about how good it is on new ones.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hubel.data.duplicates import CopyGroups, group_copies, groups_of_copies
from hubel.data.source import Source
from hubel.data.split import Split
from hubel.data.store import Store

__all__ = ["Leaks", "conflicting", "leaks"]

Indices = npt.NDArray[np.int64]

MAX_PAIRS = 100
"""Pairs of ids that `Leaks` names; the mask has all."""


@dataclass(frozen=True)
class Leaks:
    """Which samples of val and test the training split holds too.

    Attributes
    ----------
    mask: bool (n,) by sample index: in val or test, and equal in bytes to one in train.
    counts: how many of val and of test are, {"val": 0, "test": 12}.
    totals: how many samples val and test have.
    pairs: (id, id of the equal training sample), test first; at most 100.
    conflicts: ids of exact copies that have different labels, one tuple a group.
    """

    mask: npt.NDArray[np.bool_]
    counts: dict[str, int]
    totals: dict[str, int]
    pairs: list[tuple[str, str]]
    conflicts: list[tuple[str, ...]]

    @property
    def count(self) -> int:
        """Leaked samples of val and test together."""
        return sum(self.counts.values())

    def of(self, indices: Indices) -> npt.NDArray[np.bool_]:
        """(len(indices),) which of these samples are leaked."""
        leaked: npt.NDArray[np.bool_] = self.mask[indices]
        return leaked

    def headline(self) -> str:
        """One clause: "12 of 10,000 test samples are exact copies of training samples"."""
        parts = [
            f"{self.counts[name]:,} of {self.totals[name]:,} {name}"
            for name in ("test", "val")
            if self.counts[name]
        ] or ["no val or test"]
        one = self.count == 1
        copies = "an exact copy of a training sample" if one else "exact copies of training samples"
        total_one = one and sum(self.totals[name] for name in self.counts if self.counts[name]) == 1
        return (
            f"{' and '.join(parts)} sample{'' if total_one else 's'} "
            f"{'is' if one else 'are'} {copies}"
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {
            "counts": self.counts,
            "totals": self.totals,
            "pairs": [list(pair) for pair in self.pairs],
            "conflicts": [list(group) for group in self.conflicts],
        }


def leaks(source: Source, store: Store, split: Split) -> Leaks:
    """The exact copies across `split`, and those whose labels contradict each other."""
    copies = group_copies(store.digests, store.readable)
    trained = _mask(len(source), split.train)
    seen = copies.also(trained)
    evaluated = _mask(len(source), split.val) | _mask(len(source), split.test)
    mask = seen & evaluated
    of_train = np.full(len(copies.first), -1, np.int64)
    # Backwards, so that the first training sample of a group is the one that stays.
    backwards = split.train[store.readable[split.train]][::-1]
    of_train[copies.group[backwards]] = backwards
    leaked = np.concatenate([split.test[mask[split.test]], split.val[mask[split.val]]])
    return Leaks(
        mask=mask,
        counts={"val": int(mask[split.val].sum()), "test": int(mask[split.test].sum())},
        totals={"val": len(split.val), "test": len(split.test)},
        pairs=[
            (source.ids[i], source.ids[int(of_train[copies.group[i]])])
            for i in leaked[:MAX_PAIRS].tolist()
        ],
        conflicts=[
            tuple(source.ids[i] for i in group.tolist())
            for group in conflicting(copies, source.targets)
        ],
    )


def conflicting(copies: CopyGroups, targets: Indices) -> list[Indices]:
    """The groups of exact copies whose members do not all have one label."""
    lowest = np.full(len(copies.first), np.iinfo(np.int64).max)
    highest = np.full(len(copies.first), -1, np.int64)
    members = np.flatnonzero(copies.group >= 0)
    np.minimum.at(lowest, copies.group[members], targets[members])
    np.maximum.at(highest, copies.group[members], targets[members])
    return groups_of_copies(copies, highest > lowest)


def _mask(n: int, indices: Indices) -> npt.NDArray[np.bool_]:
    mask = np.zeros(n, np.bool_)
    mask[indices] = True
    return mask
