"""Hydrogens that a receptor's file shows: whose they are, and the types that follow from them.

Titratable side chains have a type by their name alone (`residue_types`); where a file shows the
polar hydrogens of a residue, its author has decided, and these types follow the file.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hubel.molecules.atom_types import element_type, hydrogen_bonds, type_number

__all__ = ["shown_types", "take_hydrogens", "types_as_shown"]

_BOND = 1.45  # Å from a hydrogen to its atom at most; S-H is 1.34
_HISTIDINES = frozenset({"HIS", "HID", "HIE", "HIP", "HSD", "HSE", "HSP"})
_LYSINES = frozenset({"LYS", "LYN"})
_CYSTEINES = frozenset({"CYS", "CYM", "CYX"})
_ACIDS = {
    "ASP": ("OD1", "OD2"),
    "ASH": ("OD1", "OD2"),
    "GLU": ("OE1", "OE2"),
    "GLH": ("OE1", "OE2"),
}
_CARBON, _SULFUR = 6, 16
_BRIDGE = 2.3  # Å from a cysteine's sulfur at most: S-S is 2.05, S-C 1.8


def take_hydrogens(model: Any) -> tuple[npt.NDArray[np.int64], int]:
    """Takes the hydrogens out of a gemmi model.

    Returns (a,) how many each of the atoms that are left has, in their order, and how many were
    taken. A hydrogen is of the nearest atom of its residue, if that is within a bond's length.
    """
    counts: list[int] = []
    taken = 0
    for chain in model:
        for residue in chain:
            is_hydrogen = np.array([atom.is_hydrogen() for atom in residue], bool)
            own = np.zeros(int((~is_hydrogen).sum()), np.int64)
            if is_hydrogen.any():
                places = np.array([atom.pos.tolist() for atom in residue])
                if len(own):
                    apart = np.linalg.norm(
                        places[is_hydrogen][:, None] - places[~is_hydrogen][None], axis=2
                    )
                    nearest = apart.argmin(axis=1)
                    np.add.at(own, nearest[apart.min(axis=1) <= _BOND], 1)
                for row in reversed(np.flatnonzero(is_hydrogen).tolist()):
                    del residue[row]
                taken += int(is_hydrogen.sum())
            counts += own.tolist()
    return np.array(counts, np.int64), taken


def shown_types(residue: str, hydrogens: Mapping[str, int], bridged: bool) -> dict[str, int]:
    """The types of atoms of an amino acid's side chain that its own hydrogens decide, by name.

    Nothing where no hydrogen on N, O or S is shown. An acid without any keeps the types of its
    name, as the published sets have them: one of its two oxygens is a donor, charged or not.

    Parameters
    ----------
    residue: its three-letter name.
    hydrogens: of each of its atoms by name how many it has.
    bridged: whether another residue is bonded to the sulfur of a cysteine: it has no hydrogen
        then, and no charge.
    """
    if not any(count and name[0] in "NOS" for name, count in hydrogens.items()):
        return {}
    names: dict[str, str] = {}
    if residue in _HISTIDINES:
        for atom in ("ND1", "NE2"):
            donor = hydrogens.get(atom, 0) > 0
            names[atom] = hydrogen_bonds("nitrogen", donor, not donor)
    elif residue in _LYSINES:
        count = hydrogens.get("NZ", 0)
        names["NZ"] = hydrogen_bonds("nitrogen", count > 0, count < 3)
    elif residue in _ACIDS and any(hydrogens.get(atom) for atom in _ACIDS[residue]):
        for atom in _ACIDS[residue]:
            names[atom] = hydrogen_bonds("oxygen", hydrogens.get(atom, 0) > 0, True)
    types = {atom: type_number(name) for atom, name in names.items()}
    if residue in _CYSTEINES:
        charged = not hydrogens.get("SG", 0) and not bridged
        types["SG"] = type_number("sulfur, acceptor") if charged else element_type(_SULFUR)
    return {atom: kind for atom, kind in types.items() if atom in hydrogens}


def types_as_shown(
    types: npt.NDArray[np.int64],
    residues: Sequence[Sequence[int]],
    hydrogens: npt.NDArray[np.int64],
    labels: Sequence[tuple[str, str, str, str]],
    elements: npt.NDArray[np.int64],
    places: npt.NDArray[np.float64],
) -> list[str]:
    """Types amino acids by their own hydrogens, in place; names those that this changed.

    Parameters
    ----------
    types: (a,) numbers in ATOM_TYPES.
    residues: of each that shows hydrogens the rows of its atoms.
    hydrogens: (a,) how many each atom has.
    labels: chain, residue, number and atom of each.
    elements: (a,) atomic numbers.
    places: (a, 3) in Å.
    """
    changed = []
    for rows in residues:
        chain, residue, number, _ = labels[rows[0]]
        row_of = {labels[row][3]: row for row in rows}
        counts = {name: int(hydrogens[row]) for name, row in row_of.items()}
        bridged = False
        if residue in _CYSTEINES and "SG" in row_of:
            apart = np.linalg.norm(places - places[row_of["SG"]], axis=1)
            near = set(np.flatnonzero(apart < _BRIDGE).tolist()).difference(rows)
            # On a metal it is charged.
            bridged = any(elements[row] in (_CARBON, _SULFUR) for row in near)
        own = shown_types(residue, counts, bridged)
        if any(types[row_of[name]] != kind for name, kind in own.items()):
            changed.append(f"{residue} {chain} {number}")
        for name, kind in own.items():
            types[row_of[name]] = kind
    return changed
