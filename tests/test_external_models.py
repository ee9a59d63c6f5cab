"""Networks from outside: torchvision's, timm's and a person's own file."""

import importlib.machinery
import importlib.util
import sys
from types import ModuleType

import pytest
import torch
import torchvision
from torch import nn

from hubel.errors import UserError
from hubel.external_models import ExternalModel, external, is_external
from hubel.models import ModelSpec

FILE = '''\
"""A person's own network."""

from torch import nn

import neighbour


class Net(nn.Module):
    def __init__(self, in_channels, num_classes, width=4, dropout=0.25):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, width, 3), nn.MaxPool2d(2), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3), nn.MaxPool2d(2), nn.ReLU(),
            nn.Flatten(), nn.Dropout(dropout), nn.Linear(2 * width * neighbour.PLACES, num_classes),
        )

    def forward(self, x):
        return self.layers(x)


def three_dims(*, in_channels, num_classes, input_size, spatial_dims):
    assert spatial_dims == len(input_size) == 3
    return nn.Sequential(nn.Conv3d(in_channels, num_classes, 3), nn.AdaptiveAvgPool3d(1),
                         nn.Flatten())


def fixed():
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 10))


def needs_more(in_channels, depth):
    return fixed()


def breaks():
    widths = [1]
    return widths[3]


def number():
    return 3


class Pair(nn.Module):
    def forward(self, x):
        return x, x


def wide(in_channels, num_classes, width=1.0):
    return Net(in_channels, num_classes, width=round(4 * width))


instance = fixed()
'''


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    (tmp_path / "neighbour.py").write_text("PLACES = 36\n")
    yield path
    sys.modules.pop("neighbour", None)


def of(name: str, channels: int = 3, classes: int = 7, size: tuple[int, ...] = (32, 32), **more):
    return external(ModelSpec(name, channels, classes, size, **more))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("torchvision:resnet18", True),
        ("timm:resnet18", True),
        ("mine.py:Net", True),
        ("C:/nets/mine.py:Net", True),
        ("mine.py", True),
        ("resnet18", False),
        ("resnet18.py.zip", False),
    ],
)
def test_which_names_are_external(name, expected):
    assert is_external(name) is expected


def test_torchvisions_network_is_torchvisions():
    torch.manual_seed(3)
    ours = of("torchvision:resnet18", classes=1000).eval()
    torch.manual_seed(3)
    theirs = torchvision.models.resnet18(weights=None).eval()
    input = torch.randn(2, 3, 32, 32)
    assert torch.equal(ours(input), theirs(input))
    kept = {}
    for name in ("layer1", "layer4"):
        getattr(theirs, name).register_forward_hook(lambda m, i, o, n=name: kept.update({n: o}))
    theirs(input)
    maps = ours.forward_features(input)
    assert [tuple(m.shape[1:]) for m in maps] == [
        (64, 16, 16), (64, 8, 8), (128, 4, 4), (256, 2, 2),
    ]  # fmt: skip
    assert torch.equal(maps[1], kept["layer1"])
    assert not any(m._forward_hooks for m in ours.modules())
    larger = ours.forward_features(torch.randn(2, 3, 64, 64))
    assert tuple(larger[-1].shape[1:]) == (512, 2, 2)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("resnet18", (40, 32)),
        ("googlenet", (32, 32)),
        ("mnasnet0_5", (32, 32)),
        ("squeezenet1_1", (32, 32)),
        ("vit_b_32", (64, 64)),
        ("r3d_18", (8, 32, 32)),
    ],
)
def test_channels_classes_and_dropout_are_adapted(name, size):
    model = of(f"torchvision:{name}", channels=2, classes=5, size=size, dropout=0.4)
    rates = {m.p for m in model.modules() if isinstance(m, nn.Dropout)}
    assert rates == {0.4}
    output = model.train()(torch.randn(2, 2, *size))
    assert output.shape == (2, 5)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("torchvision:resnet19", (32, 32), r"'torchvision:resnet19' is not known; did you mean "),
        ("torchvision:raft_small", (32, 32), r"raft_small' does not classify pictures; for those"),
        ("torchvision:resnet18", (8, 32, 32), r"resnet18' does not classify volumes; .*:r3d_18'"),
        ("torchvision:vit_b_16", (30, 30), r"takes squares of a multiple of 16 pixels, got 30×30"),
        ("torchvision:vit_b_16", (32, 64), r"takes squares of a multiple of 16 pixels, got 32×64"),
        ("torchvision:maxvit_t", (64, 64), r"maxvit_t' cannot be built for 3×64×64: .*--img-size"),
    ],
)
def test_what_torchvision_does_not_have(name, size, message):
    with pytest.raises(UserError, match=message):
        of(name, size=size)


