"""What is special to ViT, MobileNetV3, EfficientNet-B0 and ConvNeXt, and to their blocks."""

import pytest
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hubel.errors import UserError
from hubel.layers import ChannelNorm, StochasticDepth
from hubel.models import MODELS, ModelSpec, build, resolve
from hubel.models.vit import Block, Size, ViT

MODERN = ["vit_tiny", "mobilenet_v3", "efficientnet_b0", "convnext_tiny"]
PAIRS = {
    "vit_base": "vit_b_16",
    "vit_large": "vit_l_16",
    "mobilenet_v3": "mobilenet_v3_large",
    "efficientnet_b0": "efficientnet_b0",
    "convnext_tiny": "convnext_tiny",
}


def chances(model: nn.Module, kind: type[nn.Module]) -> list[float]:
    """The rates of all modules of one kind, in order of definition."""
    return [m.p for m in model.modules() if isinstance(m, kind)]


def on_meta(name: str, stem: str = "paper", side: int = 64, dropout: float | None = None):
    with torch.device("meta"):
        return build(ModelSpec(name, 3, 10, (side, side), dropout=dropout, stem=stem))


@pytest.mark.parametrize(("name", "theirs"), PAIRS.items())
def test_counts_are_those_that_torchvision_publishes(name, theirs):
    published = torchvision.models.get_model_weights(theirs)["IMAGENET1K_V1"].meta
    assert MODELS[name].torchvision == theirs
    assert MODELS[name].num_params == published["num_params"]
    assert round(MODELS[name].macs / 1e9, 3) == published["_ops"]


@pytest.mark.parametrize(
    ("name", "layers", "d", "params"),
    [
        ("vit_tiny", 12, 192, 5_717_416),  # DeiT-Ti, table 1: 5 M
        ("vit_small", 12, 384, 22_050_664),  # DeiT-S: 22 M
        ("vit_base", 12, 768, 86_567_656),
        ("vit_large", 24, 1024, 304_326_632),
    ],
)
def test_vit_by_pencil(name, layers, d, params):
    tokens = 14 * 14 + 1
    # d·d for query, key, value and output, twice 4·d·d for the MLP; t·t·d twice in attention.
    block = 12 * d * d * tokens + 2 * tokens * tokens * d
    assert MODELS[name].macs == 196 * 768 * d + layers * block + 1000 * d
    # Each of the 12·d·d with its bias (9·d), two norms (4·d); class token, positions, norm.
    weights = (768 + 1) * d + (1 + tokens) * d + 2 * d + (d + 1) * 1000
    assert MODELS[name].num_params == weights + layers * (12 * d * d + 13 * d) == params


@pytest.mark.parametrize("name", ["vit_base/32", "vit_large/32"])
def test_the_patch_is_in_the_name_as_papers_write_it(name):
    architecture = MODELS[name]
    with torch.device("meta"):
        model = build(ModelSpec(name, 3, 1000, (224, 224)))
    published = torchvision.models.get_model_weights(architecture.torchvision).IMAGENET1K_V1.meta
    assert model.patch_size == 32
    params = sum(p.numel() for p in model.parameters())
    assert params == architecture.num_params == published["num_params"]
    assert round(architecture.macs / 1e9, 3) == published["_ops"]
    assert "patches of 32×32" in architecture.blocks


@pytest.mark.parametrize("name", ["vit_tiny", "vit_small", "vit_base", "vit_large"])
def test_the_published_patch_may_be_named_too(name):
    ours, named = MODELS[name], MODELS[f"{name}/16"]
    assert (named.num_params, named.macs) == (ours.num_params, ours.macs)
    assert (named.smallest, named.torchvision) == (16, ours.torchvision)


def test_counts_of_a_patch_that_does_not_divide_the_side():
    architecture = MODELS["vit_tiny/15"]
    with torch.device("meta"):
        model = build(ModelSpec("vit_tiny/15", 3, 1000, (224, 224)))
    assert model.grid == (15, 15)
    assert sum(p.numel() for p in model.parameters()) == architecture.num_params
    with FlopCounterMode(display=False) as counter:
        model.eval()(torch.empty(1, 3, 224, 224, device="meta"))
    assert counter.get_total_flops() == 2 * architecture.macs


@pytest.mark.parametrize("size", [(32, 32), (9, 20, 30)])
def test_a_patch_that_was_named_is_taken_at_any_size(size):
    spec = resolve(ModelSpec("vit_tiny/8", 1, 3, size))
    assert spec.stem == "paper"
    with torch.device("meta"):
        model = build(spec)
        small = build(ModelSpec("vit_tiny", 1, 3, size))
    assert (model.patch_size, small.patch_size) == (8, 4)
    assert model(torch.empty(2, 1, *size, device="meta")).shape == (2, 3)


