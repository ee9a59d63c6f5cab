"""Golden pixels for every conversion, and a reason for every file that is not a picture."""

import struct
import subprocess
import sys
import warnings
import zlib

import numpy as np
import pytest
from data_makers import encoded, exif_block, png
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from hubel.data.magic import SUFFIXES, format_of
from hubel.data.pictures import (
    MAX_PIXELS,
    convert_channels,
    decode_picture,
    probe_picture,
)
from hubel.data.source import UnreadableSampleError


def decoded(content: bytes, in_channels: int | None = None) -> list:
    """The pixels as nested lists, after checks that hold for every picture."""
    pixels = decode_picture(content, in_channels)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    assert pixels.ndim == 3
    assert pixels.shape[:2] == probe_picture(content).size
    return pixels.tolist()


def chunk(name: bytes, data: bytes) -> bytes:
    crc = zlib.crc32(name + data)
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc)


def raw_png(
    width: int, height: int, bits: int, colour: int, rows: bytes, *extra: tuple[bytes, bytes]
) -> bytes:
    """A PNG written chunk by chunk, for what Pillow cannot write; `rows` without filter bytes."""
    per_row = len(rows) // height
    lines = b"".join(b"\0" + rows[i * per_row : (i + 1) * per_row] for i in range(height))
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    chunks = [(b"IHDR", head), *extra, (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*c) for c in chunks)


def tiff(width: int, height: int, tags: dict[int, tuple[int, ...]], data: bytes) -> bytes:
    """A little-endian TIFF of one strip, tags as LONG or, for 258 and 339, as SHORT."""
    tags = {256: (width,), 257: (height,), 259: (1,), 278: (height,), 279: (len(data),), **tags}
    tags[273] = (0,)
    body = b""
    start = 8 + 2 + 12 * len(tags) + 4
    entries = b""
    for tag in sorted(tags):
        values = tags[tag]
        if tag == 273:
            values = (start + 64,)
        packed = struct.pack(f"<{len(values)}H", *values) if tag in (258, 339, 274) else b""
        kind = 3 if packed else 4
        packed = packed or struct.pack(f"<{len(values)}I", *values)
        if len(packed) > 4:
            offset = start + len(body)
            body += packed
            packed = struct.pack("<I", offset)
        entries += struct.pack("<HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    ifd = struct.pack("<H", len(tags)) + entries + b"\0\0\0\0"
    return b"II*\0" + struct.pack("<I", 8) + ifd + body.ljust(64, b"\0") + data


# ---------------------------------------------------------------- 8 bits and fewer


def test_grey_stays_one_channel_and_becomes_rgb_by_repetition():
    content = encoded(Image.fromarray(np.array([[0, 7], [200, 255]], np.uint8)), "PNG")
    assert decoded(content) == [[[0], [7]], [[200], [255]]]
    assert decoded(content, 1) == [[[0], [7]], [[200], [255]]]
    assert decoded(content, 3) == [[[0] * 3, [7] * 3], [[200] * 3, [255] * 3]]


def test_rgb_becomes_grey_by_itu_601_luma():
    # 0.299·R + 0.587·G + 0.114·B: 76.245, 149.685, 29.07; 0.299·10 + 0.587·20 + 0.114·30 = 18.15
    pixels = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [10, 20, 30]]], np.uint8)
    content = encoded(Image.fromarray(pixels), "PNG")
    assert decoded(content) == pixels.tolist()
    assert decoded(content, 1) == [[[76], [150]], [[29], [18]]]


def test_convert_channels_agrees_with_pillow_on_every_kind_of_colour():
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    expected = np.array(Image.fromarray(pixels).convert("L"))
    np.testing.assert_array_equal(convert_channels(pixels, 1)[:, :, 0], expected)


