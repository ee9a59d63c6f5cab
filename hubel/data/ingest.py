"""Read every sample of a source once: hash it, decode it, write its row. In parallel.

Decoding small pictures is bound by Python itself, so it is shared among processes, not
threads. Each process is sent the source once, when it starts, and then only lists of
indices. It writes its rows straight into the pixel file by ordinary writes: a full disk is
then an error and not, as with a memory map, a fatal signal; and the rows never travel.

No torch here or in anything this module imports: a process that decodes starts in a
fraction of a second and needs some 40 MB.
"""

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hubel.data.layout import Layout
from hubel.data.source import Array, Source, UnreadableSampleError
from hubel.errors import UserError

if TYPE_CHECKING:
    from joblib.externals.loky import ProcessPoolExecutor

__all__ = ["Chunk", "Columns", "Progress", "Reader", "Task", "digest", "num_workers", "read_row"]

Progress = Callable[[str, int, int], None]
"""progress(what, done, total): called now and then from the building process."""

Indices = npt.NDArray[np.int64]

MAX_WORKERS = 16
WORTH_S = 1.0
"""Processes are started where the rest would take longer than this; starting takes half."""
CHUNK_BYTES = 4 << 20
CHUNK_ROWS = 256
CHUNK_S = 0.2
FIRST_ROWS = 4
"""The first chunk is small, so that the time of a sample is known early."""


def num_workers() -> int:
    """Processor cores that this process may use (affinity and container limits), at most 16."""
    import joblib  # takes 0.3 s to import: only where something large is read

    return max(1, min(int(joblib.cpu_count()), MAX_WORKERS))


def digest(content: bytes) -> bytes:
    """Hex blake2b-128 of a sample's stored bytes, 32 characters."""
    return blake2b(content, digest_size=16).hexdigest().encode()


@dataclass(frozen=True)
class Task:
    """What is done with each sample: hashed only; or decoded; or fitted to `layout`; or
    written as row i of `file`, whose rows begin at byte `offset`."""

    decode: bool
    layout: Layout | None = None
    file: Path | None = None
    offset: int = 0


@dataclass(frozen=True)
class Chunk:
    """What was found of samples `indices` (b,).

    digests: S32 (b,), b"" where the bytes could not be read.
    sizes: int32 (b, dims), channels: uint8 (b,), both 0 where the sample is unreadable or
        was not decoded. floats: bool (b,), whether it decodes to float32.
    problems: (index, reason) of each unreadable sample.
    """

    indices: Indices
    digests: npt.NDArray[np.bytes_]
    sizes: npt.NDArray[np.int32]
    channels: npt.NDArray[np.uint8]
    floats: npt.NDArray[np.bool_]
    problems: list[tuple[int, str]]

    @classmethod
    def blank(cls, indices: Indices, spatial_dims: int) -> "Chunk":
        b = len(indices)
        return cls(
            indices,
            np.zeros(b, "S32"),
            np.zeros((b, spatial_dims), np.int32),
            np.zeros(b, np.uint8),
            np.zeros(b, np.bool_),
            [],
        )


def read_row(source: Source, i: int, layout: Layout) -> tuple[bytes, Array]:
    """Digest of sample `i` and its row. Raises `UnreadableSampleError` or `OSError`."""
    content = source.content(i)
    return digest(content), layout.row(_decoded(source, content, i))


def _decoded(source: Source, content: bytes, i: int) -> Array:
    try:
        pixels = source.decode(content, i, None)
    except (UnreadableSampleError, OSError):
        raise
    except Exception as error:  # a defect, of which the sample must be known
        error.add_note(f"while decoding sample {source.ids[i]!r}")
        raise
    if pixels.dtype.char not in "Bf":  # a tenth of the time of comparing types
        raise TypeError(f"sample {source.ids[i]!r} decodes to {pixels.dtype}, not uint8 or float32")
    return pixels


def read_chunk(source: Source, task: Task, indices: Indices) -> Chunk:
    """Do `task` for samples `indices`, which are consecutive where rows are written."""
    layout = task.layout
    chunk = Chunk.blank(indices, source.info.spatial_dims)
    rows = None
    if layout is not None and task.file is not None:
        rows = layout.blank(len(indices))
    whole = source.batch(indices) if task.decode else None
    for k, i in enumerate(indices.tolist()):
        try:
            content = source.content(i)
            chunk.digests[k] = digest(content)
            if not task.decode:
                continue
            pixels = _decoded(source, content, i) if whole is None else whole[k]
            if layout is not None:
                layout.check(pixels)
        except (UnreadableSampleError, OSError) as error:
            chunk.problems.append((i, _reason(error)))
            continue
        chunk.sizes[k] = pixels.shape[:-1]
        chunk.channels[k] = pixels.shape[-1]
        chunk.floats[k] = pixels.dtype.char == "f"
        # A sample that the layout cannot hold makes the building process start over.
        if rows is not None and layout is not None and layout.holds(pixels):
            rows[k] = layout.row(pixels)
    if rows is not None and layout is not None and task.file is not None:
        with task.file.open("r+b") as file:
            file.seek(task.offset + int(indices[0]) * layout.row_bytes)
            file.write(rows.data)
    return chunk


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


