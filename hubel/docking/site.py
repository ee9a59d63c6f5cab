"""Where ligands are docked: the receptor, the box and the scorer, loaded once for all ligands."""

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hubel.data.sentences import counted
from hubel.docking.box import Box, box_around, box_at, largest_pocket
from hubel.docking.contributions import contributions
from hubel.docking.generate import VinaSearch
from hubel.docking.ligand import prepare_ligand
from hubel.docking.plausible import check_poses
from hubel.docking.ranked import CheckFacts, RankedLigand, RankedPose, heavy_places
from hubel.docking.receptor import PreparedReceptor, prepare_receptor
from hubel.docking.request import DockRequest
from hubel.docking.score import NetworkScores, Scorer, load_scorer
from hubel.engine import pick_device
from hubel.errors import UserError, printable
from hubel.metrics.consensus import standardised
from hubel.molecules.complexes import Complexes, Molecules
from hubel.molecules.drawing import Drawing
from hubel.molecules.extra import extra
from hubel.molecules.grid_loops import compiled_loops
from hubel.molecules.ligands import Ligand, embedded, read_ligands
from hubel.molecules.receptors import Receptor, file_places, read_receptor
from hubel.molecules.rmsd import pose_rmsd

if TYPE_CHECKING:
    from rdkit.Chem import Mol

__all__ = ["DockEntry", "Site", "entries_of", "open_site"]

_LEFT_OUT = "left out by the scorer for want of a channel"
_MARGIN = 8.0  # Å about given poses, which Vina scores inside the box only


@dataclass(frozen=True)
class DockEntry:
    """One ligand to dock, or with its poses: `molecule` then has a conformer for each."""

    ligand: Ligand
    molecule: "Mol | None" = None


def entries_of(request: DockRequest) -> tuple[list[DockEntry], list[str]]:
    """The ligands that `request` names, and notes about those that were passed over.

    Poses of one name and structure are one ligand's. Raises `UserError` where there are none.
    """
    if request.ligands is not None:
        found = read_ligands(request.ligands)
        return [DockEntry(ligand) for ligand in found], _notes(found, request.ligands)
    assert request.poses is not None  # noqa: S101
    found = read_ligands(request.poses)
    grouped: dict[tuple[str, str], list[Ligand]] = {}
    from rdkit import Chem

    stem = Path(request.poses).name.partition(".")[0]

    for ligand in found:
        if ligand.places is None:
            raise UserError(f"--poses '{request.poses}' has no coordinates; give an SDF of poses")
        # An entry without a title was named by its number: such are told apart by structure.
        name = "" if ligand.name == f"{stem}-{ligand.entry}" else ligand.name
        key = (name, Chem.MolToSmiles(Chem.RemoveHs(ligand.mol)))
        grouped.setdefault(key, []).append(ligand)
    entries = []
    for number, poses in enumerate(grouped.values(), 1):
        first = dataclasses.replace(poses[0], entry=number)
        entries.append(DockEntry(first, _joined([pose.mol for pose in poses])))
    told = f"{counted(len(found), 'pose')} of {counted(len(entries), 'ligand')}"
    return entries, [told, *_notes(found, request.poses)]


def _notes(found: Any, path: str) -> list[str]:
    listed = [
        f"{path}: entry {p.entry} '{p.name}' was skipped: it {p.reason}" for p in found.problems
    ]
    return [*found.notes, *listed]


def _joined(molecules: "list[Mol]") -> "Mol":
    """The first molecule with the places of all as its conformers."""
    from rdkit import Chem

    first = Chem.Mol(molecules[0])
    for other in molecules[1:]:
        order = other.GetSubstructMatch(first)
        places = other.GetConformer().GetPositions()[list(order)]
        conformer = Chem.Conformer(first.GetNumAtoms())
        conformer.SetPositions(np.ascontiguousarray(places))
        first.AddConformer(conformer, assignId=True)
    return first


