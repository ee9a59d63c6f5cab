"""The sets that come with hubel: digits and shapes."""

import subprocess
import sys

import numpy as np
import pytest
from data_makers import class_folders

from hubel.data.formats.shapes import SHAPES, ShapesSource
from hubel.data.source import open_source
from hubel.errors import UserError


def test_digits():
    sklearn = pytest.importorskip("sklearn.datasets")
    source = open_source("digits")
    assert source.info.format == "digits"
    assert len(source) == 1797
    assert source.info.classes == tuple("0123456789")
    assert source.info.flip_safe is False
    assert (source.info.in_channels, source.info.size, source.path) == (1, (8, 8), None)
    assert set(source.splits) == {""}
    reference = sklearn.load_digits()
    np.testing.assert_array_equal(source.targets, reference.target)
    for i in (0, 7, 1796):
        sample = source[i]
        assert sample.input.dtype == np.uint8
        # 16 steps of 15.9375: 0 → 0, 8 → 127.5 → 128, 16 → 255
        np.testing.assert_allclose(sample.input[:, :, 0], reference.images[i] * 15.9375, atol=0.5)
    assert source.batch(np.arange(1797)).max() == 255
    assert source.stamp() == open_source("digits").stamp()


def test_another_name_for_digits():
    with pytest.raises(UserError, match=r"is called 'digits', got 'digit'$"):
        open_source("digit", format="digits")


def test_a_folder_comes_before_an_embedded_set_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("digits", "shapes"):
        class_folders(tmp_path / name, {"cat": 1, "dog": 1})
        assert open_source(name).info.format == "folders"
        assert open_source(name, format=name).info.format == name


def test_shapes():
    source = open_source("shapes:600:24")
    assert source.info.format == "shapes"
    assert source.info.classes == SHAPES == tuple(sorted(SHAPES))
    assert (source.info.in_channels, source.info.size, source.path) == (3, (24, 24), None)
    assert source.info.flip_safe
    assert len(source) == 600
    assert len(set(source.ids)) == 600
    for split, count in (("train", 480), ("val", 60), ("test", 60)):
        here = source.splits == split
        assert here.sum() == count
        assert np.ptp(np.bincount(source.targets[here], minlength=6)) <= 1
    assert source.ids[480] == "val/00000"


def test_defaults_of_shapes():
    source = open_source("shapes")
    assert (len(source), source.info.size) == (6000, (32, 32))
    assert len(open_source("shapes:50")) == 50


def test_a_sample_of_shapes():
    source = ShapesSource(60, 40)
    for i in range(60):
        sample = source[i]
        assert sample.input.shape == (40, 40, 3)
        assert sample.input.dtype == np.uint8
        np.testing.assert_array_equal(sample.input, source.decode(source.content(i), i))
        assert sample.extra["class"] == SHAPES[sample.target]
        mask = sample.extra["mask"]
        assert mask.shape == (40, 40)
        assert set(np.unique(mask)) == {0, 1}
        rows, columns = np.nonzero(mask)
        box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert sample.extra["box"] == box
        assert all(type(side) is int for side in sample.extra["box"])
        # Every channel of shape and ground differs by about 70 or more on average, the
        # texture by no more than 60 from the ground.
        inside = sample.input[mask == 1].mean(axis=0)
        outside = sample.input[mask == 0].mean(axis=0)
        assert np.abs(inside - outside).max() > 25
    assert source.decode(source.content(0), 0, 1).shape == (40, 40, 1)


def area(source: ShapesSource, i: int) -> tuple[float, float]:
    """Area of the mask over the area of its box, and of the circle about the box's centre."""
    extra = source[i].extra
    xmin, ymin, xmax, ymax = extra["box"]
    return float(extra["mask"].sum()), (xmax - xmin) * (ymax - ymin)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("circle", np.pi / 4, np.pi / 4),  # of a square box
        ("ring", np.pi / 4 * 0.75, np.pi / 4 * 0.75),  # less a hole of half the radius
        ("square", 0.5, 1.0),  # turned by π/4, by 0
        ("triangle", 0.43, 0.52),  # half of its box, less when turned
        ("cross", 0.46, 0.6),
        ("star", 0.25, 0.42),
    ],
)
def test_the_area_of_a_shape_in_its_box(name, low, high):
    source = ShapesSource(60, 256)
    ratios = []
    for i in np.flatnonzero(source.targets == SHAPES.index(name)):
        covered, box = area(source, int(i))
        ratios.append(covered / box)
    assert min(ratios) > low - 0.03
    assert max(ratios) < high + 0.03


