"""Winograd and FFT: their matrices and lengths, pencil-sized cases, accuracy, gradients, memory."""

import re
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hubel.conv.case import ConvCase
from hubel.conv.memory import extra_bytes
from hubel.conv.method import METHODS
from hubel.conv.methods.fft import fast_length
from hubel.conv.methods.winograd import POINTS, Winograd, cook_toom
from hubel.errors import UserError

NAMES = ("winograd", "winograd4", "fft")
CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}

# Lavin & Gray 2016: F(2,3) in §4.1, F(4,3) in §4.3, as printed: Bᵀ, G, Aᵀ.
PAPER = {
    (2, (0, 1, -1)): (
        "1 0 -1 0; 0 1 1 0; 0 -1 1 0; 0 1 0 -1",
        "1 0 0; 1/2 1/2 1/2; 1/2 -1/2 1/2; 0 0 1",
        "1 1 1 0; 0 1 -1 -1",
    ),
    (4, (0, 1, -1, 2, -2)): (
        "4 0 -5 0 1 0; 0 -4 -4 1 1 0; 0 4 -4 -1 1 0; 0 -2 -1 2 1 0; 0 2 -1 -2 1 0; 0 4 0 -5 0 1",
        "1/4 0 0; -1/6 -1/6 -1/6; -1/6 1/6 -1/6; 1/24 1/12 1/6; 1/24 -1/12 1/6; 0 0 1",
        "1 1 1 1 1 0; 0 1 -1 2 -2 0; 0 1 1 4 4 0; 0 1 -1 8 -8 1",
    ),
}


def matrix(text):
    return np.array([[Fraction(x) for x in row.split()] for row in text.split(";")])


@pytest.mark.parametrize(("m", "points"), PAPER)
def test_the_matrices_are_the_papers_up_to_a_scale_of_each_point(m, points):
    b_t, g, a_t = (matrix(text) for text in PAPER[m, points])
    ours_a, ours_b, ours_g = (np.array(rows) for rows in cook_toom(m, 3, points))
    assert ours_a.shape == a_t.T.shape
    for point in range(m + 2):
        # A point may scale its rows of A, B and G; their product is what computes.
        ours = np.einsum("i,j,k->ijk", ours_a[point], ours_b[point], ours_g[point])
        assert (ours == np.einsum("i,j,k->ijk", a_t.T[point], b_t[point], g[point])).all()


def test_the_matrices_of_f_4_3_are_exactly_those_printed():
    b_t, g, a_t = (matrix(text) for text in PAPER[4, (0, 1, -1, 2, -2)])
    a, b, g_ours = (np.array(rows) for rows in cook_toom(4, 3, (0, 1, -1, 2, -2)))
    assert (a == a_t.T).all()
    assert (b == b_t).all()
    assert (g_ours == g).all()


