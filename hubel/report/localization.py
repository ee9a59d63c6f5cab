"""The report of a localizer: one page that says how often class and place are right."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hubel.annotate.drawing import Mark, marked
from hubel.colours import css
from hubel.data.source import Array, UnreadableSampleError
from hubel.evaluate.localization import LocalizationEvaluation, LocalizedPicture
from hubel.report.drawn import BLUE, ORANGE, image_uri
from hubel.report.page import render, still_picture, write_page
from hubel.report.run_facts import shown_facts

__all__ = ["write_localization_report"]

_SIDE, _MOST_SIDE = 256, 320  # pixels that the longer side of a drawn picture has


@dataclass(frozen=True)
class ShownPicture:
    """A picture with both boxes drawn; None where it cannot be read any more."""

    picture: LocalizedPicture
    uri: str | None


def write_localization_report(
    destination: Path,
    evaluation: LocalizationEvaluation,
    *,
    run_facts: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    picture: Callable[[str], Array],
    figures_dir: Path,
) -> Path:
    """Write the report as one HTML file, and the learning curves as SVG and PNG files.

    `picture` gives a sample's pixels (h, w, c) by its id; the others as in
    `hubel.report.evaluation.write_evaluation_report`. Returns `destination`.
    """
    from hubel.report import curve_charts  # Altair takes seconds to import

    curves = curve_charts.learning_curves(history)
    if curves:
        curve_charts.curves_file(history).save(figures_dir)
    ranked = sorted(
        evaluation.per_class,
        key=lambda c: -1.0 if c.localization_error is None else c.localization_error,
        reverse=True,
    )
    html = render(
        "localization.html",
        {
            "evaluation": evaluation,
            "run_name": str(run_facts.get("run", "a run")),
            "facts": shown_facts(run_facts),
            "command": run_facts.get("command"),
            "ranked": ranked,
            "worst": [ShownPicture(p, _uri(picture, p)) for p in evaluation.worst],
            "curves": curves,
            "true_colour": css(BLUE),
            "predicted_colour": css(ORANGE),
        },
    )
    return write_page(destination, html)


def _uri(picture: Callable[[str], Array], found: LocalizedPicture) -> str | None:
    try:
        pixels = np.asarray(picture(found.id))
    except (UnreadableSampleError, OSError):
        return None
    # Where they lie in one place both are seen: the upper one is narrower.
    marks = [Mark(found.true_box, BLUE, width=4.0), Mark(found.box, ORANGE, width=2.0)]
    return image_uri(marked(still_picture(pixels), marks, least=_SIDE, most=_MOST_SIDE))
