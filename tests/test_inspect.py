"""Inspections: leaks, counts, measures, files, findings, the page and the terminal."""

import json
import os
import re
from dataclasses import replace
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inspect_sets import ArrayStore, FilesInMemory, photo, photos, png_bytes, split_of
from PIL import Image
from rich.console import Console
from scipy.stats import entropy

import hubel
from hubel.data import measure
from hubel.data.duplicates import group_copies
from hubel.data.inspect import inspect, leaks, sample_grid
from hubel.data.split import Split
from hubel.report.inspection import write_inspection_page
from hubel.report.inspection_terminal import terminal_summary

EVIL = '<img src=x onerror="alert(1)">'


def _source(names):
    """A source of one distinct picture for each name."""
    rng = np.random.default_rng(0)
    return FilesInMemory({name: png_bytes(photo(rng, 16)) for name in names})


def _names(counts):
    """{"train/cat": 3} as ["train/cat/0.png", …]."""
    return [f"{place}/{i}.png" for place, n in counts.items() for i in range(n)]


def _inspect(source, store=None, **options):
    store = source.store((16, 16)) if store is None else store
    return inspect(source, store, split_of(source, store.readable), **options)


def test_what_a_fit_refuses_is_looked_at_all_the_same(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "data/test" / name).mkdir(parents=True)
        Image.effect_noise((16, 16), 50).save(tmp_path / "data/test" / name / "a.png")
    found = hubel.inspect(tmp_path / "data", page=tmp_path / "page.html").inspection
    assert found.split_counts() == {"train": 0, "val": 0, "test": 2}
    first = found.headlines[0]
    assert first.severity == "error"
    assert "only test given, there is nothing to train on; add a train split" in first.text
    assert "nothing to train on" in found.to_json()["refused"]
    with pytest.raises(hubel.UserError, match="only test given"):
        hubel.fit(tmp_path / "data", output=tmp_path / "run")


# Leaks


def test_leaks_of_the_pencil_case():
    #              0        1        2      3      4      5       6
    splits = ["train", "train", "val", "val", "test", "test", "train"]
    digests = np.array([b"a", b"b", b"b", b"c", b"a", b"c", b"a"])
    source = _source([f"{s}/{'cat' if i != 4 else 'dog'}/{i}.png" for i, s in enumerate(splits)])
    store = ArrayStore(np.zeros((7, 4, 4, 3), np.uint8), digests=digests)
    found = leaks(source, store, split_of(source, store.readable))
    assert found.mask.tolist() == [False, False, True, False, True, False, False]
    assert found.counts == {"val": 1, "test": 1}
    assert found.totals == {"val": 2, "test": 2}
    assert found.count == 2
    assert found.pairs == [
        ("test/dog/4.png", "train/cat/0.png"),
        ("val/cat/2.png", "train/cat/1.png"),
    ]
    assert found.conflicts == [("train/cat/0.png", "test/dog/4.png", "train/cat/6.png")]
    assert found.of(np.array([3, 2, 5, 4])).tolist() == [False, True, False, True]
    assert found.headline() == (
        "1 of 2 test and 1 of 2 val samples are exact copies of training samples"
    )
    assert json.loads(json.dumps(found.to_json()))["counts"] == {"val": 1, "test": 1}


def test_leak_headlines_read_well():
    source = _source(_names({"train/a": 3, "train/b": 2, "test/a": 2, "val/b": 1}))
    store = source.store((16, 16))
    split = split_of(source, store.readable)
    none = leaks(source, store, split)
    assert none.count == 0
    assert none.headline() == "no val or test samples are exact copies of training samples"
    store.digests[5] = store.digests[0]
    one = leaks(source, store, split)
    assert one.headline() == "1 of 2 test samples is an exact copy of a training sample"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcd"), st.sampled_from(["train", "val", "test"]), st.booleans()
        ),
        min_size=1,
        max_size=24,
    )
)
def test_leaks_are_those_of_the_definition(samples):
    digests = np.array([d for d, _, _ in samples], "S32")
    splits = np.array([s for _, s, _ in samples])
    readable = np.array([r for _, _, r in samples], bool)
    source = _source([f"{s}/c{i % 2}/{i}.png" for i, s in enumerate(splits)])
    store = ArrayStore(np.zeros((len(samples), 4, 4, 3), np.uint8), readable, digests)
    # A run's recorded split may name samples that have become unreadable since.
    split = split_of(source, np.ones(len(samples), bool))
    trained = {digests[i] for i in split.train if readable[i]}
    wanted = [
        bool(readable[i] and splits[i] != "train" and digests[i] in trained)
        for i in range(len(samples))
    ]
    found = leaks(source, store, split)
    assert found.mask.tolist() == wanted
    for leaked, trained_on in found.pairs:
        i, j = source.ids.index(leaked), source.ids.index(trained_on)
        assert wanted[i]
        assert splits[j] == "train"
        assert digests[i] == digests[j]


