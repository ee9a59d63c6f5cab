"""The tensor-core kernels under Triton's interpreter, on the CPU.

Triton decides at import whether it interprets, so these run in a process of their own:
`test_conv_triton.py` starts it with TRITON_INTERPRET=1. By hand:

    TRITON_INTERPRET=1 python -m pytest tests/interpreted_conv_triton.py
"""

import os

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hubel.conv import conv, tensor_core_products
from hubel.conv.case import ConvCase, case_of
from hubel.conv.tensor_core import tensor_core_conv
from hubel.conv.tensor_core_products import conv_grad_weight, num_splits
from hubel.errors import UserError

assert os.environ.get("TRITON_INTERPRET") == "1", "see this file's first lines"

TORCH = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


@pytest.fixture(autouse=True)
def poisoned():
    """New memory is full of NaN: what a kernel forgets to write is seen."""
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def by_torch(input, weight, bias, case):
    """The convolution in float64, through torch; padding per side by hand."""
    padded = F.pad(input, [side for pair in reversed(case.padding) for side in pair])
    return TORCH[case.dims](
        padded, weight, bias, stride=case.stride, dilation=case.dilation, groups=case.groups
    )


def drawn(case, dtype=torch.float32):
    """Input, weight, bias and the output's gradient."""
    shapes = (case.input_shape, case.weight_shape, (case.out_channels,), case.output_shape)
    return [torch.randn(shape, dtype=dtype) for shape in shapes]


def distance(found, wanted):
    """‖found - wanted‖ / ‖wanted‖ in float64; NaN if anything is NaN."""
    assert found.shape == wanted.shape
    wanted = wanted.double()
    return ((found.double() - wanted).norm() / wanted.norm().clamp(min=1e-30)).item()


def assert_all_products(case, taps, dtype=torch.float32, within=1e-6):
    *leaves, grad = drawn(case, dtype)
    ours = [leaf.clone().requires_grad_() for leaf in leaves]
    theirs = [leaf.double().requires_grad_() for leaf in leaves]
    output = tensor_core_conv(
        *ours,
        stride=case.stride,
        padding=case.padding,
        dilation=case.dilation,
        groups=case.groups,
        taps=taps,
    )
    wanted = by_torch(*theirs, case)
    assert output.dtype == dtype
    assert distance(output, wanted) < within
    found = torch.autograd.grad(output, ours, grad)
    for name, f, w in zip(
        ("input", "weight", "bias"),
        found,
        torch.autograd.grad(wanted, theirs, grad.double()),
        strict=True,
    ):
        assert f.dtype == dtype
        assert distance(f, w) < within, name


# Channels beside the interpreter's blocks of 16 and below 16 (packed), every rank, phases that
# no tap meets (stride above kernel, dilation sharing a factor with stride), taps beyond the map.
CASES = {
    "ragged": ConvCase.of(2, 18, 17, (3, 4), 3, padding=1),
    "strided": ConvCase.of(1, 17, 5, (6, 7), 3, stride=(2, 1), padding=((0, 1), (1, 2))),
    "dilated": ConvCase.of(1, 16, 6, (7, 6), 3, stride=2, padding=((2, 0), 1), dilation=(2, 1)),
    "grouped": ConvCase.of(1, 34, 4, (4, 5), (3, 2), stride=(1, 3), padding=1, groups=2),
    "packed": ConvCase.of(2, 3, 5, (6, 5), 3, stride=(2, 3), padding=((0, 1), 1), dilation=(2, 1)),
    "packed groups": ConvCase.of(1, 6, 4, (4, 5), 3, padding=1, groups=2),
    "pointwise": ConvCase.of(2, 16, 16, (5, 4), 1, stride=2),
    "1-D": ConvCase.of(2, 17, 4, (11,), 3, stride=3, padding=((2, 0),), dilation=2),
    "3-D": ConvCase.of(1, 16, 4, (3, 4, 3), (2, 3, 2), stride=(1, 2, 3), padding=(0, 1, (1, 0))),
    "3-D packed": ConvCase.of(1, 2, 3, (4, 3, 5), (2, 3, 2), padding=1, dilation=(1, 1, 2)),
}


@pytest.mark.parametrize("name", CASES)
def test_output_and_gradients_agree_with_torch(name):
    # Both orders see every feature: neighbours in the list take turns.
    assert_all_products(CASES[name], ("inner", "outer")[list(CASES).index(name) % 2])


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_in_the_other_order(name):
    assert_all_products(CASES[name], ("outer", "inner")[list(CASES).index(name) % 2])


def test_orders_differ_in_rounding_only():
    case = ConvCase.of(1, 33, 4, (3, 3), 3, padding=1)
    input, weight, _, _ = drawn(case)
    inner, outer = (tensor_core_conv(input, weight, padding=1, taps=t) for t in ("inner", "outer"))
    assert not torch.equal(inner, outer)
    assert distance(inner, outer) < 1e-6


