"""What is particular to the implicit road: tiles, and the seams between them."""

import random

import pytest
import torch
import torch.nn.functional as F

from hubel.conv.case import ConvCase
from hubel.conv.method import METHODS
from hubel.conv.methods import implicit
from hubel.conv.tiles import tiles_of
from hubel.errors import UserError

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def drawn_cases(number, seed):
    """Small cases of any kind; padding beyond the picture, dilation beyond it, groups."""
    draw = random.Random(seed)
    while number:
        dims, groups = draw.choice((1, 2, 2, 3)), draw.choice((1, 1, 2, 3))

        def each(low, high, dims=dims):
            return tuple(draw.randint(low, high) for _ in range(dims))

        try:
            case = ConvCase.of(
                draw.randint(1, 4),
                groups * draw.randint(1, 3),
                groups * draw.randint(1, 3),
                each(1, 9 if dims < 3 else 6),
                each(1, 4),
                stride=each(1, 3),
                padding=tuple(zip(each(0, 5), each(0, 5), strict=True)),
                dilation=each(1, 3),
                groups=groups,
            )
        except UserError:
            continue
        number -= 1
        yield case


@pytest.mark.parametrize("least_pixels", [1, 4, 15, 40, 1000])
def test_tiles_meet_without_a_seam(least_pixels, monkeypatch):
    """Any size of tile gives the sums of the definition, forward and for both gradients."""
    monkeypatch.setattr(implicit, "LEAST_PIXELS", least_pixels)
    monkeypatch.setattr(implicit, "LOWERED_PART", 10**9)
    road = METHODS["implicit"]
    for case in drawn_cases(60, least_pixels):
        x = torch.randn(case.input_shape, dtype=torch.float64, requires_grad=True)
        w = torch.randn(case.weight_shape, dtype=torch.float64, requires_grad=True)
        padded = F.pad(x, [side for pair in reversed(case.padding) for side in pair])
        out = CONV[case.dims](padded, w, None, case.stride, 0, case.dilation, case.groups)
        g = torch.randn_like(out)
        gx, gw = torch.autograd.grad(out, (x, w), g)
        with torch.no_grad():
            found = (
                road.forward(x, w, case),
                road.grad_input(g, w, case),
                road.grad_weight(g, x, case),
            )
        for ours, theirs in zip(found, (out.detach(), gx, gw), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10, msg=str(case))


@pytest.mark.parametrize("pixels", [1, 50, 500, 10**6])
def test_tiles_cover_every_output_once(pixels):
    case = ConvCase.of(5, 3, 4, (17, 11), 3, stride=(2, 1), padding=1)
    counts = torch.zeros(case.n, *case.output_size)
    for tile in tiles_of(case, pixels):
        tile.of_output(counts).add_(1)
    assert bool((counts == 1).all())


def test_nothing_is_padded_when_padding_keeps_the_size():
    """The rows of the GEMM are then rows of the output: no wasted work, no copy of the sums."""
    case = ConvCase.of(6, 32, 8, (14, 14), 3, padding=1)
    tiles = tiles_of(case, 2 * 14 * 14)
    assert [tile.num for tile in tiles] == [2, 2, 2]
    assert all(tile.in_place(case) for tile in tiles)
    assert all(tile.num_rows == 2 * 14 * 14 for tile in tiles)
