"""Augmentation against its definition, pixel by pixel, in two and three dimensions."""

import numpy as np
import pytest
import torch
from fakes import random_pixels
from hypothesis import given, settings
from hypothesis import strategies as st

from hubel.data.augment import Augment, mixup_partners


def pixels_of(size: tuple[int, ...], n: int = 6, channels: int = 3) -> torch.Tensor:
    return torch.from_numpy(random_pixels(n, size, channels))


@pytest.mark.parametrize("size", [(8, 8), (6, 9), (4, 5, 6)])
def test_shift_is_numpys_reflect_padding_and_a_crop(size):
    pixels = pixels_of(size)
    augment = Augment(translate=0.3)
    draws = augment.draws(len(pixels), 0, 3)
    out = augment(pixels, draws).numpy()
    seen = set()
    for i, picture in enumerate(pixels.numpy()):
        reach = [round(0.3 * side) for side in size]
        padded = np.pad(picture, [(r, r) for r in reach] + [(0, 0)], mode="reflect")
        found = [
            offset
            for offset in np.ndindex(*(2 * r + 1 for r in reach))
            if np.array_equal(
                out[i], padded[tuple(slice(o, o + s) for o, s in zip(offset, size, strict=True))]
            )
        ]
        assert found, f"picture {i} is no crop of its reflect-padded self"
        seen.add(found[0])
    assert len(seen) > 1


def test_alternating_flip_shows_each_picture_both_ways_in_two_epochs():
    pixels = pixels_of((5, 7), n=64)
    augment = Augment(flip="alternating")
    first, second, third = (augment(pixels, augment.draws(64, 1, e)) for e in range(3))
    mirrored = pixels.flip(2)
    is_mirrored = (first == mirrored).flatten(1).all(1)
    assert 10 < int(is_mirrored.sum()) < 54  # a coin for each picture
    assert torch.equal(first, torch.where(is_mirrored[:, None, None, None], mirrored, pixels))
    assert torch.equal(second, torch.where(is_mirrored[:, None, None, None], pixels, mirrored))
    assert torch.equal(third, first)


def test_random_flip_is_a_coin_for_each_picture_and_epoch():
    pixels = pixels_of((4, 4), n=200)
    augment = Augment(flip="random")
    shares = []
    for epoch in range(2):
        out = augment(pixels, augment.draws(200, 5, epoch))
        same = (out == pixels).flatten(1).all(1)
        assert torch.equal(out[~same], pixels[~same].flip(2))
        shares.append(same)
    assert 60 < int(shares[0].sum()) < 140
    assert not torch.equal(shares[0], shares[1])


@given(st.permutations(range(6)), st.integers(0, 3))
@settings(max_examples=20, deadline=None)
def test_a_sample_looks_the_same_in_any_batch(order, epoch):
    pixels = pixels_of((8, 6))
    augment = Augment("random", 0.2, 0.5, 20.0, 0.3, 0.3, (1.0, 2.0, 3.0))
    draws = augment.draws(6, 7, epoch)
    whole = augment(pixels, draws)
    order = torch.tensor(order)
    pieces = [augment(pixels[i : i + 1], draws[i : i + 1]) for i in order]
    assert torch.equal(torch.cat(pieces), whole[order])


def test_quarter_turn_equals_rot90():
    pixels = pixels_of((9, 9), n=4)
    augment = Augment(rotate=90.0)
    draws = augment.draws(4, 0, 0)
    draws[:, 4] = torch.tensor([0.0, 1.0, 0.5, 0.0])  # -90°, +90°, 0°, -90°
    out = augment(pixels, draws)
    assert torch.equal(out[2], pixels[2])
    turned = {turns: torch.rot90(pixels, turns, (1, 2)) for turns in (1, 3)}
    direction = 1 if torch.equal(out[0], turned[1][0]) else 3
    assert torch.equal(out[0], turned[direction][0])
    assert torch.equal(out[1], turned[4 - direction][1])


def test_rotation_of_a_wide_picture_keeps_circles_round():
    # A disc in the middle of a 21×41 picture stays where it is under any rotation.
    rows, columns = np.mgrid[:21, :41]
    disc = ((rows - 10) ** 2 + (columns - 20) ** 2 <= 36) * np.uint8(255)
    pixels = torch.from_numpy(disc.astype(np.uint8))[None, ..., None]
    augment = Augment(rotate=60.0)
    draws = augment.draws(1, 0, 0)
    draws[:, 4] = 0.9
    out = augment(pixels, draws)
    # Near the disc only: further out the reflected border may show it a second time.
    before, after = (p[0, :, 10:31, 0] > 127 for p in (pixels, out))
    assert (before & after).sum() > 0.85 * (before | after).sum()


@pytest.mark.parametrize("size", [(16, 16), (8, 8, 8)])
def test_resized_crop_stays_inside_and_keeps_constant_pictures(size):
    pixels = torch.full((5, *size, 1), 77, dtype=torch.uint8)
    augment = Augment(resized_crop=0.3)
    assert torch.equal(augment(pixels, augment.draws(5, 0, 0)), pixels)


def test_resized_crop_enlarges_by_the_drawn_area():
    ramp = torch.arange(32, dtype=torch.uint8).mul(8).view(1, 1, 32, 1).expand(1, 32, 32, 1)
    augment = Augment(resized_crop=0.25)
    draws = augment.draws(1, 0, 0)
    draws[:, 5], draws[:, 6], draws[:, 13:16] = 1.0, 0.5, 0.5  # least area, square, centre
    out = augment(ramp, draws).float()
    slope = (out[0, 16, 24, 0] - out[0, 16, 8, 0]) / 16
    assert slope == pytest.approx(4.0, abs=0.2)  # half of 8: sides halved, so twice as wide


