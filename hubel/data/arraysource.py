"""A source of arrays: many samples of one shape in few large arrays."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hubel.data.labels import class_table
from hubel.data.pictures import convert_channels
from hubel.data.source import Array, Source, SourceInfo
from hubel.errors import UserError

__all__ = ["ArraySource", "Part", "array_source", "channels_last", "check_parts", "part_ids"]

_FEW = 4  # an axis as short as this is taken for channels, not for space
_CHECKED_BYTES = 1 << 26  # samples are checked for NaN in pieces of this size


@dataclass(frozen=True)
class Part:
    """Samples of one split: pixels (n, *spatial, c) and labels (n,), numbers or text; or
    masks (n, *spatial), whole numbers."""

    split: str
    pixels: Array
    labels: Array


class ArraySource(Source):
    """Labelled samples that lie in arrays, in memory or memory-mapped.

    Parameters
    ----------
    blocks: arrays (n, *spatial, c) that follow each other; never copied as a whole.
    dtype: "uint8" or "float32", what the samples are given as.
    files: what `stamp` looks at; empty for an embedded set.
    version: text that goes into the stamp: of an embedded set, everything it depends on.
    The others are the columns of `Source`.
    """

    def __init__(
        self,
        path: Path | None,
        info: SourceInfo,
        blocks: Sequence[Array],
        dtype: str,
        ids: Sequence[str],
        targets: npt.NDArray[np.int64],
        splits: npt.NDArray[np.str_],
        notes: list[str],
        files: Sequence[Path] = (),
        version: str = "",
    ) -> None:
        self.path = path
        self.info = info
        self.ids = ids
        self.targets = targets
        self.splits = splits
        self.notes = notes
        self._blocks = list(blocks)
        self._starts = np.cumsum([0, *(len(b) for b in blocks)])
        self._dtype = np.dtype(dtype)
        self._shape = self._blocks[0].shape[1:]
        self._files = list(files)
        self._version = version

    def stamp(self) -> str:
        facts = [self.info.format, self._version]
        for file in self._files:
            try:
                stat = file.stat()
                facts.append(f"{file.name} {stat.st_size} {stat.st_mtime_ns}")
            except OSError:
                facts.append(f"{file.name} gone")
        return hashlib.blake2b("\0".join(facts).encode(), digest_size=16).hexdigest()

    def content(self, i: int) -> bytes:
        block = int(np.searchsorted(self._starts, i, side="right")) - 1
        row: Array = self._blocks[block][i - self._starts[block]]
        return row.astype(self._dtype, copy=False).tobytes()

    def decode(self, content: bytes, i: int, in_channels: int | None = None) -> Array:
        pixels = np.frombuffer(content, self._dtype).reshape(self._shape)
        return convert_channels(pixels.copy(), in_channels)

    def batch(self, indices: npt.NDArray[np.int64]) -> Array:
        gathered = np.empty((len(indices), *self._shape), self._dtype)
        for block, (start, stop) in zip(self._blocks, pairwise(self._starts), strict=True):
            here = np.flatnonzero((indices >= start) & (indices < stop))
            if here.size:
                gathered[here] = block[indices[here] - start]
        return gathered


def array_source(
    format: str,
    path: Path | None,
    parts: Sequence[Part],
    *,
    where: str,
    classes: Sequence[str] | None = None,
    files: Sequence[Path] = (),
    version: str = "",
    notes: Sequence[str] = (),
) -> ArraySource:
    """A source of `parts`, checked against each other.

    Parameters
    ----------
    parts: in reading order; a split ("train", "val", "test", or "" for none) may have several.
    where: the file or folder, for messages.
    classes: names of the labels 0, 1, …; without them a label's name is its own text.

    Raises `UserError` where lengths, shapes or labels do not agree or pixels are not finite.
    """
    notes = list(notes)
    first = parts[0].pixels
    dtype = check_parts(parts, where, notes)
    labels = np.concatenate([part.labels for part in parts])
    splits = np.repeat([part.split for part in parts], [len(part.labels) for part in parts])
    if classes is not None:
        labels = _named(labels, classes, where)
    table, targets, missing = class_table(
        labels, splits, where, "label samples of {name} in train, or take them out of {split}"
    )
    names = tuple(classes[int(k)] if classes is not None else str(k) for k in table)
    info = SourceInfo(
        format,
        spatial_dims=first.ndim - 2,
        classes=names,
        in_channels=first.shape[-1],
        size=first.shape[1:-1],
    )
    blocks = [part.pixels for part in parts]
    return ArraySource(
        path, info, blocks, dtype, part_ids(parts), targets, splits, notes + missing, files, version
    )


def check_parts(parts: Sequence[Part], where: str, notes: list[str]) -> str:
    """ "uint8" or "float32", what the samples are given as; adds to `notes`.

    Raises `UserError` where lengths or shapes do not agree or pixels are not finite numbers.
    """
    first = parts[0].pixels
    for part in parts:
        said = _said(part, where)
        if len(part.pixels) != len(part.labels):
            raise UserError(
                f"{said}: {len(part.pixels)} images but {len(part.labels)} labels; every image "
                f"has one label"
            )
        if part.pixels.shape[1:] != first.shape[1:]:
            raise UserError(
                f"{said}: samples of shape {part.pixels.shape[1:]} where the first has "
                f"{first.shape[1:]}; all need one shape"
            )
        if not part.pixels.size:
            raise UserError(f"{said}: no samples, the array's shape is {part.pixels.shape}")
    return _dtype(parts, where, notes)


def part_ids(parts: Sequence[Part]) -> list[str]:
    """ "train/00042": the split and the number within it."""
    ids: list[str] = []
    counts: Counter[str] = Counter()
    for part in parts:
        prefix = f"{part.split}/" if part.split else ""
        start = counts[part.split]
        ids += [f"{prefix}{i:05}" for i in range(start, start + len(part.labels))]
        counts[part.split] += len(part.labels)
    return ids


def _said(part: Part, where: str) -> str:
    return f"{where} ({part.split})" if part.split else where


def channels_last(shape: tuple[int, ...], where: str) -> tuple[int | None, int, str]:
    """How to read an array of `shape`: (channel axis or None, spatial dims, said in words).

    An axis of 1 to 4 next to the samples or at the end is the channels; where both could be,
    the last. Four axes without such a one are volumes if they are cubes; five are told apart
    by the axis that differs. Raises `UserError` where a shape can be read in two ways.
    """
    size = shape[1:]
    if len(size) == 2:
        return None, 2, f"read {shape} as (n, height, width), one channel"
    if len(size) in (3, 4):
        dims = len(size) - 1
        space = "height, width" if dims == 2 else "depth, height, width"
        first, last = size[0] <= _FEW, size[-1] <= _FEW
        if not first and not last and dims == 3:
            first, last = len(set(size[1:])) == 1, len(set(size[:-1])) == 1
            if first and last:  # all four alike
                first = last = False
        if last:
            other = " (channels last, though the first axis is as short)" if first else ""
            return len(shape) - 1, dims, f"read {shape} as (n, {space}, channels){other}"
        if first:
            return 1, dims, f"read {shape} as (n, channels, {space})"
        if dims == 2 and len(set(size)) == 1:
            return None, 3, f"read {shape} as (n, depth, height, width), one channel"
        raise UserError(
            f"{where}: an array of shape {shape} can be read in several ways; save volumes of "
            f"one channel as (n, depth, height, width, 1) and put more than {_FEW} channels "
            f"last: {'(n, height, width, c)' if dims == 2 else '(n, depth, height, width, c)'} "
            f"with images.transpose(…), or cut pictures to squares and volumes to cubes"
        )
    raise UserError(
        f"{where}: images must have the shape (n, height, width), (n, height, width, c) or "
        f"(n, depth, height, width[, c]), got {shape}; reshape them before saving"
    )


def _dtype(parts: Sequence[Part], where: str, notes: list[str]) -> str:
    """ "uint8" or "float32": what the samples of all parts are given as."""
    kinds = {part.pixels.dtype for part in parts}
    unknown = [kind for kind in kinds if kind.kind not in "buif"]
    if unknown:
        raise UserError(f"{where}: pixels must be numbers, got {unknown[0]}")
    if any(kind.kind == "f" for kind in kinds):
        for part in parts:
            _check_finite(part.pixels, _said(part, where))
        return "float32"
    for part in parts:
        if part.pixels.dtype in (np.uint8, np.bool_):
            continue
        low, high = int(part.pixels.min()), int(part.pixels.max())
        if low < 0 or high > 255:
            notes.append(f"{part.pixels.dtype} values from {low} to {high} are read as float32")
            return "float32"
    return "uint8"


def _check_finite(pixels: Array, where: str) -> None:
    rows = max(1, _CHECKED_BYTES // max(1, pixels[0].nbytes))
    for start in range(0, len(pixels), rows):
        with np.errstate(over="ignore"):
            part = pixels[start : start + rows].astype(np.float32, copy=False)
        wrong = ~np.isfinite(part.reshape(len(part), -1)).all(axis=1)
        if wrong.any():
            i = start + int(wrong.argmax())
            raise UserError(
                f"{where}: image {i} (from 0) has values that are NaN or infinite; replace "
                f"them (numpy.nan_to_num) or leave the image out"
            )


def _named(labels: Array, classes: Sequence[str], where: str) -> Array:
    """Labels as indices into `classes`."""
    if labels.dtype.kind in "SU":
        position = {name: k for k, name in enumerate(classes)}
        unknown = sorted(set(labels.tolist()) - set(position))
        if unknown:
            raise UserError(
                f"{where}: label '{unknown[0]}' is not one of the {len(classes)} classes"
            )
        return np.array([position[name] for name in labels.tolist()])
    if labels.size and int(labels.max()) >= len(classes):
        raise UserError(
            f"{where}: label {labels.max()} has no name, the {len(classes)} classes are "
            f"numbered from 0"
        )
    return labels
