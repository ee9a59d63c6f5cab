"""Inspections of boxes and masks: counted, judged, drawn, and every fault with its file."""

import html
import json
import re
from io import StringIO

import numpy as np
import pytest
import torch
from data_makers import encoded, png
from inspect_sets import ArrayStore, split_of
from PIL import Image
from rich.console import Console

from hubel.colours import class_colour, css
from hubel.data.boxes import Boxes
from hubel.data.cache import open_store
from hubel.data.inspect import examples, inspect
from hubel.data.measure_boxes import measure_boxes
from hubel.data.measure_masks import measure_masks
from hubel.data.source import open_source
from hubel.data.targets import BoxTargets, Masks
from hubel.report.inspection import write_inspection_page
from hubel.report.inspection_terminal import terminal_summary


def _write(root, files):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def _shade(k):
    return png((k, 90, 200 - k), size=(40, 30))


def _looked_at(spec, tmp_path):
    """The inspection of a set, its document, its page and what a terminal of 80 columns shows."""
    source = open_source(spec)
    store = open_store(source, cache=False)
    seen = inspect(source, store, split_of(source, store.readable), near=False)
    page = write_inspection_page(tmp_path / "look.html", seen, store, source)
    console = Console(width=80, file=StringIO())
    console.print(terminal_summary(seen))
    shown = console.file.getvalue()
    assert max(len(line.rstrip()) for line in shown.splitlines()) <= 80
    document = json.loads(json.dumps(seen.to_json(), allow_nan=False))
    return source, store, seen, document, html.unescape(page.read_text("utf-8")), shown


# Boxes


def test_boxes_are_counted_and_measured_by_hand():
    boxes = Boxes.of(
        [
            [(0, (0, 0, 10, 10), False), (1, (0, 0, 100, 50), True)],
            [],
            [(0, (0, 0, 40, 20), False)],
            [(1, (5, 5, 9, 9), False)],
            [(1, (0, 0, 7, 7), False)],
        ],
        5,
    )
    readable = np.array([True, True, True, True, False])
    store = ArrayStore(
        np.zeros((5, 4, 4, 3), np.uint8), readable, sizes=np.full((5, 2), 100, np.int32)
    )
    facts = measure_boxes(boxes, store, np.array(["train", "train", "val", "", "test"]), 2)
    assert facts.counts.tolist() == [[1, 1], [1, 0], [0, 0]]
    assert facts.pictures.tolist() == [[1, 1], [1, 0], [0, 0]]
    assert facts.without.tolist() == [1, 0, 0]
    assert facts.per_picture.tolist() == [1, 1, 1]
    assert facts.median_per_picture == 1
    # 100, 5,000 and 800 pixels against 32² = 1,024 and 96² = 9,216.
    assert facts.by_size.tolist() == [[2, 0, 0], [0, 1, 0]]
    np.testing.assert_allclose(facts.sides, np.sqrt([0.01, 0.5, 0.08]), rtol=1e-6)
    np.testing.assert_allclose(facts.ratios, [1, 2, 2], rtol=1e-6)
    assert facts.difficult == 1
    assert facts.present[:4].tolist() == [
        [True, True],
        [False, False],
        [True, False],
        [False, True],
    ]


def test_a_set_of_boxes_in_every_form(tmp_path):
    rows = ["path,class,xmin,ymin,xmax,ymax,split"]
    rows += [f"p/{k}.png,{'dog' if k % 4 == 3 else 'cat'},2,3,22,13,train" for k in range(8)]
    rows += ["p/8.png,,,,,,train", "p/9.png,cat,1,1,39,29,val", "p/10.png,cat,0,0,9,9,test"]
    root = _write(tmp_path / "set", {f"p/{k}.png": _shade(k) for k in range(11)})
    (root / "boxes.csv").write_text("\n".join(rows))
    _, _, seen, document, page, shown = _looked_at(root / "boxes.csv", tmp_path)
    assert seen.split_counts() == {"train": 9, "val": 1, "test": 1}
    assert document["counts"]["train"] == {"cat": 6, "dog": 2}
    assert document["counted"] == "boxes"
    assert document["boxes"]["pictures_without_object"] == {"train": 1, "val": 0, "test": 0}
    assert document["boxes"]["pictures_by_number_of_boxes"] == [1, 10]
    assert document["boxes"]["sizes"]["cat"] == {"small": 7, "medium": 1, "large": 0}
    assert document["masks"] is None
    warned = [h["text"] for h in document["headlines"] if h["severity"] == "warning"]
    for name in ("val", "test"):
        assert f"1 of 2 classes has no {name} box ('dog')." in warned
        assert f"no {name} box ('dog')" in shown
    assert "1 of 9 train pictures (11.1 %) holds no object." in page
    assert re.search(r"^cat +6 +1 +1 ", shown, re.MULTILINE)
    assert re.search(r"^boxes each +0 to 1, median 1; 1 picture without an object", shown, re.M)
    assert 'id="boxes"' in page
    assert page.count("no object</span>") == 1
    assert all(page.count(f"background:{css(class_colour(k))}") == 2 for k in range(2))


