"""Every network of the registry: shapes, parameters, gradients, in 2-D and 3-D."""

import pytest
import torch

from hubel.errors import UserError
from hubel.fits import check_fits
from hubel.models import MODELS, ModelSpec, build


@pytest.mark.parametrize("name", MODELS.names())
@pytest.mark.parametrize("size", [(16, 16), (20, 28), (16, 16, 18)])
@pytest.mark.parametrize("in_channels", [1, 3, 5])
def test_any_input_gives_finite_outputs_and_gradients_everywhere(name, size, in_channels):
    torch.manual_seed(0)
    spec = ModelSpec(name, in_channels, 7, size, dropout=0.1)
    model = build(spec)
    input = torch.randn(2, in_channels, *size)
    output = model(input)
    assert output.shape == (2, 7)
    assert output.isfinite().all()
    output.square().sum().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name
    maps = model.forward_features(input)
    for map in maps:
        assert map.ndim == 2 + len(size)
    assert torch.equal(model.eval()(input), model.forward_head(model.forward_features(input)))


@pytest.mark.parametrize(
    ("name", "shape", "classes", "params"),
    [
        # C1 156, C3 2,416, C5 48,120, F6 10,164, output 850
        ("lenet5", (1, 32, 32), 10, 61_706),
        # 448 + 4,640 + 18,496 + 1024·512 + 512 + 5,130
        ("simple", (3, 32, 32), 10, 553_514),
        # 3-D: 16(27+1) + 32(16·27+1) + 64(32·27+1) + 64·3³·512 + 512 + 5,130
        ("simple", (1, 24, 24, 24), 10, 448 + 13_856 + 55_360 + 884_736 + 512 + 5_130),
    ],
)
def test_parameter_counts(name, shape, classes, params):
    model = build(ModelSpec(name, shape[0], classes, shape[1:]))
    assert sum(p.numel() for p in model.parameters()) == params


def test_simple_pools_before_relu_and_equals_relu_before_pool():
    torch.manual_seed(0)
    model = build(ModelSpec("simple", 3, 10, (32, 32))).eval()
    input = torch.randn(4, 3, 32, 32)
    value = input
    for stage in model.stages:
        value = torch.nn.functional.max_pool2d(torch.relu(stage[0](value)), 2)
    torch.testing.assert_close(model.forward_features(input)[-1], value, rtol=0, atol=0)


@pytest.mark.parametrize(("name", "smallest"), [("simple", 8), ("lenet5", 16)])
def test_too_small_an_input_names_the_smallest(name, smallest):
    build(ModelSpec(name, 1, 2, (smallest, smallest)))
    message = (
        rf"--model '{name}' needs an input of at least {smallest}×{smallest}, got "
        rf"{smallest - 1}×40; enlarge it with --img-size {smallest}"
    )
    with pytest.raises(UserError, match=message):
        build(ModelSpec(name, 1, 2, (smallest - 1, 40)))


def test_unknown_names_get_a_suggestion():
    with pytest.raises(UserError, match=r"--model 'lenet' is not known; did you mean 'lenet5'\?"):
        build(ModelSpec("lenet", 1, 2, (32, 32)))


@pytest.mark.parametrize(("channels", "classes"), [(0, 2), (1, 1)])
def test_impossible_numbers_are_refused(channels, classes):
    with pytest.raises(UserError, match=r"at least 1 input channel and 2 classes, got"):
        build(ModelSpec("simple", channels, classes, (32, 32)))


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
        r"input \(layer '7'\); make it Linear\(1152, 10\)",
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
