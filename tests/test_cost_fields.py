"""Receptive fields through branches: what the trace says against where the gradient arrives."""

import contextlib
import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision import models

from hubel.cost.trace import trace
from hubel.models import ModelSpec, build


def visible(model):
    """A twin in which every dependence shows in the gradient: positive weights that cancel
    nothing, maxima replaced by averages over the same windows, double precision."""
    model = copy.deepcopy(model).double().eval()
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        for name, child in module.named_children():
            if isinstance(child, nn.MaxPool2d | nn.MaxPool3d):
                kind = nn.AvgPool2d if isinstance(child, nn.MaxPool2d) else nn.AvgPool3d
                window = (child.kernel_size, child.stride, child.padding)
                setattr(module, name, kind(*window, ceil_mode=child.ceil_mode))
            if isinstance(child, nn.LayerNorm):  # of channels: 0 where they are all the same
                setattr(module, name, nn.Identity())
    return model


class Reached(Exception):
    """The layer that a test asks for has run: the rest of the network need not."""


def behind(model, shape, name):
    """For each axis (position, first, end): the input pixels behind the middle of a module's
    output, by its gradient."""
    outputs = []

    def stop(module, args, output):
        outputs.append(output)
        raise Reached

    handle = model.get_submodule(name).register_forward_hook(stop)
    picture = torch.ones(shape, dtype=torch.float64, requires_grad=True)
    with contextlib.suppress(Reached):
        model(picture)
    handle.remove()
    middle = [side // 2 for side in outputs[0].shape[2:]]
    outputs[0][(0, slice(None), *middle)].sum().backward()
    touched = picture.grad[0].abs().sum(0).nonzero()
    assert len(touched)
    return list(
        zip(middle, touched.min(0)[0].tolist(), (touched.max(0)[0] + 1).tolist(), strict=True)
    )


def check(model, shape, *names):
    """Names of modules, or of a module and the layer that makes its output: "block=block.add"."""
    twin = visible(model)
    by_name = {layer.name: layer for layer in trace(model, shape).layers}
    for name in names:
        module, _, layer = name.partition("=")
        found = behind(twin, shape, module)
        for seen, side, (position, *measured) in zip(
            by_name[layer or module].seen, shape[2:], found, strict=True
        ):
            start = seen.start + position * (seen.stride or 0)
            assert measured == [max(0, start), min(side, start + seen.size)], (name, seen)
    return by_name


def test_resnet18_to_its_ends():
    model = models.resnet18(num_classes=2)
    # High enough for both ends of the largest field.
    by_name = check(
        model, (1, 3, 480, 32),
        "conv1", "maxpool", "layer1.0.conv2", "layer1.0=layer1.0.relu#2", "layer2.0.downsample.0",
        "layer2.0=layer2.0.relu#2", "layer4.0.conv1", "layer4.1.conv2",
    )  # fmt: skip
    last = by_name["layer4.1.relu#2"].seen[0]
    assert (last.size, last.stride, last.start) == (435, 32, -217)


def test_googlenet_through_its_branches():
    model = models.GoogLeNet(num_classes=2, aux_logits=False, init_weights=False)
    check(
        model, (1, 3, 320, 32),
        "maxpool2", "inception3a.branch3.1.conv", "inception3a=inception3a.cat",
        "inception3b=inception3b.cat", "inception4b=inception4b.cat",
    )  # fmt: skip


def test_dense_connections():
    model = models.DenseNet(4, (2, 3), 8, num_classes=5)
    check(
        model, (1, 3, 224, 64),
        "features.pool0", "features.denseblock1.denselayer2.conv2", "features.transition1.pool",
        "features.denseblock2.denselayer3.conv2", "features.norm5",
    )  # fmt: skip


@pytest.mark.parametrize("size", [(40, 32), (24, 32, 16)])
def test_simple_in_two_and_three_dimensions(size):
    model = build(ModelSpec("simple", 1, 3, size))
    check(
        model, (1, 1, *size), "stages.0.0", "stages.0.1", "stages.1.1", "stages.2.0", "stages.2.1"
    )


class Layout(nn.Module):
    """Padding on one side, dilation, 'same', slices, channels last, strides that differ by axis."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(2, 4, (5, 3), padding="same")
        self.b = nn.Conv2d(4, 4, 3, stride=(2, 1), dilation=(2, 1), padding=(1, 2))
        self.norm = nn.LayerNorm(4)
        self.dense = nn.Linear(4, 4)
        self.c = nn.Conv2d(4, 4, 2)
        self.lrn = nn.LocalResponseNorm(2)

    def forward(self, x):
        y = self.b(F.pad(self.a(x), (3, 0, 1, 2)))
        y = y[:, :, 2::2, 1:-1].permute(0, 2, 3, 1)
        y = self.dense(self.norm(y))
        return self.lrn(self.c(y.permute(0, 3, 1, 2)))


def test_paddings_dilations_slices_and_layouts():
    by_name = check(Layout(), (1, 2, 64, 48), "a", "b", "c", "lrn")
    assert [seen.stride for seen in by_name["c"].seen] == [4, 1]
    assert by_name["dense"].seen == by_name["norm"].seen


class Mixes(nn.Module):
    """Squeeze and excitation: every output sees all."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.narrow = nn.Conv2d(2, 2, 1)
        self.after = nn.Conv2d(2, 2, 3)

    def forward(self, x):
        y = self.conv(x)
        return self.after(y * torch.sigmoid(self.narrow(self.pool(y))))


def test_global_pooling_shows_the_whole_picture():
    by_name = check(Mixes(), (1, 1, 12, 9), "conv", "pool", "after")
    assert all(seen.whole(side) for seen, side in zip(by_name["after"].seen, (12, 9), strict=True))
    assert not by_name["conv"].seen[0].whole(12)
    assert by_name["after"].receptive_field is None
    assert by_name["conv"].receptive_field.size == (3, 3)


def test_dense_layers_see_only_what_windows_reach():
    """Of 9 rows a 2×2 pooling drops the last: the Linear never sees it."""
    model = nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 2))
    seen = {layer.name: layer.seen[0] for layer in trace(model, (1, 1, 9, 9)).layers[1:]}
    assert (seen["2"].size, seen["2"].stride, seen["2"].start) == (8, None, 0)
    assert not seen["2"].whole(9)
    picture = torch.ones((1, 1, 9, 9), dtype=torch.float64, requires_grad=True)
    visible(model)(picture).sum().backward()
    assert picture.grad[0, 0, :, 0].nonzero().flatten().tolist() == list(range(8))


