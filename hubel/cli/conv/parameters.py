"""`hubel conv parameters`: what a convolution saves against a dense layer."""

import json as json_module
import math
from collections.abc import Iterator
from typing import Any

import typer

from hubel.cli.conv.options import sizes, sizes_per_dim, written_padding
from hubel.errors import UserError
from hubel.shapes import (
    Padding,
    conv_macs,
    conv_parameters,
    format_shape,
    linear_parameters,
    output_size,
)

__all__ = ["parameters"]

_MOST = 1_000_000_000


def parameters(
    in_features: int = typer.Option(10_000, min=1, max=_MOST, help="Inputs of the dense layer."),
    out_features: int = typer.Option(1_000, min=1, max=_MOST, help="Outputs of the dense layer."),
    in_channels: int = typer.Option(
        3, min=1, max=_MOST, help="Channels that the convolution gets."
    ),
    out_channels: int = typer.Option(200, min=1, max=_MOST, help="Channels that it makes."),
    kernel: str = typer.Option("5x5", "--kernel", help="Size: 5 (in every dimension) or 5x5."),
    groups: int = typer.Option(1, min=1, max=_MOST, help="Groups of channels."),
    bias: bool = typer.Option(True, help="Count one bias for each output."),
    input: str | None = typer.Option(
        None, "--input", help="Size of a picture, 100x100: MACs, FLOPs and activations too."
    ),
    stride: str = typer.Option("1", "--stride", help="With --input: 2 or 2x1."),
    padding: str = typer.Option(
        "0", "--padding", help="With --input: 1, 1x2, low:high pairs 0:1x2, same or valid."
    ),
    dilation: str = typer.Option("1", "--dilation", help="With --input: 2 or 2x1."),
    json: bool = typer.Option(False, "--json", help="Print one JSON document to stdout."),
) -> None:
    """Weights of a dense layer against those of a convolution; the lecture's by default."""
    size = sizes("--input", input) if input is not None else None
    if size is None and (stride, padding, dilation) != ("1", "0", "1"):
        raise UserError(
            "--stride, --padding and --dilation change no number of weights; they need --input, "
            "the size of a picture, such as --input 100x100"
        )
    written = sizes("--kernel", kernel)
    dims = len(size) if size is not None else max(2, len(written))
    taps = sizes_per_dim("--kernel", kernel, dims)
    dense = _counted(linear_parameters(in_features, out_features, bias=False), out_features, bias)
    weights = conv_parameters(in_channels, out_channels, taps, groups=groups, bias=False)
    conv = _counted(weights, out_channels, bias)
    found: dict[str, Any] = {
        "dense": {"in_features": in_features, "out_features": out_features, **dense},
        "conv": {
            "in_channels": in_channels,
            "out_channels": out_channels,
            "kernel_size": taps,
            "groups": groups,
            **conv,
        },
        "dense_over_conv": dense["num_parameters"] / conv["num_parameters"],
        "on_input": None,
    }
    if size is not None:
        sides: Padding = written_padding("--padding", padding, dims)
        output = output_size(
            size,
            taps,
            stride=sizes_per_dim("--stride", stride, dims),
            padding=sides,
            dilation=sizes_per_dim("--dilation", dilation, dims),
        )
        inputs, outputs = in_channels * math.prod(size), out_channels * math.prod(output)
        macs = conv_macs(in_channels, out_channels, taps, output, groups=groups)
        same = _counted(inputs * outputs, outputs, bias)
        found["on_input"] = {
            "input_shape": (in_channels, *size),
            "output_shape": (out_channels, *output),
            "input_elements": inputs,
            "output_elements": outputs,
            "macs": macs,
            "flops": 2 * macs,
            "same_as_dense": {**same, "macs": inputs * outputs, "flops": 2 * inputs * outputs},
            "dense_over_conv": same["num_parameters"] / conv["num_parameters"],
        }
    if json:
        print(json_module.dumps(found, allow_nan=False))
        return
    for line in _report(found):
        print(line)


def _counted(weights: int, outputs: int, bias: bool) -> dict[str, int]:
    biases = outputs if bias else 0
    return {"num_weights": weights, "num_biases": biases, "num_parameters": weights + biases}


def _report(found: dict[str, Any]) -> Iterator[str]:
    dense, conv, on_input = found["dense"], found["conv"], found["on_input"]
    yield f"dense layer {dense['in_features']:,} → {dense['out_features']:,}"
    yield from _count_lines(dense, f"{dense['in_features']}·{dense['out_features']}")
    yield ""
    groups = f", {conv['groups']} groups" if conv["groups"] > 1 else ""
    kernel = format_shape(*conv["kernel_size"])
    yield (
        f"convolution {kernel}, {conv['in_channels']:,} → {conv['out_channels']:,} channels{groups}"
    )
    per_filter = [*conv["kernel_size"], conv["in_channels"] // conv["groups"]]
    yield from _count_lines(conv, "·".join(map(str, [*per_filter, conv["out_channels"]])))
    yield ""
    yield f"The dense layer has {_times(found['dense_over_conv'])} the convolution's parameters."
    if on_input is None:
        yield "The convolution's number does not depend on the size of the picture."
        return
    dense = on_input["same_as_dense"]
    yield ""
    shapes = [format_shape(*on_input[f"{side}_shape"]) for side in ("input", "output")]
    yield f"on one input {shapes[0]}"
    yield f"  output         {shapes[1]} = {on_input['output_elements']:,} activations"
    yield f"  MACs           {on_input['macs']:,}"
    yield f"  FLOPs          {on_input['flops']:,} (= 2·MACs)"
    yield ""
    yield (
        f"a dense layer from and to the same: {on_input['input_elements']:,} → "
        f"{on_input['output_elements']:,}"
    )
    yield from _count_lines(dense, f"{on_input['input_elements']}·{on_input['output_elements']}")
    yield f"  MACs           {dense['macs']:,}"
    yield f"  FLOPs          {dense['flops']:,} (= 2·MACs)"
    yield f"  parameters     {_times(on_input['dense_over_conv'])} the convolution's"


def _count_lines(counts: dict[str, int], product: str) -> Iterator[str]:
    yield f"  weights        {counts['num_weights']:,} = {product}"
    yield f"  biases         {counts['num_biases']:,}"
    yield f"  parameters     {counts['num_parameters']:,}"


def _times(ratio: float) -> str:
    return f"{ratio:,.0f} times" if ratio >= 100 else f"{ratio:.3g} times"
