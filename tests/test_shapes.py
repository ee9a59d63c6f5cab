"""Shape arithmetic against torch over thousands of drawn layers, in 1, 2 and 3 dimensions.

Sizes come from torch's `meta` device, which computes shapes and nothing else; what a window
reads is told by the gradient of real convolutions whose weights are ones.
"""

import doctest
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hubel import shapes
from hubel.errors import UserError
from hubel.shapes import (
    ReceptiveField,
    check_groups,
    conv_macs,
    conv_parameters,
    dropped_pixels,
    format_shape,
    linear_parameters,
    output_size,
    pad_sides,
    padding_for,
    per_dim,
    pooled_size,
    require_at_least,
    spread_kernel,
    transposed_size,
    unseen_pixels,
)

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
CONV_MODULE = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVG_POOL = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}

Ints = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """One drawn layer; every tuple has an entry a dimension."""

    dims: int
    size: Ints
    kernel_size: Ints
    stride: Ints
    padding: tuple[tuple[int, int], ...]
    dilation: Ints

    @property
    def flat_padding(self) -> list[int]:
        """As `F.pad` takes it: from the last dimension."""
        return [side for pair in reversed(self.padding) for side in pair]

    def padded(self, input: Tensor) -> Tensor:
        return F.pad(input, self.flat_padding)


def layers(
    count: int, seed: int, *, size: int = 9, dims: tuple[int, ...] = (1, 2, 3)
) -> Iterator[Layer]:
    """`count` drawn layers, many of which do not fit their input."""
    rng = np.random.default_rng(seed)

    def draw(low: int, high: int, n: int) -> Ints:
        return tuple(int(v) for v in rng.integers(low, high + 1, n))

    for _ in range(count):
        n = int(rng.choice(dims))
        padding = zip(draw(0, 3, n), draw(0, 3, n), strict=True)
        yield Layer(
            n, draw(1, size, n), draw(1, 5, n), draw(1, 4, n), tuple(padding), draw(1, 3, n)
        )


def size_or_refusal(compute: Callable[[], Ints], refusal: type[Exception]) -> Ints | None:
    """What `compute` gives, or None where it raises `refusal`."""
    try:
        return tuple(compute())
    except refusal:
        return None


def agree(ours: Callable[[], Ints], torchs: Callable[[], Ints], layer: Layer) -> bool:
    """Both give the same size, or both refuse; whether there was a size.

    Some of torch's transposed convolutions give an empty map, others refuse to: a refusal.
    """
    mine = size_or_refusal(ours, UserError)
    theirs = size_or_refusal(torchs, RuntimeError)
    theirs = None if theirs and min(theirs) == 0 else theirs
    assert mine == theirs, layer
    return mine is not None


