"""LeNet-5 (LeCun, Bottou, Bengio, Haffner 1998, "Gradient-based learning applied to
document recognition", Proc. IEEE 86(11), section II-B, fig. 2, p. 2283), in today's reading
and as printed.

`lenet5`: C1 6@5×5, S2, C3 16@5×5, S4, C5 120, F6 84, output: 61,706 parameters for 1×32×32 and
ten classes. Differs from the paper where today's libraries do: C3 sees all of S2's maps, S2
and S4 are plain averages without trained coefficients, tanh is not scaled, and the output
is a Linear layer instead of radial basis functions.

`lenet5_1998`: 60,000 parameters (C1 156, S2 12, C3 1,516, S4 32, C5 48,120, F6 10,164).
- S2 and S4 add up each window, multiply by a trained coefficient and add a trained bias, one
  of each a map.
- Each map of C3 sees the maps of S2 that table I gives it: 60 of 96 pairs.
- Every layer up to F6 ends in 1.7159·tanh(2/3·x) (eq. 6, appendix A).
- The output is the negative of the paper's radial basis functions, -Σ(x - w)² over F6's 84 units
  (eq. 7): cross-entropy on it is the paper's criterion (eq. 9) without its constant for rubbish.
  The codes w are ±1, fixed and not trained: no parameters. For digits they are pictures of 7×12
  pixels, drawn here in the manner of fig. 3, not copied from it; with fewer classes the first
  of them, and from the eleventh class on words of 84 bits that are drawn once and for all.
- Weights start uniform within ±2.4 / fan-in (appendix A).
Inputs other than 1×32×32: C5 sees the whole map, as in figure 2. In 3-D a window of S2 has eight
voxels. Dropout, which the paper does not have, acts before F6 if asked for.
"""

import math
import random

import torch
from torch import nn

from hubel.layers import average_pool, conv, scaled
from hubel.models import MODELS, Architecture, Model, Stem

__all__ = ["LeNet5", "LeNet5Of1998", "lenet5", "lenet5_1998"]

_CHANNELS = (6, 16, 120, 84)
"""Of C1 and C3, units of C5 and F6."""

# Table I: which maps of S2 each map of C3 sees. Six see three neighbours, six four neighbours,
# three four that are not neighbours, and one all; neighbours go around.
_TABLE_I = (
    ((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (4, 5, 0), (5, 0, 1)),
    (
        *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (3, 4, 5, 0), (4, 5, 0, 1), (5, 0, 1, 2)),
        *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    ),
    ((0, 1, 2, 3, 4, 5),),
)

# The digits as output codes of 7×12 pixels; # is +1 and . is -1.
_DIGITS = """
..###.. ...#... .#####. .#####. .....#.
.##.##. ..##... ##...## ##...## ....##.
##...## .###... ##...## .....## ...###.
##...## ...#... .....## .....## ..##.#.
##...## ...#... .....## .....## .##..#.
##...## ...#... ....##. ..####. ##...#.
##...## ...#... ...##.. ..####. #....#.
##...## ...#... ..##... .....## #######
##...## ...#... .##.... .....## #######
##...## ...#... ##..... .....## .....#.
.##.##. ...#... ##..... ##...## .....#.
..###.. .#####. ####### .#####. .....#.

####### ..####. ####### .#####. .#####.
##..... .##..## ####### ##...## ##...##
##..... ##..... .....## ##...## ##...##
##..... ##..... .....## ##...## ##...##
##..... ##..... ....##. ##...## ##...##
######. ##.###. ....##. .#####. ##...##
.....## ###..## ...##.. .#####. .######
.....## ##...## ...##.. ##...## ...#.##
.....## ##...## ..##... ##...## .....##
.....## ##...## ..##... ##...## .....##
##...## ##...## .##.... ##...## ##..##.
.#####. .#####. .##.... .#####. .####..
"""


def _output_codes(num_classes: int) -> torch.Tensor:
    """(num_classes, 84) of ±1: the digits, then words drawn from a generator of their own."""
    codes = []
    for strip in _DIGITS.strip().split("\n\n"):
        rows = [line.split() for line in strip.splitlines()]
        codes += ["".join(row[digit] for row in rows) for digit in range(len(rows[0]))]
    bits = random.Random(84)
    while len(codes) < num_classes:
        word = "".join(".#"[bits.getrandbits(1)] for _ in range(84))
        codes += [word] * (word not in codes)
    return torch.tensor(
        [[1.0 if pixel == "#" else -1.0 for pixel in code] for code in codes[:num_classes]]
    )


def _squash(value: torch.Tensor) -> torch.Tensor:
    """Eq. 6: f(±1) = ±1, and 1.7159 is where it saturates."""
    return 1.7159 * torch.tanh(value * (2 / 3))


