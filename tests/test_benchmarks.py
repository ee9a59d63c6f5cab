"""What the benchmarks compute themselves; what they measure is not tested."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_the_baseline_gets_every_picture_with_its_label_in_no_order(tmp_path):
    from airbench import write_arrays

    for split, count in (("train", 20), ("test", 3)):
        for label, name in enumerate(("cat", "dog")):
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            for k in range(count):
                shade = np.full((32, 32, 3), 100 * label + k, np.uint8)
                Image.fromarray(shade).save(folder / f"{k}.png")
    work = tmp_path / "work"
    work.mkdir()
    write_arrays(tmp_path / "data", work)
    train, test = (torch.load(work / "cifar10" / f"{s}.pt") for s in ("train", "test"))
    assert train["images"].shape == (40, 32, 32, 3)
    assert train["images"].dtype == torch.uint8
    shades = train["images"][:, 0, 0, 0].long()
    assert sorted(shades.tolist()) == [*range(20), *range(100, 120)]
    assert train["labels"].equal(shades // 100)
    assert 0 < int(train["labels"][:20].sum()) < 20  # a folder's order has one class first
    assert sorted(test["images"][:, 0, 0, 0].tolist()) == [0, 1, 2, 100, 101, 102]


def test_a_difference_within_the_spread_is_said_to_be_one():
    from recipe_fair import table

    def rows(*values):
        return [{"top1": value, "epochs": 2} for value in values]

    clear = table("x", {"plain": rows(0.80, 0.81, 0.82), "fast": rows(0.90, 0.91, 0.92)})
    assert "+0.1000 [+0.1000, +0.1000]; it exceeds the seeds' spread of 0.0200" in clear
    unclear = table("x", {"plain": rows(0.80, 0.81, 0.82), "fast": rows(0.81, 0.82, 0.83)})
    assert "it does not exceed the seeds' spread of 0.0200" in unclear


def test_an_interval_is_students_for_any_number_of_seeds():
    """Against tables of the quantile: 4.30265 of 2 degrees of freedom, 2.22814 of 10."""
    from recipe import difference

    assert difference([0.5]) == "+0.5000"
    values = [-1.0, 0.0, 1.0]  # deviation 1, so half a width is t / √n
    assert difference(values) == f"+0.0000 [{-4.30265 / 3**0.5:+.4f}, {4.30265 / 3**0.5:+.4f}]"
    values = [-1.0] * 5 + [0.0] + [1.0] * 5  # of eleven, deviation 1 again
    assert difference(values) == f"+0.0000 [{-2.22814 / 11**0.5:+.4f}, {2.22814 / 11**0.5:+.4f}]"


def test_every_case_of_the_recipe_is_a_command_line():
    """What it adds is understood, and is not what the recipe does anyway."""
    from dataclasses import asdict

    import typer
    from recipe import CASES

    from hubel.cli.options import with_settings
    from hubel.config import FitConfig

    found = []
    app = typer.Typer()

    def fit(*, settings: dict) -> None:
        found.append(asdict(FitConfig.from_settings({"data": "x", **settings})))

    app.command()(with_settings(fit, "settings"))
    for words in CASES.values():
        app(words, standalone_mode=False)
    assert len(found) == len(CASES)
    assert all(config != found[0] for config in found[1:])


def test_the_recipes_cases_find_the_pictures_decoded(tmp_path, monkeypatch):
    import recipe

    found = []

    def hubel(verb, *words):
        cache = Path(os.environ["HUBEL_CACHE"])
        found.append((verb, words, any(file.is_file() for file in cache.rglob("*"))))
        if verb == "fit":
            return {"epochs": 1, "seconds": 1.0}
        return {"metrics": {"top1": 0.5}, "n": 4, "split": "val"}

    for name in ("cat", "dog"):
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        for k in range(4):
            Image.fromarray(np.full((8, 8, 3), 10 * k, np.uint8)).save(folder / f"{k}.png")
    monkeypatch.setenv("HUBEL_CACHE", "")  # put back afterwards
    monkeypatch.setattr(recipe, "hubel", hubel)
    words = ["--repeats", "1", "--only", "cosine", "--epochs", "1"]
    monkeypatch.setattr(sys, "argv", ["recipe.py", str(tmp_path / "data"), *words])
    recipe.main()
    assert [verb for verb, *_ in found] == ["fit", "evaluate"] * 2  # fast and cosine
    assert found[2][1][5:7] == ("--schedule", "cosine")
    assert found[0][2]  # the first case has a cache that is not empty


def test_an_unpacked_set_is_judged_on_pictures_that_choose_nothing(tmp_path):
    from recipe_fair import unpacked

    archive = tmp_path / "set.zip"
    with zipfile.ZipFile(archive, "w") as content:
        content.writestr("train/cat/0.png", b"")
        content.writestr("val/cat/1.png", b"")
    folder = Path(unpacked(archive, tmp_path))
    assert (folder / "train" / "cat" / "0.png").is_file()
    assert (folder / "test" / "cat" / "1.png").is_file()
    assert not (folder / "val").exists()


def test_a_case_is_compared_with_the_baseline_of_its_own_seed():
    from cifar10 import table

    baseline = [{"test_top1": 0.90, "seconds": 100.0}, {"test_top1": 0.91, "seconds": 200.0}]
    ours = [{"test_top1": 0.89, "seconds": 80.0}, {"test_top1": 0.90, "seconds": 120.0}]
    lines = table({"airbench94_muon": baseline, "5m": ours}, goal=0.9).splitlines()
    assert lines[1].endswith("150.0   baseline   reaches 0.9")
    assert lines[2].endswith("100.0   0.70 [0.60-0.80] of its time   misses 0.9")


def test_without_a_gpu_the_gpu_benchmark_says_so():
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "cifar10_gpu.py"), "cifar10"],
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 1
    assert done.stderr == "cifar10_gpu.py needs a CUDA device, and torch sees none here\n"
    assert done.stdout == ""


def test_the_first_seed_is_a_round_of_its_own_process(monkeypatch, capsys):
    """Seed 0 is a seed: the script would start itself again without end otherwise."""
    import cifar10_gpu

    def no_more(*args, **kwargs):
        raise AssertionError("started another process")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    monkeypatch.setattr(cifar10_gpu.subprocess, "run", no_more)
    monkeypatch.setattr(cifar10_gpu, "hubel", lambda args: [{"seed": args.case}])
    monkeypatch.setattr(sys, "argv", ["cifar10_gpu.py", "cifar10", "--case", "0"])
    cifar10_gpu.main()
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == [[{"seed": 0}]]
