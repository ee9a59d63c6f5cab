"""How well scores rank poses: over all of them, and within each ligand."""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from hubel.stats import bootstrap_interval

__all__ = ["ligand_auc", "roc_auc", "roc_auc_interval", "top_good"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


def roc_auc(scores: FloatArray, good: BoolArray) -> float | None:
    """The chance that a good pose has a higher score than a bad one, ties by half: the area under
    the receiver operating characteristic (Hanley and McNeil 1982, Radiology 143, pp. 29-36).

    None where all poses are of one kind.
    """
    ones = np.ones((1, 1), np.int64)
    value = float(_weighted_auc(scores, good, np.zeros(len(scores), np.int64))(ones)[0])
    return None if np.isnan(value) else value


def roc_auc_interval(
    scores: FloatArray, good: BoolArray, ligands: IntArray, seed: int
) -> tuple[float, float]:
    """The 95 % interval of `roc_auc` by bootstrap over ligands, whose poses stay together."""
    numbers, ligand = np.unique(ligands, return_inverse=True)
    return bootstrap_interval(
        np.ones(len(numbers), np.int64), _weighted_auc(scores, good, ligand), seed=seed
    )


def ligand_auc(scores: FloatArray, good: BoolArray, ligands: IntArray) -> FloatArray:
    """`roc_auc` within each ligand that has poses of both kinds, in the order of their numbers."""
    found = [
        roc_auc(scores[ligands == number], good[ligands == number]) for number in np.unique(ligands)
    ]
    return np.array([value for value in found if value is not None])


def top_good(scores: FloatArray, good: BoolArray, ligands: IntArray, k: int) -> FloatArray:
    """For each ligand, in the order of their numbers, the chance that a good pose is among the `k`
    of the highest scores. Poses of equal scores come in any order.
    """
    chances = []
    for number in np.unique(ligands):
        own, right = scores[ligands == number], good[ligands == number]
        if k >= len(own):
            chances.append(float(right.any()))
            continue
        least = np.sort(own)[-k]  # the score of the last place
        if right[own > least].any():
            chances.append(1.0)
            continue
        tied, places = own == least, k - int((own > least).sum())
        # Of the tied poses as many as there are places left are drawn.
        bad, total = int((tied & ~right).sum()), int(tied.sum())
        none = math.prod((bad - i) / (total - i) for i in range(places))  # 0 once bad are used up
        chances.append(1.0 - none)
    return np.array(chances)


def _weighted_auc(
    scores: FloatArray, good: BoolArray, group: IntArray
) -> Callable[[IntArray], FloatArray]:
    """The area from how often each group of poses counts, (b, groups) -> (b,)."""
    levels, level = np.unique(scores, return_inverse=True)
    chunk = max(1, (1 << 24) // max(1, len(scores)))

    def area(counts: IntArray) -> FloatArray:
        areas = []
        for part in np.array_split(counts, -(-len(counts) // chunk)):
            weights = part[:, group].astype(np.float64)
            tables = []
            for kind in (good, ~good):
                table = np.zeros((len(part), len(levels)))
                np.add.at(table.T, level[kind], weights[:, kind].T)
                tables.append(table)
            positive, negative = tables
            below = np.cumsum(negative, axis=1) - negative / 2
            pairs = positive.sum(axis=1) * negative.sum(axis=1)
            with np.errstate(invalid="ignore"):
                areas.append((positive * below).sum(axis=1) / pairs)
        return np.concatenate(areas)

    return area
