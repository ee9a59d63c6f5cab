"""Receptors out of PDB and mmCIF files: which atoms are kept, and the type of each.

What is left out and what is guessed is said in the notes of the receptor:

- of several models the first is kept;
- of several places of a residue (altlocs, or several residues at one number) that of the highest
  occupancy, of equals the first;
- waters are left out, metals and all other residues kept; hydrogens are no atoms of their own;
- amino acids are typed by the names of their atoms (`residue_types`), so hydrogens are not needed;
  other atoms by their geometry (`geometry_types`). Hydrogens that the file shows say who the
  donors are, and the protonation of histidines, acids, cysteines and lysines (`shown_hydrogens`).
"""

import gzip
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hubel.errors import UserError, printable
from hubel.molecules.altlocs import keep_likeliest
from hubel.molecules.atom_types import element_type, unknown_elements
from hubel.molecules.geometry_types import geometry_types
from hubel.molecules.residue_types import RESIDUE_TYPES, backbone_types
from hubel.molecules.shown_hydrogens import take_hydrogens, types_as_shown

__all__ = [
    "RECEPTOR_SUFFIXES",
    "AtomLabel",
    "Receptor",
    "file_places",
    "read_receptor",
    "write_receptor",
]

RECEPTOR_SUFFIXES = (".pdb", ".ent", ".cif", ".mmcif")
"""Each also with .gz."""

_BROKEN = (RuntimeError, ValueError, IndexError, OSError, EOFError, UnicodeDecodeError)
_OPEN = -1  # a type that is still to be found
_SHOWN = 12  # residues that a note names
_B_FACTORS = (-99.99, 999.99)  # that six columns of a PDB file hold


class AtomLabel(NamedTuple):
    """Who an atom is; `number` with the insertion code, as '52A'."""

    chain: str
    residue: str
    number: str
    atom: str


@dataclass(frozen=True)
class Receptor:
    """The heavy atoms of a receptor.

    Attributes
    ----------
    name: of the file, without its endings.
    places: float32 (a, 3) in Å.
    types: int64 (a,) numbers in ATOM_TYPES.
    labels: one for each atom.
    structure: gemmi's, of one model with these atoms in this order.
    with_hydrogens: the same with the hydrogens of the file; `structure` where it shows none.
    notes: what was left out and what was guessed, for a person to read.
    """

    name: str
    places: npt.NDArray[np.float32]
    types: npt.NDArray[np.int64]
    labels: tuple[AtomLabel, ...]
    structure: Any
    with_hydrogens: Any
    notes: tuple[str, ...]


def read_receptor(
    path: str | Path, keep_waters: bool = False, without: Sequence[str] = ()
) -> Receptor:
    """The receptor in a PDB or mmCIF file, also gzipped.

    `without` names residues to be left out, by the name of their kind ('GOL') or one by chain and
    number ('A 401'): of a file out of the Protein Data Bank the ligand that lies in the pocket.

    Raises `UserError` where the file cannot be read, holds no protein, a place that is no number,
    or no residue that `without` names.
    """
    path = Path(path)
    structure = _read(path)
    notes: list[str] = []
    if len(structure) > 1:
        notes.append(f"models in the file: {len(structure)}, the first was kept")
        for number in range(len(structure) - 1, 0, -1):
            del structure[number]
    notes += keep_likeliest(structure[0])
    notes += _leave_out(structure[0], keep_waters, without, path)
    whole = structure.clone()
    hydrogens, taken = take_hydrogens(structure[0])
    if taken:
        notes.append(f"hydrogens in the file: {taken}, they say who the donors are")
    structure.remove_empty_chains()
    if not any(_is_amino_acid(residue) for _, residue in _residues(structure[0])):
        raise UserError(
            f"RECEPTOR '{path}' must hold a protein, but none of its {_held(structure)} is an"
            " amino acid: give the file of the protein"
        )
    structure.setup_entities()
    return _typed(path, structure, whole if taken else structure, hydrogens, notes)


