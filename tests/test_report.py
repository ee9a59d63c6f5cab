"""Report pages: complete in themselves, closed to markup from disk, and true to the figures."""

import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import pytest
from PIL import Image

from hubel.data.source import UnreadableSampleError
from hubel.evaluate.classification import evaluate_classification
from hubel.evaluate.result import Evaluation
from hubel.report import class_charts, curve_charts, words
from hubel.report.evaluation import write_evaluation_report
from hubel.report.figures import PNG_SCALE, figure, inline, themes
from hubel.report.page import json_script, picture_uri, render, still_picture, write_page

HOSTILE = (
    "<script>document.title='taken'</script>",
    '"><img src=x onerror="document.title=\'taken\'">',
    "</script><!--",
    "names[0]' + {{ 7*7 }} & \u2028" + "long " * 40,
)
VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """The elements of a page as a browser would see them."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.scripts: list[tuple[dict[str, str], str]] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        self.text = " ".join(" ".join(self.texts).replace("\u202f", " ").split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.elements.append((tag, attributes))
        if tag == "script":
            self.scripts.append((attributes, ""))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = (attributes, text + data)
        elif self.open and self.open[-1] != "style":
            self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def titles(self) -> list[str]:
        ids = [a["id"] for a in self.all("section")]
        assert [a["href"] for a in self.all("a")][: len(ids)] == [f"#{i}" for i in ids]
        return ids


def assert_closed(page: Page) -> None:
    """Nothing is loaded from outside, nothing runs but what the policy names."""
    assert page.open == []
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("src", "href", "data", "action", "srcset"):
            if name in attributes:
                assert attributes[name].startswith(("data:", "#")), (tag, attributes[name][:80])
    policy = next(
        a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none';")
    assert "unsafe-eval" not in policy
    named = re.search("script-src ([^;]*)", policy)
    assert named is not None
    running = [text for attributes, text in page.scripts if "type" not in attributes]
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for text in running
    ]
    assert named[1].split() == (hashes or ["'none'"])


def judged(
    classes: tuple[str, ...], n: int = 60, seed: int = 0, leaked: Any = None, skill: float = 1.5
) -> Evaluation:
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, len(classes), n)
    logits = generator.normal(size=(n, len(classes)))
    logits[np.arange(n), targets] += skill
    p = np.exp(logits)
    p /= p.sum(axis=1, keepdims=True)
    ids = [f"test/{classes[t]}/{i}.png" for i, t in enumerate(targets)]
    return evaluate_classification(p, targets, classes, ids, split="test", leaked=leaked)


def history(num_epochs: int) -> list[dict[str, Any]]:
    return [
        {
            "epoch": e,
            "train_loss": 2.0 / e,
            "train_top1": 1 - 0.5 / e,
            "val_loss": 2.2 / e,
            "val_top1": 0.9 - 0.5 / e,
            "lr": 0.01,
            "images_per_s": 900.0,
            "seconds": 1.0,
        }
        for e in range(1, num_epochs + 1)
    ]


FACTS = {
    "run": "runs/<b>x</b>",
    "task": "classify",
    "model": "lenet5",
    "params": 61706,
    "input": "1×32×32",
    "data": "digits",
    "classes": 4,
    "splits": {"train": 1200, "val": 300, "test": 60},
    "epochs": 3,
    "seconds": 252.0,
    "images_per_s": 9123.4,
    "engine": "bfloat16",
    "seed": 0,
    "created": "2025-01-02T03:04:05.678+00:00",
    "versions": {"hubel": "0.1.0", "torch": "2.15.0"},
    "command": "hubel fit digits --seed 0",
}


def tile(id: str) -> np.ndarray:
    return np.full((8, 8, 1), len(id) % 256, dtype=np.uint8)


# --- words


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.942, "94.2 %"),
        (1.0, "100 %"),
        (0.0, "0 %"),
        (0.99996, "> 99.9 %"),
        (0.00001, "< 0.1 %"),
        (0.9994, "99.9 %"),
        (None, "–"),
    ],
)
def test_percent_never_rounds_to_certainty(share: float | None, text: str) -> None:
    assert words.percent(share).replace("\u202f", " ") == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.25, "250 ms"),
        (4.04, "4.0 s"),
        (9.96, "10 s"),
        (59.7, "1 min 0 s"),
        (252, "4 min 12 s"),
        (3599.6, "1 h 0 min"),
        (86399, "24 h 0 min"),
        (None, "–"),
    ],
)
def test_duration(seconds: float | None, text: str) -> None:
    assert words.duration(seconds).replace("\u202f", " ") == text


def test_other_words() -> None:
    assert words.interval_text((0.898, 0.967)).replace("\u202f", " ") == "89.8–96.7 %"
    assert words.integer(1234567.4) == "1,234,567"
    assert words.number(None) == "–"
    assert words.number(0.12345) == "0.123"
    assert words.plural(1, "class", "classes") == "1 class"
    assert words.plural(2, "class", "classes") == "2 classes"
    assert words.plural(1200, "picture") == "1,200 pictures"
    sizes = [words.bytes_text(n).replace("\u202f", " ") for n in (5, 1500, 2.5e6, 1e9, 3e12)]
    assert sizes == ["5 bytes", "1.5 kB", "2.5 MB", "1 GB", "3 TB"]


# --- pictures


def decoded(uri: str) -> Image.Image:
    kind, data = uri.split(",", 1)
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert kind == f"data:image/{image.format.lower() if image.format else ''};base64"
    return image


@pytest.mark.parametrize("channels", [1, 3])
def test_small_pictures_keep_their_pixels(channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, channels), dtype=np.uint8)
    image = decoded(picture_uri(pixels))
    assert np.array_equal(np.asarray(image).reshape(5, 7, channels), pixels)
    enlarged = np.asarray(decoded(picture_uri(pixels, scale=3))).reshape(15, 21, channels)
    assert np.array_equal(enlarged, pixels.repeat(3, axis=0).repeat(3, axis=1))


def test_large_pictures_are_reduced() -> None:
    image = decoded(picture_uri(np.zeros((300, 600, 3), dtype=np.uint8)))
    assert (image.format, image.size) == ("JPEG", (192, 96))


def test_other_types_are_stretched_and_other_channels_averaged() -> None:
    values = np.array([[[-1.0], [0.0]], [[1.0], [np.nan]]], dtype=np.float32)
    assert still_picture(values)[..., 0].tolist() == [[0, 128], [255, 128]]
    assert still_picture(np.full((2, 2, 1), 7.0)).max() == 0
    four = np.arange(8, dtype=np.uint8).reshape(1, 2, 4)
    assert still_picture(four)[..., 0].tolist() == [[2, 6]]


def test_a_volume_is_its_three_middle_slices() -> None:
    d, h, w = 4, 6, 5
    volume = np.random.default_rng(0).integers(1, 256, (d, h, w, 1), dtype=np.uint8)
    sheet = still_picture(volume)[..., 0]
    assert sheet.shape == (6, 5 + 1 + 5 + 1 + 6)
    assert np.array_equal(sheet[:h, :w], volume[2, :, :, 0])
    assert np.array_equal(sheet[1 : 1 + d, w + 1 : 2 * w + 1], volume[:, 3, :, 0])
    assert np.array_equal(sheet[1 : 1 + d, 2 * w + 2 :], volume[:, :, 2, 0])
    assert not sheet[:, w].any()


@pytest.mark.parametrize("shape", [(4, 4, 1), (4, 4, 4, 1)])
def test_occupancy_is_black_and_white(shape: tuple[int, ...]) -> None:
    occupied = np.zeros(shape, np.uint8)
    occupied[2:] = 1
    assert set(np.unique(still_picture(occupied))) == {0, 255}
    occupied[0, 0] = 2
    assert still_picture(occupied).max() == 2


@pytest.mark.parametrize("shape", [(4, 4), (0, 4, 1), (1, 1, 1, 1, 1)])
def test_what_is_no_picture_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=re.escape(f"Got shape {shape} instead")):
        picture_uri(np.zeros(shape, dtype=np.uint8))


# --- the frame


def test_json_cannot_leave_its_element() -> None:
    value = {"classes": list(HOSTILE)}
    text = str(json_script(value))
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == value
    with pytest.raises(ValueError, match="Out of range float"):
        json_script([float("nan")])


def test_a_page_without_charts_has_no_scripts(tmp_path: Path) -> None:
    html = render("base.html", {})
    page = Page(html)
    assert_closed(page)
    assert page.scripts == []
    assert write_page(tmp_path / "new" / "page.html", html).read_text("utf-8") == html
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["page.html"]


# --- figures


def test_a_figure_in_every_form(tmp_path: Path) -> None:
    chart = (
        alt.Chart(inline([{"a": 1, "b": 2}, {"a": 2, "b": 4}]))
        .mark_bar(color=alt.expr("accent"))
        .encode(x="a:O", y="b:Q")
        .properties(width=320, height=200)
    )
    shown = figure(chart, "bars", text='Bars "of" <b>')
    svg, png = shown.save(tmp_path / "figures")
    assert (svg.name, png.name) == ("bars.svg", "bars.png")
    root = ElementTree.parse(svg).getroot()
    assert (float(root.attrib["width"]), float(root.attrib["height"])) == (320, 200)
    accent = themes()["light"]["params"][4]
    assert accent["name"] == "accent"
    assert accent["value"] in svg.read_text("utf-8")  # the theme's colour reached the mark
    with Image.open(png) as image:
        assert image.size == (320 * PNG_SCALE, 200 * PNG_SCALE)
        assert image.getpixel((0, 0)) == (255, 255, 255)
    page = Page(str(shown.html))
    assert page.all("img")[0]["alt"] == 'Bars "of" <b>'
    assert page.all("img")[0]["width"] == "320"
    assert json.loads(page.scripts[0][1]) == shown.spec


@pytest.mark.parametrize("name", ["", "a/b", "..", "é", "a b"])
def test_a_figure_name_is_a_file_name(name: str) -> None:
    with pytest.raises(ValueError, match="name must be letters, digits, - and _"):
        figure(alt.Chart(inline([])).mark_bar(), name, text="")


def test_light_and_dark_theme_have_the_same_parts() -> None:
    light, dark = themes()["light"], themes()["dark"]
    assert [p["name"] for p in light["params"]] == [p["name"] for p in dark["params"]]
    assert light["range"].keys() == dark["range"].keys()
    assert light["params"] != dark["params"]


def confusion_cells(spec: dict[str, Any]) -> dict[tuple[int, int], int]:
    rows = [row for values in spec["datasets"].values() for row in values]
    return {(row["t"], row["p"]): row["n"] for row in rows}


def test_the_confusion_chart_has_truth_down_and_prediction_across() -> None:
    evaluation = judged(("a", "b", "c"), n=40, skill=0.2)
    spec = class_charts.confusion_matrix(evaluation).spec
    assert confusion_cells(spec) == {
        (t, p): n for t, row in enumerate(evaluation.confusion) for p, n in enumerate(row) if n
    }
    encoding = spec["layer"][0]["encoding"]
    assert (encoding["y"]["field"], encoding["y"]["axis"]["title"]) == ("t", "truth")
    assert (encoding["x"]["field"], encoding["x"]["axis"]["title"]) == ("p", "prediction")
    assert [p["value"] for p in spec["params"] if p["name"] == "names"] == [["a", "b", "c"]]


def test_beyond_a_hundred_classes_the_most_mistaken_are_shown() -> None:
    k = 130
    classes = tuple(f"c{i}" for i in range(k))
    p = np.eye(k)
    p[:100] = np.roll(p[:100], 1, axis=1)  # the first hundred are all taken for their neighbour
    evaluation = evaluate_classification(p, np.arange(k), classes, classes, split="test")
    spec = class_charts.confusion_matrix(evaluation).spec
    assert [q["value"] for q in spec["params"] if q["name"] == "names"] == [list(classes[:100])]
    assert len(confusion_cells(spec)) == 99  # the hundredth mistake points outside


def test_class_names_stay_out_of_fields_and_expressions() -> None:
    evaluation = judged(HOSTILE)
    for shown in (
        class_charts.confusion_matrix(evaluation),
        class_charts.per_class_file(evaluation.per_class),
        class_charts.untrained_probabilities(evaluation.classes, [0.25] * 4, []),
    ):
        params = shown.spec.pop("params")
        assert sorted(params[0]["value"]) == sorted(HOSTILE)
        assert "taken" not in json.dumps(shown.spec)


def test_curves_take_what_the_log_has() -> None:
    assert [f.name for f in curve_charts.learning_curves(history(3))] == [
        "loss",
        "accuracy",
        "learning_rate",
    ]
    bare = [{"epoch": 1, "train_loss": 2.0, "val_loss": None}]
    assert [f.name for f in curve_charts.learning_curves(bare)] == ["loss"]
    assert curve_charts.learning_curves([]) == []


# --- the report


@pytest.fixture(scope="module")
def hostile_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with everything on it, whose every text is an attack."""
    folder = tmp_path_factory.mktemp("report")
    leaked = np.arange(60) < 7
    example = {"id": HOSTILE[0], "target": 0, "probabilities": [0.3, 0.2, 0.2, 0.3]}
    return write_evaluation_report(
        folder / "report.html",
        judged(HOSTILE, leaked=leaked),
        run_facts={**FACTS, "engine": HOSTILE[1], "command": HOSTILE[2], "data": HOSTILE[0]},
        history=history(3),
        untrained={
            "loss": 1.40,
            "expected_loss": 1.386,
            "mean_probabilities": [0.25, 0.25, 0.26, 0.24],
            "examples": [example],
        },
        picture=tile,
        figures_dir=folder / "figures",
    )


