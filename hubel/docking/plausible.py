"""Is a pose physically possible? Checks in the spirit of PoseBusters.

Buttenschoen, Morris and Deane (2024), Chemical Science 15, 3130-3139, with its limits; written
here because ours take milliseconds a pose where the package takes tenths of a second, and pandas.
tests/test_docking_plausible.py compares the verdicts with the package's. Of its checks those that a
docking of a sound molecule cannot fail (formula, chirality, the strain energy of 50 conformers) are
left out.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hubel.docking.receptor import PreparedReceptor
from hubel.errors import UserError
from hubel.molecules.extra import extra

if TYPE_CHECKING:
    from rdkit.Chem import Mol

__all__ = ["Check", "Plausibility", "check_poses"]

Places = npt.NDArray[np.float64]

_OFF_BOUNDS = 0.25  # bonds and angles: of the distance bound
_INTERNAL_CLASH = 0.30
_OFF_PLANE = 0.25  # Å
_CLASH = 0.75  # of the sum of van der Waals radii; of covalent radii for metals
_AWAY = 5.0  # Å
_OVERLAP = 0.075  # of the ligand's volume
_SHRUNK = 0.8  # van der Waals radii in the volumes
_STEP = 0.4  # Å between the points that volumes are counted on


@dataclass(frozen=True)
class Check:
    """One check: `value` is the worst figure found, `limit` what it may be at most (`most`) or at
    least, `passed` the verdict. A check with nothing to look at passes with a value of nan."""

    name: str
    value: float
    limit: float
    most: bool = True

    @property
    def passed(self) -> bool:
        return not (self.value > self.limit if self.most else self.value < self.limit)


@dataclass(frozen=True)
class Plausibility:
    """The checks of one pose."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def failed(self) -> tuple[str, ...]:
        """The names of the checks that failed."""
        return tuple(check.name for check in self.checks if not check.passed)


def check_poses(poses: "Mol", receptor: PreparedReceptor) -> tuple[Plausibility, ...]:
    """The checks of each conformer of `poses`, a sanitised molecule with its hydrogens.

    Names and figures: `bond_lengths`, `bond_angles` (how far beyond the bounds of distance
    geometry, as a share), `internal_clash` (shortest distance as a share of its bound),
    `rings_flat`, `double_bonds_flat` (Å out of the plane), `clash` and `clash_with_metal` (shortest
    distance as a share of the sum of radii), `near_receptor` (Å), `volume_overlap` (share of the
    ligand's volume).

    Raises
    ------
    UserError: no conformers, or a molecule that rdkit has no distance bounds for.
    """
    if not poses.GetNumConformers():
        raise UserError("the poses have no coordinates")
    within = _Bounds(poses)
    rings, double_bonds = _rings(poses), _double_bonds(poses)
    around = _Surroundings(poses, receptor)
    found = []
    for conformer in poses.GetConformers():
        places = conformer.GetPositions()
        found.append(
            Plausibility(
                (
                    *within.checks(places),
                    Check("rings_flat", _out_of_plane(places, rings), _OFF_PLANE),
                    Check("double_bonds_flat", _out_of_plane(places, double_bonds), _OFF_PLANE),
                    *around.checks(places),
                )
            )
        )
    return tuple(found)


class _Bounds:
    """Bounds of the distances between heavy atoms, sorted into bonds, angles and the rest."""

    def __init__(self, molecule: "Mol") -> None:
        geometry = extra("rdkit.Chem.rdDistGeom", "checking poses")
        try:
            bounds = geometry.GetMoleculeBoundsMatrix(
                molecule, set15bounds=True, scaleVDW=True, doTriangleSmoothing=True
            )
        except RuntimeError as error:
            raise UserError(f"rdkit has no bounds for this ligand's geometry: {error}") from error
        heavy = [a.GetIdx() for a in molecule.GetAtoms() if a.GetAtomicNum() > 1]
        i, j = np.triu_indices(len(heavy), 1)
        self.first, self.second = np.array(heavy, dtype=int)[i], np.array(heavy, dtype=int)[j]
        # rdkit keeps the upper bound above the diagonal and the lower below.
        lower, upper = bounds[self.second, self.first], bounds[self.first, self.second]
        steps = extra("rdkit.Chem", "checking poses").GetDistanceMatrix(molecule)
        between = steps[self.first, self.second]
        self.bond, self.angle, self.rest = between == 1, between == 2, between > 2
        _even_out(molecule, self.first, self.second, lower, upper)
        self.lower, self.upper = lower, upper

    def checks(self, places: Places) -> tuple[Check, ...]:
        distance = np.linalg.norm(places[self.first] - places[self.second], axis=1)
        below, above = 1 - distance / self.lower, distance / self.upper - 1
        off = np.maximum(0, np.maximum(below, above))
        return (
            Check("bond_lengths", _worst(off[self.bond]), _OFF_BOUNDS),
            Check("bond_angles", _worst(off[self.angle]), _OFF_BOUNDS),
            Check("internal_clash", 1 - _worst(below[self.rest]), 1 - _INTERNAL_CLASH, most=False),
        )