def test_contradicting_copies_are_told_by_what_they_hold(tmp_path):
    rows = ["path,class,xmin,ymin,xmax,ymax,split"]
    rows += [f"{k}.png,{'dog' if k else 'cat'},2,3,22,13,train" for k in range(4)]
    rows += ["3.png,cat,2,3,9,9,train", "4.png,dog,1,1,9,9,val"]
    files = {f"{k}.png": _shade(k) for k in (1, 2, 4)} | {"0.png": _shade(9), "3.png": _shade(9)}
    root = _write(tmp_path / "set", files)
    (root / "boxes.csv").write_text("\n".join(rows))
    _, _, seen, *_ = _looked_at(root / "boxes.csv", tmp_path)
    (text,) = [h.text for h in seen.headlines if "different labels" in h.text]
    assert "0.png holds 'cat', 3.png holds 'cat, dog'" in text


def test_examples_show_each_class_and_rare_ones_choose_first():
    present = np.zeros((6, 2), bool)
    present[:, 0] = True
    present[4:, 1] = True
    usable = np.array([True, True, True, False, True, True])
    common, rare = examples(present, usable, 2)
    assert rare.tolist() == [4, 5]
    assert set(common.tolist()) <= {0, 1, 2}
    assert examples(present, usable, 9)[0].tolist() == [0, 1, 2, 4, 5]


# Masks


def _mask(values):
    return encoded(Image.fromarray(np.asarray(values, np.uint8)), "PNG")


def test_masks_are_counted_by_hand():
    masks = np.array([[[0, 0], [1, 255]], [[1, 1], [1, 1]], [[255] * 2] * 2, [[2] * 2] * 2])
    store = ArrayStore(masks.astype(np.uint8)[..., None])
    readable = np.array([True, True, True, False])
    facts = measure_masks(store, readable, np.array(["train", "val", "train", "train"]), 3)
    assert facts.counts.tolist() == [[2, 1, 0], [0, 4, 0], [0, 0, 0]]
    assert facts.ignored.tolist() == [5, 0, 0]
    assert facts.samples.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert facts.blank.tolist() == [2]
    assert facts.num_usable == 3
    np.testing.assert_allclose(facts.shares()[0], [2 / 3, 1 / 3, 0])
    np.testing.assert_allclose(facts.ignored_shares(), [5 / 8, 0, 0])


def test_a_set_of_masks_in_every_form(tmp_path):
    files = {"classes.txt": "sky\nroad\ncar\n"}
    for k in range(6):
        split = "val" if k == 5 else "train"
        values = np.full((30, 40), k % 2, np.uint8)
        values[:3] = 255
        if k == 0:
            values[10:20] = 2
        files[f"{split}/{k}.png"] = _shade(k)
        files[f"{split}annot/{k}.png"] = _mask(values)
    root = _write(tmp_path / "set", files)
    _, _, seen, document, page, shown = _looked_at(root, tmp_path)
    assert document["counted"] == "pixels"
    assert document["masks"]["share_ignored"]["train"] == 0.1
    assert document["masks"]["samples_with"]["train"] == {"sky": 3, "road": 2, "car": 1}
    assert document["masks"]["shares"]["val"] == {"sky": 0.0, "road": 1.0, "car": 0.0}
    texts = [h.text for h in seen.headlines]
    assert "2 of 3 classes have no val pixel ('sky', 'car')." in texts
    assert "10.0 % of the train pixels are ignored: neither learned from nor judged." in texts
    # 0.9 of 5 pictures is learned from; 10 of 30 rows of one are cars.
    assert re.search(r"^car +7\.4\s% +0\s% +1 ", shown, re.MULTILINE)
    assert re.search(r"^ignored +10\.0\s% +10\.0\s%", shown, re.MULTILINE)
    assert "no val pixel" in shown
    assert "The true masks lie over them" in page
    assert "pictures of train" in page


