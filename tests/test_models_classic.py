"""What is special to simple, LeNet-5, AlexNet and VGG."""

import itertools

import pytest
import torch
from torch.nn import functional

from hubel.models import MODELS, Model, ModelSpec, build


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def paper(name: str, dims: int = 2, size: int = 224, dropout: float | None = None) -> Model:
    """The network with its paper's stem, without numbers."""
    with torch.device("meta"):
        return build(ModelSpec(name, 3, 1000, (size,) * dims, dropout=dropout, stem="paper"))


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
    assert count(build(ModelSpec(name, shape[0], classes, shape[1:]))) == params


def test_simple_pools_before_relu_and_equals_relu_before_pool():
    torch.manual_seed(0)
    model = build(ModelSpec("simple", 3, 10, (32, 32))).eval()
    input = torch.randn(4, 3, 32, 32)
    value = input
    for stage in model.stages:
        value = functional.max_pool2d(torch.relu(stage[0](value)), 2)
    torch.testing.assert_close(model.forward_features(input)[-1], value, rtol=0, atol=0)


# LeNet-5 as printed in 1998


@pytest.fixture
def lenet_1998():
    torch.manual_seed(0)
    return build(ModelSpec("lenet5_1998", 1, 10, (32, 32))).eval()


def test_lenet_1998_has_the_papers_parameters_layer_by_layer(lenet_1998):
    found = {name: count(module) for name, module in lenet_1998.named_children()}
    assert {name: n for name, n in found.items() if n} == {
        "c1": 156,
        "s2": 12,
        "c3": 1_516,
        "s4": 32,
        "c5": 48_120,
        "f6": 10_164,
    }
    # Section II-B: "340,908 connections": weights and biases as often as they are used, four
    # pixels and a bias for each unit of S2 and S4, and 84 for each of the ten outputs.
    biases = 6 * 28**2 + 16 * 10**2 + 120 + 84
    sub_sampling = 5 * (6 * 14**2 + 16 * 5**2)
    assert MODELS["lenet5_1998"].macs + biases + sub_sampling + 840 == 340_908


def test_lenet_1998_connects_c3_by_table_i(lenet_1998):
    # Table I as printed: a row for each map of S2, a column for each of C3.
    table = [
        "X...XXX..XXXX.XX",
        "XX...XXX..XXXX.X",
        "XXX...XXX..X.XXX",
        ".XXX..XXXX..X.XX",
        "..XXX..XXXX.XX.X",
        "...XXX..XXXX.XXX",
    ]
    input = torch.randn(1, 6, 14, 14, requires_grad=True)
    output = lenet_1998.c3(input)
    assert output.shape == (1, 16, 10, 10)
    seen = []
    for channel in range(16):
        (gradient,) = torch.autograd.grad(output[0, channel].sum(), input, retain_graph=True)
        seen.append("".join("X" if g.any() else "." for g in gradient[0]))
    assert ["".join(column) for column in zip(*seen, strict=True)] == table


def test_lenet_1998_by_the_formulas_of_the_paper(lenet_1998):
    def squash(value):
        return 1.7159 * torch.tanh(2 / 3 * value)

    def sub_sample(value, layer):
        added = value.unfold(2, 2, 2).unfold(3, 2, 2).sum(dim=(4, 5))
        return squash(added * layer.weight.view(1, -1, 1, 1) + layer.bias.view(1, -1, 1, 1))

    input = torch.randn(2, 1, 32, 32)
    model = lenet_1998
    with torch.no_grad():
        s2 = sub_sample(squash(model.c1(input)), model.s2)
        s4 = sub_sample(squash(model.c3(s2)), model.s4)
        # C5 as a convolution that covers the map, as the paper describes it.
        c5 = functional.conv2d(s4, model.c5.weight.view(120, 16, 5, 5), model.c5.bias)
        f6 = squash(model.f6(squash(c5.flatten(1))))
        distances = torch.stack([((f6 - code) ** 2).sum(dim=1) for code in model.codes], dim=1)
        torch.testing.assert_close(model(input), -distances)
    assert squash(torch.tensor([1.0, -1.0])).tolist() == pytest.approx([1, -1], abs=1e-4)


@pytest.mark.parametrize("classes", [2, 10, 11, 200])
def test_lenet_1998_codes_are_fixed_signs_all_different(classes):
    codes = build(ModelSpec("lenet5_1998", 1, classes, (32, 32))).codes
    assert codes.shape == (classes, 84)
    assert set(codes.unique().tolist()) == {-1.0, 1.0}
    assert len(codes.unique(dim=0)) == classes
    assert torch.equal(codes, build(ModelSpec("lenet5_1998", 3, 500, (40, 32))).codes[:classes])
    # A drawing of a digit differs from the next in more than a few of its 84 pixels.
    assert min(int((a != b).sum()) for a, b in itertools.combinations(codes, 2)) >= 8


