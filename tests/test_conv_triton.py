"""The tensor-core convolution: its numbers (interpreted, in a process of their own), its messages,
the machine code of its kernels (compiled for Hopper without one), and, on a GPU, all of it."""

import itertools
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from hubel.conv import tensor_core_products
from hubel.conv.case import ConvCase
from hubel.conv.tensor_core import tensor_core_conv, tensor_core_limits
from hubel.conv.tensor_core_products import conv_forward, conv_grad_input, conv_grad_weight
from hubel.errors import UserError

triton = pytest.importorskip("triton")


def test_kernels_are_right_under_the_interpreter(request):
    # Triton decides at its import whether it interprets, and here it may be imported already.
    file = Path(__file__).parent / "interpreted_conv_triton.py"
    words = [sys.executable, "-m", "pytest", str(file), "-m", request.config.getoption("-m")]
    done = subprocess.run(
        words, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def ones(*shape, **options):
    return torch.ones(shape, **options)


def test_needs_a_cuda_device():
    with pytest.raises(UserError, match=r"needs a CUDA device, got input on cpu; move input and"):
        tensor_core_conv(ones(1, 16, 4, 4), ones(16, 16, 3, 3))


def test_without_triton(monkeypatch):
    import hubel.conv

    for name in ("triton_tuning", "triton_kernels"):
        monkeypatch.delitem(sys.modules, f"hubel.conv.{name}", raising=False)
        monkeypatch.delattr(hubel.conv, name, raising=False)
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(UserError, match="needs Triton, which comes with torch on Linux only"):
        tensor_core_conv(ones(1, 16, 4, 4), ones(16, 16, 3, 3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"taps": "middle"}, "taps takes 'inner' or 'outer', got 'middle'"),
        ({"precision": "bf16"}, "precision takes 'tf32' or 'ieee', got 'bf16'"),
        ({"scale": ones(16)}, "scale and shift are given both or not at all, got only scale"),
        ({"shift": ones(16)}, "scale and shift are given both or not at all, got only shift"),
        (
            {"scale": ones(1), "shift": ones(16)},
            r"scale takes one number for each of the 16 output channels, got shape \(1,\)",
        ),
        (
            {"scale": ones(16), "shift": ones(16, device="meta")},
            "shift is on meta and input on cpu",
        ),
        (
            {"scale": ones(16), "shift": ones(16, requires_grad=True)},
            r"shift is a constant of a folded batch normalisation .* give shift.detach\(\)",
        ),
        ({"stride": 0}, "stride must be at least 1"),
    ],
)
def test_arguments_are_checked(options, message):
    with pytest.raises(UserError, match=message):
        tensor_core_conv(ones(1, 16, 4, 4), ones(16, 16, 3, 3), **options)


def test_limits():
    assert tensor_core_limits(ConvCase.of(1, 4, 6, (5,), 3, groups=2)) is None
    depthwise = tensor_core_limits(ConvCase.of(1, 4, 8, (5, 5), 3, groups=4))
    assert depthwise.startswith("has no matrix product to compute where a group has a single")
    huge = tensor_core_limits(ConvCase.of(2**11, 1, 1, (1024, 1024), 3))
    assert "at most 2^30 a batch, got 2147483648" in huge


# Compiled for Hopper, on any machine: what the launchers pass is caught and given to the compiler.

TARGET = ("cuda", 90, 32)


class Launches(list):
    """Stands in for `_launch`: keeps (kernel, its arguments by name)."""

    def __call__(self, kernels, tuned, plain, grid, *args, options):
        names = [n for n in plain.arg_names if n not in options]
        self.append((plain, dict(zip(names, args, strict=False)) | options))


@pytest.fixture
def launches(monkeypatch, tmp_path):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    caught = Launches()
    monkeypatch.setattr(tensor_core_products, "_launch", caught)
    return caught


