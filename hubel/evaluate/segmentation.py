"""How good a segmenter is: overlap of regions and of outlines, every figure with its spread.

The figures come from what each picture contributes, three numbers a class: pixels where truth
and prediction agree on it, pixels predicted so, and pixels that are so. `confusion_counts` makes
them from confusion matrices, `map_confusion` these from label maps; 2-D and 3-D alike. Everything
is summed over pictures before it is divided, as PASCAL VOC and Cityscapes do, save boundary F,
which is a mean over pictures.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hubel.evaluate.boundary import boundary_f
from hubel.evaluate.notes import absent_classes, widthless_intervals
from hubel.evaluate.plain import lists, tuples
from hubel.evaluate.result import Interval
from hubel.stats import bootstrap_interval

__all__ = [
    "IGNORED",
    "MAX_WORST",
    "LabelMap",
    "SegmentationClass",
    "SegmentationEvaluation",
    "SegmentationMetrics",
    "SegmentedPicture",
    "SegmentedSplit",
    "confusion_counts",
    "evaluate_label_maps",
    "evaluate_segmentation",
    "map_confusion",
    "picture_miou",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
LabelMap: TypeAlias = npt.NDArray[np.uint8]
"""A class for each pixel, (*size), `IGNORED` where there is none."""

IGNORED = 255
"""The class of a pixel that is not judged, as in `hubel.data.targets`, which needs torch."""
MAX_WORST = 36


@dataclass(frozen=True)
class SegmentationMetrics:
    """The figures of a whole split; None where it has no judged pixel, and of boundary F where
    it was not asked for or no picture has a boundary. Intervals are of 95 %, by bootstrap over
    pictures.

    Attributes
    ----------
    miou: mean over the split's classes of intersection over union.
    mean_dice: mean over the split's classes of 2 · intersection / (prediction + truth).
    pixel_accuracy: share of judged pixels with the right class.
    boundary_f: mean over pictures of the mean over their classes, see
        `hubel.evaluate.boundary`.
    """

    miou: float | None
    miou_interval: Interval | None
    mean_dice: float | None
    mean_dice_interval: Interval | None
    pixel_accuracy: float | None
    pixel_accuracy_interval: Interval | None
    boundary_f: float | None
    boundary_f_interval: Interval | None


@dataclass(frozen=True)
class SegmentationClass:
    """One class: judged pixels that are so and that are predicted so; None marks what a class
    without a pixel lacks. `boundary_f` is a mean over the pictures where the class has one.
    """

    name: str
    num_true: int
    num_predicted: int
    iou: float | None
    iou_interval: Interval | None
    dice: float | None
    boundary_f: float | None


@dataclass(frozen=True)
class SegmentedPicture:
    """One picture: mean IoU over the classes that it has, and its other figures."""

    id: str
    miou: float
    pixel_accuracy: float
    boundary_f: float | None


@dataclass(frozen=True)
class SegmentationEvaluation:
    """A segmenter's result on one split.

    Attributes
    ----------
    n: pictures.
    worst: the pictures by their own mean IoU from the lowest, at most 36.
    notes: sentences about what the figures leave out.
    confusion: (num_classes, num_classes) judged pixels, [truth][prediction]; None where it was
        not counted.
    """

    split: str
    n: int
    classes: tuple[str, ...]
    metrics: SegmentationMetrics
    per_class: tuple[SegmentationClass, ...]
    worst: tuple[SegmentedPicture, ...]
    notes: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """A document of JSON's own types; it holds no NaN and no infinity."""
        document: dict[str, Any] = lists(asdict(self))
        return document

    @staticmethod
    def from_json(document: dict[str, Any]) -> "SegmentationEvaluation":
        """The evaluation that `to_json` wrote."""
        values = tuples(document)
        return SegmentationEvaluation(
            **{
                **values,
                "metrics": SegmentationMetrics(**values["metrics"]),
                "per_class": tuple(SegmentationClass(**c) for c in values["per_class"]),
                "worst": tuple(SegmentedPicture(**p) for p in values["worst"]),
            }
        )


