"""One function for every way to compute a convolution."""

import torch
from torch import Tensor

from hubel.conv.case import ConvCase, case_of
from hubel.conv.choose import choose_method
from hubel.conv.method import METHODS
from hubel.errors import UserError
from hubel.shapes import Padding, PerDim

__all__ = ["autocast", "conv", "convolve", "refusal"]


def conv(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: PerDim = 1,
    padding: Padding = 0,
    dilation: PerDim = 1,
    groups: int = 1,
    method: str = "auto",
) -> Tensor:
    """Convolution (cross-correlation, as in every network) by the method of your choice.

    Parameters
    ----------
    input: (n, in_channels, *spatial), 1 to 3 spatial dimensions, floating-point, finite.
    weight: (out_channels, in_channels / groups, *kernel_size), dtype and device of `input`.
    bias: (out_channels,) or None.
    stride, dilation: an int, or one for each spatial dimension.
    padding: zeros on both sides: an int, one for each dimension, a (low, high) pair for each,
        'same' (stride 1 keeps the size; the odd pixel high) or 'valid' (none).
    method: a name of `hubel.conv.METHODS`, or 'auto' for the fastest known one
        (`hubel.conv.choose`).

    Returns (n, out_channels, *output_size); the memory order is the method's choice.

    Raises `UserError` (a `ValueError`) for shapes that do not fit, mixed dtypes or devices,
    numbers that are not finite, and for what the method cannot do. Of torch.func's transforms
    only those of method 'torch' are torch's.
    """
    for name, tensor in (("input", input), ("weight", weight), ("bias", bias)):
        if tensor is None and name == "bias":
            continue
        if not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
            got = f"{tensor.layout} one" if isinstance(tensor, Tensor) else type(tensor).__name__
            raise UserError(f"{name} takes a dense tensor, got {got}; convert it")
    input, weight, bias = autocast(input, weight, bias)
    case = case_of(
        input, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups
    )
    for name, tensor in (("input", input), ("weight", weight), ("bias", bias)):
        if tensor is not None:
            _require_finite(name, tensor)
    return convolve(input, weight, bias, case, method)


def refusal(method: str, case: ConvCase, input: Tensor) -> str | None:
    """Why `method` cannot compute `case` for this input, or None."""
    chosen = METHODS[method]
    if chosen.devices is not None and input.device.type not in chosen.devices:
        return f"runs on {' and '.join(chosen.devices)} only, got {input.device}"
    if chosen.dtypes is not None and input.dtype not in chosen.dtypes:
        return f"takes {', '.join(map(str, chosen.dtypes))}, got {input.dtype}"
    return chosen.limits(case)


def autocast(
    input: Tensor, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """What torch.autocast makes of a convolution's tensors where it is on; it leaves float64."""
    device = input.device.type
    if (
        not torch.amp.is_autocast_available(device)
        or not torch.is_autocast_enabled(device)
        or input.dtype == torch.float64
    ):
        return input, weight, bias
    dtype = torch.get_autocast_dtype(device)
    return input.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)


def _require_finite(name: str, tensor: Tensor) -> None:
    if tensor.is_meta:
        return  # shapes without numbers
    # One pass without a copy: a NaN or an infinity is always among the extremes.
    low, high = torch.aminmax(tensor.detach())
    if not (torch.isfinite(low) and torch.isfinite(high)):
        place = tuple(int(i) for i in (~torch.isfinite(tensor)).nonzero()[0])
        raise UserError(
            f"{name} must hold finite numbers, got {tensor[place].item()} at {place}; replace it "
            f"(torch.nan_to_num) or find where it arose"
        )


def convolve(
    input: Tensor, weight: Tensor, bias: Tensor | None, case: ConvCase, method: str = "auto"
) -> Tensor:
    """`conv` for a case that was checked already; numbers are not looked at."""
    name = choose_method(case, input.dtype, input.device.type) if method == "auto" else method
    why = refusal(name, case, input)
    if why is not None:
        raise UserError(
            f"method '{name}' {why}; method 'auto' or 'implicit' takes every convolution"
        )
    return METHODS[name].apply(input, weight, bias, case)