def test_convert_channels_of_volumes_and_floats():
    voxels = np.ones((2, 3, 4, 1), np.float32)
    assert convert_channels(voxels, 3).shape == (2, 3, 4, 3)
    grey = convert_channels(np.array([[[[1.0, 0.0, 0.0]]]], np.float32), 1)
    assert grey.shape == (1, 1, 1, 1)
    assert grey.dtype == np.float32
    assert grey.item() == pytest.approx(0.299, abs=1e-5)
    with pytest.raises(ValueError, match="5 channels cannot be made into 3"):
        convert_channels(np.zeros((1, 1, 5), np.uint8), 3)


def test_one_bit():
    content = encoded(Image.fromarray(np.array([[True, False, True]])), "PNG")
    assert probe_picture(content).bits == 1
    assert decoded(content) == [[[255], [0], [255]]]
    assert decoded(content, 3) == [[[255] * 3, [0] * 3, [255] * 3]]


def test_two_bits_are_spread_over_the_range():
    assert decoded(raw_png(4, 1, 2, 0, bytes([0b00011011]))) == [[[0], [85], [170], [255]]]


def test_palette_becomes_rgb():
    image = Image.fromarray(np.array([[0, 1], [2, 0]], np.uint8), "P")
    image.putpalette([1, 2, 3, 40, 50, 60, 255, 0, 0])
    content = encoded(image, "PNG")
    assert probe_picture(content).mode == "P"
    assert decoded(content) == [[[1, 2, 3], [40, 50, 60]], [[255, 0, 0], [1, 2, 3]]]
    assert decoded(content, 1) == [[[2], [48]], [[76], [2]]]


# ---------------------------------------------------------------- transparency: on white


def test_alpha_is_laid_on_white():
    rgba = np.array([[[255, 0, 0, 0], [255, 0, 0, 255], [0, 0, 0, 51], [100, 0, 200, 127]]])
    content = encoded(Image.fromarray(rgba.astype(np.uint8)), "PNG")
    assert probe_picture(content).has_alpha
    # 255·(1 − 51/255) = 204; 100·127/255 + 255 − 127 = 177.8; 128; 200·127/255 + 128 = 227.6
    assert decoded(content) == [[[255] * 3, [255, 0, 0], [204] * 3, [178, 128, 228]]]


def test_grey_with_alpha_stays_one_channel():
    la = np.array([[[0, 0], [0, 255], [100, 128]]], np.uint8)
    content = encoded(Image.fromarray(la, "LA"), "PNG")
    assert decoded(content) == [[[255], [0], [177]]]
    assert decoded(content, 3)[0][2] == [177] * 3


@pytest.mark.parametrize("alphas", [0, bytes([0, 128])])
def test_transparent_palette_entries(alphas):
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    image.putpalette([1, 2, 3, 0, 0, 0, 255, 0, 0])
    content = encoded(image, "PNG", transparency=alphas)
    second = [0] * 3 if alphas == 0 else [127] * 3
    assert decoded(content) == [[[255] * 3, second, [255, 0, 0]]]
    assert decoded(content, 1) == [[[255], [second[0]], [76]]]


def test_transparent_colour_of_a_grey_and_of_an_rgb_png():
    grey = encoded(Image.fromarray(np.array([[5, 6]], np.uint8)), "PNG", transparency=5)
    assert decoded(grey) == [[[255], [6]]]
    pixels = np.array([[[1, 2, 3], [1, 2, 4]]], np.uint8)
    rgb = encoded(Image.fromarray(pixels), "PNG", transparency=(1, 2, 3))
    assert decoded(rgb) == [[[255] * 3, [1, 2, 4]]]


def test_transparent_colour_of_a_two_bit_png_is_in_its_own_units():
    content = raw_png(4, 1, 2, 0, bytes([0b00011011]), (b"tRNS", struct.pack(">H", 1)))
    assert decoded(content) == [[[0], [255], [170], [255]]]


