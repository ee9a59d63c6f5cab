"""Contacts: a network for volumes that sums up what it sees at each place, ours.

Whether a ligand sits well in its pocket is the sum of what it touches, each touch a matter of a few
Å: so are the energy functions of docking written (Trott and Olson 2010, Journal of Computational
Chemistry 31, pp. 455-461). The network with a dense layer over all places must learn each touch
again wherever it may be. Here a few convolutions look at neighbourhoods of 3, 12 and 22 Å (of
points 0.5 Å apart), and the maps of all three are averaged over all places by weights that are
learned: the exponential of a 1×1×1 convolution, normalised, attention as Ilse, Tomczak and Welling
2018 pool instances (arXiv 1802.04712, section 2.4), without their tanh. Two dense layers give the
answer.

Average pooling 2; [convolution 3×3×3, batch norm, ReLU] of 32; average pooling 2; two of 64;
average pooling 2; one of 96; the weighted means of the 32, 64 and 96 maps; dense 96, ReLU, dense.

On CSAR's poses it learns in the first pass what gnina's networks learn in several
(docs/benchmarks.md).
"""

import torch
from torch import nn

from hubel.layers import average_pool, conv, conv_norm, scaled
from hubel.models import MODELS, Architecture, Model, Stem

__all__ = ["Contacts", "contacts"]

_WIDTHS = ((32,), (64, 64), (96,))
_HIDDEN = 96
_LIMIT = 8.0  # of the exponent: e⁸ is a weight of three thousand others
_MOMENTUM = 0.2  # of the running statistics, as swift's: a training may be short


class Contacts(Model):
    """See the module; input (n, in_channels, *spatial) of any size from 8 a side."""

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        spatial_dims: int,
        dropout: float,
        width: float,
    ) -> None:
        super().__init__()
        stages = []
        seen = []  # channels of the maps that are averaged
        channels = in_channels
        for widths in _WIDTHS:
            layers: list[nn.Module] = [average_pool(spatial_dims, 2)]
            for out_channels in (scaled(c, width) for c in widths):
                layers.append(
                    conv_norm(
                        spatial_dims,
                        channels,
                        out_channels,
                        3,
                        activation=nn.ReLU(),
                        momentum=_MOMENTUM,
                    )
                )
                channels = out_channels
            seen.append(channels)
            stages.append(nn.Sequential(*layers))
        self.stages = nn.ModuleList(stages)
        hidden = scaled(_HIDDEN, width)
        # No bias: weights that are normalised would not change with it.
        self.attention = conv(spatial_dims, seen[0], 1, 1, bias=False)
        nn.init.zeros_(self.attention.weight)  # type: ignore[arg-type]
        self.halve = average_pool(spatial_dims, 2)
        self.hidden = nn.Linear(sum(seen), hidden)
        self.activation = nn.ReLU()
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden, num_classes)

    def forward_features(self, input: torch.Tensor) -> list[torch.Tensor]:
        """Of strides 2, 4 and 8."""
        maps = []
        for stage in self.stages:
            input = stage(input)
            maps.append(input)
        return maps

    def forward_head(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Outputs (n, num_classes) from the means of all maps, by the weights of their places."""
        exponent = self.attention(features[0]).float()
        weights = exponent.clamp(-_LIMIT, _LIMIT).exp()  # (n, 1, *spatial)
        means = []
        for number, maps in enumerate(features):
            if number:
                weights = self.halve(weights)
            places = weights.flatten(2).transpose(1, 2)  # (n, places, 1)
            total = torch.bmm(maps.float().flatten(2), places)[..., 0]  # (n, c)
            means.append(total / places.sum(1))
        hidden = self.activation(self.hidden(torch.cat(means, dim=1)))
        output: torch.Tensor = self.head(self.dropout(hidden))
        return output


def contacts(
    *,
    in_channels: int,
    num_classes: int,
    input_size: tuple[int, ...],
    spatial_dims: int,
    dropout: float | None,
    stem: Stem,
    width: float,
) -> Model:
    """A `Builder`."""
    return Contacts(in_channels, num_classes, spatial_dims, dropout or 0.0, width)


MODELS.register("contacts")(
    Architecture(
        builder=contacts,
        title="Contacts: what is seen at each place, summed up",
        authors="ours, after Ilse, Tomczak and Welling",
        year=2026,
        source="pooling after arXiv 1802.04712, section 2.4",
        idea=(
            "How well a ligand sits in its pocket is a sum over what it touches, and each touch is "
            "a matter of a few Å. "
            "A few convolutions look at such neighbourhoods, and their maps are averaged by "
            "weights that the network learns. "
            "It need not learn a contact again for each place of the grid."
        ),
        blocks=(
            "Average pooling 2 and [convolution 3×3×3, batch norm, ReLU] of 32 maps, again with "
            "two of 64, again with one of 96; weighted means of all three, two dense layers."
        ),
        introduced="attention over places, for poses",
        num_params=375_331,
        macs=657_951_264,
        smallest=8,
        input_side=48,
        in_channels=28,
        num_classes=3,
        spatial_dims=3,
    )
)