def compiled(launch, config):
    """The kernel of a launch, compiled for it alone as Triton's JIT does."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.runtime.autotuner import Heuristics

    kernel, args = launch
    args = args | config.kwargs
    if isinstance(kernel, Heuristics):
        args |= {name: value(args) for name, value in kernel.values.items()}
        kernel = kernel.fn
    constants, hints = {}, {}
    even = [["tt.divisibility", 16]]

    def kind(value, path):
        if isinstance(value, tuple) and path[0] not in fixed:
            return tuple(kind(v, (*path, i)) for i, v in enumerate(value))
        if isinstance(value, torch.Tensor):
            hints[path] = even
            name = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
            return "*" + name[value.dtype]
        if path[0] in fixed or value is None or value == 1:
            constants[path] = value
            return "constexpr"
        if value % 16 == 0:
            hints[path] = even
        return "i32" if -(2**31) <= value < 2**31 else "i64"

    fixed = {p.num for p in kernel.params if p.is_constexpr}
    signature = {name: kind(args[name], (i,)) for i, name in enumerate(kernel.arg_names)}
    source = ASTSource(kernel, signature, constants, hints)
    options = {"num_warps": config.num_warps, "num_stages": config.num_stages}
    return triton.compile(
        source, target=GPUTarget(*TARGET), options={**options, "enable_fp_fusion": True}
    )


def assert_fast_code(binary, wide_loads=True):
    """Tensor cores, asynchronous copies of 16 bytes, shared memory that fits."""
    from hubel.conv.triton_tuning import SHARED_BYTES

    code = binary.asm["ptx"]
    assert "wgmma.mma_async" in code
    if wide_loads:
        copies = re.findall(r"cp\.async\.c[ag]\.shared\.global .*", code)
        assert copies
        assert all(", 0x10," in copy for copy in copies)
    assert binary.metadata.shared <= SHARED_BYTES


def stack_bytes(binary, tmp_path):
    """What does not fit a thread's registers."""
    file = tmp_path / "kernel.cubin"
    file.write_bytes(binary.asm["cubin"])
    tool = triton.knobs.nvidia.cuobjdump.path
    usage = subprocess.run([tool, "-res-usage", file], capture_output=True, text=True, check=True)
    (found,) = re.findall(r"STACK:(\d+)", usage.stdout + usage.stderr)
    return int(found)


def products(case, dtype):
    """The three products of a case whose tensors have no data."""
    shapes = (case.input_shape, case.weight_shape, case.output_shape, (case.out_channels,))
    x, w, y, v = (torch.empty(shape, dtype=dtype, device="meta") for shape in shapes)
    conv_forward(x, w, case, bias=v, scale=v, shift=v, relu=True)
    conv_grad_input(y, w, case)
    conv_grad_weight(y, x, case, splits=2)


STRIDED = ConvCase.of(32, 128, 128, (28, 28), 3, stride=2, padding=1)


def test_kernels_compile_for_hopper(launches, tmp_path):
    from hubel.conv.triton_tuning import GATHER_CONFIGS, WEIGHT_CONFIGS

    products(STRIDED, torch.bfloat16)
    cached = next(c for c in GATHER_CONFIGS if c.kwargs["CACHE"] == ".ca" and c.num_warps == 4)
    configs = (GATHER_CONFIGS[2], cached, WEIGHT_CONFIGS[1])
    for launch, config in zip(launches, configs, strict=True):
        binary = compiled(launch, config)
        assert_fast_code(binary)
        assert stack_bytes(binary, tmp_path) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "dtype"),
    [
        (STRIDED, torch.bfloat16),
        (STRIDED, torch.float16),
        (STRIDED, torch.float32),
        (ConvCase.of(32, 256, 256, (14, 14), 3, padding=1, dilation=2), torch.bfloat16),
        (ConvCase.of(8, 128, 256, (14, 14), 1), torch.bfloat16),
        (ConvCase.of(2, 64, 64, (16, 16, 16), 3, padding=1), torch.bfloat16),
        (ConvCase.of(32, 3, 64, (224, 224), 7, stride=2, padding=3), torch.bfloat16),
    ],
    ids=["strided", "float16", "tf32", "dilated", "pointwise", "3-D", "packed"],
)
def test_every_config_compiles_for_hopper(launches, tmp_path, case, dtype):
    from hubel.conv import triton_tuning as kernels

    products(case, dtype)
    for launch in launches:
        weight = launch[0] is kernels.weight_gemm
        fitting = kernels.weight_fitting if weight else kernels.gather_fitting
        known = kernels.WEIGHT_CONFIGS if weight else kernels.GATHER_CONFIGS
        packed = launch[1]["TAPS"] == "packed"
        stacks = []
        for config in fitting(known, launch[1], **launch[1]):
            binary = compiled(launch, config)
            # tf32's wgmma takes no transposed tile: those go through narrow copies.
            assert_fast_code(binary, wide_loads=not packed and dtype != torch.float32)
            stacks.append(stack_bytes(binary, tmp_path))
        assert min(stacks) == 0
        # Packed taps and float32 need more registers than large tiles leave; the tuner sees that.
        # The rest keep at most a few words of the epilogue's vectors there, outside the loop.
        assert packed or dtype == torch.float32 or max(stacks) <= 32


