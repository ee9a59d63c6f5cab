"""Sources whose samples are labelled with masks: files, and arrays.

The masks are a source of their own (`Source.masks`), so that the cache keeps them as it keeps
pixels. A mask that does not fit its picture, or holds values that stand for no class, is an
unreadable sample of it.

No torch here: the processes that build the cache import this module.
"""

import hashlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL.PngImagePlugin import PngImageFile

from hubel.data.arraysource import ArraySource, Part, check_parts, part_ids
from hubel.data.boxes import Fault
from hubel.data.filesource import FileSource
from hubel.data.legend import ColouredMaskError, Legend, named_legend, numbered_legend
from hubel.data.magic import require_format
from hubel.data.pictures import MAX_PIXELS, probe_picture
from hubel.data.source import Array, SourceInfo, UnreadableSampleError
from hubel.errors import UserError

__all__ = ["MaskArrays", "MaskFiles", "MaskedSource", "mask_values", "masked_arrays"]

_CHECKED_BYTES = 1 << 26
_MODES = frozenset(("1", "L", "LA", "P", "PA", "RGB", "RGBA"))


class MaskedSource(FileSource):
    """Pictures below one folder, each with a mask in a file of its own.

    Parameters
    ----------
    format: the registered name of the format.
    names, mask_names: relative file names, sample for sample.
    legend: what the values of the masks mean.
    faults: of pictures and masks that have no partner, and so are no samples.
    The others as in `FileSource`.
    """

    def __init__(
        self,
        path: Path,
        root: Path,
        format: str,
        names: Sequence[str],
        mask_names: Sequence[str],
        legend: Legend,
        splits: npt.NDArray[np.str_],
        notes: list[str],
        faults: Sequence[Fault] = (),
    ) -> None:
        info = SourceInfo(format, 2, legend.names, labels="mask")
        super().__init__(path, root, info, names, np.zeros(len(names), np.int64), splits, notes)
        self.faults = faults
        self.masks = MaskFiles(self, root, mask_names, legend)


class MaskFiles(FileSource):
    """The masks of `pictures`: PNG files below `root`, (height, width, 1) uint8 classes."""

    def __init__(
        self, pictures: FileSource, root: Path, names: Sequence[str], legend: Legend
    ) -> None:
        info = _masks_info(2, legend)
        path = pictures.path or root
        super().__init__(path, root, info, names, pictures.targets, pictures.splits, [])
        self._pictures = pictures
        self._legend = legend

    def stamp(self) -> str:
        # The pictures' too: a mask is unreadable where its picture has another size.
        facts = f"{super().stamp()} {self._legend.digest()} {self._pictures.stamp()}"
        return hashlib.blake2b(facts.encode(), digest_size=16).hexdigest()

    def content(self, i: int) -> bytes:
        """The file's bytes; raises `UnreadableSampleError` where its size is not the picture's.

        Asked here and not when decoding, because the cache's key is made of the contents and
        of the samples without one: it changes with the picture's size.
        """
        content = super().content(i)
        height, width = probe_picture(content).size
        try:
            shown = probe_picture(self._pictures.content(i)).size
        except UnreadableSampleError:
            return content  # the picture's own fault, found where pictures are read
        if shown != (height, width):
            raise UnreadableSampleError(
                f"the mask is {width}×{height} pixels, its picture '{self._pictures.ids[i]}' "
                f"{shown[1]}×{shown[0]}"
            )
        return content

    def decode(self, content: bytes, i: int, in_channels: int | None = None) -> Array:
        """Classes (height, width, 1); `in_channels` is not followed, classes have no colour."""
        values = mask_values(content, self._legend.coloured)
        self._legend.check(values)
        return self._legend.applied(values)[..., None]


def mask_values(content: bytes, coloured: bool) -> Array:
    """The values in a mask's PNG (height, width), of which a `Legend` knows the meaning.

    Colours (65536·red + 256·green + blue, int32) where `coloured`; else uint8 indices: the
    levels of a grey picture, the indices (not the colours) of one with a palette. Raises
    `UnreadableSampleError`.
    """
    try:
        kind = require_format(content)
    except UnreadableSampleError as error:
        # What helps a picture, converting it to JPEG, would ruin a mask.
        said = str(error).partition("; ")[0]
        raise UnreadableSampleError(f"{said}; save the mask again, as PNG") from error
    if kind != "PNG":
        raise UnreadableSampleError(
            f"a mask must be a PNG file, which keeps its values as they are; this is a {kind}; "
            f"save the mask again, as PNG"
        )
    try:
        image = PngImageFile(BytesIO(content))
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise UnreadableSampleError(
                f"too large: {width}×{height} pixels, the limit is {MAX_PIXELS:,} in all"
            )
        image.load()
    except UnreadableSampleError:
        raise
    except Exception as error:  # whatever Pillow meets in a damaged file
        raise UnreadableSampleError(f"damaged PNG: {error}; save the mask again") from error
    bits = content[24]  # of one sample, in the header
    if bits > 8 or image.mode not in _MODES:
        raise UnreadableSampleError(
            f"a mask has 8 bits a value, this PNG has {bits}; save its classes as 8-bit grey, "
            f"numbered from 0 to 254"
        )
    if coloured:
        image.info.pop("transparency", None)
        colours = np.asarray(image.convert("RGB")).astype(np.int32)
        packed: Array = colours[..., 0] << 16 | colours[..., 1] << 8 | colours[..., 2]
        return packed
    if image.mode in ("1", "P", "PA"):
        return np.array(image.getchannel(0) if image.mode == "PA" else image, np.uint8)
    pixels = np.asarray(image)
    if image.mode in ("RGB", "RGBA"):
        if (pixels[..., :1] != pixels[..., 1:3]).any():
            raise ColouredMaskError("is coloured, and no legend says what its colours mean")
    values = pixels if pixels.ndim == 2 else pixels[..., 0]
    return values // np.uint8(255 // (2**bits - 1))  # Pillow spreads 2 and 4 bits to 0…255


