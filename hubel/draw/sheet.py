"""What all drawings of a network share: their title, their figures, their legend."""

import textwrap
from collections.abc import Sequence

from hubel.draw.graph import Graph, Kind
from hubel.draw.palette import Palette
from hubel.draw.scene import Scene
from hubel.draw.widths import words_width
from hubel.draw.words import count_words, shape_words

__all__ = ["finish", "opened"]

_TYPICAL = "the letters of a note, and how wide they are together"
_LEAST = 640.0
"""Pixels that a line of notes may take under the narrowest drawing."""


def opened(graph: Graph, what: str) -> Scene:
    """An empty sheet; `what` says in a sentence what it will show."""
    figures = (
        f"{count_words(graph.params)} parameters, {count_words(graph.macs)} MACs "
        f"({count_words(2 * graph.macs)} FLOPs) for one input of {shape_words(graph.input_shape)}"
    )
    return Scene(graph.name, f"{what} {figures}.")


def finish(
    scene: Scene, graph: Graph, palette: Palette, kinds: Sequence[Kind], notes: Sequence[str]
) -> Scene:
    """Title, figures and legend above what is drawn so far, `notes` below."""
    left, top, right, bottom = scene.bounds
    figures = (
        f"{shape_words(graph.input_shape)} input · {count_words(graph.params)} parameters · "
        f"{count_words(graph.macs)} MACs = {count_words(2 * graph.macs)} FLOPs"
    )
    scene.text(left, top - 74, graph.name, 22, bold=True)
    scene.text(left, top - 52, figures, 13, colour="muted")
    palette.legend(scene, left, top - 26, kinds)
    columns = int(max(right - left, _LEAST) / words_width(_TYPICAL, 11.5) * len(_TYPICAL))
    lines = [line for note in notes for line in textwrap.wrap(note, columns)]
    for turn, note in enumerate(lines):
        scene.text(left, bottom + 28 + 16 * turn, note, 11.5, colour="muted")
    return scene
