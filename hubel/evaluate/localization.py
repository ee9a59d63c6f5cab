"""How good a localizer is: one object a picture, its class and its box.

Source of the localization error: Russakovsky et al. 2015, ImageNet Large Scale Visual
Recognition Challenge (IJCV, arXiv 1409.0575), section 4.2: a picture is right where the class
is right and the box overlaps a true box of that class by an IoU of at least 0.5. ImageNet
grants five answers; here there is one.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hubel.data.boxes import Boxes
from hubel.errors import UserError
from hubel.evaluate.notes import absent_classes, widthless_intervals
from hubel.evaluate.plain import lists, tuples
from hubel.evaluate.result import Interval
from hubel.metrics.boxes import Predictions, check_boxes, paired_iou
from hubel.stats import bootstrap_interval, wilson_interval

__all__ = [
    "LocalizationClass",
    "LocalizationEvaluation",
    "LocalizationMetrics",
    "LocalizedPicture",
    "evaluate_localization",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

MIN_IOU = 0.5
MAX_WORST = 36


@dataclass(frozen=True)
class LocalizationMetrics:
    """The figures of a whole split. Intervals are of 95 %.

    Attributes
    ----------
    top1: share of pictures with the right class; interval after Wilson.
    mean_iou: mean over pictures of the box's IoU, whatever class was said; interval by
        bootstrap over pictures.
    localization_error: 1 - the share of pictures with the right class and an IoU of at least
        0.5; interval after Wilson.
    """

    top1: float
    top1_interval: Interval
    mean_iou: float
    mean_iou_interval: Interval
    localization_error: float
    localization_error_interval: Interval


@dataclass(frozen=True)
class LocalizationClass:
    """The `n` pictures of one class; None marks what a class without pictures lacks."""

    name: str
    n: int
    top1: float | None
    mean_iou: float | None
    localization_error: float | None
    localization_error_interval: Interval | None


@dataclass(frozen=True)
class LocalizedPicture:
    """One picture: its class and box, what it was given with what score, and the boxes' IoU.

    Boxes are left, top, right, bottom in pixels of the picture.
    """

    id: str
    truth: str
    prediction: str
    score: float
    iou: float
    true_box: tuple[float, ...]
    box: tuple[float, ...]


@dataclass(frozen=True)
class LocalizationEvaluation:
    """A localizer's result on one split.

    Attributes
    ----------
    n: pictures judged; those without a box are not.
    worst: the pictures that are wrong before those that are right, among them by IoU from the
        lowest, and of equal IoU by score from the highest; at most 36.
    notes: sentences about what the figures leave out.
    """

    split: str
    n: int
    classes: tuple[str, ...]
    metrics: LocalizationMetrics
    per_class: tuple[LocalizationClass, ...]
    worst: tuple[LocalizedPicture, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """A document of JSON's own types; it holds no NaN and no infinity."""
        document: dict[str, Any] = lists(asdict(self))
        return document

    @staticmethod
    def from_json(document: dict[str, Any]) -> "LocalizationEvaluation":
        """The evaluation that `to_json` wrote."""
        values = tuples(document)
        return LocalizationEvaluation(
            **{
                **values,
                "metrics": LocalizationMetrics(**values["metrics"]),
                "per_class": tuple(LocalizationClass(**c) for c in values["per_class"]),
                "worst": tuple(LocalizedPicture(**p) for p in values["worst"]),
            }
        )


