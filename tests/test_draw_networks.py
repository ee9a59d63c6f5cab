"""Networks drawn from the live model: the graph, its structure, the layout, the files."""

import itertools
import math
import re
from xml.etree import ElementTree

import pytest
import torch
from torch import nn

from hubel.draw.graph import Graph, network_graph
from hubel.draw.layered import layered
from hubel.draw.layers import laid_out
from hubel.draw.network import STYLES, draw_network, output_file, write_drawing
from hubel.draw.palette import COLOURS, KIND_COLOURS, Palette
from hubel.draw.paper import paper_sheet
from hubel.draw.pieces import runs
from hubel.draw.scene import Line, Scene, Words
from hubel.draw.structure import folded, joined_channels, stages, steps, units
from hubel.draw.svg import to_text
from hubel.draw.tikz import escaped, tikz
from hubel.draw.words import count_words
from hubel.errors import UserError
from hubel.models import MODELS
from hubel.named_network import named_network, written_shape

SVG = "{http://www.w3.org/2000/svg}"


def graph_of(name: str, shape: tuple[int, ...] | None = None) -> Graph:
    model, shape = named_network(name, shape)
    return network_graph(model, shape, name)


class Residual(nn.Module):
    """in -> conv -> norm -> + in -> relu."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm(self.conv(x)) + x)


class Grown(nn.Module):
    """A dense block whose layers read the list of all before, or the last concatenation."""

    def __init__(self, *, listed: bool) -> None:
        super().__init__()
        self.listed = listed
        self.convs = nn.ModuleList(nn.Conv2d(4 + 2 * i, 2, 3, padding=1) for i in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = [x]
        for conv in self.convs:
            if self.listed:
                maps.append(conv(torch.cat(maps, 1)))
            else:
                x = torch.cat([x, conv(x)], 1)
        return torch.cat(maps, 1) if self.listed else x


def test_graph_of_lenet():
    graph = graph_of("lenet5")
    assert [n.kind for n in graph.nodes] == [
        "input", "conv", "activation", "pool", "conv", "activation", "pool", "reshape",
        "dense", "activation", "dense", "activation", "dense",
    ]  # fmt: skip
    assert graph.edges == [(i, i + 1) for i in range(12)]
    conv = graph.nodes[4]
    assert (conv.name, conv.label, conv.shape) == ("c3", "conv 5×5", (16, 10, 10))
    assert (conv.params, conv.macs, conv.memory) == (2416, 240_000, 6400)
    assert graph.nodes[3].label == "avg pool 2×2 /2"


@pytest.mark.parametrize(
    "name",
    ["lenet5", "lenet5_1998", "simple", "alexnet", "vgg16", "resnet50", "googlenet", "vit_tiny"],
)
def test_figures_are_the_published_ones(name):
    graph = graph_of(name)
    assert graph.params == MODELS[name].num_params
    assert graph.macs == pytest.approx(MODELS[name].macs, rel=0.02)


def test_graph_leaves_the_model_alone():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.0)).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    graph = network_graph(model, (1, 8, 8), "own")
    assert model.training
    assert model[0].weight.device.type == "cpu"
    assert not model[0]._forward_hooks
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    # Dropout of nothing is no operation.
    assert [n.kind for n in graph.nodes] == ["input", "conv", "norm"]


def test_shared_parameters_count_once_and_unused_outputs_not_at_all():
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 1)
            self.unused = nn.Conv2d(2, 5, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.unused(x)
            return self.conv(self.conv(x))

    graph = network_graph(Shared(), (2, 4, 4), "shared")
    assert [(n.kind, n.params) for n in graph.nodes] == [("input", 0), ("conv", 6), ("conv", 0)]


def test_graph_sees_functions_and_learned_numbers():
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3, 1, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = nn.functional.max_pool2d(x * self.scale, 2)
            y += nn.functional.relu(y)
            return y.mean((2, 3))

    graph = network_graph(Own(), (3, 4, 4), "own")
    assert [(n.kind, n.label, n.params) for n in graph.nodes[1:]] == [
        ("multiply", "× learned", 3), ("pool", "max pool", 0), ("activation", "ReLU", 0),
        ("add", "+", 0), ("pool", "global avg pool", 0),
    ]  # fmt: skip
    assert graph.nodes[4].inputs == (2, 3)


def test_an_input_that_does_not_fit_is_told_with_the_layer():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(10, 2))
    words = r"the map before it is 4×4×4 = 64 for a 3×6×6 input \(layer '2'\); make it"
    with pytest.raises(UserError, match=words):
        network_graph(model, (3, 6, 6), "slide")


def test_steps_find_blocks_by_their_paths():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), Residual(4), Residual(4), nn.Flatten())
    chain = steps(network_graph(model, (3, 8, 8), "two"))
    assert [(s.form, len(s.nodes)) for s in chain] == [
        ("plain", 1), ("plain", 1), ("residual", 4), ("residual", 4), ("plain", 1),
    ]  # fmt: skip
    graph = network_graph(model, (3, 8, 8), "two")
    groups = folded(graph, steps(graph))
    assert [g.count for g in groups] == [1, 1, 2, 1]
    assert sorted(n for g in groups for n in g.nodes) == list(range(len(graph.nodes)))


@pytest.mark.parametrize("listed", [True, False])
def test_dense_blocks_however_they_are_written(listed):
    graph = network_graph(Grown(listed=listed), (4, 8, 8), "dense")
    chain = steps(graph)
    assert [s.form for s in chain][-1] == "dense"
    assert len(chain) == 2
    assert joined_channels(graph, chain[-1]) == (4, 2, 2, 2)
    assert [p.parts for run in runs(graph) for p in run.pieces] == [(), (4, 2, 2, 2)]


def test_resnet101_is_told_in_a_few_stages():
    graph = graph_of("resnet101")
    found = stages(graph, folded(graph, steps(graph)))
    assert [s.name for s in found] == ["112×112", "56×56", "28×28", "14×14", "7×7", "vector"]
    assert [g.count for s in found for g in s.groups if g.steps[0].is_block] == [3, 4, 23, 3]
    assert sum(len(s.nodes) for s in found) == len(graph.nodes) - 1
    figure = runs(graph)
    assert [run.count for run in figure if run.arcs] == [3, 4, 23, 3]
    assert all(len(run.pieces) == 3 for run in figure if run.arcs)


def test_googlenet_branches_add_up():
    graph = graph_of("googlenet")
    joined = [p for run in runs(graph) for p in run.pieces if p.parts]
    assert len(joined) == 9
    assert [s.form for s in steps(graph)].count("inception") == 9
    assert joined[0].parts == (64, 128, 32, 32)
    assert all(sum(p.parts) == p.channels for p in joined)


def test_transformer_block_is_one_of_twelve():
    figure = runs(graph_of("vit_tiny"))
    (block,) = [run for run in figure if run.count == 12]
    assert len(block.arcs) == 2
    assert "attention" in {p.kind for p in block.pieces}


@pytest.mark.parametrize("name", ["resnet18", "googlenet", "densenet121", "mobilenet_v3"])
def test_units_part_the_graph(name):
    graph = graph_of(name)
    boxes = units(graph)
    assert sorted(n for box in boxes for n in box.nodes) == list(range(len(graph.nodes)))
    for box in boxes:
        for before, after in itertools.pairwise(box.nodes):
            assert graph.nodes[after].inputs == (before,)


@pytest.mark.parametrize("name", ["resnet18", "googlenet", "densenet121", "efficientnet_b0"])
def test_layout_goes_down_and_nothing_overlaps(name):
    flow = laid_out(graph_of(name), range(len(graph_of(name).nodes)), wrap=True)
    layout = flow.layout
    assert all(layout.rank[s] < layout.rank[e] for s, e in flow.edges)
    for rank in range(len(flow.heights)):
        spans = sorted(
            (layout.x[b] - w / 2, layout.x[b] + w / 2)
            for b, w in enumerate(flow.widths)
            if layout.rank[b] == rank
        )
        assert all(a[1] < b[0] for a, b in itertools.pairwise(spans))
        for (_, at), x in layout.lanes.items():
            assert at != rank or all(not left < x < right for left, right in spans)
    # A line past a rank has a place in it.
    for start, end in flow.edges:
        for passed in range(layout.rank[start] + 1, layout.rank[end]):
            assert (start, passed) in layout.lanes


def test_layout_uncrosses_and_keeps_the_trunk_straight():
    # 0 feeds 1 and 2; these feed 4 and 3, which would cross as numbered.
    found = layered([10] * 6, [(0, 1), (0, 2), (1, 4), (2, 3), (3, 5), (4, 5)])
    assert found.rank == (0, 1, 1, 2, 2, 3)
    assert (found.x[1] < found.x[2]) == (found.x[4] < found.x[3])
    assert found.x[0] == found.x[5] == 0
    ladder = layered([10] * 4, [(0, 1), (1, 2), (2, 3), (0, 3), (0, 2)])
    assert ladder.x == (0, 0, 0, 0)
    assert set(ladder.lanes) == {(0, 1), (0, 2)}
    assert ladder.lanes[(0, 1)] == ladder.lanes[(0, 2)]


NETWORKS = [
    ("lenet5", (1, 32, 32)),
    ("lenet5", (1, 32, 32, 32)),
    ("alexnet", None),
    ("resnet18", (3, 64, 64)),
    ("googlenet", None),
    ("densenet121", None),
    ("vit_tiny", None),
    ("torchvision:regnet_y_400mf", None),
]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(("name", "shape"), NETWORKS, ids=[f"{n}-{s}" for n, s in NETWORKS])
def test_drawings_are_whole(name, shape, style):
    graph = graph_of(name, shape)
    scene = draw_network(graph, style)
    svg = ElementTree.fromstring(to_text(scene.svg()))
    assert svg.find(f"{SVG}title").text == name
    assert "FLOPs" in svg.find(f"{SVG}desc").text
    left, top, right, bottom = scene.bounds
    assert float(svg.get("width")) >= right - left + 40
    assert float(svg.get("height")) >= bottom - top + 40
    _tex_is_sound(tikz(scene))
    shapes = [m for m in scene.marks if isinstance(m, Line)]
    assert tikz(scene).count("-- cycle;") == sum(m.closed for m in shapes) > 0
    assert sum(p.get("d").endswith("Z") for p in svg.iter(f"{SVG}path")) == sum(
        m.closed for m in shapes
    )
    words = {t.text for t in svg.iter(f"{SVG}text")}
    assert any(f"{count_words(graph.params)} parameters" in w for w in words if w)
    _words_do_not_touch(scene)


def _words_do_not_touch(scene: Scene) -> None:
    """No two texts overlap; an M is at most this wide in the fonts named."""
    placed = []
    for mark in scene.marks:
        if isinstance(mark, Words):
            width = 0.5 * mark.size * len(mark.words)
            left = mark.x - {"start": 0, "middle": width / 2, "end": width}[mark.anchor]
            placed.append((mark.words, left, mark.y - 0.7 * mark.size, left + width, mark.y))
    placed.sort(key=lambda p: p[2])
    for i, (one, x0, y0, x1, y1) in enumerate(placed):
        for other, u0, v0, u1, v1 in placed[i + 1 :]:
            if v0 >= y1:
                break
            assert x1 <= u0 or u1 <= x0 or v1 <= y0, f"{one!r} touches {other!r}"


def _tex_is_sound(text: str) -> None:
    """Braces and environments balance, every path ends, no sign is left that TeX lacks."""
    assert text.isascii()
    bare = re.sub(r"\\[{}\\%$&#_]", "", text)
    body = "\n".join(line for line in bare.splitlines() if not line.startswith("%"))
    depth = 0
    for sign in body:
        depth += {"{": 1, "}": -1}.get(sign, 0)
        assert depth >= 0
    assert depth == 0
    assert body.count("$") % 2 == 0
    assert re.findall(r"\\(begin|end)\{(\w+)\}", text) == [
        ("begin", "document"), ("begin", "tikzpicture"),
        ("end", "tikzpicture"), ("end", "document"),
    ]  # fmt: skip
    inside = text.split("inner sep=0pt, outer sep=0pt]\n")[1].split("\\end{tikzpicture}")[0]
    defined = set(re.findall(r"\\definecolor\{(\w+)\}", text))
    for line in inside.splitlines():
        assert line.startswith((r"\path[", r"\node["))
        assert line.endswith(";")
        assert set(re.findall(r"(?:fill|draw|text)=(\w+)", line)) <= defined
    assert all(abs(float(v)) < 16_000 for v in re.findall(r"[(,](-?[\d.]+)", inside))


def test_tex_escapes_what_a_name_may_hold():
    assert escaped(r"a_b & 5% {x} \y #1 ~^$") == (
        r"a\_b \& 5\% \{x\} \textbackslash{}y \#1 \textasciitilde{}\textasciicircum{}\$"
    )
    scene = Scene("50% of\nall", "a\\b")
    scene.text(0, 0, "日本")
    _tex_is_sound(tikz(scene))
    assert "??" in tikz(scene)


@pytest.mark.parametrize("colour", COLOURS)
def test_colours_follow_the_numbers(colour):
    graph = graph_of("lenet5")
    palette = Palette.of(graph, colour, ([n] for n in range(len(graph.nodes))))
    fills = [palette.fill([node]) for node in graph.nodes]
    if colour == "kind":
        assert fills == [KIND_COLOURS[node.kind] for node in graph.nodes]
        return
    values = [palette.value([node]) for node in graph.nodes]
    assert palette.most == max(values)
    red = [int(fill[1:3], 16) for fill in fills]  # falls as the blue deepens
    order = sorted(range(len(red)), key=lambda i: values[i])
    assert all(red[a] >= red[b] for a, b in itertools.pairwise(order))
    assert min(red) < max(red)


def test_paper_is_to_scale():
    scene = paper_sheet(graph_of("lenet5"), "kind")
    fronts = [
        m for m in scene.marks
        if isinstance(m, Line) and m.fill == KIND_COLOURS["conv"] and len(m.points) == 4
        and m.width == 0.6
    ]  # fmt: skip
    heights = [max(y for _, y in f.points) - min(y for _, y in f.points) for f in fronts]
    widths = [max(x for x, _ in f.points) - min(x for x, _ in f.points) for f in fronts]
    assert heights[0] / heights[1] == pytest.approx(28 / 10)
    assert widths[0] / widths[1] == pytest.approx(math.sqrt(6 / 16))


@pytest.mark.parametrize("suffix", [".svg", ".pdf", ".png", ".tex", ".html"])
def test_files_of_each_kind(tmp_path, suffix):
    path = write_drawing(tmp_path / f"n{suffix}", draw_network(graph_of("lenet5"), "paper"))
    content = path.read_bytes()
    start = {
        ".svg": b"<svg", ".pdf": b"%PDF", ".png": b"\x89PNG", ".tex": b"% lenet5",
        ".html": b"<!doctype html>",
    }  # fmt: skip
    assert content.startswith(start[suffix])
    if suffix == ".html":
        assert b"<svg" in content
        assert b"<script" not in content
        assert b"http" not in content.replace(b"http://www.w3.org/2000/svg", b"")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("{}/x.gif", r"the suffix says the format, one of \.svg, .*; got '\.gif'"),
        ("{}/x", "got no suffix"),
        ("{}", r"takes the name of a file, '.*' is a folder"),
        ("{}/no/x.svg", "the folder '.*no' does not exist; make it"),
    ],
)
def test_output_that_cannot_be(tmp_path, name, message):
    with pytest.raises(UserError, match=message):
        output_file(name.format(tmp_path))


def test_names():
    with pytest.raises(UserError, match="'lenet6' is not known; did you mean 'lenet5'"):
        named_network("lenet6", None)
    with pytest.raises(UserError, match="--model 'zzz' is not known"):
        named_network("zzz", None)
    with pytest.raises(UserError, match="'torchvision:resnet43' is not known; did you mean"):
        named_network("torchvision:resnet43", None)
    assert written_shape("3x224x224") == (3, 224, 224)
    for words in ("3", "3x4", "axbxc", "0x8x8", "1x2x3x4x5", "3x9999999x4", ""):
        with pytest.raises(UserError, match=r"--input (takes|needs)"):
            written_shape(words)


def test_a_persons_own_file(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from torch import nn\n"
        "def net():\n"
        "    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(180, 2))\n"
    )
    graph = graph_of(f"{file}:net", (3, 8, 8))
    assert [n.kind for n in graph.nodes] == ["input", "conv", "activation", "reshape", "dense"]


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS.names())
def test_every_network_can_be_drawn(name):
    graph = graph_of(name)
    for style in STYLES:
        scene = draw_network(graph, style, "params")
        _tex_is_sound(tikz(scene))
        _words_do_not_touch(scene)