@pytest.mark.parametrize(
    ("name", "size", "stem", "message"),
    [
        ("resnet18/4", 32, "auto", r"'resnet18' has no patches whose size could be.*out '/4'"),
        ("vit_tiny/0", 32, "auto", r"size of a patch is a number of pixels from 1 to 999, got '0'"),
        ("vit_tiny/", 32, "auto", r"got ''; write vit_tiny/16 for example"),
        ("vit_tiny/8/8", 32, "auto", r"from 1 to 999, got '8/8'"),
        ("vit_tini/8", 32, "auto", r"--model 'vit_tini' is not known; did you mean 'vit_tiny'"),
        ("vit_tiny/33", 32, "auto", r"--model 'vit_tiny/33' needs an input of at least 33×33"),
        ("vit_tiny/8", 32, "small", r"--stem small: 'vit_tiny/8' has only the stem of its paper"),
    ],
)
def test_patches_that_cannot_be(name, size, stem, message):
    with pytest.raises(UserError, match=message):
        build(ModelSpec(name, 3, 2, (size, size), stem=stem))


def test_a_small_vit_equals_torchvisions():
    torch.manual_seed(0)
    theirs = torchvision.models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=3, num_heads=4, hidden_dim=32, mlp_dim=48,
        num_classes=7,
    )  # fmt: skip
    size = Size(3, 32, 48, 4, dropout=0.0, stochastic_depth=0.0)
    ours = ViT(size, 8, 3, 7, (32, 32), 0.0, 0.0)
    with torch.no_grad():
        for value in theirs.state_dict().values():
            value.normal_(std=0.3)
    values = theirs.state_dict().values()
    ours.load_state_dict(dict(zip(ours.state_dict(), values, strict=True)))
    input = torch.randn(2, 3, 32, 32)
    for training in (True, False):
        expected, found = theirs.train(training)(input), ours.train(training)(input)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    # And the gradients, among them those of the positions and the class token.
    theirs(input).square().sum().backward()
    ours(input).square().sum().backward()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        scale = float(other.grad.abs().max())
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-5 * scale)


def tiny_vit(input_size: tuple[int, ...], patch_size: int = 8) -> ViT:
    torch.manual_seed(0)
    size = Size(2, 24, 32, 3, dropout=0.0, stochastic_depth=0.0)
    return ViT(size, patch_size, 2, 5, input_size, 0.0, 0.0).eval()


def test_a_side_that_is_no_multiple_of_the_patch_is_continued_by_zeros():
    odd, whole = tiny_vit((20, 9)), tiny_vit((24, 16))
    whole.load_state_dict(odd.state_dict())
    input = torch.randn(2, 2, 20, 9)
    padded = torch.zeros(2, 2, 24, 16)
    padded[:, :, :20, :9] = input
    torch.testing.assert_close(odd(input), whole(padded), rtol=0, atol=0)
    # The last row of pixels is seen.
    changed = input.clone()
    changed[:, :, 19] += 1
    assert (odd(changed) - odd(input)).abs().max() > 1e-4


def test_the_tokens_lie_in_the_map_where_their_patches_lie():
    model = tiny_vit((16, 24))
    model.blocks = nn.Sequential()
    with torch.no_grad():
        model.positions.embedding.zero_()
    input = torch.randn(2, 2, 16, 24)
    patches, whole = model.forward_features(input)
    assert patches.shape == (2, 24, 2, 3)
    assert whole.shape == (2, 24, 1, 1)
    expected = ChannelNorm(24, eps=1e-6)(model.patches(input))
    torch.testing.assert_close(patches, expected)


def test_a_vit_says_which_size_it_was_built_for():
    with pytest.raises(UserError, match=r"was built for 16×24, got 24×16; build it for that size"):
        tiny_vit((16, 24))(torch.zeros(1, 2, 24, 16))


@pytest.mark.parametrize("name", MODERN)
def test_a_repeated_picture_is_to_the_3d_network_what_it_is_to_the_2d_one(name):
    """The middle slice of padded kernels, the mean over the depth of patches and halvings."""
    torch.manual_seed(0)
    side = max(8, MODELS[name].smallest_small)
    flat = build(ModelSpec(name, 2, 5, (side, side + 1), dropout=0.0, stem="small"))
    depth = 4 if name == "vit_tiny" else side  # one patch
    deep = build(ModelSpec(name, 2, 5, (depth, side, side + 1), dropout=0.0, stem="small"))
    state = {}
    for key, value in deep.state_dict().items():
        source = flat.state_dict()[key]
        if value.ndim == 5 and value.shape[2] % 2 == 1:
            state[key] = torch.zeros_like(value)
            state[key][:, :, value.shape[2] // 2] = source
        elif value.ndim == 5:
            state[key] = (source / value.shape[2]).unsqueeze(2).expand_as(value)
        else:
            state[key] = source.reshape(value.shape)
    deep.load_state_dict(state)
    # In training mode, in which batch norm keeps what a fresh network lets fade away.
    # In float64: batch norm over few numbers magnifies how sums are rounded.
    flat, deep = flat.double(), deep.double()
    input = torch.randn(4, 2, side, side + 1, dtype=torch.float64)
    with torch.no_grad():
        expected = flat(input)
        found = deep(input.unsqueeze(2).expand(-1, -1, depth, -1, -1))
    assert expected.std() > 1e-4
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8 * float(expected.abs().max()))