# Faults: sets broken in every way, looked at and made ready to learn from. The picture is 40×30.

BROKEN = {  # (left, top, right, bottom), the class, and what must be said of it
    "no area": ((5, 5, 5, 9), "cat", "it has no area"),
    "outside": ((50, 5, 60, 9), "cat", "it lies outside the picture"),
    "partly": ((30, 5, 60, 9), "cat", "it leaves the picture (40×30) by 20 pixels"),
    "swapped": ((24, 6, 4, 26), "cat", "its corners are swapped"),
    "unknown": ((4, 6, 24, 26), "eel", ""),
}


def _xml(*objects):
    parts = [
        f"<object><name>{name}</name><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax>"
        f"<ymax>{y1}</ymax></bndbox></object>"
        for (x0, y0, x1, y1), name in objects
    ]
    size = "<size><width>40</width><height>30</height></size>"
    return f"<annotation>{size}{''.join(parts)}</annotation>"


GOOD = ((4, 6, 24, 26), "cat")
BAD = [(corners, name) for corners, name, _ in BROKEN.values()]


def _broken_voc(root):
    """`bad` in val, `bare` without annotation, an annotation without picture."""
    names = ("good", "other", "bad", "bare")
    _write(root, {f"JPEGImages/{name}.png": _shade(k) for k, name in enumerate(names)})
    for name in ("good", "other", "gone"):
        _write(root, {f"Annotations/{name}.xml": _xml(GOOD)})
    _write(root, {"Annotations/bad.xml": _xml(*BAD)})
    _write(root, {"ImageSets/Main/train.txt": "good\nother\nbare\ngone\n"})
    _write(root, {"ImageSets/Main/val.txt": "bad\n"})
    return ["Annotations/bad.xml"], ["bare", "gone"]


def _broken_coco(root):
    names = ("good", "other", "bad", "bare", "gone")

    def document(members, annotations):
        images = [
            {"id": names.index(n), "file_name": f"{n}.png", "width": 40, "height": 30}
            for n in members
        ]
        rows = [
            {"id": k, "image_id": names.index(n), "category_id": 1 if name == "cat" else 7,
             "bbox": [x0, y0, x1 - x0, y1 - y0]}
            for k, (n, ((x0, y0, x1, y1), name)) in enumerate(annotations)
        ]  # fmt: skip
        categories = [{"id": 1, "name": "cat"}]
        return json.dumps({"images": images, "annotations": rows, "categories": categories})

    train = document(["good", "other", "gone"], [(n, GOOD) for n in ("good", "other", "gone")])
    val = document(["bad"], [("bad", box) for box in BAD])
    _write(root, {f"train/{n}.png": _shade(k) for k, n in enumerate(("good", "other", "bare"))})
    _write(root, {"val/bad.png": _shade(8), "annotations/instances_train.json": train})
    _write(root, {"annotations/instances_val.json": val})
    return ["annotations/instances_val.json"], ["bare.png", "gone.png"]


def _broken_yolo(root):
    def line(corners, name):
        x0, y0, x1, y1 = corners
        number = 0 if name == "cat" else 7
        return f"{number} {(x0 + x1) / 80} {(y0 + y1) / 60} {(x1 - x0) / 40} {(y1 - y0) / 30}"

    _write(root, {"data.yaml": "names: [cat]\ntrain: images/train\nval: images/val\n"})
    names = ("good", "other", "bare")
    _write(root, {f"images/train/{n}.png": _shade(k) for k, n in enumerate(names)})
    _write(root, {f"labels/train/{n}.txt": line(*GOOD) for n in ("good", "other", "gone")})
    _write(root, {"images/val/bad.png": _shade(8)})
    _write(root, {"labels/val/bad.txt": "\n".join(line(*box) for box in BAD)})
    return ["labels/val/bad.txt"], ["bare", "gone"]


def _broken_csv(root):
    head = "path,class,xmin,ymin,xmax,ymax"

    def line(name, box):
        return ",".join([f"p/{name}.png", box[1], *map(str, box[0])])

    names = ("good", "other", "bad", "bare")
    _write(root, {f"p/{n}.png": _shade(k) for k, n in enumerate(names)})
    train = [line(name, GOOD) for name in ("good", "other", "gone")]
    _write(root, {"train.csv": "\n".join([head, *train])})
    _write(root, {"val.csv": "\n".join([head, *(line("bad", box) for box in BAD)])})
    return ["val.csv"], ["bare.png", "gone.png"]


