"""Folders of masks beside folders of pictures: which belong together."""

import os
from collections.abc import Iterator
from pathlib import Path

from hubel.data.labels import split_name
from hubel.data.magic import SUFFIXES
from hubel.data.source import SPLITS

__all__ = ["mask_parts"]

_PICTURES = "images"
_MASKS = ("masks", "labels", "annotations")
_BESIDE = "annot"
"""What SegNet's CamVid adds to the name of a split's folder: trainannot beside train."""
_PEEK = 2_000
"""Files that are looked at to find a picture among them."""


def mask_parts(root: Path) -> list[tuple[str, str, str]]:
    """(split, folder of pictures, folder of masks) below `root`; [] where there are no masks.

    The folders are relative, with a slash at their end; that of the masks is "" for a split
    that has none. Looked at are names, and that some folder of masks holds a picture: labels
    and annotations may be text, of another format.
    """
    parts = list(_parts(root))
    if not any(masks and _holds_pictures(root / masks) for _, _, masks in parts):
        return []
    return sorted(parts, key=lambda part: ("", *SPLITS).index(part[0]))


def _parts(root: Path) -> Iterator[tuple[str, str, str]]:
    top = _folders(root)
    beside = [name for name in top if split_name(name) and f"{name}{_BESIDE}" in top]
    for name in top:
        split = split_name(name) or ""
        if split and beside:  # train, trainannot
            yield split, f"{name}/", f"{name}{_BESIDE}/" if name in beside else ""
        elif split:  # train/images, train/masks
            below = _folders(root / name)
            masks = _mask_folder(root / name, below)
            if _PICTURES in below and masks:
                yield split, f"{name}/{_PICTURES}/", f"{name}/{masks}/"
    masks = _mask_folder(root, top)
    if _PICTURES not in top or not masks:
        return
    split_folders = [name for name in _folders(root / _PICTURES) if split_name(name)]
    masked = _folders(root / masks)
    if not split_folders:  # images, masks
        yield "", f"{_PICTURES}/", f"{masks}/"
    for name in split_folders:  # images/train, masks/train
        there = f"{masks}/{name}/" if name in masked else ""
        yield split_name(name) or "", f"{_PICTURES}/{name}/", there


def _mask_folder(root: Path, names: list[str]) -> str:
    """The folder of masks among the folders `names` of `root`; "" if there is none."""
    found = [name for name in _MASKS if name in names]
    return next((name for name in found if _holds_pictures(root / name)), "")


def _folders(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    except OSError:
        return []


def _holds_pictures(folder: Path) -> bool:
    budget = _PEEK
    for _, _, names in os.walk(folder):
        for name in names[:budget]:
            if name.lower().endswith(tuple(SUFFIXES)):
                return True
        budget -= len(names)
        if budget <= 0:
            return False
    return False
