"""`hubel cost MODEL --input 3x224x224`: what a network costs before it runs."""

import json as json_module
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from hubel.errors import UserError
from hubel.shapes import format_shape

if TYPE_CHECKING:
    from torch import nn

    from hubel.cost.summary import Cost

__all__ = ["cost"]

_MAX_SIDE = 100_000
_MAX_INPUT = 1 << 34
_MAX_BATCH = 1_000_000
_COLOURED = (3, 224, 224)


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
    shape = None if input is None else _input_shape(input)
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

    network, shape = _network(model, shape, num_classes, stem)
    found = replace(_counted(network, shape, batch_size, model), model=model)
    if json:
        rows = found.rows if depth is None else blocks(found.rows, depth)
        print(json_module.dumps(found.to_json(rows), allow_nan=False))
    else:
        print("\n".join(table_lines(found, depth)))


def _input_shape(words: str) -> tuple[int, ...]:
    """(c, *spatial) of 3x224x224, 3×224×224 or 3,224,224."""
    parts = re.split("[x×,]", words.lower().strip())
    if not all(re.fullmatch(r"[0-9]{1,9}", part.strip(), re.ASCII) for part in parts):
        raise UserError(
            f"--input takes channels and sizes such as 3x224x224 or 1x48x48x48, got '{words}'"
        )
    shape = tuple(map(int, parts))
    if len(shape) not in (3, 4):
        raise UserError(
            f"--input takes channels and 2 sizes (a picture, 3x224x224) or 3 (a volume, "
            f"1x48x48x48), got {len(shape)} number{'s' * (len(shape) > 1)}: '{words}'"
        )
    if shape[0] < 1:
        raise UserError(
            f"--input needs at least 1 channel, got '{words}'; a grey picture has 1, a coloured 3"
        )
    if not all(1 <= side <= _MAX_SIDE for side in shape):
        raise UserError(f"--input takes sizes from 1 to {_MAX_SIDE:,}, got '{words}'")
    total = 1
    for side in shape:
        total *= side
    if total > _MAX_INPUT:
        raise UserError(
            f"--input '{words}' has {total:,} values a picture, at most {_MAX_INPUT:,} are "
            f"counted; give a smaller size"
        )
    return shape


def _network(
    name: str, shape: tuple[int, ...] | None, num_classes: int | None, stem: str
) -> "tuple[nn.Module, tuple[int, ...]]":
    """The network that `name` means and the shape of its input; without numbers where it can."""
    from hubel.external_models import ExternalModel, external, is_external
    from hubel.models import MODELS, ModelSpec, build

    if is_external(name):
        shape = shape or _COLOURED
        spec = ModelSpec(name, shape[0], num_classes or 1000, shape[1:], stem=stem)  # type: ignore[arg-type]
        own = not name.startswith(("torchvision:", "timm:"))
        model = external(spec) if own else _weightless(lambda: external(spec))
        return model.network if isinstance(model, ExternalModel) else model, shape
    if name not in MODELS.names() and Path(name).expanduser().is_dir():
        return _of_run(name, shape, num_classes, stem)
    architecture = MODELS[name]
    if shape is None:
        shape = (architecture.in_channels, *(architecture.input_side,) * 2)
    classes = architecture.num_classes if num_classes is None else num_classes
    spec = ModelSpec(name, shape[0], classes, shape[1:], stem=stem)  # type: ignore[arg-type]
    return _weightless(lambda: build(spec)), shape


def _weightless(build: "Callable[[], nn.Module]") -> "nn.Module":
    """What `build` makes, on the meta device if its builder does not look at numbers."""
    import torch

    try:
        with torch.device("meta"):
            return build()
    except (NotImplementedError, UserError):
        return build()


def _of_run(
    name: str, shape: tuple[int, ...] | None, num_classes: int | None, stem: str
) -> "tuple[nn.Module, tuple[int, ...]]":
    from hubel.inference import load_trained
    from hubel.runs import RunFolder

    if num_classes is not None or stem != "auto":
        raise UserError(
            f"the run '{name}' has its network already: leave out --num-classes and --stem, or "
            f"name an architecture (hubel models lists them)"
        )
    trained = load_trained(RunFolder.open(Path(name).expanduser()))
    return trained.model, shape or trained.spec.input_shape


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
