"""Boxes of many samples in columns, and what can be wrong with one.

A box is (left, top, right, bottom) in pixels of its own picture: continuous coordinates, in
which the first pixel spans 0 to 1, so right - left is a width without ± 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Boxes", "Fault", "mended"]

_SLACK = 1.0
"""Pixels by which a box may leave its picture without remark: some tools count from 1."""


@dataclass(frozen=True)
class Fault:
    """Something wrong with one sample's annotation; `where` is its file and line or object."""

    where: str
    reason: str


@dataclass(frozen=True)
class Boxes:
    """The boxes of the samples of a source: those of sample i are rows starts[i]:starts[i + 1].

    Attributes
    ----------
    starts: int64 (n + 1,), from 0 to k.
    corners: float32 (k, 4): left, top, right, bottom in pixels of the sample's own picture.
    classes: int64 (k,), indices into the source's classes.
    difficult: bool (k,): trained with, but neither asked for nor held against a prediction
        (VOC's "difficult", COCO's "iscrowd").
    """

    starts: npt.NDArray[np.int64]
    corners: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]
    difficult: npt.NDArray[np.bool_]

    @classmethod
    def of(
        cls, rows: Sequence[Sequence[tuple[int, Sequence[float], bool]]], num_samples: int
    ) -> "Boxes":
        """From (class, corners, difficult) of each box of each of `num_samples` samples."""
        if len(rows) != num_samples:
            raise ValueError(f"rows must be one list a sample, {num_samples}. Got {len(rows)}.")
        flat = [box for sample in rows for box in sample]
        return cls(
            np.cumsum([0, *map(len, rows)], dtype=np.int64),
            np.array([corners for _, corners, _ in flat], np.float32).reshape(-1, 4),
            np.array([number for number, _, _ in flat], np.int64),
            np.array([difficult for _, _, difficult in flat], np.bool_),
        )

    def __len__(self) -> int:
        """Boxes in all."""
        return len(self.classes)

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Boxes of each sample (n,)."""
        return np.diff(self.starts)

    @property
    def samples(self) -> npt.NDArray[np.int64]:
        """The sample of each box (k,)."""
        return np.repeat(np.arange(len(self.starts) - 1), self.counts)

    def take(self, indices: npt.NDArray[np.int64], table: npt.NDArray[np.int64]) -> "Boxes":
        """The boxes of samples `indices`, of class `table`[class]; those of class -1 left out."""
        rows = np.concatenate(
            [
                np.zeros(0, np.int64),
                *(np.arange(self.starts[i], self.starts[i + 1]) for i in indices),
            ]
        )
        place = np.repeat(np.arange(len(indices)), self.counts[indices])
        classes = table[self.classes[rows]]
        rows, place, classes = rows[classes >= 0], place[classes >= 0], classes[classes >= 0]
        kept = np.bincount(place, minlength=len(indices))
        return Boxes(
            np.cumsum([0, *kept], dtype=np.int64),
            self.corners[rows],
            classes,
            self.difficult[rows],
        )

    def without(self, gone: npt.NDArray[np.bool_]) -> "Boxes":
        """Those that are not `gone` (k,)."""
        kept = np.bincount(self.samples[~gone], minlength=len(self.starts) - 1)
        return Boxes(
            np.cumsum([0, *kept], dtype=np.int64),
            self.corners[~gone],
            self.classes[~gone],
            self.difficult[~gone],
        )

    def of_sample(self, i: int) -> slice:
        """The rows of sample `i`."""
        return slice(int(self.starts[i]), int(self.starts[i + 1]))


def mended(
    corners: Sequence[float], size: tuple[int, int] | None
) -> tuple[tuple[float, float, float, float] | None, str]:
    """A box fit to learn from, or None, and what was wrong with it ("" for nothing).

    `size` is the picture's (height, width) where it is known. Swapped corners are put in
    order and what lies outside the picture is cut off; what is left of nothing is None.

    >>> mended((4, 1, 2, 3), (8, 8))
    ((2.0, 1.0, 4.0, 3.0), 'its corners are swapped')
    >>> mended((2, 2, 2, 5), (8, 8))
    (None, 'it has no area')
    """
    left, top, right, bottom = map(float, corners)
    if not np.isfinite([left, top, right, bottom]).all():
        return None, "its coordinates are not finite"
    said = ""
    if left > right or top > bottom:
        said = "its corners are swapped"
        left, right = min(left, right), max(left, right)
        top, bottom = min(top, bottom), max(top, bottom)
    if size is not None:
        height, width = size
        outside = max(-left, -top, right - width, bottom - height)
        if outside > _SLACK:
            said = f"it leaves the picture ({width}×{height}) by {outside:g} pixels"
        left, right = (min(max(x, 0.0), width) for x in (left, right))
        top, bottom = (min(max(y, 0.0), height) for y in (top, bottom))
        if right <= left or bottom <= top:
            gone = outside > _SLACK
            return None, "it lies outside the picture" if gone else "it has no area"
    if right <= left or bottom <= top:
        return None, "it has no area"
    return (left, top, right, bottom), said
