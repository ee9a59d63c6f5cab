"""NIfTI volumes (.nii, .nii.gz), as medical scanners' files are kept for research.

    DATA/CLASS/*.nii.gz, or DATA/{train,val,test}/CLASS/*.nii.gz     one class a volume
    DATA/images/*.nii.gz with DATA/masks/*.nii.gz                    a class for every voxel

Masks may lie with splits in any of the ways that `hubel.data.formats.masks` says, and mean what
classes.txt or legend.csv there says. A mask lies on the grid of its volume.
"""

import hashlib
import os
from collections.abc import Sequence
from io import BytesIO
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hubel.data.boxes import Fault
from hubel.data.filesource import FileSource, readable_name
from hubel.data.labels import class_table, split_name
from hubel.data.legend import Legend
from hubel.data.mask_folders import Pairs, folder_legend, mask_parts, paired
from hubel.data.nifti_file import NIFTI_SUFFIXES, decode_volume, read_grid, volume_values
from hubel.data.paths import expanded, is_folder
from hubel.data.pictures import convert_channels
from hubel.data.source import (
    FORMATS,
    SPLITS,
    Array,
    Format,
    Source,
    SourceInfo,
    UnreadableSampleError,
)
from hubel.errors import UserError

__all__ = ["Nifti", "VolumeFiles", "VolumeMasks"]

_PEEK = 2_000  # entries that `matches` looks at before it gives up
_APART = 0.05  # of a length: volumes that differ by more are told


class Nifti(Format):
    """Volumes in class folders, or with masks of the same names."""

    def describe(self) -> str:
        return "DATA/CLASS/*.nii.gz, or DATA/images/*.nii.gz with DATA/masks/*.nii.gz"

    def matches(self, spec: str) -> bool:
        root = expanded(spec)
        return is_folder(root) and _holds_volumes(root)

    def open(self, spec: str) -> Source:
        root = expanded(spec)
        if not is_folder(root) or not _holds_volumes(root):
            raise UserError(f"DATA '{spec}' holds no NIfTI volumes; they are {self.describe()}")
        try:
            import nibabel  # noqa: F401
        except ImportError:
            raise UserError(
                f"DATA '{spec}' holds NIfTI volumes, which hubel reads by nibabel, and that is not "
                f"installed: pip install 'hubel[medical]'"
            ) from None
        parts = mask_parts(root, NIFTI_SUFFIXES)
        if not parts:
            return _classes(root, spec)
        rule = "a mask has its volume's name"
        pairs = paired(root, spec, parts, NIFTI_SUFFIXES, rule)
        legend = folder_legend(root, spec, pairs, _indices)
        if legend.coloured:
            raise UserError(
                f"the legend in DATA '{spec}' names colours, and the masks of volumes have none; "
                f"write name,index"
            )
        return _masked(root, pairs, legend)


class VolumeFiles(FileSource):
    """Volumes below one folder, (depth, height, width, c) as `hubel.data.nifti_file` says.

    Parameters as of `FileSource`. `spacing`, float64 (n, 3): depth, height and width of a voxel
    in mm, NaN where the header cannot be read. Adds to `notes` what it says of the set.
    """

    def __init__(
        self,
        root: Path,
        info: SourceInfo,
        names: Sequence[str],
        targets: npt.NDArray[np.int64],
        splits: npt.NDArray[np.str_],
        notes: list[str],
        faults: Sequence[Fault] = (),
    ) -> None:
        super().__init__(root, root, info, names, targets, splits, notes)
        self.faults = faults
        self.spacing = np.full((len(names), 3), np.nan)
        sizes = np.zeros((len(names), 3))
        for i in range(len(names)):
            try:
                with open(self.file(i), "rb") as file:  # noqa: PTH123
                    grid = read_grid(file)
            except (UnreadableSampleError, OSError):
                continue  # found again, and told, where volumes are read
            self.spacing[i], sizes[i] = grid.spacing, grid.size
        self.notes += _spacing_notes(self.spacing, sizes)

    def decode(self, content: bytes, i: int, in_channels: int | None = None) -> Array:
        return convert_channels(decode_volume(content), in_channels)


class VolumeMasks(FileSource):
    """The masks of `volumes`: files below `root`, (depth, height, width, 1) uint8 classes."""

    def __init__(
        self, volumes: VolumeFiles, root: Path, names: Sequence[str], legend: Legend
    ) -> None:
        # The legend is part of the format's name, as of all that a stored row follows from.
        info = SourceInfo(f"nifti masks {legend.digest()}", 3, legend.names, 1, interpolate=False)
        super().__init__(root, root, info, names, volumes.targets, volumes.splits, [])
        self._volumes = volumes
        self._legend = legend

    def stamp(self) -> str:
        # The volumes' too: a mask is unreadable where its volume lies elsewhere.
        facts = f"{super().stamp()} {self._legend.digest()} {self._volumes.stamp()}"
        return hashlib.blake2b(facts.encode(), digest_size=16).hexdigest()

    def content(self, i: int) -> bytes:
        """Raises `UnreadableSampleError` where the mask's grid is not its volume's.

        Asked here and not when decoding: see `hubel.data.masked.MaskFiles`.
        """
        content = super().content(i)
        grid = read_grid(BytesIO(content))
        try:
            with open(self._volumes.file(i), "rb") as file:  # noqa: PTH123
                volume = read_grid(file)
        except (UnreadableSampleError, OSError):
            return content  # the volume's own fault, found where volumes are read
        if difference := volume.differs(grid):
            raise UnreadableSampleError(
                f"the mask does not lie on its volume '{self._volumes.ids[i]}': {difference}"
            )
        return content

    def decode(self, content: bytes, i: int, in_channels: int | None = None) -> Array:
        """Classes (depth, height, width, 1); `in_channels` is not followed."""
        values = _indices(content)
        self._legend.check(values)
        return self._legend.applied(values)


