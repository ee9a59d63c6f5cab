"""The page of a race: the choice, how sure it is, what it costs, and all that was tried."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hubel.report.page import render, write_page

__all__ = ["write_race_page"]


def write_race_page(destination: Path, document: Mapping[str, Any]) -> Path:
    """Write the page of a document of `hubel.racing.document`; returns `destination`."""
    from hubel.report import race_charts  # Altair takes seconds to import

    plan = document["plan"]
    raced = [one for one in document["standings"] if one["rung"] is not None]
    choice = document["choice"]
    curves = document["curves"]
    columns = next((list(rows[0]) for rows in curves.values() if rows), [])
    scores = [c.removeprefix("val_") for c in columns if c.startswith("val_") and c != "val_loss"]
    charts = race_charts.price_and_score(raced, plan["objective"], choice)
    fronts = {key: race_charts.front_of(raced, key) for key in ("latency_ms", "params", "epoch_s")}
    for chart in charts:
        chart.save(destination.parent / "figures")
    html = render(
        "race.html",
        {
            "document": document,
            "plan": plan,
            "raced": raced,
            "struck": [one for one in document["standings"] if one["rung"] is None],
            "chosen": next(one for one in raced if one["name"] == choice),
            "fronts": fronts,
            "charts": charts,
            "curves": race_charts.race_curves(curves, scores[0], choice) if scores else None,
        },
    )
    return write_page(destination, html)
