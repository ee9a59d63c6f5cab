"""ResNet, GoogLeNet and DenseNet: what the tests over the whole registry do not see."""

import itertools

import pytest
import torch
import torchvision
from torch import nn

from hubel.models import MODELS, ModelSpec, Outputs, build
from hubel.models.densenet import DenseLayer
from hubel.models.resnet import Basic, Bottleneck

CONVS = (nn.Conv2d, nn.Conv3d)


def with_heads(num_classes=1000, size=(64, 64), dropout=None, in_channels=3, stem="paper"):
    return build(ModelSpec("googlenet_auxiliary", in_channels, num_classes, size, dropout, stem))


def disturb(model):
    """Random numbers instead of ones and zeros, so that no norm hides behind another."""
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point() and bool(tensor.min() == tensor.max()):
                tensor.add_(torch.rand_like(tensor), alpha=0.2)


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("resnet18", (64, 64, 128, 256, 512)),
        ("resnet50", (64, 256, 512, 1024, 2048)),
        ("densenet121", (64, 256, 512, 1024, 1024)),
        ("googlenet", (64, 192, 480, 832, 1024)),
    ],
)
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_maps_by_stride(name, channels, spatial_dims):
    size = (64,) * spatial_dims
    # The small stem of a ResNet or DenseNet has no pooling, so its map is not one of its own.
    small = channels[1:]
    for stem, strides, expected in [
        ("paper", (2, 4, 8, 16, 32), channels),
        ("small", (1, 2, 4, 8), small),
    ]:
        with torch.device("meta"):
            model = build(ModelSpec(name, 3, 7, size, stem=stem))
            maps = model.forward_features(torch.empty(2, 3, *size))
        assert [tuple(m.shape) for m in maps] == [
            (2, c, *(64 // stride for _ in size))
            for c, stride in zip(expected, strides, strict=True)
        ]


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "densenet121", "googlenet"])
def test_a_volume_of_equal_slices_is_its_slice(name):
    """With each kernel's 2-D weights in its middle slice, depth changes nothing but size."""
    torch.manual_seed(0)
    for stem, side, depth, training in [("paper", 35, 29, False), ("small", 12, 9, True)]:
        flat = build(ModelSpec(name, 2, 5, (side, side), dropout=0.0, stem=stem)).double()
        disturb(flat)
        size = (depth, side, side)
        volume = build(ModelSpec(name, 2, 5, size, dropout=0.0, stem=stem)).double()
        state = volume.state_dict()
        for key, value in flat.state_dict().items():
            if value.ndim == 4:  # (o, i, k, k) -> (o, i, k, k, k)
                assert state[key].shape == (*value.shape, value.shape[-1])
                state[key].zero_()[:, :, value.shape[-1] // 2] = value
            else:
                state[key].copy_(value)
        input = torch.randn(3, 2, side, side, dtype=torch.float64)
        flat.train(training)
        volume.train(training)
        with torch.no_grad():
            expected = flat(input)
            found = volume(input[:, :, None].expand(-1, -1, depth, -1, -1))
        assert expected.std() > 0
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "stem", "smallest"),
    [
        # ceil(ceil(29 / 2) / 2) = 8, which three 2×2 poolings bring to 1
        ("densenet121", "paper", 29),
        ("densenet121", "small", 8),
        # 15 -> 8 -> 4 -> 2 -> 1 by poolings that round up; 1 has no room for the next
        ("googlenet", "paper", 15),
        ("googlenet", "small", 4),
    ],
)
def test_the_smallest_side_is_exact(name, stem, smallest):
    architecture = MODELS[name]
    assert smallest == (architecture.smallest if stem == "paper" else architecture.smallest_small)

    def run(side):
        with torch.device("meta"):
            model = architecture.builder(
                in_channels=1, num_classes=2, input_size=(side, 64), spatial_dims=2, dropout=None,
                stem=stem, width=1.0,
            )  # fmt: skip
            return model.eval()(torch.empty(1, 1, side, 64))

    assert run(smallest).shape == (1, 2)
    with pytest.raises(RuntimeError, match="too small"):
        run(smallest - 1)


@pytest.mark.parametrize("block", [Basic, Bottleneck])
def test_a_block_adds_to_its_input(block):
    torch.manual_seed(0)
    width = 8 // block.expansion
    layer = block(2, 8, width, 1)
    assert isinstance(layer.shortcut, nn.Identity)
    # Each block ends in a batch norm: scaled to nothing, F(x) is 0 and relu(x) remains.
    nn.init.zeros_(layer.residual[-1].weight)
    input = torch.randn(2, 8, 5, 5)
    assert torch.equal(layer(input), input.relu())
    halving = block(2, 8, width, 2)
    assert halving(input).shape == (2, 8, 3, 3)
    assert isinstance(halving.shortcut[0], nn.Conv2d)


def test_a_bottleneck_halves_the_map_in_its_3x3_convolution():
    convs = [m for m in Bottleneck(2, 16, 8, 2).residual if isinstance(m, nn.Conv2d)]
    assert [(c.kernel_size[0], c.stride[0]) for c in convs] == [(1, 1), (3, 2), (1, 1)]


def test_a_dense_layer_keeps_what_it_read():
    torch.manual_seed(0)
    layer = DenseLayer(2, 6, 4, 0.0)
    input = torch.randn(2, 6, 5, 5)
    output = layer(input)
    assert output.shape == (2, 10, 5, 5)
    assert torch.equal(output[:, :6], input)


