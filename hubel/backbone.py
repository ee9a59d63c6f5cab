"""A zoo network as a backbone: its maps, without the parts that they do not need."""

import math

import torch
from torch import nn

from hubel.models import Model

__all__ = ["headless", "octave"]


def headless(model: Model, input_shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Take from `model` the parts that its maps do not need: its head, and auxiliary ones.

    The network runs once on zeros (1, *input_shape), in evaluation mode, and back: a part none
    of whose parameters gets a gradient from any map is replaced by nothing. It is left in the
    mode in which it was. Its `forward_head` is of no use afterwards.

    Returns the shapes (c, *spatial) of its maps, in their order.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    reference = next(model.parameters())
    zeros = torch.zeros(1, *input_shape, device=reference.device, dtype=reference.dtype)
    modes = [(m, m.training) for m in model.modules()]
    model.eval()
    try:
        with torch.enable_grad():
            maps = model.forward_features(zeros)
            total = torch.stack([map.sum() for map in maps]).sum()
            found = torch.autograd.grad(total, parameters, allow_unused=True)
    finally:
        for module, training in modes:
            module.training = training
    unused = {p for p, gradient in zip(parameters, found, strict=True) if gradient is None}
    _remove(model, unused)
    return [tuple(map.shape[1:]) for map in maps]


def _remove(module: nn.Module, unused: set[nn.Parameter]) -> None:
    """Put nothing in the place of each part below `module` that has `unused` parameters only."""
    for name, part in list(module.named_children()):
        own = set(part.parameters())
        if own and own <= unused:
            setattr(module, name, nn.Identity())
        else:
            _remove(part, unused)


def octave(map: tuple[int, ...], input_shape: tuple[int, ...]) -> int:
    """How often the sides of a map (c, *spatial) are half of the input's (c, *spatial).

    >>> octave((64, 31, 31), (3, 62, 62)), octave((64, 15, 23), (3, 60, 92))
    (1, 2)
    """
    ratio = math.prod(input_shape[1:]) / math.prod(map[1:])
    return round(math.log2(ratio) / (len(map) - 1))