@pytest.mark.parametrize("m", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("r", [1, 2, 3, 5])
def test_cook_toom_is_a_correlation_in_exact_arithmetic(m, r):
    points = [Fraction(p, 3) for p in range(m + r - 2)]
    a, b, g = (np.array(rows) for rows in cook_toom(m, r, points))
    # Σ_point a_i · b_j · g_k is 1 where output i has tap k on pixel j, else 0.
    found = np.einsum("pi,pj,pk->ijk", a, b, g)
    i, j, k = np.indices(found.shape)
    assert (found == (j == i + k)).all()


@pytest.mark.parametrize(
    ("name", "dims", "fewer"),
    [
        ("winograd", 1, Fraction(3, 2)),
        ("winograd", 2, Fraction(9, 4)),
        ("winograd", 3, Fraction(27, 8)),
        ("winograd4", 1, 2),
        ("winograd4", 2, 4),
        ("winograd4", 3, 8),
    ],
)
def test_winograd_multiplies_fewer_times(name, dims, fewer):
    case = ConvCase.of(2, 6, 4, (8,) * dims, 3, padding=1, groups=2)
    assert Fraction(case.macs, METHODS[name].multiplications(case)) == fewer


def test_tiles_over_the_edge_are_counted():
    # 5 outputs need 3 tiles of two and 2 tiles of four.
    case = ConvCase.of(1, 1, 1, (7,), 3)
    assert METHODS["winograd"].multiplications(case) == 3 * 4
    assert METHODS["winograd4"].multiplications(case) == 2 * 6


@pytest.mark.parametrize("name", ["winograd", "winograd4"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel_size": 5}, r"takes kernel_size 3 in every dimension, got \(5, 5\)"),
        ({"kernel_size": (3, 1)}, r"takes kernel_size 3 in every dimension, got \(3, 1\)"),
        ({"stride": 2}, r"takes stride 1 in every dimension, got \(2, 2\)"),
        ({"dilation": (1, 2)}, r"takes dilation 1 in every dimension, got \(1, 2\)"),
    ],
)
def test_winograd_says_what_it_cannot_do(name, arguments, message):
    case = ConvCase.of(1, 1, 1, (8, 8), **{"kernel_size": 3, **arguments})
    assert re.fullmatch(message, METHODS[name].limits(case))


def test_the_fft_does_every_case():
    assert METHODS["fft"].limits(ConvCase.of(1, 2, 2, (9, 9), 4, stride=3, groups=2)) is None


def test_fast_lengths_are_the_next_products_of_2_3_and_5():
    smooth = sorted({2**a * 3**b * 5**c for a in range(11) for b in range(7) for c in range(5)})
    for n in range(1, 1000):
        assert fast_length(n) == next(s for s in smooth if s >= n)


@pytest.mark.parametrize("name", NAMES)
def test_pencil_and_paper(name):
    """Pixels 0..8 and five taps: sums that a person can check."""
    image = torch.arange(9.0).view(1, 1, 3, 3)
    taps = torch.tensor([[1.0, 0, 2], [0, 3, 0], [4, 0, 5]]).view(1, 1, 3, 3)
    case = ConvCase.of(1, 1, 1, (3, 3), 3, padding=1)
    # Middle: 0·1 + 2·2 + 4·3 + 6·4 + 8·5 = 80. Top right: 2·3 + 4·4 = 22.
    expected = torch.tensor([[20.0, 40, 22], [46, 80, 44], [26, 34, 28]])
    found = METHODS[name].forward(image, taps, case)
    torch.testing.assert_close(found[0, 0], expected, rtol=0, atol=1e-4)
    # Gradients of the sum of outputs: each tap's pixels, each pixel's taps.
    ones = torch.ones(case.output_shape)
    expected = torch.tensor([[8.0, 15, 12], [21, 36, 27], [20, 33, 24]])
    found = METHODS[name].grad_weight(ones, image, case)
    torch.testing.assert_close(found[0, 0], expected, rtol=0, atol=1e-4)
    expected = torch.tensor([[4.0, 6, 5], [8, 15, 10], [7, 12, 8]])
    found = METHODS[name].grad_input(ones, taps, case)
    torch.testing.assert_close(found[0, 0], expected, rtol=0, atol=1e-4)


def test_the_fft_answers_the_lectures_strided_example():
    """Dumoulin & Visin 2016: 5×5, 3×3 kernel, stride 2, padding 1."""

    def grid(rows):
        return torch.tensor([[float(x) for x in row] for row in rows.split()])[None, None]

    image, taps = grid("33210 00131 31223 20022 20001"), grid("012 220 012")
    case = ConvCase.of(1, 1, 1, (5, 5), 3, stride=2, padding=1)
    expected = torch.tensor([[6.0, 17, 3], [8, 17, 13], [6, 4, 4]])
    found = METHODS["fft"].forward(image, taps, case)[0, 0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@st.composite
def cases(draw, name):
    """A small case that the method can do; paddings may exceed the kernel, even the input."""
    dims, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))

    def each(low, high):
        return tuple(draw(st.integers(low, high)) for _ in range(dims))

    fft = name == "fft"
    try:
        return ConvCase.of(
            draw(st.integers(1, 3)),
            groups * draw(st.integers(1, 3)),
            groups * draw(st.integers(1, 3)),
            each(1, 9 if dims < 3 else 6),
            each(1, 4) if fft else 3,
            stride=each(1, 4) if fft else 1,
            padding=tuple(zip(each(0, 5), each(0, 5), strict=True)),
            dilation=each(1, 3) if fft else 1,
            groups=groups,
        )
    except UserError:
        assume(False)


