"""`hubel cost MODEL --input 3x224x224`: what a network costs before it runs."""

import json as json_module
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import typer

from hubel.config import FitConfig
from hubel.errors import UserError
from hubel.shapes import format_shape

if TYPE_CHECKING:
    from torch import nn

    from hubel.cost.fit_cost import DataFacts, FitPrediction
    from hubel.cost.predict import Prediction
    from hubel.cost.summary import Cost

__all__ = ["cost"]


_ENGINES = {
    "asked for": "",
    "likely": "engine: {}, the likely best here; hubel fit measures first, --engine pins one",
    "measured by an earlier fit": "engine: {}, which an earlier fit of the same measured",
}


def cost(
    model: str = typer.Argument(
        ...,
        help="A network (hubel models lists them), torchvision:NAME, timm:NAME, "
        "file.py:ClassOrFunction, or a run folder.",
        metavar="MODEL",
    ),
    input: str | None = typer.Option(
        None,
        "--input",
        help="Channels and size of one picture or volume, such as 3x224x224 or 1x48x48x48. "
        "(default: the network's own)",
    ),
    batch_size: int | None = typer.Option(
        None,
        "--batch-size",
        help="Pictures a training step. (default: 32, with --data the fit's)",
    ),
    data: str | None = typer.Option(
        None,
        "--data",
        help="A data set: predicts an epoch and a whole fit on it, and gives --input and "
        "--num-classes.",
    ),
    epochs: int | None = typer.Option(
        None, "--epochs", help="Of the fit on --data. (default: hubel fit's)"
    ),
    task: str = typer.Option("classify", "--task", help="What is learned from --data."),
    num_classes: int | None = typer.Option(
        None, "--num-classes", help="Outputs. (default: the network's own)"
    ),
    device: str = typer.Option("auto", "--device", help="The device to predict for."),
    arithmetic: str = typer.Option(
        "auto",
        "--engine",
        help="As of hubel fit; auto: what an earlier fit of the same measured, else the likely "
        "best.",
    ),
    prediction: bool = typer.Option(
        True, "--predict/--no-predict", help="Predict times and memory on this machine."
    ),
    again: bool = typer.Option(
        False, "--measure-again", help="Forget what was measured of this machine."
    ),
    stem: str = typer.Option(
        "auto", "--stem", help="First layers: paper, small, or auto by the picture's size."
    ),
    width: float = typer.Option(
        FitConfig.width, "--width", help="Channels of every layer, as a multiple of the paper's."
    ),
    depth: int | None = typer.Option(
        None,
        "--depth",
        help="Rows by blocks: the first N parts of the layers' names. (default: layers, or "
        "blocks if there are more than 40; with --json layers)",
    ),
    json: bool = typer.Option(False, "--json", help="Print one JSON document to stdout."),
) -> None:
    """Count a network's work layer by layer and predict its time and memory, without running it."""
    given = {"epochs": epochs, "batch_size": batch_size}
    settings: dict[str, object] = {k: v for k, v in given.items() if v is not None}
    if data is None:
        if epochs is not None:
            raise UserError("--epochs counts passes over --data; give both, or leave it out")
        settings.setdefault("batch_size", 32)
    if batch_size is not None and batch_size < 1:
        raise UserError(
            f"--batch-size takes a number of pictures from 1, got {batch_size}; leave it out for "
            f"32, or with --data what a fit would take"
        )
    settings |= {"data": data or "", "device": device, "engine": arithmetic}
    config = FitConfig.from_settings(settings)
    if depth is not None and depth < 1:
        raise UserError(
            f"--depth takes a number from 1, got {depth}; 1 has one row a stage, more has more rows"
        )
    if stem not in ("auto", "paper", "small"):
        raise UserError(f"--stem takes auto, paper or small, got '{stem}'")
    from hubel.cli.output import only_the_document
    from hubel.cost.summary import blocks
    from hubel.cost.table import prediction_lines, table_lines
    from hubel.engine import choose_engine
    from hubel.models import Model, Stem
    from hubel.named_network import named_network, written_shape
    from hubel.tasks import TASKS

    choose_engine(config)  # one that the device has not got is told at once
    shape = None if input is None else written_shape(input)
    facts = None
    if data is not None:
        from hubel.cost.fit_cost import facts_of
        from hubel.train.batch_size import bounded_batch_size
        from hubel.train.recipe import settle_batch_size

        if shape is not None:
            config = replace(config, img_size=shape[1:])
        facts = facts_of(config)
        if shape is not None and shape[0] != facts.in_channels:
            raise UserError(
                f"--input has {shape[0]} channels, the data {facts.in_channels}; leave --input "
                f"out, or give {format_shape(facts.in_channels, *shape[1:])}"
            )
        shape = facts.input_shape
        config = settle_batch_size(config, facts.num_train)
        config, _ = bounded_batch_size(config, facts.num_train)
        if not Path(model).expanduser().is_dir():
            found_classes = TASKS[task].num_outputs(len(facts.classes))
            num_classes = found_classes if num_classes is None else num_classes
    TASKS[task]  # an unknown one is told
    predicted = fit = None
    notes: list[str] = []
    with only_the_document(json):
        network, shape = named_network(
            model, shape, num_classes=num_classes, stem=cast(Stem, stem), width=width
        )
        if TASKS[task].answer != "class":
            if num_classes is None:
                raise UserError(
                    f"--task {task} puts a head for each class on the network's maps: give "
                    f"--num-classes, or --data"
                )
            network = TASKS[task].network(cast(Model, network), num_classes, shape)
            notes.append(f"the loss of --task {task} is priced as a classifier's, which is less")
        found = replace(_counted(network, shape, config.batch_size, model), model=model)
        if prediction:
            predicted, fit, said = _predicted(network, shape, config, facts, again=again)
            notes += said
            found = found.timed(predicted.layers)
    if json:
        rows = found.rows if depth is None else blocks(found.rows, depth)
        document = found.to_json(rows)
        document["prediction"] = None if predicted is None else predicted.to_json()
        if predicted is not None:
            document["prediction"]["notes"] = notes
        if predicted is not None and fit is not None:
            document["prediction"]["fit"] = fit.to_json()
        print(json_module.dumps(document, allow_nan=False))
        return
    print("\n".join(table_lines(found, depth)))
    if predicted is not None:
        print()
        print("\n".join(prediction_lines(found, predicted, fit, depth)))
        for note in notes:
            print(textwrap.fill(note, 80))


