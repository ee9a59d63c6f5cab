"""ResNet (He, Zhang, Ren, Sun 2016, "Deep residual learning for image recognition", CVPR;
arXiv 1512.03385, table 1 and fig. 5).

A block learns what to add to its input: y = relu(F(x) + x), equation (1). Where the map
halves or the channels grow, x goes through a 1×1 convolution, W_s of equation (2): the
paper's option B. Layer by layer this is torchvision's ResNet, and differs from the paper in
two places. A bottleneck that halves the map does so in its 3×3 convolution, the paper's in
the first 1×1, which throws three of four positions away unseen ("v1.5": more accurate, 4.09
instead of 3.8 G MACs for 50 layers). And the last step of the stem is as in table 1,
max pooling 3×3 with stride 2, only with the 'paper' stem: the 'small' one is a 3×3
convolution with stride 1 and no pooling, as for CIFAR-10 in section 4.2.

Initialisation as in torchvision: convolutions normal with variance 2 / (out_channels ·
taps) (He et al. 2015, arXiv 1502.01852, of the backward pass), batch norm 1 and 0, the
Linear layer torch's own.
"""

import torch
from torch import nn

from hubel.layers import adaptive_average_pool, batch_norm, conv, max_pool, scaled
from hubel.models import MODELS, Architecture, Builder, Model, Stem

__all__ = ["Basic", "Bottleneck", "ResNet"]

_WIDTHS = (64, 128, 256, 512)
"""Channels of conv2_x to conv5_x, table 1; a bottleneck puts out four times as many."""


class _Residual(nn.Module):
    """relu(residual(x) + shortcut(x)); the shortcut is x itself where the shapes agree."""

    expansion: int

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        stride: int,
        residual: nn.Module,
    ) -> None:
        super().__init__()
        self.residual = residual
        self.shortcut = (
            nn.Identity()
            if stride == 1 and in_channels == out_channels
            else nn.Sequential(
                conv(spatial_dims, in_channels, out_channels, 1, stride=stride, bias=False),
                batch_norm(spatial_dims, out_channels),
            )
        )
        self.relu = nn.ReLU()

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(n, in_channels, *spatial) -> (n, out_channels, *spatial / stride)."""
        output: torch.Tensor = self.relu(self.residual(input) + self.shortcut(input))
        return output


class Basic(_Residual):
    """Two 3×3 convolutions (fig. 5 left), of ResNet-18 and -34."""

    expansion = 1

    def __init__(self, spatial_dims: int, in_channels: int, width: int, stride: int) -> None:
        residual = nn.Sequential(
            conv(spatial_dims, in_channels, width, 3, stride=stride, padding=1, bias=False),
            batch_norm(spatial_dims, width),
            nn.ReLU(),
            conv(spatial_dims, width, width, 3, padding=1, bias=False),
            batch_norm(spatial_dims, width),
        )
        super().__init__(spatial_dims, in_channels, width, stride, residual)


class Bottleneck(_Residual):
    """1×1 down to `width`, 3×3, 1×1 up to four times `width` (fig. 5 right)."""

    expansion = 4

    def __init__(self, spatial_dims: int, in_channels: int, width: int, stride: int) -> None:
        out_channels = self.expansion * width
        residual = nn.Sequential(
            conv(spatial_dims, in_channels, width, 1, bias=False),
            batch_norm(spatial_dims, width),
            nn.ReLU(),
            conv(spatial_dims, width, width, 3, stride=stride, padding=1, bias=False),
            batch_norm(spatial_dims, width),
            nn.ReLU(),
            conv(spatial_dims, width, out_channels, 1, bias=False),
            batch_norm(spatial_dims, out_channels),
        )
        super().__init__(spatial_dims, in_channels, out_channels, stride, residual)


class ResNet(Model):
    """See the module; input (n, in_channels, *spatial) of any size, output (n, num_classes).

    `depths` are the blocks of conv2_x to conv5_x. The paper has no dropout; what is given
    acts before the Linear layer.
    """

    def __init__(
        self,
        block: type[Basic] | type[Bottleneck],
        depths: tuple[int, ...],
        in_channels: int,
        num_classes: int,
        spatial_dims: int,
        dropout: float,
        stem: Stem,
        width: float,
    ) -> None:
        super().__init__()
        small = stem == "small"
        widths = [scaled(channels, width) for channels in _WIDTHS]
        channels = widths[0]
        self.stem = nn.Sequential(
            conv(spatial_dims, in_channels, channels, 3, padding=1, bias=False)
            if small
            else conv(spatial_dims, in_channels, channels, 7, stride=2, padding=3, bias=False),
            batch_norm(spatial_dims, channels),
            nn.ReLU(),
        )
        self.pool = None if small else max_pool(spatial_dims, 3, 2, padding=1)
        stages = []
        for stage, (inner, depth) in enumerate(zip(widths, depths, strict=True)):
            blocks = []
            for index in range(depth):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(block(spatial_dims, channels, inner, stride))
                channels = inner * block.expansion
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.average = adaptive_average_pool(spatial_dims, 1)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

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
        output: torch.Tensor = self.head(self.dropout(pooled))
        return output


def _builder(block: type[Basic] | type[Bottleneck], depths: tuple[int, ...]) -> Builder:
    def resnet(
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
        return ResNet(block, depths, in_channels, num_classes, spatial_dims, rate, stem, width)

    return resnet


# Layers, block, depths of conv2_x to conv5_x (table 1), parameters, MACs.
_TABLE_1: tuple[tuple[int, type[Basic] | type[Bottleneck], tuple[int, ...], int, int], ...] = (
    (18, Basic, (2, 2, 2, 2), 11_689_512, 1_814_073_344),
    (34, Basic, (3, 4, 6, 3), 21_797_672, 3_663_761_408),
    (50, Bottleneck, (3, 4, 6, 3), 25_557_032, 4_089_184_256),
    (101, Bottleneck, (3, 4, 23, 3), 44_549_160, 7_801_405_440),
    (152, Bottleneck, (3, 8, 36, 3), 60_192_808, 11_513_626_624),
)

for _layers, _block, _depths, _num_params, _macs in _TABLE_1:
    _words = "two 3×3 convolutions" if _block is Basic else "1×1, 3×3 and 1×1 convolutions"
    MODELS.register(f"resnet{_layers}")(
        Architecture(
            builder=_builder(_block, _depths),
            title="Deep residual learning for image recognition",
            authors="He, Zhang, Ren and Sun",
            year=2016,
            source="CVPR 2016, p. 770; arXiv 1512.03385",
            idea=(
                "A plain network gets worse when it gets deeper, even on its training pictures. "
                "Here a block learns only what to add to its input, which a shortcut carries past "
                "it. "
                "A block that is not needed can do nothing, and the gradient has a way round all "
                "of them."
            ),
            blocks=(
                "7×7 convolution with stride 2 and max pooling, then "
                f"{' + '.join(map(str, _depths))} residual blocks of {_words}, "
                "global average pooling and one Linear layer."
            ),
            introduced="the residual connection",
            num_params=_num_params,
            macs=_macs,
            smallest=1,
            smallest_small=1,
            torchvision=f"resnet{_layers}",
        )
    )
