"""YOLO: data.yaml, and one text file a picture.

    data.yaml: names, train, val, test   images/train/NAME.jpg   labels/train/NAME.txt

A line of a label file is "class cx cy w h": the number of the class in `names`, then centre,
width and height as shares of the picture's, as shown (its EXIF orientation applied). train, val
and test are folders, or text files that list pictures, or lists of these. The label file of a
picture is where the last folder "images" of its path is called "labels"; without such a folder
it lies beside the picture.

DATA is the folder that holds data.yaml, or a .yaml file. All pictures lie in that folder (or in
`path` of the YAML below it); "../" before train, val and test, which some tools write, is taken
off. An absolute `path` counts only where the person has named the .yaml file: then they know
what it says; in a folder that came from elsewhere it could point anywhere.

Jocher et al., Ultralytics YOLO documentation, "Object detection datasets overview".
"""

import os
from collections.abc import Mapping
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
from hubel.data.boxed import Object, Picture, boxed_source, picture_size
from hubel.data.boxes import Fault
from hubel.data.filesource import readable_name
from hubel.data.paths import exists, expanded, is_file, is_folder
from hubel.data.source import FORMATS, SPLITS, Format, Source
from hubel.errors import UserError

__all__ = ["Yolo"]

_FILES = ("data.yaml", "data.yml")
_SUFFIXES = (".yaml", ".yml")
_MAX_YAML_BYTES = 1 << 20
_MAX_BYTES = 1 << 24
_PEEK = 20_000  # entries that `matches` looks at before it gives up
_NO_LABELS = frozenset(("classes.txt",))  # labelling tools write the names of classes there
_NULL = frozenset(("", "~", "null", "Null", "NULL"))


class Yolo(Format):
    """Pictures with one YOLO label file each."""

    def describe(self) -> str:
        return "data.yaml with names, train and val, images/*/*.jpg and labels/*/*.txt"

    def matches(self, spec: str) -> bool:
        path = expanded(spec)
        if is_file(path):
            return spec.lower().endswith(_SUFFIXES)
        file = _file(path)
        if file is None:
            return False
        try:
            text = read_text(file, _MAX_YAML_BYTES)
        except AnnotationError:
            return True  # `open` says what is wrong
        # A data.yaml without names may be something else's, but not beside YOLO's labels.
        return "names:" in text or _holds_labels(path)

    def open(self, spec: str) -> Source:
        path = expanded(spec)
        file = path if is_file(path) else _file(path)
        if file is None:
            raise UserError(f"DATA '{spec}' is not a YOLO set: {self.describe()}")
        document = _document(file)
        names = _names(document, file)
        root = _root(document, file, named=file == path)
        reader = _Reader(root, names)
        for split in SPLITS:
            for entry in _entries(document, split, file):
                reader.read(split, entry, file)
        reader.look_for_orphans()
        pictures, faults = reader.pictures, reader.faults
        return boxed_source("yolo", spec, root, pictures, faults, classes=names)