def _indices(content: bytes) -> Array:
    """The values of a mask, (depth, height, width, 1) uint8, whatever type they are stored in."""
    values = volume_values(content)
    if values.shape[-1] != 1:
        raise UnreadableSampleError(
            f"a mask has one value a voxel, this one {values.shape[-1]}; "
            f"save the number of the class in one volume"
        )
    if values.dtype == np.uint8:
        return values
    wrong = ~((values >= 0) & (values <= 255) & (values == np.floor(values)))
    if wrong.any():
        raise UnreadableSampleError(
            f"a mask holds whole numbers from 0 to 255, this one {values[wrong][0]:g}; "
            f"save the numbers of the classes, as uint8"
        )
    return values.astype(np.uint8)


def _masked(root: Path, pairs: Pairs, legend: Legend) -> Source:
    info = SourceInfo("nifti", 3, legend.names, labels="mask")
    splits = np.array(pairs.splits, np.str_)
    targets = np.zeros(len(splits), np.int64)
    source = VolumeFiles(root, info, pairs.names, targets, splits, pairs.notes, pairs.faults)
    source.masks = VolumeMasks(source, root, pairs.masks, legend)
    return source


def _classes(root: Path, spec: str) -> Source:
    """Volumes in one folder a class."""
    top = _folders(root)
    parts = [(split_name(name) or "", f"{name}/") for name in top if split_name(name)]
    parts.sort(key=lambda part: SPLITS.index(part[0]))
    beside = [name for name in top if parts and not split_name(name)]
    if beside:
        raise UserError(
            f"DATA '{spec}' mixes split folders with other folders ({readable_name(beside[0])}); "
            f"move the class folders into train, or the split folders elsewhere"
        )
    names: list[str] = []
    labels: list[str] = []
    splits: list[str] = []
    for split, prefix in parts or [("", "")]:
        for name in _folders(root / prefix):
            found = _volumes(root, f"{prefix}{name}/")
            if not found:
                raise UserError(
                    f"DATA '{spec}': class folder '{readable_name(prefix + name)}' holds no "
                    f"volumes; put .nii or .nii.gz files into it or take the folder away"
                )
            names += found
            labels += [readable_name(name)] * len(found)
            splits += [split] * len(found)
    if not names:
        raise UserError(
            f"DATA '{spec}' holds NIfTI volumes but no class folders and no masks; expected "
            f"{Nifti().describe()}"
        )
    column = np.array(splits, np.str_)
    table, targets, missing = class_table(
        np.array(labels, np.str_),
        column,
        f"DATA '{spec}'",
        "put volumes of it into train/{name}, or take the folder {split}/{name} away",
    )
    classes = tuple(str(name) for name in table)
    info = SourceInfo("nifti", 3, classes)
    return VolumeFiles(root, info, names, targets, column, missing)


def _spacing_notes(spacing: npt.NDArray[np.float64], sizes: npt.NDArray[np.float64]) -> list[str]:
    """Sentences about lengths (n, 3) of voxels in mm, and of volumes of (n, 3) voxels."""
    known = ~np.isnan(spacing).any(axis=1)
    if not known.any():
        return []
    spacing, sizes = spacing[known], sizes[known]
    notes = []
    for lengths, what, told in (
        (spacing, "voxels are", ""),
        (
            spacing * sizes,
            "volumes show",
            "; each is stretched to one size, so a mm is not equally long in all: cut them to one "
            "field of view beforehand if lengths matter",
        ),
    ):
        median = np.median(lengths, axis=0)
        apart = (np.abs(lengths / median - 1) > _APART).any(axis=1)
        said = f"{what} {_mm(median)} mm (depth×height×width)"
        if apart.any():
            order = np.argsort(lengths[apart].prod(axis=1), kind="stable")
            least, most = lengths[apart][order[0]], lengths[apart][order[-1]]
            notes.append(
                f"{said} in the median; {int(apart.sum()):,} of {len(lengths):,} differ by more "
                f"than {_APART:.0%}, from {_mm(least)} to {_mm(most)} mm{told}"
            )
        elif not told:
            notes.append(said)
    return notes


def _mm(lengths: npt.NDArray[np.float64]) -> str:
    return "×".join(f"{mm:.3g}" for mm in lengths)


def _holds_volumes(root: Path) -> bool:
    """Whether a volume is among the first entries at any depth below `root`."""
    pending, budget = [str(root)], _PEEK
    while pending and budget > 0:
        try:
            with os.scandir(pending.pop()) as entries:
                found = [e for e in islice(entries, budget) if not e.name.startswith(".")]
        except OSError:
            continue
        if any(e.name.lower().endswith(NIFTI_SUFFIXES) for e in found):
            return True
        budget -= len(found) + 1
        pending += [e.path for e in found if e.is_dir(follow_symlinks=False)]
    return False


def _folders(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    except OSError as error:
        raise UserError(
            f"folder '{folder}' cannot be read: {error.strerror}; check its permissions"
        ) from error


def _volumes(root: Path, folder: str) -> list[str]:
    """Names, relative to `root`, of the volumes at any depth below `folder`; sorted."""
    found = []
    for at, below, files in os.walk(root / folder):
        below[:] = [name for name in below if not name.startswith(".")]
        inner = Path(at).relative_to(root).as_posix()
        found += [
            f"{inner}/{name}"
            for name in files
            if not name.startswith(".") and name.lower().endswith(NIFTI_SUFFIXES)
        ]
    return sorted(found)


FORMATS.register("nifti")(Nifti())
