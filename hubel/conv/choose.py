"""Which method is the fastest for a case: rules from measurements, not from hopes.

`benchmarks/conv_cpu.py` measures all methods; docs/benchmarks.md has its table. A rule
stands here only where a method beat torch's own convolution by far on that table.
"""

from torch import Tensor

from hubel.conv.case import ConvCase

__all__ = ["choose_method"]


def choose_method(case: ConvCase, input: Tensor) -> str:
    """The name of the method that 'auto' takes."""
    return "torch"
