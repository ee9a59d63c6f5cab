"""How good a detector is: average precision with its spread, and what the errors are.

`evaluate_detection` takes the true and the predicted boxes of one split and makes a
`DetectionEvaluation`: plain numbers that `to_json` writes and `from_json` reads back.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hubel.data.boxes import Boxes
from hubel.evaluate.box_errors import (
    KINDS,
    LEFT_OUT,
    RIGHT,
    ErrorCounts,
    SortedErrors,
    sort_errors,
)
from hubel.evaluate.notes import absent_classes, widthless_intervals
from hubel.evaluate.plain import lists, tuples
from hubel.evaluate.result import Interval
from hubel.metrics.boxes import Predictions, check_boxes
from hubel.metrics.matching import (
    MAX_PREDICTIONS,
    ClassMatches,
    OperatingPoint,
    average_precision,
    match,
    operating_point,
)
from hubel.stats import bootstrap_interval

__all__ = [
    "DetectionClass",
    "DetectionEvaluation",
    "DetectionMetrics",
    "PictureErrors",
    "ShownBox",
    "evaluate_detection",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

MAX_WORST = 36


@dataclass(frozen=True)
class DetectionMetrics:
    """The figures of a whole split; None where it has no box. Intervals are of 95 %, by
    bootstrap over pictures.

    Attributes
    ----------
    map50: mean over the split's classes of the average precision at IoU 0.5.
    map50_95: the same, mean over the IoUs 0.5, 0.55, …, 0.95: COCO's AP.
    """

    map50: float | None
    map50_interval: Interval | None
    map50_95: float | None
    map50_95_interval: Interval | None


@dataclass(frozen=True)
class DetectionClass:
    """One class; None marks what a class without a box lacks.

    Attributes
    ----------
    n: true boxes, without the difficult ones. num_predicted: predicted boxes of any score.
    ap50, ap50_95: average precision at IoU 0.5, and its mean over the IoUs from 0.5 to 0.95.
    precision: at IoU 0.5 and the 101 recalls 0, 0.01, …, 1: the largest precision that can be
        had with at least that recall, 0 where the recall is never reached.
    errors: of predictions of this class, and missed boxes of this class, at the operating
        point.
    """

    name: str
    n: int
    num_predicted: int
    ap50: float | None
    ap50_interval: Interval | None
    ap50_95: float | None
    precision: tuple[float, ...] | None
    errors: ErrorCounts


@dataclass(frozen=True)
class ShownBox:
    """A true box, or one predicted at the operating point, in pixels.

    `score` is None for a true one. `error` is the kind of error that it is, "" where it is right
    or, of a true one, found or difficult.
    """

    label: str
    score: float | None
    box: tuple[float, float, float, float]
    error: str


@dataclass(frozen=True)
class PictureErrors:
    """A picture of `num_truth` boxes (without the difficult) and `num_kept` predictions at the
    operating point, and what is wrong with them; `truth` and `kept` are the boxes.
    """

    id: str
    num_truth: int
    num_kept: int
    errors: ErrorCounts
    truth: tuple[ShownBox, ...]
    kept: tuple[ShownBox, ...]


@dataclass(frozen=True)
class DetectionEvaluation:
    """A detector's result on one split.

    Attributes
    ----------
    n: pictures; those without boxes are judged too.
    num_truth: boxes, without the `num_difficult` that count neither way.
    operating_point: None where there is nothing to predict or nothing predicted. Errors are
        counted there: a detector gives a hundred boxes a picture, most of hardly any score,
        that nobody would keep.
    worst: the pictures with most errors first, at most 36.
    notes: sentences about what the figures leave out.
    """

    split: str
    n: int
    classes: tuple[str, ...]
    num_truth: int
    num_difficult: int
    num_predicted: int
    metrics: DetectionMetrics
    operating_point: OperatingPoint | None
    errors: ErrorCounts
    per_class: tuple[DetectionClass, ...]
    worst: tuple[PictureErrors, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """A document of JSON's own types; it holds no NaN and no infinity."""
        document: dict[str, Any] = lists(asdict(self))
        return document

    @staticmethod
    def from_json(document: dict[str, Any]) -> "DetectionEvaluation":
        """The evaluation that `to_json` wrote."""
        values = tuples(document)
        point = values["operating_point"]

        def with_errors(row: dict[str, Any]) -> dict[str, Any]:
            return {**row, "errors": ErrorCounts(**row["errors"])}

        def with_boxes(row: dict[str, Any]) -> dict[str, Any]:
            boxes = {key: tuple(ShownBox(**b) for b in row[key]) for key in ("truth", "kept")}
            return {**with_errors(row), **boxes}

        return DetectionEvaluation(
            **{
                **with_errors(values),
                "metrics": DetectionMetrics(**values["metrics"]),
                "operating_point": None if point is None else OperatingPoint(**point),
                "per_class": tuple(DetectionClass(**with_errors(c)) for c in values["per_class"]),
                "worst": tuple(PictureErrors(**with_boxes(p)) for p in values["worst"]),
            }
        )


