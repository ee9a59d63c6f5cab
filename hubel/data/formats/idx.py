"""The idx files of MNIST, Fashion-MNIST and their kin, plain or gzipped.

A folder holds {train,t10k}-{images-idx3,labels-idx1}-ubyte[.gz]; train is train, t10k is test.
The layout of a file (LeCun, Cortes and Burges, "The MNIST database", section "File formats"):
two zero bytes, the type, the number of dimensions, each size as a big-endian 32-bit number,
then the values, the last dimension fastest.
"""

import gzip
import math
import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from hubel.data.arraysource import Part, array_source, channels_last
from hubel.data.paths import exists, expanded, is_file, is_folder
from hubel.data.source import FORMATS, Array, Format, Source
from hubel.errors import UserError

__all__ = ["FASHION_CLASSES", "Idx"]

FASHION_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
    "Ankle boot",
)  # fmt: skip
"""Names of the labels 0 to 9 (Xiao, Rasul and Vollgraf 2017, arXiv 1708.07747, table 2)."""

_FILE = re.compile(r"(train|t10k)-(images|labels)[-.]idx\d-ubyte(\.gz)?")
_SPLITS = {"train": "train", "t10k": "test"}
_UBYTE = 8
_MAX_BYTES = 8 << 30

# The folder of Debian's package, by the name under which it can be asked for.
_INSTALLED = {"fashion-mnist": Path("/usr/share/datasets/fashion-mnist")}
_PACKAGE = {"fashion-mnist": "dataset-fashion-mnist"}


@dataclass(frozen=True)
class _Header:
    """Sizes as declared, and where the values begin."""

    shape: tuple[int, ...]
    start: int


class Idx(Format):
    """Images and labels in idx files."""

    def describe(self) -> str:
        return "a folder of {train,t10k}-{images-idx3,labels-idx1}-ubyte[.gz], as MNIST is given"

    def matches(self, spec: str) -> bool:
        path = expanded(spec)
        return bool(_files(path)) or (spec in _INSTALLED and not exists(path))

    def open(self, spec: str) -> Source:
        path = expanded(spec)
        if spec in _INSTALLED and not exists(path):
            path = _INSTALLED[spec]
            if not _files(path):
                raise UserError(
                    f"DATA '{spec}' is not installed: {path} has no idx files; install "
                    f"Debian's package {_PACKAGE[spec]}, or name a folder of the four files"
                )
        files = _files(path)
        if not files:
            raise UserError(f"DATA '{spec}' has no idx files; expected {self.describe()}")
        parts = []
        notes: list[str] = []
        read_as = None
        for name, split in _SPLITS.items():
            found = [files.get((name, what)) for what in ("images", "labels")]
            if found == [None, None]:
                continue
            images_file, labels_file = found
            if images_file is None or labels_file is None:
                missing = "images" if images_file is None else "labels"
                there = labels_file if images_file is None else images_file
                raise UserError(
                    f"DATA '{spec}' has {there.name if there else name} but no file of its "
                    f"{missing}; put {name}-{missing}-idx… beside it"
                )
            pixels = _read(images_file)
            read_as = channels_last(pixels.shape, f"'{images_file}'")
            if pixels.ndim > 3:
                notes.append(read_as[2])
            axis = read_as[0]
            pixels = pixels[..., None] if axis is None else np.moveaxis(pixels, axis, -1)
            labels = _read(labels_file)
            if labels.ndim != 1:
                raise UserError(
                    f"'{labels_file}' has {labels.ndim} dimensions; a file of labels has one"
                )
            parts.append(Part(split, pixels, labels))
        fashion = any("fashion" in p.name.lower() for p in (path, path.resolve()))
        in_names = all(int(part.labels.max(initial=0)) < 10 for part in parts)
        return array_source(
            "idx",
            path,
            parts,
            where=f"DATA '{spec}'",
            classes=FASHION_CLASSES if fashion and in_names else None,
            files=sorted(files.values()),
            notes=notes,
        )


def _files(folder: Path) -> dict[tuple[str, str], Path]:
    """Idx files in `folder` by ("train" or "t10k", "images" or "labels"); plain before gzipped."""
    if not is_folder(folder):
        return {}
    try:
        names = sorted((f.name for f in folder.iterdir()), reverse=True)  # .gz first
    except OSError:
        return {}
    found = {}
    for name in names:
        match = _FILE.fullmatch(name)
        if match and is_file(folder / name):
            found[match[1], match[2]] = folder / name
    return found


def _read(path: Path) -> Array:
    """The values of one file: memory-mapped where it is plain, in memory where it is gzipped."""
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as file:
                header = _header(file, path)
                declared = math.prod(header.shape)
                content = file.read(declared + 1)
                _check_size(len(content), declared, path)
                return np.frombuffer(content, np.uint8).reshape(header.shape)
        with path.open("rb") as plain:
            header = _header(plain, path)
        _check_size(path.stat().st_size - header.start, math.prod(header.shape), path)
        if not math.prod(header.shape):
            return np.zeros(header.shape, np.uint8)
        mapped: Array = np.memmap(path, np.uint8, "r", header.start, header.shape)
        return mapped
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"'{path}' cannot be read: {error}; fetch the file again") from error


def _header(file: IO[bytes] | gzip.GzipFile, path: Path) -> _Header:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or not 1 <= magic[3] <= 4:
        raise UserError(
            f"'{path}' is not an idx file: it starts with '{magic.hex(' ')}', expected "
            f"'00 00 08' and the number of dimensions"
        )
    if magic[2] != _UBYTE:
        raise UserError(
            f"'{path}' holds values of type {magic[2]:#04x}; hubel reads idx files of unsigned "
            f"bytes (0x08)"
        )
    sizes = file.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise UserError(f"'{path}' is truncated: it ends within its header; fetch the file again")
    shape = struct.unpack(f">{magic[3]}I", sizes)
    if math.prod(shape) > _MAX_BYTES:
        raise UserError(
            f"'{path}' declares {math.prod(shape):,} values, more than hubel reads ({_MAX_BYTES:,})"
        )
    return _Header(shape, 4 + len(sizes))


def _check_size(got: int, declared: int, path: Path) -> None:
    if got < declared:
        raise UserError(
            f"'{path}' is truncated: its header declares {declared:,} values, it holds {got:,}; "
            f"fetch the file again"
        )
    if got > declared:
        raise UserError(
            f"'{path}' holds more than the {declared:,} values that its header declares; fetch "
            f"the file again"
        )


FORMATS.register("idx")(Idx())
