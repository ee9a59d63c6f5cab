"""`shapes`: generated pictures of coloured shapes on textured grounds, embedded.

"shapes", "shapes:N" or "shapes:N:SIZE". Each picture is a function of the seed and its number
alone. A sample also carries the box and the mask of its shape, so that every task has data
without a download.
"""

import hashlib
import re
from typing import Any

import numpy as np
import numpy.typing as npt

from hubel.data.labels import flip_safe
from hubel.data.paths import exists, expanded
from hubel.data.pictures import convert_channels
from hubel.data.source import FORMATS, Array, Format, Sample, Source, SourceInfo
from hubel.errors import UserError

__all__ = ["SHAPES", "Shapes", "ShapesSource"]

SHAPES = ("circle", "cross", "ring", "square", "star", "triangle")
"""Class names, sorted."""

_NUM_SAMPLES, _SIZE = 6_000, 32
_FEWEST, _MOST = 20, 1_000_000
_SMALLEST, _LARGEST = 16, 1_024
_VERSION = "1"  # of the drawing; another version is another data set

_SPEC = re.compile(r"shapes(?::(\d{1,9}))?(?::(\d{1,9}))?")

_Plane = npt.NDArray[np.floating[Any]]


class Shapes(Format):
    """The generated shapes."""

    def describe(self) -> str:
        return "'shapes', 'shapes:N' or 'shapes:N:SIZE', generated coloured shapes"

    def matches(self, spec: str) -> bool:
        return (spec == "shapes" or spec.startswith("shapes:")) and not exists(expanded(spec))

    def open(self, spec: str) -> Source:
        match = _SPEC.fullmatch(spec)
        if not match:
            raise UserError(
                f"DATA '{spec}' is not understood; write shapes, shapes:N or shapes:N:SIZE with "
                f"whole numbers, e.g. shapes:{_NUM_SAMPLES}:{_SIZE}"
            )
        return ShapesSource(int(match[1] or _NUM_SAMPLES), int(match[2] or _SIZE))


