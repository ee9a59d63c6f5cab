"""Convolution on tensor cores: implicit GEMM in Triton, forward and both gradients.

The kernels, their source and their notation are in `hubel.conv.triton_kernels`. Nothing is
allocated beside the result where the tensors already lie with channels last; a tensor that does
not is copied once. The gradient to the weight alone needs room: where the weight has too few
tiles to fill the device, the pixels are split, and the partial sums (float32) of at most
``PROGRAMS_PER_SM · multiprocessors`` tiles of 128 × 128 are added in a fixed order: 17 MiB on
132 multiprocessors, and the same bits every time.
"""

import math
from types import ModuleType
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hubel.conv.case import ConvCase, case_of
from hubel.errors import UserError
from hubel.shapes import Padding, PerDim

__all__ = [
    "PROGRAMS_PER_SM",
    "Precision",
    "TapOrder",
    "check_place",
    "conv_forward",
    "conv_grad_input",
    "conv_grad_weight",
    "num_splits",
    "tensor_core_conv",
    "tensor_core_limits",
]

TapOrder: TypeAlias = Literal["inner", "outer"]
"""Which loop is inside: taps within a block of channels, or blocks of channels within a tap."""

Precision: TypeAlias = Literal["tf32", "ieee"]
"""How float32 is multiplied: rounded to 10 bits of fraction on tensor cores, or exactly."""

PROGRAMS_PER_SM = 2
"""Programs a multiprocessor that the split of the gradient to the weight aims at."""

MIN_CHANNELS = 16
"""Channels that one step of a tensor core sums in half precision; fewer are packed with taps."""

DTYPES = (torch.float16, torch.bfloat16, torch.float32)


def tensor_core_conv(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: PerDim = 1,
    padding: Padding = 0,
    dilation: PerDim = 1,
    groups: int = 1,
    relu: bool = False,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    taps: TapOrder = "inner",
    precision: Precision = "tf32",
) -> Tensor:
    """Convolution of 1 to 3 dimensions: ``relu((conv(input, weight) + bias) * scale + shift)``.

    Parameters
    ----------
    input: (n, in_channels, *size) on a CUDA device, float16, bfloat16 or float32.
    weight: (out_channels, in_channels / groups, *kernel_size), as input in dtype and device.
    bias: (out_channels,).
    relu: clamp the result at zero, before it is written.
    scale, shift: (out_channels,), both or none: a folded batch normalisation. They are
        constants: gradients go to input, weight and bias only.
    taps: the order of the two inner loops (Zhou et al. 2021): "inner" walks all taps of the
        kernel for each block of channels, "outer" all channels for each tap. The result is
        the same up to the order of summation.
    precision: for float32 only.

    Returns (n, out_channels, *output_size) with channels last in memory. Sums are float32.
    `UserError` for what cannot be computed here; see `tensor_core_limits`.
    """
    case = case_of(
        input, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups
    )
    for name, got, known in (
        ("taps", taps, ("inner", "outer")),
        ("precision", precision, ("tf32", "ieee")),
    ):
        if got not in known:
            raise UserError(f"{name} takes '{known[0]}' or '{known[1]}', got {got!r}")
    _check_affine(scale, shift, input, case)
    check_place(input)
    limits = tensor_core_limits(case)
    if limits is not None:
        raise UserError(f"the tensor-core convolution {limits}")
    result: Tensor = _TensorCoreConv.apply(
        input, weight, bias, scale, shift, case, relu, taps, precision
    )
    return result