def test_a_million_samples_take_seconds():
    # Not timed: a loop over samples would run into the test's own time limit.
    rng = np.random.default_rng(0)
    digests = rng.integers(0, 1 << 60, 1_000_000).astype("S32")
    digests[500_000:500_010] = digests[:10]
    copies = group_copies(digests, np.ones(len(digests), bool))
    assert len(copies.first) == 1_000_000 - 10


# What an inspection counts and measures


def test_counts_balance_and_sizes():
    rng = np.random.default_rng(1)
    counts = {"train/cat": 12, "train/dog": 4, "train/eel": 2, "val/cat": 2, "test/dog": 3}
    files = {}
    for name in _names(counts):
        side = 16 if name.startswith("train") else 20
        files[name] = png_bytes(photo(rng, side))
    source = FilesInMemory(files)
    seen = _inspect(source, near=False)
    assert seen.classes == ("cat", "dog", "eel")
    assert seen.counts.tolist() == [[12, 4, 2], [2, 0, 0], [0, 3, 0]]
    assert seen.split_counts() == {"train": 18, "val": 2, "test": 3}
    assert (seen.balance.largest, seen.balance.num_largest) == ("cat", 12)
    assert (seen.balance.smallest, seen.balance.num_smallest) == ("eel", 2)
    assert seen.balance.ratio == 6.0
    assert seen.balance.evenness == pytest.approx(entropy([12, 4, 2]) / np.log(3))
    assert seen.sizes.smallest == (16, 16)
    assert seen.sizes.largest == (20, 20)
    assert seen.sizes.median == (16.0, 16.0)
    assert seen.sizes.sizes.tolist() == [[16, 16], [20, 20]]
    assert seen.sizes.counts.tolist() == [18, 5]
    assert seen.channels == {3: 23}
    assert seen.near is None
    assert seen.notes == ["a note of the source", "a note of the store", "a note of the split"]
    assert not seen.split_drawn


def test_a_split_that_hubel_draws_is_told_from_the_data_s_own():
    source = _source(_names({"train/a": 6, "train/b": 6}))
    store = source.store((16, 16))
    source.splits[:] = ""
    parts = [np.arange(0, 12, 2), np.array([1, 3]), np.array([5, 7, 9, 11])]
    assert inspect(source, store, Split(*parts, notes=[]), near=False).split_drawn


@pytest.mark.parametrize("chunk", [1, 400, 1 << 20])
def test_channel_statistics_equal_numpy_s(chunk, monkeypatch):
    monkeypatch.setattr(measure, "CHUNK_VALUES", chunk)
    pixels = photos(30, seed=3, side=10)
    store = ArrayStore(pixels)
    found = measure.measure_pixels(store, np.arange(30), np.arange(20))
    reference = pixels[:20].astype(np.float64) / 255
    assert found.mean == pytest.approx(reference.mean((0, 1, 2)), rel=1e-12)
    assert found.std == pytest.approx(reference.std((0, 1, 2)), rel=1e-12)


def test_large_float_values_cost_no_digits():
    rng = np.random.default_rng(0)
    volumes = (1e5 + rng.normal(0, 1, (8, 6, 6, 6, 2))).astype(np.float32)
    found = measure.measure_pixels(ArrayStore(volumes), np.arange(8), np.arange(8))
    reference = volumes.astype(np.float64)
    assert found.mean == pytest.approx(reference.mean((0, 1, 2, 3)), rel=1e-12)
    assert found.std == pytest.approx(reference.std((0, 1, 2, 3)), rel=1e-9)


def test_constant_and_nearly_empty_samples():
    pixels = photos(6, side=10)
    pixels[1] = (7, 0, 200)  # each channel has one value
    pixels[3] = 128
    pixels[3, ::2] += 2  # standard deviation 1 of 255
    pixels[4] = 128
    pixels[4, ::2] += 6  # standard deviation 3
    found = measure.measure_pixels(ArrayStore(pixels), np.arange(6), np.arange(6))
    assert found.constant.tolist() == [1]
    assert found.faint.tolist() == [3]


