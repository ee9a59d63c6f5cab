"""The boxes of a data set, counted and measured."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from hubel.data.boxes import Boxes
from hubel.data.source import SPLITS
from hubel.data.store import Store

__all__ = ["QUANTILES", "SIZES", "BoxFacts", "measure_boxes"]

Indices = npt.NDArray[np.int64]

SIZES = {"small": 0, "medium": 32**2, "large": 96**2}
"""The least area in pixels of each size (Lin et al., 2014, Microsoft COCO; there the area of
the object's outline, here that of its box)."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class BoxFacts:
    """Of the boxes of readable pictures in a split, `m` of them.

    Attributes
    ----------
    counts: int64 (3, k): boxes of train, val and test by class.
    pictures: int64 (3, k): pictures in which the class occurs.
    without: int64 (3,): pictures without an object.
    per_picture: int64: how many pictures have 0, 1, 2, … boxes.
    by_size: int64 (k, 3): boxes of each class that are small, medium and large (`SIZES`).
    sides: float32 (m,): the root of the share of the picture's area that a box covers; the
        share of its side, where both have one shape.
    ratios: float32 (m,): width over height.
    difficult: boxes marked as difficult or as a crowd.
    present: bool (n, k): the classes in each sample of the source.
    """

    counts: Indices
    pictures: Indices
    without: Indices
    per_picture: Indices
    by_size: Indices
    sides: npt.NDArray[np.float32] = field(repr=False)
    ratios: npt.NDArray[np.float32] = field(repr=False)
    difficult: int
    present: npt.NDArray[np.bool_] = field(repr=False)

    @property
    def median_per_picture(self) -> float:
        """The median number of boxes in a picture; 0 where there is no picture."""
        return float(np.median(np.repeat(np.arange(len(self.per_picture)), self.per_picture)))

    def shares_by_size(self) -> dict[str, float]:
        """The share of the boxes that is small, medium and large."""
        sums = self.by_size.sum(axis=0)
        return dict(zip(SIZES, (sums / max(1, int(sums.sum()))).tolist(), strict=True))

    def to_json(self, classes: Sequence[str]) -> dict[str, Any]:
        """A JSON-ready dictionary; `classes` are the names."""
        return {
            "number": int(self.counts.sum()),
            "difficult": self.difficult,
            "pictures_with": {
                split: dict(zip(classes, row, strict=True))
                for split, row in zip(SPLITS, self.pictures.tolist(), strict=True)
            },
            "pictures_without_object": dict(zip(SPLITS, self.without.tolist(), strict=True)),
            "pictures_by_number_of_boxes": self.per_picture.tolist(),
            "sizes": {
                name: dict(zip(SIZES, row, strict=True))
                for name, row in zip(classes, self.by_size.tolist(), strict=True)
            },
            "share_of_side": quantiles(self.sides),
            "width_over_height": quantiles(self.ratios),
        }


def measure_boxes(
    boxes: Boxes, store: Store, split_of: npt.NDArray[np.str_], num_classes: int
) -> BoxFacts:
    """The facts of `boxes`; `split_of` (n,) names the split of each sample, "" for none."""
    row_of = split_rows(split_of, store.readable)
    sample = boxes.samples
    used = row_of[sample] >= 0
    sample, classes, corners = sample[used], boxes.classes[used], boxes.corners[used]
    counts = np.zeros((len(SPLITS), num_classes), np.int64)
    np.add.at(counts, (row_of[sample], classes), 1)
    present = np.zeros((len(row_of), num_classes), np.bool_)
    present[boxes.samples, boxes.classes] = True
    inside = row_of >= 0
    width, height = corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]
    area = width * height
    size = np.digitize(area, list(SIZES.values())[1:])
    by_size = np.zeros((num_classes, len(SIZES)), np.int64)
    np.add.at(by_size, (classes, size), 1)
    whole = np.maximum(store.sizes.astype(np.float32).prod(axis=1), 1)
    return BoxFacts(
        counts=counts,
        pictures=np.stack([present[row_of == row].sum(axis=0) for row in range(len(SPLITS))]),
        without=np.bincount(row_of[inside & (boxes.counts == 0)], minlength=len(SPLITS)),
        per_picture=np.bincount(boxes.counts[inside], minlength=1),
        by_size=by_size,
        sides=np.sqrt(area / whole[sample]).astype(np.float32),
        ratios=(width / np.maximum(height, 1e-6)).astype(np.float32),
        difficult=int(boxes.difficult[used].sum()),
        present=present,
    )


def split_rows(split_of: npt.NDArray[np.str_], usable: npt.NDArray[np.bool_]) -> Indices:
    """The place of each sample's split in `SPLITS` (n,); -1 without one or not `usable`."""
    rows = np.full(len(split_of), -1, np.int64)
    for row, name in enumerate(SPLITS):
        rows[(split_of == name) & usable] = row
    return rows


def quantiles(values: npt.NDArray[np.float32]) -> dict[str, float] | None:
    """Those of `QUANTILES`, by their name in per cent; None of nothing."""
    if not len(values):
        return None
    found = np.quantile(values, QUANTILES)
    return {f"{100 * q:g}%": round(float(v), 5) for q, v in zip(QUANTILES, found, strict=True)}
