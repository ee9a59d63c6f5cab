"""Test-time views: against their definition, and what they may not depend on."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hubel.models import Model
from hubel.views import with_views


class Linear(Model):
    """Sees every pixel apart, so that each view has an output of its own."""

    def __init__(self, size: tuple[int, ...], gain: float = 0.05) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(2 * torch.Size(size).numel(), 3)
        self.gain = gain
        self.seen = 0

    def forward_features(self, input):
        self.seen += len(input)
        return [input]

    def forward_head(self, features):
        return self.gain * self.layer(features[0].flatten(1))


def shifted(input: torch.Tensor, by: int) -> torch.Tensor:
    """Moved along every axis, by torch's reflect padding and a crop."""
    padded = F.pad(input, [abs(by)] * 2 * (input.ndim - 2), mode="reflect")
    for axis in range(2, input.ndim):
        padded = padded.narrow(axis, abs(by) - by, input.shape[axis])
    return padded


@pytest.mark.parametrize("size", [(6, 7), (64, 64), (5, 6, 7)])
@pytest.mark.parametrize("flip", ["none", "alternating"])
def test_all_views_by_hand(size, flip):
    model = Linear(size).eval()
    by = 2 if size[0] == 64 else 1
    input = torch.randn(4, 2, *size)
    with torch.no_grad():
        found = with_views(model, "all", flip)(input)
        views = [(0.5, input), (0.25, shifted(input, by)), (0.25, shifted(input, -by))]
        expected = sum(w * model(v) for w, v in views)
        if flip != "none":
            mirrored = sum(w * model(v.flip(-1)) for w, v in views)
            expected = (expected + mirrored) / 2
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, model(input), atol=1e-3)


def test_only_the_unsure_are_looked_at_again_whatever_the_batch():
    model = Linear((6, 6), gain=3.0).eval()
    input = torch.randn(60, 2, 6, 6)
    with torch.no_grad():
        plain, every = model(input), with_views(model, "all", "none")(input)
        model.seen = 0
        found = with_views(model, "unsure", "none")(input)
        top = plain.softmax(1).topk(2).values
        sure = top[:, 0] - top[:, 1] >= 0.5
        assert 10 < int(sure.sum()) < 50
        assert model.seen == 60 + 2 * int((~sure).sum())
        torch.testing.assert_close(found[sure], plain[sure])
        torch.testing.assert_close(found[~sure], every[~sure], rtol=1e-4, atol=1e-5)
        alone = torch.cat([with_views(model, "unsure", "none")(one[None]) for one in input])
        torch.testing.assert_close(alone, found, rtol=1e-4, atol=1e-5)


def test_no_views_is_the_network_itself_and_a_pixel_has_none_to_shift():
    model = Linear((1, 1)).eval()
    assert with_views(model, "none", "random") is model
    input = torch.randn(3, 2, 1, 1)
    torch.testing.assert_close(with_views(model, "all", "random")(input), model(input))


def test_features_and_head_are_the_networks_own():
    model = Linear((4, 4))
    viewed = with_views(model, "all", "none")
    assert viewed.training == model.training
    input = torch.randn(2, 2, 4, 4)
    torch.testing.assert_close(viewed.forward_head(viewed.forward_features(input)), model(input))
