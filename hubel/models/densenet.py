"""DenseNet (Huang, Liu, van der Maaten, Weinberger 2017, "Densely connected convolutional
networks", CVPR; arXiv 1608.06993, table 1): DenseNet-BC, with bottlenecks and compression.

Layer l of a block sees the maps of all layers before it: x_l = H_l([x_0, …, x_{l-1}]),
equation (2), with H = BN, ReLU, 1×1 convolution to 4k channels, BN, ReLU, 3×3 convolution to
k, the growth rate. A transition halves channels (θ = 0.5) and map. Layer by layer this is
torchvision's DenseNet. DenseNet-161 (k = 48) is in table 1 of the earlier arXiv versions,
the last one lists DenseNet-264 in its place. Concatenation is plain: each layer keeps the
maps that it read, so that memory for training grows with the square of a block's depth.

The paper's BN and ReLU at the head of a transition stand here at the end of the stage
before: nothing changes in what is computed, and every stage ends in a normalised map.
The 'small' stem is a 3×3 convolution with stride 1 and no pooling, as in section 4.2.

Initialisation as in torchvision: convolutions normal with variance 2 / (in_channels · taps)
(He et al. 2015, arXiv 1502.01852), batch norm 1 and 0, the Linear layer's bias 0.
"""

import torch
from torch import nn

from hubel.layers import adaptive_average_pool, average_pool, batch_norm, conv, max_pool, scaled
from hubel.models import MODELS, Architecture, Builder, Model, Stem

__all__ = ["DenseLayer", "DenseNet", "DenseStage"]

_BOTTLENECK = 4
"""A layer's 1×1 convolution makes four times as many maps as the layer adds (section 3)."""


class DenseLayer(nn.Module):
    """H_l of equation (2), and the concatenation: (n, c, …) -> (n, c + growth, …)."""

    def __init__(self, spatial_dims: int, in_channels: int, growth: int, dropout: float) -> None:
        super().__init__()
        width = _BOTTLENECK * growth
        self.new_maps = nn.Sequential(
            batch_norm(spatial_dims, in_channels),
            nn.ReLU(),
            conv(spatial_dims, in_channels, width, 1, bias=False),
            nn.Dropout(dropout),
            batch_norm(spatial_dims, width),
            nn.ReLU(),
            conv(spatial_dims, width, growth, 3, padding=1, bias=False),
            nn.Dropout(dropout),
        )

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(n, in_channels, *spatial) -> (n, in_channels + growth, *spatial)."""
        return torch.cat([input, self.new_maps(input)], dim=1)


class DenseStage(nn.Sequential):
    """A transition (but in the first stage), a dense block, batch norm and ReLU."""

    out_channels: int

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        depth: int,
        growth: int,
        dropout: float,
        *,
        transition: bool,
    ) -> None:
        parts: list[nn.Module] = []
        channels = in_channels
        if transition:
            channels //= 2
            parts += [
                conv(spatial_dims, in_channels, channels, 1, bias=False),
                nn.Dropout(dropout),
                average_pool(spatial_dims, 2),
            ]
        for _ in range(depth):
            parts.append(DenseLayer(spatial_dims, channels, growth, dropout))
            channels += growth
        super().__init__(*parts, batch_norm(spatial_dims, channels), nn.ReLU())
        self.out_channels = channels


class DenseNet(Model):
    """See the module; input (n, in_channels, *spatial) of any size, output (n, num_classes).

    `depths` are the layers of the four blocks, `growth` is k. Dropout acts after every
    convolution but the first (section 3); the paper used 0.2 on small data without
    augmentation, and none on ImageNet.
    """

    def __init__(
        self,
        depths: tuple[int, ...],
        growth: int,
        in_channels: int,
        num_classes: int,
        spatial_dims: int,
        dropout: float,
        stem: Stem,
    ) -> None:
        super().__init__()
        small = stem == "small"
        channels = 2 * growth
        self.stem = nn.Sequential(
            conv(spatial_dims, in_channels, channels, 3, padding=1, bias=False)
            if small
            else conv(spatial_dims, in_channels, channels, 7, stride=2, padding=3, bias=False),
            batch_norm(spatial_dims, channels),
            nn.ReLU(),
        )
        self.pool = None if small else max_pool(spatial_dims, 3, 2, padding=1)
        stages = []
        for index, depth in enumerate(depths):
            stage = DenseStage(spatial_dims, channels, depth, growth, dropout, transition=index > 0)
            stages.append(stage)
            channels = stage.out_channels
        self.stages = nn.ModuleList(stages)
        self.average = adaptive_average_pool(spatial_dims, 1)
        self.head = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(module.weight)
        nn.init.zeros_(self.head.bias)

    def forward_features(self, input: torch.Tensor) -> list[torch.Tensor]:
        """Maps at strides 2 (the stem's), 4, 8, 16 and 32; with the small stem 1, 2, 4 and 8."""
        input = self.stem(input)
        maps = []
        if self.pool is not None:
            maps.append(input)
            input = self.pool(input)
        for stage in self.stages:
            input = stage(input)
            maps.append(input)
        return maps

    def forward_head(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Outputs (n, num_classes)."""
        pooled = self.average(features[-1]).flatten(1)  # (n, c, *spatial) -> (n, c)
        output: torch.Tensor = self.head(pooled)
        return output


def _builder(depths: tuple[int, ...], growth: int) -> Builder:
    def densenet(
        *,
        in_channels: int,
        num_classes: int,
        input_size: tuple[int, ...],
        spatial_dims: int,
        dropout: float | None,
        stem: Stem,
        width: float,
    ) -> Model:
        rate = 0.0 if dropout is None else dropout
        k = scaled(growth, width)  # and with it the stem's 2k and the bottlenecks' 4k
        return DenseNet(depths, k, in_channels, num_classes, spatial_dims, rate, stem)

    return densenet


# Layers, depths of the four blocks (table 1), growth rate k, parameters, MACs.
_TABLE_1: tuple[tuple[int, tuple[int, ...], int, int, int], ...] = (
    (121, (6, 12, 24, 16), 32, 7_978_856, 2_834_161_664),
    (161, (6, 12, 36, 24), 48, 28_681_000, 7_727_907_072),
    (169, (6, 12, 32, 32), 32, 14_149_480, 3_359_843_328),
    (201, (6, 12, 48, 32), 32, 20_013_928, 4_291_365_888),
)

for _layers, _depths, _growth, _num_params, _macs in _TABLE_1:
    MODELS.register(f"densenet{_layers}")(
        Architecture(
            builder=_builder(_depths, _growth),
            title="Densely connected convolutional networks",
            authors="Huang, Liu, van der Maaten and Weinberger",
            year=2017,
            source="CVPR 2017, p. 2261; arXiv 1608.06993",
            idea=(
                "Every layer of a block reads the maps of all layers before it, joined side by "
                "side. "
                "So nothing has to be learnt twice, and a layer needs to add only a few new maps. "
                "The gradient reaches each layer directly."
            ),
            blocks=(
                "7×7 convolution with stride 2 and max pooling, then dense blocks of "
                f"{', '.join(map(str, _depths[:-1]))} and {_depths[-1]} layers that add "
                f"{_growth} maps each, between them 1×1 convolutions that halve the channels and "
                "average pooling, then global average pooling and one Linear layer."
            ),
            introduced="the dense connection: concatenation instead of addition",
            num_params=_num_params,
            macs=_macs,
            smallest=29,
            smallest_small=8,
            torchvision=f"densenet{_layers}",
        )
    )
