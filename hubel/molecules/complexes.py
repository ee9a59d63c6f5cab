"""Many poses in few receptors, in columns, and the atoms that a grid about each pose sees."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hubel.molecules.channels import ATOM_TYPES, HYDROGENS, Channels
from hubel.molecules.drawing import Drawing
from hubel.molecules.grid import Atoms, Grid
from hubel.molecules.grid_loops import REACH

__all__ = ["Complexes", "Molecules", "Viewed"]

_RADII = np.array([kind.radius for kind in ATOM_TYPES], np.float32)


@dataclass(frozen=True)
class Molecules:
    """The typed atoms of several molecules: those of molecule i are rows starts[i]:starts[i + 1].

    Attributes
    ----------
    starts: int64 (m + 1,), from 0 to a.
    places: float32 (a, 3), in Å.
    types: uint8 (a,), indices into `ATOM_TYPES`.
    """

    starts: npt.NDArray[np.int64]
    places: npt.NDArray[np.float32]
    types: npt.NDArray[np.uint8]

    @classmethod
    def of(cls, rows: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]]) -> "Molecules":
        """From places (a, 3) and types (a,) of each molecule."""
        return cls(
            np.cumsum([0, *(len(types) for _, types in rows)], dtype=np.int64),
            np.concatenate([np.zeros((0, 3), np.float32), *(places for places, _ in rows)]),
            np.concatenate([np.zeros(0, np.uint8), *(types for _, types in rows)]),
        )

    def __len__(self) -> int:
        """How many molecules."""
        return len(self.starts) - 1

    def atoms(self, i: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
        """Places and types of molecule `i`."""
        rows = slice(int(self.starts[i]), int(self.starts[i + 1]))
        return self.places[rows], self.types[rows]

    def undrawn(self, channels: Channels) -> tuple[int, tuple[str, ...]]:
        """How many atoms stand in none of `channels`, hydrogens apart, and smina's names of their
        types.
        """
        left_out = self.types[(channels.of_type[self.types] < 0) & (self.types >= HYDROGENS)]
        names = tuple(ATOM_TYPES[int(number)].smina for number in np.unique(left_out))
        return len(left_out), names


@dataclass(frozen=True)
class Viewed:
    """The atoms of several poses and of the receptors about them, in the frame of each grid.

    Attributes
    ----------
    atoms: the places are from the middle of the pose's grid, which `densities` is to take for
        its centre.
    num_poses: how many there are.
    numbers: int64 (a,), the number of each atom in its receptor or its pose.
    in_pose: bool (a,), whether it is one of the pose.
    """

    atoms: Atoms
    num_poses: int
    numbers: torch.Tensor
    in_pose: torch.Tensor

    @property
    def centers(self) -> torch.Tensor:
        """(n, 3), where the places are counted from: zero."""
        return self.atoms.places.new_zeros(self.num_poses, 3)

    def to(self, device: torch.device) -> "Viewed":
        """The same on `device`."""
        columns = (self.atoms.places, self.atoms.radii, self.atoms.channels, self.atoms.samples)
        atoms = Atoms(*(column.to(device) for column in columns))
        return Viewed(atoms, self.num_poses, self.numbers.to(device), self.in_pose.to(device))

    def without(self, atoms: torch.Tensor) -> "Viewed":
        """One pose as many times as there are `atoms` (k,), each time without one of them."""
        a, k = len(self.numbers), len(atoms)
        rows = torch.arange(a, device=atoms.device).repeat(k).view(k, a)
        kept = rows != atoms[:, None]
        rows, copies = rows[kept], kept.nonzero()[:, 0]
        own = self.atoms
        seen = Atoms(own.places[rows], own.radii[rows], own.channels[rows], copies)
        return Viewed(seen, k, self.numbers[rows], self.in_pose[rows])


@dataclass(frozen=True)
class Complexes:
    """Poses of ligands in receptors.

    Attributes
    ----------
    receptors, poses: their atoms.
    receptor_of: int64 (n,), the receptor of each pose.
    drawing: the channels and the points that they are seen by.
    """

    receptors: Molecules
    poses: Molecules
    receptor_of: npt.NDArray[np.int64]
    drawing: Drawing = field(default_factory=Drawing)

    def __len__(self) -> int:
        """How many poses."""
        return len(self.poses)

    @property
    def num_channels(self) -> int:
        """Of the receptor and of the ligand together."""
        return self.drawing.num_channels

    @property
    def grid(self) -> Grid:
        """The points about the mean place of a pose's drawn atoms."""
        return self.drawing.grid

    def drawn(self, i: int) -> npt.NDArray[np.bool_]:
        """(atoms of pose i,), whether each stands in a channel."""
        seen: npt.NDArray[np.bool_] = (
            self.drawing.ligand_channels.of_type[self.poses.atoms(i)[1]] >= 0
        )
        return seen

    def center(self, i: int) -> npt.NDArray[np.float64]:
        """(3,) the mean place of the drawn atoms of pose `i`, in Å; zero where there are none."""
        drawn = self.poses.atoms(i)[0][self.drawn(i)]
        center: npt.NDArray[np.float64] = (
            drawn.mean(axis=0, dtype=np.float64) if len(drawn) else np.zeros(3)
        )
        return center

    def outside(self, i: int) -> int:
        """How many drawn atoms of pose `i` lie beyond its grid as it stands, and are not seen."""
        away = np.abs(self.poses.atoms(i)[0] - self.center(i)).max(axis=1, initial=0.0)
        return int(((away > self.grid.edge / 2) & self.drawn(i)).sum())

    def viewed(
        self,
        ids: npt.NDArray[np.int64],
        rotations: npt.NDArray[np.float64] | None = None,
        shifts: npt.NDArray[np.float64] | None = None,
    ) -> Viewed:
        """The atoms that the grids of poses `ids` (b,) see.

        Parameters
        ----------
        rotations: (b, 3, 3), by which each is turned about its centre.
        shifts: (b, 3), by which each is moved in its grid afterwards, in Å.
        """
        receptor_channels = self.drawing.receptor_channels
        columns: list[tuple[npt.NDArray[Any], ...]] = []
        samples = []
        for row, i in enumerate(ids.tolist()):
            center = self.center(i)
            shift = np.zeros(3) if shifts is None else shifts[row]
            # Half the diagonal of the cube, and as far as an atom reaches into it.
            radius = 0.5 * 3**0.5 * self.grid.edge + REACH * float(_RADII.max())
            radius += float(np.linalg.norm(shift))
            both = (
                (self.receptors.atoms(int(self.receptor_of[i])), receptor_channels, 0),
                (self.poses.atoms(i), self.drawing.ligand_channels, len(receptor_channels)),
            )
            for (places, types), channels, first in both:
                channel = channels.of_type[types]
                away = places - center
                near = (channel >= 0) & (np.einsum("ij,ij->i", away, away) < radius**2)
                away = away[near]
                if rotations is not None:
                    away = away @ rotations[row].T
                numbers = np.flatnonzero(near)
                columns.append((away + shift, _RADII[types[near]], channel[near] + first, numbers))
                samples.append(np.full(len(numbers), row, np.int64))
        seen, radii, drawn, number = (
            torch.from_numpy(np.concatenate(column)) for column in zip(*columns, strict=True)
        )
        atoms = Atoms(seen.float(), radii, drawn, torch.from_numpy(np.concatenate(samples)))
        return Viewed(atoms, len(ids), number, drawn >= len(receptor_channels))
