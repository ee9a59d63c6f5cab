"""What `hubel predict` writes: predictions as files that other tools read, one format a file.

Every format takes the same `Annotated` pictures, whose boxes and masks are in the coordinates of
the original file as shown (its EXIF orientation applied), and writes into a folder of its own that
is new or empty: nothing of the user's is changed. Pictures keep their folders below `source_root`,
so that two of one name do not meet.

No torch here.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from hubel.errors import UserError, printable
from hubel.registry import Registry

__all__ = [
    "WRITERS",
    "Annotated",
    "Kind",
    "Places",
    "Writer",
    "check_names",
    "common_root",
    "fresh_folder",
    "relative_name",
    "write_new",
    "writer_for",
]

Kind: TypeAlias = Literal["boxes", "mask"]
"""What a network says beyond a class, and what a format can hold."""

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Annotated:
    """One picture or volume with what was predicted, or is true, of it.

    Attributes
    ----------
    path: its file.
    size: (height, width) as shown, or (depth, height, width).
    boxes: float64 (k, 6): class, score, left, top, right, bottom in pixels; the score of a true
        box is NaN: it has none. None where boxes were not asked for.
    mask: uint8 of shape `size`, the class of each pixel or voxel, 255 for none; or None.

    Raises `UserError` where a box is not finite, which a broken network gives; `ValueError` where
    shapes do not fit.
    """

    path: Path
    size: tuple[int, ...]
    boxes: FloatArray | None = None
    mask: npt.NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        if self.boxes is not None:
            if len(self.size) != 2 or self.boxes.ndim != 2 or self.boxes.shape[1] != 6:
                raise ValueError(
                    f"boxes must be (k, 6) and of a picture (height, width). Got shape "
                    f"{self.boxes.shape} and size {self.size} instead."
                )
            if not np.isfinite(np.delete(self.boxes, 1, axis=1)).all():
                raise UserError(
                    f"the network gives boxes that are not finite for '{self.path}': its weights "
                    f"hold NaN or infinity; train again with a lower --lr"
                )
        if self.mask is not None and (
            self.mask.shape != tuple(self.size) or self.mask.dtype != np.uint8
        ):
            raise ValueError(
                f"mask must be uint8 of shape {self.size}. Got {self.mask.dtype} of shape "
                f"{self.mask.shape} instead."
            )

    def visible_boxes(self) -> FloatArray:
        """The boxes cut to the picture (k, 6), without those of which nothing is left.

        >>> found = np.array([[0, 0.9, -5, 2, 4, 9], [1, 0.8, 20, 0, 30, 5]])
        >>> Annotated(Path("a.jpg"), (8, 16), boxes=found).visible_boxes().tolist()
        [[0.0, 0.9, 0.0, 2.0, 4.0, 8.0]]
        """
        if self.boxes is None:
            raise ValueError(f"'{self.path}' has no boxes. Choose a writer of masks instead.")
        height, width = self.size
        boxes = self.boxes.astype(np.float64, copy=True)
        boxes[:, 2::2] = boxes[:, 2::2].clip(0, width)
        boxes[:, 3::2] = boxes[:, 3::2].clip(0, height)
        kept: FloatArray = boxes[(boxes[:, 4:] > boxes[:, 2:4]).all(axis=1)]
        return kept


class Writer(Protocol):
    """One format to write; a module of this folder registers one instance.

    Attributes
    ----------
    name: as registered.
    kinds: what it can hold.
    """

    name: str
    kinds: tuple[Kind, ...]

    def describe(self) -> str:
        """One line: what it writes, for the command line."""
        ...

    def write(
        self,
        annotated: Iterable[Annotated],
        classes: Sequence[str],
        folder: Path,
        source_root: Path,
    ) -> list[Path]:
        """Write `annotated`, taken one by one, into `folder`; the paths of the files.

        `classes` are the names of the classes 0, 1, …; `source_root` is a folder above all
        pictures (`common_root`). Raises `UserError` as `fresh_folder` and `check_names` do.
        """
        ...


WRITERS: Registry[Writer] = Registry("--write", "hubel.annotate")


def writer_for(name: str, kind: Kind) -> Writer:
    """The writer `name`; raises `UserError` where it cannot hold predictions of `kind`."""
    writer = WRITERS[name]
    if kind not in writer.kinds:
        fitting = [f"'{other}'" for other in WRITERS.names() if kind in WRITERS[other].kinds]
        said = {"boxes": "boxes", "mask": "masks"}
        raise UserError(
            f"--write '{name}' holds {' and '.join(said[k] for k in writer.kinds)}, and this "
            f"network gives {said[kind]}; choose from {', '.join(fitting)}"
        )
    return writer


def common_root(paths: Sequence[Path]) -> Path:
    """The deepest folder, absolute, that holds all of `paths`."""
    if not paths:
        raise ValueError("paths must name at least one file. Got none instead.")
    folders = [os.path.dirname(_absolute(path)) for path in paths]  # noqa: PTH120
    return Path(os.path.commonpath(folders))


def relative_name(path: Path, source_root: Path) -> Path:
    """`path` relative to `source_root`, which it must lie below."""
    return Path(_absolute(path)).relative_to(_absolute(source_root))


def _absolute(path: Path) -> str:
    # Of ".." pathlib would ask the file system, and replace links by what they lead to.
    return os.path.abspath(path)  # noqa: PTH100


def fresh_folder(folder: Path) -> Path:
    """Make `folder`; raises `UserError` where there is something in it or it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        holds_something = any(folder.iterdir())
    except OSError as error:
        raise UserError(
            f"--output '{folder}' cannot be a folder to write into: {error.strerror or error}; "
            f"name another"
        ) from error
    if holds_something:
        raise UserError(
            f"--output '{folder}' is not empty, and hubel overwrites nothing; name a new or an "
            f"empty folder"
        )
    return folder


class Places:
    """Where each picture's file goes: its own folders below `source_root`, with another ending.

    Formats that pair files by their names without endings cannot hold a.jpg and a.png of one
    folder: that is a `UserError`.
    """

    def __init__(self, source_root: Path) -> None:
        self._root = source_root
        self._taken: dict[Path, Path] = {}

    def of(self, path: Path, suffix: str) -> Path:
        """The place of `path`, relative: Places(a).of(a/b/c.jpg, ".txt") is b/c.txt."""
        place = relative_name(path, self._root)
        if place.suffix.lower() == ".gz":  # a.nii.gz has one name with a.nii
            place = place.with_suffix("")
        place = place.with_suffix(suffix)
        if place in self._taken:
            other = self._taken[place]
            said = f"'{path}' is there twice; name it once"
            if _absolute(other) != _absolute(path):
                said = (
                    f"'{other}' and '{path}' differ in their endings alone, and the files written "
                    f"for them would have one name; rename one, or predict them one by one"
                )
            raise UserError(printable(said))
        self._taken[place] = path
        return place


def check_names(paths: Iterable[Path], source_root: Path) -> None:
    """That each of `paths` has a place of its own: asked before hours of predicting, not after."""
    places = Places(source_root)
    for path in paths:
        places.of(path, ".txt")


def write_new(path: Path, content: bytes | str) -> Path:
    """Write a file that does not exist yet, text as UTF-8; its folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
    return path
