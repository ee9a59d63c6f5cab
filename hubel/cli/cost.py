"""`hubel cost MODEL --input 3x224x224`: what a network costs before it runs."""

import json as json_module
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import typer

from hubel.errors import UserError
from hubel.shapes import format_shape

if TYPE_CHECKING:
    from torch import nn

    from hubel.cost.summary import Cost

__all__ = ["cost"]

_MAX_BATCH = 1_000_000


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
    batch_size: int = typer.Option(32, "--batch-size", help="Pictures a training step."),
    num_classes: int | None = typer.Option(
        None, "--num-classes", help="Outputs. (default: the network's own)"
    ),
    stem: str = typer.Option(
        "auto", "--stem", help="First layers: paper, small, or auto by the picture's size."
    ),
    depth: int | None = typer.Option(
        None,
        "--depth",
        help="Rows by blocks: the first N parts of the layers' names. (default: layers, or "
        "blocks if there are more than 40; with --json layers)",
    ),
    json: bool = typer.Option(False, "--json", help="Print one JSON document to stdout."),
) -> None:
    """Count a network's parameters, work and memory, layer by layer, without running it."""
    if not 1 <= batch_size <= _MAX_BATCH:
        raise UserError(f"--batch-size takes a number from 1 to {_MAX_BATCH:,}, got {batch_size}")
    if depth is not None and depth < 1:
        raise UserError(
            f"--depth takes a number from 1, got {depth}; 1 has one row a stage, more has more rows"
        )
    if stem not in ("auto", "paper", "small"):
        raise UserError(f"--stem takes auto, paper or small, got '{stem}'")
    from hubel.cost.summary import blocks
    from hubel.cost.table import table_lines
    from hubel.models import Stem
    from hubel.named_network import named_network, written_shape

    shape = None if input is None else written_shape(input)
    network, shape = named_network(model, shape, num_classes=num_classes, stem=cast(Stem, stem))
    found = replace(_counted(network, shape, batch_size, model), model=model)
    if json:
        rows = found.rows if depth is None else blocks(found.rows, depth)
        print(json_module.dumps(found.to_json(rows), allow_nan=False))
    else:
        print("\n".join(table_lines(found, depth)))


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
        check_fits(network, shape)  # says where it does not fit
        raise UserError(
            f"'{name}' could not be run on {format_shape(batch_size, *shape)}: {reason}; try "
            f"another --input"
        ) from error
