"""Methods over the convolutions of ResNet-50 and VGG-16 on the CPU, against torch's own.

    python benchmarks/conv_cpu.py [--batch-size N] [--kernel 3] [--methods implicit im2col ...]
                                  [--models resnet50 vgg16] [--limit S] [--repeats R]
                                  [--json FILE]

Each different layer of the models at 224², channels last, float32, random numbers, forward only;
methods take turns, every round in the other direction. A line: layer, method, milliseconds
(median of the rounds), GFLOP/s, memory beyond the result in MB, times torch's speed [lowest to
highest round]. The ceiling is what this machine could reach: the lower of its fastest product and
of its memory speed times the layer's FLOPs a byte.

The baseline of all is torch.nn.functional.conv2d (oneDNN), in the same run. im2col and implicit
use the same BLAS calls, so their ratio is the price of the lowered matrix.
"""

import json
import statistics

import torch
import torchvision
from common import machine, parser

from hubel.conv.case import ConvCase
from hubel.conv.measure import Measured, measure, measure_peaks
from hubel.conv.networks import distinct_cases

BASELINE = "torch"


def layers_of(models: list[str], batch_size: int, kernel: int) -> dict[ConvCase, list[str]]:
    """The different convolutions with this side of kernel (0: all), and which layers they are."""
    found: dict[ConvCase, list[str]] = {}
    for model in models:
        with torch.device("meta"):
            network = torchvision.models.get_model(model, weights=None)
        for case, names in distinct_cases(network, (batch_size, 3, 224, 224)).items():
            if kernel in (0, *case.kernel_size):
                found.setdefault(case, []).extend(f"{model}.{name}" for name in names)
    return found


def line(one: Measured, torchs: Measured, case: ConvCase) -> str:
    if one.refused is not None:
        return f"  {one.method:10} {one.refused}"
    middle, low, high = one.times_faster(torchs)
    rate = 2e-9 * case.macs / one.median_s
    return (
        f"  {one.method:10} {1e3 * one.median_s:9.2f} ms {rate:8.1f} GFLOP/s"
        f" {one.extra_bytes / 1e6:9.2f} MB  {middle:5.2f}x [{low:.2f}-{high:.2f}]"
    )


def mean_ratio(
    found: list[dict[str, Measured]], name: str, baseline: str
) -> tuple[float | None, int]:
    """Geometric mean over the layers on which both ran, and their number."""
    ratios = [
        by_name[name].times_faster(by_name[baseline])[0]
        for by_name in found
        if by_name[name].refused is None and by_name[baseline].refused is None
    ]
    return (statistics.geometric_mean(ratios) if ratios else None), len(ratios)


def against_im2col(found: list[dict[str, Measured]]) -> dict[str, float] | None:
    """Speed and extra memory of implicit against im2col where both ran."""
    both = [f for f in found if f["implicit"].refused is None and f["im2col"].refused is None]
    if not both:
        return None
    faster = [f["implicit"].times_faster(f["im2col"])[0] for f in both]
    shares = [f["implicit"].extra_bytes / f["im2col"].extra_bytes for f in both]
    mean, mean_share = statistics.geometric_mean(faster), statistics.geometric_mean(shares)
    print(
        f"implicit against im2col: {mean:.2f}x as fast over {len(both)} layers "
        f"[{min(faster):.2f}-{max(faster):.2f}], at most {100 * max(shares):.1f} % of its extra "
        f"memory (geometric mean {100 * mean_share:.1f} %)"
    )
    return {"times_faster": mean, "layers": len(both), "most_of_its_memory": max(shares)}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--batch-size", type=int, default=32)
    arguments.add_argument("--kernel", type=int, default=3, help="side of the kernel; 0: all")
    arguments.add_argument("--models", nargs="+", default=["resnet50", "vgg16"])
    arguments.add_argument("--methods", nargs="+", default=["auto", "implicit", "im2col"])
    arguments.add_argument("--limit", type=float, default=30.0, help="leave out slower runs, s")
    options = arguments.parse_args()

    facts = machine()
    peaks = measure_peaks()
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    print(
        f"{torch.get_num_threads()} threads, {options.repeats} rounds, batch {options.batch_size}"
    )
    speeds = peaks.flops_per_s / 1e9, peaks.bytes_per_s / 1e9
    print(f"ceilings: {speeds[0]:.0f} GFLOP/s, {speeds[1]:.1f} GB/s copied")
    layers = layers_of(options.models, options.batch_size, options.kernel)
    names = list(dict.fromkeys([BASELINE, *options.methods]))
    found: list[dict[str, Measured]] = []
    for case, where in layers.items():
        measured = measure(case, names, rounds=options.repeats, limit_s=options.limit)
        found.append({one.method: one for one in measured})
        print(
            f"{case.words} ({len(where)}: {where[0]}), ceiling {peaks.ceiling(case, 4) / 1e9:.0f} "
            f"GFLOP/s"
        )
        for one in measured:
            print(line(one, found[-1][BASELINE], case), flush=True)

    print(f"geometric means over {len(found)} layers:")
    means = {name: mean_ratio(found, name, BASELINE) for name in names}
    for name, (mean, number) in means.items():
        shown = "-" if mean is None else f"{mean:.2f}x"
        print(f"  {name:10} {shown} {BASELINE} over {number} layers")
    comparison = against_im2col(found) if {"implicit", "im2col"} <= set(names) else None
    if options.json is not None:
        result = {
            "benchmark": "conv_cpu",
            "machine": facts,
            "threads": torch.get_num_threads(),
            "batch_size": options.batch_size,
            "ceilings": {"flops_per_s": peaks.flops_per_s, "bytes_per_s": peaks.bytes_per_s},
            "layers": [
                {
                    "case": case.words,
                    "where": where,
                    "methods": {
                        name: {
                            "rounds_s": one.rounds_s,
                            "extra_bytes": one.extra_bytes,
                            "refused": one.refused,
                        }
                        for name, one in by_name.items()
                    },
                }
                for (case, where), by_name in zip(layers.items(), found, strict=True)
            ],
            "geometric_mean_times_torch": {name: mean for name, (mean, _) in means.items()},
            "implicit_against_im2col": comparison,
        }
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
