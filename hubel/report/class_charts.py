"""The charts of classes: which are taken for which, and how well each is known.

Class names never reach a chart as field names or expressions: marks carry class indices,
and a parameter `names` turns an index into text where it is shown.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from hubel.evaluate.result import ClassScore, Evaluation
from hubel.report.figures import WIDE, Figure, figure, inline

__all__ = [
    "MAX_CHART_CLASSES",
    "confusion_matrix",
    "per_class_file",
    "untrained_probabilities",
]

MAX_CHART_CLASSES = 100
"""More classes than this are no longer told apart; the most mistaken ones are shown."""

LABEL_LIMIT = 130

Row = Mapping[str, Any]


def _names(names: Sequence[str]) -> Any:
    return alt.param(name="names", value=list(names))


def _label_room(names: Sequence[str], font_size: float) -> int:
    """Pixels that the longest label takes, at about 0.55 em a character."""
    return min(LABEL_LIMIT, round(0.58 * font_size * max(len(name) for name in names)) + 4)


def _index_axis(title: str | None, font_size: float, **options: Any) -> Any:
    return alt.Axis(
        title=title,
        labelExpr="names[datum.value]",
        labelLimit=LABEL_LIMIT,
        labelFontSize=font_size,
        **options,
    )


def shown_classes(evaluation: Evaluation) -> list[int]:
    """Indices of the classes that charts show: all, or those with the most mistakes."""
    k = len(evaluation.classes)
    if k <= MAX_CHART_CLASSES:
        return list(range(k))
    mistakes = [sum(row) - row[i] for i, row in enumerate(evaluation.confusion)]
    return sorted(sorted(range(k), key=lambda i: -mistakes[i])[:MAX_CHART_CLASSES])


def confusion_matrix(evaluation: Evaluation) -> Figure:
    """Rows truth, columns prediction; colour is the share of the row, text the count."""
    shown = shown_classes(evaluation)
    names = [evaluation.classes[i] for i in shown]
    k = len(shown)
    cells = []
    for t, i in enumerate(shown):
        row = evaluation.confusion[i]
        total = sum(row)
        for p, j in enumerate(shown):
            if row[j]:
                cells.append({"t": t, "p": p, "n": row[j], "s": round(row[j] / total, 4)})
    # Few mistakes must look like few: full colour stands for this share of a class at least.
    worst = max([min(0.25, max(0.08, 2.5 / k)), *(c["s"] for c in cells if c["t"] != c["p"])])
    cell = next(side for most, side in CELL_SIDES if k <= most)
    font_size = min(11.0, max(6.5, cell - 1.5))
    room = _label_room(names, font_size) + 34
    upright = _label_room(names, font_size) <= cell
    scale = alt.Scale(domain=list(range(k)), paddingInner=0.04 if k <= 40 else 0.0)
    # Faint lines through every row and column carry the eye across the empty cells.
    x = alt.X(
        "p:O",
        scale=scale,
        axis=_index_axis(
            "prediction",
            font_size,
            grid=True,
            zindex=0,
            ticks=False,
            labelOverlap=False,
            labelAngle=0 if upright else -90 if k > 20 else -45,
        ),
    )
    y = alt.Y(
        "t:O",
        scale=scale,
        axis=_index_axis("truth", font_size, grid=True, zindex=0, ticks=False, labelOverlap=False),
    )
    tooltip = [
        alt.Tooltip("truth:N"),
        alt.Tooltip("prediction:N"),
        alt.Tooltip("n:Q", title="number", format=","),
        alt.Tooltip("s:Q", title="share of the row", format=".1%"),
    ]
    base = (
        alt.Chart(inline(cells))
        .transform_calculate(truth="names[datum.t]", prediction="names[datum.p]")
        .encode(x=x, y=y, tooltip=tooltip)
    )
    hits = (
        base.transform_filter("datum.t == datum.p")
        .mark_rect()
        .encode(color=_shade("heatmap", 1.0, 1.0))
    )
    misses = (
        base.transform_filter("datum.t != datum.p")
        .mark_rect()
        .encode(color=_shade("ramp", worst, 0.6))
    )
    layers = [hits, misses]
    if k <= 20:
        mid = round(0.45 * worst, 6)
        # White on full blue, and dark on full blue and orange in the dark theme; else ink.
        full = f"datum.t == datum.p ? datum.s > (dark ? 0.6 : 0.82) : dark && datum.s > {mid}"
        digits = len(f"{max((c['n'] for c in cells), default=0):,}")
        layers.append(
            base.mark_text(
                fontSize=max(8.0, min(14.0, 1.4 * cell / digits)),
                color=alt.expr(f"({full}) ? on_accent : ink"),
            ).encode(text=alt.Text("n:Q", format=","))
        )
    side = round(cell * k) + room
    chart = (
        alt.layer(*layers)
        .resolve_scale(color="independent")
        .properties(width=side, height=side)
        .add_params(_names(names))
    )
    return figure(
        chart,
        "confusion",
        text=f"Confusion matrix of {k} classes: rows are the truth, columns the prediction.",
        min_width=min(side, room + 28 * k if k <= 20 else 800),
        keep_aspect=True,
    )


CELL_SIDES = (
    (2, 120.0),
    (4, 90.0),
    (6, 72.0),
    (10, 56.0),
    (15, 44.0),
    (20, 38.0),
    (45, 19.0),
    (100, 8.8),
)
"""(number of classes up to, pixels of a cell's side)."""


def _shade(ramp: str, most: float, exponent: float) -> Any:
    scale = alt.Scale(
        type="pow", exponent=exponent, domain=[0, most], range=ramp, interpolate="rgb"
    )
    return alt.Color("s:Q", scale=scale, legend=None)


def per_class_file(scores: Sequence[ClassScore]) -> Figure:
    """Precision, recall with its interval, and F1 of each class, the best F1 at the top."""
    ranked = sorted((s for s in scores if s.f1 is not None), key=lambda s: s.f1 or 0.0)
    shown = ranked[:MAX_CHART_CLASSES][::-1]
    values, spreads = [], []
    for i, s in enumerate(shown):
        for what, value in (("precision", s.precision), ("recall", s.recall), ("F1", s.f1)):
            if value is not None:
                values.append({"i": i, "value": value, "what": what})
        if s.recall_interval is not None:
            spreads.append({"i": i, "low": s.recall_interval[0], "high": s.recall_interval[1]})
    y = alt.Y(
        "i:O",
        scale=alt.Scale(domain=list(range(len(shown)))),
        axis=_index_axis(None, 11.0, ticks=False, grid=True, labelOverlap=False),
    )
    x = alt.X(
        "value:Q",
        scale=alt.Scale(domain=[0, 1], nice=False),
        axis=alt.Axis(title="share, recall with its 95 % interval", format=".0%", tickCount=5),
    )
    spread = (
        alt.Chart(inline(spreads))
        .mark_rule(strokeWidth=2, color=alt.expr("second"), opacity=0.5)
        .encode(y=y, x="low:Q", x2="high:Q")
    )
    points = (
        alt.Chart(inline(values))
        .mark_point(filled=True, size=55, opacity=1)
        .encode(
            x=x,
            y=y,
            color=alt.Color(
                "what:N",
                scale=alt.Scale(domain=["F1", "recall", "precision"], range="category"),
                legend=alt.Legend(title=None, orient="top"),
            ),
            shape=alt.Shape(
                "what:N",
                scale=alt.Scale(
                    domain=["F1", "recall", "precision"],
                    range=["circle", "diamond", "triangle-up"],
                ),
            ),
        )
    )
    chart = (
        alt.layer(spread, points)
        .properties(width=640, height=80 + 22 * len(shown))
        .add_params(_names([s.name for s in shown] or [""]))
    )
    return figure(chart, "per_class", text="Precision, recall and F1 of each class.")


def untrained_probabilities(
    classes: Sequence[str], mean: Sequence[float], examples: Sequence[Row]
) -> Figure:
    """Class probabilities before training: their mean as bars, single samples as ticks."""
    k = min(len(classes), MAX_CHART_CLASSES)
    font_size = 11.0 if k <= 40 else 8.0
    names = list(classes[:k])
    bars = [{"i": i, "p": p} for i, p in enumerate(mean[:k])]
    ticks = [
        {"i": i, "p": p} for example in examples for i, p in enumerate(example["probabilities"][:k])
    ]
    slot = (WIDE - 80) / k
    x = alt.X(
        "i:O",
        scale=alt.Scale(domain=list(range(k))),
        axis=_index_axis(
            None,
            font_size,
            ticks=False,
            labelOverlap=k > 40,
            labelAngle=0 if _label_room(names, font_size) <= 0.4 * slot else -90 if k > 20 else -45,
        ),
    )
    y = alt.Y("p:Q", axis=alt.Axis(title="probability", format="~%", tickCount=5))
    tooltip = [alt.Tooltip("name:N", title="class"), alt.Tooltip("p:Q", format=".2%")]
    layers = [
        alt.Chart(inline(bars))
        .transform_calculate(name="names[datum.i]")
        .mark_bar(opacity=0.45, color=alt.expr("accent"))
        .encode(x=x, y=y, tooltip=tooltip)
    ]
    if ticks:
        layers.append(
            alt.Chart(inline(ticks))
            .mark_tick(
                thickness=1.5,
                opacity=0.7,
                size=round(min(24.0, 0.5 * slot), 1),
                color=alt.expr("ink"),
                orient="horizontal",
            )
            .encode(x=x, y=y)
        )
    layers.append(
        alt.Chart(inline([{"p": 1 / len(classes)}]))
        .mark_rule(strokeDash=[4, 4], strokeWidth=1.5, color=alt.expr("second"))
        .encode(y="p:Q", tooltip=alt.Tooltip("p:Q", title="chance", format=".2%"))
    )
    chart = alt.layer(*layers).properties(width=WIDE, height=260).add_params(_names(names))
    return figure(
        chart, "untrained", text="Class probabilities of the untrained network against chance."
    )
