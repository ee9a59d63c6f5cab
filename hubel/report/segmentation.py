"""The report of a segmenter: one page that says how well regions and outlines are found."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hubel.annotate.drawing import beside, canvas
from hubel.colours import class_colour, css
from hubel.data.resize import resize
from hubel.data.source import Array, UnreadableSampleError
from hubel.evaluate.segmentation import (
    SegmentationClass,
    SegmentationEvaluation,
    SegmentedPicture,
)
from hubel.report.drawn import image_uri, masked_picture, masked_slices
from hubel.report.page import render, still_picture, write_page
from hubel.report.run_facts import shown_facts
from hubel.report.volumes import enlarged, side_by_side, slices

__all__ = ["Taken", "most_taken", "write_segmentation_report"]

_MOST_COLUMNS = 20
"""A confusion of more classes is no longer read as a table; the pairs remain."""
_MOST_PAIRS = 12
_LEAST_SHARE = 0.005
_LEAST_SIDE, _SIDE = 180, 360  # pixels of a panel's longer side
_SLICE = 128  # pixels of the longest side of a volume's slices


@dataclass(frozen=True)
class ShownClass:
    """A class with the colour that it is drawn in, as "rgb(r, g, b)"."""

    score: SegmentationClass
    colour: str


@dataclass(frozen=True)
class ShownPicture:
    """A picture beside its truth and prediction; None where it cannot be read any more."""

    picture: SegmentedPicture
    uri: str | None


@dataclass(frozen=True)
class Taken:
    """Pixels of one class that are given another: how many, and their share of the class's."""

    truth: str
    prediction: str
    pixels: int
    share: float


def write_segmentation_report(
    destination: Path,
    evaluation: SegmentationEvaluation,
    *,
    maps: Mapping[str, tuple[Array, Array]],
    run_facts: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    picture: Callable[[str], Array],
    figures_dir: Path,
) -> Path:
    """Write the report as one HTML file, and the learning curves as SVG and PNG files.

    `maps` has truth and prediction (*size) uint8 of the pictures in `evaluation.worst`, by their
    names; `picture` gives a sample's pixels (*spatial, c) by its name. The others as in
    `hubel.report.evaluation.write_evaluation_report`. Returns `destination`.
    """
    from hubel.report import curve_charts  # Altair takes seconds to import

    curves = curve_charts.learning_curves(history)
    if curves:
        curve_charts.curves_file(history).save(figures_dir)
    shown = [
        ShownClass(c, css(class_colour(i, evaluation.classes)))
        for i, c in enumerate(evaluation.per_class)
    ]
    volumes = any(truth.ndim == 3 for truth, _ in maps.values())
    html = render(
        "segmentation.html",
        {
            "evaluation": evaluation,
            "run_name": str(run_facts.get("run", "a run")),
            "facts": shown_facts(run_facts),
            "command": run_facts.get("command"),
            "noun": "volume" if volumes else "picture",
            "pixel": "voxel" if volumes else "pixel",
            "ranked": sorted(shown, key=lambda c: 2.0 if c.score.iou is None else c.score.iou),
            "shares": _shares(evaluation),
            "pairs": most_taken(evaluation),
            "worst": [
                ShownPicture(p, _uri(picture, p.id, maps[p.id], evaluation.classes))
                for p in evaluation.worst
                if p.id in maps
            ],
            "curves": curves,
        },
    )
    return write_page(destination, html)


def most_taken(evaluation: SegmentationEvaluation) -> list[Taken]:
    """The classes that are most often taken for another, by their share of the class's pixels;
    at most 12, none below half a per cent."""
    found = []
    for i, row in enumerate(evaluation.confusion or ()):
        for j, pixels in enumerate(row):
            if i != j and pixels >= _LEAST_SHARE * sum(row) and pixels:
                share = pixels / sum(row)
                found.append(Taken(evaluation.classes[i], evaluation.classes[j], pixels, share))
    return sorted(found, key=lambda t: -t.share)[:_MOST_PAIRS]


def _shares(evaluation: SegmentationEvaluation) -> list[tuple[str, list[float]]]:
    """The rows of the confusion as shares, of the classes that have pixels; [] if too many."""
    if evaluation.confusion is None or len(evaluation.classes) > _MOST_COLUMNS:
        return []
    rows = zip(evaluation.classes, evaluation.confusion, strict=True)
    return [(name, [n / sum(row) for n in row]) for name, row in rows if sum(row)]


def _uri(
    picture: Callable[[str], Array],
    name: str,
    maps: tuple[Array, Array],
    classes: Sequence[str],
) -> str | None:
    """Picture, truth and prediction in one: side by side, of a volume one below the other."""
    truth, _ = maps
    try:
        pixels = resize(np.asarray(picture(name)), truth.shape)
    except (UnreadableSampleError, OSError):
        return None
    if truth.ndim == 2:
        plain, _ = canvas(still_picture(pixels), least=_LEAST_SIDE, most=_SIDE)
        painted = [
            masked_picture(pixels, mask, classes, least=_LEAST_SIDE, most=_SIDE) for mask in maps
        ]
        return image_uri(beside([plain, *painted]))
    rows = [enlarged(slices(pixels), _SLICE)]
    rows += [masked_slices(pixels, mask, classes, side=_SLICE) for mask in maps]
    sheets = [canvas(side_by_side(row))[0] for row in rows]
    return image_uri(beside(sheets, down=True))
