"""A finished race as one document, for --json, the terminal and the page, and its sentences."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hubel.racing.answer import Answer, Standing
from hubel.racing.plan import Plan
from hubel.racing.race import Race
from hubel.report.race import write_race_page

__all__ = ["Compared", "compared", "sentences"]


@dataclass(frozen=True)
class Compared:
    """What a race found, and where it lies.

    `document` is what `to_json` gives: {race, report, choice, …}.
    """

    folder: Path
    answer: Answer
    document: dict[str, Any]

    @property
    def report(self) -> Path:
        """The page."""
        return self.folder / "report.html"

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return self.document


def compared(race: Race, found: Answer, test: Mapping[str, Any] | None, seconds: float) -> Compared:
    """The document of a race and its page. `test` is the evaluation of the choice, if it has one;
    `seconds` what this call took."""
    document = {
        "race": str(race.folder),
        "report": str(race.folder / "report.html"),
        **found.to_json(),
        "sentences": sentences(race.plan, found),
        "plan": race.plan.to_json(),
        "test": None if test is None else {"n": test["n"], "metrics": test["metrics"]},
        "run": str(race.best_run(found.choice).path),
        "curves": race.logs(),
        "seconds": round(seconds, 3),
    }
    write_race_page(race.folder / "report.html", document)
    return Compared(race.folder, found, document)


def sentences(plan: Plan, found: Answer) -> list[str]:
    """What a person should know of the answer, the most important first."""
    first = found.standing(found.first)
    said = [_choice(plan, found, first)]
    if found.alike:
        said.append(_alike(plan, found, first))
    said.append(
        f"In {first.best_share:.0%} of {found.num_redraws} redraws of the validation samples"
        + (" and of what chance does in a training" if found.spread is not None else "")
        + f" the race ends with {found.first}"
    )
    if found.spread is None:
        said.append(
            "Each network was trained once: how much chance there is in a training is not known "
            "(--seeds 2 tells)"
        )
    else:
        said.append(
            f"Trainings of one network that differ in their seed differ by {found.spread:.4f} "
            f"(standard deviation)"
        )
    return said


def _choice(plan: Plan, found: Answer, first: Standing) -> str:
    assert first.rung is not None  # noqa: S101 — it came first
    assert first.score is not None  # noqa: S101
    assert first.interval is not None  # noqa: S101
    low, high = first.interval
    after = f"after {plan.rungs[first.rung].seconds:.0f} s of training"
    figure = f"{plan.objective} {abs(first.score):.4f} ({abs(low):.4f}–{abs(high):.4f})"
    if found.choice == found.first:
        return f"Take {found.choice}: {figure} on the validation split {after}"
    return f"Take {found.choice}; the highest score is that of {found.first}, {figure} {after}"


def _alike(plan: Plan, found: Answer, first: Standing) -> str:
    names = ", ".join(found.alike)
    words = f"What cannot be told apart on these data: {found.first} and {names}"
    if found.choice == found.first:
        return words
    for figure, what in (("latency_ms", "faster"), ("params", "smaller")):
        mine, other = plan.entry(found.choice).price, plan.entry(found.first).price
        if mine.get(figure) and other.get(figure):
            factor = float(other[figure]) / float(mine[figure])
            if factor > 1:
                return f"{words}. {found.choice} is {factor:.1f}× {what} than {found.first}"
    return words
