"""`hubel.fit` from a folder of pictures to a finished run."""

import json
import math
import shutil
import time
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch
from fakes import write_pictures
from PIL import Image

import hubel
from hubel.cli.show import show_judged, show_predictions
from hubel.data.store import Store
from hubel.tasks import TASKS
from hubel.train import fit as fit_module
from hubel.train import loop as loop_module
from hubel.train.training import checkpoint

SMALL = {
    "model": "simple",
    "batch_size": 16,
    "epochs": 3,
    "flip": "none",
    "threads": 1,
    "engine": "fp32",
}


def collect(rows):
    """A report that keeps what it hears."""
    return lambda facts: rows.append(facts)


@pytest.fixture(scope="module")
def run(pictures, tmp_path_factory):
    heard = []
    path = tmp_path_factory.mktemp("runs") / "spots"
    run = hubel.fit(pictures, output=path, report=collect(heard), **{**SMALL, "epochs": 12})
    return run, heard


def test_the_run_folder_is_readable_without_hubel(run, pictures):
    run, _ = run
    path = run.path
    assert json.loads((path / "classes.json").read_text()) == ["east", "north", "south"]
    split = json.loads((path / "split.json").read_text())
    ids = [i for part in split.values() for i in part]
    assert len(ids) == len(set(ids)) == 72
    assert all((pictures / i).exists() for i in ids)
    weights = safetensors.torch.load_file(path / "model.safetensors")
    facts = json.loads((path / "run.json").read_text())
    assert sum(w.numel() for w in weights.values()) == facts["params"]
    log = [json.loads(line) for line in (path / "log.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in log] == list(range(1, 13))
    assert log[-1]["train_loss"] < log[0]["train_loss"]
    config = json.loads((path / "config.json").read_text())
    assert config["batch_size"] == 16
    assert config["lr"] is None
    assert not (path / ".holder").exists()


def test_it_learns_and_says_how_well(run):
    result = run[0].result
    assert set(result) >= {
        "run", "task", "model", "epochs", "seconds", "images_per_s", "engine", "metrics",
    }  # fmt: skip
    metrics = result["metrics"]
    low, high = metrics["top1_interval"]
    assert metrics["top1"] > 0.8
    assert 0 <= low < metrics["top1"] <= high <= 1
    assert result["samples_seen"] == 12 * len(run[0].folder.read_json("split.json")["train"])


def test_the_untrained_loss_is_ln_of_the_classes(run):
    untrained = run[0].folder.read_json("untrained.json")
    assert untrained["expected_loss"] == pytest.approx(math.log(3))
    assert untrained["loss"] == pytest.approx(math.log(3), rel=0.2)
    assert sum(untrained["mean_probabilities"]) == pytest.approx(1)


def test_the_saved_weights_are_those_of_the_best_epoch(run):
    run, _ = run
    log = run.folder.log()
    best = max(log, key=lambda row: (row["val_top1"], -row["val_loss"]))
    assert run.result["best_epoch"] == best["epoch"]
    weights = safetensors.torch.load_file(run.path / "model.safetensors")
    name = f"r00-epoch-{best['epoch']:06d}"
    assert name in [p.name for p in (run.path / "best").iterdir()]
    kept = safetensors.torch.load_file(run.path / "best" / name / "weights.safetensors")
    assert weights.keys() == kept.keys()
    assert all(torch.equal(weights[k], kept[k]) for k in weights)


def test_the_same_seed_gives_the_same_bytes(pictures, tmp_path):
    runs = [hubel.fit(pictures, output=tmp_path / name, **SMALL) for name in "ab"]
    first, second = ((r.path / "model.safetensors").read_bytes() for r in runs)
    assert first == second
    other = hubel.fit(pictures, output=tmp_path / "c", **{**SMALL, "seed": 1})
    assert (other.path / "model.safetensors").read_bytes() != first


def test_streaming_without_a_cache_gives_the_same_bytes(pictures, tmp_path):
    runs = [
        hubel.fit(pictures, output=tmp_path / str(cache), cache=cache, **SMALL)
        for cache in (True, False)
    ]
    first, second = ((r.path / "model.safetensors").read_bytes() for r in runs)
    assert first == second


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "sgd"},
        {"optimizer": "adam", "schedule": "step"},
        {"schedule": "cosine", "ema": 0.9},
        {"schedule": "constant", "class_weights": True, "label_smoothing": 0.0},
        {"balanced_sampling": True, "clip_grad_norm": 1.0},
        {"mixup": 0.4, "cutout": 0.3, "jitter": 0.2},
        {"rotate": 15.0, "resized_crop": 0.6, "flip": "random"},
        {"model": "lenet5", "accumulate": 3},
        {"engine": "fp32,contiguous"},
        {"engine": "bf16"},
    ],
    ids=lambda s: ",".join(s),
)
def test_every_setting_trains(pictures, tmp_path, settings):
    run = hubel.fit(pictures, output=tmp_path / "run", **{**SMALL, "epochs": 1, **settings})
    row = run.folder.log()[-1]
    assert math.isfinite(row["train_loss"])
    plain = hubel.fit(pictures, output=tmp_path / "plain", **{**SMALL, "epochs": 1})
    same = (plain.path / "model.safetensors").read_bytes()
    # Memory order changes the speed, and may change no bit.
    if "contiguous" not in settings.get("engine", ""):
        assert (run.path / "model.safetensors").read_bytes() != same


