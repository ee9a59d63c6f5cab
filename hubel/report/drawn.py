"""Pictures and volumes with boxes and masks drawn on them, for a page."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from hubel.annotate.drawing import Mark, beside, marked, masked, painted
from hubel.colours import Colour
from hubel.data.source import Array
from hubel.report.page import picture_uri, still_picture
from hubel.report.volumes import enlarged, sections, slices

__all__ = ["BLUE", "ORANGE", "image_uri", "masked_picture", "masked_slices", "paired_uri"]

BLUE: Colour = (43, 95, 217)
ORANGE: Colour = (213, 100, 10)
"""True and said, or right and wrong: they hold for readers who do not tell red from green."""

_SIDE, _MOST_SIDE = 400, 480  # pixels that the longer side of one of a pair has


def image_uri(image: Image.Image) -> str:
    """A drawn picture as a data URI, in its own size."""
    return picture_uri(np.asarray(image), max_side=max(image.size))


def paired_uri(array: Array, left: Sequence[Mark], right: Sequence[Mark]) -> str:
    """The picture (h, w, c) twice, side by side, with boxes in each."""
    plain = still_picture(array)
    return image_uri(
        beside([marked(plain, marks, least=_SIDE, most=_MOST_SIDE) for marks in (left, right)])
    )


def masked_picture(
    array: Array, mask: Array, classes: Sequence[str], *, least: int, most: int
) -> Image.Image:
    """A picture (h, w, c) of any type with its mask (h, w), its longer side of `least` to `most`
    pixels."""
    return masked(still_picture(array), mask, classes, least=least, most=most)


def masked_slices(
    volume: Array,
    mask: Array,
    classes: Sequence[str],
    *,
    side: int,
    centre: Sequence[int] | None = None,
) -> list[Array]:
    """The slices (as `hubel.report.volumes.slices`) of a volume (d, h, w, c) with its mask
    (d, h, w), enlarged until a longest side has about `side` pixels."""
    plain = enlarged(slices(volume, centre), side)
    hidden = enlarged(sections(mask[..., None], centre), side)
    return [painted(part, over[..., 0], classes) for part, over in zip(plain, hidden, strict=True)]
