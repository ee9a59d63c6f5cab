"""Filters against scipy.ndimage: every border, every axis, pictures and volumes."""

import numpy as np
import pytest
import scipy.ndimage as ndi
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hubel.conv.filter_kernels import KERNELS, filter_of, kernel_of_numbers, make_filter
from hubel.conv.filters import BORDERS, correlate, filter_picture, show_levels
from hubel.errors import UserError

PICTURE = np.random.default_rng(0).uniform(0, 255, (9, 12))
VOLUME = np.random.default_rng(1).uniform(-3, 3, (6, 7, 5))
EXACT = {"rtol": 0, "atol": 1e-10}
AXIS = {"horizontal": -1, "vertical": -2, "depth": -3}
both = pytest.mark.parametrize("values", [PICTURE, VOLUME], ids=["picture", "volume"])
every_border = pytest.mark.parametrize("border", BORDERS)


def filtered(values, kernel, border="reflect", **options):
    """The result without its channel axis."""
    return filter_picture(values[..., None], kernel, border=border, **options).result[..., 0]


@st.composite
def windows(draw):
    """Values and a kernel of 1 to 3 axes; kernels may be even, and longer than the values."""
    dims = draw(st.integers(1, 3))
    numbers = st.floats(-100, 100, width=32)
    sizes = st.lists(st.integers(1, 5), min_size=dims, max_size=dims)
    return draw(arrays(np.float64, draw(sizes), elements=numbers)), draw(
        arrays(np.float64, draw(sizes), elements=numbers)
    )


@given(windows(), st.sampled_from(BORDERS), st.booleans())
@settings(max_examples=100, deadline=None)
def test_correlate_is_scipys_for_any_kernel_and_border(drawn, border, flip):
    values, kernel = drawn
    oracle = ndi.convolve if flip else ndi.correlate
    ours = correlate(values, kernel, border=border, flip=flip)
    np.testing.assert_allclose(ours, oracle(values, kernel, mode=border), rtol=1e-13, atol=1e-8)


@every_border
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("side", [14, 15])
def test_large_kernels_take_the_fourier_road_to_the_same_numbers(border, flip, side):
    kernel = np.random.default_rng(2).normal(size=(side, side - 1))
    oracle = ndi.convolve if flip else ndi.correlate
    expected = oracle(PICTURE, kernel, mode=border)
    np.testing.assert_allclose(
        correlate(PICTURE, kernel, border=border, flip=flip), expected, **EXACT
    )


def test_the_fourier_road_leaves_no_rounding_in_the_dark():
    dot = np.zeros((40, 44))
    dot[3, 4] = 255
    made = filtered(dot, make_filter("gaussian", sigma=3))
    np.testing.assert_allclose(made, ndi.gaussian_filter(dot, 3), rtol=0, atol=1e-12)
    assert made.min() == 0
    assert (made[20:] == 0).all()


@every_border
@both
@pytest.mark.parametrize("name", ["sobel", "prewitt"])
def test_gradients_are_scipys_along_every_axis(values, name, border):
    oracle = getattr(ndi, name)
    for direction in list(AXIS)[: values.ndim]:
        expected = oracle(values, axis=AXIS[direction], mode=border)
        kernel = make_filter(name, values.ndim, direction=direction)
        np.testing.assert_allclose(filtered(values, kernel, border), expected, **EXACT)
    expected = ndi.generic_gradient_magnitude(values, oracle, mode=border)
    np.testing.assert_allclose(filtered(values, name, border), expected, **EXACT)


@every_border
@both
def test_laplacian_is_scipys(values, border):
    expected = ndi.laplace(values, mode=border)
    np.testing.assert_allclose(filtered(values, "laplacian", border), expected, **EXACT)
    sharp = filtered(values, "sharpen", border)
    np.testing.assert_allclose(sharp, values - expected, **EXACT)


@every_border
@both
@pytest.mark.parametrize("sigma", [0.1, 0.6, 1.0, 2.3])
def test_gaussian_is_scipys(values, border, sigma):
    expected = ndi.gaussian_filter(values, sigma, mode=border)
    kernel = make_filter("gaussian", values.ndim, sigma=sigma)
    np.testing.assert_allclose(filtered(values, kernel, border), expected, **EXACT)


@every_border
@both
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_box_is_scipys_uniform_filter(values, border, size):
    expected = ndi.uniform_filter(values, size, mode=border)
    kernel = make_filter("box", values.ndim, size=size)
    np.testing.assert_allclose(filtered(values, kernel, border), expected, **EXACT)