def test_a_transformer_gives_no_maps_and_none_from_outside_a_head():
    model = of("torchvision:vit_b_32", size=(64, 64)).eval()
    with pytest.raises(UserError, match=r"'torchvision:vit_b_32' gives no maps by stride"):
        model.forward_features(torch.zeros(1, 3, 64, 64))
    with pytest.raises(UserError, match=r"has no head of its own to call"):
        model.forward_head([torch.zeros(1, 3, 2, 2)])


def test_numbers_and_stems_that_cannot_be():
    with pytest.raises(UserError, match=r"at least 1 input channel and 1 output, got 0 and 7"):
        of("torchvision:resnet18", channels=0)
    with pytest.raises(UserError, match=r"--stem small: 'timm:resnet18' has only a stem of its"):
        of("timm:resnet18", stem="small")


@pytest.mark.skipif(importlib.util.find_spec("timm") is not None, reason="timm is installed")
def test_without_timm_its_install_line():
    with pytest.raises(UserError, match=r"needs timm, .* with: pip install 'hubel\[hub\]'"):
        of("timm:resnet18")


def test_timm_gets_its_own_arguments(monkeypatch):
    """The calls alone; the next test has timm's networks where it is installed."""
    calls = []

    def create_model(name, *, pretrained, in_chans, num_classes, drop_rate=0.0, **more):
        calls.append((name, pretrained, in_chans, num_classes, drop_rate, more))
        if more and not name.startswith("vit"):
            raise TypeError("unexpected keyword argument 'img_size'")
        return nn.Sequential(nn.Flatten(), nn.Linear(in_chans * 64, num_classes))

    timm = ModuleType("timm")
    timm.__spec__ = importlib.machinery.ModuleSpec("timm", None)
    timm.list_models = lambda: ["resnet18", "vit_tiny_patch16_224"]
    timm.create_model = create_model
    monkeypatch.setitem(sys.modules, "timm", timm)
    assert of("timm:resnet18.a1_in1k", 2, 5, (8, 8), dropout=0.5)(
        torch.zeros(3, 2, 8, 8)
    ).shape == (3, 5)
    assert calls[-1] == ("resnet18.a1_in1k", False, 2, 5, 0.5, {})
    of("timm:vit_tiny_patch16_224", 2, 5, (8, 8))
    assert calls[-1] == ("vit_tiny_patch16_224", False, 2, 5, 0.0, {"img_size": (8, 8)})
    with pytest.raises(
        UserError, match=r"timm:resnet19' is not known; did you mean 'timm:resnet18'"
    ):
        of("timm:resnet19")
    calls.clear()
    with pytest.raises(UserError, match=r"timm:hf-hub:someone/net' is not known"):
        of("timm:hf-hub:someone/net")
    with pytest.raises(UserError, match=r"takes pictures \(2 sizes\), got 8×8×8"):
        of("timm:resnet18", size=(8, 8, 8))
    assert calls == []


def test_a_network_of_timm():
    pytest.importorskip("timm")
    model = of("timm:resnet18", channels=2, classes=5, size=(64, 64)).eval()
    input = torch.randn(2, 2, 64, 64)
    assert model(input).shape == (2, 5)
    assert tuple(model.forward_features(input)[-1].shape[1:]) == (512, 2, 2)


