"""The charts of an inspection: how much of each class there is, and how large things are."""

from typing import Any

import altair as alt
import numpy as np

from hubel.data.inspection import Inspection, SizeFacts
from hubel.data.measure_boxes import BoxFacts
from hubel.data.sentences import plural_of
from hubel.data.source import SPLITS, Array
from hubel.report.figures import WIDE, Figure, figure, inline

__all__ = ["MAX_CHART_CLASSES", "box_charts", "class_balance", "size_scatter"]

MAX_CHART_CLASSES = 100
"""Of more classes the largest and the smallest are drawn, half each."""
IN_ORDER = 30
"""Up to this many classes keep their order; more are sorted by size."""
MAX_SIZES = 1500
LABEL_LIMIT = 160
MOST_BARS = 40
SIDE_BINS = 20
ASPECT_BINS = 24
MOST_ASPECT = 8.0
"""Boxes longer than this one way or the other are counted in the last bar."""
LOG_FROM = 12.0
"""Sides that differ by more than this factor are drawn on logarithmic axes."""


def class_balance(inspection: Inspection) -> Figure:
    """Samples or boxes of each class, one bar a class, its splits side by side in it.

    Of masks the share of each split's pixels, the splits below each other.
    """
    counts = inspection.counts
    masks = inspection.masks
    units = plural_of(inspection.unit)
    what = units if masks is None else f"share of the {units}"
    table = counts if masks is None else masks.shares()
    form = "~s" if masks is None else "~%"
    shown = list(range(len(inspection.classes)))
    if len(shown) > IN_ORDER:
        shown.sort(key=lambda k: -int(counts[0, k]))
    if len(shown) > MAX_CHART_CLASSES:
        half = MAX_CHART_CLASSES // 2
        shown = shown[:half] + shown[-half:]
    splits = [row for row in range(len(SPLITS)) if inspection.num_of_split[row]]
    values = [
        {"i": place, "n": table[row, k].item(), "split": SPLITS[row], "order": row}
        for place, k in enumerate(shown)
        for row in splits
    ]
    offset = alt.YOffset("split:N", sort=[SPLITS[row] for row in splits])
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
                stack="zero" if masks is None else None,
                axis=alt.Axis(title=what, format=form, tickCount=6, grid=True),
            ),
            color=alt.Color(
                "split:N",
                scale=alt.Scale(domain=[SPLITS[row] for row in splits], range="category"),
                legend=alt.Legend(title=None, orient="top") if len(splits) > 1 else None,
            ),
            **({"order": "order:O"} if masks is None else {"yOffset": offset}),
            tooltip=[
                alt.Tooltip("name:N", title="class"),
                alt.Tooltip("split:N"),
                alt.Tooltip("n:Q", title=what, format="," if masks is None else ".2%"),
            ],
        )
        .properties(width=WIDE, height=90 + (22 if len(shown) <= IN_ORDER else 14) * len(shown))
        .add_params(names)
    )
    return figure(chart, "classes", text=f"{what.capitalize()} of each class by split.")


def box_charts(boxes: BoxFacts) -> list[Figure]:
    """Boxes a picture, how large boxes are, and what shape they have."""
    numbers = boxes.per_picture
    width = -(-len(numbers) // MOST_BARS)
    edges = np.arange(0, len(numbers) + width, width)
    padded = np.zeros(len(edges) * width, np.int64)
    padded[: len(numbers)] = numbers
    pictures = padded.reshape(-1, width).sum(axis=1)[: len(edges) - 1]
    sides, side_edges = np.histogram(boxes.sides.clip(0, 1), SIDE_BINS, (0, 1))
    most = np.log2(MOST_ASPECT)
    logs = np.log2(boxes.ratios.clip(1 / MOST_ASPECT, MOST_ASPECT))
    ratios, log_edges = np.histogram(logs, ASPECT_BINS, (-most, most))
    ticks = [2.0**k for k in range(-3, 4)]
    whole = [float(k) for k in range(0, len(numbers), -(-len(numbers) // 8))]
    return [
        _histogram(
            "boxes", "boxes in a picture", "pictures", pictures, edges - width / 2, ticks=whole
        ),
        _histogram("box-sizes", "share of the picture’s side", "boxes", sides, side_edges),
        _histogram(
            "box-shapes", "width over height", "boxes", ratios, 2.0**log_edges, "log", ticks
        ),
    ]


def _histogram(
    name: str,
    across: str,
    up: str,
    counts: Array,
    edges: Array,
    kind: str = "linear",
    ticks: list[float] | None = None,
) -> Figure:
    values = [
        {"from": low, "to": high, "n": n, "ground": 0}
        for low, high, n in zip(
            edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True
        )
    ]
    axis = alt.Axis(title=across, grid=False, format="~g", tickCount=8)
    if ticks is not None:
        axis = alt.Axis(title=across, grid=False, format="~r", values=ticks)
    domain = [float(edges[0]), float(edges[-1])]
    scale = alt.Scale(type=kind, domain=domain, nice=False)  # type: ignore[arg-type]
    chart = (
        alt.Chart(inline(values))
        .mark_bar(color=alt.expr("accent"), binSpacing=1)
        .encode(
            x=alt.X("from:Q", scale=scale, axis=axis),
            x2="to:Q",
            y=alt.Y("n:Q", axis=alt.Axis(title=up, format="~s", tickCount=5)),
            y2="ground:Q",
            tooltip=[
                alt.Tooltip("from:Q", title="from", format=".2~f"),
                alt.Tooltip("to:Q", title="to", format=".2~f"),
                alt.Tooltip("n:Q", title=up, format=","),
            ],
        )
        .properties(width=320, height=220)
    )
    return figure(chart, name, text=f"{up.capitalize()} by {across}.")


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
