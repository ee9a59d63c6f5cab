"""What 'auto' takes, and that it computes."""

import pytest
import torch

from hubel.conv import conv, reference
from hubel.conv.case import ConvCase
from hubel.conv.choose import choose_method

USUAL = ConvCase.of(8, 64, 64, (56, 56), 3, padding=1)
LONG = ConvCase.of(4, 16, 32, (4096,), 1001, padding=500)
DEPTHWISE = ConvCase.of(4, 64, 64, (56, 56), 31, padding=15, groups=64)


@pytest.mark.parametrize(
    ("case", "dtype", "device", "expected"),
    [
        (USUAL, torch.float32, "cpu", "torch"),
        (LONG, torch.float32, "cpu", "fft"),
        (LONG, torch.bfloat16, "cpu", "torch"),
        (LONG, torch.float32, "cuda", "torch"),
        (DEPTHWISE, torch.float32, "cpu", "torch"),
        (USUAL, torch.float64, "cpu", "implicit"),
        (ConvCase.of(1, 64, 64, (7, 7), 3, padding=1), torch.float64, "cpu", "torch"),
    ],
)
def test_the_choice_follows_case_dtype_and_device(case, dtype, device, expected):
    assert choose_method(case, dtype, device) == expected


@pytest.mark.parametrize("method", ["fft", "implicit"])
def test_auto_computes_by_the_method_it_chose(method, monkeypatch):
    case = {"fft": ConvCase.of(4, 16, 16, (600,), 501, padding=250), "implicit": USUAL}[method]
    called = []
    from hubel.conv import METHODS

    road = METHODS[method]
    forward = road.forward
    monkeypatch.setattr(
        road, "forward", lambda *tensors: called.append(method) or forward(*tensors)
    )
    dtype = torch.float64
    x, w = torch.randn(case.input_shape, dtype=dtype), torch.randn(case.weight_shape, dtype=dtype)
    found = conv(x, w, padding=case.padding)
    assert called == [method]
    torch.testing.assert_close(found, conv(x, w, padding=case.padding, method="torch"))
    if method == "fft":
        expected = reference.convolution(x, w, padding=case.padding)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
