"""What an inspection of a data set finds, as data."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from hubel.data.boxes import Fault
from hubel.data.headers import FileFacts
from hubel.data.measure import PixelFacts
from hubel.data.measure_boxes import BoxFacts
from hubel.data.measure_masks import MaskFacts
from hubel.data.sentences import plural_of
from hubel.data.source import SPLITS, Labelling
from hubel.data.store import Problem

__all__ = [
    "Balance",
    "ExactCopies",
    "Headline",
    "Inspection",
    "NearPairs",
    "SizeFacts",
]

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Headline:
    """One finding: what it is, with its number, and what to do about it.

    severity: "error" (figures would be wrong), "warning" (look at it) or "info".
    section: the part of the page that shows it, or "".
    """

    severity: str
    text: str
    remedy: str
    section: str = ""


@dataclass(frozen=True)
class SizeFacts:
    """Spatial sizes of the readable samples, in pixels.

    Attributes
    ----------
    stored: the size at which they are stored and trained on.
    smallest, largest: the sizes with the fewest and the most pixels.
    median: the median of each axis.
    sizes, counts: every size that occurs (m, spatial_dims) and how often, most often first.
    """

    stored: tuple[int, ...]
    smallest: tuple[int, ...]
    median: tuple[float, ...]
    largest: tuple[int, ...]
    sizes: npt.NDArray[np.int64]
    counts: Indices

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dictionary; of the sizes the 100 most frequent."""
        return {
            "stored": list(self.stored),
            "smallest": list(self.smallest),
            "median": list(self.median),
            "largest": list(self.largest),
            "distinct": len(self.sizes),
            "most_frequent": [
                {"size": size, "count": count}
                for size, count in zip(
                    self.sizes[:100].tolist(), self.counts[:100].tolist(), strict=True
                )
            ],
        }


@dataclass(frozen=True)
class Balance:
    """How evenly the training split is spread over the classes.

    Attributes
    ----------
    largest, smallest: class names; num_largest, num_smallest: their training samples, boxes or
        pixels.
    ratio: largest over smallest; None if the smallest has none.
    evenness: entropy of the class shares over its greatest possible value, ln k: 1 where all
        classes are equal, 0 where one has everything (Pielou, 1966, Journal of Theoretical
        Biology 13, pp. 131-144).
    """

    largest: str
    num_largest: int
    smallest: str
    num_smallest: int
    ratio: float | None
    evenness: float


@dataclass(frozen=True)
class ExactCopies:
    """Samples whose stored bytes are equal.

    Attributes
    ----------
    groups: sample indices of each group of two or more, those across splits first.
    num_spare: samples that could go without losing a picture.
    leaked: samples of val and of test that train has too.
    val_in_test: samples of test that val has too.
    conflicts: the groups of which not all have one label.
    """

    groups: list[Indices]
    num_spare: int
    leaked: dict[str, int]
    val_in_test: int
    conflicts: list[Indices]


@dataclass(frozen=True)
class NearPairs:
    """Samples that look the same without being equal.

    Attributes
    ----------
    pairs: int64 (m, 2) sample indices, those across splits first, then the most alike.
    alike: float32 (m,) 0…1; mirrored: bool (m,).
    leaked: samples of val and of test that resemble one of train and equal none.
    num_conflicts: pairs with different labels.
    num_compared: samples compared (neither flat nor exact copies).
    """

    pairs: Indices
    alike: npt.NDArray[np.float32]
    mirrored: npt.NDArray[np.bool_]
    leaked: dict[str, int]
    num_conflicts: int
    num_compared: int


