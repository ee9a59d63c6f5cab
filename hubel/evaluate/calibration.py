"""Calibration: whether "90 % sure" is right nine times in ten.

Source: Guo et al. 2017, On Calibration of Modern Neural Networks (ICML, arXiv 1706.04599),
section 2: the confidence of a prediction is its largest probability; predictions are put
into 15 bins of equal width; the expected calibration error is the mean, weighted by the
bins' sizes, of the distance between a bin's accuracy and its mean confidence.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["NUM_BINS", "Calibration", "ConfidenceBin", "calibrate"]

NUM_BINS = 15


@dataclass(frozen=True)
class ConfidenceBin:
    """The predictions whose confidence lies in (low, high].

    `confidence` and `accuracy` are means over its `n` predictions; None where it has none.
    """

    low: float
    high: float
    n: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Calibration:
    """Expected calibration error and the reliability curve it comes from."""

    ece: float
    bins: tuple[ConfidenceBin, ...]

    def to_json(self) -> dict[str, Any]:
        return {"ece": self.ece, "bins": [asdict(b) for b in self.bins]}

    @staticmethod
    def from_json(document: dict[str, Any]) -> "Calibration":
        return Calibration(
            ece=document["ece"], bins=tuple(ConfidenceBin(**b) for b in document["bins"])
        )


def calibrate(
    confidences: npt.NDArray[np.float64],
    correct: npt.NDArray[np.bool_],
    num_bins: int = NUM_BINS,
) -> Calibration:
    """Compare confidence with accuracy, bin by bin.

    Parameters
    ----------
    confidences: (n,) the probability that each prediction was made with, in [0, 1].
    correct: (n,) whether it was right. n is at least 1.
    """
    n = len(confidences)
    if n == 0 or confidences.shape != correct.shape:
        raise ValueError(
            f"confidences and correct must have one equal length of at least 1. "
            f"Got shapes {confidences.shape} and {correct.shape} instead."
        )
    edges = np.arange(num_bins + 1) / num_bins
    # Bin b holds edges[b] < confidence <= edges[b + 1], so a confidence of 1 is in the last.
    place = np.clip(np.searchsorted(edges, confidences, side="left") - 1, 0, num_bins - 1)
    sizes = np.bincount(place, minlength=num_bins)
    confidence_sums = np.bincount(place, weights=confidences, minlength=num_bins)
    correct_sums = np.bincount(place, weights=correct, minlength=num_bins)
    bins = []
    for b in range(num_bins):
        size = int(sizes[b])
        bins.append(
            ConfidenceBin(
                low=float(edges[b]),
                high=float(edges[b + 1]),
                n=size,
                confidence=float(confidence_sums[b]) / size if size else None,
                accuracy=float(correct_sums[b]) / size if size else None,
            )
        )
    ece = float(np.abs(correct_sums - confidence_sums).sum()) / n
    return Calibration(ece=ece, bins=tuple(bins))