def _features(channels: int, input_size: tuple[int, ...]) -> int:
    """Numbers in S4's maps."""
    return channels * math.prod(((side - 4) // 2 - 4) // 2 for side in input_size)


class LeNet5(Model):
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
        # In twos: the nearest 8 to half of its 6 maps would be more than it has.
        c1, c3, c5, f6 = (scaled(channels, width, 2) for channels in _CHANNELS)
        self.c1 = conv(spatial_dims, in_channels, c1, 5)
        self.s2 = average_pool(spatial_dims, 2)
        self.c3 = conv(spatial_dims, c1, c3, 5)
        self.s4 = average_pool(spatial_dims, 2)
        # C5 is a convolution whose 5×5 window covers the whole map: a Linear layer.
        self.c5 = nn.Linear(_features(c3, input_size), c5)
        self.f6 = nn.Linear(c5, f6)
        self.output = nn.Linear(f6, num_classes)
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
    width: float,
) -> Model:
    """The network for any input of at least 16 pixels a side; it has one stem."""
    rate = 0.0 if dropout is None else dropout
    return LeNet5(in_channels, num_classes, input_size, spatial_dims, rate, width)


class _SubSampling(nn.Module):
    """S2 and S4: the sum of each window times a coefficient plus a bias, one pair a map."""

    def __init__(self, spatial_dims: int, channels: int) -> None:
        super().__init__()
        self.pool = average_pool(spatial_dims, 2)
        self.fan_in = 2**spatial_dims
        shape = (channels, *(1 for _ in range(spatial_dims)))
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.empty(shape))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(n, c, *spatial) -> (n, c, *spatial / 2)."""
        output: torch.Tensor = self.pool(input) * (self.fan_in * self.weight) + self.bias
        return output


class _Table(nn.Module):
    """C3: a convolution of which each output map sees the maps that table I gives it.

    The output maps that see equally many are one grouped convolution, a group a map, over
    their input maps laid out one after the other: no weight is there only to be masked.
    """

    def __init__(self, spatial_dims: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList()
        for number, rows in enumerate(_TABLE_I):
            seen = torch.tensor([channel for row in rows for channel in row])
            self.register_buffer(f"seen_{number}", seen, persistent=False)
            self.parts.append(conv(spatial_dims, len(seen), len(rows), 5, groups=len(rows)))

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(n, 6, *spatial) -> (n, 16, *spatial - 4)."""
        return torch.cat(
            [
                part(input.index_select(1, self.get_buffer(f"seen_{number}")))
                for number, part in enumerate(self.parts)
            ],
            dim=1,
        )


class LeNet5Of1998(Model):
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
        self.s2 = _SubSampling(spatial_dims, 6)
        self.c3 = _Table(spatial_dims)
        self.s4 = _SubSampling(spatial_dims, 16)
        self.c5 = nn.Linear(_features(16, input_size), 120)
        self.dropout = nn.Dropout(dropout)
        self.f6 = nn.Linear(120, 84)
        self.codes: torch.Tensor
        self.register_buffer("codes", _output_codes(num_classes))
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, _SubSampling):
                bound = 2.4 / module.fan_in
            elif isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear):
                bound = 2.4 / module.weight[0].numel()
            else:
                continue
            for parameter in module.parameters(recurse=False):
                nn.init.uniform_(parameter, -bound, bound)

    def forward_features(self, input: torch.Tensor) -> list[torch.Tensor]:
        """S2 (6 channels, stride 2) and S4 (16 channels, stride 4)."""
        s2 = _squash(self.s2(_squash(self.c1(input))))
        s4 = _squash(self.s4(_squash(self.c3(s2))))
        return [s2, s4]

    def forward_head(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Outputs (n, num_classes): minus the squared distance of F6 from each code."""
        hidden = _squash(self.c5(features[-1].flatten(1)))
        f6 = _squash(self.f6(self.dropout(hidden)))
        return -(f6[:, None] - self.codes).square().sum(dim=2)  # (n, classes, 84) -> (n, classes)


def lenet5_1998(
    *,
    in_channels: int,
    num_classes: int,
    input_size: tuple[int, ...],
    spatial_dims: int,
    dropout: float | None,
    stem: Stem,
    width: float,
) -> Model:
    """The network as printed, for any input of at least 16 pixels a side; it has one stem."""
    rate = 0.0 if dropout is None else dropout
    return LeNet5Of1998(in_channels, num_classes, input_size, spatial_dims, rate)


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

MODELS.register("lenet5_1998")(
    Architecture(
        builder=lenet5_1998,
        title="Gradient-based learning applied to document recognition",
        authors="LeCun, Bottou, Bengio and Haffner",
        year=1998,
        source="Proceedings of the IEEE 86(11), p. 2278, section II-B",
        idea=(
            "LeNet-5 as it was printed, with what later readings left out. "
            "A table lets each map of C3 see only some of S2's, so that maps must come to differ, "
            "and sub-sampling has a trained coefficient. "
            "A class is not a unit but a small picture of ±1 that the last layer has to draw."
        ),
        blocks=(
            "C1 6@5×5, S2 with trained coefficients, C3 16@5×5 by table I, S4, C5 120, F6 84, "
            "each followed by 1.7159·tanh(2x/3), then distances to ten fixed codes."
        ),
        introduced="the convolutional network trained end to end",
        num_params=60_000,
        macs=325_680,
        smallest=16,
        input_side=32,
        in_channels=1,
        num_classes=10,
        fixed_width=True,
    )
)
