"""Predicted boxes of many pictures in columns, and how far two boxes overlap.

Boxes are (left, top, right, bottom) in pixels, continuous coordinates, as in
`hubel.data.boxes`: right - left is a width without ± 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hubel.data.boxes import Boxes
from hubel.errors import UserError

__all__ = ["Predictions", "check_boxes", "iou", "paired_iou"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Predictions:
    """What a network says is in n pictures: of picture i, rows starts[i]:starts[i + 1].

    Attributes
    ----------
    starts: int64 (n + 1,), from 0 to k.
    classes: int64 (k,), indices into the classes.
    scores: float64 (k,), larger is surer; any scale, one for all pictures and classes.
    corners: float64 (k, 4): left, top, right, bottom in pixels of the picture as its truth has
        them.
    """

    starts: IntArray
    classes: IntArray
    scores: FloatArray
    corners: FloatArray

    @classmethod
    def of(cls, pictures: Sequence[npt.ArrayLike]) -> "Predictions":
        """From one array (k, 6) a picture: class, score, left, top, right, bottom.

        A picture without predictions is (0, 6), or an empty list. NaN scores and corners pass:
        the evaluations refuse them and name the picture.

        >>> found = Predictions.of([[[0, 0.9, 1, 1, 5, 5], [2, 0.4, 0, 0, 3, 8]], []])
        >>> found.classes.tolist(), found.starts.tolist()
        ([0, 2], [0, 2, 2])
        """
        arrays = [np.asarray(rows, np.float64) for rows in pictures]
        arrays = [rows if rows.size else np.zeros((0, 6)) for rows in arrays]
        wrong = [rows.shape for rows in arrays if rows.ndim != 2 or rows.shape[1] != 6]
        if wrong:
            raise ValueError(
                f"the predictions of a picture must be (k, 6): class, score, left, top, right, "
                f"bottom. Got shape {wrong[0]} instead."
            )
        flat = np.concatenate([np.zeros((0, 6)), *arrays])
        classes = flat[:, 0]
        if not (np.isfinite(classes) & (classes == np.floor(classes)) & (classes >= 0)).all():
            raise ValueError(
                f"the class of a predicted box must be a whole number from 0. "
                f"Got values from {classes.min()} to {classes.max()} instead."
            )
        return cls(
            np.cumsum([0, *map(len, arrays)], dtype=np.int64),
            classes.astype(np.int64),
            flat[:, 1].copy(),
            flat[:, 2:].copy(),
        )

    def __len__(self) -> int:
        """Boxes in all."""
        return len(self.classes)

    @property
    def counts(self) -> IntArray:
        """Boxes of each picture (n,)."""
        return np.diff(self.starts)

    @property
    def samples(self) -> IntArray:
        """The picture of each box (k,)."""
        return np.repeat(np.arange(len(self.starts) - 1), self.counts)

    def of_sample(self, i: int) -> slice:
        """The rows of picture `i`."""
        return slice(int(self.starts[i]), int(self.starts[i + 1]))


def _overlap(a: FloatArray, b: FloatArray) -> FloatArray:
    """IoU of boxes (…, 4) that broadcast; 0 where neither has an area."""
    low = np.maximum(a[..., :2], b[..., :2])
    high = np.minimum(a[..., 2:], b[..., 2:])
    common = np.prod(np.maximum(high - low, 0), axis=-1)
    sizes = [np.prod(np.maximum(x[..., 2:] - x[..., :2], 0), axis=-1) for x in (a, b)]
    union = sizes[0] + sizes[1] - common
    result: FloatArray = np.divide(common, union, out=np.zeros_like(union), where=union > 0)
    return result


def iou(a: npt.ArrayLike, b: npt.ArrayLike) -> FloatArray:
    """Intersection over union of every box of `a` (k, 4) with every box of `b` (m, 4): (k, m).

    >>> iou([[0, 0, 2, 2]], [[0, 0, 2, 1], [5, 5, 6, 6]]).tolist()
    [[0.5, 0.0]]
    """
    first, second = (np.asarray(x, np.float64).reshape(-1, 4) for x in (a, b))
    return _overlap(first[:, None], second[None])


def paired_iou(a: npt.ArrayLike, b: npt.ArrayLike) -> FloatArray:
    """Intersection over union of each box of `a` (k, 4) with its fellow of `b` (k, 4): (k,).

    >>> paired_iou([[0, 0, 2, 2]], [[1, 0, 2, 2]]).tolist()
    [0.5]
    """
    return _overlap(np.asarray(a, np.float64), np.asarray(b, np.float64))


def check_boxes(
    truth: Boxes, predictions: Predictions, classes: Sequence[str], ids: Sequence[str]
) -> None:
    """That `truth` and `predictions` are of the pictures `ids` and of `classes`.

    Raises `UserError`, naming the first picture, where a score or a corner is not finite;
    `ValueError` where the arguments do not fit each other.
    """
    n = len(ids)
    if n == 0 or len(truth.starts) != n + 1 or len(predictions.starts) != n + 1:
        raise ValueError(
            f"truth, predictions and ids must be of the same pictures, at least one. Got "
            f"{len(truth.starts) - 1}, {len(predictions.starts) - 1} and {n} instead."
        )
    both: list[tuple[str, npt.NDArray[Any]]] = [
        ("truth", truth.classes),
        ("predictions", predictions.classes),
    ]
    for name, numbers in both:
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(classes):
            raise ValueError(
                f"the classes of {name} must lie from 0 to {len(classes) - 1}. "
                f"Got values from {numbers.min()} to {numbers.max()} instead."
            )
    fine = np.isfinite(predictions.scores) & np.isfinite(predictions.corners).all(axis=1)
    broken = np.unique(predictions.samples[~fine])
    if len(broken):
        raise UserError(
            f"the network gives scores or boxes that are not finite for {len(broken)} of {n} "
            f"pictures, '{ids[broken[0]]}' the first: its weights hold NaN or infinity, or the "
            f"picture does; train again with a lower --lr or look at the picture"
        )
    swapped = np.flatnonzero((predictions.corners[:, :2] > predictions.corners[:, 2:]).any(axis=1))
    if len(swapped):
        raise ValueError(
            f"predicted boxes must be left, top, right, bottom with left <= right and top <= "
            f"bottom. Got {predictions.corners[swapped[0]].tolist()} instead."
        )
