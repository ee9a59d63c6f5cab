"""Arrays: an .npz file, or a folder of .npy files, with images and labels.

The names say what an array is: x, images or data; y, labels or targets; with train, val or
test before or after (X_train, test_labels). Pictures are (n, height, width[, c]), volumes
(n, depth, height, width[, c]); channels may also come first. An array "classes" names the
labels 0, 1, ….

Labels of the images' own spatial shape, (n, height, width) or (n, depth, height, width), are
masks: a class for every pixel or voxel, 255 where there is none.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from hubel.data.arraysource import Part, array_source, channels_last
from hubel.data.labels import split_name, whole_number_labels
from hubel.data.masked import masked_arrays
from hubel.data.npy import npz_names, open_npy, open_npz_member
from hubel.data.paths import expanded, is_file, is_folder
from hubel.data.source import FORMATS, SPLITS, Array, Format, Source
from hubel.errors import UserError

__all__ = ["Arrays"]

_IMAGES = frozenset(("x", "images", "image", "data"))
_LABELS = frozenset(("y", "labels", "label", "targets", "target"))


class Arrays(Format):
    """Images and labels in NumPy arrays."""

    def describe(self) -> str:
        return "an .npz file with X and y (or X_train, y_train, …), or a folder of such .npy files"

    def matches(self, spec: str) -> bool:
        path = expanded(spec)
        if is_file(path):
            return path.suffix.lower() in (".npz", ".npy")
        return is_folder(path) and any(_role(f.stem)[0] == "images" for f in _npy_files(path))

    def open(self, spec: str) -> Source:
        path = expanded(spec)
        if is_folder(path):
            files = {file.stem: file for file in _npy_files(path)}

            def read(name: str) -> Array:
                return open_npy(files[name])

            names = sorted(files)
            stamped = [files[name] for name in names]
        elif is_file(path) and path.suffix.lower() == ".npz":

            def read(name: str) -> Array:
                return open_npz_member(path, name)

            names, stamped = npz_names(path), [path]
        else:
            raise UserError(
                f"DATA '{spec}' is one array; hubel needs the labels too: name the folder that "
                f"holds images.npy and labels.npy, or an .npz file with both"
            )
        return _opened(path, f"'{spec}'", names, read, stamped)


def _opened(
    path: Path,
    where: str,
    names: Sequence[str],
    read: Callable[[str], Array],
    files: Sequence[Path],
) -> Source:
    images, labels, others = _sorted_out(names, where)
    parts = []
    masked = set()
    notes = []
    read_as = None
    for split in ("", *SPLITS):
        if split not in images:
            continue
        pixels = read(images[split])
        if read_as is None:
            read_as = channels_last(pixels.shape, f"{where} ({images[split]})")
            notes.append(read_as[2])
        axis, spatial_dims, _ = read_as
        if pixels.ndim != spatial_dims + (1 if axis is None else 2):
            raise UserError(
                f"{where}: {images[split]} has the shape {pixels.shape}, which differs from the "
                f"other splits' in its number of axes"
            )
        pixels = pixels[..., None] if axis is None else np.moveaxis(pixels, axis, -1)
        said = f"{where} ({labels[split]})"
        target = read(labels[split])
        _check_mask_size(target.shape, pixels.shape[:-1], said)
        masked.add(target.shape[1:] == pixels.shape[1:-1])
        if len(masked) > 1:
            raise UserError(
                f"{where}: the labels of some splits are masks and those of others are not; make "
                f"them alike"
            )
        if masked == {False}:
            target = whole_number_labels(np.asarray(target), said)
        parts.append(Part(split, pixels, target))
    classes = None
    if "classes" in others:
        classes = _classes(read("classes"), where)
        others.remove("classes")
    if others:
        notes.append(f"ignored the arrays {', '.join(others)}")
    opened = masked_arrays if masked == {True} else array_source
    return opened("arrays", path, parts, where=where, classes=classes, files=files, notes=notes)


def _check_mask_size(found: tuple[int, ...], images: tuple[int, ...], where: str) -> None:
    """Refuse masks of the shape `found` (n, …) that do not lie on `images` (n, *spatial)."""
    if len(found) > 2 and found[1:] != images[1:]:
        sizes = ["×".join(map(str, shape[1:])) for shape in (found, images)]
        raise UserError(
            f"{where}: labels of the shape {found} are masks of {sizes[0]}, and their images are "
            f"{sizes[1]}; save masks as {images}, or one class a sample as ({images[0]},)"
        )


def _sorted_out(
    names: Sequence[str], where: str
) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """Names of the image arrays and of the label arrays by split, and the other names."""
    found: dict[str, dict[str, str]] = {"images": {}, "labels": {}}
    others = []
    for name in names:
        role, split = _role(name)
        if role == "":
            others.append(name)
        elif split in found[role]:
            raise UserError(
                f"{where}: '{found[role][split]}' and '{name}' are both {role}"
                f"{f' of {split}' if split else ''}; keep one"
            )
        else:
            found[role][split] = name
    images, labels = found["images"], found["labels"]
    if not images or images.keys() != labels.keys():
        raise UserError(
            f"{where}: images and labels must come in pairs such as X and y, or X_train, "
            f"y_train, X_test and y_test; got the arrays {', '.join(names) or 'none'}"
        )
    if "" in images and len(images) > 1:
        other = next(split for split in images if split)
        raise UserError(
            f"{where}: '{images['']}' has no split while '{images[other]}' has; rename it to "
            f"{images['']}_train"
        )
    return images, labels, others


def _role(name: str) -> tuple[str, str]:
    """("images" or "labels", split) of an array's name; ("", "") for other names."""
    words = re.split(r"[_\-. ]", name.lower())
    if len(words) == 2:
        for word, split in (words, reversed(words)):
            role = "images" if word in _IMAGES else "labels" if word in _LABELS else ""
            if role and split_name(split):
                return role, split_name(split) or ""
    if len(words) == 1 and words[0] in _IMAGES | _LABELS:
        return "images" if words[0] in _IMAGES else "labels", ""
    return "", ""


def _classes(names: Array, where: str) -> list[str]:
    if names.ndim != 1 or names.dtype.kind not in "SU":
        raise UserError(
            f"{where}: 'classes' must be a list of names, got {names.dtype} of shape {names.shape}"
        )
    text = np.char.decode(names, "utf-8") if names.dtype.kind == "S" else names
    listed = [str(name) for name in text.tolist()]
    if len(set(listed)) < len(listed):
        raise UserError(f"{where}: 'classes' names a class twice")
    return listed


def _npy_files(folder: Path) -> list[Path]:
    try:
        return sorted(f for f in folder.iterdir() if f.suffix == ".npy" and is_file(f))
    except OSError:
        return []


FORMATS.register("arrays")(Arrays())
