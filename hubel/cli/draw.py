"""`hubel draw`: a picture of a network, from the network itself."""

import json as json_module
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from hubel.errors import UserError, suggestion

if TYPE_CHECKING:
    from hubel.draw.graph import Graph
    from hubel.draw.network import Style
    from hubel.draw.palette import Colour

__all__ = ["draw"]


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
        "kind", "--color", help="What colours tell: kind, params, macs or memory (of outputs)."
    ),
    input: str | None = typer.Option(
        None, "--input", help="CxHxW or CxDxHxW. (default: the published one)"
    ),
    output: str | None = typer.Option(
        None,
        "--output",
        "-o",
        metavar="FILE",
        help=".svg, .pdf, .png, .html, or .tex (TikZ). (default: MODEL-STYLE.svg here)",
    ),
    json: bool = typer.Option(False, "--json", help="Print one JSON document to stdout."),
) -> None:
    """Draw a network from the live model: stages, every layer, or a paper's figure."""
    from hubel.draw.network import STYLES, draw_network, output_file, write_drawing
    from hubel.draw.palette import COLOURS
    from hubel.named_network import named_network, written_shape

    for option, value, known in (("--style", style, STYLES), ("--color", color, COLOURS)):
        if value not in known:
            raise UserError(f"{option} '{value}' is not known; {suggestion(value, known)}")
    shape = written_shape(input) if input is not None else None
    if output is not None:
        path = output_file(output)  # before the work, so that a mistake is told at once
    network, shape = named_network(model, shape)
    if output is None:
        plain = re.sub(r"\W+", "-", Path(model).name).strip("-") or "network"
        path = output_file(f"{plain}-{style}.svg")
    from hubel.draw.graph import network_graph

    graph = network_graph(network, shape, model)
    scene = draw_network(graph, cast("Style", style), cast("Colour", color))
    files = {path.suffix.lower()[1:]: str(write_drawing(path, scene))}
    if json:
        print(json_module.dumps(_document(graph, style, color, files), allow_nan=False))
        return
    from hubel.draw.words import count_words, shape_words

    print(
        f"{model}: {len(graph.nodes) - 1} operations, {count_words(graph.params)} parameters, "
        f"{count_words(graph.macs)} MACs"
    )
    print(f"({count_words(2 * graph.macs)} FLOPs) for one input of {shape_words(shape)}")
    for suffix, written in files.items():
        print(f"{suffix}: {written}")


def _document(graph: "Graph", style: str, color: str, files: dict[str, str]) -> dict[str, Any]:
    """The document of --json.

    nodes: the operations in the order in which they run, the first the input; edges: pairs of
    indices of nodes, from and to; memory_bytes: of the output of one sample as float32.
    """
    return {
        "model": graph.name,
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
