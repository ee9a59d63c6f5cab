# mypy: ignore-errors
# The language of a Triton kernel is Python's grammar, not Python's types.
"""Implicit-GEMM convolution on tensor cores: two Triton kernels for all three products.

The channel-first implicit road of Zhou et al. 2021 (arXiv 2110.03901): a kernel of
H_F × W_F taps is H_F·W_F kernels of 1 × 1, and each tap is a plain GEMM between the input,
shifted and strided, and that tap's matrix of weights. All taps add to one accumulator in
registers, so the lowered matrix never exists. The paper's letters, and the names here:

    N, H_I × W_I, C_I    n, source_size, source_channels    (forward)
    H_F × W_F            KERNEL; a tap is one position of it
    H_O × W_O, C_O       target_size, target_channels       (forward)
    M = N·H_O·W_O        rows of the GEMM, BLOCK_M at a time
    N = C_O              its columns, BLOCK_N
    K = H_F·W_F·C_I      what is summed, BLOCK_K at a time, in the order that TAPS names

TAPS is the paper's switch. "inner": for each block of channels walk all taps; neighbouring taps
read nearly the same pixels of the same channels, which the caches still hold. "outer": for each
tap walk all channels; by the next tap the tile may be gone. "packed" is for fewer channels than
one step of a tensor core (a picture's three): taps and channels share BLOCK_K.

Tensors are contiguous with channels last: maps (n, depth, height, width, channels), weights
(out_channels, depth, height, width, in_channels / groups). One and two spatial dimensions have
sizes of 1 in front. Sums are float32.

`gather_gemm` is forward and input gradient. The gradient for stride s falls into s phases of
target pixels, by (pixel + padding) mod s: each phase is met by every (s / gcd(s, dilation))-th
tap only, and is a convolution of stride 1 over grad_output. So nothing is multiplied by the
zeros that a transposed convolution would insert. `weight_gemm` sums over pixels.

Import this module only where Triton is wanted: `triton` comes with torch on Linux alone.
"""

import triton
import triton.language as tl

__all__ = ["INTERPRETED", "gather_gemm", "reciprocal", "weight_gemm"]

INTERPRETED: bool = triton.knobs.runtime.interpret
"""True if TRITON_INTERPRET=1 was set when this module was imported: kernels run on the CPU."""

_INTERPRETED = tl.constexpr(INTERPRETED)


@triton.jit
def _dot(a, b, sums, PRECISION: tl.constexpr):
    """sums + a·b. The interpreter keeps bfloat16 as bits and would multiply the bits."""
    if _INTERPRETED and a.dtype == tl.bfloat16:
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, sums, input_precision=PRECISION)


@triton.jit
def _phase_axis(
    phase, size, low, KERNEL: tl.constexpr, STRIDE: tl.constexpr, DILATION: tl.constexpr,
    TAP_STEP: tl.constexpr,
):  # fmt: skip
    """One dimension of one phase: its pixels, their first, its taps, their first, its origin.

    Tap r reaches pixel h from output p = (h + low - r·dilation) / stride, if that is whole.
    """
    first_tap = KERNEL
    for back in tl.static_range(KERNEL):
        tap = KERNEL - 1 - back
        first_tap = tl.where((tap * DILATION) % STRIDE == phase, tap, first_tap)
    first_pixel = (phase + STRIDE - low % STRIDE) % STRIDE
    num_pixels = (size - first_pixel + STRIDE - 1) // STRIDE
    num_taps = (KERNEL - first_tap + TAP_STEP - 1) // TAP_STEP
    origin = (first_pixel + low - first_tap * DILATION) // STRIDE
    return num_pixels, first_pixel, num_taps, first_tap, origin


@triton.jit
def _grouped_order(pid, num_m, num_n, GROUP_M: tl.constexpr):
    """Programs in bands of GROUP_M tiles of rows, so that those running together share both
    operands in the L2 cache."""
    band = pid // (GROUP_M * num_n)
    height = min(num_m - band * GROUP_M, GROUP_M)
    within = pid % (GROUP_M * num_n)
    return band * GROUP_M + within % height, within // height


@triton.jit
def _divide(numbers, multiplier, shift):
    """numbers // d for 0 <= numbers < 2^31, by `reciprocal(d)`: three instructions, not twenty."""
    doubled = (numbers * 2).to(tl.uint32)
    return (tl.umulhi(doubled, multiplier.to(tl.uint32)) >> shift).to(tl.int32)


