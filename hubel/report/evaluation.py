"""The report of an evaluation: one page that says how good a network is, and where not."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hubel.data.source import UnreadableSampleError
from hubel.evaluate.result import ClassScore, Evaluation, Mistake
from hubel.report import words
from hubel.report.page import picture_uri, render, write_page
from hubel.report.run_facts import shown_facts

__all__ = ["write_evaluation_report"]

Array = npt.NDArray[Any]
Picture = Callable[[str], Array]

NUM_PAIRS = 10
# Relative distance of the untrained loss from ln(num_classes) that passes without remark.
USUAL_LOSS_GAP = 0.15
# Distance of mean confidence from accuracy that passes without remark.
USUAL_CONFIDENCE_GAP = 0.02


@dataclass(frozen=True)
class ShownMistake:
    """A mistake with its picture as a data URI; None where it cannot be read any more."""

    mistake: Mistake
    uri: str | None


def write_evaluation_report(
    destination: Path,
    evaluation: Evaluation,
    *,
    run_facts: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    untrained: Mapping[str, Any] | None,
    picture: Picture,
    figures_dir: Path,
) -> Path:
    """Write the report as one HTML file, and its figures as SVG and PNG files.

    Parameters
    ----------
    destination: the page; replaced if it exists, its folder made if need be.
    run_facts: what is known of the run. Of {run, task, model, width, params, input, data, classes,
        splits, epochs, seconds, images_per_s, engine, profile, seed, created, versions,
        command} those that are there are shown. `input` is "3×32×32"; four parts mean volumes.
    history: one row an epoch: {epoch, train_loss, train_top1, val_loss, val_top1, lr, …};
        missing or None values are left out of the curves.
    untrained: {loss, expected_loss, mean_probabilities, examples: [{id, target,
        probabilities}]} of the network before training, or None.
    picture: from a sample's id to its pixels, (h, w, c) or (d, h, w, c), channels last.
        May raise `UnreadableSampleError` or `OSError`: the page then says so in its place.
    figures_dir: gets confusion, calibration, per_class and, with a history, curves.

    Returns `destination`.
    """
    # Altair takes seconds to import.
    from hubel.report import class_charts, curve_charts

    confusion = class_charts.confusion_matrix(evaluation)
    files = [
        confusion,
        curve_charts.calibration_file(evaluation.calibration),
        class_charts.per_class_file(evaluation.per_class),
    ]
    curves = curve_charts.learning_curves(history)
    if curves:
        files.append(curve_charts.curves_file(history))
    for file in files:
        file.save(figures_dir)
    untrained_figure = untrained and class_charts.untrained_probabilities(
        evaluation.classes, untrained["mean_probabilities"], untrained.get("examples", [])
    )
    html = render(
        "evaluation.html",
        {
            "evaluation": evaluation,
            "noun": _noun(run_facts),
            "run_name": str(run_facts.get("run", "a run")),
            "facts": shown_facts(run_facts),
            "command": run_facts.get("command"),
            "baseline": _baseline(evaluation),
            "findings": _findings(evaluation, history),
            "pairs": evaluation.most_confused[:NUM_PAIRS],
            "ranked": _ranked(evaluation.per_class),
            "confusion": confusion,
            "num_shown": min(len(evaluation.classes), class_charts.MAX_CHART_CLASSES),
            "curves": curves,
            "reliability": curve_charts.reliability_curve(evaluation.calibration),
            "confidence": curve_charts.confidence_histogram(evaluation.calibration),
            "mean_confidence": _mean_confidence(evaluation),
            "untrained": untrained,
            "untrained_figure": untrained_figure,
            "untrained_as_usual": untrained is not None
            and abs(untrained["loss"] / untrained["expected_loss"] - 1) <= USUAL_LOSS_GAP,
            "mistakes": [ShownMistake(m, _uri(picture, m.id)) for m in evaluation.mistakes],
            "num_wrong": evaluation.n - evaluation.num_correct,
        },
    )
    return write_page(destination, html)


def _noun(run_facts: Mapping[str, Any]) -> str:
    return "volume" if str(run_facts.get("input", "")).count("×") >= 3 else "picture"


def _uri(picture: Picture, id: str) -> str | None:
    try:
        return picture_uri(np.asarray(picture(id)))
    except (UnreadableSampleError, OSError):
        return None


def _baseline(evaluation: Evaluation) -> ClassScore:
    """The class that is most frequent: always answering it is the least to be beaten."""
    return max(evaluation.per_class, key=lambda score: score.n)


def _ranked(scores: Sequence[ClassScore]) -> list[ClassScore]:
    """The lowest F1 first, classes without samples last."""
    return sorted(scores, key=lambda s: (s.f1 is None, s.f1 or 0.0))


def _mean_confidence(evaluation: Evaluation) -> float:
    bins = evaluation.calibration.bins
    return sum(b.n * b.confidence for b in bins if b.confidence is not None) / evaluation.n


def _findings(
    evaluation: Evaluation, history: Sequence[Mapping[str, Any]]
) -> list[tuple[str, str]]:
    """What stands out, as (heading, sentence) pairs; only what the figures support."""
    found = []
    ranked = [s for s in _ranked(evaluation.per_class) if s.f1 is not None]
    worst = ranked[0]
    if len(ranked) > 1 and worst.f1 is not None and worst.f1 < 1:
        found.append(
            (
                "Weakest class",
                f"“{_short(worst.name)}”: {words.percent(worst.recall)} of its "
                f"{words.integer(worst.n)} found, F1 {words.number(worst.f1)}.",
            )
        )
    if evaluation.most_confused:
        pair = evaluation.most_confused[0]
        found.append(
            (
                "Most confused",
                f"“{_short(pair.truth)}” taken for “{_short(pair.prediction)}” "
                f"{words.plural(pair.n, 'time')}, {words.percent(pair.share)} of its samples.",
            )
        )
    gap = _mean_confidence(evaluation) - evaluation.metrics.top1
    if abs(gap) <= USUAL_CONFIDENCE_GAP:
        text = "Probabilities can be taken at their word: "
    else:
        text = "It is too sure of itself: " if gap > 0 else "It is less sure than it could be: "
    found.append(
        (
            "Confidence",
            f"{text}mean confidence {words.percent(_mean_confidence(evaluation))}, "
            f"accuracy {words.percent(evaluation.metrics.top1)}.",
        )
    )
    last = history[-1] if history else {}
    train, val = last.get("train_top1"), last.get("val_top1")
    if train is not None and val is not None:
        found.append(
            (
                "Training against validation",
                f"{words.percent(train)} against {words.percent(val)} in the last epoch"
                + (
                    ": a wide gap. It knows its training samples better than their kind; more "
                    "data, augmentation or dropout may narrow it."
                    if train - val > 0.1
                    else "."
                ),
            )
        )
    return found


def _short(name: str, limit: int = 60) -> str:
    return name if len(name) <= limit else name[: limit - 1] + "…"
