"""The report of a detector: one page that says what it finds, what it misses, and why."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hubel.annotate.drawing import Mark
from hubel.colours import css
from hubel.data.source import Array, UnreadableSampleError
from hubel.evaluate.box_errors import KINDS
from hubel.evaluate.detection import DetectionEvaluation, PictureErrors, ShownBox
from hubel.report.drawn import BLUE, ORANGE, paired_uri
from hubel.report.page import render, write_page
from hubel.report.run_facts import shown_facts

__all__ = ["write_detection_report"]

_KINDS = {
    "classification": "in the right place, of another class",
    "localization": "of the right class, with too little overlap (IoU 0.1 to 0.5)",
    "both": "of another class and with too little overlap",
    "duplicate": "of an object that a surer one has found",
    "background": "where nothing is",
    "missed": "true boxes that nothing found",
}


@dataclass(frozen=True)
class ShownPicture:
    """A picture with its true and its predicted boxes; None where it cannot be read any more."""

    picture: PictureErrors
    uri: str | None


def write_detection_report(
    destination: Path,
    evaluation: DetectionEvaluation,
    *,
    run_facts: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    picture: Callable[[str], Array],
    figures_dir: Path,
) -> Path:
    """Write the report as one HTML file, and its figures as SVG and PNG files.

    The arguments are those of `hubel.report.localization.write_localization_report`. Returns
    `destination`.
    """
    from hubel.report import curve_charts, detection_charts  # Altair takes seconds to import

    curves = curve_charts.learning_curves(history)
    files = [curve_charts.curves_file(history)] if curves else []
    recall = None
    if any(c.precision is not None for c in evaluation.per_class):
        recall = detection_charts.precision_recall(evaluation)
        files.append(recall)
    for file in files:
        file.save(figures_dir)
    ranked = sorted(evaluation.per_class, key=lambda c: (c.ap50 is None, c.ap50 or 0.0))
    html = render(
        "detection.html",
        {
            "evaluation": evaluation,
            "run_name": str(run_facts.get("run", "a run")),
            "facts": shown_facts(run_facts),
            "command": run_facts.get("command"),
            "ranked": ranked,
            "kinds": [(k, getattr(evaluation.errors, k), _KINDS[k]) for k in KINDS],
            "recall": recall,
            "worst": [
                ShownPicture(p, _uri(picture, p, evaluation.classes)) for p in evaluation.worst
            ],
            "curves": curves,
            "right_colour": css(BLUE),
            "wrong_colour": css(ORANGE),
        },
    )
    return write_page(destination, html)


def _uri(
    picture: Callable[[str], Array], found: PictureErrors, classes: Sequence[str]
) -> str | None:
    try:
        pixels = np.asarray(picture(found.id))
    except (UnreadableSampleError, OSError):
        return None
    truth, kept = ([_mark(b, classes) for b in boxes] for boxes in (found.truth, found.kept))
    kept.sort(key=lambda mark: mark.score or 0.0)  # the surest on top
    return paired_uri(pixels, truth, kept)


def _mark(shown: ShownBox, classes: Sequence[str]) -> Mark:
    colour = ORANGE if shown.error else BLUE
    number = classes.index(shown.label)
    return Mark(shown.box, colour, shown.label, shown.score, number, width=1.5)
