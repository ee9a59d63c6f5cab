"""Why predicted boxes are wrong, and which true boxes were missed: TIDE's six kinds.

Source: Bolya et al. 2020, TIDE: A General Toolbox for Identifying Object Detection Errors
(ECCV, arXiv 2008.08115), section 2.2. A wrong prediction is, by its IoU with the true boxes of
its own class and of other classes, in the order of the authors' program:

    localization    own class, 0.1 <= IoU < 0.5
    classification  another class, IoU >= 0.5
    duplicate       own class, IoU >= 0.5, but a surer prediction has found that box
    both            another class, 0.1 <= IoU < 0.5
    background      IoU < 0.1 with every true box
    missed          a true box that is neither found nor what a classification or a
                    localization error is about

TIDE weighs a kind by the AP that mending it would give; here kinds are counted, among the
predictions a user would keep: those with a score of at least `min_score`.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hubel.data.boxes import Boxes
from hubel.metrics.boxes import Predictions, iou
from hubel.metrics.matching import ClassMatches

__all__ = ["KINDS", "LEFT_OUT", "RIGHT", "ErrorCounts", "SortedErrors", "sort_errors"]

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

KINDS = ("classification", "localization", "both", "duplicate", "background", "missed")
_CLASSIFICATION, _LOCALIZATION, _BOTH, _DUPLICATE, _BACKGROUND, _MISSED = range(6)
RIGHT = -1
"""The kind of a prediction that found its box."""
LEFT_OUT = -2
"""The kind of a prediction that is not judged: too low a score, in a difficult box, or beyond
the first 100 of its class in its picture."""

FOUND_IOU = 0.5
NEAR_IOU = 0.1


@dataclass(frozen=True)
class ErrorCounts:
    """How many errors there are of each kind."""

    classification: int
    localization: int
    both: int
    duplicate: int
    background: int
    missed: int

    @property
    def total(self) -> int:
        return sum(getattr(self, kind) for kind in KINDS)


@dataclass(frozen=True)
class SortedErrors:
    """The kind of every prediction, int64 (k,): an index into `KINDS`, `RIGHT` or `LEFT_OUT`;
    and bool (m,), whether each true box is missed.
    """

    kinds: IntArray
    missed: BoolArray

    def counts(self, predictions: BoolArray, boxes: BoolArray) -> ErrorCounts:
        """Of the chosen predictions (k,) and true boxes (m,)."""
        kinds = self.kinds[predictions]
        numbers = np.bincount(kinds[kinds >= 0], minlength=len(KINDS)).tolist()
        numbers[_MISSED] = int(self.missed[boxes].sum())
        return ErrorCounts(*numbers)


def sort_errors(
    truth: Boxes, predictions: Predictions, matches: tuple[ClassMatches, ...], min_score: float
) -> SortedErrors:
    """Sort the wrong predictions and the boxes not found by kind.

    Matching goes from the highest score down, so leaving out scores below `min_score` changes
    no match above it, and `matches` of all predictions serve.
    """
    kinds = np.full(len(predictions), LEFT_OUT, np.int64)
    explained = np.zeros(len(truth), np.bool_)  # found, or what another error is about
    for of_class in matches:
        judged = ~of_class.ignored[0] & (of_class.scores >= min_score)
        kinds[of_class.rows[judged]] = np.where(of_class.hits[0][judged], RIGHT, _BACKGROUND)
        explained[of_class.found[judged & of_class.hits[0]]] = True
    wrong = kinds == _BACKGROUND  # until shown to be something else
    for i in np.unique(predictions.samples[wrong]).tolist():
        rows = np.flatnonzero(wrong[predictions.of_sample(i)]) + predictions.starts[i]
        boxes = np.flatnonzero(~truth.difficult[truth.of_sample(i)]) + truth.starts[i]
        if len(boxes) == 0:
            continue
        overlaps = iou(predictions.corners[rows], truth.corners[boxes])
        same = predictions.classes[rows][:, None] == truth.classes[boxes][None]
        own, other = np.where(same, overlaps, 0), np.where(same, 0, overlaps)
        best_own, best_other = own.max(axis=1), other.max(axis=1)
        kind = np.select(
            [
                (best_own >= NEAR_IOU) & (best_own < FOUND_IOU),
                best_other >= FOUND_IOU,
                best_own >= FOUND_IOU,
                best_other >= NEAR_IOU,
            ],
            [_LOCALIZATION, _CLASSIFICATION, _DUPLICATE, _BOTH],
            _BACKGROUND,
        )
        kinds[rows] = kind
        explained[boxes[own.argmax(axis=1)[kind == _LOCALIZATION]]] = True
        explained[boxes[other.argmax(axis=1)[kind == _CLASSIFICATION]]] = True
    return SortedErrors(kinds=kinds, missed=~truth.difficult & ~explained)
