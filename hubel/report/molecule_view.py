"""Molecules as the data of a page's 3-D view: what is drawn, where, and in which colour.

The drawing itself is templates/molecule_view.js, some 200 lines on a plain canvas: see
docs/decisions.md for why no library draws it. Places are Å throughout.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "RAMP",
    "Molecule",
    "backbone",
    "bonds_by_distance",
    "check_contributions",
    "contribution_limit",
    "first_look",
    "near",
    "packed",
    "packed_contributions",
    "ramp_index",
]

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.intp]

# Covalent radii in Å (Cordero et al. 2008, doi:10.1039/b801115j, Table 2). Metals are left out:
# what holds them is no bond to be drawn.
_RADII = {
    "H": 0.31, "B": 0.84, "C": 0.76, "N": 0.71, "O": 0.66, "F": 0.57, "Si": 1.11, "P": 1.07,
    "S": 1.05, "Cl": 1.02, "Se": 1.20, "Br": 1.20, "I": 1.39,
}  # fmt: skip
_SLACK = 0.45  # Å by which a bond may be longer than its radii say (the usual allowance)

# Two Cα further apart than this do not follow each other in a chain; 3.8 Å is the rule.
_MAX_STEP = 4.3

_AGAINST, _NEUTRAL, _FOR = (192, 42, 42), (247, 247, 247), (34, 92, 200)
_STEPS = 32  # on each side of zero


@dataclass(frozen=True, eq=False)
class Molecule:
    """Atoms and bonds to be drawn: a pose, or a protein.

    Attributes
    ----------
    elements: the symbol of each of n atoms ("C", "Cl").
    places: (n, 3) in Å.
    bonds: (first atom, second atom, order), counted from 0; an order of 1.5 is aromatic. None
        takes atoms as bonded that are near enough (`bonds_by_distance`).
    residues: the label of each atom's residue ("LYS 33 A"); None for a ligand.
    names: the name of each atom within its residue ("CA"); without them no backbone is drawn.
    contributions: (n,), what each atom adds to the score; None where that was not asked for.

    Raises `ValueError` if lengths differ, a bond names no atom, or a number is not finite.
    """

    elements: Sequence[str]
    places: Floats
    bonds: Sequence[tuple[int, int, float]] | None = None
    residues: Sequence[str] | None = None
    names: Sequence[str] | None = None
    contributions: Floats | None = None

    def __post_init__(self) -> None:
        n = len(self.elements)
        if np.shape(self.places) != (n, 3):
            raise ValueError(f"places must be ({n}, 3). Got {np.shape(self.places)} instead.")
        if not np.isfinite(self.places).all():
            raise ValueError("places must be finite numbers.")
        for field, values in (("residues", self.residues), ("names", self.names)):
            if values is not None and len(values) != n:
                raise ValueError(f"{field} must be {n}, one an atom. Got {len(values)} instead.")
        if self.contributions is not None:
            check_contributions(self.contributions, n)
        for i, j, _ in self.bonds or ():
            if not (0 <= i < n and 0 <= j < n and i != j):
                raise ValueError(f"a bond must join two of {n} atoms. Got {i} and {j} instead.")


def check_contributions(values: Floats, n: int) -> None:
    """Raises `ValueError` unless there are n finite numbers."""
    if np.shape(values) != (n,) or not np.isfinite(values).all():
        raise ValueError(f"contributions must be {n} finite numbers, one an atom.")


def bonds_by_distance(elements: Sequence[str], places: Floats) -> list[tuple[int, int, float]]:
    """Bonds of order 1 between atoms that are no further apart than their covalent radii say,
    and 0.45 Å more; metals have none.
    """
    radii = np.array([_RADII.get(e, -np.inf) for e in elements])
    bonds: list[tuple[int, int, float]] = []
    for i in range(len(elements)):
        rest = places[i + 1 :] - places[i]
        close = (rest**2).sum(axis=1) < np.maximum(radii[i] + radii[i + 1 :] + _SLACK, 0.0) ** 2
        bonds += [(i, int(j), 1.0) for j in np.flatnonzero(close) + i + 1]
    return bonds


def near(molecule: Molecule, places: Floats, distance: float) -> Ints:
    """Indices of the atoms of all residues that have an atom within `distance` Å of `places`
    (m, 3), in ascending order; where there are no residues, of the atoms themselves.
    """
    found = np.zeros(len(molecule.elements), dtype=bool)
    low, high = places.min(axis=0) - distance, places.max(axis=0) + distance
    around = np.flatnonzero(((molecule.places >= low) & (molecule.places <= high)).all(axis=1))
    gaps = molecule.places[around, None, :] - places[None, :, :]  # (atoms around, m, 3)
    found[around] = ((gaps**2).sum(axis=-1) <= distance**2).any(axis=1)
    if molecule.residues is not None:
        labels = {molecule.residues[i] for i in np.flatnonzero(found).tolist()}
        found = np.array([label in labels for label in molecule.residues], dtype=bool)
    return np.flatnonzero(found)


def backbone(molecule: Molecule, atoms: Ints) -> list[Floats]:
    """The Cα of `atoms` as pieces of chain, each (length, 3) with at least two of them."""
    if molecule.names is None:
        return []
    pieces: list[list[Floats]] = [[]]
    for i in atoms:
        if molecule.names[i] != "CA" or molecule.elements[i] != "C":
            continue
        place = molecule.places[i]
        if pieces[-1] and np.linalg.norm(place - pieces[-1][-1]) > _MAX_STEP:
            pieces.append([])
        pieces[-1].append(place)
    return [np.array(piece) for piece in pieces if len(piece) > 1]


def contribution_limit(*contributions: Floats | None) -> float | None:
    """The largest contribution, whatever its sign: where the colours end. None without any."""
    known = [np.abs(c).max(initial=0.0) for c in contributions if c is not None]
    return float(max(known)) if known else None


def ramp_index(value: float, limit: float) -> int:
    """The place in `RAMP` of a contribution: its middle is zero, its ends are ±`limit`."""
    share = 0.0 if limit == 0 else max(-1.0, min(1.0, value / limit))
    return round(_STEPS * (1 + share))


def _ramp() -> tuple[str, ...]:
    colours = []
    for step in range(-_STEPS, _STEPS + 1):
        # The root makes small contributions visible; the legend is drawn from the same colours.
        share, end = (abs(step) / _STEPS) ** 0.7, (_FOR if step > 0 else _AGAINST)
        mixed = (round(a + share * (b - a)) for a, b in zip(_NEUTRAL, end, strict=True))
        colours.append("#" + "".join(f"{c:02x}" for c in mixed))
    return tuple(colours)


RAMP = _ramp()
"""Red (against the pose) over white (nothing) to blue (for it), as CSS colours."""


def packed(molecule: Molecule, limit: float | None = None, atoms: Ints | None = None) -> Any:
    """A molecule as the view reads it: JSON of elements `e`, places `x` (x, y, z of each atom in
    turn), bonds `b` (first, second, order of each in turn), and where known the residues `r`
    with the number of each atom's `n` and the atoms' names `a`. Contributions are added where
    there are any and `limit` is given. `atoms`: only these, bonds between them with them.
    """
    kept = np.arange(len(molecule.elements)) if atoms is None else atoms
    elements = [molecule.elements[i] for i in kept]
    places = molecule.places[kept]
    if molecule.bonds is None:
        bonds = bonds_by_distance(elements, places)
    else:
        new = {int(old): i for i, old in enumerate(kept)}
        bonds = [(new[i], new[j], o) for i, j, o in molecule.bonds if i in new and j in new]
    data: dict[str, Any] = {
        "e": elements,
        "x": [round(float(v), 2) for v in places.ravel()],
        "b": [int(v) if v == int(v) else float(v) for bond in bonds for v in bond],
    }
    if molecule.residues is not None:
        labels = [molecule.residues[i] for i in kept]
        numbers = {label: i for i, label in enumerate(dict.fromkeys(labels))}
        data |= {"r": list(numbers), "n": [numbers[label] for label in labels]}
    if molecule.names is not None:
        data["a"] = [molecule.names[i] for i in kept]
    if molecule.contributions is not None and limit is not None:
        data |= packed_contributions(molecule.contributions[kept], limit)
    return data


def packed_contributions(values: Floats, limit: float) -> dict[str, Any]:
    """The contributions `c` of atoms and the places of their colours in `RAMP`, `k`."""
    return {
        "c": [float(f"{v:.3g}") for v in values],
        "k": [ramp_index(float(v), limit) for v in values],
    }


def first_look(places: Floats, around: Floats) -> dict[str, Any]:
    """From where a molecule is seen first: its longest axis across, its flattest side to the
    reader, and most of `around` (m, 3) behind it.

    Returns the centre, the axes of the screen (right, up, towards the reader) as rows, and how
    many Å there must be to the edge.
    """
    centre = places.mean(axis=0)
    _, _, axes = np.linalg.svd(places - centre)  # (3, 3), the longest first
    if len(around) and ((around - centre).mean(axis=0) @ axes[2]) > 0:
        axes[2] *= -1
    axes[1] = np.cross(axes[2], axes[0])  # right-handed: no mirror image is ever shown
    size = float(np.linalg.norm(places - centre, axis=1).max())
    return {
        "centre": [round(float(v), 2) for v in centre],
        "axes": [[round(float(v), 4) for v in axis] for axis in axes],
        "reach": round(max(size + 3.0, 7.0), 1),
    }
