"""Large pictures in tiles, and their boxes and masks back in one."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubel.annotate.tiles import Tile, _window, merge_boxes, merge_masks, tiles
from hubel.errors import UserError


@st.composite
def plans(draw, dims=None, least_overlap=0):
    """(size, tile, overlap) in one to three dimensions."""
    dims = dims or draw(st.integers(1, 3))
    most = {1: 200, 2: 60, 3: 14}[dims]
    size = tuple(draw(st.integers(1, most)) for _ in range(dims))
    tile = tuple(draw(st.integers(least_overlap + 1, most)) for _ in range(dims))
    return size, tile, draw(st.integers(least_overlap, min(tile) - 1))


@settings(deadline=None)
@given(plans())
def test_tiles_cover_every_pixel_and_neighbours_overlap(plan):
    size, tile, overlap = plan
    found = tiles(size, tile, overlap)
    seen = np.zeros(size, np.int64)
    for t in found:
        assert seen[t.slices].shape == t.size == tuple(map(min, size, tile))
        seen[t.slices] += 1
    assert seen.min() == 1 or len(found) > 1
    assert seen.min() >= 1
    assert found == sorted(found, key=lambda t: t.start)
    for axis in range(len(size)):
        starts = sorted({t.start[axis] for t in found})
        shared = [a + tile[axis] - b for a, b in pairwise(starts)]
        assert all(overlap <= n < tile[axis] for n in shared)
        # One fewer could not cover the axis.
        assert len(starts) == 1 or (len(starts) - 1) * (tile[axis] - overlap) + overlap < size[axis]


def test_wrong_tiles_are_refused():
    for overlap in (8, -1):
        with pytest.raises(UserError, match=f"--overlap must be from 0 to 7.*Got {overlap}"):
            tiles((20, 20), (8, 9), overlap)
    with pytest.raises(ValueError, match="size and tile must be as many whole numbers"):
        tiles((20, 20), (8,), 2)
    with pytest.raises(ValueError, match="size and tile must be as many whole numbers"):
        tiles((0, 20), (8, 8), 2)


# Boxes


def seen_in(tile, boxes, least=0.0):
    """What a perfect detector says of `boxes` (k, 6) of the picture in one tile."""
    (top, left), (height, width) = tile.start, tile.size
    part = boxes.copy()
    part[:, 2::2] = (part[:, 2::2] - left).clip(0, width)
    part[:, 3::2] = (part[:, 3::2] - top).clip(0, height)
    return part[(part[:, 4] - part[:, 2] > least) & (part[:, 5] - part[:, 3] > least)]


def test_one_tile_is_left_as_it_is():
    rng = np.random.default_rng(0)
    corners = np.sort(rng.uniform(0, 50, (20, 2, 2)), axis=1).reshape(20, 4)
    boxes = np.column_stack([rng.integers(0, 2, 20), rng.uniform(size=20), corners])
    (tile,) = tiles((50, 50), (64, 64), 8)
    np.testing.assert_array_equal(merge_boxes([(tile, boxes)], (50, 50)), boxes)
    assert merge_boxes([(tile, np.zeros((0, 6)))], (50, 50)).shape == (0, 6)
    assert merge_boxes([], (50, 50)).shape == (0, 6)


@settings(deadline=None)
@given(plan=plans(dims=2, least_overlap=1), data=st.data())
def test_a_box_that_several_tiles_see_stays_one(plan, data):
    size, tile, overlap = plan
    sides = []
    for length in (size[1], size[0]):
        low = data.draw(st.integers(0, length - 1))
        sides.append((low, data.draw(st.integers(low + 1, length))))
    (left, right), (top, bottom) = sides
    box = np.array([[3, 0.5, left, top, right, bottom]], np.float64)
    parts = [(t, seen_in(t, box)) for t in tiles(size, tile, overlap)]
    for k, (_, part) in enumerate(parts):
        part[:, 1] += 0.001 * (k * 7 % 5)
    (found,) = merge_boxes(parts, size)
    np.testing.assert_array_equal(found[2:], box[0, 2:])
    assert found[0] == 3
    assert found[1] in {part[0, 1] for _, part in parts if len(part)}


LEFT, RIGHT = Tile((0, 0), (100, 100)), Tile((0, 60), (100, 100))
TWO = (100, 160)


def merged(left, right):
    rows = [np.array(r, np.float64).reshape(-1, 6) for r in (left, right)]
    return merge_boxes([(LEFT, rows[0]), (RIGHT, rows[1])], TWO).tolist()


def test_a_box_that_a_border_cuts_loses_to_the_whole_one_whatever_its_score():
    # 70 to 130 in the picture: the left tile sees half of it, the right one all.
    assert merged([[0, 0.9, 70, 10, 100, 50]], [[0, 0.4, 10, 10, 70, 50]]) == [
        [0, 0.4, 70, 10, 130, 50]
    ]


def test_of_two_whole_boxes_the_surer_one_stays():
    assert merged([[0, 0.4, 65, 10, 90, 50]], [[0, 0.8, 6, 11, 31, 51]]) == [
        [0, 0.8, 66, 11, 91, 51]
    ]


def test_the_halves_of_an_object_that_no_tile_sees_whole_are_joined():
    assert merged([[0, 0.4, 20, 10, 99, 50]], [[0, 0.8, 1, 11, 80, 50]]) == [
        [0, 0.8, 20, 10, 140, 50]
    ]


def test_boxes_of_other_classes_and_other_objects_stay():
    # Another class in the same place, an object of the right tile's own, and one beside it in
    # what both see.
    left = [[0, 0.9, 65, 10, 90, 50]]
    right = [[1, 0.9, 5, 10, 30, 50], [0, 0.8, 60, 10, 95, 50], [0, 0.8, 5, 60, 30, 90]]
    assert sorted(merged(left, right)) == [
        [0, 0.8, 65, 60, 90, 90],
        [0, 0.8, 120, 10, 155, 50],
        [0, 0.9, 65, 10, 90, 50],
        [1, 0.9, 65, 10, 90, 50],
    ]


def test_boxes_of_one_tile_are_not_compared():
    rows = [[0, 0.9, 10, 10, 40, 40], [0, 0.8, 11, 11, 41, 41]]
    assert merged(rows, []) == rows


def test_two_objects_that_a_border_cuts_are_not_joined_by_it():
    # In what both see, 60 to 100, one is above the other.
    left, right = [[0, 0.9, 20, 10, 100, 40]], [[0, 0.8, 0, 60, 80, 90]]
    assert sorted(merged(left, right)) == [
        [0, 0.8, 60, 60, 140, 90],
        [0, 0.9, 20, 10, 100, 40],
    ]


def test_an_object_in_parts_takes_one_box_of_a_tile_the_one_that_agrees_best():
    # In what both see, 60 to 100, both of the right tile's boxes agree with the left one's by half
    # or more; the right tile says that they are two objects.
    left = [[0, 0.9, 20, 10, 100, 50]]
    right = [[0, 0.8, 0, 10, 70, 34], [0, 0.7, 0, 12, 90, 50]]
    assert sorted(merged(left, right)) == [
        [0, 0.8, 60, 10, 130, 34],
        [0, 0.9, 20, 10, 150, 50],
    ]


def test_an_object_in_parts_does_not_come_back_to_a_tile_it_was_in():
    # The right tile's box agrees with both of the left one's, which are two objects.
    left = [[0, 0.9, 10, 10, 100, 40], [0, 0.8, 55, 20, 100, 50]]
    right = [[0, 0.7, 0, 14, 80, 46]]
    assert sorted(merged(left, right)) == [
        [0, 0.8, 55, 20, 100, 50],
        [0, 0.9, 10, 10, 140, 46],
    ]


def test_a_whole_box_takes_the_place_of_all_that_agree_with_it():
    left = [[0, 0.9, 65, 10, 95, 50]]
    right = [[0, 0.5, 5, 10, 35, 36], [0, 0.4, 5, 24, 35, 50]]
    assert merged(left, right) == left


def test_boxes_of_a_wrong_shape_are_refused():
    with pytest.raises(ValueError, match=r"must be \(k, 6\). Got shapes \[\(2, 5\)\]"):
        merge_boxes([(LEFT, np.zeros((2, 5)))], TWO)


@pytest.mark.parametrize("iou", [0.5, 0.95])
def test_the_overlap_asked_for_decides(iou):
    # IoU 39 / 41.
    found = merge_boxes(
        [
            (LEFT, np.array([[0, 0.9, 65, 10, 95, 50.0]])),
            (RIGHT, np.array([[0, 0.8, 5, 11, 35, 51.0]])),
        ],
        TWO,
        iou,
    )
    assert len(found) == (1 if iou == 0.5 else 2) or 39 / 41 >= iou


# Masks


@settings(deadline=None)
@given(plan=plans(), seed=st.integers(0, 99))
def test_tiles_that_agree_give_the_mask_of_the_whole(plan, seed):
    size, tile, overlap = plan
    mask = np.random.default_rng(seed).integers(0, 3, size)
    scores = np.stack([mask == k for k in range(3)]).astype(np.float32) * 5 - 2
    parts = ((t, scores[:, *t.slices]) for t in tiles(size, tile, overlap))
    merged = merge_masks(parts, size)
    assert merged.dtype == np.uint8
    np.testing.assert_array_equal(merged, mask)


def test_one_tile_gives_its_own_mask_exactly():
    scores = np.random.default_rng(0).normal(size=(4, 9, 7)).astype(np.float32)
    scores[1] = scores[0] * np.float32(1 + 1e-7)  # a weight below 1 could round them to one
    (tile,) = tiles((9, 7), (16, 16), 3)
    np.testing.assert_array_equal(merge_masks([(tile, scores)], (9, 7)), scores.argmax(axis=0))


def test_tiles_that_disagree_meet_in_the_middle_of_what_both_see():
    size = (8, 160)
    found = tiles(size, (100, 100), 40)
    assert [t.start for t in found] == [(0, 0), (0, 60)]
    scores = [np.zeros((2, 8, 100), np.float32) for _ in range(2)]
    scores[0][0], scores[1][1] = 1, 1
    mask = merge_masks(zip(found, scores, strict=True), size)
    assert (mask[:, :80] == 0).all()
    assert (mask[:, 80:] == 1).all()


@pytest.mark.parametrize("size", [(30, 40), (6, 10, 12)])
def test_the_weighted_mean_is_that_of_the_definition(size):
    rng = np.random.default_rng(1)
    found = tiles(size, (8,) * len(size), 3) if len(size) == 2 else tiles(size, (4,) * 3, 1)
    scores = [rng.normal(size=(3, *t.size)).astype(np.float32) for t in found]
    sums, weights = np.zeros((3, *size)), np.zeros(size)
    for t, s in zip(found, scores, strict=True):
        sums[:, *t.slices] += s * _window(t, size)
        weights[t.slices] += _window(t, size)
    assert weights.min() > 0
    merged = merge_masks(zip(found, scores, strict=True), size)
    np.testing.assert_array_equal(merged, (sums / weights).argmax(axis=0))


def test_the_window_falls_off_towards_other_tiles_only():
    window = _window(Tile((0, 10), (5, 6)), (5, 30))
    assert window.shape == (5, 6)
    np.testing.assert_allclose(window[0], window[4])  # both borders are the picture's
    np.testing.assert_allclose(window[0], np.sin(np.pi * np.arange(0.5, 6) / 6) ** 2, rtol=1e-6)
    assert _window(Tile((0, 0), (5, 6)), (5, 30))[0, :3].tolist() == [1, 1, 1]
    assert _window(Tile((0, 24), (5, 6)), (5, 30))[0, 3:].tolist() == [1, 1, 1]


def test_tiles_out_of_order_or_missing_are_refused():
    found = tiles((30, 8), (8, 8), 2)
    scores = np.zeros((2, 8, 8), np.float32)
    with pytest.raises(ValueError, match="tiles must come in order"):
        merge_masks([(t, scores) for t in found[::-1]], (30, 8))
    with pytest.raises(ValueError, match=r"tiles must cover \(30, 8\)"):
        merge_masks([(t, scores) for t in found[:-1]], (30, 8))
    with pytest.raises(ValueError, match=r"scores must be \(classes, \*\(8, 8\)\)"):
        merge_masks([(found[0], scores[:, 1:])], (30, 8))