def file_places(path: str | Path) -> npt.NDArray[np.float32]:
    """(a, 3) in Å, where the heavy atoms of a PDB or mmCIF file are, whatever they are."""
    structure = _read(Path(path))
    atoms = (atom for _, residue in _residues(structure[0]) for atom in residue)
    found = [atom.pos.tolist() for atom in atoms if not atom.is_hydrogen()]
    return np.array(found, np.float32).reshape(-1, 3)


def write_receptor(
    receptor: Receptor, path: str | Path, b_factors: npt.ArrayLike | None = None
) -> None:
    """Writes the receptor's atoms as PDB (.pdb) or mmCIF (.cif), by the ending of `path`.

    b_factors: (a,) written in place of the file's own, finite; in a PDB file from -99.99 to 999.99.

    Raises `UserError` for another ending, and where a PDB file cannot hold the structure.
    """
    path = Path(path)
    if path.suffix not in (".pdb", ".cif"):
        raise UserError(f"a receptor is written as .pdb or .cif, not as '{path.name}'")
    structure = receptor.structure.clone()
    if b_factors is not None:
        values = np.asarray(b_factors, np.float64)
        if values.shape != (len(receptor.types),) or not np.isfinite(values).all():
            raise ValueError(
                f"b_factors must be one finite number for each of {len(receptor.types)} atoms"
            )
        low, high = _B_FACTORS
        if path.suffix == ".pdb" and not ((values >= low) & (values <= high)).all():
            raise ValueError(f"b_factors of a PDB file must lie from {low} to {high}")
        atoms = (atom for _, residue in _residues(structure[0]) for atom in residue)
        for atom, value in zip(atoms, values, strict=True):
            atom.b_iso = float(value)
    if path.suffix == ".cif":
        path.write_text(structure.make_mmcif_document().as_string())
        return
    try:
        text = structure.make_pdb_string()
    except (RuntimeError, ValueError) as error:
        raise UserError(f"'{path.name}' cannot be a PDB file ({error}): write a .cif") from None
    path.write_text(text)


def _read(path: Path) -> Any:
    try:
        import gemmi
    except ImportError:
        raise UserError(
            "receptors are read by gemmi, which is not installed: pip install 'hubel[docking]'"
        ) from None
    name = path.name.lower().removesuffix(".gz")
    if not name.endswith(RECEPTOR_SUFFIXES):
        raise UserError(
            f"RECEPTOR '{path}' must end in one of {', '.join(RECEPTOR_SUFFIXES)}, each also with"
            " .gz"
        )
    if not path.is_file():
        raise UserError(f"RECEPTOR '{path}' is no file")
    is_pdb = name.endswith((".pdb", ".ent"))
    try:
        form = gemmi.CoorFormat.Pdb if is_pdb else gemmi.CoorFormat.Mmcif
        if path.name.lower().endswith(".gz"):  # by Python, which sees whether the end is missing
            with gzip.open(path) as file:
                structure = gemmi.read_structure_string(file.read(), format=form)
        else:
            structure = gemmi.read_structure(str(path), format=form)
    # gemmi's errors for files that are none of the kind, cut off, or not gzipped.
    except (*_BROKEN, zlib.error) as error:
        reason = printable(str(error).splitlines()[0] if str(error) else type(error).__name__)
        raise UserError(f"RECEPTOR '{path}' cannot be read: {reason}") from None
    if len(structure) == 0 or structure[0].count_atom_sites() == 0:
        kind = "PDB" if is_pdb else "mmCIF"
        raise UserError(f"RECEPTOR '{path}' must be a {kind} file with atoms, but it holds none")
    return structure


def _residues(model: Any) -> Iterator[tuple[Any, Any]]:
    for chain in model:
        for residue in chain:
            yield chain, residue


def _number(residue: Any) -> str:
    return str(residue.seqid)


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _held(structure: Any) -> str:
    names = Counter(residue.name for _, residue in _residues(structure[0]))
    return f"{names.total()} residues ({_listed(printable(name) for name in names)})"


