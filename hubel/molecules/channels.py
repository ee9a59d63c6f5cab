"""Atom types, their radii, and the channels that they are drawn in.

The types are those of smina (Koes, Baumgartner and Camacho 2013, Journal of Chemical Information
and Modeling 53, pp. 1893-1904), which AutoDock Vina's (Trott and Olson 2010) extend; the 14
channels of a receptor and the 14 of a ligand are those that the published networks were trained
with (Francoeur et al. 2020, Journal of Chemical Information and Modeling 60, pp. 4200-4215).
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

__all__ = [
    "ATOM_TYPES",
    "ELEMENT_CHANNELS",
    "HYDROGENS",
    "LIGAND_CHANNELS",
    "RECEPTOR_CHANNELS",
    "AtomType",
    "Channels",
]


@dataclass(frozen=True)
class AtomType:
    """A kind of atom.

    Attributes
    ----------
    name, smina: hubel's name for it, and the one that smina, gnina and libmolgrid have.
    radius: in Å.
    """

    name: str
    smina: str
    radius: float


_CARBON, _NITROGEN, _OXYGEN, _METAL = 1.9, 1.8, 1.7, 1.2

ATOM_TYPES = (
    AtomType("hydrogen", "Hydrogen", 0.37),
    AtomType("polar hydrogen", "PolarHydrogen", 0.37),
    AtomType("aliphatic carbon, hydrophobic", "AliphaticCarbonXSHydrophobe", _CARBON),
    AtomType("aliphatic carbon, polar", "AliphaticCarbonXSNonHydrophobe", _CARBON),
    AtomType("aromatic carbon, hydrophobic", "AromaticCarbonXSHydrophobe", _CARBON),
    AtomType("aromatic carbon, polar", "AromaticCarbonXSNonHydrophobe", _CARBON),
    AtomType("nitrogen", "Nitrogen", _NITROGEN),
    AtomType("nitrogen, donor", "NitrogenXSDonor", _NITROGEN),
    AtomType("nitrogen, donor and acceptor", "NitrogenXSDonorAcceptor", _NITROGEN),
    AtomType("nitrogen, acceptor", "NitrogenXSAcceptor", _NITROGEN),
    AtomType("oxygen", "Oxygen", _OXYGEN),
    AtomType("oxygen, donor", "OxygenXSDonor", _OXYGEN),
    AtomType("oxygen, donor and acceptor", "OxygenXSDonorAcceptor", _OXYGEN),
    AtomType("oxygen, acceptor", "OxygenXSAcceptor", _OXYGEN),
    AtomType("sulfur", "Sulfur", 2.0),
    AtomType("sulfur, acceptor", "SulfurAcceptor", 2.0),
    AtomType("phosphorus", "Phosphorus", 2.1),
    AtomType("fluorine", "Fluorine", 1.5),
    AtomType("chlorine", "Chlorine", 1.8),
    AtomType("bromine", "Bromine", 2.0),
    AtomType("iodine", "Iodine", 2.2),
    AtomType("magnesium", "Magnesium", _METAL),
    AtomType("manganese", "Manganese", _METAL),
    AtomType("zinc", "Zinc", _METAL),
    AtomType("calcium", "Calcium", _METAL),
    AtomType("iron", "Iron", _METAL),
    AtomType("other metal", "GenericMetal", _METAL),
    AtomType("boron", "Boron", 1.92),
)
"""In the order of the numbers that stand in gninatypes files."""

HYDROGENS = 2
"""So many types come first; hydrogens tell donors, and are not among the atoms that are kept."""


@dataclass(frozen=True)
class Channels:
    """Which types share a channel of the grid; types in none are left out.

    Attributes
    ----------
    groups: for each channel the names of its types. A type is in one channel at most.
    of_type: int64 (types,), the channel of each type, -1 for none.
    """

    groups: tuple[tuple[str, ...], ...]
    of_type: npt.NDArray[np.int64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        numbers = {kind.name: number for number, kind in enumerate(ATOM_TYPES)}
        of_type = np.full(len(ATOM_TYPES), -1)
        for channel, group in enumerate(self.groups):
            for name in group:
                if name not in numbers:
                    raise ValueError(f"'{name}' is no atom type: {', '.join(numbers)}")
                if of_type[numbers[name]] >= 0:
                    raise ValueError(f"'{name}' stands in two channels")
                of_type[numbers[name]] = channel
        object.__setattr__(self, "of_type", of_type)

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

ELEMENT_CHANNELS = Channels(
    (
        tuple(name for (name,) in _COMMON),
        ("nitrogen", "nitrogen, donor", "nitrogen, donor and acceptor", "nitrogen, acceptor"),
        ("oxygen", "oxygen, donor", "oxygen, donor and acceptor", "oxygen, acceptor"),
        ("sulfur", "sulfur, acceptor"),
        ("phosphorus",),
        ("fluorine", "chlorine", "bromine", "iodine"),
        ("magnesium", "manganese", "zinc", "calcium", "iron", "other metal", "boron"),
    )
)
"""C, N, O, S, P, halogens, and metals with boron: what an atom is, and not what it does."""
