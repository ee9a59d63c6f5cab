"""Small sources for the tests of the cache. No torch: decoding processes import this."""

import hashlib
import io
import signal
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from hubel.data import ingest
from hubel.data.resize import resize
from hubel.data.source import Source, SourceInfo, UnreadableSampleError


class FileSource(Source):
    """PNG files of one folder, sorted by name; the part before "_" is the class.

    Attributes
    ----------
    num_decoded: samples decoded in this process.
    delay_s: waited before each decoding.
    """

    def __init__(self, path: Path, delay_s: float = 0.0, size=None, in_channels=None):
        self.path = path
        files = sorted(p.name for p in path.iterdir())
        classes = sorted({name.split("_")[0] for name in files})
        self.info = SourceInfo("toy", 2, tuple(classes), in_channels, size)
        self.ids = files
        self.targets = np.array([classes.index(name.split("_")[0]) for name in files], np.int64)
        self.splits = np.full(len(files), "train")
        self.notes = []
        self.delay_s = delay_s
        self.num_decoded = 0

    def stamp(self):
        found = [p.stat() for p in sorted(self.path.iterdir())]
        facts = [(stat.st_size, stat.st_mtime_ns) for stat in found]
        return hashlib.sha256(repr((self.ids, facts)).encode()).hexdigest()

    def content(self, i):
        return (self.path / self.ids[i]).read_bytes()

    def decode(self, content, i, in_channels=None):
        self.num_decoded += 1
        time.sleep(self.delay_s)
        if content == b"defect":
            raise ZeroDivisionError("a defect of the format's")
        if content == b"process?":  # the answer travels as the reason
            deaf = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
            raise UnreadableSampleError(f"torch: {'torch' in sys.modules}, deaf: {deaf}")
        try:
            image = Image.open(io.BytesIO(content))
            pixels = np.asarray(image)
        except (OSError, SyntaxError) as error:
            raise UnreadableSampleError("is not a picture") from error
        return pixels if pixels.ndim == 3 else pixels[..., None]


class ArraySource(Source):
    """Rows of one array in memory; with `batched`, many at once."""

    def __init__(self, rows: np.ndarray, batched: bool = True):
        self.path = None
        self.rows = rows
        self.batched = batched
        size = tuple(rows.shape[1:-1])
        self.info = SourceInfo("toyarray", len(size), ("a", "b"), rows.shape[-1], size)
        self.ids = [f"train/{i:05}" for i in range(len(rows))]
        self.targets = np.arange(len(rows), dtype=np.int64) % 2
        self.splits = np.full(len(rows), "train")
        self.notes = []
        self.num_decoded = 0

    def __getstate__(self):
        raise AssertionError("an array in memory must not be sent to another process")

    def stamp(self):
        return hashlib.sha256(self.rows.tobytes()).hexdigest()

    def content(self, i):
        return self.rows[i].tobytes()

    def decode(self, content, i, in_channels=None):
        self.num_decoded += 1
        return self.rows[i]

    def batch(self, indices):
        return self.rows[indices] if self.batched else None


def write_pictures(folder: Path, num_samples: int, shape=(6, 5, 3), seed=0) -> Path:
    """`num_samples` PNG files of random pixels, in classes cat and dog."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for i in range(num_samples):
        write_picture(folder / f"{('cat', 'dog')[i % 2]}_{i:04}.png", rng.integers(0, 256, shape))
    return folder


def write_picture(path: Path, pixels: np.ndarray) -> None:
    pixels = pixels.astype(np.uint8)
    image = Image.fromarray(pixels if pixels.shape[-1] == 3 else pixels[..., 0])
    image.save(path, "PNG")


def contents(cache_dir: Path) -> list[Path]:
    return [p for p in cache_dir.iterdir() if p.name not in ("index", "locks")]


def expected_rows(source, size, channels=3):
    rows = []
    for i in range(len(source)):
        pixels = resize(source.decode(source.content(i), i), size)
        rows.append(np.repeat(pixels, channels, -1) if pixels.shape[-1] == 1 else pixels)
    return np.stack(rows)


def use_processes(monkeypatch) -> None:
    """Let a reading start processes after its second chunk, however short the rest is."""
    monkeypatch.setattr(ingest, "WORTH_S", 0.0)
    monkeypatch.setattr(ingest, "CHUNK_ROWS", 4)
    monkeypatch.setattr(ingest, "num_workers", lambda: 2)
