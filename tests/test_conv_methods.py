"""Every method of the registry against torch: outputs, both gradients, memory, limits."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hubel.conv import METHODS, conv
from hubel.conv.case import ConvCase
from hubel.errors import UserError

ON_CPU = [name for name in METHODS.names() if "cpu" in getattr(METHODS[name], "devices", ("cpu",))]
CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


@st.composite
def cases(draw, method):
    """A small case that `method` can do."""
    dims = draw(st.integers(1, 3))
    groups = draw(st.integers(1, 3))
    kernel = st.sampled_from((3, 3, 1, 2, 4) if dims < 3 else (3, 3, 1, 2))

    def each(strategy):
        return tuple(draw(strategy) for _ in range(dims))

    winograd = "winograd" in method
    try:
        case = ConvCase.of(
            draw(st.integers(1, 3)),
            groups * draw(st.integers(1, 3)),
            groups * draw(st.integers(1, 3)),
            each(st.integers(1, 9 if dims < 3 else 6)),
            (3,) * dims if winograd else each(kernel),
            stride=1 if winograd else each(st.integers(1, 3)),
            padding=each(st.tuples(st.integers(0, 3), st.integers(0, 3))),
            dilation=1 if winograd else each(st.integers(1, 3)),
            groups=groups,
        )
    except UserError:
        assume(False)
    assume(METHODS[method].limits(case) is None)
    return case


def tensors(case, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def new(shape):
        return torch.randn(shape, generator=generator, dtype=dtype)

    return new(case.input_shape), new(case.weight_shape), new(case.output_shape)


def arguments(case):
    return {
        "stride": case.stride,
        "padding": case.padding,
        "dilation": case.dilation,
        "groups": case.groups,
    }


def by_torch(case, input, weight):
    """torch's own convolution, and its gradients for `ones_like` weighted by a ramp."""
    padded = F.pad(input, [side for pair in reversed(case.padding) for side in pair])
    return CONV[case.dims](padded, weight, None, case.stride, 0, case.dilation, case.groups)


@pytest.mark.parametrize("method", ON_CPU)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_outputs_and_gradients_are_torchs_in_float64(method, data):
    case = data.draw(cases(method))
    x, w, g = tensors(case, torch.float64, data.draw(st.integers(0, 99)))
    if data.draw(st.booleans()):
        x = x.movedim(1, -1).contiguous().movedim(-1, 1)  # channels last
    x1, w1 = x.clone().requires_grad_(), w.clone().requires_grad_()
    x2, w2 = x.clone().requires_grad_(), w.clone().requires_grad_()
    out, expected = conv(x1, w1, method=method, **arguments(case)), by_torch(case, x2, w2)
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-10)
    for found, known in zip(
        torch.autograd.grad(out, (x1, w1), g),
        torch.autograd.grad(expected, (x2, w2), g),
        strict=True,
    ):
        torch.testing.assert_close(found, known, rtol=1e-10, atol=1e-10)