def test_empty_samples_of_a_set_of_zeros_and_ones():
    volumes = np.zeros((4, 6, 6, 6, 1), np.uint8)
    volumes[1:, :3] = 1
    found = measure.measure_pixels(ArrayStore(volumes), np.arange(4), np.arange(4))
    assert found.constant.tolist() == [0]
    assert found.faint.tolist() == []


# Files


def _odd_files():
    rng = np.random.default_rng(2)
    files = {name: png_bytes(photo(rng, 16)) for name in _names({"train/a": 30, "train/b": 30})}
    files |= {name: png_bytes(photo(rng, 16)) for name in _names({"val/a": 4, "test/b": 4})}
    files["train/a/named.jpg"] = png_bytes(photo(rng, 16))
    deep = (photo(rng, 16, 1)[..., 0].astype(np.uint16)) * 257
    buffer = BytesIO()
    Image.fromarray(deep).save(buffer, "PNG")
    files["train/a/deep.png"] = buffer.getvalue()
    frames = [Image.fromarray(photo(rng, 16)) for _ in range(2)]
    buffer = BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    files["train/a/moving.gif"] = buffer.getvalue()
    clear = Image.fromarray(photo(rng, 16)).convert("RGBA")
    clear.putalpha(100)
    buffer = BytesIO()
    clear.save(buffer, "PNG")
    files["train/a/clear.png"] = buffer.getvalue()
    turned = Image.fromarray(photo(rng, 16))
    exif = turned.getexif()
    exif[0x0112] = 6
    buffer = BytesIO()
    turned.save(buffer, "JPEG", exif=exif)
    files["train/a/turned.jpg"] = buffer.getvalue()
    files["train/b/zero.png"] = b""
    files["train/b/half.jpg"] = png_bytes(photo(rng, 16), "JPEG")[:300]
    files["test/b/words.png"] = b"these are words"
    return FilesInMemory(files)


def test_files_are_looked_into_once():
    source = _odd_files()
    store = source.store((16, 16))
    source.reads[:] = 0
    seen = _inspect(source, store, near=False)
    assert source.reads.max() == 1
    facts = seen.files
    assert facts.formats == {"PNG": 71, "GIF": 1, "JPEG": 1}
    assert sum(facts.modes.values()) == 73
    wrong = facts.mislabelled
    assert [(m.id, m.promised, m.found) for m in wrong] == [("train/a/named.jpg", "JPEG", "PNG")]
    for indices, name in (
        (facts.deep, "deep.png"),
        (facts.animated, "moving.gif"),
        (facts.transparent, "clear.png"),
        (facts.turned, "turned.jpg"),
    ):
        assert [source.ids[i] for i in indices] == [f"train/a/{name}"]
    assert seen.num_samples == 76
    assert seen.num_readable == 73
    assert seen.unreadable == {"test": 1, "train": 2}
    assert [p.id for p in seen.problems] == [
        "train/b/zero.png",
        "train/b/half.jpg",
        "test/b/words.png",
    ]


def test_arrays_have_no_files_to_look_into():
    pixels = photos(12, side=16)
    names = _names({"train/a": 4, "train/b": 4, "test/a": 2, "test/b": 2})
    source = FilesInMemory({n: p.tobytes() for n, p in zip(names, pixels, strict=True)}, pixels)
    seen = _inspect(source, ArrayStore(pixels))
    assert seen.files is None
    assert source.reads.sum() == 0


# Findings


def _lines(seen):
    return [(h.severity, h.text) for h in seen.headlines]


def test_a_clean_set_says_so_first():
    counts = {f"{s}/{c}": n for s, n in (("train", 25), ("val", 3), ("test", 250)) for c in "ab"}
    seen = _inspect(_source(_names(counts)), near=False)
    assert _lines(seen) == [
        (
            "info",
            "Nothing is wrong: no broken files, copies across splits, contradicting labels or "
            "empty pictures.",
        )
    ]


