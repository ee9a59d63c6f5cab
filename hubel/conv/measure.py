"""How fast each method computes a case on this machine, and what this machine could do at most."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from hubel.conv.case import ConvCase
from hubel.conv.convolve import convolve, refusal
from hubel.conv.memory import extra_bytes

__all__ = ["Measured", "Peaks", "measure", "measure_peaks"]

_COPY_BYTES = 1 << 28


@dataclass(frozen=True)
class Peaks:
    """The machine's roofline (Williams, Waterman & Patterson 2009): two measured ceilings."""

    flops_per_s: float
    """The fastest of a square product, a tall one, and one of torch's convolutions."""
    bytes_per_s: float
    """Read and written by a copy too large for the caches."""

    def or_better(self, other: "Peaks") -> "Peaks":
        """The higher of both, each."""
        return Peaks(
            max(self.flops_per_s, other.flops_per_s), max(self.bytes_per_s, other.bytes_per_s)
        )

    def ceiling(self, case: ConvCase, element_size: int) -> float:
        """FLOP/s that `case` can reach if its tensors travel once between memory and processor."""
        numbers = sum(
            torch.Size(shape).numel()
            for shape in (case.input_shape, case.weight_shape, case.output_shape)
        )
        intensity = 2 * case.macs / (numbers * element_size)  # FLOPs a byte
        return min(self.flops_per_s, self.bytes_per_s * intensity)


@dataclass(frozen=True)
class Measured:
    """One method on one case: its seconds, a value a round, or why there are none."""

    method: str
    rounds_s: tuple[float, ...] = ()
    extra_bytes: int = 0
    refused: str | None = None

    @property
    def median_s(self) -> float:
        """Of the rounds."""
        return statistics.median(self.rounds_s)

    def times_faster(self, baseline: "Measured") -> tuple[float, float, float]:
        """Than `baseline`, round against round: median, lowest, highest."""
        ratios = [b / s for b, s in zip(baseline.rounds_s, self.rounds_s, strict=True)]
        return statistics.median(ratios), min(ratios), max(ratios)


def measure(
    case: ConvCase,
    methods: Sequence[str],
    *,
    rounds: int = 3,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    limit_s: float = 5.0,
) -> list[Measured]:
    """Time the forward pass of `case` by each method, in turn, `rounds` times.

    Input and weight are channels last, the order that all methods like best. Every round runs
    the methods in the other direction. A method that would take more than `limit_s` for one
    run, as far as a run of one sample tells, is left out and says so.
    """
    generator = torch.Generator().manual_seed(0)
    input = _channels_last(torch.randn(case.input_shape, generator=generator), dtype, device)
    weight = _channels_last(torch.randn(case.weight_shape, generator=generator), dtype, device)
    found: dict[str, Measured] = {}
    with torch.no_grad():
        for name in methods:
            why = None if name == "auto" else refusal(name, case, input)
            why = why or _too_slow(name, case, input, weight, limit_s)
            if why is None:
                _seconds(name, case, input, weight)  # fills caches, compiles, tunes
                extra = extra_bytes(partial(convolve, input, weight, None, case, name))
                found[name] = Measured(name, extra_bytes=max(0, extra))
            else:
                found[name] = Measured(name, refused=why)
        running = [name for name in methods if found[name].refused is None]
        for number in range(rounds):
            for name in running if number % 2 == 0 else running[::-1]:
                took_s = _seconds(name, case, input, weight)
                so_far = found[name]
                found[name] = dataclasses.replace(so_far, rounds_s=(*so_far.rounds_s, took_s))
    return [found[name] for name in methods]


def measure_peaks(
    dtype: torch.dtype = torch.float32, device: str = "cpu", *, each_s: float = 1.0
) -> Peaks:
    """The two ceilings, best of up to ten runs each, as many as fit into `each_s` seconds."""

    def ones(*shape: int) -> Tensor:
        return _channels_last(torch.ones(shape), dtype, device)

    side = 2048 if dtype.itemsize > 2 or dtype == torch.bfloat16 or device == "cuda" else 256
    products = [(ones(side, side), ones(side, side)), (ones(4096, 256), ones(256, 256))]
    case = ConvCase.of(8, 128, 128, (28, 28), 3, padding=1)
    input, weight = ones(*case.input_shape), ones(*case.weight_shape)
    rates = [
        2
        * case.macs
        / _fastest(partial(convolve, input, weight, None, case, "torch"), device, each_s)
    ]
    for a, b in products:
        out = torch.empty(a.shape[0], b.shape[1], dtype=dtype, device=device)
        flops = 2 * a.numel() * b.shape[1]
        rates.append(flops / _fastest(partial(torch.matmul, a, b, out=out), device, each_s))
    source = torch.ones(_COPY_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copied_s = _fastest(lambda: target.copy_(source), device, each_s)
    return Peaks(max(rates), 2 * _COPY_BYTES / copied_s)


def _fastest(function: Callable[[], object], device: str, limit_s: float) -> float:
    """Of ten runs, or of those that fit into the limit: 16-bit products can be emulated."""
    fastest_s, until_s = _timed(function, device), time.perf_counter() + limit_s
    for _ in range(9):
        if time.perf_counter() > until_s:
            break
        fastest_s = min(fastest_s, _timed(function, device))
    return fastest_s


def _channels_last(tensor: Tensor, dtype: torch.dtype, device: str) -> Tensor:
    moved = tensor.to(device=device, dtype=dtype).movedim(1, -1)
    return moved.contiguous().movedim(-1, 1)


def _too_slow(
    name: str, case: ConvCase, input: Tensor, weight: Tensor, limit_s: float
) -> str | None:
    single = dataclasses.replace(case, n=1)
    _seconds(name, single, input[:1], weight)  # a first run may start libraries and compile
    about_s = case.n * _seconds(name, single, input[:1], weight)
    return f"would take about {about_s:.0f} s a run" if about_s > limit_s else None


def _seconds(name: str, case: ConvCase, input: Tensor, weight: Tensor) -> float:
    return _timed(lambda: convolve(input, weight, None, case, name), input.device.type)


def _timed(function: Callable[[], object], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    start_s = time.perf_counter()
    function()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start_s
