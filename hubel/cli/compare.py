"""`hubel compare DATA`: a fair race of networks within a budget, and a choice."""

import json as json_module
import os
from typing import Any

import typer

from hubel.cli.options import with_settings
from hubel.cli.output import only_the_document
from hubel.cli.progress import reporting
from hubel.errors import UserError

__all__ = ["compare"]


def _compare(
    data: str | None = typer.Argument(
        None, help="What hubel fit takes: a folder, a file, or an embedded set.", metavar="DATA"
    ),
    models: str | None = typer.Option(
        None,
        "--models",
        help="Who takes part, with commas: resnet18,swift_m,resnet18@img_size=64; after an @ any "
        "setting of hubel fit.",
        show_default=False,
    ),
    preset: str | None = typer.Option(
        None,
        "--preset",
        help="A ready list instead: small or wide. (default: small)",
        show_default=False,
    ),
    budget: str = typer.Option(
        "30m", "--budget", help="Of the whole race: 90s, 30m, 2h; everything is in it."
    ),
    seeds: int = typer.Option(2, "--seeds", help="Trainings of each candidate."),
    objective: str = typer.Option(
        "",
        "--objective",
        help="What networks are compared by on the validation split: top1, loss, map50, miou, … "
        "(default: the task's own)",
        show_default=False,
    ),
    constraint: list[str] = typer.Option(
        [],
        "--constraint",
        help="What a network must keep to, such as 'latency_ms<=5' or 'params<=5e6'; may be given "
        "again. Figures: params, macs, latency_ms, epoch_s, training_mb.",
        show_default=False,
    ),
    tune: str | None = typer.Option(
        None,
        "--tune",
        help="Vary settings of the one network in --models instead: lr, weight_decay, augment, …",
        show_default=False,
    ),
    trials: int = typer.Option(
        0, "--trials", help="How many variants --tune tries. (default: 12)", show_default=False
    ),
    workers: int = typer.Option(
        1, "--workers", help="Trainings at the same time on this machine, which they share."
    ),
    output: str | None = typer.Option(
        None,
        "--output",
        "-o",
        help="The race's folder (default: a new one under races/).",
        show_default=False,
    ),
    resume: str | None = typer.Option(
        None, "--resume", help="Go on with this race.", metavar="RACE", show_default=False
    ),
    worker: bool = typer.Option(
        False, "--worker", help="With --resume: only do jobs of the race, until none is left."
    ),
    json: bool = typer.Option(False, "--json", help="Print one JSON document to stdout."),
    *,
    settings: dict[str, Any],
) -> None:
    """Race networks on DATA within one budget, and say which to take, how surely, at what price."""
    given: dict[str, Any] = {
        "--models": models,
        "--preset": preset,
        "--objective": objective,
        "--constraint": constraint,
        "--tune": tune,
        "--trials": trials,
        "--output": output,
    }
    if resume is None:
        if data is None:
            raise UserError(
                "DATA is missing: name a folder of pictures, or try: hubel compare digits"
            )
        if worker:
            raise UserError("--worker takes part in a race that is there: give --resume RACE")
    else:
        others = [name for name, value in given.items() if value] + [
            "--" + name.replace("_", "-") for name in settings
        ]
        if data is not None or others:
            raise UserError(
                f"{'DATA' if data else others[0]} cannot be given with --resume: the race keeps "
                f"its own settings"
            )

    from hubel import api

    with only_the_document(json), reporting() as report:
        if worker:
            assert resume is not None  # noqa: S101 — asked above
            api.serve_race(resume, report=report)
            return
        if resume is not None:
            compared = api.resume_race(resume, workers=workers, report=report)
        else:
            compared = api.compare(
                str(data),
                models=_listed(models),
                preset=preset or "",
                budget=budget,
                seeds=seeds,
                objective=objective,
                constraints=tuple(constraint),
                tune=_listed(tune),
                trials=trials,
                workers=workers,
                output=output,
                report=report,
                **settings,
            )
    if json:
        print(json_module.dumps(compared.to_json(), allow_nan=False))
    else:
        from hubel.report.race_terminal import race_text

        print(race_text(compared.document, os.get_terminal_size().columns if _terminal() else 80))


def _terminal() -> bool:
    import sys

    return sys.stdout.isatty()


def _listed(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


compare = with_settings(
    _compare,
    "settings",
    (
        "task", "recipe", "img_size", "pretrained", "stem", "val_fraction", "fold",
        "same_protein", "cache", "allow", "batch_size", "optimizer", "flip", "device", "engine",
        "threads", "seed",
    ),
)  # fmt: skip
