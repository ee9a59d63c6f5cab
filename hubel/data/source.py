"""`Source`: labelled samples in one on-disk format, and the formats that open one.

A source is columnar: what is known of every sample without decoding it (its id, target,
split and group) lies in arrays as long as the source, because a Python object per sample
costs hundreds of megabytes on a large set and grows in every worker. The pixels come one
at a time from `decode`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from hubel.data.boxes import Boxes, Fault
from hubel.data.mirroring import flip_safe
from hubel.data.paths import exists, expanded
from hubel.errors import UserError
from hubel.registry import Registry

if TYPE_CHECKING:  # it comes with torch, which processes that only decode do without
    from hubel.data.poses import Poses

__all__ = [
    "EMBEDDED",
    "FORMATS",
    "SPLITS",
    "Array",
    "Format",
    "Labelling",
    "Sample",
    "Source",
    "SourceInfo",
    "UnreadableSampleError",
    "open_source",
]

Array = npt.NDArray[Any]

Labelling: TypeAlias = Literal["class", "boxes", "mask", "pose"]

EMBEDDED = (
    "digits", "shapes", "shapes-box", "shapes-boxes", "shapes-masks", "solids", "solids-masks",
    "fashion-mnist", "cifar10", "cifar100",
)  # fmt: skip
"""What may be named in place of a path."""

SPLITS = ("train", "val", "test")
"""The names a split may have; "" in `Source.splits` means: not assigned by the data."""


class UnreadableSampleError(Exception):
    """One sample's bytes cannot be made into pixels; the text is the reason, in words."""


@dataclass(frozen=True)
class SourceInfo:
    """What every sample of a source has in common.

    Attributes
    ----------
    format: the registered name of the format ("folders", "idx", …).
    spatial_dims: 2 for pictures, 3 for volumes.
    classes: class names; `Source.targets` index into it. At least two; of boxes one is enough.
    in_channels: channels of a decoded sample where the format fixes it (arrays); None where
        it follows from the pictures and is found by looking at them (`decode` can give
        either: 1 grey or 3 RGB).
    size: spatial size of every sample where the format fixes it (arrays); None otherwise.
    labels: what a sample is labelled with: one "class", "boxes" with a class each, a "mask",
        a class for every pixel or voxel, or as a "pose" that is good or bad.
    interpolate: False where pixels are classes and not light, in a source of masks: brought to
        another size they are picked (nearest neighbour) and never mixed.
    """

    format: str
    spatial_dims: int
    classes: tuple[str, ...]
    in_channels: int | None = None
    size: tuple[int, ...] | None = None
    labels: Labelling = "class"
    interpolate: bool = True

    @property
    def flip_safe(self) -> bool:
        """False where mirroring changes labels, as `hubel.data.mirroring` tells from classes."""
        return flip_safe(self.classes)


@dataclass(frozen=True)
class Sample:
    """One decoded sample: `input` uint8 or float32 (*spatial, c), channels last."""

    input: Array
    target: int
    id: str
    split: str
    extra: dict[str, Any] = field(default_factory=dict)


