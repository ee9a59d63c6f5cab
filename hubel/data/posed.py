"""A source of poses and its store: grids are made of atoms whenever they are wanted.

A grid of 28 × 48³ points is 12 MB and takes one or two milliseconds to make, its atoms are a few
kilobytes: nothing is worth keeping on disk.
"""

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from hubel.data.poses import POSE_CLASSES, Poses
from hubel.data.sentences import counted
from hubel.data.source import Array, Source, SourceInfo, UnreadableSampleError
from hubel.data.store import Problem, Store
from hubel.errors import UserError
from hubel.molecules.complexes import Complexes
from hubel.molecules.drawing import Drawing
from hubel.molecules.grid import densities, random_rotations
from hubel.randomness import generator

__all__ = ["ORIENTATIONS", "PoseSource", "PoseStore", "Posing"]

ORIENTATIONS = 8
"""In how many a pose is looked at with --tta all; scores are means over them."""


class PoseSource(Source):
    """Poses, labelled good or bad; a sample is a density for each kind of atom.

    Parameters
    ----------
    labels: int64 (n,), 1 for a good pose.
    receptors: unicode (n,), the group of each: poses of one never cross splits.
    files: what `stamp` looks at.
    The others are the columns of `Source`.
    """

    def __init__(
        self,
        format: str,
        path: Path,
        poses: Poses,
        labels: npt.NDArray[np.int64],
        ids: Sequence[str],
        receptors: npt.NDArray[np.str_],
        files: Sequence[Path],
        notes: list[str],
    ) -> None:
        self.path = path
        drawing = poses.complexes.drawing
        self.info = SourceInfo(
            format,
            spatial_dims=3,
            classes=POSE_CLASSES,
            in_channels=drawing.num_channels,
            size=drawing.size,
            labels="pose",
        )
        self.poses = poses
        self.ids = ids
        self.targets = labels
        self.splits = np.full(len(ids), "", "<U5")
        self.groups = receptors
        self.notes = notes
        self._files = list(files)

    def drawn_as(self, drawing: Drawing) -> "PoseSource":
        """The same poses, seen in other channels or on other points."""
        assert self.poses is not None  # noqa: S101
        other = copy.copy(self)
        other.poses = replace(self.poses, complexes=replace(self.poses.complexes, drawing=drawing))
        other.info = replace(self.info, in_channels=drawing.num_channels, size=drawing.size)
        return other

    def stamp(self) -> str:
        facts = [self.info.format]
        for file in self._files:
            stat = file.stat()
            facts.append(f"{file.name} {stat.st_size} {stat.st_mtime_ns}")
        return hashlib.blake2b("\0".join(facts).encode(), digest_size=16).hexdigest()

    def content(self, i: int) -> bytes:
        """The atoms of the pose, and of the receptor."""
        assert self.poses is not None  # noqa: S101
        complexes = self.poses.complexes
        parts = (complexes.poses.atoms(i), complexes.receptors.atoms(complexes.receptor_of[i]))
        return b"".join(column.tobytes() for part in parts for column in part)

    def decode(self, content: bytes, i: int, in_channels: int | None = None) -> Array:
        """The densities (*size, channels) of pose `i` as it stands."""
        assert self.poses is not None  # noqa: S101
        if not self.poses.complexes.drawn(i).any():
            raise UnreadableSampleError(_unseen(self.poses.complexes, i))
        grids: Array = _grids(self.poses, np.array([i]), torch.device("cpu"))[0].numpy()
        return grids


@dataclass(frozen=True)
class Posing:
    """How poses are moved in training; a pose means the same wherever it is looked at from.

    Attributes
    ----------
    turned: by a rotation drawn uniformly from all.
    translate: moved by up to this share of the grid's side along each axis.
    """

    turned: bool
    translate: float

    def draws(self, num_samples: int, seed: int, epoch: int) -> torch.Tensor:
        """For one epoch float64 (num_samples, 12): a rotation (3, 3), row by row, and a shift (3)
        as shares of the grid's side.
        """
        stream = generator(seed, "poses", epoch)
        turns = random_rotations(num_samples, stream)
        if not self.turned:
            turns = torch.eye(3, dtype=torch.float64).expand(num_samples, 3, 3)
        shifts = torch.rand(num_samples, 3, generator=stream, dtype=torch.float64)
        return torch.cat([turns.flatten(1), self.translate * (2 * shifts - 1)], dim=1)


