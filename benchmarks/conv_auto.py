"""Where 'auto' leaves torch: the cases that its rules name, forward and with both gradients.

    python benchmarks/conv_auto.py [--repeats R] [--json FILE]

torch.nn.functional's convolution is the baseline, hubel.conv's 'auto' the case, in turn, in the
same run; each through autograd, the gradients by a backward pass. A line: layer, dtype, the
method that auto took, milliseconds of both, times faster [lowest to highest round].
"""

import json
import time
from collections.abc import Callable

import torch
from common import alternate, machine, parser, ratio

from hubel.conv.case import ConvCase
from hubel.conv.choose import choose_method
from hubel.conv.convolve import convolve

CASES = [
    (torch.float32, ConvCase.of(8, 64, 64, (56, 56), 3, padding=1)),
    (torch.float32, ConvCase.of(8, 3, 64, (224, 224), 7, stride=2, padding=3)),
    (torch.float32, ConvCase.of(8, 256, 64, (28, 28), 1)),
    (torch.float32, ConvCase.of(4, 32, 32, (64, 64), 15, padding=7)),
    (torch.float32, ConvCase.of(4, 16, 16, (48, 48), 31, padding=15)),
    (torch.float32, ConvCase.of(4, 16, 32, (4096,), 1001, padding=500)),
    (torch.float32, ConvCase.of(8, 32, 32, (2048,), 501, padding=250)),
    (torch.float32, ConvCase.of(2, 16, 16, (24, 24, 24), 11, padding=5)),
    (torch.float64, ConvCase.of(8, 64, 64, (56, 56), 3, padding=1)),
    (torch.float64, ConvCase.of(8, 128, 128, (56, 56), 3, stride=2, padding=1)),
    (torch.float64, ConvCase.of(8, 256, 256, (28, 28), 3, padding=1)),
    (torch.float64, ConvCase.of(4, 16, 16, (24, 24, 24), 3, padding=1)),
    (torch.float64, ConvCase.of(8, 16, 16, (28, 28), 3, padding=1)),
]


def runs(case: ConvCase, dtype: torch.dtype, backward: bool) -> dict[str, Callable[[], float]]:
    """Both cases, each timing itself."""
    generator = torch.Generator().manual_seed(0)
    x, w, g = (
        torch.randn(shape, generator=generator, dtype=dtype)
        .movedim(1, -1)
        .contiguous()
        .movedim(-1, 1)
        for shape in (case.input_shape, case.weight_shape, case.output_shape)
    )
    conv = {1: torch.conv1d, 2: torch.conv2d, 3: torch.conv3d}[case.dims]
    padding = [low for low, _ in case.padding]

    def timed(function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> float:
        a, b = x.clone().requires_grad_(backward), w.clone().requires_grad_(backward)
        start_s = time.perf_counter()
        output = function(a, b)
        if backward:
            torch.autograd.grad(output, (a, b), g)
        return time.perf_counter() - start_s

    return {
        "torch": lambda: timed(
            lambda a, b: conv(a, b, None, case.stride, padding, case.dilation, case.groups)
        ),
        "auto": lambda: timed(lambda a, b: convolve(a, b, None, case)),
    }


def main() -> None:
    options = parser(__doc__).parse_args()
    facts = machine()
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    print(f"{torch.get_num_threads()} threads, {options.repeats} rounds")
    rows = []
    for dtype, case in CASES:
        taken = choose_method(case, dtype, "cpu")
        print(f"{case.words}, {str(dtype)[6:]}: auto takes {taken}")
        for backward in (False, True):
            times = alternate(runs(case, dtype, backward), options.repeats)
            middle, low, high = ratio(times["torch"], times["auto"])
            what = "with gradients" if backward else "forward"
            print(
                f"  {what:15} torch {1e3 * times['torch'].median_s:9.2f} ms, auto "
                f"{1e3 * times['auto'].median_s:9.2f} ms  {middle:.2f}x [{low:.2f}-{high:.2f}]",
                flush=True,
            )
            rows.append(
                {
                    "case": case.words,
                    "dtype": str(dtype),
                    "method": taken,
                    "what": what,
                    "rounds_s": {name: t.rounds for name, t in times.items()},
                    "times_faster": [middle, low, high],
                }
            )
    if options.json is not None:
        result = {"benchmark": "conv_auto", "machine": facts, "rows": rows}
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
