"""A receptor for AutoDock Vina: atom types, polar hydrogens, PDBQT.

Vina (Trott and Olson 2010, Journal of Computational Chemistry 31, 455-461) reads of a rigid
receptor where atoms are, their AutoDock types and which of them have a hydrogen; partial charges
it ignores, so they are written as zero. Every residue is typed, whatever it is called, and what was
guessed is told in `PreparedReceptor.notes`.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hubel.docking.polar_hydrogens import AMINO_ACIDS, PolarAtom, count_hydrogens, place_hydrogens
from hubel.errors import UserError, printable
from hubel.molecules.extra import extra

if TYPE_CHECKING:
    import gemmi

__all__ = ["PreparedReceptor", "prepare_receptor"]

_TYPES = {
    **{symbol: symbol for symbol in "C N P F Cl Br I Si Se".split()},
    **{symbol: symbol for symbol in "Mg Mn Zn Ca Fe Cu Na K Hg Co U Cd Ni".split()},
    "O": "OA",
    "S": "SA",
}
"""AutoDock's names of elements. All metals are one kind to Vina."""
_AROMATIC = {
    "PHE": {"CG", "CD1", "CD2", "CE1", "CE2", "CZ"},
    "TYR": {"CG", "CD1", "CD2", "CE1", "CE2", "CZ"},
    "TRP": {"CG", "CD1", "CD2", "CE2", "CE3", "CZ2", "CZ3", "CH2"},
    "HIS": {"CG", "CD2", "CE1"},
}
_WATERS = frozenset({"HOH", "WAT", "DOD", "H2O", "TIP3"})
_BOND_SLACK = 0.4  # Å beyond the sum of covalent radii, as usual for structures without bonds
_METAL_BOND = 2.7
_LISTED = 8


@dataclass(frozen=True)
class PreparedReceptor:
    """Heavy atoms of a receptor and the file that Vina reads.

    `places` (a, 3) are in Å; `elements` are a symbols; `notes` say what was left out or guessed.
    """

    pdbqt: str
    places: npt.NDArray[np.float64]
    elements: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Atom:
    name: str
    element: str
    residue: str
    chain: str
    number: int
    key: int  # of its residue


def prepare_receptor(structure: "gemmi.Structure") -> PreparedReceptor:
    """Types every atom of the first model and adds the polar hydrogens that it lacks.

    Of alternative places the one with the highest occupancy counts. Waters are part of the
    receptor: leave out of `structure` what shall not be. A residue that has hydrogens keeps its
    own, the others get those of neutral histidine and charged Asp, Glu, Lys and Arg.

    Raises
    ------
    UserError: no atoms, or coordinates that PDBQT cannot hold.
    """
    atoms, places, left_out = _read(structure)
    heavy = [i for i, atom in enumerate(atoms) if atom.element != "H"]
    if not heavy:
        raise UserError(
            f"the receptor '{printable(structure.name)}' has no atoms to dock to; give a PDB or "
            f"mmCIF file of a protein"
        )
    if not (np.isfinite(places).all() and -999 < places.min() and places.max() < 9999):
        raise UserError(
            f"the receptor '{printable(structure.name)}' has coordinates from {places.min():g} to "
            f"{places.max():g} Å, and PDBQT holds -999 to 9999; move it to the origin"
        )
    bonds, metals = _bonds(atoms, places)
    own_hydrogens = {atom.key for atom in atoms if atom.element == "H"}
    lines: list[str] = []
    guessed: Counter[str] = Counter()
    untyped: Counter[str] = Counter()
    metal_on_ne2 = {
        atoms[i].key for i in metals if atoms[i].residue == "HIS" and atoms[i].name == "NE2"
    }
    for i in heavy:
        atom = atoms[i]
        hydrogens: Any = places[[j for j in bonds[i] if atoms[j].element == "H"]]
        kind = _TYPES.get(atom.element)
        if kind is None:
            untyped[atom.element] += 1
            kind = "Zn" if extra("gemmi", "a receptor").Element(atom.element).is_metal else "C"
        if atom.element in ("N", "O", "S"):
            polar = _polar_atom(i, atoms, places, bonds, i in metals, atom.key in metal_on_ne2)
            if atom.key not in own_hydrogens:
                hydrogens = place_hydrogens(polar, *count_hydrogens(polar))
                guessed[atom.residue] += atom.residue not in AMINO_ACIDS | _WATERS
            lone_pair = len(polar.neighbours) < 3 and not polar.on_metal
            if atom.element == "N" and len(hydrogens) == 0 and lone_pair:
                kind = "NA"
        elif atom.name in _AROMATIC.get(atom.residue, ()):
            kind = "A"
        lines.append(_line(len(lines) + 1, atom, atom.name, places[i], kind))
        if atom.element in ("N", "O", "S"):
            for place in hydrogens:
                lines.append(_line(len(lines) + 1, atom, "H", place, "HD"))
    return PreparedReceptor(
        pdbqt="\n".join(lines) + "\nTER\n",
        places=places[heavy],
        elements=tuple(atoms[i].element for i in heavy),
        notes=tuple(_notes(left_out, guessed, untyped, atoms, len(own_hydrogens))),
    )


