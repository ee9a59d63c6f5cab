"""The convolution: its definition, every road from it to GEMM, and its filters.

`hubel.conv.conv(input, weight, ..., method=...)` computes; `hubel.conv.swap(model, method)` makes
a whole network compute so; `hubel.conv.METHODS` has the list.
"""

from typing import TYPE_CHECKING, Any

__all__ = ["METHODS", "conv", "swap"]

if TYPE_CHECKING:
    from hubel.conv.convolve import conv
    from hubel.conv.method import METHODS
    from hubel.conv.swapping import swap

_HOMES = {"METHODS": "method", "conv": "convolve", "swap": "swapping"}


def __getattr__(name: str) -> Any:
    # Filters and worked examples need no torch; only these do.
    if name not in _HOMES:
        raise AttributeError(f"module 'hubel.conv' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f"hubel.conv.{_HOMES[name]}"), name)
