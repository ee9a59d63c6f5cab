"""`hubel cost`: what it prints and what it refuses."""

import pytest
from commands import loaded, ran, refusal

import hubel
from hubel.config import FitConfig
from hubel.engine import choose_engine
from hubel.models import ModelSpec, build
from hubel.train import engine as engine_module


@pytest.fixture
def cost(capsys, monkeypatch):
    """`hubel cost WORDS` in this process, without the prediction unless it is asked for."""

    def run(*words, check=True):
        if "--predict" not in words:
            words = (*words, "--no-predict")
        found = ran(("cost", *words), capsys, monkeypatch)
        assert found.returncode == 0 or not check, found.stderr
        return found

    return run


@pytest.fixture
def refused(cost):
    """The one line that it says when it refuses."""
    return lambda *words: refusal(cost(*words, check=False))


SLIDE = """
from torch import nn

class Slide(nn.Sequential):
    def __init__(self, features=256):
        super().__init__(
            nn.Conv2d(3, 16, 3), nn.MaxPool2d(2), nn.ReLU(),
            nn.Conv2d(16, 32, 3), nn.MaxPool2d(2), nn.ReLU(),
            nn.Flatten(), nn.Linear(features, 10),
        )

def mended():
    return Slide(1152)

class Views(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(451, 10)

    def forward(self, x):
        return self.head(self.conv(x).view(-1, 451))

class Spreads(Views):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(900, 10)

    def forward(self, x):
        return self.head(self.conv(x).view(-1, 900))

class Adds(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3)

    def forward(self, x):
        return x + self.conv(x)

class Bare(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(8), nn.Linear(4, 10))

class Unflattened(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3), nn.Linear(3600, 10))

class One(nn.Sequential):
    def __init__(self):
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 2))

class Breaks(nn.Module):
    def forward(self, x):
        return self.missing(x)

x = 3
"""


@pytest.fixture
def nets(tmp_path):
    path = tmp_path / "nets.py"
    path.write_text(SLIDE)
    return path


def test_the_json_document(cost):
    found = loaded(cost("lenet5", "--input", "1x32x32", "--batch-size", 4, "--json"))
    assert (found["params"], found["macs"], found["flops"]) == (61_706, 416_520, 833_040)
    assert (found["model"], found["input_shape"], found["batch_size"]) == ("lenet5", [1, 32, 32], 4)
    for key in ("params", "macs", "flops", "activations", "activation_bytes", "training_step_macs"):
        assert sum(layer[key] for layer in found["layers"]) == found[key]
    c3 = next(layer for layer in found["layers"] if layer["name"] == "c3")
    assert c3["gemms"] == [{"m": 4 * 100, "k": 150, "n": 16, "count": 1}]
    assert c3["output_shape"] == [16, 10, 10]
    assert c3["receptive_field"] == [{"size": 14, "stride": 2, "start": 0}] * 2


def test_the_table(cost):
    said = cost("simple").stdout
    assert max(map(len, said.splitlines())) <= 80
    assert "3,331,072 MACs = 6,662,144 FLOPs a picture" in said
    assert "stages.1.0 8192×144×32    8      2   −3" in said
    by_stage = cost("simple", "--depth", 1).stdout
    assert "9 layers" in by_stage.split("stages")[1].splitlines()[0]
    assert "--depth 2 shows more" in by_stage


def test_volumes(cost):
    found = loaded(cost("simple", "--input", "1×16x16,24", "--num-classes", 3, "--json"))
    assert found["layers"][1]["output_shape"] == [16, 16, 16, 24]
    assert found["layers"][-1]["output_shape"] == [3]


def test_networks_of_torchvision_and_of_one_s_own(cost, nets):
    found = loaded(cost("torchvision:resnet18", "--input", "3x64x64", "--json", "--depth", 1))
    assert found["params"] == 11_689_512
    assert [layer["name"] for layer in found["layers"]][:4] == ["input", "conv1", "bn1", "relu"]
    mended = loaded(cost(f"{nets}:mended", "--input", "3x32x32", "--json"))
    assert mended["params"] == 448 + 4_640 + 11_530


def test_the_lecture_s_slide_is_told_what_would_mend_it(refused, nets):
    said = refused(f"{nets}:Slide", "--input", "3x32x32")
    assert "Linear expects 256 features, the map before it is 32×6×6 = 1152 for a 3×32×32" in said
    assert "make it nn.Linear(1152, 10)" in said


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Views", ["view of 4×30×30", "flatten(1) in its place gives 3600 features"]),
        ("Spreads", ["output of shape (4, 10) for one 3×32×32 sample", "put flatten(1)"]),
        ("Adds", ["Adds: add of 3×32×32 and 3×30×30", "both branches the same stride, padding"]),
        ("Bare", ["BatchNorm2d expects 8 channels", "has 4 (4×30×30)", "nn.BatchNorm2d(4)"]),
        ("Breaks", ["nets.py:", "fails on a 3×32×32 input", "no attribute 'missing'"]),
        ("Unflattened", ["map before it is 4×30×30 = 3600", "put nn.Flatten() before it"]),
    ],
)  # fmt: skip
def test_any_network_that_does_not_fit_is_explained(refused, nets, name, words):
    said = refused(f"{nets}:{name}", "--input", "3x32x32")
    for word in words:
        assert word in said


