"""Turns, mirrors, zoom and borders: pixel by pixel, and boxes and masks with them."""

from itertools import combinations

import pytest
import torch
from fakes import random_pixels
from hypothesis import given, settings
from hypothesis import strategies as st

from hubel.data.augment import Augment
from hubel.data.targets import IGNORED
from hubel.randomness import generator

_ANGLE, _CROP, _SCALE, _TURN = 4, 13, 16, 17  # columns of the table of draws


def pixels_of(size: tuple[int, ...], n: int = 6, channels: int = 3) -> torch.Tensor:
    return torch.from_numpy(random_pixels(n, size, channels))


def orbit(picture: torch.Tensor) -> list[torch.Tensor]:
    """All that quarter turns in any plane make of a picture (*size, c), by repeating them."""
    found = [picture]
    for seen in found:  # grows while it is read
        for plane in combinations(range(picture.ndim - 1), 2):
            turned = torch.rot90(seen, 1, plane)
            if not any(f.shape == turned.shape and torch.equal(f, turned) for f in found):
                found.append(turned)
    return [f for f in found if f.shape == picture.shape]


def test_later_columns_leave_earlier_draws_as_they_were():
    draws = Augment(scale=0.5, turns="all").draws(9, 4, 2)
    first = torch.rand(9, 16, generator=generator(4, "augment", 2))
    assert torch.equal(draws[:, :16], first)
    assert not torch.equal(draws[:, 16:], Augment().draws(9, 4, 3)[:, 16:])


@pytest.mark.parametrize(
    ("size", "turns", "expected"),
    [
        ((5, 5), "plane", 4),
        ((5, 5), "all", 4),
        ((4, 6), "plane", 2),
        ((4, 4, 4), "all", 24),
        ((4, 4, 4), "plane", 4),
        ((3, 4, 4), "all", 8),  # of a box with a square base
        ((3, 4, 5), "all", 4),
        ((3, 4, 5), "plane", 2),
    ],
)
def test_turns_are_the_rotations_that_keep_the_frame(size, turns, expected):
    picture = pixels_of(size, n=1)[0]
    if turns == "plane":
        last = (len(size) - 2, len(size) - 1)
        turned = [torch.rot90(picture, k, last) for k in range(4)]
        turned = [t for t in turned if t.shape == picture.shape]
    else:
        turned = orbit(picture)
    assert len(turned) == expected
    n = 30 * expected
    augment = Augment(turns=turns)
    out = augment(picture.expand(n, *picture.shape), augment.draws(n, 0, 0))
    same = torch.stack([(out == t).flatten(1).all(1) for t in turned])  # (expected, n)
    assert torch.equal(same.sum(0), torch.ones(n, dtype=torch.int64))
    assert int(same.sum(1).min()) > 8  # none is left out


@pytest.mark.parametrize("size", [(5, 7), (3, 4, 5)])
def test_all_axes_are_mirrored_each_by_its_coin(size):
    n, dims = 256, len(size)
    pixels = pixels_of(size, n)
    augment = Augment("alternating", flip_axes="all")
    coins = []
    for epoch in range(2):
        out = augment(pixels, augment.draws(n, 3, epoch))
        found = torch.full((n,), -1)
        for code in range(2**dims):
            axes = [axis + 1 for axis in range(dims) if code >> axis & 1]
            mirrored = pixels.flip(axes) if axes else pixels
            found[(out == mirrored).flatten(1).all(1)] = code
        assert int(found.min()) >= 0
        coins.append(torch.stack([(found >> axis & 1).bool() for axis in range(dims)]))
        assert int(found.bincount(minlength=2**dims).min()) > n / 2**dims / 3
    assert torch.equal(coins[0][-1], ~coins[1][-1])  # the last one alternates
    for axis in range(dims - 1):
        assert 0.35 < float((coins[0][axis] == coins[1][axis]).float().mean()) < 0.65


def test_without_mirroring_no_axis_is():
    pixels = pixels_of((5, 7))
    augment = Augment("none", flip_axes="all")
    assert torch.equal(augment(pixels, augment.draws(6, 0, 0)), pixels)


def test_turning_comes_before_mirroring_before_shifting():
    pixels = pixels_of((8, 8), n=40)
    steps = Augment(turns="plane"), Augment("random", flip_axes="all"), Augment(translate=0.2)
    together = Augment("random", 0.2, flip_axes="all", turns="plane")
    draws = together.draws(40, 0, 0)
    alone = pixels
    for step in steps:
        alone = step(alone, draws)
    assert torch.equal(together(pixels, draws), alone)


def test_zoom_makes_objects_larger_by_the_drawn_factor():
    ramp = torch.arange(32, dtype=torch.uint8).mul(8).view(1, 1, 32, 1).expand(1, 32, 32, 1)
    augment = Augment(scale=0.5, fill=(200.0,))
    draws = augment.draws(1, 0, 0)
    draws[:, _CROP : _CROP + 3] = 0.5
    for draw, factor in ((0.0, 0.5), (0.5, 1.0), (0.75, 1.25)):
        draws[:, _SCALE] = draw
        out = augment(ramp, draws).float()
        slope = (out[0, 16, 20, 0] - out[0, 16, 12, 0]) / 8
        assert slope == pytest.approx(8 / factor, abs=0.3)


