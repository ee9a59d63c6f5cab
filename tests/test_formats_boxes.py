"""Pictures with boxes: VOC, COCO, YOLO and CSV; every fault is named with its file."""

import html
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from data_makers import class_folders, encoded, exif_block, png
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import hubel
from hubel.data.annotation_files import inside, printable
from hubel.data.boxed import BoxedSource, picture_size, told_size
from hubel.data.source import FORMATS, open_source
from hubel.errors import UserError

SIZE = (40, 30)  # width, height of every picture here
BOX = (4, 6, 24, 26)


def pictures(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png(size=SIZE))
    return root


def put(path, text, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))


def xml(*objects, size=SIZE):
    """A VOC annotation of (name, corners) or (name, corners, difficult)."""
    parts = ["<annotation><filename>../../x.jpg</filename>"]
    if size:
        parts.append(f"<size><width>{size[0]}</width><height>{size[1]}</height></size>")
    for name, corners, *difficult in objects:
        tags = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
        inner = "".join(f"<{tag}>{value}</{tag}>" for tag, value in tags)
        part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
        parts.append(
            f"<object><name>{name}</name><difficult>{int(bool(difficult))}</difficult>{part}"
            f"<bndbox>{inner}</bndbox></object>"
        )
    return "".join([*parts, "</annotation>"])


def coco(images, annotations, categories=((3, "cat"), (1, "dog"))):
    """COCO JSON of {id: file_name} and (image_id, category_id, bbox)."""
    width, height = SIZE
    return json.dumps(
        {
            "images": [
                {"id": i, "file_name": n, "width": width, "height": height}
                for i, n in images.items()
            ],
            "annotations": [
                {"id": 100 + k, "image_id": i, "category_id": c, "bbox": b,
                 "iscrowd": int(bool(crowd)), "segmentation": [[1, 2, 3, 4]]}
                for k, (i, c, b, *crowd) in enumerate(annotations)
            ],
            "categories": [{"id": i, "name": n} for i, n in categories],
        }
    )  # fmt: skip


def faults(source):
    return {(fault.where, fault.reason) for fault in source.faults}


def said(source, where):
    """The one fault at `where`."""
    (reason,) = [fault.reason for fault in source.faults if fault.where == where]
    return reason


def boxes_of(source, name):
    """(class, corners) of the boxes of the sample called `name`."""
    rows = source.boxes.of_sample(list(source.ids).index(name))
    return [
        (source.info.classes[c], tuple(corners))
        for c, corners in zip(
            source.boxes.classes[rows], source.boxes.corners[rows].tolist(), strict=True
        )
    ]


# One good set of each format: train a (a cat, a larger dog, difficult) and b (nothing), val c.


def make_voc(root):
    pictures(root, "JPEGImages/a.png", "JPEGImages/b.png", "JPEGImages/c.png")
    put(root / "Annotations/a.xml", xml(("cat", (0, 0, 5, 5)), ("dog", BOX, True)))
    put(root / "Annotations/b.xml", xml())
    put(root / "Annotations/c.xml", xml(("cat", BOX)))
    put(root / "ImageSets/Main/train.txt", "a\nb\n")
    put(root / "ImageSets/Main/val.txt", "c\n")
    put(root / "ImageSets/Main/trainval.txt", "a\nb\nc\n")
    return "JPEGImages/{}.png"


def make_coco(root):
    pictures(root, "train2017/a.png", "train2017/b.png", "val2017/c.png")
    train = [(1, 3, [0, 0, 5, 5]), (1, 1, [4, 6, 20, 20], True)]
    put(root / "annotations/instances_train2017.json", coco({1: "a.png", 2: "b.png"}, train))
    val = coco({1: "c.png"}, [(1, 7, [4, 6, 20, 20])], [(7, "cat")])
    put(root / "annotations/instances_val2017.json", val)
    put(root / "annotations/captions_train2017.json", "{}")
    return "{split}2017/{}.png"


def make_yolo(root):
    pictures(root, "images/train/a.png", "images/train/b.png", "images/val/c.png")
    put(root / "data.yaml", "names: [dog, cat]\nnc: 2\ntrain: images/train\nval: images/val\n")
    # 20 of 40 wide and 20 of 30 high around (14, 16)
    big = f"{14 / 40} {16 / 30} 0.5 {20 / 30}\n"
    put(root / "labels/train/a.txt", f"1 0.0625 {2.5 / 30} 0.125 {5 / 30}\n0 {big}")
    put(root / "labels/train/b.txt", "\n")
    put(root / "labels/val/c.txt", f"1 {big}")
    put(root / "labels/train/classes.txt", "dog\ncat\n")
    return "images/{split}/{}.png"


def make_csv(root):
    pictures(root, "p/a.png", "p/b.png", "p/c.png")
    head = "path,class,xmin,ymin,xmax,ymax\n"
    put(root / "train.csv", f"{head}p/a.png,cat,0,0,5,5\np/a.png,dog,4,6,24,26\np/b.png,,,,,\n")
    put(root / "valid.csv", f"{head}p/c.png,cat,4,6,24,26\n")
    return "p/{}.png"


MAKERS = {"voc": make_voc, "coco": make_coco, "yolo": make_yolo, "boxes": make_csv}


