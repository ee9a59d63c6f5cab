"""What one stored row looks like, how it is chosen, and how a sample is made into one.

No torch here: the processes that build the cache import this module.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hubel.data.resize import resize
from hubel.data.source import Array, SourceInfo, UnreadableSampleError

__all__ = ["Layout", "choose_layout", "layout_notes", "look_indices"]

LOOK = 512
"""At most this many samples are decoded to choose a layout; a sixteenth of a small set."""

SMALLEST, STEP = 32, 32
LARGEST = {2: 224, 3: 64}
"""Bounds in pixels of a size that hubel chooses itself, by spatial dims."""
PLACED_AREA, PLACED_STEP = 288 * 384, 16
"""The same for pictures whose places matter: with boxes or masks they keep their shape."""


@dataclass(frozen=True)
class Layout:
    """Every stored row is (*size, in_channels) of `dtype` ("uint8" or "float32").

    `fixed_channels`: the format states the channels; otherwise a colour picture in a set
    taken for grey widens the layout (`widened`) and the reading starts over.
    `interpolate`: as in `SourceInfo`.
    """

    size: tuple[int, ...]
    in_channels: int
    dtype: str
    fixed_channels: bool
    interpolate: bool = True

    @property
    def row_bytes(self) -> int:
        pixels = int(np.prod(self.size)) * self.in_channels
        return pixels * np.dtype(self.dtype).itemsize

    def widened(self, channels: npt.NDArray[np.uint8], floats: npt.NDArray[np.bool_]) -> "Layout":
        """This layout, or the wider one that samples with `channels` and `floats` need."""
        wider = self
        if not self.fixed_channels and self.in_channels == 1 and (channels == 3).any():
            wider = replace(wider, in_channels=3)
        if self.dtype == "uint8" and floats.any():
            wider = replace(wider, dtype="float32")
        return wider

    def blank(self, num_rows: int) -> Array:
        """Zero rows."""
        return np.zeros((num_rows, *self.size, self.in_channels), self.dtype)

    def fits(self, samples: Array) -> bool:
        """Whether many decoded samples (b, *spatial, c) are rows as they are."""
        return samples.shape[1:] == (*self.size, self.in_channels) and samples.dtype == self.dtype

    def holds(self, pixels: Array) -> bool:
        """False where a row of this layout would lose the sample's colour or precision."""
        wide_enough = self.dtype == "float32" or pixels.dtype.char == "B"
        return wide_enough and pixels.shape[-1] <= self.in_channels

    def check(self, pixels: Array) -> None:
        """Raise `UnreadableSampleError` where the channels cannot be brought to this layout."""
        c = pixels.shape[-1]
        if c not in (1, self.in_channels) and (self.fixed_channels or c != 3):
            raise UnreadableSampleError(f"has {c} channels where the set has {self.in_channels}")

    def row(self, pixels: Array) -> Array:
        """One decoded sample (*spatial, c) as a stored row: stretched, grey repeated.

        Raises `UnreadableSampleError` if its channels do not go with the set's.
        """
        self.check(pixels)
        stretched = resize(pixels, self.size, self.interpolate)
        if stretched.shape[-1] != self.in_channels:
            stretched = np.repeat(stretched, self.in_channels, axis=-1)
        return stretched.astype(self.dtype, copy=False)


def look_indices(num_samples: int, size_is_known: bool) -> npt.NDArray[np.int64]:
    """The samples that a layout is chosen by, spread evenly over the whole set."""
    wanted = 16 if size_is_known else min(LOOK, max(32, num_samples // 16))
    spread = np.linspace(0, num_samples - 1, min(wanted, num_samples))
    return np.unique(spread.round().astype(np.int64))


def choose_layout(
    info: SourceInfo,
    size: tuple[int, ...] | None,
    sizes: npt.NDArray[np.int32],
    channels: npt.NDArray[np.uint8],
    floats: npt.NDArray[np.bool_],
) -> Layout:
    """The layout for a set of which some samples' sizes (m, dims), channels and type are known.

    The size is the one asked for; else the format's; else the one that all looked-at
    samples share, if no side of it is above 224 (64 for volumes); else a square (a cube):
    the largest multiple of 32 not above the median short side, within 32 to 224 (64 for volumes).
    Pictures with boxes or masks get the median's shape instead, of an area of at most 288×384.
    """
    if size is None:
        size = info.size
    largest = LARGEST[info.spatial_dims]
    if size is None and (sizes == sizes[0]).all() and sizes[0].max() <= largest:
        size = tuple(int(s) for s in sizes[0])
    if size is None and info.spatial_dims == 2 and info.labels != "class":
        size = _in_shape(np.median(sizes, axis=0))
    if size is None:
        short_side = float(np.median(sizes.min(axis=1)))
        edge = int(short_side // STEP * STEP)
        edge = min(max(edge, SMALLEST), largest)
        size = (edge,) * info.spatial_dims
    in_channels = int(channels.max()) if info.in_channels is None else info.in_channels
    dtype = "float32" if floats.any() else "uint8"
    fixed = info.in_channels is not None
    return Layout(size, in_channels, dtype, fixed, info.interpolate)


def _in_shape(sides: npt.NDArray[np.float64]) -> tuple[int, ...]:
    """`sides` made smaller, if need be, to at most `PLACED_AREA`, and to whole steps."""
    scale = min(1.0, (PLACED_AREA / float(sides.prod())) ** 0.5)
    steps = np.floor(sides * scale / PLACED_STEP + 1e-6).clip(1)
    return tuple(int(s) for s in steps * PLACED_STEP)


def layout_notes(
    layout: Layout, sizes: npt.NDArray[np.int32], channels: npt.NDArray[np.uint8]
) -> list[str]:
    """Sentences about the readable samples that were stretched or given colour channels."""
    readable = channels > 0
    sizes, channels = sizes[readable], channels[readable]
    dims, total = len(layout.size), len(sizes)
    things, axes = ("pictures", "height×width") if dims == 2 else ("volumes", "depth×height×width")
    notes = []
    others = sizes[(sizes != np.array(layout.size)).any(axis=1)]
    if len(others):
        order = np.argsort(others.astype(np.int64).prod(axis=1), kind="stable")
        least, most = _times(others[order[0]]), _times(others[order[-1]])
        span = f"of {least}" if (others == others[0]).all() else f"from {least} to {most}"
        stored = f"stored at {_times(layout.size)} ({axes}; choose with --img-size)"
        if len(others) == total:
            notes.append(f"{things} {span} are stretched and {stored}")
        else:
            notes.append(
                f"{len(others):,} of {total:,} {things} are {span}: stretched and {stored}"
            )
    num_grey, wide = int((channels == 1).sum()), layout.in_channels
    if wide > 1 and num_grey:
        notes.append(f"{num_grey:,} of {total:,} {things} are grey: stored with {wide} channels")
    return notes


def _times(size: tuple[int, ...] | npt.NDArray[np.int32]) -> str:
    return "×".join(str(int(s)) for s in size)