@pytest.mark.parametrize("size", [(16, 16), (12, 8, 16)])
def test_zooming_out_shows_the_fill_around_the_whole_picture(size):
    pixels = torch.full((64, *size, 2), 77, dtype=torch.uint8)
    masks = torch.full((64, *size), 5, dtype=torch.uint8)
    augment = Augment(scale=0.5, fill=(10.0, 20.0))
    draws = augment.draws(64, 0, 0)
    draws[:, _SCALE] = 0.0  # half the size
    out, found = augment.both(pixels, masks, "mask", draws)
    fills = torch.tensor([10, 20], dtype=torch.uint8)
    places = set()
    for picture, classes in zip(out, found, strict=True):
        inside = classes == 5
        assert bool((inside | (classes == IGNORED)).all())
        there = inside.nonzero()
        extent = there.amax(0) + 1 - there.amin(0)
        assert all(abs(int(e) - side / 2) <= 1 for e, side in zip(extent, size, strict=True))
        assert int(inside.sum()) == int(extent.prod())
        border = (picture == fills).all(-1)
        assert not bool((border & inside).any())
        whole = (picture == 77).all(-1)
        # Pixels on the very edge mix the two.
        assert bool((border | whole).float().mean() > 0.6)
        places.add(tuple(there.amin(0).tolist()))
    assert len(places) > 20


@pytest.mark.parametrize(
    ("augment", "slack"),
    [
        (Augment("random", flip_axes="all", turns="plane"), 0.0),
        (Augment("random", 0.2, flip_axes="all", turns="all"), 0.0),
        (Augment(scale=0.25), 1.0),
        (Augment("random", 0.1, 0.8, flip_axes="all", turns="plane", scale=0.2), 1.5),
    ],
)
@pytest.mark.parametrize("size", [(48, 48), (48, 64)])
def test_boxes_and_masks_move_with_their_pictures(augment, slack, size):
    """A picture that is white inside its box and black outside shows where the box should be."""
    height, width = size
    pixels = torch.zeros(60, height, width, 1, dtype=torch.uint8)
    pixels[:, 20:27, 24:36] = 255
    row = torch.tensor([3.0, 24 / width, 20 / height, 36 / width, 27 / height])
    draws = augment.draws(60, 7, 1)
    boxes = torch.stack([row, torch.full((5,), -1.0)]).repeat(60, 1, 1)
    moved, found = augment.both(pixels, boxes, "boxes", draws)
    marks = (pixels[..., 0] > 0).byte() * 9
    reflected, mask = augment.both(pixels, marks, "mask", draws)
    sides = torch.tensor([width, height, width, height])
    for picture, box in zip(moved[..., 0], found, strict=True):
        assert box[0, 0] == 3.0
        assert box[1, 0] == -1.0
        inside = picture >= 128
        rows, columns = inside.any(1).nonzero()[:, 0], inside.any(0).nonzero()[:, 0]
        seen = torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        assert (box[0, 1:] * sides - seen).abs().max() <= slack + 1e-4
    for picture, classes in zip(reflected[..., 0], mask, strict=True):
        assert set(classes.unique().tolist()) <= {0, 9, IGNORED}
        assert ((classes == 9) != (picture >= 128)).sum() <= slack * 40
    assert len({tuple(box[0].tolist()) for box in found}) > 3


def test_nothing_is_reflected_where_objects_have_boxes():
    """A bright object at the edge is seen once, and beyond the edge there is the fill."""
    pixels = torch.zeros(50, 16, 16, 1, dtype=torch.uint8)
    pixels[:, 0:4, 0:4] = 255
    rows = torch.tensor([[[0.0, 0.0, 0.0, 0.25, 0.25]]]).expand(50, 1, 5)
    augment = Augment(translate=0.4, fill=(90.0,))
    draws = augment.draws(50, 1, 1)
    moved, _ = augment.both(pixels, rows, "boxes", draws)
    assert int((moved == 255).flatten(1).sum(1).max()) == 16
    assert bool((moved == 90).any())
    turned = Augment(rotate=60.0, fill=(90.0,))
    seen, _ = turned.both(pixels, rows, "boxes", draws)
    assert int((seen > 200).flatten(1).sum(1).max()) <= 20
    # A mask is reflected along with its picture, so nothing is without a class.
    mirrored, masks = augment.both(pixels, pixels[..., 0], "mask", draws)
    assert int((mirrored == 255).flatten(1).sum(1).max()) > 16
    assert torch.equal(masks, mirrored[..., 0])


def test_volumes_and_their_masks_move_alike():
    volumes = pixels_of((6, 8, 8), n=20, channels=1)
    augment = Augment("random", 0.3, flip_axes="all", turns="all")
    draws = augment.draws(20, 0, 0)
    moved, masks = augment.both(volumes, volumes[..., 0], "mask", draws)
    assert torch.equal(moved[..., 0], masks)
    assert torch.equal(augment(volumes, draws), moved)
    assert not torch.equal(moved, volumes)


@given(st.permutations(range(6)), st.integers(0, 3), st.sampled_from([(8, 6), (8, 8), (6, 6, 6)]))
@settings(max_examples=15, deadline=None)
def test_a_sample_looks_the_same_in_any_batch(order, epoch, size):
    pixels = pixels_of(size)
    augment = Augment("random", 0.2, 0.5, 20.0, 0.3, 0.3, (1.0, 2.0, 3.0), "all", "all", scale=0.4)
    draws = augment.draws(6, 7, epoch)
    masks = pixels[..., 0]
    whole, moved = augment.both(pixels, masks, "mask", draws)
    for i in order:
        one = slice(i, i + 1)
        alone, mask = augment.both(pixels[one], masks[one], "mask", draws[one])
        assert torch.equal(alone, whole[one])
        assert torch.equal(mask, moved[one])


def test_float_volumes_keep_their_type():
    volumes = torch.randn(2, 6, 6, 6, 1)
    augment = Augment(turns="all", scale=0.3, fill=(0.25,))
    out = augment(volumes, augment.draws(2, 0, 0))
    assert out.dtype == torch.float32
    assert out.shape == volumes.shape
