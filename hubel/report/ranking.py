"""The report of a scorer of poses: one page that compares it with docking and with chance."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hubel.evaluate.ranking import RankingEvaluation
from hubel.report.page import render, write_page
from hubel.report.run_facts import shown_facts

__all__ = ["write_ranking_report"]


def write_ranking_report(
    destination: Path,
    evaluation: RankingEvaluation,
    *,
    run_facts: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    figures_dir: Path,
) -> Path:
    """Write the report as one HTML file, and its charts as SVG and PNG files.

    The arguments are those of `hubel.report.evaluation.write_evaluation_report`. Returns
    `destination`.
    """
    from hubel.report import curve_charts, ranking_charts  # Altair takes seconds to import

    curves = curve_charts.learning_curves(history)
    if curves:
        curve_charts.curves_file(history).save(figures_dir)
    roc = ranking_charts.roc_curves(evaluation.scorers)
    roc.save(figures_dir)
    html = render(
        "ranking.html",
        {
            "evaluation": evaluation,
            "run_name": str(run_facts.get("run", "a run")),
            "facts": shown_facts(run_facts),
            "command": run_facts.get("command"),
            "roc": roc,
            "curves": curves,
        },
    )
    return write_page(destination, html)