@pytest.mark.parametrize("name", MAKERS)
def test_a_good_set(name, tmp_path):
    pattern = MAKERS[name](tmp_path)
    source = open_source(tmp_path)
    assert isinstance(source, BoxedSource)
    assert (source.info.format, source.info.labels) == (name, "boxes")
    ids = [pattern.format(n, split=s) for n, s in (("a", "train"), ("b", "train"), ("c", "val"))]
    assert source.ids == ids
    assert source.splits.tolist() == ["train", "train", "val"]
    assert source.faults == []
    # The files of YOLO and COCO number their classes; those of the others do not.
    assert source.info.classes == (("dog", "cat") if name in ("yolo", "coco") else ("cat", "dog"))
    a = boxes_of(source, ids[0])
    assert [c for c, _ in a] == ["cat", "dog"]
    np.testing.assert_allclose([x for _, x in a], [(0, 0, 5, 5), BOX], atol=1e-5)
    assert boxes_of(source, ids[1]) == []
    assert [c for c, _ in boxes_of(source, ids[2])] == ["cat"]
    assert source.boxes.difficult.tolist() == [False, name in ("voc", "coco"), False]
    classes = source.info.classes
    assert source.targets.tolist() == [classes.index("dog"), 0, classes.index("cat")]
    assert source.notes == ["class 'dog' has no box in val"]
    assert source[0].input.shape == (30, 40, 3)
    # As the processes that decode get it.
    assert pickle.loads(pickle.dumps(source)).stamp() == source.stamp()  # noqa: S301


@pytest.mark.parametrize("name", MAKERS)
def test_each_set_matches_one_format_before_folders(name, tmp_path):
    MAKERS[name](tmp_path)
    yes = [n for n in FORMATS.names() if n != "folders" and FORMATS[n].matches(str(tmp_path))]
    assert yes == [name]
    assert FORMATS[name].describe() in _message(tmp_path / "none.txt")


def _message(path):
    path.write_text("")
    with pytest.raises(UserError) as caught:
        open_source(path)
    return str(caught.value)


def test_class_folders_and_manifests_stay_theirs(tmp_path):
    class_folders(tmp_path / "a", {"train/cat": 1, "train/dog": 1, "val/cat": 1})
    put(tmp_path / "a/data.yaml", "author: somebody\n")
    put(tmp_path / "a/train.csv", "path,label\n")
    assert open_source(tmp_path / "a").info.format == "folders"
    put(tmp_path / "a/all.csv", "path,label\ntrain/cat/000.png,cat\ntrain/dog/000.png,dog\n")
    assert open_source(tmp_path / "a/all.csv").info.format == "manifest"


@pytest.mark.parametrize("name", MAKERS)
def test_another_format_is_refused_in_one_message(name, tmp_path):
    for spec in (tmp_path, tmp_path / "none"):
        with pytest.raises(UserError, match=r"DATA '.*' (is not|has no table)"):
            FORMATS[name].open(str(spec))


# The same mishaps in every format: `write(root, boxes)` gives one picture "p.png" of train these
# boxes (a sound one of the class "cat" is beside it) and the place of the k-th box.


def write_voc(root, boxes):
    pictures(root, "p.png", "q.png")
    put(root / "p.xml", xml(*boxes))
    put(root / "q.xml", xml(("cat", BOX)))
    return "p.xml object {}"


def write_coco(root, boxes):
    pictures(root, "p.png", "q.png")
    rows = [(1, 3, [x0, y0, x1 - x0, y1 - y0]) for _, (x0, y0, x1, y1) in boxes]
    put(
        root / "annotations/train.json",
        coco({1: "p.png", 2: "q.png"}, [*rows, (2, 3, [4, 6, 20, 20])]),
    )
    return "annotations/train.json annotation 10{}"


def write_yolo(root, boxes):
    pictures(root, "p.png", "q.png")
    put(root / "data.yaml", "names: {0: dog, 1: cat}\ntrain: .\n")
    lines = [
        f"1 {(x0 + x1) / 80} {(y0 + y1) / 60} {(x1 - x0) / 40} {(y1 - y0) / 30}"
        for _, (x0, y0, x1, y1) in boxes
    ]
    put(root / "p.txt", "\n".join(lines))
    put(root / "q.txt", "1 .5 .5 .5 .5")
    return "p.txt line {}"


def write_csv(root, boxes):
    pictures(root, "p.png", "q.png")
    rows = ["p.png,{},{},{},{},{}".format(c, *corners) for c, corners in boxes]
    head = "path,class,xmin,ymin,xmax,ymax"
    put(root / "train.csv", "\n".join([head, *rows, "q.png,cat,4,6,24,26"]))
    return "train.csv line {}"


WRITERS = {"voc": write_voc, "coco": write_coco, "yolo": write_yolo, "boxes": write_csv}
FIRST = {"voc": 1, "coco": 0, "yolo": 1, "boxes": 2}


