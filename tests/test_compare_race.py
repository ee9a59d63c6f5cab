"""Whole races on a small set, by processes of their own."""

import json
import os
import signal
import subprocess
import sys

import pytest
from commands import loaded, ran, refusal

import hubel
from hubel.errors import UserError
from hubel.racing.race import open_race, run_workers
from hubel.racing.rungs import Job
from hubel.runs import RunFolder

NETS = '''
import torch
from torch import nn

class Good(nn.Module):
    def __init__(self, in_channels, num_classes):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, num_classes))
    def forward(self, input):
        return self.layers(input)

class Blind(nn.Module):
    """Sees the mean brightness only."""
    def __init__(self, num_classes):
        super().__init__()
        self.layer = nn.Linear(1, num_classes)
    def forward(self, input):
        return self.layer(input.mean((1, 2, 3))[:, None])

class Breaks(Blind):
    """Fails in its seventh forward pass in training."""
    passes = 0
    def forward(self, input):
        if self.training:
            self.passes += 1
            if self.passes > 6:
                raise ArithmeticError("the seventh pass")
        return super().forward(input)

class Dies(Blind):
    """Takes its process with it."""
    def forward(self, input):
        import os, signal
        if self.training and os.environ.get("HUBEL_TEST_DIES"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(input)
'''


@pytest.fixture(scope="session")
def nets(tmp_path_factory):
    file = tmp_path_factory.mktemp("nets") / "nets.py"
    file.write_text(NETS)
    return file


@pytest.fixture(scope="module")
def raced(tmp_path_factory, nets):
    """A finished race of three networks, one of which breaks."""
    folder = tmp_path_factory.mktemp("race") / "race"
    models = [f"{nets}:{name}" for name in ("Blind", "Good", "Breaks")]
    notes = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUBEL_CACHE", str(tmp_path_factory.mktemp("cache")))
        found = hubel.compare(
            "digits", models=models, budget=24, seeds=2, output=folder, engine="fp32",
            report=notes.append,
        )  # fmt: skip
    return found, notes


def test_the_better_network_is_chosen_and_the_broken_one_is_a_row(raced):
    found, notes = raced
    answer = found.answer
    assert answer.first == answer.choice == "nets.py-Good"
    assert answer.standing("nets.py-Good").best_share > 0.95
    assert "the seventh pass" in answer.standing("nets.py-Breaks").reason
    assert answer.standing("nets.py-Breaks").score is None
    assert answer.standing("nets.py-Blind").score < 0.5
    assert any("nets.py-Breaks-s1: ArithmeticError: the seventh pass" in str(n) for n in notes)


def test_a_rung_lasts_as_long_as_planned(raced):
    found, _ = raced
    race = open_race(found.folder)
    for job, outcome in race.outcomes().items():
        if outcome.score is None:
            continue
        before = race.plan.rungs[job.rung - 1].seconds if job.rung else 0.0
        planned = race.plan.rungs[job.rung].seconds - before
        # No test asserts a time; but a training that ignored its rung would be far off.
        assert outcome.facts["wall_s"] < 4 * planned + 4


def test_trials_are_runs_that_go_on_from_rung_to_rung_on_one_split(raced):
    found, _ = raced
    race = open_race(found.folder)
    assert len(race.plan.rungs) >= 1
    runs = {path.name: RunFolder.open(path) for path in (found.folder / "trials").iterdir()}
    splits = {tuple(run.read_json("split.json")["val"]) for run in runs.values()}
    assert len(splits) == 1
    seeds = {run.read_json("config.json")["seed"] for run in runs.values()}
    assert seeds == {0, 1}
    best = race.best_run("nets.py-Good")
    last = max(job.rung for job in race.outcomes() if job.candidate == "nets.py-Good")
    assert best.read_json("config.json")["budget"] == pytest.approx(
        race.plan.rungs[last].seconds, abs=1e-3
    )
    epochs = [row["epoch"] for row in best.log()]
    assert epochs == list(range(1, len(epochs) + 1))


def test_only_the_choice_has_seen_the_test_split(raced):
    found, _ = raced
    seen = list(found.folder.glob("trials/*/evaluation/test"))
    assert len(seen) == 1
    assert seen[0].parts[-3] == open_race(found.folder).best_run("nets.py-Good").path.name
    assert found.document["test"]["metrics"]["top1"] > 0.5


def test_its_files_say_what_it_said(raced):
    found, _ = raced
    assert json.loads((found.folder / "answer.json").read_text())["choice"] == "nets.py-Good"
    page = found.report.read_text()
    assert "Take nets.py-Good" in page
    assert "the seventh pass" in page
    assert "<script src" not in page
    json.dumps(found.to_json(), allow_nan=False)


def test_a_finished_race_is_told_again_and_nothing_is_done_again(raced, nets, capsys, monkeypatch):
    found, _ = raced
    outputs = {p: p.stat().st_mtime_ns for p in (found.folder / "outputs").iterdir()}
    document = loaded(ran(["compare", "--resume", found.folder, "--json"], capsys, monkeypatch))
    assert document["choice"] == "nets.py-Good"
    assert outputs == {p: p.stat().st_mtime_ns for p in (found.folder / "outputs").iterdir()}
    told = ran(["compare", "--resume", found.folder], capsys, monkeypatch)
    assert "Take nets.py-Good" in told.stdout
    assert max(len(line) for line in told.stdout.splitlines() if "In full" not in line) <= 120