def test_transparent_colour_of_a_sixteen_bit_png():
    rows = struct.pack(">4H", 1000, 1001, 0, 65535)
    grey = raw_png(4, 1, 16, 0, rows, (b"tRNS", struct.pack(">H", 1000)))
    assert decoded(grey) == [[[255], [4], [0], [255]]]
    rows = struct.pack(">6H", 1000, 0, 0, 1001, 0, 0)
    rgb = raw_png(2, 1, 16, 2, rows, (b"tRNS", struct.pack(">3H", 1000, 0, 0)))
    assert decoded(rgb) == [[[255] * 3, [4, 0, 0]]]


def test_gif_transparency_and_first_frame():
    frames = [Image.new("P", (2, 1), i) for i in (0, 1)]
    for frame in frames:
        frame.putpalette([9, 8, 7, 255, 255, 0])
    frames[0].putpixel((1, 0), 1)
    moving = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert probe_picture(moving).frames == 2
    assert decoded(moving) == [[[9, 8, 7], [255, 255, 0]]]
    still = encoded(frames[0], "GIF", transparency=0)
    assert decoded(still) == [[[255] * 3, [255, 255, 0]]]


def test_webp_lossless_alpha_and_first_frame():
    rgba = np.array([[[255, 0, 0, 255], [0, 0, 0, 51]]], np.uint8)
    content = encoded(Image.fromarray(rgba), "WEBP", lossless=True, exact=True)
    assert decoded(content) == [[[255, 0, 0], [204] * 3]]
    second = Image.new("RGB", (2, 1), (0, 0, 255))
    first = Image.new("RGB", (2, 1), (0, 255, 0))
    moving = encoded(first, "WEBP", save_all=True, append_images=[second], lossless=True)
    assert probe_picture(moving).frames == 2
    assert decoded(moving) == [[[0, 255, 0], [0, 255, 0]]]


# ---------------------------------------------------------------- 16 bits, whole numbers, floats


def test_sixteen_bit_grey_is_divided_by_257_and_rounded_never_clipped():
    values = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)  # 128/257 = 0.498
    for format in ("PNG", "TIFF"):
        content = encoded(Image.fromarray(values), format)
        assert probe_picture(content).bits == 16
        assert decoded(content) == [[[0], [0], [1], [1], [128], [255]]]
    assert decoded(content, 3)[0][4] == [128] * 3


SIXTEEN = [0, 128, 129, 255, 256, 400, 40000, 65535]
EIGHT = [round(v / 257) for v in SIXTEEN]


def test_sixteen_bit_colour_keeps_the_low_byte_when_rounding():
    assert EIGHT[:6] == [0, 0, 1, 1, 1, 2]  # the high byte alone would give 0 0 0 0 1 1
    rgb = raw_png(2, 1, 16, 2, struct.pack(">6H", *SIXTEEN[:6]))
    assert decoded(rgb) == [[EIGHT[:3], EIGHT[3:6]]]
    rgba = raw_png(1, 1, 16, 6, struct.pack(">4H", *SIXTEEN[3:6], 65535))
    assert decoded(rgba) == [[EIGHT[3:6]]]


def test_sixteen_bit_grey_with_alpha():
    content = raw_png(2, 1, 16, 4, struct.pack(">4H", 129, 65535, 0, 51 * 257))
    assert decoded(content) == [[[1], [204]]]


@pytest.mark.parametrize("samples", [3, 4])
def test_sixteen_bit_colour_tiff(samples):
    extra = {338: (2,)} if samples == 4 else {}
    values = [*SIXTEEN[1:4], *([65535] if samples == 4 else [])]
    content = tiff(
        1, 1, {258: (16,) * samples, 262: (2,), 277: (samples,), **extra},
        struct.pack(f"<{samples}H", *values),
    )  # fmt: skip
    assert decoded(content) == [[[0, 1, 1]]]


def test_sixteen_bit_tiff_where_white_is_zero():
    content = tiff(2, 1, {258: (16,), 262: (0,), 277: (1,)}, struct.pack("<2H", 0, 65535))
    assert decoded(content) == [[[255], [0]]]


def test_twelve_bit_tiff():
    content = tiff(2, 1, {258: (12,), 262: (1,), 277: (1,)}, b"\xff\xf8\x00")
    assert decoded(content) == [[[255], [128]]]  # 4095 and 2048 of 4095


