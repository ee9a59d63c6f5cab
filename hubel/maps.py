"""The maps that a backbone gives a task: their channels and strides, found by looking."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from hubel.models import Model

__all__ = ["MapShape", "map_shapes", "nearest_stride"]


@dataclass(frozen=True)
class MapShape:
    """One of the maps of `Model.forward_features`.

    Attributes
    ----------
    index: its place in the list.
    channels: of the map.
    size: its spatial size for the input looked with.
    stride: pixels of the input's last axis to one of the map's, as a real number: a padded or
        whitened map has not quite a power of two.
    """

    index: int
    channels: int
    size: tuple[int, ...]
    stride: float


def map_shapes(model: Model, input_shape: tuple[int, ...]) -> list[MapShape]:
    """Of the maps for one input (c, *spatial), without those of a single place, finest first.

    The network runs once on zeros, in evaluation mode, and is left as it was.
    """
    reference = next(model.parameters())
    zeros = torch.zeros(1, *input_shape, device=reference.device, dtype=reference.dtype)
    modes: list[tuple[nn.Module, bool]] = [(m, m.training) for m in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            maps = model.forward_features(zeros)
    finally:
        for module, training in modes:
            module.training = training
    return [
        MapShape(i, map.shape[1], tuple(map.shape[2:]), input_shape[-1] / map.shape[-1])
        for i, map in enumerate(maps)
        if map.ndim == zeros.ndim and max(map.shape[2:]) > 1
    ]


def nearest_stride(shapes: Sequence[MapShape], stride: float) -> MapShape:
    """The map whose stride is nearest to `stride`, by ratio; of equal ones the deepest."""
    return min(reversed(shapes), key=lambda s: round(max(s.stride / stride, stride / s.stride), 3))
