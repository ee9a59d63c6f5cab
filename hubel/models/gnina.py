"""The networks of gnina, which look at protein–ligand poses as densities of atoms on a grid.

`gnina_default2017`: Ragoza, Hochuli, Idrobo, Sunseri and Koes 2017, "Protein-Ligand Scoring with
Convolutional Neural Networks" (Journal of Chemical Information and Modeling 57, pp. 942-957,
figure 3): three times max pooling by 2, 3×3×3 convolution, ReLU, of 32, 64 and 128 maps; a dense
layer on all that is left.

`gnina_default2018` and `gnina_dense`: Francoeur et al. 2020, "Three-Dimensional Convolutional
Neural Networks and a Cross-Docked Data Set for Structure-Based Drug Design" (ibid. 60,
pp. 4200-4215, figure 2). The first pools by means and has a 1×1×1 convolution between its
octaves. The second, after Huang et al. (arXiv 1608.06993), has three blocks of four layers, batch
norm, 3×3×3 convolution to 16 maps and ReLU, each of which sees all maps before it; 1×1×1
convolution, ReLU and max pooling between blocks; and takes the maximum of each map at the end.

The published networks have a dense layer for the pose (two outputs, bad and good) and one for the
affinity (one); here one layer has the three, in this order. `published_weights` makes the one of
the two. Input of the paper's size is 28×48×48×48: 14 channels of the receptor's atom types and 14
of the ligand's, points 0.5 Å apart.
"""

import math
from collections.abc import Mapping

import torch
from torch import nn

from hubel.layers import average_pool, batch_norm, conv, max_pool
from hubel.models import MODELS, Architecture, Builder, Model, Stem

__all__ = ["GninaDefault", "GninaDense", "published_weights"]

_GROWTH, _LAYERS, _BLOCKS, _FIRST = 16, 4, 3, 32


