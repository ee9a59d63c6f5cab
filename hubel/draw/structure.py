"""The structure of a network, found in its graph and not in the names of its modules.

Where every path of the graph passes one node, it can be cut: between two cuts there is one
operation or a block of branches. Blocks that repeat are told once; steps at one resolution
are a stage.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from hubel.draw.graph import Graph, Node
from hubel.shapes import format_shape

__all__ = [
    "Group",
    "Stage",
    "Step",
    "Unit",
    "folded",
    "joined_channels",
    "main_path",
    "skips",
    "stages",
    "steps",
    "units",
]

Form: TypeAlias = Literal[
    "plain", "residual", "inception", "branches", "dense", "gate", "heads", "block"
]

_LIGHT = {"norm", "activation", "dropout", "reshape"}


@dataclass(frozen=True)
class Unit:
    """Operations that follow one another with nothing between: one box."""

    nodes: tuple[int, ...]


@dataclass(frozen=True)
class Step:
    """One operation of the trunk, or a block of branches; the last node ends it."""

    nodes: tuple[int, ...]
    form: Form
    end: int
    """The node whose output leaves the step; an activation after it belongs to the step."""

    @property
    def is_block(self) -> bool:
        """Whether it has branches."""
        return self.form != "plain"


@dataclass(frozen=True)
class Group:
    """Steps that are told once and happen `count` times in a row."""

    steps: tuple[Step, ...]
    """One repetition: the last, whose shortcut is the plain one."""
    count: int
    nodes: tuple[int, ...]
    """Of all repetitions."""


@dataclass(frozen=True)
class Stage:
    """Groups in a row whose outputs have one resolution."""

    name: str
    groups: tuple[Group, ...]

    @property
    def nodes(self) -> tuple[int, ...]:
        """Of all its groups."""
        return tuple(n for group in self.groups for n in group.nodes)

    @property
    def end(self) -> int:
        """The node whose output leaves the stage."""
        return self.groups[-1].nodes[-1]


def units(graph: Graph, within: Iterable[int] | None = None) -> list[Unit]:
    """The nodes in order, chains of one heavy operation and light ones merged to a box."""
    wanted = sorted(range(len(graph.nodes)) if within is None else within)
    inside = set(wanted)
    consumers = graph.consumers
    found: list[list[int]] = []
    place: dict[int, int] = {}
    for index in wanted:
        node = graph.nodes[index]
        before = node.inputs[0] if len(node.inputs) == 1 else None
        if before in place and before in inside and len(consumers[before]) == 1:
            chain = found[place[before]]
            heavy = [i for i in chain if not _is_light(graph.nodes[i])]
            light = _is_light(node) and graph.nodes[chain[0]].kind != "input"
            if chain[-1] == before and (light or not heavy):
                chain.append(index)
                place[index] = place[before]
                continue
        place[index] = len(found)
        found.append([index])
    return [Unit(tuple(chain)) for chain in found]


def _is_light(node: Node) -> bool:
    """Whether it goes in the box of the layer before: norms, activations, sums with constants."""
    alone = len(node.inputs) == 1 and node.macs == 0
    return node.kind in _LIGHT or (alone and node.kind in ("add", "multiply", "other"))


def steps(graph: Graph) -> list[Step]:
    """The graph as a chain; the first step is the input."""
    nodes = graph.nodes
    # The nodes run in an order in which every edge goes forward: a node may be cut if no edge
    # passes over it.
    furthest = 0
    cuts = []
    over = set(skips(graph))
    consumers = graph.consumers
    for index in range(len(nodes)):
        if furthest <= index:
            cuts.append(index)
        furthest = max([furthest, *(c for c in consumers[index] if (index, c) not in over)])
    found = [Step((0,), "plain", 0)]
    for before, cut in itertools.pairwise(cuts):
        inside = tuple(range(before + 1, cut + 1))
        if len(inside) == 1:
            last = found[-1]
            follows = nodes[cut].kind == "activation" and last.end == last.nodes[-1]
            if last.is_block and follows:
                found[-1] = Step((*last.nodes, cut), last.form, cut)
            else:
                found.append(Step(inside, "plain", cut))
        else:
            heads = any(not consumers[i] for i in inside[:-1])
            found.append(Step(inside, "heads" if heads else _form(nodes, inside), cut))
    return _dense_blocks(graph, found)


def skips(graph: Graph) -> list[tuple[int, int]]:
    """Edges (from, to) past a way down to a smaller resolution and up again, as in a U-Net.

    They join two ends of the trunk; what they pass is no block.
    """
    nodes = graph.nodes
    before = [0] * len(nodes)  # bit i of each: whether node i leads to it
    for index, node in enumerate(nodes):
        for i in node.inputs:
            before[index] |= before[i] | 1 << i
    grown = [n for n, node in enumerate(nodes) if _grows(graph, node)]
    return [
        (start, end)
        for start, end in graph.edges
        if nodes[end].kind in ("add", "concat")
        and nodes[start].shape[1:] == nodes[end].shape[1:]
        and any(before[end] >> n & 1 and before[n] >> start & 1 for n in grown)
    ]


def _grows(graph: Graph, node: Node) -> bool:
    """Whether a map comes out much larger than all that go in."""
    shapes = [node.shape, *(graph.nodes[i].shape for i in node.inputs)]
    computes = node.kind in ("conv", "other")  # a move of numbers may swap sides and channels
    if not computes or len(shapes) < 2 or any(len(shape) < 3 for shape in shapes):
        return False
    side, *sides = [max(shape[1:]) for shape in shapes]
    return side >= 1.5 * max(sides)


def _dense_blocks(graph: Graph, chain: list[Step]) -> list[Step]:
    """`chain` with rows of layers that each append to their input made one dense block.

    A dense block is written in two ways: a layer may read the list of all maps so far, or
    append its own to their concatenation.
    """
    found: list[Step] = []
    growing: list[Step] = []
    for step in chain:
        end = graph.nodes[step.end]
        if step.form in ("inception", "branches") and found and found[-1].end in end.inputs:
            growing.append(step)
        else:
            growing = []
        if len(growing) > 1:
            found.pop()
            nodes = tuple(n for part in growing for n in part.nodes)
            found.append(Step(nodes, "dense", step.end))
        else:
            found.append(step)
    return found


def joined_channels(graph: Graph, step: Step) -> tuple[int, ...]:
    """The channels that the concatenations of a step put side by side, in order."""

    def channels(index: int) -> list[int]:
        node = graph.nodes[index]
        if index in step.nodes and node.kind == "concat":
            return [c for i in node.inputs for c in channels(i)]
        return [node.shape[0]]

    return tuple(channels(max(i for i in step.nodes if graph.nodes[i].kind == "concat")))


def _form(nodes: Sequence[Node], inside: tuple[int, ...]) -> Form:
    last = nodes[inside[-1]]
    concats = [set(nodes[i].inputs) for i in inside if nodes[i].kind == "concat"]
    # Each layer of a dense block reads all maps so far: what one read, the next reads, too.
    grows = len(concats) > 2 and all(a & b for a, b in itertools.pairwise(concats))
    if last.kind == "concat":
        # Inception looks through windows of several sizes at once.
        windows = {nodes[i].window for i in inside if nodes[i].kind == "conv"}
        joined: Form = "inception" if len(last.inputs) > 2 and len(windows) > 1 else "branches"
        return "dense" if grows else joined
    if last.kind == "add":
        return "residual"
    return "gate" if last.kind == "multiply" else "block"


def main_path(graph: Graph, inside: Sequence[int]) -> list[int]:
    """The longest way through a block, in nodes; the rest are shortcuts and side branches."""
    length: dict[int, int] = {}
    came: dict[int, int | None] = {}
    for index in inside:
        known = [i for i in graph.nodes[index].inputs if i in length]
        best = max(known, key=lambda i: (length[i], -i), default=None)
        length[index] = 1 if best is None else length[best] + 1
        came[index] = best
    path = [inside[-1]]
    while (before := came[path[-1]]) is not None:
        path.append(before)
    return path[::-1]


def folded(graph: Graph, chain: Sequence[Step]) -> list[Group]:
    """`chain` with blocks that repeat, alone or in pairs to fours, told once."""
    looks = [_look(graph, step) for step in chain]
    groups: list[Group] = []
    at = 0
    while at < len(chain):
        best_period, best_count = 1, 1
        for period in range(1, 5):
            pattern = looks[at : at + period]
            if len(pattern) < period or not all(s.is_block for s in chain[at : at + period]):
                break
            count = 1
            while looks[at + count * period : at + (count + 1) * period] == pattern:
                count += 1
            if count > 1 and count * period > best_period * best_count:
                best_period, best_count = period, count
        stop = at + best_period * best_count
        nodes = tuple(n for step in chain[at:stop] for n in step.nodes)
        groups.append(Group(tuple(chain[stop - best_period : stop]), best_count, nodes))
        at = stop
    return groups


def _look(graph: Graph, step: Step) -> object:
    """What two steps must share to be told once: form, output, and the layers of the trunk.

    Strides and shortcuts may differ: the first block of a stage has its own.
    """
    if not step.is_block:
        return (step.nodes,)
    path = main_path(graph, step.nodes)
    layers = [(graph.nodes[i].kind, graph.nodes[i].label.split(" /")[0]) for i in path]
    channels = [graph.nodes[i].shape[:1] for i in path if graph.nodes[i].kind == "conv"]
    return (step.form, graph.nodes[step.end].shape, layers, channels)


def stages(graph: Graph, groups: Sequence[Group]) -> list[Stage]:
    """`groups` but the input, parted where the resolution of the output changes."""
    parted: list[tuple[str, list[Group]]] = []
    for group in groups[1:]:
        node = graph.nodes[group.steps[-1].end]
        name = _resolution(node)
        bridge = node.kind in ("reshape", "dropout") or not node.shape
        # Sums and differences of vectors, such as distances to codes, are one stage with them.
        flat = ("vector", "tokens")
        bridge |= bool(parted) and node.kind == "other" and {name, parted[-1][0]} <= set(flat)
        if not parted or (name != parted[-1][0] and not bridge):
            parted.append((name, []))
        parted[-1][1].append(group)
    return [Stage(name, tuple(members)) for name, members in parted]


def _resolution(node: Node) -> str:
    sizes = node.shape[1:]
    if len(sizes) == 1:
        return "tokens"
    # A map of one pixel is a vector that keeps its empty sides.
    return format_shape(*sizes) if max(sizes, default=1) > 1 else "vector"