def test_libraries_networks_too(refused):
    said = refused("torchvision:alexnet", "--input", "3x32x32")
    assert "MaxPool2d does not fit the map before it, 256×1×1 for a 3×32×32 input" in said


def test_one_picture_a_step_under_a_batch_norm(refused, cost, nets):
    said = refused(f"{nets}:One", "--input", "3x8x8", "--batch-size", 1)
    assert "--batch-size 1: a batch norm has one value a channel" in said
    assert "give --batch-size 2 or more" in said
    cost(f"{nets}:One", "--input", "3x8x8", "--batch-size", 2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["simpel"], "'simpel' is not known; did you mean 'simple'?"),
        (["torchvision:resnet19"], "did you mean 'torchvision:resnet18'"),
        (["simple", "--input", "0x32x32"], "at least 1 channel, got '0x32x32'"),
        (["simple", "--input", "32x32"], "channels and 2 sizes (a picture, 3x224x224)"),
        (["simple", "--input", "3x0x32"], "sizes from 1 to 100,000, got '3x0x32'"),
        (["simple", "--input", "3x-1x32"], "such as 3x224x224 or 1x48x48x48, got '3x-1x32'"),
        (["simple", "--input", "3xax32"], "got '3xax32'"),
        (["simple", "--input", "3x99999x99999"], "values a picture, at most"),
        (["simple", "--input", "3x4x4"], "needs an input of at least 8×8"),
        (["simple", "--batch-size", "0"], "--batch-size takes a number of pictures from 1, got"),
        (["simple", "--depth", "0"], "--depth takes a number from 1, got 0"),
        (["simple", "--num-classes", "1"], "2 classes"),
        (["simple", "--stem", "large"], "--stem takes auto, paper or small, got 'large'"),
        (["simple", "--stem", "small"], "has only the stem of its paper"),
        (["nowhere.py:Net"], "nowhere.py' does not exist"),
    ],
)
def test_bad_input_is_explained(refused, words, message):
    assert message in refused(*words)


def test_files_without_a_network(refused, nets):
    assert "not a class or function" in refused(f"{nets}:x")
    assert "Slide" in refused(f"{nets}:Slidee")


def test_a_folder_that_is_no_run(refused, tmp_path):
    refused(tmp_path)
    assert "leave out --num-classes" in refused(tmp_path, "--num-classes", 3)


def test_a_run(cost, monkeypatch, tmp_path):
    """The network of a finished run, at its own input size."""
    from types import SimpleNamespace

    from hubel import named_network, runs

    spec = ModelSpec("simple", 1, 4, (16, 16))
    trained = SimpleNamespace(model=build(spec), spec=spec)
    monkeypatch.setattr(runs.RunFolder, "open", classmethod(lambda cls, path: path))
    monkeypatch.setattr(named_network, "load_trained", lambda run: trained)
    found = loaded(cost(tmp_path, "--json"))
    assert found["input_shape"] == [1, 16, 16]
    assert found["layers"][-1]["output_shape"] == [4]


def test_json_has_the_prediction_and_each_layers_share(cost):
    found = loaded(cost("lenet5", "--batch-size", 8, "--predict", "--json"))
    prediction = found["prediction"]
    step = prediction["training_step_s"]
    assert 0 < step["low"] < step["value"] < step["high"]
    assert prediction["batch_size"] == 8
    rate = prediction["inference_images_per_s"]["value"]
    assert rate == pytest.approx(8 / prediction["inference_s"]["value"])
    assert sum(layer["time"]["share"] for layer in found["layers"]) == pytest.approx(1.0)
    assert {layer["time"]["bound"] for layer in found["layers"]} <= {"memory", "arithmetic"}
    assert "fit" not in prediction
    assert loaded(cost("lenet5", "--json"))["prediction"] is None