@dataclass(frozen=True)
class SegmentedSplit:
    """An evaluation, and what a report draws of it.

    Attributes
    ----------
    evaluation: with its confusion.
    worst: truth and prediction of each picture of `evaluation.worst`, by its name.
    """

    evaluation: SegmentationEvaluation
    worst: Mapping[str, tuple[LabelMap, LabelMap]]


def map_confusion(truth: npt.ArrayLike, prediction: npt.ArrayLike, num_classes: int) -> IntArray:
    """The confusion (num_classes, num_classes) in judged pixels, [truth][prediction], of one
    picture.

    Parameters
    ----------
    truth: whole numbers (*size) below `num_classes`, or `IGNORED`.
    prediction: whole numbers (*size) below `num_classes`; not looked at where the truth is
        ignored.

    >>> map_confusion([[0, 1, 255]], [[0, 0, 1]], 2).tolist()
    [[1, 0], [1, 0]]
    """
    t, p = np.asarray(truth), np.asarray(prediction)
    if t.shape != p.shape:
        raise ValueError(
            f"truth and prediction must have one shape. Got {t.shape} and {p.shape} instead."
        )
    judged = t != IGNORED
    t, p = t[judged].astype(np.int64), p[judged].astype(np.int64)
    for name, values in (("truth", t), ("prediction", p)):
        if len(values) and not 0 <= values.min() <= values.max() < num_classes:
            raise ValueError(
                f"{name} must lie from 0 to {num_classes - 1}, or be {IGNORED} in the truth. "
                f"Got values from {values.min()} to {values.max()} instead."
            )
    cells = np.bincount(t * num_classes + p, minlength=num_classes**2)
    return cells.reshape(num_classes, num_classes)


def confusion_counts(confusion: npt.ArrayLike) -> IntArray:
    """Intersection, prediction and truth (…, num_classes, 3) from confusion matrices
    (…, num_classes, num_classes), [truth][prediction].

    >>> confusion_counts([[1, 0], [1, 0]]).tolist()
    [[1, 2, 1], [0, 0, 1]]
    """
    matrix = np.asarray(confusion, np.int64)
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2]:
        raise ValueError(
            f"confusion must be (…, num_classes, num_classes). Got {matrix.shape} instead."
        )
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    return np.stack([hits, matrix.sum(axis=-2), matrix.sum(axis=-1)], axis=-1)


def picture_miou(counts: npt.ArrayLike) -> FloatArray:
    """Mean IoU (n,) of each picture over the classes that it has, from (n, num_classes, 3)
    intersection, prediction and truth; NaN where no pixel is judged. By this they are ranked.

    >>> picture_miou([[[1, 2, 1], [0, 0, 1]]]).tolist()
    [0.25]
    """
    return _mean(_iou(np.asarray(counts, np.float64)))


def evaluate_label_maps(
    pictures: Iterable[tuple[str, LabelMap, LabelMap]],
    classes: Sequence[str],
    *,
    split: str,
    seed: int = 0,
) -> SegmentedSplit:
    """Judge label maps, a picture at a time: they may differ in size, and only the worst are held.

    Parameters
    ----------
    pictures: the name of each, its truth and its prediction, as in `map_confusion`.
    The others as in `evaluate_segmentation`.
    """
    num_classes = len(classes)
    confusion = np.zeros((num_classes, num_classes), np.int64)
    ids: list[str] = []
    counts: list[IntArray] = []
    outlines: list[FloatArray] = []
    worst: list[_Drawn] = []
    unit = "pixel"
    for name, truth, prediction in pictures:
        unit = "pixel" if truth.ndim == 2 else "voxel"
        own = map_confusion(truth, prediction, num_classes)
        confusion += own
        counts.append(confusion_counts(own))
        outlines.append(boundary_f(truth, prediction, num_classes, ignored=IGNORED))
        miou = float(picture_miou(counts[-1][None])[0])
        ids.append(name)
        if not np.isnan(miou):
            worst.append(_Drawn(miou, len(ids), name, truth, prediction))
        if len(worst) > 2 * MAX_WORST:
            worst = _lowest(worst)
    evaluation = evaluate_segmentation(
        np.array(counts, np.int64).reshape(-1, num_classes, 3),
        classes,
        ids,
        split=split,
        boundary=np.array(outlines, np.float64).reshape(-1, num_classes),
        unit=unit,
        seed=seed,
    )
    evaluation = replace(evaluation, confusion=tuple(map(tuple, confusion.tolist())))
    return SegmentedSplit(evaluation, {d.id: (d.truth, d.prediction) for d in _lowest(worst)})


