"""Building blocks written once for 1, 2 and 3 spatial dimensions.

torch.nn has a class for each number of dimensions; here the number is an argument, so a
network is written once and serves pictures and volumes.
"""

import torch
from torch import nn

__all__ = [
    "ChannelNorm",
    "SqueezeExcite",
    "StochasticDepth",
    "adaptive_average_pool",
    "average_pool",
    "batch_norm",
    "conv",
    "conv_norm",
    "max_pool",
    "scaled",
]

_CONV: dict[int, type[nn.Conv1d] | type[nn.Conv2d] | type[nn.Conv3d]] = {
    1: nn.Conv1d,
    2: nn.Conv2d,
    3: nn.Conv3d,
}
_MAX_POOL: dict[int, type[nn.Module]] = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
_AVERAGE_POOL: dict[int, type[nn.Module]] = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
_ADAPTIVE_AVERAGE_POOL: dict[int, type[nn.Module]] = {
    1: nn.AdaptiveAvgPool1d,
    2: nn.AdaptiveAvgPool2d,
    3: nn.AdaptiveAvgPool3d,
}
_BATCH_NORM: dict[int, type[nn.BatchNorm1d] | type[nn.BatchNorm2d] | type[nn.BatchNorm3d]] = {
    1: nn.BatchNorm1d,
    2: nn.BatchNorm2d,
    3: nn.BatchNorm3d,
}


def scaled(channels: int, width: float, multiple: int = 8) -> int:
    """`channels` · `width`, rounded to a multiple, of which there is at least one.

    As MobileNets are made wider and narrower (Sandler et al. 2018, arXiv 1801.04381, and the
    authors' code): kernels like multiples of 8, and rounding takes away no more than a tenth.
    At width 1 all is left as it is.

    >>> scaled(64, 0.5), scaled(24, 0.75), scaled(32, 1.4), scaled(6, 1.0)
    (32, 24, 48, 6)
    """
    if width == 1.0:
        return channels
    rounded = max(multiple, int(channels * width + multiple / 2) // multiple * multiple)
    return rounded if rounded >= 0.9 * channels * width else rounded + multiple


def conv(
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    bias: bool = True,
) -> nn.Module:
    """A convolution: (n, in_channels, *spatial) -> (n, out_channels, *spatial')."""
    return _CONV[spatial_dims](
        in_channels,
        out_channels,
        kernel_size,
        stride=stride,
        padding=padding,
        groups=groups,
        bias=bias,
    )


def max_pool(
    spatial_dims: int,
    kernel_size: int,
    stride: int | None = None,
    *,
    padding: int = 0,
    ceil_mode: bool = False,
) -> nn.Module:
    """Max pooling; the stride is the window unless given."""
    return _MAX_POOL[spatial_dims](kernel_size, stride, padding, ceil_mode=ceil_mode)


def average_pool(spatial_dims: int, kernel_size: int, stride: int | None = None) -> nn.Module:
    """Average pooling; the stride is the window unless given."""
    return _AVERAGE_POOL[spatial_dims](kernel_size, stride)


def adaptive_average_pool(spatial_dims: int, output_size: int) -> nn.Module:
    """Average pooling to a map of `output_size` a side, whatever the input's."""
    return _ADAPTIVE_AVERAGE_POOL[spatial_dims](output_size)


def batch_norm(
    spatial_dims: int, num_features: int, *, eps: float = 1e-5, momentum: float = 0.1
) -> nn.Module:
    """Batch normalisation over the batch and all positions of each channel."""
    return _BATCH_NORM[spatial_dims](num_features, eps=eps, momentum=momentum)


def conv_norm(
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    groups: int = 1,
    activation: nn.Module | None = None,
    eps: float = 1e-5,
    momentum: float = 0.1,
) -> nn.Sequential:
    """A convolution without bias that keeps the size / `stride`, batch norm, `activation`."""
    layers = [
        conv(
            spatial_dims,
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2,
            groups=groups,
            bias=False,
        ),
        batch_norm(spatial_dims, out_channels, eps=eps, momentum=momentum),
    ]
    return nn.Sequential(*layers, *([] if activation is None else [activation]))


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation of the channels at each position of (n, c, *spatial)."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """The same shape as `input`."""
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)


class SqueezeExcite(nn.Module):
    """Scales each channel by what the means of all of them say.

    Hu, Shen and Sun 2018, "Squeeze-and-Excitation Networks" (CVPR, arXiv 1709.01507), fig. 2:
    mean over the positions, `squeezed` values, `activation`, one factor a channel, `gate`.
    """

    def __init__(
        self,
        spatial_dims: int,
        channels: int,
        squeezed: int,
        activation: nn.Module,
        gate: nn.Module,
    ) -> None:
        super().__init__()
        self.squeeze = adaptive_average_pool(spatial_dims, 1)
        self.reduce = conv(spatial_dims, channels, squeezed, 1)
        self.activation = activation
        self.expand = conv(spatial_dims, squeezed, channels, 1)
        self.gate = gate

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(n, channels, *spatial), as `input`."""
        factors = self.expand(self.activation(self.reduce(self.squeeze(input))))
        scaled: torch.Tensor = input * self.gate(factors)
        return scaled


class StochasticDepth(nn.Module):
    """Leaves a whole branch out with probability `p`, sample by sample, while training.

    Huang et al. 2016, "Deep Networks with Stochastic Depth" (ECCV, arXiv 1603.09382), eq. 2.
    What stays is divided by 1 - p, so that its mean is the same when nothing is left out.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """`input` (n, ...), each sample either zero or divided by 1 - p."""
        if not self.training or self.p == 0.0:
            return input
        one_a_sample = (input.shape[0], *(1 for _ in input.shape[1:]))
        kept = input.new_empty(one_a_sample).bernoulli_(1 - self.p)
        return input * kept / (1 - self.p)

    def extra_repr(self) -> str:
        """What print(model) shows."""
        return f"p={self.p}"
