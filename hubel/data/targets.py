"""What is to be learned of each sample, as tensors whose rows a batch gathers."""

from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from hubel.data.boxes import Boxes
from hubel.data.legend import IGNORED
from hubel.data.poses import Poses
from hubel.data.store import Store

__all__ = [
    "IGNORED",
    "NO_OBJECT",
    "BoxTargets",
    "Kind",
    "Labels",
    "Masks",
    "PoseTargets",
    "Targets",
]

Kind: TypeAlias = Literal["class", "box", "boxes", "mask", "pose"]
"""What a target is, and so how it moves with its picture: a class, a class with one box, any
number of boxes, a class a pixel, a pose."""

NO_OBJECT = -1.0
"""The class of a row that pads a sample's boxes to the number of the fullest one."""


class Targets(Protocol):
    """Of every sample of a source."""

    @property
    def kind(self) -> Kind: ...

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        """The targets of samples `ids` (b,) int64, on the CPU."""
        ...


@dataclass(frozen=True)
class Labels:
    """One class a sample: rows are int64 (b,)."""

    kind: ClassVar[Kind] = "class"
    values: torch.Tensor

    @classmethod
    def of(cls, targets: npt.NDArray[np.int64]) -> "Labels":
        """From a source's targets."""
        return cls(torch.from_numpy(targets))

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        return self.values[ids]


@dataclass(frozen=True)
class BoxTargets:
    """Boxes: rows are float32 (b, most, 5): class, left, top, right, bottom as shares of the
    picture's sides; `most` is the number of the fullest sample, `NO_OBJECT` pads.

    Of kind "box" each sample has one, whatever becomes of its picture.
    """

    values: torch.Tensor
    kind: Kind = "boxes"

    @classmethod
    def of(cls, boxes: Boxes, store: Store, kind: Kind = "boxes") -> "BoxTargets":
        """`boxes` of the pictures of `store`, without those of unreadable ones; where there may be
        many also without the difficult, which nobody is asked to find.
        """
        if kind == "boxes":
            boxes = boxes.without(boxes.difficult)
        n = len(boxes.starts) - 1
        values = np.full((n, max(int(boxes.counts.max(initial=0)), 1), 5), NO_OBJECT, np.float32)
        sample = boxes.samples
        place = np.arange(len(boxes)) - boxes.starts[sample]
        sides = np.maximum(store.sizes, 1)[:, ::-1]  # (n, 2): width, height
        seen = store.readable[sample]
        rows = np.column_stack([boxes.classes, boxes.corners / np.tile(sides, 2)[sample]])
        values[sample[seen], place[seen]] = rows[seen]
        return cls(torch.from_numpy(values), kind)

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        return self.values[ids]


@dataclass(frozen=True)
class Masks:
    """A class for every pixel: rows are uint8 (b, *size); `IGNORED` where there is none."""

    kind: ClassVar[Kind] = "mask"
    store: Store

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        return self.store.gather(ids)[..., 0]


@dataclass(frozen=True)
class PoseTargets:
    """What is known of a pose: rows are float32 (b, 4): whether it is good, the number of its
    ligand, docking score, affinity; NaN where there is none.
    """

    kind: ClassVar[Kind] = "pose"
    values: torch.Tensor

    @classmethod
    def of(cls, poses: Poses, labels: npt.NDArray[np.int64]) -> "PoseTargets":
        """From a source's poses and targets."""
        columns = (labels, poses.ligand_of, poses.docking_score, poses.affinity)
        return cls(torch.from_numpy(np.column_stack(columns).astype(np.float32)))

    def rows(self, ids: torch.Tensor) -> torch.Tensor:
        return self.values[ids]

    def weights(self, ids: torch.Tensor) -> torch.Tensor:
        """How often each of samples `ids` is to be drawn, float64 (b,): half of all draws are good
        poses, of either kind every ligand has the same share, and in it every pose (Ragoza et al.
        2017, Journal of Chemical Information and Modeling 57, p. 945, "balanced and stratified").
        """
        good, ligand = self.values[ids, 0].long(), self.values[ids, 1].long()
        cell = 2 * ligand + good
        own = cell.bincount()[cell]  # poses of the same ligand and kind
        ligands = (cell.unique() % 2).bincount(minlength=2)  # that have bad ones, and good ones
        weights: torch.Tensor = 1.0 / (own * ligands[good]).double()
        return weights
