"""One call for each drawing of a network, and for the file that it goes to."""

import html
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from hubel.draw.blocks import blocks_sheet
from hubel.draw.graph import Graph
from hubel.draw.layers import layers_sheet
from hubel.draw.palette import Colour
from hubel.draw.paper import paper_sheet
from hubel.draw.scene import Scene
from hubel.draw.svg import to_text
from hubel.draw.tikz import tikz
from hubel.errors import UserError
from hubel.runs import write_atomic

__all__ = ["STYLES", "SUFFIXES", "Style", "draw_network", "output_file", "write_drawing"]

Style: TypeAlias = Literal["blocks", "layers", "paper"]
STYLES: tuple[str, ...] = get_args(Style)
SUFFIXES = (".svg", ".pdf", ".png", ".tex", ".html")

_PNG_SCALE = 2.0
# Renderers refuse pictures beyond some ten thousand pixels a side.
_PNG_LARGEST = 8_000.0

_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>:root{{color-scheme:light dark}} body{{margin:0}} \
@media (prefers-color-scheme:dark){{body{{background:#171b22}}}} \
svg{{display:block;margin:0 auto;max-width:100%;height:auto}}</style></head>
<body>
{svg}</body>
</html>
"""


def draw_network(graph: Graph, style: Style, colour: Colour = "kind") -> Scene:
    """The drawing of `graph` in one of `STYLES`."""
    if style == "paper":
        return paper_sheet(graph, colour)
    if style == "layers":
        return layers_sheet(graph, colour)
    return blocks_sheet(graph, colour)


def output_file(name: str, option: str = "--output") -> Path:
    """`name` as a file that can be written in a format that is known, or `UserError`."""
    path = Path(name)
    if path.is_dir():
        raise UserError(
            f"{option} takes the name of a file, '{path}' is a folder: {path / 'network.svg'}"
        )
    if path.suffix.lower() not in SUFFIXES:
        got = f"'{path.suffix}'" if path.suffix else "no suffix"
        raise UserError(
            f"{option} '{path}': the suffix says the format, one of {', '.join(SUFFIXES)}; "
            f"got {got}"
        )
    if path.exists() and not path.is_file():
        # A rename would put a file in the place of a device or a pipe.
        raise UserError(f"{option} '{path}' is not a plain file; give another name")
    if not path.parent.is_dir():
        raise UserError(f"{option} '{path}': the folder '{path.parent}' does not exist; make it")
    return path


def write_drawing(path: Path, scene: Scene, option: str = "--output") -> Path:
    """Write `scene` in the format of the suffix, whole or not at all."""
    try:
        write_atomic(path, _content(path.suffix.lower(), scene))
    except OSError as error:
        raise UserError(
            f"{option} '{path}' cannot be written: {error.strerror}; choose another folder"
        ) from error
    return path


def _content(suffix: str, scene: Scene) -> bytes | str:
    if suffix == ".tex":
        return tikz(scene)
    words = to_text(scene.svg())
    if suffix == ".svg":
        return words
    if suffix == ".html":
        return _PAGE.format(title=html.escape(scene.title), svg=words)
    import vl_convert

    if suffix == ".pdf":
        return bytes(vl_convert.svg_to_pdf(words))
    left, top, right, bottom = scene.bounds
    scale = min(_PNG_SCALE, _PNG_LARGEST / max(right - left, bottom - top))
    return bytes(vl_convert.svg_to_png(words, scale=scale))