@pytest.mark.parametrize("name", WRITERS)
def test_boxes_are_mended_or_passed_over_each_with_its_place(name, tmp_path):
    corners = [(24, 6, 4, 26), (5, 5, 5, 9), (50, 5, 60, 9), (-8, 0, 10, 10), (0, 0, 40.5, 30)]
    where = WRITERS[name](tmp_path, [("cat", c) for c in corners])
    source = open_source(tmp_path)
    assert source.info.classes == (("dog", "cat") if name in ("coco", "yolo") else ("cat",))
    at = [where.format(FIRST[name] + k) for k in range(5)]
    assert said(source, at[0]) == "box of class 'cat': its corners are swapped; mended"
    assert said(source, at[1]) == "box of class 'cat': it has no area; passed over"
    assert said(source, at[2]) == "box of class 'cat': it lies outside the picture; passed over"
    assert "it leaves the picture (40×30) by 8 pixels; mended" in said(source, at[3])
    assert len(source.faults) == 4  # half a pixel outside is no fault
    np.testing.assert_allclose(
        [x for _, x in boxes_of(source, "p.png")],
        [BOX, (0, 0, 10, 10), (0, 0, 40, 30)],
        atol=1e-4,
    )
    assert source.notes[-1].startswith(f"4 faults in the annotations (first: {at[0]}: box of")


@pytest.mark.parametrize("name", WRITERS)
def test_a_picture_that_cannot_be_read_has_no_boxes_and_stays(name, tmp_path):
    WRITERS[name](tmp_path, [("cat", BOX)])
    (tmp_path / "p.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    if name == "voc":
        put(tmp_path / "p.xml", xml(("cat", BOX), size=None))
    if name == "coco":
        text = (tmp_path / "annotations/train.json").read_text()
        put(tmp_path / "annotations/train.json", text.replace('"width": 40', '"width": 0'))
    source = open_source(tmp_path)
    assert source.ids == ["p.png", "q.png"]
    assert source.boxes.counts.tolist() == [0, 1]


@pytest.mark.parametrize("name", WRITERS)
def test_a_missing_picture_is_a_fault_and_a_set_of_nothing_an_error(name, tmp_path):
    WRITERS[name](tmp_path, [("cat", BOX)])
    (tmp_path / "p.png").unlink()
    source = open_source(tmp_path)
    assert source.ids == ["q.png"]
    (fault,) = source.faults
    assert "picture" in fault.reason
    assert "is missing" in fault.reason
    (tmp_path / "q.png").unlink()
    with pytest.raises(
        UserError, match=r"no annotated picture that can be used|is not a folder of VOC"
    ):
        FORMATS[name].open(str(tmp_path))


@pytest.mark.parametrize("name", WRITERS)
def test_no_box_at_all_is_an_error(name, tmp_path):
    WRITERS[name](tmp_path, [])
    bad = {"voc": ("q.xml", xml()), "coco": ("annotations/train.json", coco({1: "q.png"}, [])),
           "yolo": ("q.txt", ""),
           "boxes": ("train.csv", "path,class,xmin,ymin,xmax,ymax\nq.png,,,,,\n")}  # fmt: skip
    put(tmp_path / bad[name][0], bad[name][1])
    with pytest.raises(UserError, match="has no box to learn from in "):
        open_source(tmp_path)


@pytest.mark.parametrize("name", ["yolo", "boxes"])
def test_pictures_that_cannot_be_read_are_the_reason_where_no_box_is_left(name, tmp_path):
    WRITERS[name](tmp_path, [("cat", BOX)])
    for file in ("p.png", "q.png"):
        put(tmp_path / file, "no picture")
    rule = r"no box to learn from in train: 2 of its 2 pictures cannot be read; the first is "
    with pytest.raises(UserError, match=rule + r"'p\.png': not a picture \(looks like text: 'no p"):
        open_source(tmp_path)


@pytest.mark.parametrize("name", MAKERS)
def test_the_stamp_knows_the_boxes(name, tmp_path):
    MAKERS[name](tmp_path)
    before = open_source(tmp_path).stamp()
    assert open_source(tmp_path).stamp() == before
    file = {"voc": "Annotations/c.xml", "coco": "annotations/instances_val2017.json",
            "yolo": "labels/val/c.txt", "boxes": "valid.csv"}[name]  # fmt: skip
    swaps = {"voc": (">26<", ">27<"), "coco": ("20, 20", "20, 21"), "yolo": (" 0.5 ", " 0.6 ")}
    old, new = swaps.get(name, ("26", "27"))
    text = (tmp_path / file).read_text()
    assert old in text
    put(tmp_path / file, text.replace(old, new))
    assert open_source(tmp_path).stamp() != before


# VOC


def test_voc_classes_of_val_that_train_lacks(tmp_path):
    make_voc(tmp_path)
    put(tmp_path / "Annotations/c.xml", xml(("owl", BOX), ("cat", BOX)))
    source = open_source(tmp_path)
    assert source.info.classes == ("cat", "dog")
    assert faults(source) == {
        ("Annotations/c.xml object 1",
         "class 'owl' (in val) has no box in train; the box is passed over"),
    }  # fmt: skip
    assert [c for c, _ in boxes_of(source, "JPEGImages/c.png")] == ["cat"]


def test_voc_with_what_is_missing(tmp_path):
    make_voc(tmp_path)
    pictures(tmp_path, "JPEGImages/d.png", "JPEGImages/a.jpg")
    put(tmp_path / "Annotations/e.xml", xml())
    put(tmp_path / "ImageSets/Main/test.txt", "d\n../../a\nc\n")
    source = open_source(tmp_path)
    assert "has the same name as JPEGImages/a.jpg" in said(source, "JPEGImages/a.png")
    assert "has no annotation file" in said(source, "JPEGImages/d.png")
    assert "its picture is missing" in said(source, "Annotations/e.xml")
    lists = "ImageSets/Main/test.txt line {}"
    assert "'d' has no picture with an annotation" in said(source, lists.format(1))
    assert "'../../a' has no picture" in said(source, lists.format(2))
    assert said(source, lists.format(3)) == "'c' is listed already, in val; it stays there"
    assert len(source.faults) == 6


def test_voc_without_lists_and_with_trainval_only(tmp_path):
    make_voc(tmp_path)
    for name in ("train", "val"):
        (tmp_path / f"ImageSets/Main/{name}.txt").unlink()
    put(tmp_path / "ImageSets/Main/trainval.txt", "a\nb\n")
    source = open_source(tmp_path)
    assert source.splits.tolist() == ["train", "train"]
    assert source.notes[0].startswith("ignored 1 annotated picture that no list")
    (tmp_path / "ImageSets/Main/trainval.txt").unlink()
    assert open_source(tmp_path).splits.tolist() == ["", "", ""]


def test_voc_a_val_of_trains_own_pictures_is_refused(tmp_path):
    make_voc(tmp_path)
    put(tmp_path / "ImageSets/Main/val.txt", "b\nnone\n")
    message = (
        r"val\.txt' names no picture that train\.txt does not name too \(first: 'b'\); a picture "
        r"belongs to one split: take it out of one of them"
    )
    with pytest.raises(UserError, match=message):
        open_source(tmp_path)
    put(tmp_path / "ImageSets/Main/val.txt", "b\nc\n")
    source = open_source(tmp_path)
    assert source.splits.tolist() == ["train", "train", "val"]
    assert "'b' is listed already, in train" in said(source, "ImageSets/Main/val.txt line 1")
    # Nobody draws a test from train: one that is val again leaves val to judge by.
    put(tmp_path / "ImageSets/Main/test.txt", "c\n")
    assert "test" not in open_source(tmp_path).splits


def test_voc_beside_the_pictures_in_split_folders_and_one_class(tmp_path):
    pictures(tmp_path, "train/a.png", "valid/b.png")
    put(tmp_path / "train/a.xml", xml(("cell", BOX)))
    put(tmp_path / "valid/b.xml", xml(("cell", BOX)))
    source = open_source(tmp_path)
    assert source.ids == ["train/a.png", "valid/b.png"]
    assert source.splits.tolist() == ["train", "val"]
    assert source.info.classes == ("cell",)


BOMB = '<!DOCTYPE a [<!ENTITY b "c"><!ENTITY d "&b;&b;">]><annotation>&d;</annotation>'


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("<annotation><object>", "is not well-formed XML"),
        ("", "is not well-formed XML"),
        (BOMB, "has a DOCTYPE"),
        (BOMB.encode("utf-16"), "is not UTF-8 text"),
        ("<annotation>é</annotation>".encode("latin-1"), "is not UTF-8 text"),
        ("<xmp/>", "its root is <xmp>, not <annotation>"),
        (b"<annotation>" + b" " * (1 << 24), "is too large"),
    ],
)
def test_voc_broken_files(content, reason, tmp_path):
    make_voc(tmp_path)
    put(tmp_path / "Annotations/c.xml", content)
    source = open_source(tmp_path)
    assert reason in said(source, "Annotations/c.xml")
    assert len(source) == 2