@dataclass(frozen=True)
class Inspection:
    """A data set, looked at. Sample indices are those of the source.

    Attributes
    ----------
    name: what was inspected: a path, or an embedded set's name.
    format, spatial_dims, classes, labels: as in `SourceInfo`.
    num_samples, num_readable: with and without unreadable ones.
    num_of_split: int64 (3,): readable samples of train, val and test.
    counts: int64 (3, num_classes): of train, val and test by class the readable samples, their
        boxes or the pixels of their masks, as `unit` says.
    boxes, masks: None where samples are labelled otherwise.
    unreadable: unreadable samples by the split that the data give ("" where they give none).
    split_drawn: whether the test split was drawn by hubel and is not the data's own.
    in_channels: channels as stored; channels: counts by a sample's own channels.
    files: None where samples are not picture files.
    near: None if near copies were not looked for.
    refused: why a fit refuses the data as they are, "" where it does not.
    problems: unreadable samples, and those with an unreadable mask, with the reason.
    faults: annotations that were mended or passed over, with the reason.
    split_of, ids, targets: split ("" if in none), id and class of every sample; of samples with
        boxes or masks the class means nothing (see `label`).
    headlines: the findings, most severe first.
    """

    name: str
    format: str
    spatial_dims: int
    classes: tuple[str, ...]
    labels: Labelling
    num_samples: int
    num_readable: int
    num_of_split: Indices
    counts: Indices
    boxes: BoxFacts | None
    masks: MaskFacts | None
    unreadable: dict[str, int]
    split_drawn: bool
    sizes: SizeFacts
    in_channels: int
    channels: dict[int, int]
    pixels: PixelFacts
    balance: Balance
    files: FileFacts | None
    problems: list[Problem]
    faults: Sequence[Fault]
    exact: ExactCopies
    near: NearPairs | None
    refused: str
    notes: list[str]
    headlines: list[Headline] = field(repr=False)
    ids: Sequence[str] = field(repr=False)
    targets: Indices = field(repr=False)
    split_of: npt.NDArray[np.str_] = field(repr=False)

    @property
    def noun(self) -> str:
        """What a sample is: "picture", "volume" or "pose"."""
        if self.labels == "pose":
            return "pose"
        return "picture" if self.spatial_dims == 2 else "volume"

    @property
    def axes(self) -> str:
        """The order in which sides are told."""
        return "height×width" if self.spatial_dims == 2 else "depth×height×width"

    @property
    def unit(self) -> str:
        """What `counts` counts: "picture" or "volume", "box", "pixel" or "voxel"."""
        if self.labels == "boxes":
            return "box"
        if self.labels == "mask":
            return "pixel" if self.spatial_dims == 2 else "voxel"
        return self.noun

    @property
    def present(self) -> npt.NDArray[np.bool_] | None:
        """The classes (n, k) in each sample with boxes or a mask; None where it has one."""
        facts = self.boxes or self.masks
        return None if facts is None else facts.present

    def label(self, i: int) -> str:
        """What sample `i` is labelled with, in words: its class, or all classes in it."""
        if self.present is None:
            return self.classes[int(self.targets[i])]
        names = [self.classes[k] for k in np.flatnonzero(self.present[i])]
        return ", ".join(names) or "nothing"

    def split_counts(self) -> dict[str, int]:
        """Readable samples of each split."""
        return dict(zip(SPLITS, self.num_of_split.tolist(), strict=True))

    def to_json(self) -> dict[str, Any]:
        """Everything as one JSON-ready dictionary; samples are named by id."""
        return {
            "name": self.name,
            "format": self.format,
            "spatial_dims": self.spatial_dims,
            "num_samples": self.num_samples,
            "num_readable": self.num_readable,
            "labels": self.labels,
            "classes": list(self.classes),
            "splits": self.split_counts(),
            "split_drawn": self.split_drawn,
            "counts": {
                split: dict(zip(self.classes, row, strict=True))
                for split, row in zip(SPLITS, self.counts.tolist(), strict=True)
            },
            "counted": plural_of(self.unit),
            "boxes": None if self.boxes is None else self.boxes.to_json(self.classes),
            "masks": None if self.masks is None else self.masks.to_json(self.classes),
            "balance": asdict(self.balance),
            "sizes": self.sizes.to_json(),
            "in_channels": self.in_channels,
            "channels": {str(k): v for k, v in self.channels.items()},
            "mean": list(self.pixels.mean),
            "std": list(self.pixels.std),
            "constant": self._names(self.pixels.constant),
            "faint": self._names(self.pixels.faint),
            "unreadable": [asdict(problem) for problem in self.problems],
            "faults": [asdict(fault) for fault in self.faults],
            "unreadable_by_split": self.unreadable,
            "files": None if self.files is None else self.files.to_json(self.ids),
            "exact_copies": {
                "groups": [self._names(group) for group in self.exact.groups],
                "num_spare": self.exact.num_spare,
                "leaked": self.exact.leaked,
                "val_in_test": self.exact.val_in_test,
                "conflicts": [self._names(group) for group in self.exact.conflicts],
            },
            "near_copies": None if self.near is None else self._near_json(self.near),
            "refused": self.refused,
            "notes": self.notes,
            "headlines": [asdict(headline) for headline in self.headlines],
        }

    def _near_json(self, near: NearPairs) -> dict[str, Any]:
        return {
            "pairs": [
                {"ids": self._names(pair), "alike": round(float(alike), 3), "mirrored": bool(flip)}
                for pair, alike, flip in zip(near.pairs, near.alike, near.mirrored, strict=True)
            ],
            "leaked": near.leaked,
            "num_conflicts": near.num_conflicts,
            "num_compared": near.num_compared,
        }

    def _names(self, indices: Indices) -> list[str]:
        return [self.ids[i] for i in indices.tolist()]
