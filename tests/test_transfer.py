"""Beginning from learned weights: torchvision's networks, randomly initialised, are the oracle."""

import hashlib
import io
import json
import os
import re
import threading
import zipfile
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision.models as theirs
from torch import nn

import hubel
from hubel import transfer
from hubel.config import FitConfig
from hubel.data.preprocess import Preprocess
from hubel.errors import UserError
from hubel.models import MODELS, ModelSpec, build
from hubel.train.freezing import make_freezing, stages_of
from hubel.train.optimizers import make_optimizer
from hubel.train.roles import roles_of
from hubel.train.settle import settle_preprocess
from hubel.transfer import PublishedWeights, load_pretrained, published_weights
from hubel.weight_shapes import inflated_to, resized_positions, with_channels
from hubel.weights_file import read_weights

SIDE = 64


def disturbed(model: nn.Module) -> nn.Module:
    """Random norms and statistics, so that two tensors of one shape cannot be exchanged."""
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point() and bool(value.min() == value.max()):
                low = 0.5 if name.endswith("var") else -0.2
                value.add_(low + torch.rand_like(value))
    return model.eval()


@pytest.fixture(scope="module")
def resnet18(tmp_path_factory):
    """torchvision's ResNet-18 and a file of its weights."""
    torch.manual_seed(0)
    model = disturbed(theirs.resnet18(weights=None))
    path = tmp_path_factory.mktemp("weights") / "theirs.pth"
    torch.save(model.state_dict(), path)
    return model, path


def ours(name="resnet18", channels=3, classes=1000, size=(SIDE, SIDE), stem="paper"):
    torch.manual_seed(1)
    spec = ModelSpec(name, channels, classes, size, stem=stem)
    return build(spec).eval(), spec


def same(found: torch.Tensor, expected: torch.Tensor) -> None:
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenet_v3", "efficientnet_b0", "densenet121", "googlenet"]
)
@torch.no_grad()
def test_the_outputs_are_torchvisions(name, tmp_path):
    torch.manual_seed(0)
    extra = {"aux_logits": True, "init_weights": False} if name == "googlenet" else {}
    reference = disturbed(theirs.get_model(MODELS[name].torchvision, weights=None, **extra))
    # A batch norm's tensors in another order, as in torchvision's older files.
    state = dict(sorted(reference.state_dict().items(), reverse=True))
    torch.save(state, tmp_path / "w.pth")
    model, spec = ours(name)
    loaded = load_pretrained(model, spec, str(tmp_path / "w.pth"))
    assert loaded.fresh == ()
    assert loaded.adapted == ()
    assert loaded.sha256 == hashlib.sha256((tmp_path / "w.pth").read_bytes()).hexdigest()
    input = torch.randn(2, 3, SIDE, SIDE)
    same(model(input), reference(input))


