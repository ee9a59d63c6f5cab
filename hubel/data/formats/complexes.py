"""Folders of complexes: a protein's file and its ligand's poses in each.

In every folder of a complex one PDB or mmCIF file (`*protein*` or `*receptor*`, if there are
several) and one SDF file of poses (`*poses*`, if there are several). A pose is good if it lies
within 2 Å of where the ligand really sits: by the property `rmsd` or `rmsd_angstrom` of its entry,
or else by symmetry-aware RMSD to the ligand in a second SDF file (`*crystal*` or `*ligand*`). The
properties `vina_kcal_mol`, `minimizedAffinity` and `docking_score` are docking scores, `affinity`
is a pK. What `hubel dock` writes of a ligand can stand here as it is.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hubel.data.paths import expanded, is_folder
from hubel.data.source import FORMATS, Format, Source
from hubel.errors import UserError
from hubel.molecules.ligands import Ligand, read_ligands
from hubel.molecules.receptors import RECEPTOR_SUFFIXES, read_receptor
from hubel.molecules.rmsd import pose_rmsd
from hubel.molecules.sequences import sequences_of

__all__ = ["ComplexFolders"]

_RMSD = ("rmsd", "rmsd_angstrom")
_SCORES = ("vina_kcal_mol", "minimizedAffinity", "docking_score")
_AFFINITY = ("affinity",)
_POSES, _CRYSTAL, _PROTEIN = ("poses",), ("crystal", "ligand"), ("protein", "receptor")


@dataclass(frozen=True)
class _Complex:
    """The files of one; `crystal` None where poses say their RMSD themselves."""

    name: str
    protein: Path
    poses: Path
    crystal: Path | None


class ComplexFolders(Format):
    """One folder a complex."""

    def describe(self) -> str:
        return "a folder of complexes: in each a protein (PDB, mmCIF) and an SDF of its poses"

    def matches(self, spec: str) -> bool:
        path = expanded(spec)
        return is_folder(path) and next(_complexes(path), None) is not None

    def open(self, spec: str) -> Source:
        # Not above, because torch comes with them, and a format is looked at without it.
        from hubel.data.posed import PoseSource
        from hubel.data.poses import GOOD, GOOD_RMSD, Poses
        from hubel.molecules.complexes import Complexes, Molecules

        path = expanded(spec)
        found = list(_complexes(path))
        if not found:
            raise UserError(
                f"DATA '{spec}' has no folder with a protein ({', '.join(RECEPTOR_SUFFIXES)}) and "
                f"an SDF file of poses; put each complex into a folder of its own"
            )
        notes = _passed_over(path, found)
        receptors, sequences, poses, ids, receptor_of, columns = [], [], [], [], [], []
        for number, one in enumerate(found):
            receptor = read_receptor(one.protein)
            sequences.append(sequences_of(receptor.structure))
            receptors.append((receptor.places, receptor.types.astype(np.uint8)))
            entries = read_ligands(one.poses)
            notes += [
                f"{one.name}: entry {p.entry} of '{one.poses.name}' was skipped: it {p.reason}"
                for p in entries.problems
            ]
            for pose, apart in zip(entries, _rmsds(one, list(entries)), strict=True):
                if pose.places is None:
                    raise UserError(f"'{one.poses}' has no coordinates; give an SDF of poses")
                poses.append((pose.places, pose.types.astype(np.uint8)))
                ids.append(f"{one.name}/{pose.entry:05}")
                receptor_of.append(number)
                columns.append((apart, _said(pose, _SCORES), _said(pose, _AFFINITY)))
        rmsd, score, affinity = (
            np.array(column, np.float32) for column in zip(*columns, strict=True)
        )
        names = tuple(one.name for one in found)
        of = np.array(receptor_of, np.int64)
        between = int(((rmsd >= GOOD_RMSD) & (rmsd < 2 * GOOD_RMSD)).sum())
        if between:
            notes.append(f"{between} of {len(rmsd)} poses lie 2 to 4 Å off and count as bad")
        return PoseSource(
            "complexes",
            path,
            Poses(
                Complexes(Molecules.of(receptors), Molecules.of(poses), of),
                of, names, rmsd, score, affinity, sequences=tuple(sequences),
            ),
            np.where(rmsd < GOOD_RMSD, GOOD, 0).astype(np.int64),
            ids,
            np.array(names)[of],
            [f for one in found for f in (one.protein, one.poses, one.crystal) if f is not None],
            notes,
        )  # fmt: skip


def _complexes(path: Path) -> Iterator[_Complex]:
    """The folders in `path` that hold a protein and poses, by name."""
    try:
        folders = sorted(f for f in path.iterdir() if is_folder(f) and f.name[0] != ".")
    except OSError:
        return
    for folder in folders:
        # By name first: a folder of pictures has many files, and looking at each takes time.
        files = sorted(f for f in folder.iterdir() if _ends(f, (*RECEPTOR_SUFFIXES, ".sdf")))
        files = [f for f in files if f.name[0] != "." and f.is_file()]
        ligands = [f for f in files if _ends(f, (".sdf",))]
        proteins = [f for f in files if f not in ligands]
        protein, poses = _named(proteins, _PROTEIN), _named(ligands, _POSES)
        if protein is not None and poses is not None:
            others = [f for f in ligands if f != poses]
            yield _Complex(folder.name, protein, poses, _named(others, _CRYSTAL))


def _passed_over(path: Path, found: list[_Complex]) -> list[str]:
    """A note about the folders that are no complexes, or say too little of which file is what."""
    known = {one.name for one in found}
    others = sorted(f.name for f in path.iterdir() if is_folder(f) and f.name not in known)
    if not others:
        return []
    return [
        f"{len(others)} of {len(others) + len(found)} folders are passed over (first: "
        f"'{others[0]}'): each needs one protein and one SDF of poses, or '*protein*' and "
        f"'*poses*' in their names"
    ]


def _ends(file: Path, suffixes: tuple[str, ...]) -> bool:
    return file.name.lower().removesuffix(".gz").endswith(suffixes)


def _named(files: list[Path], words: tuple[str, ...]) -> Path | None:
    """The only file, or the only one with one of the words in its name."""
    if len(files) == 1:
        return files[0]
    fitting = [f for f in files if any(word in f.name.lower() for word in words)]
    return fitting[0] if len(fitting) == 1 else None


def _rmsds(one: _Complex, poses: list[Ligand]) -> list[float]:
    """Of each pose, as its entry says it or to the crystal's."""
    said = [_said(pose, _RMSD) for pose in poses]
    if not any(math.isnan(rmsd) for rmsd in said):
        return said
    if one.crystal is None:
        raise UserError(
            f"'{one.poses}' does not say the RMSD of every pose (property 'rmsd'), and beside it "
            f"lies no SDF file of the crystal's ligand (*crystal*, *ligand*); give one of both"
        )
    crystal = read_ligands(one.crystal)[0].mol
    try:
        return [float(pose_rmsd(pose.mol, crystal).rmsd[0]) for pose in poses]
    except UserError as error:
        raise UserError(f"'{one.poses}' and '{one.crystal}': {error}") from None


def _said(pose: Ligand, names: tuple[str, ...]) -> float:
    """The number that an entry's properties have under one of `names`, else NaN."""
    for name in names:
        if pose.mol.HasProp(name):
            try:
                value = float(pose.mol.GetProp(name))
            except ValueError:
                continue
            if math.isfinite(value) and (names is not _RMSD or value >= 0):
                return value
    return math.nan


FORMATS.register("complexes")(ComplexFolders())