def test_pruned_configs_fit_and_are_never_none():
    from hubel.conv import triton_tuning as kernels

    for size, rows, columns in itertools.product((2, 4), (1, 64, 4096), (1, 3, 64, 100, 4096)):
        for known in (kernels.GATHER_CONFIGS, kernels.WEIGHT_CONFIGS):
            fitting = kernels._fitting(known, size, {"BLOCK_M": rows, "BLOCK_N": columns})
            assert fitting
            assert all(kernels.shared_bytes(c, size) <= 227 * 1024 for c in fitting)


def test_division_by_multiplication():
    from hubel.conv.triton_kernels import reciprocal

    for divisor in (1, 2, 3, 7, 56, 224, 641, 2**16 + 1, 2**30):
        multiplier, shift = reciprocal(divisor)
        assert multiplier < 2**32
        last = 2**31 - 1
        for n in (0, 1, divisor - 1, divisor, last // divisor * divisor - 1, last):
            assert (2 * n * multiplier) >> 32 >> shift == n // divisor


def test_the_benchmark_knows_every_layer(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    import conv_gpu

    layers = conv_gpu.layers_of(conv_gpu.MODELS, batch=2)
    macs = {m: sum(x.case.macs * x.counts.get(m, 0) for x in layers) for m in conv_gpu.MODELS}
    # ResNet-50's published 4.09 G less its 2048 × 1000; VGG-16's 15.47 G less its three.
    assert macs["resnet50"] == 2 * 4_087_136_256
    assert macs["vgg16"] == 2 * (15_470_264_320 - 25_088 * 4096 - 4096 * 4096 - 4096 * 1000)
    assert sum(x.counts.get("resnet50", 0) for x in layers) == 53
    assert sum(x.counts.get("vgg16", 0) for x in layers) == 13
    for copy in (x for x in layers if not x.counts):
        assert copy.case.dilation == (2, 2)
        assert copy.case.output_size == copy.case.size


def test_the_benchmark_counts_what_is_faster(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    import conv_gpu

    plain, strided = (
        conv_gpu.Layer(ConvCase.of(1, 16, 16, (8, 8), 3, stride=s), {"vgg16": 1}) for s in (1, 2)
    )

    def row(layer, inner, outer, distance=1e-3):
        seconds = {"cudnn": 1.0, "inner": inner, "outer": outer}
        times = {name: conv_gpu.Times((s, s, s)) for name, s in seconds.items()}
        return conv_gpu.Row(layer, "forward", times, {"inner": 0, "outer": 0}, distance, 0.1)

    rows = [row(plain, 0.5, 1.0), row(strided, 0.125, 0.25)]
    means = conv_gpu.summary(rows)
    assert means["all layers of the models"] == pytest.approx(
        {"num_layers": 2, "inner": 4.0, "outer": 2.0, "better": 4.0}
    )
    assert means["strided and dilated"]["inner"] == pytest.approx(8.0)
    assert "dilated" not in means
    assert all(len(conv_gpu.line(r)) <= 80 for r in rows)
    assert "WRONG by nan" in conv_gpu.line(row(plain, 1.0, 1.0, distance=math.nan))


# On a GPU.

gpu = pytest.mark.gpu
no_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

LARGE = {
    "3x3": ConvCase.of(32, 128, 128, (56, 56), 3, padding=1),
    "strided": ConvCase.of(32, 128, 256, (56, 56), 3, stride=2, padding=1),
    "dilated": ConvCase.of(16, 128, 96, (56, 56), 3, padding=2, dilation=2),
    "pointwise": ConvCase.of(32, 256, 512, (28, 28), 1, stride=2),
    "first": ConvCase.of(32, 3, 64, (224, 224), 7, stride=2, padding=3),
    "grouped": ConvCase.of(16, 128, 128, (28, 28), 3, padding=1, groups=4),
    "odd": ConvCase.of(7, 72, 40, (31, 29), (3, 5), stride=(2, 1), padding=(1, 2)),
    "3-D": ConvCase.of(4, 64, 64, (16, 28, 28), 3, stride=(1, 2, 2), padding=1),
}


@gpu
@no_gpu
@pytest.mark.parametrize("taps", ["inner", "outer"])
@pytest.mark.parametrize(
    ("dtype", "precision", "within"),
    [
        (torch.float16, "tf32", 1e-3),
        (torch.bfloat16, "tf32", 6e-3),
        (torch.float32, "tf32", 1e-3),
        (torch.float32, "ieee", 5e-6),
    ],
)
@pytest.mark.parametrize("name", LARGE)
def test_agrees_with_cudnn_in_float64(name, dtype, precision, within, taps):
    case = LARGE[name]
    torch.manual_seed(0)
    shapes = (case.input_shape, case.weight_shape, (case.out_channels,))
    ours = [torch.randn(s, device="cuda", dtype=dtype).requires_grad_() for s in shapes]
    theirs = [leaf.detach().double().requires_grad_() for leaf in ours]
    options = {
        "stride": case.stride,
        "padding": tuple(low for low, _ in case.padding),
        "dilation": case.dilation,
        "groups": case.groups,
    }
    output = tensor_core_conv(*ours, **options, taps=taps, precision=precision)
    wanted = (F.conv2d if case.dims == 2 else F.conv3d)(*theirs, **options)
    grad = torch.randn_like(output)
    found = torch.autograd.grad(output, ours, grad)
    expected = torch.autograd.grad(wanted, theirs, grad.double())
    for f, w in zip((output, *found), (wanted, *expected), strict=True):
        assert (f.double() - w).norm() < within * w.norm()


@gpu
@no_gpu
def test_no_memory_beyond_the_results():
    case = LARGE["3x3"]
    x, w, y = (
        torch.randn(s, device="cuda", dtype=torch.bfloat16).to(memory_format=torch.channels_last)
        for s in (case.input_shape, case.weight_shape, case.output_shape)
    )
    for compute, result in (
        (lambda: conv_forward(x, w, case), y.numel() * 2),
        (lambda: conv_grad_input(y, w, case), x.numel() * 2),
        # Partial sums: at most two programs a multiprocessor, of 128 × 128 floats.
        (
            lambda: conv_grad_weight(y, x, case),
            w.numel() * 6 + 2 * torch.cuda.get_device_properties(0).multi_processor_count * 2**16,
        ),
    ):
        compute()  # tuning has buffers of its own
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        compute()
        # The allocator rounds each block up to 512 bytes, large ones to 2 MiB.
        assert torch.cuda.max_memory_allocated() - before <= result + 3 * 2**21


@gpu
@no_gpu
def test_the_gradient_to_the_weight_has_the_same_bits_every_time():
    case = LARGE["3x3"]
    x = torch.randn(case.input_shape, device="cuda", dtype=torch.bfloat16)
    y = torch.randn(case.output_shape, device="cuda", dtype=torch.bfloat16)
    first = conv_grad_weight(y, x, case)
    assert math.prod(first.shape) == first.numel()
    for _ in range(5):
        assert torch.equal(first, conv_grad_weight(y, x, case))