class GninaDefault(Model):
    """See the module; input (n, in_channels, *input_size), output (n, num_classes).

    `widths` are the maps of the convolutions of each octave, of 3 and then of 1 place a side.
    """

    def __init__(
        self,
        widths: tuple[tuple[int, ...], ...],
        in_channels: int,
        num_classes: int,
        input_size: tuple[int, ...],
        spatial_dims: int,
        dropout: float,
        *,
        by_means: bool,
    ) -> None:
        super().__init__()
        pool = average_pool if by_means else max_pool
        stages = []
        channels = in_channels
        for octave in widths:
            layers: list[nn.Module] = [pool(spatial_dims, 2)]
            for kernel_size, width in zip((3, 1), octave, strict=False):
                layers += [
                    conv(spatial_dims, channels, width, kernel_size, padding=kernel_size // 2),
                    nn.ReLU(),
                ]
                channels = width
            stages.append(nn.Sequential(*layers))
        self.stages = nn.ModuleList(stages)
        self.dropout = nn.Dropout(dropout)
        places = math.prod(side >> len(widths) for side in input_size)
        self.head = nn.Linear(channels * places, num_classes)

    def forward_features(self, input: torch.Tensor) -> list[torch.Tensor]:
        """Of strides 2, 4 and 8."""
        maps = []
        for stage in self.stages:
            input = stage(input)
            maps.append(input)
        return maps

    def forward_head(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Outputs (n, num_classes)."""
        output: torch.Tensor = self.head(self.dropout(features[-1].flatten(1)))
        return output


class _DenseLayer(nn.Module):
    """Batch norm, convolution, ReLU, and what it was made of: (n, c, …) -> (n, c + growth, …)."""

    def __init__(self, spatial_dims: int, in_channels: int) -> None:
        super().__init__()
        self.norm = batch_norm(spatial_dims, in_channels)
        self.conv = conv(spatial_dims, in_channels, _GROWTH, 3, padding=1)
        self.activation = nn.ReLU()

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return torch.cat([input, self.activation(self.conv(self.norm(input)))], dim=1)


class GninaDense(Model):
    """See the module; input (n, in_channels, *spatial) of any size, output (n, num_classes)."""

    def __init__(
        self, in_channels: int, num_classes: int, spatial_dims: int, dropout: float
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            max_pool(spatial_dims, 2),
            conv(spatial_dims, in_channels, _FIRST, 3, padding=1),
            nn.ReLU(),
        )
        channels = _FIRST
        stages = []
        for block in range(_BLOCKS):
            layers: list[nn.Module] = []
            if block:
                layers += [
                    conv(spatial_dims, channels, channels, 1),
                    nn.ReLU(),
                    max_pool(spatial_dims, 2),
                ]
            for _ in range(_LAYERS):
                layers.append(_DenseLayer(spatial_dims, channels))
                channels += _GROWTH
            stages.append(nn.Sequential(*layers))
        self.stages = nn.ModuleList(stages)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels, num_classes)

    def forward_features(self, input: torch.Tensor) -> list[torch.Tensor]:
        """Of the three blocks, of strides 2, 4 and 8."""
        maps = []
        input = self.stem(input)
        for stage in self.stages:
            input = stage(input)
            maps.append(input)
        return maps

    def forward_head(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Outputs (n, num_classes) from the largest value of each map."""
        output: torch.Tensor = self.head(self.dropout(features[-1].flatten(2).amax(2)))
        return output


def published_weights(state: Mapping[str, torch.Tensor], model: Model) -> dict[str, torch.Tensor]:
    """The tensors of a published network under the names of `model`, the same with three outputs.

    The layers stand in the same order in both; the two dense layers become one. Raises
    `ValueError` where `state` is of another network.
    """
    heads = ("pose_output", "affinity_output")
    body = [tensor for name, tensor in state.items() if not name.startswith(heads)]
    own = {name: tensor.shape for name, tensor in model.state_dict().items()}
    names = [name for name in own if not name.startswith("head.")]
    if len(body) != len(names):
        raise ValueError(f"has {len(body)} tensors before its outputs, the network {len(names)}")
    made = dict(zip(names, body, strict=True))
    try:
        for part in ("weight", "bias"):
            made[f"head.{part}"] = torch.cat([state[f"{head}.{part}"] for head in heads])
    except KeyError as error:
        raise ValueError(f"has no {error}") from None
    for name, shape in own.items():
        if made[name].shape != shape:
            raise ValueError(
                f"its {name} is {tuple(made[name].shape)}, the network's {tuple(shape)}"
            )
    return made


def _default(widths: tuple[tuple[int, ...], ...], *, by_means: bool) -> Builder:
    def build(
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
        return GninaDefault(
            widths, in_channels, num_classes, input_size, spatial_dims, rate, by_means=by_means
        )

    return build


def gnina_dense(
    *,
    in_channels: int,
    num_classes: int,
    input_size: tuple[int, ...],
    spatial_dims: int,
    dropout: float | None,
    stem: Stem,
    width: float,
) -> Model:
    """The network for any input of at least 8 places a side; it has one stem."""
    return GninaDense(in_channels, num_classes, spatial_dims, dropout or 0.0)


_RAGOZA = "Ragoza, Hochuli, Idrobo, Sunseri, Koes"
_FRANCOEUR = "Francoeur, Masuda, Sunseri, Jia, Iovanisci, Snyder, Koes"
_AUTHORS_TITLE = {
    2017: (_RAGOZA, "Protein-Ligand Scoring with Convolutional Neural Networks"),
    2020: (
        _FRANCOEUR,
        "Three-Dimensional Convolutional Neural Networks and a Cross-Docked Data Set for "
        "Structure-Based Drug Design",
    ),
}


def _register(
    name: str,
    builder: Builder,
    year: int,
    source: str,
    idea: str,
    blocks: str,
    introduced: str,
    num_params: int,
    macs: int,
) -> None:
    authors, title = _AUTHORS_TITLE[year]
    MODELS.register(name)(
        Architecture(
            builder=builder,
            title=title,
            authors=authors,
            year=year,
            source=source,
            idea=idea,
            blocks=blocks,
            introduced=introduced,
            num_params=num_params,
            macs=macs,
            smallest=8,
            input_side=48,
            in_channels=28,
            num_classes=3,
            spatial_dims=3,
            fixed_width=True,
        )
    )


_register(
    "gnina_default2017",
    _default(((32,), (64,), (128,)), by_means=False),
    2017,
    "Journal of Chemical Information and Modeling 57, pp. 942-957",
    "A pose is a picture of atoms: a density for each kind of atom on a grid of points. A small "
    "network learns what good poses look like from docked ones. It tells near-native poses from "
    "others better than the energy function that made them.",
    "3 × [max pooling 2, convolution 3×3×3, ReLU] with 32, 64 and 128 maps, a dense layer.",
    "poses scored by a 3-D CNN",
    383_843,
    477_840_384,
)
_register(
    "gnina_default2018",
    _default(((32, 32), (64, 64), (128,)), by_means=True),
    2020,
    "Journal of Chemical Information and Modeling 60, pp. 4200-4215, figure 2",
    "Trained on 22 million cross-docked poses, it scores a pose and predicts its affinity at once. "
    "Means in place of maxima keep how much of an atom is where. 1×1×1 convolutions add depth at "
    "little cost.",
    "Average pooling 2, convolution 3×3×3, ReLU, 1×1×1, ReLU, twice, with 32 and 64 maps; average "
    "pooling and 3×3×3 with 128; a dense layer.",
    "pose and affinity from one network",
    389_059,
    499_074_048,
)
_register(
    "gnina_dense",
    gnina_dense,
    2020,
    "Journal of Chemical Information and Modeling 60, pp. 4200-4215, figure 2",
    "Every layer of a block sees the maps of all layers before it. It is the most accurate of the "
    "paper's networks, and the slowest. The maximum of each map is what counts in the end, "
    "wherever it is.",
    "Max pooling 2, convolution 3×3×3 to 32 maps; 3 blocks of 4 × [batch norm, convolution 3×3×3 "
    "to 16, ReLU, concatenation], 1×1×1 and max pooling between; global maximum, a dense layer.",
    "dense blocks for poses",
    685_123,
    2_270_786_208,
)
