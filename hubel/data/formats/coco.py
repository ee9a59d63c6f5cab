"""COCO: one JSON file for the pictures of a split.

    annotations/instances_{train,val,test}*.json, pictures in {train,val,test}*/, images/… or DATA
    {train,valid,test}/_annotations.coco.json, pictures beside it

or one JSON file, named as DATA, with the pictures beside it (above it, where its folder is
called "annotations"). The class list is the categories of train's file by their id; the other
files' categories are matched by name. Boxes are [left, top, width, height] in pixels from 0;
"iscrowd" marks a difficult one. Outlines are not read.

Lin et al., Microsoft COCO: Common Objects in Context, 2014; cocodataset.org, "Data format".
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hubel.data.annotation_files import (
    AnnotationError,
    class_name,
    inside,
    pictures_below,
    printable,
    read_text,
    visible,
)
from hubel.data.boxed import Object, Picture, boxed_source, told_size
from hubel.data.boxes import Fault
from hubel.data.filesource import readable_name
from hubel.data.labels import split_name
from hubel.data.paths import expanded, is_file, is_folder
from hubel.data.source import FORMATS, SPLITS, Format, Source
from hubel.errors import UserError

__all__ = ["Coco"]

_ANNOTATIONS = "annotations"
_PREFIX = "instances_"
_NAME = re.compile(r"(?:instances_)?(train|valid|validation|val|test)(?![a-z]).*\.json")
_ROBOFLOW = "_annotations.coco.json"
_MAX_BYTES = 1 << 30
_TRIED = 20  # pictures that are looked for in each folder that may hold them


@dataclass(frozen=True)
class _Part:
    """One JSON file, relative to the folder of the data, and where its pictures may lie."""

    split: str
    file: str
    folders: tuple[str, ...]


class Coco(Format):
    """Pictures with boxes in COCO's JSON."""

    def describe(self) -> str:
        return (
            "annotations/instances_{train,val,test}*.json with folders of pictures, or one "
            "COCO .json file with the pictures beside it"
        )

    def matches(self, spec: str) -> bool:
        path = expanded(spec)
        if is_folder(path):
            return bool(_parts(path))
        return spec.lower().endswith(".json") and is_file(path)

    def open(self, spec: str) -> Source:
        path = expanded(spec)
        if is_folder(path):
            root, parts = path, _parts(path)
        elif is_file(path):
            root = path.parent
            if root.name.lower() == _ANNOTATIONS:
                root = root.parent
            file = path.relative_to(root).as_posix()
            parts = [_Part("", file, ("", *_folders(path.name), "images/"))]
        else:
            parts = []
        if not parts:
            raise UserError(f"DATA '{spec}' is not COCO data: {self.describe()}")
        parts = _one_a_split(parts, spec)
        classes: list[str] | None = None
        pictures: list[Picture] = []
        faults: list[Fault] = []
        used = []
        for part in parts:
            document = _document(root / part.file)
            names = _categories(document, root / part.file)
            classes = list(names.values()) if classes is None else classes
            folder = _folder(root, part, document["images"])
            used.append(folder)
            pictures += _pictures(part, folder, document, names, faults)
        if is_folder(path):
            faults += _unlisted(root, used, pictures)
        return boxed_source("coco", spec, root, pictures, faults, classes=classes)


def _parts(root: Path) -> list[_Part]:
    """The JSON files of the data; none where it has another layout."""
    names = [e.name for e in visible(root / _ANNOTATIONS) if _NAME.fullmatch(e.name.lower())]
    if any(name.lower().startswith(_PREFIX) for name in names):
        names = [name for name in names if name.lower().startswith(_PREFIX)]
    parts = []
    for name in names:
        found = _NAME.fullmatch(name.lower())
        split = split_name(found[1]) if found else None
        if split:
            folders = (*_folders(name), "images/", "")
            parts.append(_Part(split, f"{_ANNOTATIONS}/{name}", folders))
    if parts:
        return parts
    for entry in visible(root):
        split = split_name(entry.name)
        if split and is_file(root / entry.name / _ROBOFLOW):
            below = f"{entry.name}/"
            parts.append(_Part(split, below + _ROBOFLOW, (below,)))
    return parts


def _folders(file: str) -> tuple[str, ...]:
    """Where the pictures of instances_train2017.json may lie: train2017, train, images/…"""
    tag = file[: -len(".json")]
    tag = tag[len(_PREFIX) :] if tag.lower().startswith(_PREFIX) else tag
    found = _NAME.fullmatch(file.lower())
    tags = dict.fromkeys((tag, found[1], split_name(found[1]) or tag) if found else (tag,))
    return tuple(f"{above}{name}/" for name in tags for above in ("", "images/"))


def _one_a_split(parts: list[_Part], spec: str) -> list[_Part]:
    """The parts in the order of the splits; two of one split are an error."""
    by_split: dict[str, _Part] = {}
    for part in parts:
        other = by_split.setdefault(part.split, part)
        if other is not part:
            raise UserError(
                f"DATA '{spec}' has two files for {part.split}: '{other.file}' and "
                f"'{part.file}'; keep one, or name one of them as DATA"
            )
    return [by_split[split] for split in ("", *SPLITS) if split in by_split]


