"""AlexNet (Krizhevsky, Sutskever, Hinton 2012, "ImageNet classification with deep convolutional
neural networks", NIPS 25), sections 3 and 4.2, figure 2, and its heir in one tower (Krizhevsky
2014, "One weird trick for parallelizing convolutional neural networks", arXiv 1404.5997).

`alexnet`: 96@11×11 stride 4, 256@5×5, 384@3×3, 384@3×3, 256@3×3, then 4096, 4096 and 1000
units. The kernels of the second, fourth and fifth layer see the maps of their own GPU only
(§3.2): two groups. Local response normalisation after the ReLU of the first two (§3.3),
overlapping pooling 3×3 stride 2 (§3.4), dropout 0.5 before the first two dense layers (§4.2).
60,965,224 parameters for 3×227×227: the paper says 224, but its second layer's 27×27 maps need
55×55 from the first, which 227 gives without padding.

`alexnet_one_tower` is the network that torchvision ships: 64, 192, 384, 256, 256 channels (the
paper of 2014 has 384 in the fourth layer), padding 2 in the first, no groups, no normalisation.

What differs from the papers: torch's initialisation (close to their N(0, 0.01) for kernels of
this size; biases are not 1); normalisation runs over the maps of both groups, as the formula of
§3.3 has it; an average pool to 6×6 before the dense layers, which does nothing at 227 (224 in
one tower) and lets other sizes fit. In 3-D it is 3×3×3, so that the first dense layer has fewer
weights than in 2-D. The small stem is a 3×3 convolution with stride 1: strides of 2, 4 and 8
instead of 8, 16 and 32. Its dense layers see 3 positions a side and have 1024 units.
"""

from dataclasses import dataclass

import torch
from torch import nn

from hubel.layers import adaptive_average_pool, conv, max_pool, scaled
from hubel.models import MODELS, Architecture, Model, Stem

__all__ = ["AlexNet", "alexnet", "alexnet_one_tower"]


@dataclass(frozen=True)
class _Plan:
    """What the two networks differ in."""

    channels: tuple[int, int, int, int, int]
    first_padding: int
    groups: int
    """Of the second, fourth and fifth convolution."""
    normalise: bool


_TWO_GROUPS = _Plan((96, 256, 384, 384, 256), first_padding=0, groups=2, normalise=True)
_ONE_TOWER = _Plan((64, 192, 384, 256, 256), first_padding=2, groups=1, normalise=False)


def _response_norm() -> nn.Module:
    """§3.3: k = 2, n = 5, α = 10⁻⁴, β = 0.75. torch divides α by n, the paper does not."""
    return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)


def _layer(convolution: nn.Module, normalise: bool = False) -> list[nn.Module]:
    return [convolution, nn.ReLU(), *([_response_norm()] if normalise else [])]


