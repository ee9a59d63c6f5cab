"""GoogLeNet (Szegedy, Liu, Jia, Sermanet, Reed, Anguelov, Erhan, Vanhoucke, Rabinovich 2015,
"Going deeper with convolutions", CVPR; arXiv 1409.4842, table 1 and fig. 3).

Nine inception modules: 1×1, 3×3 and 5×5 convolutions and a pooling side by side, joined, with
1×1 convolutions before the costly ones. Layer by layer this is torchvision's GoogLeNet, whose
weights are those of TensorFlow's, and differs from the paper where that does: batch norm (eps
1e-3) after every convolution instead of local response normalisation in the stem; **3×3
convolutions where table 1 says 5×5**; the last pooling 2×2; auxiliary heads that average to
4×4 by adaptive windows. torchvision drops 0.2 before the classifier, here it is the paper's
0.4. The 'small' stem is a 3×3 convolution with stride 1 without the first pooling.
The weights that torchvision publishes expect pictures scaled to [-1, 1], not ImageNet's mean
and deviation (`transform_input` there).

Auxiliary heads (section 5) are for training only. `googlenet` has none, as it is used;
`googlenet_auxiliary` is the same network with two, at 4a and 4d, as the paper trained it. In
training mode it gives `Outputs`, for a loss of loss(main) + 0.3 · Σ loss(auxiliary); in
evaluation mode the heads do not run, and it gives what `googlenet` with its weights does.

Initialisation as in torchvision: weights of convolutions and Linear layers normal with
deviation 0.01 (its cut at 200 deviations cuts nothing), batch norm 1 and 0.
"""

from dataclasses import replace

import torch
from torch import nn

from hubel.layers import adaptive_average_pool, batch_norm, conv, max_pool, scaled
from hubel.models import MODELS, Architecture, Model, Outputs, Stem

__all__ = ["GoogLeNet", "Inception", "googlenet", "googlenet_auxiliary"]