def test_findings_are_sorted_by_severity_and_name_their_number():
    source = _odd_files()
    contents = source._contents
    contents[source.ids.index("test/b/0.png")] = contents[source.ids.index("train/b/0.png")]
    contents[source.ids.index("train/b/1.png")] = contents[source.ids.index("train/a/1.png")]
    contents[source.ids.index("train/a/2.png")] = png_bytes(np.full((16, 16, 3), 9, np.uint8))
    seen = _inspect(source, near=False)
    severities = [h.severity for h in seen.headlines]
    assert severities == sorted(severities, key=["error", "warning", "info"].index)
    assert _lines(seen)[:3] == [
        ("error", "Leak: 1 of 4 test pictures (25.0 %) is an exact copy of training pictures."),
        (
            "error",
            "3 of 76 pictures cannot be read (first: train/b/zero.png: empty file (0 bytes)).",
        ),
        (
            "error",
            "1 picture is there more than once with different labels (first: train/a/1.png is "
            "'a', train/b/1.png is 'b').",
        ),
    ]
    assert ("warning", "1 picture is of one single value (first: train/a/2.png).") in _lines(seen)
    assert ("info", "1 file has more than 8 bits a sample: stored with 8.") in _lines(seen)
    assert all(h.remedy for h in seen.headlines if h.severity != "info")
    assert "--allow corrupt" in seen.headlines[1].remedy


def test_few_unreadable_files_are_a_warning():
    files = {
        n: png_bytes(np.full((2, 2, 3), i % 251, np.uint8))
        for i, n in enumerate(_names({"train/a": 150, "train/b": 150}))
    }
    files["train/a/zero.png"] = b""
    found = [h for h in _inspect(FilesInMemory(files), near=False).headlines if "read" in h.text]
    assert [(h.severity, h.remedy) for h in found] == [
        ("warning", "They are skipped; mend or remove them.")
    ]


def test_uneven_small_and_missing_classes():
    counts = {"train/a": 66, "train/b": 6, "val/a": 4, "test/a": 5, "test/b": 5}
    lines = _lines(_inspect(_source(_names(counts)), near=False))
    assert (
        "warning",
        "The largest class ('a', 66) has 11.0 times the training pictures of the smallest "
        "('b', 6).",
    ) in lines
    assert ("warning", "1 of 2 classes has no val picture ('b').") in lines
    assert ("warning", "1 of 2 classes has fewer than 20 training pictures ('b').") in lines
    # Wilson's interval of 9 of 10: 0.596 to 0.982.
    assert (
        "info",
        "With 10 test pictures an accuracy of 90 % is known to about ±19 points only.",
    ) in lines


def test_near_copies_across_splits_and_labels():
    rng = np.random.default_rng(4)
    counts = {"train/a": 60, "train/b": 60, "val/a": 10, "test/a": 30, "test/b": 30}
    files = {name: png_bytes(photo(rng, 32)) for name in _names(counts)}
    for mine, theirs in (
        ("test/a/0.png", "train/a/0.png"),
        ("test/b/0.png", "train/a/1.png"),
        ("val/a/0.png", "train/a/2.png"),
    ):
        picture = np.asarray(Image.open(BytesIO(files[theirs])))
        files[mine] = png_bytes((picture * 0.9).astype(np.uint8))
    # An exact copy of a near copy's original: it is in the original's place.
    files["test/a/5.png"] = files["val/a/0.png"]
    # An exact copy of a training sample is an exact leak, and not a near one besides.
    files["test/a/6.png"] = files["train/a/3.png"]
    picture = np.asarray(Image.open(BytesIO(files["train/a/3.png"])))
    files["train/a/4.png"] = png_bytes((picture * 0.8).astype(np.uint8))
    source = FilesInMemory(files)
    seen = _inspect(source, source.store((32, 32)))
    pairs = {tuple(source.ids[i] for i in pair) for pair in seen.near.pairs.tolist()}
    assert pairs == {
        ("train/a/0.png", "test/a/0.png"),
        ("train/a/1.png", "test/b/0.png"),
        ("train/a/2.png", "val/a/0.png"),
        ("train/a/3.png", "train/a/4.png"),
    }
    assert seen.near.leaked == {"val": 1, "test": 3}
    assert seen.near.num_conflicts == 1
    assert {source.ids[i] for i in seen.near.pairs[:2].ravel()} == {
        "train/a/0.png", "test/a/0.png", "train/a/1.png", "test/b/0.png"
    }  # fmt: skip
    lines = _lines(seen)
    assert ("warning", "3 of 60 test pictures (5.0 %) look like a training picture.") in lines
    assert ("warning", "1 pair of pictures that look the same has different labels.") in lines
    assert ("warning", "1 test picture is an exact copy of val pictures.") in lines
    assert seen.exact.leaked == {"val": 0, "test": 1}


