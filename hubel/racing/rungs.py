"""How the time of a race is cut: successive halving, with rungs made of time.

Jamieson and Talwalkar 2016, "Non-stochastic best arm identification and hyperparameter
optimization" (AISTATS, arXiv 1502.07943): all candidates get a short training, a third of them goes
on to three times as long, and so on. Here a rung is so many seconds of training, not so many
epochs, so a slow network pays for its slowness; and a training goes on from rung to rung instead
of beginning anew.

Every trial of a rung takes equally long, so to wait for the last one costs little, and who goes on
is decided once all are there: the outcome does not depend on who was first.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    "REDUCTION",
    "Cut",
    "Job",
    "Outcome",
    "Rung",
    "alive",
    "cut",
    "due",
    "in_rungs",
    "ranking",
    "scores_of",
    "survivors",
    "time_needed",
]

REDUCTION = 3
"""One of so many goes on. Li et al. 2018 (Hyperband, arXiv 1603.06560), section 2.6: 3 or 4."""

_FINALISTS = 2
"""Who comes first is told by comparing, so at least two see the last rung."""


_SET_UP_S = 1.0  # of a trial: data, network, first steps
_LEAST_PASS = 0.25  # of the training split, in the first rung


@dataclass(frozen=True)
class Rung:
    """A stage of the race.

    Attributes
    ----------
    seconds: that a trial has trained by its end, since the trial's own beginning.
    candidates: that take part.
    """

    seconds: float
    candidates: int

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"seconds": self.seconds, "candidates": self.candidates}


@dataclass(frozen=True, order=True)
class Job:
    """One trial's way through one rung: what a worker does at a time."""

    rung: int
    candidate: str
    seed: int

    @property
    def trial(self) -> str:
        """The name of its run's folder."""
        return f"{self.candidate}-s{self.seed}"

    @property
    def key(self) -> str:
        """A name of its own, fit for a file."""
        return f"r{self.rung}-{self.trial}"


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes
    ----------
    score: the objective on the validation split, higher is better; None where it failed.
    reason: why it failed, in a sentence; "" where it did not.
    facts: what else is known of it: metrics, epochs, samples seen, seconds, device.
    """

    score: float | None
    reason: str = ""
    facts: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"score": self.score, "reason": self.reason, "facts": self.facts or {}}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Outcome":
        """What `to_json` gave."""
        return cls(content["score"], content["reason"], content["facts"])


def survivors(num_candidates: int, num_rungs: int) -> list[int]:
    """How many candidates each rung has: a third of those before, but two at least.

    >>> survivors(9, 3), survivors(8, 2), survivors(1, 3)
    ([9, 3, 2], [8, 3], [1])
    """
    counts = [num_candidates]
    while len(counts) < num_rungs and counts[-1] > _FINALISTS:
        counts.append(max(_FINALISTS, math.ceil(counts[-1] / REDUCTION)))
    return counts


def in_rungs(
    num_candidates: int, num_seeds: int, seconds: float, workers: int, num_rungs: int
) -> tuple[Rung, ...]:
    """Rungs of `num_candidates`, each with `num_seeds` trainings, that `workers` get through in
    `seconds`; each trial trains three times as long by the end of a rung as by that of the one
    before.

    >>> [(round(rung.seconds), rung.candidates) for rung in in_rungs(8, 1, 260, 1, 3)]
    [(10, 8), (30, 3), (90, 2)]
    """
    counts = survivors(num_candidates, num_rungs)
    # In units of the first rung's time: what a round of all trials of each rung takes.
    lengths = [1.0, *(REDUCTION**i - REDUCTION ** (i - 1) for i in range(1, len(counts)))]
    rounds = [math.ceil(count * num_seeds / workers) for count in counts]
    first = seconds / sum(n * length for n, length in zip(rounds, lengths, strict=True))
    return tuple(Rung(first * REDUCTION**i, count) for i, count in enumerate(counts))


def alive(
    rungs: Sequence[Rung],
    candidates: Sequence[str],
    seeds: int,
    outcomes: Mapping[Job, Outcome],
) -> list[list[str]]:
    """Who takes part in each rung that has begun, the best of the rung before first; the first
    rung's are in the order of `candidates`, by which ties are broken.
    """
    running = [list(candidates)]
    while len(running) < len(rungs):
        number = len(running) - 1
        if any(job not in outcomes for job in _jobs(number, running[-1], seeds, outcomes)):
            break
        ranked = ranking(number, running[-1], seeds, outcomes)
        if not ranked:
            break
        running.append(ranked[: rungs[number + 1].candidates])
    return running


def ranking(
    rung: int, candidates: Sequence[str], seeds: int, outcomes: Mapping[Job, Outcome]
) -> list[str]:
    """`candidates` by their mean score over the seeds at the end of `rung`, the best first;
    without those that have none.
    """
    means = {}
    for name in candidates:
        scores = scores_of(rung, name, seeds, outcomes)
        if scores:
            means[name] = sum(scores.values()) / len(scores)
    return sorted(means, key=lambda name: -means[name])


def scores_of(
    rung: int, candidate: str, seeds: int, outcomes: Mapping[Job, Outcome]
) -> dict[int, float]:
    """By seed the score of each of a candidate's trials at the end of `rung` that has one."""
    jobs = [Job(rung, candidate, seed) for seed in range(seeds)]
    found = {job.seed: outcomes[job].score for job in jobs if job in outcomes}
    return {seed: score for seed, score in found.items() if score is not None}