def test_voc_broken_objects_and_odd_encodings(tmp_path):
    make_voc(tmp_path)
    objects = [(" ", BOX), ("cat", ("x", 1, 2, 3)), ("cat", ("nan", 1, 2, 3)),
               ("cat", ("1e999", 1, 2, 3)), ("g\nrün", BOX)]  # fmt: skip
    text = "<?xml version='1.0' encoding='utf-16'?>" + xml(*objects)
    put(tmp_path / "Annotations/b.xml", text, encoding="utf-8-sig")
    source = open_source(tmp_path)
    where = "Annotations/b.xml object {}"
    assert said(source, where.format(1)) == "has no class name; the box is passed over"
    assert "bndbox must hold xmin, ymin, xmax, ymax as numbers" in said(source, where.format(2))
    assert "its coordinates are not finite" in said(source, where.format(3))
    assert "its coordinates are not finite" in said(source, where.format(4))
    assert boxes_of(source, "JPEGImages/b.png") == [("g rün", BOX)]


def test_a_folder_in_place_of_a_file_and_a_name_that_is_no_text(tmp_path):
    make_voc(tmp_path)
    (tmp_path / "Annotations/c.xml").unlink()
    (tmp_path / "Annotations/c.xml").mkdir()
    (tmp_path / "JPEGImages/c.png").rename(tmp_path / os.fsdecode(b"JPEGImages/c\xe9.png"))
    source = open_source(tmp_path)
    assert ("Annotations/c.xml", "its picture is missing; it is passed over") in faults(source)
    assert "has no annotation file" in said(source, "JPEGImages/c\\xe9.png")


def test_the_size_that_an_annotation_gives_is_checked_by_who_knows_better(tmp_path):
    make_voc(tmp_path)
    put(tmp_path / "Annotations/c.xml", xml(("cat", BOX), size=(30, 40)))
    source = open_source(tmp_path)
    assert source.told_sizes.tolist() == [[30, 40], [30, 40], [40, 30]]
    sizes = np.array([[30, 40], [0, 0], [30, 40]], np.int32)
    (fault,) = source.wrong_sizes(sizes)
    assert fault.where == "JPEGImages/c.png"
    assert "for 30×40 pixels, the picture as shown (EXIF orientation applied) has 40×30" in (
        fault.reason
    )


