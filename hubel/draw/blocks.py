"""The stages of a network, a box each; below them, its blocks opened once.

A stage is what runs at one resolution. What its blocks are made of is shown in an inset: the
branches of one representative, with every connection.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from hubel.draw.graph import Graph, Kind, Node
from hubel.draw.layers import Flow, draw_flow, flow_size, laid_out
from hubel.draw.palette import KIND_COLOURS, Colouring, Palette
from hubel.draw.scene import ON_FILL, Scene, mixed
from hubel.draw.sheet import finish, opened
from hubel.draw.structure import (
    Group,
    Stage,
    Step,
    folded,
    joined_channels,
    main_path,
    skips,
    stages,
    steps,
)
from hubel.draw.widths import words_width
from hubel.draw.words import count_words, shape_words

__all__ = ["blocks_sheet"]

_GAP = 30.0
_LINE, _SIZE = 18.0, 12.0
_HEAD, _FOOT = 28.0, 38.0
"""Of a box: its shape above, its figures below."""
_INSETS = 2
_SLIDE = 1350.0
_TALL = 340.0
"""A taller block is drawn in columns."""
_TOLD = ("conv", "dense", "pool", "attention", "other")
_FORMS = {
    "residual": "residual block", "inception": "inception block",
    "branches": "branches", "dense": "dense block", "gate": "channel gate", "block": "block",
    "heads": "outputs", "plain": "layer",
}  # fmt: skip


@dataclass(frozen=True)
class _Line:
    words: str
    kind: Kind
    nodes: tuple[int, ...]
    inner: bool = False
    """Whether it tells what is in the block above."""


def blocks_sheet(graph: Graph, colouring: Colouring) -> Scene:
    """The sheet of the stages."""
    scene = opened(graph, "The stages of the network and what each contains.")
    groups = folded(graph, steps(graph))
    found = stages(graph, groups)
    lines = [_lines(graph, stage) for stage in found]
    palette = Palette.of(graph, colouring, (stage.nodes for stage in found))
    bottom = _draw_stages(graph, scene, palette, found, lines)
    kinds: list[Kind] = ["input", *(line.kind for stage in lines for line in stage)]
    insets = [inset for group in _opened(groups) for inset in _insets(graph, group)][:_INSETS]
    flows = [_flow(inset) for inset in insets]
    inner = palette
    if insets and not palette.by_kind:
        most = max(palette.value([node]) for inset in insets for node in inset.nodes)
        inner = Palette(colouring, most)
    x = 0.0
    for inset, flow in zip(insets, flows, strict=True):
        x += _draw_inset(scene, inner, inset.name, flow, (x, bottom + 44)) + 90
        kinds += [node.kind for node in inset.nodes]
    notes = ["A box is a stage: its layers run at one resolution."]
    if skips(graph):
        notes[0] += " Blue lines are long shortcuts."
    if insets:
        notes[0] += " Below: blocks opened, every connection as it is."
        if not palette.by_kind:
            notes[0] += " There the deepest colour is the largest of the opened layers."
    return finish(scene, graph, palette, kinds, notes)


def _lines(graph: Graph, stage: Stage) -> list[_Line]:
    """What a stage contains, a line each; norms and activations go without saying."""
    found: list[_Line] = []
    for group in stage.groups:
        first = group.steps[0]
        if not first.is_block:
            _add_layer(graph, found, group)
        elif first.form in ("inception", "branches", "dense"):
            found.append(_joined_line(graph, group))
        elif first.form == "gate":
            found.append(_Line(_FORMS["gate"], "multiply", group.nodes))
        else:
            times = f"{group.count} × " if group.count > 1 else ""
            words = " + ".join(dict.fromkeys(_FORMS[step.form] for step in group.steps))
            kind: Kind = "add" if first.form == "residual" else "other"
            found.append(_Line(f"{times}{words}", kind, group.nodes))
            for step in group.steps:
                found += _inner(graph, step)
    return _short(found)


def _add_layer(graph: Graph, found: list[_Line], group: Group) -> None:
    node = graph.nodes[group.steps[0].end]
    before = [graph.nodes[i].shape for i in node.inputs]
    idle = node.kind == "pool" and before == [node.shape] and not node.window
    told = node.kind in _TOLD or node.label == "local response norm" or "learned" in node.label
    joins = node.kind in ("add", "concat") and len(node.inputs) > 1  # of a long shortcut
    told = told or joins
    if not told or idle:
        return
    words = node.label
    if "learned" in words:
        words += f", {count_words(node.params)}"
    if node.kind == "conv" or joins:
        words = {"+": "add", "concat": "concatenate"}.get(words, words) + f", {node.shape[0]}"
    last = found[-1] if found else None
    times, bare = (1, "") if last is None else _parted(last.words)
    if last is not None and bare == words and not last.inner:
        found[-1] = _Line(f"{times + 1} × {words}", node.kind, (*last.nodes, *group.nodes))
    else:
        found.append(_Line(words, node.kind, group.nodes))


def _parted(words: str) -> tuple[int, str]:
    """`2 × conv 3×3` as (2, 'conv 3×3')."""
    count, times, rest = words.partition(" × ")
    return (int(count), rest) if times and count.isdigit() else (1, words)


def _joined_line(graph: Graph, group: Group) -> _Line:
    step = group.steps[0]
    node = graph.nodes[max(i for i in step.nodes if graph.nodes[i].kind == "concat")]
    times = f"{group.count} × " if group.count > 1 else ""
    if step.form == "dense":
        parts = joined_channels(graph, step)
        words = f"dense block, {len(parts) - 1} layers of {parts[-1]}"
    else:
        kind = f"{len(node.inputs)} branches" if step.form == "branches" else _FORMS[step.form]
        words = f"{kind}, {node.shape[0]}"
    return _Line(f"{times}{words}", "concat", group.nodes)


def _inner(graph: Graph, step: Step) -> list[_Line]:
    found: list[_Line] = []
    every = step.form == "heads"
    for index in step.nodes if every else main_path(graph, step.nodes):
        node = graph.nodes[index]
        if node.kind not in ("conv", "dense", "attention"):
            continue
        small = len(node.shape) > 2 and max(node.shape[1:]) == 1
        if small:
            if not found or found[-1].words != "channel gate":
                found.append(_Line("channel gate", "multiply", (index,), inner=True))
            continue
        words = node.label.split(" /")[0]
        words += f", {node.shape[0]}" if node.kind == "conv" else ""
        found.append(_Line(words, node.kind, (index,), inner=True))
    return found


_MOST_LINES = 16


def _short(lines: list[_Line]) -> list[_Line]:
    """At most so many lines: beyond, what is in the blocks is left out, then the rest counted."""
    if len(lines) > _MOST_LINES:
        lines = [line for line in lines if not line.inner]
    if len(lines) > _MOST_LINES:
        rest = lines[_MOST_LINES - 1 :]
        nodes = tuple(n for line in rest for n in line.nodes)
        lines = [*lines[: _MOST_LINES - 1], _Line(f"and {len(rest)} more", "other", nodes)]
    return lines


def _draw_stages(
    graph: Graph, scene: Scene, palette: Palette, found: list[Stage], lines: list[list[_Line]]
) -> float:
    """A row of boxes, or more rows if they do not fit a slide; returns where they end."""
    widths = [_width(graph, s, rows) for s, rows in zip(found, lines, strict=True)]
    total = 84 + sum(widths) + _GAP * len(widths)
    over = _over(graph, found)
    rows = 1 if over else math.ceil(total / _SLIDE)
    tallest = max(_LINE * max(len(rows), 1) for rows in lines)
    height = _HEAD + tallest + 24 + _FOOT
    scene.box(0, height / 2 - 30, 84, 60, palette.fill([graph.nodes[0]], "input"))
    scene.text(42, height / 2 - 6, "input", 12, "middle", ON_FILL, bold=True)
    scene.text(42, height / 2 + 12, shape_words(graph.input_shape), _SIZE, "middle", ON_FILL)
    x, y, row = 84.0, 0.0, 1
    middles = []
    for stage, content, width in zip(found, lines, widths, strict=True):
        if x + _GAP + width > total / rows * 1.04 and row < rows and x > 84:
            end, y, row = (x, y + height / 2), y + height + 40, row + 1
            scene.line(
                [end, (end[0] + 16, end[1]), (end[0] + 16, y - 20), (-24, y - 20),
                 (-24, y + height / 2), (0, y + height / 2)],
                arrow=True, radius=8,
            )  # fmt: skip
            x = -_GAP
        else:
            middle = y + height / 2
            scene.line([(x + 3, middle), (x + _GAP - 3, middle)], arrow=True)
        x += _GAP
        _draw_stage(graph, scene, palette, stage, content, (x, y, width, height))
        middles.append(x + width / 2)
        x += width
    for level, (first, last) in enumerate(over):
        left, right, high = middles[first] + 6, middles[last] - 6, -16.0 - 11 * level
        corners = [(left, 0.0), (left, high), (right, high), (right, 0.0)]
        scene.line(corners, "accent", 1.4, arrow=True, radius=8)
    return y + height


def _over(graph: Graph, found: list[Stage]) -> list[tuple[int, int]]:
    """Long shortcuts as pairs of stages, the shortest first."""
    place = {n: i for i, stage in enumerate(found) for n in stage.nodes}
    ends = {(place[a], place[b]) for a, b in skips(graph) if a in place}
    return sorted(ends, key=lambda e: (e[1] - e[0], e))


def _width(graph: Graph, stage: Stage, lines: Sequence[_Line]) -> float:
    words = [words_width(x.words, _SIZE) + (34 if x.inner else 22) for x in lines]
    words.append(words_width(_name(graph, stage), 14, bold=True) + 16)
    words += [words_width(figure, 11) + 16 for figure in _figures(graph, stage)]
    return max(100.0, *words)


def _name(graph: Graph, stage: Stage) -> str:
    return shape_words(graph.nodes[_last(graph, stage)].shape)


def _last(graph: Graph, stage: Stage) -> int:
    """The node whose output the stage is named after: what only moves numbers does not count."""
    known = [n for n in stage.nodes if graph.nodes[n].kind not in ("reshape", "dropout")]
    return known[-1] if known else stage.end


def _figures(graph: Graph, stage: Stage) -> tuple[str, str]:
    nodes = [graph.nodes[i] for i in stage.nodes]
    params, macs = sum(n.params for n in nodes), sum(n.macs for n in nodes)
    return f"{count_words(params)} parameters", f"{count_words(macs)} MACs"


def _draw_stage(
    graph: Graph, scene: Scene, palette: Palette, stage: Stage, lines: Sequence[_Line],
    place: tuple[float, float, float, float],
) -> None:  # fmt: skip
    x, y, width, height = place
    whole = palette.fill([graph.nodes[i] for i in stage.nodes])
    by_kind = palette.by_kind
    scene.box(x, y, width, height, "#f4f6fa" if by_kind else mixed(whole, "#ffffff", 0.15))
    scene.box(x, y, width, _HEAD, "#dfe4ee" if by_kind else whole)
    middle = x + width / 2
    scene.text(middle, y + 19, _name(graph, stage), 14, "middle", ON_FILL, bold=True)
    at = y + _HEAD + (height - _HEAD - _FOOT - _LINE * len(lines)) / 2
    for line in lines:
        left = x + (20 if line.inner else 8)
        if by_kind:
            fill = KIND_COLOURS[line.kind]
            scene.box(left, at + 1, width - (left - x) - 8, _LINE - 2, fill, None)
        scene.text(left + 5, at + 13.5, line.words, _SIZE, "start", ON_FILL)
        at += _LINE
    for turn, figure in enumerate(_figures(graph, stage)):
        ink = "#4a5266" if by_kind else ON_FILL
        scene.text(middle, y + height - 24 + 14 * turn, figure, 11, "middle", ink)


def _flow(inset: Graph) -> Flow:
    """In columns if it is tall and can be parted where one line passes, or if it is very tall."""
    inside = range(len(inset.nodes))
    flow = laid_out(inset, inside, wrap=False)
    height = flow_size(flow)[1]
    if height > _TALL:
        parted = laid_out(inset, inside, wrap=True)
        if height > 2 * _TALL or max(parted.crossing, default=1) == 1:
            return parted
    return flow


def _opened(groups: Sequence[Group]) -> list[Group]:
    """One group of each form of block, those that do most first: the one that repeats most."""
    best: dict[tuple[str, ...], Group] = {}
    for group in groups:
        form = tuple(step.form for step in group.steps)
        if not group.steps[0].is_block or form == ("gate",):
            continue
        known = best.get(form)
        # A dense block repeats within itself: the smallest tells it all.
        if known is None or (-group.count, _size(group)) < (-known.count, _size(known)):
            best[form] = group
    return sorted(best.values(), key=lambda g: -len(g.nodes))


def _size(group: Group) -> int:
    return sum(len(step.nodes) for step in group.steps)


def _insets(graph: Graph, group: Group) -> list[Graph]:
    """The block that repeats, and the first of its row where that is built otherwise."""
    words = " + ".join(dict.fromkeys(_FORMS[step.form] for step in group.steps))
    if group.steps[0].form != "heads":
        words = f"{words}, output {shape_words(graph.nodes[group.steps[-1].end].shape)}"
    inside = sorted(n for step in group.steps for n in step.nodes)
    if group.count == 1:
        return [_part(graph, inside, words)]
    found = [_part(graph, inside, f"{words}: one of {group.count}")]
    first = group.nodes[: len(group.nodes) - (group.count - 1) * len(inside)]
    if len(first) != len(inside):
        found.append(_part(graph, sorted(first), "the first of them"))
    return found


def _part(graph: Graph, inside: Sequence[int], words: str) -> Graph:
    """The nodes `inside` as a graph of their own, whose input is the node before."""
    entry = max(i for n in inside for i in graph.nodes[n].inputs if i < inside[0])
    shape = graph.nodes[entry].shape
    place = {old: new for new, old in enumerate([entry, *inside])}
    nodes = [Node("", "input", "block input", shape, ())]
    for index in inside:
        inputs = tuple(place[i] for i in graph.nodes[index].inputs if i in place)
        nodes.append(replace(graph.nodes[index], inputs=inputs))
    return Graph(words, tuple(nodes))


def _draw_inset(
    scene: Scene, palette: Palette, title: str, flow: Flow, place: tuple[float, float]
) -> float:
    """One block with its connections; returns how wide it is."""
    x, y = place
    scene.text(x, y + 14, title, 13, bold=True)
    lines = 20 if len(flow.breaks) > 2 else 0  # of words above columns, and room for lines
    draw_flow(flow, scene, palette, (x, y + 36 + lines))
    return max(flow_size(flow)[0], words_width(title, 13, bold=True))
