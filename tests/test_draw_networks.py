"""Networks drawn from the live model: the graph, its structure, the layout, the files."""

import functools
import itertools
import math
import re
import shutil
import subprocess
from xml.etree import ElementTree

import pytest
import torch
from torch import nn

from hubel.draw.graph import Graph, network_graph
from hubel.draw.layered import layered
from hubel.draw.layers import laid_out
from hubel.draw.network import STYLES, SUFFIXES, draw_network, drawn
from hubel.draw.palette import COLOURS, KIND_COLOURS, Colouring, Palette, colouring
from hubel.draw.paper import paper_sheet
from hubel.draw.pieces import runs
from hubel.draw.scene import Line, Scene, Words
from hubel.draw.structure import folded, joined_channels, skips, stages, steps, units
from hubel.draw.svg import to_text
from hubel.draw.tikz import escaped, tikz
from hubel.draw.widths import words_width
from hubel.draw.words import count_words
from hubel.errors import UserError
from hubel.models import MODELS
from hubel.named_network import named_network, written_shape

SVG = "{http://www.w3.org/2000/svg}"


@functools.cache
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


class UNet(nn.Module):
    """Down twice, up twice, each map joined with the one of its size."""

    def __init__(self, dims: int = 2, *, learned: bool = True) -> None:
        super().__init__()
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        up = nn.ConvTranspose2d if dims == 2 else nn.ConvTranspose3d
        self.pool = nn.MaxPool2d(2) if dims == 2 else nn.MaxPool3d(2)
        self.down = nn.ModuleList(conv(i, o, 3, padding=1) for i, o in ((3, 4), (4, 8), (8, 16)))
        self.up = nn.ModuleList(
            up(i, o, 2, 2) if learned else nn.Sequential(nn.Upsample(scale_factor=2), conv(i, o, 1))
            for i, o in ((16, 8), (8, 4))
        )
        self.join = nn.ModuleList(conv(i, o, 3, padding=1) for i, o in ((16, 8), (8, 4)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = torch.relu(self.down[0](x))
        b = torch.relu(self.down[1](self.pool(a)))
        x = torch.relu(self.down[2](self.pool(b)))
        x = torch.relu(self.join[0](torch.cat([b, self.up[0](x)], 1)))
        return self.join[1](torch.cat([a, self.up[1](x)], 1))


class TwoHeads(nn.Module):
    """A class and a box from one vector."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.label, self.box = nn.Linear(8, 5), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.conv(x).mean((2, 3))
        return {"label": self.label(x), "box": self.box(x)}


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
    """No two texts overlap."""
    placed = []
    for mark in scene.marks:
        if isinstance(mark, Words):
            width = words_width(mark.words, mark.size, bold=mark.bold) / 1.1  # without its room
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
    told = colouring(graph, colour)
    palette = Palette.of(graph, told, ([n] for n in range(len(graph.nodes))))
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
    scene = paper_sheet(graph_of("lenet5"), Colouring())
    fronts = [
        m for m in scene.marks
        if isinstance(m, Line) and m.fill == KIND_COLOURS["conv"] and len(m.points) == 4
        and m.width == 0.6
    ]  # fmt: skip
    heights = [max(y for _, y in f.points) - min(y for _, y in f.points) for f in fronts]
    widths = [max(x for x, _ in f.points) - min(x for x, _ in f.points) for f in fronts]
    assert heights[0] / heights[1] == pytest.approx(28 / 10)
    assert widths[0] / widths[1] == pytest.approx(math.sqrt(6 / 16))


def test_colours_tell_any_number_of_a_layer():
    graph = graph_of("lenet5")
    seconds = {"c3": 0.002, "f6": 0.004}
    scene = draw_network(graph, "layers", Colouring(seconds, "seconds", lambda s: f"{s:.3f} s"))
    words = [m.words for m in scene.marks if isinstance(m, Words)]
    assert "seconds of a box:" in words
    assert "0.004 s" in words
    palette = Palette.of(graph, Colouring(seconds), ([n] for n in range(len(graph.nodes))))
    assert palette.most == 0.004
    assert [n.name for n in graph.nodes if palette.value([n])] == ["c3", "f6"]


@pytest.mark.parametrize("learned", [True, False])
@pytest.mark.parametrize("dims", [2, 3])
def test_a_u_net_is_a_trunk_with_long_shortcuts(dims, learned):
    graph = network_graph(UNet(dims, learned=learned), (3, *(16,) * dims), "unet")
    ends = [(graph.nodes[a].shape, graph.nodes[b].shape) for a, b in skips(graph)]
    small, large = (8,) * dims, (16,) * dims
    assert sorted(ends) == sorted([((4, *large), (8, *large)), ((8, *small), (16, *small))])
    chain = steps(graph)
    assert {s.form for s in chain} == {"plain"}
    names = [s.name for s in stages(graph, folded(graph, chain))]
    sides = ["×".join([side] * dims) for side in ("16", "8", "4", "8", "16")]
    assert names == sides
    assert [p.parts for run in runs(graph) for p in run.pieces if p.parts] == [(8, 8), (4, 4)]
    for style in STYLES:
        scene = draw_network(graph, style)
        _words_do_not_touch(scene)
        accents = [m for m in scene.marks if isinstance(m, Line) and m.stroke == "accent"]
        assert len(accents) >= 2


def test_residual_blocks_and_gates_are_no_long_shortcuts():
    for name in ("resnet18", "efficientnet_b0", "densenet121", "lenet5_1998", "vit_tiny"):
        assert skips(graph_of(name)) == []


def test_every_output_is_drawn():
    graph = network_graph(TwoHeads(), (3, 8, 8), "heads")
    assert [n.label for n in graph.nodes[-2:]] == ["dense 5", "dense 4"]
    assert steps(graph)[-1].form == "heads"
    said = {
        style: " ".join(m.words for m in draw_network(graph, style).marks if isinstance(m, Words))
        for style in STYLES
    }
    assert "dense 5" in said["blocks"]
    assert "the others: 5." in said["paper"]


def test_a_network_without_layers_is_told():
    with pytest.raises(UserError, match="'same' has no layers to draw"):
        network_graph(nn.Identity(), (3, 8, 8), "same")


def test_maps_whose_channels_are_last_are_written_like_others():
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 6, 2, 2), nn.LayerNorm(6)
            self.wide, self.back = nn.Linear(6, 24), nn.Linear(24, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.conv(x).permute(0, 2, 3, 1)
            x = x + self.back(torch.relu(self.wide(self.norm(x))))
            return x.permute(0, 3, 1, 2).mean((2, 3))

    graph = network_graph(Last(), (3, 16, 16), "last")
    shapes = {n.shape for n in graph.nodes if len(n.shape) == 3}
    assert shapes == {(3, 16, 16), (6, 8, 8), (24, 8, 8)}


def test_inception_with_nested_branches_is_no_dense_block():
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convs = nn.ModuleList(nn.Conv2d(4, 2, k, padding=k // 2) for k in (1, 3, 5, 3, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            a, b, c, d, e = (conv(x) for conv in self.convs)
            return torch.cat([torch.cat([a, b], 1), torch.cat([c, d], 1), e], 1)

    graph = network_graph(Nested(), (4, 8, 8), "nested")
    assert [s.form for s in steps(graph)][-1] == "inception"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_of_each_kind(suffix):
    content = drawn(draw_network(graph_of("lenet5"), "paper"), suffix)
    content = content.encode() if isinstance(content, str) else content
    start = {
        ".svg": b"<svg", ".pdf": b"%PDF", ".png": b"\x89PNG", ".tex": b"% lenet5",
        ".html": b"<!doctype html>",
    }  # fmt: skip
    assert content.startswith(start[suffix])
    if suffix in (".svg", ".html"):
        assert b"<svg" in content
        assert b"<script" not in content
        assert b"url(" not in content
        assert b"http" not in content.replace(b"http://www.w3.org/2000/svg", b"")
    if suffix == ".png":
        scene = draw_network(graph_of("lenet5"), "paper")
        width = float(scene.svg().get("width"))
        assert int.from_bytes(content[16:20]) == pytest.approx(2 * width, abs=2)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
@pytest.mark.parametrize("name", ["lenet5", pytest.param("resnet101", marks=pytest.mark.slow)])
def test_tikz_compiles(tmp_path, name):
    graph = graph_of(name)
    graph = Graph("50% of a_b & {#1} ~^\\ $x$ 日本", graph.nodes)
    for style in STYLES:
        (tmp_path / f"{style}.tex").write_text(drawn(draw_network(graph, style), ".tex"))
        words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", f"{style}.tex"]
        result = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        if "standalone.cls' not found" in result.stdout:
            pytest.skip("LaTeX's standalone class is not installed")
        assert result.returncode == 0, result.stdout[-2000:]
        log = (tmp_path / f"{style}.log").read_text(errors="replace")
        assert "Missing character" not in log
        assert "Size substitutions" not in log
        assert b"/Type3" not in (tmp_path / f"{style}.pdf").read_bytes()


def test_names():
    with pytest.raises(UserError, match="'lenet6' is not known; did you mean 'lenet5'"):
        named_network("lenet6", None)
    with pytest.raises(UserError, match="MODEL 'zzz' is not known"):
        named_network("zzz", None)
    with pytest.raises(UserError, match="'torchvision:resnet43' is not known; did you mean"):
        named_network("torchvision:resnet43", None)
    with pytest.raises(UserError, match=r"MODEL 'torchvision:vit_b_16' takes.* by --input$"):
        named_network("torchvision:vit_b_16", (3, 100, 100))
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


def _draw_all(graph: Graph) -> None:
    for style in STYLES:
        for colour in ("kind", "params"):
            scene = draw_network(graph, style, colouring(graph, colour))
        _tex_is_sound(tikz(scene))
        _words_do_not_touch(scene)
        ElementTree.fromstring(to_text(scene.svg()))


@pytest.mark.slow
@pytest.mark.parametrize("shape", [None, (1, 64, 64, 64)], ids=["2d", "3d"])
@pytest.mark.parametrize("name", MODELS.names())
def test_every_network_can_be_drawn(name, shape):
    _draw_all(graph_of(name, shape))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("mobilenet_v2", None), ("swin_t", None), ("inception_v3", (3, 299, 299)),
        ("regnet_x_400mf", None), ("shufflenet_v2_x1_0", None), ("squeezenet1_1", None),
        ("efficientnet_v2_s", None), ("maxvit_t", None), ("convnext_tiny", None),
        ("vit_b_32", None), ("r3d_18", (3, 8, 64, 64)), ("swin3d_t", (3, 8, 64, 64)),
    ],
)  # fmt: skip
def test_networks_from_outside_can_be_drawn(name, shape):
    _draw_all(graph_of(f"torchvision:{name}", shape))
