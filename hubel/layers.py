"""Building blocks written once for 1, 2 and 3 spatial dimensions.

torch.nn has a class for each number of dimensions; here the number is an argument, so a
network is written once and serves pictures and volumes.
"""

from torch import nn

__all__ = ["adaptive_average_pool", "average_pool", "batch_norm", "conv", "max_pool"]

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