_TABLE_1 = {
    # #1×1, #3×3 reduce, #3×3, #5×5 reduce, #5×5, pool proj
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
_STAGES = (("3a", "3b"), ("4a", "4b", "4c", "4d", "4e"), ("5a", "5b"))
"""Modules between two poolings."""
_TAPPED = ("4a", "4d")
"""The modules whose outputs the auxiliary heads read."""
_AUXILIARY_WEIGHT = 0.3
"""What an auxiliary head's loss counts beside the main one (section 5)."""


def _unit(
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    padding: int = 0,
) -> nn.Module:
    """Convolution, batch norm, ReLU."""
    return nn.Sequential(
        conv(
            spatial_dims,
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            bias=False,
        ),
        batch_norm(spatial_dims, out_channels, eps=1e-3),
        nn.ReLU(),
    )


class Inception(nn.Module):
    """Four branches on the same input, joined (fig. 2b); `row` is one of table 1."""

    def __init__(self, spatial_dims: int, in_channels: int, row: tuple[int, ...]) -> None:
        super().__init__()
        ones, threes_reduce, threes, fives_reduce, fives, projection = row
        self.branches = nn.ModuleList(
            [
                _unit(spatial_dims, in_channels, ones, 1),
                nn.Sequential(
                    _unit(spatial_dims, in_channels, threes_reduce, 1),
                    _unit(spatial_dims, threes_reduce, threes, 3, padding=1),
                ),
                nn.Sequential(
                    _unit(spatial_dims, in_channels, fives_reduce, 1),
                    # 5×5 in the paper; the weights that are published have 3×3.
                    _unit(spatial_dims, fives_reduce, fives, 3, padding=1),
                ),
                nn.Sequential(
                    max_pool(spatial_dims, 3, 1, padding=1),
                    _unit(spatial_dims, in_channels, projection, 1),
                ),
            ]
        )
        self.out_channels = ones + threes + fives + projection

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(n, in_channels, *spatial) -> (n, out_channels, *spatial)."""
        return torch.cat([branch(input) for branch in self.branches], dim=1)


def _auxiliary_head(
    spatial_dims: int, in_channels: int, num_classes: int, dropout: float, width: float
) -> nn.Module:
    """(n, in_channels, *spatial) -> (n, num_classes), section 5."""
    channels, hidden = scaled(128, width), scaled(1024, width)
    return nn.Sequential(
        adaptive_average_pool(spatial_dims, 4),
        _unit(spatial_dims, in_channels, channels, 1),
        nn.Flatten(),
        nn.Linear(channels * 4**spatial_dims, hidden),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, num_classes),
    )


class GoogLeNet(Model):
    """See the module; input (n, in_channels, *spatial) of any size, output (n, num_classes).

    `dropout` acts before the Linear layer, `auxiliary_dropout` in the auxiliary heads, of
    which there are two if it is given and none if it is None.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        spatial_dims: int,
        dropout: float,
        stem: Stem,
        width: float,
        auxiliary_dropout: float | None = None,
    ) -> None:
        super().__init__()
        small = stem == "small"
        first, channels = scaled(64, width), scaled(192, width)
        self.conv1 = (
            _unit(spatial_dims, in_channels, first, 3, padding=1)
            if small
            else _unit(spatial_dims, in_channels, first, 7, stride=2, padding=3)
        )
        # Poolings round up (ceil_mode), as Caffe did: 112 -> 56 -> 28 -> 14 -> 7.
        self.pool1 = None if small else max_pool(spatial_dims, 3, 2, ceil_mode=True)
        self.conv2 = nn.Sequential(
            _unit(spatial_dims, first, first, 1),
            _unit(spatial_dims, first, channels, 3, padding=1),
        )
        modules = {}
        tapped = []
        for name, row in _TABLE_1.items():
            counts = tuple(scaled(count, width) for count in row)
            modules[name] = Inception(spatial_dims, channels, counts)
            channels = modules[name].out_channels
            if name in _TAPPED:
                tapped.append(channels)
        self.pools = nn.ModuleList(
            [max_pool(spatial_dims, side, 2, ceil_mode=True) for side in (3, 3, 2)]
        )
        self.inception = nn.ModuleDict(modules)
        self.auxiliary = nn.ModuleList(
            []
            if auxiliary_dropout is None
            else [
                _auxiliary_head(spatial_dims, c, num_classes, auxiliary_dropout, width)
                for c in tapped
            ]
        )
        self.average = adaptive_average_pool(spatial_dims, 1)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear):
                nn.init.normal_(module.weight, std=0.01)

    def _maps(self, input: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """The maps of `forward_features`, and those that the auxiliary heads read."""
        maps = []
        tapped = []
        input = self.conv1(input)
        if self.pool1 is not None:
            maps.append(input)
            input = self.pool1(input)
        input = self.conv2(input)
        maps.append(input)
        for pool, names in zip(self.pools, _STAGES, strict=True):
            input = pool(input)
            for name in names:
                input = self.inception[name](input)
                if name in _TAPPED:
                    tapped.append(input)
            maps.append(input)
        return maps, tapped

    def forward_features(self, input: torch.Tensor) -> list[torch.Tensor]:
        """Maps at strides 2, 4, 8, 16 and 32; with the small stem 1, 2, 4 and 8."""
        return self._maps(input)[0]

    def forward_head(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Outputs (n, num_classes)."""
        pooled = self.average(features[-1]).flatten(1)  # (n, c, *spatial) -> (n, c)
        output: torch.Tensor = self.head(self.dropout(pooled))
        return output

    def forward(self, input: torch.Tensor) -> torch.Tensor | Outputs:
        """Outputs (n, num_classes); in training mode with those of the heads that it has."""
        maps, tapped = self._maps(input)
        output = self.forward_head(maps)
        if not self.training or len(self.auxiliary) == 0:
            return output
        heads = zip(self.auxiliary, tapped, strict=True)
        return Outputs(output, tuple(head(map) for head, map in heads), _AUXILIARY_WEIGHT)


def googlenet(
    *,
    in_channels: int,
    num_classes: int,
    input_size: tuple[int, ...],
    spatial_dims: int,
    dropout: float | None,
    stem: Stem,
    width: float,
) -> Model:
    """The network without auxiliary heads; `dropout` None is 0.4 (table 1)."""
    rate = 0.4 if dropout is None else dropout
    return GoogLeNet(in_channels, num_classes, spatial_dims, rate, stem, width)


def googlenet_auxiliary(
    *,
    in_channels: int,
    num_classes: int,
    input_size: tuple[int, ...],
    spatial_dims: int,
    dropout: float | None,
    stem: Stem,
    width: float,
) -> Model:
    """The network with both auxiliary heads; `dropout` None is 0.4 before the classifier and
    0.7 in the heads (section 5)."""
    main, auxiliary = (0.4, 0.7) if dropout is None else (dropout, dropout)
    return GoogLeNet(in_channels, num_classes, spatial_dims, main, stem, width, auxiliary)


_BLOCKS = (
    "7×7 convolution with stride 2, max pooling, 1×1 and 3×3 convolutions, nine inception "
    "modules of four branches with poolings after the second and seventh, global average "
    "pooling and one Linear layer"
)
_PUBLISHED = Architecture(
    builder=googlenet,
    title="Going deeper with convolutions",
    authors="Szegedy, Liu, Jia, Sermanet, Reed, Anguelov, Erhan, Vanhoucke and Rabinovich",
    year=2015,
    source="CVPR 2015, p. 1; arXiv 1409.4842",
    idea=(
        "A module looks at its input through several window sizes at once and joins what they "
        "find, so that nobody has to choose one. "
        "1×1 convolutions shrink the channels before the larger windows, which keeps it cheap. "
        "Averaging the last map replaces the large dense layers."
    ),
    blocks=_BLOCKS + "; googlenet_auxiliary has its auxiliary heads, too.",
    introduced="parallel branches, 1×1 bottlenecks and auxiliary heads",
    num_params=6_624_904,
    macs=1_498_376_192,
    smallest=15,
    smallest_small=4,
    torchvision="googlenet",
)
MODELS.register("googlenet")(_PUBLISHED)
MODELS.register("googlenet_auxiliary")(
    replace(
        _PUBLISHED,
        builder=googlenet_auxiliary,
        blocks=_BLOCKS + "; two auxiliary heads, after the third and sixth module, of an average "
        "to 4×4, 1×1 convolution and two Linear layers, which work in training only.",
        num_params=13_004_888,  # macs: the heads' are of training, not of use
        torchvision=None,  # which publishes no learnt weights of the heads
    )
)
