"""From what a person asked for to a plan: who takes part, and how the budget is cut."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hubel.config import FitConfig
from hubel.cost.fit_cost import DataFacts, facts_of
from hubel.data.sentences import counted
from hubel.data.source import Source, open_source
from hubel.errors import UserError, suggestion
from hubel.racing.candidates import Candidate, from_names, preset, tuned
from hubel.racing.plan import Entry, Plan
from hubel.racing.prices import Constraint, Price, nearest, price
from hubel.racing.rungs import cut, time_needed
from hubel.tasks import TASKS, Task
from hubel.train.optimizers import usual_decay, usual_rate
from hubel.train.settle import settle_task

__all__ = ["RaceRequest", "make_plan"]

_LEAST_VALIDATION = 20  # samples: with fewer, networks differ by single ones
_AFTERWARDS, _AFTERWARDS_S = 0.03, 2.0
"""Of the budget, and seconds: the winner's evaluation, the page."""
_TUNED_TRIALS = 12

Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class RaceRequest:
    """What `hubel compare` was asked for.

    Attributes
    ----------
    data: what `hubel fit` takes.
    models: names of candidates, `resnet18@img_size=64`; empty: a preset's.
    preset: "small" or "wide"; "" is small, where `models` is empty.
    tune: settings of the one network in `models` that are varied in place of the network.
    trials: how many variants `tune` tries, the network as it is among them; 0 is 12.
    budget_s: seconds of the whole race.
    num_seeds: trainings of each candidate.
    objective: what networks are compared by; "" is the task's own score.
    constraints: as `latency_ms<=5`.
    workers: processes that train at the same time.
    settings: of `FitConfig`, for all candidates.
    """

    data: str
    budget_s: float
    models: tuple[str, ...] = ()
    preset: str = ""
    tune: tuple[str, ...] = ()
    trials: int = 0
    num_seeds: int = 1
    objective: str = ""
    constraints: tuple[str, ...] = ()
    workers: int = 1
    settings: Mapping[str, Any] | None = None


def make_plan(request: RaceRequest, report: Report) -> Plan:
    """Who takes part and for how long.

    Raises `UserError` where nothing can be compared: unknown names, no candidate within the
    constraints (the nearest is named), a budget too short for any, too few validation samples.
    """
    started = time.monotonic()
    _check(request)
    constraints = [Constraint.parse(text) for text in request.constraints]
    source = open_source(request.data)
    shared = {**(request.settings or {}), "data": request.data}
    config, _ = settle_task(FitConfig.from_settings(shared), source)
    task = TASKS[config.task]
    shared["task"] = config.task
    seed = int(shared.pop("seed", 0))
    objective = request.objective or task.score
    if objective not in task.objectives:
        raise UserError(
            f"--objective '{objective}' is not what --task {task.name} is judged by; "
            f"{suggestion(objective, task.objectives)}"
        )
    candidates = _candidates(request, source.info.labels, shared, seed)
    entries = _priced(candidates, shared, source, task, constraints, report)
    in_race = {e.candidate.name: e.price.get("epoch_s") for e in entries if not e.struck}
    left_s = request.budget_s - (time.monotonic() - started)
    left_s = left_s * (1 - _AFTERWARDS) - _AFTERWARDS_S
    found = cut(in_race, request.num_seeds, max(left_s, 0.0), request.workers)
    if found is None:
        name = min(in_race, key=lambda n: in_race[n] or 0.0)
        need_s = time_needed(in_race[name]) * request.num_seeds
        raise UserError(
            f"--budget {request.budget_s:g}s is too short: after "
            f"{time.monotonic() - started:.0f} s of planning '{name}' alone, the quickest, needs "
            f"{need_s:.0f} s to see a quarter of the training samples; give "
            f"{1.2 * (request.budget_s - left_s + need_s):.0f}s or more"
        )
    entries = [
        entry
        if entry.struck or entry.candidate.name in found.kept
        else Entry(entry.candidate, entry.price, _too_slow(entry, found.rungs[0].seconds, in_race))
        for entry in entries
    ]
    left_out = len(in_race) - len(found.kept)
    if left_out:
        report(
            {
                "note": f"the budget has room for {len(found.kept)} of "
                f"{counted(len(in_race), 'candidate')}: the quickest by predicted cost, "
                f"{', '.join(found.kept)}"
            }
        )
    return Plan(
        shared,
        tuple(entries),
        found.rungs,
        request.num_seeds,
        objective,
        tuple(str(c) for c in constraints),
        request.budget_s,
        round(time.monotonic() - started, 3),
        seed,
    )