def test_attention_sees_everything_and_patches_do_not():
    model = models.VisionTransformer(32, 8, 2, 4, 32, 64, num_classes=10)
    by_name = {layer.name: layer for layer in trace(model, (2, 3, 32, 32)).layers}
    first = by_name["encoder.layers.encoder_layer_0.ln_1"].seen[0]
    assert (first.size, first.stride, first.start) == (8, 8, 0)
    assert by_name["encoder.layers.encoder_layer_0.self_attention"].seen[0].whole(32)
    assert by_name["heads.head"].seen[1].whole(32)


class Picks(nn.Module):
    """Channels by index, then a mean of a map whose channels lie last in memory."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 2, 3, padding=1)

    def forward(self, x):
        y = self.conv(x.index_select(1, torch.tensor([2, 0, 1, 1])))
        return F.adaptive_avg_pool2d(y.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2), 1)


def test_picked_channels_and_maps_with_channels_last():
    layers = trace(Picks(), (1, 4, 6, 6)).layers
    assert [(s.size, s.stride, s.start) for s in layers[2].seen] == [(3, 1, -1)] * 2
    assert layers[2].kind == "conv"
    assert layers[-1].seen[0].whole(6)


class Strides(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how = how

    def forward(self, x):
        if self.how == "branches":
            return x[:, :, ::2, ::2] + x[:, :, :4, :4]
        if self.how == "resized":
            return F.interpolate(x, scale_factor=2.0)
        if self.how == "uneven":
            return F.adaptive_avg_pool2d(x, 3)
        return x.unflatten(2, (4, 2)).flatten(0, 1)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("branches", "its branches have different strides"),
        ("resized", "upsampling gives neighbours the same window"),
        ("uneven", "adaptive pooling has windows of different sizes"),
        ("cut", "a dimension of the map is cut into pieces"),
    ],
)
def test_what_has_no_field_says_why(how, reason):
    model = nn.Sequential(Strides(how), nn.ReLU())
    last = trace(model, (1, 1, 8, 8)).layers[-1]
    assert last.seen[0] is None
    assert last.unseen_reason == reason
    assert last.receptive_field is None