class Source(ABC):
    """Labelled samples. Reads only; never changes the user's files.

    Attributes (columns, all of the same length; set by the format's constructor)
    ----------
    path: the folder or file it was opened from; None for embedded sets.
    info: what the samples have in common.
    ids: a stable, readable name for each sample: the path relative to `path` with forward
        slashes, or "train/00042" in an array file. Unique.
    targets: int64 (n,), indices into `info.classes`. Of samples with boxes the class of the
        largest one, of samples with masks and of those without an object 0: by these a split is
        stratified, nothing is learned from them.
    boxes: of every sample, where `info.labels` is "boxes".
    masks: a source of the masks, sample for sample, where `info.labels` is "mask": pixels are
        classes (*spatial, 1) uint8, 255 where there is none.
    poses: the atoms, and what is known of each, where `info.labels` is "pose".
    faults: what was found wrong with annotations and mended or passed over.
    splits: unicode array (n,) of "train", "val", "test" or "" (not assigned).
    groups: unicode array (n,) or None; samples of one group never cross splits.
    notes: sentences about what was passed over ("ignored 3 hidden entries"), for the user.
    """

    path: Path | None
    info: SourceInfo
    ids: Sequence[str]
    targets: npt.NDArray[np.int64]
    splits: npt.NDArray[np.str_]
    groups: npt.NDArray[np.str_] | None = None
    boxes: Boxes | None = None
    masks: "Source | None" = None
    poses: "Poses | None" = None
    faults: Sequence[Fault] = ()
    notes: list[str]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def name(self) -> str:
        """The data's name in messages and headings."""
        return self.info.format if self.path is None else str(self.path)

    @abstractmethod
    def stamp(self) -> str:
        """A cheap fingerprint (hex) that changes when the underlying data may have changed.

        For files: of names, sizes and modification times, read without opening them. Must
        take well under a second for 60,000 files.
        """

    @abstractmethod
    def content(self, i: int) -> bytes:
        """The stored bytes of sample `i` (a file's bytes; an array row's bytes).

        Equal bytes mean an exact copy. Raises `UnreadableSampleError` if they cannot be read.
        """

    @abstractmethod
    def decode(self, content: bytes, i: int, in_channels: int | None = None) -> Array:
        """Pixels of sample `i` from its `content`: (*spatial, c), channels last, uint8 for
        pictures (float32 allowed for array formats). Decodes the whole sample.

        `in_channels` 1 or 3 asks for grey or RGB; None gives what the sample has.
        Raises `UnreadableSampleError` with the reason.
        """

    def batch(self, indices: npt.NDArray[np.int64]) -> Array | None:
        """Pixels of many samples at once, (b, *spatial, c), where a format holds arrays.

        None (the default) where samples are decoded one by one. A format that overrides
        this gives exactly the rows that `decode` would give, in `info.size` and
        `info.in_channels`; it is read in this process and never copied to another.
        """
        return None

    def __getitem__(self, i: int) -> Sample:
        pixels = self.decode(self.content(i), i, self.info.in_channels)
        return Sample(pixels, int(self.targets[i]), self.ids[i], str(self.splits[i]))


class Format(ABC):
    """One data format; a module in `hubel.data.formats` registers one instance.

    `matches` is asked of every format in name order, so it must be specific and cheap. A format
    that says yes to what others describe more closely is `general` and asked after them.
    """

    general: ClassVar[bool] = False

    @abstractmethod
    def matches(self, spec: str) -> bool:
        """Whether `spec` (a path, or an embedded set's name) is this format's."""

    @abstractmethod
    def open(self, spec: str) -> Source:
        """The source; raises `UserError` naming the file or folder at fault."""

    @abstractmethod
    def describe(self) -> str:
        """One line: what layout this format expects, for messages and docs."""


FORMATS: Registry[Format] = Registry("data format", "hubel.data.formats")


def open_source(spec: str | Path, format: str | None = None) -> Source:
    """The source that `spec` names: a path, or an embedded set ("digits", "shapes:500").

    `format` names one format; otherwise the first whose `matches` says yes is taken.
    """
    text = str(spec)
    if format is not None:
        return FORMATS[format].open(text)
    for name in sorted(FORMATS.names(), key=lambda name: FORMATS[name].general):  # stable
        if FORMATS[name].matches(text):
            return FORMATS[name].open(text)
    if not exists(expanded(text)):
        raise UserError(
            f"DATA '{text}' is neither a path that exists nor an embedded set "
            f"({', '.join(repr(name) for name in EMBEDDED)}); check the spelling or the working "
            f"folder"
        )
    known = "; ".join(f"{n}: {FORMATS[n].describe()}" for n in FORMATS.names())
    raise UserError(
        f"DATA '{text}' has none of the layouts hubel reads. Arrange it as one of: {known}"
    )
