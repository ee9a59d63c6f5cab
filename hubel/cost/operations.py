"""What torch's operations are: their kind, and the matrix products they come down to.

One literal table from the operation's name to its kind and, where it multiplies matrices, a
function to its GEMMs. An operation that is not in the table has no MACs; its kind is
"elementwise" if torch marks it as such, and its own name otherwise.
"""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import torch

from hubel.conv.case import ConvCase
from hubel.cost.records import Gemm

__all__ = ["KINDS", "conv_case", "gemms_of", "is_repeatable", "kind_of"]

Bound: TypeAlias = dict[str, Any]
"""Arguments by the names of the operation's schema."""


def _conv(a: Bound, outputs: list[torch.Tensor]) -> list[Gemm]:
    """M = N·P·Q, K = R·S·C/G, N = out/G; transposed: its input's positions onto all taps."""
    weight, groups = a["weight"], a["groups"]
    taps = math.prod(weight.shape[2:])
    if a["transposed"]:
        n, c, *size = a["input"].shape
        return [Gemm(n * math.prod(size), c // groups, weight.shape[1] * taps, groups)]
    n, out, *size = outputs[0].shape
    return [Gemm(n * math.prod(size), weight.shape[1] * taps, out // groups, groups)]


def _conv_backward(a: Bound, outputs: list[torch.Tensor]) -> list[Gemm]:
    """One product as large as the forward one for each of input and weight that needs it."""
    weight, groups = a["weight"], a["groups"]
    taps = math.prod(weight.shape[2:])
    n, out, *size = a["grad_output"].shape
    m, k, columns = n * math.prod(size), weight.shape[1] * taps, out // groups
    if a["transposed"]:
        n, c, *size = a["input"].shape
        m, k, columns = n * math.prod(size), c // groups, weight.shape[1] * taps
    wanted = a["output_mask"]
    found = [Gemm(m, columns, k, groups)] * bool(wanted[0])
    return found + [Gemm(k, m, columns, groups)] * bool(wanted[1])


def _product(first: str, second: str) -> "GemmRule":
    def rule(a: Bound, outputs: list[torch.Tensor]) -> list[Gemm]:
        *batch, m, k = a[first].shape
        return [Gemm(m, k, a[second].shape[-1], math.prod(batch))]

    return rule


def _attention(a: Bound, outputs: list[torch.Tensor]) -> list[Gemm]:
    """Scores (rows × width × columns) and their average (rows × columns × width), a head."""
    *batch, rows, width = a["query"].shape
    columns, out_width = a["key"].shape[-2], a["value"].shape[-1]
    count = math.prod(batch)
    return [Gemm(rows, width, columns, count), Gemm(rows, columns, out_width, count)]


def _attention_backward(a: Bound, outputs: list[torch.Tensor]) -> list[Gemm]:
    """Scores once more, then the gradients of scores, values, queries and keys."""
    *batch, rows, width = a["query"].shape
    columns, out_width = a["key"].shape[-2], a["value"].shape[-1]
    count = math.prod(batch)
    return [
        Gemm(rows, width, columns, count),
        Gemm(rows, out_width, columns, count),
        Gemm(columns, rows, out_width, count),
        Gemm(rows, columns, width, count),
        Gemm(columns, rows, width, count),
    ]


def _vectors(a: Bound, outputs: list[torch.Tensor]) -> list[Gemm]:
    """dot, vdot: rows of one number."""
    return [Gemm(1, a["self"].shape[0], 1)]


def _vector(matrix: str) -> "GemmRule":
    def rule(a: Bound, outputs: list[torch.Tensor]) -> list[Gemm]:
        rows, columns = a[matrix].shape
        return [Gemm(rows, columns, 1)]

    return rule


def _trilinear(a: Bound, outputs: list[torch.Tensor]) -> list[Gemm]:
    """nn.Bilinear, x·W·y: one MAC a term, as in the product of x and W; that with y is less."""
    sizes: dict[int, int] = {}  # of each dimension of the sum
    for which in ("1", "2", "3"):
        tensor, absent = a[f"i{which}"], a[f"expand{which}"]
        present = [d for d in range(tensor.dim() + len(absent)) if d not in absent]
        sizes.update(zip(present, tensor.shape, strict=True))
    return [Gemm(1, math.prod(sizes.values()), 1)]


def _recurrent(a: Bound, outputs: list[torch.Tensor]) -> list[Gemm]:
    """A layer of a recurrent network: all steps' inputs at once, their states step by step."""
    steps, n, features = a["input"].shape  # the steps come first, whatever batch_first says
    gates, hidden = a["weight1"].shape
    return [Gemm(steps * n, features, gates), Gemm(n, hidden, gates, steps)]


def _recurrent_backward(a: Bound, outputs: list[torch.Tensor]) -> list[Gemm]:
    """The gradients of the inputs, of the states and of both weights."""
    steps, n, features = a["input"].shape
    gates, hidden = a["weight2"].shape
    return [
        Gemm(steps * n, gates, features),
        Gemm(n, gates, hidden, steps),
        Gemm(gates, steps * n, features),
        Gemm(gates, n, hidden, steps),
    ]


GemmRule: TypeAlias = Callable[[Bound, list[torch.Tensor]], list[Gemm]]

# fmt: off
KINDS: dict[str, tuple[str, GemmRule | None]] = {
    "convolution": ("conv", _conv),
    "convolution_backward": ("conv", _conv_backward),
    "mm": ("matmul", _product("self", "mat2")),
    "addmm": ("matmul", _product("mat1", "mat2")),
    "bmm": ("matmul", _product("self", "mat2")),
    "baddbmm": ("matmul", _product("batch1", "batch2")),
    "addbmm": ("matmul", _product("batch1", "batch2")),
    "mv": ("matmul", _vector("self")), "addmv": ("matmul", _vector("mat")),
    "dot": ("matmul", _vectors), "vdot": ("matmul", _vectors),
    "_trilinear": ("matmul", _trilinear),
    "mkldnn_rnn_layer": ("recurrent", _recurrent),
    "mkldnn_rnn_layer_backward": ("recurrent", _recurrent_backward),
    "_scaled_dot_product_flash_attention_for_cpu": ("attention", _attention),
    "_scaled_dot_product_flash_attention": ("attention", _attention),
    "_scaled_dot_product_efficient_attention": ("attention", _attention),
    "_scaled_dot_product_cudnn_attention": ("attention", _attention),
    "_scaled_dot_product_flash_attention_for_cpu_backward": ("attention", _attention_backward),
    "_scaled_dot_product_flash_attention_backward": ("attention", _attention_backward),
    "_scaled_dot_product_efficient_attention_backward": ("attention", _attention_backward),
    "_scaled_dot_product_cudnn_attention_backward": ("attention", _attention_backward),
    "native_batch_norm": ("batch_norm", None),
    "_native_batch_norm_legit": ("batch_norm", None),
    "_native_batch_norm_legit_no_training": ("batch_norm", None),
    "_batch_norm_with_update": ("batch_norm", None),
    "_batch_norm_no_update": ("batch_norm", None),
    "cudnn_batch_norm": ("batch_norm", None),
    "native_layer_norm": ("layer_norm", None),
    "native_group_norm": ("group_norm", None),
    "max_pool2d_with_indices": ("pool", None),
    "max_pool3d_with_indices": ("pool", None),
    "max_pool2d": ("pool", None),
    "max_pool3d": ("pool", None),
    "avg_pool1d": ("pool", None),
    "avg_pool2d": ("pool", None),
    "avg_pool3d": ("pool", None),
    "_adaptive_avg_pool2d": ("pool", None),
    "_adaptive_avg_pool3d": ("pool", None),
    "adaptive_max_pool2d": ("pool", None),
    "adaptive_max_pool3d": ("pool", None),
    "relu": ("activation", None), "hardtanh": ("activation", None),
    "leaky_relu": ("activation", None), "elu": ("activation", None),
    "gelu": ("activation", None), "silu": ("activation", None),
    "mish": ("activation", None), "hardswish": ("activation", None),
    "hardsigmoid": ("activation", None), "sigmoid": ("activation", None),
    "tanh": ("activation", None), "softplus": ("activation", None),
    "log_sigmoid_forward": ("activation", None), "_prelu_kernel": ("activation", None),
    "clamp": ("activation", None), "clamp_min": ("activation", None),
    "_softmax": ("softmax", None), "_log_softmax": ("softmax", None),
    "add": ("add", None), "sub": ("add", None),
    "mul": ("multiply", None), "div": ("multiply", None),
    "mean": ("mean", None), "sum": ("sum", None),
    "cat": ("cat", None), "stack": ("cat", None),
    "constant_pad_nd": ("pad", None), "reflection_pad2d": ("pad", None),
    "clone": ("copy", None), "copy": ("copy", None), "_to_copy": ("copy", None),
    "native_dropout": ("dropout", None), "bernoulli": ("dropout", None),
    "embedding": ("embedding", None), "view": ("flatten", None),
}
# fmt: on


def plain_name(func: torch._ops.OpOverload) -> str:
    """The name `relu` of aten::relu_ and aten::relu alike."""
    return func._schema.name.split("::")[1].removesuffix("_")


def kind_of(func: torch._ops.OpOverload) -> str:
    """The kind of an operation, in words for a person."""
    name = plain_name(func)
    if name in KINDS:
        return KINDS[name][0]
    return "elementwise" if torch.Tag.pointwise in func.tags else name.strip("_")


def gemms_of(
    func: torch._ops.OpOverload, bound: Bound, outputs: list[torch.Tensor]
) -> tuple[Gemm, ...]:
    """The matrix products of one operation."""
    rule = KINDS.get(plain_name(func), ("", None))[1]
    return () if rule is None else tuple(rule(bound, outputs))


def conv_case(func: torch._ops.OpOverload, bound: Bound) -> ConvCase | None:
    """The convolution that an operation, forward or backward, is about."""
    if plain_name(func) not in ("convolution", "convolution_backward") or bound["transposed"]:
        return None
    n, in_channels, *size = bound["input"].shape
    out_channels, _, *kernel_size = bound["weight"].shape
    dims = len(size)

    def each(name: str) -> tuple[int, ...]:
        values = tuple(bound[name])
        return values * dims if len(values) == 1 else values

    return ConvCase.of(
        n,
        in_channels,
        out_channels,
        tuple(size),
        tuple(kernel_size),
        stride=each("stride"),
        padding=each("padding"),
        dilation=each("dilation"),
        groups=bound["groups"],
    )


def is_repeatable(func: torch._ops.OpOverload) -> bool:
    """Whether an operation can be made again on any numbers of the right shapes.

    Some keep private records in their tensors, as recurrent layers do, and crash on others.
    """
    name = plain_name(func)
    if any(word in name for word in ("rnn", "lstm", "gru")):
        return False
    known = name in KINDS or name.endswith("_backward")
    return known or torch.Tag.pointwise in func.tags or torch.Tag.core in func.tags
