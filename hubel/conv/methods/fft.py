"""Convolution by the Fourier transform: a product at each frequency.

Source: Mathieu, Henaff & LeCun 2014, Fast Training of Convolutional Networks through FFTs (arXiv
1312.5851). A circular correlation is Y(f) = conj(W(f)) · X(f), summed over channels: at every
frequency a complex GEMM [samples × C] @ [C × K]. Its cost does not depend on the kernel's size,
so large kernels are where it wins. The gradients are the same product with other partners:
dX(f) = W(f) · dY(f) and dW(f) = conj(dY(f)) · X(f).

Three details differ from the textbook:

- Nothing is padded before the transform. A tap t reads the pixel t·dilation - low away from the
  output's, so the kernel is laid at that position of the circle; a circle of the input's size and
  the larger side's padding is enough, because the zeros of both sides share it.
- A stride s is not computed and thrown away: output o meets pixel o·s + u at phase u mod s and
  place o + floor(u / s), so the input's phases become channels of a correlation of stride 1 on a
  circle s times shorter. Phases that no tap meets are left out.
- Lengths are rounded up to products of 2, 3 and 5, for which every FFT library is fast.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import TypeAlias

import torch
from torch import Tensor

from hubel.conv.case import ConvCase
from hubel.conv.method import METHODS, Method
from hubel.conv.views import sum_dtype

__all__ = ["FFT", "fast_length"]

PIECE_ELEMENTS = 2**20
"""Maps are transformed a few rows at a time: as many as stay under this, or one."""
BLOCK_ELEMENTS = 2**22
"""Spectra of kernels and outputs alive at once: these, or as many as the input's has."""


def fast_length(n: int) -> int:
    """The smallest length of at least `n` that has no prime factor above 5.

    >>> [fast_length(n) for n in (1, 7, 225, 227)]
    [1, 8, 225, 240]
    """
    while True:
        rest = n
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return n
        n += 1


