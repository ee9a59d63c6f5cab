"""The cache on disk: what lies where, how it is written whole, how damage is noticed.

    <cache folder>/
      index/<index key>.json      what the data looked like from outside -> content key
      <content key>/              pixels.npy digests.npy sizes.npy channels.npy facts.json
      locks/<index key>.lock      held while that data is being read
      .building-<index key>-…/    a content folder that is not finished; nobody opens it

A content folder appears by one rename, after every file in it was flushed to the disk, so
it is whole or absent whatever ends the process. A `.building-` folder whose lock is free
has lost its builder and is swept. The operating system frees a lock with its process.
"""

import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import platformdirs
from filelock import FileLock, Timeout

from hubel.data.ingest import Columns, Progress
from hubel.data.layout import Layout
from hubel.data.source import Array
from hubel.errors import UserError

__all__ = ["CacheFolder", "DamagedError", "Entry", "default_folder"]

SMALL_FILES = ("digests", "sizes", "channels")


class DamagedError(Exception):
    """A content folder is not what was written; the text says in what."""


@dataclass(frozen=True)
class Entry:
    """One content folder, opened: rows memory-mapped copy-on-write, columns in memory.

    `columns.digests` are of the stored bytes, also of samples that do not decode;
    `columns.problems` are by sample index.
    """

    layout: Layout
    pixels: Array
    columns: Columns


def default_folder() -> Path:
    """$HUBEL_CACHE, else the operating system's folder for a user's caches."""
    named = os.environ.get("HUBEL_CACHE")
    return Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("hubel"))


