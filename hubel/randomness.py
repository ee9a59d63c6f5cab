"""Randomness as a function: each stream is named, none depends on what ran before.

A stream is named by the seed and what it is for (the epoch, "order", "augment", …), so
neither the number of workers nor the point where a run was resumed can change a draw.
"""

import hashlib

import torch

__all__ = ["generator", "stream_seed"]


def stream_seed(seed: int, *scope: int | str) -> int:
    """A 63-bit seed for the stream that `seed` and `scope` name."""
    text = "/".join(str(part) for part in (seed, *scope))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


def generator(seed: int, *scope: int | str) -> torch.Generator:
    """A fresh CPU generator at the start of the stream that `seed` and `scope` name."""
    return torch.Generator().manual_seed(stream_seed(seed, *scope))
