"""Arrays that are slow to read out of an archive, kept as .npy files in the cache folder.

Reading CIFAR's archive takes over a second and its pixels 180 MB of memory; the copies are
memory-mapped. They can be deleted at any time; the user's archive is never touched.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from hubel.data.cache_folder import default_folder
from hubel.data.npy import open_npy
from hubel.data.source import Array
from hubel.errors import UserError

__all__ = ["unpacked"]


def unpacked(
    files: Sequence[Path], version: str, build: Callable[[], Mapping[str, Array]]
) -> Mapping[str, Array]:
    """What `build` makes of `files`, from the cache if they have not changed since.

    Where the cache folder cannot be written, the arrays stay in memory.
    """
    digest = hashlib.blake2b(version.encode(), digest_size=16)
    for file in files:
        stat = file.stat()
        digest.update(
            f"\0{file.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}".encode(
                "utf-8", "surrogateescape"
            )
        )
    folder = default_folder() / "unpacked" / digest.hexdigest()
    found = _opened(folder)
    if found is None:
        built = build()
        if not _written(folder, built):
            return built
        found = _opened(folder)
    return built if found is None else found


def _opened(folder: Path) -> Mapping[str, Array] | None:
    try:
        names = sorted(file.stem for file in folder.glob("*.npy"))
        return {name: open_npy(folder / f"{name}.npy") for name in names} or None
    except (UserError, OSError):
        return None


def _written(folder: Path, arrays: Mapping[str, Array]) -> bool:
    """Whether `folder` now holds `arrays`; it appears whole, by one rename."""
    building = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=".building-", dir=folder.parent))
        for name, array in arrays.items():
            with (building / f"{name}.npy").open("wb") as file:
                np.save(file, np.ascontiguousarray(array), allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
        if folder.exists():  # damaged, or written by another process meanwhile
            shutil.rmtree(folder)
        building.rename(folder)
    except OSError:
        return False
    finally:
        if building is not None:
            shutil.rmtree(building, ignore_errors=True)
    return True
