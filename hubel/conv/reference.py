"""The operations of a convolutional network as their definitions: slow, clear, and the oracle.

Everything is plain differentiable torch in any floating dtype, in 1, 2 or 3 spatial dimensions
by one code path, and every formula is written for one dimension; further ones repeat it. All
maps are (n, channels, *spatial). Letters: output position o, kernel tap t, stride s, dilation
d, padding p. Sources, cited by their authors below:

Dumoulin & Visin 2016, "A guide to convolution arithmetic for deep learning", arXiv 1603.07285.
Krizhevsky, Sutskever & Hinton 2012, "ImageNet classification with deep convolutional neural
networks", NIPS 25. Ioffe & Szegedy 2015, "Batch normalization", arXiv 1502.03167.
He et al. 2014, "Spatial pyramid pooling", arXiv 1406.4729. He et al. 2015, "Deep residual
learning for image recognition", arXiv 1512.03385.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hubel.conv.case import case_of
from hubel.errors import UserError
from hubel.shapes import (
    Padding,
    PerDim,
    check_groups,
    format_shape,
    pad_sides,
    per_dim,
    pooled_size,
    require_at_least,
    spread_kernel,
    transposed_size,
)

__all__ = [
    "BatchNormState",
    "adaptive_average_pool",
    "adaptive_max_pool",
    "average_pool",
    "batch_norm_inference",
    "batch_norm_training",
    "convolution",
    "local_response_norm",
    "max_pool",
    "relu",
    "residual",
    "transposed_convolution",
]

Sides = Sequence[tuple[int, int]]
Ints = tuple[int, ...]


def _spatial_size(input: Tensor) -> Ints:
    """(*spatial) of a map (n, channels, *spatial), checked."""
    if not 3 <= input.dim() <= 5:
        raise UserError(
            f"input takes (n, channels, *spatial) with 1 to 3 spatial dimensions, got shape "
            f"{tuple(input.shape)}; a single picture needs its batch axis: input[None]"
        )
    if not input.dtype.is_floating_point:
        raise UserError(
            f"input takes real floating-point numbers, got {input.dtype}; convert it: input.float()"
        )
    require_at_least("input size", input.shape, 1)
    return tuple(input.shape[2:])


def _check_like(name: str, tensor: Tensor | None, input: Tensor) -> None:
    if tensor is not None and (tensor.dtype, tensor.device) != (input.dtype, input.device):
        raise UserError(
            f"{name} is {tensor.dtype} on {tensor.device} and input {input.dtype} on "
            f"{input.device}; they must be the same: {name}.to(input)"
        )


def _check_per_channel(name: str, tensor: Tensor | None, input: Tensor, channels: int) -> None:
    _check_like(name, tensor, input)
    if tensor is not None and tensor.shape != (channels,):
        raise UserError(
            f"{name} takes one number for each of the {channels} channels, got shape "
            f"{tuple(tensor.shape)}"
        )


def _per_channel(values: Tensor, input: Tensor) -> Tensor:
    """(channels,) as (channels, 1, ...), to meet (n, channels, *spatial)."""
    return values.reshape(-1, *[1] * (input.dim() - 2))


def _padded(input: Tensor, sides: Sides, value: float = 0.0) -> Tensor:
    # F.pad counts from the last dimension.
    return F.pad(input, [side for pair in reversed(sides) for side in pair], value=value)


def _windows(input: Tensor, output: Ints, kernel: Ints, stride: Ints, dilation: Ints) -> Tensor:
    """(n, c, *output, taps): window o holds the pixels o·s + t·d of each dimension."""
    for axis, (o, k, s, d) in enumerate(zip(output, kernel, stride, dilation, strict=True)):
        pixels = (
            s * torch.arange(o, device=input.device)[:, None]
            + d * torch.arange(k, device=input.device)[None, :]
        )
        at = 2 + 2 * axis  # the axes before this one have become two each
        input = input.index_select(at, pixels.flatten()).unflatten(at, (o, k))
    dims = len(output)
    positions, taps = range(2, 2 + 2 * dims, 2), range(3, 3 + 2 * dims, 2)
    return input.permute(0, 1, *positions, *taps).flatten(2 + dims)


def convolution(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: PerDim = 1,
    padding: Padding = 0,
    dilation: PerDim = 1,
    groups: int = 1,
    flip: bool = False,
) -> Tensor:
    """y[n, k, o] = b[k] + Σ_c Σ_t x[n, c, o·s + t·d − p] · w[k, c, t].

    This is the cross-correlation that deep learning calls convolution (Dumoulin & Visin 2016,
    section 1.1 and chapter 2); x is zero outside the input. With `flip` it is the
    mathematician's: tap t reads the kernel from its other end, w[k, c, K − 1 − t] (for stride
    1 and a pad of K − 1, Σ_t x[o − t] w[t]). With `groups` output channel k sees only the
    input channels of its own group.

    Shapes: input (n, in_channels, *size), weight (out_channels, in_channels / groups,
    *kernel_size), bias (out_channels,). Returns (n, out_channels, *output_size). `UserError` for
    what `hubel.conv.case.case_of` refuses.
    """
    case = case_of(
        input, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups
    )
    windows = _windows(
        _padded(input, case.padding), case.output_size, case.kernel_size, case.stride, case.dilation
    ).unflatten(1, (groups, -1))
    if flip:
        weight = weight.flip(tuple(range(2, weight.dim())))
    kernels = weight.flatten(2).unflatten(0, (groups, -1))
    output = torch.einsum("ngc...t,gkct->ngk...", windows, kernels).flatten(1, 2)
    return output if bias is None else output + _per_channel(bias, input)


def transposed_convolution(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: PerDim = 1,
    padding: Padding = 0,
    output_padding: PerDim = 0,
    dilation: PerDim = 1,
    groups: int = 1,
) -> Tensor:
    """y[n, k, i·s + t·d − p] += x[n, c, i] · w[c, k, t] over all c, i, t; then + b[k].

    Each input pixel stamps the kernel, weighted, onto the output: what a convolution's gradient
    does to its input (Dumoulin & Visin 2016, chapter 4). `padding` is that of the convolution
    which this one transposes, so it takes away from the output; `output_padding` adds pixels at
    the end, where only the bias may reach (section 4.5).

    Shapes: input (n, in_channels, *size), weight (in_channels, out_channels / groups,
    *kernel_size). Returns (n, out_channels, *size) of `hubel.shapes.transposed_size`.
    """
    size = _spatial_size(input)
    if weight.dim() != input.dim():
        raise UserError(
            f"weight takes (in_channels, out_channels / groups, *kernel_size) with as many "
            f"dimensions as input ({input.dim()}), got shape {tuple(weight.shape)}"
        )
    _check_like("weight", weight, input)
    if weight.shape[0] != input.shape[1]:
        raise UserError(
            f"weight of shape {tuple(weight.shape)} takes {weight.shape[0]} input channels, "
            f"input {format_shape(*input.shape)} has {input.shape[1]}; weight.shape[0] must be "
            f"in_channels"
        )
    out_channels = weight.shape[1] * groups
    check_groups(input.shape[1], out_channels, groups)
    _check_per_channel("bias", bias, input, out_channels)
    kernel = tuple(weight.shape[2:])
    output_size = transposed_size(
        size,
        kernel,
        stride=stride,
        padding=padding,
        output_padding=output_padding,
        dilation=dilation,
    )
    strides, dilations = per_dim(stride, len(size)), per_dim(dilation, len(size))
    sides = pad_sides(padding, kernel)

    inputs = input.unflatten(1, (groups, -1))
    kernels = weight.flatten(2).unflatten(0, (groups, -1))
    room = (low + o + high for o, (low, high) in zip(output_size, sides, strict=True))
    padded = input.new_zeros(input.shape[0], groups, weight.shape[1], *room)
    for number, tap in enumerate(itertools.product(*map(range, kernel))):
        reached = tuple(
            slice(t * d, t * d + (i - 1) * s + 1, s)
            for t, d, i, s in zip(tap, dilations, size, strides, strict=True)
        )
        stamps = torch.einsum("ngc...,gck->ngk...", inputs, kernels[..., number])
        padded[(slice(None),) * 3 + reached] += stamps
    crop = tuple(slice(low, low + o) for o, (low, _) in zip(output_size, sides, strict=True))
    output = padded.flatten(1, 2)[(slice(None),) * 2 + crop]
    return output if bias is None else output + _per_channel(bias, input)


def _pool_windows(
    input: Tensor,
    kernel_size: PerDim,
    stride: PerDim | None,
    padding: PerDim,
    dilation: PerDim,
    ceil_mode: bool,
    *,
    around: float,
    beyond: float,
) -> Tensor:
    """(n, c, *output_size, taps): `around` in the padding, `beyond` where windows overhang it."""
    size = _spatial_size(input)
    dims = len(size)
    output = pooled_size(
        size, kernel_size, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode
    )
    kernels, dilations = per_dim(kernel_size, dims), per_dim(dilation, dims)
    strides = kernels if stride is None else per_dim(stride, dims)
    padded = _padded(input, [(p, p) for p in per_dim(padding, dims)], around)
    ends = (
        (o - 1) * s + spread_kernel(k, d)
        for o, s, k, d in zip(output, strides, kernels, dilations, strict=True)
    )
    overhang = [(0, max(0, end - i)) for end, i in zip(ends, padded.shape[2:], strict=True)]
    return _windows(_padded(padded, overhang, beyond), output, kernels, strides, dilations)


def _largest(windows: Tensor) -> Tensor:
    """Of the last axis; the gradient goes to the first of several, in the order of the taps."""
    return windows.gather(-1, windows.argmax(-1, keepdim=True)).squeeze(-1)


def max_pool(
    input: Tensor,
    kernel_size: PerDim,
    *,
    stride: PerDim | None = None,
    padding: PerDim = 0,
    dilation: PerDim = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """y[n, c, o] = max_t x[n, c, o·s + t·d − p]; x is −∞ outside the input.

    Dumoulin & Visin 2016, section 1.2 and chapter 3. The stride is the window unless given. Of
    several largest pixels the first gets the gradient. Returns (n, c, *size) of
    `hubel.shapes.pooled_size`, which says what `ceil_mode` does and what is refused.
    """
    inf = math.inf
    return _largest(
        _pool_windows(
            input, kernel_size, stride, padding, dilation, ceil_mode, around=-inf, beyond=-inf
        )
    )


def average_pool(
    input: Tensor,
    kernel_size: PerDim,
    *,
    stride: PerDim | None = None,
    padding: PerDim = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """y[n, c, o] = Σ_t x[n, c, o·s + t − p] / (number of pixels counted); x is 0 outside.

    Dumoulin & Visin 2016, section 1.2 and chapter 3. Counted are the window's input pixels and,
    with `count_include_pad`, those of the padding; never what hangs over it in `ceil_mode`. The
    stride is the window unless given. Returns (n, c, *size) of `hubel.shapes.pooled_size`.
    """

    def sums(map: Tensor, around: float) -> Tensor:
        return _pool_windows(
            map, kernel_size, stride, padding, 1, ceil_mode, around=around, beyond=0.0
        ).sum(-1)

    counts = sums(torch.ones_like(input), around=float(count_include_pad))
    return sums(input, around=0.0) / counts


def _in_bins(input: Tensor, output_size: PerDim, reduce: Callable[[Tensor], Tensor]) -> Tensor:
    """`reduce` of the pixels (n, c, taps) of each adaptive bin: (n, c, *output_size)."""
    size = _spatial_size(input)
    output = per_dim(output_size, len(size), "output_size")
    require_at_least("output_size", output, 1)
    edges = [
        [slice(b * i // o, -(-(b + 1) * i // o)) for b in range(o)]
        for i, o in zip(size, output, strict=True)
    ]
    bins = (input[(slice(None),) * 2 + each].flatten(2) for each in itertools.product(*edges))
    return torch.stack([reduce(pixels) for pixels in bins], -1).reshape(*input.shape[:2], *output)


def adaptive_max_pool(input: Tensor, output_size: PerDim) -> Tensor:
    """y[n, c, o] = max of x[n, c, ⌊o·I/O⌋ … ⌈(o+1)·I/O⌉ − 1], I pixels in O bins.

    Bins of He et al. 2014 ("Implementation of pooling bins"): they cover every pixel, and
    overlap where O does not divide I. Returns (n, c, *output_size).
    """
    return _in_bins(input, output_size, _largest)


def adaptive_average_pool(input: Tensor, output_size: PerDim) -> Tensor:
    """y[n, c, o] = mean of x[n, c, ⌊o·I/O⌋ … ⌈(o+1)·I/O⌉ − 1]; bins as in `adaptive_max_pool`.

    With one bin it is global average pooling. Returns (n, c, *output_size).
    """
    return _in_bins(input, output_size, lambda pixels: pixels.mean(-1))


def relu(input: Tensor) -> Tensor:
    """max(x, 0) (Krizhevsky et al. 2012, section 3.1), of any shape; its slope at 0 is 0."""
    return torch.where(input <= 0, torch.zeros_like(input), input)


def local_response_norm(
    input: Tensor, size: int, *, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """y[n, c] = x[n, c] / (k + alpha/size · Σ_j x[n, j]²)^beta, j from c − ⌊size/2⌋ on, size many.

    Channels that do not exist count as zero. This is torch's formula. Krizhevsky et al. 2012,
    section 3.3, do not divide alpha by the size, and their window c − size/2 … c + size/2 is
    symmetric (an even size makes size + 1 channels of it; here the odd one lies below). With
    the paper's size 5, alpha 1e-4, beta 0.75, k 2, write ``size=5, alpha=5e-4, k=2``.

    Shape (n, channels, *spatial), kept.
    """
    _spatial_size(input)
    require_at_least("size", per_dim(size, 1, "size"), 1)
    channels = input.shape[1]
    sums = [
        input[:, max(0, c - size // 2) : c + (size - 1) // 2 + 1].square().sum(1)
        for c in range(channels)
    ]
    return input / (k + alpha / size * torch.stack(sums, 1)) ** beta


@dataclass(frozen=True)
class BatchNormState:
    """The running estimates of batch normalisation, each (channels,).

    `mean` and `variance` estimate the moments of all training data: `variance` is therefore
    the unbiased one, m/(m − 1) times what a batch of m values measures of itself.
    """

    mean: Tensor
    variance: Tensor

    def check(self, input: Tensor) -> None:
        """`UserError` unless these are of the channels, dtype and device of `input`."""
        _spatial_size(input)
        _check_per_channel("state.mean", self.mean, input, input.shape[1])
        _check_per_channel("state.variance", self.variance, input, input.shape[1])

    @classmethod
    def initial(cls, input: Tensor) -> "BatchNormState":
        """Before the first batch: mean 0 and variance 1 for each channel of `input`."""
        _spatial_size(input)
        zeros = torch.zeros(input.shape[1], dtype=input.dtype, device=input.device)
        return cls(zeros, zeros + 1)


def batch_norm_training(
    input: Tensor,
    state: BatchNormState,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Tensor, BatchNormState]:
    """y = γ·(x − μ)/√(σ² + eps) + β with the batch's own μ and σ²; and the estimates after it.

    Ioffe & Szegedy 2015, algorithm 1, for maps as in their section 3.2: a channel's m values
    are those of all samples and pixels. Two variances, told apart:

    - the *biased* σ² = Σ(x − μ)²/m normalises, so that the batch has variance 1;
    - the *unbiased* m/(m − 1)·σ² goes into the running estimate (algorithm 2, line 10).

    The estimates are exponential averages, new = (1 − momentum)·old + momentum·batch (torch's
    momentum; section 3.1), and carry no gradient. Returns (output of input's shape, new state);
    `state` itself is not changed.
    """
    state.check(input)
    if not 0 <= momentum <= 1:
        raise UserError(
            f"momentum must lie between 0 and 1 (the share of the new batch), got {momentum}"
        )
    count = input.numel() // input.shape[1]
    if count == 1:
        raise UserError(
            f"batch_norm_training needs more than one value a channel (one has no variance), got "
            f"input {format_shape(*input.shape)}; give more samples or use batch_norm_inference"
        )
    values = input.transpose(0, 1).flatten(1)  # (channels, m)
    mean = values.mean(1)
    biased = (values - mean[:, None]).square().mean(1)
    unbiased = biased * count / (count - 1)
    after = BatchNormState(
        (1 - momentum) * state.mean + momentum * mean.detach(),
        (1 - momentum) * state.variance + momentum * unbiased.detach(),
    )
    # What inference does with the estimates, training does with the batch's own moments.
    return batch_norm_inference(input, BatchNormState(mean, biased), weight, bias, eps=eps), after


def batch_norm_inference(
    input: Tensor,
    state: BatchNormState,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    eps: float = 1e-5,
) -> Tensor:
    """y = γ·(x − E[x])/√(Var[x] + eps) + β with the running estimates, which stay as they are.

    A fixed scale and shift a channel, the same for every batch (Ioffe & Szegedy 2015,
    algorithm 2, line 11). Shape (n, channels, *spatial), kept.
    """
    state.check(input)
    for name, tensor in (("weight", weight), ("bias", bias)):
        _check_per_channel(name, tensor, input, input.shape[1])
    if not eps > 0:
        raise UserError(f"eps must be above 0 (it keeps the divisor from being 0), got {eps}")
    spread = (_per_channel(state.variance, input) + eps).sqrt()
    output = (input - _per_channel(state.mean, input)) / spread
    if weight is not None:
        output = output * _per_channel(weight, input)
    return output if bias is None else output + _per_channel(bias, input)


def residual(input: Tensor, branch: Tensor) -> Tensor:
    """y = F(x) + x: a block's `branch` F(x) and its `input` x, of one shape, are added.

    He et al. 2015, section 3.2, equation 1. Nothing is broadcast.
    """
    _check_like("branch", branch, input)
    if input.shape != branch.shape:
        raise UserError(
            f"branch must have the shape of input, got branch {format_shape(*branch.shape)} and "
            f"input {format_shape(*input.shape)}; where a block changes channels or size, give "
            f"the input through a 1×1 convolution with the block's stride"
        )
    return branch + input