@torch.no_grad()
def test_old_files_lack_counts_and_have_old_names(tmp_path):
    reference = disturbed(theirs.densenet121(weights=None))
    old = {}
    for name, value in reference.state_dict().items():
        if "num_batches_tracked" not in name:
            for word in ("norm", "conv"):
                for n in "12":
                    if "denselayer" in name:
                        name = name.replace(f".{word}{n}.", f".{word}.{n}.")
            old[name] = value
    assert any(".norm.1." in name for name in old)
    torch.save(old, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    model, spec = ours("densenet121")
    load_pretrained(model, spec, str(tmp_path / "w.pth"))
    input = torch.randn(1, 3, SIDE, SIDE)
    same(model(input), reference(input))


@torch.no_grad()
def test_every_published_tensor_has_its_place():
    """By name for name, in the shapes that torchvision has; computed without memory."""
    for name in MODELS.names():
        if MODELS[name].torchvision is None:
            continue
        extra = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
        with torch.device("meta"):
            reference = theirs.get_model(MODELS[name].torchvision, weights=None, **extra)
            model = build(ModelSpec(name, 3, 1000, (224, 224), stem="paper"))
        own = model.state_dict()
        names = transfer._twin_names(name)
        assert set(names.values()) == set(own)
        for key, value in reference.state_dict().items():
            assert own[names[key]].shape == value.shape
            if "running" in key:
                assert names[key].rpartition(".")[2] == key.rpartition(".")[2]


def test_the_old_names_of_a_vision_transformer(tmp_path):
    with torch.device("meta"):
        names = list(theirs.vit_b_16(weights=None).state_dict())
    for name in names:
        old = name.replace(".mlp.0.", ".mlp.linear_1.").replace(".mlp.3.", ".mlp.linear_2.")
        assert transfer._new_name(old) == name
    assert any(".mlp.0." in name for name in names)


@torch.no_grad()
def test_a_vision_transformer_of_another_size(tmp_path):
    """The same picture in twice the pixels, by patches: linear positions stay linear."""
    rows, columns = torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij")
    ramp = torch.stack([rows, columns], -1).reshape(1, 16, 2) + 0.5
    token = torch.full((1, 1, 2), 7.0)
    found = resized_positions(torch.cat([token, ramp], 1), (8, 8))
    assert torch.equal(found[:, :1], token)
    grid = found[0, 1:].unflatten(0, (8, 8))
    # Pixel i of 8 lies at (i + 0.5) / 2 of 4. torch's kernel follows a ramp to a tenth; half a
    # patch aside or rows for columns would be further off.
    middle = torch.arange(2, 6) / 2 + 0.25
    torch.testing.assert_close(grid[2:6, 3, 0], middle, atol=0.1, rtol=0)
    torch.testing.assert_close(grid[3, 2:6, 1], middle, atol=0.1, rtol=0)
    volume = resized_positions(torch.cat([token, ramp], 1), (3, 4, 4))
    torch.testing.assert_close(volume[:, 1:], ramp.repeat(1, 3, 1))
    assert torch.equal(resized_positions(ramp[:, :12], (8, 8)), ramp[:, :12])

    small, _ = ours("vit_tiny", size=(32, 32))
    torch.save(small.state_dict(), tmp_path / "w.pt")
    large, spec = ours("vit_tiny", size=(48, 64))
    loaded = load_pretrained(large, spec, str(tmp_path / "w.pt"))
    assert loaded.adapted == ("positions resized to 3×4 patches",)
    assert loaded.fresh == ()


@torch.no_grad()
def test_a_grey_input_gives_what_grey_colour_gives(resnet18):
    reference, path = resnet18
    model, spec = ours(channels=1)
    loaded = load_pretrained(model, spec, str(path))
    assert loaded.adapted == ("first layer from 3 to 1 channels",)
    grey = torch.randn(2, 1, SIDE, SIDE)
    same(model(grey), reference(grey.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize("channels", [1, 2, 4, 5, 6, 7])
def test_other_channels_keep_the_response_to_grey(channels):
    weight = torch.randn(4, 3, 5, 5, dtype=torch.float64)
    found = with_channels(weight, channels)
    assert found.shape == (4, channels, 5, 5)
    torch.testing.assert_close(found.sum(1), weight.sum(1))
    if channels > 3:
        assert not torch.equal(found[:, 0], found[:, 1])


@torch.no_grad()
def test_other_classes_get_a_fresh_last_layer(resnet18):
    reference, path = resnet18
    model, spec = ours(classes=10)
    fresh, _ = ours(classes=10)
    loaded = load_pretrained(model, spec, str(path))
    assert loaded.fresh == ("head.weight", "head.bias")
    assert "freshly initialised: head.weight, head.bias" in loaded.sentence()
    assert torch.equal(model.head.weight, fresh.head.weight)
    input = torch.randn(2, 3, SIDE, SIDE)
    reference.fc, kept = nn.Identity(), reference.fc
    features = reference(input)
    reference.fc = kept
    same(model(input), model.head(features))


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3"])
@torch.no_grad()
def test_a_volume_of_equal_slices_meets_the_same_filters(name, tmp_path):
    torch.manual_seed(0)
    reference = theirs.get_model(MODELS[name].torchvision, weights=None).eval()
    torch.save(reference.state_dict(), tmp_path / "w.pth")
    model, spec = ours(name, classes=5, size=(32, 32, 32))
    loaded = load_pretrained(model, spec, str(tmp_path / "w.pth"))
    assert any("inflated" in sentence for sentence in loaded.adapted)
    flat = next(m for m in reference.modules() if isinstance(m, nn.Conv2d))
    deep = next(m for m in model.modules() if isinstance(m, nn.Conv3d))
    picture = torch.randn(1, 3, 32, 32)
    found = deep(picture[:, :, None].expand(-1, -1, 32, -1, -1))
    same(found[:, :, found.shape[2] // 2], flat(picture))  # the middle: no padding in depth
    assert inflated_to(torch.ones(2, 3, 5, 5), 4).sum() == 2 * 3 * 5 * 5


class EvenPadding(nn.Module):
    """A convolution whose input goes on along the depth as it ends, instead of zeros."""

    def __init__(self, conv):
        super().__init__()
        self.depth, self.conv = conv.padding[0], conv
        conv.padding = (0, *conv.padding[1:])

    def forward(self, input):
        sides = (0, 0, 0, 0, self.depth, self.depth)
        return self.conv(torch.nn.functional.pad(input, sides, "replicate"))


def padded_evenly(module):
    for name, child in module.named_children():
        if isinstance(child, nn.Conv3d):
            setattr(module, name, EvenPadding(child))
        else:
            padded_evenly(child)


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "mobilenet_v3",
        pytest.param("googlenet", marks=pytest.mark.slow),
        pytest.param("densenet121", marks=pytest.mark.slow),
        pytest.param("efficientnet_b0", marks=pytest.mark.slow),
        pytest.param("convnext_tiny", marks=pytest.mark.slow),
    ],
)
@torch.no_grad()
def test_a_volume_of_equal_slices_gives_what_the_slice_gives(name, tmp_path):
    """Through the whole network, once nothing but zeros beyond the ends tells slices apart."""
    torch.manual_seed(0)
    extra = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    reference = disturbed(theirs.get_model(MODELS[name].torchvision, weights=None, **extra))
    torch.save(reference.state_dict(), tmp_path / "w.pth")
    model, spec = ours(name, size=(32, 32, 32))
    assert load_pretrained(model, spec, str(tmp_path / "w.pth")).fresh == ()
    padded_evenly(model)
    picture = torch.randn(1, 3, 32, 32)
    same(model(picture[:, :, None].expand(-1, -1, 32, -1, -1)), reference(picture))


def test_a_head_that_reads_other_maps_is_fresh_as_a_whole():
    with torch.device("meta"):
        flat = theirs.alexnet(weights=None).state_dict()
    with torch.device("meta"):
        model, spec = ours("alexnet_one_tower", classes=5, size=(64, 64, 64))
    placed = transfer._placed(flat, model, spec, "w.pth")
    placed = {n: torch.zeros(t.shape) for n, t in placed.items() if t.ndim != 2}
    fitted, _, fresh = transfer._fitted(placed, model, spec, "w.pth")
    assert all(name.startswith("head.") for name in fresh)
    assert len(fresh) == 6
    assert not any(name.startswith("head.") for name in fitted)


def test_a_vgg_with_the_small_stem_keeps_its_own_head():
    with torch.device("meta"):
        names = theirs.vgg11(weights=None).state_dict()
        model, spec = ours("vgg11", classes=5, size=(32, 32), stem="small")
    placed = transfer._placed(names, model, spec, "w.pth")
    placed = {n: torch.zeros(t.shape) for n, t in placed.items() if t.ndim != 2}
    fitted, adapted, fresh = transfer._fitted(placed, model, spec, "w.pth")
    assert set(fitted) == {n for n in model.state_dict() if n.startswith("stages.")}
    assert set(fresh) == {n for n in model.state_dict() if n.startswith("head.")}
    assert adapted == []


def test_a_run_of_hubels_own(resnet18, tmp_path):
    first, _ = ours(classes=4)
    safetensors.torch.save_file(first.state_dict(), tmp_path / "model.safetensors")
    model, spec = ours(classes=4)
    with torch.no_grad():
        model.head.weight.zero_()
    loaded = load_pretrained(model, spec, str(tmp_path / "model.safetensors"))
    assert loaded.fresh == ()
    assert torch.equal(model.head.weight, first.head.weight)


def test_the_folder_of_a_run(tmp_path):
    first, _ = ours(classes=4)
    safetensors.torch.save_file(first.state_dict(), tmp_path / "model.safetensors")
    model, spec = ours(classes=4)
    loaded = load_pretrained(model, spec, str(tmp_path))
    assert loaded.file == str((tmp_path / "model.safetensors").resolve())
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"is a folder without a model.safetensors; give a file of"):
        load_pretrained(model, spec, str(tmp_path))


def test_a_network_from_outside(resnet18):
    from hubel.network import network_of

    spec, model = network_of(ModelSpec("torchvision:resnet18", 3, 10, (SIDE, SIDE)))
    loaded = load_pretrained(model, spec, str(resnet18[1]))
    assert set(loaded.fresh) == {"network.fc.weight", "network.fc.bias"}
    same_file = published_weights("resnet18")
    assert published_weights("torchvision:resnet18") == same_file
    assert published_weights("torchvision:inception_v3").std == (0.5, 0.5, 0.5)
    assert published_weights("torchvision:r3d_18").mean == (0.43216, 0.394666, 0.37645)
    assert published_weights("torchvision:fcn_resnet50") is None
    with pytest.raises(UserError, match="publishes no weights for --model 'timm:resnet18'"):
        load_pretrained(model, replace(spec, name="timm:resnet18"), "torchvision")


@torch.no_grad()
def test_a_run_of_a_network_from_outside(tmp_path):
    """Its file has "network." before each name; so may what other trainers save."""
    from hubel.network import network_of

    first_spec = ModelSpec("torchvision:mobilenet_v3_small", 3, 4, (SIDE, SIDE))
    _, first = network_of(first_spec)
    safetensors.torch.save_file(first.state_dict(), tmp_path / "model.safetensors")
    assert all(name.startswith("network.") for name in first.state_dict())
    spec, model = network_of(first_spec)
    loaded = load_pretrained(model, spec, str(tmp_path / "model.safetensors"))
    assert loaded.fresh == ()
    assert all(torch.equal(t, model.state_dict()[n]) for n, t in first.state_dict().items())


@pytest.mark.parametrize("before", ["network.", "model.backbone."])
@torch.no_grad()
def test_what_stands_before_every_name_is_taken_off(resnet18, tmp_path, before):
    reference, _ = resnet18
    wrapped = {before + name: value for name, value in reference.state_dict().items()}
    torch.save(wrapped, tmp_path / "w.pth")
    model, spec = ours()
    assert load_pretrained(model, spec, str(tmp_path / "w.pth")).fresh == ()
    input = torch.randn(1, 3, SIDE, SIDE)
    same(model(input), reference(input))
    names = ["a.b", "c"]
    assert transfer._unwrapped({"x.a.b": 1, "x.c": 2}, names) == {"a.b": 1, "c": 2}
    assert transfer._unwrapped({"a.b": 1}, names) == {"a.b": 1}
    assert transfer._unwrapped({"x": 1}, names) == {"x": 1}
    assert transfer._unwrapped({"x.y": 1}, names) == {"y": 1}


@torch.no_grad()
def test_published_files_of_a_network_from_outside_have_old_names_too(tmp_path):
    from hubel.network import network_of

    reference = theirs.densenet121(weights=None)
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", name): value
        for name, value in reference.state_dict().items()
    }
    assert any(".norm.1." in name for name in old)
    torch.save(old, tmp_path / "w.pth")
    spec, model = network_of(ModelSpec("torchvision:densenet121", 3, 1000, (SIDE, SIDE)))
    assert load_pretrained(model, spec, str(tmp_path / "w.pth")).fresh == ()
    assert torch.equal(
        model.network.features.denseblock1.denselayer1.norm1.weight,
        reference.features.denseblock1.denselayer1.norm1.weight,
    )


@pytest.mark.parametrize(
    ("name", "stem", "pattern"),
    [
        ("resnet34", "paper", r"not of --model 'resnet34': \d+ of the tensors of the network are"),
        ("vgg11", "paper", r"tensors of the file are not in the network \('conv1.weight', "),
        ("resnet50", "paper", r"of the network are not in the file \('layer1.0.conv3.weight'"),
        ("lenet5", "paper", r"not of --model 'lenet5'"),
        ("resnet18", "small", r"'stem.0.weight' is 64×3×7×7 there and 64×3×3×3 here; .*"
                              r"--stem paper"),
    ],
)  # fmt: skip
def test_another_network_is_refused_and_nothing_changed(resnet18, name, stem, pattern):
    with torch.device("cpu" if name == "resnet18" else "meta"):
        model, spec = ours(name, size=(224, 224), stem=stem)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    with pytest.raises(UserError, match=pattern):
        load_pretrained(model, spec, str(resnet18[1]))
    if name == "resnet18":
        assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())


