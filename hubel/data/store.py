"""`Store`: the pixels of a source at one size, whoever keeps or makes them."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

__all__ = ["Problem", "Store"]


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
    masks: of a source with masks, their store at the same size: (n, *size, 1) uint8 classes. A
        sample is readable if both are.
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
    masks: "Store | None"

    def gather(self, indices: torch.Tensor) -> torch.Tensor:
        """Samples `indices` (b,) int64 as one tensor (b, *size, in_channels)."""
        ...