class PoseStore:
    """The grids of a source's poses; attributes as in `hubel.data.cache.Store`."""

    def __init__(self, source: Source, size: tuple[int, ...] | None) -> None:
        assert source.poses is not None  # noqa: S101
        assert source.info.size is not None  # noqa: S101
        poses = source.poses
        if size is not None and size != source.info.size:
            side = poses.complexes.grid.points
            raise UserError(
                f"--img-size {'x'.join(map(str, size))}: poses are drawn on {side}x{side}x{side} "
                f"points {poses.complexes.grid.resolution:g} Å apart; leave it out, or give "
                f"--grid-edge and --grid-resolution"
            )
        n = len(poses)
        self.poses = poses
        self.size = source.info.size
        self.in_channels = poses.complexes.num_channels
        self.pixels: torch.Tensor | None = None
        self.masks: Store | None = None
        self.readable = np.array([poses.complexes.drawn(i).any() for i in range(n)], bool)
        self.problems = [
            Problem(source.ids[i], _unseen(poses.complexes, i))
            for i in np.flatnonzero(~self.readable).tolist()
        ]
        digests = [
            hashlib.blake2b(source.content(i), digest_size=16).hexdigest().encode()
            for i in range(n)
        ]
        self.digests = np.where(self.readable, digests, b"").astype("S32")
        self.sizes = np.tile(np.array(self.size, np.int32), (n, 1)) * self.readable[:, None]
        self.channels = np.full(n, self.in_channels, np.uint8) * self.readable
        facts = hashlib.blake2b(self.digests.tobytes(), digest_size=16)
        for column in (source.targets, poses.ligand_of, poses.docking_score, poses.affinity):
            facts.update(column.tobytes())
        facts.update("\0".join(source.ids).encode())
        self.fingerprint = facts.hexdigest()
        outside = np.array([poses.complexes.outside(i) for i in range(n)])
        self.notes = _left_out(poses.complexes)
        if outside.any():
            self.notes.append(
                f"{int(outside.sum())} atoms of {int((outside > 0).sum())} poses lie outside "
                f"their grid of {poses.complexes.grid.edge:g} Å and are not seen"
            )

    def gather(self, indices: torch.Tensor) -> torch.Tensor:
        return self.made(indices, torch.device("cpu"))

    def made(
        self,
        indices: torch.Tensor,
        device: torch.device,
        draws: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The grids of samples `indices` (b,), made on `device`: (b, *size, in_channels).

        `draws` (b, 12) are rows of `Posing.draws`, by which the atoms are moved first.
        """
        return _grids(self.poses, indices.numpy(), device, draws)


def _unseen(complexes: Complexes, i: int) -> str:
    """Why nothing is seen of pose `i`."""
    return "has no atom in a channel" if len(complexes.poses.atoms(i)[1]) else "has no atoms"


def _left_out(complexes: Complexes) -> list[str]:
    """Notes about atoms whose types no channel has."""
    drawing = complexes.drawing
    parts = (
        ("pose", complexes.poses, drawing.ligand_channels),
        ("receptor", complexes.receptors, drawing.receptor_channels),
    )
    notes = []
    for what, molecules, channels in parts:
        count, names = molecules.undrawn(channels)
        if count:
            notes.append(
                f"left out for want of a channel: {counted(count, 'atom')} of "
                f"{len(molecules.types):,} in {what}s ({', '.join(names)})"
            )
    return notes


def _grids(
    poses: Poses,
    ids: npt.NDArray[np.int64],
    device: torch.device,
    draws: torch.Tensor | None = None,
) -> torch.Tensor:
    complexes, rotations, shifts = poses.complexes, None, None
    if draws is not None:
        rotations = draws[:, :9].reshape(-1, 3, 3).numpy()
        shifts = (draws[:, 9:] * complexes.grid.edge).numpy()
    viewed = complexes.viewed(ids, rotations, shifts).to(device)
    grids = densities(viewed.atoms, viewed.centers, complexes.num_channels, complexes.grid)
    return grids.movedim(1, -1)