def tensor_core_limits(case: ConvCase) -> str | None:
    """Why the kernels do not take `case`, or None."""
    if case.groups > 1 and min(case.in_channels, case.out_channels) == case.groups:
        return (
            f"has no matrix product to compute where a group has a single channel (depthwise), "
            f"got {case.in_channels} to {case.out_channels} channels in {case.groups} groups; "
            f"take another method"
        )
    pixels = max(case.n * math.prod(case.size), case.n * math.prod(case.output_size))
    if pixels > 2**30:
        return f"counts pixels in 32 bits, at most 2^30 a batch, got {pixels}; split the batch"
    return None


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
    kernels = _kernels()
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
    tiles = (
        -(-case.out_channels // case.groups // 128)
        * -(-case.in_channels // case.groups // 128)
        * case.num_taps
        * case.groups
    )
    pixels = case.n * math.prod(case.output_size)
    return max(1, min(PROGRAMS_PER_SM * num_multiprocessors // tiles, pixels // 512))


class _TensorCoreConv(torch.autograd.Function):
    """The three products behind autograd. Keeps the output only where a ReLU needs its sign."""

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        scale: Tensor | None,
        shift: Tensor | None,
        case: ConvCase,
        relu: bool,
        taps: TapOrder,
        precision: Precision,
    ) -> Tensor:
        output = conv_forward(
            input,
            weight,
            case,
            bias=bias,
            scale=scale,
            shift=shift,
            relu=relu,
            taps=taps,
            precision=precision,
        )
        ctx.save_for_backward(input, weight, scale, output if relu else None)
        ctx.case, ctx.taps, ctx.precision = case, taps, precision
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        input, weight, scale, clamped = ctx.saved_tensors
        case, order = ctx.case, {"taps": ctx.taps, "precision": ctx.precision}
        if clamped is not None:
            grad = torch.where(clamped > 0, grad, 0)
        if scale is not None:
            grad = (grad * scale.view(-1, *[1] * case.dims)).to(grad.dtype)
        want_input, want_weight, want_bias = ctx.needs_input_grad[:3]
        if want_input or want_weight:
            grad = _channels_last(grad)
        return (
            conv_grad_input(grad, weight, case, **order) if want_input else None,
            conv_grad_weight(grad, input, case, **order) if want_weight else None,
            grad.sum((0, *range(2, grad.dim()))) if want_bias else None,
            *[None] * 6,
        )


def _kernels() -> ModuleType:
    try:
        from hubel.conv import triton_kernels
    except ImportError as error:
        raise UserError(
            f"the tensor-core convolution needs Triton, which comes with torch on Linux only "
            f"({error}); take another method"
        ) from error
    return triton_kernels


def check_place(input: Tensor) -> None:
    """`UserError` unless the kernels can run where `input` lies, and in its dtype."""
    if input.dtype not in DTYPES:
        raise UserError(
            f"the tensor-core convolution takes float16, bfloat16 or float32, got {input.dtype}; "
            f"convert input and weight, or take another method"
        )
    if input.device.type == "cuda":
        return
    if input.device.type == "cpu" and _kernels().INTERPRETED:
        return
    raise UserError(
        f"the tensor-core convolution needs a CUDA device, got input on {input.device}; move "
        f"input and weight with .to('cuda'), or take another method (TRITON_INTERPRET=1 runs "
        f"the kernels on a CPU, slowly, to check them)"
    )


def _check_affine(
    scale: Tensor | None, shift: Tensor | None, input: Tensor, case: ConvCase
) -> None:
    if (scale is None) != (shift is None):
        given = "scale" if shift is None else "shift"
        raise UserError(f"scale and shift are given both or not at all, got only {given}")
    for name, vector in (("scale", scale), ("shift", shift)):
        if vector is None:
            continue
        if vector.shape != (case.out_channels,):
            raise UserError(
                f"{name} takes one number for each of the {case.out_channels} output channels, "
                f"got shape {tuple(vector.shape)}"
            )
        if vector.device != input.device:
            raise UserError(
                f"{name} is on {vector.device} and input on {input.device}; they must be on the "
                f"same device: {name}.to(input.device)"
            )
        if vector.requires_grad and torch.is_grad_enabled():
            raise UserError(
                f"{name} is a constant of a folded batch normalisation and takes no gradient; "
                f"give {name}.detach()"
            )


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
    kernels = _kernels()
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
        kernels, kernels.tuned_gather_gemm, kernels.gather_gemm, grid,
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


def _channels_last(tensor: Tensor) -> Tensor:
    """The same (n, c, *spatial), with channels last in memory; a copy only if they are not."""
    return tensor.movedim(1, -1).contiguous().movedim(-1, 1)


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
