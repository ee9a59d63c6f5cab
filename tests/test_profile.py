"""--profile: where the time goes."""

import json

import pytest
import torch

import hubel
from hubel.train import loop as loop_module
from hubel.train.profile import NoProfile, Profile

SETTINGS = {
    "model": "simple",
    "batch_size": 16,
    "epochs": 2,
    "flip": "none",
    "threads": 1,
    "engine": "fp32",
}


def test_time_belongs_to_the_mark_that_ends_it():
    now = [0.0]
    profile = Profile(torch.device("cpu"), clock=lambda: now[0])
    now[0] = 5.0
    profile.begin()
    for part, seconds in (("data", 1.0), ("forward", 2.0), ("data", 0.5), ("backward", 4.5)):
        now[0] += seconds
        profile.mark(part)
    assert profile.to_json()["seconds"]["data"] == 1.5
    assert profile.shares()["backward"] == pytest.approx(4.5 / 8)
    assert sum(profile.shares().values()) == pytest.approx(1)
    assert profile.sentence().startswith("profile: data 18.8 %, forward 25.0 %, backward 56.2 %")
    assert sum(Profile(torch.device("cpu")).shares().values()) == 0


def test_a_profiled_run_says_where_its_time_went(pictures, tmp_path, monkeypatch):
    marks, real = [], Profile.mark
    monkeypatch.setattr(
        Profile, "mark", lambda self, part: (marks.append(part), real(self, part))[1]
    )
    heard = []
    settings = {**SETTINGS, "profile": True}
    run = hubel.fit(pictures, output=tmp_path / "run", report=heard.append, **settings)
    steps = run.folder.log()[-1]["step"]
    for part in ("data", "forward", "backward", "optimizer"):
        assert marks.count(part) == steps, part
    assert marks.count("evaluation") == 2
    profile = json.loads((run.path / "profile.json").read_text())
    assert sum(profile["shares"].values()) == pytest.approx(1, abs=1e-4)
    assert all(seconds > 0 for seconds in profile["seconds"].values())
    (note,) = [h["note"] for h in heard if h.get("note", "").startswith("profile: data ")]
    assert run.evaluate().report.read_text().count(note.removeprefix("profile: ")) == 1


def test_without_it_nothing_is_measured(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(Profile, "__init__", None)
    kinds, real = [], loop_module.Training.__post_init__

    def look(self):
        kinds.append(type(self.profile))
        real(self)

    monkeypatch.setattr(loop_module.Training, "__post_init__", look)
    run = hubel.fit(pictures, output=tmp_path / "run", **SETTINGS)
    assert kinds == [NoProfile]
    assert not (run.path / "profile.json").exists()
