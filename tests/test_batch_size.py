"""The batch size: bounded by the set, found by measuring, and the data that never waits."""

import math

import pytest
import torch
from fakes import MemoryStore, random_pixels, unit_preprocess

import hubel
from hubel.config import FitConfig, parse_batch_size
from hubel.data.augment import Augment
from hubel.data.loader import Loader, resident
from hubel.data.targets import Labels
from hubel.engine import Engine, out_of_memory
from hubel.errors import UserError
from hubel.train import batch_size as batch_size_module
from hubel.train import engine as engine_module
from hubel.train.batch_size import saturating

SETTINGS = {"model": "simple", "epochs": 1, "flip": "none", "threads": 1, "engine": "fp32"}


@pytest.mark.parametrize("text", ["", "many", "-2", "1.5", "1000000"])
def test_what_is_no_batch_size(text):
    with pytest.raises(UserError, match=r"--batch-size: write a whole number from 0 to 999999"):
        FitConfig(batch_size=text)
    assert parse_batch_size(" auto ") == -1
    assert FitConfig(batch_size="12").batch_size == 12


def test_a_batch_larger_than_the_set_is_the_set(pictures, tmp_path):
    heard = []
    settings = {**SETTINGS, "batch_size": 1000}
    run = hubel.fit(pictures, output=tmp_path / "run", report=heard.append, **settings)
    n = len(run.folder.read_json("split.json")["train"])
    notes = [h["note"] for h in heard if "note" in h]
    assert f"--batch-size 1000 is more than the {n} training samples: each step takes all {n}" in (
        notes
    )
    assert run.folder.read_json("config.json")["batch_size"] == n
    assert run.folder.log()[-1]["step"] == 1


@pytest.mark.parametrize(
    ("speeds", "found", "measured"),
    [
        ({16: 10, 32: 19, 64: 30, 128: 31, 256: 90}, 64, 4),
        ({16: 10, 32: 19, 64: 30}, 64, 3),
        ({16: 10, 32: 5, 64: 30}, 16, 2),
        ({16: 10, 32: 19, 64: 0.0, 128: 50}, 32, 3),
        ({16: 0.0, 32: 0.0, 64: 0.0}, 16, 1),
        ({7: 3}, 7, 1),
    ],
)
def test_doubling_goes_on_as_long_as_it_pays(speeds, found, measured):
    size, tried = saturating(speeds, speeds.__getitem__, lambda best: math.inf)
    assert size == found
    assert list(tried) == list(speeds)[:measured]


def test_doubling_ends_with_the_time_for_it():
    now = [0.0]

    def speed(samples):
        now[0] += 4 * samples / 100
        return float(100 + samples)

    sizes = [16, 32, 64, 128]
    # Four steps of 64 at the 132 samples a second of 32 take 1.9 s, of 128 at 164 take 3.1 s.
    for allowed, found in [(3.85, 32), (3.95, 64), (0.0, 16)]:
        now[0] = 0.0
        size, tried = saturating(sizes, speed, lambda best, a=allowed: a - now[0])
        assert size == found == max(tried)


