"""Boxes drawn onto a picture, as a data URI for a page."""

from collections.abc import Sequence

import numpy as np
from PIL import ImageDraw

from hubel.annotate.drawing import canvas
from hubel.data.source import Array
from hubel.report.page import picture_uri, still_picture

__all__ = ["PREDICTED", "TRUE", "boxed_uri", "paired_uri"]

TRUE, PREDICTED = "#2b5fd9", "#d5640a"
"""Blue against orange holds for readers who do not tell red from green."""
_SIDE, _MOST_SIDE = 256, 640  # pixels that the longer side of a drawn picture has


Drawn = Sequence[tuple[Sequence[float], str]]
"""Boxes (left, top, right, bottom) in a picture's pixels, each with its colour."""


def boxed_uri(array: Array, boxes: Drawn) -> str:
    """A picture (h, w, c) with boxes.

    Small pictures are enlarged, their pixels kept square, so that a line is not a pixel of
    theirs; of two lines in one place both are seen, the later one is narrower.
    """
    image = _drawn(array, boxes, nested=True)
    return picture_uri(image, max_side=max(image.shape))


def paired_uri(array: Array, left: Drawn, right: Drawn) -> str:
    """The picture twice, side by side, with boxes in each."""
    pair = [_drawn(array, boxes, nested=False) for boxes in (left, right)]
    gap = np.full((len(pair[0]), max(4, pair[0].shape[1] // 60), 3), 255, np.uint8)
    image = np.hstack([pair[0], gap, pair[1]])
    return picture_uri(image, max_side=max(image.shape))


def _drawn(array: Array, boxes: Drawn, *, nested: bool) -> Array:
    """RGB (h, w, 3), brought to a size for pages; of `nested` boxes the first has most width."""
    image, scale = canvas(still_picture(array), least=_SIDE, most=_MOST_SIDE)
    pen = ImageDraw.Draw(image)
    thick = max(2, max(image.size) // (80 if nested else 160))
    for number, (box, colour) in enumerate(boxes):
        corners = [round(side * scale) for side in box]
        wider = 2 * (len(boxes) - 1 - number) if nested else 0
        pen.rectangle(corners, outline=colour, width=thick + wider)
    return np.asarray(image)
