"""The tensor-core convolution against cuDNN, over the layers of ResNet-50 and VGG-16.

    python benchmarks/conv_gpu.py [--model resnet50 vgg16] [--batch 32 128 256] [--dtype bf16]
                                  [--product forward] [--repeats R] [--json FILE]

Every distinct convolution of the models at 224², and a dilated copy of each 3×3 one (dilation 2,
padding 2, stride 1), channels last, random numbers, no bias. Cases, in turn, in one run:

  cudnn  torch's own, with torch.backends.cudnn.benchmark (it tries its algorithms, too)
  inner  hubel's kernel, taps innermost
  outer  hubel's kernel, taps outermost

A case is captured in a CUDA graph after it was tuned and warmed up, so that no launch from
Python is timed; before every replay a write of twice the L2 cache empties it. Times are from CUDA
events, medians of R rounds. "of floor": the time that the layer's FLOPs or its bytes (each tensor
once) need at this GPU's own rates, measured first with a large matrix product and a large copy,
over the time taken. "extra MB": peak of memory allocated beyond the result, both orders' larger.
The first run tunes: minutes; Triton keeps what it compiled.
"""

import argparse
import json
import math
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
import torchvision
from common import Times, alternate, machine, parser, ratio

from hubel.conv.case import ConvCase
from hubel.conv.networks import distinct_cases
from hubel.conv.tensor_core_products import (
    TapOrder,
    conv_forward,
    conv_grad_input,
    conv_grad_weight,
)

BASELINE = "cudnn"
ORDERS: tuple[TapOrder, ...] = ("inner", "outer")
MODELS = ("resnet50", "vgg16")
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "tf32": torch.float32}
PRODUCTS = ("forward", "grad_input", "grad_weight")
AGREE = 2e-2
"""Distance from cuDNN's result above which a row says WRONG (half precisions: under 1e-2 each)."""


@dataclass(frozen=True)
class Layer:
    """One distinct convolution: its sizes, and how often each model has it (a copy: 0 times)."""

    case: ConvCase
    counts: Mapping[str, int]

    @property
    def name(self) -> str:
        case = self.case
        words = ["×".join(map(str, case.kernel_size)), f"{case.in_channels}→{case.out_channels}"]
        words.append("×".join(map(str, case.size)))
        words += [f"s{case.stride[0]}"] * (max(case.stride) > 1)
        words += [f"d{case.dilation[0]}"] * (max(case.dilation) > 1)
        return " ".join(words)

    @property
    def special(self) -> bool:
        """Strided or dilated."""
        return max(self.case.stride + self.case.dilation) > 1


@dataclass(frozen=True)
class Row:
    """What was measured of one layer at one batch size and product."""

    layer: Layer
    product: str
    times: Mapping[str, Times]
    extra_bytes: Mapping[str, int]
    distance: float
    """‖ours - cuDNN‖ / ‖cuDNN‖, added up over both orders."""
    floor_s: float

    def faster(self, order: str) -> float:
        """How many times faster than cuDNN, median over the rounds."""
        return ratio(self.times[BASELINE], self.times[order])[0]


def layers_of(models: Iterable[str], batch: int, size: int = 224) -> list[Layer]:
    """The distinct convolutions that the models compute, in order, then the dilated copies."""
    found: dict[ConvCase, Counter[str]] = {}
    for model in models:
        with torch.device("meta"):
            network = torchvision.models.get_model(model, weights=None)
        for case, names in distinct_cases(network, (batch, 3, size, size)).items():
            found.setdefault(case, Counter())[model] += len(names)
    copies = {
        ConvCase.of(
            case.n, case.in_channels, case.out_channels, case.size, 3, padding=2, dilation=2
        ): Counter()
        for case in found
        if case.kernel_size == (3, 3) and case.in_channels > 3
    }
    return [Layer(case, dict(counts)) for case, counts in (found | copies).items()]