def test_lenet_1998_starts_within_the_papers_bounds(lenet_1998):
    bounds = {"c1": 2.4 / 25, "s2": 2.4 / 4, "s4": 2.4 / 4, "c5": 2.4 / 400, "f6": 2.4 / 120}
    for name, bound in bounds.items():
        for parameter in getattr(lenet_1998, name).parameters():
            assert parameter.abs().max() <= bound
        assert getattr(lenet_1998, name).weight.abs().max() > bound / 2
    for part, maps in zip(lenet_1998.c3.parts, (3, 4, 6), strict=True):
        assert 0.9 * 2.4 / (25 * maps) < part.weight.abs().max() <= 2.4 / (25 * maps)


# AlexNet


def test_alexnet_has_the_papers_maps_at_227():
    model = paper("alexnet", size=227)
    shapes = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(
                lambda m, i, o, name=name: shapes.update({name: tuple(o.shape[1:])})
            )
    model(torch.empty(1, 3, 227, 227, device="meta"))
    # Figure 2; 186,624, 64,896, 64,896 and 43,264 neurons in the second to fifth layer.
    assert list(shapes.values()) == [
        (96, 55, 55),
        (256, 27, 27),
        (384, 13, 13),
        (384, 13, 13),
        (256, 13, 13),
    ]


@pytest.mark.parametrize("layer", [1, 3, 4])
def test_alexnets_groups_see_their_own_half(layer):
    convolutions = [m for m in paper("alexnet").modules() if isinstance(m, torch.nn.Conv2d)]
    halves = [c.in_channels // c.groups for c in convolutions]
    assert halves == [3, 48, 256, 192, 192]
    assert convolutions[layer].weight.shape[1] == halves[layer]


def test_alexnets_normalisation_is_the_papers_formula():
    torch.manual_seed(0)
    model = build(ModelSpec("alexnet", 3, 4, (32, 32), stem="small")).eval()
    first = model.stages[0]
    input = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        a = torch.relu(first[0](input)) * 100  # large enough for the sum to matter
        found = first[2](a)
        expected = torch.empty_like(a)
        for i in range(96):
            near = a[:, max(0, i - 2) : min(95, i + 2) + 1].square().sum(dim=1)
            expected[:, i] = a[:, i] / (2 + 1e-4 * near) ** 0.75
    assert (expected / (a / 2**0.75)).nan_to_num(1).min() < 0.9
    torch.testing.assert_close(found, expected)
    assert [type(m).__name__ for m in first] == [
        *("Conv2d", "ReLU", "LocalResponseNorm", "MaxPool2d")
    ]


def test_pooling_overlaps_in_alexnet_and_not_in_vgg():
    for name, window in (("alexnet", (3, 2)), ("alexnet_one_tower", (3, 2)), ("vgg16", (2, 2))):
        pools = [m for m in paper(name).modules() if isinstance(m, torch.nn.MaxPool2d)]
        assert {(p.kernel_size, p.stride) for p in pools} == {window}
        assert len(pools) == (5 if name == "vgg16" else 3)


# All large dense layers


@pytest.mark.parametrize("name", ["alexnet", "alexnet_one_tower", "vgg16", "vgg11_bn"])
def test_dropout_is_the_papers_unless_given(name):
    for given, expected in ((None, 0.5), (0.0, 0.0), (0.25, 0.25)):
        model = paper(name, dropout=given)
        assert [m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)] == [expected] * 2


@pytest.mark.parametrize("name", ["alexnet", "alexnet_one_tower", "vgg16"])
def test_the_first_dense_layer_does_not_grow_in_3d(name):
    flat, solid = (
        next(m for m in paper(name, dims, 128).modules() if isinstance(m, torch.nn.Linear))
        for dims in (2, 3)
    )
    assert solid.in_features <= flat.in_features
    assert solid.out_features == flat.out_features


# VGG


@pytest.mark.parametrize(
    ("name", "layers"), [("vgg11", 11), ("vgg13", 13), ("vgg16", 16), ("vgg19_bn", 19)]
)
def test_vgg_has_as_many_layers_as_its_name_says(name, layers):
    weights = [p for p in paper(name).parameters() if p.ndim > 1]
    assert len(weights) == layers


def test_vgg_on_32_is_the_usual_small_variant():
    with torch.device("meta"):
        model = build(ModelSpec("vgg16_bn", 3, 10, (32, 32)))
    maps = model.forward_features(torch.empty(2, 3, 32, 32, device="meta"))
    assert [tuple(m.shape[1:]) for m in maps] == [
        *((64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2), (512, 1, 1))
    ]
    # 13 convolutions with biases and their norms, 512 → 512 → 10.
    convolutions = 14_714_688 + 2 * 4_224
    assert count(model) == convolutions + 512 * 513 + 513 * 10


def test_the_smallest_vgg_leaves_every_pooling_something_to_choose():
    with torch.device("meta"):
        model = build(ModelSpec("vgg11", 1, 3, (17, 17)))
    maps = model.forward_features(torch.empty(2, 1, 17, 17, device="meta"))
    assert [m.shape[-1] for m in maps] == [9, 5, 3, 2, 1]