@pytest.mark.parametrize(
    ("name", "stem", "maps"),
    [
        ("mobilenet_v3", "paper", [(24, 16), (40, 8), (112, 4), (960, 2)]),
        ("mobilenet_v3", "small", [(40, 32), (112, 16), (960, 8)]),
        ("efficientnet_b0", "paper", [(24, 16), (40, 8), (112, 4), (1280, 2)]),
        ("efficientnet_b0", "small", [(40, 32), (112, 16), (1280, 8)]),
        ("convnext_tiny", "paper", [(96, 16), (192, 8), (384, 4), (768, 2)]),
        ("convnext_tiny", "small", [(192, 32), (384, 16), (768, 8)]),
        ("vit_tiny", "paper", [(192, 4), (192, 1)]),
        ("vit_tiny", "small", [(192, 16), (192, 1)]),
    ],
)
def test_maps_of_a_picture_of_64_pixels(name, stem, maps):
    model = on_meta(name, stem)
    found = model.forward_features(torch.empty(1, 3, 64, 64, device="meta"))
    assert [(m.shape[1], m.shape[2]) for m in found] == maps


@pytest.mark.parametrize("name", ["efficientnet_b0", "convnext_tiny"])
def test_branches_are_left_out_as_often_as_in_torchvision(name):
    with torch.device("meta"):
        theirs = torchvision.models.get_model(name, weights=None)
    expected = chances(theirs, torchvision.ops.StochasticDepth)
    assert chances(on_meta(name), StochasticDepth) == pytest.approx(expected)
    assert expected[-1] > 0


def test_dropout_is_the_papers_own_unless_asked_for():
    assert chances(on_meta("mobilenet_v3"), nn.Dropout) == [0.2]
    assert chances(on_meta("efficientnet_b0"), nn.Dropout) == [0.2]
    assert chances(on_meta("convnext_tiny"), nn.Dropout) == [0.0]
    assert set(chances(on_meta("vit_base"), nn.Dropout)) == {0.1}
    tiny = on_meta("vit_tiny")
    assert set(chances(tiny, nn.Dropout)) == {0.0}
    assert chances(tiny, StochasticDepth) == pytest.approx([0.1 * i / 11 for i in range(12)])
    for name in MODERN:
        assert set(chances(on_meta(name, dropout=0.3), nn.Dropout)) == {0.3}
        still = on_meta(name, dropout=0.0)
        assert {*chances(still, nn.Dropout), *chances(still, StochasticDepth)} == {0.0}


def test_both_branches_of_a_transformer_block_may_be_left_out():
    torch.manual_seed(0)
    block = Block(Size(2, 24, 32, 3, 0.0, 0.0), 0.0, left_out=1 - 1e-9)
    tokens = torch.randn(8, 5, 24)
    assert torch.equal(block(tokens), tokens)
    assert not torch.equal(block.eval()(tokens), tokens)


def test_stochastic_depth_draws_what_torchvision_draws():
    input = torch.randn(64, 3, 2, 2)
    layer = StochasticDepth(0.3)
    torch.manual_seed(1)
    found = layer(input)
    torch.manual_seed(1)
    expected = torchvision.ops.stochastic_depth(input, 0.3, mode="row", training=True)
    torch.testing.assert_close(found, expected)
    left_out = (found.flatten(1) == 0).all(1)
    assert 0 < left_out.sum() < 64
    torch.testing.assert_close(found[~left_out], input[~left_out] / 0.7)
    assert layer.eval()(input) is input


@pytest.mark.parametrize("shape", [(2, 5, 3, 4), (2, 5, 3, 4, 2)])
def test_channel_norm_is_by_position(shape):
    torch.manual_seed(0)
    layer = ChannelNorm(5, eps=1e-6)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    input = torch.randn(shape)
    centred = input - input.mean(1, keepdim=True)
    normal = centred / (centred.square().mean(1, keepdim=True) + 1e-6).sqrt()
    factors = (1, 5, *(1 for _ in shape[2:]))
    expected = normal * layer.weight.view(factors) + layer.bias.view(factors)
    torch.testing.assert_close(layer(input), expected)