def test_the_report_is_one_closed_file(hostile_report: Path) -> None:
    page = Page(hostile_report.read_text("utf-8"))
    assert_closed(page)
    running = [text for attributes, text in page.scripts if "type" not in attributes]
    assert len(running) == 2
    assert page.titles() == [
        "result",
        "confusion",
        "classes",
        "mistakes",
        "calibration",
        "learning",
        "untrained",
        "run",
    ]
    assert hostile_report.stat().st_size < 3_000_000
    assert sorted(p.name for p in hostile_report.parent.iterdir()) == ["figures", "report.html"]


def test_hostile_names_are_text(hostile_report: Path) -> None:
    page = Page(hostile_report.read_text("utf-8"))
    for name in HOSTILE[:3]:
        assert name in page.text
    assert "{{ 7*7 }}" in page.text
    assert {a["class"] for a in page.all("img") if "class" in a} == {"still"}
    assert page.all("h1") == [{}]
    assert "runs/<b>x</b>" in page.text
    assert page.all("title") == [{}]
    charts = [json.loads(t) for a, t in page.scripts if a.get("type") == "application/json"]
    assert len(charts) == 7


def test_the_report_says_what_was_measured(hostile_report: Path) -> None:
    evaluation = judged(HOSTILE, leaked=np.arange(60) < 7)
    text = Page(hostile_report.read_text("utf-8")).text
    m = evaluation.metrics
    low, high = (f"{100 * v:.1f}" for v in m.top1_interval)
    assert (
        f"{100 * m.top1:.1f} % of 60 pictures are given the right class; "
        f"95 % interval {low}–{high} %" in text
    )
    assert f"Macro F1 {m.macro_f1:.3f}" in text
    assert "Among the first five" not in text
    assert evaluation.leaks is not None
    assert "Leak: 7 pictures of this split were in the training split too" in text
    without = evaluation.leaks.without_leaked
    assert without.top1 is not None
    assert f"Without them the accuracy is {100 * without.top1:.1f} % of 53 pictures" in text
    worst = min(evaluation.per_class, key=lambda s: s.f1 or 0.0)
    assert f"{worst.n} {worst.f1:.3f} {100 * (worst.precision or 0):.1f} %" in text
    assert "Its loss was 1.400: as it should be." in text
    assert "61,706" in text
    assert "4 min 12 s" in text
    assert "2025-01-02 03:04:05+00:00" in text
    surest = evaluation.mistakes[0]
    caption = (
        f"{surest.truth} {words.percent(surest.truth_probability)} "
        f"→ {surest.prediction} {words.percent(surest.probability)} {surest.id}"
    )
    assert " ".join(caption.replace("\u202f", " ").split()) in text
    wrong = evaluation.n - evaluation.num_correct
    pictures = [a for a in Page(hostile_report.read_text("utf-8")).all("img") if "class" not in a]
    assert len(pictures) == min(36, wrong)


