"""`hubel predict RUN PATH…`: class and probability of each file."""

import csv as csv_module
import json as json_module
import sys

import typer

from hubel.cli.options import TTA_HELP
from hubel.cli.output import only_the_document
from hubel.errors import UserError

__all__ = ["predict"]


def predict(
    run: str = typer.Argument(..., help="The run folder that hubel fit wrote.", metavar="RUN"),
    paths: list[str] = typer.Argument(
        ..., help="Pictures (or .npy volumes), or folders of them.", metavar="PATH…"
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
        help="Print CSV: path, class, probability, error, and the box where there is one.",
    ),
    tta: str | None = typer.Option(None, "--tta", help=TTA_HELP, show_default=False),
    json: bool = typer.Option(False, "--json", help="Print one JSON document to stdout."),
) -> None:
    """Say what the network sees in each file."""
    from hubel import api

    with only_the_document(json or csv):
        predictions = api.load(run, model=model).predict(*paths, tta=tta)
    if json:
        document = {"run": run, "predictions": [p.to_json() for p in predictions]}
        print(json_module.dumps(document))
    elif csv:
        writer = csv_module.writer(sys.stdout)
        sides = ("left", "top", "right", "bottom") if any(p.box for p in predictions) else ()
        writer.writerow(("path", "class", "probability", "error", *sides))
        for p in predictions:
            box = p.box or ("",) * len(sides)
            writer.writerow((p.path, p.label or "", p.probability or "", p.error or "", *box))
    else:
        from hubel.cli.show import show_predictions

        show_predictions(predictions)
    broken = [p for p in predictions if p.error]
    if broken:
        raise UserError(
            f"{len(broken)} of {len(predictions)} files could not be read (first: "
            f"'{broken[0].path}': {broken[0].error}); mend or leave them out"
        )