@dataclass
class Columns:
    """The chunks of a reading, gathered by sample index; attributes as in `Chunk`."""

    digests: npt.NDArray[np.bytes_]
    sizes: npt.NDArray[np.int32]
    channels: npt.NDArray[np.uint8]
    floats: npt.NDArray[np.bool_]
    problems: dict[int, str] = field(default_factory=dict)

    @classmethod
    def blank(cls, num_samples: int, spatial_dims: int) -> "Columns":
        empty = Chunk.blank(np.arange(num_samples), spatial_dims)
        return cls(empty.digests, empty.sizes, empty.channels, empty.floats)

    def enter(self, chunk: Chunk) -> None:
        self.digests[chunk.indices] = chunk.digests
        self.sizes[chunk.indices] = chunk.sizes
        self.channels[chunk.indices] = chunk.channels
        self.floats[chunk.indices] = chunk.floats
        self.problems.update(chunk.problems)


class Reader:
    """Reads samples of one source, here or in processes, whichever is sooner done.

    A context manager: leaving it ends the processes.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self._pool: ProcessPoolExecutor | None = None
        self._num_workers = 0
        self._stay_here = False
        self._sample_s = float("inf")

    def __enter__(self) -> "Reader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, kill_workers=True)
            self._pool = None

    def read(self, task: Task, indices: Indices | None = None) -> Generator[Chunk, None, None]:
        """Do `task` for `indices` (all samples if None); chunks come as they are done."""
        if indices is None:
            indices = np.arange(len(self.source))
        start = num_chunks = 0
        if self._pool is None:
            self._sample_s = float("inf")
        while start < len(indices) and self._pool is None:
            rows = _num_rows(task, self._sample_s) if num_chunks else FIRST_ROWS
            part = indices[start : start + rows]
            begin_s = time.perf_counter()
            chunk = read_chunk(self.source, task, part)
            # The fastest so far, because the first chunk also pays for loading the decoder.
            self._sample_s = min(self._sample_s, (time.perf_counter() - begin_s) / len(part))
            start += len(part)
            num_chunks += 1
            yield chunk
            if num_chunks > 1 and self._sample_s * (len(indices) - start) > WORTH_S:
                self._start()
        if start < len(indices):
            rows = _num_rows(task, self._sample_s)
            rest = deque(indices[k : k + rows] for k in range(start, len(indices), rows))
            yield from self._read_in_processes(task, rest)

    def _start(self) -> None:
        if self._stay_here:
            return
        # Arrays that lie in this process's memory must not be copied to others.
        in_memory = self.source.batch(np.arange(1)) is not None
        self._num_workers = 1 if in_memory else num_workers()
        if self._num_workers < 2:
            self._stay_here = True
            return
        from joblib.externals.loky import ProcessPoolExecutor

        self._pool = ProcessPoolExecutor(
            self._num_workers,
            initializer=_start_worker,
            initargs=(self.source, os.getpid()),
            env={"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )

    def _read_in_processes(
        self, task: Task, pending: deque[Indices]
    ) -> Generator[Chunk, None, None]:
        from joblib.externals.loky.process_executor import TerminatedWorkerError

        pool = self._pool
        assert pool is not None  # noqa: S101
        running: set[Future[Chunk]] = set()
        try:
            while pending or running:
                # One in work and one in wait for each process, so that little is lost and
                # little waited for when reading ends early.
                while pending and len(running) < 2 * self._num_workers:
                    running.add(pool.submit(_read_in_worker, task, pending.popleft()))
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        except TerminatedWorkerError as error:
            raise UserError(
                f"a process that was reading DATA '{self.source.name}' was ended by the system, "
                "most often because memory ran out; close other programs and start again"
            ) from error
        finally:
            # Left early, nothing may go on writing behind the caller's back.
            for future in running:
                future.cancel()
            wait(running)


def _num_rows(task: Task, sample_s: float) -> int:
    """Samples in one chunk: bounded in number, in bytes and in time."""
    rows = CHUNK_ROWS
    if task.layout is not None:
        rows = min(rows, CHUNK_BYTES // task.layout.row_bytes)
    if sample_s > 0:
        rows = min(rows, int(CHUNK_S / sample_s))
    return max(rows, 1)


# The state of a process that decodes: the one source it was started for.
_worker_source: Source | None = None


def _start_worker(source: Source, parent: int) -> None:
    global _worker_source
    _worker_source = source
    # Ctrl-C reaches the whole group; the building process answers it and ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.name == "posix":
        threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _read_in_worker(task: Task, indices: Indices) -> Chunk:
    assert _worker_source is not None  # noqa: S101
    return read_chunk(_worker_source, task, indices)
