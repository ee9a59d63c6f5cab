"""The examples of each class on the page of an inspection, with what is true of them drawn in."""

from dataclasses import dataclass

import numpy as np

from hubel.annotate.drawing import Mark, marked
from hubel.colours import class_colour, css, is_background
from hubel.data.inspect import examples, sample_grid
from hubel.data.inspection import Inspection
from hubel.data.legend import IGNORED
from hubel.data.source import Array, Source, UnreadableSampleError
from hubel.data.store import Store
from hubel.report.drawn import image_uri, masked_picture, masked_slices
from hubel.report.page import picture_uri, still_picture
from hubel.report.volumes import enlarged, preview, side_by_side, surface

__all__ = ["Example", "ExampleRow", "example_rows"]

PLAIN = ((30, 10), (60, 8), (120, 6))
LABELLED = ((12, 4), (30, 3), (60, 2))
VOLUMES = ((30, 2), (60, 1))
"""(number of classes up to, samples of each); of more classes the first so many are shown."""
_NOTHING = "no object"
"""The last row of pictures with boxes: those without one."""

_THUMB, _SIDE, _SLICE = 96, 288, 96  # pixels: a plain picture, a drawn one, a slice of a volume


@dataclass(frozen=True)
class Example:
    """One sample; `uri` is None where it cannot be read any more."""

    id: str
    uri: str | None


@dataclass(frozen=True)
class ExampleRow:
    """The samples of one class; `colour` is "" where nothing is drawn."""

    label: str
    colour: str
    shown: list[Example]


def example_rows(inspection: Inspection, store: Store, source: Source) -> list[ExampleRow]:
    """A row for each class, as many as a page holds."""
    present = inspection.present
    volumes = inspection.spatial_dims == 3
    sizes = VOLUMES if volumes else PLAIN if present is None else LABELLED
    num_classes = len(inspection.classes)
    per_class = next((n for most, n in sizes if num_classes <= most), sizes[-1][1])
    if present is None:
        names, colours = list(inspection.classes), [""] * num_classes
        chosen = sample_grid(source, store, per_class)
    else:
        names = list(inspection.classes)
        colours = [css(class_colour(k, names)) for k in range(num_classes)]
        if inspection.boxes is not None:
            names.append(_NOTHING)
            colours.append("")
            present = np.column_stack([present, ~present.any(axis=1)])
        chosen = examples(present, store.readable, per_class)
    artist = _Artist(inspection, source)
    rows = [
        ExampleRow(
            names[k], colours[k], [Example(inspection.ids[i], artist.uri(i, k)) for i in part]
        )
        for k, part in enumerate(indices.tolist() for indices in chosen)
    ]
    most = sizes[-1][0]
    last = rows[num_classes:]  # those without an object, if there are any
    return rows[: min(most, num_classes)] + [row for row in last if row.shown]


class _Artist:
    """Draws a sample as an example of a class."""

    def __init__(self, inspection: Inspection, source: Source) -> None:
        self._volumes = inspection.spatial_dims == 3
        self._source = source
        self._classes = inspection.classes

    def uri(self, i: int, k: int) -> str | None:
        """Sample `i`, in which class `k` is what is looked for."""
        source = self._source
        try:
            pixels = source.decode(source.content(i), i)
            if source.boxes is not None:
                return self._with_boxes(pixels, i, k)
            if source.masks is not None:
                mask = source.masks.decode(source.masks.content(i), i)
                return self._with_mask(pixels, mask, k)
        except (UnreadableSampleError, OSError):
            return None
        if self._volumes:
            return _sheet_uri(preview(pixels))
        return picture_uri(pixels, max_side=_THUMB)

    def _with_boxes(self, pixels: Array, i: int, k: int) -> str:
        boxes = self._source.boxes
        assert boxes is not None  # noqa: S101
        rows = boxes.of_sample(i)
        marks = [
            Mark(corners, class_colour(c, self._classes), width=3.0 if c == k else 1.5)
            for c, corners in zip(
                boxes.classes[rows].tolist(), boxes.corners[rows].tolist(), strict=True
            )
        ]
        marks.sort(key=lambda mark: mark.width)  # those looked for on top
        return image_uri(marked(still_picture(pixels), marks, least=_SIDE, most=_SIDE))

    def _with_mask(self, pixels: Array, mask: Array, k: int) -> str:
        classes, mask = self._classes, mask[..., 0]
        if not self._volumes:
            return image_uri(masked_picture(pixels, mask, classes, least=_SIDE, most=_SIDE))
        things = mask == k
        if is_background(classes[k]):
            things = ~things & (mask != IGNORED)
        places = np.argwhere(things)
        centre = None
        if len(places):
            off = np.square(places - places.mean(axis=0)).sum(axis=1)
            centre = places[off.argmin()].tolist()
        parts = masked_slices(pixels, mask, classes, side=_SLICE, centre=centre)
        volume = things[..., None].astype(np.uint8)
        colour = np.array(class_colour(k, classes))
        views = [(surface(volume, axis) * (colour / 255)).astype(np.uint8) for axis in (0, 2)]
        return _sheet_uri(side_by_side([*parts, *enlarged(views, _SLICE)]))


def _sheet_uri(sheet: Array) -> str:
    """A row of views; small ones are enlarged with their voxels kept square."""
    height, width = sheet.shape[:2]
    if height <= _SLICE:
        return picture_uri(sheet, scale=_SLICE // height, max_side=width)
    return picture_uri(sheet, max_side=round(width * _SLICE / height))
