"""MobileNetV3-Large (Howard et al. 2019, "Searching for MobileNetV3", ICCV, arXiv 1905.02244,
table 1).

Fifteen bottlenecks that widen a thin map, filter each channel on its own and narrow it again;
some weigh their channels by squeeze and excitation. 5,483,032 parameters, 217 M
multiply-accumulates at 224×224.

Differs from the paper where torchvision does, whose weights fit: the excitation is kept to a
quarter of the widened channels rounded to a multiple of 8 (the authors' code; the text says
a quarter), and dropout of 0.2 acts before the last layer alone. The small stem leaves out
the first two halvings: stride 8 instead of 32.
"""

from typing import Literal, NamedTuple

import torch
from torch import nn

from hubel.layers import SqueezeExcite, adaptive_average_pool, conv_norm, scaled
from hubel.models import MODELS, Architecture, Model, Stem

__all__ = ["MobileNetV3", "mobilenet_v3"]

# Batch norm as in section 6.1: the running averages keep 0.99 of their past.
_EPS = 1e-3
_MOMENTUM = 0.01


class _Row(NamedTuple):
    """A bottleneck in the columns of table 1."""

    kernel_size: int
    expanded: int
    out_channels: int
    squeeze_excite: bool
    nonlinearity: Literal["RE", "HS"]
    stride: int


_STEM = 16
_STAGES = (
    (_Row(3, 16, 16, False, "RE", 1),),
    (_Row(3, 64, 24, False, "RE", 2), _Row(3, 72, 24, False, "RE", 1)),
    (
        _Row(5, 72, 40, True, "RE", 2),
        _Row(5, 120, 40, True, "RE", 1),
        _Row(5, 120, 40, True, "RE", 1),
    ),
    (
        _Row(3, 240, 80, False, "HS", 2),
        _Row(3, 200, 80, False, "HS", 1),
        _Row(3, 184, 80, False, "HS", 1),
        _Row(3, 184, 80, False, "HS", 1),
        _Row(3, 480, 112, True, "HS", 1),
        _Row(3, 672, 112, True, "HS", 1),
    ),
    (
        _Row(5, 672, 160, True, "HS", 2),
        _Row(5, 960, 160, True, "HS", 1),
        _Row(5, 960, 160, True, "HS", 1),
    ),
)
"""Table 1, cut where the map is halved."""
_LAST = 960
_HIDDEN = 1280


