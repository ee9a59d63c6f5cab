"""The sizes of a walk step by step: the formulas of `hubel.shapes` with their numbers filled in."""

from dataclasses import dataclass

from hubel.conv.worked import Walk
from hubel.shapes import ReceptiveField, padding_for, spread_kernel

__all__ = ["AXES", "SizeStep", "receptive_field", "same_size_padding", "size_steps"]

AXES = {1: ("position",), 2: ("row", "column"), 3: ("slice", "row", "column")}
"""What a spatial dimension is called, by the number of them."""


@dataclass(frozen=True)
class SizeStep:
    """The way to one dimension's output size: (what, formula with numbers) in order."""

    axis: str
    lines: tuple[tuple[str, str], ...]
    remainder: int
    """What the floor drops, in pixels of the padded input; 0 for a transposed convolution."""


def size_steps(walk: Walk) -> tuple[SizeStep, ...]:
    """One `SizeStep` a dimension."""
    return tuple(
        _transposed(walk, axis)
        if walk.operation == "transposed convolution"
        else _sliding(walk, axis)
        for axis in range(len(walk.size))
    )


def _name(walk: Walk, axis: int) -> str:
    return AXES[len(walk.size)][axis]


def _sliding(walk: Walk, axis: int) -> SizeStep:
    """o = ⌊(i + low + high − d(k − 1) − 1) / s⌋ + 1 (Dumoulin & Visin 2016, relationship 6)."""
    i, k, s, d = walk.size[axis], walk.kernel_size[axis], walk.stride[axis], walk.dilation[axis]
    (low, high), o = walk.padding[axis], walk.output_size[axis]
    padded, span = low + i + high, spread_kernel(k, d)
    remainder = (padded - span) % s
    return SizeStep(
        _name(walk, axis),
        (
            ("padded", f"{low} + {i} + {high} = {padded}"),
            ("kernel spans", f"{d}·({k} − 1) + 1 = {span}"),
            ("output", f"⌊({padded} − {span}) / {s}⌋ + 1 = {o}, remainder {remainder}"),
        ),
        remainder,
    )


def _transposed(walk: Walk, axis: int) -> SizeStep:
    """o = (i − 1)s − low − high + d(k − 1) + 1 + a (Dumoulin & Visin 2016, relationship 14)."""
    i, k, s, d = walk.size[axis], walk.kernel_size[axis], walk.stride[axis], walk.dilation[axis]
    (low, high), a, o = walk.padding[axis], walk.output_padding[axis], walk.output_size[axis]
    span = spread_kernel(k, d)
    return SizeStep(
        _name(walk, axis),
        (
            ("spread input", f"({i} − 1)·{s} + 1 = {(i - 1) * s + 1}"),
            ("kernel spans", f"{d}·({k} − 1) + 1 = {span}"),
            ("border", f"{span} − 1 − {low} = {span - 1 - low} before, "
                       f"{span} − 1 − {high} + {a} = {span - 1 - high + a} after"),
            ("output", f"({i} − 1)·{s} − {low} − {high} + {span} + {a} = {o}"),
        ),
        0,
    )  # fmt: skip


def receptive_field(walk: Walk) -> ReceptiveField | None:
    """What one output pixel sees; None for a transposed convolution, where it differs by pixel."""
    if walk.operation == "transposed convolution":
        return None
    return ReceptiveField.of_window(
        walk.kernel_size, stride=walk.stride, padding=walk.padding, dilation=walk.dilation
    )


def same_size_padding(walk: Walk) -> tuple[tuple[int, int], ...] | None:
    """The padding with which the output would be as large as the input; None if there is none
    to give: for a transposed convolution, and where pooling's rule (the same on both sides, at
    most half a window) does not allow it."""
    if walk.operation == "transposed convolution":
        return None
    sides = padding_for(
        walk.size, walk.size, walk.kernel_size, stride=walk.stride, dilation=walk.dilation
    )
    if walk.operation in ("max", "average") and any(
        low != high or high > k // 2 for (low, high), k in zip(sides, walk.kernel_size, strict=True)
    ):
        return None
    return sides
