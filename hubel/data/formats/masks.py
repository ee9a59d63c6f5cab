"""Folders of masks: a PNG of classes for every picture, of the same name but for the ending.

Arranged as {train,val,test} with {train,val,test}annot beside (CamVid as in SegNet), as
images/{train,val,test} with masks/{train,val,test}, as {train,val,test}/images with
{train,val,test}/masks, or as images with masks; labels and annotations are other names of
masks. What the values mean is said by classes.txt or legend.csv in the folder
(`hubel.data.legend`); without one the classes are the indices found in train.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hubel.data.boxes import Fault
from hubel.data.filesource import readable_name
from hubel.data.legend import Legend, numbered_legend, read_legend
from hubel.data.magic import SUFFIXES
from hubel.data.mask_folders import mask_parts
from hubel.data.masked import MaskedSource, mask_values
from hubel.data.paths import expanded, is_file, is_folder
from hubel.data.source import FORMATS, Format, Source, UnreadableSampleError
from hubel.errors import UserError

__all__ = ["MaskFolders"]

_LEGENDS = ("classes.txt", "legend.csv")
_SUFFIXES = tuple(SUFFIXES)


class MaskFolders(Format):
    """Pictures in one folder and their masks in another."""

    def describe(self) -> str:
        return "DATA/images/*.jpg with DATA/masks/*.png, or DATA/{train,val,test} with …annot"

    def matches(self, spec: str) -> bool:
        root = expanded(spec)
        return is_folder(root) and bool(mask_parts(root))

    def open(self, spec: str) -> Source:
        root = expanded(spec)
        parts = mask_parts(root) if is_folder(root) else []
        if not parts:
            raise UserError(f"DATA '{spec}' holds no masks; folders of masks are {self.describe()}")
        names: list[str] = []
        masks: list[str] = []
        splits: list[str] = []
        faults: list[Fault] = []
        notes: list[str] = []
        for split, picture_folder, mask_folder in parts:
            pictures = _by_stem(root, picture_folder, faults)
            if not mask_folder:
                notes.append(f"ignored {len(pictures):,} pictures in {picture_folder}: no masks")
                continue
            found = _by_stem(root, mask_folder, faults)
            both = [stem for stem in pictures if stem in found]
            names += [pictures[stem] for stem in both]
            masks += [found[stem] for stem in both]
            splits += [split] * len(both)
            faults += _alone(pictures, found, f"has no mask in {mask_folder}")
            faults += _alone(found, pictures, f"has no picture in {picture_folder}")
        if not names:
            first = f"; the first: {readable_name(faults[0].where)}" if faults else ""
            raise UserError(
                f"DATA '{spec}': no picture has a mask; a mask has its picture's name with "
                f".png for its ending{first}"
            )
        if faults:
            one = len(faults) == 1
            notes.append(
                f"passed over {len(faults):,} {'file' if one else 'files'} without a partner "
                f"(first: {faults[0].where} {faults[0].reason})"
            )
        legend = _legend(root, spec, masks, splits, notes)
        return MaskedSource(
            root, root, "masks", names, masks, legend, np.array(splits, np.str_), notes, faults
        )


def _by_stem(root: Path, folder: str, faults: list[Fault]) -> dict[str, str]:
    """File names relative to `root` of the pictures at any depth below `folder`, by their
    name relative to it without its ending; sorted."""
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
            if not name.startswith(".") and name.lower().endswith(_SUFFIXES)
        ]
    for name in sorted(names):
        stem = name[: name.rindex(".")]
        if stem in found:
            other = readable_name(found[stem])
            faults.append(Fault(readable_name(folder + name), f"has the name of {other}"))
        else:
            found[stem] = folder + name
    return found


def _alone(files: dict[str, str], partners: dict[str, str], reason: str) -> list[Fault]:
    return [Fault(readable_name(files[s]), reason) for s in files if s not in partners]


def _legend(
    root: Path, spec: str, masks: Sequence[str], splits: Sequence[str], notes: list[str]
) -> Legend:
    """The legend in the folder, or one of the indices in the masks of train."""
    there = [name for name in _LEGENDS if is_file(root / name)]
    if len(there) == 2:
        raise UserError(f"DATA '{spec}' holds both {there[0]} and {there[1]}; keep one")
    if there:
        return read_legend(root / there[0])
    found: set[int] = set()
    learned = "train" if "train" in splits else splits[0]
    problem = ""
    for name, split in zip(masks, splits, strict=True):
        if split != learned:
            continue
        try:
            found |= set(np.unique(mask_values((root / name).read_bytes(), False)).tolist())
        except (UnreadableSampleError, OSError) as error:  # found again when it is cached
            problem = problem or f"'{readable_name(name)}' {error}"
    if not found:
        raise UserError(
            f"DATA '{spec}': the values of its masks could not be read: {problem}; write "
            f"legend.csv there, a line name,red,green,blue for each class"
        )
    legend = numbered_legend(found, f"DATA '{spec}' without a classes.txt")
    notes.append(
        f"no classes.txt says what the masks mean: {len(legend.names)} classes are numbered as "
        f"found in {learned or 'the masks'}, and only 255 is ignored"
    )
    return legend


FORMATS.register("masks")(MaskFolders())