def test_compressed_sixteen_bit_colour_tiff():
    tags = {258: (16, 16, 16), 262: (2,), 277: (3,), 259: (8,)}
    content = tiff(1, 1, tags, zlib.compress(struct.pack("<3H", *SIXTEEN[3:6])))
    assert decoded(content) == [[EIGHT[3:6]]]


def test_whole_numbers_are_read_as_sixteen_bits_or_refused():
    content = encoded(Image.fromarray(np.array([[0, 257, 65535]], np.int32)), "TIFF")
    assert probe_picture(content).mode == "I"
    assert decoded(content) == [[[0], [1], [255]]]
    for value in (-1, 65536):
        content = encoded(Image.fromarray(np.array([[0, value]], np.int32)), "TIFF")
        with pytest.raises(UnreadableSampleError, match=r"hubel reads 0 to 65535; save"):
            decode_picture(content)


def test_floats_from_zero_to_one_or_refused():
    content = encoded(Image.fromarray(np.array([[0.0, 0.5, 1.0]], np.float32)), "TIFF")
    assert probe_picture(content).mode == "F"
    assert decoded(content) == [[[0], [128], [255]]]
    for value in (1.5, -0.1, float("nan")):
        content = encoded(Image.fromarray(np.array([[0.0, value]], np.float32)), "TIFF")
        with pytest.raises(UnreadableSampleError, match="float pictures with values 0 to 1"):
            decode_picture(content)


# ---------------------------------------------------------------- other colour spaces and files


def test_cmyk_and_its_inverted_jpeg():
    # R = (255 − C)(255 − K)/255: no ink is white, full black is black.
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert decoded(encoded(cmyk, "TIFF"))[0][0] == [255, 0, 0]
    jpeg = encoded(cmyk, "JPEG", quality=100)
    assert b"Adobe" in jpeg
    assert probe_picture(jpeg).mode == "CMYK"
    np.testing.assert_allclose(decode_picture(jpeg)[8, 8], [255, 0, 0], atol=3)
    half = encoded(Image.new("CMYK", (16, 16), (0, 0, 0, 155)), "JPEG", quality=100)
    np.testing.assert_allclose(decode_picture(half)[8, 8], [100, 100, 100], atol=3)
    assert decode_picture(half, 1).shape == (16, 16, 1)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_every_format_gives_the_same_flat_colour(format, mode):
    colour = (200, 100, 50) if mode == "RGB" else 90
    content = encoded(Image.new(mode, (16, 8), colour), format)
    assert format_of(content) == format
    facts = probe_picture(content)
    assert (facts.format, facts.size, facts.frames) == (format, (8, 16), 1)
    assert not facts.has_alpha
    pixels = decode_picture(content, 3)
    tolerance = {"JPEG": 2, "WEBP": 4}.get(format, 0)
    np.testing.assert_allclose(
        pixels.astype(int), np.broadcast_to(np.array(colour), (8, 16, 3)), atol=tolerance
    )


def test_a_large_maximum_in_a_pgm():
    content = b"P5 2 1 65535\n" + struct.pack(">2H", 129, 65535)
    assert decoded(content) == [[[1], [255]]]


def test_suffixes_promise_formats():
    assert SUFFIXES[".jpeg"] == "JPEG"
    assert set(SUFFIXES.values()) == {"JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM"}


# ---------------------------------------------------------------- EXIF


