"""YOLO: labels/NAME.txt for each picture, and data.yaml.

A line is "class cx cy w h", in shares of the picture's sides. There is no sixth column with the
score: the format's truth has five, readers (hubel's, Ultralytics' trainer) refuse or misread six,
and the use of these files is to be corrected and learned from. Who wants scores takes coco. A
picture without objects has an empty file: that is how the format says so.

data.yaml expects the pictures in images/ beside labels/, in the same folders.

Jocher et al., Ultralytics YOLO documentation, "Object detection datasets overview".
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml

from hubel.annotate import WRITERS, Annotated, Kind, Places, fresh_folder, write_new

__all__ = ["YoloWriter"]

_HEAD = (
    "# Put the pictures into images/ beside labels/, in the same folders below it.\n"
    "# Trainers that need val, too: divide the pictures and name both folders here.\n"
)


class YoloWriter:
    """Writes labels/NAME.txt and data.yaml."""

    name = "yolo"
    kinds: tuple[Kind, ...] = ("boxes",)

    def describe(self) -> str:
        return "YOLO labels/NAME.txt and data.yaml, without scores"

    def write(
        self,
        annotated: Iterable[Annotated],
        classes: Sequence[str],
        folder: Path,
        source_root: Path,
    ) -> list[Path]:
        fresh_folder(folder)
        places = Places(source_root)
        names = {"train": "images", "nc": len(classes), "names": list(classes)}
        text = _HEAD + yaml.safe_dump(names, allow_unicode=True, sort_keys=False)
        written = [write_new(folder / "data.yaml", text)]
        for picture in annotated:
            place = folder / "labels" / places.of(picture.path, ".txt")
            written.append(write_new(place, "".join(_lines(picture))))
        return written


def _lines(picture: Annotated) -> Iterable[str]:
    boxes = picture.visible_boxes()
    height, width = picture.size
    for number, _, left, top, right, bottom in boxes.tolist():
        cx, cy = (left + right) / 2 / width, (top + bottom) / 2 / height
        w, h = (right - left) / width, (bottom - top) / height
        # Seven digits: a hundredth of a pixel of a picture of 100,000.
        yield f"{int(number)} {cx:.7f} {cy:.7f} {w:.7f} {h:.7f}\n"


WRITERS.register(YoloWriter.name)(YoloWriter())