def tensors(case, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = (case.input_shape, case.weight_shape, case.output_shape)
    return [torch.randn(s, generator=generator, dtype=torch.float64).to(dtype) for s in shapes]


def by_torch(input, weight, grad_output, case):
    """Output and both gradients in float64."""
    input, weight = (t.double().requires_grad_() for t in (input, weight))
    padded = F.pad(input, [side for pair in reversed(case.padding) for side in pair])
    output = CONV[case.dims](
        padded, weight, stride=case.stride, dilation=case.dilation, groups=case.groups
    )
    return (output.detach(), *torch.autograd.grad(output, (input, weight), grad_output.double()))


def by_method(name, input, weight, grad_output, case):
    method = METHODS[name]
    return (
        method.forward(input, weight, case),
        method.grad_input(grad_output, weight, case),
        method.grad_weight(grad_output, input, case),
    )


@pytest.mark.parametrize("name", NAMES)
@given(st.data())
@settings(max_examples=60, deadline=None)
def test_float64_is_torchs_to_1e_10_with_both_gradients(name, data):
    case = data.draw(cases(name))
    given_tensors = tensors(case, torch.float64)
    for found, expected in zip(
        by_method(name, *given_tensors, case), by_torch(*given_tensors, case), strict=True
    ):
        assert found.shape == expected.shape
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_pixels_that_no_tap_meets_have_no_gradient():
    case = ConvCase.of(1, 1, 1, (6,), 1, stride=3)
    grad = METHODS["fft"].grad_input(torch.ones(1, 1, 2), torch.full((1, 1, 1), 5.0), case)
    torch.testing.assert_close(grad[0, 0], torch.tensor([5.0, 0, 0, 5, 0, 0]))


# Largest error over largest output in float32; the docstrings state what was measured (at most
# half of these).
BOUNDS = {"winograd": 1.5e-6, "winograd4": 5e-6, "fft": 1e-6}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("channels", "size"), [(64, (60,)), (64, (13, 14)), (8, (9, 8, 7))])
def test_float32_keeps_its_bound(name, channels, size):
    case = ConvCase.of(2, channels, channels, size, 3, padding=1)
    given_tensors = tensors(case, torch.float32)
    for found, expected in zip(
        by_method(name, *given_tensors, case), by_torch(*given_tensors, case), strict=True
    ):
        assert found.dtype == torch.float32
        assert (found - expected).abs().max() < BOUNDS[name] * expected.abs().max()


def test_our_points_are_more_exact_than_the_papers():
    case = ConvCase.of(2, 64, 64, (13, 14), 3, padding=1)
    given_tensors = tensors(case, torch.float32)
    exact = by_torch(*given_tensors, case)[0]

    def error(points):
        output = Winograd(4, points).forward(*given_tensors[:2], case)
        return float((output - exact).abs().max())

    assert error(POINTS[4]) < error((0, 1, -1, 2, -2)) / 2


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_halves_are_rounded_once(name, dtype):
    case = ConvCase.of(2, 16, 8, (9, 10), 3, padding=1)
    given_tensors = tensors(case, dtype)
    for found, expected in zip(
        by_method(name, *given_tensors, case), by_torch(*given_tensors, case), strict=True
    ):
        assert found.dtype == dtype
        # Half a unit in the last place, and float32's own rounding (at most 1e-5 of the largest).
        tolerance = expected.abs() * torch.finfo(dtype).eps / 2 + 1e-5 * expected.abs().max()
        assert ((found - expected).abs() <= tolerance).all()


