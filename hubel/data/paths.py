"""Questions about a path that a user typed, which never raise."""

import os
from pathlib import Path

__all__ = ["exists", "expanded", "is_file", "is_folder"]


def expanded(spec: str) -> Path:
    """`spec` as a path, with ~ replaced by the home folder where there is one."""
    return Path(os.path.expanduser(spec))  # noqa: PTH111  (pathlib's raises without a home)


def exists(path: Path) -> bool:
    """Whether `path` is anything at all; False too where it may not be looked at."""
    return os.path.exists(path)  # noqa: PTH110


def is_folder(path: Path) -> bool:
    """Whether `path` is a folder; False too where it may not be looked at."""
    return os.path.isdir(path)  # noqa: PTH112  (pathlib's raises on a forbidden parent)


def is_file(path: Path) -> bool:
    """Whether `path` is a regular file; False too where it may not be looked at."""
    return os.path.isfile(path)  # noqa: PTH113