def _check(request: RaceRequest) -> None:
    if request.models and request.preset:
        raise UserError("--models and --preset both say who takes part; give one of them")
    if request.tune and len(request.models) != 1:
        raise UserError(
            f"--tune varies one network: name it by --models, got {len(request.models) or 'none'}"
        )
    if request.trials and not request.tune:
        raise UserError("--trials counts the variants of --tune; give both, or leave it out")
    for option, value in (("--seeds", request.num_seeds), ("--workers", request.workers)):
        if value < 1:
            raise UserError(f"{option} must be at least 1, got {value}")


def _candidates(
    request: RaceRequest, labels: str, shared: Mapping[str, Any], seed: int
) -> list[Candidate]:
    if not request.models:
        return preset(request.preset or "small", labels)
    named = from_names(request.models)
    if not request.tune:
        return named
    config = FitConfig.from_settings({**shared, **named[0].settings})
    starts = {
        "lr": config.lr or usual_rate(config.optimizer) * TASKS[config.task].rate,
        "weight_decay": config.weight_decay or usual_decay(config.optimizer) or 1e-3,
    }
    return tuned(named[0], request.tune, request.trials or _TUNED_TRIALS, starts, seed)


def _priced(
    candidates: Sequence[Candidate],
    shared: Mapping[str, Any],
    source: Source,
    task: Task,
    constraints: Sequence[Constraint],
    report: Report,
) -> list[Entry]:
    """All, with their price, struck out where they cannot be built or are beyond a limit."""
    entries: list[Entry] = []
    prices: dict[str, Price] = {}
    looked: dict[Any, DataFacts] = {}
    for number, candidate in enumerate(candidates):
        report({"stage": "prices", "count": number, "total": len(candidates)})
        config = FitConfig.from_settings({**shared, **candidate.settings})
        try:
            if config.img_size not in looked:
                looked[config.img_size] = _facts(config, source)
            found = price(config, looked[config.img_size], task)
        except UserError as error:
            if not looked:
                raise  # the data's own fault, which all share
            entries.append(Entry(candidate, {}, f"cannot be trained on these data: {error}"))
            continue
        prices[candidate.name] = found
        broken = [c for c in constraints if c.excess(found) > 1]
        reason = "; ".join(f"{c.figure} is {_shown(found, c)}, asked for {c}" for c in broken)
        entries.append(Entry(candidate, found.to_json(), reason))
    if not prices:
        raise UserError(f"no candidate can be trained on these data: {entries[0].struck}")
    if all(entry.struck for entry in entries):
        name, factor = nearest(prices, constraints)
        raise UserError(
            f"no candidate meets {' and '.join(map(str, constraints))}: the nearest is '{name}', "
            f"by a factor of {factor:.2g} beyond; relax it, or name smaller networks by --models"
        )
    return entries


def _shown(found: Price, constraint: Constraint) -> str:
    return f"{float(getattr(found, constraint.figure)):.4g}"


def _facts(config: FitConfig, source: Source) -> DataFacts:
    """Of poses only the shape: what a fit on them takes is not predicted."""
    if source.poses is not None:
        info = source.info
        assert info.size is not None  # noqa: S101 — of a grid
        assert info.in_channels is not None  # noqa: S101
        return DataFacts(0, 0, info.classes, info.in_channels, info.size, "float32", False, 0.0)
    facts = facts_of(config)
    if facts.num_val < _LEAST_VALIDATION:
        raise UserError(
            f"DATA '{config.data}' has {counted(facts.num_val, 'validation sample')}: networks "
            f"cannot be told apart by fewer than {_LEAST_VALIDATION}; give more data, or a larger "
            f"--val-fraction"
        )
    return facts


def _too_slow(entry: Entry, first_s: float, epochs_s: Mapping[str, float | None]) -> str:
    epoch_s = epochs_s[entry.candidate.name] or 0.0
    return (
        f"too slow for this budget: a pass over the training samples is predicted to take "
        f"{epoch_s:.0f} s, the first rung lasts {first_s:.0f} s"
    )
