"""Which method 'auto' takes: rules from measurements, of the case alone.

A rule stands here only where a method was far faster than torch's own convolution on two cores
(`benchmarks/conv_auto.py`, docs/benchmarks.md); everywhere else, and on every device that was not
measured, the answer is torch.
"""

import math
from functools import lru_cache

import torch

from hubel.conv.case import ConvCase

__all__ = ["choose_method"]

# torch computed about 14 FLOPs of the definition in the time in which `fft` did one of its own;
# twice that is asked for, because a wrong choice costs more than a missed one.
_FFT_ADVANTAGE = 30
# torch lowers float64 explicitly on a CPU; beyond this its matrix is slower than the taps.
_LOWERED_BYTES = 1 << 25


@lru_cache(maxsize=4096)
def choose_method(case: ConvCase, dtype: torch.dtype, device_type: str) -> str:
    """The name of the method that 'auto' takes for `case` in `dtype` on a device."""
    if device_type != "cpu" or dtype not in (torch.float32, torch.float64):
        return "torch"
    if 2 * case.macs > _FFT_ADVANTAGE * _fft_flops(case):
        return "fft"
    lowered = case.n * math.prod(case.output_size) * case.num_taps * case.in_channels
    if dtype == torch.float64 and case.groups == 1 and lowered * 8 > _LOWERED_BYTES:
        return "implicit"
    return "torch"


def _fft_flops(case: ConvCase) -> float:
    """About: 2.5 L log2 L for a real transform of L pixels, and the products between."""
    length = math.prod(
        low + i + max(high, d * (k - 1))
        for i, k, d, (low, high) in zip(
            case.size, case.kernel_size, case.dilation, case.padding, strict=True
        )
    )
    filters = case.in_channels * case.out_channels // case.groups
    maps = case.n * (case.in_channels + case.out_channels) + filters
    # Half of the frequencies, a complex multiply-accumulate is 8 FLOPs.
    return maps * 2.5 * length * math.log2(length + 1) + 4 * length * case.n * filters
