"""Recipes: what they decide, who wins, and that every default run is exact and learns."""

import json
import math

import numpy as np
import pytest
import safetensors.torch
import torch
from typer.testing import CliRunner

import hubel
from hubel.cli.main import app
from hubel.config import FitConfig
from hubel.errors import UserError
from hubel.models import ModelSpec, build
from hubel.train import loop as loop_module
from hubel.train.freezing import make_freezing
from hubel.train.muon import Muon
from hubel.train.optimizers import make_optimizer, use_precision
from hubel.train.recipe import batch_size_for
from hubel.train.roles import roles_of

FAST = {
    "optimizer": "muon", "whitening": True, "identity": True, "lookahead": 5, "tta": "unsure",
    "batch_size": 0,
}  # fmt: skip
TEXTBOOK = {
    "optimizer": "adamw", "whitening": False, "identity": False, "lookahead": 0, "tta": "none",
    "batch_size": 64, "bias_rate": 1.0, "progressive": 1.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, FAST),
        ({"recipe": "plain"}, TEXTBOOK),
        ({"pretrained": "torchvision"}, TEXTBOOK),  # learned weights are not begun anew
        ({"lookahead": 0, "optimizer": "sgd"}, {**FAST, "lookahead": 0, "optimizer": "sgd"}),
        ({"recipe": "plain", "whitening": True}, {**TEXTBOOK, "whitening": True}),
        ({"whitening": False}, {**FAST, "whitening": False}),
    ],
    ids=str,
)
def test_a_setting_that_is_given_wins_and_the_rest_is_the_recipes(given, expected):
    config = FitConfig.from_settings(given)
    assert {name: getattr(config, name) for name in expected} == expected
    assert FitConfig.from_settings(config.to_json()) == config
    assert config.changed_from_default() == given


def test_an_unknown_recipe_is_told():
    with pytest.raises(UserError, match=r"--recipe 'fats' is not known; did you mean 'fast'"):
        FitConfig(recipe="fats")


def test_a_run_from_before_there_were_recipes_is_plain():
    assert FitConfig.from_run({"data": "x"}).optimizer == "adamw"
    assert FitConfig.from_run({"data": "x", "recipe": "fast"}).optimizer == "muon"


@pytest.mark.parametrize(
    ("old", "engine"),
    [
        ({"precision": "auto", "channels_last": True}, "auto"),
        ({"precision": "auto", "channels_last": False}, "auto"),
        ({"precision": "bf16", "channels_last": True}, "bf16,channels_last"),
        ({"precision": "fp32", "channels_last": False}, "fp32,contiguous"),
        ({"engine": "fp32,contiguous"}, "fp32,contiguous"),
    ],
)
def test_the_engine_of_a_run_from_before_it_was_one_setting(old, engine):
    assert FitConfig.from_run({"data": "x", **old}).engine == engine
    with pytest.raises(UserError, match="setting 'precision' is not known"):
        FitConfig.from_settings({"precision": "fp32"})


def test_batches_by_the_size_of_the_data():
    assert [batch_size_for(n) for n in (1, 60, 1_437, 6_000, 45_000, 10**7)] == [
        16, 16, 32, 128, 512, 512,
    ]  # fmt: skip


SETTINGS = {"epochs": 3, "threads": 1, "seed": 5, "checkpoint_every": 1e-6}


class Crash(Exception):
    """Stands in for the power cut."""


@pytest.mark.parametrize(
    "settings",
    [
        {"model": "swift_s", "dropout": 0.1},
        {"model": "swift_s", "img_size": 64, "engine": "bf16", "ema": 0.9, "epochs": 2},
        {"model": "swift_s", "hard_share": 0.7, "optimizer": "sgd", "bias_rate": 64.0},
        {"model": "simple"},
    ],
    ids=["swift", "progressive", "selected", "simple"],
)
def test_the_fast_recipe_resumes_to_the_same_bytes(pictures, tmp_path, monkeypatch, settings):
    settings = {**SETTINGS, **settings}
    undisturbed = hubel.fit(pictures, output=tmp_path / "undisturbed", **settings)
    real, calls = loop_module.set_rate, [0]

    def dying(optimizer, factor):
        calls[0] += 1
        if calls[0] > 6:
            raise Crash
        return real(optimizer, factor)

    monkeypatch.setattr(loop_module, "set_rate", dying)
    with pytest.raises(Crash):
        hubel.fit(pictures, output=tmp_path / "run", **settings)
    monkeypatch.setattr(loop_module, "set_rate", real)
    hubel.resume(tmp_path / "run")
    first, second = (
        (tmp_path / name / "model.safetensors").read_bytes() for name in ("undisturbed", "run")
    )
    assert first == second
    assert undisturbed.folder.log()[-1]["step"] > 6


