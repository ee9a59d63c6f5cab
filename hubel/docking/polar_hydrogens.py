"""How many hydrogens the nitrogens, oxygens and sulfurs of a receptor carry, and where.

Structures from X-rays mostly have no hydrogens, but who is a donor follows from them. In the twenty
amino acids the atom's name decides, with the charges at pH 7; anywhere else the geometry of the
heavy atoms does: bond lengths and angles of C, N and O differ with hybridisation and protonation
(Allen et al. 1987, Journal of the Chemical Society, Perkin Transactions 2, S1-S19; for angles at
ring nitrogens, Singh 1965, Acta Crystallographica 19, 861-864).

A hydroxyl's hydrogen stands where bonds do not strain, not where its hydrogen bond would be best:
AutoDock Vina asks only whether an atom has one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["AMINO_ACIDS", "PolarAtom", "count_hydrogens", "place_hydrogens"]

Places = npt.NDArray[np.float64]

AMINO_ACIDS = frozenset(
    "ALA ARG ASN ASP CYS GLN GLU GLY HIS ILE LEU LYS MET PHE PRO SER THR TRP TYR VAL".split()
)

# Of side chains; an N, O or S that is not here has none.
_SIDE_CHAIN_HYDROGENS = {
    ("ARG", "NE"): 1,
    ("ARG", "NH1"): 2,
    ("ARG", "NH2"): 2,
    ("ASN", "ND2"): 2,
    ("CYS", "SG"): 1,
    ("GLN", "NE2"): 2,
    ("HIS", "NE2"): 1,
    ("LYS", "NZ"): 3,
    ("SER", "OG"): 1,
    ("THR", "OG1"): 1,
    ("TRP", "NE1"): 1,
    ("TYR", "OH"): 1,
}
_FLAT = {("ARG", "NH1"), ("ARG", "NH2"), ("ASN", "ND2"), ("GLN", "NE2"), ("TYR", "OH")}

_TETRAHEDRAL, _TRIGONAL = np.radians(109.5), np.radians(120.0)
_LENGTHS = {"N": 1.01, "O": 0.97, "S": 1.34}


@dataclass(frozen=True)
class PolarAtom:
    """An N, O or S and what is around it.

    `neighbours` (k, 3) are the heavy atoms bonded to it, Å, and `elements` their k symbols;
    `seconds` (m, 3) the other atoms bonded to the first neighbour; `ring` is the size of the
    smallest ring through it, 0 for none; `on_metal`: a metal is bonded to it; `his_metal`: to
    atom NE2 of the histidine that it is part of.
    """

    element: str
    name: str
    residue: str
    place: Places
    neighbours: Places
    elements: tuple[str, ...]
    seconds: Places
    ring: int = 0
    on_metal: bool = False
    his_metal: bool = False


def count_hydrogens(atom: PolarAtom) -> tuple[int, bool]:
    """The number of hydrogens, and whether they lie in the plane of their neighbours."""
    if atom.residue in AMINO_ACIDS:
        return _of_amino_acid(atom)
    return _by_geometry(atom)


def _of_amino_acid(atom: PolarAtom) -> tuple[int, bool]:
    bonded = len(atom.neighbours)
    if atom.name == "N":
        # One neighbour: the chain begins here, or what is before was not seen.
        ends = bonded == 1 or (atom.residue == "PRO" and bonded == 2)
        return (4 - bonded, False) if ends else (max(0, 3 - bonded), True)
    key = (atom.residue, atom.name)
    if atom.residue == "HIS" and atom.name in ("ND1", "NE2"):
        # Neutral, with the hydrogen on NE2 unless a metal is there.
        return int((atom.name == "ND1") == atom.his_metal and not atom.on_metal), True
    if atom.residue == "CYS" and (bonded > 1 or atom.on_metal):
        return 0, False
    if key == ("LYS", "NZ") or key == ("SER", "OG") or key == ("THR", "OG1"):
        # A modified end (an imine, a sugar on it) leaves less room.
        return max(0, _SIDE_CHAIN_HYDROGENS[key] + 1 - bonded), False
    return _SIDE_CHAIN_HYDROGENS.get(key, 0), key in _FLAT


def _by_geometry(atom: PolarAtom) -> tuple[int, bool]:
    bonded = len(atom.neighbours)
    if atom.on_metal:
        return 0, False
    if bonded == 0:
        return (2, False) if atom.element == "O" else (3 * (atom.element == "N"), False)
    lengths = np.linalg.norm(atom.neighbours - atom.place, axis=1)
    shortest = float(lengths.min())
    if atom.element == "O":
        # C=O 1.19 to 1.27 (1.25 in a carboxylate), C-OH 1.30 to 1.43; acids of P and S are ions.
        single = atom.elements[0] == "C" and shortest > 1.29
        return (1, False) if bonded == 1 and single else (0, False)
    if atom.element == "S":
        thiol = bonded == 1 and atom.elements == ("C",) and shortest > 1.74
        return int(thiol), False
    if bonded == 1:
        if shortest < 1.22:  # a nitrile
            return 0, False
        return (2, True) if shortest < 1.42 else (3, False)
    if bonded > 2:
        return 0, True
    if atom.ring in (5, 6):
        # A ring's angle at N is wider by 4 to 6 degrees where a hydrogen is.
        first, second = atom.neighbours - atom.place
        cosine = first @ second / (np.linalg.norm(first) * np.linalg.norm(second))
        angle = float(np.degrees(np.arccos(cosine)))
        if shortest > 1.44:  # saturated
            return 1, False
        return (1, True) if angle > (121.0 if atom.ring == 6 else 106.7) else (0, True)
    return (1, True) if shortest > 1.30 else (0, True)


def place_hydrogens(atom: PolarAtom, count: int, flat: bool) -> Places:
    """Where they stand, (count, 3) in Å: away from the neighbours, at usual lengths and angles."""
    if count == 0:
        return np.empty((0, 3))
    length = _LENGTHS[atom.element]
    units = [_unit(v) for v in atom.neighbours - atom.place]
    if len(units) >= 2:
        away = _unit(-np.sum(units, axis=0), otherwise=_across(units[0]))
        if count == 1:
            return (atom.place + length * away)[None]
        side = _unit(np.cross(units[0], units[1]), otherwise=_across(units[0]))
        half = _TETRAHEDRAL / 2
        directions = [np.cos(half) * away + sign * np.sin(half) * side for sign in (1, -1)]
        return atom.place + length * np.array(directions)
    axis = units[0] if units else np.array([0.0, 0.0, 1.0])
    reference = atom.seconds[0] - atom.neighbours[0] if len(atom.seconds) else _across(axis)
    first = _unit(reference - (reference @ axis) * axis, otherwise=_across(axis))
    second = np.cross(axis, first)
    angle = _TRIGONAL if flat else _TETRAHEDRAL
    turns: Sequence[float] = (180.0, 0.0) if flat else (180.0, 60.0, -60.0)
    return atom.place + length * np.array(
        [
            np.cos(angle) * axis + np.sin(angle) * (np.cos(turn) * first + np.sin(turn) * second)
            for turn in np.radians(turns[:count])
        ]
    )


def _unit(vector: Places, otherwise: Places | None = None) -> Places:
    norm = float(np.linalg.norm(vector))
    if norm < 1e-3 and otherwise is not None:
        return otherwise
    return vector / max(norm, 1e-9)


def _across(axis: Places) -> Places:
    """A unit vector at right angles to `axis`."""
    helper = np.eye(3)[int(np.abs(axis).argmin())]
    crossed: Places = np.cross(axis, helper)
    return crossed / np.linalg.norm(crossed)
