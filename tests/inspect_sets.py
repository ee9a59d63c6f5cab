"""Small data sets in memory for the tests of inspections: a source, a store, pictures."""

import hashlib
from io import BytesIO

import numpy as np
import torch
from PIL import Image

from hubel.data.pictures import decode_picture
from hubel.data.source import Source, SourceInfo, UnreadableSampleError
from hubel.data.split import Split
from hubel.data.store import Problem

__all__ = ["ArrayStore", "FilesInMemory", "photo", "photos", "png_bytes", "split_of", "stroke"]


def png_bytes(pixels, format="PNG", **options):
    """An array (h, w, 3 or 1) as the bytes of a picture file."""
    buffer = BytesIO()
    Image.fromarray(pixels if pixels.shape[-1] == 3 else pixels[..., 0]).save(
        buffer, format, **options
    )
    return buffer.getvalue()


def photo(rng, side=32, channels=3):
    """A picture of soft blobs and stripes, as unlike the next as two photographs are."""
    y, x = np.mgrid[:side, :side] / side
    picture = np.zeros((side, side, channels))
    for _ in range(12):
        cy, cx, width = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.03, 0.25)
        blob = np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / width**2)
        picture += blob[..., None] * rng.normal(0, 90, channels)
    angle, waves = rng.uniform(0, np.pi), rng.uniform(2, 7)
    stripes = np.sin(2 * np.pi * waves * (x * np.cos(angle) + y * np.sin(angle)))
    picture += 128 + 15 * stripes[..., None]
    return picture.clip(0, 255).round().astype(np.uint8)


def photos(num, seed=0, side=32, channels=3):
    """(num, side, side, channels) uint8."""
    rng = np.random.default_rng(seed)
    return np.stack([photo(rng, side, channels) for _ in range(num)])


def stroke(rng, side=28):
    """A bent stroke on black, (side, side, 1): one handwritten 1 is much like another."""
    y, x = np.mgrid[:side, :side] + 0.0
    along = (y - side / 2) / 9
    bends = rng.normal(0, [0.8, 1.5, 1.0, 0.8, 0.6])
    middle = side / 2 - 3 * along + np.polynomial.polynomial.polyval(along, bends)
    thick = rng.normal(1.4, 0.25) * (1 + 0.25 * np.sin(3 * along + rng.uniform(0, 6)))
    ink = np.exp(-(((x - middle) / thick) ** 2)) * (np.abs(along) < 1 + rng.normal(0, 0.08))
    return (255 * ink).round().clip(0, 255).astype(np.uint8)[..., None]


class ArrayStore:
    """The store of an array (n, *spatial, c) held in memory."""

    def __init__(self, pixels, readable=None, digests=None, sizes=None, channels=None):
        n = len(pixels)
        self.pixels = torch.from_numpy(pixels)
        self.size = pixels.shape[1:-1]
        self.in_channels = pixels.shape[-1]
        self.readable = np.ones(n, bool) if readable is None else readable
        if digests is None:
            digests = np.array(
                [hashlib.blake2b(p.tobytes(), digest_size=16).hexdigest() for p in pixels], "S32"
            )
        self.digests = np.where(self.readable, digests, b"")
        own = np.tile(np.array(self.size, np.int32), (n, 1)) if sizes is None else sizes
        self.sizes = np.where(self.readable[:, None], own, 0)
        own = np.full(n, self.in_channels, np.uint8) if channels is None else channels
        self.channels = np.where(self.readable, own, 0).astype(np.uint8)
        self.problems = []
        self.fingerprint = "0" * 32
        self.notes = []
        self.masks = None

    def gather(self, indices):
        return self.pixels.index_select(0, indices)


class FilesInMemory(Source):
    """Picture files that are bytes in memory: {"train/cat/0.png": bytes}; arrays if `arrays`."""

    def __init__(self, files, arrays=None, spatial_dims=2):
        self.path = None
        self.ids = list(files)
        self._contents = list(files.values())
        self._arrays = arrays
        labels = [name.split("/")[1] for name in self.ids]
        classes = tuple(sorted(set(labels)))
        size = None if arrays is None else arrays.shape[1:-1]
        self.info = SourceInfo("folders", spatial_dims, classes, size=size)
        self.targets = np.array([classes.index(label) for label in labels], np.int64)
        self.splits = np.array([name.split("/")[0] for name in self.ids])
        self.notes = ["a note of the source"]
        self.reads = np.zeros(len(self.ids), np.int64)

    def stamp(self):
        return "0"

    def content(self, i):
        self.reads[i] += 1
        return self._contents[i]

    def decode(self, content, i, in_channels=None):
        if self._arrays is not None:
            return self._arrays[i]
        return decode_picture(content, in_channels)

    def store(self, size):
        """What a store holds of these files, each stretched to `size` by Pillow."""
        pixels = np.zeros((len(self), *size, 3), np.uint8)
        readable = np.zeros(len(self), bool)
        sizes = np.zeros((len(self), 2), np.int32)
        channels = np.zeros(len(self), np.uint8)
        problems = []
        for i, content in enumerate(self._contents):
            try:
                own = decode_picture(content)
                shown = decode_picture(content, 3)
            except UnreadableSampleError as error:
                problems.append(Problem(self.ids[i], str(error)))
                continue
            readable[i], sizes[i], channels[i] = True, own.shape[:2], own.shape[2]
            pixels[i] = np.asarray(Image.fromarray(shown).resize(size[::-1]))
        digests = np.array(
            [hashlib.blake2b(c, digest_size=16).hexdigest() for c in self._contents], "S32"
        )
        store = ArrayStore(pixels, readable, digests, sizes, channels)
        store.problems = problems
        store.notes = ["a note of the store"]
        return store


def split_of(source, readable):
    """The split that the ids name."""
    parts = [np.flatnonzero(readable & (source.splits == s)) for s in ("train", "val", "test")]
    return Split(*parts, notes=["a note of the split"])
