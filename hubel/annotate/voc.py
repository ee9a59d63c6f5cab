"""PASCAL VOC: Annotations/NAME.xml for each picture.

Coordinates are hubel's, from 0 and with fractions: VOC's own files count from 1, the tools that
write its XML today from 0, and no file says which. Each object has a "score", which VOC does not
know and readers pass over.

Everingham et al., The PASCAL Visual Object Classes (VOC) Challenge, IJCV 2010.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from hubel.annotate import WRITERS, Annotated, Kind, Places, fresh_folder, write_new
from hubel.data.filesource import readable_name
from hubel.errors import printable

__all__ = ["VocWriter"]


class VocWriter:
    """Writes Annotations/NAME.xml."""

    name = "voc"
    kinds: tuple[Kind, ...] = ("boxes",)

    def describe(self) -> str:
        return "VOC Annotations/NAME.xml, with scores"

    def write(
        self,
        annotated: Iterable[Annotated],
        classes: Sequence[str],
        folder: Path,
        source_root: Path,
    ) -> list[Path]:
        fresh_folder(folder)
        places = Places(source_root)
        written = []
        for picture in annotated:
            place = folder / "Annotations" / places.of(picture.path, ".xml")
            written.append(write_new(place, _xml(picture, classes)))
        return written


def _xml(picture: Annotated, classes: Sequence[str]) -> str:
    boxes = picture.visible_boxes()
    height, width = picture.size
    root = Element("annotation")
    _put(root, "folder", picture.path.parent.name)
    _put(root, "filename", picture.path.name)
    size = SubElement(root, "size")
    _put(size, "width", str(width))
    _put(size, "height", str(height))
    _put(root, "segmented", "0")
    for number, score, *corners in boxes.tolist():
        found = SubElement(root, "object")
        _put(found, "name", classes[int(number)])
        _put(found, "difficult", "0")
        if not np.isnan(score):
            _put(found, "score", f"{score:.5f}")
        box = SubElement(found, "bndbox")
        for side, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True):
            _put(box, side, f"{value:.3f}".rstrip("0").rstrip("."))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _put(above: Element, tag: str, value: str) -> None:
    # ElementTree escapes markup; control characters, which XML cannot hold at all, are written out.
    SubElement(above, tag).text = printable(readable_name(value))


WRITERS.register(VocWriter.name)(VocWriter())
