"""What a race says: which network, how sure that is, and what it costs."""

import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hubel.config import FitConfig
from hubel.errors import UserError
from hubel.inference import Validation
from hubel.racing.plan import Plan
from hubel.racing.redraws import Scores, redrawn, seed_spread, with_seeds
from hubel.racing.rungs import Job, Outcome, alive, ranking, scores_of

__all__ = ["Answer", "Standing", "answer", "command"]

_LEVEL = 0.95
_CHEAPER = 1.25  # a price below another's by less than this is no reason to take a lower score
_PRICES = ("latency_ms", "params")  # the first that is known decides what is cheaper

Metrics = Callable[[torch.Tensor, torch.Tensor], Mapping[str, Any]]


@dataclass(frozen=True)
class Standing:
    """Where a candidate came to.

    Attributes
    ----------
    rung: the last in which it has a score, from 0; None where it has none.
    scores: by seed, at the end of that rung.
    interval: in which 95 % of the redraws of samples and seeds lie.
    best_share: of the redraws, in which the race ends with it.
    reason: why it went no further.
    """

    name: str
    rung: int | None
    scores: Mapping[int, float]
    interval: tuple[float, float] | None
    best_share: float
    reason: str
    price: Mapping[str, Any]

    @property
    def score(self) -> float | None:
        """The mean over the seeds."""
        return float(np.mean(list(self.scores.values()))) if self.scores else None

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "name": self.name,
            "rung": self.rung,
            "score": self.score,
            "scores": {str(seed): score for seed, score in self.scores.items()},
            "interval": None if self.interval is None else list(self.interval),
            "best_share": self.best_share,
            "reason": self.reason,
            "price": dict(self.price),
        }


@dataclass(frozen=True)
class Answer:
    """Of a race that is over.

    Attributes
    ----------
    choice: the network to take.
    first: the one with the highest score; `choice`, unless a cheaper one cannot be told from it.
    standings: all candidates, the best first, those that were struck out at the end.
    alike: those that cannot be told from `first` on these data, with the share of redraws in
        which they are behind it.
    num_redraws: that the shares are of.
    spread: between trainings that differ in their seed; None where there was one seed.
    command: that trains the choice in full.
    """

    choice: str
    first: str
    standings: tuple[Standing, ...]
    alike: Mapping[str, float]
    num_redraws: int
    spread: float | None
    command: str

    def standing(self, name: str) -> Standing:
        """That of the candidate of this name."""
        return next(one for one in self.standings if one.name == name)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "choice": self.choice,
            "first": self.first,
            "standings": [one.to_json() for one in self.standings],
            "alike": dict(self.alike),
            "num_redraws": self.num_redraws,
            "spread_of_seeds": self.spread,
            "command": self.command,
        }


def answer(
    plan: Plan,
    outcomes: Mapping[Job, Outcome],
    validation_of: Callable[[Job], Validation],
    metrics: Metrics,
) -> Answer:
    """The answer of a race in which nothing is due any more.

    `validation_of` gives what a job's network said of the validation split. Raises `UserError`
    where no trial has a score.
    """
    running = alive(plan.rungs, plan.names, plan.num_seeds, outcomes)
    last = len(running) - 1
    ranked = ranking(last, running[last], plan.num_seeds, outcomes)
    while not ranked and last > 0:  # all of the last rung failed: the one before decides
        last -= 1
        ranked = ranking(last, running[last], plan.num_seeds, outcomes)
    if not ranked:
        reasons = [outcome.reason for outcome in outcomes.values() if outcome.reason]
        raise UserError(
            f"every training of this race failed: {reasons[0] if reasons else 'none was begun'}"
        )
    drawn, spreads = [], []
    for rung in range(last + 1):
        names = ranking(rung, running[rung], plan.num_seeds, outcomes)
        scores = {n: scores_of(rung, n, plan.num_seeds, outcomes) for n in names}
        spreads.append(seed_spread({n: list(s.values()) for n, s in scores.items()}))
        said = {
            (n, seed): validation_of(Job(rung, n, seed)) for n, s in scores.items() for seed in s
        }
        found = redrawn(said, plan.score, metrics, plan.seed)
        drawn.append(
            with_seeds(found, {n: len(s) for n, s in scores.items()}, spreads[-1], plan.seed + rung)
        )
    shares = _best_shares(drawn, [rung.candidates for rung in plan.rungs[: last + 1]])
    first = ranked[0]
    alike = {
        name: share
        for name in ranked[1:]
        if (share := _behind(drawn[last][first], drawn[last][name])) < _LEVEL
    }
    choice = _cheapest(first, alike, plan)
    standings = [
        _standing(plan, outcomes, name, running, drawn, shares)
        for name in _in_order(plan, running, outcomes)
    ]
    return Answer(
        choice,
        first,
        (*standings, *_struck(plan)),
        alike,
        min(len(values) for values in drawn[last].values()),
        spreads[last],
        command(plan, choice),
    )


