"""Members of a tar archive, read into memory and checked; nothing is extracted to disk."""

import io
import tarfile
import zlib
from collections.abc import Iterator, Set
from contextlib import contextmanager
from gzip import GzipFile
from pathlib import Path, PurePosixPath
from typing import IO

from hubel.errors import UserError

__all__ = ["MAX_BYTES", "read_members"]

MAX_BYTES = 1 << 30
"""An archive may hold no more than this, all members and headers together, decompressed."""

_MAX_MEMBERS = 1_000
_BUFFER = 1 << 20


class _Bounded(io.RawIOBase):
    """A stream that refuses to give more than `MAX_BYTES`, whatever its headers declare."""

    def __init__(self, stream: IO[bytes] | GzipFile, where: str) -> None:
        self._stream = stream
        self._where = where
        self._left = MAX_BYTES

    def read(self, size: int = -1) -> bytes:
        content = self._stream.read(self._left + 1 if size < 0 else min(size, self._left + 1))
        self._left -= len(content)
        if self._left < 0:
            raise UserError(f"'{self._where}' unpacks to more than {MAX_BYTES:,} bytes; refused")
        return content


def read_members(path: Path, wanted: Set[str]) -> dict[str, bytes]:
    """The contents of the members named in `wanted`, plain files all.

    Refuses, with a `UserError`, an archive in which any member is a link, a device, absolute or
    outside the archive's root, and one that is damaged or too large.
    """
    contents: dict[str, bytes] = {}
    try:
        with (
            _stream(path) as stream,
            tarfile.open(fileobj=stream, mode="r|", bufsize=_BUFFER) as archive,
        ):
            for count, member in enumerate(archive):
                name = PurePosixPath(member.name)
                if count >= _MAX_MEMBERS:
                    raise UserError(f"'{path}' has more than {_MAX_MEMBERS} members; refused")
                if not (member.isreg() or member.isdir()) or member.issparse():
                    raise UserError(
                        f"'{path}': member '{name}' is a link, a device or sparse; refused"
                    )
                if name.is_absolute() or ".." in name.parts:
                    raise UserError(f"'{path}': member '{name}' lies outside the archive; refused")
                if member.isreg() and str(name) in wanted:
                    file = archive.extractfile(member)
                    content = b"" if file is None else file.read()
                    if len(content) != member.size:
                        raise EOFError(f"member '{name}' ends early")
                    contents[str(name)] = content
            while stream.read(1 << 20):  # the checksum of a gzip file is at its very end
                pass
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise UserError(
            f"'{path}' is damaged or truncated: {error}; fetch the archive again"
        ) from error
    return contents


@contextmanager
def _stream(path: Path) -> Iterator[_Bounded]:
    """The tar stream, decompressed if it is gzipped."""
    with path.open("rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if gzipped:
            with GzipFile(fileobj=file) as unzipped:
                yield _Bounded(unzipped, str(path))
        else:
            yield _Bounded(file, str(path))