def test_a_persons_own_class_gets_what_it_names(file):
    model = of(f"{file}:Net", channels=1, classes=5)
    assert isinstance(model, ExternalModel)
    assert model.network.layers[7].p == 0.25  # its own
    assert model(torch.randn(2, 1, 32, 32)).shape == (2, 5)
    maps = model.forward_features(torch.randn(2, 1, 32, 32))
    assert [tuple(m.shape[1:]) for m in maps] == [(8, 13, 13), (8, 6, 6)]
    assert of(f"{file}:Net", dropout=0.5).network.layers[7].p == 0.5
    assert of(f"{file}:three_dims", size=(8, 8, 8))(torch.zeros(1, 3, 8, 8, 8)).shape == (1, 7)


def test_a_persons_own_network_is_never_changed(file):
    assert of(f"{file}:fixed", classes=7).network[1].out_features == 10


def test_nothing_is_written_beside_the_file_and_the_path_stays_as_it_was(file, monkeypatch):
    before = list(sys.path)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    of(f"{file}:Net")
    assert sorted(p.name for p in file.parent.iterdir()) == ["mine.py", "neighbour.py"]
    assert sys.path == before
    assert not sys.dont_write_bytecode


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Nett", r"mine\.py has no 'Nett'; did you mean 'Net'\?"),
        ("", r"names a file without a class or function in it; give .*mine\.py:NAME"),
        ("needs_more", r"needs 'depth', which hubel does not know; give it a default"),
        ("breaks", r"mine\.py:37 cannot build 'breaks': IndexError: list index out of range; cor"),
        ("number", r"mine\.py:number' gives int, not a torch\.nn\.Module; let it return"),
        ("instance", r"is of type Sequential, not a class or function; write a function"),
    ],
)
def test_what_may_be_wrong_with_a_name_in_a_file(file, name, message):
    with pytest.raises(UserError, match=message):
        of(f"{file}:{name}")


def test_a_network_that_gives_more_than_one_tensor(file):
    with pytest.raises(UserError, match=r"Pair' gives tuple; hubel takes networks that give"):
        of(f"{file}:Pair")(torch.zeros(1, 3, 4, 4))


def test_dropout_and_width_that_a_persons_network_does_not_take(file):
    with pytest.raises(UserError, match=r"--dropout 0\.5: '.*fixed' takes no argument 'dropout'"):
        of(f"{file}:fixed", dropout=0.5)
    with pytest.raises(UserError, match=r"--width 0\.5: '.*fixed' takes no argument 'width'; add"):
        of(f"{file}:fixed", width=0.5)


def test_a_width_is_given_to_those_who_take_it(file):
    assert of(f"{file}:wide", width=2.0).network.layers[0].out_channels == 8
    # What is called so there may be no factor: its own default stays unless one was asked for.
    assert of(f"{file}:Net").network.layers[0].out_channels == 4
    for name in ("torchvision:resnet18", "timm:resnet18"):
        message = rf"--width 0\.5: '{name}' has channels of its own; leave --width out, or take"
        with pytest.raises(UserError, match=message):
            of(name, width=0.5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"x = 1\nif x\n    y\n", r"bad\.py:2 is not a Python file: expected ':'; correct it"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", r"bad\.py.* is not a Python file: "),
        (b"import torch\nimport no_such_module\n", r"bad\.py:2 cannot be executed: ModuleNotFound"),
        (b"import sys\n\nsys.exit(3)\n", r"bad\.py:3 cannot be executed: SystemExit: 3; correct"),
        (b"def f():\n    return 1 / 0\nf()\n", r"bad\.py:2 cannot be executed: ZeroDivisionError"),
        (b"x = 1\n", r"bad\.py has no 'Net'; it defines no class and no function"),
    ],
)
def test_files_that_are_no_modules(tmp_path, content, message):
    path = tmp_path / "bad.py"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        of(f"{path}:Net")


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(UserError, match=r"no\.py' does not exist; give the path of a Python file"):
        of(f"{tmp_path / 'no.py'}:Net")
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(UserError, match=r"folder\.py' is a folder; give the path"):
        of(f"{tmp_path / 'folder.py'}:Net")
