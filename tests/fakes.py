"""Small stand-ins for what lies on disk, shared by the tests."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from hubel.data.preprocess import Preprocess


class MemoryStore:
    """A `Store` over an array (n, *size, c) in memory."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = torch.from_numpy(pixels)
        n, *size, channels = pixels.shape
        self.size = tuple(size)
        self.in_channels = channels
        self.readable = np.ones(n, bool)
        self.problems = []
        self.digests = np.array([f"{i:032x}".encode() for i in range(n)])
        self.sizes = np.array([size] * n, np.int32)
        self.channels = np.full(n, channels, np.uint8)
        self.fingerprint = "0" * 32
        self.notes = []
        self.masks = None

    def gather(self, indices: torch.Tensor) -> torch.Tensor:
        return self.pixels.index_select(0, indices)


def random_pixels(n: int, size: tuple[int, ...], channels: int, seed: int = 0) -> np.ndarray:
    """uint8 noise (n, *size, channels)."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, *size, channels), dtype=np.uint8)


def unit_preprocess(size: tuple[int, ...], channels: int) -> Preprocess:
    """A preprocess that only scales to 0..1."""
    return Preprocess(size, (0.0,) * channels, (1.0,) * channels)


def write_pictures(folder: Path, per_class: int = 24, size: int = 16, seed: int = 0) -> Path:
    """Class folders of PNGs that a small network can tell apart: where the bright spot is."""
    rng = np.random.default_rng(seed)
    half = size // 2
    for k, name in enumerate(("north", "east", "south")):
        (folder / name).mkdir(parents=True)
        for i in range(per_class):
            picture = rng.integers(0, 90, (size, size, 3))
            rows, columns = ((0, 0), (0, half), (half, 0))[k]
            picture[rows : rows + half, columns : columns + half] += 120
            Image.fromarray(picture.astype(np.uint8)).save(folder / name / f"{i:03}.png")
    return folder
