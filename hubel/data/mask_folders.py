"""Folders of masks beside folders of pictures: which belong together, and what masks mean."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hubel.data.boxes import Fault
from hubel.data.filesource import readable_name
from hubel.data.labels import split_name
from hubel.data.legend import ColouredMaskError, Legend, numbered_legend, read_legend
from hubel.data.magic import PICTURE_SUFFIXES
from hubel.data.paths import is_file
from hubel.data.source import SPLITS, Array, UnreadableSampleError
from hubel.errors import UserError

__all__ = ["Pairs", "folder_legend", "mask_parts", "paired"]

_PICTURES = "images"
_MASKS = ("masks", "labels", "annotations")
_BESIDE = "annot"
"""What SegNet's CamVid adds to the name of a split's folder: trainannot beside train."""
_PEEK = 2_000
"""Files that are looked at to find a picture among them."""
_LEGENDS = ("classes.txt", "legend.csv")


@dataclass(frozen=True)
class Pairs:
    """Pictures with their masks.

    Attributes
    ----------
    names, masks: relative file names, sample for sample.
    splits: of each sample.
    faults: files without a partner.
    notes: sentences for the user.
    """

    names: list[str]
    masks: list[str]
    splits: list[str]
    faults: list[Fault]
    notes: list[str]


def mask_parts(
    root: Path, suffixes: tuple[str, ...] = PICTURE_SUFFIXES
) -> list[tuple[str, str, str]]:
    """(split, folder of pictures, folder of masks) below `root`; [] where there are no masks.

    The folders are relative, with a slash at their end; that of the masks is "" for a split
    that has none. Looked at are names, and that some folder of masks holds a file that ends in
    one of `suffixes`: labels and annotations may be text, of another format.
    """
    parts = list(_parts(root, suffixes))
    if not any(masks and _holds(root / masks, suffixes) for _, _, masks in parts):
        return []
    return sorted(parts, key=lambda part: ("", *SPLITS).index(part[0]))


def paired(
    root: Path,
    spec: str,
    parts: Sequence[tuple[str, str, str]],
    suffixes: tuple[str, ...],
    rule: str,
) -> Pairs:
    """The files of `parts` (as of `mask_parts`) that belong together: of one name but for the
    ending, which is one of `suffixes`. Raises `UserError`, saying `rule`, where none do.
    """
    pairs = Pairs([], [], [], [], [])
    faults = pairs.faults
    for split, picture_folder, mask_folder in parts:
        pictures = _by_stem(root, picture_folder, suffixes, faults)
        if not mask_folder:
            pairs.notes.append(f"ignored {len(pictures):,} pictures in {picture_folder}: no masks")
            continue
        found = _by_stem(root, mask_folder, suffixes, faults)
        both = [stem for stem in pictures if stem in found]
        pairs.names.extend(pictures[stem] for stem in both)
        pairs.masks.extend(found[stem] for stem in both)
        pairs.splits.extend([split] * len(both))
        faults.extend(_alone(pictures, found, f"has no mask in {mask_folder}"))
        faults.extend(_alone(found, pictures, f"has no picture in {picture_folder}"))
    if not pairs.names:
        first = f"; the first: {readable_name(faults[0].where)}" if faults else ""
        raise UserError(f"DATA '{spec}': no picture has a mask; {rule}{first}")
    if faults:
        pairs.notes.append(
            f"passed over {len(faults):,} {'file' if len(faults) == 1 else 'files'} without a "
            f"partner (first: {faults[0].where} {faults[0].reason})"
        )
    return pairs


def folder_legend(root: Path, spec: str, pairs: Pairs, values: Callable[[bytes], Array]) -> Legend:
    """The legend in the folder, or one of the indices in the masks of train, with a note.

    `values` gives the indices in a mask's bytes, or raises `UnreadableSampleError`. Raises
    `UserError`.
    """
    there = [name for name in _LEGENDS if is_file(root / name)]
    if len(there) == 2:
        raise UserError(f"DATA '{spec}' holds both {there[0]} and {there[1]}; keep one")
    if there:
        return read_legend(root / there[0])
    found: set[int] = set()
    learned = "train" if "train" in pairs.splits else pairs.splits[0]
    problem = fix = ""
    num_masks = 0
    for name, split in zip(pairs.masks, pairs.splits, strict=True):
        if split != learned:
            continue
        num_masks += 1
        try:
            found |= set(np.unique(values((root / name).read_bytes())).tolist())
        except (UnreadableSampleError, OSError) as error:  # found again when it is cached
            if not problem:
                problem = f"'{readable_name(name)}': {error}"
                if isinstance(error, ColouredMaskError):  # others say themselves what to do
                    fix = "; write legend.csv there, a line name,red,green,blue for each class"
    if not found:
        raise UserError(
            f"DATA '{spec}': the classes could not be found, none of the {num_masks:,} masks"
            f"{f' of {learned}' if learned else ''} can be read; the first: {problem}{fix}"
        )
    legend = numbered_legend(found, f"DATA '{spec}' without a classes.txt")
    pairs.notes.append(
        f"no classes.txt says what the masks mean: {len(legend.names)} classes are numbered as "
        f"found in {learned or 'the masks'}, and only 255 is ignored"
    )
    return legend


def _by_stem(
    root: Path, folder: str, suffixes: tuple[str, ...], faults: list[Fault]
) -> dict[str, str]:
    """File names relative to `root` of the pictures at any depth below `folder`, by their
    name relative to it without its ending; sorted.
    """
    found: dict[str, str] = {}
    names = []
    base = root / folder
    for at, below, files in os.walk(base):
        below[:] = [name for name in below if not name.startswith(".")]
        inner = Path(at).relative_to(base).as_posix()
        prefix = "" if inner == "." else f"{inner}/"
        names += [
            prefix + name
            for name in files
            if not name.startswith(".") and name.lower().endswith(suffixes)
        ]
    for name in sorted(names):
        ending = next(suffix for suffix in suffixes if name.lower().endswith(suffix))
        stem = name[: -len(ending)]
        if stem in found:
            other = readable_name(found[stem])
            faults.append(Fault(readable_name(folder + name), f"has the name of {other}"))
        else:
            found[stem] = folder + name
    return found


def _alone(files: dict[str, str], partners: dict[str, str], reason: str) -> list[Fault]:
    return [Fault(readable_name(files[s]), reason) for s in files if s not in partners]


def _parts(root: Path, suffixes: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
    top = _folders(root)
    beside = [name for name in top if split_name(name) and f"{name}{_BESIDE}" in top]
    for name in top:
        split = split_name(name) or ""
        if split and beside:  # train, trainannot
            yield split, f"{name}/", f"{name}{_BESIDE}/" if name in beside else ""
        elif split:  # train/images, train/masks
            below = _folders(root / name)
            masks = _mask_folder(root / name, below, suffixes)
            if _PICTURES in below and masks:
                yield split, f"{name}/{_PICTURES}/", f"{name}/{masks}/"
    masks = _mask_folder(root, top, suffixes)
    if _PICTURES not in top or not masks:
        return
    split_folders = [name for name in _folders(root / _PICTURES) if split_name(name)]
    masked = _folders(root / masks)
    if not split_folders:  # images, masks
        yield "", f"{_PICTURES}/", f"{masks}/"
    for name in split_folders:  # images/train, masks/train
        there = f"{masks}/{name}/" if name in masked else ""
        yield split_name(name) or "", f"{_PICTURES}/{name}/", there


def _mask_folder(root: Path, names: list[str], suffixes: tuple[str, ...]) -> str:
    """The folder of masks among the folders `names` of `root`; "" if there is none."""
    found = [name for name in _MASKS if name in names]
    return next((name for name in found if _holds(root / name, suffixes)), "")


def _folders(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    except OSError:
        return []


def _holds(folder: Path, suffixes: tuple[str, ...]) -> bool:
    budget = _PEEK
    for _, _, names in os.walk(folder):
        for name in names[:budget]:
            if name.lower().endswith(suffixes):
                return True
        budget -= len(names)
        if budget <= 0:
            return False
    return False
