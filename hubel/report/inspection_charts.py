"""The charts of an inspection: how many samples the classes have, and how large they are."""

from typing import Any

import altair as alt

from hubel.data.inspection import Inspection, SizeFacts
from hubel.data.source import SPLITS
from hubel.report.figures import WIDE, Figure, figure, inline

__all__ = ["MAX_CHART_CLASSES", "class_balance", "size_scatter"]

MAX_CHART_CLASSES = 100
"""Of more classes the largest and the smallest are drawn, half each."""
IN_ORDER = 30
"""Up to this many classes keep their order; more are sorted by size."""
MAX_SIZES = 1500
LABEL_LIMIT = 160
LOG_FROM = 12.0
"""Sides that differ by more than this factor are drawn on logarithmic axes."""


def class_balance(inspection: Inspection) -> Figure:
    """Samples of each class, one bar a class, its splits side by side in it."""
    counts = inspection.counts
    shown = list(range(len(inspection.classes)))
    if len(shown) > IN_ORDER:
        shown.sort(key=lambda k: -int(counts[0, k]))
    if len(shown) > MAX_CHART_CLASSES:
        half = MAX_CHART_CLASSES // 2
        shown = shown[:half] + shown[-half:]
    splits = [row for row in range(len(SPLITS)) if counts[row].sum()]
    values = [
        {"i": place, "n": int(counts[row, k]), "split": SPLITS[row], "order": row}
        for place, k in enumerate(shown)
        for row in splits
    ]
    names = alt.param(name="names", value=[inspection.classes[k] for k in shown])
    chart = (
        alt.Chart(inline(values))
        .transform_calculate(name="names[datum.i]")
        .mark_bar(cornerRadiusEnd=2)
        .encode(
            y=alt.Y(
                "i:O",
                scale=alt.Scale(domain=list(range(len(shown))), paddingInner=0.25),
                axis=alt.Axis(
                    title=None,
                    labelExpr="names[datum.value]",
                    labelLimit=LABEL_LIMIT,
                    ticks=False,
                    domain=False,
                    labelOverlap=False,
                ),
            ),
            x=alt.X(
                "n:Q",
                stack="zero",
                axis=alt.Axis(title=f"{inspection.noun}s", format="~s", tickCount=6, grid=True),
            ),
            color=alt.Color(
                "split:N",
                scale=alt.Scale(domain=[SPLITS[row] for row in splits], range="category"),
                legend=alt.Legend(title=None, orient="top") if len(splits) > 1 else None,
            ),
            order="order:O",
            tooltip=[
                alt.Tooltip("name:N", title="class"),
                alt.Tooltip("split:N"),
                alt.Tooltip("n:Q", title=f"{inspection.noun}s", format=","),
            ],
        )
        .properties(width=WIDE, height=90 + (22 if len(shown) <= IN_ORDER else 14) * len(shown))
        .add_params(names)
    )
    return figure(chart, "classes", text=f"{inspection.noun.capitalize()}s of each class by split.")


def size_scatter(sizes: SizeFacts) -> Figure:
    """Width against height of every size that occurs; larger points are more frequent."""
    values = [
        {"h": size[-2], "w": size[-1], "n": count, "size": "×".join(map(str, size))}
        for size, count in zip(
            sizes.sizes[:MAX_SIZES].tolist(), sizes.counts[:MAX_SIZES].tolist(), strict=True
        )
    ]
    most = max(v["n"] for v in values)
    sides = [v[axis] for v in values for axis in "hw"] + [*sizes.stored[-2:]]
    low, high = min(sides), max(sides)
    kind = "log" if high > LOG_FROM * low else "linear"
    domain = [low / 1.15, high * 1.15] if kind == "log" else [0, 1.05 * high]
    scale = alt.Scale(type=kind, domain=domain, nice=False)  # type: ignore[arg-type]

    def axis(title: str) -> Any:
        return alt.Axis(title=title, format=",d", tickCount=6)

    x = alt.X("w:Q", scale=scale, axis=axis("width (pixels)"))
    y = alt.Y("h:Q", scale=scale, axis=axis("height (pixels)"))
    square = (
        alt.Chart(inline([{"w": domain[0], "h": domain[0]}, {"w": domain[1], "h": domain[1]}]))
        .mark_line(strokeDash=[4, 4], strokeWidth=1, color=alt.expr("muted"))
        .encode(x=x, y=y)
    )
    points = (
        alt.Chart(inline(values))
        .mark_circle(opacity=0.55, color=alt.expr("accent"))
        .encode(
            x=x,
            y=y,
            size=alt.Size(
                "n:Q",
                scale=alt.Scale(type="sqrt", domain=[1, max(30, most)], range=[24, 420]),
                legend=None,
            ),
            tooltip=[
                alt.Tooltip("size:N"),
                alt.Tooltip("n:Q", title="number", format=","),
            ],
        )
    )
    stored = (
        alt.Chart(inline([{"w": sizes.stored[-1], "h": sizes.stored[-2]}]))
        .mark_point(shape="cross", size=160, strokeWidth=2.5, filled=True, opacity=1)
        .encode(x=x, y=y, color=alt.value(alt.expr("second")))
    )
    chart = alt.layer(square, points, stored).properties(width=460, height=420)
    return figure(chart, "sizes", text="Width against height, and the stored size as a cross.")
