"""Worked examples and lowered matrices against torch, the definition, and the lecture."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from hubel.conv.case import ConvCase
from hubel.conv.lowered import gemm_of, lower, lowered_elements, repeats, taps
from hubel.conv.size_steps import receptive_field, same_size_padding, size_steps
from hubel.conv.worked import LECTURE_INPUT, LECTURE_KERNEL, walk_of, work_out
from hubel.errors import UserError
from hubel.shapes import output_size, unseen_pixels

INPUT = np.array(LECTURE_INPUT, float)
KERNEL = np.array(LECTURE_KERNEL, float)
few = settings(max_examples=60, deadline=None)

CONVS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
MAXES = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVERAGES = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


@st.composite
def geometries(draw, padding_at_most=2, dilated=True):
    """size, kernel, stride, padding, dilation of 1 to 3 dimensions whose kernel fits."""
    found = []
    for _ in range(draw(st.integers(1, 3))):
        kernel, stride = draw(st.integers(1, 3)), draw(st.integers(1, 3))
        padding = draw(st.integers(0, padding_at_most))
        dilation = draw(st.integers(1, 2)) if dilated else 1
        least = max(1, dilation * (kernel - 1) + 1 - 2 * padding)
        found.append((draw(st.integers(least, least + 4)), kernel, stride, padding, dilation))
    return tuple(zip(*found, strict=True))


def drawn(size, seed=0):
    return np.random.default_rng(seed).integers(-3, 4, size).astype(float)


def batched(numbers):
    return torch.from_numpy(np.ascontiguousarray(numbers))[None, None]


def test_the_lecture_s_convolution():
    worked = work_out(walk_of("convolution", (5, 5), 3, stride=2, padding=1), INPUT, KERNEL)
    assert worked.output.tolist() == [[6, 17, 3], [8, 17, 13], [6, 4, 4]]
    # Its middle window, by hand: rows 0 1 3, 1 2 2, 0 0 2 times 0 1 2, 2 2 0, 0 1 2.
    assert worked.values((1, 1)).tolist() == [[0, 1, 3], [1, 2, 2], [0, 0, 2]]
    assert worked.products((1, 1)).tolist() == [[0, 1, 6], [2, 4, 0], [0, 0, 4]]
    assert worked.walk.macs == 81


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ("max", [[3, 3, 3], [3, 3, 3], [3, 2, 3]]),
        ("average", [[1.7, 1.7, 1.7], [1.0, 1.2, 1.8], [1.1, 0.8, 1.3]]),
    ],
)
def test_the_lecture_s_pooling(operation, expected):
    worked = work_out(walk_of(operation, (5, 5), 3), INPUT)
    assert worked.output.round(1).tolist() == expected


@few
@given(geometries())
def test_a_convolution_s_windows_make_torch_s_output(geometry):
    size, kernel, stride, padding, dilation = geometry
    walk = walk_of("convolution", size, kernel, stride=stride, padding=padding, dilation=dilation)
    image, weights = drawn(size), drawn(kernel, 1)
    worked = work_out(walk, image, weights)
    expected = CONVS[len(size)](
        batched(image), batched(weights), stride=stride, padding=padding, dilation=dilation
    )
    assert worked.output.tolist() == expected[0, 0].tolist()
    for stop in walk.stops():
        assert worked.products(stop).sum() == worked.output[stop]
        held = worked.source[worked.cells(stop)][worked.inside(stop)]
        assert worked.values(stop)[worked.inside(stop)].tolist() == image.ravel()[held].tolist()
    assert walk.unseen() == unseen_pixels(
        size, kernel, stride=stride, padding=padding, dilation=dilation
    )


@settings(max_examples=25, deadline=None)
@given(geometries(), st.data())
def test_a_transposed_convolution_is_a_walk_over_spread_pixels(geometry, data):
    size, kernel, stride, padding, dilation = geometry
    # Padding crops the output of a transposed convolution: leave something of it.
    spans = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    padding = tuple(
        min(p, ((i - 1) * s + span) // 2)
        for p, i, s, span in zip(padding, size, stride, spans, strict=True)
    )
    extra = tuple(
        data.draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True)
    )
    walk = walk_of(
        "transposed convolution", size, kernel, stride=stride, padding=padding,
        dilation=dilation, output_padding=extra,
    )  # fmt: skip
    image, weights = drawn(size), drawn(kernel, 1)
    expected = TRANSPOSED[len(size)](
        batched(image), batched(weights), stride=stride, padding=padding,
        output_padding=extra, dilation=dilation,
    )  # fmt: skip
    worked = work_out(walk, image, weights)
    assert worked.output.tolist() == expected[0, 0].tolist()
    # An unseen pixel is one whose change changes nothing.
    for axis, unseen in enumerate(walk.unseen()):
        for index in range(size[axis]):
            changed = image.copy()
            changed[(slice(None),) * axis + (index,)] += 1000.0
            same = np.array_equal(
                work_out(walk, changed, np.ones(kernel)).output,
                work_out(walk, image, np.ones(kernel)).output,
            )
            assert same == (index in unseen or any(len(u) == i for u, i in zip(
                walk.unseen(), size, strict=True)))  # fmt: skip


@few
@given(geometries(padding_at_most=1, dilated=False))
def test_pooling_s_windows_make_torch_s_output(geometry):
    size, kernel, stride, padding, _ = geometry
    padding = tuple(min(p, k // 2) for p, k in zip(padding, kernel, strict=True))
    size = tuple(max(i, k) for i, k in zip(size, kernel, strict=True))
    image = drawn(size)
    for operation, theirs in (("max", MAXES), ("average", AVERAGES)):
        worked = work_out(walk_of(operation, size, kernel, stride=stride, padding=padding), image)
        expected = theirs[len(size)](batched(image), kernel, stride=stride, padding=padding)
        np.testing.assert_allclose(worked.output, expected[0, 0], atol=1e-12)


def test_the_steps_say_how_the_size_comes_out():
    walk = walk_of("convolution", (6, 5), 3, stride=2, padding=((0, 1), 1), dilation=(2, 1))
    first, second = size_steps(walk)
    assert first.axis == "row"
    assert dict(first.lines) == {
        "padded": "0 + 6 + 1 = 7",
        "kernel spans": "2·(3 − 1) + 1 = 5",
        "output": "⌊(7 − 5) / 2⌋ + 1 = 2, remainder 0",
    }
    assert second.lines[2] == ("output", "⌊(7 − 3) / 2⌋ + 1 = 3, remainder 0")
    assert receptive_field(walk).start == (0, -1)


def test_the_steps_of_a_transposed_convolution():
    walk = walk_of("transposed convolution", (3,), 3, stride=2, padding=1, output_padding=1)
    (step,) = size_steps(walk)
    assert dict(step.lines) == {
        "spread input": "(3 − 1)·2 + 1 = 5",
        "kernel spans": "1·(3 − 1) + 1 = 3",
        "border": "3 − 1 − 1 = 1 before, 3 − 1 − 1 + 1 = 2 after",
        "output": "(3 − 1)·2 − 1 − 1 + 3 + 1 = 6",
    }
    assert walk.output_size == (6,)
    assert walk.grid_size == (1 + 5 + 2,)


@few
@given(geometries())
def test_the_padding_that_keeps_the_size_keeps_it(geometry):
    size, kernel, stride, _, dilation = geometry
    size = tuple(max(i, d * (k - 1) + 1) for i, k, d in zip(size, kernel, dilation, strict=True))
    walk = walk_of("convolution", size, kernel, stride=stride, dilation=dilation)
    kept = same_size_padding(walk)
    assert output_size(size, kernel, stride=stride, padding=kept, dilation=dilation) == size


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("convolution", (2, 2), 3), "kernel_size 3 spans 3 pixels, more than the input's 2"),
        (("convolution", (1, 1, 1, 1), 1), "input takes 1, 2 or 3 spatial dimensions, got 4"),
        (("max", (5, 5), 3, 1, ((0, 1), 1)), "padding of pooling is the same on both sides"),
        (("max", (5, 5), 3, 1, 2), "padding of a pooling window is at most half its kernel_size"),
    ],
)
def test_a_walk_that_cannot_be(arguments, message):
    operation, size, kernel, *rest = arguments
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        walk_of(operation, size, kernel, **dict(zip(("stride", "padding"), rest, strict=False)))


def test_output_padding_is_of_a_transposed_convolution():
    with pytest.raises(UserError, match="output_padding 1×1 is of a transposed convolution only"):
        walk_of("convolution", (5, 5), 3, output_padding=1)


def test_numbers_of_a_large_case_are_refused():
    walk = walk_of("convolution", (101, 100), 3)
    assert not walk.workable
    with pytest.raises(UserError, match="at most 10,000 padded pixels and 200,000 products, got"):
        work_out(walk, np.zeros((101, 100)), KERNEL)


@few
@given(geometries(), st.integers(1, 2), st.integers(1, 2), st.integers(1, 2))
def test_the_lowered_matrix_makes_torch_s_output(geometry, n, groups, per_group):
    size, kernel, stride, padding, dilation = geometry
    case = ConvCase.of(
        n, groups * per_group, groups * 2, size, kernel,
        stride=stride, padding=padding, dilation=dilation, groups=groups,
    )  # fmt: skip
    images, weights = drawn(case.input_shape), drawn(case.weight_shape, 1)
    lowered = lower(case, images, weights)
    expected = CONVS[len(size)](
        torch.from_numpy(images), torch.from_numpy(weights), stride=stride, padding=padding,
        dilation=dilation, groups=groups,
    )  # fmt: skip
    assert lowered.output.tolist() == expected.tolist()
    gemm = gemm_of(case)
    assert lowered.matrix.shape == (gemm.rows, gemm.inner * gemm.count)
    assert lowered.matrix.size == lowered_elements(case)
    assert gemm.rows * gemm.inner * gemm.columns * gemm.count == case.macs
    # Copies: counted in the matrix, and as the product of the counts of each dimension.
    by_dimension = np.ones(())
    for counts in repeats(case):
        by_dimension = np.multiply.outer(by_dimension, counts)
    assert np.array_equal(lowered.counts, np.broadcast_to(by_dimension, case.input_shape))


def test_the_columns_of_a_tap_are_a_strided_view_of_the_padded_input():
    case = ConvCase.of(1, 2, 1, (5, 6), (3, 2), stride=(2, 1), padding=1, dilation=(1, 2))
    images = drawn(case.input_shape)
    lowered = lower(case, images, np.ones(case.weight_shape))
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    for number, tap in enumerate(taps(case)):
        (r, c), (down, right), (rows, columns) = tap.start, tap.step, tap.size
        view = padded[0, :, r::down, c::right][:, :rows, :columns]
        columns_of_tap = lowered.matrix[:, 2 * number : 2 * number + 2]
        assert columns_of_tap.tolist() == view.reshape(2, -1).T.tolist()


def test_a_large_matrix_is_refused():
    case = ConvCase.of(1, 64, 64, (56, 56), 3, padding=1)
    with pytest.raises(UserError, match=r"filled in up to 200,000 cells, got input 1×64×56×56"):
        lower(case, np.zeros(0), np.zeros(0))
