"""Ligands out of SDF, MOL2, PDB and SMILES files, each atom with its type.

Hydrogens are made explicit, so that donors are known; charges are left as the file has them. Of
an entry in several pieces (a salt) the largest is kept. An entry that cannot be used is skipped
and listed with its number, its name and the reason, so that one broken record does not stop a
file of thousands.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from hubel.errors import UserError, printable
from hubel.molecules.atom_types import atom_types, unknown_elements
from hubel.molecules.ligand_files import LIGAND_SUFFIXES, Record, rdkit_chem, read_records

__all__ = [
    "LIGAND_SUFFIXES",
    "Ligand",
    "Ligands",
    "SkippedEntry",
    "embedded",
    "ligand_of_smiles",
    "read_ligands",
    "with_places",
]

_NEAR_ZERO = 1e-4  # Å
_OVERLAP = 0.1  # Å: two heavy atoms nearer than this stand at one place
_MMFF_STEPS = 2000


@dataclass(frozen=True)
class Ligand:
    """A small molecule.

    Attributes
    ----------
    name: of the file's entry, or made of the file's name and the entry's number.
    entry: its number in the file, from 1.
    mol: rdkit's, with explicit hydrogens; with one conformer, or none where `places` is None.
    heavy: int64 (a,) the indices of its heavy atoms in `mol`.
    places: float32 (a, 3) in Å of the heavy atoms; None of an entry without 3-D (SMILES).
    types: int64 (a,) their numbers in ATOM_TYPES.
    notes: what was left out and what was guessed, for a person to read.
    """

    name: str
    entry: int
    mol: Any
    heavy: npt.NDArray[np.int64]
    places: npt.NDArray[np.float32] | None
    types: npt.NDArray[np.int64]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class SkippedEntry:
    """An entry that was skipped: its number from 1, its name and why."""

    entry: int
    name: str
    reason: str


@dataclass(frozen=True)
class Ligands(Sequence[Ligand]):
    """The usable ligands of a file, in its order.

    Attributes
    ----------
    problems: the entries that were skipped.
    notes: over the whole file, for a person to read.
    """

    good: tuple[Ligand, ...]
    problems: tuple[SkippedEntry, ...]
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.good)

    @overload
    def __getitem__(self, index: int) -> Ligand: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Ligand, ...]: ...
    def __getitem__(self, index: int | slice) -> Ligand | tuple[Ligand, ...]:
        return self.good[index]


def read_ligands(path: str | Path, smiles: str | None = None) -> Ligands:
    """The ligands in a file, by its ending: .sdf, .mol, .mol2, .pdb, .smi or .smiles, each also
    with .gz. Entries of a SMILES file have no places (`embedded` makes some).

    `smiles` says the bond orders of a PDB file's ligand, which the file itself does not: without
    it they are worked out where all hydrogens are there, and else the entry is a problem.

    Raises `UserError` where there is no such file, it has another ending, is empty or holds
    nothing that can be used, or rdkit is missing.
    """
    path = Path(path)
    good: list[Ligand] = []
    problems: list[SkippedEntry] = []
    chem = rdkit_chem()
    from rdkit import rdBase

    with rdBase.BlockLogs():  # a broken entry is listed, not told on stderr
        for record in read_records(path, smiles):
            try:
                good.append(_ligand(chem, record))
            except _UnusableError as error:
                problems.append(SkippedEntry(record.entry, record.name, str(error)))
    if not good and not problems:
        raise UserError(f"LIGAND '{path}' is empty: it must hold at least one molecule")
    if not good:
        first = problems[0]
        raise UserError(
            f"LIGAND '{path}' must hold a molecule that can be used, but none of its"
            f" {len(problems)} can: entry {first.entry} '{first.name}' {first.reason}"
        )
    return Ligands(tuple(good), tuple(problems), tuple(_file_notes(good, problems)))


def ligand_of_smiles(smiles: str, name: str = "ligand", seed: int = 0) -> Ligand:
    """A ligand with a conformer of its own. The seed settles the conformer.

    Raises `UserError` where the SMILES cannot be read or no conformer is found.
    """
    chem = rdkit_chem()
    from rdkit import rdBase

    with rdBase.BlockLogs():
        mol = chem.MolFromSmiles(smiles, sanitize=False)
        record = Record(1, printable(name), mol, "" if mol else "is no SMILES", has_places=False)
        try:
            flat = _ligand(chem, record)
        except _UnusableError as error:
            raise UserError(f"LIGAND '{printable(smiles)}' {error}") from None
    return embedded(flat, seed)


def embedded(ligand: Ligand, seed: int = 0) -> Ligand:
    """The ligand in a conformer that ETKDGv3 (Wang et al. 2020, Journal of Chemical Information
    and Modeling 60, pp. 2044-2058) draws and the force field MMFF94 relaxes. Of stereocentres
    that the entry leaves open one form is drawn, and said. The same seed gives the same places.

    Raises `UserError` where no conformer is found.
    """
    chem = rdkit_chem()
    from rdkit import rdBase
    from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

    mol = chem.Mol(ligand.mol)
    mol.RemoveAllConformers()
    notes = list(ligand.notes)
    with rdBase.BlockLogs():
        settings: Any = rdDistGeom.ETKDGv3()
        settings.randomSeed = seed
        if rdDistGeom.EmbedMolecule(mol, settings) != 0:
            settings.useRandomCoords = True
            if rdDistGeom.EmbedMolecule(mol, settings) != 0:
                raise UserError(
                    f"no conformer was found for ligand '{ligand.name}'"
                    f" ({chem.MolToSmiles(chem.RemoveHs(mol))}): give it in 3-D (SDF)"
                )
        relaxed = chem.Mol(mol)  # a copy, as MMFF leaves its own aromaticity in the molecule
        if rdForceFieldHelpers.MMFFHasAllMoleculeParams(relaxed):
            rdForceFieldHelpers.MMFFOptimizeMolecule(relaxed, maxIters=_MMFF_STEPS)
            mol.GetConformer().SetPositions(relaxed.GetConformer().GetPositions())
        else:
            notes.append("MMFF94 does not know all its atoms: the conformer is not relaxed")
    open_ = [
        one for one in chem.FindPotentialStereo(ligand.mol)
        if one.specified == chem.StereoSpecified.Unspecified
    ]  # fmt: skip
    if open_:
        notes.append(f"{len(open_)} stereocentres are left open: one form was drawn")
    places = _places(mol, ligand.heavy)
    return dataclasses.replace(ligand, mol=mol, places=places, notes=tuple(notes))


def with_places(ligand: Ligand, places: npt.ArrayLike) -> Ligand:
    """The ligand in another pose: (a, 3) in Å of its heavy atoms, in the order of `heavy`.
    Hydrogens are set anew.
    """
    chem = rdkit_chem()
    where = np.asarray(places, np.float64)
    if where.shape != (len(ligand.heavy), 3) or not np.isfinite(where).all():
        raise ValueError(f"places must be finite and ({len(ligand.heavy)}, 3), not {where.shape}")
    from rdkit.Geometry import Point3D

    mol = chem.Mol(ligand.mol)
    mol.RemoveAllConformers()
    conformer = chem.Conformer(mol.GetNumAtoms())
    conformer.Set3D(True)
    for atom, place in zip(ligand.heavy, where, strict=True):
        conformer.SetAtomPosition(int(atom), Point3D(*place.tolist()))
    mol.AddConformer(conformer)
    # rdkit sets hydrogens only as it adds them: to a copy that has none, atom by atom.
    bare = chem.RemoveAllHs(mol, sanitize=False)
    bare.UpdatePropertyCache(strict=False)
    full = chem.AddHs(bare, addCoords=True)
    made: dict[int, list[Any]] = {}
    for row in range(bare.GetNumAtoms(), full.GetNumAtoms()):
        holder = full.GetAtomWithIdx(row).GetNeighbors()[0].GetIdx()
        made.setdefault(holder, []).append(full.GetConformer().GetAtomPosition(row))
    row_of = {int(atom): row for row, atom in enumerate(ligand.heavy)}
    settled = mol.GetConformer()
    for atom in mol.GetAtoms():
        if atom.GetIdx() not in row_of:
            holder = row_of[atom.GetNeighbors()[0].GetIdx()]
            settled.SetAtomPosition(atom.GetIdx(), made[holder].pop(0))
    return dataclasses.replace(ligand, mol=mol, places=where.astype(np.float32))


class _UnusableError(Exception):
    """Why an entry cannot be used."""


def _ligand(chem: Any, record: Record) -> Ligand:
    if record.fault:
        raise _UnusableError(record.fault)
    mol, notes = record.mol, []
    if mol.GetNumAtoms() == 0:
        raise _UnusableError("has no atoms")
    try:
        chem.SanitizeMol(mol)
    except (ValueError, RuntimeError) as error:
        reason = printable(str(error).strip().splitlines()[0])
        raise _UnusableError(f"is no molecule that chemistry allows: {reason}") from None
    pieces = chem.GetMolFrags(mol, asMols=True)
    if len(pieces) > 1:
        mol = max(pieces, key=lambda piece: piece.GetNumHeavyAtoms())
        others = Counter(chem.MolToSmiles(piece) for piece in pieces if piece is not mol)
        notes.append(
            "of its pieces the largest was kept, left out: "
            + ", ".join(f"{n} × {text}" for text, n in others.items())
        )
        mol.SetProp("_Name", record.name)
    elements = np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()], np.int64)
    if (elements == 0).any():
        raise _UnusableError("has an atom without an element (a dummy, R group or query)")
    if (elements == 1).all():
        raise _UnusableError("has no heavy atoms")
    if record.has_places:
        _check_places(mol, elements > 1)
        # From the bonds in space, where the file leaves its stereo open.
        chem.AssignStereochemistryFrom3D(mol, replaceExistingTags=False)
    mol = chem.AddHs(mol, addCoords=record.has_places)
    heavy = np.flatnonzero(elements > 1)  # the hydrogens that were added come last
    unknown = unknown_elements(elements[heavy])
    if unknown:
        table = chem.GetPeriodicTable()
        names = ", ".join(f"{table.GetElementSymbol(one)} ({n})" for one, n in unknown.items())
        notes.append(f"elements without a type are typed as 'other metal', the generic: {names}")
    places = _places(mol, heavy) if record.has_places else None
    types = atom_types(mol)[heavy]
    return Ligand(record.name, record.entry, mol, heavy, places, types, tuple(notes))


def _places(mol: Any, heavy: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    return np.asarray(mol.GetConformer().GetPositions(), np.float32)[heavy]


def _check_places(mol: Any, heavy: npt.NDArray[np.bool_]) -> None:
    if mol.GetNumConformers() == 0:
        raise _UnusableError("has no coordinates")
    conformer = mol.GetConformer()
    places = conformer.GetPositions()
    if not np.isfinite(places).all():
        raise _UnusableError("has a coordinate that is no number")
    if len(places) == 1:
        return
    if (np.abs(places) < _NEAR_ZERO).all():
        raise _UnusableError("has no coordinates: all are zero")
    # A flat molecule may lie in the plane z = 0; then its header says 3D.
    flat = (np.abs(places[:, 2]) < _NEAR_ZERO).all()
    if flat and len(places) > 3 and not conformer.Is3D():
        raise _UnusableError("has only 2-D coordinates: all z are zero")
    apart = np.linalg.norm(places[heavy][:, None] - places[heavy][None], axis=2)
    np.fill_diagonal(apart, np.inf)
    if (apart < _OVERLAP).any():
        raise _UnusableError("has two heavy atoms at one place")


def _file_notes(good: list[Ligand], problems: list[SkippedEntry]) -> Iterator[str]:
    if problems:
        first = problems[0]
        yield (
            f"entries skipped: {len(problems)} of {len(good) + len(problems)}, the first:"
            f" entry {first.entry} '{first.name}' {first.reason}"
        )
    noted = Counter(note.split(":")[0] for ligand in good for note in ligand.notes)
    yield from (f"entries of which it is said: {n}, {note}" for note, n in noted.items())
