"""The chart of a detector: precision over recall."""

import altair as alt

from hubel.evaluate.detection import DetectionEvaluation
from hubel.metrics.matching import RECALLS
from hubel.report.figures import WIDE, Figure, figure, inline

__all__ = ["MAX_CURVES", "precision_recall"]

MAX_CURVES = 10
"""More lines than this nobody tells apart: of the classes that have most boxes."""


def precision_recall(evaluation: DetectionEvaluation) -> Figure:
    """One line a class at IoU 0.5; marks carry numbers, names are looked up for the legend."""
    have = [c for c in evaluation.per_class if c.precision is not None]
    shown = sorted(have, key=lambda c: -c.n)[:MAX_CURVES]
    values = [
        {"recall": round(float(r), 2), "precision": p, "series": i}
        for i, c in enumerate(shown)
        for r, p in zip(RECALLS, c.precision or (), strict=True)
    ]
    color = alt.Color(
        "series:N",
        scale=alt.Scale(domain=list(range(len(shown))), range="category"),
        legend=alt.Legend(
            title=None, orient="top", labelExpr="names[datum.value]", labelLimit=130,
            symbolType="stroke", symbolStrokeWidth=3, columns=5,
        ),
    )  # fmt: skip
    chart = (
        alt.Chart(inline(values))
        .mark_line(strokeWidth=2)
        .encode(
            x=alt.X("recall:Q", scale=alt.Scale(domain=[0, 1]), title="recall"),
            y=alt.Y("precision:Q", scale=alt.Scale(domain=[0, 1]), title="precision"),
            color=color,
            tooltip=[
                alt.Tooltip("recall:Q", format=".2f"),
                alt.Tooltip("precision:Q", format=".3f"),
            ],
        )
        .add_params(alt.param(name="names", value=[c.name for c in shown]))
        .properties(width=450, height=300)
    )
    text = "Precision at each recall, by class, at an IoU of 0.5."
    return figure(chart, "precision_recall", text=text, max_width=WIDE)
