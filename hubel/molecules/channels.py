"""Atom types, their radii, and the channels that they are drawn in.

The types are those of smina (Koes, Baumgartner and Camacho 2013, Journal of Chemical Information
and Modeling 53, pp. 1893-1904), which AutoDock Vina's (Trott and Olson 2010) extend; the 14
channels of a receptor and the 14 of a ligand are those that the published networks were trained
with (Francoeur et al. 2020, Journal of Chemical Information and Modeling 60, pp. 4200-4215).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["ATOM_TYPES", "LIGAND_CHANNELS", "RECEPTOR_CHANNELS", "AtomType", "Channels"]


@dataclass(frozen=True)
class AtomType:
    """A kind of atom and its radius in Å."""

    name: str
    radius: float


_CARBON, _NITROGEN, _OXYGEN, _METAL = 1.9, 1.8, 1.7, 1.2

ATOM_TYPES = (
    AtomType("hydrogen", 0.37),
    AtomType("polar hydrogen", 0.37),
    AtomType("aliphatic carbon, hydrophobic", _CARBON),
    AtomType("aliphatic carbon, polar", _CARBON),
    AtomType("aromatic carbon, hydrophobic", _CARBON),
    AtomType("aromatic carbon, polar", _CARBON),
    AtomType("nitrogen", _NITROGEN),
    AtomType("nitrogen, donor", _NITROGEN),
    AtomType("nitrogen, donor and acceptor", _NITROGEN),
    AtomType("nitrogen, acceptor", _NITROGEN),
    AtomType("oxygen", _OXYGEN),
    AtomType("oxygen, donor", _OXYGEN),
    AtomType("oxygen, donor and acceptor", _OXYGEN),
    AtomType("oxygen, acceptor", _OXYGEN),
    AtomType("sulfur", 2.0),
    AtomType("sulfur, acceptor", 2.0),
    AtomType("phosphorus", 2.1),
    AtomType("fluorine", 1.5),
    AtomType("chlorine", 1.8),
    AtomType("bromine", 2.0),
    AtomType("iodine", 2.2),
    AtomType("magnesium", _METAL),
    AtomType("manganese", _METAL),
    AtomType("zinc", _METAL),
    AtomType("calcium", _METAL),
    AtomType("iron", _METAL),
    AtomType("other metal", _METAL),
    AtomType("boron", 1.92),
)
"""In the order of the numbers that stand in gninatypes files."""


class Channels:
    """Which types share a channel of the grid; types in none are left out.

    Parameters
    ----------
    groups: for each channel the names of its types. A type is in one channel at most.
    """

    def __init__(self, groups: Sequence[Sequence[str]]) -> None:
        numbers = {kind.name: number for number, kind in enumerate(ATOM_TYPES)}
        self.groups = tuple(tuple(group) for group in groups)
        self.of_type: npt.NDArray[np.int64] = np.full(len(ATOM_TYPES), -1)
        """The channel of each type, -1 for none."""
        for channel, group in enumerate(self.groups):
            for name in group:
                if name not in numbers:
                    raise ValueError(f"'{name}' is no atom type: {', '.join(numbers)}")
                if self.of_type[numbers[name]] >= 0:
                    raise ValueError(f"'{name}' stands in two channels")
                self.of_type[numbers[name]] = channel

    def __len__(self) -> int:
        return len(self.groups)


_COMMON = (
    ("aliphatic carbon, hydrophobic",),
    ("aliphatic carbon, polar",),
    ("aromatic carbon, hydrophobic",),
    ("aromatic carbon, polar",),
)
_POLAR = (
    ("nitrogen", "nitrogen, acceptor"),
    ("nitrogen, donor", "nitrogen, donor and acceptor"),
    ("oxygen", "oxygen, acceptor"),
    ("oxygen, donor", "oxygen, donor and acceptor"),
    ("sulfur", "sulfur, acceptor"),
    ("phosphorus",),
)

RECEPTOR_CHANNELS = Channels(
    (
        *_COMMON,
        ("fluorine", "chlorine", "bromine", "iodine"),
        *_POLAR,
        ("calcium",),
        ("zinc",),
        ("magnesium", "manganese", "iron", "other metal", "boron"),
    )
)

LIGAND_CHANNELS = Channels(
    (
        *_COMMON,
        ("bromine", "iodine"),
        ("chlorine",),
        ("fluorine",),
        *_POLAR,
        ("magnesium", "manganese", "zinc", "calcium", "iron", "other metal", "boron"),
    )
)