def test_non_finite_weights_are_refused(resnet18, tmp_path):
    state = resnet18[0].state_dict()
    state["layer1.0.conv1.weight"] = torch.full_like(state["layer1.0.conv1.weight"], torch.nan)
    torch.save(state, tmp_path / "w.pth")
    model, spec = ours()
    with pytest.raises(UserError, match=r"'stages.0.0.residual.0.weight' has non-finite values"):
        load_pretrained(model, spec, str(tmp_path / "w.pth"))


class Program:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("archive", [True, False])
def test_code_is_refused_and_not_executed(tmp_path, archive):
    victim = tmp_path / "victim"
    content = {"a": torch.zeros(2), "b": Program(victim)}
    torch.save(content, tmp_path / "w.pt", _use_new_zipfile_serialization=archive)
    with pytest.raises(UserError, match=r"more than tensors.*mkdir.*nothing was executed"):
        read_weights(tmp_path / "w.pt")
    assert not victim.exists()


def test_a_torchscript_program_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as file:
        file.writestr("w/code/__torch__.py", "pass")
        file.writestr("w/constants.pkl", b"")
    with pytest.raises(UserError, match="TorchScript program, not weights"):
        read_weights(tmp_path / "w.pt")


def test_a_small_file_cannot_inflate(tmp_path):
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(5_000_000)}, buffer)
    with (
        zipfile.ZipFile(buffer) as source,
        zipfile.ZipFile(tmp_path / "w.pt", "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    assert (tmp_path / "w.pt").stat().st_size < 100_000
    with pytest.raises(UserError, match=r"declares 20,000,\d+ in compressed members"):
        read_weights(tmp_path / "w.pt")


def test_an_old_file_cannot_declare_more_than_it_holds(tmp_path):
    torch.save({"a": torch.zeros(70_000)}, tmp_path / "w.pt",
               _use_new_zipfile_serialization=False)  # fmt: skip
    content = (tmp_path / "w.pt").read_bytes()
    number = b"J" + (70_000).to_bytes(4, "little")  # the pickle's instruction for the size
    assert content.count(number) >= 2
    huge = content.replace(number, b"J" + (2**31 - 1).to_bytes(4, "little"))
    (tmp_path / "w.pt").write_bytes(huge)
    with pytest.raises(UserError, match="is not a whole file of torch's"):
        read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize("kept", [0.5, 0.99])
@pytest.mark.parametrize("archive", [True, False])
def test_a_damaged_file(tmp_path, kept, archive):
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(5000)}, buffer, _use_new_zipfile_serialization=archive)
    content = buffer.getvalue()
    (tmp_path / "w.pt").write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(UserError, match=r"is damaged|is not a whole file"):
        read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("name", "content", "pattern"),
    [
        ("w.bin", b"", r"ends in '.bin'; give a .safetensors, .pt or .pth"),
        ("w.safetensors", b"nothing", "is not a whole safetensors file"),
        ("w.pt", b"", "is not a whole file"),
        ("w.pt", b"hello", "is not a whole file"),
        ("missing.pt", None, "does not exist"),
    ],
)
def test_no_weights(tmp_path, name, content, pattern):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=pattern):
        read_weights(tmp_path / name)


