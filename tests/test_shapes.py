"""Shape arithmetic against torch over drawn configurations."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hubel.shapes import format_shape, output_size, per_dim

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


@given(st.data(), st.integers(1, 3))
@settings(max_examples=200, deadline=None)
def test_output_size_is_torchs(data, dims):
    def draw(low, high):
        return tuple(data.draw(st.integers(low, high)) for _ in range(dims))

    size, kernel, stride, padding, dilation = (
        draw(*limits) for limits in ((1, 9), (1, 4), (1, 3), (0, 3), (1, 3))
    )
    expected = output_size(size, kernel, stride=stride, padding=padding, dilation=dilation)
    assume(min(expected) > 0)
    out = CONV[dims](
        torch.zeros(1, 1, *size),
        torch.zeros(1, 1, *kernel),
        stride=stride,
        padding=padding,
        dilation=dilation,
    )
    assert tuple(out.shape[2:]) == expected


def test_the_lectures_example_with_pencil_and_paper():
    assert output_size((5, 5), 3, stride=2, padding=1) == (3, 3)
    assert format_shape(3, 32, 32) == "3×32×32"


def test_per_dim_refuses_another_number():
    with pytest.raises(ValueError, match=r"one int or 3 of them, got \(1, 2\)"):
        per_dim((1, 2), 3)