def evaluate_localization(
    truth: Boxes,
    predictions: Predictions,
    classes: Sequence[str],
    ids: Sequence[str],
    *,
    split: str,
    seed: int = 0,
) -> LocalizationEvaluation:
    """Judge one predicted box a picture.

    Parameters
    ----------
    truth: the boxes of n pictures. The class of a picture is that of its largest box that is
        not difficult; where it has several of that class, the one nearest to the prediction
        counts, as ImageNet does. Pictures without such a box are left out.
    predictions: exactly one box for each of the n pictures.
    classes: the names that both count in.
    ids: n names of pictures, as in the source.
    split: the split's name, kept in the result.
    seed: of the bootstrap.

    Raises `UserError` where no picture has a box, or a score or corner is not finite.
    """
    check_boxes(truth, predictions, classes, ids)
    if (predictions.counts != 1).any():
        bad = int(np.flatnonzero(predictions.counts != 1)[0])
        raise ValueError(
            f"predictions must be one box a picture. Got {predictions.counts[bad]} "
            f"for '{ids[bad]}' instead."
        )
    labels = _labels(truth)
    judged = np.flatnonzero(labels >= 0)
    if len(judged) == 0:
        raise UserError(
            f"no picture of the split '{split}' has a box, so there is nothing to judge; "
            f"annotate some of its pictures or choose another split"
        )
    overlaps, nearest = _nearest(truth, predictions, labels)
    own = overlaps[judged]
    t, p = labels[judged], predictions.classes[judged]
    right = t == p
    hit = right & (own >= MIN_IOU)
    n, num_right, num_missed = len(judged), int(right.sum()), int((~hit).sum())
    metrics = LocalizationMetrics(
        top1=num_right / n,
        top1_interval=wilson_interval(num_right, n),
        mean_iou=float(own.mean()),
        mean_iou_interval=bootstrap_interval(
            np.ones(n, np.int64), lambda counts: counts @ own / n, seed=seed
        ),
        localization_error=num_missed / n,
        localization_error_interval=wilson_interval(num_missed, n),
    )
    present = np.bincount(t, minlength=len(classes)) > 0
    notes = absent_classes(classes, present.tolist(), "picture")
    if n < len(ids):
        notes.append(f"{len(ids) - n} of {len(ids)} pictures without a box are left out")
    notes += widthless_intervals({"the mean IoU": metrics.mean_iou_interval})
    order = np.lexsort((-predictions.scores[judged], own, hit))[:MAX_WORST].tolist()
    return LocalizationEvaluation(
        split=split,
        n=n,
        classes=tuple(classes),
        metrics=metrics,
        per_class=tuple(
            _class(name, right[t == i], own[t == i], hit[t == i]) for i, name in enumerate(classes)
        ),
        worst=tuple(
            LocalizedPicture(
                id=ids[judged[i]],
                truth=classes[t[i]],
                prediction=classes[p[i]],
                score=float(predictions.scores[judged[i]]),
                iou=float(own[i]),
                true_box=tuple(truth.corners[nearest[judged[i]]].tolist()),
                box=tuple(predictions.corners[judged[i]].tolist()),
            )
            for i in order
        ),
        notes=tuple(notes),
    )


def _labels(truth: Boxes) -> IntArray:
    """The class (n,) of each picture's largest box that is not difficult, -1 without one."""
    corners = truth.corners.astype(np.float64)
    areas = np.prod(corners[:, 2:] - corners[:, :2], axis=1)
    labels = np.full(len(truth.starts) - 1, -1, np.int64)
    rows = np.flatnonzero(~truth.difficult)
    # Ascending areas, of equal ones the later first: the last to write is the first largest.
    rows = rows[np.lexsort((-rows, areas[rows]))]
    labels[truth.samples[rows]] = truth.classes[rows]
    return labels


def _nearest(
    truth: Boxes, predictions: Predictions, labels: IntArray
) -> tuple[FloatArray, IntArray]:
    """The largest IoU (n,) of each picture's predicted box with a box of the picture's class, and
    the row of that box; 0 and -1 where there is none.
    """
    rows = np.flatnonzero(~truth.difficult & (truth.classes == labels[truth.samples]))
    pictures = truth.samples[rows]
    overlaps = paired_iou(truth.corners[rows], predictions.corners[pictures])
    best, nearest = np.zeros(len(labels)), np.full(len(labels), -1, np.int64)
    # Ascending, of equal ones the later first: the last to write is the first largest.
    order = np.lexsort((-rows, overlaps))
    best[pictures[order]], nearest[pictures[order]] = overlaps[order], rows[order]
    return best, nearest


def _class(
    name: str, right: npt.NDArray[np.bool_], own: FloatArray, hit: npt.NDArray[np.bool_]
) -> LocalizationClass:
    n = len(right)
    if n == 0:
        return LocalizationClass(name, 0, None, None, None, None)
    num_missed = int((~hit).sum())
    return LocalizationClass(
        name=name,
        n=n,
        top1=int(right.sum()) / n,
        mean_iou=float(own.mean()),
        localization_error=num_missed / n,
        localization_error_interval=wilson_interval(num_missed, n),
    )
