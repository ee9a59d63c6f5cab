"""Every network of the zoo through the whole road: fit, evaluate and predict on the command line.

The fast tests take a few cheap networks and generated pictures; `slow` and `data` together
take every name of the registry and real pictures.
"""

import json
import math
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from fakes import write_pictures
from test_real_data import real

import hubel
from hubel.cli.main import main
from hubel.errors import UserError
from hubel.inference import load_trained
from hubel.models import MODELS, ModelSpec, build

CHEAP = ["lenet5_1998", "mobilenet_v3", "vit_tiny/8"]


def told(capsys, monkeypatch, *words) -> dict:
    """The document that `hubel words… --json` prints."""
    monkeypatch.setattr(sys, "argv", ["hubel", *map(str, words), "--json"])
    capsys.readouterr()
    with pytest.raises(SystemExit) as ending:
        main()
    said = capsys.readouterr()
    assert not ending.value.code, said.err
    return json.loads(said.out)


def fit_evaluate_predict(capsys, monkeypatch, data: Path, picture: Path, name: str, run: Path):
    """One epoch at the data's size, or at the smallest that fits; then the run is used."""
    a = MODELS[name]
    least = a.smallest if a.smallest_small is None else a.smallest_small
    words = ["fit", data, "--model", name, "--epochs", 1, "--output", run, "--threads", 1]
    # 97 is one more than three batches: with maps of 1×1 no batch may have a single sample.
    words += ["--batch-size", 32, "--img-size", max(32, least), "--engine", "fp32"]
    result = told(capsys, monkeypatch, *words)
    assert result["model"] == name
    assert result["epochs"] == 1
    assert math.isfinite(result["metrics"]["loss"])
    judged = told(capsys, monkeypatch, "evaluate", run)
    # The same weights on the same pictures, from the file this time.
    if judged["split"] == "val":
        assert judged["metrics"]["top1"] == pytest.approx(result["metrics"]["top1"])
    assert judged["n"] == sum(map(sum, judged["confusion"]["counts"])) > 0
    [prediction] = told(capsys, monkeypatch, "predict", run, picture)["predictions"]
    assert prediction["error"] is None
    assert sum(prediction["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    return result


@pytest.mark.parametrize("name", CHEAP)
def test_cheap_networks_on_generated_pictures(pictures, tmp_path, capsys, monkeypatch, name):
    picture = next((pictures / "north").iterdir())
    fit_evaluate_predict(capsys, monkeypatch, pictures, picture, name, tmp_path / "run")


def test_googlenets_heads_are_trained_and_then_left_out(pictures, tmp_path):
    settings = {"epochs": 1, "img_size": "16", "batch_size": 32, "threads": 1, "engine": "fp32"}
    path = tmp_path / "run"
    run = hubel.fit(pictures, model="googlenet_auxiliary", output=path, **settings)
    weights = safetensors.torch.load_file(path / "model.safetensors")
    first = next((path / "checkpoints").glob("r00-step-0000000000*"))
    before = safetensors.torch.load_file(first / "model.safetensors")
    heads = [name for name in weights if name.startswith("auxiliary.") and "weight" in name]
    assert len(heads) == 2 * 4
    for name in heads:
        assert not torch.equal(weights[name], before[name]), name
    spec = ModelSpec(**{**run.folder.read_json("run.json")["spec"], "input_size": (16, 16)})
    bare = build(replace(spec, name="googlenet")).eval()
    bare.load_state_dict({n: t for n, t in weights.items() if not n.startswith("auxiliary.")})
    trained = load_trained(run.folder).model
    input = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(trained(input), bare(input))


@pytest.fixture(scope="module")
def one_left_over(tmp_path_factory) -> Path:
    """33 pictures to train on: one more than two batches of 16."""
    folder = tmp_path_factory.mktemp("left")
    write_pictures(folder / "train", per_class=11)
    write_pictures(folder / "val", per_class=2, seed=1)
    return folder


# With maps of 1×1 a batch norm has one value a channel of one sample.
ONE_PLACE = {
    "model": "mobilenet_v3", "img_size": "8", "stem": "small", "epochs": 1, "threads": 1,
    "engine": "fp32",
}  # fmt: skip


@pytest.mark.parametrize("parts", [1, 3, 8])
def test_no_batch_norm_gets_a_single_sample(one_left_over, tmp_path, parts):
    settings = {**ONE_PLACE, "batch_size": 16, "accumulate": parts}
    run = hubel.fit(one_left_over, output=tmp_path / "run", **settings)
    assert run.result["samples_seen"] == 33
    assert run.folder.log()[0]["step"] == 2


@pytest.mark.parametrize(
    ("batch_size", "parts", "engine"), [(1, 1, "fp32"), (16, 16, "fp32"), (16, 16, "auto")]
)
def test_parts_of_one_sample_that_were_asked_for_are_explained(
    one_left_over, tmp_path, batch_size, parts, engine
):
    message = (
        rf"--model 'mobilenet_v3' averages in training .*--batch-size {batch_size} in {parts} "
        rf"parts, of 33 training samples; give larger batches, fewer parts"
    )
    settings = {**ONE_PLACE, "batch_size": batch_size, "accumulate": parts, "engine": engine}
    with pytest.raises(UserError, match=message):
        hubel.fit(one_left_over, output=tmp_path / "run", **settings)


def test_a_new_runs_folder_has_a_plain_name(pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "mine.py").write_text(
        "from torch import nn\n"
        "def Net(num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(768, num_classes))\n"
    )
    settings = {"epochs": 1, "threads": 1, "engine": "fp32"}
    for model, name in (("vit_tiny/8", "vit_tiny-8"), ("nets/mine.py:Net", "Net")):
        run = hubel.fit(pictures, model=model, **settings)
        assert run.path == Path("runs", f"spots-{name}-1")


@pytest.fixture(scope="module")
def few_of_cifar10(tmp_path_factory) -> Path:
    """97 pictures to train on, 20 to validate and 20 to test, of CIFAR-10's ten classes."""
    source, folder = real("cifar10"), tmp_path_factory.mktemp("cifar10")
    # The last three classes have nine.
    for split, first, count in (("train", 0, 10), ("val", 100, 2), ("test", 0, 2)):
        where = source / ("test" if split == "test" else "train")
        for k, kind in enumerate(sorted(path.name for path in where.iterdir())):
            target = folder / split / kind
            target.mkdir(parents=True)
            fewer = split == "train" and k > 6
            for path in sorted((where / kind).iterdir())[first : first + count - fewer]:
                shutil.copy(path, target)
    return folder


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", MODELS.names())
def test_every_network_fits_cifar10(few_of_cifar10, tmp_path, capsys, monkeypatch, name):
    picture = sorted((few_of_cifar10 / "test" / "cat").iterdir())[0]
    run = tmp_path / "run"
    try:
        result = fit_evaluate_predict(capsys, monkeypatch, few_of_cifar10, picture, name, run)
        assert result["samples_seen"] == 97
    finally:  # the largest leave gigabytes
        shutil.rmtree(run, ignore_errors=True)
