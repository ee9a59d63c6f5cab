"""The arithmetic of convolution shapes, on plain integers, in any number of dimensions.

No torch here: the command line may reason about shapes before it imports anything heavy.
Notation as in Dumoulin & Visin 2016 (arXiv 1603.07285): input i, kernel k, stride s,
padding p, dilation d; output o = floor((i + 2p - d(k-1) - 1) / s) + 1 (relationship 6, §2.4).
"""

from collections.abc import Sequence

__all__ = ["format_shape", "output_size", "per_dim"]


def per_dim(value: int | Sequence[int], dims: int) -> tuple[int, ...]:
    """`value` for each of `dims` dimensions: one int for all, or one for each.

    >>> per_dim(3, 2), per_dim((1, 2, 3), 3)
    ((3, 3), (1, 2, 3))
    """
    if isinstance(value, int):
        return (value,) * dims
    if len(value) != dims:
        raise ValueError(f"expected one int or {dims} of them, got {tuple(value)}")
    return tuple(value)


def output_size(
    size: Sequence[int],
    kernel_size: int | Sequence[int],
    *,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
) -> tuple[int, ...]:
    """Spatial size after a convolution or pooling window; may be 0 or less if it does not fit.

    >>> output_size((32, 32), 5), output_size((5, 5), 3, stride=2, padding=1)
    ((28, 28), (3, 3))
    """
    dims = len(size)
    return tuple(
        (i + 2 * p - d * (k - 1) - 1) // s + 1
        for i, k, s, p, d in zip(
            size,
            per_dim(kernel_size, dims),
            per_dim(stride, dims),
            per_dim(padding, dims),
            per_dim(dilation, dims),
            strict=True,
        )
    )


def format_shape(*sizes: int) -> str:
    """`3×32×32`, the way every message and report writes a shape."""
    return "×".join(str(s) for s in sizes)