def _even_out(molecule: "Mol", first: Any, second: Any, lower: Places, upper: Places) -> None:
    """In a carboxylate and the like either bond may be the double one: bounds that hold both."""
    pattern = extra("rdkit.Chem", "checking poses").MolFromSmarts(
        "[O,N;D1]~[*;$(*-[O,N;D1]);$(*=[O,N;D1])]"
    )
    ends = {tuple(sorted(match)) for match in molecule.GetSubstructMatches(pattern)}
    pairs = list(zip(first.tolist(), second.tolist(), strict=True))
    alike: dict[tuple[str, ...], list[int]] = {}
    for number, pair in enumerate(pairs):
        if pair in ends:
            symbols = tuple(sorted(molecule.GetAtomWithIdx(i).GetSymbol() for i in pair))
            alike.setdefault(symbols, []).append(number)
    for numbers in alike.values():
        lower[numbers], upper[numbers] = lower[numbers].min(), upper[numbers].max()


def _rings(molecule: "Mol") -> list[list[int]]:
    return [
        list(ring)
        for ring in molecule.GetRingInfo().AtomRings()
        if len(ring) in (5, 6) and all(molecule.GetAtomWithIdx(i).GetIsAromatic() for i in ring)
    ]


def _double_bonds(molecule: "Mol") -> list[list[int]]:
    """The two carbons of each double bond outside aromatic rings, and their four neighbours."""
    found = []
    for bond in molecule.GetBonds():
        ends = (bond.GetBeginAtom(), bond.GetEndAtom())
        if str(bond.GetBondType()) == "DOUBLE" and all(
            a.GetAtomicNum() == 6 and a.GetDegree() == 3 and not a.GetIsAromatic() for a in ends
        ):
            found.append(sorted({n.GetIdx() for a in ends for n in a.GetNeighbors()}))
    return found


def _out_of_plane(places: Places, groups: list[list[int]]) -> float:
    """Å of the atom farthest from its group's plane of least squares."""
    worst = [0.0] if groups else []
    for group in groups:
        centred = places[group] - places[group].mean(0)
        normal = np.linalg.svd(centred)[2][2]
        worst.append(float(np.abs(centred @ normal).max()))
    return max(worst, default=float("nan"))


class _Surroundings:
    """The receptor's atoms, with radii as the checks need them."""

    def __init__(self, molecule: "Mol", receptor: PreparedReceptor) -> None:
        from scipy.spatial import cKDTree

        table = extra("rdkit.Chem", "checking poses").GetPeriodicTable()
        gemmi = extra("gemmi", "checking poses")
        kinds = {e: gemmi.Element(e).is_metal for e in set(receptor.elements)}
        metal = np.array([kinds[e] for e in receptor.elements])
        self.heavy = [a.GetIdx() for a in molecule.GetAtoms() if a.GetAtomicNum() > 1]
        symbols = [molecule.GetAtomWithIdx(i).GetSymbol() for i in self.heavy]
        self.vdw = np.array([table.GetRvdw(s) for s in symbols])
        self.covalent = np.array([table.GetRcovalent(s) for s in symbols])
        self.places = receptor.places
        self.metal = metal
        self.radii = np.array([table.GetRvdw(e) for e in receptor.elements])
        self.metal_radii = np.array([table.GetRcovalent(e) for e in receptor.elements])
        self.tree = cKDTree(receptor.places)

    def checks(self, pose: Places) -> tuple[Check, ...]:
        places = pose[self.heavy]
        nearest = float(self.tree.query(places)[0].min())
        near = np.unique(np.concatenate(self.tree.query_ball_point(places, 6.0))).astype(int)
        distances = np.linalg.norm(places[:, None] - self.places[near][None], axis=-1)
        metal = self.metal[near]
        sums = self.vdw[:, None] + self.radii[near][None]
        metal_sums = self.covalent[:, None] + self.metal_radii[near][None]
        return (
            Check("clash", _least((distances / sums)[:, ~metal]), _CLASH, most=False),
            Check(
                "clash_with_metal", _least((distances / metal_sums)[:, metal]), _CLASH, most=False
            ),
            Check("near_receptor", nearest, _AWAY),
            Check("volume_overlap", self._overlap(places, near[~metal]), _OVERLAP),
        )

    def _overlap(self, places: Places, near: npt.NDArray[np.int64]) -> float:
        """The share of the ligand's volume that the receptor has too, on a grid of points."""
        radii = _SHRUNK * self.vdw
        low, high = (places - radii[:, None]).min(0), (places + radii[:, None]).max(0)
        axes = [np.arange(a, b + _STEP, _STEP) for a, b in zip(low, high, strict=True)]
        points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
        points = points[_covered(points, places, radii)]
        both = _covered(points, self.places[near], _SHRUNK * self.radii[near])
        return float(both.mean()) if len(points) else 0.0


def _covered(points: Places, places: Places, radii: Places) -> npt.NDArray[np.bool_]:
    """Which points (n, 3) are inside of any sphere."""
    covered = np.zeros(len(points), dtype=np.bool_)
    for place, radius in zip(places, radii, strict=True):
        covered |= ((points - place) ** 2).sum(1) <= radius**2
    return covered


def _worst(values: Places) -> float:
    return float(values.max()) if values.size else float("nan")


def _least(values: Places) -> float:
    return float(values.min()) if values.size else float("nan")
