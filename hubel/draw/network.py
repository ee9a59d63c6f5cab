"""One call for each drawing of a network, and for each kind of file."""

import html
from typing import Literal, TypeAlias, get_args

from hubel.draw.blocks import blocks_sheet
from hubel.draw.graph import Graph
from hubel.draw.layers import layers_sheet
from hubel.draw.palette import Colouring
from hubel.draw.paper import paper_sheet
from hubel.draw.scene import Scene
from hubel.draw.svg import to_text
from hubel.draw.tikz import tikz

__all__ = ["STYLES", "SUFFIXES", "Style", "draw_network", "drawn"]

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


def draw_network(graph: Graph, style: Style, colouring: Colouring | None = None) -> Scene:
    """The drawing of `graph` in one of `STYLES`; by default colours tell kinds of layers."""
    sheets = {"blocks": blocks_sheet, "layers": layers_sheet, "paper": paper_sheet}
    return sheets[style](graph, colouring or Colouring())


def drawn(scene: Scene, suffix: str) -> bytes | str:
    """`scene` as the content of a file whose suffix is one of `SUFFIXES`."""
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