# COCO


def test_coco_one_file_beside_its_pictures_or_in_annotations(tmp_path):
    make_coco(tmp_path)
    source = open_source(tmp_path / "annotations/instances_train2017.json")
    assert source.ids == ["train2017/a.png", "train2017/b.png"]
    assert set(source.splits) == {""}
    put(tmp_path / "train2017/any.json", coco({5: "a.png"}, [(5, 1, BOX)]))
    assert open_source(tmp_path / "train2017/any.json").ids == ["a.png"]


def test_coco_as_roboflow_writes_it(tmp_path):
    pictures(tmp_path, "train/a.png", "valid/c.png")
    for split, name in (("train", "a"), ("valid", "c")):
        text = coco({0: f"{name}.png"}, [(0, 1, BOX)])
        put(tmp_path / split / "_annotations.coco.json", text)
    source = open_source(tmp_path)
    assert source.splits.tolist() == ["train", "val"]
    assert "class 'cat' has no box in train" in source.notes  # the list is the file's


def test_coco_faults(tmp_path):
    make_coco(tmp_path)
    pictures(tmp_path, "train2017/new.png")
    images = {1: "a.png", 2: "../val2017/c.png", 3: "/etc/x.png", 4: "a.png", 5: "\ud800.png"}
    annotations = [(1, 3, [0, 0, 5, 5]), (9, 3, BOX), (1, 9, BOX), (1, 3, [1, 2, 3]),
                   (1, 3, [10**400, 0, 1, 1]), ([1], {}, BOX), (1, 3, None)]  # fmt: skip
    document = json.loads(coco(images, annotations))
    document["annotations"] += [None, "x"]
    document["images"] += [7, {"id": 1, "file_name": "b.png"}, {"id": [], "file_name": "b.png"}]
    put(tmp_path / "annotations/instances_train2017.json", json.dumps(document))
    val = coco({1: "c.png"}, [(1, 7, [4, 6, 20, 20])], [(7, "owl")])
    put(tmp_path / "annotations/instances_val2017.json", val)
    source = open_source(tmp_path)
    assert source.ids == ["train2017/a.png", "val2017/c.png"]
    file = "annotations/instances_train2017.json"
    for where, reason in {
        f"{file} image 2": "'../val2017/c.png' lies outside the folder of the data",
        f"{file} image 3": "'/etc/x.png' lies outside the folder of the data",
        f"{file} image 4": f"'train2017/a.png' again (first in {file} image 1)",
        f"{file} image 5": "its picture 'train2017/\\ud800.png' is missing",
        f"{file} image number 5 (from 0)": "must have an id and a file_name",
        f"{file} image 1": "its id is there twice",
        f"{file} image number 7 (from 0)": "must have an id and a file_name",
        f"{file} annotation 101": "its picture (image_id 9) is not in images",
        f"{file} annotation 102": "its class (category_id 9) is not in categories",
        f"{file} annotation 103": "bbox must be four numbers",
        f"{file} annotation 104": "bbox must be four numbers",
        f"{file} annotation 105": "(image_id of type list) is not in images",
        f"{file} annotation 106": "bbox must be four numbers",
        f"{file} annotation number 7 (from 0)": "(image_id none)",
        f"{file} annotation number 8 (from 0)": "(image_id none)",
        "annotations/instances_val2017.json annotation 100": "class 'owl' (in val) is not in the",
        "train2017/b.png": "is in no annotation file",
        "train2017/new.png": "is in no annotation file",
    }.items():
        assert reason in said(source, where)
    assert len(source.faults) == 18


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"images": [', "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        ("9" * 5000, "is not valid JSON"),
        ("[]", "has no list 'images'"),
        ('{"images": [], "annotations": {}}', "has no list 'annotations'"),
        (coco({}, [], [(1, "")]), r"category 0 \(from 0\) must have an id"),
        (coco({}, [], [("1", "a")]), "must have an id"),
        (coco({}, [], [(1, "a"), (2, "a ")]), "id 2 and name 'a', is there twice"),
        ('{"images": "é"}'.encode("latin-1"), "is not UTF-8 text"),
        (coco({1: "no.png"}, []), "no annotated picture that can be used .first: .*missing"),
    ],
)
def test_coco_broken_files(content, message, tmp_path):
    put(tmp_path / "all.json", content)
    with pytest.raises(UserError, match=message):
        open_source(tmp_path / "all.json")


def test_coco_two_files_for_one_split(tmp_path):
    make_coco(tmp_path)
    put(tmp_path / "annotations/instances_train2014.json", "{}")
    with pytest.raises(UserError, match=r"two files for train: .*2014.json' and .*2017.json'"):
        open_source(tmp_path)


# YOLO