def _predicted(
    network: "nn.Module",
    shape: tuple[int, ...],
    config: FitConfig,
    facts: "DataFacts | None",
    *,
    again: bool,
) -> "tuple[Prediction, FitPrediction | None, list[str]]":
    """For this machine, and for a fit on the data where there is some; what is to be said of it."""
    from hubel.cost.fit_cost import predict_fit
    from hubel.train.forecast import forecast_here, left_out

    found, engine, how = forecast_here(config, network, shape, again=again)
    notes = [_ENGINES[how].format(engine.words), *left_out(config, network, shape, engine)]
    fit = None if facts is None else predict_fit(found, facts, config, engine)
    return found, fit, [note for note in notes if note]


def _counted(network: "nn.Module", shape: tuple[int, ...], batch_size: int, name: str) -> "Cost":
    """The counts, or `UserError` at the first layer that does not fit."""
    from hubel.cost.summary import count
    from hubel.fits import check_fits
    from hubel.python_file import telling_where

    if ".py:" in name:
        file = Path(name.rpartition(":")[0]).expanduser()
        failure = f"fails on a {format_shape(*shape)} input"
        telling_where(file, failure, lambda: check_fits(network, shape))
    try:
        return count(network, shape, batch_size=batch_size)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        reason = str(error).splitlines()[0]
        if isinstance(error, UserError):
            raise
        if "more than 1 value per channel when training" in reason:
            raise UserError(
                f"--batch-size {batch_size}: a batch norm has one value a channel to average over "
                f"in a training step on {format_shape(*shape)}; give --batch-size 2 or more, or a "
                f"larger --input"
            ) from None
        if "memory" in reason:
            raise UserError(
                f"'{name}' does not fit into memory on {format_shape(batch_size, *shape)} "
                f"({reason[:200]}); give a smaller --batch-size"
            ) from None
        check_fits(network, shape)  # says where it does not fit
        raise UserError(
            f"'{name}' could not be run on {format_shape(batch_size, *shape)}: {reason}; try "
            f"another --input"
        ) from error