BOXED = {"voc": _broken_voc, "coco": _broken_coco, "yolo": _broken_yolo, "boxes": _broken_csv}


@pytest.mark.parametrize("name", BOXED)
def test_broken_boxes_are_found_with_their_file_and_crash_nothing(name, tmp_path):
    files, partners = BOXED[name](tmp_path / "set")
    source, store, seen, document, page, shown = _looked_at(tmp_path / "set", tmp_path)
    assert source.info.format == name
    faults = [(fault["where"], fault["reason"]) for fault in document["faults"]]
    at_boxes = [(where, reason) for where, reason in faults if where.startswith(files[0])]
    for _, _, reason in BROKEN.values():
        assert any(reason in said for _, said in at_boxes), reason
    assert sum("class" in said for _, said in at_boxes) >= len(BROKEN)
    assert any("eel" in said or "7" in said for _, said in at_boxes)
    for partner in partners:
        assert any(partner in where or partner in said for where, said in faults), partner
    for where, reason in faults:
        assert where in page
        assert reason in page
    first = f"{len(faults)} faults in the annotations (first: {faults[0][0]}"
    assert first in " ".join(shown.split())
    assert "Annotations at fault" in shown
    assert "--json lists all" in shown
    assert seen.headlines[0].severity != "info"
    # What a step of a fit gathers: whole numbers of classes, boxes inside the picture.
    targets = BoxTargets.of(source.boxes, store)
    rows = targets.rows(torch.arange(len(source)))
    real = rows[rows[..., 0] >= 0]
    assert len(real) == len(source.boxes)
    assert ((real[:, 1:] >= 0) & (real[:, 1:] <= 1)).all()
    assert (real[:, 3:] > real[:, 1:3]).all()
    assert store.gather(torch.arange(len(source))).shape[0] == len(source)


def test_broken_masks_are_found_with_their_file_and_crash_nothing(tmp_path):
    sound = np.zeros((30, 40), np.uint8)
    sound[:10] = 1
    files = {"classes.txt": "sky\nroad\n"}
    for k, name in enumerate(("good", "other", "small", "strange", "cut", "bare")):
        files[f"images/train/{name}.png"] = _shade(k)
    files |= {f"masks/train/{n}.png": _mask(sound) for n in ("good", "other", "gone")}
    files["masks/train/small.png"] = _mask(sound[:8, :9])
    files["masks/train/strange.png"] = _mask(sound * 7)
    files["masks/train/cut.png"] = _mask(sound)[:60]
    files |= {"images/val/last.png": _shade(60), "masks/val/last.png": _mask(sound)}
    root = _write(tmp_path / "set", files)
    source, store, seen, document, page, shown = _looked_at(root, tmp_path)
    said = {fault["where"]: fault["reason"] for fault in document["faults"]}
    assert set(said) == {"images/train/bare.png", "masks/train/gone.png"}
    assert "has no mask" in said["images/train/bare.png"]
    assert "has no picture" in said["masks/train/gone.png"]
    # A mask that cannot be read is told once, as its picture's problem.
    unread = {problem["id"]: problem["reason"] for problem in document["unreadable"]}
    assert set(unread) == {f"images/train/{name}.png" for name in ("small", "strange", "cut")}
    for name, reason in (
        ("small", "the mask is 9×8 pixels, its picture"),
        ("strange", "400 of its 1,200 values stand for no class"),
        ("cut", "damaged PNG"),
    ):
        assert f"its mask 'masks/train/{name}.png': {reason}" in unread[f"images/train/{name}.png"]
    for where, reason in (said | unread).items():
        assert where in page
        assert reason in page
        assert where in shown
    headlined = document["unreadable"][0]["id"]
    for where, reason in unread.items():
        assert page.count(reason) == 1 + (where == headlined)
    assert "<li>its mask: <b>3</b></li>" in page
    assert "2 faults in the annotations" in " ".join(shown.split())
    assert document["masks"]["usable"] == 3
    assert store.masks.readable.sum() == 3
    rows = Masks(store.masks).rows(torch.arange(len(source)))
    assert set(rows.unique().tolist()) <= {0, 1}
    assert seen.present.sum() == 6
