"""`hubel predict RUN PATH…`: what the network sees in each file."""

import csv as csv_module
import json as json_module
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import typer

from hubel.cli.options import TTA_HELP
from hubel.cli.output import only_the_document
from hubel.errors import UserError
from hubel.report.words import plural

if TYPE_CHECKING:
    from pathlib import Path

    from hubel.predict import Prediction

__all__ = ["predict"]


def predict(
    run: str = typer.Argument(..., help="The run folder that hubel fit wrote.", metavar="RUN"),
    paths: list[str] = typer.Argument(
        ..., help="Pictures (or .npy or NIfTI volumes), or folders of them.", metavar="PATH…"
    ),
    model: str | None = typer.Option(
        None,
        "--model",
        help="Your own network's file.py:NAME, if it is what was trained: a run alone may not "
        "have a file executed.",
    ),
    csv: bool = typer.Option(
        False,
        "--csv",
        help="Print CSV: path, class, probability, error, and the box where there is one; of "
        "masks each class and its share.",
    ),
    tta: str | None = typer.Option(None, "--tta", help=TTA_HELP, show_default=False),
    min_score: float | None = typer.Option(
        None,
        "--min-score",
        min=0.0,
        max=1.0,
        help="Of a detector: leave out objects below this score (default: the one of the largest "
        "F1 on the validation split).",
        show_default=False,
    ),
    write: str | None = typer.Option(
        None,
        "--write",
        help="Write what was found, too: pictures (copies with boxes or masks drawn), coco, yolo, "
        "voc, masks.",
        show_default=False,
    ),
    output: str | None = typer.Option(
        None,
        "--output",
        help="With --write: the folder to write into, new or empty (default: predictions).",
        show_default=False,
    ),
    tile: str | None = typer.Option(
        None,
        "--tile",
        help="Cut large pictures into parts of this size in their pixels, 480x640 (boxes, masks).",
        show_default=False,
    ),
    overlap: int | None = typer.Option(
        None,
        "--overlap",
        min=0,
        help="Pixels that neighbouring parts share (default: a quarter of the shorter side).",
        show_default=False,
    ),
    json: bool = typer.Option(False, "--json", help="Print one JSON document to stdout."),
) -> None:
    """Say what the network sees in each file."""
    if output is not None and write is None:
        raise UserError("--output is the folder of --write; say what to write, or leave it out")
    from hubel import api

    output = output or "predictions"
    with only_the_document(json or csv):
        trained = api.load(run, model=model)
        written: list[Path] = []
        if write is None:
            # Of the masks only the shares are told: those of many large files need much memory.
            predictions = [
                replace(p, mask=None)
                for p in trained.predict_each(
                    *paths, tta=tta, min_score=min_score, tile=tile, overlap=overlap
                )
            ]
        else:
            predictions, written = trained.write_predictions(
                *paths, write=write, output=output, tta=tta, min_score=min_score, tile=tile,
                overlap=overlap,
            )  # fmt: skip
    if json:
        document: dict[str, Any] = {"run": run, "predictions": [p.to_json() for p in predictions]}
        if write is not None:
            document["written"] = [str(path) for path in written]
        print(json_module.dumps(document))
    elif csv:
        writer = csv_module.writer(sys.stdout)
        boxed = any(p.box or p.objects for p in predictions)
        sides = ("left", "top", "right", "bottom") if boxed else ()
        number = "share" if any(p.shares for p in predictions) else "probability"
        writer.writerow(("path", "class", number, "error", *sides))
        for p in predictions:
            for label, score, box in _rows(p):
                sided = [f"{side:.6g}" for side in box] if box else [""] * len(sides)
                told = "" if score is None else f"{score:.6g}"
                writer.writerow((p.path, label or "", told, p.error or "", *sided))
    else:
        from hubel.cli.show import show_predictions

        show_predictions(predictions)
        if written:
            print(f"{plural(len(written), 'file')} written into {output}", file=sys.stderr)
    broken = [p for p in predictions if p.error]
    if broken:
        raise UserError(
            f"{len(broken)} of {len(predictions)} files could not be read (first: "
            f"'{broken[0].path}': {broken[0].error}); mend or leave them out"
        )


def _rows(p: "Prediction") -> Iterator[tuple[str | None, float | None, Sequence[float] | None]]:
    """Class, probability, score or share, and box: one for a file, or one for each of its objects
    or classes.
    """
    if not p.objects and not p.shares:
        yield p.label, p.probability, p.box
    for label, share in (p.shares or {}).items():
        yield label, share, None
    for found in p.objects or ():
        yield found.label, found.score, found.box