def evaluate_segmentation(
    counts: npt.ArrayLike,
    classes: Sequence[str],
    ids: Sequence[str],
    *,
    split: str,
    boundary: npt.ArrayLike | None = None,
    unit: str = "pixel",
    seed: int = 0,
) -> SegmentationEvaluation:
    """Judge a segmenter by what each of n pictures contributes.

    Parameters
    ----------
    counts: (n, num_classes, 3) intersection, prediction and truth in judged pixels.
    classes: the names that the label maps count in.
    ids: n names of pictures, as in the source.
    split: the split's name, kept in the result.
    boundary: (n, num_classes) boundary F, NaN for a class without one; None leaves it out.
    unit: what is counted, "pixel" or "voxel".
    seed: of the bootstrap.
    """
    numbers = np.asarray(counts, np.int64)
    outlines = np.full(numbers.shape[:2], np.nan)
    if boundary is not None:
        outlines = np.asarray(boundary, np.float64)
    _check(numbers, outlines, classes, ids)
    present = numbers[:, :, 2].sum(axis=0) > 0
    # A class that the split lacks is left out here too, though a picture may be given it.
    per_picture = _mean(np.where(present, outlines, np.nan))
    metrics = _metrics(numbers, per_picture, seed)
    notes = absent_classes(classes, present.tolist(), unit)
    empty = int((numbers[:, :, 2].sum(axis=1) == 0).sum())
    if empty:
        notes.append(f"{empty} of {len(ids)} masks have no class at all")
    notes += widthless_intervals(
        {
            "mIoU": metrics.miou_interval,
            "Dice": metrics.mean_dice_interval,
            "pixel accuracy": metrics.pixel_accuracy_interval,
            "boundary F": metrics.boundary_f_interval,
        }
    )
    return SegmentationEvaluation(
        split=split,
        n=len(ids),
        classes=tuple(classes),
        metrics=metrics,
        per_class=tuple(
            _class(name, numbers[:, i], outlines[:, i], seed) for i, name in enumerate(classes)
        ),
        worst=_worst(numbers, per_picture, ids),
        notes=tuple(notes),
    )


@dataclass(frozen=True)
class _Drawn:
    """A picture's label maps, its own mean IoU, and its place in the split."""

    miou: float
    place: int
    id: str
    truth: LabelMap
    prediction: LabelMap


def _lowest(drawn: list[_Drawn]) -> list[_Drawn]:
    return sorted(drawn, key=lambda d: (d.miou, d.place))[:MAX_WORST]


def _check(
    counts: IntArray, boundary: FloatArray, classes: Sequence[str], ids: Sequence[str]
) -> None:
    n, num_classes = len(ids), len(classes)
    if n == 0 or num_classes == 0 or counts.shape != (n, num_classes, 3):
        raise ValueError(
            f"counts must be (n, num_classes, 3) = {(n, num_classes, 3)}, with at least one "
            f"picture and one class. Got {counts.shape} instead."
        )
    if boundary.shape != (n, num_classes):
        raise ValueError(
            f"boundary must be (n, num_classes) = {(n, num_classes)}. Got {boundary.shape} instead."
        )
    both, predicted, true = np.moveaxis(counts, -1, 0)
    if (both < 0).any() or (both > np.minimum(predicted, true)).any():
        raise ValueError("the intersection must lie from 0 to the smaller of prediction and truth")
    if (predicted.sum(axis=1) != true.sum(axis=1)).any():
        bad = int(np.flatnonzero(predicted.sum(axis=1) != true.sum(axis=1))[0])
        raise ValueError(
            f"prediction and truth must count the same pixels of a picture. Got "
            f"{predicted[bad].sum()} and {true[bad].sum()} for '{ids[bad]}' instead."
        )