def test_the_numbers_on_the_slide():
    def numbers(name, **options):
        return make_filter(name, **options).kernels[0].tolist()

    assert numbers("sobel", direction="horizontal") == [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]
    assert numbers("sobel", direction="vertical") == [[-1, -2, -1], [0, 0, 0], [1, 2, 1]]
    assert numbers("scharr", direction="horizontal") == [[-3, 0, 3], [-10, 0, 10], [-3, 0, 3]]
    assert numbers("laplacian") == [[0, 1, 0], [1, -4, 1], [0, 1, 0]]
    assert numbers("laplacian8") == [[1, 1, 1], [1, -8, 1], [1, 1, 1]]
    assert numbers("sharpen") == [[0, -1, 0], [-1, 5, -1], [0, -1, 0]]
    assert numbers("emboss") == [[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]
    assert numbers("identity") == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert make_filter("laplacian8", 3).kernels[0].sum() == 0
    assert make_filter("laplacian8", 3).kernels[0][1, 1, 1] == -26


def test_a_step_answers_with_its_sign_and_flipping_turns_it():
    step = np.zeros((5, 6))
    step[:, 3:] = 10
    kernel = make_filter("sobel", direction="horizontal")
    np.testing.assert_array_equal(filtered(step, kernel)[2], [0, 0, 40, 40, 0, 0])
    np.testing.assert_array_equal(filtered(step, kernel, flip=True)[2], [0, 0, -40, -40, 0, 0])


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("name", [n for n in KERNELS if n != "gabor"])
def test_every_filter_works_in_every_dimension(name, dims):
    kernels = make_filter(name, dims).kernels
    assert all(k.ndim == dims for k in kernels)
    even = np.full((4,) * dims + (1,), 7.0)
    result = filter_picture(even, name).result
    finds_change = name in ("sobel", "prewitt", "scharr", "laplacian", "laplacian8")
    np.testing.assert_allclose(result, 0 if finds_change else 7, atol=1e-12)
    assert make_filter(name, dims).finds_change == finds_change


def test_gabor_answers_most_to_the_wave_of_its_own_angle():
    bank = make_filter("gabor", orientations=4, wavelength=6)
    assert bank.labels == ("0°", "45°", "90°", "135°")
    y, x = np.mgrid[0:48, 0:48]
    for i, angle in enumerate(np.deg2rad([0, 45, 90, 135])):
        # Rows count downwards, angles upwards.
        wave = np.cos(2 * np.pi * (x * np.cos(angle) - y * np.sin(angle)) / 6)
        made = filter_picture(wave[..., None], bank, border="wrap")
        inside = [abs(r[20:28, 20:28]).max() for r in made.responses]
        assert int(np.argmax(inside)) == i
        assert inside[i] > 4 * max(v for j, v in enumerate(inside) if j != i)
        np.testing.assert_array_equal(made.result, abs(np.stack(made.responses)).max(axis=0))
    for kernel in bank.kernels:
        assert abs(kernel.sum()) < 1e-12
        assert abs(kernel).sum() == pytest.approx(1)


def test_colour_by_channel_and_by_luminance():
    pixels = np.random.default_rng(3).integers(0, 256, (7, 8, 3), np.uint8)
    made = filter_picture(pixels, "laplacian", colour="channel")
    for c in range(3):
        expected = ndi.laplace(pixels[..., c].astype(np.float64), mode="reflect")
        np.testing.assert_allclose(made.result[..., c], expected, **EXACT)
    grey = pixels @ np.array([0.299, 0.587, 0.114])
    made = filter_picture(pixels, "laplacian")
    assert made.colour == "luminance"
    assert made.result.shape == (7, 8, 1)
    np.testing.assert_allclose(made.result[..., 0], ndi.laplace(grey), **EXACT)
    assert filter_picture(pixels, "gaussian").colour == "channel"


def test_numbers_in_every_spelling():
    expected = [[1, 0, -1], [2, 0, -2], [1, 0, -1]]
    for text in (
        "1 0 -1; 2 0 -2; 1 0 -1",
        "1,0,-1\n2,0,-2\n1,0,-1\n",
        " 1, 0 −1 ;2 0 -2;1 0 -1;",
        "1 0 -1\r\n2 0 -2\r\n1 0 -1\r\n",
    ):
        assert kernel_of_numbers(text).kernels[0].tolist() == expected
    assert kernel_of_numbers("1/9 -2e1 .5").kernels[0].tolist() == [[1 / 9, -20, 0.5]]


def test_a_flat_kernel_acts_in_each_slice_of_a_volume():
    kernel = np.array([[1.0, 2], [3, 4]])
    made = filtered(VOLUME, kernel)
    for found, layer in zip(made, VOLUME, strict=True):
        np.testing.assert_allclose(found, ndi.correlate(layer, kernel), **EXACT)


def test_the_picture_stays_as_it_was():
    before = PICTURE[..., None].copy()
    made = filter_picture(before, "identity")
    assert not np.shares_memory(made.result, before)
    np.testing.assert_array_equal(before[..., 0], PICTURE)


def test_levels_for_the_eye():
    values = np.array([-4.0, 0, 2])
    signed = show_levels(values, "signed")
    assert signed.levels.tolist() == [0, 128, 191]
    assert signed.legend == "black -4, grey 0, white 4"
    absolute = show_levels(values, "absolute")
    assert absolute.levels.tolist() == [255, 0, 128]
    assert absolute.legend == "black 0, white 4 (absolute value)"
    clipped = show_levels(np.array([-9.0, 100, 300]), "clipped")
    assert clipped.levels.tolist() == [0, 100, 255]
    assert clipped.legend == "black 0, white 255, cut beyond"
    for show, level in (("signed", 128), ("absolute", 0), ("clipped", 0)):
        assert show_levels(np.zeros(3), show).levels.tolist() == [level] * 3
        assert show_levels(np.full(3, -1e-13), show).levels.tolist() == [level] * 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_filter("sobell"), "kernel 'sobell' is not known; did you mean 'sobel'"),
        (lambda: make_filter("gaussian", sigma=0), "sigma takes pixels, above 0 .*, got 0"),
        (lambda: make_filter("gaussian", sigma=float("nan")), "sigma takes pixels.*got nan"),
        (lambda: make_filter("gaussian", sigma=9e3), "sigma 9000 makes a kernel of 72001×72001"),
        (lambda: make_filter("sobel", sigma=1), "sigma is for gaussian, gabor, got sigma 1 with"),
        (lambda: make_filter("box", size=0), "size takes a whole number of at least 1, got 0"),
        (lambda: make_filter("box", size=9999), "size 9999 makes a kernel of 9999×9999"),
        (lambda: make_filter("sobel", direction="up"), "direction 'up' is not known; choose"),
        (lambda: make_filter("sobel", direction="depth"), "'depth' needs more than 2 dimensions"),
        (lambda: make_filter("gabor", 3), "'gabor' is for pictures of 2 dimensions, got 3"),
        (lambda: make_filter("gabor", wavelength=1), "wavelength takes at least 2 pixels"),
        (lambda: make_filter("gabor", sigma=1e-300), "sigma of gabor takes at least 0.3"),
        (lambda: kernel_of_numbers("1 2; 3"), "rectangular: row 1 has 2 numbers, row 2 has 1"),
        (lambda: kernel_of_numbers("1 x"), "takes numbers such as .*, got 'x'"),
        (lambda: kernel_of_numbers("1/0"), "takes numbers such as .*, got '1/0'"),
        (lambda: kernel_of_numbers("1 inf"), "takes finite numbers, got 'inf'"),
        (lambda: kernel_of_numbers(" ; "), "holds no numbers; write rows"),
        (lambda: filter_of(np.array([np.nan])), "takes finite numbers, got one that is not"),
        (lambda: filter_of(np.array(["a"])), "takes real numbers, got <U1"),
        (lambda: filter_picture(PICTURE[..., None], border="edge"), "border 'edge' is not known"),
        (lambda: filter_picture(PICTURE[..., None], colour="red"), "colour 'red' is not known"),
        (lambda: filter_picture(PICTURE[0]), "pixels must be .*size, channels.*got shape"),
        (lambda: filter_picture(np.zeros((0, 4, 1))), "pixels must be .* not empty"),
        (lambda: filter_picture(np.zeros((4, 4, 2))), "takes 1 or 3 channels, got 2"),
        (lambda: filter_picture(np.full((4, 4, 1), np.inf)), "pixels hold values that are not"),
        (lambda: filter_picture(np.zeros((4, 4, 1), complex)), "pixels must be real numbers"),
        (
            lambda: filter_picture(PICTURE[..., None], np.ones((3, 3, 3))),
            "kernel has 3 axes and the picture 2",
        ),
        (
            lambda: filter_picture(np.full((4, 4, 1), 1e300), np.full((3, 3), 1e300)),
            r"pixels must be numbers up to 1e\+100",
        ),
        (lambda: show_levels(PICTURE, "colour"), "show 'colour' is not known"),
    ],
)
def test_messages(call, message):
    with pytest.raises(UserError, match=message):
        call()
