"""PASCAL VOC: one XML file a picture, of the same name.

    JPEGImages/NAME.jpg  Annotations/NAME.xml  ImageSets/Main/{train,val,test,trainval}.txt

or images/ and annotations/, or pictures with their XML beside them, in DATA itself or in
DATA/{train,val,test}. The pairing is by name; what the XML says of its file's name and path is
ignored, because it is seldom kept true. Coordinates are taken as they stand: VOC itself counts
pixels from 1, most tools that write its XML from 0, and no file says which.

Everingham et al., The PASCAL Visual Object Classes (VOC) Challenge, IJCV 2010.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from hubel.data.annotation_files import (
    AnnotationError,
    class_name,
    is_picture,
    printable,
    read_text,
    visible,
)
from hubel.data.boxed import Object, Picture, boxed_source, told_size
from hubel.data.boxes import Fault
from hubel.data.filesource import readable_name
from hubel.data.labels import split_name
from hubel.data.paths import expanded, is_file, is_folder
from hubel.data.source import FORMATS, Format, Source
from hubel.errors import UserError

__all__ = ["Voc"]

_PAIRS = (("jpegimages", "annotations"), ("images", "annotations"))
_LISTS = Path("ImageSets", "Main")
_LIST_SPLITS = {"train": "train", "val": "val", "test": "test", "trainval": "train"}
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_MAX_BYTES = 1 << 24
_PEEK = 20_000  # entries that `matches` looks at in one folder


@dataclass(frozen=True)
class _Part:
    """Where pictures and XML of one split lie: prefixes relative to the folder of the data."""

    split: str
    pictures: str
    annotations: str


class Voc(Format):
    """Pictures with one VOC XML file each."""

    def describe(self) -> str:
        return (
            "JPEGImages/*.jpg, Annotations/*.xml and ImageSets/Main/{train,val,test}.txt, or "
            "pictures with VOC XML beside them"
        )

    def matches(self, spec: str) -> bool:
        root = expanded(spec)
        return is_folder(root) and bool(_parts(root))

    def open(self, spec: str) -> Source:
        root = expanded(spec)
        parts = _parts(root) if is_folder(root) else []
        if not parts:
            raise UserError(f"DATA '{spec}' is not a folder of VOC data: {self.describe()}")
        pictures: list[Picture] = []
        faults: list[Fault] = []
        notes: list[str] = []
        for part in parts:
            found = _pictures(root, part, faults)
            if len(parts) == 1 and is_folder(root / _LISTS):
                found = _listed(root, found, faults, notes)
            for picture in found.values():
                if _annotate(picture, root, faults):
                    pictures.append(picture)
        return boxed_source("voc", spec, root, pictures, faults, notes)


def _parts(root: Path) -> list[_Part]:
    """The parts of the data; none where it has another layout."""
    folders = {}
    try:
        with os.scandir(root) as entries:
            folders = {e.name.lower(): e.name for e in entries if e.is_dir()}
    except OSError:
        return []
    for pictures, annotations in _PAIRS:
        if pictures in folders and annotations in folders:
            below = f"{folders[annotations]}/"
            if ".xml" in _kinds(root / below):
                return [_Part("", f"{folders[pictures]}/", below)]
    if _is_mixed(root):
        return [_Part("", "", "")]
    named = [(split_name(name), f"{name}/") for name in sorted(folders.values())]
    return [
        _Part(split, below, below) for split, below in named if split and _is_mixed(root / below)
    ]


def _is_mixed(folder: Path) -> bool:
    return len(_kinds(folder)) == 2


def _kinds(folder: Path) -> set[str]:
    """Which of pictures and ".xml" there are among the first entries of `folder`."""
    kinds = set()
    try:
        with os.scandir(folder) as entries:
            for budget, entry in enumerate(entries):
                if not entry.name.startswith("."):
                    if entry.name.lower().endswith(".xml"):
                        kinds.add(".xml")
                    elif is_picture(entry.name):
                        kinds.add("picture")
                if len(kinds) == 2 or budget >= _PEEK:
                    break
    except OSError:
        return set()
    return kinds


def _pictures(root: Path, part: _Part, faults: list[Fault]) -> dict[str, Picture]:
    """The pictures that have an XML file, by name without suffix; `where` is the XML file."""
    xmls = {
        e.name[:-4]: part.annotations + e.name
        for e in visible(root / part.annotations)
        if e.name.lower().endswith(".xml")
    }
    found: dict[str, Picture] = {}
    for entry in visible(root / part.pictures):
        stem, name = os.path.splitext(entry.name)[0], part.pictures + entry.name  # noqa: PTH122
        if not is_picture(entry.name):
            continue
        if stem in found:
            other = readable_name(found[stem].name)
            said = f"has the same name as {other}; the picture is passed over"
            faults.append(Fault(readable_name(name), said))
        elif stem in xmls:
            found[stem] = Picture(name, xmls[stem], part.split)
        else:
            said = (
                "has no annotation file and is passed over; an XML file without objects would "
                "make it a picture of nothing"
            )
            faults.append(Fault(readable_name(name), said))
    for stem in sorted(xmls.keys() - found.keys()):
        faults.append(Fault(readable_name(xmls[stem]), "its picture is missing; it is passed over"))
    return found


def _listed(
    root: Path, found: dict[str, Picture], faults: list[Fault], notes: list[str]
) -> dict[str, Picture]:
    """Those of `found` that a list of ImageSets/Main names, with their splits."""
    listed: dict[str, Picture] = {}
    num_lists = 0
    for name, split in _LIST_SPLITS.items():
        path = _LISTS / f"{name}.txt"
        if not is_file(root / path):
            continue
        num_lists += 1
        try:
            lines = read_text(root / path, _MAX_BYTES).splitlines()
        except AnnotationError as error:
            raise UserError(f"'{root / path}' {error}") from error
        taken, clashing = 0, ""
        for k, line in enumerate(lines, start=1):
            stem = line.strip()
            if not stem or (name == "trainval" and stem in listed and listed[stem].split != "test"):
                continue
            if stem in listed:
                other = listed[stem].split
                said = f"'{printable(stem)}' is listed already, in {other}; it stays there"
                faults.append(Fault(f"{path} line {k}", said))
                if other != split:
                    clashing = clashing or stem
            elif stem in found:
                found[stem].split = split
                listed[stem] = found[stem]
                taken += 1
            else:
                said = f"'{printable(stem)}' has no picture with an annotation; it is passed over"
                faults.append(Fault(f"{path} line {k}", said))
        # Else val would be drawn from train, and nobody had asked for that.
        if split == "val" and clashing and not taken:
            raise UserError(
                f"'{root / path}' names no picture that train.txt does not name too (first: "
                f"'{printable(clashing)}'); a picture belongs to one split: take it out of one of "
                f"them, or take val.txt away to have val drawn from train"
            )
    if not num_lists:
        return found
    rest = len(found) - len(listed)
    if rest:
        noun = "picture" if rest == 1 else "pictures"
        notes.append(f"ignored {rest:,} annotated {noun} that no list of {_LISTS} names")
    return listed


def _annotate(picture: Picture, root: Path, faults: list[Fault]) -> bool:
    """Read the XML file of `picture` into it; whether that could be done."""
    where = readable_name(picture.where)
    try:
        tree = _tree(read_text(root / picture.where, _MAX_BYTES))
    except AnnotationError as error:
        faults.append(Fault(where, f"{error}; the picture is passed over"))
        return False
    picture.size = told_size(tree.findtext("size/height"), tree.findtext("size/width"))
    picture.where = where
    for k, found in enumerate(tree.findall("object"), start=1):
        at = f"{where} object {k}"
        name = class_name(found.findtext("name", ""))
        if not name:
            faults.append(Fault(at, "has no class name; the box is passed over"))
            continue
        try:
            left, top, right, bottom = (float(found.findtext(f"bndbox/{c}", "")) for c in _CORNERS)
        except ValueError:
            said = f"class '{name}': bndbox must hold {', '.join(_CORNERS)} as numbers"
            faults.append(Fault(at, f"{said}; the box is passed over"))
            continue
        difficult = found.findtext("difficult", "").strip() == "1"
        picture.objects.append(Object(name, (left, top, right, bottom), difficult, at))
    return True


def _tree(text: str) -> ElementTree.Element:
    """The root of an annotation. Entities, which can expand without end, are refused."""
    # A parser that is given text takes it as such, whatever encoding the XML declares, so that
    # no other encoding can hide these words from the search.
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise AnnotationError("has a DOCTYPE, which an annotation has no use for; take it out")
    try:
        tree = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise AnnotationError(f"is not well-formed XML ({error})") from error
    if tree.tag != "annotation":
        tag = printable(tree.tag)
        raise AnnotationError(f"is not a VOC annotation: its root is <{tag}>, not <annotation>")
    return tree


FORMATS.register("voc")(Voc())