@pytest.fixture(scope="module")
def swift(pictures, tmp_path_factory):
    """A run of the fast recipe as it comes, and what it said."""
    heard = []
    run = hubel.fit(
        pictures,
        output=tmp_path_factory.mktemp("swift") / "run",
        report=heard.append,
        model="swift_s",
        epochs=8,
        threads=1,
    )
    return run, [h["note"] for h in heard if "note" in h]


def test_a_run_says_and_records_what_was_decided(swift):
    run, notes = swift
    config = json.loads((run.path / "config.json").read_text())
    assert config["recipe"] == "fast"
    assert (config["batch_size"], config["flip"]) == (16, "alternating")
    assert {name: config[name] for name in FAST if name != "batch_size"} == {
        name: value for name, value in FAST.items() if name != "batch_size"
    }
    assert any("the first convolution whitens (24 filters from the data, kept" in n for n in notes)
    assert any("6 convolutions as the identity" in n for n in notes)
    command = json.loads((run.path / "run.json").read_text())["command"]
    assert "--optimizer" not in command
    # Mirrored, the classes north and east are each other: a third of the loss stays.
    assert run.folder.log()[-1]["train_loss"] < 0.85 * run.folder.log()[0]["train_loss"]


def test_whitening_filters_stay_what_they_were(swift):
    run, _ = swift
    trained = safetensors.torch.load_file(run.path / "model.safetensors")
    weight = trained["whiten.weight"]
    torch.testing.assert_close(weight[:12], -weight[12:])
    assert not torch.equal(trained["whiten.bias"][:12], trained["whiten.bias"][12:])


def test_evaluation_and_prediction_see_the_runs_views(swift, pictures):
    run, _ = swift
    files = sorted((pictures / "north").iterdir())
    by_default, every, none = (
        [p.probability for p in run.predict(*files, tta=tta)] for tta in (None, "all", "none")
    )
    unsure = [p.probability for p in run.predict(*files, tta="unsure")]
    assert by_default == unsure
    assert every != none
    judged = {tta: run.evaluate(tta=tta) for tta in ("all", "none")}
    assert any("views of every picture" in note for note in judged["all"].notes)
    assert not any("views" in note for note in judged["none"].notes)
    losses = [judged[tta].evaluation.metrics.loss for tta in judged]
    assert losses[0] != losses[1]
    with pytest.raises(UserError, match=r"--tta 'some' is not known"):
        run.predict(files[0], tta="some")


def test_pretrained_weights_are_not_begun_anew(swift, pictures, tmp_path):
    run, _ = swift
    heard = []
    tuned = hubel.fit(
        pictures, output=tmp_path / "tuned", model="swift_s", epochs=1, threads=1,
        pretrained=str(run.path / "model.safetensors"), report=heard.append,
    )  # fmt: skip
    assert not any("whitens" in h.get("note", "") for h in heard)
    first = run.folder.read_json("result.json")["metrics"]["loss"]
    assert tuned.folder.read_json("untrained.json")["loss"] < first + 0.5


SMALL = ["simple", "lenet5", "alexnet", "mobilenet_v3", "vit_tiny", "resnet18", "swift_m"]


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_the_default_recipe_learns_with(name, pictures, tmp_path):
    run = hubel.fit(
        pictures, output=tmp_path / "run", model=name, epochs=10, threads=1, flip="none",
        **({"img_size": 64} if name == "alexnet" else {"img_size": 32}),
    )  # fmt: skip
    log = run.folder.log()
    assert all(math.isfinite(row["train_loss"]) for row in log)
    # Of training: running statistics of a long memory are not yet those of the weights.
    assert max(row["train_top1"] for row in log) > 0.6


