"""From a docking to what its page shows."""

from typing import TYPE_CHECKING, Any

import numpy as np

from hubel.docking.ranked import CheckFacts, RankedLigand, RankedPose
from hubel.docking.site import Site
from hubel.report.docking import DockedLigand, Docking, Pose, SearchBox, Verdict
from hubel.report.molecule_view import Molecule

if TYPE_CHECKING:
    from rdkit.Chem import Mol

    from hubel.docking.dock import Docked

__all__ = ["page_of"]

_METHODS = {
    "none": None,
    "gradient": "what the log odds of a good pose change by, to first order, as an atom's density "
    "grows by all of itself",
    "masking": "what the log odds of a good pose lose where the atom is left out",
}


def page_of(docked: "Docked", site: Site, versions: dict[str, str]) -> Docking:
    """The page's data."""
    request = docked.request
    center, size, origin = docked.box
    settings: dict[str, object] = {
        "Scorer": "Vina alone" if site.scorer is None else site.scorer.name,
        "Box": origin,
        "Orientations": request.orientations,
        "Poses": "given" if request.poses else f"Vina, exhaustiveness {request.exhaustiveness}",
        "Minimised": "yes" if request.minimise else "no",
        "Seed": request.seed,
        **versions,
    }
    labels = site.receptor.labels
    pocket = Molecule(
        elements=[
            atom.element.name
            for chain in site.receptor.structure[0]
            for residue in chain
            for atom in residue
        ],
        places=site.receptor.places,
        residues=[f"{label.residue} {label.number} {label.chain}" for label in labels],
        names=[label.atom for label in labels],
    )
    shown = request.contributions if site.scorer is not None else "none"
    crystal = None if site.crystal is None else _molecule(site.crystal, 0, None)
    return Docking(
        receptor=docked.receptor,
        pocket=pocket,
        ligands=tuple(_ligand(one, crystal, len(labels)) for one in docked.ligands),
        box=SearchBox(center, size),
        notes=docked.notes,
        settings=settings,
        contributions=_METHODS[shown],
    )


def _ligand(ligand: RankedLigand, crystal: Molecule | None, num_atoms: int) -> DockedLigand:
    poses = tuple(
        _pose(pose, rank, ligand.molecule, num_atoms) for rank, pose in enumerate(ligand.poses, 1)
    )
    with_crystal = bool(poses) and poses[0].rmsd is not None
    notes = ligand.notes if ligand.error is None else (*ligand.notes, ligand.error)
    return DockedLigand(ligand.name, poses, crystal if with_crystal else None, notes)


def _pose(pose: RankedPose, rank: int, molecule: "Mol | None", num_atoms: int) -> Pose:
    around = None
    if pose.receptor_atoms is not None:
        around = np.zeros(num_atoms)
        for i, value in pose.receptor_atoms:
            around[i] = value
    return Pose(
        rank=rank,
        molecule=_molecule(molecule, rank - 1, pose.atoms),
        score=pose.probability,
        score_spread=pose.spread,
        affinity=pose.affinity,
        vina=pose.vina,
        consensus=pose.consensus,
        rmsd=pose.rmsd,
        verdicts=tuple(Verdict(c.name, c.passed, _detail(c)) for c in pose.checks),
        pocket_contributions=around,
    )


def _detail(check: CheckFacts) -> str:
    return "" if check.value is None else f"{check.value:.2f}, limit {check.limit:g}"


def _molecule(molecule: Any, conformer: int, atoms: tuple[float, ...] | None) -> Molecule:
    """The heavy atoms of a conformer, and their bonds."""
    heavy = [atom.GetIdx() for atom in molecule.GetAtoms() if atom.GetAtomicNum() > 1]
    number = {index: i for i, index in enumerate(heavy)}
    ids = [one.GetId() for one in molecule.GetConformers()]
    return Molecule(
        elements=[molecule.GetAtomWithIdx(i).GetSymbol() for i in heavy],
        places=np.asarray(molecule.GetConformer(ids[conformer]).GetPositions())[heavy],
        bonds=[
            (
                number[bond.GetBeginAtomIdx()],
                number[bond.GetEndAtomIdx()],
                bond.GetBondTypeAsDouble(),
            )
            for bond in molecule.GetBonds()
            if bond.GetBeginAtomIdx() in number and bond.GetEndAtomIdx() in number
        ],
        contributions=None if atoms is None else np.array(atoms),
    )