class _Reader:
    """Reads pictures and labels of one split after the other.

    Attributes
    ----------
    pictures, faults: what was found.
    """

    def __init__(self, root: Path, names: list[str]) -> None:
        self.pictures: list[Picture] = []
        self.faults: list[Fault] = []
        self._root = root
        self._names = names
        self._labels: dict[str, set[str]] = {}  # names of the label files of a folder
        self._unused: dict[str, set[str]] = {}  # of those below folders read as a whole

    def read(self, split: str, entry: str, file: Path) -> None:
        """The pictures of `entry`, which `file` gives for `split`."""
        place = _place(self._root, entry)
        if place is None:
            said = f"{split}: '{printable(entry)}' is not a folder or file below '{self._root}'"
            if split == "train":
                raise UserError(
                    f"'{file}': {said}; put data.yaml into the folder that holds the pictures"
                )
            self.faults.append(Fault(readable_name(file.name), f"{said}; it is passed over"))
        elif is_folder(self._root / place):
            below = f"{place}/" if place else ""
            names = [below + name for name in pictures_below(self._root / place)]
            for name in names:
                self._add(split, name, readable_name(name), whole=True)
        else:
            try:
                lines = read_text(self._root / place, _MAX_BYTES).splitlines()
            except AnnotationError as error:
                raise UserError(f"'{self._root / place}' {error}") from error
            for k, line in enumerate(lines, start=1):
                if name := line.strip():
                    where = f"{readable_name(place)} line {k}"
                    self._add(split, _listed(self._root, place, name), where, whole=False)

    def look_for_orphans(self) -> None:
        """Faults of the label files whose picture is missing."""
        for folder, names in self._unused.items():
            for name in sorted(names):
                said = "its picture is missing; it is passed over"
                self.faults.append(Fault(readable_name(folder + name), said))

    def _add(self, split: str, name: str, where: str, whole: bool) -> None:
        picture = Picture(name, where, split)
        if inside(name) is None or not is_file(self._root / name):
            self.pictures.append(picture)  # `boxed_source` says what is wrong with it
            return
        folder, label = _label(name)
        if folder not in self._labels:
            entries = visible(self._root / folder)
            found = {e.name for e in entries if e.name.endswith(".txt")} - _NO_LABELS
            self._labels[folder] = found
        there = self._labels[folder]
        if whole:
            self._unused.setdefault(folder, set(there)).discard(label)
        if not there:
            said = f"there are no label files in '{readable_name(folder or '.')}'"
            self.faults.append(Fault(readable_name(name), f"{said}; the picture is passed over"))
        elif label not in there:
            said = f"has no label file {readable_name(folder + label)}"
            self.faults.append(
                Fault(readable_name(name), f"{said}; it is taken for a picture of nothing")
            )
            self.pictures.append(picture)
        elif self._annotate(picture, folder + label):
            self.pictures.append(picture)

    def _annotate(self, picture: Picture, file: str) -> bool:
        """Read a label file into `picture`; whether that could be done."""
        shown = readable_name(file)
        try:
            lines = read_text(self._root / file, _MAX_BYTES).splitlines()
        except AnnotationError as error:
            self.faults.append(Fault(shown, f"{error}; the picture is passed over"))
            return False
        rows = [(k, line) for k, line in enumerate(lines, start=1) if line.strip()]
        if not rows:
            return True
        picture.size = picture_size(f"{self._root}/{picture.name}")
        for k, line in rows:
            where = f"{shown} line {k}"
            try:
                number, (cx, cy, w, h) = _numbers(line, len(self._names))
            except AnnotationError as error:
                self.faults.append(Fault(where, f"{error}; the box is passed over"))
                continue
            if picture.size is not None:
                height, width = picture.size
                corners = (
                    (cx - w / 2) * width,
                    (cy - h / 2) * height,
                    (cx + w / 2) * width,
                    (cy + h / 2) * height,
                )
                picture.objects.append(Object(self._names[number], corners, False, where))
        return True


def _numbers(line: str, num_classes: int) -> tuple[int, list[float]]:
    """The class and the four shares of a line of a label file."""
    words = line.split()
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = []
    if len(values) != 5:
        raise AnnotationError(
            f"must be five numbers, class cx cy w h; got '{printable(line.strip()[:40])}'"
        )
    if not (0 <= values[0] < num_classes and values[0] == int(values[0])):
        raise AnnotationError(
            f"class {printable(words[0][:20])} is not in names (0 to {num_classes - 1})"
        )
    return int(values[0]), values[1:]


def _label(name: str) -> tuple[str, str]:
    """Folder and name of the label file of a picture.

    >>> _label("images/train/a.jpg"), _label("b.png")
    (('labels/train/', 'a.txt'), ('', 'b.txt'))
    """
    *folders, file = name.split("/")
    if "images" in folders:
        last = len(folders) - 1 - folders[::-1].index("images")
        folders[last] = "labels"
    return "".join(f"{f}/" for f in folders), os.path.splitext(file)[0] + ".txt"  # noqa: PTH122


def _file(folder: Path) -> Path | None:
    """The data.yaml of a folder."""
    return next((folder / name for name in _FILES if is_file(folder / name)), None)