@dataclass(frozen=True)
class Site:
    """A receptor with its box, and what searches and scores there."""

    request: DockRequest
    receptor: Receptor
    prepared: PreparedReceptor
    box: Box
    search: VinaSearch
    scorer: Scorer | None
    crystal: "Mol | None"
    cpu: int

    @property
    def drawing(self) -> Drawing:
        """How the scorer sees atoms."""
        return Drawing() if self.scorer is None else self.scorer.drawing

    @property
    def receptor_notes(self) -> tuple[str, ...]:
        """What was done to the receptor, and what of it the scorer does not see."""
        count, names = self._receptor_atoms.undrawn(self.drawing.receptor_channels)
        unseen = f"{_LEFT_OUT}: {counted(count, 'atom')} ({', '.join(names)})"
        return (*self.receptor.notes, *self.prepared.notes, *([unseen] if count else []))

    def ranked(self, entry: DockEntry) -> RankedLigand:
        """The poses of one ligand, best first; a fault of the ligand's is told in `error`."""
        started = time.perf_counter()
        ligand, error = entry.ligand, None
        poses: tuple[RankedPose, ...] = ()
        notes: tuple[str, ...] = ()
        molecule = None
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # sums of several threads differ in their last digits
        try:
            poses, molecule, notes = self._ranked(entry)
        except UserError as fault:
            error = str(fault)
        except (RuntimeError, ValueError, TypeError, OverflowError) as fault:  # rdkit's and Vina's
            error = printable(str(fault))
        finally:
            torch.set_num_threads(threads)
        return RankedLigand(
            ligand.entry, ligand.name, poses, (*ligand.notes, *notes), error,
            time.perf_counter() - started, molecule,
        )  # fmt: skip

    def _ranked(self, entry: DockEntry) -> "tuple[tuple[RankedPose, ...], Mol, tuple[str, ...]]":
        request, ligand = self.request, entry.ligand
        notes: list[str] = []
        if entry.molecule is not None:
            molecule = entry.molecule
            energies = None if request.minimise else self.search.score(molecule)
        else:
            if ligand.places is None:
                ligand = embedded(ligand, request.seed)
            prepared = prepare_ligand(self._centred(ligand.mol))
            notes += prepared.notes
            found = self.search.dock(
                prepared, exhaustiveness=request.exhaustiveness, num_poses=request.num_poses
            )
            molecule, energies = found.molecule, found.affinities
        if request.minimise:
            found = self.search.minimise(molecule)
            molecule, energies = found.molecule, found.affinities
        assert energies is not None  # noqa: S101

        complexes = self._complexes(molecule, ligand)
        scores, consensus = None, None
        if self.scorer is not None:
            count, names = complexes.poses.undrawn(self.drawing.ligand_channels)
            if not complexes.drawn(0).any():
                raise UserError(
                    f"the scorer has a channel for none of its atoms ({', '.join(names)})"
                )
            if count:
                each = counted(count // len(complexes), "atom")
                notes.append(f"{_LEFT_OUT}: {each} ({', '.join(names)})")
            scores = self.scorer.score(complexes, request.orientations, request.seed)
            consensus = _consensus(self.scorer, scores, energies)
        outside = [complexes.outside(i) for i in range(len(complexes))]
        if any(outside):
            notes.append(
                f"{max(outside)} atoms of a pose lie outside the network's grid of "
                f"{complexes.grid.edge:g} Å and are not seen"
            )
        rmsd = None
        if self.crystal is not None:
            try:
                deviations = pose_rmsd(molecule, self.crystal)
                rmsd = deviations.rmsd
                if not deviations.exact:
                    notes.append("it has so many symmetries that its RMSDs are upper bounds")
            except UserError as fault:  # of many ligands one is the crystal's
                notes.append(f"no RMSD: {fault}")
        checks = check_poses(molecule, self.prepared)
        order = np.argsort(energies if consensus is None else -consensus, kind="stable")
        poses = []
        for i in order.tolist():
            own = None
            if self.scorer is not None and request.contributions != "none":
                own = contributions(self.scorer, complexes, i, request.contributions)
            chances = None if scores is None else scores.probabilities[:, i]
            knows = self.scorer is not None and self.scorer.knows_affinity
            poses.append(
                RankedPose(
                    vina=float(energies[i]),
                    probability=None if chances is None else float(chances.mean()),
                    spread=None if chances is None else float(chances.std()),
                    affinity=float(scores.affinities[:, i].mean()) if knows and scores else None,
                    consensus=None if consensus is None else float(consensus[i]),
                    rmsd=None if rmsd is None else float(rmsd[i]),
                    checks=tuple(
                        CheckFacts(
                            check.name,
                            check.passed,
                            float(check.value) if np.isfinite(check.value) else None,
                            check.limit,
                        )
                        for check in checks[i].checks
                    ),
                    atoms=None if own is None else tuple(np.round(own.pose, 5).tolist()),
                    receptor_atoms=None
                    if own is None
                    else tuple(
                        (int(k), round(float(own.receptor[k]), 5))
                        for k in np.flatnonzero(np.abs(own.receptor) >= 5e-6)
                    ),
                )
            )
        return tuple(poses), _in_order(molecule, order.tolist()), tuple(notes)

    def _centred(self, molecule: "Mol") -> "Mol":
        """The molecule in the middle of the box: a search begins anywhere, and places far off do
        not fit into PDBQT's columns.
        """
        from rdkit import Chem

        moved = Chem.Mol(molecule)
        places = moved.GetConformer().GetPositions()
        moved.GetConformer().SetPositions(places - places.mean(axis=0) + self.box.center)
        return moved

    @property
    def _receptor_atoms(self) -> Molecules:
        return Molecules.of([(self.receptor.places, self.receptor.types.astype(np.uint8))])

    def _complexes(self, molecule: "Mol", ligand: Ligand) -> Complexes:
        types = ligand.types.astype(np.uint8)
        places = heavy_places(molecule, ligand.heavy)
        return Complexes(
            self._receptor_atoms,
            Molecules.of([(pose, types) for pose in places]),
            np.zeros(len(places), np.int64),
            self.drawing,
        )


def open_site(request: DockRequest, cpu: int) -> Site:
    """Load what `request` names; Vina's searches take `cpu` threads."""
    for package in ("vina", "meeko"):  # missing, they are nothing that a ligand is at fault for
        extra(package, "docking")
    receptor = read_receptor(request.receptor, request.keep_waters, request.without)
    prepared = prepare_receptor(receptor.with_hydrogens)
    scorer = None
    if request.scorer is not None:
        scorer = load_scorer(request.scorer, pick_device(request.device), request.model)
        compiled_loops()
    crystal = None
    if request.crystal is not None:
        first = read_ligands(request.crystal)[0]
        if first.places is None:
            raise UserError(f"--crystal '{request.crystal}' has no coordinates; give an SDF")
        crystal = first.mol
    box = _box(request, prepared)
    cpu = min(cpu, request.exhaustiveness)  # more are of no use, and Vina says so on stderr
    search = VinaSearch(prepared, box, seed=request.seed, cpu=cpu)
    return Site(request, receptor, prepared, box, search, scorer, crystal, cpu)


def _box(request: DockRequest, receptor: PreparedReceptor) -> Box:
    if request.center is not None:
        if request.size is None:
            return box_at(request.center, receptor)
        return box_at(request.center, receptor, request.size)
    if request.pocket:
        return largest_pocket(receptor)
    if request.poses is not None and request.autobox is None:
        poses = [one.places for one in read_ligands(request.poses) if one.places is not None]
        if not poses:
            raise UserError(f"--poses '{request.poses}' has no coordinates; give an SDF of poses")
        return box_around(np.concatenate(poses), receptor, margin=_MARGIN, name=request.poses)
    where = request.autobox or request.crystal
    assert where is not None  # noqa: S101 — the request has looked
    if Path(where).name.lower().removesuffix(".gz").endswith((".pdb", ".ent")):
        places: Any = file_places(where)  # a box asks for no bonds, which a PDB file may not say
    else:
        places = read_ligands(where)[0].places
    if places is None:
        option = "--autobox" if request.autobox else "--crystal"
        raise UserError(f"{option} '{where}' has no coordinates; give an SDF, MOL2 or PDB")
    return box_around(places, receptor, name=where)


def _consensus(
    scorer: Scorer, scores: NetworkScores, energies: "np.ndarray[Any, Any]"
) -> "np.ndarray[Any, Any]":
    log_odds, one = scores.log_odds.mean(axis=0), np.zeros(len(energies), np.int64)
    if scorer.consensus is None:
        return standardised(log_odds, energies)
    return scorer.consensus.log_odds(log_odds, energies, one)


def _in_order(molecule: "Mol", order: list[int]) -> "Mol":
    """The molecule with its conformers in another order, numbered from 0."""
    from rdkit import Chem

    ids = [conformer.GetId() for conformer in molecule.GetConformers()]
    sorted_ = Chem.Mol(molecule)
    sorted_.RemoveAllConformers()
    for i in order:
        sorted_.AddConformer(Chem.Conformer(molecule.GetConformer(ids[i])), assignId=True)
    return sorted_
