"""Decode once: every sample's pixels at one size, in a memory-mapped file keyed by content.

Without a cache the same rows are decoded on demand, bit for bit, after one verifying pass.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hubel.data.cache_build import find_or_build, key_of, look, read_all
from hubel.data.cache_folder import CacheFolder, Entry, default_folder
from hubel.data.ingest import Columns, Progress, Reader, num_workers, read_row
from hubel.data.layout import Layout, layout_notes
from hubel.data.posed import PoseStore
from hubel.data.source import Source, UnreadableSampleError
from hubel.data.store import Problem, Store
from hubel.errors import UserError

__all__ = ["Progress", "open_store"]


def open_store(
    source: Source,
    *,
    size: tuple[int, ...] | None = None,
    cache: bool = True,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> Store:
    """Open the cache of `source`, building it first if it is not there.

    Parameters
    ----------
    size: spatial size in pixels that every sample is stretched to, (height, width) or
        (depth, height, width). None: the format's; else the one that the pictures share;
        else a square near their median short side, said in `notes`.
    cache: False decodes on demand, after one pass over everything, and writes nothing.
    cache_dir: the cache folder; None: $HUBEL_CACHE, else the user's cache folder.
    progress: called with ("reading" or "checking", done, total).

    Raises `UserError` if nothing can be read, if `size` does not fit the data, or if the
    cache folder cannot be written or is too small.
    """
    if source.poses is not None:
        return PoseStore(source, size)
    store = _open_pixels(source, size, cache, cache_dir, progress)
    if source.masks is not None:
        masks = _open_pixels(source.masks, store.size, cache, cache_dir, progress)
        pictures = dict(zip(source.masks.ids, source.ids, strict=True))
        store.join(masks, [Problem(pictures[p.id], _of_mask(p)) for p in masks.problems])
    return store


def _of_mask(problem: Problem) -> str:
    return f"its mask '{problem.id}': {problem.reason}"


def _open_pixels(
    source: Source,
    size: tuple[int, ...] | None,
    cache: bool,
    cache_dir: Path | None,
    progress: Progress | None,
) -> "_CachedStore | _StreamedStore":
    dims = source.info.spatial_dims
    if size is not None and (len(size) != dims or min(size) < 1):
        raise UserError(
            f"--img-size {size} does not fit the data: give {dims} whole numbers from 1, "
            f"{'height and width' if dims == 2 else 'depth, height and width'} in pixels"
        )
    if not cache:
        with Reader(source) as reader:
            layout, columns = read_all(reader, look(reader, size), None, progress)
        return _StreamedStore(source, layout, columns)
    folder = CacheFolder(cache_dir or default_folder())
    entry, notes = find_or_build(folder, source, size, progress)
    return _CachedStore(source, entry, notes)


def _fingerprint(source: Source, digests: npt.NDArray[np.bytes_]) -> str:
    columns = (list(source.ids), source.targets.tolist(), source.splits.tolist())
    tail = digests.tobytes()
    if source.boxes is not None:
        boxes = source.boxes
        tail += b"".join(c.tobytes() for c in (boxes.starts, boxes.classes, boxes.corners))
    return key_of(list(source.info.classes), *columns, tail=tail)


class _KnownStore:
    """What both kinds of store know of every sample; attributes as in `Store`."""

    def __init__(self, source: Source, layout: Layout, columns: Columns, notes: list[str]) -> None:
        self.size = layout.size
        self.in_channels = layout.in_channels
        self.readable = columns.channels > 0
        self.problems = [
            Problem(source.ids[i], columns.problems[i]) for i in sorted(columns.problems)
        ]
        self.digests = np.where(self.readable, columns.digests, b"").astype("S32")
        self.sizes = columns.sizes
        self.channels = columns.channels
        self.fingerprint = _fingerprint(source, self.digests)
        self.notes = notes + layout_notes(layout, columns.sizes, columns.channels)
        self.masks: Store | None = None

    def join(self, masks: "_CachedStore | _StreamedStore", problems: list[Problem]) -> None:
        """Take the samples' masks, and their problems: where either cannot be read there is no
        sample.
        """
        self.masks = masks
        known = {p.id for p in self.problems}
        self.problems = self.problems + [p for p in problems if p.id not in known]
        self.readable = self.readable & masks.readable
        self.fingerprint = key_of([self.fingerprint, masks.fingerprint], tail=b"")


class _CachedStore(_KnownStore):
    def __init__(self, source: Source, entry: Entry, notes: list[str]) -> None:
        super().__init__(source, entry.layout, entry.columns, notes)
        self.pixels: torch.Tensor | None = torch.from_numpy(entry.pixels)

    def gather(self, indices: torch.Tensor) -> torch.Tensor:
        assert self.pixels is not None  # noqa: S101
        return self.pixels.index_select(0, indices)


class _StreamedStore(_KnownStore):
    """Decodes on demand in threads: Pillow releases the interpreter while it decodes."""

    def __init__(self, source: Source, layout: Layout, columns: Columns) -> None:
        super().__init__(source, layout, columns, [])
        self.pixels: torch.Tensor | None = None
        self._source = source
        self._layout = layout
        self._threads = ThreadPoolExecutor(num_workers())

    def gather(self, indices: torch.Tensor) -> torch.Tensor:
        wanted: Sequence[int] = indices.tolist()
        rows = self._layout.blank(len(wanted))
        whole = self._source.batch(indices.numpy())
        if whole is not None and self._layout.fits(whole):
            rows[:] = whole
            rows[~self.readable[indices.numpy()]] = 0
            return torch.from_numpy(rows)

        def fill(place: int) -> None:
            i = wanted[place]
            if self.readable[i]:
                rows[place] = self._row(i)

        for _ in self._threads.map(fill, range(len(wanted))):
            pass
        return torch.from_numpy(rows)

    def _row(self, i: int) -> npt.NDArray[Any]:
        try:
            found, row = read_row(self._source, i, self._layout)
        except (UnreadableSampleError, OSError) as error:
            raise UserError(
                f"'{self._source.ids[i]}' could be read when hubel started and cannot now: "
                f"{error}; put it back and start again"
            ) from error
        if found != self.digests[i]:
            raise UserError(
                f"'{self._source.ids[i]}' has changed since hubel started; start again, and "
                "leave the data alone while hubel works"
            )
        return row
