"""EfficientNet-B0 (Tan and Le 2019, "EfficientNet: Rethinking Model Scaling for Convolutional
Neural Networks", ICML, arXiv 1905.11946, table 1).

Sixteen inverted bottlenecks, each with squeeze and excitation, found by a search over
accuracy and work; 5,288,548 parameters, 0.39 G multiply-accumulates at 224×224. Swish (SiLU)
throughout, stochastic depth growing from 0 to 0.2 (section 5.2).

Differs from the authors' code where torchvision does, whose weights fit: batch norm has
torch's own eps and momentum, padding is symmetric. The small stem leaves out the first two
halvings: stride 8 instead of 32. `dropout=0` leaves nothing to chance: stochastic depth is
off, too.
"""

from typing import NamedTuple

import torch
from torch import nn

from hubel.layers import SqueezeExcite, StochasticDepth, adaptive_average_pool, conv_norm, scaled
from hubel.models import MODELS, Architecture, Model, Stem

__all__ = ["EfficientNet", "efficientnet_b0"]


class _Row(NamedTuple):
    """A stage of table 1: MBConv with this expansion and kernel, repeated."""

    expansion: int
    kernel_size: int
    stride: int
    out_channels: int
    layers: int


_STEM = 32
_STAGES = (
    _Row(1, 3, 1, 16, 1),
    _Row(6, 3, 2, 24, 2),
    _Row(6, 5, 2, 40, 2),
    _Row(6, 3, 2, 80, 3),
    _Row(6, 5, 1, 112, 3),
    _Row(6, 5, 2, 192, 4),
    _Row(6, 3, 1, 320, 1),
)
"""Stages 2 to 8 of table 1; the stride is that of a stage's first block."""
_LAST = 1280
_DEPTH = 0.2


class MBConv(nn.Module):
    """Widen 1×1, filter each channel k×k, weigh the channels, narrow 1×1 without activation."""

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        expansion: int,
        stride: int,
        shortcut: bool,
        left_out: float,
    ) -> None:
        super().__init__()
        expanded = in_channels * expansion
        layers: list[nn.Module] = []
        if expansion > 1:
            layers.append(conv_norm(spatial_dims, in_channels, expanded, 1, activation=nn.SiLU()))
        layers += [
            conv_norm(
                spatial_dims,
                expanded,
                expanded,
                kernel_size,
                stride=stride,
                groups=expanded,
                activation=nn.SiLU(),
            ),
            # A quarter of the block's input, not of the widened channels.
            SqueezeExcite(spatial_dims, expanded, in_channels // 4, nn.SiLU(), nn.Sigmoid()),
            conv_norm(spatial_dims, expanded, out_channels, 1),
        ]
        self.layers = nn.Sequential(*layers)
        self.shortcut = shortcut
        self.depth = StochasticDepth(left_out)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(n, in_channels, *spatial) -> (n, out_channels, *spatial / stride)."""
        output: torch.Tensor = self.layers(input)
        if self.shortcut:
            output = self.depth(output) + input
        return output


class EfficientNet(Model):
    """See the module; input (n, in_channels, *input_size), output (n, num_classes)."""

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        spatial_dims: int,
        dropout: float,
        stochastic_depth: float,
        stem: Stem,
        width: float,
    ) -> None:
        super().__init__()
        small = stem == "small"
        channels, last = scaled(_STEM, width), scaled(_LAST, width)
        self.stem = conv_norm(
            spatial_dims, in_channels, channels, 3, stride=1 if small else 2, activation=nn.SiLU()
        )
        stages = []
        block, blocks = 0, sum(row.layers for row in _STAGES)
        # A map is what comes before a halving; the small stem leaves out the first of them.
        self.maps = []
        for i, row in enumerate(_STAGES):
            layers = []
            out_channels = scaled(row.out_channels, width)
            for layer in range(row.layers):
                halving = layer == 0 and row.stride == 2
                layers.append(
                    MBConv(
                        spatial_dims,
                        channels,
                        out_channels,
                        row.kernel_size,
                        row.expansion,
                        2 if halving and not (small and i == 1) else 1,
                        shortcut=not halving and channels == out_channels,
                        left_out=stochastic_depth * block / blocks,
                    )
                )
                channels = out_channels
                block += 1
            stages.append(nn.Sequential(*layers))
            if i + 1 < len(_STAGES) and _STAGES[i + 1].stride == 2:
                self.maps.append(i)
        # Not those of half the input's size (paper) or all of it (small).
        self.maps = self.maps[2:] if small else self.maps[1:]
        self.stages = nn.ModuleList(stages)
        self.last = conv_norm(spatial_dims, channels, last, 1, activation=nn.SiLU())
        self.pool = adaptive_average_pool(spatial_dims, 1)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(last, num_classes))
        self.apply(_initialise)

    def forward_features(self, input: torch.Tensor) -> list[torch.Tensor]:
        """Maps with 24, 40, 112 and 1280 channels at strides 4, 8, 16 and 32.

        With the small stem 40, 112 and 1280 channels at strides 2, 4 and 8.
        """
        value = self.stem(input)
        maps = []
        for i, stage in enumerate(self.stages):
            value = stage(value)
            if i in self.maps:
                maps.append(value)
        return [*maps, self.last(value)]

    def forward_head(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Outputs (n, num_classes)."""
        output: torch.Tensor = self.classifier(self.pool(features[-1]).flatten(1))
        return output


def _initialise(module: nn.Module) -> None:
    """He et al. 2015 for convolutions; a uniform classifier as in the authors' code."""
    if isinstance(module, nn.Conv2d | nn.Conv3d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        bound = module.out_features**-0.5
        nn.init.uniform_(module.weight, -bound, bound)
        nn.init.zeros_(module.bias)


def efficientnet_b0(
    *,
    in_channels: int,
    num_classes: int,
    input_size: tuple[int, ...],
    spatial_dims: int,
    dropout: float | None,
    stem: Stem,
    width: float,
) -> Model:
    """The network for any input; every convolution is padded, so none is too small."""
    rate = 0.2 if dropout is None else dropout
    depth = 0.0 if dropout == 0.0 else _DEPTH
    return EfficientNet(in_channels, num_classes, spatial_dims, rate, depth, stem, width)


MODELS.register("efficientnet_b0")(
    Architecture(
        builder=efficientnet_b0,
        title="EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
        authors="Tan and Le",
        year=2019,
        source="ICML 2019, arXiv 1905.11946",
        idea=(
            "A search finds one small network with the best accuracy for its work. "
            "Depth, width and resolution are then enlarged together, in a fixed ratio, because "
            "each alone soon brings less. "
            "B0 is the small network at the start of that line."
        ),
        blocks=(
            "conv 3×3 of 32 filters, 16 MBConv blocks (1×1 up by 6, depthwise 3×3 or 5×5, "
            "squeeze and excitation, 1×1 down), conv 1×1 to 1280, average pool, one dense layer."
        ),
        introduced="compound scaling of depth, width and resolution",
        num_params=5_288_548,
        macs=385_814_752,
        smallest=1,
        smallest_small=1,
        torchvision="efficientnet_b0",
    )
)