def test_yolo_lists_of_pictures_and_parents_that_are_taken_off(tmp_path):
    make_yolo(tmp_path)
    put(tmp_path / "lists/train.txt", f"../images/train/a.png\n{tmp_path}/images/train/b.png\n")
    text = "names: [dog, cat]\ntrain: [lists/train.txt]\nvalid: ../images/val\ntest: none\n"
    put(tmp_path / "data.yaml", text + "path: /somewhere/else\n")
    source = open_source(tmp_path)
    assert source.ids == ["images/train/a.png", "images/train/b.png", "images/val/c.png"]
    assert source.splits.tolist() == ["train", "train", "val"]
    assert "test: 'none' is not a folder or file below" in said(source, "data.yaml")


def test_yolo_an_absolute_path_counts_only_where_the_file_was_named(tmp_path):
    make_yolo(tmp_path / "set")
    text = (tmp_path / "set/data.yaml").read_text() + f"path: {tmp_path}/set\n"
    put(tmp_path / "mine/data.yaml", text)
    assert len(open_source(tmp_path / "mine/data.yaml")) == 3
    with pytest.raises(UserError, match="train: 'images/train' is not a folder or file below"):
        open_source(tmp_path / "mine")
    put(tmp_path / "mine/data.yaml", f"names: [a]\ntrain: {tmp_path}/set/images/train")
    with pytest.raises(UserError, match="is not a folder or file below"):
        open_source(tmp_path / "mine/data.yaml")
    put(tmp_path / "set/data.yaml", f"names: [a, b]\ntrain: {tmp_path}/set/images/train")
    assert len(open_source(tmp_path / "set")) == 2


def test_yolo_faults(tmp_path):
    make_yolo(tmp_path)
    pictures(tmp_path, "images/train/d.png", "images/test/e.png")
    lines = ["1 .5 .5", "x .5 .5 .5 .5", "2 .5 .5 .5 .5", "0.5 .5 .5 .5 .5", "1 nan .5 .5 .5",
             "1.0 .5 .5 .5 .5", "nan .5 .5 .5 .5", "inf 1 1 1 1"]  # fmt: skip
    put(tmp_path / "labels/train/b.txt", "\n".join(lines))
    put(tmp_path / "labels/train/f.txt", "")
    put(tmp_path / "labels/val/c.txt", b"1 .5 .5 .5 .5 \xe9")
    put(tmp_path / "list.txt", "images/train/a.png\n../out.png\n/out.png\nimages/none.png\n")
    text = (tmp_path / "data.yaml").read_text() + "test: [images/test, list.txt]\n"
    put(tmp_path / "data.yaml", text)
    source = open_source(tmp_path)
    assert [i.split("/")[-1] for i in source.ids] == ["a.png", "b.png", "d.png"]
    where = "labels/train/b.txt line {}"
    for k, reason in {
        1: "must be five numbers, class cx cy w h; got '1 .5 .5'",
        2: "must be five numbers",
        3: "class 2 is not in names (0 to 1)",
        4: "class 0.5 is not in names",
        5: "its coordinates are not finite",
        7: "class nan is not in names",
        8: "class inf is not in names",
    }.items():
        assert reason in said(source, where.format(k))
    for place, reason in {
        "images/train/d.png": "has no label file labels/train/d.txt; it is taken for a picture of",
        "images/test/e.png": "there are no label files in 'labels/test/'",
        "labels/train/f.txt": "its picture is missing",
        "labels/val/c.txt": "is not UTF-8 text",
        "list.txt line 1": "again (first in images/train/a.png, split train)",
        "list.txt line 2": "'../out.png' lies outside the folder of the data",
        "list.txt line 3": "'/out.png' lies outside the folder of the data",
        "list.txt line 4": "its picture 'images/none.png' is missing",
    }.items():
        assert reason in said(source, place)
    assert len(source.faults) == 15
    assert boxes_of(source, "images/train/b.png") == [("cat", (10, 7.5, 30, 22.5))]


def test_yolo_boxes_are_shares_of_the_picture_as_shown(tmp_path):
    make_yolo(tmp_path)
    turned = encoded(Image.new("RGB", SIZE), "JPEG", exif=exif_block(6))
    (tmp_path / "images/train/t.jpg").write_bytes(turned)
    put(tmp_path / "labels/train/t.txt", "0 .5 .5 1 1")
    source = open_source(tmp_path)
    assert boxes_of(source, "images/train/t.jpg") == [("dog", (0, 0, 30, 40))]
    assert source.decode(turned, 0).shape == (40, 30, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: [a", "is not valid YAML"),
        ("names: *a", "is not valid YAML"),
        ("[" * 5000, "is not valid YAML"),
        ("names:", "must hold names, a list of the classes"),
        ("- names:", "must hold names, train and val, one a line"),
        ("names: [a, a]", r"name 1 \(from 0\) of names is there twice"),
        ("names: [a, [b]]", r"name 1 \(from 0\) of names is empty or not text"),
        ("names: {0: a, 2: b}", "the numbers of names must be 0 to 1, each once"),
        ("names: [a]\nnc: 3", "nc is 3, but names has 1"),
        ("names: [a]", "must say where train is"),
        ("names: [a]\ntrain: {a: b}", "train must be a folder or a list of folders"),
        ("names: [a]\ntrain: none", "train: 'none' is not a folder or file below"),
        ("names: [a]\ntrain: ../..", "train: '../..' is not a folder or file below"),
        ("names: [a]\ntrain: !!python/object/apply:os.getcwd []", "must say where train is"),
        ("names: [é]".encode("latin-1"), "is not UTF-8 text"),
    ],
)
def test_yolo_broken_files(text, message, tmp_path):
    put(tmp_path / "data.yaml", text)
    with pytest.raises(UserError, match=message):
        open_source(tmp_path / "data.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must hold names, train and val, one a line"),
        ("- a\n- b\n", "must hold names, train and val, one a line"),
        ("!!python/object/apply:os.getcwd []", "must hold names, train and val, one a line"),
        ("train: images/train\n", "must hold names, a list of the classes"),
        ("train: [images/train\n", "is not valid YAML"),
    ],
)
def test_yolo_a_broken_file_in_a_folder_with_labels_is_told(text, message, tmp_path):
    make_yolo(tmp_path)
    put(tmp_path / "data.yaml", text)
    with pytest.raises(UserError, match=rf"data\.yaml' {message}"):
        open_source(tmp_path)