def test_auto_takes_its_share_of_a_budget_only(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(batch_size_module, "_FIRST", 4)
    monkeypatch.setattr(batch_size_module, "_STEPS_AN_EPOCH", 3)
    monkeypatch.setattr(batch_size_module, "_step_s", lambda *_: 100.0)
    run = hubel.fit(pictures, output=tmp_path / "run", batch_size="auto", **SETTINGS, budget=1.0)
    assert run.folder.read_json("config.json")["batch_size"] == 4


def test_what_thaws_later_is_still_the_optimizers(pictures, tmp_path, monkeypatch):
    frozen = []

    def step_s(bench, loader, engine):
        frozen.append(sum(not p.requires_grad for p in bench.model.parameters()))
        return 1.0

    monkeypatch.setattr(batch_size_module, "_step_s", step_s)
    settings = {**SETTINGS, "freeze": "1", "unfreeze_epochs": 1, "epochs": 2}
    auto = hubel.fit(pictures, output=tmp_path / "a", batch_size="auto", **settings)
    assert frozen[0] > 0
    size = auto.folder.read_json("config.json")["batch_size"]
    asked = hubel.fit(pictures, output=tmp_path / "b", batch_size=size, **settings)
    a, b = ((r.path / "model.safetensors").read_bytes() for r in (auto, asked))
    assert a == b


def test_auto_measures_and_the_run_is_as_if_it_had_been_asked_for(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(batch_size_module, "_FIRST", 4)
    monkeypatch.setattr(batch_size_module, "_STEPS_AN_EPOCH", 3)
    monkeypatch.setattr(engine_module, "_SHARE", 1e3)
    seen = []

    def step_s(bench, loader, engine):
        bench.batch = next(iter(loader.epoch(0)))
        seen.append(len(bench.batch))
        bench.step_s(engine)
        return len(bench.batch) / {4: 10.0, 8: 20.0, 16: 20.5}[len(bench.batch)]

    monkeypatch.setattr(batch_size_module, "_step_s", step_s)
    heard = []
    settings = {**SETTINGS, "dropout": 0.3}
    run = hubel.fit(
        pictures, output=tmp_path / "a", batch_size="auto", report=heard.append, **settings
    )
    assert seen == [4, 8, 16]
    assert run.folder.read_json("config.json")["batch_size"] == 8
    assert "--batch-size 8" in run.folder.read_json("run.json")["command"]
    notes = [h["note"] for h in heard if "note" in h]
    assert "batch size 8 by measuring (4: 10/s, 8: 20/s, 16: 20/s)" in notes
    asked = hubel.fit(pictures, output=tmp_path / "b", batch_size=8, **settings)
    a, b = ((r.path / "model.safetensors").read_bytes() for r in (run, asked))
    assert a == b


@pytest.mark.parametrize("batch_fits", [True, False])
def test_too_little_memory_is_no_speed(batch_fits):
    error = RuntimeError("DefaultCPUAllocator: can't allocate memory")

    class Bench:
        def step_s(self, engine):
            raise error

    class Epochs:
        def epoch(self, number):
            if not batch_fits:
                raise error
            yield None

    engine = Engine(torch.device("cpu"))
    assert batch_size_module._step_s(Bench(), Epochs(), engine) == math.inf


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried"), True),
        (RuntimeError("MPS backend out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (RuntimeError("unsupported memory format"), False),
    ],
)
def test_which_errors_are_of_memory(error, memory):
    assert out_of_memory(error) == memory


def test_a_budget_too_short_for_an_epoch_says_how_much_was_seen(pictures, tmp_path):
    heard = []
    settings = {**SETTINGS, "batch_size": 16, "budget": 0.001}
    run = hubel.fit(pictures, output=tmp_path / "run", report=heard.append, **settings)
    n = len(run.folder.read_json("split.json")["train"])
    notes = [h["note"] for h in heard if "note" in h]
    assert f"the budget ended when {16 / n:.1%} of the training samples were seen" in notes
    assert any("of --budget were used up by the start" in note for note in notes)


def test_pixels_that_lie_on_the_device_give_the_same_batches():
    pixels = random_pixels(40, (9, 9), 3)
    loaders = [
        Loader(
            MemoryStore(pixels), Labels(torch.arange(40) % 4), torch.arange(4, 37).numpy(),
            unit_preprocess((9, 9), 3), 8, 3, 4, augment=Augment("random", 0.2), resident=where,
        )
        for where in (None, torch.from_numpy(pixels))
    ]  # fmt: skip
    for batches in (lambda loader: loader.epoch(1), lambda loader: loader.evaluation()):
        for a, b in zip(*map(batches, loaders), strict=True):
            assert torch.equal(a.input, b.input)
    assert resident(MemoryStore(pixels), torch.device("cpu")) is None


@pytest.mark.gpu
def test_a_small_set_lies_on_the_gpu():
    store = MemoryStore(random_pixels(40, (9, 9), 3))
    found = resident(store, torch.device("cuda"))
    assert torch.equal(found.cpu(), store.pixels)
