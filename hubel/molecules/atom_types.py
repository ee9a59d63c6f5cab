"""The smina type of each atom of a molecule that rdkit knows.

The rules are those of libmolgrid's GninaIndexTyper (Sunseri and Koes 2020, Journal of Chemical
Information and Modeling 60, pp. 1079-1084; smina: Koes, Baumgartner and Camacho 2013, the same 53,
pp. 1893-1904), with the acceptors that Open Babel names:

- carbon: aromatic or aliphatic, and polar where a neighbour is neither carbon nor hydrogen;
- nitrogen: a donor where it is bonded to hydrogen; an acceptor unless it has four neighbours, or
  three and lies flat with them: aromatic, with a double bond, or beside an aromatic ring or beside
  a carbon, nitrogen or oxygen that has a multiple bond (so aniline's and amides' accept nothing,
  sulfonamides' do);
- oxygen: always an acceptor, a donor where it is bonded to hydrogen;
- sulfur: an acceptor where it is charged -1; selenium is typed as sulfur;
- halogens, phosphorus, boron and five metals have types of their own, all else is "other metal",
  the generic type.

All hydrogens must be explicit atoms.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from hubel.molecules.channels import ATOM_TYPES

__all__ = ["atom_types", "element_type", "hydrogen_bonds", "type_number", "unknown_elements"]

_NUMBERS = {kind.name: number for number, kind in enumerate(ATOM_TYPES)}
_OTHER = _NUMBERS["other metal"]
_NUMBER_OF_ELEMENT = {
    atomic_number: _NUMBERS[name]
    for atomic_number, name in (
        (1, "hydrogen"), (5, "boron"), (6, "aliphatic carbon, hydrophobic"), (7, "nitrogen"),
        (8, "oxygen, acceptor"), (9, "fluorine"), (12, "magnesium"), (15, "phosphorus"),
        (16, "sulfur"), (17, "chlorine"), (20, "calcium"), (25, "manganese"), (26, "iron"),
        (30, "zinc"), (34, "sulfur"), (35, "bromine"), (53, "iodine"),
    )
}  # fmt: skip
# Elements up to bismuth that are no metals and have no type: noble gases, silicon and its kin.
_NO_METALS = {0, 2, 10, 14, 18, 32, 33, 36, 51, 52, 54}
_LAST_METAL = 83
_POLAR = {7, 8, 9, 15, 16}  # elements whose hydrogens are polar


def type_number(name: str) -> int:
    """Where the type of this name stands in ATOM_TYPES; KeyError for none."""
    return _NUMBERS[name]


def element_type(atomic_number: int) -> int:
    """The type of a lone atom of the element; that of carbon, nitrogen, oxygen and sulfur depends
    on its neighbours.
    """
    return _NUMBER_OF_ELEMENT.get(atomic_number, _OTHER)


def unknown_elements(atomic_numbers: Iterable[int]) -> Counter[int]:
    """How often each element stands here that has no type and is no metal: it is typed as
    "other metal", the generic type, which says little of it.
    """
    return Counter(
        number
        for number in map(int, atomic_numbers)
        if number not in _NUMBER_OF_ELEMENT and (number in _NO_METALS or number > _LAST_METAL)
    )


def atom_types(mol: Any) -> npt.NDArray[np.int64]:
    """(n,): for each atom of a sanitised rdkit Mol with explicit hydrogens its number in
    ATOM_TYPES.
    """
    return np.array([_type(atom) for atom in mol.GetAtoms()], np.int64)


def _type(atom: Any) -> int:
    element = atom.GetAtomicNum()
    if element > 16 and element != 34:
        return element_type(element)
    neighbours = [neighbour.GetAtomicNum() for neighbour in atom.GetNeighbors()]
    donor = 1 in neighbours
    name = None
    if element == 1:
        name = "polar hydrogen" if _POLAR.intersection(neighbours) else "hydrogen"
    elif element == 6:
        ring = "aromatic" if atom.GetIsAromatic() else "aliphatic"
        polar = any(neighbour not in (1, 6) for neighbour in neighbours)
        name = f"{ring} carbon, {'polar' if polar else 'hydrophobic'}"
    elif element == 7:
        name = hydrogen_bonds("nitrogen", donor, _nitrogen_accepts(atom))
    elif element == 8:
        name = hydrogen_bonds("oxygen", donor, True)
    elif element == 16 and atom.GetFormalCharge() == -1:
        name = "sulfur, acceptor"
    return _NUMBERS[name] if name else element_type(element)


def hydrogen_bonds(element: str, donor: bool, acceptor: bool) -> str:
    """The name of the type of a nitrogen or an oxygen."""
    roles = [role for role, has in (("donor", donor), ("acceptor", acceptor)) if has]
    return ", ".join([element, *([" and ".join(roles)] if roles else [])])


def _nitrogen_accepts(atom: Any) -> bool:
    degree = atom.GetDegree()
    return degree < 3 or (degree == 3 and not _flat(atom))


def _flat(atom: Any) -> bool:
    """Whether a nitrogen is sp2 in Open Babel's eyes."""
    if atom.GetIsAromatic() or any(_multiple(bond) for bond in atom.GetBonds()):
        return True
    for neighbour in atom.GetNeighbors():
        if neighbour.GetIsAromatic():
            return True
        if neighbour.GetAtomicNum() in (6, 7, 8) and any(
            _multiple(bond) for bond in neighbour.GetBonds()
        ):
            return True
    return False


def _multiple(bond: Any) -> bool:
    return bool(bond.GetBondTypeAsDouble() > 1)
