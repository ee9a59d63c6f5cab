"""`width`: the channels of every network, as a multiple of its paper's."""

from dataclasses import asdict, replace
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_cli_draw import run as draw
from test_models import NAMES, cheapest_stem, each, on_meta, published, smallest
from torch import nn
from torchvision import models as theirs
from torchvision.models import convnext, efficientnet

import hubel
from hubel.config import WIDTHS, FitConfig
from hubel.cost.fit_cost import DataFacts
from hubel.errors import UserError
from hubel.inference import load_trained
from hubel.layers import scaled
from hubel.models import MODELS, ModelSpec, Outputs, build, resolve
from hubel.named_network import named_network
from hubel.network import network_of
from hubel.racing.candidates import TUNED, from_names
from hubel.racing.prices import price
from hubel.tasks import TASKS
from hubel.transfer import load_pretrained

ONE_WIDTH = {"lenet5_1998", "gnina_default2017", "gnina_default2018", "gnina_dense"}
SCALABLE = [name for name in NAMES if name not in ONE_WIDTH]


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("channels", "width", "expected"),
    # The first and the last from MobileNetV2 1.4 and 0.35.
    [(32, 1.4, 48), (24, 0.75, 24), (64, 0.5, 32), (16, 0.1, 8), (6, 1.0, 6), (96, 0.35, 32)],
)
def test_channels_are_rounded_as_mobilenets(channels, width, expected):
    assert scaled(channels, width) == expected


@given(st.integers(1, 5000), st.floats(*WIDTHS), st.sampled_from([1, 2, 8, 64]))
def test_rounding_takes_little_away(channels, width, multiple):
    found = scaled(channels, width, multiple)
    assert scaled(channels, 1.0, multiple) == channels
    if width != 1.0:
        assert found % multiple == 0
        assert max(multiple, 0.9 * channels * width) <= found <= channels * width + multiple


def test_which_networks_have_one_width():
    assert {name for name in NAMES if MODELS[name].fixed_width} == ONE_WIDTH


@pytest.mark.parametrize("name", SCALABLE)
def test_every_layer_is_scaled_and_parameters_go_with_the_square(name):
    half, whole, double = (
        on_meta(replace(published(name), width=width)) for width in (0.5, 1.0, 2.0)
    )
    a = MODELS[name]
    assert count(whole) == a.num_params
    assert 0.2 < count(half) / a.num_params < 0.47
    assert 3.0 < count(double) / a.num_params < 4.1
    # Of input, classes, depthwise filters and swift's whitening of patches.
    fixed = {1, a.in_channels, a.num_classes, 2 * a.in_channels * 2**a.spatial_dims}
    for (layer, one), two in zip(whole.named_parameters(), double.parameters(), strict=True):
        if layer.endswith(("weight", "bias")):
            channels = zip(one.shape[:2], two.shape[:2], strict=True)
            assert {n for n, more in channels if n == more} <= fixed, layer


@pytest.mark.parametrize("name", each(SCALABLE))
@pytest.mark.parametrize("width", [0.5, 2.0])
def test_a_training_step_of_pictures_and_volumes(name, width):
    stem = cheapest_stem(name)
    for spatial_dims in (2, 3):
        size = (smallest(name, stem),) * spatial_dims
        spec = ModelSpec(name, 5, 7, size, stem=stem, width=width)
        with torch.device("meta"):
            model = build(spec).train()
            answer = Outputs.of(model(torch.empty(2, 5, *size)))
        outputs = torch.stack([answer.output, *answer.auxiliaries])
        assert outputs.shape[1:] == (2, 7)
        outputs.sum().backward()
        for parameter_name, parameter in model.named_parameters():
            assert parameter.grad is not None, parameter_name


def _efficientnet() -> nn.Module:
    row = partial(efficientnet.MBConvConfig, width_mult=0.5, depth_mult=1.0)
    table = [
        row(1, 3, 1, 32, 16, 1), row(6, 3, 2, 16, 24, 2), row(6, 5, 2, 24, 40, 2),
        row(6, 3, 2, 40, 80, 3), row(6, 5, 1, 80, 112, 3), row(6, 5, 2, 112, 192, 4),
        row(6, 3, 1, 192, 320, 1),
    ]  # fmt: skip
    return efficientnet.EfficientNet(table, 0.2)


def _convnext() -> nn.Module:
    channels = (48, 96, 192, 384, None)
    return convnext.ConvNeXt(
        [
            convnext.CNBlockConfig(channels[i], channels[i + 1], blocks)
            for i, blocks in enumerate((3, 3, 9, 3))
        ]
    )


AT_HALF = {
    "mobilenet_v3": lambda: theirs.mobilenet_v3_large(weights=None, width_mult=0.5),
    "efficientnet_b0": _efficientnet,
    "convnext_tiny": _convnext,
    "densenet121": lambda: theirs.DenseNet(16, (6, 12, 24, 16), 32),
    "vit_base": lambda: theirs.VisionTransformer(224, 16, 12, 6, 384, 1536),
}
"""Networks that torchvision builds at other widths, with half the channels."""


