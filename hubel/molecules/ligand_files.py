"""The records of a file of ligands, one by one, as rdkit parses them before anything is checked."""

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from hubel.errors import UserError, printable

__all__ = ["LIGAND_SUFFIXES", "Record", "rdkit_chem", "read_records"]

LIGAND_SUFFIXES = (".sdf", ".sd", ".mol", ".mol2", ".pdb", ".smi", ".smiles")
"""Each also with .gz."""

_CHARGES = (0, 1, -1, 2, -2)  # tried in turn where a PDB file says nothing
_ORDER_STEPS = 10_000  # of the search for bond orders


@dataclass(frozen=True)
class Record:
    """An entry of a file.

    Attributes
    ----------
    entry: its number from 1.
    name: fit to be shown.
    mol: rdkit's, not sanitised, hydrogens kept; None where `fault` says why.
    fault: what keeps it from being read, '' where nothing does.
    has_places: whether the format gives coordinates.
    """

    entry: int
    name: str
    mol: Any
    fault: str = ""
    has_places: bool = True


def rdkit_chem() -> Any:
    """rdkit.Chem; raises `UserError` where rdkit is not installed."""
    try:
        from rdkit import Chem
    except ImportError:
        raise UserError(
            "ligands are read by rdkit, which is not installed: pip install 'hubel[docking]'"
        ) from None
    return Chem


def read_records(path: Path, smiles: str | None) -> Iterator[Record]:
    """Raises `UserError` where the file is none, has another ending or cannot be unpacked."""
    name = path.name.lower().removesuffix(".gz")
    if not name.endswith(LIGAND_SUFFIXES):
        raise UserError(
            f"LIGAND '{path}' must end in one of {', '.join(LIGAND_SUFFIXES)}, each also with .gz"
        )
    if not path.is_file():
        raise UserError(f"LIGAND '{path}' is no file")
    if smiles is not None and not name.endswith(".pdb"):
        raise UserError(f"a SMILES says the bond orders of a PDB file, and '{path}' is none")
    chem = rdkit_chem()
    stem = printable(name[: name.rindex(".")])
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    try:
        with opened(path, "rt", encoding="utf-8", errors="replace") as file:
            if name.endswith((".smi", ".smiles")):
                yield from _smiles(chem, file, stem)
            elif name.endswith(".mol2"):
                yield from _mol2(chem, file, stem)
            elif name.endswith(".pdb"):
                yield from _pdb(chem, file, stem, smiles)
            else:
                yield from _sdf(chem, file, stem)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"LIGAND '{path}' cannot be unpacked: {error}") from None


def _called(name: str, stem: str, entry: int) -> str:
    return printable(name.strip().lstrip("$")) or f"{stem}-{entry}"


def _sdf(chem: Any, file: IO[str], stem: str) -> Iterator[Record]:
    reader = chem.SDMolSupplier()
    for entry, lines in enumerate(_parts(file), 1):
        name = _called(lines[0], stem, entry)
        reader.SetData("".join(lines), sanitize=False, removeHs=False)
        mol = next(iter(reader), None)
        fault = "" if mol is not None else _sdf_fault(lines)
        yield Record(entry, name, mol, fault)


def _parts(file: IO[str]) -> Iterator[list[str]]:
    """The lines of each record of an SDF, the closing $$$$ with it."""
    lines: list[str] = []
    for line in file:
        lines.append(line)
        if line.startswith("$$$$"):
            yield lines
            lines = []
    if any(line.strip() for line in lines):
        yield lines


def _sdf_fault(lines: list[str]) -> str:
    """Why rdkit did not read a record, as far as its outline tells."""
    counts = lines[3].rstrip("\n") if len(lines) > 3 else ""
    if "V3000" in counts:
        return "cannot be parsed (V3000)"
    try:
        atoms, bonds = int(counts[:3]), int(counts[3:6])
    except ValueError:
        said = printable(counts)
        return f"cannot be parsed: its fourth line must count atoms and bonds, not '{said}'"
    ends = (row for row, line in enumerate(lines) if line.startswith(("M  END", "$$$$")))
    if next(ends, len(lines)) < 4 + atoms + bonds:
        return f"is cut off: it counts {atoms} atoms and {bonds} bonds and has fewer lines"
    return "cannot be parsed: a line of its atoms or bonds is not in the form of a molfile"


def _mol2(chem: Any, file: IO[str], stem: str) -> Iterator[Record]:
    blocks: list[list[str]] = []
    for line in file:
        if line.startswith("@<TRIPOS>MOLECULE"):
            blocks.append([])
        if blocks:
            blocks[-1].append(line)
    for entry, lines in enumerate(blocks, 1):
        name = _called(lines[1] if len(lines) > 1 else "", stem, entry)
        mol = chem.MolFromMol2Block("".join(lines), sanitize=False, removeHs=False)
        fault = "" if mol is not None else "cannot be parsed as MOL2"
        yield Record(entry, name, mol, fault)


def _smiles(chem: Any, file: IO[str], stem: str) -> Iterator[Record]:
    entry = 0
    for line in file:
        words = line.split(None, 1)
        if not words or words[0].startswith("#"):
            continue
        entry += 1
        name = _called(words[1] if len(words) > 1 else "", stem, entry)
        mol = chem.MolFromSmiles(words[0], sanitize=False)
        fault = "" if mol is not None else f"is no SMILES: '{printable(words[0])}'"
        yield Record(entry, name, mol, fault, has_places=False)


def _pdb(chem: Any, file: IO[str], stem: str, smiles: str | None) -> Iterator[Record]:
    text = file.read()
    if not text.strip():
        return
    mol = chem.MolFromPDBBlock(text, sanitize=False, removeHs=False)
    if mol is None or mol.GetNumAtoms() == 0:
        yield Record(1, stem, None, "cannot be parsed as PDB: it has no ATOM or HETATM lines")
        return
    mol, fault = _ordered(chem, mol, smiles)
    yield Record(1, stem, mol, fault)


def _ordered(chem: Any, mol: Any, smiles: str | None) -> tuple[Any, str]:
    """The molecule with bond orders, or why it has none."""
    from rdkit.Chem import AllChem, rdDetermineBonds

    if smiles is not None:
        template = chem.MolFromSmiles(smiles)
        if template is None:
            return None, f"has for its bond orders no SMILES: '{printable(smiles)}'"
        try:
            bare = chem.RemoveAllHs(mol, sanitize=False)
            if bare.GetNumAtoms() != template.GetNumAtoms():
                raise ValueError  # a part of the molecule would match too
            assign: Any = AllChem.AssignBondOrdersFromTemplate
            return assign(template, bare), ""
        except (ValueError, RuntimeError):
            return None, f"is another molecule than '{printable(smiles)}'"
    singles = chem.BondType.SINGLE
    if mol.GetNumAtoms() == 1 or any(bond.GetBondType() != singles for bond in mol.GetBonds()):
        return mol, ""
    if any(atom.GetAtomicNum() == 1 for atom in mol.GetAtoms()):
        for charge in _CHARGES:
            tried = chem.Mol(mol)
            try:
                rdDetermineBonds.DetermineBonds(tried, charge=charge, maxIterations=_ORDER_STEPS)
            except (ValueError, RuntimeError):
                continue
            return tried, ""
    return None, (
        "has no bond orders, as a PDB file says none and its hydrogens do not tell them: give the"
        " ligand as SDF, or its SMILES beside the PDB file"
    )
