"""The masks of a data set, counted: which share of the pixels each class has, and where."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hubel.data.cache import Progress
from hubel.data.legend import IGNORED
from hubel.data.measure_boxes import split_rows
from hubel.data.source import SPLITS
from hubel.data.store import Store

__all__ = ["MaskFacts", "measure_masks"]

Indices = npt.NDArray[np.int64]

_CHUNK_VALUES = 16 << 20  # bytes of masks held at once


@dataclass(frozen=True)
class MaskFacts:
    """Of the readable masks of samples in a split, at the size at which they are stored.

    Attributes
    ----------
    counts: int64 (3, k): pixels of train, val and test by class.
    ignored: int64 (3,): pixels that are neither learned from nor judged.
    samples: int64 (3, k): samples in which the class occurs.
    blank: indices of samples of which every pixel is ignored.
    num_usable: samples with a readable mask, in a split.
    present: bool (n, k): the classes in each sample of the source.
    """

    counts: Indices
    ignored: Indices
    samples: Indices
    blank: Indices
    num_usable: int
    present: npt.NDArray[np.bool_] = field(repr=False)

    def shares(self) -> npt.NDArray[np.float64]:
        """The share of a split's pixels (3, k) that each class has, those ignored left out."""
        totals = np.maximum(self.counts.sum(axis=1, keepdims=True), 1)
        shares: npt.NDArray[np.float64] = self.counts / totals
        return shares

    def ignored_shares(self) -> npt.NDArray[np.float64]:
        """The share of a split's pixels (3,) that is ignored."""
        totals = np.maximum(self.ignored + self.counts.sum(axis=1), 1)
        shares: npt.NDArray[np.float64] = self.ignored / totals
        return shares

    def to_json(self, classes: Sequence[str]) -> dict[str, Any]:
        """A JSON-ready dictionary; `classes` are the names."""

        def by_class(table: npt.NDArray[Any]) -> dict[str, dict[str, Any]]:
            return {
                split: dict(zip(classes, row, strict=True))
                for split, row in zip(SPLITS, table.tolist(), strict=True)
            }

        return {
            "usable": self.num_usable,
            "shares": by_class(self.shares().round(6)),
            "share_ignored": dict(
                zip(SPLITS, self.ignored_shares().round(6).tolist(), strict=True)
            ),
            "samples_with": by_class(self.samples),
        }


def measure_masks(
    masks: Store,
    readable: npt.NDArray[np.bool_],
    split_of: npt.NDArray[np.str_],
    num_classes: int,
    progress: Progress | None = None,
) -> MaskFacts:
    """One pass over the masks of the samples that are `readable` (n,) themselves."""
    usable = readable & masks.readable
    row_of = split_rows(split_of, usable)
    indices = np.flatnonzero(row_of >= 0)
    found = np.zeros((len(indices), IGNORED + 1), np.int64)
    rows = max(1, _CHUNK_VALUES // int(np.prod(masks.size)))
    for start in range(0, len(indices), rows):
        part = torch.from_numpy(indices[start : start + rows])
        for place, mask in enumerate(masks.gather(part).numpy()):
            found[start + place] = np.bincount(mask.reshape(-1), minlength=IGNORED + 1)
        if progress is not None:
            progress("counting", min(start + rows, len(indices)), len(indices))
    present = np.zeros((len(row_of), num_classes), np.bool_)
    present[indices] = found[:, :num_classes] > 0
    own = row_of[indices]
    by_split = np.stack([found[own == row].sum(axis=0) for row in range(len(SPLITS))])
    return MaskFacts(
        counts=by_split[:, :num_classes],
        ignored=by_split[:, IGNORED],
        samples=np.stack([present[row_of == row].sum(axis=0) for row in range(len(SPLITS))]),
        blank=indices[found[:, IGNORED] == found.sum(axis=1)],
        num_usable=len(indices),
        present=present,
    )
