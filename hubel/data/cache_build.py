"""Find the cache of a source, or build it.

Two levels of keys find it. The outside of the data (the source's `stamp`: names, sizes,
times) is read without opening a file and leads to the content key, so that a second start
takes a fraction of a second. Where the outside is new but the same names were seen before
(files touched, moved or copied), the bytes are hashed, and the pixels are decoded again
only if the bytes are new too.

No torch here, so that what only builds or checks a cache starts at once.
"""

import json
from contextlib import closing
from hashlib import blake2b
from pathlib import Path

import numpy as np
import PIL
from PIL import features

from hubel.data.cache_folder import CacheFolder, DamagedError, Entry
from hubel.data.ingest import Columns, Progress, Reader, Task
from hubel.data.layout import Layout, choose_layout, look_indices
from hubel.data.source import Source, UnreadableSampleError
from hubel.errors import UserError

__all__ = ["find_or_build", "key_of", "look", "read_all"]

VERSION = 1
"""Of the folder's format *and* of the pixels: raise it when decoding or resizing changes."""


def find_or_build(
    folder: CacheFolder,
    source: Source,
    size: tuple[int, ...] | None,
    progress: Progress | None,
) -> tuple[Entry, list[str]]:
    """The entry of `source` at `size`, and sentences about damage that was mended."""
    index_key = _index_key(source, size)
    notes: list[str] = []
    entry = _find(folder, index_key, source, notes)
    if entry is None:
        with folder.lock(index_key, progress):
            folder.sweep(index_key)
            # Another process may have built it while this one waited.
            entry = _find(folder, index_key, source, notes)
            if entry is None:
                entry = _build(folder, index_key, source, size, progress)
    return entry, notes


# Keys


def key_of(*parts: object, tail: bytes = b"", num_bytes: int = 16) -> str:
    # JSON, because joined text could be read in two ways.
    return blake2b(json.dumps(parts).encode() + tail, digest_size=num_bytes).hexdigest()


def _decoders() -> str:
    """Another libjpeg may give other pixels, by a level here and there."""
    jpeg = features.version("libjpeg_turbo") or features.version("jpg")
    return f"Pillow {PIL.__version__}, libjpeg {jpeg}"


def _index_key(source: Source, size: tuple[int, ...] | None) -> str:
    path = "" if source.path is None else str(Path(source.path).resolve())
    return key_of(VERSION, _decoders(), path, source.stamp(), len(source), size)


def _ids_key(source: Source) -> str:
    return key_of(list(source.ids), num_bytes=8)


def _content_key(source: Source, size: tuple[int, ...] | None, columns: Columns) -> str:
    """What the rows follow from: every sample's bytes and how they are made into pixels.

    Of samples whose bytes could not be had, the reason, which is stored with the rows: the same
    mask beside a picture of another size has another.
    """
    info = source.info
    facts: list[object] = [info.format, info.spatial_dims, info.in_channels, info.size, size]
    if not info.interpolate:  # added only then: the keys of pictures stay what they were
        facts.append("nearest")
    unread = np.flatnonzero(columns.digests == b"").tolist()
    if unread:  # as above
        facts.append([columns.problems.get(i, "") for i in unread])
    tail = columns.digests.tobytes()
    return f"{_ids_key(source)}-{key_of(VERSION, _decoders(), *facts, tail=tail)}"


# Finding and building


def _find(folder: CacheFolder, index_key: str, source: Source, notes: list[str]) -> Entry | None:
    key = folder.content_key(index_key)
    if key is None or not key.startswith(_ids_key(source)):
        return None
    try:
        entry = folder.open(key, len(source))
    except DamagedError as damage:
        note = f"the cache was damaged and is built anew ({damage})"
        if note not in notes:
            notes.append(note)
        return None
    if entry is not None and _readable_now(source, entry.columns):
        return None
    return entry


def _readable_now(source: Source, columns: Columns) -> bool:
    """Whether a file that could not be opened when the cache was built can be by now.

    Permissions and network drives come back without a change of the data's outside.
    """
    for i in np.flatnonzero(columns.digests == b"").tolist():
        try:
            source.content(i)
        except (UnreadableSampleError, OSError):
            continue
        return True
    return False


def _build(
    folder: CacheFolder,
    index_key: str,
    source: Source,
    size: tuple[int, ...] | None,
    progress: Progress | None,
) -> Entry:
    with Reader(source) as reader:
        if folder.has_content_like(_ids_key(source)):
            key = _content_key(source, size, _hash(reader, progress))
            try:
                entry = folder.open(key, len(source))
            except DamagedError:
                entry = None
            if entry is not None:
                folder.point(index_key, key)
                return entry
        layout = look(reader, size)
        with folder.building(index_key) as building:
            layout, columns = read_all(reader, layout, (folder, building), progress)
            key = _content_key(source, size, columns)
            folder.publish(building, key, layout, columns)
    folder.point(index_key, key)
    entry = folder.open(key, len(source))
    assert entry is not None  # noqa: S101
    return entry


def _hash(reader: Reader, progress: Progress | None) -> Columns:
    """Digests of all samples, and why some have none; read but not decoded."""
    columns = Columns.blank(len(reader.source), reader.source.info.spatial_dims)
    _collect(reader, Task(decode=False), columns, "checking", progress)
    return columns


def look(reader: Reader, size: tuple[int, ...] | None) -> Layout:
    """A layout from a spread of samples; from all of them if the spread is unreadable."""
    source = reader.source
    n = len(source)
    spread = look_indices(n, size is not None or source.info.size is not None)
    for indices in (spread, np.arange(n)):
        columns = Columns.blank(n, source.info.spatial_dims)
        for chunk in reader.read(Task(decode=True), indices):
            columns.enter(chunk)
        seen = columns.channels > 0
        if seen.any():
            found = columns.sizes[seen], columns.channels[seen], columns.floats[seen]
            return choose_layout(source.info, size, *found)
    first = min(columns.problems)
    raise UserError(
        f"DATA '{reader.source.name}': none of its {n:,} samples can be read; the first is "
        f"'{source.ids[first]}': {columns.problems[first]}"
    )


def read_all(
    reader: Reader,
    layout: Layout,
    store_in: tuple[CacheFolder, Path] | None,
    progress: Progress | None,
) -> tuple[Layout, Columns]:
    """Decode everything, writing the rows if asked; starts over where colour turns up late."""
    n = len(reader.source)
    while True:
        task = Task(decode=True, layout=layout)
        if store_in is not None:
            folder, building = store_in
            file, offset = folder.make_pixels(building, layout, n)
            task = Task(decode=True, layout=layout, file=file, offset=offset)
        columns = Columns.blank(n, reader.source.info.spatial_dims)
        wider = _collect(reader, task, columns, "reading", progress)
        if wider is None:
            return layout, columns
        layout = wider


def _collect(
    reader: Reader, task: Task, columns: Columns, what: str, progress: Progress | None
) -> Layout | None:
    """Fill `columns`; returns None, or at once the wider layout that a sample needs."""
    done, total = 0, len(reader.source)
    with closing(reader.read(task)) as chunks:
        for chunk in chunks:
            columns.enter(chunk)
            if task.layout is not None:
                wider = task.layout.widened(chunk.channels, chunk.floats)
                if wider != task.layout:
                    return wider
            done += len(chunk.indices)
            if progress is not None:
                progress(what, done, total)
    return None