def _leave_out(model: Any, keep_waters: bool, without: Sequence[str], path: Path) -> list[str]:
    waters = 0
    found: Counter[str] = Counter()
    for chain in model:
        for row in reversed(range(len(chain))):
            residue = chain[row]
            names = {residue.name, f"{chain.name} {_number(residue)}"}
            asked = names.intersection(without)
            found.update(asked)
            if residue.is_water() and not keep_waters:
                waters += 1
                del chain[row]
            elif asked:
                del chain[row]
    missing = [name for name in without if not found[name]]
    if missing:
        raise UserError(
            f"RECEPTOR '{path}' holds no residue '{missing[0]}' to leave out: give the name of its"
            " kind, as 'GOL', or its chain and number, as 'A 401'"
        )
    notes = [f"waters left out: {waters}"] if waters else []
    if found:
        notes.append("left out as asked: " + _listed(f"{name} ({n})" for name, n in found.items()))
    return notes


def _is_amino_acid(residue: Any) -> bool:
    return residue.name in RESIDUE_TYPES or _has_backbone({atom.name for atom in residue})


def _has_backbone(names: set[str]) -> bool:
    return {"N", "CA", "C", "O"} <= names


def _typed(
    path: Path, structure: Any, whole: Any, hydrogens: npt.NDArray[np.int64], notes: list[str]
) -> Receptor:
    labels, elements, places, types = [], [], [], []
    metals, others = [], []
    for chain, residue in _residues(structure[0]):
        known = RESIDUE_TYPES.get(residue.name)
        if known is None:
            backbone = _has_backbone({atom.name for atom in residue})
            known = backbone_types(residue.name) if backbone else {}
            metal = len(residue) == 1 and residue[0].element.is_metal
            called = printable(f"{residue.name} {chain.name} {_number(residue)}")
            if metal:
                metals.append(called)
            elif not residue.is_water():
                others.append(f"{called} of {len(residue)} atoms")
        for atom in residue:
            labels.append(AtomLabel(chain.name, residue.name, _number(residue), atom.name))
            elements.append(atom.element.atomic_number)
            places.append(atom.pos.tolist())
            if atom.element.is_metal:
                types.append(element_type(elements[-1]))
            else:
                types.append(known.get(atom.name, _OPEN))
    where, numbers = np.array(places, np.float64), np.array(elements, np.int64)
    if not np.isfinite(where).all():
        row = int(np.flatnonzero(~np.isfinite(where).all(axis=1))[0])
        raise UserError(f"RECEPTOR '{path}': the place of {' '.join(labels[row])} is no number")
    if metals:
        notes.append(f"metal ions kept: {len(metals)} ({_listed(metals)})")
    if others:
        notes.append(
            f"residues kept that are no standard amino acids: {len(others)}, typed by their"
            f" geometry ({_listed(others)})"
        )
    found = np.array(types, np.int64)
    strange = np.flatnonzero(found == _OPEN)
    by_residue: dict[tuple[str, ...], list[int]] = {}
    for row, label in enumerate(labels):
        by_residue.setdefault(label[:3], []).append(row)
    shown = [rows for rows in by_residue.values() if hydrogens[rows].any()]
    if len(strange):
        # Only of residues that the file shows with hydrogens: elsewhere none is no answer.
        donors = {row: bool(hydrogens[row]) for rows in shown for row in rows}
        found[strange] = geometry_types(numbers, where, strange, donors)
    changed = types_as_shown(found, shown, hydrogens, labels, numbers, where)
    if changed:
        notes.append(
            "residues whose own hydrogens give them another type than their name does:"
            f" {len(changed)} ({_listed(printable(name) for name in changed)})"
        )
    unknown = unknown_elements(elements)
    if unknown:
        names = [f"{_symbol(element)} {n}" for element, n in unknown.items()]
        notes.append(
            f"atoms of elements without a type: {unknown.total()} ({_listed(names)}), typed as"
            " 'other metal', the generic one"
        )
    stem = path.name
    for suffix in (".gz", *RECEPTOR_SUFFIXES):
        stem = stem[: -len(suffix)] if stem.lower().endswith(suffix) else stem
    return Receptor(
        printable(stem),
        where.astype(np.float32),
        found,
        tuple(labels),
        structure,
        whole,
        tuple(notes),
    )


def _symbol(atomic_number: int) -> str:
    import gemmi

    return "unnamed" if atomic_number == 0 else str(gemmi.Element(atomic_number).name)