class Bottleneck(nn.Module):
    """Widen 1×1, filter each channel k×k, weigh the channels, narrow 1×1 (figure 4)."""

    def __init__(self, spatial_dims: int, in_channels: int, row: _Row, stride: int) -> None:
        super().__init__()
        activation = nn.ReLU if row.nonlinearity == "RE" else nn.Hardswish
        layers: list[nn.Module] = []
        if row.expanded != in_channels:
            layers.append(
                conv_norm(
                    spatial_dims,
                    in_channels,
                    row.expanded,
                    1,
                    activation=activation(),
                    eps=_EPS,
                    momentum=_MOMENTUM,
                )
            )
        layers.append(
            conv_norm(
                spatial_dims,
                row.expanded,
                row.expanded,
                row.kernel_size,
                stride=stride,
                groups=row.expanded,
                activation=activation(),
                eps=_EPS,
                momentum=_MOMENTUM,
            )
        )
        if row.squeeze_excite:
            squeezed = scaled(row.expanded, 1 / 4)
            layers.append(
                SqueezeExcite(spatial_dims, row.expanded, squeezed, nn.ReLU(), nn.Hardsigmoid())
            )
        layers.append(
            conv_norm(spatial_dims, row.expanded, row.out_channels, 1, eps=_EPS, momentum=_MOMENTUM)
        )
        self.layers = nn.Sequential(*layers)
        self.shortcut = row.stride == 1 and in_channels == row.out_channels

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(n, in_channels, *spatial) -> (n, out_channels, *spatial / stride)."""
        output: torch.Tensor = self.layers(input)
        return output + input if self.shortcut else output


class MobileNetV3(Model):
    """See the module; input (n, in_channels, *input_size), output (n, num_classes)."""

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        spatial_dims: int,
        dropout: float,
        stem: Stem,
        width: float,
    ) -> None:
        super().__init__()
        channels, last, hidden = (scaled(count, width) for count in (_STEM, _LAST, _HIDDEN))
        self.stem = conv_norm(
            spatial_dims,
            in_channels,
            channels,
            3,
            stride=1 if stem == "small" else 2,
            activation=nn.Hardswish(),
            eps=_EPS,
            momentum=_MOMENTUM,
        )
        stages = []
        for i, rows in enumerate(_STAGES):
            blocks = []
            for row in rows:
                row = row._replace(
                    expanded=scaled(row.expanded, width),
                    out_channels=scaled(row.out_channels, width),
                )
                kept = stem == "small" and i == 1
                blocks.append(Bottleneck(spatial_dims, channels, row, 1 if kept else row.stride))
                channels = row.out_channels
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        # The first stages keep the size of the input (small stem) or half of it.
        self.first_map = 2 if stem == "small" else 1
        self.last = conv_norm(
            spatial_dims,
            channels,
            last,
            1,
            activation=nn.Hardswish(),
            eps=_EPS,
            momentum=_MOMENTUM,
        )
        self.pool = adaptive_average_pool(spatial_dims, 1)
        self.classifier = nn.Sequential(
            nn.Linear(last, hidden),
            nn.Hardswish(),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )
        self.apply(_initialise)

    def forward_features(self, input: torch.Tensor) -> list[torch.Tensor]:
        """Maps with 24, 40, 112 and 960 channels at strides 4, 8, 16 and 32.

        With the small stem 40, 112 and 960 channels at strides 2, 4 and 8.
        """
        value = self.stem(input)
        maps = []
        for stage in self.stages:
            value = stage(value)
            maps.append(value)
        return [*maps[self.first_map : -1], self.last(value)]

    def forward_head(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Outputs (n, num_classes)."""
        output: torch.Tensor = self.classifier(self.pool(features[-1]).flatten(1))
        return output


def _initialise(module: nn.Module) -> None:
    """He et al. 2015 for convolutions, a narrow normal for the classifier."""
    if isinstance(module, nn.Conv2d | nn.Conv3d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)


def mobilenet_v3(
    *,
    in_channels: int,
    num_classes: int,
    input_size: tuple[int, ...],
    spatial_dims: int,
    dropout: float | None,
    stem: Stem,
    width: float,
) -> Model:
    """The large network for any input; every convolution is padded, so none is too small."""
    rate = 0.2 if dropout is None else dropout
    return MobileNetV3(in_channels, num_classes, spatial_dims, rate, stem, width)


MODELS.register("mobilenet_v3")(
    Architecture(
        builder=mobilenet_v3,
        title="Searching for MobileNetV3",
        authors="Howard, Sandler, Chu, Chen, Chen, Tan and others",
        year=2019,
        source="ICCV 2019, arXiv 1905.02244",
        idea=(
            "Filtering each channel on its own and mixing channels by 1×1 convolutions costs a "
            "fraction of a full convolution. "
            "A search on a telephone's own clock chose the widths, kernels and where channels "
            "are weighed against each other. "
            "Cheap piecewise activations and a shortened tail save the milliseconds that remain."
        ),
        blocks=(
            "conv 3×3 of 16 filters, 15 bottlenecks (1×1 up, depthwise 3×3 or 5×5, squeeze and "
            "excitation in 8, 1×1 down), conv 1×1 to 960, average pool, 1280 hidden features."
        ),
        introduced="hard-swish and a network searched on the device that runs it",
        num_params=5_483_032,
        macs=216_589_760,
        smallest=1,
        smallest_small=1,
        torchvision="mobilenet_v3_large",
    )
)
