"""The charts of a race: what each network reached at what price, and how it came there."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from hubel.report.figures import WIDE, Figure, figure, inline

__all__ = ["front", "front_of", "price_and_score", "race_curves"]

_FIGURES = {
    "latency_ms": "milliseconds for one sample",
    "params": "parameters",
    "epoch_s": "predicted seconds of a pass over the training samples",
    "training_mb": "MB that a training step keeps, with weights and optimizer",
}

Row = Mapping[str, Any]


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Which of (price, score) no other is both cheaper and better than, the cheapest first.

    >>> front([(1.0, 0.5), (2.0, 0.4), (3.0, 0.9)])
    [0, 2]
    """
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1]))
    found: list[int] = []
    for i in order:
        if not found or points[i][1] > points[found[-1]][1]:
            found.append(i)
    return found


def front_of(standings: Sequence[Row], figure: str) -> list[str]:
    """The names on the front of scores over one figure of the price."""
    known = [s for s in standings if s["score"] is not None and s["price"].get(figure)]
    return [known[i]["name"] for i in front([(s["price"][figure], s["score"]) for s in known])]


def price_and_score(standings: Sequence[Row], objective: str, choice: str) -> list[Figure]:
    """One chart for each figure of the price that is known: scores with their intervals over it, a
    line through those that none beats in both.
    """
    found = []
    for key, title in _FIGURES.items():
        known = [s for s in standings if s["score"] is not None and s["price"].get(key)]
        if len(known) > 1:
            found.append(_one_front(known, key, title, objective, choice))
    return found


def _one_front(known: Sequence[Row], key: str, title: str, objective: str, choice: str) -> Figure:
    sign = -1.0 if objective == "loss" else 1.0
    best = front_of(known, key)
    values = [
        {
            "name": s["name"],
            "price": s["price"][key],
            "score": sign * s["score"],
            "low": sign * s["interval"][0],
            "high": sign * s["interval"][1],
            "rung": f"rung {s['rung'] + 1}",
            "kind": "the choice" if s["name"] == choice else "raced",
        }
        for s in known
    ]
    x = alt.X(
        "price:Q",
        scale=alt.Scale(type="log", nice=False, padding=24),
        axis=alt.Axis(title=title, format="~s" if key == "params" else ",~g", tickCount=6),
    )
    y = alt.Y(
        "score:Q",
        scale=alt.Scale(zero=False, nice=True),
        axis=alt.Axis(title=f"{objective} on the validation split"),
    )
    on_front = [v for v in values if v["name"] in best]
    line = (
        alt.Chart(inline(sorted(on_front, key=lambda v: v["price"])))
        .mark_line(interpolate="step-after", strokeDash=[4, 4], color=alt.expr("muted"))
        .encode(x=x, y=y)
    )
    bars = (
        alt.Chart(inline(values))
        .mark_rule(color=alt.expr("muted"))
        .encode(x=x, y=alt.Y("low:Q"), y2="high:Q")
    )
    points = (
        alt.Chart(inline(values))
        .mark_point(filled=True, size=90, opacity=1)
        .encode(
            x=x,
            y=y,
            color=alt.Color(
                "kind:N",
                scale=alt.Scale(domain=["raced", "the choice"], range="category"),
                legend=alt.Legend(title=None, orient="top"),
            ),
            shape=alt.Shape("rung:N", legend=alt.Legend(title=None, orient="top")),
            tooltip=[
                alt.Tooltip("name:N", title="network"),
                alt.Tooltip("score:Q", title=objective, format=".4f"),
                alt.Tooltip("low:Q", title="from", format=".4f"),
                alt.Tooltip("high:Q", title="to", format=".4f"),
                alt.Tooltip("price:Q", title=title, format=",.3~r"),
                alt.Tooltip("rung:N", title="came to"),
            ],
        )
    )
    words = (
        alt.Chart(inline(values))
        .mark_text(align="left", dx=8, dy=-8)
        .encode(x=x, y=y, text="name:N")
    )
    chart = alt.layer(line, bars, points, words).properties(width=560, height=340)
    text = f"{objective} of each network over {title}, with 95 % intervals; the dashed line is the "
    return figure(
        chart,
        f"front-{key.replace('_', '-')}",
        text=text + "front that no network beats in both.",
        max_width=WIDE,
    )


def race_curves(curves: Mapping[str, Sequence[Row]], score: str, choice: str) -> Figure | None:
    """The validation score of each trial over the seconds it had trained."""
    key = f"val_{score}"
    values = [
        {
            "trial": trial,
            "seconds": row["seconds"],
            "score": row[key],
            "kind": "the choice" if trial.rpartition("-s")[0] == choice else "others",
        }
        for trial, rows in curves.items()
        for row in rows
        if row.get(key) is not None
    ]
    if not values:
        return None
    lines = (
        alt.Chart(inline(values))
        .mark_line(point=alt.OverlayMarkDef(size=18))
        .encode(
            x=alt.X("seconds:Q", axis=alt.Axis(title="seconds of training", grid=False)),
            y=alt.Y("score:Q", scale=alt.Scale(zero=False), axis=alt.Axis(title=score)),
            detail="trial:N",
            color=alt.Color(
                "kind:N",
                scale=alt.Scale(domain=["others", "the choice"], range="category"),
                legend=alt.Legend(title=None, orient="top"),
            ),
            tooltip=[
                alt.Tooltip("trial:N"),
                alt.Tooltip("seconds:Q", format=".0f"),
                alt.Tooltip("score:Q", title=score, format=".4f"),
            ],
        )
        .properties(width=560, height=300)
    )
    text = f"Validation {score} of each training over the seconds that it had trained."
    return figure(lines, "race-curves", text=text, max_width=WIDE)
