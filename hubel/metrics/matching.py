"""Which predicted box finds which true one, and average precision from that.

The matching and the average precision of a split are COCO's, by pycocotools: predictions of a
class in a picture are taken from the highest score down, at most 100, and each finds the true
box of largest IoU that is still free; precision is made monotone and read at 101 recalls.
Difficult boxes are COCO's `iscrowd`: a prediction that lies in one counts neither way.

`average_precision` makes the same figure from the matches alone, for any weights of the
pictures, which is what a bootstrap over pictures needs: matching once costs seconds, and a
thousand times would cost an hour.

Source: Lin et al. 2014, Microsoft COCO (ECCV, arXiv 1405.0312); cocodataset.org, "Detection
evaluation".
"""

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools.coco import COCO  # type: ignore[import-untyped]
from pycocotools.cocoeval import COCOeval  # type: ignore[import-untyped]

from hubel.data.boxes import Boxes
from hubel.metrics.boxes import Predictions

__all__ = [
    "IOUS",
    "MAX_PREDICTIONS",
    "RECALLS",
    "ClassMatches",
    "OperatingPoint",
    "average_precision",
    "match",
    "operating_point",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

IOUS = np.linspace(0.5, 0.95, 10)
"""The overlaps at which COCO asks for a match; the first is that of mAP50."""
RECALLS = np.linspace(0.0, 1.0, 101)
MAX_PREDICTIONS = 100
"""Of a class in a picture; what comes after is not looked at."""

# COCO's own guard against 0 / 0: kept, so that the figures agree to the last digits.
_SPACING = float(np.spacing(1))
# Weighted predictions held at once: 4 million int64 are 32 MB.
_MAX_WEIGHTS = 4_000_000


@dataclass(frozen=True)
class ClassMatches:
    """The k predictions of one class that were looked at, from the highest score down.

    Attributes
    ----------
    rows: int64 (k,), of `Predictions`.
    pictures: int64 (k,).
    scores: float64 (k,).
    hits: bool (10, k), whether it found a true box, at each of `IOUS`.
    ignored: bool (10, k), whether it lies in a difficult box and counts neither way.
    found: int64 (k,), the row of `Boxes` that it found at IoU 0.5, or -1.
    num_truth: int64 (n,), boxes of the class in each picture, without the difficult.
    """

    rows: IntArray
    pictures: IntArray
    scores: FloatArray
    hits: BoolArray
    ignored: BoolArray
    found: IntArray
    num_truth: IntArray


@dataclass(frozen=True)
class OperatingPoint:
    """The smallest score to keep for the largest F1 at IoU 0.5, all classes together."""

    min_score: float
    precision: float
    recall: float
    f1: float


def match(
    truth: Boxes, predictions: Predictions, num_classes: int
) -> tuple[FloatArray, tuple[ClassMatches, ...]]:
    """COCO's precision of each class and the matches it comes from.

    Returns the precision (10 IoUs, 101 recalls, num_classes), NaN for a class without a box,
    whose mean over the first two axes is the class's average precision; and the matches of
    each class.
    """
    n = len(truth.starts) - 1
    # pycocotools reports by print; stdout belongs to the verbs.
    with redirect_stdout(io.StringIO()):
        images = [{"id": i} for i in range(n)]
        categories = [{"id": c} for c in range(num_classes)]
        evaluation = COCOeval(
            _coco(images, categories, _annotations(truth, iscrowd=truth.difficult)),
            _coco(images, categories, _annotations(predictions, score=predictions.scores)),
            iouType="bbox",
        )
        evaluation.params.maxDets = [MAX_PREDICTIONS]
        evaluation.params.areaRng = [[0, float("inf")]]
        evaluation.params.areaRngLbl = ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, 0]
    precision = np.where(precision < 0, np.nan, precision)
    asked = ~truth.difficult
    return precision, tuple(
        _class_matches(
            [e for e in evaluation.evalImgs[c * n : (c + 1) * n] if e is not None],
            np.bincount(truth.samples[asked & (truth.classes == c)], minlength=n),
        )
        for c in range(num_classes)
    )


def _annotations(boxes: Boxes | Predictions, **columns: npt.NDArray[Any]) -> list[dict[str, Any]]:
    corners = boxes.corners.astype(np.float64)
    sides = corners[:, 2:] - corners[:, :2]
    table = zip(
        boxes.samples.tolist(),
        boxes.classes.tolist(),
        np.hstack([corners[:, :2], sides]).tolist(),
        np.prod(sides, axis=1).tolist(),
        *(column.tolist() for column in columns.values()),
        strict=True,
    )
    keys = ("id", "image_id", "category_id", "bbox", "area", *columns)
    # COCO's matches are ids, and 0 means none: they count from 1.
    return [dict(zip(keys, (i, *row), strict=True)) for i, row in enumerate(table, start=1)]


