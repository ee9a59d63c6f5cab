"""The parts of a race that train nothing: rungs, ledger, candidates, prices, redraws, answer."""

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hubel.errors import UserError
from hubel.inference import Validation
from hubel.models import MODELS
from hubel.racing.answer import answer
from hubel.racing.candidates import PRESETS, Candidate, from_names, preset, tuned
from hubel.racing.document import sentences
from hubel.racing.ledger import MOST_ATTEMPTS, FolderLedger
from hubel.racing.plan import Entry, Plan, read_plan, write_plan
from hubel.racing.prices import Constraint, Price, nearest
from hubel.racing.redraws import redrawn, seed_spread, with_seeds
from hubel.racing.rungs import (
    Job,
    Outcome,
    Rung,
    alive,
    cut,
    due,
    in_rungs,
    survivors,
    time_needed,
)
from hubel.report.race_charts import front
from hubel.report.race_terminal import race_text
from hubel.report.words import NO_BREAK
from hubel.tasks import TASKS


def outcome(score: float) -> Outcome:
    return Outcome(score, "", {"metrics": {"top1": score}})


# ---- rungs


@given(
    st.integers(1, 40), st.integers(1, 3), st.floats(1, 1e5), st.integers(1, 9), st.integers(1, 5)
)
def test_rungs_fill_the_time_that_the_workers_have(
    candidates: int, seeds: int, seconds: float, workers: int, num_rungs: int
) -> None:
    rungs = in_rungs(candidates, seeds, seconds, workers, num_rungs)
    before, taken = 0.0, 0.0
    for rung in rungs:
        rounds = -(-rung.candidates * seeds // workers)
        taken += rounds * (rung.seconds - before)
        before = rung.seconds
    assert taken == pytest.approx(seconds)
    counts = [rung.candidates for rung in rungs]
    assert counts == survivors(candidates, num_rungs)
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] >= min(candidates, 2)


@settings(max_examples=50)
@given(st.data())
def test_a_race_ends_with_the_best_whatever_the_order_of_its_jobs(data: st.DataObject) -> None:
    number = data.draw(st.integers(1, 12))
    seeds = data.draw(st.integers(1, 2))
    names = [f"n{i}" for i in range(number)]
    skill = dict(zip(names, data.draw(st.permutations(range(number))), strict=True))
    rungs = in_rungs(number, seeds, 100.0, 1, 3)
    outcomes: dict[Job, Outcome] = {}
    made = 0
    while jobs := due(rungs, names, seeds, outcomes):
        job = data.draw(st.sampled_from(jobs))
        assert job not in outcomes
        outcomes[job] = outcome(skill[job.candidate] + 0.1 * job.seed)
        made += 1
    running = alive(rungs, names, seeds, outcomes)
    assert [len(r) for r in running] == [rung.candidates for rung in rungs]
    assert made == sum(rung.candidates for rung in rungs) * seeds
    best = max(names, key=lambda n: skill[n])
    assert running[-1][0] == best or len(rungs) == 1


def test_who_failed_does_not_go_on_and_does_not_hold_the_race_up() -> None:
    rungs = (Rung(10, 4), Rung(30, 2))
    names = ["a", "b", "c", "d"]
    outcomes = {Job(0, n, s): outcome(i) for i, n in enumerate(names) for s in range(2)}
    outcomes[Job(0, "d", 0)] = Outcome(None, "it diverged")
    outcomes[Job(0, "c", 0)] = outcomes[Job(0, "c", 1)] = Outcome(None, "no memory")
    assert alive(rungs, names, 2, outcomes)[-1] == ["d", "b"]
    jobs = due(rungs, names, 2, outcomes)
    assert set(jobs) == {Job(1, "d", 1), Job(1, "b", 0), Job(1, "b", 1)}
    for job in jobs:
        outcomes[job] = outcome(1.0)
    assert due(rungs, names, 2, outcomes) == []


def test_all_failed_is_an_end_too() -> None:
    rungs = (Rung(10, 2), Rung(30, 2))
    outcomes = {Job(0, n, 0): Outcome(None, "no") for n in "ab"}
    assert due(rungs, ["a", "b"], 1, outcomes) == []


def test_a_budget_keeps_the_quickest_and_says_when_there_is_room_for_none() -> None:
    epochs: dict[str, float | None] = {"slow": 4000.0, "quick": 4.0, "middle": 40.0, "free": None}
    found = cut(epochs, 1, 120.0, 1)
    assert found is not None
    assert found.kept == ("quick", "middle", "free")  # in the order given
    assert found.rungs[0].seconds >= time_needed(40.0)
    everyone = cut(epochs, 1, 1e6, 1)
    assert everyone is not None
    assert everyone.kept == tuple(epochs)
    assert len(everyone.rungs) == 2
    assert cut({"slow": 4000.0}, 1, 60.0, 1) is None