@pytest.mark.parametrize("weighted", [False, True])
def test_accumulation_makes_the_same_step(pictures, tmp_path, weighted):
    weights = []
    if weighted:
        pictures = shutil.copytree(pictures, tmp_path / "fewer")
        for path in sorted((pictures / "north").iterdir())[:12]:
            path.unlink()
    for parts in (1, 4):
        run = hubel.fit(
            pictures,
            output=tmp_path / str(parts),
            **{
                **SMALL,
                "epochs": 1,
                "accumulate": parts,
                "class_weights": weighted,
                "dropout": 0.0,
                "optimizer": "sgd",
            },
        )
        weights.append(safetensors.torch.load_file(run.path / "model.safetensors"))
    for name in weights[0]:
        torch.testing.assert_close(weights[0][name], weights[1][name], rtol=1e-4, atol=1e-5)


def test_early_stopping(pictures, tmp_path, monkeypatch):
    task = TASKS["classify"]
    monkeypatch.setattr(
        type(task), "metrics", lambda self, o, t: {"top1": 0.5, "top1_interval": [0.4, 0.6],
                                                   "loss": 1.0, "n": len(t)}
    )  # fmt: skip
    run = hubel.fit(pictures, output=tmp_path / "run", **{**SMALL, "epochs": 50, "patience": 2})
    assert run.result["epochs"] == 3
    assert run.result["best_epoch"] == 1


def test_class_weights_and_mixed_targets_reach_the_loss():
    task = TASKS["classify"]
    output, target = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])
    weights = torch.tensor([3.0, 1.0])
    log_p = output.log_softmax(1)
    expected = -(3 * log_p[0, 0] + log_p[1, 1]) / 2
    torch.testing.assert_close(task.loss(output, target, class_weights=weights), expected)
    mixed = torch.tensor([[0.7, 0.3], [0.0, 1.0]])
    expected = -(mixed * log_p).sum(1).mean()
    torch.testing.assert_close(task.loss(output, mixed), expected)


def test_memory_too_small_for_a_batch_goes_on_in_parts(pictures, tmp_path, monkeypatch):
    from hubel.models.simple import Simple

    forward, sizes, heard = Simple.forward, [], []

    def limited(self, input):
        if self.training and len(input) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append(len(input))
        return forward(self, input)

    settings = {**SMALL, "epochs": 1, "dropout": 0.0, "optimizer": "sgd"}
    plain = hubel.fit(pictures, output=tmp_path / "plain", **settings)
    monkeypatch.setattr(Simple, "forward", limited)
    run = hubel.fit(pictures, output=tmp_path / "limited", report=collect(heard), **settings)
    notes = [h["note"] for h in heard if "note" in h]
    assert any("each batch of 16 now goes in 4 parts" in n for n in notes)
    assert run.result["samples_seen"] == plain.result["samples_seen"]
    a, b = (safetensors.torch.load_file(r.path / "model.safetensors") for r in (plain, run))
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-4, atol=1e-5)


