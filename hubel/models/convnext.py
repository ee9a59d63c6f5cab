"""ConvNeXt-T (Liu, Mao, Wu, Feichtenhofer, Darrell and Xie 2022, "A ConvNet for the 2020s",
CVPR, arXiv 2201.03545, figure 4 and table 9).

A ResNet-50 brought up to date step by step with what made transformers train well: 4×4
patches, stages of 3, 3, 9, 3 blocks with 96, 192, 384, 768 channels, 7×7 depthwise
convolutions, one LayerNorm and one GELU a block, layer scale from 1e-6, stochastic depth
growing from 0 to 0.1 (table 5). 28,589,128 parameters, 4.46 G multiply-accumulates at 224×224.

As in the authors' code, a side that cannot be halved loses its last row. The small stem
(ours) is a 3×3 convolution of stride 1 instead of the patches: stride 8 instead of 32. The
paper has no dropout; what is asked for acts before the last layer, and `dropout=0` leaves
nothing to chance: stochastic depth is off, too.
"""

import torch
from torch import nn

from hubel.layers import ChannelNorm, StochasticDepth, adaptive_average_pool, conv, scaled
from hubel.models import MODELS, Architecture, Model, Stem

__all__ = ["ConvNeXt", "convnext_tiny"]

_BLOCKS = (3, 3, 9, 3)
_CHANNELS = (96, 192, 384, 768)
_DEPTH = 0.1
_SCALE = 1e-6
_EPS = 1e-6


class Block(nn.Module):
    """Depthwise 7×7, LayerNorm, 1×1 to four times the channels, GELU, 1×1 back (figure 4)."""

    def __init__(self, spatial_dims: int, channels: int, left_out: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((channels, *[1] * spatial_dims), _SCALE))
        self.filter = conv(spatial_dims, channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=_EPS)
        self.mix = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
        )
        self.depth = StochasticDepth(left_out)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(n, channels, *spatial), as `input`."""
        # A 1×1 convolution is a Linear layer over the last axis, where the norm is, too.
        value = self.filter(input).movedim(1, -1)  # (n, *spatial, channels)
        value = self.mix(self.norm(value)).movedim(-1, 1)
        value = self.depth(self.scale * value)
        output: torch.Tensor = value + input
        return output


class ConvNeXt(Model):
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
        self.small = stem == "small"
        widths = [scaled(channels, width) for channels in _CHANNELS]
        channels = widths[0]
        patches = (
            conv(spatial_dims, in_channels, channels, 3, padding=1)
            if self.small
            else conv(spatial_dims, in_channels, channels, 4, stride=4)
        )
        self.stem = nn.Sequential(patches, ChannelNorm(channels, eps=_EPS))
        stages = []
        block, last = 0, sum(_BLOCKS) - 1
        for i, (blocks, out_channels) in enumerate(zip(_BLOCKS, widths, strict=True)):
            layers: list[nn.Module] = []
            if i > 0:
                layers += [
                    ChannelNorm(channels, eps=_EPS),
                    conv(spatial_dims, channels, out_channels, 2, stride=2),
                ]
                channels = out_channels
            for _ in range(blocks):
                layers.append(Block(spatial_dims, channels, stochastic_depth * block / last))
                block += 1
            stages.append(nn.Sequential(*layers))
        self.stages = nn.ModuleList(stages)
        self.pool = adaptive_average_pool(spatial_dims, 1)
        self.classifier = nn.Sequential(
            nn.LayerNorm(channels, eps=_EPS), nn.Dropout(dropout), nn.Linear(channels, num_classes)
        )
        self.apply(_initialise)

    def forward_features(self, input: torch.Tensor) -> list[torch.Tensor]:
        """Maps with 96, 192, 384 and 768 channels at strides 4, 8, 16 and 32.

        With the small stem 192, 384 and 768 channels at strides 2, 4 and 8.
        """
        value = self.stem(input)
        maps = []
        for stage in self.stages:
            value = stage(value)
            maps.append(value)
        return maps[1:] if self.small else maps

    def forward_head(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Outputs (n, num_classes)."""
        output: torch.Tensor = self.classifier(self.pool(features[-1]).flatten(1))
        return output


def _initialise(module: nn.Module) -> None:
    """A truncated normal of 0.02 for all weights (table 5), zero biases."""
    if isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def convnext_tiny(
    *,
    in_channels: int,
    num_classes: int,
    input_size: tuple[int, ...],
    spatial_dims: int,
    dropout: float | None,
    stem: Stem,
    width: float,
) -> Model:
    """The network for any input of at least 32 pixels a side, 8 with the small stem."""
    rate = 0.0 if dropout is None else dropout
    depth = 0.0 if dropout == 0.0 else _DEPTH
    return ConvNeXt(in_channels, num_classes, spatial_dims, rate, depth, stem, width)


MODELS.register("convnext_tiny")(
    Architecture(
        builder=convnext_tiny,
        title="A ConvNet for the 2020s",
        authors="Liu, Mao, Wu, Feichtenhofer, Darrell and Xie",
        year=2022,
        source="CVPR 2022, arXiv 2201.03545",
        idea=(
            "A plain ResNet is changed one decision at a time towards a vision transformer. "
            "Large depthwise kernels mix positions, dense layers mix channels, and fewer norms "
            "and activations lie between. "
            "Convolutions then match transformers of the same size without any attention."
        ),
        blocks=(
            "4×4 patches to 96 channels; 3, 3, 9 and 3 blocks (depthwise 7×7, LayerNorm, 1×1 up "
            "by 4, GELU, 1×1 down) at 96, 192, 384 and 768 channels with 2×2 halvings between."
        ),
        introduced="the convolutional network modernised to a transformer's recipe",
        num_params=28_589_128,
        macs=4_455_531_264,
        smallest=32,
        smallest_small=8,
        torchvision="convnext_tiny",
    )
)
