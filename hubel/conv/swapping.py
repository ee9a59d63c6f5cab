"""Every convolution of a network by another method."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from hubel.conv.case import ConvCase, case_of
from hubel.conv.convolve import autocast, convolve
from hubel.conv.method import METHODS
from hubel.errors import UserError
from hubel.shapes import spread_kernel

__all__ = ["Swapped", "swap"]


class Swapped(nn.modules.conv._ConvNd):
    """A convolution layer that computes by `method`; all else is torch's."""

    method: str

    def extra_repr(self) -> str:
        """torch's line, and the method."""
        known: str = super().extra_repr()  # type: ignore[no-untyped-call]
        return f"{known}, method={self.method}"

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


class Conv1d(Swapped, nn.Conv1d):
    pass


class Conv2d(Swapped, nn.Conv2d):
    pass


class Conv3d(Swapped, nn.Conv3d):
    pass


_SWAPPED: dict[type[nn.Module], type[Swapped]] = {
    nn.Conv1d: Conv1d,
    nn.Conv2d: Conv2d,
    nn.Conv3d: Conv3d,
}


def swap(model: nn.Module, method: str, *, otherwise: str | None = None) -> nn.Module:
    """Make every nn.Conv1d, 2d and 3d of `model` compute by `method`, in place.

    Layers stay the objects they were, with their weights, names and hooks; only their class
    becomes a subclass, so `state_dict` is the same and the network trains as before. Layers
    that `method` cannot do (winograd takes 3×3 kernels alone) compute by `otherwise`.
    ``swap(model, "torch")`` undoes it. Returns `model`.

    Numbers are not looked at: what is not finite passes through, and may spread further than in
    torch (winograd over a tile, fft over the picture).

    Raises `UserError` for an unknown method, a model without convolutions, a subclass of
    nn.Conv1d, 2d or 3d (it may compute in its own way), and a layer that neither method can do.
    """
    if not isinstance(model, nn.Module):
        raise UserError(f"model takes an nn.Module, got {type(model).__name__}")
    for name in (method, otherwise):
        if name is not None and name != "auto":
            METHODS[name]
    convs = tuple(_SWAPPED)
    layers = [(n, m) for n, m in model.named_modules() if isinstance(m, convs)]
    if not layers:
        raise UserError(
            f"model {type(model).__name__} has no nn.Conv1d, nn.Conv2d or nn.Conv3d to swap"
        )
    chosen = [_method_of(name, layer, method, otherwise) for name, layer in layers]
    for (_, layer), name in zip(layers, chosen, strict=True):
        swapped: Any = layer
        if not isinstance(layer, Swapped):
            swapped.__class__ = _SWAPPED[type(swapped)]
        swapped.method = name
    return model


def _method_of(name: str, layer: nn.Module, method: str, otherwise: str | None) -> str:
    """`method`, or `otherwise` where that cannot do the layer."""
    if type(layer) not in _SWAPPED and not isinstance(layer, Swapped):
        raise UserError(
            f"model's layer '{name}' is a {type(layer).__name__}, a subclass of torch's "
            f"convolution that may compute in its own way; swap takes nn.Conv1d, nn.Conv2d "
            f"and nn.Conv3d (run a lazy layer once, replace others)"
        )
    why = _limits(layer, method)
    if why is None:
        return method
    if otherwise is not None and _limits(layer, otherwise) is None:
        return otherwise
    raise UserError(
        f"model's layer '{name}': method '{method}' {why}; give another method for such layers: "
        f"swap(model, '{method}', otherwise='auto')"
    )


def _limits(layer: Any, method: str) -> str | None:
    """What the method says of this layer on the smallest input that fits it."""
    if method == "auto":
        return None
    spans = zip(layer.kernel_size, layer.dilation, strict=True)
    case = ConvCase.of(
        1,
        layer.in_channels,
        layer.out_channels,
        tuple(spread_kernel(k, d) for k, d in spans),
        layer.kernel_size,
        stride=layer.stride,
        dilation=layer.dilation,
        groups=layer.groups,
    )
    return METHODS[method].limits(case)
