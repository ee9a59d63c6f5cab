"""The types of atoms of which a file says no bonds: cofactors, modified residues, nucleic acids.

Bonds, rings and hydrogens are told by distances and angles, as crystallographers read them: a
flat ring of five or six with no single bond's length in it is aromatic; an oxygen farther than
1.32 Å from its carbon is a hydroxyl's; a lactam's nitrogen carries hydrogen where the angle at it
is wide (Singh 1965, Acta Crystallographica 19, pp. 861-864). Acids are typed as neutral ones, as
Open Babel does, whose types the published networks were trained with: of a carboxylate's oxygens
the farther is a hydroxyl, of a phosphate's all but the nearest are.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from hubel.molecules.atom_types import element_type, hydrogen_bonds, type_number

__all__ = ["geometry_types"]

Places = npt.NDArray[np.floating[Any]]

# Å: the covalent radii of Cordero et al. 2008 (Dalton Transactions, pp. 2832-2838); what has none
# here, a metal before all, is bonded to nothing.
_RADII = {
    1: 0.31, 5: 0.84, 6: 0.76, 7: 0.71, 8: 0.66, 9: 0.57, 14: 1.11, 15: 1.07, 16: 1.05,
    17: 1.02, 33: 1.19, 34: 1.20, 35: 1.20, 53: 1.39,
}  # fmt: skip
_SLACK = 0.3  # Å beyond the sum of the radii
_FLAT = 0.1  # Å from the plane of a ring
_AROMATIC_BOND = 1.49  # Å at most between two atoms of an aromatic ring, C, N and O
_AROMATIC_SULFUR = 1.78
_HYDROXYL = 1.32  # Å from carbon at least, 1.36 is a phenol's
_IMINE = 1.31  # Å from carbon at most
_NITRILE = 1.22
_LACTAM = 121.0  # degrees at the nitrogen of a ring of six with hydrogen, at least
_PLANAR_SUM = 350.0  # degrees, of the three angles
_COORDINATED = 2.7  # Å from a metal


def geometry_types(
    elements: npt.NDArray[np.int64],
    places: Places,
    wanted: npt.NDArray[np.int64],
    donors: Mapping[int, bool],
) -> npt.NDArray[np.int64]:
    """(w,): the types of the heavy atoms `wanted`, indices into all heavy atoms.

    elements: (a,) atomic numbers. places: (a, 3) in Å. donors: for those atoms of which the file
    shows whether they have hydrogens, that.
    """
    seen = _Surroundings(elements, places, wanted)
    types = []
    for atom in map(int, wanted):
        element = int(elements[atom])
        if element == 6:
            ring = "aromatic" if atom in seen.ring_of else "aliphatic"
            polar = any(elements[other] != 6 for other in seen.bonded[atom])
            types.append(type_number(f"{ring} carbon, {'polar' if polar else 'hydrophobic'}"))
        elif element in (7, 8):
            if element == 7:
                donor, acceptor = _nitrogen(seen, atom)
            else:
                donor, acceptor = _hydroxyl(seen, atom), True
            donor = donors.get(atom, donor)
            name = "nitrogen" if element == 7 else "oxygen"
            types.append(type_number(hydrogen_bonds(name, donor, acceptor)))
        else:
            types.append(element_type(element))
    return np.array(types, np.int64)


class _Surroundings:
    """Who is bonded to whom, and which atoms lie in aromatic rings."""

    def __init__(
        self, elements: npt.NDArray[np.int64], places: Places, wanted: npt.NDArray[np.int64]
    ) -> None:
        from sklearn.neighbors import KDTree

        self.elements = elements
        self.places = np.asarray(places, np.float64)
        self.radii = np.array([_RADII.get(int(element), -np.inf) for element in elements])
        self.tree = KDTree(self.places)
        self.bonded: dict[int, list[int]] = {int(atom): self._bonded(int(atom)) for atom in wanted}
        self.ring_of: dict[int, list[int]] = {}
        """For each atom of an aromatic ring the ring, of several the smallest."""
        for ring in sorted(self._rings(), key=len):
            if self._is_aromatic(ring):
                for atom in ring:
                    self.ring_of.setdefault(atom, ring)

    def near(self, atom: int, distance: float) -> list[int]:
        (found,) = self.tree.query_radius(self.places[[atom]], distance)
        return sorted(int(other) for other in found if other != atom)

    def neighbours(self, atom: int) -> list[int]:
        if atom not in self.bonded:
            self.bonded[atom] = self._bonded(atom)
        return self.bonded[atom]

    def apart(self, a: int, b: int) -> float:
        return float(np.linalg.norm(self.places[a] - self.places[b]))

    def angle(self, atom: int, a: int, b: int) -> float:
        """Degrees at the atom."""
        u, v = self.places[a] - self.places[atom], self.places[b] - self.places[atom]
        cosine = u @ v / np.linalg.norm(u) / np.linalg.norm(v)
        return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))

    def is_planar(self, atom: int) -> bool:
        """Whether an atom lies in the plane of its three neighbours, or has fewer and may."""
        bonded = self.neighbours(atom)
        if len(bonded) != 3:
            return len(bonded) < 3 and atom in self.ring_of
        a, b, c = bonded
        total = self.angle(atom, a, b) + self.angle(atom, b, c) + self.angle(atom, a, c)
        return total > _PLANAR_SUM

    def beside_metal(self, atom: int) -> bool:
        return any(np.isinf(self.radii[other]) for other in self.near(atom, _COORDINATED))

    def _bonded(self, atom: int) -> list[int]:
        if np.isinf(self.radii[atom]):
            return []
        reach = self.radii[atom] + _SLACK
        return [
            other
            for other in self.near(atom, reach + max(_RADII.values()))
            if 0.5 < self.apart(atom, other) <= reach + self.radii[other]
        ]

    def _rings(self) -> list[list[int]]:
        from rdkit import Chem

        atoms = sorted(self.bonded)
        row = {atom: number for number, atom in enumerate(atoms)}
        mol = Chem.RWMol()
        for atom in atoms:
            mol.AddAtom(Chem.Atom(int(self.elements[atom])))
        for atom in atoms:
            for other in self.bonded[atom]:
                if other in row and atom < other:
                    mol.AddBond(row[atom], row[other], Chem.BondType.SINGLE)
        return [[atoms[number] for number in ring] for ring in Chem.GetSSSR(mol)]

    def _is_aromatic(self, ring: list[int]) -> bool:
        if len(ring) not in (5, 6) or any(len(self.bonded[atom]) > 3 for atom in ring):
            return False
        if any(self.elements[atom] not in (6, 7, 8, 16) for atom in ring):
            return False
        for atom, following in zip(ring, [*ring[1:], ring[0]], strict=True):
            sulfur = 16 in (self.elements[atom], self.elements[following])
            if self.apart(atom, following) > (_AROMATIC_SULFUR if sulfur else _AROMATIC_BOND):
                return False
        inside = self.places[ring] - self.places[ring].mean(axis=0)
        normal = np.linalg.svd(inside)[2][-1]
        return bool(np.abs(inside @ normal).max() < _FLAT)


def _hydroxyl(seen: _Surroundings, oxygen: int) -> bool:
    """Whether an oxygen carries hydrogen."""
    bonded = seen.bonded[oxygen]
    if len(bonded) != 1:
        return not bonded and not seen.beside_metal(oxygen)
    (centre,) = bonded
    element = int(seen.elements[centre])
    ends = [
        other
        for other in seen.neighbours(centre)
        if seen.elements[other] == 8 and len(seen.neighbours(other)) == 1
    ]
    # The nearest first; of equals the one that the file names first is the doubly bonded one.
    ends.sort(key=lambda other: (round(seen.apart(centre, other), 2), other))
    rank = ends.index(oxygen)
    if element == 6:
        return rank > 0 if len(ends) == 2 else seen.apart(oxygen, centre) > _HYDROXYL
    if element == 7:
        return len(ends) == 1 and seen.apart(oxygen, centre) > _HYDROXYL
    double_bonds = {15: 1, 16: 2, 33: 1, 34: 2}.get(element, 0)
    return rank >= double_bonds


def _nitrogen(seen: _Surroundings, nitrogen: int) -> tuple[bool, bool]:
    """Whether it carries hydrogen, and whether it accepts."""
    bonded = seen.bonded[nitrogen]
    if not bonded or len(bonded) > 3:
        return not bonded, not bonded
    if len(bonded) == 3:
        return False, not seen.is_planar(nitrogen)
    if nitrogen in seen.ring_of:
        donor = _ring_nitrogen(seen, nitrogen)
        return donor, not donor
    nearest = min(seen.apart(nitrogen, other) for other in bonded)
    donor = nearest > (_NITRILE if len(bonded) == 1 else _IMINE)
    donor = donor and not (len(bonded) == 2 and seen.beside_metal(nitrogen))
    conjugated = any(seen.elements[other] == 6 and seen.is_planar(other) for other in bonded)
    return donor, not (donor and conjugated)


def _ring_nitrogen(seen: _Surroundings, nitrogen: int) -> bool:
    """Whether one with two neighbours in an aromatic ring carries hydrogen."""
    if seen.beside_metal(nitrogen):
        return False
    ring, bonded = seen.ring_of[nitrogen], seen.bonded[nitrogen]
    if len(ring) == 6:  # a lactam's, as in uracil and guanine
        return seen.angle(nitrogen, *bonded) > _LACTAM and any(
            seen.elements[end] == 8 and len(seen.neighbours(end)) == 1
            for carbon in bonded
            for end in seen.neighbours(carbon)
        )
    # A ring of five has one atom that gives two electrons: another one, or this with its hydrogen.
    others = [atom for atom in ring if atom != nitrogen and seen.elements[atom] != 6]
    if any(seen.elements[atom] != 7 or len(seen.neighbours(atom)) == 3 for atom in others):
        return False
    width = seen.angle(nitrogen, *bonded)
    return all(width >= seen.angle(other, *seen.neighbours(other)) for other in others)