def _read(
    structure: "gemmi.Structure",
) -> tuple[list[_Atom], npt.NDArray[np.float64], Counter[str]]:
    atoms: list[_Atom] = []
    places: list[tuple[float, float, float]] = []
    left_out: Counter[str] = Counter()
    key = -1
    for model in list(structure)[:1]:
        for chain in model:
            for residue in chain:
                key += 1
                best: dict[str, Any] = {}
                for atom in residue:
                    if atom.element.name == "X":
                        left_out["of unknown element"] += 1
                    elif atom.name not in best:
                        best[atom.name] = atom
                    else:
                        left_out["at alternative places"] += 1
                        if atom.occ > best[atom.name].occ:
                            best[atom.name] = atom
                for name, atom in best.items():
                    element = "H" if atom.element.name in ("H", "D") else atom.element.name
                    number = residue.seqid.num or 0
                    atoms.append(_Atom(name, element, residue.name, chain.name, number, key))
                    places.append((atom.pos.x, atom.pos.y, atom.pos.z))
    return atoms, np.array(places, dtype=np.float64).reshape(-1, 3), left_out


def _bonds(atoms: list[_Atom], places: npt.NDArray[np.float64]) -> tuple[list[list[int]], set[int]]:
    """Bonded atoms of each, by distance; and the atoms that a metal is bonded to."""
    from scipy.spatial import cKDTree

    gemmi = extra("gemmi", "a receptor")
    elements = {atom.element: gemmi.Element(atom.element) for atom in atoms}
    radius = np.array([elements[atom.element].covalent_r for atom in atoms])
    is_metal = [elements[atom.element].is_metal for atom in atoms]
    is_hydrogen = [atom.element == "H" for atom in atoms]
    bonds: list[list[int]] = [[] for _ in atoms]
    metals: set[int] = set()
    pairs = cKDTree(places).query_pairs(_METAL_BOND, output_type="ndarray")
    distances = np.linalg.norm(places[pairs[:, 0]] - places[pairs[:, 1]], axis=1)
    close = distances <= radius[pairs].sum(1) + _BOND_SLACK
    for (i, j), distance, bonded in zip(pairs.tolist(), distances, close, strict=True):
        if is_metal[i] or is_metal[j]:
            if is_metal[i] != is_metal[j]:
                metals.add(j if is_metal[i] else i)
        elif is_hydrogen[i] or is_hydrogen[j]:
            # A hydrogen is of its own residue, also where two residues clash.
            if (
                is_hydrogen[i] != is_hydrogen[j]
                and distance < 1.45
                and atoms[i].key == atoms[j].key
            ):
                bonds[i].append(j)
                bonds[j].append(i)
        elif bonded:
            bonds[i].append(j)
            bonds[j].append(i)
    return bonds, metals


def _polar_atom(
    i: int,
    atoms: list[_Atom],
    places: npt.NDArray[np.float64],
    bonds: list[list[int]],
    on_metal: bool,
    his_metal: bool,
) -> PolarAtom:
    def heavy(j: int) -> list[int]:
        return [k for k in bonds[j] if atoms[k].element != "H"]

    near = heavy(i)
    seconds = [k for k in heavy(near[0]) if k != i] if near else []
    return PolarAtom(
        element=atoms[i].element,
        name=atoms[i].name,
        residue=atoms[i].residue,
        place=places[i],
        neighbours=places[near].reshape(-1, 3),
        elements=tuple(atoms[j].element for j in near),
        seconds=places[seconds].reshape(-1, 3),
        ring=_ring(i, near, heavy) if atoms[i].element == "N" and len(near) == 2 else 0,
        on_metal=on_metal,
        his_metal=his_metal,
    )


def _ring(i: int, near: list[int], bonded: Any) -> int:
    """The size of the smallest ring of at most six atoms through `i`, 0 for none."""
    seen, front = {i, near[0]}, [near[0]]
    for size in range(3, 7):
        front = [k for j in front for k in bonded(j) if k not in seen]
        if near[1] in front:
            return size
        seen.update(front)
    return 0


def _line(serial: int, atom: _Atom, name: str, place: npt.NDArray[np.float64], kind: str) -> str:
    x, y, z = place
    shown = f" {name:<3s}" if len(name) < 4 else name[:4]
    return (
        f"ATOM  {serial % 100_000:5d} {shown} {atom.residue[:3]:>3s} {atom.chain[:1]:1s}"
        f"{atom.number % 10_000:4d}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00     0.000 {kind:<2s}"
    )


def _notes(
    left_out: Counter[str],
    guessed: Counter[str],
    untyped: Counter[str],
    atoms: Iterable[_Atom],
    with_hydrogens: int,
) -> Iterable[str]:
    for what, count in left_out.items():
        yield f"{count} atoms {what} were left out"
    if with_hydrogens:
        residues = len({atom.key for atom in atoms})
        yield f"{with_hydrogens} of {residues} residues keep the hydrogens of the file"
    waters = len({atom.key for atom in atoms if atom.residue in _WATERS})
    if waters:
        yield f"{waters} waters are part of the receptor"
    names = [name for name, count in guessed.items() if count]
    if names:
        more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        yield (
            "hydrogens by geometry, not by name, in: "
            + ", ".join(printable(name) for name in names[:_LISTED])
            + more
        )
    for element, count in untyped.items():
        metal = extra("gemmi", "a receptor").Element(element).is_metal
        yield (
            f"{count} {element}, which Vina has no type for, "
            f"{'is' if count == 1 else 'are'} taken as {'a metal' if metal else 'carbon'}"
        )