@pytest.mark.parametrize(("dtype", "within"), [(torch.float16, 1e-3), (torch.bfloat16, 8e-3)])
def test_half_precisions_sum_in_float32(dtype, within):
    assert_all_products(ConvCase.of(1, 18, 4, (4, 3), 3, padding=1), "inner", dtype, within)


def test_offsets_of_64_bits(monkeypatch):
    monkeypatch.setattr(tensor_core_products, "_needs_int64", lambda *tensors: True)
    assert_all_products(CASES["strided"], "outer")
    assert_all_products(CASES["packed"], "inner")


def test_epilogue_and_its_gradients():
    case = ConvCase.of(2, 16, 17, (4, 3), (1, 3), padding=(0, 1))
    *leaves, grad = drawn(case)
    scale, shift = torch.randn(2, case.out_channels)
    ours = [leaf.clone().requires_grad_() for leaf in leaves]
    theirs = [leaf.double().requires_grad_() for leaf in leaves]
    output = tensor_core_conv(*ours, padding=(0, 1), relu=True, scale=scale, shift=shift)
    wanted = by_torch(*theirs, case)
    wanted = (wanted * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)).relu()
    assert 0.2 < (output == 0).float().mean() < 0.8
    assert distance(output, wanted) < 1e-6
    found = torch.autograd.grad(output, ours, grad)
    for f, w in zip(found, torch.autograd.grad(wanted, theirs, grad.double()), strict=True):
        assert distance(f, w) < 1e-6


def test_relu_keeps_nan():
    input = torch.full((1, 16, 1, 1), float("nan"))
    assert tensor_core_conv(input, torch.ones(1, 16, 1, 1), relu=True).isnan().all()


def test_memory_order_does_not_matter_and_channels_are_last():
    input, weight, _, _ = drawn(ConvCase.of(2, 16, 17, (4, 5), 3))
    output = tensor_core_conv(input, weight)
    last = tensor_core_conv(
        input.to(memory_format=torch.channels_last), weight.to(memory_format=torch.channels_last)
    )
    assert torch.equal(output, last)
    assert output.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("channels", "groups"), [(16, 1), (3, 1), (32, 2)])
def test_splits_add_up_to_the_same_gradient(channels, groups):
    # 66 pixels: one block of 64 for the first split, two pixels for the second.
    case = ConvCase.of(1, channels, 4, (6, 12), (1, 2), groups=groups)
    input, _, _, grad = drawn(case)
    whole = conv_grad_weight(grad, input, case, splits=1)
    parts = conv_grad_weight(grad, input, case, splits=2)
    assert distance(parts, whole) < 1e-6
    assert torch.equal(parts, conv_grad_weight(grad, input, case, splits=2))


def test_splits_fill_the_device_and_no_more():
    # 56² at batch 32 is 100,352 pixels; one tile a tap; 264 programs are wanted.
    assert num_splits(ConvCase.of(32, 64, 64, (56, 56), 3, padding=1), 132) == 264 // 9
    assert num_splits(ConvCase.of(32, 2048, 2048, (7, 7), 3, padding=1), 132) == 1
    assert num_splits(ConvCase.of(1, 64, 64, (8, 8), 1), 132) == 1
    # 147 packed columns are two tiles.
    assert num_splits(ConvCase.of(32, 3, 64, (224, 224), 7, stride=2, padding=3), 132) == 132


def test_it_is_the_method_tensor_core():
    input, weight, bias, _ = drawn(CASES["ragged"])
    found = conv(input, weight, bias, padding=1, method="tensor_core")
    assert distance(found, F.conv2d(input, weight, bias, padding=1)) < 1e-6


def test_float64_is_refused():
    tensor = torch.ones(1, 16, 1, 1, dtype=torch.float64)
    with pytest.raises(UserError, match=r"takes float16, bfloat16 or float32, got torch.float64"):
        tensor_core_conv(tensor, tensor)


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_drawn_cases(data):
    dims = data.draw(st.integers(1, 3))

    def each(low, high):
        return tuple(data.draw(st.integers(low, high)) for _ in range(dims))

    kernel, dilation, stride = each(1, 3), each(1, 3), each(1, 3)
    padding = tuple(zip(each(0, 2), each(0, 2), strict=True))
    groups = data.draw(st.integers(1, 2))
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    size = tuple(max(1, s - sum(p)) + e for s, p, e in zip(spans, padding, each(0, 4), strict=True))
    case = ConvCase.of(
        data.draw(st.integers(1, 2)),
        groups * data.draw(st.integers(2, 33)),
        groups * data.draw(st.integers(2, 20)),
        size,
        kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
    assert_all_products(case, data.draw(st.sampled_from(["inner", "outer"])))


def test_checked_like_every_convolution():
    with pytest.raises(UserError, match="in_channels must be divisible by groups"):
        case_of(torch.ones(1, 3, 4, 4), torch.ones(2, 1, 3, 3), groups=2)
    with pytest.raises(UserError, match="weight of shape"):
        tensor_core_conv(torch.ones(1, 3, 4, 4), torch.ones(2, 2, 3, 3))