class ShapesSource(Source):
    """Generated pictures (size, size, 3), the classes in turn, split 80/10/10.

    Parameters
    ----------
    num_samples: 20 to 1,000,000.
    size: side of the square pictures in pixels, 16 to 1,024.
    seed: another seed gives other pictures.
    """

    def __init__(self, num_samples: int = _NUM_SAMPLES, size: int = _SIZE, seed: int = 0) -> None:
        if not _FEWEST <= num_samples <= _MOST:
            raise UserError(f"shapes:N needs N from {_FEWEST} to {_MOST:,}, got {num_samples:,}")
        if not _SMALLEST <= size <= _LARGEST:
            raise UserError(
                f"shapes:N:SIZE needs SIZE from {_SMALLEST} to {_LARGEST:,} pixels, got {size:,}"
            )
        self.path = None
        self.info = SourceInfo(
            "shapes", 2, SHAPES, in_channels=3, size=(size, size), flip_safe=flip_safe(SHAPES)
        )
        held = round(num_samples / 10)
        counts = {"train": num_samples - 2 * held, "val": held, "test": held}
        self.ids = [f"{split}/{i:05}" for split, n in counts.items() for i in range(n)]
        self.splits = np.repeat(list(counts), list(counts.values()))
        self.targets = np.arange(num_samples, dtype=np.int64) % len(SHAPES)
        self.notes = []
        self._size = size
        self._seed = seed
        axis = np.arange(size, dtype=np.float32) + 0.5
        self._y, self._x = np.meshgrid(axis, axis, indexing="ij")

    def stamp(self) -> str:
        facts = f"shapes {_VERSION} {len(self)} {self._size} {self._seed}"
        return hashlib.blake2b(facts.encode(), digest_size=16).hexdigest()

    def content(self, i: int) -> bytes:
        return self._drawn(i)[0].tobytes()

    def decode(self, content: bytes, i: int, in_channels: int | None = None) -> Array:
        pixels = np.frombuffer(content, np.uint8).reshape(self._size, self._size, 3)
        return convert_channels(pixels.copy(), in_channels)

    def __getitem__(self, i: int) -> Sample:
        """The sample; `extra` holds class (its name), mask (size, size) uint8, 1 inside the
        shape, and box, the mask's (xmin, ymin, xmax, ymax) in pixels, the maxima exclusive."""
        pixels, mask = self._drawn(i)
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        target = int(self.targets[i])
        extra: dict[str, Any] = {
            "class": SHAPES[target],
            "box": (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1),
            "mask": mask,
        }
        return Sample(pixels, target, self.ids[i], str(self.splits[i]), extra)

    def _drawn(self, i: int) -> tuple[Array, Array]:
        """Picture (size, size, 3) uint8 and mask (size, size) uint8 of sample `i`."""
        rng = np.random.default_rng((self._seed, i))
        size = self._size
        radius = size * rng.uniform(0.2, 0.4)
        centre_x, centre_y = rng.uniform(radius, size - radius, 2)
        cover = self._cover(SHAPES[self.targets[i]], centre_x, centre_y, radius, rng)
        # The shape's colour differs from the ground's by 70 or more in every channel.
        ground = rng.uniform(0, 256, 3)
        colour = (ground + rng.uniform(70, 186, 3)) % 256
        texture = self._texture(rng)[:, :, None]
        other = ground + rng.uniform(-60, 60, 3)
        picture = ground + (other - ground) * texture
        picture += cover[:, :, None] * (colour - picture)
        picture += rng.standard_normal((size, size, 1), np.float32) * rng.uniform(4, 16)
        pixels = np.clip(picture, 0, 255).astype(np.uint8)
        return pixels, (cover >= 0.5).astype(np.uint8)

    def _texture(self, rng: np.random.Generator) -> _Plane:
        """Two plane waves of random direction, length and phase; values 0 to 1."""
        waves: _Plane = np.zeros_like(self._x)
        for angle, length, phase in rng.uniform((0, 4, 0), (2 * np.pi, 16, 2 * np.pi), (2, 3)):
            k = 2 * np.pi / (length * self._size / _SIZE)
            waves += np.sin(
                self._x * np.float32(k * np.cos(angle))
                + self._y * np.float32(k * np.sin(angle))
                + np.float32(phase)
            )
        return np.float32(0.25) * waves + np.float32(0.5)

    def _cover(
        self, name: str, centre_x: float, centre_y: float, radius: float, rng: np.random.Generator
    ) -> _Plane:
        """How much of each pixel the shape covers, 0 to 1; every shape fits in its radius."""
        angle = rng.uniform(0, 2 * np.pi)
        cos, sin = np.float32(np.cos(angle) / radius), np.float32(np.sin(angle) / radius)
        x, y = self._x - np.float32(centre_x), self._y - np.float32(centre_y)
        u, v = x * cos + y * sin, y * cos - x * sin
        cover: _Plane = np.clip(0.5 - _outside(name, u, v) * np.float32(radius), 0, 1)
        return cover


def _outside(name: str, u: _Plane, v: _Plane) -> _Plane:
    """About how far (u, v) lies outside the shape of radius 1; negative inside."""
    if name == "circle":
        return np.hypot(u, v) - 1
    if name == "ring":
        return np.abs(np.hypot(u, v) - np.float32(0.75)) - np.float32(0.25)
    if name == "square":
        return np.maximum(np.abs(u), np.abs(v)) - np.float32(0.7)
    if name == "cross":
        a, b = np.abs(u), np.abs(v)
        return np.maximum(np.maximum(a, b) - np.float32(0.95), np.minimum(a, b) - np.float32(0.28))
    if name == "triangle":  # inside all three sides, each half a radius from the centre
        h = np.float32(np.sqrt(0.75)) * np.abs(v)
        return np.maximum(u / -1, u / 2 + h) - np.float32(0.5)
    return _outside_star(u, v)


def _outside_star(u: _Plane, v: _Plane) -> _Plane:
    """Five tips at radius 1. Each tenth of the turn is folded onto the first, where the side
    is the line from the tip at (1, 0) to the notch, 0.42 from the centre at an angle of π/5."""
    tenth = np.float32(np.pi / 5)
    fold = np.abs(np.mod(np.arctan2(v, u) + tenth, 2 * tenth) - tenth)
    r = np.hypot(u, v)
    notch_x, notch_y = 0.42 * np.cos(np.pi / 5), 0.42 * np.sin(np.pi / 5)
    length = np.hypot(1 - notch_x, notch_y)
    normal_x, normal_y = np.float32(notch_y / length), np.float32((1 - notch_x) / length)
    outside: _Plane = r * np.cos(fold) * normal_x + r * np.sin(fold) * normal_y - normal_x
    return outside


FORMATS.register("shapes")(Shapes())