def test_figures_lie_beside_the_report(hostile_report: Path) -> None:
    folder = hostile_report.parent / "figures"
    names = ("calibration", "confusion", "curves", "per_class")
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        f"{name}.{kind}" for name in names for kind in ("png", "svg")
    )
    for name in names:
        assert ElementTree.parse(folder / f"{name}.svg").getroot().tag.endswith("svg")


def test_a_bare_report_leaves_out_what_is_not_known(tmp_path: Path) -> None:
    """No history, no untrained network, unreadable pictures, volumes, an absent class."""

    def gone(id: str) -> np.ndarray:
        raise UnreadableSampleError("truncated")

    p = np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.9, 0.05, 0.05]])
    evaluation = evaluate_classification(p, [0, 0, 0], ["a", "b", "c"], "xyz", split="val")
    path = write_evaluation_report(
        tmp_path / "report.html",
        evaluation,
        run_facts={"input": "1×8×8×8"},
        history=[],
        untrained=None,
        picture=gone,
        figures_dir=tmp_path / "figures",
    )
    page = Page(path.read_text("utf-8"))
    assert_closed(page)
    assert page.titles() == ["result", "confusion", "classes", "mistakes", "calibration", "run"]
    assert "not readable any more" in page.text
    assert "of 3 volumes are given" in page.text
    assert "The only mistake. Each with its truth" in page.text
    assert "Leak" not in page.text
    assert "b 0 – – –" in page.text
    assert "2 of 3 classes have no sample in this split" in page.text
    assert not (tmp_path / "figures" / "curves.svg").exists()