@pytest.mark.parametrize("content", [[torch.zeros(1)], {}, {"a": 1}, torch.zeros(2)])
def test_no_table_of_tensors(tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(UserError, match="not a table of tensors by name"):
        read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.eye(2).to_sparse(),
        torch.zeros(2, device="meta"),
        torch.zeros(2, dtype=torch.complex64),
    ],
)
def test_odd_tensors(tmp_path, tensor):
    torch.save({"a": tensor}, tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"is sparse, quantised, complex|more than tensors"):
        read_weights(tmp_path / "w.pt")


def test_a_tensor_cannot_be_larger_than_its_file(tmp_path):
    torch.save({"a": torch.zeros(1).expand(100_000, 100_000)}, tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"'a' declares 40,000,000,000 bytes, the file has 1,\d+"):
        read_weights(tmp_path / "w.pt")


def test_the_wrappers_of_training_scripts(tmp_path):
    torch.save({"state_dict": {"module.a": torch.ones(2)}, "epoch": 3}, tmp_path / "w.pt")
    assert torch.equal(read_weights(tmp_path / "w.pt").tensors["a"], torch.ones(2))


@pytest.mark.parametrize(
    "content",
    [
        {"module._orig_mod.a": torch.ones(2)},
        {"n_averaged": torch.tensor(3), "module.a": torch.ones(2)},
        {"model_ema": {"a": torch.ones(2)}, "epoch": 3},
        {"model_ema": {"a": torch.zeros(2)}, "model": {"a": torch.ones(2)}},
    ],
)
def test_shells_and_averages(tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    found = read_weights(tmp_path / "w.pt").tensors
    assert list(found) == ["a"]
    assert torch.equal(found["a"], torch.ones(2))


def test_what_torchvision_publishes():
    for name in MODELS.names():
        published = published_weights(name)
        assert (published is None) == (MODELS[name].torchvision is None)
        if published is not None:
            assert published.name.endswith(f"-{published.sha256_prefix}.pth")
            assert len(published.sha256_prefix) == 8
    assert published_weights("resnet18").mean == (0.485, 0.456, 0.406)
    assert published_weights("googlenet").std == (0.5, 0.5, 0.5)


def test_googlenets_normalisation_is_torchvisions_transform_input():
    """Pixels through our normalisation are what torchvision's network makes of its own."""
    network = theirs.googlenet(aux_logits=False, init_weights=False, transform_input=True)
    pixels = torch.randint(0, 256, (1, 4, 4, 3), dtype=torch.uint8)
    own = Preprocess((4, 4), (0.1, 0.2, 0.3), (1.0, 1.0, 1.0))
    config = FitConfig(model="googlenet", pretrained="torchvision")
    settled, note = settle_preprocess(config, own)
    assert "0.500 ± 0.500" in note
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    imagenet = ((pixels / 255 - mean) / std).permute(0, 3, 1, 2)
    torch.testing.assert_close(settled(pixels), network._transform_input(imagenet))


def test_only_published_weights_change_the_normalisation():
    own = Preprocess((4, 4), (0.1,), (0.2,))
    assert settle_preprocess(FitConfig(model="resnet18"), own) == (own, "")
    assert settle_preprocess(FitConfig(model="resnet18", pretrained="mine.pth"), own) == (own, "")
    file = f"/somewhere/{published_weights('resnet18').name}"
    settled, _ = settle_preprocess(FitConfig(model="resnet18", pretrained=file), own)
    assert settled.mean == pytest.approx((0.449,))
    floats = Preprocess((4, 4), (0.1,), (0.2,), scale=1.0)
    settled, note = settle_preprocess(FitConfig(model="resnet18", pretrained=file), floats)
    assert settled == floats
    assert "its own mean" in note


def test_off_line_names_the_file_and_its_place(monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(transfer.urllib.request, "urlopen", offline)
    model, spec = ours()
    place = published_weights("resnet18").path
    assert os.environ["HUBEL_CACHE"] in str(place)
    with pytest.raises(UserError, match=r"'resnet18-f37072fd.pth' could not be fetched \(no") as e:
        load_pretrained(model, spec, "torchvision")
    assert f"put it at '{place}'; its sha256 must begin with f37072fd" in str(e.value)


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A server on this machine of the files in a folder: (folder, url)."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, format, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("prefix", "mebibytes", "pattern"),
    [
        (None, None, ""),
        ("00000000", None, r"arrived with sha256 \w+, published is 00000000"),
        (None, 3.0, r"the server offers [\d,]+ bytes as 'net-\w+.pth', published are 3.0 MiB"),
    ],
)
def test_the_published_file_is_fetched_checked_and_kept(
    resnet18, served, monkeypatch, prefix, mebibytes, pattern
):
    folder, url = served
    content = resnet18[1].read_bytes()
    prefix = prefix or hashlib.sha256(content).hexdigest()[:8]
    mebibytes = mebibytes or round(len(content) / 2**20, 3)
    (folder / f"net-{prefix}.pth").write_bytes(content)
    published = PublishedWeights(f"{url}/net-{prefix}.pth", prefix, mebibytes, (0.0,), (1.0,))
    monkeypatch.setattr(transfer, "published_weights", lambda name: published)
    model, spec = ours()
    if pattern:
        with pytest.raises(UserError, match=pattern):
            load_pretrained(model, spec, "torchvision")
        assert not published.path.exists()
        return
    load_pretrained(model, spec, "torchvision")
    assert published.path.read_bytes() == content
    (folder / f"net-{prefix}.pth").unlink()
    loaded = load_pretrained(model, spec, "torchvision")  # from the cache
    assert loaded.file == str(published.path)


def test_a_file_put_there_by_hand_is_checked(resnet18, monkeypatch):
    published = published_weights("resnet18")
    published.path.parent.mkdir(parents=True)
    published.path.write_bytes(resnet18[1].read_bytes())
    model, spec = ours()
    with pytest.raises(UserError, match=r"is damaged: its sha256 begins with \w{8}, the published"):
        load_pretrained(model, spec, "torchvision")


# Freezing


def test_stages_hold_every_parameter_once():
    for name in ("resnet18", "googlenet", "vit_tiny", "simple", "lenet5", "mobilenet_v3"):
        with torch.device("meta"):
            model, _ = ours(name, size=(224, 224) if name != "lenet5" else (32, 32))
        parameters = [p for stage in stages_of(model) for p in stage.parameters]
        assert len(parameters) == len(set(parameters)) == len(list(model.parameters()))
        position = {p: i for i, p in enumerate(model.parameters())}
        assert [position[p] for p in parameters] == sorted(position.values())


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("resnet18", ["stem", "stages.0", "stages.1", "stages.2", "stages.3", "head"]),
        ("simple", ["stages.0", "stages.1", "stages.2", "head.rest", "head.5"]),
        ("vit_tiny", ["patches", *(f"blocks.{i}" for i in range(12)), "head"]),
    ],
)
def test_the_stages_by_name(name, names):
    with torch.device("meta"):
        model, _ = ours(name, size=(224, 224))
    assert [stage.name for stage in stages_of(model)] == names