def _best_shares(drawn: Sequence[Scores], kept: Sequence[int]) -> dict[str, float]:
    """By candidate the share of redraws in which it survives every rung and comes first at last.

    One that fell in the race is not asked what it would have become; equals share a first place.
    """
    num_draws = min(len(values) for scores in drawn for values in scores.values())
    wins: dict[str, float] = {}
    for number in range(num_draws):
        still: set[str] = set(drawn[0])
        values: dict[str, float] = {}
        for rung, scores in enumerate(drawn):
            values = {n: float(scores[n][number]) for n in scores if n in still}
            values = {n: -math.inf if math.isnan(v) else v for n, v in values.items()}
            order = sorted(values, key=lambda n: -values[n])
            following = kept[rung + 1] if rung + 1 < len(kept) else 1
            still = set(order[:following])
        firsts = [name for name, value in values.items() if value == max(values.values())]
        for name in firsts:
            wins[name] = wins.get(name, 0.0) + 1 / len(firsts)
    return {name: count / num_draws for name, count in wins.items()}


def _behind(first: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """The share of redraws in which `other` is below `first`; equal ones count half."""
    n = min(len(first), len(other))
    difference = first[:n] - other[:n]
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())


def _cheapest(first: str, alike: Mapping[str, float], plan: Plan) -> str:
    """`first`, or the one that cannot be told from it and is the cheapest by more than a little."""
    for figure in _PRICES:
        prices = {name: plan.entry(name).price.get(figure) for name in (first, *alike)}
        if all(prices.values()):
            known = {name: float(value) for name, value in prices.items() if value}
            cheapest = min(known, key=lambda name: known[name])
            return cheapest if known[first] >= _CHEAPER * known[cheapest] else first
    return first


def _in_order(
    plan: Plan, running: Sequence[Sequence[str]], outcomes: Mapping[Job, Outcome]
) -> list[str]:
    """Those that ran: by the last rung that they have a score in, then by that score."""
    found: list[str] = []
    for rung in range(len(running) - 1, -1, -1):
        ranked = ranking(rung, running[rung], plan.num_seeds, outcomes)
        found += [name for name in ranked if name not in found]
    return found + [name for name in plan.names if name not in found]


def _standing(
    plan: Plan,
    outcomes: Mapping[Job, Outcome],
    name: str,
    running: Sequence[Sequence[str]],
    drawn: Sequence[Scores],
    shares: Mapping[str, float],
) -> Standing:
    scored = [r for r in range(len(drawn)) if name in drawn[r]]
    failed = [o.reason for j, o in sorted(outcomes.items()) if j.candidate == name and o.reason]
    if not scored:
        price = plan.entry(name).price
        return Standing(name, None, {}, None, 0.0, f"failed: {failed[0]}", price)
    rung = scored[-1]
    values = drawn[rung][name]
    values = values[~np.isnan(values)]
    low, high = np.quantile(values, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2]) if len(values) else (0, 0)
    reason = ""
    if rung + 1 < len(running) and name not in running[rung + 1]:
        place = ranking(rung, running[rung], plan.num_seeds, outcomes).index(name) + 1
        reason = (
            f"place {place} of {len(running[rung])} after {plan.rungs[rung].seconds:.0f} s, "
            f"{plan.rungs[rung + 1].candidates} went on"
        )
    if failed:
        reason = "; ".join([*([reason] if reason else []), f"a training failed: {failed[0]}"])
    scores = scores_of(rung, name, plan.num_seeds, outcomes)
    return Standing(
        name,
        rung,
        scores,
        (float(low), float(high)),
        shares.get(name, 0.0),
        reason,
        plan.entry(name).price,
    )


def _struck(plan: Plan) -> list[Standing]:
    return [
        Standing(entry.candidate.name, None, {}, None, 0.0, entry.struck, entry.price)
        for entry in plan.entries
        if entry.struck
    ]


def command(plan: Plan, name: str) -> str:
    """The command that trains candidate `name` for as long as the whole race took."""
    config = FitConfig.from_settings(plan.settings(name, 0))
    words = ["hubel", "fit", str(plan.shared["data"])]
    for setting, value in {**plan.shared, **plan.entry(name).candidate.settings}.items():
        if setting in ("data", "task") or value == getattr(FitConfig(), setting, None):
            continue
        option = "--" + setting.replace("_", "-")
        shown = getattr(config, setting)
        if isinstance(shown, bool):
            words.append(option if shown else option.replace("--", "--no-", 1))
        elif isinstance(shown, tuple):
            words += [option, "x".join(map(str, shown))]
        else:
            words += [option, str(shown)]
    return shlex.join([*words, "--budget", f"{plan.budget_s:g}s"])