def test_the_centre_of_a_ring_is_ground():
    source = ShapesSource(30, 64)
    for i in np.flatnonzero(source.targets == SHAPES.index("ring")):
        extra = source[int(i)].extra
        xmin, ymin, xmax, ymax = extra["box"]
        assert extra["mask"][(ymin + ymax) // 2, (xmin + xmax) // 2] == 0


def shown_box(mask):
    rows, columns = np.nonzero(mask)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def test_shapes_with_one_box():
    source, plain = open_source("shapes-box:60:64"), open_source("shapes:60:64")
    assert (source.info.format, source.info.labels, source.info.classes) == (
        "shapes",
        "boxes",
        SHAPES,
    )
    assert source.name == "shapes-box"
    assert source.boxes.counts.tolist() == [1] * 60
    assert source.boxes.classes.tolist() == source.targets.tolist() == plain.targets.tolist()
    assert plain.boxes is None
    assert not source.boxes.difficult.any()
    for i in range(60):
        assert source.content(i) == plain.content(i)
        # The mask's box is the outline's, rounded to whole pixels; a tip may be thinner than one.
        off = source.boxes.corners[i] - plain[i].extra["box"]
        assert np.abs(off).max() < (3 if SHAPES[source.targets[i]] == "star" else 1.5)
        assert np.abs(off).mean() < 1.5


def test_shapes_with_boxes_and_masks():
    boxed, masked = open_source("shapes-boxes:200:96"), open_source("shapes-masks:200:96")
    assert (boxed.info.labels, masked.info.labels) == ("boxes", "mask")
    assert masked.info.classes == masked.masks.info.classes == ("background", *SHAPES)
    assert (boxed.masks, masked.boxes) == (None, None)
    counts = np.bincount(boxed.boxes.counts, minlength=5)
    assert (counts > 5).all()
    assert len(counts) == 5
    left, top, right, bottom = boxed.boxes.corners.T
    assert min(left.min(), top.min()) >= 0
    assert max(right.max(), bottom.max()) <= 96
    assert (right - left).min() > 10
    for i in range(0, 200, 4):
        assert boxed.content(i) == masked.content(i)
        mask = masked.masks[i].input
        assert mask.shape == (96, 96, 1)
        mask = mask[..., 0].copy()
        rows = boxed.boxes.of_sample(i)
        # Every drawn pixel lies in a box of its class, whose sides it reaches.
        for number, corners in zip(
            boxed.boxes.classes[rows], boxed.boxes.corners[rows], strict=True
        ):
            x0, y0, x1, y1 = np.rint(corners).astype(int)
            here = np.zeros_like(mask)
            here[max(y0 - 1, 0) : y1 + 1, max(x0 - 1, 0) : x1 + 1] = 1
            own = (here > 0) & (mask == number + 1)
            assert np.abs(np.array(shown_box(own)) - corners).max() < 3
            mask[own] = 0
        assert not mask.any()
        if rows.stop > rows.start:
            areas = ((right - left) * (bottom - top))[rows]
            assert boxed.targets[i] == boxed.boxes.classes[rows][areas.argmax()]
        else:
            assert boxed.targets[i] == 0


def test_defaults_of_the_other_shapes():
    for name, size in (("shapes-box", 32), ("shapes-boxes", 64), ("shapes-masks", 64)):
        assert open_source(f"{name}:20").info.size == (size, size)
    assert len(open_source("shapes-masks")) == 6000
    stamps = {open_source(f"{n}:20:64").stamp() for n in ("shapes", "shapes-box", "shapes-boxes")}
    assert len(stamps) == 3


def test_a_picture_is_a_function_of_seed_and_index():
    first, again, other = ShapesSource(60), ShapesSource(120), ShapesSource(60, seed=1)
    for i in (0, 7, 59):
        assert first.content(i) == again.content(i)
        assert first.content(i) != other.content(i)
    assert len({first.content(i) for i in range(60)}) == 60
    stamps = {s.stamp() for s in (first, again, other, ShapesSource(60, 40))}
    assert len(stamps) == 4
    assert first.stamp() == ShapesSource(60).stamp()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("shapes:ten", r"DATA 'shapes:ten' is not understood; write shapes, shapes:N or"),
        ("shapes:10:20:30", r"is not understood"),
        ("shapes:", r"is not understood"),
        ("shapes:-5", r"is not understood"),
        ("shapes:5", r"shapes:N needs N from 20 to 1,000,000, got 5$"),
        ("shapes:2000000", r"got 2,000,000$"),
        ("shapes:60:8", r"shapes:N:SIZE needs SIZE from 16 to 1,024 pixels, got 8$"),
        ("shapes:60:5000", r"got 5,000$"),
        ("shapes-boxes:60:31", r"shapes-boxes:N:SIZE needs SIZE from 32 to 1,024 pixels, got 31$"),
        ("shapes-masks:x", r"write shapes-masks, shapes-masks:N or .*, e.g. shapes-masks:6000:64$"),
    ],
)
def test_messages(spec, message):
    with pytest.raises(UserError, match=message):
        open_source(spec)


def test_a_set_that_is_not_embedded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="'shape' is neither a path that exists nor an embedded"):
        open_source("shape")


def test_shapes_need_no_scikit_learn():
    code = (
        "from hubel.data.source import open_source; open_source('shapes:60')[0]; import sys; "
        "sys.exit('sklearn' in sys.modules or 'torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
