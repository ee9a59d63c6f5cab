"""Whitening, identities, zeroed branches, and the roles of parameters."""

import pytest
import torch
from torch import nn

from hubel.models import ModelSpec, build
from hubel.train.initialise import begin_as_identity
from hubel.train.roles import roles_of
from hubel.train.whitening import first_convolution, patches_of, whiten, whitening_filters


def smooth(n: int, channels: int, size: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    """Noise whose neighbours are alike, as in pictures: (n, channels, *size)."""
    input = torch.randn(n, channels, *size, generator=torch.Generator().manual_seed(seed))
    mix = torch.tensor([[1.0, 0.8, 0.7], [0.0, 0.5, 0.3], [0.0, 0.0, 0.2]])[:channels, :channels]
    input = torch.einsum("nc...,cd->nd...", input, mix)
    for axis in range(2, input.ndim):
        input = input + input.roll(1, axis)
    return input - input.mean()


@pytest.mark.parametrize(("channels", "size"), [(3, (16, 12)), (1, (9, 9)), (2, (9, 10, 9))])
def test_the_outputs_of_swifts_first_layer_are_white(channels, size):
    input = smooth(200, channels, size)
    model = build(ModelSpec("swift_s", channels, 4, size))
    done = whiten(model, input)
    taps = channels * 2 ** len(size)
    assert (done.layer, done.filters, done.frozen) == ("whiten", 2 * taps, True)
    assert not model.whiten.weight.requires_grad
    assert model.whiten.bias.requires_grad
    with torch.no_grad():
        model.whiten.bias.zero_()
        output = model.whiten(input).movedim(1, -1).reshape(-1, 2 * taps)
    first, negatives = output[:, :taps], output[:, taps:]
    torch.testing.assert_close(negatives, -first, rtol=1e-4, atol=1e-4)
    covariance = first.T @ first / len(first)
    # eps takes a little from each variance: the most from what varies least.
    assert float((covariance - torch.diag(covariance.diagonal())).abs().max()) < 1e-3
    assert float(covariance.diagonal().min()) > 0.95
    assert float(covariance.diagonal().max()) < 1 + 1e-4
    before = input.flatten(2).movedim(1, -1).reshape(-1, channels)
    assert channels == 1 or float(torch.corrcoef(before.T)[0, 1].abs()) > 0.3  # it was not white


def test_eps_holds_back_what_hardly_varies():
    patches = torch.randn(4000, 2) * torch.tensor([1.0, 1e-6])
    output = patches @ whitening_filters(patches).T
    assert float(output[:, 0].std()) == pytest.approx(1, abs=0.01)
    assert float(output[:, 1].std()) < 1e-3


def test_patches_are_the_windows_that_a_convolution_sees():
    input, weight = torch.randn(2, 3, 5, 6), torch.randn(4, 3, 2, 3)
    rows = patches_of(input, (2, 3)) @ weight.flatten(1).T
    expected = nn.functional.conv2d(input, weight).movedim(1, -1).reshape(-1, 4)
    torch.testing.assert_close(rows, expected, rtol=1e-4, atol=1e-5)


def test_a_layer_with_more_filters_keeps_the_others_and_learns():
    torch.manual_seed(0)
    model = build(ModelSpec("resnet18", 3, 4, (16, 16)))
    name, layer = first_convolution(model, (3, 16, 16))
    assert name == "stem.0"
    rest = layer.weight[54:].detach().clone()
    done = whiten(model, smooth(50, 3, (16, 16)))
    assert (done.filters, done.frozen, layer.weight.requires_grad) == (54, False, True)
    assert torch.equal(layer.weight[54:], rest)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("simple", r"windows of 3×3 with 3 channels need 54 filters, it has 16"),
        ("vit_tiny", r"windows of 4×4 are larger than 3 a side"),
    ],
)
def test_a_shape_that_does_not_allow_it_is_left_alone(name, why):
    torch.manual_seed(0)
    model = build(ModelSpec(name, 3, 4, (16, 16)))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    done = whiten(model, smooth(10, 3, (16, 16)))
    assert why in done.refusal
    assert done.sentence() == f"no whitening first convolution: {done.refusal}"
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_an_input_smaller_than_the_window_is_left_alone():
    torch.manual_seed(0)
    model = build(ModelSpec("resnet18", 3, 4, (2, 5)))
    before = model.stem[0].weight.detach().clone()
    assert whiten(model, torch.randn(5, 3, 2, 5)).refusal == (
        "windows of 3×3 do not fit into an input of 2×5"
    )
    assert torch.equal(model.stem[0].weight, before)
    assert whiten(model, torch.randn(5, 3, 3, 5)).filters == 54  # one window fits


def test_a_network_without_convolutions_has_nothing_to_whiten():
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
    assert whiten(model, torch.randn(5, 3, 4, 4)).refusal == (
        "the input does not go into a convolution"
    )