def test_memory_too_small_for_one_sample_is_said(pictures, tmp_path, monkeypatch):
    from hubel.models.simple import Simple

    forward = Simple.forward

    def never(self, input):
        if self.training:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to ...")
        return forward(self, input)

    monkeypatch.setattr(Simple, "forward", never)
    with pytest.raises(hubel.UserError, match=r"memory of cpu is too small for one sample"):
        hubel.fit(pictures, output=tmp_path / "run", **SMALL)


def test_other_runtime_errors_are_not_taken_for_memory(pictures, tmp_path, monkeypatch):
    from hubel.models.simple import Simple

    forward = Simple.forward

    def broken(self, input):
        if self.training:
            raise RuntimeError("something else")
        return forward(self, input)

    monkeypatch.setattr(Simple, "forward", broken)
    with pytest.raises(RuntimeError, match="something else"):
        hubel.fit(pictures, output=tmp_path / "run", **SMALL)


def last_position(run):
    """Of the newest checkpoint."""
    folder = max((run.path / "checkpoints").glob("r*"))
    return json.loads((folder / "state.json").read_text())["position"]


def poisoned_loss(monkeypatch, bad_calls):
    """The task's training loss, NaN at the given calls."""
    task = type(TASKS["classify"])
    real, calls = task.loss, [0]

    def loss(self, output, target, **options):
        value = real(self, output, target, **options)
        if output.requires_grad:
            calls[0] += 1
            if calls[0] in bad_calls:
                return value * math.nan
        return value

    monkeypatch.setattr(task, "loss", loss)


def test_a_non_finite_loss_rolls_back_and_halves_the_rate(pictures, tmp_path, monkeypatch):
    heard = []
    poisoned_loss(monkeypatch, {6})  # in the second of the epochs of four steps
    run = hubel.fit(pictures, output=tmp_path / "run", report=collect(heard), **SMALL)
    notes = [h["note"] for h in heard if "note" in h]
    assert any(
        "rolled back to the end of epoch 1, the learning rate is now 0.5" in n for n in notes
    )
    assert [row["epoch"] for row in run.folder.log()] == [1, 2, 3]
    weights = safetensors.torch.load_file(run.path / "model.safetensors")
    assert all(w.isfinite().all() for w in weights.values())


def test_a_loss_that_stays_non_finite_ends_with_advice(pictures, tmp_path, monkeypatch):
    poisoned_loss(monkeypatch, set(range(6, 10_000)))
    with pytest.raises(hubel.UserError, match=r"again after 3 roll-backs .* give a smaller --lr"):
        hubel.fit(pictures, output=tmp_path / "run", **SMALL)
    for folder in (tmp_path / "run" / "checkpoints").glob("r*"):
        tensors = safetensors.torch.load_file(folder / "model.safetensors")
        assert all(t.isfinite().all() for t in tensors.values()), folder


def test_weights_spoilt_by_the_last_step_of_an_epoch_are_never_saved(
    pictures, tmp_path, monkeypatch
):
    heard, real, calls = [], loop_module.set_rate, [0]

    def spoil(optimizer, factor):
        calls[0] += 1
        if calls[0] == 8:  # the last step of the second epoch: its loss is still finite
            with torch.no_grad():
                next(p for g in optimizer.param_groups for p in g["params"])[0] = math.nan
            return real(optimizer, 0.0)
        return real(optimizer, factor)

    loss = type(TASKS["classify"]).loss
    monkeypatch.setattr(
        type(TASKS["classify"]),
        "loss",
        lambda self, o, t, **k: loss(self, torch.nan_to_num(o), t, **k),
    )
    monkeypatch.setattr(loop_module, "set_rate", spoil)
    run = hubel.fit(pictures, output=tmp_path / "run", report=collect(heard), **SMALL)
    assert any("rolled back to the end of epoch 1" in h.get("note", "") for h in heard)
    for path in run.path.rglob("*.safetensors"):
        for tensor in safetensors.torch.load_file(path).values():
            assert tensor.float().isfinite().all(), path