def test_dropout_of_the_papers():
    def rates(name, dropout):
        with torch.device("meta"):
            model = build(ModelSpec(name, 3, 5, (64, 64), dropout=dropout))
        return [m.p for m in model.modules() if isinstance(m, nn.Dropout)]

    assert rates("resnet18", None) == [0.0]
    assert rates("googlenet", None) == [0.4]
    assert rates("resnet18", 0.3) == rates("googlenet", 0.3) == [0.3]
    assert set(rates("densenet121", None)) == {0.0}
    # After every convolution but the first: 121 layers less that one and the Linear layer.
    assert rates("densenet121", 0.2) == [0.2] * (121 - 2)
    with torch.device("meta"):
        heads = with_heads()
    assert [m.p for m in heads.modules() if isinstance(m, nn.Dropout)] == [0.7, 0.7, 0.4]


def test_initial_weights():
    torch.manual_seed(0)
    variances = {
        "resnet18": lambda conv: 2 / (conv.out_channels * conv.kernel_size[0] ** 2),
        "densenet121": lambda conv: 2 / (conv.in_channels * conv.kernel_size[0] ** 2),
        "googlenet": lambda conv: 0.01**2,
    }
    for name, variance in variances.items():
        model = build(ModelSpec(name, 3, 5, (96, 96)))
        for module in model.modules():
            if isinstance(module, CONVS):
                deviation = module.weight.std().item() / variance(module) ** 0.5
                # Of n numbers the deviation is known to 1 / sqrt(2n); six of those.
                assert abs(deviation - 1) < 6 / (2 * module.weight.numel()) ** 0.5
                assert module.bias is None
            elif isinstance(module, nn.BatchNorm2d):
                assert torch.equal(module.weight, torch.ones_like(module.weight))
                assert torch.equal(module.bias, torch.zeros_like(module.bias))
                assert module.eps == (1e-3 if name == "googlenet" else 1e-5)
        if name == "densenet121":
            assert torch.equal(model.head.bias, torch.zeros(5))
        if name == "googlenet":
            assert 0.009 < model.head.weight.std() < 0.011


def test_auxiliary_heads_as_torchvisions():
    torch.manual_seed(0)
    reference = torchvision.models.googlenet(
        weights=None, aux_logits=True, init_weights=False, dropout=0.0, dropout_aux=0.0
    )
    disturb(reference)
    model = with_heads(dropout=0.0)
    assert sum(p.numel() for p in model.parameters()) == 13_004_888
    own = model.state_dict()
    values = list(reference.state_dict().values())
    assert [v.shape for v in own.values()] == [v.shape for v in values]
    model.load_state_dict(dict(zip(own, values, strict=True)))
    input = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        theirs = reference.train()(input)
        main, (first, second), weight = model.train()(input)
        assert weight == 0.3
        for found, expected in [
            (main, theirs.logits),
            (first, theirs.aux_logits1),
            (second, theirs.aux_logits2),
        ]:
            scale = float(expected.abs().max())
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * max(1.0, scale))
        assert not torch.allclose(first, second, atol=1e-2)
        expected = reference.eval()(input)
        torch.testing.assert_close(model.eval()(input), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(20, 25), (8, 9, 10)])
def test_a_loss_with_auxiliary_heads_reaches_every_parameter(size):
    torch.manual_seed(0)
    model = with_heads(7, size, in_channels=1, stem="small")
    disturb(model)
    input = torch.randn(3, 1, *size)
    target = torch.tensor([0, 3, 6])
    model.eval()(input).sum().backward()
    # In evaluation mode the heads do not run.
    assert all(p.grad is None for p in model.auxiliary.parameters())
    model.train().zero_grad()
    main, heads, weight = model(input)
    assert [h.shape for h in heads] == [(3, 7), (3, 7)]
    loss = nn.functional.cross_entropy(main, target)
    for head in heads:
        loss = loss + weight * nn.functional.cross_entropy(head, target)
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_without_heads_there_are_no_auxiliary_outputs():
    model = build(ModelSpec("googlenet", 3, 7, (32, 32))).train()
    output = model(torch.randn(2, 3, 32, 32))
    assert Outputs.of(output) == (output, (), 0.0)
    assert not any("auxiliary" in name for name, _ in model.named_parameters())


def test_weights_with_heads_give_the_network_without_them():
    torch.manual_seed(0)
    trained = with_heads(7, (32, 32)).eval()
    bare = build(ModelSpec("googlenet", 3, 7, (32, 32), stem="paper")).eval()
    weights = trained.state_dict()
    heads = [name for name in weights if name.startswith("auxiliary.")]
    assert sorted(set(weights) - set(heads)) == sorted(bare.state_dict())
    bare.load_state_dict({name: weights[name] for name in bare.state_dict()})
    input = torch.randn(1, 3, 32, 32)
    assert torch.equal(bare(input), trained(input))


def test_deeper_sisters_cost_more():
    for names in [
        ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"],
        ["densenet121", "densenet169", "densenet201", "densenet161"],
    ]:
        for less, more in itertools.pairwise(MODELS[name] for name in names):
            assert (less.num_params, less.macs) < (more.num_params, more.macs)
