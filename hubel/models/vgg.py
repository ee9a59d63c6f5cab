"""VGG (Simonyan & Zisserman 2015, "Very deep convolutional networks for large-scale image
recognition", ICLR, arXiv 1409.1556), configurations A, B, D and E of table 1.

Five stages of 3×3 convolutions with padding 1, each stage ended by 2×2 max pooling; 64, 128,
256, 512 and 512 channels; then 4096, 4096 and 1000 units, dropout 0.5 after the first two (§3.1).
With `_bn` a batch normalisation stands between each convolution and its ReLU (Ioffe & Szegedy
2015, arXiv 1502.03167), whose paper is younger: the biases before it are kept, as torchvision
keeps them.

What differs from the paper: convolutions start by He et al. 2015 (the paper began the deep
networks from trained layers of the shallowest; §3.1), dense layers by N(0, 0.01); an average
pool to 7×7 before the dense layers, which does nothing at 224 and lets other sizes fit. In 3-D
it is 3×3×3, so that the first dense layer has fewer weights than in 2-D.

The small stem leaves the convolutions as they are and replaces what follows them, as is usual
for 32×32 pictures (Liu & Deng 2015, "Very deep convolutional neural network based image
classification using small training sample size", ACPR): five poolings leave one pixel there, so
the dense layers are an average over what is left, 512 hidden units and the output. Its poolings
round up, so that 28×28 or 17×17 also last for five.
"""

import torch
from torch import nn

from hubel.layers import adaptive_average_pool, batch_norm, conv, max_pool, scaled
from hubel.models import MODELS, Architecture, Builder, Model, Stem

__all__ = ["VGG"]

_CHANNELS = (64, 128, 256, 512, 512)


class VGG(Model):
    """See the module; input (n, in_channels, *spatial), output (n, num_classes)."""

    def __init__(
        self,
        depths: tuple[int, ...],
        norm: bool,
        in_channels: int,
        num_classes: int,
        spatial_dims: int,
        dropout: float,
        stem: Stem,
        width: float,
    ) -> None:
        super().__init__()
        small = stem == "small"
        self.stages = nn.ModuleList()
        for depth, channels in zip(depths, _CHANNELS, strict=True):
            out_channels = scaled(channels, width)
            layers: list[nn.Module] = []
            for _ in range(depth):
                layers.append(conv(spatial_dims, in_channels, out_channels, 3, padding=1))
                layers += [batch_norm(spatial_dims, out_channels)] if norm else []
                layers.append(nn.ReLU())
                in_channels = out_channels
            layers.append(max_pool(spatial_dims, 2, ceil_mode=small))
            self.stages.append(nn.Sequential(*layers))
        side = 1 if small else 7 if spatial_dims == 2 else 3
        hidden = scaled(512 if small else 4096, width)
        self.head = nn.Sequential(
            adaptive_average_pool(spatial_dims, side),
            nn.Flatten(),  # (n, 512, *side) -> (n, 512·side^dims)
            nn.Linear(in_channels * side**spatial_dims, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            *([] if small else [nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout)]),
            nn.Linear(hidden, num_classes),
        )
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
            if isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward_features(self, input: torch.Tensor) -> list[torch.Tensor]:
        """Maps at strides 2, 4, 8, 16 and 32."""
        maps = []
        for stage in self.stages:
            input = stage(input)
            maps.append(input)
        return maps

    def forward_head(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Outputs (n, num_classes)."""
        output: torch.Tensor = self.head(features[-1])
        return output


def _builder(depths: tuple[int, ...], norm: bool) -> Builder:
    """The builder of one column of table 1."""

    def vgg(
        *,
        in_channels: int,
        num_classes: int,
        input_size: tuple[int, ...],
        spatial_dims: int,
        dropout: float | None,
        stem: Stem,
        width: float,
    ) -> Model:
        """The network for any input of at least 32 pixels a side (17, small stem)."""
        rate = 0.5 if dropout is None else dropout
        return VGG(depths, norm, in_channels, num_classes, spatial_dims, rate, stem, width)

    return vgg


# Name, its column in table 1, convolutions a stage, parameters without and with batch norm, MACs.
_TABLE_1 = (
    ("vgg11", "A", (1, 1, 2, 2, 2), 132_863_336, 132_868_840, 7_609_090_048),
    ("vgg13", "B", (2, 2, 2, 2, 2), 133_047_848, 133_053_736, 11_308_466_176),
    ("vgg16", "D", (2, 2, 3, 3, 3), 138_357_544, 138_365_992, 15_470_264_320),
    ("vgg19", "E", (2, 2, 4, 4, 4), 143_667_240, 143_678_248, 19_632_062_464),
)

for _name, _column, _depths, _plain_params, _norm_params, _macs in _TABLE_1:
    for _norm in (False, True):
        MODELS.register(_name + "_bn" * _norm)(
            Architecture(
                builder=_builder(_depths, _norm),
                title="Very deep convolutional networks for large-scale image recognition",
                authors="Simonyan and Zisserman",
                year=2015,
                source=f"ICLR, arXiv 1409.1556, table 1, column {_column}"
                + ", with batch normalisation (arXiv 1502.03167)" * _norm,
                idea=(
                    "Two 3×3 convolutions see as far as one of 5×5, three as far as one of 7×7, "
                    "with fewer weights and more ReLUs in between. "
                    "So all kernels are 3×3, and what is left to choose is how many are stacked. "
                    "More layers were better, up to 19."
                ),
                blocks=(
                    f"{' + '.join(map(str, _depths))} convolutions 3×3"
                    + " with batch normalisation" * _norm
                    + " of 64, 128, 256, 512 and 512 channels, 2×2 max pooling after each stage; "
                    "4096, 4096 and 1000 units."
                ),
                introduced="depth from stacks of 3×3 convolutions",
                num_params=_norm_params if _norm else _plain_params,
                macs=_macs,
                smallest=32,
                smallest_small=17,
                torchvision=_name + "_bn" * _norm,
            )
        )
