"""Sides that grow with training."""

import pytest
import torch
from torch import nn

from hubel.config import FitConfig
from hubel.models import ModelSpec, build
from hubel.train.progressive import Progressive, takes_smaller
from hubel.train.recipe import make_progressive


def test_sides_grow_in_eighths_and_are_whole_for_the_last_quarter():
    grow = Progressive(0.5)
    shares = [grow.share(i / 100) for i in range(101)]
    assert shares[0] == 0.5
    assert shares == sorted(shares)
    assert set(shares) == {0.5, 0.625, 0.75, 0.875, 1.0}
    assert all(share == 1.0 for share in shares[75:])
    assert grow.share(0.7499) < 1.0
    assert Progressive(0.6).share(0.0) == 0.5  # rounded down to an eighth
    assert Progressive(1.0).share(0.0) == 1.0


@pytest.mark.parametrize("size", [(64, 80), (16, 24, 32)])
def test_pictures_are_resized_evenly(size):
    grow = Progressive(0.75)
    input = torch.ones(2, 3, *size)
    small = grow(input, 0.0)
    assert small.shape == (2, 3, *(side * 3 // 4 for side in size))
    torch.testing.assert_close(small, torch.ones_like(small))
    assert grow(input, 0.8) is input
    ramp = torch.arange(size[-1]).float().expand(1, 1, *size)
    row = grow(ramp, 0.0)[0, 0].flatten(0, -2)[0]
    assert bool((row.diff() > 0).all())
    assert float(row.mean()) == pytest.approx(float(ramp.mean()), rel=0.01)


@pytest.mark.parametrize(
    ("name", "side", "does"),
    [("swift_s", 64, True), ("swift_s", 63, False), ("simple", 64, False), ("vit_tiny", 64, False)],
)
def test_only_for_large_pictures_and_networks_that_take_any_size(name, side, does):
    model = build(ModelSpec(name, 3, 4, (side, side)))
    assert (make_progressive(model, FitConfig(), (3, side, side)) is not None) == does
    assert make_progressive(model, FitConfig(recipe="plain"), (3, side, side)) is None


def test_a_network_that_refuses_in_its_own_way_keeps_whole_pictures():
    class Refuses(nn.Conv2d):
        def forward(self, input):
            torch._assert(input.shape[-1] == 64, "64 only")  # as torchvision's ViT does
            return super().forward(input)

    model = Refuses(3, 4, 3).train()
    assert not takes_smaller(model, (3, 64, 64), 0.5)
    assert model.training


def test_looking_whether_smaller_fits_changes_nothing():
    model = build(ModelSpec("swift_s", 3, 4, (64, 64))).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert takes_smaller(model, (3, 64, 64), 0.5)
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
