"""Swift: networks for small pictures that learn in few passes, ours after the fast ones of
Keller Jordan ("94% on CIFAR-10 in 3.29 seconds on a single GPU", arXiv 2404.00498, section
3.1 and its code listing) and of those it builds on (Page 2019, "How to train your ResNet").

A first convolution of 2×2 with 2 · in_channels · 2^spatial_dims filters is made to be set to
the whitening of the training pictures' patches and their negatives (hubel/train/whitening.py);
built alone it starts as any other. Then three blocks of [conv 3×3, max pool 2, batch norm,
GELU, conv 3×3, batch norm, GELU]; `l` has a third convolution in each, added to the first
one's output, as the 96 % network of the same author. What is left of the map is max-pooled to
one place, and one Linear layer without bias scores the classes; a constant makes the scores
small at the start.

Differs from those: written for any size, number of channels and for volumes. The last pooling
takes whatever map is left (3×3 for 32×32 pictures, as there). From 64 pixels on the first
convolution has stride 2; each further doubling puts [conv 3×3, max pool 2, batch norm, GELU]
of half the first block's width before the blocks, so that the shorter side of the map
that these see is 24 to 47 (below 25 pixels: one less than the picture's). Batch norm has a
scale to learn, torch's eps, and a momentum that serves small batches too. `m` has the widths of
the 94 % network, `l` those of the 96 % one, `s` three quarters of the widths of `m` and a good
half of its work. Dropout, 0 unless asked for, acts before the Linear layer.
"""

from dataclasses import dataclass

import torch
from torch import nn

from hubel.layers import batch_norm, conv, max_pool, scaled
from hubel.models import MODELS, Architecture, Builder, Model, Stem

__all__ = ["LARGE", "MEDIUM", "SMALL", "Size", "Swift", "swift"]

_MOMENTUM = 0.2
"""Of the running statistics: training may be a few hundred steps."""
_SCALE = 1 / 9
_LARGE_PICTURE = 64
"""From this side on the first convolution takes every second place."""
_LARGEST_MAP = 48
"""Below this side the map goes to the blocks, otherwise it is halved first."""


@dataclass(frozen=True)
class Size:
    """Widths of the three blocks, and the convolutions in each."""

    widths: tuple[int, int, int]
    convolutions: int


SMALL = Size((48, 192, 192), 2)
MEDIUM = Size((64, 256, 256), 2)
LARGE = Size((128, 384, 512), 3)


def _norm(spatial_dims: int, channels: int) -> nn.Module:
    return batch_norm(spatial_dims, channels, momentum=_MOMENTUM)


class Halving(nn.Sequential):
    """[conv 3×3, max pool 2, batch norm, GELU]: (n, c, *s) -> (n, out_channels, *s / 2)."""

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int) -> None:
        super().__init__(
            conv(spatial_dims, in_channels, out_channels, 3, padding=1, bias=False),
            max_pool(spatial_dims, 2),
            _norm(spatial_dims, out_channels),
            nn.GELU(),
        )


