"""A run survives: kills, signals, damaged checkpoints, full disks. Bytes are compared."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

import hubel
from hubel import runs
from hubel.errors import Interrupted
from hubel.train import loop as loop_module

SETTINGS = {
    "model": "simple", "batch_size": 8, "epochs": 4, "threads": 1, "dropout": 0.3, "ema": 0.9,
    "seed": 5, "checkpoint_every": 1e-6, "engine": "fp32",
}  # fmt: skip


class Crash(Exception):
    """Stands in for the power cut."""


def model_bytes(path):
    return (path / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def reference(pictures, tmp_path_factory):
    """The run that nothing disturbed."""
    path = tmp_path_factory.mktemp("reference") / "run"
    return hubel.fit(pictures, output=path, **SETTINGS).path


def fit_until(pictures, path, step, monkeypatch, error=Crash):
    """A fit that dies in the middle of the given step."""
    real = loop_module.set_rate

    def dying(optimizer, factor):
        dying.calls += 1
        if dying.calls > step:
            raise error
        return real(optimizer, factor)

    dying.calls = 0
    monkeypatch.setattr(loop_module, "set_rate", dying)
    with pytest.raises(error):
        hubel.fit(pictures, output=path, **SETTINGS)
    monkeypatch.setattr(loop_module, "set_rate", real)


@pytest.mark.parametrize("step", [1, 2, 7, 8, 13, 25])
def test_resume_from_any_step_ends_in_the_same_bytes(
    pictures, reference, tmp_path, monkeypatch, step
):
    path = tmp_path / "run"
    fit_until(pictures, path, step, monkeypatch)
    hubel.resume(path)
    assert model_bytes(path) == model_bytes(reference)
    for a, b in zip(hubel.load(path).folder.log(), hubel.load(reference).folder.log(), strict=True):
        assert (a["epoch"], a["step"], a["train_loss"], a["val_loss"], a["lr"]) == (
            b["epoch"], b["step"], b["train_loss"], b["val_loss"], b["lr"],
        )  # fmt: skip


@pytest.mark.parametrize(
    "settings",
    [
        {"mixup": 0.3, "jitter": 0.2, "rotate": 10.0, "balanced_sampling": True},
        {"optimizer": "sgd", "accumulate": 2, "engine": "bf16", "ema": 0.0, "cutout": 0.2},
        {"optimizer": "adam", "schedule": "cosine", "clip_grad_norm": 1.0, "model": "lenet5"},
    ],
    ids=["augmented", "sgd", "adam"],
)
def test_other_settings_resume_to_the_same_bytes_too(pictures, tmp_path, monkeypatch, settings):
    monkeypatch.setitem(SETTINGS, "epochs", 2)
    for name, value in settings.items():
        monkeypatch.setitem(SETTINGS, name, value)
    undisturbed = hubel.fit(pictures, output=tmp_path / "undisturbed", **SETTINGS)
    fit_until(pictures, tmp_path / "run", 5, monkeypatch)
    hubel.resume(tmp_path / "run")
    assert model_bytes(tmp_path / "run") == model_bytes(undisturbed.path)


def test_a_killed_extension_is_still_an_extension(pictures, reference, tmp_path, monkeypatch):
    path = shutil.copytree(reference, tmp_path / "run")
    real = loop_module.set_rate

    def dying(optimizer, factor):
        raise Crash

    monkeypatch.setattr(loop_module, "set_rate", dying)
    with pytest.raises(Crash):
        hubel.resume(path, epochs=6)
    monkeypatch.setattr(loop_module, "set_rate", real)
    assert hubel.resume(path).result["epochs"] == 6


def test_resuming_a_finished_run_changes_nothing(reference, tmp_path):
    path = shutil.copytree(reference, tmp_path / "run")
    before = hubel.load(path).result
    hubel.resume(path)
    after = hubel.load(path).result
    assert model_bytes(path) == model_bytes(reference)
    assert after["metrics"] == before["metrics"]
    assert after["epochs"] == before["epochs"]


def test_a_finished_run_can_be_extended(reference, tmp_path):
    path = shutil.copytree(reference, tmp_path / "run")
    run = hubel.resume(path, epochs=6)
    assert run.result["epochs"] == 6
    assert [row["epoch"] for row in run.folder.log()] == [1, 2, 3, 4, 5, 6]
    with pytest.raises(hubel.UserError, match=r"--epochs 2 is less than the 6 that the run"):
        hubel.resume(path, epochs=2)


@pytest.mark.parametrize("number", [1, 2])
def test_a_flipped_bit_falls_back_to_the_checkpoint_before(
    pictures, reference, tmp_path, monkeypatch, number
):
    path = tmp_path / "run"
    fit_until(pictures, path, 13, monkeypatch)
    *_, before, newest = sorted((path / "checkpoints").glob("r*"))
    for damaged in (newest, before)[:number]:
        content = bytearray((damaged / "optimizer.safetensors").read_bytes())
        content[-100] ^= 4
        (damaged / "optimizer.safetensors").write_bytes(content)
    heard = []
    hubel.resume(path, report=heard.append)
    assert any(f"checkpoint {newest.name} is damaged" in h.get("note", "") for h in heard)
    assert model_bytes(path) == model_bytes(reference)


def test_all_checkpoints_damaged_is_said_and_nothing_is_changed(pictures, tmp_path, monkeypatch):
    path = tmp_path / "run"
    fit_until(pictures, path, 13, monkeypatch)
    for folder in (path / "checkpoints").glob("r*"):
        (folder / "state.json").write_text("{}")
    before = sorted(p.relative_to(path) for p in path.rglob("*"))
    with pytest.raises(hubel.UserError, match=r"no checkpoint in '.*' is whole"):
        hubel.resume(path)
    assert sorted(p.relative_to(path) for p in path.rglob("*")) == before


def test_a_full_disk_leaves_the_checkpoint_before(pictures, reference, tmp_path, monkeypatch):
    path, real, calls = tmp_path / "run", runs._write_durably, [0]

    def full(file, content):
        calls[0] += 1
        if calls[0] > 60:
            raise OSError(28, "No space left on device")
        real(file, content)

    monkeypatch.setattr(runs, "_write_durably", full)
    with pytest.raises(
        hubel.UserError, match=r"No space left on device.*make room, then hubel fit"
    ):
        hubel.fit(pictures, output=path, **SETTINGS)
    monkeypatch.setattr(runs, "_write_durably", real)
    hubel.resume(path)
    assert model_bytes(path) == model_bytes(reference)


def test_a_signal_saves_and_the_run_goes_on(pictures, reference, tmp_path):
    path, seen = tmp_path / "run", []

    def press_ctrl_c(facts):
        if "row" in facts and not seen:
            seen.append(facts)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(
        Interrupted, match=r"everything is saved; go on with: hubel fit --resume"
    ) as e:
        hubel.fit(pictures, output=path, report=press_ctrl_c, **SETTINGS)
    assert e.value.exit_code == 130
    hubel.resume(path)
    assert model_bytes(path) == model_bytes(reference)


def test_changed_data_is_refused(pictures, tmp_path, monkeypatch):
    folder = shutil.copytree(pictures, tmp_path / "data")
    path = tmp_path / "run"
    fit_until(folder, path, 3, monkeypatch)
    shutil.copy(folder / "north" / "001.png", folder / "north" / "000.png")
    with pytest.raises(hubel.UserError, match=r"has changed since the run .* began"):
        hubel.resume(path)
    (folder / "north" / "000.png").unlink()
    with pytest.raises(
        hubel.UserError, match=r"has lost 1 of the run's samples \(first: 'north/000"
    ):
        hubel.resume(path)


def test_another_number_of_threads_is_said(pictures, tmp_path, monkeypatch):
    path, heard = tmp_path / "run", []
    fit_until(pictures, path, 3, monkeypatch)
    settings = hubel.load(path).folder.read_json("config.json")
    hubel.load(path).folder.write_json("config.json", {**settings, "threads": 2})
    hubel.resume(path, report=heard.append)
    assert any("threads is 2 here and was 1 in the run" in h.get("note", "") for h in heard)


def test_old_checkpoints_go_and_two_stay(reference):
    names = sorted(p.name for p in (reference / "checkpoints").glob("r*"))
    assert 2 <= len(names) <= 3
    assert names[-1].endswith("-epoch")
    assert (reference / "checkpoints" / "latest").read_text().strip() == names[-1]


# Real processes, really killed

COMMAND = [
    sys.executable, "-m", "hubel", "fit", "--batch-size", "8", "--epochs", "40", "--threads", "1",
    "--engine", "fp32", "--dropout", "0.3", "--checkpoint-every", "0.01", "--seed", "5",
]  # fmt: skip


def start(words):
    return subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def until_it_trains(process, path):
    """Wait until the run has a configuration: from here on it can be resumed."""
    while process.poll() is None and not (path / "config.json").exists():
        time.sleep(0.02)


def killed_and_resumed(pictures, path, kills, seed):
    """Kill -9 at random moments, resume each time, let the last one finish."""
    draw = random.Random(seed)
    process = start([*COMMAND, str(pictures), "--output", str(path)])
    until_it_trains(process, path)
    done = 0
    while done < kills:
        time.sleep(draw.random() * 1.5)
        ended = process.poll() is not None
        process.kill()
        process.communicate()
        if ended:
            break
        done += 1
        if done < kills:
            process = start([sys.executable, "-m", "hubel", "fit", "--resume", str(path)])
            time.sleep(2.0)  # the start of torch, where nothing can happen to the run
    words = [sys.executable, "-m", "hubel", "fit", "--resume", str(path)]
    subprocess.run(words, check=True, capture_output=True)
    return done


def run_undisturbed(pictures, path):
    words = [*COMMAND, str(pictures), "--output", str(path)]
    subprocess.run(words, check=True, capture_output=True)


def test_kill_minus_nine_then_resume_gives_the_same_bytes(pictures, tmp_path):
    run_undisturbed(pictures, tmp_path / "reference")
    killed_and_resumed(pictures, tmp_path / "run", 1, seed=0)
    assert model_bytes(tmp_path / "run") == model_bytes(tmp_path / "reference")


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_fifty_kills_at_random_moments_give_the_same_bytes(pictures, tmp_path):
    run_undisturbed(pictures, tmp_path / "reference")
    killed, number = 0, 0
    while killed < 50:
        path = tmp_path / f"run{number}"
        killed += killed_and_resumed(pictures, path, min(5, 50 - killed), seed=number)
        number += 1
        assert model_bytes(path) == model_bytes(tmp_path / "reference"), f"after {killed} kills"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_with_the_shells_exit_code_and_a_way_on(pictures, tmp_path, number, code):
    path = tmp_path / "run"
    words = [*COMMAND, str(pictures), "--output", str(path), "--epochs", "100000"]
    process = start(words)
    until_it_trains(process, path)
    process.send_signal(number)
    _, words_said = process.communicate(timeout=60)
    assert process.returncode == code
    assert "hubel: stopped in epoch" in words_said
    assert "Traceback" not in words_said
    assert (path / "checkpoints" / "latest").exists()
    assert not (path / ".holder").exists()


def test_a_second_process_on_the_same_run_is_refused(pictures, tmp_path):
    path = tmp_path / "run"
    process = start([*COMMAND, str(pictures), "--output", str(path), "--epochs", "100000"])
    until_it_trains(process, path)
    try:
        with pytest.raises(hubel.UserError, match=rf"is in use by process {process.pid}"):
            hubel.resume(path)
    finally:
        process.kill()
        process.communicate()
