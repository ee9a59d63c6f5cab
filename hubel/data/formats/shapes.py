"""`shapes`: generated pictures of coloured shapes on textured grounds, embedded.

Four sets, each "NAME", "NAME:N" or "NAME:N:SIZE":

- "shapes": one shape in a picture, and its class.
- "shapes-box": the same pictures; the class and the box of the shape.
- "shapes-boxes": one to four smaller shapes, none over another, with a box each; about one
  picture in ten holds none.
- "shapes-masks": the pictures of "shapes-boxes"; the class of every pixel, the ground's first.

Each picture is a function of the seed and its number alone. So every task has data without a
download.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hubel.data.boxes import Boxes
from hubel.data.generated import GeneratedFormat, GeneratedSource, apart
from hubel.data.source import FORMATS, Array, Labelling, Sample, Source, SourceInfo

__all__ = ["SHAPES", "Shapes", "ShapesSource"]

SHAPES = ("circle", "cross", "ring", "square", "star", "triangle")
"""Class names, sorted."""

_SETS = {
    "shapes": (6_000, 32),
    "shapes-box": (6_000, 32),
    "shapes-boxes": (6_000, 64),
    "shapes-masks": (6_000, 64),
}
_LABELS: dict[str, Labelling] = {
    "shapes": "class",
    "shapes-box": "boxes",
    "shapes-boxes": "boxes",
    "shapes-masks": "mask",
}
_SMALLEST, _SMALLEST_SCENE, _LARGEST = 16, 32, 1_024
_MOST, _EMPTY = 4, 0.1  # shapes in a picture of several, and the share of pictures without one
_SIZE = 32  # pixels to which the ground's waves are said
_VERSION = "1"  # of the drawing; another version is another data set

_Plane = npt.NDArray[np.floating[Any]]


class Shapes(GeneratedFormat):
    """The generated shapes."""

    def __init__(self) -> None:
        super().__init__(_SETS)

    def describe(self) -> str:
        return (
            "'shapes', 'shapes:N' or 'shapes:N:SIZE', generated coloured shapes; 'shapes-box', "
            "'shapes-boxes' and 'shapes-masks' for boxes and masks"
        )

    def make(self, name: str, num_samples: int, size: int) -> Source:
        return ShapesSource(num_samples, size, name=name)


@dataclass(frozen=True)
class _Shape:
    """A shape in its picture: class, centre and radius in pixels, angle in radians."""

    number: int
    centre_x: float
    centre_y: float
    radius: float
    angle: float

    def corners(self) -> tuple[float, float, float, float]:
        """Its box: left, top, right, bottom in pixels."""
        vertices = _VERTICES.get(SHAPES[self.number])
        if vertices is None:  # round
            low, high = np.full(2, -self.radius), np.full(2, self.radius)
        else:
            cos, sin = np.cos(self.angle), np.sin(self.angle)
            turned = self.radius * vertices @ np.array([[cos, sin], [-sin, cos]])
            low, high = turned.min(axis=0), turned.max(axis=0)
        x, y = self.centre_x, self.centre_y
        return (float(x + low[0]), float(y + low[1]), float(x + high[0]), float(y + high[1]))


class ShapesSource(GeneratedSource):
    """Generated pictures (size, size, 3), split 80/10/10; of one shape, the classes in turn.

    Parameters
    ----------
    num_samples: 20 to 1,000,000.
    size: side of the square pictures in pixels, 16 (with several shapes 32) to 1,024.
    seed: another seed gives other pictures.
    name: which of the four sets.
    """

    def __init__(
        self, num_samples: int = 6_000, size: int = _SIZE, seed: int = 0, name: str = "shapes"
    ) -> None:
        labels = _LABELS[name]
        self._several = name in ("shapes-boxes", "shapes-masks")
        smallest = _SMALLEST_SCENE if self._several else _SMALLEST
        info = SourceInfo(
            "shapes",
            2,
            ("background", *SHAPES) if labels == "mask" else SHAPES,
            in_channels=3,
            size=(size, size),
            labels=labels,
        )
        super().__init__(info, name, num_samples, (smallest, _LARGEST), seed, _VERSION)
        self._size = size
        axis = np.arange(size, dtype=np.float32) + 0.5
        self._y, self._x = np.meshgrid(axis, axis, indexing="ij")
        if not self._several:
            self.targets = np.arange(num_samples, dtype=np.int64) % len(SHAPES)
        if labels == "boxes":
            self.boxes = self._boxes()
            if self._several:
                self.targets = _largest(self.boxes)

    def __getitem__(self, i: int) -> Sample:
        """The sample; of one shape, `extra` holds class (its name), mask (size, size) uint8, 1
        inside the shape, and box, the mask's (xmin, ymin, xmax, ymax) in pixels, the maxima
        exclusive."""
        pixels, mask = self.drawn(i)
        target = int(self.targets[i])
        extra: dict[str, Any] = {}
        if not self._several:
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            extra = {
                "class": SHAPES[target],
                "box": (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1),
                "mask": (mask > 0).astype(np.uint8),
            }
        return Sample(pixels, target, self.ids[i], str(self.splits[i]), extra)

    def drawn(self, i: int) -> tuple[Array, Array]:
        rng = np.random.default_rng((self.seed, i))
        size = self._size
        shapes = self._placed(i, rng)
        # A shape's colour differs from the ground's by 70 or more in every channel.
        ground = rng.uniform(0, 256, 3)
        colours = (ground + rng.uniform(70, 186, (len(shapes), 3))) % 256
        texture = self._texture(rng)[:, :, None]
        other = ground + rng.uniform(-60, 60, 3)
        picture = ground + (other - ground) * texture
        mask = np.zeros((size, size), np.uint8)
        for shape, colour in zip(shapes, colours, strict=True):
            cover = self._cover(shape)
            picture += cover[:, :, None] * (colour - picture)
            mask[cover >= 0.5] = shape.number + 1
        picture += rng.standard_normal((size, size, 1), np.float32) * rng.uniform(4, 16)
        return np.clip(picture, 0, 255).astype(np.uint8), mask

    def _placed(self, i: int, rng: np.random.Generator) -> list[_Shape]:
        """The shapes of sample `i`: what is first drawn from its generator."""
        size = self._size
        if not self._several:
            radius = size * rng.uniform(0.2, 0.4)
            centre_x, centre_y = rng.uniform(radius, size - radius, 2)
            number = i % len(SHAPES)
            return [_Shape(number, centre_x, centre_y, radius, rng.uniform(0, 2 * np.pi))]
        if rng.random() < _EMPTY:
            return []
        radii = size * rng.uniform(0.1, 0.25, rng.integers(1, _MOST + 1))
        return [
            _Shape(int(rng.integers(len(SHAPES))), x, y, radius, rng.uniform(0, 2 * np.pi))
            for radius, (x, y) in apart(radii, size, 2, rng)
        ]

    def _boxes(self) -> Boxes:
        """Of all samples; nothing is drawn for them."""
        rows = []
        for i in range(len(self)):
            shapes = self._placed(i, np.random.default_rng((self.seed, i)))
            rows.append([(shape.number, shape.corners(), False) for shape in shapes])
        return Boxes.of(rows, len(rows))

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

    def _cover(self, shape: _Shape) -> _Plane:
        """How much of each pixel the shape covers, 0 to 1; every shape fits in its radius."""
        radius = shape.radius
        cos = np.float32(np.cos(shape.angle) / radius)
        sin = np.float32(np.sin(shape.angle) / radius)
        x, y = self._x - np.float32(shape.centre_x), self._y - np.float32(shape.centre_y)
        u, v = x * cos + y * sin, y * cos - x * sin
        outside = _outside(SHAPES[shape.number], u, v)
        cover: _Plane = np.clip(0.5 - outside * np.float32(radius), 0, 1)
        return cover


def _largest(boxes: Boxes) -> npt.NDArray[np.int64]:
    """The class of each sample's largest box; 0 where there is none."""
    areas = (boxes.corners[:, 2] - boxes.corners[:, 0]) * (
        boxes.corners[:, 3] - boxes.corners[:, 1]
    )
    targets = np.zeros(len(boxes.counts), np.int64)
    order = np.argsort(areas, kind="stable")
    targets[boxes.samples[order]] = boxes.classes[order]  # the last written is the largest
    return targets


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


def _at(angles: _Plane) -> _Plane:
    """Points (k, 2) of the circle of radius 1."""
    return np.column_stack([np.cos(angles), np.sin(angles)])


_VERTICES = {
    "square": 0.7 * np.array([(-1, -1), (-1, 1), (1, -1), (1, 1)], np.float64),
    "cross": np.array(
        [(a * x, b * y) for a in (-1, 1) for b in (-1, 1) for x, y in ((0.95, 0.28), (0.28, 0.95))]
    ),
    "triangle": _at(2 * np.pi / 3 * np.arange(3)),
    "star": _at(2 * np.pi / 5 * np.arange(5)),
}
"""The corners (k, 2) of each shape's hull where its radius is 1 and its angle 0."""

FORMATS.register("shapes")(Shapes())