def test_jitter_scales_brightness_and_saturation_by_their_definition():
    pixels = torch.full((1, 4, 4, 3), 100, dtype=torch.uint8)
    pixels[..., 0] = 140
    augment = Augment(jitter=0.5)
    draws = torch.full((1, 16), 0.5)
    assert torch.equal(augment(pixels, draws), pixels)  # the middle of every range is 1
    draws[:, 1] = 0.75  # brightness 1.25
    assert augment(pixels, draws)[0, 0, 0].tolist() == [175, 125, 125]
    draws[:, 1], draws[:, 3] = 0.5, 0.0  # saturation 0.5 about the luma
    luma = 0.299 * 140 + 0.587 * 100 + 0.114 * 100
    expected = [round(luma + (v - luma) / 2) for v in (140, 100, 100)]
    assert augment(pixels, draws)[0, 0, 0].tolist() == expected


def test_cutout_sets_one_square_to_the_fill():
    pixels = torch.full((50, 8, 8, 1), 9, dtype=torch.uint8)
    augment = Augment(cutout=0.5, fill=(200.0,))
    out = augment(pixels, augment.draws(50, 0, 0))
    cut = out[..., 0] == 200
    assert torch.equal(cut | (out[..., 0] == 9), torch.ones_like(cut))
    assert cut.flatten(1).sum(1).max() == 16
    assert cut.flatten(1).sum(1).min() >= 4  # a corner: a quarter of the square
    for mask in cut:
        rows, columns = mask.any(1), mask.any(0)
        assert mask.sum() == rows.sum() * columns.sum()


def test_float_volumes_keep_their_type():
    volumes = torch.randn(2, 6, 6, 6, 1)
    augment = Augment("random", 0.2, 0.5, 30.0, 0.1, 0.2)
    out = augment(volumes, augment.draws(2, 0, 0))
    assert out.dtype == torch.float32
    assert out.shape == volumes.shape


def test_mixup_shares_are_a_folded_beta():
    partners, shares = mixup_partners(20_000, 0.4, 0, 0)
    assert 0 <= int(partners.min())
    assert int(partners.max()) < 20_000
    assert float(shares.min()) >= 0.5
    reference = np.random.default_rng(0).beta(0.4, 0.4, 200_000)
    reference = np.maximum(reference, 1 - reference)
    quantiles = [0.1, 0.25, 0.5, 0.75, 0.9]
    np.testing.assert_allclose(
        np.quantile(shares.numpy(), quantiles), np.quantile(reference, quantiles), atol=0.01
    )
    again = mixup_partners(20_000, 0.4, 0, 0)
    assert torch.equal(again[0], partners)
    assert torch.equal(again[1], shares)
    assert not torch.equal(mixup_partners(20_000, 0.4, 0, 1)[0], partners)


@pytest.mark.parametrize(
    ("augment", "slack"),
    [
        (Augment("random", 0.125), 0.0),
        (Augment("alternating", 0.0, resized_crop=0.6), 1.0),
        (Augment("none", 0.0, rotate=180.0), 1.5),
    ],
)
def test_boxes_and_masks_move_with_their_pictures(augment, slack):
    """A picture that is white inside its box and black outside shows where the box should be."""
    height, width = 48, 64
    pixels = torch.zeros(40, height, width, 1, dtype=torch.uint8)
    pixels[:, 20:27, 24:36] = 255
    row = torch.tensor([3.0, 24 / width, 20 / height, 36 / width, 27 / height])
    draws = augment.draws(40, 7, 1)
    boxes = torch.stack([row, torch.tensor([-1.0, -1, -1, -1, -1])]).repeat(40, 1, 1)
    moved, found = augment.both(pixels, boxes, "boxes", draws)
    _, mask = augment.both(pixels, (pixels[..., 0] > 0).byte() * 9, "mask", draws)
    sides = torch.tensor([width, height, width, height])
    for picture, box, classes in zip(moved[..., 0], found, mask, strict=True):
        assert box[0, 0] == 3.0
        assert box[1, 0] == -1.0
        inside = picture >= 128
        assert torch.equal(classes.unique(), torch.tensor([0, 9], dtype=torch.uint8))
        assert ((classes == 9) != inside).sum() <= slack * 30
        rows, columns = inside.any(1).nonzero()[:, 0], inside.any(0).nonzero()[:, 0]
        seen = torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        assert (box[0, 1:] * sides - seen).abs().max() <= slack + 1e-4
    assert not torch.equal(found[0], found[1])


def test_a_box_that_has_left_its_picture_is_no_object():
    pixels = torch.zeros(1, 8, 8, 1, dtype=torch.uint8)
    rows = torch.tensor([[[0.0, 0.0, 0.0, 0.125, 0.125], [1.0, 0.25, 0.25, 0.75, 0.75]]])
    draws = torch.full((1, 14), 0.999)  # two pixels to the right and down
    _, found = Augment("none", 0.25).both(pixels, rows, "boxes", draws)
    assert found[0, 0, 0] == -1.0
    assert found[0, 1].tolist() == [1.0, 0.0, 0.0, 0.5, 0.5]
    _, found = Augment("none", 0.25).both(pixels, rows[:, :1], "box", draws)
    assert found[0, 0].tolist() == [0.0, 0.0, 0.0, 0.0, 0.0]  # each picture has one