@pytest.mark.parametrize(("freeze", "count"), [("", 0), ("2", 2), ("backbone", 3), ("all", 4)])
def test_what_is_frozen(freeze, count):
    model, _ = ours("simple", classes=3, size=(8, 8))
    freezing = make_freezing(model, FitConfig(model="simple", freeze=freeze))
    freezing.apply(0)
    learning = [n for n, p in model.named_parameters() if p.requires_grad]
    assert len(learning) == 10 - 2 * count


def test_stages_thaw_from_the_head_down():
    model, _ = ours("simple", classes=3, size=(8, 8))
    freezing = make_freezing(model, FitConfig(freeze="all", unfreeze_epochs=2))
    assert [freezing.count(epoch) for epoch in range(10)] == [4, 4, 3, 3, 2, 2, 1, 1, 0, 0]
    freezing.apply(5)
    assert [p.requires_grad for p in model.parameters()] == [False] * 4 + [True] * 6
    freezing.apply(1)  # a roll-back goes back to fewer
    assert [p.requires_grad for p in model.parameters()] == [False] * 8 + [True] * 2


def test_a_frozen_batch_norm_keeps_its_statistics():
    model, _ = ours("resnet18", classes=3, size=(32, 32), stem="small")
    freezing = make_freezing(model, FitConfig(model="resnet18", freeze="2"))
    before = {n: t.clone() for n, t in model.state_dict().items()}
    model.train()
    freezing.apply(0)
    model(torch.randn(4, 3, 32, 32)).sum().backward()
    after = model.state_dict()
    changed = {name[:8] for name in after if not torch.equal(after[name], before[name])}
    assert changed == {"stages.1", "stages.2", "stages.3"}
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == name.startswith(("stem", "stages.0"))