@pytest.mark.parametrize("name", AT_HALF)
def test_half_the_width_is_torchvisions(name):
    with torch.device("meta"):
        reference = AT_HALF[name]()
    found = on_meta(replace(published(name), width=0.5)).state_dict().values()
    assert [t.shape for t in found] == [t.shape for t in reference.state_dict().values()]


def test_a_head_of_a_transformer_keeps_its_channels():
    for width, heads in [(0.1, 1), (0.5, 2), (1.0, 3), (2.0, 6)]:
        attention = on_meta(replace(published("vit_tiny/32"), width=width)).blocks[0].attention
        assert attention.heads == heads
        assert attention.output.in_features == 64 * heads


@pytest.mark.parametrize("name", sorted(ONE_WIDTH))
def test_a_published_network_has_no_other_width(name):
    resolve(published(name))
    message = rf"--width 0\.5: '{name}' has the channels that were published and no others; leave"
    with pytest.raises(UserError, match=message):
        resolve(replace(published(name), width=0.5))


@pytest.mark.parametrize("width", [0.0, -1.0, 11.0, float("nan")])
def test_widths_that_cannot_be(width):
    message = rf"--width must be between 0\.1 and 10, got {width}"
    with pytest.raises(UserError, match=message):
        FitConfig(width=width)
    with pytest.raises(UserError, match=message):
        resolve(ModelSpec("simple", 3, 10, (32, 32), width=width))


def test_weights_of_another_width_are_refused(tmp_path):
    from safetensors.torch import save_file

    spec = ModelSpec("resnet18", 3, 10, (32, 32))
    narrow = replace(spec, width=0.125)
    message = r"--pretrained torchvision: the published weights of 'resnet18' are of width 1, got "
    with pytest.raises(UserError, match=message + r"--width 0\.125; leave one of the two out"):
        load_pretrained(build(narrow), narrow, "torchvision")
    path = tmp_path / "narrow.safetensors"
    torch.manual_seed(0)
    learned = build(narrow)
    save_file(learned.state_dict(), path)
    # Of the same width they are as good as any.
    model = build(narrow)
    load_pretrained(model, narrow, str(path))
    assert torch.equal(model.stem[0].weight, learned.stem[0].weight)
    for other in (replace(spec, width=0.25), spec):
        remedy = rf"they are of another --width than {other.width:g}: give theirs, or other weights"
        with pytest.raises(UserError, match=r"8×3×3×3 there and .*" + remedy):
            load_pretrained(on_meta(other), resolve(other), str(path))


def test_a_run_keeps_its_width(pictures, tmp_path):
    run = hubel.fit(
        pictures, model="simple", width=0.5, epochs=1, img_size="16", batch_size=32, threads=1,
        engine="fp32", output=tmp_path / "run",
    )  # fmt: skip
    facts = run.folder.read_json("run.json")
    assert facts["spec"]["width"] == 0.5
    assert "--width 0.5" in facts["command"]
    trained = load_trained(run.folder)
    assert [stage[0].out_channels for stage in trained.model.stages] == [8, 16, 32]
    assert trained.model.head[2].out_features == 256
    assert count(trained.model) == facts["params"]
    page = run.evaluate().report.read_text()
    assert "0.5 × the published channels" in page
    before = asdict(trained.spec)
    del before["width"]  # as in runs from before there were widths
    assert ModelSpec(**before).width == 1.0


def test_a_candidate_of_a_race_has_a_width():
    half, whole = from_names(["resnet18@width=0.5", "resnet18"])
    assert half.settings == {"model": "resnet18", "width": 0.5}
    assert half.name == "resnet18@width=0.5"
    for width in TUNED["width"]:
        FitConfig.from_settings({"width": width})
    with pytest.raises(UserError, match=r"--width must be between 0\.1 and 10, got 40"):
        from_names(["resnet18@width=40"])
    facts = DataFacts(0, 0, ("a", "b"), 3, (16, 16), "uint8", True, 0.0)
    prices = [
        price(FitConfig.from_settings({**c.settings, "threads": 1}), facts, TASKS["classify"])
        for c in (half, whole)
    ]
    expected = [
        count(network_of(ModelSpec("resnet18", 3, 2, (16, 16), width=width))[1])
        for width in (0.5, 1.0)
    ]
    assert [p.params for p in prices] == expected


def test_cost_and_draw_take_a_width(tmp_path):
    network, shape = named_network("simple", None, width=2.0)
    assert shape == (3, 32, 32)
    assert network.stages[0][0].out_channels == 32
    with pytest.raises(UserError, match=r"leave out --num-classes, --stem and --width"):
        named_network(str(tmp_path), None, width=2.0)
    narrow = tmp_path / "narrow.svg"
    said = draw("lenet5", "--width", "0.5", "-o", str(narrow))
    assert said.exit_code == 0
    # C1 4, C3 8, C5 60, F6 42: 104 + 808 + 12,060 + 2,562 + 430
    assert "16.0 k parameters" in said.stdout