def meta(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta")


def test_output_size_is_torchs() -> None:
    fitting = 0
    for layer in layers(2000, seed=0):
        groups = layer.size[0] % 3 + 1  # torch's shape must not depend on it

        def torchs(layer: Layer = layer, groups: int = groups) -> Ints:
            return CONV[layer.dims](
                layer.padded(meta(1, groups, *layer.size)),
                meta(2 * groups, 1, *layer.kernel_size),
                stride=layer.stride,
                dilation=layer.dilation,
                groups=groups,
            ).shape[2:]

        def ours(layer: Layer = layer) -> Ints:
            return output_size(
                layer.size,
                layer.kernel_size,
                stride=layer.stride,
                padding=layer.padding,
                dilation=layer.dilation,
            )

        fitting += agree(ours, torchs, layer)
    assert 1000 < fitting < 1900  # the draws reach both answers


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_padding_by_name_is_torchs(padding: str) -> None:
    for layer in layers(500, seed=1):
        stride = 1 if padding == "same" else layer.stride

        def torchs(layer: Layer = layer, stride: int | Ints = stride) -> Ints:
            return CONV[layer.dims](
                meta(1, 1, *layer.size),
                meta(1, 1, *layer.kernel_size),
                stride=stride,
                padding=padding,
                dilation=layer.dilation,
            ).shape[2:]

        def ours(layer: Layer = layer, stride: int | Ints = stride) -> Ints:
            return output_size(
                layer.size,
                layer.kernel_size,
                stride=stride,
                padding=padding,  # type: ignore[arg-type]
                dilation=layer.dilation,
            )

        fits = agree(ours, torchs, layer)
        assert fits or padding == "valid"


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
def test_same_pads_the_sides_that_torch_pads() -> None:
    """The sides show in the values: a window of even size sees one pixel more to the right."""
    for layer in layers(100, seed=2, size=5):
        input = torch.rand(1, 1, *layer.size, dtype=torch.float64)
        weight = torch.rand(1, 1, *layer.kernel_size, dtype=torch.float64)
        conv = CONV[layer.dims]
        sides = pad_sides("same", layer.kernel_size, dilation=layer.dilation)
        ours = conv(
            F.pad(input, [side for pair in reversed(sides) for side in pair]),
            weight,
            dilation=layer.dilation,
        )
        torch.testing.assert_close(
            ours, conv(input, weight, padding="same", dilation=layer.dilation)
        )


def test_transposed_size_is_torchs() -> None:
    rng = np.random.default_rng(3)
    fitting = 0
    for layer in layers(2000, seed=3):
        padding = tuple(low for low, _ in layer.padding)
        extra = tuple(int(a) for a in rng.integers(0, 3, layer.dims))

        def torchs(layer: Layer = layer, padding: Ints = padding, extra: Ints = extra) -> Ints:
            return CONV_TRANSPOSE[layer.dims](
                meta(1, 1, *layer.size),
                meta(1, 1, *layer.kernel_size),
                stride=layer.stride,
                padding=padding,
                output_padding=extra,
                dilation=layer.dilation,
            ).shape[2:]

        def ours(layer: Layer = layer, padding: Ints = padding, extra: Ints = extra) -> Ints:
            return transposed_size(
                layer.size,
                layer.kernel_size,
                stride=layer.stride,
                padding=padding,
                output_padding=extra,
                dilation=layer.dilation,
            )

        fitting += agree(ours, torchs, layer)
    assert 500 < fitting < 1900


def test_transposed_size_undoes_output_size() -> None:
    """With the right output_padding: the pixels that the floor left over (per-side padding)."""
    undone = 0
    for layer in layers(1000, seed=4):
        window = {
            "stride": layer.stride,
            "padding": layer.padding,
            "dilation": layer.dilation,
        }
        out = size_or_refusal(
            lambda layer=layer, window=window: output_size(layer.size, layer.kernel_size, **window),
            UserError,
        )
        if out is None:
            continue
        undone += 1
        extra = tuple(
            (low + i + high - spread_kernel(k, d)) % s
            for i, k, s, (low, high), d in zip(
                layer.size,
                layer.kernel_size,
                layer.stride,
                layer.padding,
                layer.dilation,
                strict=True,
            )
        )
        assert transposed_size(out, layer.kernel_size, output_padding=extra, **window) == layer.size
    assert undone > 500


@pytest.mark.parametrize("kind", ["max", "average"])
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_pooled_size_is_torchs(kind: str, ceil_mode: bool) -> None:
    fitting = 0
    for layer in layers(1500, seed=5):
        padding = tuple(low for low, _ in layer.padding)
        if (kind, layer.dims) == ("average", 3) and any(
            i < k for i, k in zip(layer.size, layer.kernel_size, strict=True)
        ):
            continue  # torch forgets the padding when it checks this, in 3-D alone
        # Average pooling has no dilation in torch.
        dilation = layer.dilation if kind == "max" else (1,) * layer.dims

        def torchs(
            layer: Layer = layer, padding: Ints = padding, dilation: Ints = dilation
        ) -> Ints:
            args = (meta(1, 1, *layer.size), layer.kernel_size, layer.stride, padding)
            if kind == "max":
                return MAX_POOL[layer.dims](*args, dilation, ceil_mode).shape[2:]
            return AVG_POOL[layer.dims](*args, ceil_mode).shape[2:]

        def ours(layer: Layer = layer, padding: Ints = padding, dilation: Ints = dilation) -> Ints:
            return pooled_size(
                layer.size,
                layer.kernel_size,
                stride=layer.stride,
                padding=padding,
                dilation=dilation,
                ceil_mode=ceil_mode,
            )

        fitting += agree(ours, torchs, layer)
    assert 150 < fitting < 1400


def test_a_pooling_window_is_its_own_stride() -> None:
    assert pooled_size((7, 8), (2, 3)) == F.max_pool2d(meta(1, 1, 7, 8), (2, 3)).shape[2:]


def read_by_windows(layer: Layer) -> tuple[Tensor, Tensor]:
    """How often the windows read each pixel: of the input, and of the padded input."""
    input = torch.zeros(1, 1, *layer.size, requires_grad=True)
    padded = layer.padded(input)
    padded.retain_grad()
    weight = torch.ones(1, 1, *layer.kernel_size)
    CONV[layer.dims](padded, weight, stride=layer.stride, dilation=layer.dilation).sum().backward()
    assert input.grad is not None
    assert padded.grad is not None
    return input.grad[0, 0], padded.grad[0, 0]


def test_unseen_and_dropped_pixels_get_no_gradient_from_torch() -> None:
    checked = some_unseen = some_dropped = 0
    for layer in layers(600, seed=6, size=8):
        window = {
            "stride": layer.stride,
            "padding": layer.padding,
            "dilation": layer.dilation,
        }
        if (
            size_or_refusal(
                lambda layer=layer, window=window: output_size(
                    layer.size, layer.kernel_size, **window
                ),
                UserError,
            )
            is None
        ):
            continue
        checked += 1
        read, padded_read = read_by_windows(layer)
        unseen = unseen_pixels(layer.size, layer.kernel_size, **window)
        dropped = dropped_pixels(layer.size, layer.kernel_size, **window)
        some_unseen += any(unseen)
        some_dropped += any(dropped)

        # A pixel is read if it is seen along every dimension.
        expected = torch.ones(layer.size, dtype=torch.bool)
        for axis, pixels in enumerate(unseen):
            expected.index_fill_(axis, torch.tensor(pixels, dtype=torch.long), False)
        assert torch.equal(read > 0, expected), layer

        # The last pixel read, padding counted, ends the last window.
        last = padded_read.nonzero().amax(0).tolist()
        for i, (low, _), end, d in zip(layer.size, layer.padding, last, dropped, strict=True):
            assert d == sum(low + pixel > end for pixel in range(i)), layer
    assert checked > 300
    assert some_unseen > 100
    assert some_dropped > 50


def test_padding_for_is_the_inverse_and_the_smallest() -> None:
    rng = np.random.default_rng(7)
    found = refused = 0
    for layer in layers(1500, seed=7, dims=(1,)):
        wanted = int(rng.integers(1, 10))

        def torchs(total: int, layer: Layer = layer) -> Ints | None:
            return size_or_refusal(
                lambda: F.conv1d(
                    F.pad(meta(1, 1, *layer.size), (0, total)),
                    meta(1, 1, *layer.kernel_size),
                    stride=layer.stride,
                    dilation=layer.dilation,
                ).shape[2:],
                RuntimeError,
            )

        # 9 windows 4 apart that span 13 pixels need 45.
        smallest = next((t for t in range(46) if torchs(t) == (wanted,)), None)
        window = {"stride": layer.stride, "dilation": layer.dilation}
        if smallest is None:
            refused += 1
            with pytest.raises(UserError, match=f"no padding makes {wanted} of {layer.size[0]} "):
                padding_for(layer.size, (wanted,), layer.kernel_size, **window)
            continue
        found += 1
        ((low, high),) = padding_for(layer.size, (wanted,), layer.kernel_size, **window)
        assert low + high == smallest
        assert high - low in (0, 1)
    assert found > 500
    assert refused > 100


def test_padding_for_keeps_every_size_as_same_does() -> None:
    for layer in layers(200, seed=8):
        assert padding_for(
            layer.size, layer.size, layer.kernel_size, dilation=layer.dilation
        ) == pad_sides("same", layer.kernel_size, dilation=layer.dilation)


def field_of(layer: Layer) -> ReceptiveField:
    return ReceptiveField.of_window(
        layer.kernel_size, stride=layer.stride, padding=layer.padding, dilation=layer.dilation
    )


def stacks(count: int, seed: int) -> Iterator[list[Layer]]:
    """One to three layers on top of each other; the first one's size is the input's."""
    rng = np.random.default_rng(seed)

    def draw(low: int, high: int, n: int) -> Ints:
        return tuple(int(v) for v in rng.integers(low, high + 1, n))

    for _ in range(count):
        dims, depth = int(rng.integers(1, 4)), int(rng.integers(1, 4))
        size = (24, 17, 11)[dims - 1]
        yield [
            Layer(
                dims,
                draw(size - 3, size, dims),
                draw(1, 3, dims),
                draw(1, 2, dims),
                tuple(zip(draw(0, 2, dims), draw(0, 2, dims), strict=True)),
                draw(1, 2, dims),
            )
            for _ in range(depth)
        ]


def run_stack(stack: list[Layer], input: Tensor) -> Tensor:
    """Convolutions with weights of ones and average poolings, in turn."""
    for position, layer in enumerate(stack):
        input = layer.padded(input)
        if position % 2 and set(layer.dilation) == {1}:
            input = AVG_POOL[layer.dims](input, layer.kernel_size, layer.stride)
        else:
            weight = torch.ones(1, 1, *layer.kernel_size)
            input = CONV[layer.dims](input, weight, stride=layer.stride, dilation=layer.dilation)
    return input


def test_receptive_field_is_the_support_of_torchs_gradient() -> None:
    inside = at_the_edge = 0
    for stack in stacks(150, seed=9):
        field = ReceptiveField.identity(stack[0].dims)
        for layer in stack:
            field = field.then(field_of(layer))
        size = stack[0].size
        input = torch.zeros(1, 1, *size, requires_grad=True)
        try:
            output = run_stack(stack, input)
        except RuntimeError:  # a layer does not fit
            continue
        shape = output.shape[2:]
        for index in {tuple((n - 1) * q // 4 for n in shape) for q in range(5)}:
            (grad,) = torch.autograd.grad(output[(0, 0, *index)], input, retain_graph=True)
            support = grad[0, 0].nonzero()
            pixels = field.pixels(index)
            for axis, seen in enumerate(pixels):
                reached = support[:, axis].tolist()
                assert set(reached) <= set(seen), (stack, index)
            if all(seen[0] >= 0 and seen[-1] < i for i, seen in zip(size, pixels, strict=True)):
                inside += 1
                assert support.amin(0).tolist() == [seen[0] for seen in pixels], (stack, index)
                assert support.amax(0).tolist() == [seen[-1] for seen in pixels], (stack, index)
            else:
                at_the_edge += 1
    assert inside > 50
    assert at_the_edge > 50


def test_receptive_fields_compose_in_any_grouping() -> None:
    for stack in stacks(300, seed=10):
        identity = ReceptiveField.identity(stack[0].dims)
        a, b, c = ([field_of(layer) for layer in stack] + [identity] * 2)[:3]
        assert a.then(b).then(c) == a.then(b.then(c))
        assert a.then(identity) == identity.then(a) == a


def test_receptive_fields_of_two_known_networks() -> None:
    # Two 3×3 convolutions see 5×5, three see 7×7 (Simonyan & Zisserman 2015, section 2.3).
    three = ReceptiveField.of_window((3, 3), padding=1)
    assert three.then(three).size == (5, 5)
    assert three.then(three).then(three).size == (7, 7)
    # ResNet's stem: 7×7 by 2 with padding 3, then 3×3 max by 2 with padding 1:
    # 7 + 2·2 = 11 pixels, every 4, from −3 − 1·2 on.
    stem = ReceptiveField.of_window((7,), stride=2, padding=3).then(
        ReceptiveField.of_window((3,), stride=2, padding=1)
    )
    assert stem == ReceptiveField((11,), (4,), (-5,))
    assert stem.pixels((2,)) == (range(3, 14),)


def test_counts_are_those_of_torchs_modules() -> None:
    rng = np.random.default_rng(11)
    for layer in layers(150, seed=11):
        groups, per_group, out_per_group = (int(v) for v in rng.integers(1, 4, 3))
        in_channels, out_channels, bias = (
            groups * per_group,
            groups * out_per_group,
            bool(groups % 2),
        )
        module = CONV_MODULE[layer.dims](
            in_channels,
            out_channels,
            layer.kernel_size,
            stride=layer.stride,
            dilation=layer.dilation,
            groups=groups,
            bias=bias,
            device="meta",
        )
        assert conv_parameters(
            in_channels, out_channels, layer.kernel_size, groups=groups, bias=bias
        ) == sum(p.numel() for p in module.parameters())

        size = tuple(i + 12 for i in layer.size)  # large enough for every window
        with FlopCounterMode(display=False) as counter:
            output = module(meta(1, in_channels, *size))
        macs = conv_macs(
            in_channels, out_channels, layer.kernel_size, output.shape[2:], groups=groups
        )
        assert counter.get_total_flops() == 2 * macs

        dense = nn.Linear(in_channels, out_channels, bias, device="meta")
        assert linear_parameters(in_channels, out_channels, bias) == sum(
            p.numel() for p in dense.parameters()
        )


def test_the_lectures_numbers() -> None:
    assert linear_parameters(10_000, 1_000, bias=False) == 10_000_000
    assert conv_parameters(3, 200, (5, 5)) == 15_200
    assert output_size((5, 5), 3, stride=2, padding=1) == (3, 3)
    assert pooled_size((5, 5), 3, stride=1) == (3, 3)
    assert padding_for((5, 5), (3, 3), 3, stride=2) == ((1, 1), (1, 1))


def test_one_int_is_one_for_each_dimension() -> None:
    assert per_dim(3, 2) == (3, 3)
    assert per_dim(torch.Size([1, 2, 3]), 3) == (1, 2, 3)
    assert pad_sides(2, (3, 3)) == pad_sides((2, (2, 2)), (3, 3)) == ((2, 2), (2, 2))
    assert format_shape(3, 32, 32) == "3×32×32"


def test_the_examples_in_the_docstrings() -> None:
    results = doctest.testmod(shapes)
    assert results.attempted > 10
    assert results.failed == 0


REFUSED: list[tuple[Callable[[], object], str]] = [
    (
        lambda: per_dim((1, 2), 3, "stride"),
        r"stride takes one int or 3 of them \(one for each spatial dimension\), got \(1, 2\)",
    ),
    (lambda: per_dim(2.5, 2, "stride"), r"stride takes whole numbers, got 2\.5"),
    (lambda: per_dim(None, 2, "stride"), "stride takes whole numbers, got None"),
    (lambda: per_dim((1, True), 2, "stride"), r"stride takes whole numbers, got \(1, True\)"),
    (lambda: per_dim("33", 2, "stride"), "stride takes whole numbers, got '33'"),
    (
        lambda: require_at_least("stride", (1, 0), 1),
        r"stride must be at least 1 in every dimension, got \(1, 0\)",
    ),
    (
        lambda: check_groups(3, 4, 2),
        "in_channels must be divisible by groups, got in_channels 3 and groups 2; "
        "3 can be divided by 1, 3",
    ),
    (
        lambda: check_groups(4, 6, 4),
        "out_channels must be divisible by groups, got out_channels 6 and groups 4; "
        "6 can be divided by 1, 2, 3, 6",
    ),
    (lambda: check_groups(4, 4, 0), "groups must be at least 1 in every dimension, got 0"),
    (lambda: check_groups(0, 4, 1), "in_channels must be at least 1 in every dimension, got 0"),
    (lambda: check_groups(4, 0, 1), "out_channels must be at least 1 in every dimension, got 0"),
    (
        lambda: pad_sides("full", (3, 3)),  # type: ignore[arg-type]
        r"padding takes 'same', 'valid', an int, or one int or \(low, high\) pair for each "
        "dimension, got 'full'",
    ),
    (
        lambda: output_size((9, 9), 3, stride=(1, 2), padding="same"),
        r"padding 'same' needs stride 1 \(a stride shrinks the map\), got stride \(1, 2\); "
        "give the padding as numbers",
    ),
    (
        lambda: pad_sides((1, 2), (3,)),
        r"padding takes one int or 1 of them \(one for each spatial dimension, or a "
        r"\(low, high\) pair in its place\), got \(1, 2\)",
    ),
    (
        lambda: pad_sides(((1, 2, 3), 1), (3, 3)),  # type: ignore[arg-type]
        r"\(low, high\) pair in its place\), got \(\(1, 2, 3\), 1\)",
    ),
    (lambda: pad_sides(0.5, (3,)), r"padding takes whole numbers, got 0\.5"),  # type: ignore[arg-type]
    (
        lambda: pad_sides(((0, -1),), (3,)),
        r"padding must be at least 0 in every dimension, got \(0, -1\)",
    ),
    (lambda: output_size((5, 0), 1), r"input size must be at least 1 .* got \(5, 0\)"),
    (lambda: output_size((5, 5), 0), "kernel_size must be at least 1 in every dimension, got 0"),
    (lambda: output_size((5,), 3, stride=0), "stride must be at least 1 in every dimension, got 0"),
    (lambda: output_size((5,), 3, dilation=0), "dilation must be at least 1 .* got 0"),
    (
        lambda: output_size((4,), 7, padding=((0, 1),)),
        "kernel_size 7 spans 7 pixels, more than the input's 4 with padding 0 and 1; "
        "give at least 2 more padding, or a smaller kernel",
    ),
    (
        lambda: output_size((4,), 3, dilation=2),
        "kernel_size 3 with dilation 2 spans 5 pixels, more than the input's 4 with padding 0 "
        "and 0; give at least 1 more padding",
    ),
    (
        lambda: transposed_size((4,), 3, padding="same"),
        "padding 'same' has no meaning for a transposed convolution; give numbers",
    ),
    (
        lambda: transposed_size((4,), 3, stride=2, output_padding=2),
        "output_padding must be smaller than stride or dilation, got output_padding 2 with "
        "stride 2 and dilation 1",
    ),
    (
        lambda: transposed_size((4,), 3, output_padding=-1),
        "output_padding must be at least 0 in every dimension, got -1",
    ),
    (
        lambda: transposed_size((2,), 1, padding=((1, 2),)),
        "padding 1 and 2 leaves -1 pixels of the transposed convolution's output; give at least "
        "2 less padding",
    ),
    (
        lambda: pooled_size((9,), 3, padding=2),
        r"padding of a pooling window is at most half its kernel_size \(a window must see the "
        r"input\), got padding 2 and kernel_size 3",
    ),
    (lambda: pooled_size((9,), 3, padding=-1), "padding must be at least 0 .* got -1"),
    (
        lambda: pooled_size((2,), 5, stride=2, ceil_mode=True),
        "kernel_size 5 spans 5 pixels, more than the input's 2 with padding 0 and 1",
    ),
    (
        lambda: padding_for((9,), (3,), 3),
        "no padding makes 3 of 9 pixels with kernel_size 3, stride 1 and dilation 1: there are 7 "
        "without any, and padding only adds; take a larger stride or kernel_size",
    ),
    (lambda: padding_for((9,), (0,), 3), "output size must be at least 1 .* got 0"),
    (lambda: padding_for((9,), (3, 3), 3), "output size takes one int or 1 of them"),
    (
        lambda: ReceptiveField.of_window((3, 0)),
        r"kernel_size must be at least 1 in every dimension, got \(3, 0\)",
    ),
    (lambda: ReceptiveField.of_window((3,), stride=0), "stride must be at least 1"),
    (lambda: linear_parameters(0, 3), "in_features must be at least 1"),
    (lambda: linear_parameters(3, 0), "out_features must be at least 1"),
    (lambda: conv_parameters(4, 4, (3, 0)), r"kernel_size must be at least 1 .* got \(3, 0\)"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_what_cannot_be_is_refused_in_words(call: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        call()