@pytest.mark.slow
def test_a_race_survives_a_kill_at_any_moment(tmp_path, nets):
    """SIGKILL of the whole race, again and again; nothing is lost, nothing is made twice."""
    folder = tmp_path / "race"
    words = [sys.executable, "-m", "hubel", "compare"]
    models = f"{nets}:Good,{nets}:Blind"
    begin = ["digits", "--models", models, "--budget", "30s", "--seeds", "1", "--engine", "fp32"]
    seen: dict[str, float] = {}
    done = None
    for attempt in range(12):
        rest = ["--resume", str(folder)] if (folder / "race.json").exists() else [
            *begin, "--output", str(folder)]  # fmt: skip
        process = subprocess.Popen(
            [*words, *rest], start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            process.communicate(timeout=4 + 3 * attempt)
            done = process.returncode
            break
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        now = {p.name: p.stat().st_mtime_ns for p in folder.glob("ledger/r*.json")}
        assert all(now[name] == when for name, when in seen.items())
        seen = now
    assert done == 0
    race = open_race(folder)
    rungs = range(len(race.plan.rungs))
    assert set(race.outcomes()) == {Job(r, name, 0) for r in rungs for name in race.plan.names}
    assert all(o.score is not None for o in race.outcomes().values())


@pytest.mark.slow
def test_a_training_that_takes_its_process_with_it_is_a_row(tmp_path, nets, monkeypatch):
    monkeypatch.setenv("HUBEL_TEST_DIES", "1")
    found = hubel.compare(
        "digits", models=[f"{nets}:Dies", f"{nets}:Blind"], budget=30, seeds=1,
        output=tmp_path / "race", engine="fp32",
    )  # fmt: skip
    assert found.answer.choice == "nets.py-Blind"
    assert "killed 3 times" in found.answer.standing("nets.py-Dies").reason


@pytest.mark.slow
def test_two_workers_share_a_race(tmp_path, nets):
    found = hubel.compare(
        "digits", models=[f"{nets}:Good", f"{nets}:Blind"], budget=24, seeds=2,
        output=tmp_path / "race", engine="fp32", workers=2,
    )  # fmt: skip
    attempts = [p.read_text().splitlines() for p in found.folder.glob("ledger/*.attempts")]
    assert all(len(lines) == 1 for lines in attempts)
    assert len({line for lines in attempts for line in lines}) == 2  # two processes


# What is refused


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "DATA is missing"),
        (["digits", "--worker"], "--worker takes part in a race that is there"),
        (["digits", "--resume", "x"], "DATA cannot be given with --resume"),
        (["--resume", "x", "--seed", "1"], "--seed cannot be given with --resume"),
        (["--resume", "x"], "--resume 'x' does not exist"),
        (["digits", "--budget", "soon"], "--budget: write a time"),
        (["digits", "--objective", "top2"], "--objective 'top2' is not what --task classify"),
        (["digits", "--models", "resnet1"], "no candidate can be trained on these data"),
        (["digits", "--models", "a", "--preset", "small"], "give one of them"),
        (["digits", "--tune", "lr"], "--tune varies one network"),
        (["digits", "--trials", "3"], "--trials counts the variants of --tune"),
        (["digits", "--seeds", "0"], "--seeds must be at least 1"),
        (["digits", "--constraint", "size<=3"], "'size' is no figure of a network"),
        (
            ["digits", "--models", "simple", "--constraint", "params<=10"],
            "no candidate meets params<=10: the nearest is 'simple', by a factor of",
        ),
        (["digits", "--models", "simple", "--budget", "1s"], "--budget 1s is too short"),
    ],
)
def test_refusals(words, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert message in refusal(ran(["compare", *words], capsys, monkeypatch))
    assert list(tmp_path.iterdir()) == []  # nothing is left behind


def test_a_set_too_small_to_compare_on_is_refused(pictures, tmp_path):
    with pytest.raises(UserError, match=r"validation samples: networks cannot be told apart"):
        hubel.compare(pictures, models=["simple"], budget=30, output=tmp_path / "race")


def test_a_folder_with_something_in_it_is_refused(raced, tmp_path):
    found, _ = raced
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(UserError, match="is not empty; name a new or empty folder"):
        hubel.compare("digits", models=["simple"], budget=30, output=tmp_path)
    with pytest.raises(UserError, match="go on with it by --resume"):
        hubel.compare("digits", models=["simple"], budget=30, output=found.folder)


def test_workers_that_die_at_once_end_the_race_with_a_word(raced, monkeypatch):
    found, _ = raced
    race = open_race(found.folder)
    for file in (found.folder / "ledger").glob("r0-*"):
        file.rename(file.with_name("was-" + file.name))
    monkeypatch.setattr(sys, "executable", "/bin/false")
    try:
        with pytest.raises(UserError, match="die again and again"):
            run_workers(race, 1, lambda facts: None)
    finally:
        for file in (found.folder / "ledger").glob("was-*"):
            file.rename(file.with_name(file.name.removeprefix("was-")))
