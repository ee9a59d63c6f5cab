"""Learned weights in another shape: other channels, a depth, another grid of patches."""

import math

import torch
from torch.nn import functional as F

__all__ = ["inflated_to", "resized_positions", "with_channels"]


def with_channels(weight: torch.Tensor, in_channels: int) -> torch.Tensor:
    """Filters (o, c, *k) for another number of input channels, (o, in_channels, *k).

    The sum over the channels, which is the response to a picture that is the same in all of
    them, stays: one channel gets the sum, more than c are repeated, each filter divided by
    how often; fewer than c share the sum alike.
    """
    channels = weight.shape[1]
    if in_channels < channels:
        alike = weight.sum(1, keepdim=True) / in_channels
        return alike.expand(-1, in_channels, *(-1 for _ in weight.shape[2:])).contiguous()
    source = torch.arange(in_channels) % channels
    times = source.bincount()[source].to(weight.dtype)
    return weight[:, source] / times.view(1, -1, *(1 for _ in weight.shape[2:]))


def inflated_to(weight: torch.Tensor, depth: int) -> torch.Tensor:
    """Flat filters (..., h, w) as (..., depth, h, w), repeated and divided by `depth`."""
    return weight.unsqueeze(-3).expand(*weight.shape[:-2], depth, -1, -1) / depth


def resized_positions(embedding: torch.Tensor, grid: tuple[int, ...]) -> torch.Tensor:
    """Learnt positions (1, 1 + side², d) of a square of patches for `grid`, (1, 1 + t, d).

    The class token's stays; in a volume all slices have the same. What is of no square comes
    back as it is.
    """
    side = math.isqrt(embedding.shape[1] - 1)
    if embedding.ndim != 3 or side**2 != embedding.shape[1] - 1:
        return embedding
    flat = embedding[:, 1:].float().transpose(1, 2).unflatten(2, (side, side))  # (1, d, h, w)
    flat = F.interpolate(flat, size=grid[-2:], mode="bicubic", align_corners=False)
    slices = math.prod(grid[:-2])
    patches = flat.flatten(2).transpose(1, 2).repeat(1, slices, 1)  # slice after slice
    return torch.cat([embedding[:, :1].float(), patches], dim=1)