@dataclass(frozen=True)
class _Axis:
    """One spatial dimension: its circle, and which pixels and taps lie where on it.

    Pixel i lies at place i // stride of phase i mod stride. Only `phases` that a tap meets are
    kept. `taps` has the position of each tap: its phase's index · length + its place.
    """

    length: int
    stride: int
    phases: tuple[int, ...]
    taps: tuple[int, ...]

    @classmethod
    def of(cls, case: ConvCase, dim: int) -> "_Axis":
        stride, low = case.stride[dim], case.padding[dim][0]
        # Where each tap reads, seen from the input pixel output·stride.
        shifts = [t * case.dilation[dim] - low for t in range(case.kernel_size[dim])]
        phases = sorted({u % stride for u in shifts})
        pixels, out = -(-case.size[dim] // stride), case.output_size[dim]
        # Places read run from shifts[0] // stride, which where negative wraps round to the end
        # of the circle and must meet zeros there, to that of the last output's last tap.
        length = fast_length(
            max(pixels, out, pixels - shifts[0] // stride, out + shifts[-1] // stride)
        )
        taps = tuple(phases.index(u % stride) * length + u // stride % length for u in shifts)
        return cls(length, stride, tuple(phases), taps)


class _Plan:
    """The transforms of one case.

    Maps are (rows, groups, channels, *spatial). On the circle they are (rows, groups, channels,
    *phases, *lengths), and the phases count as channels from there on. Spectra are (frequencies ·
    groups, rows, channels): a batch of matrices.
    """

    def __init__(self, case: ConvCase) -> None:
        self.case = case
        self.axes = [_Axis.of(case, dim) for dim in range(case.dims)]
        self.lengths = tuple(axis.length for axis in self.axes)
        # The last axis of a real signal's spectrum is half redundant.
        self.frequencies = (*self.lengths[:-1], self.lengths[-1] // 2 + 1)
        self.phases = tuple(len(axis.phases) for axis in self.axes)
        self.in_channels = case.in_channels // case.groups * prod(self.phases)
        self.out_channels = case.out_channels // case.groups

    def elements(self, rows: int, channels: int) -> int:
        """Numbers in the spectra of so many maps; a complex one counts twice."""
        return 2 * prod(self.frequencies) * self.case.groups * rows * channels

    def piece(self, rows: int, channels: int) -> int:
        """How many rows are transformed together."""
        return min(rows, max(1, PIECE_ELEMENTS // self.elements(1, channels)))

    def block(self) -> int:
        """How many output channels of each group have their spectra alive together."""
        each = self.elements(1, self.in_channels) + self.elements(self.case.n, 1)
        budget = max(self.elements(self.case.n, self.in_channels), BLOCK_ELEMENTS)
        return min(self.out_channels, max(1, budget // each))

    def blocks(self) -> Iterator[slice]:
        return _slices(self.out_channels, self.block())

    def grouped(self, maps: Tensor) -> Tensor:
        """Input or output (n, channels, *spatial) as (n, groups, channels / groups, *spatial)."""
        return maps.view(maps.shape[0], self.case.groups, -1, *maps.shape[2:])

    def kernels(self, weight: Tensor) -> Tensor:
        """Weight as (out_channels / groups, groups, in_channels / groups, *kernel_size)."""
        return weight.view(self.case.groups, -1, *weight.shape[1:]).transpose(0, 1)

    def of_input(self, input: Tensor) -> Tensor:
        """Spectra (frequencies · groups, n, phases · in_channels / groups)."""
        return self.spectra(self.grouped(input), _lay_input, self.in_channels)

    def of_output(self, maps: Tensor, block: slice) -> Tensor:
        """Spectra (frequencies · groups, n, block) of some channels of an output's gradient."""
        maps = self.grouped(maps)[:, :, block]
        return self.spectra(maps, _lay_output, maps.shape[2])

    def of_kernels(self, weight: Tensor, block: slice) -> Tensor:
        """Spectra (frequencies · groups, block, phases · in_channels / groups)."""
        return self.spectra(self.kernels(weight)[block], _lay_taps, self.in_channels)

    def spectra(self, maps: Tensor, lay: "_Lay", channels: int) -> Tensor:
        """The spectra of maps, each set on its circle by `lay`, which makes `channels` of them."""
        rows = maps.shape[0]
        dtype = sum_dtype(maps.dtype)
        result = maps.new_empty(
            (prod(self.frequencies), self.case.groups, rows, channels), dtype=dtype.to_complex()
        )
        for piece in _slices(rows, self.piece(rows, channels)):
            # Nested, without names: what is no longer needed is freed at once.
            # (rows, g, c, *phases, *frequencies) -> (frequencies, g, rows, c)
            result[:, :, piece].copy_(
                torch.fft.rfftn(lay(self, maps[piece].to(dtype)), dim=self._last())
                .reshape(-1, self.case.groups, channels, prod(self.frequencies))
                .permute(3, 1, 0, 2)
            )
        return result.view(-1, rows, channels)

    def back(self, spectra: Tensor, take: "_Take", maps: Tensor) -> None:
        """Write what the spectra stand for into `maps`, by way of `take`."""
        rows, channels = spectra.shape[1:]
        batched = spectra.view(*self.frequencies, self.case.groups, rows, channels)
        for piece in _slices(rows, self.piece(rows, channels)):
            found = batched[..., piece, :].movedim((-2, -3, -1), (0, 1, 2))
            take(self, torch.fft.irfftn(found, self.lengths, self._last()), maps[piece])

    def _last(self) -> tuple[int, ...]:
        return tuple(range(-self.case.dims, 0))

    def phase_views(self, maps: Tensor, circle: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Pixels of each phase, and their places on the circle: two views of the same shape."""
        every = [slice(None)] * 3
        for index in product(*(range(n) for n in self.phases)):
            starts = (axis.phases[i] for axis, i in zip(self.axes, index, strict=True))
            strides = (axis.stride for axis in self.axes)
            pixels = maps[
                tuple(every + [slice(a, None, s) for a, s in zip(starts, strides, strict=True)])
            ]
            places = circle
            for i in index:
                places = places.select(3, i)
            yield pixels, _corner(places, pixels)


_Lay: TypeAlias = Callable[[_Plan, Tensor], Tensor]
_Take: TypeAlias = Callable[[_Plan, Tensor, Tensor], None]


def _lay_input(plan: _Plan, maps: Tensor) -> Tensor:
    circle = maps.new_zeros((*maps.shape[:3], *plan.phases, *plan.lengths))
    for pixels, places in plan.phase_views(maps, circle):
        places.copy_(pixels)
    return circle


def _take_input(plan: _Plan, circle: Tensor, maps: Tensor) -> None:
    circle = circle.view(*maps.shape[:3], *plan.phases, *plan.lengths)
    maps.zero_()  # pixels of phases that no tap meets
    for pixels, places in plan.phase_views(maps, circle):
        pixels.copy_(places)


def _lay_taps(plan: _Plan, maps: Tensor) -> Tensor:
    # On a circle shorter than the kernel taps may share a place; those only ever meet zeros.
    for dim, axis in enumerate(plan.axes, start=3):
        shape = list(maps.shape)
        shape[dim] = len(axis.phases) * axis.length
        places = torch.tensor(axis.taps, device=maps.device)
        maps = maps.new_zeros(shape).index_copy_(dim, places, maps)
    pairs = (n for axis in plan.axes for n in (len(axis.phases), axis.length))
    dims = range(len(plan.axes))
    order = (0, 1, 2, *(3 + 2 * i for i in dims), *(4 + 2 * i for i in dims))
    return maps.view(*maps.shape[:3], *pairs).permute(order)


def _take_taps(plan: _Plan, circle: Tensor, maps: Tensor) -> None:
    circle = circle.view(*maps.shape[:3], *plan.phases, *plan.lengths)
    dims = range(len(plan.axes))
    order = (0, 1, 2, *(axis for i in dims for axis in (3 + i, 3 + len(dims) + i)))
    joined = (len(axis.phases) * axis.length for axis in plan.axes)
    circle = circle.permute(order).reshape(*maps.shape[:3], *joined)
    for dim, axis in enumerate(plan.axes, start=3):
        circle = circle.index_select(dim, torch.tensor(axis.taps, device=circle.device))
    maps.copy_(circle)


def _lay_output(plan: _Plan, maps: Tensor) -> Tensor:
    circle = maps.new_zeros((*maps.shape[:3], *plan.lengths))
    _corner(circle, maps).copy_(maps)
    return circle


def _take_output(plan: _Plan, circle: Tensor, maps: Tensor) -> None:
    maps.copy_(_corner(circle, maps))


def _corner(circle: Tensor, maps: Tensor) -> Tensor:
    """The view of the circle where places count from 0 and which has the shape of `maps`."""
    return circle[tuple(slice(0, length) for length in maps.shape)]


class FFT(Method):
    """Any kernel, stride, padding, dilation and groups, in 1-D to 3-D.

    Spectra of the whole input are alive together, those of kernels and outputs a block of output
    channels at a time. Half precisions compute in float32 and round once.
    """

    summary = "a product at each frequency of a real FFT (Mathieu et al. 2014); for large kernels"
    extra_memory = (
        "X + max(X, 2²²) for a block of kernels and outputs + 3·2²⁰ for FFTs, at least one channel "
        "and one sample of each; X = 2·N·C·F the input's spectra, F frequencies times phases"
    )

    def extra_elements(self, case: ConvCase) -> int:
        plan = _Plan(case)
        pieces = max(
            plan.elements(plan.piece(rows, channels), channels)
            for rows, channels in (
                (case.n, plan.in_channels),
                (plan.block(), plan.in_channels),
                (case.n, plan.block()),
            )
        )
        block = plan.elements(plan.block(), plan.in_channels) + plan.elements(case.n, plan.block())
        return plan.elements(case.n, plan.in_channels) + block + 3 * pieces

    def forward(self, input: Tensor, weight: Tensor, case: ConvCase) -> Tensor:
        plan = _Plan(case)
        pixels = plan.of_input(input)
        output = input.new_empty(case.output_shape)
        for block in plan.blocks():
            taps = plan.of_kernels(weight, block).conj_physical_()
            products = torch.bmm(pixels, taps.mT)
            del taps  # before the way back needs room
            plan.back(products, _take_output, plan.grouped(output)[:, :, block])
            del products
        return output

    def grad_input(self, grad_output: Tensor, weight: Tensor, case: ConvCase) -> Tensor:
        plan = _Plan(case)
        shape = (prod(plan.frequencies) * case.groups, case.n, plan.in_channels)
        pixels = weight.new_zeros(shape, dtype=sum_dtype(weight.dtype).to_complex())
        for block in plan.blocks():
            pixels.baddbmm_(plan.of_output(grad_output, block), plan.of_kernels(weight, block))
        grad = grad_output.new_empty(case.input_shape)
        plan.back(pixels, _take_input, plan.grouped(grad))
        return grad

    def grad_weight(self, grad_output: Tensor, input: Tensor, case: ConvCase) -> Tensor:
        plan = _Plan(case)
        pixels = plan.of_input(input)
        grad = input.new_empty(case.weight_shape)
        for block in plan.blocks():
            maps = plan.of_output(grad_output, block).conj_physical_()
            products = torch.bmm(maps.mT, pixels)
            del maps
            plan.back(products, _take_taps, plan.kernels(grad)[block])
            del products
        return grad


def _slices(total: int, step: int) -> Iterator[slice]:
    """0 to `total` in steps."""
    return (slice(i, min(i + step, total)) for i in range(0, total, step))


METHODS.register("fft")(FFT())