class CacheFolder:
    """Everything that touches the disk below one cache folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    # Opening

    def content_key(self, index_key: str) -> str | None:
        """The content that data with this outside had when it was last read, if known."""
        try:
            found = json.loads(self._index_file(index_key).read_text())["content"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        # A file name and nothing else: the index is text that anyone may have written.
        return found if isinstance(found, str) and found.replace("-", "").isalnum() else None

    def has_content_like(self, prefix: str) -> bool:
        """Whether some content key begins with `prefix`."""
        return any(self.root.glob(f"{prefix}-*"))

    def open(self, content_key: str, num_samples: int) -> Entry | None:
        """The content under this key, or None; raises `DamagedError`."""
        folder = self.root / content_key
        if not folder.is_dir():
            return None
        try:
            return _open_entry(folder, num_samples)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamagedError(f"{folder}: {error}") from error

    # Building

    @contextmanager
    def lock(self, index_key: str, progress: Progress | None) -> Iterator[None]:
        """Hold the one right to read this data into the cache; waits for another holder."""
        with self._writable():
            (self.root / "locks").mkdir(parents=True, exist_ok=True)
            (self.root / "index").mkdir(exist_ok=True)
            lock = FileLock(self._lock_file(index_key))
            try:
                lock.acquire(timeout=0)
            except Timeout:
                if progress is not None:
                    progress("waiting for another hubel that reads the same data", 0, 1)
                lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def sweep(self, held_key: str) -> None:
        """Remove unfinished folders of builders that are gone. `held_key` is locked by us."""
        for folder in self.root.glob(".building-*"):
            index_key = folder.name.split("-")[1]
            if index_key == held_key:
                shutil.rmtree(folder, ignore_errors=True)
                continue
            lock = FileLock(self._lock_file(index_key))
            try:
                lock.acquire(timeout=0)
            except (Timeout, OSError):
                continue
            shutil.rmtree(folder, ignore_errors=True)
            lock.release()

    @contextmanager
    def building(self, index_key: str) -> Iterator[Path]:
        """A new folder to build in, gone on leaving unless it was published."""
        with self._writable():
            # Not tempfile's: others may share the cache, as far as the umask says.
            folder = self.root / f".building-{index_key}-{os.getpid()}-{secrets.token_hex(4)}"
            folder.mkdir()
        try:
            yield folder
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise self._full((folder / "pixels.npy").stat().st_size) from error
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def make_pixels(self, folder: Path, layout: Layout, num_samples: int) -> tuple[Path, int]:
        """A zero pixels.npy in `folder`, and the byte at which its rows begin.

        Raises `UserError` where the disk has not the room for it.
        """
        needed = num_samples * (layout.row_bytes + 64)
        if shutil.disk_usage(self.root).free < needed:
            raise self._full(needed)
        path = folder / "pixels.npy"
        shape = (num_samples, *layout.size, layout.in_channels)
        pixels = np.lib.format.open_memmap(path, mode="w+", dtype=layout.dtype, shape=shape)
        return path, pixels.offset

    def publish(self, folder: Path, content_key: str, layout: Layout, columns: Columns) -> None:
        """Complete `folder`, which holds pixels.npy, and give it its name."""
        n = len(columns.digests)
        for name in SMALL_FILES:
            np.save(folder / f"{name}.npy", getattr(columns, name), allow_pickle=False)
        facts = {
            "layout": asdict(layout),
            "num_samples": n,
            "problems": sorted(columns.problems.items()),
            "pixels_bytes": (folder / "pixels.npy").stat().st_size,
            "sha256": {name: _sha256(folder / f"{name}.npy") for name in SMALL_FILES},
        }
        (folder / "facts.json").write_text(json.dumps({"facts": facts, "sha256": _seal(facts)}))
        for file in folder.iterdir():
            _flush(file)
        _flush(folder)
        target = self.root / content_key
        while True:
            try:
                folder.rename(target)
                break
            except OSError:
                if not target.is_dir():
                    raise
            try:  # Another process was sooner, with the same content under another path.
                if self.open(content_key, n) is not None:
                    return
            except DamagedError:
                damaged = folder.with_name(f"{folder.name}-damaged")
                target.rename(damaged)
                shutil.rmtree(damaged, ignore_errors=True)
        _flush(self.root)

    def point(self, index_key: str, content_key: str) -> None:
        """Remember that data with this outside has this content."""
        file = self._index_file(index_key)
        with self._writable():
            new = file.with_suffix(".new")
            new.write_text(json.dumps({"content": content_key}))
            _flush(new)
            new.replace(file)
            _flush(file.parent)

    def _index_file(self, index_key: str) -> Path:
        return self.root / "index" / f"{index_key}.json"

    def _lock_file(self, index_key: str) -> Path:
        return self.root / "locks" / f"{index_key}.lock"

    @contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"the cache folder '{self.root}' cannot be written ({error.strerror or error}); "
                "name another by HUBEL_CACHE, or go without by --no-cache"
            ) from error

    def _full(self, needed: int) -> UserError:
        free = shutil.disk_usage(self.root).free
        return UserError(
            f"the cache folder '{self.root}' needs {_megabytes(needed)} and has "
            f"{_megabytes(free)} free; make room, name a folder on another disk by HUBEL_CACHE, "
            "or go without by --no-cache"
        )


def _open_entry(folder: Path, num_samples: int) -> Entry:
    try:
        sealed = json.loads((folder / "facts.json").read_text())
    except ValueError as error:
        raise ValueError(f"facts.json is not JSON ({error})") from error
    facts: dict[str, Any] = sealed["facts"]
    if sealed["sha256"] != _seal(facts):
        raise ValueError("facts.json was changed")
    if facts["num_samples"] != num_samples:
        raise ValueError(f"holds {facts['num_samples']} samples where {num_samples} are")
    for name, expected in facts["sha256"].items():
        if name not in SMALL_FILES or _sha256(folder / f"{name}.npy") != expected:
            raise ValueError(f"{name}.npy was changed")
    layout = Layout(**{**facts["layout"], "size": tuple(facts["layout"]["size"])})
    length = (folder / "pixels.npy").stat().st_size
    if length != facts["pixels_bytes"]:
        raise ValueError(f"pixels.npy has {length} bytes of {facts['pixels_bytes']}")
    # "c": torch wants memory that may be written; what is written never reaches the file.
    pixels = np.load(folder / "pixels.npy", mmap_mode="c", allow_pickle=False)
    if pixels.shape != (num_samples, *layout.size, layout.in_channels):
        raise ValueError(f"pixels.npy has shape {pixels.shape}")
    if pixels.dtype != layout.dtype:
        raise ValueError(f"pixels.npy has type {pixels.dtype}")
    digests, sizes, channels = (
        np.load(folder / f"{name}.npy", allow_pickle=False) for name in SMALL_FILES
    )
    floats: npt.NDArray[np.bool_] = np.zeros(num_samples, np.bool_)
    problems = {int(i): str(reason) for i, reason in facts["problems"]}
    return Entry(layout, pixels, Columns(digests, sizes, channels, floats, problems))


def _seal(facts: dict[str, Any]) -> str:
    # Through JSON once more, so that tuples and lists are sealed alike.
    return hashlib.sha256(json.dumps(json.loads(json.dumps(facts))).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    """fsync a file or folder (folders only where the system can)."""
    if path.is_dir() and os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"
