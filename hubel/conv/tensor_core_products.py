"""Output and both gradients of a convolution on tensor cores: one launch each.

The kernels, their source and their notation are in `hubel.conv.triton_kernels`. Nothing is
allocated beside the result where the tensors already lie with channels last; a tensor that does
not is copied once. The gradient to the weight alone needs room: where the weight has too few
tiles to fill the device, the pixels are split, and the partial sums (float32) of at most
``PROGRAMS_PER_SM · multiprocessors`` tiles of 128 × 128 are added in a fixed order: 17 MiB on
132 multiprocessors, and the same bits every time.

These functions check nothing; `hubel.conv.tensor_core` does.
"""

import math
from types import ModuleType
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from hubel.conv.case import ConvCase
from hubel.errors import UserError

__all__ = [
    "PROGRAMS_PER_SM",
    "Precision",
    "TapOrder",
    "conv_forward",
    "conv_grad_input",
    "conv_grad_weight",
    "load_kernels",
    "num_splits",
]

TapOrder: TypeAlias = Literal["inner", "outer"]
"""Which loop is inside: taps within a block of channels, or blocks of channels within a tap."""

Precision: TypeAlias = Literal["tf32", "ieee"]
"""How float32 is multiplied: rounded to 10 bits of fraction on tensor cores, or exactly."""

PROGRAMS_PER_SM = 2
"""Programs a multiprocessor that the split of the gradient to the weight aims at."""

MIN_CHANNELS = 16
"""Channels that one step of a tensor core sums in half precision; fewer are packed with taps."""


def conv_forward(
    input: Tensor,
    weight: Tensor,
    case: ConvCase,
    *,
    bias: Tensor | None = None,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    relu: bool = False,
    taps: TapOrder = "inner",
    precision: Precision = "tf32",
) -> Tensor:
    """Output (n, out_channels, *output_size). Arguments as in `tensor_core_conv`, unchecked."""
    output, out_map = _empty_map(input, case.n, case.out_channels, case.output_size)
    options = {
        "KERNEL": _three(case.kernel_size, 1),
        "STRIDE": _three(case.stride, 1),
        "DILATION": _three(case.dilation, 1),
        "ROW_STEP": _three(case.stride, 1),
        "TAP_SHIFT": _three(case.dilation, 1),
        "TAP_STEP": (1, 1, 1),
        "BOUNDS": _three(tuple(low + high > 0 for low, high in case.padding), False),
        "GRADIENT": False,
        "BIAS": bias is not None,
        "AFFINE": scale is not None,
        "RELU": relu,
    }
    _launch_gather(
        _as_map(input), _as_map(weight), out_map, (_vector(bias), _vector(scale), _vector(shift)),
        case, options, taps, precision,
    )  # fmt: skip
    return output