def test_a_norm_without_scale_freezes_with_what_comes_before_it():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False), nn.ReLU(), nn.Flatten(),
        nn.Linear(4 * 36, 5), nn.BatchNorm1d(5, affine=False), nn.Linear(5, 2),
    )  # fmt: skip
    assert [stage.name for stage in stages_of(model)] == ["0", "4", "6"]
    model.train()
    make_freezing(model, FitConfig(freeze="1")).apply(0)
    model(torch.randn(4, 3, 8, 8))
    assert torch.equal(model[1].running_mean, torch.zeros(4))
    assert not torch.equal(model[5].running_mean, torch.zeros(5))


@pytest.mark.parametrize(
    ("name", "dropping"),
    # The last acts on what the last layer reads; AlexNet has one before each of the other two.
    [("vgg11", [False, True]), ("alexnet", [False, False]), ("simple", [False, True])],
)
def test_nothing_is_dropped_in_frozen_layers(name, dropping):
    with torch.device("meta"):
        spec = ModelSpec(name, 3, 5, (224, 224), dropout=0.5, stem="paper")
        model = build(spec).train()
    make_freezing(model, FitConfig(model=name, freeze="all")).apply(0)
    dropouts = [m for m in model.modules() if isinstance(m, nn.Dropout)]
    assert [m.training for m in dropouts] == dropping
    model.train()
    make_freezing(model, FitConfig(model=name, freeze="backbone")).apply(0)
    assert [m.training for m in dropouts] == [True, True]


