"""LeNet-5 (LeCun, Bottou, Bengio, Haffner 1998, "Gradient-based learning applied to
document recognition", Proc. IEEE 86(11), fig. 2, p. 2283), in today's reading.

C1 6@5×5, S2, C3 16@5×5, S4, C5 120, F6 84, output: 61,706 parameters for 1×32×32 and ten
classes. Differs from the paper where today's libraries do: C3 sees all of S2's maps, S2
and S4 are plain averages without trained coefficients, tanh is not scaled, and the output
is a Linear layer instead of radial basis functions.
"""

import torch
from torch import nn

from hubel.layers import average_pool, conv
from hubel.models import MODELS, Architecture, Model, Stem

__all__ = ["LeNet5", "lenet5"]


class LeNet5(Model):
    """See the module; input (n, in_channels, *input_size), output (n, num_classes)."""

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        input_size: tuple[int, ...],
        spatial_dims: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.c1 = conv(spatial_dims, in_channels, 6, 5)
        self.s2 = average_pool(spatial_dims, 2)
        self.c3 = conv(spatial_dims, 6, 16, 5)
        self.s4 = average_pool(spatial_dims, 2)
        features = 16
        for side in input_size:
            features *= ((side - 4) // 2 - 4) // 2
        # C5 is a convolution whose 5×5 window covers the whole map: a Linear layer.
        self.c5 = nn.Linear(features, 120)
        self.f6 = nn.Linear(120, 84)
        self.output = nn.Linear(84, num_classes)
        self.dropout = nn.Dropout(dropout)

    def forward_features(self, input: torch.Tensor) -> list[torch.Tensor]:
        """S2 (6 channels, stride 2) and S4 (16 channels, stride 4)."""
        s2 = self.s2(torch.tanh(self.c1(input)))
        s4 = self.s4(torch.tanh(self.c3(s2)))
        return [s2, s4]

    def forward_head(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Outputs (n, num_classes)."""
        hidden = torch.tanh(self.c5(features[-1].flatten(1)))
        hidden = torch.tanh(self.f6(self.dropout(hidden)))
        output: torch.Tensor = self.output(self.dropout(hidden))
        return output


def lenet5(
    *,
    in_channels: int,
    num_classes: int,
    input_size: tuple[int, ...],
    spatial_dims: int,
    dropout: float | None,
    stem: Stem,
) -> Model:
    """The network for any input of at least 16 pixels a side; it has one stem."""
    rate = 0.0 if dropout is None else dropout
    return LeNet5(in_channels, num_classes, input_size, spatial_dims, rate)


MODELS.register("lenet5")(
    Architecture(
        builder=lenet5,
        title="Gradient-based learning applied to document recognition",
        authors="LeCun, Bottou, Bengio and Haffner",
        year=1998,
        source="Proceedings of the IEEE 86(11), p. 2278",
        idea=(
            "A digit is recognised from its pixels alone, without features made by hand. "
            "Convolutions share their few weights over the picture, and sub-sampling makes the "
            "answer tolerant to small shifts. "
            "All of it is trained at once by gradient descent."
        ),
        blocks="C1 6@5×5, S2, C3 16@5×5, S4, C5 120, F6 84, each followed by tanh.",
        introduced="the convolutional network trained end to end",
        num_params=61_706,
        macs=416_520,
        smallest=16,
        input_side=32,
        in_channels=1,
        num_classes=10,
    )
)
