"""Pictures and volumes with their true boxes or masks drawn in the colours of their classes."""

import colorsys
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from hubel.data.legend import IGNORED
from hubel.data.source import Array
from hubel.report.page import still_picture

__all__ = ["GROUND", "boxed", "class_colours", "tinted"]

GROUND = "#8a93a3"
"""Of a class called "background": grey, so that the things on it stand out."""
_COLOURS = (
    "#2b5fd9", "#e8710a", "#12a594", "#a144d8", "#e5c100", "#d6246e",
    "#5fb236", "#37b7e8", "#8c5a2b", "#ff8fa3", "#3d4db3", "#9fbf00",
)  # fmt: skip
_TURN = 0.618034  # of the colour circle, from one further class to the next: none soon returns
_COVER = 0.55  # of a mask's colour over the picture
_HIDDEN = 0.7  # of black over what is ignored


def class_colours(names: Sequence[str]) -> list[str]:
    """A colour "#rrggbb" for each class; the first twelve are chosen to be told apart."""
    colours = []
    place = 0
    for name in names:
        if name.lower() == "background":
            colours.append(GROUND)
            continue
        if place < len(_COLOURS):
            colours.append(_COLOURS[place])
        else:
            lightness = (0.45, 0.62, 0.35)[place % 3]
            rgb = colorsys.hls_to_rgb(place * _TURN % 1, lightness, 0.75)
            colours.append("#" + "".join(f"{round(255 * level):02x}" for level in rgb))
        place += 1
    return colours


def boxed(
    picture: Array,
    corners: npt.NDArray[np.float32],
    colours: Sequence[str],
    side: int,
    thick: Sequence[bool] | None = None,
) -> Array:
    """A picture (h, w, c) with boxes (k, 4) in its pixels, each in its colour: uint8 (…, …, 3).

    A larger picture is reduced to `side` pixels before the boxes are drawn, a smaller one
    enlarged by a whole factor with its pixels kept square, so that lines stay lines. Those
    that are `thick` lie above the others.
    """
    shown = still_picture(picture)
    image = Image.fromarray(shown[..., 0] if shown.shape[-1] == 1 else shown).convert("RGB")
    width, height = image.size
    factor = side / max(width, height)
    if factor >= 1:
        factor = int(factor)
        resampling = Image.Resampling.NEAREST
    else:
        resampling = Image.Resampling.LANCZOS
    size = max(1, round(width * factor)), max(1, round(height * factor))
    image = image.resize(size, resampling)
    pen = ImageDraw.Draw(image)
    marked = [True] * len(corners) if thick is None else list(thick)
    for k in sorted(range(len(corners)), key=lambda k: marked[k]):
        left, top, right, bottom = (round(float(x) * factor) for x in corners[k])
        # The last pixel inside, and never a box turned round.
        last = max(left, right - 1), max(top, bottom - 1)
        pen.rectangle((left, top, *last), outline=colours[k], width=4 if marked[k] else 2)
    return np.asarray(image)


def tinted(pixels: Array, mask: Array, colours: Sequence[str]) -> Array:
    """Pixels (*spatial, c) under the colours of their classes: uint8 (*spatial, 3).

    They are grey where a colour lies over them, so that it stays what the legend says.
    `mask` (*spatial, 1) uint8 holds classes, and `IGNORED` for what is hidden in black.
    """
    shown = pixels
    if shown.dtype != np.uint8:
        finite = np.nan_to_num(shown.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        low, high = float(finite.min()), float(finite.max())
        shown = ((finite - low) * (255.0 / (high - low or 1.0))).round().astype(np.uint8)
    grey = shown.mean(axis=-1, keepdims=True, dtype=np.float32)
    if shown.shape[-1] != 3:
        shown = grey
    table = np.zeros((IGNORED + 1, 3), np.float32)
    cover = np.full((IGNORED + 1, 1), _COVER, np.float32)
    for k, colour in enumerate(colours):
        table[k] = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        if colour == GROUND:
            cover[k] = 0.0
    cover[IGNORED] = _HIDDEN
    classes = mask[..., 0]
    share = cover[classes]
    under = np.where(share > 0, grey, shown)
    mixed: Array = (under * (1 - share) + table[classes] * share).round().astype(np.uint8)
    return mixed