@pytest.mark.parametrize(
    ("settings", "pattern"),
    [
        ({"freeze": "some"}, r"--freeze: write all, backbone or a number of stages, got 'some'"),
        (
            {"model": "simple", "freeze": "5"},
            r"--freeze 5 leaves nothing of 'simple' to learn, its 5 stages are",
        ),
        ({"unfreeze_epochs": 2}, r"--unfreeze-epochs 2 has nothing to unfreeze"),
        ({"layer_decay": 0.0}, r"--layer-decay must be between 0.01 and 1"),
    ],
)
def test_settings_that_make_no_sense(settings, pattern):
    model, _ = ours("simple", classes=3, size=(8, 8))
    with pytest.raises(UserError, match=pattern):
        make_freezing(model, FitConfig.from_settings(settings))


def test_rates_fall_from_the_head_down():
    model, _ = ours("simple", classes=3, size=(8, 8))
    config = FitConfig(recipe="plain", lr=0.1, layer_decay=0.5, freeze="1")
    roles = roles_of(model, (3, 8, 8), 64)
    optimizer = make_optimizer(model, config, make_freezing(model, config), roles)
    rates = {p: g["lr"] for g in optimizer.param_groups for p in g["params"]}
    assert optimizer.param_groups[0]["lr"] == 0.1
    parameters = list(model.parameters())
    assert [rates.get(p) for p in parameters[::2]] == [None, 0.0125, 0.025, 0.05, 0.1]


