"""What looks at a network by one forward pass shares: the pass's setting, the kinds of layer."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["CONVS", "NORMS", "trial"]

CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@contextmanager
def trial(model: nn.Module, input_shape: tuple[int, ...]) -> Iterator[torch.Tensor]:
    """Zeros (1, *input_shape) where and as `model` has its weights; it evaluates meanwhile.

    One sample has no batch statistics. Afterwards each module trains or not as before.
    """
    reference = next(model.parameters())
    zeros = torch.zeros(1, *input_shape, device=reference.device, dtype=reference.dtype)
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield zeros
    finally:
        for module, mode in training.items():
            module.training = mode
