"""Pictures: from the bytes of a file to uint8 pixels, by Pillow.

What each kind of picture becomes (the same list, for users, is in docs/data.md):

- 1-bit, grey, grey with alpha: one channel. Palette, RGB, RGBA, CMYK, YCbCr: three channels.
- Alpha (a channel, a palette's alpha, a PNG's transparent colour) is laid on white.
- 16-bit samples are divided by 257 and rounded (12-bit: by 4095/255), never clipped.
- 32-bit whole numbers must lie in 0…65535 and are read as 16-bit; floats in 0…1, times 255.
- The EXIF orientation is applied; a corrupt EXIF block counts as none. Colour profiles are not.
- Of an animation or a file of several pages the first is taken.

Nothing here imports torch, because the processes that decode import this module. Pillow is
asked for one format at a time, the one that the first bytes name, through its documented
plugin classes: the size is known before a pixel is decoded, so that the limit on pixels does
not hang on Pillow's process-wide settings and warnings.
"""

import re
import struct
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from hubel.data.magic import SUFFIXES, format_of, require_format
from hubel.data.source import Array, UnreadableSampleError

__all__ = [
    "MAX_PIXELS",
    "SUFFIXES",
    "PictureFacts",
    "convert_channels",
    "decode_picture",
    "format_of",
    "probe_picture",
]

MAX_PIXELS = 178_956_970
"""Pictures of more pixels are refused before they are decoded (it is Pillow's own limit: a
quarter of a gibibyte of RGB, twice over)."""

