"""The arithmetic of convolution shapes, on plain integers, in any number of dimensions.

No torch here: the command line may reason about shapes before it imports anything heavy.
Notation as in Dumoulin & Visin 2016 (arXiv 1603.07285): input i, kernel k, stride s,
padding p, dilation d; output o = floor((i + 2p - d(k-1) - 1) / s) + 1 (relationship 6, §2.4).
Every argument is one int for all dimensions or one for each; a padding may differ on the two
sides of a dimension. What cannot be raises `UserError`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from hubel.errors import UserError

__all__ = [
    "Padding",
    "PerDim",
    "ReceptiveField",
    "check_groups",
    "conv_macs",
    "conv_parameters",
    "dropped_pixels",
    "format_shape",
    "linear_parameters",
    "output_size",
    "pad_sides",
    "padding_for",
    "per_dim",
    "pooled_size",
    "require_at_least",
    "spread_kernel",
    "transposed_size",
    "unseen_pixels",
]

PerDim: TypeAlias = int | Sequence[int]
"""One int for all dimensions, or one for each."""

Padding: TypeAlias = int | Literal["same", "valid"] | Sequence[int | tuple[int, int]]
"""One int; one int or one (low, high) pair for each dimension; 'valid' (none); or 'same'."""


# torch counts sizes in 64 bits and cuDNN in 32.
_LARGEST = 2**31 - 1


def format_shape(*sizes: int) -> str:
    """`3×32×32`, the way every message and report writes a shape."""
    return "×".join(str(s) for s in sizes)


def per_dim(value: PerDim, dims: int, name: str = "value") -> tuple[int, ...]:
    """`value` for each of `dims` dimensions: one int for all, or one for each.

    >>> per_dim(3, 2), per_dim((1, 2, 3), 3)
    ((3, 3), (1, 2, 3))
    """
    values = tuple(value) if isinstance(value, Sequence) else (value,) * dims
    # A bool is an int to Python, never a size to a person.
    if any(isinstance(v, bool) or not isinstance(v, int) for v in values):
        raise UserError(f"{name} takes whole numbers, got {value!r}")
    if any(abs(v) > _LARGEST for v in values):
        raise UserError(f"{name} takes numbers up to {_LARGEST:,}, got {value!r}")
    if len(values) != dims:
        raise UserError(
            f"{name} takes one int or {dims} of them (one for each spatial dimension), got {values}"
        )
    return values


def require_at_least(name: str, values: Sequence[int], least: int) -> None:
    """Raise `UserError` if one of `values` is below `least`."""
    if min(values, default=least) < least:
        got = values[0] if len(set(values)) == 1 else tuple(values)
        raise UserError(f"{name} must be at least {least} in every dimension, got {got}")


def check_groups(in_channels: int, out_channels: int, groups: int) -> None:
    """Raise `UserError` unless both numbers of channels can be divided into `groups`."""
    for name, number in (
        ("in_channels", in_channels),
        ("out_channels", out_channels),
        ("groups", groups),
    ):
        require_at_least(name, per_dim(number, 1, name), 1)
    for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
        if channels % groups:
            fitting = [g for g in range(1, min(channels, 4096) + 1) if channels % g == 0]
            raise UserError(
                f"{name} must be divisible by groups, got {name} {channels} and groups {groups}; "
                f"{channels} can be divided by {', '.join(map(str, fitting[-6:]))}"
            )


def spread_kernel(kernel_size: int, dilation: int) -> int:
    """Pixels that a dilated kernel spans, d(k-1) + 1.

    >>> spread_kernel(3, dilation=2)
    5
    """
    return dilation * (kernel_size - 1) + 1


def pad_sides(
    padding: Padding,
    kernel_size: Sequence[int],
    *,
    stride: PerDim = 1,
    dilation: PerDim = 1,
) -> tuple[tuple[int, int], ...]:
    """(low, high) of each dimension. 'same' is d(k-1) in all, the odd one high, as in torch.

    >>> pad_sides("same", (3, 4)), pad_sides(((0, 1), 2), (3, 3))
    (((1, 1), (1, 2)), ((0, 1), (2, 2)))
    """
    dims = len(kernel_size)
    if isinstance(padding, str):
        if padding == "valid":
            return ((0, 0),) * dims
        if padding != "same":
            raise UserError(
                f"padding takes 'same', 'valid', an int, or one int or (low, high) pair for each "
                f"dimension, got '{padding}'"
            )
        if set(per_dim(stride, dims, "stride")) != {1}:
            raise UserError(
                f"padding 'same' needs stride 1 (a stride shrinks the map), got stride {stride}; "
                f"give the padding as numbers"
            )
        # The smallest total that keeps the size: padding_for(i, i) for every i.
        totals = [d * (k - 1) for k, d in zip(kernel_size, per_dim(dilation, dims), strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)
    sides: list[tuple[int, int]] = []
    numbers: int | Sequence[int | tuple[int, int]] = padding
    values = tuple(numbers) if isinstance(numbers, Sequence) else (numbers,) * dims
    if len(values) != dims or any(isinstance(v, Sequence) and len(v) != 2 for v in values):
        raise UserError(
            f"padding takes one int or {dims} of them (one for each spatial dimension, or a "
            f"(low, high) pair in its place), got {values}"
        )
    for value in values:
        low, high = per_dim(value, 2, "padding")
        require_at_least("padding", (low, high), 0)
        sides.append((low, high))
    return tuple(sides)


def _checked(
    size: Sequence[int], kernel_size: PerDim, stride: PerDim, dilation: PerDim
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    dims = len(size)
    found = (
        per_dim(size, dims, "input size"),
        per_dim(kernel_size, dims, "kernel_size"),
        per_dim(stride, dims, "stride"),
        per_dim(dilation, dims, "dilation"),
    )
    for name, values in zip(
        ("input size", "kernel_size", "stride", "dilation"), found, strict=True
    ):
        require_at_least(name, values, 1)
    return found


def output_size(
    size: Sequence[int],
    kernel_size: PerDim,
    *,
    stride: PerDim = 1,
    padding: Padding = 0,
    dilation: PerDim = 1,
) -> tuple[int, ...]:
    """Spatial size after a convolution. `UserError` if the kernel does not fit.

    >>> output_size((32, 32), 5), output_size((5, 5), 3, stride=2, padding=1)
    ((28, 28), (3, 3))
    """
    sizes, kernels, strides, dilations = _checked(size, kernel_size, stride, dilation)
    sides = pad_sides(padding, kernels, stride=strides, dilation=dilations)
    out = []
    for i, k, s, (low, high), d in zip(sizes, kernels, strides, sides, dilations, strict=True):
        room = low + i + high - spread_kernel(k, d)
        if room < 0:
            raise UserError(
                f"kernel_size {k}{f' with dilation {d}' if d > 1 else ''} spans "
                f"{spread_kernel(k, d)} pixels, more than the input's {i} with padding "
                f"{low} and {high}; give at least {-room} more padding, or a smaller kernel"
            )
        out.append(room // s + 1)
    return tuple(out)


def transposed_size(
    size: Sequence[int],
    kernel_size: PerDim,
    *,
    stride: PerDim = 1,
    padding: Padding = 0,
    output_padding: PerDim = 0,
    dilation: PerDim = 1,
) -> tuple[int, ...]:
    """Spatial size after a transposed convolution: (i-1)s - low - high + d(k-1) + 1 + a.

    `output_padding` a chooses among the sizes that the convolution would have mapped to `size`
    (Dumoulin & Visin 2016, relationship 14); it must be smaller than stride or dilation.

    >>> transposed_size((3, 3), 3, stride=2, padding=1, output_padding=(0, 1))
    (5, 6)
    """
    sizes, kernels, strides, dilations = _checked(size, kernel_size, stride, dilation)
    if padding == "same":
        raise UserError("padding 'same' has no meaning for a transposed convolution; give numbers")
    sides = pad_sides(padding, kernels)
    extras = per_dim(output_padding, len(sizes), "output_padding")
    require_at_least("output_padding", extras, 0)
    out = []
    for i, k, s, (low, high), a, d in zip(
        sizes, kernels, strides, sides, extras, dilations, strict=True
    ):
        if a >= max(s, d):
            raise UserError(
                f"output_padding must be smaller than stride or dilation, got output_padding {a} "
                f"with stride {s} and dilation {d}"
            )
        o = (i - 1) * s - low - high + spread_kernel(k, d) + a
        if o < 1:
            raise UserError(
                f"padding {low} and {high} leaves {o} pixels of the transposed convolution's "
                f"output; give at least {1 - o} less padding"
            )
        out.append(o)
    return tuple(out)


def pooled_size(
    size: Sequence[int],
    kernel_size: PerDim,
    *,
    stride: PerDim | None = None,
    padding: PerDim = 0,
    dilation: PerDim = 1,
    ceil_mode: bool = False,
) -> tuple[int, ...]:
    """Spatial size after pooling; the stride is the window unless given.

    With `ceil_mode` a last window may hang over the end by less than a stride, but must start
    inside the input or its low padding (torch's rule). Padding is at most half the window.

    >>> pooled_size((5, 5), 2), pooled_size((5, 5), 2, ceil_mode=True)
    ((2, 2), (3, 3))
    """
    dims = len(size)
    given = kernel_size if stride is None else stride
    sizes, kernels, strides, dilations = _checked(size, kernel_size, given, dilation)
    pads = per_dim(padding, dims, "padding")
    require_at_least("padding", pads, 0)
    for k, p in zip(kernels, pads, strict=True):
        if p > k // 2:
            raise UserError(
                f"padding of a pooling window is at most half its kernel_size (a window must "
                f"see the input), got padding {p} and kernel_size {k}"
            )
    # The ceiling is the floor with room for all but one pixel of another stride.
    sides = [(p, p + s - 1 if ceil_mode else p) for p, s in zip(pads, strides, strict=True)]
    out = output_size(sizes, kernels, stride=strides, padding=sides, dilation=dilations)
    return tuple(
        o if (o - 1) * s < i + p else o - 1
        for i, o, s, p in zip(sizes, out, strides, pads, strict=True)
    )


def dropped_pixels(
    size: Sequence[int],
    kernel_size: PerDim,
    *,
    stride: PerDim = 1,
    padding: Padding = 0,
    dilation: PerDim = 1,
) -> tuple[int, ...]:
    """How many pixels at the end of each dimension lie behind the last window.

    They are what the floor in the output size drops; padding is dropped first and not counted.

    >>> dropped_pixels((6, 6), 3, stride=2), dropped_pixels((6, 6), 3, stride=2, padding=1)
    ((1, 1), (0, 0))
    """
    sizes, kernels, strides, dilations = _checked(size, kernel_size, stride, dilation)
    out = output_size(sizes, kernels, stride=strides, padding=padding, dilation=dilations)
    sides = pad_sides(padding, kernels, stride=strides, dilation=dilations)
    return tuple(
        # The last pixel read has index (o-1)s + d(k-1) - low; padding alone may reach so far.
        max(0, min(i, i - ((o - 1) * s + spread_kernel(k, d) - low)))
        for i, o, k, s, (low, _), d in zip(
            sizes, out, kernels, strides, sides, dilations, strict=True
        )
    )


def unseen_pixels(
    size: Sequence[int],
    kernel_size: PerDim,
    *,
    stride: PerDim = 1,
    padding: Padding = 0,
    dilation: PerDim = 1,
) -> tuple[tuple[int, ...], ...]:
    """Indices in each dimension that no window reads: dropped at the end, or between windows.

    >>> unseen_pixels((7,), 2, stride=3)
    ((2, 5, 6),)
    """
    sizes, kernels, strides, dilations = _checked(size, kernel_size, stride, dilation)
    out = output_size(sizes, kernels, stride=strides, padding=padding, dilation=dilations)
    sides = pad_sides(padding, kernels, stride=strides, dilation=dilations)
    unseen = []
    for i, o, k, s, (low, _), d in zip(sizes, out, kernels, strides, sides, dilations, strict=True):
        seen = {window * s + tap * d - low for window in range(o) for tap in range(k)}
        unseen.append(tuple(pixel for pixel in range(i) if pixel not in seen))
    return tuple(unseen)


def padding_for(
    size: Sequence[int],
    output: Sequence[int],
    kernel_size: PerDim,
    *,
    stride: PerDim = 1,
    dilation: PerDim = 1,
) -> tuple[tuple[int, int], ...]:
    """The smallest (low, high) padding that gives the output size `output`; the odd one high.

    "Which padding keeps the size?" is ``padding_for(size, size, kernel_size)``. `UserError` if
    no padding does (the output would have to be smaller than without any).

    >>> padding_for((32, 32), (32, 32), 5), padding_for((32,), (16,), 3, stride=2)
    (((2, 2), (2, 2)), ((0, 1),))
    """
    sizes, kernels, strides, dilations = _checked(size, kernel_size, stride, dilation)
    wanted = per_dim(output, len(sizes), "output size")
    require_at_least("output size", wanted, 1)
    sides = []
    for i, o, k, s, d in zip(sizes, wanted, kernels, strides, dilations, strict=True):
        span = spread_kernel(k, d)
        total = max(0, (o - 1) * s + span - i)
        if (i + total - span) // s + 1 != o:
            raise UserError(
                f"no padding makes {o} of {i} pixels with kernel_size {k}, stride {s} and "
                f"dilation {d}: there are {(i - span) // s + 1} without any, and padding only "
                f"adds; take a larger stride or kernel_size"
            )
        sides.append((total // 2, total - total // 2))
    return tuple(sides)


@dataclass(frozen=True)
class ReceptiveField:
    """What one output pixel sees of the input, in pixels, one value a dimension.

    Output index o sees the `size` input pixels from ``start + o * jump`` on; a negative start
    lies in the padding. Layers compose (Araujo et al. 2019, Distill, "Computing receptive
    fields"), with the start of the field instead of its centre, so that all stay whole numbers.
    """

    size: tuple[int, ...]
    jump: tuple[int, ...]
    start: tuple[int, ...]

    @classmethod
    def identity(cls, dims: int) -> "ReceptiveField":
        """Of a layer that sees one pixel: itself."""
        return cls((1,) * dims, (1,) * dims, (0,) * dims)

    @classmethod
    def of_window(
        cls,
        kernel_size: Sequence[int],
        *,
        stride: PerDim = 1,
        padding: Padding = 0,
        dilation: PerDim = 1,
    ) -> "ReceptiveField":
        """Of one convolution or pooling layer."""
        # The field does not depend on the input's size: any will do.
        any_size = (1,) * len(kernel_size)
        _, kernels, strides, dilations = _checked(any_size, kernel_size, stride, dilation)
        sides = pad_sides(padding, kernels, stride=strides, dilation=dilations)
        return cls(
            tuple(spread_kernel(k, d) for k, d in zip(kernels, dilations, strict=True)),
            strides,
            tuple(-low for low, _ in sides),
        )

    def then(self, layer: "ReceptiveField") -> "ReceptiveField":
        """Of `layer` on top of this one.

        >>> conv = ReceptiveField.of_window((3, 3), padding=1)
        >>> conv.then(ReceptiveField.of_window((2, 2), stride=2)).then(conv).size
        (8, 8)
        """
        mine = zip(self.size, self.jump, self.start, strict=True)
        return ReceptiveField(
            tuple(
                r + (k - 1) * j for r, k, j in zip(self.size, layer.size, self.jump, strict=True)
            ),
            tuple(j * s for j, s in zip(self.jump, layer.jump, strict=True)),
            tuple(a + b * j for (_, j, a), b in zip(mine, layer.start, strict=True)),
        )

    def pixels(self, index: Sequence[int]) -> tuple[range, ...]:
        """The input pixels that the output at `index` sees; below 0 or too large is padding."""
        return tuple(
            range(a + o * j, a + o * j + r)
            for r, j, a, o in zip(self.size, self.jump, self.start, index, strict=True)
        )


def linear_parameters(in_features: int, out_features: int, bias: bool = True) -> int:
    """Weights and biases of a dense layer.

    >>> linear_parameters(10_000, 1_000, bias=False)
    10000000
    """
    require_at_least("in_features", (in_features,), 1)
    require_at_least("out_features", (out_features,), 1)
    return in_features * out_features + out_features * bias


def conv_parameters(
    in_channels: int,
    out_channels: int,
    kernel_size: Sequence[int],
    *,
    groups: int = 1,
    bias: bool = True,
) -> int:
    """Weights and biases of a convolution: they do not depend on the picture's size.

    >>> conv_parameters(3, 200, (5, 5))
    15200
    """
    check_groups(in_channels, out_channels, groups)
    require_at_least("kernel_size", kernel_size, 1)
    weights = out_channels * (in_channels // groups)
    for k in kernel_size:
        weights *= k
    return weights + out_channels * bias


def conv_macs(
    in_channels: int,
    out_channels: int,
    kernel_size: Sequence[int],
    output: Sequence[int],
    *,
    groups: int = 1,
) -> int:
    """Multiply-accumulates of a convolution for one sample of output size `output`, no bias."""
    macs = conv_parameters(in_channels, out_channels, kernel_size, groups=groups, bias=False)
    for o in output:
        macs *= o
    return macs
