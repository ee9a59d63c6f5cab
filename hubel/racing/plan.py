"""A race as it was asked for, and as it was planned: all that its workers need to know."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hubel.config import FitConfig
from hubel.errors import UserError
from hubel.racing.candidates import Candidate
from hubel.racing.rungs import Rung
from hubel.runs import write_atomic

__all__ = ["Entry", "Plan", "read_plan", "write_plan"]

_NAME = "race.json"


@dataclass(frozen=True)
class Entry:
    """One candidate of a race.

    Attributes
    ----------
    candidate: its name and settings.
    price: the figures of `prices.Price` by name; empty where it could not be priced.
    struck: why it does not take part, "" where it does.
    """

    candidate: Candidate
    price: Mapping[str, Any]
    struck: str = ""


@dataclass(frozen=True)
class Plan:
    """A race; race.json of its folder.

    Attributes
    ----------
    shared: the settings of `FitConfig` that all candidates have, data and task among them.
    entries: all that were named, those that were struck out too.
    rungs: of those that take part.
    num_seeds: trainings of each candidate, of seeds from `seed` on.
    objective: the key of the task's metrics by which networks are compared.
    constraints: as they were written.
    budget_s: of the whole race.
    planning_s: that the plan itself took.
    """

    shared: Mapping[str, Any]
    entries: tuple[Entry, ...]
    rungs: tuple[Rung, ...]
    num_seeds: int
    objective: str
    constraints: tuple[str, ...]
    budget_s: float
    planning_s: float
    seed: int = 0

    @property
    def names(self) -> list[str]:
        """Of the candidates that take part."""
        return [entry.candidate.name for entry in self.entries if not entry.struck]

    def entry(self, name: str) -> Entry:
        """The candidate of that name."""
        return next(entry for entry in self.entries if entry.candidate.name == name)

    def settings(self, name: str, seed: int) -> dict[str, Any]:
        """Of the fit of candidate `name` with its `seed`-th seed."""
        own = self.entry(name).candidate.settings
        return {"split_seed": self.seed, **self.shared, **own, "seed": self.seed + seed}

    def config(self, name: str, seed: int, seconds: float) -> FitConfig:
        """The same, for a training of so many seconds."""
        return FitConfig.from_settings({**self.settings(name, seed), "budget": f"{seconds:.3f}"})

    def score(self, metrics: Mapping[str, Any]) -> float:
        """The objective, higher is better."""
        value = float(metrics[self.objective])
        return -value if self.objective == "loss" else value

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "shared": dict(self.shared),
            "entries": [
                {
                    "name": entry.candidate.name,
                    "settings": entry.candidate.settings,
                    "price": dict(entry.price),
                    "struck": entry.struck,
                }
                for entry in self.entries
            ],
            "rungs": [rung.to_json() for rung in self.rungs],
            "num_seeds": self.num_seeds,
            "objective": self.objective,
            "constraints": list(self.constraints),
            "budget_s": self.budget_s,
            "planning_s": self.planning_s,
            "seed": self.seed,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Plan":
        """What `to_json` gave."""
        entries: Sequence[Mapping[str, Any]] = content["entries"]
        return cls(
            content["shared"],
            tuple(
                Entry(Candidate(e["name"], e["settings"]), e["price"], e["struck"]) for e in entries
            ),
            tuple(Rung(**rung) for rung in content["rungs"]),
            content["num_seeds"],
            content["objective"],
            tuple(content["constraints"]),
            content["budget_s"],
            content["planning_s"],
            content["seed"],
        )


def write_plan(folder: Path, plan: Plan) -> None:
    """As race.json of `folder`: with it the folder is a race that can be gone on with."""
    text = json.dumps(plan.to_json(), indent=1, ensure_ascii=False, allow_nan=False)
    write_atomic(folder / _NAME, text + "\n")


def read_plan(folder: Path) -> Plan:
    """Of the race in `folder`. Raises `UserError` where there is none."""
    path = folder / _NAME
    if not path.is_file():
        what = "is no race: there is no race.json in it" if folder.exists() else "does not exist"
        raise UserError(f"--resume '{folder}' {what}; give the folder that hubel compare wrote")
    try:
        return Plan.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"'{path}' cannot be read: {error}; restore it from a copy") from None
