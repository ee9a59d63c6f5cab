"""A finished race in the terminal."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from hubel.errors import printable
from hubel.report.words import duration

__all__ = ["race_text"]


def race_text(document: Mapping[str, Any], columns: int = 80) -> str:
    """Table and sentences of a document of `hubel.racing.document`."""
    plan = document["plan"]
    objective, rungs = plan["objective"], plan["rungs"]
    header = ("network", "trained", objective, "95 %", "best in", "ms", "params")
    rows = [header, *(_row(one, rungs) for one in document["standings"] if one["rung"] is not None)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    widths[0] = min(widths[0], max(columns - sum(widths[1:]) - 2 * len(header), 12))
    lines = [_line(row, widths) for row in rows]
    lines += [""]
    out = [one for one in document["standings"] if one["rung"] is None]
    for one in out:
        lines += textwrap.wrap(
            printable(f"{one['name']}: {one['reason']}"), columns, subsequent_indent="  "
        )
    lines += [""] if out else []
    for sentence in document["sentences"]:
        lines += textwrap.wrap(printable(sentence) + ".", columns)
    test = document["test"]
    if test is not None and objective in test["metrics"]:
        lines += textwrap.wrap(
            f"On the test split, touched once: {objective} {test['metrics'][objective]:.4f} of "
            f"{test['n']:,} samples.",
            columns,
        )
    lines += ["", f"Run     {document['run']}", f"Report  {document['report']}"]
    lines += ["In full " + document["command"]]
    return "\n".join(lines)


def _row(one: Mapping[str, Any], rungs: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    low, high = one["interval"]
    price = one["price"]
    latency = price.get("latency_ms")
    return (
        printable(one["name"]),
        duration(rungs[one["rung"]]["seconds"]),
        f"{abs(one['score']):.4f}",
        f"{abs(low):.3f}–{abs(high):.3f}",
        f"{one['best_share']:.0%}" if one["best_share"] else "–",
        "–" if latency is None else f"{latency:.2f}",
        _count(price.get("params")),
    )


def _count(number: int | None) -> str:
    if number is None:
        return "–"
    return f"{number / 1e6:.1f}M" if number >= 1e6 else f"{number / 1e3:.0f}k"


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    name = row[0] if len(row[0]) <= widths[0] else row[0][: widths[0] - 1] + "…"
    cells = [name.ljust(widths[0])]
    cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
    return "  ".join(cells).rstrip()