UPRIGHT = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
# How a camera held at each orientation stores UPRIGHT (CIPA DC-008: which side row 0 and
# column 0 are of).
STORED = {
    1: [[1, 2, 3], [4, 5, 6]],
    2: [[3, 2, 1], [6, 5, 4]],
    3: [[6, 5, 4], [3, 2, 1]],
    4: [[4, 5, 6], [1, 2, 3]],
    5: [[1, 4], [2, 5], [3, 6]],
    6: [[3, 6], [2, 5], [1, 4]],
    7: [[6, 3], [5, 2], [4, 1]],
    8: [[4, 1], [5, 2], [6, 3]],
}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(orientation):
    stored = Image.fromarray(np.array(STORED[orientation], np.uint8))
    content = encoded(stored, "PNG", exif=exif_block(orientation))
    facts = probe_picture(content)
    assert (facts.orientation, facts.size) == (orientation, (2, 3))
    np.testing.assert_array_equal(decode_picture(content)[:, :, 0], UPRIGHT)
    as_tiff = encoded(stored, "TIFF", tiffinfo={0x0112: orientation})
    facts = probe_picture(as_tiff)
    assert (facts.orientation, facts.size) == (orientation, (2, 3))
    np.testing.assert_array_equal(decode_picture(as_tiff)[:, :, 0], UPRIGHT)


def test_orientation_of_a_jpeg_and_of_a_webp():
    image = Image.new("L", (32, 16), 250)
    image.paste(0, (0, 0, 16, 16))  # black on the left
    for format in ("JPEG", "WEBP"):
        turned = decode_picture(encoded(image, format, exif=exif_block(6)), 1)
        assert turned.shape == (32, 16, 1)
        assert turned[4].mean() < 20  # a quarter turn clockwise: black on top
        assert turned[28].mean() > 230


@pytest.mark.parametrize(
    "block",
    [
        b"Exif\0\0",
        b"Exif\0\0II*\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0garbage, not a TIFF header",
        # a resolution of 1/0, where some versions of Pillow raise ZeroDivisionError
        b"Exif\0\0II*\0\x08\0\0\0\x02\0\x1a\x01\x05\0\x01\0\0\0\x26\0\0\0"
        b"\x28\x01\x03\0\x01\0\0\0\x02\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0",
        exif_block(0),
        exif_block(9),
        exif_block(6)[:-12],
    ],
)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_corrupt_exif_counts_as_none(block, format):
    content = encoded(Image.new("RGB", (16, 8), (9, 9, 9)), format, exif=block)
    assert decode_picture(content).shape == (8, 16, 3)
    assert probe_picture(content).orientation == 1


def test_orientation_after_the_pixels_of_a_png():
    content = encoded(Image.fromarray(np.array(STORED[6], np.uint8)), "PNG")
    late = content[:-12] + chunk(b"eXIf", exif_block(6)[6:]) + content[-12:]
    np.testing.assert_array_equal(decode_picture(late)[:, :, 0], UPRIGHT)


# ---------------------------------------------------------------- what is not a picture


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"^empty file \(0 bytes\)$"),
        (b"<!DOCTYPE html><html>", r"^not a picture \(looks like text: '<!DOCTYPE html><html'\)$"),
        ("grüße".encode(), r"^not a picture \(looks like text: 'grüße'\)$"),
        (b"\0" * 50, r"^not a picture \(50 zero bytes\)$"),
        (b"\x01\x02\xfe\xff\0\0\0\0\0", r"^not a picture \(starts with 01 02 fe ff 00 00 00 00\)$"),
        (b"%PDF-1.4 \x80\x81", r"^not a picture that hubel reads \(a PDF file\); convert it to"),
        (b"\0\0\0\x18ftypheic\0\0", r"a HEIC file"),
        (b"\0\0\0\x1cftypavif\0\0", r"a AVIF file"),
        (b"\xff\xd8\xff", r"^(damaged JPEG: its header is incomplete|truncated: the JPEG .*)$"),
        (b"\x89PNG\r\n\x1a\n", r"^truncated: the PNG data end too early"),
        (b"BM and then words", r"^(damaged|truncated)\b.*BMP"),
        (b"GIF89a", r"GIF"),
        (b"II*\0", r"TIFF"),
        (b"P5 x", r"PPM"),
        (b"RIFF\0\0\0\0WEBPVP8 ", r"WEBP"),
    ],
)
def test_reasons(content, reason):
    for read in (decode_picture, probe_picture):
        with pytest.raises(UnreadableSampleError, match=reason):
            read(content)