def test_a_data_set_gives_input_classes_and_the_fit(cost):
    done = cost("lenet5", "--data", "digits", "--epochs", 2, "--batch-size", 32, "--predict",
                "--stem", "small", check=False)  # fmt: skip
    assert done.returncode == 1  # lenet5 has no small stem, and 8×8 is too small for its own
    found = loaded(
        cost("simple", "--data", "digits", "--epochs", 2, "--batch-size", 32, "--predict", "--json")
    )
    fit = found["prediction"]["fit"]
    assert found["input_shape"] == [1, 8, 8]
    assert (fit["epochs"], fit["classes"]) == (2, 10)
    assert fit["steps_per_epoch"] == -(-fit["train_samples"] // 32)
    assert fit["fit_s"]["value"] > 2 * fit["epoch_s"]["value"]
    enlarged = loaded(cost("simple", "--data", "digits", "--input", "1x16x16", "--json"))
    assert enlarged["input_shape"] == [1, 16, 16]
    assert enlarged["batch_size"] == 32  # as hubel fit's for 1,437 pictures


def test_the_engine_is_what_a_fit_measured_else_the_likely_best_or_the_one_asked_for(
    cost, pictures, tmp_path, monkeypatch
):
    words = ("simple", "--data", pictures, "--batch-size", 16, "--predict", "--json")
    likely = loaded(cost(*words))["prediction"]
    assert likely["engine"] == str(choose_engine(FitConfig()))
    assert "the likely best here; hubel fit measures first" in likely["notes"][0]
    # The slowest of all is what no rule would choose.
    monkeypatch.setattr(engine_module, "_SHARE", 1e3)
    monkeypatch.setattr(engine_module, "_COMPILING_S", {})
    monkeypatch.setattr(engine_module, "_fastest", lambda rows: rows[0])
    hubel.fit(pictures, output=tmp_path / "run", model="simple", batch_size=16, epochs=1)
    known = loaded(cost(*words))["prediction"]
    assert known["engine"] == "cpu, fp32, contiguous"
    assert known["notes"] == ["engine: fp32, contiguous, which an earlier fit of the same measured"]
    other = loaded(cost(*words, "--batch-size", 8))["prediction"]
    assert other["engine"] == likely["engine"]
    asked = loaded(cost(*words, "--engine", "fp32"))["prediction"]
    assert (asked["engine"], asked["notes"]) == ("cpu, fp32, channels_last", [])


def test_what_a_fit_does_besides_is_said(cost):
    words = ("--input", "1x64x64", "--batch-size", 2, "--predict", "--json")
    notes = loaded(cost("swift_s", *words))["prediction"]["notes"]
    assert "begins on pictures of 0.75 of the side" in notes[1]
    notes = loaded(cost("simple", *words))["prediction"]["notes"]  # takes 64 pixels only
    assert not any("begins on pictures" in note for note in notes)


def test_the_prediction_reads_at_80_columns(cost, monkeypatch):
    monkeypatch.setattr("hubel.cost.predict._load", lambda: 9.0)  # busy: the longest words
    said = cost("simple", "--data", "digits", "--predict").stdout
    assert "training step" in said
    assert "30 epochs" in said
    assert "optimizer, loss" in said
    assert "The machine was busy" in said
    assert max(map(len, said.splitlines())) <= 80


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("simple", "--epochs", 3), "--epochs counts passes over --data"),
        (("simple", "--data", "digits", "--input", "3x8x8"), "--input has 3 channels, the data 1"),
        (("simple", "--data", "digits", "--num-classes", 0), "2 classes, got 1 and 0"),
        (("simple", "--data", "nowhere"), "DATA 'nowhere' is neither a path"),
        (("simple", "--data", "digits", "--task", "clasify"), "did you mean 'classify'"),
        (("simple", "--device", "gpu"), "--device 'gpu' cannot be used here"),
        (("simple", "--engine", "graphs,fp32", "--device", "cpu"), "--engine 'graphs' are CUDA"),
        (("simple", "--engine", "fast"), "--engine: write auto, or one of fp32"),
    ],
)
def test_what_is_wrong_with_the_settings_is_told(refused, words, message):
    assert message in refused(*words)


def test_what_a_persons_network_prints_does_not_spoil_the_document(cost, tmp_path):
    file = tmp_path / "loud.py"
    file.write_text(
        "print('at import')\n"
        "from torch import nn\n"
        "class Loud(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.last = nn.Linear(48, 2)\n"
        "    def forward(self, x):\n"
        "        print('running')\n"
        "        return self.last(x.flatten(1))\n"
    )
    done = cost(f"{file}:Loud", "--input", "3x4x4", "--json")
    assert loaded(done)["params"] == 98
    assert "at import" in done.stderr
    assert "running" in done.stderr


def test_a_network_of_ones_own_needs_an_input(refused, nets):
    assert "--input is missing" in refused(f"{nets}:Slide")


def test_a_recurrent_network_is_predicted_too(cost, tmp_path):
    file = tmp_path / "recurrent.py"
    file.write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.layer, self.last = nn.LSTM(24, 8, batch_first=True), nn.Linear(8, 3)\n"
        "    def forward(self, x):\n"
        "        return self.last(self.layer(x.transpose(1, 2).flatten(2))[0][:, -1])\n"
    )
    said = cost(f"{file}:Net", "--input", "3x8x8", "--predict").stdout
    assert "training step" in said
