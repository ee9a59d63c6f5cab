"""`simple`: the three-layer network of a first course lab.

Three 3×3 convolutions of 16, 32 and 64 filters with padding 1, each followed by ReLU and
2×2 max pooling, then a hidden layer of 512 features. 3×32×32 -> 64×4×4 = 1024 -> 512 -> 10.

It differs from the lab's slide in one place that changes no result: pooling comes before
ReLU. The two commute (ReLU never swaps two values), and a quarter of the values remain.
Dropout, the lab's follow-up exercise, acts before both Linear layers.
"""

import torch
from torch import nn

from hubel.layers import conv, max_pool, scaled
from hubel.models import MODELS, Architecture, Model, Stem

__all__ = ["Simple", "simple"]

_CHANNELS = (16, 32, 64)
_HIDDEN = 512


class Simple(Model):
    """See the module; input (n, in_channels, *input_size), output (n, num_classes)."""

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        input_size: tuple[int, ...],
        spatial_dims: int,
        dropout: float,
        width: float,
    ) -> None:
        super().__init__()
        stages = []
        size = input_size
        for channels in _CHANNELS:
            out_channels = scaled(channels, width)
            stages.append(
                nn.Sequential(
                    conv(spatial_dims, in_channels, out_channels, 3, padding=1),
                    max_pool(spatial_dims, 2),
                    nn.ReLU(),
                )
            )
            in_channels = out_channels
            size = tuple(side // 2 for side in size)
        self.stages = nn.ModuleList(stages)
        features = in_channels
        for side in size:
            features *= side
        hidden = scaled(_HIDDEN, width)
        self.head = nn.Sequential(
            nn.Flatten(),  # (n, 64, *size) -> (n, features)
            nn.Dropout(dropout),
            nn.Linear(features, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )

    def forward_features(self, input: torch.Tensor) -> list[torch.Tensor]:
        """Maps at strides 2, 4 and 8 with 16, 32 and 64 channels."""
        maps = []
        for stage in self.stages:
            input = stage(input)
            maps.append(input)
        return maps

    def forward_head(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Outputs (n, num_classes)."""
        output: torch.Tensor = self.head(features[-1])
        return output


def simple(
    *,
    in_channels: int,
    num_classes: int,
    input_size: tuple[int, ...],
    spatial_dims: int,
    dropout: float | None,
    stem: Stem,
    width: float,
) -> Model:
    """The network for any input of at least 8 pixels a side; it has one stem."""
    rate = 0.2 if dropout is None else dropout
    return Simple(in_channels, num_classes, input_size, spatial_dims, rate, width)


MODELS.register("simple")(
    Architecture(
        builder=simple,
        title="A first convolutional network",
        authors="course lab",
        year=2022,
        source="the lab of a course on convolutional networks",
        idea=(
            "Three convolutions look for ever larger patterns while pooling shrinks the map. "
            "A hidden dense layer combines what they found, and a last one scores the classes. "
            "It is small enough to train on a laptop in minutes."
        ),
        blocks=(
            "3 × [conv 3×3, max pool 2, ReLU] with 16, 32 and 64 channels, then 512 hidden "
            "features."
        ),
        introduced="the network that a learner writes first",
        num_params=553_514,
        macs=3_331_072,
        smallest=8,
        input_side=32,
        in_channels=3,
        num_classes=10,
    )
)