class AlexNet(Model):
    """See the module; input (n, in_channels, *spatial), output (n, num_classes)."""

    def __init__(
        self,
        plan: _Plan,
        in_channels: int,
        num_classes: int,
        spatial_dims: int,
        dropout: float,
        stem: Stem,
        width: float,
    ) -> None:
        super().__init__()
        small = stem == "small"
        c1, c2, c3, c4, c5 = (scaled(channels, width) for channels in plan.channels)
        if small:
            first = conv(spatial_dims, in_channels, c1, 3, padding=1)
        else:
            first = conv(spatial_dims, in_channels, c1, 11, stride=4, padding=plan.first_padding)
        groups, normalise = plan.groups, plan.normalise
        second = conv(spatial_dims, c1, c2, 5, padding=2, groups=groups)
        third = conv(spatial_dims, c2, c3, 3, padding=1)
        fourth = conv(spatial_dims, c3, c4, 3, padding=1, groups=groups)
        fifth = conv(spatial_dims, c4, c5, 3, padding=1, groups=groups)
        self.stages = nn.ModuleList(
            nn.Sequential(*layers, max_pool(spatial_dims, 3, 2))
            for layers in (
                _layer(first, normalise),
                _layer(second, normalise),
                [*_layer(third), *_layer(fourth), *_layer(fifth)],
            )
        )
        side = 6 if spatial_dims == 2 and not small else 3
        hidden = scaled(1024 if small else 4096, width)
        self.head = nn.Sequential(
            adaptive_average_pool(spatial_dims, side),
            nn.Flatten(),  # (n, c5, *side) -> (n, c5·side^dims)
            nn.Dropout(dropout),
            nn.Linear(c5 * side**spatial_dims, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, num_classes),
        )

    def forward_features(self, input: torch.Tensor) -> list[torch.Tensor]:
        """Maps at strides 8, 16 and 32 (2, 4 and 8 with the small stem)."""
        maps = []
        for stage in self.stages:
            input = stage(input)
            maps.append(input)
        return maps

    def forward_head(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Outputs (n, num_classes)."""
        output: torch.Tensor = self.head(features[-1])
        return output


def alexnet(
    *,
    in_channels: int,
    num_classes: int,
    input_size: tuple[int, ...],
    spatial_dims: int,
    dropout: float | None,
    stem: Stem,
    width: float,
) -> Model:
    """The network of 2012, for any input of at least 67 pixels a side (15, small stem)."""
    rate = 0.5 if dropout is None else dropout
    return AlexNet(_TWO_GROUPS, in_channels, num_classes, spatial_dims, rate, stem, width)


def alexnet_one_tower(
    *,
    in_channels: int,
    num_classes: int,
    input_size: tuple[int, ...],
    spatial_dims: int,
    dropout: float | None,
    stem: Stem,
    width: float,
) -> Model:
    """The network in one tower, for any input of at least 63 pixels a side (15, small stem)."""
    rate = 0.5 if dropout is None else dropout
    return AlexNet(_ONE_TOWER, in_channels, num_classes, spatial_dims, rate, stem, width)


MODELS.register("alexnet")(
    Architecture(
        builder=alexnet,
        title="ImageNet classification with deep convolutional neural networks",
        authors="Krizhevsky, Sutskever and Hinton",
        year=2012,
        source="NIPS 25, p. 1097",
        idea=(
            "A convolutional network of the old kind, made large and trained on a million "
            "pictures with two graphics cards, beats features made by hand. "
            "ReLU makes it learn several times faster than tanh, and dropout keeps its large "
            "dense layers from learning the pictures by heart. "
            "Half of the kernels live on each card and meet only in some of the layers."
        ),
        blocks=(
            "96@11×11 stride 4, 256@5×5, 384@3×3, 384@3×3, 256@3×3 in two groups, response "
            "normalisation after the first two, overlapping max pooling 3/2 after the first, "
            "second and fifth; 4096, 4096 and 1000 units."
        ),
        introduced="ReLU, dropout and GPU training at the size of ImageNet",
        num_params=60_965_224,
        macs=724_406_816,
        smallest=67,
        smallest_small=15,
        input_side=227,
    )
)

MODELS.register("alexnet_one_tower")(
    Architecture(
        builder=alexnet_one_tower,
        title="One weird trick for parallelizing convolutional neural networks",
        authors="Krizhevsky",
        year=2014,
        source="arXiv 1404.5997",
        idea=(
            "Convolutions hold few weights and much arithmetic, dense layers the opposite: train "
            "the first in parallel over pictures and the second over units. "
            "With that, the two towers of AlexNet are no longer needed and become one. "
            "Response normalisation is left out, as torchvision does."
        ),
        blocks=(
            "64@11×11 stride 4, 192@5×5, 384@3×3, 256@3×3, 256@3×3, overlapping max pooling 3/2 "
            "after the first, second and fifth; 4096, 4096 and 1000 units."
        ),
        introduced="data parallelism for convolutions, model parallelism for dense layers",
        num_params=61_100_840,
        macs=714_188_480,
        smallest=63,
        smallest_small=15,
        torchvision="alexnet",
    )
)