def rates(name: str, **settings: object) -> dict[str, float]:
    """The peak rate of each parameter of `name`, by its name."""
    config = FitConfig.from_settings({"model": name, **settings})
    model = build(ModelSpec(name, 3, 4, (32, 32)))
    optimizer = make_optimizer(
        model, config, make_freezing(model, config), roles_of(model, (3, 32, 32), 256)
    )
    found = {p: g["peak_lr"] for g in optimizer.param_groups for p in g["params"]}
    assert len(found) == sum(1 for _ in model.parameters())
    return {n: found[p] for n, p in model.named_parameters()}


def test_each_role_has_its_rate():
    found = rates("swift_s", lr=0.2, bias_rate=5.0)
    assert found["blocks.0.layers.0.weight"] == 0.2
    assert found["blocks.0.layers.1.weight"] == found["head.weight"] == pytest.approx(0.004)
    assert found["blocks.0.layers.1.bias"] == pytest.approx(0.02)
    assert found["whiten.bias"] == pytest.approx(0.004)
    found = rates("vit_tiny", lr=0.2)
    assert found["blocks.3.attention.output.weight"] == pytest.approx(0.04)
    assert found["positions.embedding"] == found["patches.weight"] == pytest.approx(0.004)
    found = rates("swift_s", optimizer="sgd", lr=0.1, bias_rate=64.0)
    assert found["blocks.0.layers.0.weight"] == 0.1
    assert found["blocks.0.layers.1.bias"] == pytest.approx(6.4)


def test_auxiliary_heads_and_named_patches_have_their_rates():
    """Heads that only training sees are of the rest; what evaluation runs has its role."""
    found = rates("googlenet_auxiliary", lr=0.2)
    heads = {name: rate for name, rate in found.items() if name.startswith("auxiliary.")}
    assert {round(rate, 6) for name, rate in heads.items() if "weight" in name} == {0.004}
    assert {round(rate, 6) for rate in heads.values()} == {0.004, 0.016}  # biases of norms
    bare = rates("googlenet", lr=0.2)
    assert {name: found[name] for name in bare} == bare
    assert 0.2 in bare.values()
    found = rates("vit_tiny/4", lr=0.2)
    assert found["blocks.3.attention.output.weight"] == pytest.approx(0.04)


def test_the_optimizer_multiplies_in_the_engines_precision():
    config = FitConfig(model="swift_s")
    model = build(ModelSpec("swift_s", 3, 4, (32, 32)))
    optimizer = make_optimizer(
        model, config, make_freezing(model, config), roles_of(model, (3, 32, 32), 64)
    )
    for precision, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        use_precision(optimizer, precision)
        assert [p.dtype for p in optimizer.parts if isinstance(p, Muon)] == [dtype]


def test_the_help_shows_both_defaults():
    shown = CliRunner().invoke(app, ["fit", "--help"], env={"COLUMNS": "200"}).output
    words = " ".join(shown.replace("│", " ").split())
    assert "(default: muon; plain: adamw)" in words
    assert "(default: yes; plain: no)" in words


def test_volumes_are_trained_by_the_same_recipe(tmp_path):
    rng = np.random.default_rng(0)
    targets = np.arange(64) % 2
    volumes = rng.integers(0, 90, (64, 10, 11, 12, 2))
    volumes[targets == 1, :5] += 120  # another axis than the one that is mirrored
    np.savez(tmp_path / "volumes.npz", x=volumes.astype(np.uint8), y=targets)
    heard = []
    run = hubel.fit(
        tmp_path / "volumes.npz", output=tmp_path / "run", model="swift_s", epochs=5, threads=1,
        translate=0.0, report=heard.append,
    )  # fmt: skip
    notes = " ".join(h.get("note", "") for h in heard)
    assert "the first convolution whitens (32 filters from the data, kept as they are)" in notes
    assert max(row["train_top1"] for row in run.folder.log()) > 0.8
    assert run.evaluate(tta="all").evaluation.n > 0
