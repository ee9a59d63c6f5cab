"""A network as the solids of a paper's figure: what is one solid, and what is told once."""

from dataclasses import dataclass, field

from hubel.draw.graph import Graph, Kind
from hubel.draw.structure import Group, Step, folded, joined_channels, main_path, steps
from hubel.draw.words import window_words
from hubel.shapes import format_shape

__all__ = ["Piece", "Run", "runs"]

_SOLID: tuple[Kind, ...] = ("input", "conv", "dense", "attention", "pool")


@dataclass
class Piece:
    """One solid: the output of a layer, with what acts on it in place."""

    nodes: list[int]
    kind: Kind
    shape: tuple[int, ...]
    window: str = ""
    """`3×3 /2`."""
    active: bool = False
    """Whether an activation follows."""
    gated: bool = False
    """Whether its channels are weighted by a small network of their own."""
    parts: tuple[int, ...] = ()
    """Channels of the branches that it is put together from."""

    @property
    def is_map(self) -> bool:
        """Whether it has sides larger than a pixel."""
        return len(self.shape) > 2 and max(self.shape[1:]) > 1

    @property
    def size(self) -> str:
        """`56×56`, '197 tokens', or nothing for a vector."""
        if self.is_map:
            return format_shape(*self.shape[1:])
        return f"{self.shape[0]} tokens" if len(self.shape) == 2 else ""

    @property
    def channels(self) -> int:
        """Of each pixel or token, or of the vector."""
        return self.shape[-1] if len(self.shape) == 2 else self.shape[0]


@dataclass
class Run:
    """Solids that belong together: one layer, or the block that happens `count` times."""

    pieces: list[Piece] = field(default_factory=list)
    count: int = 1
    arcs: list[tuple[int, int]] = field(default_factory=list)
    """Shortcuts: past the pieces from the first to the last number."""
    ladder: bool = False
    """A dense block: its one piece's parts are its layers, each feeding all that follow."""


def runs(graph: Graph) -> list[Run]:
    """The network in order."""
    found: list[Run] = []
    for group in folded(graph, steps(graph)):
        if group.steps[0].form == "gate" and found:
            found[-1].pieces[-1].gated = True
            found[-1].pieces[-1].nodes += group.nodes
            continue
        if group.steps[0].is_block:
            found.append(_block(graph, group))
            continue
        node = group.steps[0].end
        piece = _solid(graph, node)
        if graph.nodes[node].kind == "concat" and len(graph.nodes[node].inputs) > 1:
            piece = _joined(graph, group.steps[0])  # the end of a long shortcut
        if piece is not None:
            found.append(Run([piece]))
        elif found and found[-1].pieces:
            _absorb(graph, found[-1].pieces[-1], node)
    return [run for run in found if run.pieces]


def _solid(graph: Graph, index: int) -> Piece | None:
    node = graph.nodes[index]
    before = [graph.nodes[i].shape for i in node.inputs]
    idle = node.kind == "pool" and before == [node.shape] and not node.window
    # The distances of the LeNet-5 of 1998, say: a vector that no dense layer makes.
    scoring = node.kind == "other" and len(node.shape) == 1 and before != [node.shape]
    if (node.kind not in _SOLID and not scoring) or idle:
        return None
    window = window_words(node.window, len(node.window)) if node.window else ""
    if max(node.stride, default=1) > 1:
        window += f" /{node.stride[0]}"
    if node.kind == "attention":
        window = node.label.removeprefix("attention").strip(", ")
        if len(node.shape) == 3:  # heads beside each other: (heads, tokens, channels)
            heads, tokens, channels = node.shape
            return Piece([index], node.kind, (tokens, heads * channels), f"{heads} heads")
    if node.kind == "conv" and node.label.startswith("depthwise"):
        window = f"dw {window}"
    if node.kind == "conv" and node.label.startswith("up-conv"):
        window = f"up {window.partition(' ')[0]}"
    return Piece([index], node.kind, node.shape, window)


def _absorb(graph: Graph, piece: Piece, index: int) -> None:
    node = graph.nodes[index]
    piece.nodes.append(index)
    piece.active = piece.active or node.kind == "activation"


def _block(graph: Graph, group: Group) -> Run:
    run = Run(count=group.count)
    for step in group.steps:
        first = len(run.pieces)
        if step.form in ("inception", "branches", "dense"):
            run.pieces.append(_joined(graph, step))
            run.ladder = step.form == "dense"
            continue
        for piece in _trunk(graph, step):
            run.pieces.append(piece)
        if step.form == "residual" and len(run.pieces) > first:
            run.arcs.append((first, len(run.pieces) - 1))
    return run


def _joined(graph: Graph, step: Step) -> Piece:
    end = max(i for i in step.nodes if graph.nodes[i].kind == "concat")
    node = graph.nodes[end]
    parts = joined_channels(graph, step)
    active = any(graph.nodes[i].kind == "activation" for i in step.nodes)
    return Piece(list(step.nodes), "concat", node.shape, parts=parts, active=active)


def _trunk(graph: Graph, step: Step) -> list[Piece]:
    """The solids of the longest way through a block; what gates a map is no solid of its own."""
    pieces: list[Piece] = []
    path = list(main_path(graph, step.nodes))
    path += [step.end] if step.end not in path else []
    for index in path:
        piece = _solid(graph, index)
        node = graph.nodes[index]
        vector = len(node.shape) > 2 and max(node.shape[1:]) == 1
        gating = vector and bool(pieces) and pieces[-1].is_map
        if piece is not None and not gating:
            pieces.append(piece)
        elif pieces:
            if gating:
                pieces[-1].gated = True
                pieces[-1].nodes.append(index)
            else:
                _absorb(graph, pieces[-1], index)
    if pieces:
        aside = set(step.nodes) - {n for p in pieces for n in p.nodes}
        pieces[-1].nodes += sorted(aside)
    return pieces
