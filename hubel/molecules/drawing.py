"""How atoms become a grid: which types are drawn, in which channels, on which points."""

import math
from dataclasses import dataclass, field
from typing import Any

from hubel.errors import UserError
from hubel.molecules.channel_files import (
    LIGAND_SETS,
    RECEPTOR_SETS,
    channels_from_smina,
    read_channels,
    smina_names,
)
from hubel.molecules.channels import LIGAND_CHANNELS, RECEPTOR_CHANNELS, Channels
from hubel.molecules.grid import Grid

__all__ = ["Drawing", "drawing_of"]

_MOST_POINTS = 256  # a side; a grid of 28 channels is then 1.9 GB


@dataclass(frozen=True)
class Drawing:
    """What a network sees of a pose; by default what the published networks were trained on.

    Attributes
    ----------
    receptor_channels, ligand_channels: which types are drawn, and in which channels; the
        ligand's come after the receptor's.
    grid: the points about the mean place of a pose's drawn atoms.
    """

    receptor_channels: Channels = RECEPTOR_CHANNELS
    ligand_channels: Channels = LIGAND_CHANNELS
    grid: Grid = field(default_factory=Grid)

    @property
    def num_channels(self) -> int:
        """Of the receptor and of the ligand together."""
        return len(self.receptor_channels) + len(self.ligand_channels)

    @property
    def size(self) -> tuple[int, int, int]:
        """Points along each side."""
        return (self.grid.points,) * 3

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dictionary, types by smina's names; `from_json` reads it back."""
        return {
            "receptor_channels": smina_names(self.receptor_channels),
            "ligand_channels": smina_names(self.ligand_channels),
            "resolution_angstrom": self.grid.resolution,
            "points": self.grid.points,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Drawing":
        """From `to_json`'s dictionary. Raises KeyError, TypeError or ValueError for another."""
        resolution, points = float(data["resolution_angstrom"]), data["points"]
        if not (math.isfinite(resolution) and resolution > 0) or type(points) is not int:
            raise ValueError(f"{points} points {resolution} Å apart are no grid")
        receptor, ligand = (
            channels_from_smina(data[f"{part}_channels"]) for part in ("receptor", "ligand")
        )
        return cls(receptor, ligand, Grid(resolution, points))


def drawing_of(
    receptor_channels: str, ligand_channels: str, resolution: float | None, edge: float | None
) -> Drawing:
    """From what `hubel fit` is given: ready sets or files of channels, and lengths in Å.

    Raises `UserError` naming the option at fault.
    """
    return Drawing(
        read_channels(receptor_channels, RECEPTOR_SETS, "--receptor-channels"),
        read_channels(ligand_channels, LIGAND_SETS, "--ligand-channels"),
        _grid_of(resolution, edge),
    )


def _grid_of(resolution: float | None, edge: float | None) -> Grid:
    resolution = Grid().resolution if resolution is None else resolution
    edge = Grid().edge if edge is None else edge
    steps = edge / resolution
    if steps > _MOST_POINTS - 1:
        raise UserError(
            f"--grid-edge {edge:g} and --grid-resolution {resolution:g} make {steps + 1:,.0f} "
            f"points a side, at most {_MOST_POINTS} can be; give a shorter edge or a coarser "
            f"resolution"
        )
    if steps < 1 or abs(steps - round(steps)) > 1e-6:
        near = [n * resolution for n in (max(1, math.floor(steps)), max(1, math.ceil(steps)))]
        fits = " or ".join(f"{edge:g}" for edge in dict.fromkeys(near))
        raise UserError(
            f"--grid-edge {edge:g} Å is no whole number of steps of --grid-resolution "
            f"{resolution:g} Å; give --grid-edge {fits}"
        )
    return Grid(resolution, round(steps) + 1)
