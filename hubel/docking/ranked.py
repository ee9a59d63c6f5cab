"""A ligand's ranked poses: what is kept of them on disk."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hubel.errors import UserError
from hubel.molecules.extra import extra
from hubel.runs import write_atomic

if TYPE_CHECKING:
    from rdkit.Chem import Mol

__all__ = ["CheckFacts", "RankedLigand", "RankedPose", "read_ranked", "write_ranked"]


@dataclass(frozen=True)
class CheckFacts:
    """One check of a pose's plausibility, as `hubel.docking.plausible.Check` has it."""

    name: str
    passed: bool
    value: float | None
    limit: float


@dataclass(frozen=True)
class RankedPose:
    """What is said of one pose; None where it was not asked for or is not known.

    Attributes
    ----------
    vina: kcal/mol.
    probability, spread: of a good pose, mean and standard deviation over orientations.
    affinity: -log₁₀ of the dissociation constant in mol/l, mean over orientations.
    consensus: what poses are ranked by where there is one, higher is better.
    rmsd: Å to the crystal pose.
    atoms: what each heavy atom contributes to the log odds of a good pose, in their order.
    receptor_atoms: the same of the receptor's atoms that contribute: numbers and contributions.
    """

    vina: float
    probability: float | None
    spread: float | None
    affinity: float | None
    consensus: float | None
    rmsd: float | None
    checks: tuple[CheckFacts, ...]
    atoms: tuple[float, ...] | None
    receptor_atoms: tuple[tuple[int, float], ...] | None

    @property
    def plausible(self) -> bool:
        """Whether it passed all checks."""
        return all(check.passed for check in self.checks)


@dataclass(frozen=True)
class RankedLigand:
    """The poses of a ligand, best first; none where `error` says why.

    Attributes
    ----------
    entry: its number in the file, from 1.
    molecule: rdkit's, with one conformer for each pose in the same order; None without poses.
    seconds: that it took.
    """

    entry: int
    name: str
    poses: tuple[RankedPose, ...]
    notes: tuple[str, ...]
    error: str | None
    seconds: float
    molecule: "Mol | None" = None

    def to_json(self) -> dict[str, Any]:
        """Everything but the molecule."""
        return {
            "entry": self.entry,
            "name": self.name,
            "error": self.error,
            "notes": list(self.notes),
            "seconds": round(self.seconds, 3),
            "poses": [
                {"rank": rank, **asdict(pose), "plausible": pose.plausible}
                for rank, pose in enumerate(self.poses, 1)
            ],
        }


def write_ranked(ligand: RankedLigand, folder: Path) -> None:
    """NNNNN.sdf and then NNNNN.json: with the second the ligand is done."""
    stem = f"{ligand.entry:05d}"
    if ligand.molecule is not None:
        write_atomic(folder / f"{stem}.sdf", _sdf(ligand))
    write_atomic(folder / f"{stem}.json", json.dumps(ligand.to_json()) + "\n")


def read_ranked(folder: Path, entry: int) -> RankedLigand | None:
    """What `write_ranked` wrote of an entry; None where it did not, or was cut off."""
    stem = f"{entry:05d}"
    try:
        facts = json.loads((folder / f"{stem}.json").read_text())
        poses = tuple(
            RankedPose(
                **{
                    **{k: v for k, v in pose.items() if k not in ("rank", "plausible")},
                    "checks": tuple(CheckFacts(**check) for check in pose["checks"]),
                    "atoms": None if pose["atoms"] is None else tuple(pose["atoms"]),
                    "receptor_atoms": None
                    if pose["receptor_atoms"] is None
                    else tuple((int(i), float(v)) for i, v in pose["receptor_atoms"]),
                }
            )
            for pose in facts["poses"]
        )
        said = (facts["entry"], facts["name"], poses, tuple(facts["notes"]), facts["error"])
        seconds = float(facts["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    molecule = _read_sdf(folder / f"{stem}.sdf", len(poses)) if poses else None
    if poses and molecule is None:
        return None
    return RankedLigand(*said, seconds, molecule)


def properties(pose: RankedPose, rank: int) -> dict[str, str]:
    """What an SDF entry says of a pose, by name."""
    named = {
        "hubel_rank": rank,
        "vina_kcal_mol": pose.vina,
        "hubel_probability": pose.probability,
        "hubel_probability_spread": pose.spread,
        "hubel_affinity_pK": pose.affinity,
        "hubel_consensus": pose.consensus,
        "rmsd_angstrom": pose.rmsd,
        "plausible": pose.plausible if pose.checks else None,
    }
    shown = {}
    for name, value in named.items():
        if value is not None:
            shown[name] = f"{value:.6g}" if isinstance(value, float) else str(value).lower()
    return shown


def _sdf(ligand: RankedLigand) -> str:
    """One entry a pose, with its scores; atoms' contributions as rdkit's list of atoms."""
    chem = extra("rdkit.Chem", "writing poses")
    text = []
    assert ligand.molecule is not None  # noqa: S101
    for rank, (pose, conformer) in enumerate(
        zip(ligand.poses, ligand.molecule.GetConformers(), strict=True), 1
    ):
        single = chem.Mol(ligand.molecule, confId=conformer.GetId())
        for name in single.GetPropNames():  # what a file said of a pose holds of that one only
            single.ClearProp(name)
        single.SetProp("_Name", ligand.name)
        for name, value in properties(pose, rank).items():
            single.SetProp(name, value)
        if pose.atoms is not None:
            values = iter(pose.atoms)
            for atom in single.GetAtoms():
                own = next(values) if atom.GetAtomicNum() > 1 else 0.0
                atom.SetDoubleProp("contribution", own)
            chem.CreateAtomDoublePropertyList(single, "contribution")
        block = chem.MolToMolBlock(single)
        rows = "".join(
            f">  <{name}>\n{single.GetProp(name)}\n\n"
            for name in single.GetPropNames()
            if not name.startswith("_")
        )
        text.append(f"{block}{rows}$$$$\n")
    return "".join(text)


def _read_sdf(path: Path, number: int) -> "Mol | None":
    """The poses of a file of ours as conformers of one molecule."""
    chem = extra("rdkit.Chem", "reading poses")
    try:
        found = list(chem.SDMolSupplier(str(path), removeHs=False))
    except OSError:
        return None
    if len(found) != number or not all(found):
        return None
    first: Mol = found[0]
    for other in found[1:]:
        first.AddConformer(other.GetConformer(), assignId=True)
    return first


def heavy_places(molecule: "Mol", heavy: npt.NDArray[np.int64]) -> list[npt.NDArray[np.float32]]:
    """(a, 3) of each conformer. Raises `UserError` where there are none."""
    found = [
        np.asarray(conformer.GetPositions(), np.float32)[heavy]
        for conformer in molecule.GetConformers()
    ]
    if not found:
        raise UserError("the poses have no coordinates")
    return found
