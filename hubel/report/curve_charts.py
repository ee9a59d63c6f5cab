"""The charts of time and confidence: how a network learned, and how sure it may be."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from hubel.evaluate.calibration import Calibration
from hubel.report.figures import WIDE, Figure, figure, inline
from hubel.stats import wilson_interval

__all__ = [
    "calibration_file",
    "confidence_histogram",
    "curves_file",
    "learning_curves",
    "reliability_curve",
]

Row = Mapping[str, Any]


def _epoch_axis(num_epochs: int) -> Any:
    return alt.X(
        "epoch:Q",
        scale=alt.Scale(nice=False, zero=False, padding=6),
        axis=alt.Axis(
            title="epoch",
            format="d",
            tickMinStep=1,
            tickCount=min(num_epochs, 10),
            grid=False,
            labelFlush=False,
        ),
    )


def _curve(
    history: Sequence[Row], series: Mapping[str, str], title: str, form: str, height: int
) -> Any | None:
    """One chart of the columns of `series` (name in the log: name on the chart)."""
    values = [
        {"epoch": row["epoch"], "value": row[key], "series": label}
        for row in history
        for key, label in series.items()
        if row.get(key) is not None
    ]
    if not values:
        return None
    labels = [label for label in series.values() if any(v["series"] == label for v in values)]
    few = len({v["epoch"] for v in values}) <= 25
    color = alt.Color(
        "series:N",
        scale=alt.Scale(domain=labels, range="category"),
        legend=alt.Legend(title=None, orient="top", symbolType="stroke", symbolStrokeWidth=3)
        if len(labels) > 1
        else None,
    )
    x = _epoch_axis(len({v["epoch"] for v in values}))
    y = alt.Y(
        "value:Q",
        scale=alt.Scale(zero=False, nice=True),
        axis=alt.Axis(title=title, format=form, tickCount=5),
    )
    lines = (
        alt.Chart(inline(values))
        .mark_line(point=alt.OverlayMarkDef(size=28) if few else False)
        .encode(x=x, y=y, color=color)
    )
    by_epoch = [
        {"epoch": row["epoch"], **{f"v{i}": row.get(key) for i, key in enumerate(series)}}
        for row in history
    ]
    hover = (
        alt.Chart(inline(by_epoch))
        .mark_rule(strokeWidth=14, opacity=0)
        .encode(
            x="epoch:Q",
            tooltip=[
                alt.Tooltip("epoch:Q"),
                *(
                    alt.Tooltip(f"v{i}:Q", title=label, format=form if "%" in form else ".4g")
                    for i, label in enumerate(series.values())
                ),
            ],
        )
    )
    return alt.layer(lines, hover).properties(width=450, height=height)


def _learning_charts(history: Sequence[Row]) -> list[tuple[str, str, Any]]:
    both = {"train": "training", "val": "validation"}
    figures = {key: both[key[: key.index("_")]] for key in _figures(history)}
    title = "accuracy" if "val_top1" in figures else "score"
    wanted = [
        ("loss", {f"{k}_loss": v for k, v in both.items()}, "loss (nats)", "~g", 260),
        ("accuracy", figures, title, ".0%", 260),
        ("learning_rate", {"lr": "learning rate"}, "learning rate", "~g", 260),
    ]
    charts = []
    for name, series, title, form, height in wanted:
        chart = _curve(history, series, title, form, height)
        if chart is not None:
            charts.append((name, title, chart))
    return charts


def _figures(history: Sequence[Row]) -> list[str]:
    """The keys of a log that are neither a loss nor a time: train_top1, val_top1."""
    last = history[-1] if history else {}
    return [key for key in last if key.startswith(("train_", "val_")) and not key.endswith("_loss")]


def learning_curves(history: Sequence[Row]) -> list[Figure]:
    """Loss, accuracy and learning rate by epoch, as far as the log has them."""
    return [
        figure(chart, name, text=f"The {title} by epoch.", max_width=WIDE)
        for name, title, chart in _learning_charts(history)
    ]


def curves_file(history: Sequence[Row]) -> Figure:
    """The learning curves side by side in one file."""
    charts = [chart for _, _, chart in _learning_charts(history)]
    joined = alt.hconcat(*(c.properties(width=300, height=240) for c in charts))
    return figure(
        joined.resolve_scale(color="independent"), "curves", text="Learning curves by epoch."
    )


def _reliability(calibration: Calibration) -> Any:
    values = []
    for b in calibration.bins:
        if b.accuracy is not None and b.confidence is not None:
            low, high = wilson_interval(round(b.accuracy * b.n), b.n)
            values.append({"c": b.confidence, "a": b.accuracy, "n": b.n, "low": low, "high": high})
    unit = alt.Scale(domain=[0, 1], nice=False)
    axis: dict[str, Any] = {"format": ".0%", "tickCount": 5}
    x = alt.X("c:Q", scale=unit, axis=alt.Axis(title="confidence", grid=False, **axis))
    y = alt.Y("a:Q", scale=unit, axis=alt.Axis(title="accuracy", **axis))
    diagonal = (
        alt.Chart(inline([{"c": 0, "a": 0}, {"c": 1, "a": 1}]))
        .mark_line(strokeDash=[4, 4], strokeWidth=1, color=alt.expr("muted"))
        .encode(x=x, y=y)
    )
    base = alt.Chart(inline(values)).encode(x=x)
    spread = base.mark_rule(strokeWidth=1.5, color=alt.expr("accent"), opacity=0.6).encode(
        y=alt.Y("low:Q", scale=unit), y2="high:Q"
    )
    line = base.mark_line(opacity=0.35).encode(y=y)
    points = base.mark_circle(opacity=1, color=alt.expr("accent")).encode(
        y=y,
        size=alt.Size("n:Q", scale=alt.Scale(range=[30, 220], zero=False), legend=None),
        tooltip=[
            alt.Tooltip("c:Q", title="mean confidence", format=".1%"),
            alt.Tooltip("a:Q", title="accuracy", format=".1%"),
            alt.Tooltip("low:Q", title="95 % interval from", format=".1%"),
            alt.Tooltip("high:Q", title="to", format=".1%"),
            alt.Tooltip("n:Q", title="predictions", format=","),
        ],
    )
    return alt.layer(diagonal, line, spread, points).properties(width=430, height=330)


def _histogram(calibration: Calibration) -> Any:
    values = [{"low": b.low, "high": b.high, "n": b.n} for b in calibration.bins]
    full = [b for b in calibration.bins if b.confidence is not None and b.accuracy is not None]
    n = sum(b.n for b in full)
    means = [
        {"x": sum(b.n * (b.confidence or 0.0) for b in full) / n, "what": "mean confidence"},
        {"x": sum(b.n * (b.accuracy or 0.0) for b in full) / n, "what": "accuracy"},
    ]
    unit = alt.Scale(domain=[0, 1], nice=False)
    bars = (
        alt.Chart(inline(values))
        .mark_bar(binSpacing=1, opacity=0.75, color=alt.expr("accent"))
        .encode(
            x=alt.X(
                "low:Q",
                bin="binned",
                scale=unit,
                axis=alt.Axis(title="confidence", format=".0%", tickCount=5, grid=False),
            ),
            x2="high:Q",
            y=alt.Y("n:Q", axis=alt.Axis(title="predictions", format="~s", tickCount=5)),
            tooltip=[
                alt.Tooltip("low:Q", title="confidence above", format=".1%"),
                alt.Tooltip("high:Q", title="up to", format=".1%"),
                alt.Tooltip("n:Q", title="predictions", format=","),
            ],
        )
    )
    rules = (
        alt.Chart(inline(means))
        .mark_rule(strokeWidth=2)
        .encode(
            x=alt.X("x:Q", scale=unit),
            strokeDash=alt.StrokeDash(
                "what:N",
                scale=alt.Scale(domain=["mean confidence", "accuracy"], range=[[4, 3], [1, 0]]),
                legend=alt.Legend(title=None, orient="top", symbolType="stroke", symbolSize=400),
            ),
            color=alt.value(alt.expr("second")),
            tooltip=[alt.Tooltip("what:N", title="the"), alt.Tooltip("x:Q", format=".1%")],
        )
    )
    return alt.layer(bars, rules).properties(width=430, height=330)


def reliability_curve(calibration: Calibration) -> Figure:
    """Accuracy against confidence, bin by bin, with 95 % intervals."""
    return figure(
        _reliability(calibration),
        "reliability",
        text="Accuracy against confidence by bin; on the diagonal they agree.",
        max_width=WIDE,
    )


def confidence_histogram(calibration: Calibration) -> Figure:
    """How many predictions were made with which confidence."""
    return figure(
        _histogram(calibration),
        "confidence",
        text="Number of predictions by confidence, with mean confidence and accuracy.",
        max_width=WIDE,
    )


def calibration_file(calibration: Calibration) -> Figure:
    """Reliability curve and histogram in one file."""
    charts = (_reliability(calibration), _histogram(calibration))
    joined = alt.hconcat(*(c.properties(width=320, height=300) for c in charts))
    joined = joined.resolve_scale(strokeDash="independent")
    return figure(joined, "calibration", text="Reliability curve and confidence histogram.")
