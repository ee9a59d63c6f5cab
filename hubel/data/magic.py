"""What the first bytes of a file say that it is."""

import re
from collections.abc import Mapping
from types import MappingProxyType

from hubel.data.source import UnreadableSampleError

__all__ = ["PICTURE_SUFFIXES", "SUFFIXES", "format_of", "require_format"]

SUFFIXES: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG"),
        ".png": "PNG",
        ".bmp": "BMP",
        **dict.fromkeys((".tif", ".tiff"), "TIFF"),
        ".webp": "WEBP",
        ".gif": "GIF",
        **dict.fromkeys((".ppm", ".pgm", ".pbm", ".pnm"), "PPM"),
    }
)
"""File suffixes (lower case) of pictures, and the format that each promises."""

PICTURE_SUFFIXES = tuple(SUFFIXES)

_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"BM", "BMP"),
)

_FOREIGN = (
    (re.compile(rb"....ftyp(hei|hev|mif|msf)", re.DOTALL), "HEIC"),
    (re.compile(rb"....ftypavi", re.DOTALL), "AVIF"),
    (re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"), "JPEG 2000"),
    (re.compile(rb"%PDF"), "PDF"),
    (re.compile(rb"PK\x03\x04"), "zip"),
    (re.compile(rb"\x1f\x8b"), "gzip"),
    (re.compile(rb"8BPS"), "Photoshop"),
    (re.compile(rb"\x93NUMPY"), "NumPy"),
)


def format_of(content: bytes) -> str | None:
    """The picture format that the first bytes show; None if they show none that hubel reads.

    >>> format_of(b"GIF89a")
    'GIF'
    """
    for magic, name in _MAGIC:
        if content.startswith(magic):
            return name
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WEBP"
    if content[:1] == b"P" and content[1:2] in b"123456" and content[2:3].isspace():
        return "PPM"
    return None


def require_format(content: bytes) -> str:
    """`format_of`, or an `UnreadableSampleError` that says what the bytes are instead."""
    if not content:
        raise UnreadableSampleError("empty file (0 bytes)")
    kind = format_of(content)
    if kind is not None:
        return kind
    for pattern, name in _FOREIGN:
        if pattern.match(content):
            raise UnreadableSampleError(
                f"not a picture that hubel reads (a {name} file); convert it to PNG or JPEG"
            )
    if not content.strip(b"\0"):
        raise UnreadableSampleError(f"not a picture ({len(content)} zero bytes)")
    head = content[:40].decode("utf-8", "replace").strip("\ufeff")
    if head.rstrip("\ufffd").replace("\n", " ").replace("\r", " ").replace("\t", " ").isprintable():
        raise UnreadableSampleError(f"not a picture (looks like text: {head[:20]!r})")
    raise UnreadableSampleError(f"not a picture (starts with {content[:8].hex(' ')})")
