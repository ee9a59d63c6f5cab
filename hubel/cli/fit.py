"""`hubel fit DATA`: train a network on a data set."""

import json as json_module
import time
from typing import Any

import typer

from hubel.cli.options import with_settings
from hubel.cli.output import only_the_document
from hubel.cli.progress import reporting
from hubel.errors import UserError
from hubel.world import read_world

__all__ = ["fit"]


def _fit(
    data: str | None = typer.Argument(
        None, help="Folder, CSV, IDX, npz … or an embedded set: digits, shapes.", metavar="DATA"
    ),
    output: str | None = typer.Option(
        None, "--output", "-o", help="The run folder to write (default: a new one under runs/)."
    ),
    resume: str | None = typer.Option(
        None,
        "--resume",
        help="Go on with this run; --epochs, or a larger --budget, extend it.",
        metavar="RUN",
    ),
    download: bool = typer.Option(
        False, "--download", help="Fetch DATA first if it is a published set (cifar10, cifar100)."
    ),
    json: bool = typer.Option(False, "--json", help="Print one JSON document to stdout."),
    *,
    settings: dict[str, Any],
) -> None:
    """Train a network on DATA and keep everything about it in a run folder."""
    started = time.monotonic()
    first = read_world().first  # of several processes one writes and speaks
    if resume is not None:
        others = sorted(set(settings) - {"epochs", "budget", "model"})
        if data is not None or output is not None or others or download:
            others = others or ["download"]
            extra = "DATA" if data else "--output" if output else "--" + others[0].replace("_", "-")
            raise UserError(
                f"{extra} cannot be given with --resume: the run keeps its own settings; "
                f"only --epochs or --budget may change (and --model must name a file of your own "
                f"again)"
            )
    elif data is None:
        raise UserError("DATA is missing: name a folder of pictures, or try: hubel fit digits")
    elif {"epochs", "budget"} <= set(settings):
        raise UserError("--epochs and --budget both say when the training ends; give one of them")

    from hubel import api  # torch, seconds: only once the words make sense

    with only_the_document(json), reporting() as report:
        if download and first:
            from hubel.data.download import fetch

            fetch(
                str(data),
                lambda what, done, total: report({"stage": what, "count": done, "total": total}),
            )
        if resume is not None:
            run = api.resume(
                resume,
                epochs=settings.get("epochs"),
                budget=settings.get("budget"),
                model=settings.get("model"),
                report=report,
            )
        else:
            run = api.fit(
                str(data),
                output=output,
                report=report,
                started=started,
                **settings,
            )
    if not first:
        return
    if json:
        print(json_module.dumps(run.result))
    else:
        from hubel.cli.show import show_result

        show_result(run.result)


fit = with_settings(_fit, "settings")
