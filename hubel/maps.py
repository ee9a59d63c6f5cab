"""The maps that a backbone gives a task: their channels and strides, found by looking; and maps
brought to another size, where of each place the likeliest class may be taken.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from hubel.errors import UserError
from hubel.models import Model
from hubel.shapes import format_shape
from hubel.trial import trial

__all__ = ["MapShape", "likeliest", "map_shapes", "nearest_stride", "resized", "without_head"]

_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}
_MOST_VALUES = 1 << 26
"""Of maps that are brought to a larger size at once: 256 MiB."""


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

    The network runs once on zeros, in evaluation mode, and is left as it was. Raises `UserError`
    where there is none.
    """
    with trial(model, input_shape) as zeros, torch.no_grad():
        maps = model.forward_features(zeros)
    shapes = [
        MapShape(i, map.shape[1], tuple(map.shape[2:]), input_shape[-1] / map.shape[-1])
        for i, map in enumerate(maps)
        if map.ndim == zeros.ndim and max(map.shape[2:]) > 1
    ]
    if not shapes:
        raise UserError(
            f"this network has no map of more than one place for an input of "
            f"{format_shape(*input_shape[1:])}, and where things are is read off maps; enlarge it "
            f"with --img-size, or take another --model"
        )
    return shapes


def without_head(model: Model, input_shape: tuple[int, ...]) -> Model:
    """`model`, its parts that no map depends on replaced by nothing: a VGG's dense layers are nine
    tenths of it, and what never learns should not be kept.

    A part is a module whose parameters all have no influence on the maps for one input
    (c, *spatial).
    """
    frozen = [p for p in model.parameters() if not p.requires_grad]
    for parameter in frozen:  # the graph knows only what could learn
        parameter.requires_grad_(True)
    try:
        with torch.enable_grad(), trial(model, input_shape) as input:
            used = _parameters_behind(model.forward_features(input.requires_grad_()))
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
    for parent in list(model.modules()):
        for name, part in list(parent.named_children()):
            own = list(part.parameters())
            if own and not any(id(p) in used for p in own):
                setattr(parent, name, nn.Identity())
    return model


def _parameters_behind(maps: Sequence[torch.Tensor]) -> set[int]:
    """Identities of the parameters that `maps` were made with, by the graph autograd recorded."""
    found, seen = set(), set()
    waiting: list[Any] = [map.grad_fn for map in maps]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        waiting += [behind for behind, _ in node.next_functions]
    return found


def nearest_stride(shapes: Sequence[MapShape], stride: float) -> MapShape:
    """The map whose stride is nearest to `stride`, by ratio; of equal ones the deepest."""
    return min(reversed(shapes), key=lambda s: round(max(s.stride / stride, stride / s.stride), 3))


def resized(maps: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    """Maps (n, c, *any) at (n, c, *size), by linear interpolation between the centres of places;
    those of that size as they are.
    """
    if tuple(maps.shape[2:]) == size:
        return maps
    return F.interpolate(maps, size, mode=_LINEAR[len(size)], align_corners=False)


def likeliest(maps: torch.Tensor, size: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """The likeliest class (*size) of each pixel from one picture's maps (num_classes, *any).

    Of a large picture the enlarged maps are made in bands along the first axis.
    """
    row = len(maps) * math.prod(size[1:])
    if tuple(maps.shape[1:]) == size or row * size[0] <= _MOST_VALUES:
        return _largest(resized(maps[None].float(), size)[0])
    found = np.empty(size, np.uint8)
    done = 0
    for band in _bands(maps, size, max(1, _MOST_VALUES // row)):
        found[done : done + band.shape[1]] = _largest(band)
        done += band.shape[1]
    return found


def _largest(maps: torch.Tensor) -> npt.NDArray[np.uint8]:
    return maps.argmax(0).to(torch.uint8).cpu().numpy()


def _bands(maps: torch.Tensor, size: tuple[int, ...], height: int) -> Iterator[torch.Tensor]:
    """`maps` (num_classes, *any) at `size`, at most `height` rows of the first axis at a time.

    Linear interpolation is one along each axis after the other: along the first between two rows,
    whose places follow from the row's own, along the rest by `resized`, with rows for channels.
    """
    length = maps.shape[1]
    for start in range(0, size[0], height):
        rows = torch.arange(start, min(start + height, size[0]), dtype=torch.float64)
        place = ((rows + 0.5) * length / size[0] - 0.5).clamp(0, length - 1).to(maps.device)
        before = place.long()
        after = (before + 1).clamp_max(length - 1)
        share = (place - before).float().view(-1, *[1] * (len(size) - 1))
        yield resized(torch.lerp(maps[:, before].float(), maps[:, after].float(), share), size[1:])
