"""COCO: one predictions.json with pictures, categories and annotations.

The whole document of a data set and not the bare list of COCO's results, which cannot name a
picture: it is read back as truth (hubel, labelling tools) with the file beside the pictures, and
pycocotools takes its "annotations" as results. Categories are numbered from 1 in the order of the
classes. A box is [left, top, width, height] in pixels from 0, with its "score" where it has one.

A mask is one annotation for each class that occurs, its pixels run-length encoded by pycocotools,
as in COCO-Stuff (Caesar et al. 2018); those of no class (255) are in none.

Lin et al., Microsoft COCO: Common Objects in Context, 2014; cocodataset.org, "Data format".
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as runs  # type: ignore[import-untyped]

from hubel.annotate import WRITERS, Annotated, Kind, fresh_folder, relative_name, write_new
from hubel.data.legend import IGNORED
from hubel.errors import UserError

__all__ = ["CocoWriter"]

_DIGITS = 3  # of a pixel; of a score two more


class CocoWriter:
    """Writes predictions.json."""

    name = "coco"
    kinds: tuple[Kind, ...] = ("boxes", "mask")

    def describe(self) -> str:
        return "one COCO predictions.json, with scores; masks run-length encoded"

    def write(
        self,
        annotated: Iterable[Annotated],
        classes: Sequence[str],
        folder: Path,
        source_root: Path,
    ) -> list[Path]:
        fresh_folder(folder)
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number, picture in enumerate(annotated, start=1):
            if len(picture.size) != 2:
                raise UserError(
                    f"--write 'coco' holds pictures, and '{picture.path}' is a volume; choose "
                    f"'masks'"
                )
            height, width = picture.size
            name = relative_name(picture.path, source_root).as_posix()
            images.append({"id": number, "file_name": name, "width": width, "height": height})
            for found in _found(picture):
                # COCO's evaluation takes ids for matches, and 0 for none: they count from 1.
                annotations.append({"id": len(annotations) + 1, "image_id": number, **found})
        document = {
            "info": {"description": "predictions of hubel"},
            "images": images,
            "categories": [{"id": k, "name": name} for k, name in enumerate(classes, start=1)],
            "annotations": annotations,
        }
        # Escapes keep file names that are not UTF-8 as they are, for whoever reads them in Python.
        text = json.dumps(document, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
        return [write_new(folder / "predictions.json", text)]


def _found(picture: Annotated) -> Iterator[dict[str, Any]]:
    """What is in a picture: its boxes, and the pixels of each class of its mask."""
    if picture.boxes is not None:
        for number, score, *corners in picture.visible_boxes().tolist():
            left, top, right, bottom = (round(side, _DIGITS) for side in corners)
            box = [left, top, round(right - left, _DIGITS), round(bottom - top, _DIGITS)]
            scored = {} if np.isnan(score) else {"score": round(score, _DIGITS + 2)}
            yield {
                "category_id": int(number) + 1,
                "bbox": box,
                "area": round(box[2] * box[3], _DIGITS),
                "iscrowd": 0,
                **scored,
            }
    if picture.mask is not None:
        for number in np.unique(picture.mask).tolist():
            if number == IGNORED:
                continue
            encoded = runs.encode(np.asfortranarray(picture.mask == number, np.uint8))
            yield {
                "category_id": number + 1,
                "bbox": runs.toBbox(encoded).tolist(),
                "area": int(runs.area(encoded)),
                "iscrowd": 0,
                "segmentation": {
                    "size": list(picture.mask.shape),
                    "counts": encoded["counts"].decode("ascii"),
                },
            }


WRITERS.register(CocoWriter.name)(CocoWriter())
