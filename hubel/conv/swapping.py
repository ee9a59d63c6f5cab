"""Every convolution of a network by another method."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from hubel.conv.case import case_of
from hubel.conv.convolve import autocast, convolve
from hubel.conv.method import METHODS
from hubel.errors import UserError

__all__ = ["Swapped", "swap"]


class Swapped(nn.modules.conv._ConvNd):
    """A convolution layer that computes by `method`; all else is torch's."""

    method: str

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        padding = self.padding
        if self.padding_mode != "zeros":
            input = F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
            padding = "valid"
        input, weight, bias = autocast(input, weight, bias)
        single = input.dim() == weight.dim() - 1  # one sample without its batch axis
        batch = input.unsqueeze(0) if single else input
        case = case_of(
            batch,
            weight,
            bias,
            stride=self.stride,
            padding=padding,  # type: ignore[arg-type]
            dilation=self.dilation,
            groups=self.groups,
        )
        output = convolve(batch, weight, bias, case, self.method)
        return output.squeeze(0) if single else output


class _Conv1d(Swapped, nn.Conv1d):
    pass


class _Conv2d(Swapped, nn.Conv2d):
    pass


class _Conv3d(Swapped, nn.Conv3d):
    pass


_SWAPPED: dict[type[nn.Module], type[Swapped]] = {
    nn.Conv1d: _Conv1d,
    nn.Conv2d: _Conv2d,
    nn.Conv3d: _Conv3d,
}


def swap(model: nn.Module, method: str) -> nn.Module:
    """Make every nn.Conv1d, 2d and 3d of `model` compute by `method`, in place.

    Layers stay the objects they were, with their weights, names and hooks; only their class
    becomes a subclass, so `state_dict` is the same and the network trains as before. Numbers
    are not looked at: what is not finite passes through, and may spread further than in torch
    (winograd over a tile, fft over the picture). Returns `model`.

    Raises `UserError` for an unknown method, a model without convolutions, and a subclass of
    nn.Conv1d, 2d or 3d (it may compute in its own way). What the method cannot do is told when
    the network runs.
    """
    if method != "auto":
        METHODS[method]
    layers = [(n, m) for n, m in model.named_modules() if isinstance(m, tuple(_SWAPPED))]
    if not layers:
        raise UserError(
            f"model {type(model).__name__} has no nn.Conv1d, nn.Conv2d or nn.Conv3d to swap"
        )
    for name, layer in layers:
        if type(layer) not in _SWAPPED and not isinstance(layer, Swapped):
            raise UserError(
                f"model's layer '{name}' is a {type(layer).__name__}, a subclass of torch's "
                f"convolution that may compute in its own way; swap takes nn.Conv1d, nn.Conv2d "
                f"and nn.Conv3d (run a lazy layer once, replace others)"
            )
    for _, layer in layers:
        swapped: Any = layer
        if not isinstance(layer, Swapped):
            swapped.__class__ = _SWAPPED[type(swapped)]
        swapped.method = method
    return model