def test_a_bomb_is_refused_from_its_header():
    bomb = raw_png(30000, 30000, 1, 0, bytes(30000 * 8))
    message = r"^too large: 30000×30000 pixels, the limit is 178,956,970 in all$"
    for read in (decode_picture, probe_picture):
        with pytest.raises(UnreadableSampleError, match=message):
            read(bomb)


def test_a_size_above_pillows_warning_is_read_without_a_warning():
    # Pillow warns from 89 million pixels on; one bit each keeps this test cheap.
    width, height = 9_600, 9_600
    assert Image.MAX_IMAGE_PIXELS is not None
    assert Image.MAX_IMAGE_PIXELS < width * height < MAX_PIXELS
    content = encoded(Image.new("1", (width, height), 1), "PNG")
    assert probe_picture(content).size == (height, width)
    gif = b"GIF89a" + struct.pack("<HH", width, height) + b"\0\0\0,\0\0\0\0"
    gif += struct.pack("<HH", width, height) + b"\0\x02\x01\x44\0;"
    assert probe_picture(gif).size == (height, width)


def test_nothing_of_pillows_is_changed_for_the_process():
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
    decode_picture(encoded(Image.new("L", (4, 4)), "TIFF"))
    decode_picture(png())
    after = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
    assert before == after
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def samples_of_each_format() -> list[bytes]:
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (24, 24, 3), np.uint8))
    exif = exif_block(6)
    return [
        encoded(image, "JPEG", exif=exif),
        encoded(image, "JPEG", progressive=True),
        encoded(image, "PNG", exif=exif),
        encoded(image.convert("P"), "PNG", transparency=b"\0\x80"),
        encoded(image, "BMP"),
        encoded(image, "TIFF"),
        encoded(image, "TIFF", compression="tiff_lzw", tiffinfo={0x0112: 6}),
        encoded(image, "WEBP"),
        encoded(image, "GIF"),
        encoded(image, "PPM"),
        raw_png(2, 2, 16, 2, bytes(range(24))),
    ]


WHOLE = samples_of_each_format()


def pixels_or_none(content: bytes) -> np.ndarray | None:
    """The pixels, or None where both functions give a reason; anything else is raised."""
    reasons = []
    pixels = None
    for read in (probe_picture, decode_picture):
        try:
            pixels = read(content)
        except UnreadableSampleError as error:
            pixels = None
            reasons.append(str(error))
    assert all(reasons)
    return pixels


@pytest.mark.parametrize("which", range(len(WHOLE)))
def test_a_file_cut_short_is_unreadable_or_whole(which):
    content = WHOLE[which]
    expected = decode_picture(content)
    for end in range(0, len(content), max(1, len(content) // 60)):
        pixels = pixels_or_none(content[:end])
        if pixels is not None:  # only what follows the pixels was missing
            np.testing.assert_array_equal(pixels, expected)
    half = content[: len(content) // 2]
    with pytest.raises(UnreadableSampleError, match=r"^(truncated|damaged)"):
        decode_picture(half)


@settings(max_examples=300, deadline=None)
@given(
    which=st.integers(0, len(WHOLE) - 1),
    places=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=6)), max_size=4),
)
def test_damaged_bytes_never_raise_anything_else(which, places):
    content = bytearray(WHOLE[which])
    for place, junk in places:
        at = int(place * (len(content) - 1))
        content[at : at + len(junk)] = junk
    pixels_or_none(bytes(content))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80), st.sampled_from([b"", *[w[:12] for w in WHOLE]]))
def test_any_bytes_give_pixels_or_a_reason(tail, head):
    pixels_or_none(head + tail)


def test_in_channels_must_be_one_or_three():
    with pytest.raises(ValueError, match="in_channels must be 1, 3 or None, got 2"):
        decode_picture(png(), 2)


def test_no_torch_is_imported():
    code = "import hubel.data.pictures, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
