"""Runs of a person's own `file.py:NAME`: used again only when the person names the file again."""

import json
import shutil
import sys

import pytest
import safetensors
import safetensors.torch
import torch

import hubel
from hubel.cli.main import main
from hubel.train import loop as loop_module

FAST = {
    "epochs": 1, "batch_size": 16, "threads": 1, "engine": "fp32", "flip": "none",
}  # fmt: skip

CODE = """
from pathlib import Path
import torch
from torch import nn

Path(__file__).with_name("executed").touch()

class Net(nn.Module):
    def __init__(self, in_channels, num_classes):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
            nn.Flatten(), nn.Linear(32, num_classes))

    def forward(self, x):
        return self.layers(x)

class Other(Net):
    pass
"""


def executed(file) -> bool:
    """Whether the file was executed since this was asked last."""
    mark = file.with_name("executed")
    was = mark.exists()
    mark.unlink(missing_ok=True)
    return was


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "nets" / "mine.py"
    path.parent.mkdir()
    path.write_text(CODE)
    return path


@pytest.fixture
def run(pictures, file, tmp_path):
    fitted = hubel.fit(pictures, model=f"{file}:Net", output=tmp_path / "run", **FAST)
    assert executed(file)
    return fitted


def test_the_run_of_this_very_fit_is_used_at_once(run):
    judged = run.evaluate().to_json()
    assert judged["metrics"]["top1"] == pytest.approx(run.result["metrics"]["top1"])


@pytest.mark.parametrize(("name", "got"), [("Seven", "7"), ("Map", "8×7×7")])
def test_outputs_that_are_not_the_datas_classes_are_told(pictures, file, tmp_path, name, got):
    file.write_text(
        CODE + "\nclass Seven(Net):\n    def __init__(self, in_channels):\n"
        "        super().__init__(in_channels, 7)\n"
        "\nclass Map(Net):\n    def forward(self, x):\n        return self.layers[0](x)\n"
    )
    message = f"gives outputs of {got} for one sample, the data's classes need 3"
    with pytest.raises(hubel.UserError, match=message):
        hubel.fit(pictures, model=f"{file}:{name}", output=tmp_path / "run", **FAST)


def test_a_run_alone_has_nothing_executed_and_says_what_to_give(run, file, pictures):
    facts = json.loads((run.path / "run.json").read_text())
    assert len(facts["model_file_sha256"]) == 64
    alone = hubel.load(run.path)
    message = rf"no run may have a file executed: if it is your own, give --model {file}:Net"
    for use in (
        alone.evaluate,
        lambda: alone.predict(pictures),
        lambda: hubel.resume(run.path, epochs=2),
    ):
        with pytest.raises(hubel.UserError, match=message):
            use()
    assert not executed(file)


def test_named_again_it_is_evaluated_used_and_resumed(run, file, pictures, tmp_path):
    moved = tmp_path / "elsewhere" / "renamed.py"
    moved.parent.mkdir()
    shutil.move(file, moved)
    again = hubel.load(run.path, model=f"{moved}:Net")
    top1 = again.evaluate().to_json()["metrics"]["top1"]
    assert top1 == pytest.approx(run.result["metrics"]["top1"])
    predictions = again.predict(pictures / "north")
    assert len(predictions) == 24
    assert all(p.error is None for p in predictions)
    assert hubel.resume(run.path, epochs=2, model=f"{moved}:Net").result["epochs"] == 2


def test_an_interrupted_run_ends_as_if_undisturbed(file, pictures, tmp_path, monkeypatch):
    settings = {**FAST, "epochs": 2, "model": f"{file}:Net"}
    whole = hubel.fit(pictures, output=tmp_path / "whole", **settings)
    real, calls = loop_module.set_rate, []

    def dying(*arguments):
        calls.append(arguments)
        if len(calls) > 6:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(loop_module, "set_rate", dying)
    with pytest.raises(KeyboardInterrupt):
        hubel.fit(pictures, output=tmp_path / "run", **settings)
    monkeypatch.setattr(loop_module, "set_rate", real)
    resumed = hubel.resume(tmp_path / "run", model=f"{file}:Net")
    one, other = ((r.path / "model.safetensors").read_bytes() for r in (whole, resumed))
    assert one == other


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("{file}:Other", r"was trained with '.*mine\.py:Net'; give --model .*mine\.py:Net"),
        ("simple", r"--model 'simple': the run .* was trained with '.*mine\.py:Net'; give --mod"),
        ("nowhere.py:Net", r"the file 'nowhere\.py' cannot be read: No such file"),
    ],
)
def test_another_name_is_refused(run, file, model, message):
    with pytest.raises(hubel.UserError, match=message):
        hubel.load(run.path, model=model.format(file=file)).evaluate()
    assert not executed(file)


