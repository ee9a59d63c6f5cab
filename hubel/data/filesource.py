"""A source of picture files: one file a sample."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hubel.data.pictures import decode_picture
from hubel.data.source import Array, Source, SourceInfo, UnreadableSampleError

__all__ = ["MAX_FILE_BYTES", "FileSource", "readable_name"]

MAX_FILE_BYTES = 1 << 30
"""Larger files are not read: no picture within the limit on pixels needs as much."""


def readable_name(name: str) -> str:
    r"""`name` as text that can be printed and written as UTF-8.

    A file name that is not valid UTF-8 reaches Python with lone surrogates in it, which
    no report or JSON file can hold; its odd bytes are shown as escapes.

    >>> readable_name("caf\udce9.jpg")
    'caf\\xe9.jpg'
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        return os.fsencode(name).decode("utf-8", "backslashreplace")
    return name


class FileSource(Source):
    """Labelled picture files below one folder.

    Parameters
    ----------
    path: what the source was opened from.
    root: the folder that the file names are relative to.
    names: one relative file name a sample, with forward slashes (or an absolute one).
    The others are the columns of `Source`.
    """

    def __init__(
        self,
        path: Path,
        root: Path,
        info: SourceInfo,
        names: Sequence[str],
        targets: npt.NDArray[np.int64],
        splits: npt.NDArray[np.str_],
        notes: list[str],
        groups: npt.NDArray[np.str_] | None = None,
    ) -> None:
        self.path = path
        self.info = info
        self.targets = targets
        self.splits = splits
        self.groups = groups
        self.notes = notes
        self._root = f"{root}/"
        self.ids, self._odd = _ids(names)

    def file(self, i: int) -> str:
        """The path of sample `i` for the operating system."""
        name = self._odd.get(i) or self.ids[i]
        return name if name.startswith("/") else self._root + name

    def stamp(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        facts: list[int] = []
        for i in range(len(self)):
            try:
                # os.stat on a string: pathlib would double the time for 60,000 files.
                stat = os.stat(self.file(i))  # noqa: PTH116
                facts += (stat.st_size, stat.st_mtime_ns)
            except OSError:
                facts += (-1, -1)
        for part in ("\0".join(self.ids), "\0".join(self.info.classes), self._root):
            digest.update(part.encode())
            digest.update(b"\0\0")
        for column in (self.targets, self.splits, self.groups, np.array(facts, np.int64)):
            digest.update(b"" if column is None else column.tobytes())
        return digest.hexdigest()

    def content(self, i: int) -> bytes:
        try:
            with open(self.file(i), "rb") as file:  # noqa: PTH123
                size = os.fstat(file.fileno()).st_size
                if size > MAX_FILE_BYTES:
                    raise UnreadableSampleError(
                        f"too large: {size:,} bytes, the limit is {MAX_FILE_BYTES:,}"
                    )
                return file.read()
        except OSError as error:
            raise UnreadableSampleError(f"cannot be read: {error.strerror or error}") from error

    def decode(self, content: bytes, i: int, in_channels: int | None = None) -> Array:
        return decode_picture(content, in_channels)


def _ids(names: Sequence[str]) -> tuple[list[str], Mapping[int, str]]:
    """Printable, unique ids, and the real names of those few that differ from their id."""
    ids = [readable_name(name) for name in names]
    odd = {i: name for i, name in enumerate(names) if name != ids[i]}
    if odd:
        taken = set(names)
        for i in odd:
            while ids[i] in taken:  # another file has the escaped spelling for its name
                ids[i] += "~"
            taken.add(ids[i])
    return ids, odd