def test_the_evaluated_average_is_the_average(pictures, tmp_path, monkeypatch):
    seen, real = [], torch.optim.AdamW.step

    def step(self, *args, **kwargs):
        result = real(self, *args, **kwargs)
        seen.append([p.detach().clone() for g in self.param_groups for p in g["params"]])
        return result

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    settings = {**SMALL, "recipe": "plain", "epochs": 1, "ema": 0.7}
    run = hubel.fit(pictures, output=tmp_path / "run", **settings)
    average = seen[0]
    for n, weights in enumerate(seen[1:], start=1):
        kept = min(0.7, (1 + n) / (10 + n))  # a young average forgets its beginning
        average = [kept * a + (1 - kept) * w for a, w in zip(average, weights, strict=True)]
    saved = safetensors.torch.load_file(run.path / "model.safetensors")
    by_size = sorted(saved.values(), key=lambda v: (v.ndim <= 1, v.numel(), float(v.sum())))
    mine = sorted(average, key=lambda v: (v.ndim <= 1, v.numel(), float(v.sum())))
    for a, b in zip(by_size, mine, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_a_run_from_another_device_is_evaluated_here(pictures, tmp_path):
    run = hubel.fit(pictures, output=tmp_path / "run", **{**SMALL, "epochs": 1})
    settings = run.folder.read_json("config.json")
    run.folder.write_json("config.json", {**settings, "device": "cuda:7", "engine": "fp16"})
    assert run.evaluate().evaluation.n > 0
    assert run.predict(pictures / "north" / "000.png")[0].label


def test_the_callers_process_is_left_as_it_was(pictures, tmp_path):
    torch.manual_seed(3)
    before = torch.get_rng_state(), torch.get_num_threads()
    hubel.fit(pictures, output=tmp_path / "run", **{**SMALL, "epochs": 1})
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.get_num_threads() == before[1]


@pytest.mark.parametrize(
    ("data", "side", "network"), [("digits", 8, "simple"), ("shapes:60", 32, "swift_s")]
)
def test_without_a_name_the_pictures_size_chooses_the_network(
    tmp_path, monkeypatch, data, side, network
):
    monkeypatch.chdir(tmp_path)
    heard = []
    run = hubel.fit(data, report=collect(heard), budget=0.01, threads=1, engine="fp32")
    assert {"note": f"network: {network} (--model takes another)"} in heard
    assert run.folder.read_json("config.json")["model"] == network
    assert run.folder.read_json("preprocess.json")["size"] == [side, side]
    assert run.path.name == f"{data.partition(':')[0]}-1"


def test_a_budget_ends_the_schedule_and_the_training_together(pictures, tmp_path, monkeypatch):
    now = [0.0]

    def clock():
        now[0] += 0.01
        return now[0]

    real = loop_module.Training.__init__

    def init(self, *args, **kwargs):
        real(self, *args, **kwargs)
        self.clock = clock

    monkeypatch.setattr(loop_module.Training, "__init__", init)
    run = hubel.fit(pictures, output=tmp_path / "run", **{**SMALL, "budget": 20.0})
    log = run.folder.log()
    assert len(log) > 10
    limit = last_position(run)["limit_s"]
    assert abs(log[-1]["seconds"] - limit) < 0.02 * 20.0
    peak = max(row["lr"] for row in log)
    assert log[-1]["lr"] < 0.05 * peak
    assert [row["lr"] for row in log].index(peak) in range(1, len(log) // 2)


def test_what_comes_before_and_after_the_loop_is_inside_the_budget(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(fit_module, "_after_loop_s", lambda *facts: 7.0)
    started = time.monotonic() - 1000.0
    settings = {**SMALL, "budget": 1010.0}
    monkeypatch.setattr(fit_module, "train", lambda t: checkpoint(t, border=True))
    run = hubel.fit(pictures, output=tmp_path / "run", started=started, **settings)
    assert 0 <= last_position(run)["limit_s"] <= 1010.0 - 1000.0 - 7.0


def test_the_aftermath_of_the_loop_is_two_validations_and_the_writing():
    t = SimpleNamespace(
        engine=SimpleNamespace(precision="bf16"),
        task=SimpleNamespace(answer="class"),
        config=SimpleNamespace(tta="all"),
    )
    expected = 4.0 + 2.5 * 4.0 + 4 * 0.5 + 0.3  # by the engine, in float32, the writing
    assert fit_module._after_loop_s(t, 2.5, 4.0, 0.5) == pytest.approx(expected)
    t.engine.precision = "fp32"
    assert fit_module._after_loop_s(t, 2.5, 4.0, 0.5) == pytest.approx(8.0 + 2.3)
    t.task.answer = "pose"  # judged in eight orientations at the end
    assert fit_module._after_loop_s(t, 2.5, 4.0, 0.5) == pytest.approx(4.0 + 8 * 4.0 + 2.3)


def test_a_budget_too_short_for_anything_still_makes_one_step(pictures, tmp_path):
    run = hubel.fit(pictures, output=tmp_path / "run", **{**SMALL, "budget": 0.001})
    assert run.result["samples_seen"] == 16
    assert run.result["metrics"]["n"] > 0
    start = run.path / "checkpoints" / "r00-step-0000000000-epoch" / "model.safetensors"
    before = safetensors.torch.load_file(start)
    after = safetensors.torch.load_file(run.path / "model.safetensors")
    assert any(not torch.equal(before[n], after[n]) for n in after if n.endswith("weight"))


def test_steps_of_bounded_length_diverge_too(pictures, tmp_path):
    heard = []
    settings = {**SMALL, "optimizer": "adam", "lr": 30.0, "epochs": 2}
    with pytest.raises(hubel.UserError, match=r"diverged in epoch 1, and again .* a smaller --lr"):
        hubel.fit(pictures, output=tmp_path / "run", report=collect(heard), **settings)
    assert any("diverged in epoch 1 (mean loss " in h.get("note", "") for h in heard)


def test_a_transform_of_ones_own_from_torchvision(pictures, tmp_path):
    from torchvision.transforms import v2

    own = v2.Compose([v2.RandomHorizontalFlip(), v2.ColorJitter(brightness=0.3)])
    a = hubel.fit(pictures, output=tmp_path / "a", transform=own, **SMALL)
    b = hubel.fit(pictures, output=tmp_path / "b", transform=own, **SMALL)
    plain = hubel.fit(pictures, output=tmp_path / "c", **SMALL)
    first, second, third = ((r.path / "model.safetensors").read_bytes() for r in (a, b, plain))
    assert first == second != third
    with pytest.raises(hubel.UserError, match="was trained with a transform of your own"):
        hubel.resume(a.path, epochs=4)
    hubel.resume(a.path, epochs=4, transform=own)


def test_a_transform_that_normalises_is_told_where_that_belongs(pictures, tmp_path):
    from torchvision import transforms

    own = transforms.Compose(
        [
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize([0.5], [0.5]),
        ]
    )
    with pytest.raises(hubel.UserError, match=r"leave Normalize to hubel"):
        hubel.fit(pictures, output=tmp_path / "run", transform=own, **SMALL)
    own = transforms.Compose([transforms.RandomHorizontalFlip(), transforms.ToTensor()])
    hubel.fit(pictures, output=tmp_path / "run", transform=own, **SMALL)


def test_volumes_take_the_same_road(tmp_path):
    rng = np.random.default_rng(0)
    volumes = rng.integers(0, 60, (60, 12, 12, 12)).astype(np.uint8)
    labels = np.arange(60) % 2
    volumes[labels == 1, :6] += 150
    np.savez(tmp_path / "volumes.npz", images=volumes, labels=labels)
    run = hubel.fit(tmp_path / "volumes.npz", output=tmp_path / "run", **{**SMALL, "epochs": 6})
    assert run.result["metrics"]["top1"] > 0.8
    assert run.folder.read_json("run.json")["spec"]["input_size"] == [12, 12, 12]
    run.evaluate()
    np.save(tmp_path / "one.npy", volumes[1])
    assert run.predict(tmp_path / "one.npy")[0].label == "1"


# What users do wrong


def test_a_failed_start_leaves_no_folder(pictures, tmp_path):
    with pytest.raises(
        hubel.UserError, match="--model 'simpel' is not known; did you mean 'simple'"
    ):
        hubel.fit(pictures, output=tmp_path / "run", model="simpel")
    assert not (tmp_path / "run").exists()


def test_a_full_output_folder_is_not_touched(pictures, tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(hubel.UserError, match="is not empty"):
        hubel.fit(pictures, output=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def damaged(pictures, tmp_path, count):
    folder = shutil.copytree(pictures, tmp_path / "damaged")
    for path in sorted((folder / "north").iterdir())[:count]:
        path.write_bytes(path.read_bytes()[:60])
    return folder


def test_unreadable_pictures_beyond_one_percent_stop_a_fit(pictures, tmp_path):
    folder = damaged(pictures, tmp_path, 2)
    with pytest.raises(
        hubel.UserError,
        match=r"2 of 72 samples of the data are unreadable, more than 1%.*north/000",
    ):
        hubel.fit(folder, output=tmp_path / "run", **SMALL)
    heard = []
    run = hubel.fit(
        folder, output=tmp_path / "run", allow="corrupt", report=collect(heard), **SMALL
    )
    unreadable = run.folder.read_json("data.json")["unreadable"]
    assert [u["id"] for u in unreadable] == ["north/000.png", "north/001.png"]
    assert any(
        "skipped 2 unreadable samples (first: north/000.png" in h.get("note", "") for h in heard
    )
    ids = [i for part in run.folder.read_json("split.json").values() for i in part]
    assert len(ids) == 70


def test_strict_refuses_a_single_one(pictures, tmp_path):
    folder = damaged(pictures, tmp_path, 1)
    with pytest.raises(hubel.UserError, match=r"--strict: 1 of 72 samples are unreadable"):
        hubel.fit(folder, output=tmp_path / "run", allow="corrupt", strict=True, **SMALL)


@pytest.fixture
def leaking(tmp_path):
    """Given splits; two of the test pictures are copies of training pictures."""
    folder = tmp_path / "leaking"
    write_pictures(folder / "train")
    write_pictures(folder / "val", 6, seed=1)
    write_pictures(folder / "test", 6, seed=2)
    for name in ("north", "south"):
        shutil.copy(folder / "train" / name / "003.png", folder / "test" / name / "copy.png")
    return folder


def test_copies_across_splits_are_loud_recorded_and_told_apart(leaking, tmp_path):
    heard = []
    run = hubel.fit(leaking, output=tmp_path / "run", report=collect(heard), **SMALL)
    assert any(h.get("note", "").startswith("WARNING") and "cop" in h["note"] for h in heard)
    judged = run.evaluate()
    assert judged.evaluation.n == 20
    assert judged.evaluation.leaks.n_leaked == 2
    assert judged.evaluation.leaks.without_leaked.n == 18
    with pytest.raises(hubel.UserError, match=r"--strict: .*cop"):
        hubel.fit(leaking, output=tmp_path / "strict", strict=True, **SMALL)


def test_leaks_are_found_in_other_data_too(run, pictures, tmp_path):
    run, _ = run
    other = write_pictures(tmp_path / "other", 4, seed=9)
    trained_on = run.folder.read_json("split.json")["train"][0]
    shutil.copy(pictures / trained_on, other / trained_on.split("/")[0] / "copy.png")
    evaluation = run.evaluate(other).evaluation
    assert evaluation.n == 13
    assert evaluation.leaks.n_leaked == 1


def test_training_samples_are_no_copies_of_themselves(run):
    judged = run[0].evaluate(split="train")
    assert judged.evaluation.leaks is None
    assert "WARNING: the network was trained on these very samples" in judged.notes


def test_evaluate_writes_a_document_and_a_report(run):
    judged = run[0].evaluate()
    document = judged.to_json()
    assert set(document) >= {"run", "split", "n", "metrics", "per_class", "confusion"}
    assert document["split"] == "test"
    assert document["n"] == len(run[0].folder.read_json("split.json")["test"])
    counts = np.array(document["confusion"]["counts"])
    assert counts.sum() == document["n"]
    assert counts.trace() / document["n"] == pytest.approx(document["metrics"]["top1"])
    page = judged.report.read_text()
    assert "<html" in page
    assert json.loads((judged.report.parent / "evaluation.json").read_text()) == json.loads(
        json.dumps(document)
    )
    assert (judged.report.parent / "figures" / "confusion.svg").exists()


def test_evaluate_names_what_it_cannot_find(run, tmp_path):
    run, _ = run
    with pytest.raises(
        hubel.UserError, match=r"--split 'tests' has no samples in this run; it has"
    ):
        run.evaluate(split="tests")
    other = write_pictures(tmp_path / "other", 4)
    (other / "north").rename(other / "west")
    with pytest.raises(hubel.UserError, match=r"class 'west' .* is not one of the run's \(east, "):
        run.evaluate(other)


def test_predict_agrees_with_evaluate_and_names_bad_files(run, pictures, tmp_path):
    run, _ = run
    predictions = run.predict(pictures / "south")
    assert len(predictions) == 24
    assert sum(p.label == "south" for p in predictions) > 18
    for p in predictions:
        assert sum(p.probabilities.values()) == pytest.approx(1, abs=1e-5)
    grey = tmp_path / "grey.png"
    Image.new("L", (50, 40)).save(grey)
    (tmp_path / "bad.jpg").write_text("no picture")
    found = run.predict(grey, tmp_path / "bad.jpg")
    assert found[0].error is None
    assert found[1].label is None
    assert "not a picture" in found[1].error
    with pytest.raises(hubel.UserError, match=r"nothing.png' does not exist"):
        run.predict(tmp_path / "nothing.png")


def test_a_changed_model_file_is_refused(pictures, tmp_path):
    run = hubel.fit(pictures, output=tmp_path / "run", **{**SMALL, "epochs": 1})
    path = run.path / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 16
    path.write_bytes(content)
    with pytest.raises(hubel.UserError, match="does not have the checksum recorded"):
        hubel.load(run.path).predict(pictures / "north" / "000.png")


def test_stores_are_what_the_contract_says(pictures):
    from hubel.data.cache import open_store
    from hubel.data.source import open_source

    store: Store = open_store(open_source(pictures))
    assert store.gather(torch.tensor([3, 1])).shape == (2, 16, 16, 3)


@pytest.mark.parametrize("name", ["run", "config", "classes", "preprocess", "data", "split"])
@pytest.mark.parametrize("content", ["null", "[1, 2]", "{}", "[" * 100_000, "nonsense"])
def test_run_files_edited_to_nonsense_are_named(run, tmp_path, name, content):
    path = shutil.copytree(run[0].path, tmp_path / "run")
    (path / f"{name}.json").write_text(content)
    with pytest.raises(hubel.UserError, match=rf"{name}\.json'"):
        hubel.load(path).evaluate()


def test_names_with_control_characters_reach_neither_screen_nor_drawing(tmp_path, capsys):
    folder = write_pictures(tmp_path / "data")
    (folder / "north").rename(folder / "\x1b[31mnorth")
    run = hubel.fit(folder, output=tmp_path / "run", **{**SMALL, "epochs": 1})
    judged = run.evaluate()
    assert "\x1b" not in (judged.report.parent / "figures" / "confusion.svg").read_text()
    show_judged(judged.evaluation, str(judged.report))
    show_predictions(run.predict(folder))
    assert "\x1b" not in capsys.readouterr().out


def test_an_output_inside_the_data_is_refused(pictures):
    with pytest.raises(hubel.UserError, match=r"lies inside DATA .* which hubel never writes into"):
        hubel.fit(pictures, output=pictures / "north" / "run", **SMALL)
    assert not (pictures / "north" / "run").exists()


def test_a_damaged_npz_and_a_link_to_itself(pictures, tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, x=np.zeros((20, 16, 16), np.uint8), y=np.arange(20) % 2)
    content = bytearray(path.read_bytes())
    content[2000] ^= 1
    path.write_bytes(content)
    with pytest.raises(hubel.UserError, match="is not a whole array"):
        hubel.fit(path, output=tmp_path / "run", **SMALL)
    folder = shutil.copytree(pictures, tmp_path / "linked")
    (folder / "north" / "self.png").symlink_to("self.png")
    assert hubel.inspect(folder, near=False).inspection.num_readable == 72