def conv_grad_input(
    grad_output: Tensor,
    weight: Tensor,
    case: ConvCase,
    *,
    taps: TapOrder = "inner",
    precision: Precision = "tf32",
) -> Tensor:
    """Gradient (n, in_channels, *size) of the plain convolution, by one launch."""
    grad, grad_map = _empty_map(grad_output, case.n, case.in_channels, case.size)
    common = [math.gcd(s, d) for s, d in zip(case.stride, case.dilation, strict=True)]
    options = {
        "KERNEL": _three(case.kernel_size, 1),
        "STRIDE": _three(case.stride, 1),
        "DILATION": _three(case.dilation, 1),
        "ROW_STEP": (1, 1, 1),
        # Two taps that meet the same phase are stride / gcd apart; the outputs that they read
        # are then dilation / gcd apart, backwards.
        "TAP_SHIFT": _three(tuple(-d // g for d, g in zip(case.dilation, common, strict=True)), -1),
        "TAP_STEP": _three(tuple(s // g for s, g in zip(case.stride, common, strict=True)), 1),
        "BOUNDS": _three(
            tuple(
                k > 1 or low + high > 0
                for k, (low, high) in zip(case.kernel_size, case.padding, strict=True)
            ),
            False,
        ),
        "GRADIENT": True,
        "BIAS": False,
        "AFFINE": False,
        "RELU": False,
    }
    _launch_gather(
        _as_map(grad_output), _as_map(weight), grad_map, (None, None, None),
        case, options, taps, precision,
    )  # fmt: skip
    return grad


def conv_grad_weight(
    grad_output: Tensor,
    input: Tensor,
    case: ConvCase,
    *,
    taps: TapOrder = "inner",
    precision: Precision = "tf32",
    splits: int | None = None,
) -> Tensor:
    """Gradient (out_channels, in_channels / groups, *kernel_size) of the plain convolution.

    `splits`: into how many parts the sum over pixels is cut (`num_splits` decides if None).
    """
    kernels = load_kernels()
    if splits is None:
        splits = num_splits(case, _num_multiprocessors(input))
    in_channels, out_channels = case.in_channels // case.groups, case.out_channels // case.groups
    grad, grad_map = _empty_map(input, case.out_channels, in_channels, case.kernel_size)
    # Whole blocks of pixels a split, for the largest BLOCK_K: only the last split is ragged.
    pixels = case.n * math.prod(case.output_size)
    chunk = -(-pixels // (64 * splits)) * 64
    splits = -(-pixels // chunk)
    partial = grad_map
    if splits > 1:
        partial = torch.empty((splits, *grad_map.shape), dtype=torch.float32, device=input.device)
    source, grad_out = _as_map(input), _as_map(grad_output)
    grad_size = tuple(grad_out.shape[1:4])
    multipliers, shifts = zip(*map(kernels.reciprocal, grad_size), strict=True)
    options = {
        "KERNEL": _three(case.kernel_size, 1),
        "STRIDE": _three(case.stride, 1),
        "DILATION": _three(case.dilation, 1),
        "BOUNDS": _three(tuple(low + high > 0 for low, high in case.padding), False),
        "TAPS": _order(taps, in_channels, case),
        "INT64": _needs_int64(source, grad_out),
        "ALIGN": _alignment(in_channels, out_channels),
        "PRECISION": precision,
    }

    def grid(meta: dict[str, Any]) -> tuple[int, int, int]:
        rows = -(-out_channels // meta["BLOCK_M"])
        if options["TAPS"] == "packed":
            columns = -(-case.num_taps * in_channels // meta["BLOCK_N"])
        else:
            columns = case.num_taps * -(-in_channels // meta["BLOCK_N"])
        return rows * columns, case.groups, splits

    _launch(
        kernels, kernels.tuned_weight_gemm, kernels.weight_gemm, grid,
        source, grad_out, partial, case.n,
        tuple(source.shape[1:4]), grad_size, case.groups,
        in_channels, out_channels, _lows(case), chunk, multipliers, shifts, options=options,
    )  # fmt: skip
    if splits > 1:
        grad_map.copy_(partial.sum(0))
    return grad


def num_splits(case: ConvCase, num_multiprocessors: int) -> int:
    """Parts of the sum over pixels: enough programs for the device, at least 512 pixels each."""
    in_channels, out_channels = case.in_channels // case.groups, case.out_channels // case.groups
    columns = case.num_taps * -(-in_channels // 128)
    if in_channels < MIN_CHANNELS:
        columns = -(-case.num_taps * in_channels // 128)
    tiles = -(-out_channels // 128) * columns * case.groups
    pixels = case.n * math.prod(case.output_size)
    return max(1, min(PROGRAMS_PER_SM * num_multiprocessors // tiles, pixels // 512))


def load_kernels() -> ModuleType:
    """`hubel.conv.triton_tuning`, or `UserError` where there is no Triton."""
    try:
        from hubel.conv import triton_tuning
    except ImportError as error:
        raise UserError(
            f"the tensor-core convolution needs Triton, which comes with torch on Linux only "
            f"({error}); take another method"
        ) from error
    return triton_tuning


def _launch_gather(
    source: Tensor,
    weight: Tensor,
    target: Tensor,
    vectors: tuple[Tensor | None, Tensor | None, Tensor | None],
    case: ConvCase,
    options: dict[str, Any],
    taps: TapOrder,
    precision: Precision,
) -> None:
    kernels = load_kernels()
    source_channels = source.shape[4] // case.groups
    target_channels = target.shape[4] // case.groups
    options |= {
        "TAPS": _order(taps, source_channels, case),
        "INT64": _needs_int64(source, target),
        "ALIGN": _alignment(source_channels, target_channels),
        "PRECISION": precision,
    }
    sizes = tuple(target.shape[1:4])
    strides = options["STRIDE"] if options["GRADIENT"] else (1, 1, 1)
    # Pixels of the largest phase; the smaller ones return early.
    rows = case.n * math.prod(-(-i // s) for i, s in zip(sizes, strides, strict=True))

    def grid(meta: dict[str, Any]) -> tuple[int, int, int]:
        tiles = -(-rows // meta["BLOCK_M"]) * -(-target_channels // meta["BLOCK_N"])
        return tiles, case.groups, math.prod(strides)

    _launch(
        kernels, kernels.tuned_gather_gemm, kernels.even_gather_gemm, grid,
        source, weight, target, *vectors, case.n, tuple(source.shape[1:4]), sizes, case.groups,
        source_channels, target_channels, _lows(case), options=options,
    )  # fmt: skip


def _launch(
    kernels: ModuleType, tuned: Any, plain: Any, grid: Any, *args: Any, options: dict[str, Any]
) -> None:
    """Tuned on a device; with fixed small blocks under the interpreter, which times nothing."""
    if kernels.INTERPRETED:
        plain[grid](*args, **options, **kernels.INTERPRETER_BLOCKS)
        return
    source: Tensor = args[0]
    with torch.cuda.device(source.device):  # Triton launches on the current device
        tuned[grid](*args, **options, enable_fp_fusion=True)


def _three(values: tuple[Any, ...], fill: Any) -> tuple[Any, Any, Any]:
    """(depth, height, width) of 1 to 3 dimensions."""
    depth, height, width = (fill,) * (3 - len(values)) + tuple(values)
    return depth, height, width


def _order(taps: TapOrder, channels: int, case: ConvCase) -> str:
    if channels < MIN_CHANNELS:
        return "packed"
    return taps if case.num_taps > 1 else "inner"  # one tap: one kernel to compile and tune


def _lows(case: ConvCase) -> tuple[int, int, int]:
    return _three(tuple(low for low, _ in case.padding), 0)


def _as_map(tensor: Tensor) -> Tensor:
    """(n, c, *spatial) as contiguous (n, depth, height, width, c)."""
    last = tensor.detach().movedim(1, -1).contiguous()
    n, *sizes, channels = last.shape
    return last.view(n, *_three(tuple(sizes), 1), channels)


def _vector(values: Tensor | None) -> Tensor | None:
    return None if values is None else values.detach().contiguous()


def _empty_map(
    like: Tensor, n: int, channels: int, sizes: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """A new (n, channels, *sizes) with channels last in memory, and its view by `_as_map`."""
    last = torch.empty((n, *sizes, channels), dtype=like.dtype, device=like.device)
    return last.movedim(-1, 1), last.view(n, *_three(sizes, 1), channels)


def _needs_int64(*tensors: Tensor) -> bool:
    return any(tensor.numel() >= 2**31 for tensor in tensors)


def _alignment(*channels: int) -> int:
    """Largest power of two, up to 16, that divides every number of channels."""
    return math.gcd(16, *channels)


def _num_multiprocessors(input: Tensor) -> int:
    if input.device.type == "cuda":
        return torch.cuda.get_device_properties(input.device).multi_processor_count
    return 1
