"""Sets that are drawn and not read: each sample is a function of the seed and its number."""

import hashlib
import re
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from hubel.data.paths import exists, expanded
from hubel.data.pictures import convert_channels
from hubel.data.source import Array, Format, Source, SourceInfo
from hubel.errors import UserError

__all__ = ["GeneratedFormat", "GeneratedSource", "apart"]

_FEWEST, _MOST = 20, 1_000_000
_SPEC = re.compile(r"([a-z-]+)(?::(\d{1,9}))?(?::(\d{1,9}))?")
_TRIES = 20


class GeneratedSource(Source):
    """Samples drawn on demand, split 80/10/10.

    Parameters
    ----------
    info: its `size` is a square or a cube; with labels "mask" its first class is the ground.
    name: what the user calls the set, for messages and the stamp.
    num_samples: 20 to 1,000,000.
    bounds: smallest and largest side in pixels.
    seed: another seed gives other samples.
    version: of the drawing; another version is another set.
    """

    def __init__(
        self,
        info: SourceInfo,
        name: str,
        num_samples: int,
        bounds: tuple[int, int],
        seed: int,
        version: str,
    ) -> None:
        assert info.size is not None  # noqa: S101
        side, (smallest, largest) = info.size[0], bounds
        if not _FEWEST <= num_samples <= _MOST:
            raise UserError(f"{name}:N needs N from {_FEWEST} to {_MOST:,}, got {num_samples:,}")
        if not smallest <= side <= largest:
            raise UserError(
                f"{name}:N:SIZE needs SIZE from {smallest} to {largest:,} pixels, got {side:,}"
            )
        self.path = None
        self.info = info
        self._name = name
        held = round(num_samples / 10)
        counts = {"train": num_samples - 2 * held, "val": held, "test": held}
        self.ids = [f"{split}/{i:05}" for split, n in counts.items() for i in range(n)]
        self.splits = np.repeat(list(counts), list(counts.values()))
        self.targets = np.zeros(num_samples, np.int64)
        self.notes = []
        self.seed = seed
        self._facts = f"{name} {version} {num_samples} {side} {seed}"
        if info.labels == "mask":
            self.masks = _DrawnMasks(self)

    @property
    def name(self) -> str:
        """Of the set: a format draws several."""
        return self._name

    @abstractmethod
    def drawn(self, i: int) -> tuple[Array, Array]:
        """Pixels (*size, c) uint8 of sample `i`, and the class of each (*size) uint8: 0 for the
        ground, k + 1 for the k-th thing that can be drawn."""

    def stamp(self) -> str:
        return hashlib.blake2b(self._facts.encode(), digest_size=16).hexdigest()

    def content(self, i: int) -> bytes:
        return self.drawn(i)[0].tobytes()

    def decode(self, content: bytes, i: int, in_channels: int | None = None) -> Array:
        size, channels = self.info.size, self.info.in_channels
        assert size is not None  # noqa: S101
        assert channels is not None  # noqa: S101
        pixels = np.frombuffer(content, np.uint8).reshape(*size, channels)
        return convert_channels(pixels.copy(), in_channels)


class _DrawnMasks(Source):
    """The masks of what a source draws."""

    def __init__(self, source: GeneratedSource) -> None:
        self.path = None
        self.info = replace(
            source.info,
            format=f"{source.info.format} masks",
            in_channels=1,
            labels="class",
            interpolate=False,
        )
        self.ids, self.targets, self.splits = source.ids, source.targets, source.splits
        self.notes = []
        self._source = source

    def stamp(self) -> str:
        facts = f"masks of {self._source.stamp()}"
        return hashlib.blake2b(facts.encode(), digest_size=16).hexdigest()

    def content(self, i: int) -> bytes:
        return self._source.drawn(i)[1].tobytes()

    def decode(self, content: bytes, i: int, in_channels: int | None = None) -> Array:
        assert self.info.size is not None  # noqa: S101
        return np.frombuffer(content, np.uint8).reshape(*self.info.size, 1).copy()


class GeneratedFormat(Format):
    """Named sets, each "NAME", "NAME:N" or "NAME:N:SIZE".

    Parameters
    ----------
    sets: number of samples and size in pixels of each set where the user states none; the
        format's own name first.
    """

    def __init__(self, sets: Mapping[str, tuple[int, int]]) -> None:
        self.sets = sets

    @abstractmethod
    def make(self, name: str, num_samples: int, size: int) -> Source:
        """The set `name`."""

    def matches(self, spec: str) -> bool:
        return spec.split(":")[0] in self.sets and not exists(expanded(spec))

    def open(self, spec: str) -> Source:
        match = _SPEC.fullmatch(spec)
        if not match or match[1] not in self.sets:
            asked, known = spec.split(":")[0], next(iter(self.sets))
            name = asked if asked in self.sets else known
            num_samples, size = self.sets[name]
            raise UserError(
                f"DATA '{spec}' is not understood; write {name}, {name}:N or {name}:N:SIZE with "
                f"whole numbers, e.g. {name}:{num_samples}:{size}"
            )
        num_samples, size = self.sets[match[1]]
        return self.make(match[1], int(match[2] or num_samples), int(match[3] or size))


def apart(
    radii: npt.NDArray[np.float64], size: int, dims: int, rng: np.random.Generator
) -> list[tuple[float, npt.NDArray[np.float64]]]:
    """Radius and centre (dims,) of balls inside a cube of side `size`, none touching another.

    Those for which no room is found are left out; the first always has room.
    """
    placed: list[tuple[float, npt.NDArray[np.float64]]] = []
    for radius in radii.tolist():
        for _ in range(_TRIES):
            centre = rng.uniform(radius, size - radius, dims)
            if all(np.hypot.reduce(centre - c) >= radius + r for r, c in placed):
                placed.append((radius, centre))
                break
    return placed
