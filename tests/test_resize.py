"""Resizing against three independent judges: torchvision, torch, and the definition."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional

from hubel.data.resize import axis_taps, resize, resize_separable

SIZES = [((32, 32), (64, 48)), ((60, 40), (32, 32)), ((7, 90), (33, 5)), ((200, 150), (32, 32))]


def some_pixels(*shape: int, dtype: str = "uint8") -> np.ndarray:
    """Smooth waves with a little noise: both filters' errors and aliasing would show."""
    rng = np.random.default_rng(0)
    place = np.indices(shape).sum(axis=0)
    values = 127 + 100 * np.sin(place / 3) + rng.uniform(-27, 27, shape)
    return values.astype(np.uint8) if dtype == "uint8" else (values / 255).astype(np.float32)


def torchvision_resize(pixels: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    return functional.resize(tensor, list(size), antialias=True).permute(1, 2, 0).numpy()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(("shape", "size"), SIZES)
def test_pictures_are_within_a_level_of_torchvisions(shape, size, channels):
    pixels = some_pixels(*shape, channels)
    got = resize(pixels, size)
    assert got.dtype == np.uint8
    assert got.shape == (*size, channels)
    expected = torchvision_resize(pixels, size)
    assert np.abs(got.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(("shape", "size"), SIZES)
def test_float_pictures_equal_torchvisions(shape, size):
    pixels = some_pixels(*shape, 2, dtype="float32")
    got = resize(pixels, size)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, torchvision_resize(pixels, size), atol=1e-5)


@pytest.mark.parametrize(("shape", "size"), SIZES)
def test_the_general_filter_is_pillows_in_two_dimensions(shape, size):
    pixels = some_pixels(*shape, 3)
    np.testing.assert_allclose(
        resize_separable(pixels.astype(np.float32), size),
        resize(pixels.astype(np.float32), size),
        atol=2e-3,
    )
    assert np.abs(resize_separable(pixels, size).astype(int) - resize(pixels, size)).max() <= 1


def test_alpha_is_a_channel_like_any_other():
    # Premultiplying would make the colour under alpha 0 vanish.
    pixels = np.full((4, 4, 4), 200, np.uint8)
    pixels[..., 3] = 0
    assert (resize(pixels, (8, 8))[..., :3] == 200).all()


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_enlarged_volumes_equal_torchs_trilinear(dtype):
    pixels = some_pixels(5, 8, 6, 2, dtype=dtype)
    got = resize(pixels, (9, 8, 17))
    tensor = torch.from_numpy(pixels.astype(np.float32)).permute(3, 0, 1, 2)[None]
    expected = torch.nn.functional.interpolate(
        tensor, (9, 8, 17), mode="trilinear", align_corners=False
    )
    expected = expected[0].permute(1, 2, 3, 0).numpy()
    assert got.dtype == dtype
    if dtype == "uint8":
        assert np.abs(got - expected).max() <= 0.5 + 1e-3  # rounded to the nearest level
    else:
        np.testing.assert_allclose(got, expected, atol=1e-6)


def test_reduced_volumes_equal_torchs_antialiased_filter_axis_by_axis():
    pixels = some_pixels(21, 16, 10, 1, dtype="float32")
    got = resize(pixels, (8, 16, 3))
    # Depth and width are the two axes that change: torch's 2-D filter on each height.
    slices = torch.from_numpy(pixels[..., 0]).permute(1, 0, 2)[:, None]
    expected = torch.nn.functional.interpolate(slices, (8, 3), mode="bilinear", antialias=True)
    np.testing.assert_allclose(got[..., 0], expected[:, 0].permute(1, 0, 2).numpy(), atol=1e-5)


def test_halving_by_hand():
    # Output pixel 0 of 4 -> 2 lies at 1.0; pixels at 0.5, 1.5, 2.5 weigh 3/4, 3/4, 1/4.
    pixels = np.array([0, 70, 140, 210], np.float32).reshape(4, 1)
    expected = [(0 * 3 + 70 * 3 + 140) / 7, (70 + 140 * 3 + 210 * 3) / 7]
    np.testing.assert_allclose(resize_separable(pixels, (2,))[:, 0], expected, rtol=1e-6)


def test_the_right_size_is_left_alone():
    pixels = some_pixels(6, 5, 3)
    assert resize(pixels, (6, 5)) is pixels


def test_half_levels_round_up():
    pixels = np.array([0, 255], np.uint8).reshape(2, 1, 1, 1)
    assert resize(pixels, (1, 1, 1)).item() == 128


@given(st.integers(1, 60), st.integers(1, 60))
def test_every_output_pixel_is_a_mean_that_leaves_out_no_input_pixel(length, new_length):
    weights = np.zeros((new_length, length))
    for index, weight in axis_taps(length, new_length):
        assert index.min() >= 0
        assert index.max() < length
        weights[np.arange(new_length), index] += weight
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)
    if new_length <= length:  # reducing skips nothing
        assert (weights.sum(axis=0) > 0).all()
    np.testing.assert_allclose(weights, weights[::-1, ::-1], atol=1e-5)  # mirrored alike