def due(
    rungs: Sequence[Rung],
    candidates: Sequence[str],
    seeds: int,
    outcomes: Mapping[Job, Outcome],
) -> list[Job]:
    """The jobs of the running rung that have no outcome, in the order in which they are made:
    the first seed of all candidates before the second. Empty once the race is over.

    A trial that failed in a rung does not go on to the next, its candidate's others do.
    """
    running = alive(rungs, candidates, seeds, outcomes)
    jobs = _jobs(len(running) - 1, running[-1], seeds, outcomes)
    return [job for job in jobs if job not in outcomes]


def _jobs(
    rung: int, candidates: Sequence[str], seeds: int, outcomes: Mapping[Job, Outcome]
) -> list[Job]:
    """All of a rung, without those of trials that failed on the way to it."""
    failed = {(job.candidate, job.seed) for job, o in outcomes.items() if o.score is None}
    return [
        Job(rung, name, seed)
        for seed in range(seeds)
        for name in candidates
        if (name, seed) not in failed or Job(rung, name, seed) in outcomes
    ]


@dataclass(frozen=True)
class Cut:
    """How a budget is cut.

    Attributes
    ----------
    rungs: of those that take part.
    kept: their names, in the order given.
    needed_s: the time of a first rung in which each of them can show something.
    """

    rungs: tuple[Rung, ...]
    kept: tuple[str, ...]
    needed_s: float


def cut(
    epochs_s: Mapping[str, float | None], num_seeds: int, seconds: float, workers: int
) -> Cut | None:
    """The largest field, of the candidates with the shortest epochs, that `seconds` has room for,
    in as many rungs as it can have; None where there is no room for any.

    Parameters
    ----------
    epochs_s: predicted seconds of a pass over the training split by candidate; None where nothing
        is predicted.

    There is room where the first rung is long enough for a second of setting up and a quarter of
    the slowest one's pass: with less, chance decides.
    """
    by_time = sorted(epochs_s, key=lambda name: epochs_s[name] or 0.0)
    for number in range(len(by_time), 0, -1):
        taken = set(by_time[:number])
        needed_s = time_needed(epochs_s[by_time[number - 1]])
        most = 1 + math.ceil(math.log(max(number / _FINALISTS, 1), REDUCTION))
        for num_rungs in range(most, 0, -1):
            rungs = in_rungs(number, num_seeds, seconds, workers, num_rungs)
            if rungs[0].seconds >= needed_s:
                kept = tuple(name for name in epochs_s if name in taken)
                return Cut(rungs, kept, needed_s)
    return None


def time_needed(epoch_s: float | None) -> float:
    """That a first rung must last for a network whose pass takes `epoch_s`."""
    return _SET_UP_S + _LEAST_PASS * (epoch_s or 0.0)
