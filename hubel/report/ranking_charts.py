"""The chart of a scorer of poses: how many good ones for how many bad ones."""

from collections.abc import Sequence

import altair as alt

from hubel.evaluate.ranking import ScorerFigures
from hubel.report.figures import WIDE, Figure, figure, inline

__all__ = ["roc_curves"]


def roc_curves(scorers: Sequence[ScorerFigures]) -> Figure:
    """One line a scorer: the share of good poses above a score over that of bad ones."""
    values = [
        {"false": false, "true": true, "scorer": s.scorer} for s in scorers for false, true in s.roc
    ]
    unit = alt.Scale(domain=[0, 1], nice=False)
    x = alt.X("false:Q", scale=unit, axis=alt.Axis(title="bad poses taken", format=".0%"))
    y = alt.Y("true:Q", scale=unit, axis=alt.Axis(title="good poses taken", format=".0%"))
    chance = (
        alt.Chart(inline([{"false": 0, "true": 0}, {"false": 1, "true": 1}]))
        .mark_line(strokeDash=[4, 4], strokeWidth=1, color=alt.expr("muted"))
        .encode(x=x, y=y)
    )
    lines = (
        alt.Chart(inline(values))
        .mark_line(strokeWidth=2)
        .encode(
            x=x,
            y=y,
            order="true:Q",
            color=alt.Color(
                "scorer:N",
                scale=alt.Scale(domain=[s.scorer for s in scorers], range="category"),
                legend=alt.Legend(
                    title=None, orient="top", symbolType="stroke", symbolStrokeWidth=3
                ),
            ),
            tooltip=[
                alt.Tooltip("scorer:N"),
                alt.Tooltip("false:Q", title="bad taken", format=".1%"),
                alt.Tooltip("true:Q", title="good taken", format=".1%"),
            ],
        )
    )
    chart = alt.layer(chance, lines).properties(width=450, height=340)
    text = "Share of good poses above each score over that of bad ones, by scorer."
    return figure(chart, "roc", text=text, max_width=WIDE)
