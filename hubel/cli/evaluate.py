"""`hubel evaluate RUN [DATA]`: how good the network is, with intervals and a report."""

import json as json_module

import typer

from hubel.cli.options import TTA_HELP
from hubel.cli.output import only_the_document
from hubel.cli.progress import reporting

__all__ = ["evaluate"]


def evaluate(
    run: str = typer.Argument(..., help="The run folder that hubel fit wrote.", metavar="RUN"),
    data: str | None = typer.Argument(
        None, help="Other data than the run's own.", metavar="[DATA]", show_default=False
    ),
    split: str | None = typer.Option(
        None, "--split", help="train, val or test (default: test, else val)."
    ),
    tta: str | None = typer.Option(None, "--tta", help=TTA_HELP, show_default=False),
    model: str | None = typer.Option(
        None,
        "--model",
        help="Your own network's file.py:NAME, if it is what was trained: a run alone may not "
        "have a file executed.",
    ),
    json: bool = typer.Option(False, "--json", help="Print one JSON document to stdout."),
) -> None:
    """Judge a finished run and write its report."""
    from hubel import api

    with only_the_document(json), reporting() as report:
        run_of = api.load(run, model=model)
        judged = run_of.evaluate(data, split=split, tta=tta, report=report)
        for note in judged.notes:
            report({"note": note})
    if json:
        print(json_module.dumps(judged.to_json()))
    else:
        from hubel.cli.show import show_judged

        show_judged(judged.evaluation, str(judged.report))
