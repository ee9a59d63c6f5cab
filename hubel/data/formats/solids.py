"""`solids`: generated volumes of solids in noise, embedded.

"solids", "solids:N" or "solids:N:SIZE": one turned solid in a grey volume, and its class;
"solids-masks" likewise: one to three smaller ones, none touching another, and the class of
every voxel, the ground's first. Each volume is a function of the seed and its number alone.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from hubel.data.generated import GeneratedFormat, GeneratedSource, apart
from hubel.data.source import FORMATS, Array, Source, SourceInfo

__all__ = ["SOLIDS", "Solids", "SolidsSource"]

SOLIDS = ("ball", "cone", "cube", "cylinder", "tetrahedron", "torus")
"""Class names, sorted."""

_SETS = {"solids": (1_200, 32), "solids-masks": (600, 32)}
_SMALLEST, _LARGEST = 16, 256
_MOST = 3  # solids in a volume of several
_VERSION = "1"  # of the drawing; another version is another data set

_Field = npt.NDArray[np.floating[Any]]


class Solids(GeneratedFormat):
    """The generated solids."""

    def __init__(self) -> None:
        super().__init__(_SETS)

    def describe(self) -> str:
        return (
            "'solids', 'solids:N' or 'solids:N:SIZE', generated solids in volumes; "
            "'solids-masks' for masks"
        )

    def make(self, name: str, num_samples: int, size: int) -> Source:
        return SolidsSource(num_samples, size, name=name)


class SolidsSource(GeneratedSource):
    """Generated volumes (size, size, size, 1), split 80/10/10; of one solid, the classes in turn.

    Parameters
    ----------
    num_samples: 20 to 1,000,000.
    size: side of the cubes in voxels, 16 to 256.
    seed: another seed gives other volumes.
    name: "solids" or "solids-masks".
    """

    def __init__(
        self, num_samples: int = 1_200, size: int = 32, seed: int = 0, name: str = "solids"
    ) -> None:
        self._several = name == "solids-masks"
        info = SourceInfo(
            "solids",
            3,
            ("background", *SOLIDS) if self._several else SOLIDS,
            in_channels=1,
            size=(size, size, size),
            labels="mask" if self._several else "class",
        )
        super().__init__(info, name, num_samples, (_SMALLEST, _LARGEST), seed, _VERSION)
        if not self._several:
            self.targets = np.arange(num_samples, dtype=np.int64) % len(SOLIDS)
        self._size = size

    def drawn(self, i: int) -> tuple[Array, Array]:
        rng = np.random.default_rng((self.seed, i))
        shape = (self._size,) * 3
        numbers = [i % len(SOLIDS)]
        low, high = 0.25, 0.45
        if self._several:
            numbers = rng.integers(len(SOLIDS), size=rng.integers(1, _MOST + 1)).tolist()
            low, high = 0.15, 0.3
        radii = self._size * rng.uniform(low, high, len(numbers))
        # A solid differs from the ground by 70 or more.
        ground = rng.uniform(0, 256)
        volume = np.full(shape, ground, np.float32)
        mask = np.zeros(shape, np.uint8)
        for number, (radius, centre) in zip(
            numbers, apart(radii, self._size, 3, rng), strict=False
        ):
            grey = np.float32((ground + rng.uniform(70, 186)) % 256)
            box, cover = self._cover(SOLIDS[number], centre, radius, _turn(rng))
            volume[box] += cover * (grey - volume[box])
            mask[box][cover >= 0.5] = number + 1
        noise = rng.standard_normal(shape, np.float32)
        volume += noise * np.float32(rng.uniform(4, 16))
        return np.clip(volume, 0, 255).astype(np.uint8)[..., None], mask

    def _cover(
        self, name: str, centre: _Field, radius: float, turn: _Field
    ) -> tuple[tuple[slice, ...], _Field]:
        """The voxels about a solid, and how much of each it covers, 0 to 1."""
        spans = [
            (max(0, int(c - radius) - 1), min(self._size, int(c + radius) + 2))
            for c in centre.tolist()
        ]
        axes = [
            ((np.arange(*span) + 0.5 - c) / radius).astype(np.float32)
            for span, c in zip(spans, centre.tolist(), strict=True)
        ]
        z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
        u, v, w = (row[0] * x + row[1] * y + row[2] * z for row in turn)
        cover: _Field = np.clip(0.5 - _outside(name, u, v, w) * np.float32(radius), 0, 1)
        return tuple(slice(*span) for span in spans), cover


def _turn(rng: np.random.Generator) -> _Field:
    """A rotation matrix (3, 3) float32, uniform over all turns: from a unit quaternion."""
    a, b, c, d = (q := rng.standard_normal(4)) / np.hypot.reduce(q)
    return np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a - b * b + c * c - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a - b * b - c * c + d * d],
        ],
        np.float32,
    )


def _outside(name: str, u: _Field, v: _Field, w: _Field) -> _Field:
    """About how far (u, v, w) lies outside the solid, which fits in the ball of radius 1."""
    f = np.float32
    if name == "ball":
        return np.sqrt(u * u + v * v + w * w) - f(1)
    if name == "cube":  # its corners at radius 1
        side = f(np.sqrt(1 / 3))
        return np.maximum(np.maximum(np.abs(u), np.abs(v)), np.abs(w)) - side
    if name == "tetrahedron":  # inside all four faces, each a third from the centre
        faces = ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))
        planes = [f(np.sqrt(1 / 3)) * (a * u + b * v + c * w) for a, b, c in faces]
        face: _Field = np.maximum.reduce(planes)
        return face - f(1 / 3)
    rho = np.sqrt(u * u + v * v)
    if name == "cylinder":
        return np.maximum(rho - f(0.6), np.abs(w) - f(0.8))
    if name == "cone":  # its tip at w = 1, its base of radius 0.8 at w = -0.6
        mantle: _Field = (rho - f(0.5) * (1 - w)) / f(np.sqrt(1.25))
        outside: _Field = np.maximum(mantle, f(-0.6) - w)
        return outside
    return np.hypot(rho - f(0.68), w) - f(0.32)  # torus


FORMATS.register("solids")(Solids())