def _mean(values: FloatArray) -> FloatArray:
    """Means (b,) of rows (b, k) without their NaN; NaN where there is nothing else."""
    present = ~np.isnan(values)
    sums, counts = np.where(present, values, 0).sum(axis=1), present.sum(axis=1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _iou(sums: npt.NDArray[Any]) -> FloatArray:
    """IoU (…) from intersection, prediction, truth (…, 3); NaN for a class without truth."""
    both, predicted, true = np.moveaxis(sums, -1, 0)
    return np.where(true > 0, both / np.maximum(predicted + true - both, 1), np.nan)


def _dice(sums: FloatArray) -> FloatArray:
    both, predicted, true = np.moveaxis(sums, -1, 0)
    return np.where(true > 0, 2 * both / np.maximum(predicted + true, 1), np.nan)


def _accuracy(sums: npt.NDArray[Any]) -> FloatArray:
    """Pixel accuracy (b,) from (b, num_classes, 3)."""
    both, _, true = np.moveaxis(sums.sum(axis=1), -1, 0)
    return np.where(true > 0, both / np.maximum(true, 1), np.nan)


def _figure(
    counts: IntArray, figure: Callable[[FloatArray], FloatArray], seed: int
) -> tuple[float, Interval]:
    """A `figure` of sums (b, num_classes, 3) and its interval."""
    n, num_classes, _ = counts.shape
    # Whole numbers up to 2⁵³ are exact in double precision, in which products are fast.
    flat = counts.reshape(n, -1).astype(np.float64)

    def statistic(weights: IntArray) -> FloatArray:
        sums = (weights.astype(np.float64) @ flat).reshape(-1, num_classes, 3)
        return figure(sums)

    ones = np.ones(n, np.int64)
    return float(statistic(ones[None])[0]), bootstrap_interval(ones, statistic, seed=seed)


def _metrics(counts: IntArray, per_picture: FloatArray, seed: int) -> SegmentationMetrics:
    if not counts[:, :, 2].any():
        return SegmentationMetrics(None, None, None, None, None, None, None, None)
    miou = _figure(counts, lambda sums: _mean(_iou(sums)), seed)
    dice = _figure(counts, lambda sums: _mean(_dice(sums)), seed)
    accuracy = _figure(counts, _accuracy, seed)
    f = per_picture[~np.isnan(per_picture)]
    return SegmentationMetrics(
        *miou,
        *dice,
        *accuracy,
        boundary_f=float(f.mean()) if len(f) else None,
        boundary_f_interval=(
            bootstrap_interval(np.ones(len(f), np.int64), lambda w: w @ f / len(f), seed=seed)
            if len(f)
            else None
        ),
    )


def _class(name: str, counts: IntArray, boundary: FloatArray, seed: int) -> SegmentationClass:
    """From the counts (n, 3) and boundary F (n,) of one class."""
    _, predicted, true = counts.sum(axis=0).tolist()
    if true == 0:
        return SegmentationClass(name, 0, predicted, None, None, None, None)
    iou, interval = _figure(counts[:, None], lambda sums: _iou(sums)[:, 0], seed)
    outlined = boundary[~np.isnan(boundary)]
    return SegmentationClass(
        name=name,
        num_true=true,
        num_predicted=predicted,
        iou=iou,
        iou_interval=interval,
        dice=float(_dice(counts.sum(axis=0))),
        boundary_f=float(outlined.mean()) if len(outlined) else None,
    )


def _worst(
    counts: IntArray, per_picture: FloatArray, ids: Sequence[str]
) -> tuple[SegmentedPicture, ...]:
    sums = counts.astype(np.float64)
    miou, accuracy = picture_miou(counts), _accuracy(sums)
    order = np.argsort(miou, kind="stable")[:MAX_WORST]  # NaN, without a judged pixel, is last
    return tuple(
        SegmentedPicture(
            id=ids[i],
            miou=float(miou[i]),
            pixel_accuracy=float(accuracy[i]),
            boundary_f=None if np.isnan(per_picture[i]) else float(per_picture[i]),
        )
        for i in order[~np.isnan(miou[order])].tolist()
    )
