"""Poses in two .npz files, as typed atoms: receptors.npz and poses.npz in a folder.

Both hold `xyz` (a, 3) in Å, `type` (a,), smina's atom types 0 to 27, and `offset` (m + 1,): the
atoms of item i are rows offset[i]:offset[i + 1]. poses.npz also has `receptor` (n,), the row of
each pose's receptor, and `label` (n,), 1 for a good pose, or `rmsd` (n,) in Å; if it has them,
`vina` (n,) in kcal/mol, `affinity` (n,) as pK, `fold` (n,) and the names, `name` in either file.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hubel.data.npy import npz_names, open_npz_member
from hubel.data.paths import expanded, is_file, is_folder
from hubel.data.source import FORMATS, Array, Format, Source
from hubel.errors import UserError
from hubel.molecules.channels import ATOM_TYPES

if TYPE_CHECKING:
    from hubel.molecules.complexes import Molecules

__all__ = ["PoseArrays"]

_RECEPTORS, _POSES = "receptors.npz", "poses.npz"
_FARTHEST = 1e5  # Å from the origin; no file of a molecule has columns for more


class PoseArrays(Format):
    """Typed atoms of receptors and poses."""

    def describe(self) -> str:
        return "a folder with receptors.npz and poses.npz (poses of ligands as typed atoms)"

    def matches(self, spec: str) -> bool:
        path = expanded(spec)
        return is_folder(path) and all(is_file(path / name) for name in (_RECEPTORS, _POSES))

    def open(self, spec: str) -> Source:
        # Not above, because torch comes with them, and a format is looked at without it.
        from hubel.data.posed import PoseSource
        from hubel.data.poses import GOOD, GOOD_RMSD, Poses
        from hubel.molecules.complexes import Complexes

        path = expanded(spec)
        files = [path / _RECEPTORS, path / _POSES]
        receptors, _ = _molecules(files[0], empty=False)
        poses, num_poses = _molecules(files[1], empty=True)
        members = npz_names(files[1])

        def column(name: str, kinds: str) -> Array | None:
            if name not in members:
                return None
            values = np.asarray(open_npz_member(files[1], name))
            if values.shape != (num_poses,) or values.dtype.kind not in kinds:
                raise UserError(
                    f"'{files[1]}' has {num_poses} poses, and its '{name}' is "
                    f"{values.dtype} of shape {values.shape}; give one value a pose"
                )
            return values

        receptor = column("receptor", "iu")
        if receptor is None:
            raise UserError(
                f"'{files[1]}' has no 'receptor', the row of each pose's receptor in {_RECEPTORS}; "
                f"add it"
            )
        if num_poses and not 0 <= int(receptor.min()) <= int(receptor.max()) < len(receptors):
            raise UserError(
                f"'{files[1]}': 'receptor' goes from {receptor.min()} to {receptor.max()}, and "
                f"{_RECEPTORS} has {len(receptors)}, numbered from 0"
            )
        rmsd, label = column("rmsd", "fiu"), column("label", "iub")
        if rmsd is None and label is None:
            raise UserError(
                f"'{files[1]}' has neither 'label' nor 'rmsd', so nothing says which poses are "
                f"good; add one of them"
            )
        if rmsd is not None and label is None and not (rmsd >= 0).all():
            raise UserError(
                f"'{files[1]}': 'rmsd' says which poses are good, and holds values that are NaN or "
                f"below 0; mend them, or give 'label'"
            )
        if label is None:
            assert rmsd is not None  # noqa: S101
            label = rmsd < GOOD_RMSD
        unknown = np.full(num_poses, np.nan, np.float32)
        if not np.isin(label, (0, 1)).all():
            raise UserError(
                f"'{files[1]}': 'label' is 1 for a good pose and 0 for a bad one, got values from "
                f"{label.min()} to {label.max()}"
            )
        names = _names(files[0], "name", len(receptors), "receptor")
        receptor = receptor.astype(np.int64)
        fold = column("fold", "iu")
        if fold is not None:
            fold = np.unique(fold, return_inverse=True)[1].reshape(-1)
            _check_folds(fold, receptor, names, files[1])
        return PoseSource(
            "pose_arrays",
            path,
            Poses(
                Complexes(receptors, poses, receptor),
                receptor,
                tuple(names),
                unknown if rmsd is None else rmsd.astype(np.float32),
                _or(column("vina", "fiu"), unknown),
                _or(column("affinity", "fiu"), unknown),
                None if fold is None else fold.astype(np.int8),
            ),
            np.where(label.astype(bool), GOOD, 0).astype(np.int64),
            _names(files[1], "name", num_poses, "pose"),
            np.array(names)[receptor],
            files,
            [],
        )


def _check_folds(fold: Array, receptor: Array, names: list[str], path: Path) -> None:
    """A receptor whose poses are in two folds would be trained on and tested on."""
    pairs = np.unique(np.column_stack([receptor, fold]), axis=0)
    twice = np.flatnonzero(np.bincount(pairs[:, 0]) > 1)
    if len(twice):
        raise UserError(
            f"'{path}': 'fold' puts poses of the receptor '{names[int(twice[0])]}' into several "
            f"folds; put all of a receptor into one"
        )


def _or(column: Array | None, unknown: Array) -> Array:
    """As float32; what is infinite is not known."""
    if column is None:
        return unknown
    return np.where(np.isfinite(column), column, np.nan).astype(np.float32)


def _names(path: Path, member: str, number: int, what: str) -> list[str]:
    """The names in a file, all different, or made of numbers."""
    if member not in npz_names(path):
        return [f"{what}-{i:05}" for i in range(number)]
    names = [str(name) for name in np.asarray(open_npz_member(path, member)).tolist()]
    if len(names) != number or len(set(names)) != number:
        raise UserError(
            f"'{path}': '{member}' has {len(set(names))} different names of {number} {what}s; give "
            f"each one of its own"
        )
    return names


def _molecules(path: Path, *, empty: bool) -> "tuple[Molecules, int]":
    """What `path` holds, and how many; `empty` says whether one may have no atoms."""
    from hubel.molecules.complexes import Molecules

    members = npz_names(path)
    missing = [name for name in ("xyz", "type", "offset") if name not in members]
    if missing:
        raise UserError(f"'{path}' has no '{missing[0]}'; it needs xyz, type and offset")
    places, types, starts = (
        np.asarray(open_npz_member(path, name)) for name in ("xyz", "type", "offset")
    )
    if places.ndim != 2 or places.shape[1] != 3 or types.shape != places.shape[:1]:
        raise UserError(
            f"'{path}': xyz is of shape {places.shape} and type of {types.shape}; give (a, 3) and "
            f"(a,)"
        )
    if places.dtype.kind not in "fiu":
        raise UserError(f"'{path}': xyz must be numbers in Å, got {places.dtype}")
    if starts.ndim != 1 or starts.dtype.kind not in "iu" or types.dtype.kind not in "iu":
        raise UserError(f"'{path}': type and offset must be whole numbers in a row each")
    steps = np.diff(starts.astype(np.int64))
    fits = len(starts) > 1 and int(starts[0]) == 0 and int(starts[-1]) == len(places)
    if not fits or int(steps.min()) < (0 if empty else 1):
        raise UserError(
            f"'{path}': offset must grow from 0 to the {len(places)} atoms, by the number of atoms "
            f"of each item{'' if empty else ', at least one'}"
        )
    if not (np.abs(places) < _FARTHEST).all():
        raise UserError(
            f"'{path}': xyz holds values that are NaN, or {_FARTHEST:g} Å and more; mend them"
        )
    if len(types) and not 0 <= int(types.min()) <= int(types.max()) < len(ATOM_TYPES):
        raise UserError(
            f"'{path}': type goes from {types.min()} to {types.max()}, and atom types are numbered "
            f"from 0 to {len(ATOM_TYPES) - 1}"
        )
    made = Molecules(starts.astype(np.int64), places.astype(np.float32), types.astype(np.uint8))
    return made, len(steps)


FORMATS.register("pose_arrays")(PoseArrays())
