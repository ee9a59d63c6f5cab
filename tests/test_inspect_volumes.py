"""Volumes as pictures: their slices and their surface."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubel.report.volumes import enlarged, preview, sections, side_by_side, slices, surface


def _ball(side=24, radius=7.0, centre=(12, 12, 12)):
    axes = np.ogrid[:side, :side, :side]
    off = sum((axis - c) ** 2 for axis, c in zip(axes, centre, strict=True))
    return (off <= radius**2)[..., None].astype(np.uint8)


def test_slices_lie_where_they_should():
    volume = np.zeros((4, 5, 6, 1), np.uint8)
    volume[1, 2, 3] = 200
    across = slices(volume, (1, 2, 3))
    assert [part.shape for part in across] == [(5, 6, 1), (4, 6, 1), (4, 5, 1)]
    assert [np.argwhere(p)[0].tolist() for p in across] == [[2, 3, 0], [1, 3, 0], [1, 2, 0]]
    assert [int(p.max()) for p in slices(volume)] == [0, 200, 200]  # the middle is (2, 2, 3)


def test_sections_are_the_values_as_they_are():
    values = np.random.default_rng(0).normal(size=(4, 5, 6, 1))
    across = sections(values, (1, 2, 3))
    assert np.array_equal(across[0], values[1])
    assert np.array_equal(across[1], values[:, 2])
    assert np.array_equal(across[2], values[:, :, 3])


def test_views_are_enlarged_by_one_whole_factor():
    large, small = np.arange(12).reshape(3, 4, 1), np.arange(2).reshape(1, 2, 1)
    found = enlarged([large, small], 11)
    assert [part.shape for part in found] == [(6, 8, 1), (2, 4, 1)]
    assert found[1][..., 0].tolist() == [[0, 0, 1, 1]] * 2
    assert enlarged([large], 3)[0].shape == large.shape


def test_slices_are_made_visible():
    occupied = np.zeros((4, 4, 4, 1), np.uint8)
    occupied[2:] = 1
    assert set(np.unique(slices(occupied)[1])) == {0, 255}
    density = np.linspace(-3, 5, 64, dtype=np.float32).reshape(4, 4, 4, 1)
    density[0, 0, 0] = np.nan
    shown = slices(density, (3, 3, 3))
    assert shown[0].max() == 255
    assert all(part.dtype == np.uint8 for part in shown)
    assert slices(np.zeros((3, 3, 3, 7), np.float32))[0].shape == (3, 3, 1)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_surface_of_a_ball_is_a_lit_disc(axis):
    view = surface(_ball(), axis)[..., 0]
    rows, columns = np.indices(view.shape)
    disc = (rows - 12) ** 2 + (columns - 12) ** 2 <= 49
    assert ((view > 0) == disc).all()
    assert view[9, 9] > view[15, 15]  # the light comes from the upper left
    assert view[12, 12] > view[16, 16]


def test_what_is_nearer_is_lighter_and_hides_what_is_behind():
    volume = np.zeros((20, 20, 20, 1), np.uint8)
    volume[2:4, 2:8, 2:18] = 1
    volume[14:16, 2:18, 2:18] = 1
    view = surface(volume, 0)[..., 0]
    assert view[5, 10] > view[13, 10] > 0
    assert ((view > 0) == (volume[..., 0].any(axis=0))).all()
    turned = surface(volume[::-1], 0)[..., 0]  # from behind, the large plate hides the small one
    assert turned[5, 10] == turned[13, 10]


@pytest.mark.parametrize("sign", [1, -1])
def test_an_object_lighter_or_darker_than_its_noisy_ground(sign):
    rng = np.random.default_rng(0)
    ball = _ball(side=32, radius=9, centre=(16, 16, 16))[..., 0]
    volume = 128 + sign * 40.0 * ball + rng.normal(0, 14, ball.shape)
    view = surface(volume.clip(0, 255).astype(np.uint8)[..., None], 0)[..., 0]
    disc = ball.any(axis=0)
    assert ((view > 0) != disc).mean() < 0.03


def test_walls_of_one_voxel_stay_and_nothing_is_nothing():
    volume = np.zeros((16, 16, 16, 1), np.float32)
    volume[8, 4:12, 4:12] = 1
    assert (surface(volume, 0) > 0).sum() == 64
    assert (surface(volume, 1) > 0).sum() == 8
    assert not surface(np.full((5, 6, 7, 1), 3.0, np.float32), 0).any()
    assert not surface(np.full((4, 4, 4, 1), np.nan, np.float32), 2).any()


def test_large_volumes_are_looked_at_in_steps():
    volume = np.zeros((200, 20, 20, 1), np.uint8)
    volume[50:150, 5:15, 5:15] = 1
    assert surface(volume, 0).shape == (10, 10, 1)
    assert surface(volume, 1).shape == (100, 10, 1)


@settings(deadline=None)
@given(
    st.tuples(*[st.integers(1, 6)] * 3),
    st.integers(1, 4),
    st.integers(0, 2),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)
def test_any_volume_has_views(size, channels, axis, seed, whole):
    rng = np.random.default_rng(seed)
    volume = rng.normal(0, 50, (*size, channels))
    volume = volume.astype(np.uint8 if whole else np.float32)
    if max(size) > 1 and min(size) > 1:
        view = surface(volume, axis)
        assert view.shape == (*np.delete(size, axis), 1)
        assert view.dtype == np.uint8
    sheet = side_by_side(slices(volume))
    assert sheet.shape[0] == max(size[0], size[1])


def test_grey_and_coloured_views_side_by_side():
    one, two = np.full((4, 3, 1), 9, np.uint8), np.full((2, 2, 3), 7, np.uint8)
    sheet = side_by_side([one, two])
    assert sheet.shape == (4, 6, 3)
    assert (sheet[:, :3] == 9).all()
    assert (sheet[1:3, 4:] == 7).all()
    assert not sheet[:, 3].any()
    assert preview(_ball()).shape == (24, 5 * 24 + 4, 1)


def test_messages():
    with pytest.raises(ValueError, match=r"must be \(d, h, w, c\) and not empty. Got shape \(4, 4"):
        surface(np.zeros((4, 4, 4)), 0)
    with pytest.raises(ValueError, match=r"axis must be 0, 1 or 2\. Got 3"):
        surface(np.zeros((4, 4, 4, 1)), 3)
