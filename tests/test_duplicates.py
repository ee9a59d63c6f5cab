"""Exact copies by digest, and near copies by their looks."""

from io import BytesIO

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from inspect_sets import ArrayStore, photos, stroke
from PIL import Image

from hubel.data import near
from hubel.data.duplicates import exact_copies, group_copies
from hubel.data.likeness import details, likeness, soft
from hubel.data.near import near_copies

# Exact copies


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), max_size=30))
def test_exact_copies_are_those_of_the_definition(samples):
    digests = np.array([d for d, _ in samples], "S32")
    readable = np.array([r for _, r in samples], bool)
    by_digest = {}
    for i, (digest, can_read) in enumerate(samples):
        if can_read:
            by_digest.setdefault(digest, []).append(i)
    wanted = sorted(group for group in by_digest.values() if len(group) > 1)
    assert [group.tolist() for group in exact_copies(digests, readable)] == wanted


def test_groups_are_numbered_by_their_first_sample():
    digests = np.array([b"z", b"a", b"z", b"m", b"", b"a"])
    copies = group_copies(digests, digests != b"")
    assert copies.group.tolist() == [0, 1, 0, 2, -1, 1]
    assert copies.first.tolist() == [0, 1, 3]
    one = np.array([False, True, False, False, True, False])
    assert copies.holds(one).tolist() == [False, True, False]
    assert copies.also(one).tolist() == [False, True, False, False, False, True]


def test_a_set_without_anything_readable_has_no_copies():
    assert exact_copies(np.array([b"", b""]), np.zeros(2, bool)) == []
    assert exact_copies(np.zeros(0, "S32"), np.zeros(0, bool)) == []


# Likeness


def _correlation(a, b):
    """The definition, for one axis' differences: about zero, not about their means."""
    return (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())


def test_likeness_of_a_pair_by_hand():
    first, second = photos(2, seed=5, channels=1)[..., 0].astype(float)
    second = 0.6 * second + 0.4 * first
    reach, side = 2, 31
    steps = [
        (soft(p[1:, :-1] - p[:-1, :-1]), soft(p[:-1, 1:] - p[:-1, :-1])) for p in (first, second)
    ]
    best = -1.0
    for dy in range(2 * reach + 1):
        for dx in range(2 * reach + 1):
            worst = 1.0
            for a in (0, 1):
                one = steps[0][a][reach : side - reach, reach : side - reach]
                two = steps[1][a][dy : dy + side - 2 * reach, dx : dx + side - 2 * reach]
                quarter = (side - 2 * reach) // 4
                inner = (slice(quarter, -quarter),) * 2
                worst = min(worst, _correlation(one, two))
                worst = min(worst, _correlation(one[inner], two[inner]) + 0.1)
            best = max(best, worst)
    grey = torch.from_numpy(np.stack([first, second])).float()
    found = likeness(details(grey[:1]), details(grey[1:]), reach)
    assert 0.2 < best < 0.99
    assert found.item() == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize("shape", [(32, 32), (20, 28), (12, 12, 12)])
def test_a_picture_is_wholly_like_itself_brightened_and_shifted(shape):
    rng = np.random.default_rng(0)
    grey = torch.from_numpy(rng.normal(100, 20, (1, *shape))).float()
    same = likeness(details(grey), details(grey + 40), 1)
    assert same.item() == pytest.approx(1.0, abs=1e-4)
    moved = likeness(details(grey[:, 1:]), details(grey[:, :-1]), 1)
    assert moved.item() == pytest.approx(1.0, abs=1e-4)
    other = likeness(details(grey), details(grey.flip(1)), 1)
    assert other.item() < 0.3


def test_one_horizon_or_one_frame_makes_no_copy():
    rng = np.random.default_rng(3)
    first, second = photos(2, seed=8, channels=1)[..., 0].astype(float)
    scattered = [p + rng.normal(0, 2, p.shape) for p in (first, second)]
    horizon = np.where(np.arange(32)[:, None] < 14, 200.0, 40.0)
    framed = [p.copy() for p in scattered]
    for p in framed:
        p[:4], p[-4:], p[:, :4], p[:, -4:] = 255, 255, 255, 255
    for one, two in ([0.15 * p + horizon for p in scattered], framed):
        grey = torch.from_numpy(np.stack([one, two])).float()
        assert likeness(details(grey[:1]), details(grey[1:]), 2).item() < 0.5


# Near copies


def _jpeg(picture, quality):
    buffer = BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def _resized(picture, share):
    side = len(picture)
    small = Image.fromarray(picture).resize((round(side * share),) * 2, Image.Resampling.BILINEAR)
    return np.asarray(small.resize((side, side), Image.Resampling.BILINEAR))


