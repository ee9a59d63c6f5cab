"""The colours of a network's drawing: by kind, or by how much of something a layer has."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from hubel.draw.graph import Graph, Kind, Node
from hubel.draw.scene import Scene, mixed
from hubel.draw.widths import words_width
from hubel.draw.words import count_words

__all__ = ["COLOURS", "KIND_COLOURS", "Colour", "Colouring", "Palette", "colouring"]

Colour: TypeAlias = Literal["kind", "params", "macs", "memory"]
COLOURS: tuple[str, ...] = get_args(Colour)

# Light enough for dark words, in a dark setting, too.
KIND_COLOURS: dict[Kind, str] = {
    "input": "#c3daf6", "conv": "#f5c871", "dense": "#b3aaf0", "attention": "#7fcbc4",
    "pool": "#ee8f86", "norm": "#cdd5e3", "activation": "#f0a35e", "dropout": "#dddddd",
    "add": "#93d38a", "concat": "#c5df7b", "multiply": "#a5dcb4", "reshape": "#e9e4d8",
    "other": "#dccbbb",
}  # fmt: skip
_KIND_WORDS: dict[Kind, str] = {
    "input": "input", "conv": "convolution", "dense": "dense", "attention": "attention",
    "pool": "pooling", "norm": "normalisation", "activation": "activation", "dropout": "dropout",
    "add": "addition", "concat": "concatenation", "multiply": "product", "reshape": "reshape",
    "other": "other",
}  # fmt: skip
_LOW, _HIGH = "#f1f4fb", "#5f90f0"
_WHAT = {"params": "parameters", "macs": "MACs", "memory": "bytes of output (float32)"}
_SWATCH = 13.0


@dataclass(frozen=True)
class Colouring:
    """What the colours of a drawing tell: kinds of layers, or a number of each layer."""

    values: Mapping[str, float] | None = None
    """By the names of nodes, 0 for those that it lacks; numbers of the nodes of a box are added.
    None: the colours tell kinds."""
    what: str = ""
    """What the numbers are, in the words of the legend: 'parameters'."""
    written: Callable[[float], str] = count_words
    """A number in the words of the legend."""


def colouring(graph: Graph, colour: Colour) -> Colouring:
    """What `colour` tells of each layer of `graph`."""
    if colour == "kind":
        return Colouring()
    values = {
        "params": {node.name: float(node.params) for node in graph.nodes},
        "macs": {node.name: float(node.macs) for node in graph.nodes},
        "memory": {node.name: float(node.memory) for node in graph.nodes},
    }
    return Colouring(values[colour], _WHAT[colour])


@dataclass(frozen=True)
class Palette:
    """Colours of the boxes of one drawing."""

    colouring: Colouring
    most: float = 0.0
    """The largest value of one box: it has the deepest colour."""

    @classmethod
    def of(cls, graph: Graph, colouring: Colouring, boxes: Iterable[Iterable[int]]) -> "Palette":
        """For a drawing of `boxes`, each the nodes that it stands for."""
        plain = cls(colouring)
        return cls(colouring, max(plain.value([graph.nodes[i] for i in box]) for box in boxes))

    @property
    def by_kind(self) -> bool:
        """Whether colours tell kinds."""
        return self.colouring.values is None

    def value(self, nodes: list[Node]) -> float:
        """What counts for the colour of a box that stands for `nodes`."""
        return sum((self.colouring.values or {}).get(node.name, 0.0) for node in nodes)

    def fill(self, nodes: list[Node], kind: Kind | None = None) -> str:
        """The colour of a box for `nodes`; `kind` if it shows but one of their kinds."""
        if self.by_kind:
            return KIND_COLOURS[kind or leading_kind(nodes)]
        return self._shade(self.value(nodes))

    def _shade(self, value: float) -> str:
        # The root spreads values that span orders of magnitude, and a legend can still say it.
        return mixed(_LOW, _HIGH, (value / self.most) ** 0.5 if self.most else 0.0)

    def legend(self, scene: Scene, x: float, y: float, kinds: Iterable[Kind]) -> None:
        """What the colours mean, in a row from (x, y) on."""
        if self.by_kind:
            present = set(kinds)
            rows = [(c, _KIND_WORDS[k]) for k, c in KIND_COLOURS.items() if k in present]
        else:
            shares = [k / 4 for k in range(5)]
            rows = [
                (mixed(_LOW, _HIGH, s), self.colouring.written(s * s * self.most)) for s in shares
            ]
            words = f"{self.colouring.what} of a box:"
            scene.text(x, y, words, 12, colour="muted")
            x += words_width(words, 12) + 10
        for fill, words in rows:
            scene.box(x, y - 10.5, _SWATCH, _SWATCH, fill)
            scene.text(x + _SWATCH + 5, y, words, 12)
            x += _SWATCH + 5 + words_width(words, 12) + 14


def leading_kind(nodes: list[Node]) -> Kind:
    """The kind that a box of several operations is named after: the one that does most."""
    order: tuple[Kind, ...] = (
        "conv", "dense", "attention", "pool", "concat", "add", "multiply", "norm",
        "activation", "input", "other", "dropout", "reshape",
    )  # fmt: skip
    return min((node.kind for node in nodes), key=order.index)