@pytest.mark.parametrize("name", NAMES)
def test_any_memory_order_will_do(name):
    case = ConvCase.of(2, 4, 6, (7, 5), 3, padding=1, groups=2)
    given_tensors = tensors(case, torch.float64)
    channels_last = [t.contiguous(memory_format=torch.channels_last) for t in given_tensors]
    transposed = [t.mT.contiguous().mT for t in given_tensors]
    expanded = [t[:1, :1].expand(t.shape) for t in given_tensors]
    for views in (channels_last, transposed, expanded):
        expected = by_torch(*views, case)
        for ours, torchs in zip(by_method(name, *views, case), expected, strict=True):
            torch.testing.assert_close(ours, torchs, rtol=0, atol=1e-10)


# Batches that need several chunks, pieces and blocks; narrow, wide, grouped, strided; 1-D to 3-D.
LARGE = {
    "2-D": ConvCase.of(6, 32, 32, (40, 40), 3, padding=1),
    "widening": ConvCase.of(2, 3, 64, (64, 64), 3, padding=1),
    "narrow maps": ConvCase.of(40, 64, 32, (7, 7), 3, padding=1),
    "heavy weight": ConvCase.of(1, 128, 160, (6, 6), 3, padding=1),
    "depthwise": ConvCase.of(2, 48, 48, (33, 31), 3, padding=1, groups=48),
    "1-D": ConvCase.of(5, 16, 24, (1000,), 3, padding=1),
    "3-D": ConvCase.of(2, 8, 16, (12, 12, 12), 3, padding=1),
    "large kernel": ConvCase.of(3, 16, 16, (40, 40), 15, padding=7, groups=16),
    "strided": ConvCase.of(2, 16, 32, (56, 56), 7, stride=2, padding=3),
    "pointwise, strided": ConvCase.of(4, 32, 32, (28, 28), 1, stride=2),
}

DOES = [
    (name, which) for name in NAMES for which in LARGE if not METHODS[name].limits(LARGE[which])
]


@pytest.mark.parametrize(("name", "which"), DOES)
def test_extra_memory_is_what_the_formula_says(name, which):
    case, method = LARGE[which], METHODS[name]
    input, weight, grad_output = tensors(case, torch.float32)
    stated = 4 * method.extra_elements(case)
    measured = extra_bytes(lambda: method.forward(input, weight, case))
    assert measured <= stated <= 2 * measured
    # The gradients' own roads take hardly more than the way forth.
    assert extra_bytes(lambda: method.grad_input(grad_output, weight, case)) <= 1.6 * stated
    assert extra_bytes(lambda: method.grad_weight(grad_output, input, case)) <= 1.6 * stated


@pytest.mark.parametrize(
    ("name", "which"), [d for d in DOES if d[1] in ("narrow maps", "heavy weight", "strided")]
)
def test_chunks_and_blocks_join_without_a_seam(name, which):
    case = LARGE[which]
    given_tensors = tensors(case, torch.float64)
    for found, expected in zip(
        by_method(name, *given_tensors, case), by_torch(*given_tensors, case), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_a_circle_no_longer_than_needed():
    """Both sides' zeros are shared: 30 pixels between paddings of 15 take 45 places, not 60."""
    elements = METHODS["fft"].extra_elements
    padded = ConvCase.of(64, 64, 64, (30,), 31, padding=15)
    assert elements(padded) == elements(ConvCase.of(64, 64, 64, (45,), 1))


def test_a_stride_shortens_the_circle_and_drops_phases_that_no_tap_meets():
    elements = METHODS["fft"].extra_elements
    strided = ConvCase.of(64, 64, 64, (90,), 1, stride=2)
    assert elements(strided) == elements(ConvCase.of(64, 64, 64, (45,), 1))