def evaluate_detection(
    truth: Boxes,
    predictions: Predictions,
    classes: Sequence[str],
    ids: Sequence[str],
    *,
    split: str,
    seed: int = 0,
) -> DetectionEvaluation:
    """Judge the predicted boxes of n pictures.

    Parameters
    ----------
    truth, predictions: the boxes of n pictures, in the same pixels. Give all predictions that
        the network makes, low scores too: average precision looks at every recall.
    classes: the names that both count in.
    ids: n names of pictures, as in the source.
    split: the split's name, kept in the result.
    seed: of the bootstrap.

    Raises `UserError` where a score or a corner is not finite.
    """
    check_boxes(truth, predictions, classes, ids)
    precision, matches = match(truth, predictions, len(classes))
    point = operating_point(matches)
    # Without a box to find every prediction is an error, whatever its score.
    errors = sort_errors(truth, predictions, matches, point.min_score if point else -np.inf)
    resampled = _Resampled(matches, len(ids), seed)
    metrics = _metrics(precision, resampled)
    num_difficult = int(truth.difficult.sum())
    return DetectionEvaluation(
        split=split,
        n=len(ids),
        classes=tuple(classes),
        num_truth=len(truth) - num_difficult,
        num_difficult=num_difficult,
        num_predicted=len(predictions),
        metrics=metrics,
        operating_point=point,
        errors=errors.counts(np.ones(len(predictions), bool), np.ones(len(truth), bool)),
        per_class=tuple(
            _class(i, name, precision[:, :, i], matches[i], predictions, truth, errors, resampled)
            for i, name in enumerate(classes)
        ),
        worst=_worst(truth, predictions, errors, classes, ids),
        notes=_notes(truth, predictions, matches, classes, metrics),
    )


class _Resampled:
    """Average precision of every class and IoU when pictures are drawn again.

    For one seed `bootstrap_interval` draws the same pictures every time, so the table of a
    draw is kept for the next figure made from it.
    """

    def __init__(self, matches: tuple[ClassMatches, ...], num_pictures: int, seed: int) -> None:
        self.matches = matches
        self.num_pictures = num_pictures
        self.seed = seed
        self.tables: dict[bytes, FloatArray] = {}

    def table(self, weights: IntArray) -> FloatArray:
        """(b, num_classes, 10) for weights (b, n)."""
        key = hashlib.blake2b(np.ascontiguousarray(weights).data).digest()
        if key not in self.tables:
            columns = [average_precision(of_class, weights) for of_class in self.matches]
            self.tables[key] = np.stack(columns, axis=1)
        return self.tables[key]

    def interval(self, figure: Callable[[FloatArray], FloatArray]) -> Interval:
        """Of a `figure` that makes values (b,) from tables (b, num_classes, 10)."""
        return bootstrap_interval(
            np.ones(self.num_pictures, np.int64), lambda w: figure(self.table(w)), seed=self.seed
        )