def _coco(
    images: list[dict[str, int]], categories: list[dict[str, int]], boxes: list[dict[str, Any]]
) -> Any:
    coco = COCO()
    coco.dataset = {"images": images, "categories": categories, "annotations": boxes}
    coco.createIndex()
    return coco


def _class_matches(pictures: Sequence[dict[str, Any]], num_truth: IntArray) -> ClassMatches:
    def column(key: str, kind: type) -> npt.NDArray[Any]:
        return np.concatenate([np.zeros(0, kind), *(np.asarray(e[key], kind) for e in pictures)])

    def table(key: str) -> npt.NDArray[Any]:
        return np.concatenate([np.zeros((len(IOUS), 0)), *(e[key] for e in pictures)], axis=1)

    scores = column("dtScores", np.float64)
    order = np.argsort(-scores, kind="stable")  # COCO's: of equal scores the first picture
    matches = table("dtMatches").astype(np.int64)[:, order]
    ignored = table("dtIgnore").astype(np.bool_)[:, order]
    hits = (matches > 0) & ~ignored
    owner = np.repeat([e["image_id"] for e in pictures], [len(e["dtIds"]) for e in pictures])
    return ClassMatches(
        rows=column("dtIds", np.int64)[order] - 1,
        pictures=owner.astype(np.int64)[order],
        scores=scores[order],
        hits=hits,
        ignored=ignored,
        found=np.where(hits[0], matches[0] - 1, -1),
        num_truth=num_truth,
    )


def average_precision(matches: ClassMatches, weights: IntArray) -> FloatArray:
    """Average precision (b, 10) of one class at each of `IOUS`, for weighted pictures.

    Parameters
    ----------
    weights: (b, n) whole numbers: how often each picture counts. Ones give the figure of the
        split itself. NaN where no picture with a box of the class counts.

    Precision falls between two hits and peaks at a hit, so hits alone decide: the cost is one
    running sum over the predictions, and the rest over the hits.
    """
    rows = max(1, _MAX_WEIGHTS // max(1, len(matches.rows)))
    parts = [weights[i : i + rows] for i in range(0, len(weights), rows)]
    return np.concatenate([_average_precision(matches, part) for part in parts])


def _average_precision(matches: ClassMatches, weights: IntArray) -> FloatArray:
    num_truth = weights @ matches.num_truth  # (b,)
    drawn = weights[:, matches.pictures]  # (b, k)
    seen = np.cumsum(drawn, axis=1)
    result = np.zeros((len(weights), len(IOUS)))
    for i in range(len(IOUS)):
        places = np.flatnonzero(matches.hits[i])
        ignored = matches.ignored[i]
        judged = np.cumsum(drawn * ~ignored, axis=1) if ignored.any() else seen
        right = np.cumsum(drawn[:, places], axis=1)  # (b, hits)
        precision = right / (judged[:, places] + _SPACING)
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        recall = right / np.maximum(num_truth, 1)[:, None]
        # How many of the 101 recalls each hit is the first to reach.
        reached = np.searchsorted(RECALLS, recall, side="right")
        first = np.diff(reached, axis=1, prepend=0)
        result[:, i] = (envelope * first).sum(axis=1) / len(RECALLS)
    result[num_truth == 0] = np.nan
    return result


def operating_point(matches: Sequence[ClassMatches]) -> OperatingPoint | None:
    """Of all classes together; None where there is nothing to predict or nothing predicted."""
    judged = [~of_class.ignored[0] for of_class in matches]
    scores = np.concatenate([m.scores[j] for m, j in zip(matches, judged, strict=True)])
    hits = np.concatenate([m.hits[0][j] for m, j in zip(matches, judged, strict=True)])
    num_truth = sum(int(of_class.num_truth.sum()) for of_class in matches)
    if num_truth == 0 or len(scores) == 0:
        return None
    order = np.argsort(-scores, kind="stable")
    scores, right = scores[order], np.cumsum(hits[order])
    kept = np.arange(1, len(scores) + 1)
    f1 = 2 * right / (kept + num_truth)
    f1[:-1][scores[:-1] == scores[1:]] = -1  # equal scores are kept or left together
    # Where nothing is right no score is better than another, and all errors are shown.
    best = int(f1.argmax()) if right[-1] else len(scores) - 1
    return OperatingPoint(
        min_score=float(scores[best]),
        precision=float(right[best] / kept[best]),
        recall=float(right[best] / num_truth),
        f1=float(f1[best]),
    )
