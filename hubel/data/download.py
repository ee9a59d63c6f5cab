"""Published data sets, fetched when the user asks for it and never otherwise.

A download goes on where it was interrupted, is checked against the published size and digest,
and appears under its name only when it is whole.
"""

import hashlib
import http.client
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from hubel.data.cache_folder import default_folder
from hubel.errors import UserError, suggestion

__all__ = ["PUBLISHED", "Progress", "Published", "download", "downloads_folder", "fetch"]

Progress = Callable[[str, int, int], None]
"""progress(what, bytes done, bytes in all)."""

_CHUNK = 1 << 18
_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Published:
    """One file of a published data set.

    Attributes
    ----------
    url: where it lies.
    home: the page that describes it, for a person.
    sha256: of the whole file.
    size: in bytes.
    """

    url: str
    home: str
    sha256: str
    size: int

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[1]


_CIFAR = "https://www.cs.toronto.edu/~kriz"

PUBLISHED = {
    "cifar10": Published(
        f"{_CIFAR}/cifar-10-binary.tar.gz",
        f"{_CIFAR}/cifar.html",
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        170_052_171,
    ),
    "cifar100": Published(
        f"{_CIFAR}/cifar-100-binary.tar.gz",
        f"{_CIFAR}/cifar.html",
        "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        168_513_733,
    ),
}
"""Data sets that `fetch` can fetch, by the name that DATA calls them."""


def downloads_folder() -> Path:
    """Where `fetch` puts files, and where a user may put them by hand."""
    return default_folder() / "downloads"


def fetch(name: str, progress: Progress | None = None, destination: Path | None = None) -> Path:
    """Download the published set `name` unless it is there; returns the file.

    `destination` is the folder to put it in, `downloads_folder()` if None. Raises `UserError`
    for an unknown name and for everything that goes wrong on the way.
    """
    if name not in PUBLISHED:
        raise UserError(
            f"--download: '{name}' is not a published data set that hubel fetches; "
            f"{suggestion(name, PUBLISHED)}"
        )
    published = PUBLISHED[name]
    folder = downloads_folder() if destination is None else destination
    return download(
        published.url,
        folder / published.name,
        published.sha256,
        published.size,
        progress,
    )


def download(
    url: str,
    destination: Path,
    sha256_or_md5: str,
    size: int,
    progress: Progress | None = None,
    *,
    attempts: int = 4,
    pause_s: float = 1.0,
) -> Path:
    """Fetch `url` into the file `destination`, which appears only when it is whole.

    What has arrived lies beside it in a file ending in ".part"; the next call, or the next of
    `attempts` tries, goes on from there (HTTP Range), or from the beginning where the server
    cannot. A file of the right size at `destination` is left as it is.

    Parameters
    ----------
    sha256_or_md5: hex digest of the whole file, 64 or 32 characters; fewer are the beginning of
        a sha256, where no more of it is published.
    size: in bytes; nothing beyond it is read.
    """
    if destination.exists():
        if destination.stat().st_size == size:
            return destination
        raise UserError(
            f"'{destination}' has {destination.stat().st_size:,} bytes, the published file has "
            f"{size:,}; take it away and ask again"
        )
    part = destination.with_name(destination.name + ".part")
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{destination}.lock", timeout=0):
            _check_space(destination.parent, size - _length(part))
            _transfer(url, part, size, progress, attempts, pause_s)
            _check_digest(part, sha256_or_md5, url)
            part.replace(destination)
    except Timeout as error:
        raise UserError(f"another process is downloading '{destination}'; wait for it") from error
    except OSError as error:
        raise UserError(f"'{destination}' cannot be written: {error.strerror or error}") from error
    return destination


def _transfer(
    url: str, part: Path, size: int, progress: Progress | None, attempts: int, pause_s: float
) -> None:
    """Bring `part` to `size` bytes."""
    problem = "the connection was closed early"
    for attempt in range(attempts):
        if _length(part) > size:
            part.unlink()
        if _length(part) == size:
            return
        if attempt:
            time.sleep(pause_s)
        try:
            _continue(url, part, size, progress)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416:  # the server has less than is here already: start over
                part.unlink(missing_ok=True)
            elif error.code < 500:
                raise UserError(
                    f"{url} answered {error.code} {error.reason}; fetch the file by hand from "
                    f"there or a mirror and put it at '{part.with_suffix('')}'"
                ) from error
            problem = f"the server answered {error.code} {error.reason}"
        except (
            urllib.error.URLError,
            http.client.HTTPException,
            TimeoutError,
            ConnectionError,
        ) as error:
            problem = str(getattr(error, "reason", "") or error or type(error).__name__)
    if _length(part) != size:
        raise UserError(
            f"{url} could not be fetched: {problem}; {_length(part):,} of {size:,} bytes have "
            f"arrived. Run the same command again to go on from there, or fetch the file by "
            f"hand and put it at '{part.with_suffix('')}'"
        )


def _continue(url: str, part: Path, size: int, progress: Progress | None) -> None:
    """One connection: append to `part` what arrives, up to `size` bytes in all."""
    start = _length(part)
    request = urllib.request.Request(url, headers={"User-Agent": "hubel"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
        goes_on = answer.status == 206 and (
            answer.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        )
        if answer.status == 206 and not goes_on:
            part.unlink()
            raise http.client.HTTPException("the server sent another part than it was asked for")
        done = start if goes_on else 0
        with part.open("ab" if goes_on else "wb") as file:
            while done < size and (chunk := answer.read(min(_CHUNK, size - done))):
                file.write(chunk)
                done += len(chunk)
                if progress is not None:
                    progress(f"downloading {url.rsplit('/', 1)[1]}", done, size)
            file.flush()
            os.fsync(file.fileno())


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"'{folder}' has {free:,} bytes free, {needed:,} are needed; free some, or set "
            f"HUBEL_CACHE to a folder with space"
        )


def _check_digest(part: Path, expected: str, url: str) -> None:
    name = "md5" if len(expected) == 32 else "sha256"
    with part.open("rb") as file:
        found = hashlib.file_digest(file, name).hexdigest()
    if not found.startswith(expected.lower()):
        part.unlink()
        raise UserError(
            f"{url} arrived with {name} {found}, published is {expected}; it was thrown away. "
            f"Try again; if it stays so, something between here and the server changes the file"
        )


def _length(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0
