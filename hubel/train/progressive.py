"""Progressive resizing: smaller pictures at first, whole ones at the end.

Howard 2018 (fast.ai's DAWNBench entry), in FFCV's ImageNet recipe (Leclerc et al. 2023, CVPR,
arXiv 2306.12517, section 5.2). What a network learns first it also sees in fewer pixels, at a
cost that falls with their square. The side is a function of the share of training that is
done, so a resumed run goes on with the size that an uninterrupted one has; it grows in eighths,
so that only a few shapes occur.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from hubel.trial import trial

__all__ = ["SMALLEST_SIDE", "Progressive", "takes_smaller"]

SMALLEST_SIDE = 64
"""Below this side in pixels a picture has none to spare."""

_WHOLE_AT = 0.75
"""The share of training after which pictures are whole."""


@dataclass(frozen=True)
class Progressive:
    """Sides grow from `start` (a share) to 1 over the first three quarters of training."""

    start: float

    def share(self, done: float) -> float:
        """The share of each side when `done` of training is over: a number of eighths."""
        grown = self.start + (1 - self.start) * min(done / _WHOLE_AT, 1.0)
        return min(math.floor(grown * 8 + 1e-9), 8) / 8

    def size(self, whole: tuple[int, ...], done: float) -> tuple[int, ...]:
        """The spatial size of training input whose whole size is `whole`."""
        share = self.share(done)
        return tuple(max(1, round(side * share)) for side in whole)

    def __call__(self, input: torch.Tensor, done: float) -> torch.Tensor:
        """`input` (n, c, *spatial) at the size of the moment, in its memory order."""
        size = self.size(tuple(input.shape[2:]), done)
        if size == tuple(input.shape[2:]):
            return input
        if input.ndim == 4:
            return F.interpolate(input, size, mode="bilinear", antialias=True)
        return F.interpolate(input, size, mode="area")


def takes_smaller(model: nn.Module, input_shape: tuple[int, ...], start: float) -> bool:
    """Whether `model`, made for (n, *input_shape), runs on input of `start` of that side too."""
    try:
        with trial(model, input_shape) as zeros, torch.no_grad():
            model(Progressive(start)(zeros, 0.0))
    except Exception:  # a network from elsewhere refuses in its own way: torch._assert, say
        return False
    return True
