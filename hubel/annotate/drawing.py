"""Boxes and masks drawn onto copies of pictures, to be looked at.

Lines and words grow with the picture. Words stand on a patch filled with their class's colour, and
lines have a thin edge that contrasts with it, so that both are seen on any ground. A picture too
small for words is enlarged by a whole number, its pixels kept square.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from hubel.annotate import WRITERS, Annotated, FloatArray, Kind, Places, fresh_folder, write_new
from hubel.colours import Colour, class_colour, ink_on, is_background
from hubel.data.legend import IGNORED
from hubel.data.pictures import decode_picture
from hubel.data.source import Array
from hubel.errors import UserError

__all__ = ["Mark", "PictureWriter", "beside", "canvas", "drawn", "marked", "masked", "painted"]

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
_Box = tuple[float, float, float, float]

LEAST_SIDE = 320
"""Pixels that the longer side of a drawn picture has at least."""

_TINT = 0.5
_HIDDEN = 0.7  # of black over pixels of no class
_SURFACE, _INK = (255, 255, 255), (27, 35, 51)
_MOST_LETTERS = 28
_ROWS = 8  # that words may be moved down to be off other ones
_JPEG = frozenset((".jpg", ".jpeg", ".jpe", ".jfif"))
# Pillow's own font has ASCII only. These are asked, where the system has them, for other letters.
_SYSTEM_FONTS = ("DejaVuSans.ttf", "Arial Unicode.ttf", "arial.ttf", "NotoSansCJK-Regular.ttc")


@dataclass(frozen=True)
class Mark:
    """A box to be drawn.

    Attributes
    ----------
    box: left, top, right, bottom in the picture's pixels.
    name, score: written beside it, where there is a name.
    number: of its class, which stands for a name that no font has.
    width: of its lines, in those that the picture's size asks for.
    """

    box: Sequence[float]
    colour: Colour
    name: str = ""
    score: float | None = None
    number: int = 0
    width: float = 1.0


def canvas(
    picture: Array, least: int = LEAST_SIDE, most: int | None = None
) -> tuple[Image.Image, float]:
    """A copy of `picture` (h, w, 1 or 3) uint8 to draw on, RGB, and its scale.

    Enlarged by a whole number until its longer side has `least` pixels, or reduced to `most`.
    """
    if picture.ndim != 3 or picture.shape[-1] not in (1, 3) or picture.dtype != np.uint8:
        raise ValueError(
            f"picture must be uint8 (h, w, 1 or 3). Got {picture.dtype} of shape {picture.shape}."
        )
    image = Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture).convert("RGB")
    longest = max(image.size)
    if longest < least:
        times = -(-least // longest)
        size = image.width * times, image.height * times
        return image.resize(size, Image.Resampling.NEAREST), float(times)
    if most is not None and longest > most:
        scale = most / longest
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        return image.resize(size, Image.Resampling.LANCZOS), scale
    return image, 1.0


def painted(
    picture: Array, mask: npt.NDArray[np.uint8], classes: Sequence[str], line: int = 1
) -> Array:
    """`picture` (*spatial, 1 or 3) uint8 with each class's pixels tinted and outlined: RGB.

    A class called "background" stays as it is, and pixels of no class (255) are darkened. What is
    tinted is grey underneath, so that its colour is the class's. Outlines are `line` pixels or
    voxels wide on either side of a border. Pictures and volumes alike.
    """
    if picture.shape[:-1] != mask.shape:
        raise ValueError(f"mask must be {picture.shape[:-1]}, as its picture. Got {mask.shape}.")
    plain = [k for k, name in enumerate(classes) if is_background(name)]
    colours = np.array([class_colour(k, classes) for k in range(256)], np.float32)
    share = np.full(256, _TINT, np.float32)
    share[plain] = 0.0
    colours[IGNORED], share[IGNORED] = 0.0, _HIDDEN
    result = np.broadcast_to(picture, (*mask.shape, 3)).astype(np.float32)
    tint = share[mask][..., None]
    grey = result.mean(axis=-1, keepdims=True)
    result = np.where(tint > 0, grey * (1 - tint) + colours[mask] * tint, result)
    border = np.zeros(mask.shape, np.bool_)
    for axis in range(mask.ndim):
        for step in range(1, min(line, mask.shape[axis] - 1) + 1):
            low = (slice(None),) * axis + (slice(None, -step),)
            high = (slice(None),) * axis + (slice(step, None),)
            differs = mask[low] != mask[high]
            border[low] |= differs
            border[high] |= differs
    # A light line on the side that is not painted: a class's own colour may be the ground's.
    edges = colours.copy()
    edges[[*plain, IGNORED]] = 255.0
    result[border] = edges[mask[border]]
    return result.round().astype(np.uint8)


def drawn(picture: Array, annotated: Annotated, classes: Sequence[str]) -> Image.Image:
    """A copy of `picture` (h, w, 1 or 3) uint8 with the boxes and the mask of `annotated`.

    The surest box is on top. A mask's legend is below the picture, which stays at the top left.
    """
    image, scale = canvas(picture)
    if annotated.mask is not None:
        image = masked(picture, annotated.mask, classes)
    if annotated.boxes is not None:
        boxes = annotated.visible_boxes()
        surest_last = np.argsort(np.nan_to_num(boxes[:, 1], nan=1.0), kind="stable")
        _draw(image, [_mark(row, classes) for row in boxes[surest_last]], scale)
    if annotated.mask is None:
        return image
    present = sorted(set(np.unique(annotated.mask).tolist()) - {IGNORED})
    if not present:
        return image
    return _stacked([image, _legend(present, classes, image.width, _font_size(image))])


def marked(
    picture: Array, marks: Sequence[Mark], *, least: int = LEAST_SIDE, most: int | None = None
) -> Image.Image:
    """A copy of `picture` (h, w, 1 or 3) uint8 with boxes, brought to a size as by `canvas`.

    Of boxes in one place the last is on top and the first to choose where its words stand.
    """
    image, scale = canvas(picture, least, most)
    _draw(image, marks, scale)
    return image


def masked(
    picture: Array,
    mask: npt.NDArray[np.uint8],
    classes: Sequence[str],
    *,
    least: int = LEAST_SIDE,
    most: int | None = None,
) -> Image.Image:
    """A copy of `picture` (h, w, 1 or 3) uint8, brought to a size as by `canvas` and then painted
    with its `mask` (h, w)."""
    image, _ = canvas(picture, least, most)
    shown = np.asarray(Image.fromarray(mask).resize(image.size, Image.Resampling.NEAREST))
    return Image.fromarray(painted(np.asarray(image), shown, classes, max(1, _line(image) // 2)))


def beside(panels: Sequence[Image.Image], *, down: bool = False) -> Image.Image:
    """Pictures with gaps between them, from left to right or from the top `down`."""
    gap = max(4, max(panels[0].size) // 60)
    gaps = gap * (len(panels) - 1)
    widths, heights = [panel.width for panel in panels], [panel.height for panel in panels]
    size = (max(widths), sum(heights) + gaps) if down else (sum(widths) + gaps, max(heights))
    whole = Image.new("RGB", size, _SURFACE)
    at = 0
    for panel in panels:
        whole.paste(panel, (0, at) if down else (at, 0))
        at += gap + (panel.height if down else panel.width)
    return whole


class PictureWriter:
    """Writes a drawn copy of each picture."""

    name = "pictures"
    kinds: tuple[Kind, ...] = ("boxes", "mask")

    def describe(self) -> str:
        return "copies of the pictures with boxes or masks drawn on them"

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
            if len(picture.size) != 2:
                raise UserError(
                    f"--write 'pictures' draws on pictures, and '{picture.path}' is a volume; "
                    f"choose 'masks'"
                )
            # A photograph as PNG would be ten times its own size.
            photograph = picture.path.suffix.lower() in _JPEG
            place = folder / places.of(picture.path, ".jpg" if photograph else ".png")
            image = drawn(decode_picture(picture.path.read_bytes()), picture, classes)
            content = BytesIO()
            if photograph:
                image.save(content, "JPEG", quality=92, subsampling=0)
            else:
                image.save(content, "PNG")
            written.append(write_new(place, content.getvalue()))
        return written


# Pieces


def _mark(row: FloatArray, classes: Sequence[str]) -> Mark:
    """The mark of a box as `Annotated` has it."""
    number, score = int(row[0]), float(row[1])
    colour, name = class_colour(number, classes), _name(number, classes)
    return Mark(row[2:].tolist(), colour, name, None if np.isnan(score) else score, number)


def _draw(image: Image.Image, marks: Sequence[Mark], scale: float) -> None:
    """`marks` of a picture on `image`, which is that picture at `scale`. Lines first, so that none
    runs through a word."""
    pen = ImageDraw.Draw(image)
    line, size = _line(image), _font_size(image)
    edge = max(1, line // 3)
    for mark in marks:
        width = max(1, round(line * mark.width))
        # The pixel of a right border at 10 is the one that spans 9 to 10.
        left, top, right, bottom = (round(side * scale) for side in mark.box)
        right, bottom = max(right - 1, left), max(bottom - 1, top)
        outer = (left - edge, top - edge, right + edge, bottom + edge)
        pen.rectangle(outer, outline=ink_on(mark.colour), width=width + 2 * edge)
        pen.rectangle((left, top, right, bottom), outline=mark.colour, width=width)
    taken: list[_Box] = []
    for mark in reversed(marks):
        if mark.name:
            words, font = _words(mark.name, mark.number, size)
            if mark.score is not None:
                words += f" {mark.score:.2f}"
            box = np.array(mark.box, np.float64) * scale
            _label(pen, image.size, box, words, font, mark.colour, taken)


def _label(
    pen: ImageDraw.ImageDraw,
    size: tuple[int, int],
    box: FloatArray,
    words: str,
    font: Font,
    colour: tuple[int, int, int],
    taken: list[_Box],
) -> None:
    """Words on a patch at a box: above it, below, inside or in a row further down, where no other
    patch is."""
    left, top, right, bottom = box.tolist()
    pad = _pad(font)
    width = pen.textlength(words, font=font) + 2 * pad
    height = _line_height(font) + pad
    corners = [(left, top - height), (right - width, top - height), (left, bottom), (left, top)]
    corners += [(right - width, bottom - height), (left, bottom - height)]
    rows = [(left, top + k * height) for k in range(1, _ROWS)]
    inside = [
        (min(max(x, 0.0), max(0.0, size[0] - width)), y)
        for x, y in [*corners, *rows]
        if 0 <= y <= size[1] - height
    ] or [(min(max(left, 0.0), max(0.0, size[0] - width)), 0.0)]
    patches = [(x, y, x + width, y + height) for x, y in inside]
    free = [patch for patch in patches if not any(_meet(patch, other) for other in taken)]
    patch = (free or patches)[0]
    taken.append(patch)
    pen.rectangle(patch, fill=colour)
    middle = patch[1] + height / 2
    pen.text((patch[0] + pad, middle), words, fill=ink_on(colour), font=font, anchor="lm")


def _meet(a: _Box, b: _Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _legend(present: Sequence[int], classes: Sequence[str], width: int, size: int) -> Image.Image:
    """Colours and names of classes, in as many rows as a strip of `width` needs."""
    ruler = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    rows: list[list[tuple[float, int, str, Font]]] = [[]]
    x = gap = size * 0.6
    for number in present:
        name = _name(number, classes)
        words, font = _words(name, number, size)
        length = size * 1.3 + ruler.textlength(words, font=font) + gap
        if rows[-1] and x + length > width:
            rows.append([])
            x = gap
        rows[-1].append((x, number, words, font))
        x += length
    row_height = round(size * 1.6)
    strip = Image.new("RGB", (width, row_height * len(rows) + round(size * 0.4)), _SURFACE)
    pen = ImageDraw.Draw(strip)
    for k, row in enumerate(rows):
        middle = size * 0.2 + (k + 0.5) * row_height
        for x, number, words, font in row:
            swatch = (x, middle - size / 2, x + size, middle + size / 2)
            pen.rectangle(swatch, fill=class_colour(number, classes), outline=_INK)
            pen.text((x + size * 1.3, middle), words, fill=_INK, font=font, anchor="lm")
    return strip


def _stacked(images: Sequence[Image.Image]) -> Image.Image:
    height = sum(image.height for image in images)
    whole = Image.new("RGB", (images[0].width, height), _SURFACE)
    top = 0
    for image in images:
        whole.paste(image, (0, top))
        top += image.height
    return whole


# Words


def _name(number: int, classes: Sequence[str]) -> str:
    return classes[number] if number < len(classes) else f"class {number}"


def _line(image: Image.Image) -> int:
    return max(2, round(max(image.size) / 300))


def _font_size(image: Image.Image) -> int:
    return max(13, round(max(image.size) / 50))


def _line_height(font: Font) -> float:
    _, top, _, bottom = font.getbbox("Agjy")
    return bottom - top


def _pad(font: Font) -> float:
    return max(2.0, _line_height(font) / 5)


@lru_cache(maxsize=16)
def _fonts(size: int) -> tuple[Font, ...]:
    """Pillow's own font, and those of the system that are there."""
    found: list[Font] = [ImageFont.load_default(size)]
    for name in _SYSTEM_FONTS:
        try:
            found.append(ImageFont.truetype(name, size))
        except OSError:
            continue
    return tuple(found)


@lru_cache(maxsize=1024)
def _words(name: str, number: int, size: int) -> tuple[str, Font]:
    """A name that can be drawn, and the font that can: without its accents, or as a number, where
    no font has its letters."""
    if len(name) > _MOST_LETTERS:
        name = name[: _MOST_LETTERS - 3].rstrip() + "..."
    for font in _fonts(size):
        if _has(font, name):
            return name, font
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    if len(plain) < len(name) or not plain.isprintable():
        plain = f"class {number}"
    return plain, _fonts(size)[0]


def _has(font: Font, text: str) -> bool:
    """Whether a font has all letters: those that it lacks look as one that no font has."""
    missing = bytes(font.getmask("\uffff"))
    return text.isprintable() and not any(
        bytes(font.getmask(c)) == missing for c in set(text) if not c.isspace()
    )


WRITERS.register(PictureWriter.name)(PictureWriter())