CHANGES = {
    "jpeg": lambda p: _jpeg(p, 50),
    "brighter": lambda p: (p * 1.1).clip(0, 255).astype(np.uint8),
    "darker": lambda p: (p * 0.9).astype(np.uint8),
    "resized": lambda p: _resized(p, 0.9),
    "shifted": lambda p: np.pad(p, ((1, 0), (0, 0), (0, 0)), mode="edge")[:-1],
    "grey": lambda p: np.asarray(Image.fromarray(p).convert("L").convert("RGB")),
    "mirrored": lambda p: p[:, ::-1],
}


def _found(pixels, labels=None, **options):
    store = ArrayStore(pixels)
    samples = np.arange(len(pixels))
    labels = np.zeros(len(pixels), np.int64) if labels is None else labels
    return near_copies(store, samples, labels, **options)


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_are_found_and_others_are_not(change):
    originals = photos(300, seed=1)
    copies = np.stack([CHANGES[change](p) for p in originals[:40]])
    found = _found(np.concatenate([originals, copies]))
    wanted = {(i, 300 + i) for i in range(40)}
    got = {tuple(pair) for pair in found.pairs.tolist()}
    assert got <= wanted
    assert len(got) >= 38
    assert found.mirrored.all() == found.mirrored.any() == (change == "mirrored")
    assert (np.diff(found.alike) <= 0).all()
    assert found.num_compared == 340


def test_mirror_images_can_be_left_alone():
    originals = photos(60, seed=1)
    both = np.concatenate([originals, originals[:5, :, ::-1]])
    assert len(_found(both, mirrored=False).pairs) == 0


def test_flat_pictures_are_not_compared():
    flat = np.full((20, 32, 32, 3), 90, np.uint8)
    flat += np.random.default_rng(0).integers(0, 2, flat.shape, np.uint8)
    found = _found(np.concatenate([photos(30), flat]))
    assert len(found.pairs) == 0
    assert found.num_compared == 30


def test_in_a_set_of_much_alike_pictures_only_copies_stand_out():
    rng = np.random.default_rng(2)
    strokes = np.stack([stroke(rng) for _ in range(400)])
    copies = strokes[:10].copy()
    copies[copies > 0] -= 1
    found = _found(np.concatenate([strokes, copies]))
    got = {tuple(pair) for pair in found.pairs.tolist()}
    assert {(i, 400 + i) for i in range(10)} <= got
    # Of 79,800 pairs of strokes of one kind at most one in 4,000 passes for a copy.
    assert len(got) <= 30


def test_how_alike_is_usual_is_learned_by_class():
    rng = np.random.default_rng(2)
    strokes = np.repeat(np.stack([stroke(rng, 32) for _ in range(200)]), 3, -1)
    scenes = photos(200, seed=3)
    changed = np.stack([_jpeg(_resized(p, 0.5), 50) for p in scenes[:20]])
    pixels = np.concatenate([strokes, scenes, changed])
    labels = np.repeat([0, 1, 1], [200, 200, 20])
    alike = near_copies(ArrayStore(pixels), np.arange(420), labels)
    apart = {tuple(p) for p in alike.pairs.tolist() if p[0] >= 200}
    assert len(apart & {(200 + i, 400 + i) for i in range(20)}) >= 17
    one_class = _found(pixels)
    assert len(one_class.pairs[one_class.pairs[:, 0] >= 200]) < len(apart)


def test_a_dense_class_takes_no_candidates_from_the_others():
    rng = np.random.default_rng(0)
    dense = rng.normal(0, 1, 40) + rng.normal(0, 0.2, (300, 40))
    loose = rng.normal(0, 1, (300, 40))
    described = np.concatenate([dense, loose]).astype(np.float32)
    described /= np.linalg.norm(described, axis=1, keepdims=True)
    labels = np.repeat([0, 1], 300)
    bounds, pairs = near._look_around(described, labels, np.arange(0, 600, 2))
    assert bounds[1] == near.CANDIDATE
    close = described[:300] @ described[:300].T
    np.fill_diagonal(close, -1)
    partners = (close > bounds[0]).sum(axis=1).mean()
    assert 0.5 <= partners <= 2.5
    nearest = pairs.reshape(300, -1, 2)
    assert (nearest[:, :, 0] == np.arange(0, 600, 2)[:, None]).all()
    close = described @ described.T
    np.fill_diagonal(close, -1)
    best = close[::2].argsort(axis=1)[:, ::-1][:, : nearest.shape[1]]
    assert (nearest[:, :, 1] == best).all()


