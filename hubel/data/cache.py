"""Decode once: a memory-mapped cache of every sample's pixels at one size.

Contract (see `Store`); implementation follows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from hubel.data.source import Source

__all__ = ["Problem", "Progress", "Store", "open_store"]

Progress = Callable[[str, int, int], None]
"""progress(what, done, total): called now and then from the building process."""


@dataclass(frozen=True)
class Problem:
    """One sample that could not be read, and why."""

    id: str
    reason: str


class Store(Protocol):
    """The pixels of a source at one size, by sample index.

    Attributes
    ----------
    size: spatial size of every stored sample, e.g. (32, 32).
    in_channels: channels of every stored sample (1 or 3 for pictures).
    pixels: (n, *size, in_channels) tensor backed by a memory map (uint8, or float32 for
        float arrays), or None when streaming. Rows of unreadable samples are zero.
    readable: bool (n,), False where the sample could not be decoded.
    problems: one entry for each unreadable sample.
    digests: bytes (n,) dtype S32: hex blake2b-128 of the stored bytes; b"" if unreadable.
    sizes: int32 (n, spatial_dims): the sample's own spatial size; 0 if unreadable.
    channels: uint8 (n,): the sample's own channels as decoded; 0 if unreadable.
    fingerprint: hex digest of the whole data set's content (ids, targets, digests).
    notes: sentences for the user ("1 of 90 pictures has another size: stored at 32×32").
    """

    size: tuple[int, ...]
    in_channels: int
    pixels: torch.Tensor | None
    readable: npt.NDArray[np.bool_]
    problems: list[Problem]
    digests: npt.NDArray[np.bytes_]
    sizes: npt.NDArray[np.int32]
    channels: npt.NDArray[np.uint8]
    fingerprint: str
    notes: list[str]

    def gather(self, indices: torch.Tensor) -> torch.Tensor:
        """Samples `indices` (b,) int64 as one tensor (b, *size, in_channels)."""
        ...


def open_store(
    source: Source,
    *,
    size: tuple[int, ...] | None = None,
    cache: bool = True,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> Store:
    """Open the cache of `source`, building it first if it is not there."""
    raise NotImplementedError