def test_a_perfect_network_has_no_mistakes_to_show(tmp_path: Path) -> None:
    classes = tuple("0123456789")
    evaluation = evaluate_classification(np.eye(10), np.arange(10), classes, classes, split="test")
    path = write_evaluation_report(
        tmp_path / "report.html",
        evaluation,
        run_facts=FACTS,
        history=history(1),
        untrained=None,
        picture=tile,
        figures_dir=tmp_path,
    )
    text = Page(path.read_text("utf-8")).text
    assert "100 % of 10 pictures" in text
    assert "The network makes no mistake on this split." in text
    assert "Among the first five 100 %" in text
    assert "Most confused" not in text


def test_slow_libraries_are_imported_only_to_draw() -> None:
    code = (
        "import sys, hubel.report.page, hubel.report.figures, hubel.report.evaluation; "
        "print(sorted({'altair', 'vl_convert', 'torch', 'sklearn'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert result.stdout.strip() == "[]"


@pytest.mark.slow
def test_charts_draw_in_a_browser_and_nothing_else_runs(
    hostile_report: Path, tmp_path: Path
) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium on this machine")
    result = subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={tmp_path}",
            "--enable-logging=stderr",
            "--virtual-time-budget=8000",
            "--dump-dom",
            hostile_report.resolve().as_uri(),
        ],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.stdout.count('class="chart drawn"') == 7
    assert result.stdout.count("<svg") >= 7
    assert "<title>runs/&lt;b&gt;x&lt;/b&gt;</title>" in result.stdout
    assert "CONSOLE" not in result.stderr  # no error, and no breach of the policy