def test_yolo_names_are_text(tmp_path):
    make_yolo(tmp_path)
    put(tmp_path / "data.yaml", "names: [no, 007]\ntrain: images/train\nval: ~\n")
    assert open_source(tmp_path).info.classes == ("no", "007")


# CSV


HEAD = "path,class,xmin,ymin,xmax,ymax"


@pytest.mark.parametrize(
    ("header", "lacking"),
    [
        ("path,class,xmin,ymin,xmax", "column ymax"),
        ("class;xmin;ymin;xmax;ymax", "column path"),
        ("path\txmin\tymin", "columns class, xmax, ymax"),
        ("label,xmin,ymin,xmax,ymax", "columns path, class"),
    ],
)
def test_csv_a_column_that_is_missing_is_named(header, lacking, tmp_path):
    put(tmp_path / "boxes.csv", f"{header}\n")
    message = rf"boxes\.csv' line 1 lacks the {lacking}; a table of boxes names {HEAD}$"
    with pytest.raises(UserError, match=message):
        open_source(tmp_path / "boxes.csv")
    make_csv(tmp_path)
    put(tmp_path / "valid.csv", f"{header}\n")
    with pytest.raises(UserError, match=rf"valid\.csv' line 1 lacks the {lacking};"):
        open_source(tmp_path)


def test_csv_a_manifest_with_corners_stays_one_and_other_tools_tables_are_left(tmp_path):
    pictures(tmp_path, "a.png", "b.png")
    put(tmp_path / "m.csv", "path,label,xmin,ymin\na.png,cat,1,1\nb.png,dog,1,1\n")
    assert open_source(tmp_path / "m.csv").info.format == "manifest"
    make_voc(tmp_path / "voc")
    put(tmp_path / "voc/train.csv", "filename,width,height,class,xmin,ymin,xmax,ymax\n")
    assert open_source(tmp_path / "voc").info.format == "voc"


def test_csv_one_file_with_splits(tmp_path):
    pictures(tmp_path, "a.png", "b.png")
    text = f"{HEAD},split,by\na.png,cat,0,0,5,5,train,x\n./a.png,cat,1,1,9,9,train,x\n"
    put(tmp_path / "all.csv", (text + "b.png,cat,1,1,9,9,Validation,x\n").replace(",", ";"))
    source = open_source(tmp_path / "all.csv")
    assert source.splits.tolist() == ["train", "val"]
    assert source.boxes.counts.tolist() == [2, 1]
    assert source.info.classes == ("cat",)
    assert source.notes == ["ignored the columns by of all.csv"]


def test_csv_faults(tmp_path):
    make_csv(tmp_path)
    pictures(tmp_path, "p/new.png")
    rows = ["p/a.png,cat,0,0,5,5", "", ",cat,1,1,2,2", "p/a.png,cat,1,1,2", "p/a.png,,1,1,2,2",
            "p/a.png,cat,1,,2,2", "../x.png,cat,1,1,2,2", "/etc/x.png,cat,1,1,2,2",
            "p\\a.png,cat,1,1,2,2", "p/b.png,dog,inf,1,2,2"]  # fmt: skip
    put(tmp_path / "train.csv", "\n".join([HEAD, *rows]))
    put(tmp_path / "valid.csv", f"{HEAD}\np/c.png,owl,1,1,9,9\np/a.png,cat,1,1,9,9\n")
    source = open_source(tmp_path)
    assert source.ids == ["p/a.png", "p/b.png", "p/c.png"]
    assert source.boxes.counts.tolist() == [1, 0, 0]
    for where, reason in {
        "train.csv line 4": "has no path; the row is passed over",
        "train.csv line 5": "has 5 fields, the header has 6",
        "train.csv line 6": "has no class; the box is passed over",
        "train.csv line 7": "xmin,ymin,xmax,ymax must be numbers, got 1,,2,2",
        "train.csv line 8": "'../x.png' lies outside the folder of the data",
        "train.csv line 9": "'/etc/x.png' lies outside the folder of the data",
        "train.csv line 10": "is missing (write paths with /)",
        "train.csv line 11": "its coordinates are not finite",
        "valid.csv line 2": "class 'owl' (in val) has no box in train",
        "valid.csv line 3": "'p/a.png' again (first in train.csv line 2, split train)",
        "p/new.png": "is in no table and is passed over",
    }.items():
        assert reason in said(source, where)
    assert len(source.faults) == 11


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{HEAD},split\na.png,c,1,1,2,2,tarin", "line 2: split 'tarin' is not known; did you"),
        (f"{HEAD},split\na.png,c,1,1,2,2,train\na.png,c,1,1,2,2,", "line 3 has no split, unlike"),
        (f'{HEAD}\na.png,"c,1,1,2,2', "line 2 is not valid CSV"),
        (f"{HEAD},class\n", "line 1 names the column 'class' twice"),
        (f"{HEAD}\n", "has no annotated picture that can be used"),
        (f"{HEAD}\na.png,é,1,1,2,2".encode("latin-1"), "is not UTF-8 text"),
    ],
)
def test_csv_broken_files(text, message, tmp_path):
    pictures(tmp_path, "a.png")
    put(tmp_path / "all.csv", text)
    with pytest.raises(UserError, match=message):
        open_source(tmp_path / "all.csv")