def _mean_over_present(values: FloatArray) -> FloatArray:
    """Means (b,) of rows (b, num_classes) without their NaN; NaN where there is nothing else."""
    present = ~np.isnan(values)
    sums, counts = np.where(present, values, 0).sum(axis=1), present.sum(axis=1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _metrics(precision: FloatArray, resampled: _Resampled) -> DetectionMetrics:
    ap = precision.mean(axis=1)  # (10, num_classes)
    if np.isnan(ap).all():
        return DetectionMetrics(None, None, None, None)
    return DetectionMetrics(
        map50=float(np.nanmean(ap[0])),
        map50_interval=resampled.interval(lambda table: _mean_over_present(table[:, :, 0])),
        map50_95=float(np.nanmean(ap)),
        map50_95_interval=resampled.interval(lambda table: _mean_over_present(table.mean(axis=2))),
    )


def _class(
    i: int,
    name: str,
    precision: FloatArray,
    matches: ClassMatches,
    predictions: Predictions,
    truth: Boxes,
    errors: SortedErrors,
    resampled: _Resampled,
) -> DetectionClass:
    n = int(matches.num_truth.sum())
    return DetectionClass(
        name=name,
        n=n,
        num_predicted=int((predictions.classes == i).sum()),
        ap50=float(precision[0].mean()) if n else None,
        ap50_interval=resampled.interval(lambda table: table[:, i, 0]) if n else None,
        ap50_95=float(precision.mean()) if n else None,
        precision=tuple(precision[0].tolist()) if n else None,
        errors=errors.counts(predictions.classes == i, truth.classes == i),
    )


def _worst(
    truth: Boxes,
    predictions: Predictions,
    errors: SortedErrors,
    classes: Sequence[str],
    ids: Sequence[str],
) -> tuple[PictureErrors, ...]:
    n = len(ids)
    owners = (predictions.samples, truth.samples)
    totals = np.bincount(owners[0][errors.kinds >= 0], minlength=n)
    totals += np.bincount(owners[1][errors.missed], minlength=n)
    order = np.argsort(-totals, kind="stable")[:MAX_WORST]
    return tuple(
        PictureErrors(
            id=ids[i],
            num_truth=int((~truth.difficult[truth.of_sample(i)]).sum()),
            num_kept=int((errors.kinds[predictions.of_sample(i)] != LEFT_OUT).sum()),
            errors=errors.counts(owners[0] == i, owners[1] == i),
            truth=_true_boxes(truth, errors, classes, truth.of_sample(i)),
            kept=_kept_boxes(predictions, errors, classes, predictions.of_sample(i)),
        )
        for i in order[totals[order] > 0].tolist()
    )


def _true_boxes(
    truth: Boxes, errors: SortedErrors, classes: Sequence[str], rows: slice
) -> tuple[ShownBox, ...]:
    columns = truth.classes[rows], truth.corners[rows], errors.missed[rows]
    return tuple(
        ShownBox(classes[c], None, tuple(corners), "missed" if missed else "")
        for c, corners, missed in zip(*(column.tolist() for column in columns), strict=True)
    )


def _kept_boxes(
    predictions: Predictions, errors: SortedErrors, classes: Sequence[str], rows: slice
) -> tuple[ShownBox, ...]:
    columns = (
        predictions.classes[rows], predictions.scores[rows],
        predictions.corners[rows], errors.kinds[rows],
    )  # fmt: skip
    return tuple(
        ShownBox(classes[c], score, tuple(corners), "" if kind == RIGHT else KINDS[kind])
        for c, score, corners, kind in zip(*(column.tolist() for column in columns), strict=True)
        if kind != LEFT_OUT
    )


def _notes(
    truth: Boxes,
    predictions: Predictions,
    matches: tuple[ClassMatches, ...],
    classes: Sequence[str],
    metrics: DetectionMetrics,
) -> tuple[str, ...]:
    if truth.difficult.all():  # of no box at all, too
        return ("no picture of this split has a box to find: every prediction is an error",)
    notes = absent_classes(classes, [bool(m.num_truth.any()) for m in matches], "box")
    if truth.difficult.any():
        notes.append(
            f"{int(truth.difficult.sum())} difficult boxes count neither as missed nor, where "
            f"they are found, as right or wrong"
        )
    if len(predictions) == 0:
        notes.append("the network predicts no box at all")
    cut = len(predictions) - sum(len(of_class.rows) for of_class in matches)
    if cut:
        notes.append(
            f"of each class the {MAX_PREDICTIONS} surest predictions in a picture count, as COCO "
            f"has it; {cut:,} less sure ones do not"
        )
    notes += widthless_intervals(
        {"mAP50": metrics.map50_interval, "mAP50-95": metrics.map50_95_interval}
    )
    return tuple(notes)