def test_a_file_that_has_changed_is_refused(run, file):
    file.write_text(CODE + "\n")
    with pytest.raises(hubel.UserError, match=r"the file is not as it was when .*; restore it, or"):
        hubel.load(run.path, model=f"{file}:Net").evaluate()
    assert not executed(file)


def test_a_run_of_hubels_own_takes_no_other_network(pictures, file, tmp_path):
    run = hubel.fit(pictures, model="simple", output=tmp_path / "run", **FAST)
    with pytest.raises(hubel.UserError, match=r"was trained with 'simple', which it can build by"):
        hubel.load(run.path, model=f"{file}:Net").evaluate()
    with pytest.raises(hubel.UserError, match=r"was trained with 'simple'.*; leave --model out"):
        hubel.resume(run.path, epochs=2, model="lenet5")
    assert not executed(file)
    assert hubel.load(run.path, model="simple").evaluate().evaluation.n > 0


def test_a_foreign_run_cannot_name_a_file_to_execute(pictures, file, tmp_path):
    """Everything in the folder says that the network is in a file that lies beside it."""
    run = hubel.fit(pictures, output=tmp_path / "run", **FAST)
    name = f"{file}:Net"
    path = run.path / "model.safetensors"
    with safetensors.safe_open(path, "pt") as opened:
        spec = json.loads(opened.metadata()["hubel"])
    tensors = safetensors.torch.load_file(path)
    header = {"hubel": json.dumps({**spec, "name": name})}
    safetensors.torch.save_file(tensors, path, header)
    for part in ("run.json", "config.json"):
        content = {**run.folder.read_json(part), "model": name, "model_sha256": None}
        del content["model_sha256" if part == "config.json" else "spec"]
        (run.path / part).write_text(json.dumps(content))
    for use in (
        hubel.load(run.path).evaluate,
        lambda: hubel.load(run.path).predict(pictures),
        lambda: hubel.resume(run.path, epochs=2),
    ):
        with pytest.raises(hubel.UserError, match="no run may have a file executed"):
            use()
    assert not executed(file)


def test_the_command_line(run, file, pictures, capsys, monkeypatch):
    picture = sorted((pictures / "north").iterdir())[0]

    def ended(*words):
        monkeypatch.setattr(sys, "argv", ["hubel", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ending:
            main()
        said = capsys.readouterr()
        return int(ending.value.code or 0), said.out, said.err

    model = ("--model", f"{file}:Net")
    code, _, words = ended("evaluate", run.path)
    assert code == 1
    assert f"give --model {file}:Net" in words
    code, out, _ = ended("evaluate", run.path, *model, "--json")
    assert code == 0
    assert json.loads(out)["n"] > 0
    code, out, _ = ended("predict", run.path, picture, *model, "--json")
    assert code == 0
    assert json.loads(out)["predictions"][0]["error"] is None
    code, out, _ = ended("fit", "--resume", run.path, "--epochs", 2, *model)
    assert code == 0
    assert f"next: hubel evaluate {run.path} --model {file}:Net" in out
    for verb in ("cost", "draw"):
        executed(file)
        code, _, words = ended(verb, run.path)
        assert code == 1
        assert "for cost and draw that in place of the run" in words
        assert not executed(file)


TWO_HEADS = """
import torch
from torch import nn
from hubel.models import Model, Outputs

class Net(Model):
    def __init__(self, in_channels, num_classes):
        super().__init__()
        self.side = nn.Linear(in_channels, num_classes)
        self.main = nn.Linear(in_channels, num_classes)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x):
        x = x.mean((2, 3))
        output = self.main(x)
        return Outputs(output, (self.side(x),), 0.3) if self.training else output
"""


def test_the_loss_of_an_auxiliary_head_counts_its_weight(pictures, tmp_path):
    """Two equal heads that know nothing: after one step the side's is 0.3 of the main one's."""
    file = tmp_path / "mine.py"
    file.write_text(TWO_HEADS)
    one_step = {
        "batch_size": 1000, "accumulate": 4, "optimizer": "sgd", "schedule": "constant",
        "weight_decay": 0.0,
    }  # fmt: skip
    model = f"{file}:Net"
    run = hubel.fit(pictures, model=model, output=tmp_path / "run", **{**FAST, **one_step})
    weights = safetensors.torch.load_file(run.path / "model.safetensors")
    for kind in ("weight", "bias"):
        assert weights[f"main.{kind}"].abs().max() > 0
        torch.testing.assert_close(weights[f"side.{kind}"], 0.3 * weights[f"main.{kind}"])
    # What the log compares with the validation's loss is the main one alone: ln 3 with
    # smoothing or without.
    assert run.folder.log()[0]["train_loss"] == pytest.approx(1.0986, abs=1e-3)
    assert run.evaluate().evaluation.n > 0
