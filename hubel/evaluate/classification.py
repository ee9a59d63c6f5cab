"""How good a classifier is on one split, every figure with its spread.

`evaluate_classification` takes the probabilities a network gave and the true classes, and
makes an `Evaluation`: plain numbers that `to_json` writes and `from_json` reads back. It
knows nothing of runs, networks or files.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hubel.errors import UserError
from hubel.evaluate.calibration import calibrate
from hubel.evaluate.notes import absent_classes
from hubel.evaluate.result import (
    ClassScore,
    ConfusedPair,
    Evaluation,
    Interval,
    Leaks,
    Metrics,
    Mistake,
    SubsetAccuracy,
)
from hubel.stats import bootstrap_interval, wilson_interval

__all__ = ["Evaluation", "evaluate_classification"]

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

MAX_MISTAKES = 36
MAX_PAIRS = 20
# A place among the first five says something only where there are well more than five.
MIN_CLASSES_FOR_TOP5 = 10
# A probability that has underflowed to 0 would make the loss infinite; this is the smallest
# that single precision holds without loss, and counts as 87.3 nats.
SMALLEST_PROBABILITY = float(np.finfo(np.float32).tiny)


def evaluate_classification(
    probabilities: npt.ArrayLike,
    targets: npt.ArrayLike,
    classes: Sequence[str],
    ids: Sequence[str],
    *,
    split: str,
    leaked: npt.ArrayLike | None = None,
    seed: int = 0,
) -> Evaluation:
    """Judge the probabilities that a classifier gave for one split.

    Parameters
    ----------
    probabilities: (n, num_classes) floats whose rows sum to 1; n is at least 1.
    targets: (n,) the true classes, indices into `classes`.
    ids: n names of samples, as in the source.
    split: the split's name, kept in the result.
    leaked: (n,) bool, True where the training split has the same picture.
    seed: of the bootstrap that gives the interval of the macro F1.

    Raises `UserError` where the network gave no finite probabilities.
    """
    p = np.asarray(probabilities)  # large: kept in its own precision, means are in double
    p = p if p.dtype in (np.float32, np.float64) else p.astype(np.float64)
    t = np.asarray(targets, dtype=np.int64)
    _check(p, t, classes, ids)
    n, num_classes = p.shape
    predictions = p.argmax(axis=1)
    correct = predictions == t
    counts = np.bincount(t * num_classes + predictions, minlength=num_classes**2)
    confusion = counts.reshape(num_classes, num_classes)  # (truth, prediction)
    calibration = calibrate(p.max(axis=1).astype(np.float64), correct)
    f1, recall = _f1_and_recall(confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0))
    top5 = _among_first(p, t, 5) if num_classes >= MIN_CLASSES_FOR_TOP5 else None
    metrics = Metrics(
        top1=int(correct.sum()) / n,
        top1_interval=wilson_interval(int(correct.sum()), n),
        top5=None if top5 is None else top5 / n,
        top5_interval=None if top5 is None else wilson_interval(top5, n),
        loss=_loss(p[np.arange(n), t].astype(np.float64)),
        macro_f1=float(np.nanmean(f1)),
        macro_f1_interval=(
            # Without a mistake every resample is perfect, which says nothing: see _notes.
            wilson_interval(n, n) if bool(correct.all()) else _macro_f1_interval(confusion, seed)
        ),
        balanced_accuracy=float(np.nanmean(recall)),
        ece=calibration.ece,
    )
    return Evaluation(
        split=split,
        n=n,
        classes=tuple(classes),
        metrics=metrics,
        per_class=_class_scores(confusion, classes, f1, recall),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        calibration=calibration,
        most_confused=_most_confused(confusion, classes),
        mistakes=_mistakes(p, t, predictions, classes, ids),
        leaks=_leaks(correct, leaked),
        notes=_notes(confusion, classes),
    )


def _check(p: Array, t: IntArray, classes: Sequence[str], ids: Sequence[str]) -> None:
    if p.ndim != 2 or len(p) == 0 or p.shape[1] != len(classes) or p.shape[1] < 2:
        raise ValueError(
            f"probabilities must be (n, num_classes) with n at least 1 and num_classes = "
            f"{len(classes)}, at least 2. Got shape {p.shape} instead."
        )
    if t.shape != (len(p),) or len(ids) != len(p):
        raise ValueError(
            f"targets and ids must be {len(p)} long, as probabilities are. "
            f"Got {t.shape} and {len(ids)} instead."
        )
    if t.min() < 0 or t.max() >= len(classes):
        raise ValueError(
            f"targets must lie from 0 to {len(classes) - 1}. "
            f"Got values from {t.min()} to {t.max()} instead."
        )
    broken = np.flatnonzero(~np.isfinite(p).all(axis=1))
    if len(broken):
        raise UserError(
            f"the network gives no finite probabilities for {len(broken)} of {len(p)} samples, "
            f"'{ids[broken[0]]}' the first: its weights hold NaN or infinity, or the sample "
            f"does; train again with a lower --lr or look at the sample"
        )
    if p.min() < 0 or np.abs(p.sum(axis=1) - 1).max() > 1e-2:
        raise ValueError(
            f"probabilities must not be negative and each row must sum to 1. Got a smallest "
            f"value of {p.min()} and row sums from {p.sum(axis=1).min()} to "
            f"{p.sum(axis=1).max()} instead."
        )


def _loss(own: FloatArray) -> float:
    """Mean negative log-likelihood from the probabilities (n,) of the true classes."""
    return float(-np.log(np.maximum(own, SMALLEST_PROBABILITY)).mean())


def _among_first(p: Array, t: IntArray, k: int) -> int:
    """How many samples have their class among the `k` most probable.

    Of equal probabilities the class with the lower index comes first, as in argmax.
    """
    own = p[np.arange(len(p)), t][:, None]
    before = np.arange(p.shape[1])[None, :] < t[:, None]
    rank = ((p > own) | ((p == own) & before)).sum(axis=1)
    return int((rank < k).sum())


def _f1_and_recall(
    hits: IntArray, num_true: IntArray, num_predicted: IntArray
) -> tuple[FloatArray, FloatArray]:
    """F1 and recall of each class, (…, num_classes) each; NaN for a class without samples."""
    absent = num_true == 0
    f1 = np.where(absent, np.nan, 2 * hits / np.maximum(num_true + num_predicted, 1))
    recall = np.where(absent, np.nan, hits / np.maximum(num_true, 1))
    return f1, recall


def _macro_f1_interval(confusion: IntArray, seed: int) -> Interval:
    num_classes = len(confusion)
    truth, prediction = np.nonzero(confusion)  # only cells that occur can be drawn
    hit = np.flatnonzero(truth == prediction)

    def totals(resampled: IntArray, labels: IntArray) -> IntArray:
        """Sums of the cells (b, m) by the class that `labels` (m,) gives each."""
        order = np.argsort(labels, kind="stable")
        names, starts = np.unique(labels[order], return_index=True)
        sums = np.zeros((len(resampled), num_classes), dtype=np.int64)
        if len(labels):
            sums[:, names] = np.add.reduceat(resampled[:, order], starts, axis=1)
        return sums

    def macro_f1(resampled: IntArray) -> FloatArray:
        f1, _ = _f1_and_recall(
            totals(resampled[:, hit], truth[hit]),
            totals(resampled, truth),
            totals(resampled, prediction),
        )
        mean: FloatArray = np.nanmean(f1, axis=1)
        return mean

    return bootstrap_interval(confusion[truth, prediction], macro_f1, seed=seed)


def _class_scores(
    confusion: IntArray, classes: Sequence[str], f1: FloatArray, recall: FloatArray
) -> tuple[ClassScore, ...]:
    scores = []
    for i, name in enumerate(classes):
        n, num_predicted = int(confusion[i].sum()), int(confusion[:, i].sum())
        hits = int(confusion[i, i])
        scores.append(
            ClassScore(
                name=name,
                n=n,
                num_predicted=num_predicted,
                precision=hits / num_predicted if n and num_predicted else None,
                recall=float(recall[i]) if n else None,
                f1=float(f1[i]) if n else None,
                recall_interval=wilson_interval(hits, n) if n else None,
            )
        )
    return tuple(scores)


def _most_confused(confusion: IntArray, classes: Sequence[str]) -> tuple[ConfusedPair, ...]:
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    num_true = confusion.sum(axis=1)
    truth, prediction = np.nonzero(wrong)
    counts = wrong[truth, prediction]
    shares = counts / num_true[truth]
    order = np.lexsort((prediction, truth, -shares, -counts))[:MAX_PAIRS].tolist()
    return tuple(
        ConfusedPair(classes[truth[i]], classes[prediction[i]], int(counts[i]), float(shares[i]))
        for i in order
    )


def _mistakes(
    p: FloatArray, t: IntArray, predictions: IntArray, classes: Sequence[str], ids: Sequence[str]
) -> tuple[Mistake, ...]:
    wrong = np.flatnonzero(predictions != t)
    confidences = p[wrong, predictions[wrong]]
    chosen = wrong[np.argsort(-confidences, kind="stable")[:MAX_MISTAKES]]
    return tuple(
        Mistake(
            id=ids[i],
            truth=classes[t[i]],
            prediction=classes[predictions[i]],
            probability=float(p[i, predictions[i]]),
            truth_probability=float(p[i, t[i]]),
        )
        for i in chosen.tolist()
    )


def _leaks(correct: npt.NDArray[np.bool_], leaked: npt.ArrayLike | None) -> Leaks | None:
    if leaked is None:
        return None
    mask = np.asarray(leaked, dtype=np.bool_)
    if mask.shape != correct.shape:
        raise ValueError(f"leaked must have shape {correct.shape}. Got {mask.shape} instead.")
    if not mask.any():
        return None
    return Leaks(int(mask.sum()), _subset(correct), _subset(correct[~mask]))


def _subset(correct: npt.NDArray[np.bool_]) -> SubsetAccuracy:
    n, hits = len(correct), int(correct.sum())
    if n == 0:
        return SubsetAccuracy(0, None, None)
    return SubsetAccuracy(n, hits / n, wilson_interval(hits, n))


def _notes(confusion: IntArray, classes: Sequence[str]) -> tuple[str, ...]:
    notes = absent_classes(classes, (confusion.sum(axis=1) > 0).tolist(), "sample")
    if confusion.trace() == confusion.sum():
        notes.append(
            "no prediction is wrong, so there is nothing to resample: the interval of the "
            "macro F1 is that of the accuracy"
        )
    return tuple(notes)