def measure(layer: Layer, product: str, options: argparse.Namespace, rates: "Rates") -> Row:
    """All cases of one layer, alternating."""
    case, dtype = layer.case, DTYPES[options.dtype]
    x, w, y = (
        torch.randn(shape, device="cuda", dtype=dtype).to(memory_format=torch.channels_last)
        for shape in (case.input_shape, case.weight_shape, case.output_shape)
    )
    calls: dict[str, Callable[[], torch.Tensor]] = {BASELINE: cudnn_call(product, case, x, w, y)}
    for order in ORDERS:
        calls[order] = our_call(product, case, x, w, y, order)
    results = {name: call() for name, call in calls.items()}  # tunes, and compares
    wanted = results[BASELINE].float()
    # Not max(): it would drop a NaN.
    distance = sum(
        float((results[order].float() - wanted).norm() / wanted.norm()) for order in ORDERS
    )
    del results, wanted
    extra_bytes = {name: extra_memory(call) for name, call in calls.items()}
    replays = {name: timed(captured(call), rates.flush) for name, call in calls.items()}
    times = alternate(replays, options.repeats)
    num_bytes = sum(t.numel() * t.element_size() for t in (x, w, y))
    floor_s = max(2 * case.macs / rates.flops_per_s, num_bytes / rates.bytes_per_s)
    return Row(layer, product, times, extra_bytes, distance, floor_s)


def our_call(
    product: str, case: ConvCase, x: torch.Tensor, w: torch.Tensor, y: torch.Tensor, order: TapOrder
) -> Callable[[], torch.Tensor]:
    if product == "forward":
        return lambda: conv_forward(x, w, case, taps=order)
    if product == "grad_input":
        return lambda: conv_grad_input(y, w, case, taps=order)
    return lambda: conv_grad_weight(y, x, case, taps=order)


def cudnn_call(
    product: str, case: ConvCase, x: torch.Tensor, w: torch.Tensor, y: torch.Tensor
) -> Callable[[], torch.Tensor]:
    padding = [low for low, _ in case.padding]
    moves = (list(case.stride), padding, list(case.dilation))
    if product == "forward":
        return lambda: torch.nn.functional.conv2d(x, w, None, *moves, case.groups)
    mask = [product == "grad_input", product == "grad_weight", False]
    index = PRODUCTS.index(product) - 1
    backward = torch.ops.aten.convolution_backward
    return lambda: backward(y, x, w, None, *moves, False, [0, 0], case.groups, mask)[index]


def extra_memory(call: Callable[[], torch.Tensor]) -> int:
    """Peak of bytes allocated during a call beyond its result."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = call()
    torch.cuda.synchronize()
    held = torch.cuda.memory_allocated() - before
    assert held >= result.numel() * result.element_size()
    return torch.cuda.max_memory_allocated() - before - held


def captured(call: Callable[[], torch.Tensor]) -> Callable[[], None]:
    """The device's part of a call: a graph's replay, after three calls to warm up."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def timed(replay: Callable[[], None], flush: torch.Tensor) -> Callable[[], float]:
    """Seconds of one replay by the device's own clock, the L2 cache emptied before."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def once() -> float:
        flush.zero_()
        start.record()
        replay()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3

    return once


@dataclass(frozen=True)
class Rates:
    """What this GPU reaches: FLOP/s of a product of 8192 × 8192, bytes/s of a copy of 2 GiB."""

    flops_per_s: float
    bytes_per_s: float
    flush: torch.Tensor

    @classmethod
    def measured(cls, dtype: torch.dtype) -> "Rates":
        l2 = torch.cuda.get_device_properties(0).L2_cache_size
        flush = torch.empty(2 * l2, dtype=torch.uint8, device="cuda")
        a, b, c = (torch.randn(8192, 8192, device="cuda", dtype=dtype) for _ in range(3))
        source = torch.randn(2**28, device="cuda")
        target = torch.empty_like(source)

        def product() -> None:
            torch.mm(a, b, out=c)

        def copy() -> None:
            target.copy_(source)

        cases = (timed(product, flush), timed(copy, flush))
        product_s, copy_s = (statistics.median([run() for _ in range(13)][3:]) for run in cases)
        return cls(2 * 8192**3 / product_s, 2 * 2**30 / copy_s, flush)


HEADER = (
    f"{'layer':26} {'n':>2} {'cuDNN ms':>9} {'inner':>6} {'outer':>6} "
    f"{'TFLOP/s':>7} {'floor':>5} {'extra MB':>8}"
)


def line(row: Row) -> str:
    """One layer: cuDNN's time, times faster in both orders, the faster order's rate."""
    best_s = min(row.times[order].median_s for order in ORDERS)
    extra = max(row.extra_bytes[order] for order in ORDERS)
    return (
        f"{row.layer.name:26} {sum(row.layer.counts.values()):2} "
        f"{row.times[BASELINE].median_s * 1e3:9.3f} "
        + " ".join(f"{row.faster(order):5.2f}x" for order in ORDERS)
        + f" {2 * row.layer.case.macs / best_s / 1e12:7.0f} {row.floor_s / best_s:5.0%} "
        f"{extra / 1e6:8.1f}" + (f"  WRONG by {row.distance:.1e}" if not agrees(row) else "")
    )


def agrees(row: Row) -> bool:
    return row.distance < AGREE  # False for NaN, too


def summary(rows: list[Row]) -> dict[str, dict[str, float]]:
    """Geometric means of times faster, over the models' layers, the strided and dilated, ..."""
    groups = {
        "all layers of the models": [r for r in rows if r.layer.counts],
        "strided and dilated": [r for r in rows if r.layer.special],
        "strided": [r for r in rows if max(r.layer.case.stride) > 1],
        "dilated": [r for r in rows if max(r.layer.case.dilation) > 1],
    }
    return {
        name: {
            "num_layers": len(members),
            **{o: statistics.geometric_mean(r.faster(o) for r in members) for o in ORDERS},
            "better": statistics.geometric_mean(
                max(r.faster(o) for o in ORDERS) for r in members
            ),
        }
        for name, members in groups.items()
        if members
    }  # fmt: skip


