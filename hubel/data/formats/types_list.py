"""gnina's lists of poses: a .types file that names .gninatypes files.

A line is a label (1 good, 0 bad), if it has them an affinity (pK, 0 where it is not known,
negative of bad poses) and an RMSD in Å, the receptor's file, the pose's, and after a # what is said
of it: an RMSD and a docking score, or a docking score. A .gninatypes file is a row of atoms of 16
bytes each: x, y, z in Å as float32, little-endian, and the number of the type as int32. Poses in
one receptor whose names differ in a number at the end only are one ligand's. The receptors of a
folder are one group, which no splits share.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hubel.data.paths import expanded, is_file
from hubel.data.source import FORMATS, Format, Source
from hubel.errors import UserError
from hubel.molecules.channels import ATOM_TYPES, HYDROGENS

__all__ = ["TypesList"]

_ATOM = np.dtype([("place", "<f4", (3,)), ("type", "<i4")])


@dataclass(frozen=True)
class _Line:
    """What one line says."""

    label: int
    affinity: float
    rmsd: float
    receptor: str
    pose: str
    docking_score: float


class TypesList(Format):
    """A .types file beside the folders that it names."""

    def describe(self) -> str:
        return "a gnina .types file that lists .gninatypes files of receptors and poses"

    def matches(self, spec: str) -> bool:
        path = expanded(spec)
        return path.suffix.lower() == ".types" and is_file(path)

    def open(self, spec: str) -> Source:
        # Not above, because torch comes with them, and a format is looked at without it.
        from hubel.data.posed import PoseSource
        from hubel.data.poses import GOOD, Poses
        from hubel.molecules.complexes import Complexes, Molecules

        path = expanded(spec)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"DATA '{spec}' cannot be read as text: {error}") from error
        lines = [
            _parsed(line, f"'{spec}' line {number}")
            for number, line in enumerate(text.splitlines(), 1)
            if line.split("#")[0].strip()
        ]
        if not lines:
            raise UserError(f"DATA '{spec}' lists no pose; give one a line")
        ids = [line.pose for line in lines]
        if len(set(ids)) < len(ids):
            twice = next(name for name in ids if ids.count(name) > 1)
            raise UserError(f"DATA '{spec}' names the pose '{twice}' twice; keep one line")
        names = sorted({line.receptor for line in lines})
        number_of = {name: i for i, name in enumerate(names)}
        receptor_of = np.array([number_of[line.receptor] for line in lines], np.int64)
        ligands = [
            (line.receptor, re.sub(r"[_-]?\d+$", "", Path(line.pose).stem)) for line in lines
        ]
        which = {key: i for i, key in enumerate(dict.fromkeys(ligands))}
        ligand_names = tuple(f"{receptor}, {ligand}" for receptor, ligand in which)
        folders = [str(Path(line.receptor).parent) for line in lines]
        receptors, poses = (
            Molecules.of([_atoms(path.parent / name, empty) for name in files])
            for files, empty in ((names, False), (ids, True))
        )
        columns = ((line.rmsd, line.docking_score, line.affinity) for line in lines)
        rmsd, score, affinity = (
            np.array(column, np.float32) for column in zip(*columns, strict=True)
        )
        return PoseSource(
            "types_list",
            path,
            Poses(
                Complexes(receptors, poses, receptor_of),
                np.array([which[key] for key in ligands], np.int64),
                ligand_names,
                rmsd,
                score,
                affinity,
            ),
            np.array([GOOD if line.label else 0 for line in lines], np.int64),
            ids,
            # Of a folder with all of them nothing is known: then each receptor is its own group.
            np.array(names)[receptor_of] if len(set(folders)) == 1 else np.array(folders),
            [path],
            [],
        )


def _parsed(line: str, where: str) -> _Line:
    said, _, remark = line.partition("#")
    words = said.split()
    numbers: list[float] = []
    while words and len(numbers) < 3 and (value := _number(words[0])) is not None:
        numbers.append(value)
        words.pop(0)
    if not numbers or numbers[0] not in (0.0, 1.0) or len(words) != 2:
        raise UserError(
            f"{where}: expected a label (0 or 1), perhaps an affinity and an RMSD, and the files "
            f"of a receptor and of a pose; got '{said.strip()[:80]}'"
        )
    remarks = [value for word in remark.split() if (value := _number(word)) is not None]
    rmsd = numbers[2] if len(numbers) == 3 else remarks[0] if len(remarks) > 1 else math.nan
    affinity = abs(numbers[1]) if len(numbers) > 1 and numbers[1] else math.nan
    score = remarks[-1] if remarks else math.nan
    return _Line(int(numbers[0]), affinity, rmsd, words[0], words[1], score)


def _number(word: str) -> float | None:
    try:
        value = float(word)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _atoms(path: Path, empty: bool) -> tuple[np.ndarray, np.ndarray]:
    """Places and types of the heavy atoms in a .gninatypes file."""
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:  # the latter of a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{str(path)!r} is listed and cannot be read: {reason}") from error
    if len(content) % _ATOM.itemsize or (not content and not empty):
        raise UserError(
            f"'{path}' has {len(content)} bytes; a .gninatypes file has {_ATOM.itemsize} an atom"
            f"{'' if empty else ', and a receptor at least one'}"
        )
    atoms = np.frombuffer(content, _ATOM)
    types, places = atoms["type"], atoms["place"]
    if len(atoms) and not 0 <= int(types.min()) <= int(types.max()) < len(ATOM_TYPES):
        raise UserError(
            f"'{path}' has atom types from {types.min()} to {types.max()}; they are numbered from "
            f"0 to {len(ATOM_TYPES) - 1}"
        )
    if not np.isfinite(places).all():
        raise UserError(f"'{path}' has coordinates that are NaN or infinite; mend it")
    heavy = types >= HYDROGENS
    return places[heavy].astype(np.float32), types[heavy].astype(np.uint8)


FORMATS.register("types_list")(TypesList())