def _holds_labels(folder: Path) -> bool:
    """Whether a label file is among the first entries below a folder called "labels"."""
    budget = _PEEK
    for at, below, names in os.walk(folder):
        below[:] = sorted(name for name in below if not name.startswith("."))
        if "labels" in Path(at).relative_to(folder).parts:
            if any(n.endswith(".txt") and n not in _NO_LABELS for n in names[:budget]):
                return True
        budget -= len(names) + 1
        if budget <= 0:
            return False
    return False


def _document(file: Path) -> dict[str, Any]:
    """The YAML of `file`, every scalar as text: a class may be called "no" or 007."""
    import yaml  # only for this format

    try:
        found = yaml.load(read_text(file, _MAX_YAML_BYTES), Loader=yaml.BaseLoader)
    except AnnotationError as error:
        raise UserError(f"'{file}' {error}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        said = " ".join(str(error).split())
        raise UserError(f"'{file}' is not valid YAML ({said}); write it again") from error
    if not isinstance(found, dict):
        raise UserError(f"'{file}' must hold names, train and val, one a line ('train: images')")
    return found


def _names(document: Mapping[str, Any], file: Path) -> list[str]:
    """The class list: a list, or a mapping from 0, 1, … to names."""
    told = document.get("names")
    if isinstance(told, dict):
        numbers = [str(k) for k in range(len(told))]
        if set(told) != set(numbers):
            raise UserError(
                f"'{file}': the numbers of names must be 0 to {len(told) - 1}, each once"
            )
        told = [told[number] for number in numbers]
    if not isinstance(told, list) or not told:
        raise UserError(f"'{file}' must hold names, a list of the classes: 'names: [cat, dog]'")
    names = [class_name(name) if isinstance(name, str) else "" for name in told]
    for k, name in enumerate(names):
        if not name or name in names[:k]:
            rule = "is there twice" if name else "is empty or not text"
            raise UserError(f"'{file}': name {k} (from 0) of names {rule}; names must differ")
    count = document.get("nc", str(len(names)))
    if count != str(len(names)):
        shown = printable(count[:20]) if isinstance(count, str) else "no number"
        raise UserError(f"'{file}': nc is {shown}, but names has {len(names)}; make them agree")
    return names


def _root(document: Mapping[str, Any], file: Path, named: bool) -> Path:
    """The folder that train, val and test are relative to."""
    told = document.get("path")
    if isinstance(told, str) and told not in _NULL:
        if named and expanded(told).is_absolute():
            return expanded(told)
        plain = inside(told)
        if plain is not None and is_folder(file.parent / plain):
            return file.parent / plain
    return file.parent


def _entries(document: Mapping[str, Any], split: str, file: Path) -> list[str]:
    """The folders and lists that `file` gives for `split`."""
    told = document.get(split, document.get("valid", "") if split == "val" else "")
    entries = told if isinstance(told, list) else [told]
    if not all(isinstance(entry, str) for entry in entries):
        raise UserError(f"'{file}': {split} must be a folder or a list of folders, as text")
    entries = [entry for entry in entries if entry not in _NULL]
    if split == "train" and not entries:
        raise UserError(f"'{file}' must say where train is: 'train: images/train'")
    return entries


def _place(root: Path, entry: str) -> str | None:
    """`entry` relative to `root` ("" for itself) if it is there; None if not, or outside."""
    if Path(entry).is_absolute():
        home = root.absolute()
        if not Path(entry).is_relative_to(home):
            return None
        entry = f"./{Path(entry).relative_to(home)}"
    while entry.startswith("../"):
        entry = entry[3:]
    if os.path.normpath(entry) == ".":
        return ""
    plain = inside(entry)
    return plain if plain is not None and exists(root / plain) else None


def _listed(root: Path, place: str, name: str) -> str:
    """A picture of the list `place`, relative to `root` where it is below it."""
    path = Path(name)
    if path.is_absolute():
        home = root.absolute()
        return str(path.relative_to(home)) if path.is_relative_to(home) else name
    return os.path.normpath(os.path.join(os.path.dirname(place), name))  # noqa: PTH118, PTH120


FORMATS.register("yolo")(Yolo())
