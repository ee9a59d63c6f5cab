"""NumPy's files, opened as data: nothing is unpickled, sizes are checked before reading.

A .npy file and a member stored uncompressed in a .npz are memory-mapped; a compressed member
is read into memory, up to `MAX_ARRAY_BYTES`.
"""

import math
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np

from hubel.data.source import Array
from hubel.errors import UserError

__all__ = ["MAX_ARRAY_BYTES", "npz_names", "open_npy", "open_npz_member"]

MAX_ARRAY_BYTES = 16 << 30
"""The largest array that is read into memory."""

_BROKEN = (
    ValueError, EOFError, OSError, SyntaxError, zipfile.BadZipFile, zlib.error, RuntimeError,
    NotImplementedError, KeyError, struct.error, OverflowError, TypeError, RecursionError,
    MemoryError,
)  # fmt: skip


def open_npy(path: Path) -> Array:
    """The array in a .npy file, memory-mapped read-only. Raises `UserError`."""
    try:
        with path.open("rb") as file:
            shape, fortran, dtype = _header(file, str(path))
            return _mapped(path, file.tell(), shape, fortran, dtype)
    except UserError:
        raise
    except _BROKEN as error:
        raise UserError(f"'{path}' is not a whole .npy file: {_why(error)}") from error


def npz_names(path: Path) -> list[str]:
    """The names of the arrays in a .npz file. Raises `UserError`."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [name[:-4] for name in archive.namelist() if name.endswith(".npy")]
    except _BROKEN as error:
        raise UserError(f"'{path}' is not a whole .npz file: {_why(error)}") from error


def open_npz_member(path: Path, name: str) -> Array:
    """The array `name` of a .npz file. Raises `UserError`."""
    where = f"{path}:{name}"
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo(f"{name}.npy")
            with archive.open(info) as file:
                shape, fortran, dtype = _header(file, where)
                start = file.tell()
            num_bytes = math.prod(shape) * dtype.itemsize
            if start + num_bytes != info.file_size:
                raise ValueError(f"{info.file_size - start} bytes of data, {num_bytes} declared")
            if info.compress_type == zipfile.ZIP_STORED and num_bytes:
                with archive.open(info) as file:
                    while file.read(1 << 20):  # to its end: zipfile compares the checksum there
                        pass
                return _mapped(path, _data_offset(path, info) + start, shape, fortran, dtype)
            if num_bytes > MAX_ARRAY_BYTES:
                raise UserError(
                    f"'{where}' holds {num_bytes:,} bytes, more than hubel reads into memory "
                    f"({MAX_ARRAY_BYTES:,}); save it with numpy.save, which can be mapped"
                )
            with archive.open(info) as file:
                array: Array = np.lib.format.read_array(file, allow_pickle=False)
                return array
    except UserError:
        raise
    except _BROKEN as error:
        raise UserError(f"'{where}' is not a whole array: {_why(error)}") from error


def _header(file: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether columns come first, and type; refuses Python objects."""
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"format version {version[0]}.{version[1]} is not known")
    read = (
        np.lib.format.read_array_header_1_0 if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )  # fmt: skip
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise UserError(
            f"'{where}' holds Python objects, which could run code when loaded; save arrays of "
            f"numbers or text instead: numpy.save(…, numpy.stack(list_of_arrays))"
        )
    if any(side < 0 for side in shape):
        raise ValueError(f"shape {shape}")
    return shape, fortran, dtype


def _mapped(
    path: Path, offset: int, shape: tuple[int, ...], fortran: bool, dtype: np.dtype[Any]
) -> Array:
    if not math.prod(shape) or not dtype.itemsize:  # nothing to map
        return np.zeros(shape, dtype)
    declared, held = math.prod(shape) * dtype.itemsize, path.stat().st_size - offset
    if declared > held:  # numpy would multiply the sizes in 64 bits
        raise ValueError(f"its header declares {declared:,} bytes, it holds {held:,}")
    mapped: Array = np.memmap(
        path, dtype=dtype, mode="r", offset=offset, shape=shape, order="F" if fortran else "C"
    )
    return mapped


def _data_offset(path: Path, info: zipfile.ZipInfo) -> int:
    """Where a stored member's bytes begin: after its local header (APPNOTE.TXT 4.3.7)."""
    with path.open("rb") as file:
        file.seek(info.header_offset + 26)
        name_length, extra_length = struct.unpack("<HH", file.read(4))
    return info.header_offset + 30 + int(name_length) + int(extra_length)


def _why(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
