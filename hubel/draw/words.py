"""The words of a drawing for operations, shapes and numbers."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from hubel.shapes import format_shape

if TYPE_CHECKING:
    from hubel.draw.graph import Kind

__all__ = ["count_words", "operation_words", "same_per_dim", "shape_words", "window_words"]

_ACTIVATIONS = {
    "relu": "ReLU", "relu6": "ReLU6", "gelu": "GELU", "silu": "SiLU", "tanh": "tanh",
    "sigmoid": "sigmoid", "hardswish": "hard swish", "hardsigmoid": "hard sigmoid",
    "leakyrelu": "leaky ReLU", "elu": "ELU", "softmax": "softmax", "logsoftmax": "log softmax",
    "mish": "Mish", "prelu": "PReLU", "scaledtanh": "tanh", "hardtanh": "ReLU6",
}  # fmt: skip
_JOINS: "dict[str, tuple[Kind, str]]" = {
    "cat": ("concat", "concat"), "concat": ("concat", "concat"), "add": ("add", "+"),
    "iadd": ("add", "+"), "radd": ("add", "+"), "mul": ("multiply", "×"),
    "imul": ("multiply", "×"), "rmul": ("multiply", "×"),
}  # fmt: skip
# Moves of numbers that a drawing shows only where they change the shape.
_MOVES = {
    "flatten", "reshape", "view", "permute", "transpose", "unsqueeze", "squeeze", "getitem",
    "expand", "contiguous", "unflatten", "chunk", "split", "unbind", "movedim", "select", "to",
    "clone", "detach", "expand_as", "type_as", "float", "swapaxes",
}  # fmt: skip
_WORDS = {
    "sub": "difference", "rsub": "difference", "pow": "power", "neg": "negative", "div": "divide",
    "index_select": "select", "upsample_nearest2d": "upsample", "upsample_nearest3d": "upsample",
    "upsample_bilinear2d": "upsample", "upsample_trilinear3d": "upsample",
    "_upsample_nearest_exact2d": "upsample", "_upsample_nearest_exact3d": "upsample",
}  # fmt: skip
_NOTHING = {"Identity", "StochasticDepth", "DropPath"}


def operation_words(
    operation: nn.Module | str, inputs: Sequence[tuple[int, ...]], output: tuple[int, ...]
) -> "tuple[Kind, str] | None":
    """Kind and label of a module, or of a torch function by its name; None if it does nothing.

    `inputs` are shapes; of a function they count the batch, as does its `output`.
    """
    if isinstance(operation, str):
        return _function_words(operation, inputs, output)
    name = type(operation).__name__
    low = re.sub("[123]d$", "", name.lower())
    if name in _NOTHING:
        return None
    if low.startswith(("dropout", "alphadropout", "featurealphadropout")):
        rate = getattr(operation, "p", 0.0)
        return ("dropout", f"dropout {rate:g}") if rate else None
    kernel = getattr(operation, "kernel_size", None)
    dims = len(output) - 1
    if "conv" in low and kernel is not None:
        return "conv", _convolution(operation, dims)
    if "pool" in low or low.startswith("subsampl"):
        return "pool", _pooling(operation, low, inputs, output)
    if isinstance(operation, nn.Linear):
        return "dense", f"dense {output[-1]}"
    if isinstance(operation, nn.MultiheadAttention):
        return "attention", f"attention, {operation.num_heads} heads"
    if "norm" in low or "lrn" in low:
        return "norm", _norm(low)
    if low in _ACTIVATIONS:
        return "activation", _ACTIVATIONS[low]
    if low in ("flatten", "permute", "unflatten"):
        return "reshape", low
    return "other", name


def _convolution(module: Any, dims: int) -> str:
    label = f"conv {window_words(module.kernel_size, dims)}"
    groups = getattr(module, "groups", 1)
    if groups > 1:
        depthwise = groups == getattr(module, "in_channels", 0)
        label = f"depthwise {label[5:]}" if depthwise else f"{label}, {groups} groups"
    if getattr(module, "transposed", False):
        label = label.replace("conv", "up-conv", 1)
    dilation = same_per_dim(getattr(module, "dilation", 1), dims)
    label += f" dilation {dilation[0]}" if max(dilation, default=1) > 1 else ""
    return label + _stride(module, dims)


def _stride(module: Any, dims: int) -> str:
    stride = same_per_dim(getattr(module, "stride", 1), dims)
    return f" /{stride[0]}" if max(stride, default=1) > 1 else ""


def _pooling(
    module: Any, low: str, inputs: Sequence[tuple[int, ...]], output: tuple[int, ...]
) -> str:
    how = "max pool" if "max" in low else "avg pool" if "a" in low else "pool"
    kernel = getattr(module, "kernel_size", None)
    if kernel is not None:
        dims = len(output) - 1
        return f"{how} {window_words(kernel, dims)}{_stride(module, dims)}"
    if all(side == 1 for side in output[1:]):
        return f"global {how}"
    return f"{how} to {format_shape(*output[1:])}"


def _norm(low: str) -> str:
    for part, words in (
        ("batch", "batch norm"), ("layer", "layer norm"), ("group", "group norm"),
        ("instance", "instance norm"), ("localresponse", "local response norm"),
        ("lrn", "local response norm"), ("rms", "RMS norm"),
    ):  # fmt: skip
        if part in low:
            return words
    return "norm"


def _function_words(
    name: str, inputs: Sequence[tuple[int, ...]], output: tuple[int, ...]
) -> "tuple[Kind, str] | None":
    plain = name.rstrip("_")
    if plain in _JOINS:
        kind, label = _JOINS[plain]
        # Scaling by a number or adding one is no meeting of branches, but it is done.
        return kind, label
    low = plain.replace("_", "").removeprefix("native")
    if low in _ACTIVATIONS:
        return "activation", _ACTIVATIONS[low]
    if low.startswith("scaleddotproduct"):
        return "attention", "attention"
    if low in ("linear", "mm", "addmm"):
        return "dense", f"dense {output[-1]}"
    if low in ("bmm", "baddbmm"):
        return "attention", "matrix product"
    if low.startswith("conv"):
        return "conv", "conv"
    if low.startswith("dropout") or low == "featuredropout":
        return None
    if "pool" in low or low in ("mean", "amax"):
        wide = inputs and len(inputs[0]) > 2
        few = all(side == 1 for side in output[2:]) or low in ("mean", "amax")
        how = "max pool" if "max" in low else "avg pool"
        return "pool", f"global {how}" if wide and few else how
    if "norm" in low:
        return "norm", _norm(low)
    if low in _MOVES or plain in _MOVES:
        same = bool(inputs) and inputs[0] == output
        return None if same else ("reshape", "slice" if plain == "getitem" else plain)
    return "other", _WORDS.get(plain, plain)


def same_per_dim(value: Any, dims: int) -> tuple[int, ...]:
    """`value` for each of `dims` dimensions, whether it was given once or for each."""
    if isinstance(value, int):
        return (value,) * max(dims, 1)
    return tuple(value) if isinstance(value, list | tuple) else ()


def window_words(window: Any, dims: int) -> str:
    """`3×3`, or `3×3×3`."""
    return format_shape(*same_per_dim(window, dims))


def shape_words(shape: tuple[int, ...]) -> str:
    """`64×56×56`; the channels of a vector alone."""
    return format_shape(*shape)


def count_words(count: float) -> str:
    """A count with three digits and its unit.

    >>> count_words(61_706), count_words(138_357_544), count_words(840), count_words(0)
    ('61.7 k', '138 M', '840', '0')
    """
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size * 0.9995:
            value = count / size
            digits = 0 if value >= 99.95 else 1 if value >= 9.995 else 2
            return f"{value:.{digits}f} {unit}"
    return f"{count:.0f}"
