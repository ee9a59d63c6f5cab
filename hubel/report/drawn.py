"""Boxes drawn onto a picture, as a data URI for a page."""

from collections.abc import Sequence

import numpy as np
from PIL import ImageDraw

from hubel.annotate.drawing import canvas
from hubel.data.source import Array
from hubel.report.page import picture_uri, still_picture

__all__ = ["PREDICTED", "TRUE", "boxed_uri"]

TRUE, PREDICTED = "#2b5fd9", "#d5640a"
"""Blue against orange holds for readers who do not tell red from green."""
_SIDE = 256  # pixels that the longer side of a drawn picture has at least


def boxed_uri(array: Array, boxes: Sequence[tuple[Sequence[float], str]]) -> str:
    """A picture (h, w, c) with boxes: (left, top, right, bottom) in its pixels, and a colour.

    Small pictures are enlarged, their pixels kept square, so that a line is not a pixel of
    theirs; of two lines in one place both are seen, the later one is narrower.
    """
    image, scale = canvas(still_picture(array), least=_SIDE)
    pen = ImageDraw.Draw(image)
    thick = max(2, max(image.size) // 80)
    for number, (box, colour) in enumerate(boxes):
        corners = [round(side * scale) for side in box]
        pen.rectangle(corners, outline=colour, width=thick + 2 * (len(boxes) - 1 - number))
    return picture_uri(np.asarray(image), max_side=max(image.size))