def as_json(row: Row) -> dict[str, Any]:
    case = row.layer.case
    return {
        "layer": row.layer.name,
        "batch": case.n,
        "product": row.product,
        "counts": dict(row.layer.counts),
        "macs": case.macs,
        "flops": 2 * case.macs,
        "floor_s": row.floor_s,
        "times_s": {
            name: {"median": t.median_s, "spread": t.spread_s, "n": len(t.rounds)}
            for name, t in row.times.items()
        },
        "times_faster": {
            o: dict(
                zip(
                    ("median", "low", "high"),
                    ratio(row.times[BASELINE], row.times[o]),
                    strict=True,
                )
            )
            for o in ORDERS
        },
        "extra_bytes": dict(row.extra_bytes),
        "agrees": agrees(row),
        "distance": row.distance if math.isfinite(row.distance) else None,
    }


def gpu_facts() -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(0)
    return {
        **machine(),
        "gpu": properties.name,
        "gpu_memory_gb": round(properties.total_memory / 1e9, 1),
        "multiprocessors": properties.multi_processor_count,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "triton": version("triton"),
    }


def main() -> None:
    options = parser(__doc__)
    options.set_defaults(repeats=20)
    options.add_argument("--model", nargs="+", choices=MODELS, default=list(MODELS))
    options.add_argument("--batch", nargs="+", type=int, default=[32, 128, 256])
    options.add_argument("--dtype", choices=DTYPES, default="bf16")
    options.add_argument("--product", nargs="+", choices=PRODUCTS, default=["forward"])
    args = options.parse_args()
    if not torch.cuda.is_available():
        sys.exit("conv_gpu: this benchmark needs a CUDA device, and torch sees none")
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    torch.manual_seed(0)
    facts = gpu_facts()
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    rates = Rates.measured(DTYPES[args.dtype])
    print(
        f"{args.dtype}: {rates.flops_per_s / 1e12:.0f} TFLOP/s by a matrix product, "
        f"{rates.bytes_per_s / 1e12:.2f} TB/s by a copy; n = {args.repeats} rounds"
    )
    document: dict[str, Any] = {
        "benchmark": "conv_gpu",
        "machine": facts,
        "baseline": BASELINE,
        "dtype": args.dtype,
        "flops_per_s": rates.flops_per_s,
        "bytes_per_s": rates.bytes_per_s,
        "layers": [],
        "geometric_means": {},
    }
    for product in args.product:
        for batch in args.batch:
            print(f"\n{product}, batch {batch}, {args.dtype}\n{HEADER}", flush=True)
            rows = []
            for layer in layers_of(args.model, batch):
                if product == "grad_input" and layer.case.in_channels == 3:
                    continue  # no training asks for a picture's gradient
                rows.append(measure(layer, product, args, rates))
                print(line(rows[-1]), flush=True)
                torch.cuda.empty_cache()
            means = summary(rows)
            for name, found in means.items():
                print(
                    f"geometric mean, {name} ({found['num_layers']}): "
                    f"inner {found['inner']:.2f}x, outer {found['outer']:.2f}x, "
                    f"better {found['better']:.2f}x"
                )
            document["layers"] += [as_json(row) for row in rows]
            document["geometric_means"][f"{product}, batch {batch}"] = means
            if args.json:  # after each part: a long run that ends early leaves what it has
                args.json.write_text(json.dumps(document, indent=2) + "\n")
    if not all(entry["agrees"] for entry in document["layers"]):
        sys.exit("conv_gpu: a result differs from cuDNN's; see WRONG above")


if __name__ == "__main__":
    main()
