"""Predictions as files: every format reads back, through hubel's own reader, what was written."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from data_makers import encoded
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as runs
from pycocotools.coco import COCO

from hubel import annotate
from hubel.annotate import WRITERS, Annotated
from hubel.data.legend import read_legend
from hubel.data.npy import open_npy
from hubel.data.source import open_source
from hubel.errors import UserError

SIZE = (30, 40)  # height, width of every picture here
CLASSES = ["cat & <dog>", 'a "b", c', "no"]
BOXES = {
    "a.jpg": [[2, 0.75, 4.25, 6.5, 24, 26], [0, 0.5, 0, 0, 40, 30]],
    "b.c.png": [],
    "caf é.png": [[1, 0.123456, 1.3333, 2, 3.6667, 29.9]],
}


def pictures(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        image = Image.new("RGB", SIZE[::-1], (9, 90, 200))
        kind = "JPEG" if name.endswith(".jpg") else "PNG"
        (folder / name).write_bytes(encoded(image, kind))
    return folder


def boxed(path, rows=(), size=SIZE):
    return Annotated(path, size, boxes=np.array(rows, np.float64).reshape(-1, 6))


def masked(path, mask):
    return Annotated(path, np.shape(mask), mask=np.asarray(mask, np.uint8))


def a_mask(seed=0, size=SIZE):
    return np.random.default_rng(seed).choice(np.array([0, 1, 2, 255], np.uint8), size)


def as_written(root, out, name, annotated, classes=CLASSES):
    return WRITERS[name].write(annotated, classes, out, root)


def read_boxes(source):
    """{file name: rows of (class name, left, top, right, bottom)}."""
    found = {}
    for i, id in enumerate(source.ids):
        rows = source.boxes.of_sample(i)
        names = [source.info.classes[k] for k in source.boxes.classes[rows]]
        corners = source.boxes.corners[rows].tolist()
        found[id.split("/", 1)[-1]] = [(n, *c) for n, c in zip(names, corners, strict=True)]
    return found


@pytest.fixture
def there(tmp_path):
    """Pictures, and what was predicted in them."""
    root = pictures(tmp_path / "mine", *BOXES)
    return root, [boxed(root / name, rows) for name, rows in BOXES.items()]


def home(root, out, name):
    """`out` with the pictures where the format has them; the data to open."""
    folder = {"coco": "images", "yolo": "images", "voc": "JPEGImages", "masks": "images"}[name]
    shutil.copytree(root, out / folder)
    return out / "predictions.json" if name == "coco" else out


@pytest.mark.parametrize("name", ["coco", "yolo", "voc"])
def test_boxes_that_were_written_are_read_back(there, tmp_path, name):
    root, annotated = there
    paths = as_written(root, tmp_path / "out", name, annotated)
    assert sorted(paths) == sorted(p for p in (tmp_path / "out").rglob("*") if p.is_file())
    source = open_source(home(root, tmp_path / "out", name))
    assert source.info.format == name
    assert not source.faults
    if name != "voc":  # VOC has no class list, only the classes that occur
        assert list(source.info.classes) == CLASSES
    found = read_boxes(source)
    assert found.keys() == BOXES.keys()
    for picture, rows in BOXES.items():
        assert [row[0] for row in found[picture]] == [CLASSES[int(row[0])] for row in rows]
        got = np.array([row[1:] for row in found[picture]]).reshape(-1, 4)
        np.testing.assert_allclose(got, np.array(rows).reshape(-1, 6)[:, 2:], atol=1e-3)


names_of_classes = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp", "Zs")), min_size=1
)


@settings(max_examples=25, deadline=None)
@given(
    classes=st.lists(names_of_classes, min_size=2, max_size=4, unique=True),
    corners=st.tuples(*[st.floats(0, 1)] * 4),
)
def test_any_class_name_and_box_is_read_back(tmp_path_factory, classes, corners):
    from hubel.data.annotation_files import class_name

    classes = list(dict.fromkeys(map(class_name, classes)))
    left, right = sorted(40 * c for c in corners[:2])
    top, bottom = sorted(30 * c for c in corners[2:])
    rows = [[len(classes) - 1, 0.5, left, top, right, bottom], [0, 0.5, 0, 0, 9, 9]]
    small = right - left < 0.01 or bottom - top < 0.01  # too narrow for three digits
    root = pictures(tmp_path_factory.mktemp("mine"), "a.png")
    for name in ("coco", "yolo", "voc"):
        out = tmp_path_factory.mktemp("out")
        as_written(root, out, name, [boxed(root / "a.png", rows[small:])], classes)
        (found,) = read_boxes(open_source(home(root, out, name))).values()
        assert [row[0] for row in found] == [classes[int(row[0])] for row in rows[small:]]
        np.testing.assert_allclose(
            np.array([row[1:] for row in found]), np.array(rows)[small:, 2:], atol=2e-3
        )


def test_masks_that_were_written_are_read_back(tmp_path):
    root = pictures(tmp_path / "mine", "a.jpg", "sub/b.png")
    masks = [a_mask(0), a_mask(1)]
    annotated = [masked(root / n, m) for n, m in zip(("a.jpg", "sub/b.png"), masks, strict=True)]
    as_written(root, tmp_path / "out", "masks", annotated)
    source = open_source(home(root, tmp_path / "out", "masks"))
    assert list(source.info.classes) == CLASSES
    assert list(source.ids) == ["images/a.jpg", "images/sub/b.png"]
    for i, mask in enumerate(masks):
        np.testing.assert_array_equal(source.masks[i].input[..., 0], mask)


def test_a_mask_is_shown_in_the_colours_of_the_drawings(tmp_path):
    root = pictures(tmp_path / "mine", "a.png")
    mask = np.array([[0, 1], [2, 255]])
    _, path = as_written(root, tmp_path / "out", "masks", [masked(root / "a.png", mask)])
    from hubel.colours import class_colour

    colours = np.asarray(Image.open(path).convert("RGB"))
    assert tuple(colours[0, 1]) == class_colour(1)
    assert tuple(colours[1, 0]) == class_colour(2)
    assert tuple(colours[0, 0]) == class_colour(0, CLASSES)
    assert colours[1, 1].tolist() == [255, 255, 255]


def test_the_mask_of_a_volume_is_an_array(tmp_path):
    mask = a_mask(size=(3, 4, 5))
    annotated = masked(tmp_path / "in/v.npy", mask)
    legend, path = as_written(tmp_path / "in", tmp_path / "out", "masks", [annotated])
    np.testing.assert_array_equal(open_npy(path), mask)
    assert path.relative_to(tmp_path / "out") == Path("masks/v.npy")
    assert read_legend(legend).names == tuple(CLASSES)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # theirs
def test_coco_has_scores_and_the_pixels_of_masks(there, tmp_path):
    root, annotated = there
    mask = a_mask()
    whole = [*annotated[:2], masked(root / "caf é.png", mask)]
    (path,) = as_written(root, tmp_path / "out", "coco", whole)
    document = json.loads(path.read_text())
    assert [a.get("score") for a in document["annotations"]] == [0.75, 0.5, None, None, None]
    assert document["categories"] == [{"id": k + 1, "name": n} for k, n in enumerate(CLASSES)]
    found = np.full(SIZE, 255)
    for entry in document["annotations"][2:]:
        pixels = runs.decode(entry["segmentation"]) > 0
        assert pixels.sum() == entry["area"]
        found[pixels] = entry["category_id"] - 1
    np.testing.assert_array_equal(found, mask)


def test_pycocotools_takes_the_annotations_as_truth_and_as_results(there, tmp_path, capsys):
    root, annotated = there
    (path,) = as_written(root, tmp_path / "out", "coco", annotated)
    truth = COCO(path)
    results = truth.loadRes(json.loads(path.read_text())["annotations"])
    assert len(results.anns) == len(truth.anns) == 3
    assert results.anns[1]["bbox"] == [4.25, 6.5, 19.75, 19.5]


def test_a_true_box_has_no_score_anywhere(tmp_path):
    root = pictures(tmp_path / "mine", "a.png")
    true = [boxed(root / "a.png", [[0, np.nan, 1, 2, 3, 4]])]
    for name in ("coco", "yolo", "voc"):
        for path in as_written(root, tmp_path / name, name, true):
            assert "nan" not in path.read_text().lower()
            assert "<score>" not in path.read_text()


def test_yolo_lines_have_the_five_columns_of_truth(there, tmp_path):
    root, annotated = there
    as_written(root, tmp_path / "out", "yolo", annotated)
    lines = (tmp_path / "out/labels/a.txt").read_text().splitlines()
    assert lines[1] == "0 0.5000000 0.5000000 1.0000000 1.0000000"
    assert (tmp_path / "out/labels/b.c.txt").read_text() == ""


def test_voc_has_scores_and_no_control_characters(tmp_path):
    root = pictures(tmp_path / "mine", "a.png")
    rows = [[0, 0.25, 1, 2, 3, 4.5]]
    (path,) = as_written(root, tmp_path / "o", "voc", [boxed(root / "a.png", rows)], ["a\x1b[1m<"])
    text = path.read_text()
    assert "<name>a\\x1b[1m&lt;</name>" in text
    assert "<score>0.25000</score>" in text
    assert "<ymax>4.5</ymax>" in text
    assert "<width>40</width>" in text


def test_boxes_are_cut_to_the_picture_and_those_outside_left_out(tmp_path):
    root = pictures(tmp_path / "mine", "a.png")
    rows = [[0, 0.9, -7, -1, 500, 20], [0, 0.9, 41, 2, 60, 9], [0, 0.9, 5, 5, 5, 9]]
    for name in ("coco", "yolo", "voc"):
        out = tmp_path / name
        as_written(root, out, name, [boxed(root / "a.png", rows)])
        (found,) = read_boxes(open_source(home(root, out, name))).values()
        assert [row[1:] for row in found] == [pytest.approx((0, 0, 40, 20), abs=1e-3)]


# Every writer


def something(kind, path):
    return boxed(path, [[1, 0.5, 2, 3, 9, 9]]) if kind == "boxes" else masked(path, a_mask())


@pytest.mark.parametrize("name", WRITERS.names())
def test_pictures_of_one_name_in_two_folders_do_not_meet(tmp_path, name):
    root = pictures(tmp_path / "mine", "a/x.png", "b/x.png")
    before = {path: path.read_bytes() for path in root.rglob("*.png")}
    kind = WRITERS[name].kinds[0]
    annotated = (something(kind, root / n) for n in ("a/x.png", "b/x.png"))  # an iterator will do
    paths = as_written(root, tmp_path / "out", name, annotated)
    assert len(set(paths)) == len(paths)
    assert all(path.is_file() and path.is_relative_to(tmp_path / "out") for path in paths)
    text = " ".join(str(p.relative_to(tmp_path / "out")) for p in paths)
    if name == "coco":
        text = paths[0].read_text()
    assert "a/x" in text
    assert "b/x" in text
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", WRITERS.names())
def test_nothing_is_written_into_a_folder_that_holds_something(tmp_path, name):
    root = pictures(tmp_path / "mine", "x.png")
    annotated = [something(WRITERS[name].kinds[0], root / "x.png")]
    with pytest.raises(UserError, match=r"--output '.*mine' is not empty.*name a new or an empty"):
        as_written(root, root, name, annotated)
    assert [p.name for p in root.iterdir()] == ["x.png"]


@pytest.mark.parametrize("name", WRITERS.names())
def test_a_writer_says_what_it_is(name):
    writer = WRITERS[name]
    assert writer.name == name
    assert set(writer.kinds) <= {"boxes", "mask"}
    assert len(writer.describe()) > 10


@pytest.mark.parametrize("name", ["coco", "pictures"])
def test_volumes_are_refused_where_they_cannot_be_held(tmp_path, name):
    volume = masked(tmp_path / "in/v.npy", a_mask(size=(3, 4, 5)))
    with pytest.raises(UserError, match=rf"--write '{name}' .*v.npy' is a volume; choose 'masks'"):
        as_written(tmp_path / "in", tmp_path / "out", name, [volume])


# The parts they share


def test_an_output_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "f").write_text("mine")
    with pytest.raises(UserError, match=r"--output '.*f' cannot be a folder to write into"):
        annotate.fresh_folder(tmp_path / "f")
    assert (tmp_path / "f").read_text() == "mine"


def test_a_writer_must_hold_what_the_network_gives():
    assert annotate.writer_for("coco", "mask").name == "coco"
    message = "--write 'yolo' holds boxes, and this network gives masks; choose from 'coco', "
    with pytest.raises(UserError, match=message):
        annotate.writer_for("yolo", "mask")
    with pytest.raises(UserError, match="--write 'coc' is not known; did you mean 'coco'"):
        annotate.writer_for("coc", "mask")


def test_pictures_that_differ_in_their_endings_alone_are_refused():
    root = Path("d")
    message = r"'d/a.png' and 'd/a.jpg' differ in their endings alone.*rename one"
    with pytest.raises(UserError, match=message):
        annotate.check_names([root / "a.png", root / "b/a.png", root / "a.jpg"], root)
    with pytest.raises(UserError, match=r"'d/x/../a.png' is there twice; name it once"):
        annotate.check_names([root / "a.png", root / "x/../a.png"], root)
    annotate.check_names([root / "a.png", root / "b/a.png", root / "a.b.png"], root)
    with pytest.raises(UserError, match=r"'d/a.nii' and 'd/a.nii.gz' differ in their endings"):
        annotate.check_names([root / "a.nii", root / "a.nii.gz"], root)


def test_the_common_root_holds_all_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = [Path("a/b/c.png"), tmp_path / "a/d.png", Path("e/../a/x/y/z.png")]
    assert annotate.common_root(paths) == tmp_path / "a"
    assert annotate.common_root([Path("c.png")]) == tmp_path
    names = [annotate.relative_name(p, tmp_path / "a").as_posix() for p in paths]
    assert names == ["b/c.png", "d.png", "x/y/z.png"]


def test_what_is_written_does_not_replace_a_file(tmp_path):
    annotate.write_new(tmp_path / "a/b", "one")
    with pytest.raises(FileExistsError):
        annotate.write_new(tmp_path / "a/b", "two")
    assert (tmp_path / "a/b").read_text() == "one"


def test_shapes_that_do_not_fit_are_refused(tmp_path):
    path = tmp_path / "a.png"
    with pytest.raises(ValueError, match=re.escape("boxes must be (k, 6)")):
        Annotated(path, SIZE, boxes=np.zeros((2, 5)))
    with pytest.raises(ValueError, match=re.escape("boxes must be (k, 6)")):
        Annotated(path, (2, 3, 4), boxes=np.zeros((2, 6)))
    with pytest.raises(ValueError, match=re.escape("mask must be uint8 of shape (30, 40)")):
        Annotated(path, SIZE, mask=np.zeros((40, 30), np.uint8))
    with pytest.raises(ValueError, match="mask must be uint8"):
        Annotated(path, SIZE, mask=np.zeros(SIZE, np.int64))
    with pytest.raises(ValueError, match=r"a.png' has no boxes"):
        masked(path, a_mask()).visible_boxes()


def test_boxes_that_are_not_finite_are_the_networks_fault(tmp_path):
    with pytest.raises(UserError, match=r"boxes that are not finite for '.*a.png': its weights"):
        boxed(tmp_path / "a.png", [[0, 0.5, 1, np.nan, 3, 4]])


def test_the_formats_are_found_without_torch():
    code = (
        "import sys; from hubel.annotate import WRITERS; import hubel.annotate.tiles;"
        "assert WRITERS.names() == ['coco', 'masks', 'pictures', 'voc', 'yolo'], WRITERS.names();"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_file_names_that_are_not_utf8_are_written_and_read_back(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    root = pictures(tmp_path / "mine", name)
    for writer in ("coco", "yolo", "voc"):
        out = tmp_path / writer
        as_written(root, out, writer, [boxed(root / name, [[0, 0.5, 1, 2, 9, 9]])])
        (found,) = read_boxes(open_source(home(root, out, writer))).values()
        assert found == [(CLASSES[0], *map(pytest.approx, (1, 2, 9, 9)))]