_OPENERS: dict[str, type[ImageFile.ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "BMP": BmpImageFile,
    "TIFF": TiffImageFile,
    "WEBP": WebPImageFile,
    "GIF": GifImageFile,
    "PPM": PpmImageFile,
}

_LUMA = np.array([19595, 38470, 7471], np.uint32)  # ITU-R 601-2 in 1/65536, as Pillow has it

_WIDTH_TAG, _HEIGHT_TAG = 256, 257
_ORIENTATION_TAG = 0x0112
_BITS_TAG = 258
_PHOTOMETRIC_TAG = 262

# `warnings.catch_warnings` swaps process-wide state: one thread at a time.
_warnings_lock = threading.Lock()


@dataclass(frozen=True)
class PictureFacts:
    """What a picture's header says, without decoding it.

    Attributes
    ----------
    format: "JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF" or "PPM", by content.
    mode: Pillow's mode ("RGB", "L", "P", "CMYK", "I;16", …).
    size: (height, width) in pixels as shown, the orientation applied.
    frames: frames of an animation or pages of a file; hubel reads the first.
    has_alpha: an alpha channel, or a palette or colour marked transparent.
    bits: bits of one sample (1, 2, 4, 8, 12, 16, 32).
    orientation: EXIF orientation 1 to 8; 1 is upright, also where none is stored.
    """

    format: str
    mode: str
    size: tuple[int, int]
    frames: int
    has_alpha: bool
    bits: int
    orientation: int


def decode_picture(content: bytes, in_channels: int | None = None) -> Array:
    """The pixels of a picture, (height, width, c) uint8; c is 1 (grey) or 3 (RGB).

    `in_channels` 1 or 3 asks for grey or RGB; None gives what the picture has. Raises
    `UnreadableSampleError` with the reason, whatever goes wrong.
    """
    if in_channels not in (None, 1, 3):
        raise ValueError(f"in_channels must be 1, 3 or None, got {in_channels}")
    kind = require_format(content)
    try:
        image = _open(content, kind)
        with _quiet() if kind == "TIFF" or b"acTL" in content else nullcontext():
            image.load()
        return _pixels(image, content, kind, in_channels)
    except UnreadableSampleError:
        raise
    except Exception as error:
        raise UnreadableSampleError(_reason(error, content, kind)) from error


def probe_picture(content: bytes) -> PictureFacts:
    """What the header says; raises `UnreadableSampleError` as `decode_picture` does."""
    kind = require_format(content)
    try:
        image = _open(content, kind)
        with _quiet():
            orientation = _orientation(image)
            frames = _num_frames(image)
        width, height = image.size
        if isinstance(image, TiffImageFile):  # Pillow may have turned a TIFF's size already
            width, height = image.tag_v2[_WIDTH_TAG], image.tag_v2[_HEIGHT_TAG]
        if orientation >= 5:
            width, height = height, width
        return PictureFacts(
            format=kind,
            mode=image.mode,
            size=(height, width),
            frames=frames,
            has_alpha=image.has_transparency_data,
            bits=_bits(image, content, kind),
            orientation=orientation,
        )
    except UnreadableSampleError:
        raise
    except Exception as error:
        raise UnreadableSampleError(_reason(error, content, kind)) from error


def convert_channels(pixels: Array, in_channels: int | None) -> Array:
    """Grey to RGB by repeating, RGB to grey by ITU-R 601 luma; (*spatial, c), any dtype.

    >>> convert_channels(np.array([[[255, 0, 0]]], np.uint8), 1)
    array([[[76]]], dtype=uint8)
    """
    channels = pixels.shape[-1]
    if in_channels is None or in_channels == channels:
        return pixels
    if channels == 1:
        return np.repeat(pixels, in_channels, axis=-1)
    if channels != 3 or in_channels != 1:
        raise ValueError(f"{channels} channels cannot be made into {in_channels}")
    if pixels.dtype == np.uint8:
        grey: Array = ((pixels @ _LUMA + 0x8000) >> 16).astype(np.uint8)
    else:
        grey = pixels @ (_LUMA / 65536).astype(pixels.dtype)
    return grey[..., None]


def _open(content: bytes, kind: str) -> ImageFile.ImageFile:
    """The picture with its header read and its size checked; no pixel is decoded."""
    # Pillow reads a JPEG's EXIF when opening, and a GIF's or TIFF's size can make it warn.
    loud = kind in ("TIFF", "GIF") or b"Exif\0" in content or b"acTL" in content
    guard: AbstractContextManager[None] = _quiet() if loud else nullcontext()
    with guard:
        image = _OPENERS[kind](BytesIO(content))
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise UnreadableSampleError(
            f"too large: {width}×{height} pixels, the limit is {MAX_PIXELS:,} in all"
        )
    if width * height == 0:
        raise UnreadableSampleError(f"no pixels ({width}×{height})")
    return image


@contextmanager
def _quiet() -> Iterator[None]:
    """Pillow's warnings about odd metadata are not the user's concern: the pixels are."""
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _pixels(image: Image.Image, content: bytes, kind: str, in_channels: int | None) -> Array:
    """(height, width, c) uint8 of a loaded picture, upright, on white."""
    orientation = 1
    if kind != "TIFF" and "exif" in image.info:  # Pillow has turned a TIFF already
        with _quiet():
            orientation = _orientation(image)
    plain = image.mode in ("L", "RGB") and "transparency" not in image.info
    if plain and _bits(image, content, kind) == 8:
        wanted = {None: image.mode, 1: "L", 3: "RGB"}[in_channels]
        pixels = np.array(image if image.mode == wanted else image.convert(wanted))
        if pixels.ndim == 2:
            pixels = pixels[:, :, None]
    else:
        pixels = convert_channels(_on_white(_unusual(image, content, kind)), in_channels)
    return pixels if orientation == 1 else _upright(pixels, orientation)


def _unusual(image: Image.Image, content: bytes, kind: str) -> Array:
    """(height, width, c) uint8; c: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha."""
    bits = _bits(image, content, kind)
    key = image.info.get("transparency")
    mode = image.mode
    if mode in ("P", "PA"):
        return np.array(image.convert("RGBA" if image.has_transparency_data else "RGB"))
    if mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        return np.array(image.convert("RGB"))
    if mode == "F":
        return _from_floats(np.asarray(image))[:, :, None]
    if mode == "1":
        samples, white = np.asarray(image.convert("L")), 255
    elif mode.startswith("I"):
        samples, white = _whole_numbers(image, bits)
    elif bits == 16:
        samples, white = _sixteen_bits(image, content, kind), 65535
    else:
        samples, white = np.asarray(image), 255
        if kind == "PNG" and bits < 8 and key is not None:
            key = key * 255 // (2**bits - 1)  # Pillow scales the samples, not the colour
    if samples.ndim == 2:
        samples = samples[:, :, None]
    pixels = ((samples.astype(np.uint32) * 255 + white // 2) // white).astype(np.uint8)
    if key is None or samples.shape[2] in (2, 4):
        return pixels
    shown = (samples != np.asarray(key)).any(axis=2, keepdims=True)
    return np.concatenate([pixels, shown.astype(np.uint8) * np.uint8(255)], axis=2)


def _whole_numbers(image: Image.Image, bits: int) -> tuple[Array, int]:
    """Samples of modes I;16… and I, and the value that is white."""
    samples = np.asarray(image)
    if image.mode == "I" and (samples.min() < 0 or samples.max() > 65535):
        raise UnreadableSampleError(
            f"values from {samples.min()} to {samples.max()}: of 32-bit whole numbers hubel "
            f"reads 0 to 65535; save the picture with 8 or 16 bits"
        )
    white = 4095 if bits == 12 else 65535
    tags = getattr(image, "tag_v2", {})
    if image.mode != "I" and tags.get(_PHOTOMETRIC_TAG) == 0:  # TIFF's "white is zero"
        samples = white - samples
    return samples, white


def _from_floats(samples: Array) -> Array:
    """Float samples in 0…1 as uint8."""
    low, high = samples.min(), samples.max()
    if not (low >= 0 and high <= 1):  # also true of NaN
        raise UnreadableSampleError(
            f"float values from {low:g} to {high:g}: hubel reads float pictures with values "
            f"0 to 1; save the picture with 8 or 16 bits, or the set as .npy"
        )
    pixels: Array = np.rint(samples * 255).astype(np.uint8)
    return pixels


def _sixteen_bits(image: Image.Image, content: bytes, kind: str) -> Array:
    """All 16 bits of a colour or grey-alpha picture, (height, width, c) uint16.

    Pillow has no such mode and keeps the high byte of each sample. The low bytes come from a
    second decoding with the byte order swapped; of grey with alpha (a PNG, four bytes a pixel)
    both bytes come at once, as if they were four channels.
    """
    second = _open(content, kind)
    swap = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
    tiles = []
    for tile in second.tile:
        raw = tile.args if isinstance(tile.args, str) else tile.args[0]  # type: ignore[index]
        other = "RGBA" if raw == "LA;16B" else raw[:-1] + swap[raw[-1]]
        args: Any = other if isinstance(tile.args, str) else (other, *tile.args[1:])  # type: ignore[index]
        tiles.append(tile._replace(args=args))
    grey_alpha = second.tile[0].args == "LA;16B"
    second.tile = tiles
    with _quiet():
        second.load()
    low = np.asarray(second).astype(np.uint16)
    if grey_alpha:
        high, low = low[:, :, 0::2], low[:, :, 1::2]
    else:
        high = np.asarray(image).astype(np.uint16)
    samples: Array = high << 8 | low
    return samples


def _on_white(pixels: Array) -> Array:
    """Alpha (the last of 2 or 4 channels) laid on white, rounded; the rest as it is."""
    if pixels.shape[2] not in (2, 4):
        return pixels
    alpha = pixels[:, :, -1:].astype(np.uint16)
    # At most 255² + 127, which a uint16 holds.
    blend: Array = pixels[:, :, :-1] * alpha + 255 * (255 - alpha) + 127
    return (blend // 255).astype(np.uint8)


def _upright(pixels: Array, orientation: int) -> Array:
    """`pixels` with the EXIF orientation undone (CIPA DC-008, tag Orientation)."""
    turned = {
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.swapaxes(0, 1),
        6: np.rot90(pixels, -1),
        7: pixels[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(pixels),
    }[orientation]
    upright: Array = np.ascontiguousarray(turned)
    return upright


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 where there is none or it cannot be read."""
    try:
        if isinstance(image, TiffImageFile):
            value = image.tag_v2.get(_ORIENTATION_TAG, 1)
        elif "exif" in image.info:
            exif = Image.Exif()
            exif.load(image.info["exif"])
            value = exif.get(_ORIENTATION_TAG, 1)
        else:
            return 1
    except Exception:  # a corrupt block: Pillow lets many kinds of error out of it
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _num_frames(image: Image.Image) -> int:
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:  # damage beyond the first frame does not concern the first
        return 1


def _bits(image: Image.Image, content: bytes, kind: str) -> int:
    """Bits of one stored sample."""
    if kind == "PNG":
        return content[24]
    if kind == "TIFF":
        stored = getattr(image, "tag_v2", {}).get(_BITS_TAG, (1,))
        return int(stored[0] if isinstance(stored, tuple) else stored)
    return {"1": 1, "I": 32, "F": 32}.get(image.mode, 16 if ";16" in image.mode else 8)


def _reason(error: Exception, content: bytes, kind: str) -> str:
    """One short sentence for what Pillow raised."""
    text = str(error).strip().rstrip(".")
    if isinstance(error, Image.DecompressionBombError):
        return f"too large: more than the limit of {MAX_PIXELS:,} pixels"
    if isinstance(error, MemoryError):
        return f"too large: not enough memory to decode this {kind} picture"
    # Pillow wraps what a plugin meets at the end of its header in a SyntaxError.
    origin = error.__cause__ if isinstance(error, SyntaxError) and error.__cause__ else error
    if isinstance(origin, (EOFError, struct.error, IndexError)) or re.search(
        r"truncated|unexpected end|not enough|could not read|premature", text, re.IGNORECASE
    ):
        return f"truncated: the {kind} data end too early (after {len(content)} bytes)"
    if "not identified by this driver" in text:
        text = "its header is incomplete"
    return f"damaged {kind}: {text or type(error).__name__}"