def test_more_workers_or_fewer_seeds_make_longer_rungs() -> None:
    def one(seeds: int, workers: int) -> float:
        return in_rungs(8, seeds, 100.0, workers, 3)[0].seconds

    assert one(1, 1) < one(1, 2) < one(1, 8)
    assert one(2, 1) == pytest.approx(one(1, 1) / 2)


# ---- the ledger


def test_one_job_is_claimed_once_and_told_once(tmp_path: Path) -> None:
    first, second, job = FolderLedger(tmp_path), FolderLedger(tmp_path), Job(0, "a@x=1-2", 1)
    with first.claimed(job) as mine:
        assert mine
        with second.claimed(job) as theirs:
            assert not theirs
        first.tell(job, outcome(0.5))
    assert second.outcomes() == {job: outcome(0.5)}
    with second.claimed(job) as again:
        assert not again


def _claim_and_hang(folder: str, ready: Any) -> None:
    with FolderLedger(Path(folder)).claimed(Job(0, "a", 0)) as mine:
        assert mine
        ready.set()
        time.sleep(60)


def test_a_killed_worker_frees_its_job_until_that_was_too_often(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ledger, job = FolderLedger(tmp_path), Job(0, "a", 0)
    for _ in range(MOST_ATTEMPTS):
        ready = context.Event()
        worker = context.Process(target=_claim_and_hang, args=(str(tmp_path), ready))
        worker.start()
        assert ready.wait(60)
        with ledger.claimed(job) as mine:
            assert not mine
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        worker.join()
    with ledger.claimed(job) as mine:
        assert not mine
    found = ledger.outcomes()[job]
    assert found.score is None
    assert "killed 3 times" in found.reason


def test_a_damaged_outcome_is_named(tmp_path: Path) -> None:
    FolderLedger(tmp_path).tell(Job(0, "a", 0), outcome(1.0))
    (tmp_path / "r0-a-s0.json").write_text("{")
    with pytest.raises(UserError, match=r"r0-a-s0\.json' cannot be read.*the job is made again"):
        FolderLedger(tmp_path).outcomes()


# ---- candidates


def test_names_with_variants() -> None:
    plain, small, own = from_names(
        ["resnet18", "resnet18@img_size=64@dropout=0.2", "nets/mine.py:Net"]
    )
    assert plain == Candidate("resnet18", {"model": "resnet18"})
    assert small.name == "resnet18@img_size=64@dropout=0.2"
    assert small.settings == {"model": "resnet18", "img_size": "64", "dropout": 0.2}
    assert own.name == "mine.py-Net"
    assert from_names(["swift_s@whitening=no"])[0].settings["whitening"] is False


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([""], "names no network"),
        (["a", "a"], "'a' twice"),
        (["a@img_size"], "after each @ stands a setting and its value"),
        (["a@imgsize=3"], "'imgsize' is no setting; did you mean 'img_size'"),
        (["a@budget=3m"], "--budget is the same for all candidates"),
        (["a@dropout=x"], "dropout takes a number, got 'x'"),
        (["a@dropout=7"], "--dropout must be between"),
        (["a@whitening=maybe"], "whitening is true or false"),
    ],
)
def test_names_that_are_not_understood(names: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        from_names(names)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_name_networks_of_the_zoo(name: str) -> None:
    for candidate in [*preset(name, "class"), *preset(name, "pose")]:
        assert candidate.settings["model"] in MODELS.names()
    with pytest.raises(UserError, match="--preset 'smal' is not known; did you mean 'small'"):
        preset("smal", "class")


def test_tuning_spreads_its_variants_and_keeps_the_network_as_it_is() -> None:
    base = Candidate("swift_s", {"model": "swift_s"})
    starts = {"lr": 0.2, "weight_decay": 0.01}
    found = tuned(base, ["lr", "augment"], 17, starts, 0)
    assert found[0] == base
    assert len({c.name for c in found}) == 17
    rates = np.array([c.settings["lr"] for c in found[1:]])
    assert rates.min() >= 0.2 / 8 * 0.99
    assert rates.max() <= 0.8 * 1.01
    # Sixteen points in four quarters of the logarithm: none is empty, none is crowded.
    quarters = np.histogram(np.log(rates / 0.2), bins=np.linspace(-np.log(8), np.log(4), 5))[0]
    assert quarters.min() >= 2
    assert found == tuned(base, ["lr", "augment"], 17, starts, 0)
    assert found != tuned(base, ["lr", "augment"], 17, starts, 1)
    with pytest.raises(UserError, match="--tune 'rate' is not known"):
        tuned(base, ["rate"], 3, starts, 0)


# ---- prices


def test_constraints() -> None:
    small = Price(1_000, 10, 2.0, 3.0, 5.0)
    assert Constraint.parse(" latency_ms <= 5 ").excess(small) < 1
    assert Constraint.parse("params<=5e2").excess(small) == 2
    assert Constraint.parse("params>=4000").excess(small) == 4
    assert str(Constraint.parse("params<5e6")) == "params<=5e+06"
    assert Constraint.parse("epoch_s<=1").excess(Price(1, 1, 1.0, None, 1.0)) == 1
    for text, message in {
        "latency<=5": "'latency' is no figure of a network; did you mean 'latency_ms'",
        "params": "write a figure, <= or >= and a number",
        "params<=x": "write a figure, <= or >= and a number",
        "params<=1-2": "write a figure, <= or >= and a number",
    }.items():
        with pytest.raises(UserError, match=message):
            Constraint.parse(text)


def test_the_nearest_is_the_one_that_misses_by_the_smallest_factor() -> None:
    prices = {"a": Price(100, 1, 9.0, None, 1.0), "b": Price(300, 1, 4.0, None, 1.0)}
    limits = [Constraint.parse("params<=50"), Constraint.parse("latency_ms<=2")]
    assert nearest(prices, limits) == ("a", 4.5)


# ---- redraws and the answer


def said(right: np.ndarray) -> Validation:
    """Of a classifier of two classes that is right where it says."""
    target = torch.zeros(len(right), dtype=torch.int64)
    output = torch.stack([torch.from_numpy(right).float(), torch.full((len(right),), 0.5)], 1)
    return Validation(output, target, torch.arange(len(right)))


def top1(metrics: Any) -> float:
    return float(metrics["top1"])


def test_redraws_have_the_spread_of_the_binomial() -> None:
    stream = np.random.default_rng(0)
    right = stream.random(500) < 0.8
    found = redrawn({("a", 0): said(right)}, top1, TASKS["classify"].metrics, 0)["a"]
    assert found.mean() == pytest.approx(right.mean(), abs=0.004)
    assert found.std() == pytest.approx(np.sqrt(0.8 * 0.2 / 500), rel=0.15)


def test_redraws_are_the_same_for_all_and_take_groups_together() -> None:
    right = np.random.default_rng(1).random(400) < 0.7
    pair = {("a", 0): said(right), ("b", 0): said(right)}
    found = redrawn(pair, top1, TASKS["classify"].metrics, 0)
    np.testing.assert_array_equal(found["a"], found["b"])
    # Ten samples of each of 40 groups alike: as few as 40 samples.
    alike = np.repeat(np.random.default_rng(2).random(40) < 0.5, 10)
    one = said(alike)
    grouped = Validation(one.output, one.target, torch.arange(400) // 10)
    metrics = TASKS["classify"].metrics
    wide = redrawn({("a", 0): grouped}, top1, metrics, 0)["a"].std()
    narrow = redrawn({("a", 0): one}, top1, metrics, 0)["a"].std()
    assert wide > 2 * narrow


def test_the_spread_of_seeds_is_pooled() -> None:
    assert seed_spread({"a": [1.0], "b": [2.0]}) is None
    assert seed_spread({"a": [1.0, 3.0], "b": [5.0]}) == pytest.approx(np.sqrt(2))
    found = with_seeds({"a": np.zeros(4000)}, {"a": 4}, 2.0, 0)["a"]
    assert found.std() == pytest.approx(1.0, rel=0.1)
    assert with_seeds({"a": np.zeros(3)}, {"a": 1}, None, 0)["a"].tolist() == [0, 0, 0]


def _plan(prices: dict[str, dict[str, Any]], rungs: tuple[Rung, ...], seeds: int = 1) -> Plan:
    entries = [Entry(Candidate(n, {"model": n}), price) for n, price in prices.items()]
    entries.append(Entry(Candidate("vast", {"model": "vast"}), {"params": 9}, "too slow"))
    shared = {"data": "shapes", "task": "classify"}
    return Plan(shared, tuple(entries), rungs, seeds, "top1", (), 60.0, 1.0)


def _raced(plan: Plan, share: dict[str, float], n: int = 400) -> Any:
    """The answer of a race in which candidates are right on so large a share of nested samples."""
    order = np.random.default_rng(3).permutation(n)
    outputs, outcomes = {}, {}
    while jobs := due(plan.rungs, plan.names, plan.num_seeds, outcomes):
        for job in jobs:
            right = np.zeros(n, bool)
            right[order[: round(share[job.candidate] * n)]] = True
            outputs[job] = said(right)
            outcomes[job] = outcome(right.mean())
    return answer(plan, outcomes, outputs.__getitem__, TASKS["classify"].metrics)


def test_the_answer_takes_the_cheaper_of_those_that_cannot_be_told_apart() -> None:
    prices = {
        "big": {"latency_ms": 8.0, "params": 4_000_000},
        "small": {"latency_ms": 2.0, "params": 1_000_000},
        "bad": {"latency_ms": 1.0, "params": 10_000},
    }
    plan = _plan(prices, (Rung(10, 3),))
    found = _raced(plan, {"big": 0.905, "small": 0.9, "bad": 0.6})
    assert found.first == "big"
    assert found.choice == "small"
    assert set(found.alike) == {"small"}
    assert found.command == "hubel fit shapes --model small --budget 60s"
    text = " ".join(sentences(plan, found))
    assert "big and small" in text
    assert "small is 4.0× faster than big" in text
    assert "trained once" in text
    assert [one.name for one in found.standings] == ["big", "small", "bad", "vast"]
    assert found.standing("vast").reason == "too slow"


def test_the_answer_takes_the_better_where_it_can_be_told() -> None:
    prices = {"big": {"latency_ms": 8.0}, "small": {"latency_ms": 2.0}}
    found = _raced(_plan(prices, (Rung(10, 2),)), {"big": 0.93, "small": 0.8})
    assert (found.first, found.choice, dict(found.alike)) == ("big", "big", {})
    assert found.standing("big").best_share == 1.0
    low, high = found.standing("big").interval
    assert low < 0.93 < high


def test_equals_share_the_first_place() -> None:
    prices = {"a": {"latency_ms": 1.0}, "b": {"latency_ms": 1.0}, "c": {"latency_ms": 1.0}}
    found = _raced(_plan(prices, (Rung(10, 3),)), {"a": 1.0, "b": 1.0, "c": 0.2})
    assert found.standing("a").best_share == pytest.approx(0.5)
    assert found.standing("b").best_share == pytest.approx(0.5)
    assert found.standing("c").best_share == 0


def test_who_fell_early_keeps_its_score_and_the_reason() -> None:
    prices = {n: {"latency_ms": 1.0} for n in "abcdef"}
    plan = _plan(prices, (Rung(10, 6), Rung(30, 2)), seeds=2)
    share = {n: 0.5 + 0.07 * i for i, n in enumerate("abcdef")}
    found = _raced(plan, share)
    fallen = found.standing("a")
    assert fallen.rung == 0
    assert fallen.reason == "place 6 of 6 after 10 s, 2 went on"
    assert fallen.best_share == 0
    assert found.spread == 0.0
    assert found.standing("f").rung == 1
    assert sum(one.best_share for one in found.standings) == pytest.approx(1.0)


def test_no_answer_without_a_score() -> None:
    plan = _plan({"a": {}}, (Rung(10, 1),))
    with pytest.raises(UserError, match="every training of this race failed: it diverged"):
        answer(plan, {Job(0, "a", 0): Outcome(None, "it diverged")}, lambda job: None, None)  # type: ignore[arg-type,return-value]


@given(st.lists(st.tuples(st.floats(0.1, 10), st.floats(0, 1)), min_size=1, max_size=20))
def test_nothing_beats_the_front_in_both(points: list[tuple[float, float]]) -> None:
    found = front(points)
    assert found
    for i in range(len(points)):
        better = [j for j in found if points[j][0] <= points[i][0] and points[j][1] >= points[i][1]]
        assert better


def test_the_plan_comes_back_from_its_file(tmp_path: Path) -> None:
    plan = _plan({"a": {"params": 3}}, (Rung(10.5, 1),))
    write_plan(tmp_path, plan)
    assert read_plan(tmp_path) == plan
    (tmp_path / "race.json").write_text("[]")
    with pytest.raises(UserError, match=r"race\.json' cannot be read"):
        read_plan(tmp_path)
    with pytest.raises(UserError, match=r"is no race: there is no race\.json"):
        read_plan(tmp_path.parent)


def test_the_table_fits_a_narrow_terminal() -> None:
    name = "a-network-with-a-very-long-name@img_size=64@dropout=0.5"
    plan = _plan({name: {"latency_ms": 3.21, "params": 12_345_678}, "b": {}}, (Rung(900, 2),))
    found = _raced(plan, {name: 0.9, "b": 0.5})
    document = {
        **found.to_json(),
        "plan": plan.to_json(),
        "sentences": sentences(plan, found),
        "test": {"n": 50, "metrics": {"top1": 0.875}},
        "run": "r", "report": "p",
    }  # fmt: skip
    json.dumps(document, allow_nan=False)
    text = race_text(document)
    told = [line for line in text.splitlines() if not line.startswith("In full")]
    assert max(map(len, told)) <= 80
    assert f"15{NO_BREAK}min 0{NO_BREAK}s" in text
    assert "top1 0.8750 of 50 samples" in text