def test_the_worst_exact_copies_come_first():
    source = _source(_names({"train/a": 9, "train/b": 4, "val/a": 3, "test/a": 4}))
    contents, ids = source._contents, source.ids
    for mine, theirs in (
        ("train/a/1.png", "train/a/0.png"),
        ("test/a/1.png", "val/a/0.png"),
        ("val/a/1.png", "train/a/2.png"),
        ("test/a/2.png", "train/a/3.png"),
        ("test/a/3.png", "train/a/3.png"),
    ):
        contents[ids.index(mine)] = contents[ids.index(theirs)]
    exact = _inspect(source, near=False).exact
    assert [[ids[i] for i in group] for group in exact.groups] == [
        ["train/a/3.png", "test/a/2.png", "test/a/3.png"],
        ["train/a/2.png", "val/a/1.png"],
        ["val/a/0.png", "test/a/1.png"],
        ["train/a/0.png", "train/a/1.png"],
    ]
    assert exact.num_spare == 5
    assert exact.leaked == {"val": 1, "test": 2}
    assert exact.val_in_test == 1
    assert exact.conflicts == []


def test_json_is_json_and_names_samples():
    source = _odd_files()
    seen = _inspect(source)
    document = json.loads(json.dumps(seen.to_json(), allow_nan=False))
    assert document["num_readable"] == 73
    assert document["counts"]["train"] == {"a": 35, "b": 30}
    assert document["files"]["deep"] == ["train/a/deep.png"]
    assert document["unreadable"][0] == {"id": "train/b/zero.png", "reason": "empty file (0 bytes)"}
    assert document["near_copies"]["leaked"] == {"val": 0, "test": 0}
    assert document["headlines"][0]["severity"] == "error"
    assert set(document["sizes"]) == {
        "stored", "smallest", "median", "largest", "distinct", "most_frequent"
    }  # fmt: skip


def test_sample_grid_draws_from_the_readable_of_each_class():
    source = _source(_names({"train/a": 9, "train/b": 2, "test/a": 3}))
    store = source.store((16, 16))
    store.readable[0] = False
    grid = sample_grid(source, store, 5, seed=1)
    assert [len(part) for part in grid] == [5, 2]
    for k, part in enumerate(grid):
        assert (source.targets[part] == k).all()
        assert len(set(part.tolist())) == len(part)
    assert 0 not in grid[0]
    again = sample_grid(source, store, 5, seed=1)
    assert all((a == b).all() for a, b in zip(grid, again, strict=True))


# The page


@pytest.fixture(scope="module")
def dirty_page(tmp_path_factory):
    source = _odd_files()
    contents, ids = source._contents, source.ids
    contents[ids.index("test/b/0.png")] = contents[ids.index("train/b/0.png")]
    contents[ids.index("train/b/3.png")] = contents[ids.index("train/a/3.png")]
    source.ids[ids.index("train/b/zero.png")] = f"train/b/{EVIL}.png"
    source.info = replace(source.info, classes=("a", EVIL))
    store = source.store((16, 16))
    seen = _inspect(source, store)
    path = tmp_path_factory.mktemp("page") / "deep" / "inspection.html"
    assert write_inspection_page(path, seen, store, source) == path
    return path.read_text(encoding="utf-8")


def test_the_page_is_complete_in_itself(dirty_page):
    text = re.sub(r"<script.*?</script>", "", dirty_page, flags=re.DOTALL)
    assert not re.findall(r'(?:src|href)="(?!data:|#)', text)
    assert "http" not in re.sub(r'http-equiv="Content-Security-Policy"', "", text)
    targets = set(re.findall(r'href="#([a-z]+)"', text))
    assert targets <= set(re.findall(r'id="([a-z]+)"', text))
    assert {"findings", "samples", "classes", "copies", "files", "pixels"} <= targets


def test_names_from_disk_are_text_on_the_page(dirty_page):
    assert EVIL not in dirty_page
    assert "&lt;img src=x onerror=&#34;alert(1)&#34;&gt;" in dirty_page
    assert "<script>alert" not in dirty_page


def test_the_page_says_what_was_found(dirty_page):
    text = " ".join(re.sub(r"<[^>]*>", " ", dirty_page).split())
    assert "Leak: 1 of 4 test pictures (25.0 %) is an exact copy" in text
    assert "with different labels" in text
    assert "truncated: the JPEG data end too early" in text
    assert "the name says JPEG, the content is PNG" in text
    assert dirty_page.count("data:image/png;base64,") > 20