def _document(file: Path) -> dict[str, list[Any]]:
    """The lists "images", "annotations" and "categories" of a JSON file."""
    try:
        found = json.loads(read_text(file, _MAX_BYTES), object_hook=_without_outline)
    except AnnotationError as error:
        raise UserError(f"'{file}' {error}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"'{file}' is not valid JSON ({error}); write it again") from error
    lists = {}
    for key in ("images", "annotations", "categories"):
        value = found.get(key) if isinstance(found, dict) else None
        if not isinstance(value, list):
            raise UserError(
                f"'{file}' is not COCO JSON: it must be an object with the lists images, "
                f"annotations and categories, and has no list '{key}'"
            )
        lists[key] = value
    return lists


def _without_outline(found: dict[str, Any]) -> dict[str, Any]:
    """Drops what makes up most of a file, as soon as it is read: it is never all in memory."""
    found.pop("segmentation", None)
    return found


def _categories(document: dict[str, list[Any]], file: Path) -> dict[int, str]:
    """Names of the classes by id, in the order of the ids."""
    names: dict[int, str] = {}
    for k, category in enumerate(document["categories"]):
        number = category.get("id") if isinstance(category, dict) else None
        name = category.get("name") if isinstance(category, dict) else None
        name = class_name(name) if isinstance(name, str) else ""
        if not isinstance(number, int) or not name:
            raise UserError(
                f"'{file}': category {k} (from 0) must have an id, a whole number, and a name"
            )
        if number in names or name in names.values():
            raise UserError(
                f"'{file}': category {k} (from 0), id {number} and name '{name}', is there "
                f"twice; ids and names must differ"
            )
        names[number] = name
    return dict(sorted(names.items()))


def _folder(root: Path, part: _Part, images: Sequence[Any]) -> str:
    """The one of the part's folders that holds the most of its first pictures."""
    names = [i.get("file_name") for i in images[:_TRIED] if isinstance(i, dict)]

    def hits(folder: str) -> int:
        plain = [inside(folder + name) for name in names if isinstance(name, str)]
        return sum(name is not None and is_file(root / name) for name in plain)

    return max(part.folders, key=hits)


def _pictures(
    part: _Part,
    folder: str,
    document: dict[str, list[Any]],
    names: dict[int, str],
    faults: list[Fault],
) -> list[Picture]:
    file = readable_name(part.file)
    by_id: dict[Any, Picture] = {}
    for k, image in enumerate(document["images"]):
        where = f"{file} image {_id_of(image, k)}"
        name = image.get("file_name") if isinstance(image, dict) else None
        number = image.get("id") if isinstance(image, dict) else None
        if not isinstance(name, str) or not isinstance(number, int | str):
            faults.append(Fault(where, "must have an id and a file_name; it is passed over"))
        elif number in by_id:
            faults.append(Fault(where, "its id is there twice; the second is passed over"))
        else:
            size = told_size(image.get("height"), image.get("width"))
            # An absolute name must not become a relative one by what is put before it.
            full = folder + name if inside(name) else name
            by_id[number] = Picture(full, where, part.split, size)
    for k, annotation in enumerate(document["annotations"]):
        where = f"{file} annotation {_id_of(annotation, k)}"
        found = annotation if isinstance(annotation, dict) else {}
        image_id, category = found.get("image_id"), found.get("category_id")
        if not isinstance(image_id, int | str) or image_id not in by_id:
            said = f"its picture (image_id {_shown(image_id)}) is not in images"
            faults.append(Fault(where, f"{said}; it is passed over"))
            continue
        if not isinstance(category, int) or category not in names:
            said = f"its class (category_id {_shown(category)}) is not in categories"
            faults.append(Fault(where, f"{said}; the box is passed over"))
            continue
        try:
            left, top, width, height = map(float, found["bbox"])
        except (KeyError, TypeError, ValueError, OverflowError):
            said = f"class '{names[category]}': bbox must be four numbers, x, y, width, height"
            faults.append(Fault(where, f"{said}; the box is passed over"))
            continue
        corners = (left, top, left + width, top + height)
        crowd = found.get("iscrowd") in (1, True)
        by_id[image_id].objects.append(Object(names[category], corners, crowd, where))
    return list(by_id.values())


def _id_of(entry: Any, k: int) -> str:
    number = entry.get("id") if isinstance(entry, dict) else None
    return _shown(number) if isinstance(number, int | str) else f"number {k} (from 0)"


def _shown(value: Any) -> str:
    """A value of the file in a message: short, and on one line."""
    if isinstance(value, int) and abs(value) < 10**18:
        return str(value)
    if isinstance(value, str):
        return f"'{printable(value[:40])}'"
    return "none" if value is None else f"of type {type(value).__name__}"


def _unlisted(root: Path, folders: Sequence[str], pictures: Sequence[Picture]) -> list[Fault]:
    """Faults of the pictures in the folders that no JSON file names."""
    listed = {inside(picture.name) for picture in pictures}
    below = dict.fromkeys(
        folder + name for folder in folders for name in pictures_below(root / folder)
    )
    said = "is in no annotation file and is passed over"
    return [Fault(readable_name(name), said) for name in below if name not in listed]


FORMATS.register("coco")(Coco())