def test_csv_a_picture_in_two_splits_and_two_tables_for_one(tmp_path):
    pictures(tmp_path, "a.png")
    put(tmp_path / "all.csv", f"{HEAD},split\na.png,c,1,1,9,9,train\na.png,c,1,1,9,9,val\n")
    source = open_source(tmp_path / "all.csv")
    assert "is in train (all.csv line 2), and here in val" in said(source, "all.csv line 3")
    for name in ("val.csv", "valid.csv", "train.csv"):
        put(tmp_path / name, f"{HEAD}\na.png,c,1,1,9,9\n")
    with pytest.raises(UserError, match=r"two tables for val: 'val.csv' and 'valid.csv'"):
        open_source(tmp_path)


# What they share


@given(st.text(alphabet="ab/.\\:C", max_size=12))
def test_a_plain_name_never_leaves_its_folder(name):
    plain = inside(name)
    if plain is not None:
        whole = os.path.normpath(f"/data/set/{plain}")
        assert whole.startswith("/data/set/")
        assert whole == os.path.normpath(f"/data/set/{name}")


@given(st.text(max_size=8) | st.characters(categories=["Cs"]))
def test_printable_text_can_be_printed_and_written(text):
    assert printable(text).isprintable()
    printable(text).encode()


def test_sizes_that_make_sense():
    assert told_size("480", 640.0) == (480, 640)
    for wrong in ("", None, 0, -1, "1e9", float("nan"), 10**400, [], 1.5):
        assert told_size(wrong, 10) is None


@pytest.mark.parametrize("format", ["JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM"])
def test_the_size_of_a_large_file_by_its_header(format, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    (tmp_path / "x").write_bytes(encoded(Image.fromarray(noise), format))
    assert picture_size(str(tmp_path / "x")) == (200, 300)
    assert picture_size(str(tmp_path / "none")) is None


def test_torch_is_not_needed():
    code = "import sys, hubel.data.boxed, hubel.data.source as s; s.FORMATS.names(); "
    code += "assert not {'torch', 'yaml'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# The real sets


def real(name):
    root = os.environ.get("HUBEL_DATA")
    if not root or not Path(root, name).exists():
        pytest.skip(f"HUBEL_DATA names no folder with {name}")
    return Path(root, name)


@pytest.mark.data
def test_bccd():
    source = open_source(real("bccd"))
    assert source.info.format == "voc"
    assert source.info.classes == ("Platelets", "RBC", "WBC")
    counts = {s: int((source.splits == s).sum()) for s in ("train", "val", "test")}
    assert counts == {"train": 205, "val": 87, "test": 72}
    # Counted by grep in the XML files: 361, 4155 and 372, of which a few have no area.
    found = np.bincount(source.boxes.classes).tolist()
    gone = sum("passed over" in fault.reason for fault in source.faults)
    assert sum(found) + gone == 361 + 4155 + 372
    assert gone <= 5


@pytest.mark.data
def test_tinyimagenet12_boxes(tmp_path):
    import zipfile

    with zipfile.ZipFile(real("tinyimagenet12_boxes") / "tinyimagenet12_boxes.zip") as archive:
        archive.extractall(tmp_path)
    source = open_source(tmp_path)
    assert source.info.format == "boxes"
    assert len(source.info.classes) == 12
    assert [int((source.splits == s).sum()) for s in ("train", "val")] == [5991, 597]
    assert source.boxes.counts.tolist() == [1] * 6588
    assert source.faults == []
    assert source.ids[0].split("/")[1] == source.info.classes[source.targets[0]]


def test_inspect_lists_every_fault(tmp_path):
    """In the terminal, on the page and in the document; one class is no reason to stop."""
    names = [f"{i:02}.png" for i in range(12)]
    pictures(tmp_path, *names)
    splits = ["train"] * 9 + ["val"] * 3
    rows = [f"{name},cell,2,2,9,9,{split}" for name, split in zip(names, splits, strict=True)]
    rows[3] = "03.png,cell,9,9,9,20,train"
    (tmp_path / "boxes.csv").write_text("path,class,xmin,ymin,xmax,ymax,split\n" + "\n".join(rows))
    found = hubel.inspect(tmp_path / "boxes.csv", page=tmp_path / "page.html", near=False)
    assert found.inspection.balance.evenness == 1.0
    assert len(found.inspection.faults) == 1
    document = found.inspection.to_json()["faults"]
    assert "boxes.csv" in document[0]["where"]
    page = html.unescape((tmp_path / "page.html").read_text())
    assert document[0]["reason"] in page