def test_a_page_of_a_clean_set_has_no_empty_sections(tmp_path):
    source = _source(_names({"train/a": 5, "train/b": 5, "val/a": 2, "val/b": 2}))
    store = source.store((16, 16))
    html = write_inspection_page(
        tmp_path / "p.html", _inspect(source, store, near=False), store, source
    ).read_text(encoding="utf-8")
    assert set(re.findall(r'<section id="(\w+)"', html)) == {
        "findings", "samples", "classes", "pixels"
    }  # fmt: skip


def test_a_page_of_volumes_and_of_pictures_gone_since(tmp_path):
    rng = np.random.default_rng(0)
    volumes = (rng.random((12, 14, 14, 14, 1)) > 0.5).astype(np.uint8)
    names = _names({"train/a": 4, "train/b": 4, "test/a": 2, "test/b": 2})
    files = {n: v.tobytes() for n, v in zip(names, volumes, strict=True)}
    source = FilesInMemory(files, volumes, spatial_dims=3)
    store = ArrayStore(volumes)
    seen = _inspect(source, store)
    html = write_inspection_page(tmp_path / "v.html", seen, store, source).read_text("utf-8")
    assert "12 volumes in 2 classes" in html
    assert "middle slices" in html

    def gone(content, i, in_channels=None):
        raise OSError("gone")

    source.decode = gone
    html = write_inspection_page(tmp_path / "w.html", seen, store, source).read_text("utf-8")
    assert "not readable any more" in html


# The terminal


def _printed(seen, width=80):
    console = Console(width=width, file=StringIO())
    console.print(terminal_summary(seen))
    return console.file.getvalue()


def test_the_terminal_summary_of_a_dirty_set():
    source = _odd_files()
    contents, ids = source._contents, source.ids
    contents[ids.index("test/b/0.png")] = contents[ids.index("train/b/0.png")]
    text = _printed(_inspect(source))
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    for wanted in (
        "✗ Leak: 1 of 4 test pictures (25.0 %) is an exact copy of training pictures.",
        "train  val  test",
        "train/b/half.jpg  truncated",
        "train/b/0.png  = test/b/0.png",
        "files     PNG (71), GIF (1), JPEG (1)",
        "note      a note of the source",
    ):
        assert wanted in text
    assert re.search(r"^all +65 +4 +4 *$", text, re.MULTILINE)


@pytest.mark.parametrize("num_classes", [2, 24, 25, 100])
def test_any_number_of_classes_fits_80_columns(num_classes):
    names = [
        f"{split}/{'long-' * 8 if k == 1 else ''}class [bold]{k}/{i}.png"
        for k in range(num_classes)
        for split, n in (("train", 2), ("test", 1))
        for i in range(n)
    ]
    pixels = np.arange(len(names), dtype=np.uint8)[:, None, None, None].repeat(4, 1).repeat(4, 2)
    source = FilesInMemory({n: p.tobytes() for n, p in zip(names, pixels, strict=True)}, pixels)
    text = _printed(_inspect(source, ArrayStore(pixels), near=False))
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    assert "class [bold]0" in text  # a name is text, not markup
    rows = [line for line in text.splitlines() if re.match(r"(long|class \[)", line)]
    assert len(rows) == (num_classes if num_classes <= 24 else 16)
    if num_classes > 24:
        assert f"… {num_classes - 16} between" in text


# Real data


@pytest.mark.data
def test_near_copies_of_cifar10(tmp_path):
    from hubel.data.cache import open_store
    from hubel.data.source import open_source
    from hubel.data.split import split_source

    if "HUBEL_DATA" not in os.environ:
        pytest.skip("HUBEL_DATA names no folder of real data sets")
    source = open_source(Path(os.environ["HUBEL_DATA"]) / "cifar10")
    store = open_store(source, cache_dir=tmp_path)
    seen = inspect(source, store, split_source(source, val_fraction=0.1, seed=0))
    pairs = {tuple(source.ids[i] for i in pair) for pair in seen.near.pairs.tolist()}
    # Known near copies: one in grey and one in colour, and one mirrored.
    assert ("train/horse/3720.jpg", "test/horse/0907.jpg") in pairs
    assert ("train/bird/4450.jpg", "test/bird/0634.jpg") in pairs
    # Barz and Denzler (2020, Journal of Imaging 6, 41) list 286 by eye, 3 % of the test split.
    assert 250 <= seen.near.leaked["test"] <= 450
    assert seen.near.num_conflicts < 0.01 * len(pairs)
    assert seen.exact.leaked == {"val": 0, "test": 0}
