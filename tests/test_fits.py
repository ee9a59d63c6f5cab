"""A network that does not take its input is told where, in shapes."""

import pytest
import torch

from hubel.errors import UserError
from hubel.fits import check_fits


def slide_network(features: int) -> torch.nn.Sequential:
    """The lecture's own slide, whose Linear fits no square input."""
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.MaxPool2d(2), nn.ReLU(),
        nn.Conv2d(16, 32, 3), nn.MaxPool2d(2), nn.ReLU(),
        nn.Flatten(), nn.Linear(features, 10),
    )  # fmt: skip


def test_a_network_that_does_not_fit_says_so_in_shapes():
    with pytest.raises(
        UserError,
        match=r"Linear expects 256 features, the map before it is 32×6×6 = 1152 for a 3×32×32 "
        r"input \(layer '7'\); make it nn.Linear\(1152, 10\)",
    ):
        check_fits(slide_network(256), (3, 32, 32))
    assert check_fits(slide_network(1152), (3, 32, 32)) == (10,)


def test_wrong_channels_and_too_small_maps_say_so_too():
    with pytest.raises(
        UserError, match=r"Conv2d expects 3 channels, what comes before it has 1 \(1×32×32\)"
    ):
        check_fits(slide_network(1152), (1, 32, 32))
    with pytest.raises(UserError, match=r"Conv2d with kernel 3×3 is larger than the map .* 16×1×1"):
        check_fits(slide_network(1152), (3, 4, 4))


def test_checking_leaves_the_network_as_it_was():
    model = slide_network(1152).train()
    check_fits(model, (3, 32, 32))
    assert model.training
    assert not any(m._forward_pre_hooks for m in model.modules())
