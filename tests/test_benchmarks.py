"""What the benchmarks compute themselves; what they measure is not tested."""

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
