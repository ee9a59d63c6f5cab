"""`hubel conv bench`: every method on this machine, now."""

import json as json_module
import math
import statistics
from typing import TYPE_CHECKING, Any

import typer

from hubel.cli.conv.options import sizes, sizes_per_dim, written_padding
from hubel.errors import UserError, suggestion

if TYPE_CHECKING:
    from hubel.conv.case import ConvCase
    from hubel.conv.measure import Measured, Peaks

__all__ = ["bench"]

_DEFAULT_LAYER = "64,56x56,64,3,1,1"
_LARGEST = 1 << 31
_DTYPES = ("float32", "float64", "bfloat16", "float16")


def bench(
    model: str | None = typer.Option(
        None, "--model", help="Every different convolution of this network, such as resnet50."
    ),
    img_size: int = typer.Option(224, "--img-size", min=1, help="Side of the network's picture."),
    layer: list[str] | None = typer.Option(
        None,
        "--layer",
        help="in_channels,size,out_channels,kernel[,stride[,padding[,dilation[,groups]]]]; 56 is "
        "a size in 1-D, 56x56 in 2-D. May be repeated. (default: " + _DEFAULT_LAYER + ")",
    ),
    method: list[str] | None = typer.Option(
        None, "--method", help="A method or auto; may be repeated. (default: all)"
    ),
    batch_size: int = typer.Option(8, "--batch-size", min=1, help="Pictures."),
    repeats: int = typer.Option(3, "--repeats", min=1, help="Rounds; methods take turns."),
    limit: float = typer.Option(
        2.0, "--limit", min=0.0, help="Leave out what takes more seconds a run than this."
    ),
    dtype: str = typer.Option("float32", "--dtype", help=", ".join(_DTYPES)),
    device: str = typer.Option("cpu", "--device", help="cpu or cuda."),
    json: bool = typer.Option(False, "--json", help="Print one JSON document to stdout."),
) -> None:
    """Measure every method on the layers of a network, or on one layer, against torch's own."""
    if dtype not in _DTYPES:
        raise UserError(f"--dtype '{dtype}' is not known; {suggestion(dtype, _DTYPES)}")
    if model is not None and layer:
        raise UserError("give --model or --layer, not both")
    import torch

    from hubel.cli.progress import reporting
    from hubel.conv.measure import measure, measure_peaks
    from hubel.conv.method import METHODS

    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise UserError(
            f"--device takes cpu, or cuda where torch sees a GPU, got '{device}'; leave it out"
        )
    methods = list(dict.fromkeys(["torch", *(method or METHODS.names())]))
    for name in methods:
        if name != "auto":
            METHODS[name]
    if model is not None:
        cases = _network(model, img_size, batch_size)
    else:
        texts = layer or [_DEFAULT_LAYER]
        cases = {_layer(text, batch_size): [text] for text in texts}

    for case in cases:
        numbers = sum(map(math.prod, (case.input_shape, case.weight_shape, case.output_shape)))
        if numbers > _LARGEST:
            raise UserError(
                f"a layer of at most {_LARGEST:,} numbers (input, weight and output) is measured, "
                f"got {numbers:,} for {case.words}; take a smaller --batch-size, --img-size or "
                f"--layer"
            )
    kind = getattr(torch, dtype)
    found = []
    with reporting() as report:
        report({"stage": "measuring this machine", "count": 0, "total": len(cases)})
        peaks = measure_peaks(kind, device)
        for number, case in enumerate(cases):
            report({"stage": "measuring layers", "count": number, "total": len(cases)})
            found.append(
                measure(case, methods, rounds=repeats, dtype=kind, device=device, limit_s=limit)
            )
        # Once more: a shared machine is faster in one minute than in the next.
        peaks = peaks.or_better(measure_peaks(kind, device))
    result = _document(cases, found, peaks, torch.finfo(kind).bits // 8)
    if json:
        print(json_module.dumps({"dtype": dtype, "device": device, **result}, allow_nan=False))
    else:
        _show(result, dtype)


def _layer(text: str, batch_size: int) -> "ConvCase":
    from hubel.conv.case import ConvCase

    parts = [part.strip() for part in text.split(",")]
    if not 4 <= len(parts) <= 8:
        raise UserError(
            f"--layer takes 4 to 8 values apart by commas (in channels, size, out channels, "
            f"kernel, stride, padding, dilation, groups), got '{text}'; for example "
            f"{_DEFAULT_LAYER}"
        )
    in_channels, size, out_channels, kernel, stride, padding, dilation, groups = (
        *parts,
        *("1", "0", "1", "1")[len(parts) - 4 :],
    )
    spatial = sizes("--layer size", size)
    dims = len(spatial)
    return ConvCase.of(
        batch_size,
        sizes("--layer in channels", in_channels)[0],
        sizes("--layer out channels", out_channels)[0],
        spatial,
        sizes_per_dim("--layer kernel", kernel, dims),
        stride=sizes_per_dim("--layer stride", stride, dims),
        padding=written_padding("--layer padding", padding, dims),
        dilation=sizes_per_dim("--layer dilation", dilation, dims),
        groups=sizes("--layer groups", groups)[0],
    )


def _network(name: str, img_size: int, batch_size: int) -> "dict[ConvCase, list[str]]":
    """Every different convolution of a network, with the names of the layers that are such."""
    import torch

    from hubel.conv.networks import distinct_cases
    from hubel.models import ModelSpec
    from hubel.network import network_of

    with torch.device("meta"):
        _, network = network_of(ModelSpec(name, 3, 1000, (img_size, img_size), stem="auto"))
    return distinct_cases(network, (batch_size, 3, img_size, img_size))


def _document(
    cases: "dict[ConvCase, list[str]]",
    found: "list[list[Measured]]",
    peaks: "Peaks",
    element_size: int,
) -> dict[str, Any]:
    layers = [
        {
            "layers": names,
            "case": case.words,
            "macs": case.macs,
            "flops": 2 * case.macs,
            "ceiling_gflops_per_s": peaks.ceiling(case, element_size) / 1e9,
            "methods": [_row(one, measured[0], case) for one in measured],
        }
        for (case, names), measured in zip(cases.items(), found, strict=True)
    ]
    return {
        "machine": {
            "gflops_per_s": peaks.flops_per_s / 1e9,
            "copy_gb_per_s": peaks.bytes_per_s / 1e9,
        },
        "layers": layers,
        "times_faster_than_torch": _summary(found),
    }


def _row(one: "Measured", torchs: "Measured", case: "ConvCase") -> dict[str, Any]:
    if one.refused is not None:
        return {"method": one.method, "refused": one.refused}
    row: dict[str, Any] = {
        "method": one.method,
        "median_s": one.median_s,
        "rounds_s": list(one.rounds_s),
        "gflops_per_s": 2 * case.macs / one.median_s / 1e9,
        "extra_mb": one.extra_bytes / 1e6,
    }
    if torchs.refused is None:
        middle, low, high = one.times_faster(torchs)
        row["times_faster_than_torch"] = middle
        row["times_faster_than_torch_range"] = [low, high]
    return row


def _summary(found: "list[list[Measured]]") -> dict[str, Any]:
    """Geometric mean of each method over the layers on which both it and torch ran."""
    ratios: dict[str, list[float]] = {}
    for measured in found:
        for one in measured:
            if one.refused is None and measured[0].refused is None:
                ratios.setdefault(one.method, []).append(one.times_faster(measured[0])[0])
    return {
        name: {"geometric_mean": statistics.geometric_mean(r), "layers": len(r)}
        for name, r in ratios.items()
    }


def _show(result: dict[str, Any], dtype: str) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    machine = result["machine"]
    console.print(
        f"this machine: {machine['gflops_per_s']:,.0f} GFLOP/s in {dtype}, copying "
        f"{machine['copy_gb_per_s']:.1f} GB/s"
    )
    console.print("GFLOP/s count the definition's work: fft and winograd do less.")
    console.print("Ratios are taken round against round: median and range.")
    for layer in result["layers"]:
        more = f" and {len(layer['layers']) - 1} more" if len(layer["layers"]) > 1 else ""
        console.print(f"\n{layer['case']}", style="bold", markup=False)
        console.print(
            f"{layer['layers'][0]}{more}: {layer['macs'] / 1e6:,.1f} MMACs, "
            f"{layer['flops'] / 1e6:,.1f} MFLOPs, ceiling {layer['ceiling_gflops_per_s']:,.0f}",
            markup=False,
        )
        table = Table(box=None, pad_edge=False)
        table.add_column("method")
        for name in ("ms", "GFLOP/s", "extra MB", "torch's speed ×", "range"):
            table.add_column(name, justify="right")
        ran = [row for row in layer["methods"] if "median_s" in row]
        for row in sorted(ran, key=lambda row: row["median_s"]):
            times = row.get("times_faster_than_torch")
            low, high = row.get("times_faster_than_torch_range", (None, None))
            table.add_row(
                row["method"],
                f"{1e3 * row['median_s']:,.2f}",
                f"{row['gflops_per_s']:,.1f}",
                f"{row['extra_mb']:,.2f}",
                "" if times is None else f"{times:.2f}",
                "" if low is None else f"{low:.2f}–{high:.2f}",
            )
        console.print(table)
        for row in layer["methods"]:
            if "refused" in row:
                console.print(f"{row['method']}: {row['refused']}", style="dim", markup=False)
    if len(result["layers"]) > 1:
        console.print("\ntimes torch's speed (above 1 is faster), geometric means", style="bold")
        means = result["times_faster_than_torch"].items()
        for name, mean in sorted(means, key=lambda m: -m[1]["geometric_mean"]):
            console.print(f"{name:12} {mean['geometric_mean']:.2f} over {mean['layers']} layers")