def test_convolutions_of_a_plain_network_pass_their_input_on():
    torch.manual_seed(0)
    model = build(ModelSpec("simple", 3, 4, (16, 16)))
    first = model.stages[0][0].weight.detach().clone()
    assert begin_as_identity(model, torch.randn(4, 3, 16, 16)).identities == 2
    assert torch.equal(model.stages[0][0].weight, first)
    layer = model.stages[1][0]  # 16 -> 32 channels
    input = torch.randn(2, 16, 8, 8)
    with torch.no_grad():
        layer.bias.zero_()
        torch.testing.assert_close(layer(input)[:, :16], input)
        assert float(layer(input)[:, 16:].abs().max()) > 0.1


def test_a_channel_that_hardly_varies_is_not_passed_on():
    """Else each batch norm behind it makes its gradient a hundred times larger."""
    torch.manual_seed(0)
    model = build(ModelSpec("swift_s", 1, 4, (24, 24, 24)))
    volumes = torch.randn(8, 1, 24, 24, 24)
    with torch.no_grad():
        model.whiten.weight[3] *= 1e-3
    own = {n: p.detach().clone() for n, p in model.named_parameters()}
    found = begin_as_identity(model, volumes)
    assert (found.identities, found.still) == (6, 1)
    assert "6 convolutions as the identity but for 1 still channel" in found.sentence()
    name = "blocks.0.halving.0.weight"
    now = dict(model.named_parameters())[name].detach()
    assert torch.equal(now[3], own[name][3])
    assert float(now[2].sum()) == 1.0
    model.train()(volumes).square().mean().backward()
    lengths = [m.weight.grad.norm().item() for b in model.blocks for m in b.modules()
               if isinstance(m, nn.Conv3d)]  # fmt: skip
    assert max(lengths) < 100 * min(lengths)


def test_beginning_leaves_no_trace_but_weights():
    model = build(ModelSpec("swift_s", 1, 4, (16, 16)))
    state = {n: t.clone() for n, t in model.state_dict().items()}
    begin_as_identity(model, torch.randn(4, 1, 16, 16))
    for name, tensor in model.state_dict().items():
        if "running" in name or "num_batches" in name:
            assert torch.equal(tensor, state[name])
    assert all(m.training and not m._forward_hooks for m in model.modules())
    assert all(m.track_running_stats for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    assert begin_as_identity(model, torch.randn(1, 1, 16, 16)).identities == 6


@pytest.mark.parametrize(
    ("name", "dims", "identities", "zeros"),
    [
        ("swift_s", 2, 6, 0),
        ("swift_s", 3, 6, 0),
        ("resnet18", 2, 0, 8),
        ("resnet50", 2, 0, 16),
        ("vit_tiny", 2, 0, 0),
    ],
)
def test_what_begins_how(name, dims, identities, zeros):
    model = build(ModelSpec(name, 3, 4, (12,) * dims))
    found = begin_as_identity(model, torch.randn(4, 3, *(12,) * dims))
    assert (found.identities, found.zeros) == (identities, zeros)


def test_a_residual_network_with_zeroed_branches_is_its_shortcuts():
    torch.manual_seed(0)
    model = build(ModelSpec("resnet18", 3, 4, (16, 16))).eval()
    begin_as_identity(model, torch.randn(4, 3, 16, 16))
    norms = [block.residual[4] for stage in model.stages for block in stage]
    assert all(not norm.weight.any() for norm in norms)
    shortcuts = [b.shortcut[1] for stage in model.stages[1:] for b in stage[:1]]
    assert all(norm.weight.all() for norm in shortcuts)
    block, input = model.stages[0][0], torch.rand(2, 64, 8, 8)
    torch.testing.assert_close(block(input), input)


def test_the_middle_convolutions_of_the_large_swift_begin_at_nothing():
    model = build(ModelSpec("swift_l", 3, 4, (16, 16)))
    found = begin_as_identity(model, torch.randn(4, 3, 16, 16))
    assert (found.identities, found.zeros) == (3, 3)


def test_roles_of_a_network_with_batch_norm():
    model = build(ModelSpec("swift_s", 3, 4, (32, 32)))
    roles = roles_of(model, (3, 32, 32), 512)
    convolutions = {m.weight for b in model.blocks for m in b.modules() if isinstance(m, nn.Conv2d)}
    assert roles.filters == convolutions
    assert roles.matrices == frozenset()
    assert len(roles.norm_biases) == 6
    assert model.head.weight not in roles.filters | roles.matrices


def test_roles_of_a_transformer_and_of_small_batches():
    model = build(ModelSpec("vit_tiny", 3, 4, (32, 32)))
    roles = roles_of(model, (3, 32, 32), 256)
    assert roles.filters == roles.norm_biases == frozenset()
    assert roles.matrices == {m.weight for m in model.blocks.modules() if isinstance(m, nn.Linear)}
    # With two pictures of one token each, orthogonal steps would cost more than they serve.
    tiny = build(ModelSpec("vit_tiny", 3, 4, (4, 4)))
    assert roles_of(tiny, (3, 4, 4), 2).matrices == frozenset()


def test_depthwise_convolutions_are_no_matrices():
    model = build(ModelSpec("mobilenet_v3", 3, 4, (32, 32)))
    roles = roles_of(model, (3, 32, 32), 256)
    depthwise = [m.weight for m in model.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    assert len(depthwise) == 15
    assert not any(w in roles.filters | roles.matrices for w in depthwise)