def test_a_fit_records_what_it_began_from_and_resumes_without_the_file(tmp_path, pictures):
    first, _ = ours("simple", classes=3, size=(16, 16))
    file = tmp_path / "begin.safetensors"
    safetensors.torch.save_file(first.state_dict(), file)
    notes = []
    settings = {
        "model": "simple", "img_size": 16, "batch_size": 16, "threads": 1, "engine": "fp32",
        "pretrained": str(file), "freeze": "all", "unfreeze_epochs": 1, "layer_decay": 0.5,
        "checkpoint_every": 0.0,
    }  # fmt: skip

    def heard(facts):
        notes.append(facts.get("note", ""))

    short = hubel.fit(pictures, output=tmp_path / "a", report=heard, epochs=2,
                      schedule="constant", **settings)  # fmt: skip
    facts = json.loads((short.path / "pretrained.json").read_text())
    assert facts["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert facts["fresh"] == []
    assert any("10 tensors from begin.safetensors" in note for note in notes)
    assert any("frozen: 4 of 5 stages (stages.0 to head.rest), one fewer every" in n for n in notes)
    trained = safetensors.torch.load_file(short.path / "model.safetensors")
    began = first.state_dict()
    kept = [n for n in began if torch.equal(trained[n], began[n])]
    assert kept == [n for n in began if n.startswith("stages.")]
    long = hubel.fit(pictures, output=tmp_path / "b", epochs=4, schedule="constant", **settings)
    file.unlink()
    resumed = hubel.resume(short.path, epochs=4)
    a, b = (sorted((r.path / "checkpoints").iterdir())[-2] for r in (resumed, long))
    assert a.name == b.name
    for name in ("model", "optimizer"):
        left, right = (safetensors.torch.load_file(c / f"{name}.safetensors") for c in (a, b))
        assert set(left) == set(right)
        assert all(np.array_equal(left[n].numpy(), right[n].numpy()) for n in left)