# Arrays


class MaskArrays(ArraySource):
    """Masks (*spatial, 1) that lie in arrays of indices; `legend` says what they mean."""

    def __init__(
        self,
        pictures: ArraySource,
        blocks: Sequence[Array],
        legend: Legend,
        files: Sequence[Path],
    ) -> None:
        info = _masks_info(pictures.info.spatial_dims, legend, pictures.info.size)
        shaped = [block[..., None] for block in blocks]
        columns = (pictures.ids, pictures.targets, pictures.splits)
        super().__init__(pictures.path, info, shaped, "uint8", *columns, [], files)
        self._legend = legend

    def content(self, i: int) -> bytes:
        """Raises `UnreadableSampleError` where a value stands for no class."""
        content = super().content(i)
        self._legend.check(np.frombuffer(content, np.uint8))
        return content

    def decode(self, content: bytes, i: int, in_channels: int | None = None) -> Array:
        return self._legend.applied(super().decode(content, i))

    def batch(self, indices: npt.NDArray[np.int64]) -> Array:
        return self._legend.applied(super().batch(indices))


def masked_arrays(
    format: str,
    path: Path,
    parts: Sequence[Part],
    *,
    where: str,
    classes: Sequence[str] | None,
    files: Sequence[Path],
    notes: Sequence[str],
) -> ArraySource:
    """A source of `parts` whose labels are masks (n, *spatial); the rest as `array_source`.

    Without `classes` they are the indices found in the training split. Raises `UserError`
    where lengths, shapes or types do not agree.
    """
    notes = list(notes)
    dtype = check_parts(parts, where, notes)
    first = parts[0].pixels
    learned = [p for p in parts if p.split in ("", "train")] or parts
    found = {
        p.split: _values(p.labels, f"{where} ({p.split})" if p.split else where) for p in parts
    }
    legend = (
        named_legend(classes, where)
        if classes is not None
        else numbered_legend(set().union(*(found[p.split] for p in learned)), where)
    )
    size, in_channels = first.shape[1:-1], first.shape[-1]
    info = SourceInfo(format, len(size), legend.names, in_channels, size, labels="mask")
    splits = np.repeat([part.split for part in parts], [len(part.labels) for part in parts])
    targets = np.zeros(len(splits), np.int64)
    blocks = [part.pixels for part in parts]
    source = ArraySource(path, info, blocks, dtype, part_ids(parts), targets, splits, notes, files)
    source.masks = MaskArrays(source, [part.labels for part in parts], legend, files)
    return source


def _values(masks: Array, where: str) -> set[int]:
    """The values that occur in masks (n, *spatial), all of them whole numbers 0 to 255."""
    seen = np.zeros(256, np.bool_)
    rows = max(1, _CHECKED_BYTES // max(1, masks[0].nbytes))
    for start in range(0, len(masks), rows):
        piece = np.asarray(masks[start : start + rows])
        wrong = np.zeros(piece.shape, np.bool_)
        if piece.dtype not in (np.uint8, np.bool_):
            if piece.dtype.kind not in "iuf":
                raise UserError(f"{where}: masks must be whole numbers, got {piece.dtype}")
            wrong = ~((piece >= 0) & (piece <= 255) & (piece == np.floor(piece)))
        if wrong.any():
            at = tuple(int(k) for k in np.argwhere(wrong)[0])
            raise UserError(
                f"{where}: masks hold classes 0 to 254, and 255 where there is none; got "
                f"{piece[at]} in mask {start + at[0]} (from 0)"
            )
        seen |= np.bincount(piece.reshape(-1).astype(np.uint8), minlength=256) > 0
    return set(np.flatnonzero(seen).tolist())


def _masks_info(
    spatial_dims: int, legend: Legend, size: tuple[int, ...] | None = None
) -> SourceInfo:
    # The legend is part of the format's name, as of all that a stored row follows from.
    name = f"masks {legend.digest()}"
    return SourceInfo(name, spatial_dims, legend.names, 1, size, interpolate=False)