def reciprocal(divisor: int) -> tuple[int, int]:
    """(multiplier, shift) for `_divide`: 2n · multiplier >> 32 + shift is n // divisor.

    multiplier · divisor exceeds 2^(31 + shift) by less than divisor <= 2^shift, so for n < 2^31
    the error stays under 1 / divisor (Granlund & Montgomery 1994, theorem 4.2).
    """
    shift = (divisor - 1).bit_length()
    return -(-(2 ** (31 + shift)) // divisor), shift


# Whether a map's size divides by 16 changes nothing here: one binary for all sizes.
_SIZES = ["n", "source_size", "target_size", "grad_size", "low", "chunk", "multipliers", "shifts"]


@triton.jit(do_not_specialize_on_alignment=_SIZES)
def gather_gemm(
    source, weight, target, bias, scale, shift,
    n, source_size, target_size, groups, source_channels, target_channels, low,
    KERNEL: tl.constexpr, STRIDE: tl.constexpr, DILATION: tl.constexpr,
    ROW_STEP: tl.constexpr, TAP_SHIFT: tl.constexpr, TAP_STEP: tl.constexpr,
    BOUNDS: tl.constexpr, GRADIENT: tl.constexpr, TAPS: tl.constexpr,
    BIAS: tl.constexpr, AFFINE: tl.constexpr, RELU: tl.constexpr,
    INT64: tl.constexpr, ALIGN: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr, EVEN_N: tl.constexpr, EVEN_K: tl.constexpr, CACHE: tl.constexpr = "",
):  # fmt: skip
    """target[row] = sum over taps and channels of source[row·ROW_STEP + origin + tap·TAP_SHIFT]
    times that tap's weights; then + bias, ·scale + shift and ReLU, each if asked for.

    Channels are per group. BOUNDS says in which dimensions a window may leave the source. CACHE
    ".ca" sends the source's tiles through the L1 cache, from which the next tap reads nearly all
    of them again; without it they come from L2 every time.
    Grid: tiles of the largest phase, groups, phases (1 for forward).
    """
    # Dividing and multiplying tells the compiler what divides: it needs that for wide loads.
    source_channels = source_channels // ALIGN * ALIGN
    target_channels = target_channels // ALIGN * ALIGN
    group = tl.program_id(1)
    if GRADIENT:
        phase = tl.program_id(2)
        rows_w, pixel_w, taps_w, first_w, origin_w = _phase_axis(
            phase % STRIDE[2], target_size[2], low[2], KERNEL[2], STRIDE[2], DILATION[2],
            TAP_STEP[2],
        )  # fmt: skip
        rows_h, pixel_h, taps_h, first_h, origin_h = _phase_axis(
            phase // STRIDE[2] % STRIDE[1], target_size[1], low[1], KERNEL[1], STRIDE[1],
            DILATION[1], TAP_STEP[1],
        )  # fmt: skip
        rows_d, pixel_d, taps_d, first_d, origin_d = _phase_axis(
            phase // (STRIDE[2] * STRIDE[1]) % STRIDE[0], target_size[0], low[0], KERNEL[0],
            STRIDE[0], DILATION[0], TAP_STEP[0],
        )  # fmt: skip
        out_per_group, in_per_group = source_channels, target_channels
    else:
        rows_d, rows_h, rows_w = target_size[0], target_size[1], target_size[2]
        taps_d, taps_h, taps_w = KERNEL[0], KERNEL[1], KERNEL[2]
        origin_d, origin_h, origin_w = -low[0], -low[1], -low[2]
        out_per_group, in_per_group = target_channels, source_channels
    num_rows = n * rows_d * rows_h * rows_w
    num_m = tl.cdiv(num_rows, BLOCK_M)
    num_n = tl.cdiv(target_channels, BLOCK_N)
    pid = tl.program_id(0)
    if pid >= num_m * num_n:
        return
    pid_m, pid_n = _grouped_order(pid, num_m, num_n, GROUP_M)

    row = pid_m * BLOCK_M + tl.arange(0, BLOCK_M)
    exists = row < num_rows
    # Rows past the end compute the last one again: no mask in the loop for them.
    row = tl.minimum(row, num_rows - 1)
    row_w = row % rows_w
    row_h = row // rows_w % rows_h
    row_d = row // (rows_w * rows_h) % rows_d
    image = row // (rows_w * rows_h * rows_d)
    if INT64:
        image = image.to(tl.int64)
    source_d = row_d * ROW_STEP[0] + origin_d
    source_h = row_h * ROW_STEP[1] + origin_h
    source_w = row_w * ROW_STEP[2] + origin_w
    pixel = ((image * source_size[0] + source_d) * source_size[1] + source_h) * source_size[2]
    pixel = pixel + source_w
    source_rows = source + pixel * (source_channels * groups) + group * source_channels
    source_rows = source_rows[:, None]

    column = pid_n * BLOCK_N + tl.arange(0, BLOCK_N)
    weight_row = KERNEL[0] * KERNEL[1] * KERNEL[2] * in_per_group
    weight += group * out_per_group * weight_row
    lane = tl.arange(0, BLOCK_K)
    num_taps = taps_d * taps_h * taps_w
    num_blocks = tl.cdiv(source_channels, BLOCK_K)
    num_steps = num_taps * num_blocks
    if TAPS == "packed":
        num_steps = tl.cdiv(num_taps * source_channels, BLOCK_K)

    sums = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    # One flat loop in both orders: the pipeline of loads never drains between two taps.
    for step in range(num_steps):
        if TAPS == "packed":
            tap = (step * BLOCK_K + lane) // source_channels
            channel = (step * BLOCK_K + lane) % source_channels
            in_sum = tap < num_taps
        else:
            if TAPS == "inner":
                tap = step % num_taps
                channel = step // num_taps * BLOCK_K + lane
            else:
                tap = step // num_blocks
                channel = step % num_blocks * BLOCK_K + lane
            in_sum = channel < source_channels
        tap_w = tap % taps_w
        tap_h = tap // taps_w % taps_h
        tap_d = tap // (taps_w * taps_h)
        shift_d, shift_h = tap_d * TAP_SHIFT[0], tap_h * TAP_SHIFT[1]
        shift_w = tap_w * TAP_SHIFT[2]
        away = (shift_d * source_size[1] + shift_h) * source_size[2] + shift_w
        if INT64:
            away = away.to(tl.int64)
        if GRADIENT:
            tap_d = first_d + tap_d * TAP_STEP[0]
            tap_h = first_h + tap_h * TAP_STEP[1]
            tap_w = first_w + tap_w * TAP_STEP[2]
            tap = (tap_d * KERNEL[1] + tap_h) * KERNEL[2] + tap_w
        if TAPS == "packed":
            shift_d, shift_h, shift_w = shift_d[None, :], shift_h[None, :], shift_w[None, :]

        a_at = source_rows + (away * (source_channels * groups) + channel)[None, :]
        if BOUNDS[0] or BOUNDS[1] or BOUNDS[2] or not EVEN_K or TAPS == "packed":
            inside = in_sum[None, :]
            if EVEN_K and TAPS != "packed":
                inside = tl.full((1, 1), True, tl.int1)
            if BOUNDS[0]:
                at = source_d[:, None] + shift_d
                inside = inside & (at >= 0) & (at < source_size[0])
            if BOUNDS[1]:
                at = source_h[:, None] + shift_h
                inside = inside & (at >= 0) & (at < source_size[1])
            if BOUNDS[2]:
                at = source_w[:, None] + shift_w
                inside = inside & (at >= 0) & (at < source_size[2])
            a = tl.load(a_at, mask=inside, other=0.0, cache_modifier=CACHE)
        else:
            a = tl.load(a_at, cache_modifier=CACHE)

        if GRADIENT:  # summed over out_channels: the rows of the weight
            b_at = weight + (channel * weight_row + tap * in_per_group)[:, None] + column[None, :]
        else:
            b_at = weight + (tap * in_per_group + channel)[:, None] + (column * weight_row)[None, :]
        if EVEN_K and EVEN_N and TAPS != "packed":
            b = tl.load(b_at)
        else:
            b = tl.load(b_at, mask=in_sum[:, None] & (column < target_channels)[None, :], other=0.0)
        sums = _dot(a, b, sums, PRECISION)

    wanted = column < target_channels
    column = group * target_channels + column
    if BIAS:
        sums += tl.load(bias + column, mask=wanted, other=0.0).to(tl.float32)[None, :]
    if AFFINE:
        sums *= tl.load(scale + column, mask=wanted, other=0.0).to(tl.float32)[None, :]
        sums += tl.load(shift + column, mask=wanted, other=0.0).to(tl.float32)[None, :]
    if RELU:
        sums = tl.maximum(sums, 0.0, propagate_nan=tl.PropagateNan.ALL)
    if GRADIENT:
        row_d = row_d * STRIDE[0] + pixel_d
        row_h = row_h * STRIDE[1] + pixel_h
        row_w = row_w * STRIDE[2] + pixel_w
    pixel = ((image * target_size[0] + row_d) * target_size[1] + row_h) * target_size[2] + row_w
    at = target + (pixel * (target_channels * groups))[:, None] + column[None, :]
    tl.store(at, sums.to(target.dtype.element_ty), mask=exists[:, None] & wanted[None, :])


@triton.jit(do_not_specialize_on_alignment=_SIZES)
def weight_gemm(
    source, grad, target,
    n, source_size, grad_size, groups, in_channels, out_channels, low, chunk, multipliers, shifts,
    KERNEL: tl.constexpr, STRIDE: tl.constexpr, DILATION: tl.constexpr,
    BOUNDS: tl.constexpr, TAPS: tl.constexpr,
    INT64: tl.constexpr, ALIGN: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """target[split, k, tap, c] = sum over this split's `chunk` output pixels of grad[pixel, k]
    times source[pixel·STRIDE - low + tap·DILATION, c].

    Rows are out_channels (BLOCK_M), columns one tap's in_channels, or taps and channels packed
    (BLOCK_N); TAPS orders the tiles. Grid: tiles, groups, splits. The partial sums of the splits
    are added by whoever launched this, in one order: the result is the same every time.
    multipliers, shifts: `reciprocal` of each of grad_size.
    """
    in_channels = in_channels // ALIGN * ALIGN
    out_channels = out_channels // ALIGN * ALIGN
    group = tl.program_id(1)
    split = tl.program_id(2)
    num_taps: tl.constexpr = KERNEL[0] * KERNEL[1] * KERNEL[2]
    num_m = tl.cdiv(out_channels, BLOCK_M)
    num_blocks = tl.cdiv(in_channels, BLOCK_N)
    tile = tl.program_id(0) // num_m
    out_channel = tl.program_id(0) % num_m * BLOCK_M + tl.arange(0, BLOCK_M)
    column = tl.arange(0, BLOCK_N)
    if TAPS == "packed":
        tap = (tile * BLOCK_N + column) // in_channels
        channel = (tile * BLOCK_N + column) % in_channels
        wanted = tap < num_taps
    else:
        if TAPS == "inner":
            tap = tile % num_taps
            channel = tile // num_taps * BLOCK_N + column
        else:
            tap = tile // num_blocks
            channel = tile % num_blocks * BLOCK_N + column
        wanted = channel < in_channels
    away_d = tap // (KERNEL[1] * KERNEL[2]) * DILATION[0] - low[0]
    away_h = tap // KERNEL[2] % KERNEL[1] * DILATION[1] - low[1]
    away_w = tap % KERNEL[2] * DILATION[2] - low[2]
    away = (away_d * source_size[1] + away_h) * source_size[2] + away_w
    if INT64:
        away = away.to(tl.int64)
    source_columns = source + (away * (in_channels * groups) + group * in_channels + channel)
    grad_rows = grad + group * out_channels + out_channel
    if TAPS == "packed":
        away_d, away_h, away_w = away_d[None, :], away_h[None, :], away_w[None, :]

    num_pixels = n * grad_size[0] * grad_size[1] * grad_size[2]
    start = split * chunk
    stop = min(start + chunk, num_pixels)
    lane = tl.arange(0, BLOCK_K)
    sums = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for first in range(start, stop, BLOCK_K):
        pixel = first + lane
        exists = pixel < stop
        above = _divide(pixel, multipliers[2], shifts[2])
        w = pixel - above * grad_size[2]
        far = _divide(above, multipliers[1], shifts[1])
        h = above - far * grad_size[1]
        image = _divide(far, multipliers[0], shifts[0])
        d = far - image * grad_size[0]
        if INT64:
            image = image.to(tl.int64)
            pixel = pixel.to(tl.int64)
        d, h, w = d * STRIDE[0], h * STRIDE[1], w * STRIDE[2]
        seen = ((image * source_size[0] + d) * source_size[1] + h) * source_size[2] + w
        inside = exists[:, None] & wanted[None, :]
        if BOUNDS[0]:
            at = d[:, None] + away_d
            inside = inside & (at >= 0) & (at < source_size[0])
        if BOUNDS[1]:
            at = h[:, None] + away_h
            inside = inside & (at >= 0) & (at < source_size[1])
        if BOUNDS[2]:
            at = w[:, None] + away_w
            inside = inside & (at >= 0) & (at < source_size[2])
        b_at = source_columns[None, :] + (seen * (in_channels * groups))[:, None]
        b = tl.load(b_at, mask=inside, other=0.0)
        a_at = grad_rows[:, None] + (pixel * (out_channels * groups))[None, :]
        in_rows = (out_channel < out_channels)[:, None]
        a = tl.load(a_at, mask=exists[None, :] & in_rows, other=0.0)
        sums = _dot(a, b, sums, PRECISION)

    row = (split * groups + group) * out_channels + out_channel
    at = target + (row * (num_taps * in_channels))[:, None] + (tap * in_channels + channel)[None, :]
    mask = (out_channel < out_channels)[:, None] & wanted[None, :]
    tl.store(at, sums.to(target.dtype.element_ty), mask=mask)