def test_of_a_mirror_image_more_is_asked(monkeypatch):
    monkeypatch.setattr(near, "BOUNDS", (0.5, 0.5))
    monkeypatch.setattr(near, "CANDIDATE", 0.3)
    originals = photos(120, seed=14)
    scene, other = originals[0].astype(float), originals[1].astype(float)
    for share in np.linspace(0.1, 0.9, 161):
        blend = (share * scene + (1 - share) * other).round()
        grey = torch.from_numpy(np.stack([scene, blend]) @ np.array(near.LUMA)).float()
        alike = likeness(details(grey[:1]), details(grey[1:]), 2).item()
        if 0.51 < alike < 0.54:
            break
    else:
        raise AssertionError("no blend is alike by 0.51 to 0.54")
    blend = blend.astype(np.uint8)
    pixels = np.concatenate([originals[:1], originals[3:], blend[None]])
    assert [0, 118] in _found(pixels).pairs.tolist()
    pixels[-1] = pixels[-1, :, ::-1].copy()
    assert [0, 118] not in _found(pixels).pairs.tolist()


def test_where_every_picture_has_a_copy_they_are_found():
    originals = photos(150, seed=4)
    copies = np.stack([_jpeg(p, 80) for p in originals])
    found = _found(np.concatenate([originals, copies]))
    wanted = {(i, 150 + i) for i in range(150)}
    assert {tuple(p) for p in found.pairs.tolist()} == wanted


def test_samples_are_named_by_their_index_in_the_store():
    pixels = photos(50, seed=6)
    pixels[40] = _jpeg(pixels[7], 60)
    samples = np.setdiff1d(np.arange(50), [3, 20])
    found = near_copies(ArrayStore(pixels), samples, np.zeros(48, np.int64))
    assert found.pairs.tolist() == [[7, 40]]


def test_volumes_are_compared_as_pictures_are():
    rng = np.random.default_rng(0)
    z, y, x = np.mgrid[:20, :20, :20] / 20
    volumes = np.zeros((60, 20, 20, 20, 1))
    for volume in volumes:
        for cz, cy, cx, width in rng.uniform(0.1, 0.9, (9, 4)):
            away = (z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2
            volume[..., 0] += np.exp(-away / (0.15 * width + 0.02) ** 2)
    solid = (volumes > 0.5).astype(np.uint8)  # 0 and 1 alone: the values' range is learned
    solid[50] = np.roll(solid[4], 1, axis=0)
    solid[50, :2] = 0
    found = _found(solid)
    assert found.pairs.tolist() == [[4, 50]]
    assert not found.mirrored.any()


def test_float_pixels_are_compared_on_their_own_scale():
    pixels = photos(80, seed=9)
    pixels[70] = _jpeg(pixels[2], 50)
    floats = (pixels.astype(np.float32) - 100) * 1e-3
    floats[5, 0, 0] = np.nan
    found = _found(floats)
    assert found.pairs.tolist() == [[2, 70]]
    assert found.alike == pytest.approx(_found(pixels).alike, abs=0.02)


def test_cells_find_what_all_pairs_find(monkeypatch):
    originals = photos(600, seed=11)
    pixels = np.concatenate([originals, np.stack([_jpeg(p, 50) for p in originals[:60]])])
    every = {tuple(p) for p in _found(pixels).pairs.tolist()}
    monkeypatch.setattr(near, "ALL_PAIRS", 100)
    monkeypatch.setattr(near, "CELL", 60)
    celled = {tuple(p) for p in _found(pixels).pairs.tolist()}
    assert celled <= every
    assert len(celled) >= 0.95 * len(every) >= 55


def test_memory_stays_bounded_where_everything_is_alike(monkeypatch):
    described = np.ones((3000, 4), np.float32) / 2
    pairs = near._most_alike(described, described, np.full(3000, 0.5), None)
    assert len(pairs) <= 2 * (2 * near.PAIRS_PER_SAMPLE * 3000 + 1000)
    assert (pairs[:, 0] < pairs[:, 1]).all()


@pytest.mark.parametrize("shape", [(0, 32, 32, 3), (1, 32, 32, 3), (2, 32, 32, 3), (9, 8, 8, 1)])
def test_too_few_or_too_small_to_compare(shape):
    pixels = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    assert len(_found(pixels).pairs) == 0


def test_two_copies_alone_are_found():
    picture = photos(1, seed=12)[0]
    found = _found(np.stack([picture, _jpeg(picture, 90)]))
    assert found.pairs.tolist() == [[0, 1]]


@settings(max_examples=15, deadline=None)
@given(st.integers(12, 40), st.integers(12, 40), st.sampled_from([1, 2, 3, 4]))
def test_every_size_and_channel_count_works(height, width, channels):
    rng = np.random.default_rng(height * width)
    pixels = rng.integers(0, 255, (12, height, width, channels)).astype(np.uint8)
    pixels[11] = pixels[0] // 2 + 60
    assert _found(pixels).pairs.tolist() == [[0, 11]]


def test_progress_is_reported_and_ends():
    seen = {}

    def progress(what, done, total):
        assert 0 < done <= total
        seen[what] = (done, total)

    _found(photos(40), progress=progress)
    assert {"shrinking", "comparing", "confirming"} <= set(seen)
    assert all(done == total for done, total in seen.values())
