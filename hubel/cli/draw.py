"""`hubel draw`: a picture of a network, from the network itself."""

import json as json_module
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from hubel.config import FitConfig
from hubel.errors import UserError, suggestion

if TYPE_CHECKING:
    from torch import nn

    from hubel.draw.graph import Graph
    from hubel.draw.network import Style
    from hubel.draw.palette import Colour, Colouring

__all__ = ["draw"]

_BATCH = 32
"""Pictures in the step whose times are drawn: as in `hubel cost`."""


def draw(
    model: str = typer.Argument(
        ...,
        metavar="MODEL",
        help="A network (hubel models lists them), torchvision:NAME, timm:NAME, "
        "file.py:ClassOrFunction, or a run folder.",
    ),
    style: str = typer.Option(
        "blocks",
        "--style",
        help="blocks: stages with their shapes; layers: every layer and connection; paper: "
        "volumetric blocks to scale.",
    ),
    color: str = typer.Option(
        "kind",
        "--color",
        help="What colours tell: kind, params, macs, memory (of outputs) or time (predicted for "
        "a training step on this machine).",
    ),
    input: str | None = typer.Option(
        None, "--input", help="CxHxW or CxDxHxW. (default: the published one)"
    ),
    width: float = typer.Option(
        FitConfig.width, "--width", help="Channels of every layer, as a multiple of the paper's."
    ),
    output: str | None = typer.Option(
        None,
        "--output",
        "-o",
        metavar="FILE",
        help=".svg, .pdf, .png, .html, or .tex (TikZ). (default: MODEL-STYLE.svg here)",
    ),
    force: bool = typer.Option(False, "--force", help="Replace the file if it exists."),
    json: bool = typer.Option(False, "--json", help="Print one JSON document to stdout."),
) -> None:
    """Draw a network from the live model: stages, every layer, or a paper's figure."""
    from hubel.cli.output import destination, only_the_document, write_file
    from hubel.draw.network import STYLES, SUFFIXES, draw_network, drawn
    from hubel.draw.palette import COLOURS, colouring
    from hubel.named_network import named_network, written_shape

    for option, value, known in (
        ("--style", style, STYLES),
        ("--color", color, (*COLOURS, "time")),
    ):
        if value not in known:
            raise UserError(f"{option} '{value}' is not known; {suggestion(value, known)}")
    shape = written_shape(input) if input is not None else None
    # Of file.py:Net and of a run without their folders.
    title = Path(model).name if ".py:" in model or Path(model).is_dir() else model
    plain = re.sub(r"\W+", "-", title).strip("-") or "network"
    # Before the work, so that a mistake is told at once.
    name = output or f"{plain}-{style}.svg"
    path = destination("--output", name, SUFFIXES, [model.partition(":")[0]], force)
    with only_the_document(json):
        network, shape = named_network(model, shape, width=width)
        from hubel.draw.graph import network_graph

        graph = network_graph(network, shape, title)
        if color == "time":
            told = _by_time(network, shape)
        else:
            told = colouring(graph, cast("Colour", color))
        scene = draw_network(graph, cast("Style", style), told)
    suffix = path.suffix.lower()
    write_file("--output", path, drawn(scene, suffix))
    files = {suffix[1:]: str(path)}
    if json:
        document = {"model": model, **_document(graph, style, color, files)}
        print(json_module.dumps(document, allow_nan=False))
        return
    from hubel.draw.words import count_words, shape_words

    print(
        f"{model}: {len(graph.nodes) - 1} operations, {count_words(graph.params)} parameters, "
        f"{count_words(graph.macs)} MACs"
    )
    print(f"({count_words(2 * graph.macs)} FLOPs) for one input of {shape_words(shape)}")
    for suffix, written in files.items():
        print(f"{suffix}: {written}")


def _by_time(network: "nn.Module", shape: tuple[int, ...]) -> "Colouring":
    """Colours by the predicted time of each layer in a training step of `_BATCH` pictures."""
    from hubel.cost.words import seconds_words
    from hubel.draw.palette import Colouring
    from hubel.train.forecast import forecast_here

    found, _, _ = forecast_here(FitConfig(batch_size=_BATCH), network, shape)
    seconds = {name: layer.step_s for name, layer in found.layers.items()}
    return Colouring(seconds, f"time in a training step of {_BATCH},", seconds_words)


def _document(graph: "Graph", style: str, color: str, files: dict[str, str]) -> dict[str, Any]:
    """The document of --json.

    nodes: the operations in the order in which they run, the first the input; edges: pairs of
    indices of nodes, from and to; memory_bytes: of the output of one sample as float32.
    """
    return {
        "input_shape": graph.input_shape,
        "style": style,
        "color": color,
        "params": graph.params,
        "macs": graph.macs,
        "flops": 2 * graph.macs,
        "nodes": [
            {
                "name": node.name,
                "kind": node.kind,
                "label": node.label,
                "shape": node.shape,
                "params": node.params,
                "macs": node.macs,
                "memory_bytes": node.memory,
            }
            for node in graph.nodes
        ],
        "edges": graph.edges,
        "files": files,
    }