class Block(nn.Module):
    """A halving, then further convolutions of the same width; the third's output is added."""

    def __init__(
        self, spatial_dims: int, in_channels: int, out_channels: int, convolutions: int
    ) -> None:
        super().__init__()
        self.halving = Halving(spatial_dims, in_channels, out_channels)
        layers: list[nn.Module] = []
        for number in range(1, convolutions):
            if number > 1:
                layers.append(nn.GELU())
            layers += [
                conv(spatial_dims, out_channels, out_channels, 3, padding=1, bias=False),
                _norm(spatial_dims, out_channels),
            ]
        self.layers = nn.Sequential(*layers)
        self.shortcut = convolutions > 2
        self.activation = nn.GELU()

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(n, in_channels, *spatial) -> (n, out_channels, *spatial / 2)."""
        halved = self.halving(input)
        output = self.layers(halved)
        if self.shortcut:
            output = output + halved
        activated: torch.Tensor = self.activation(output)
        return activated


class Swift(Model):
    """See the module; input (n, in_channels, *spatial) of any size, output (n, num_classes).

    `input_size` decides on the steps before the blocks; other sizes run too.
    """

    def __init__(
        self,
        size: Size,
        in_channels: int,
        num_classes: int,
        input_size: tuple[int, ...],
        dropout: float,
        width: float,
    ) -> None:
        super().__init__()
        dims = len(input_size)
        side = min(input_size)
        stride = 2 if side >= _LARGE_PICTURE else 1
        channels = 2 * in_channels * 2**dims
        self.whiten = conv(dims, in_channels, channels, 2, stride=stride)
        self.activation = nn.GELU()
        side = (side - 2) // stride + 1
        halvings = []
        before = scaled(size.widths[0] // 2, width)
        while side >= _LARGEST_MAP:
            halvings.append(Halving(dims, channels, before))
            channels = before
            side //= 2
        self.halvings = nn.ModuleList(halvings)
        blocks = []
        for out_channels in (scaled(c, width) for c in size.widths):
            blocks.append(Block(dims, channels, out_channels, size.convolutions))
            channels = out_channels
        self.blocks = nn.ModuleList(blocks)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels, num_classes, bias=False)

    def forward_features(self, input: torch.Tensor) -> list[torch.Tensor]:
        """The whitened map, then one after each halving and each block."""
        maps = [self.activation(self.whiten(input))]
        for stage in (*self.halvings, *self.blocks):
            maps.append(stage(maps[-1]))
        return maps

    def forward_head(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Outputs (n, num_classes)."""
        pooled = features[-1].flatten(2).amax(2)  # (n, c, *spatial) -> (n, c)
        output: torch.Tensor = self.head(self.dropout(pooled)) * _SCALE
        return output


def swift(size: Size) -> Builder:
    """A builder of the family: `swift(Size((16, 32, 64), 2))` is a network of its own."""

    def builder(
        *,
        in_channels: int,
        num_classes: int,
        input_size: tuple[int, ...],
        spatial_dims: int,
        dropout: float | None,
        stem: Stem,
        width: float,
    ) -> Model:
        return Swift(size, in_channels, num_classes, input_size, dropout or 0.0, width)

    return builder


# Letter, size, parameters and MACs for a 3×32×32 picture and ten classes.
_SIZES = (
    ("s", SMALL, 1_113_336, 69_070_368),
    ("m", MEDIUM, 1_972_792, 118_147_360),
    ("l", LARGE, 9_918_776, 451_967_264),
)

for _letter, _size, _num_params, _macs in _SIZES:
    _convolutions = "two" if _size.convolutions == 2 else "three (the last added to the first)"
    MODELS.register(f"swift_{_letter}")(
        Architecture(
            builder=swift(_size),
            title="Swift: a network for small pictures",
            authors="ours, after Jordan and Page",
            year=2024,
            source="after arXiv 2404.00498, sections 3.1 and 3.2",
            idea=(
                "What every network for pictures learns first, edges and colour contrasts, is "
                "taken from the pictures' own statistics instead. "
                "The map is halved as soon as possible, so that most of the work is done where "
                "the channels are many and the places few. "
                "It trains to a useful accuracy in minutes on a processor and in seconds on a "
                "graphics card."
            ),
            blocks=(
                "2×2 whitening convolution, GELU, then 3 × [conv 3×3, max pool 2, batch norm, "
                f"GELU, …] of {_convolutions} convolutions with "
                f"{', '.join(map(str, _size.widths))} channels, global max pooling and one "
                "Linear layer without bias."
            ),
            introduced="a first layer that whitens, and a network sized for one minute",
            num_params=_num_params,
            macs=_macs,
            smallest=9,
            input_side=32,
            num_classes=10,
        )
    )
