"""What is particular to direct, kn2row, MEC and indirect: their tables, matrices, work, memory."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from hubel.conv.case import ConvCase, case_of
from hubel.conv.memory import extra_bytes
from hubel.conv.method import METHODS
from hubel.conv.methods import indirect, mec
from hubel.errors import UserError

NAMES = ("direct", "kn2row", "mec", "indirect")
every_method = pytest.mark.parametrize("method", [METHODS[name] for name in NAMES], ids=NAMES)


@st.composite
def cases(draw, dims=(1, 2, 3)):
    d = draw(st.sampled_from(dims))
    groups = draw(st.integers(1, 2))

    def each(strategy):
        return tuple(draw(strategy) for _ in range(d))

    try:
        return ConvCase.of(
            draw(st.integers(1, 2)),
            groups * draw(st.integers(1, 2)),
            groups * draw(st.integers(1, 2)),
            each(st.integers(1, 5)),
            each(st.integers(1, 3)),
            stride=each(st.integers(1, 3)),
            padding=each(st.tuples(st.integers(0, 3), st.integers(0, 3))),
            dilation=each(st.integers(1, 2)),
            groups=groups,
        )
    except UserError:
        return assume(False)


def tensors(case, dtype=torch.float64):
    """Input, weight and gradient of the output, filled with different small numbers."""
    generator = torch.Generator().manual_seed(0)
    shapes = case.input_shape, case.weight_shape, case.output_shape
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes
    ]


def seen(place, tap, case):
    """The padded pixel that `tap` of the output at `place` multiplies."""
    steps = zip(place, case.stride, tap, case.dilation, strict=True)
    return tuple(p * s + t * d for p, s, t, d in steps)


def by_definition(input, weight, case):
    """The sum over channels and taps of every output number, one product after the other."""
    sides = [(0, 0), (0, 0), *case.padding]
    padded, weight = np.pad(input.numpy(), sides), weight.numpy()
    output = np.zeros(case.output_shape)
    per_group = case.out_channels // case.groups
    for n, k, *place in np.ndindex(output.shape):
        first = k // per_group * weight.shape[1]
        for c, *tap in np.ndindex(weight.shape[1:]):
            output[n, k, *place] += (
                weight[k, c, *tap] * padded[n, first + c, *seen(place, tap, case)]
            )
    return torch.from_numpy(output)


# By pencil and paper.


@every_method
def test_the_example_of_dumoulin_and_visin(method):
    rows = ["33210", "00131", "31223", "20022", "20001"]
    x = torch.tensor([[[[float(digit) for digit in row] for row in rows]]])
    w = torch.tensor([[[[0.0, 1, 2], [2, 2, 0], [0, 1, 2]]]])
    case = case_of(x, w, stride=2, padding=1)
    assert method.forward(x, w, case).tolist() == [[[[6, 17, 3], [8, 17, 13], [6, 4, 4]]]]


@every_method
def test_one_dimension_with_uneven_padding(method):
    """Padded 0 1 2 3 4 meets 1 0 -1; the output's gradient is 1 10 100."""
    x, w = torch.tensor([[[1.0, 2, 3, 4]]]), torch.tensor([[[1.0, 0, -1]]])
    g = torch.tensor([[[1.0, 10, 100]]])
    case = case_of(x, w, padding=((1, 0),))
    assert method.forward(x, w, case).tolist() == [[[-2, -2, -2]]]
    # Pixels of the padded row get 1, 10, 100 - 1, -10, -100; the first is padding.
    assert method.grad_input(g, w, case).tolist() == [[[10, 99, -10, -100]]]
    assert method.grad_weight(g, x, case).tolist() == [[[210, 321, 432]]]


@every_method
def test_a_cube_meets_a_kernel_of_powers_of_ten(method):
    x = torch.arange(8, dtype=torch.float64).view(1, 1, 2, 2, 2)
    w = 10**x
    case = case_of(x, w)
    assert method.forward(x, w, case).item() == 76543210
    g = torch.full((1, 1, 1, 1, 1), 2, dtype=torch.float64)
    assert torch.equal(method.grad_input(g, w, case), 2 * w)
    assert torch.equal(method.grad_weight(g, x, case), 2 * x)


@every_method
def test_groups_do_not_see_each_other(method):
    """The first two outputs are 1 and 10 times the first channel, the others of the second."""
    x = torch.tensor([[[1.0, 2], [3, 4]]])
    w = torch.tensor([1.0, 10, 100, 1000]).view(4, 1, 1)
    case = case_of(x, w, groups=2)
    expected = [[[1, 2], [10, 20], [300, 400], [3000, 4000]]]
    assert method.forward(x, w, case).tolist() == expected
    ones = torch.ones(1, 4, 2)
    assert method.grad_input(ones, w, case).tolist() == [[[11, 11], [1100, 1100]]]
    assert method.grad_weight(ones, x, case).flatten().tolist() == [3, 3, 7, 7]


# Any case, method by method.


@every_method
@given(case=cases())
@settings(max_examples=40, deadline=None)
def test_the_definition_and_its_adjoints(method, case):
    """<forward(x, w), g> = <x, grad_input(g, w)> = <w, grad_weight(g, x)>, for it is bilinear."""
    assert method.limits(case) is None
    x, w, g = tensors(case)
    output = method.forward(x, w, case)
    torch.testing.assert_close(output, by_definition(x, w, case), rtol=1e-10, atol=1e-10)
    to_input, to_weight = method.grad_input(g, w, case), method.grad_weight(g, x, case)
    assert to_input.shape == x.shape
    assert to_weight.shape == w.shape
    total = (output * g).sum()
    torch.testing.assert_close((x * to_input).sum(), total, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close((w * to_weight).sum(), total, rtol=1e-9, atol=1e-9)


def channels_last(tensor):
    return tensor.movedim(1, -1).contiguous().movedim(-1, 1)


def every_second(tensor):
    """The same numbers with a gap after each along the first, second and last dimension."""
    wide = tensor.new_full([2 * s for s in tensor.shape], math.nan)
    view = wide[tuple(slice(None, None, 2) for _ in tensor.shape)]
    view.copy_(tensor)
    return view


def backwards(tensor):
    axes = range(tensor.dim() - 1, -1, -1)
    return tensor.permute(*axes).contiguous().permute(*axes)


@every_method
@pytest.mark.parametrize("order", [channels_last, every_second, backwards])
def test_any_memory_order_gives_the_same(method, order):
    case = ConvCase.of(2, 4, 6, (5, 6), 3, stride=(2, 1), padding=((1, 0), (2, 1)), groups=2)
    x, w, g = tensors(case)
    a, b, c = (order(tensor) for tensor in (x, w, g))
    for found, known in (
        (method.forward(a, b, case), method.forward(x, w, case)),
        (method.grad_input(c, b, case), method.grad_input(g, w, case)),
        (method.grad_weight(c, a, case), method.grad_weight(g, x, case)),
    ):
        torch.testing.assert_close(found, known, rtol=1e-12, atol=1e-12)
    assert torch.equal(a, x)
    assert torch.equal(b, w)
    assert torch.equal(c, g)


@every_method
def test_sums_of_16_bit_numbers_are_kept_in_float32(method):
    """Added one by one in bfloat16, ones never get beyond 256."""
    ones, one = torch.ones(1, 1, 16, 20).bfloat16(), torch.ones(1, 1, 1, 1).bfloat16()
    # 320 products each: of all pixels, of all uses of one weight, of all outputs that saw a pixel.
    output = method.forward(ones, ones, case_of(ones, ones))
    to_weight = method.grad_weight(ones, ones, case_of(ones, one))
    to_input = method.grad_input(ones, ones, case_of(one, ones, padding=((15, 15), (19, 19))))
    for found in (output, to_weight, to_input):
        assert found.dtype == torch.bfloat16
        assert found.tolist() == [[[[320]]]]


# How much work each does.


class GemmMacs(TorchDispatchMode):
    """Counts the multiply-accumulates of batched matrix products; there are no others here."""

    def __init__(self):
        super().__init__()
        self.operands = {"bmm": (0, 1), "baddbmm_": (1, 2), "addbmm_": (1, 2)}
        self.total = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        assert name in self.operands or not name.rstrip("_").endswith(("mm", "mv", "dot")), name
        assert "conv" not in name
        if name in self.operands:
            a, b = (args[i].shape for i in self.operands[name])
            self.total += a[0] * a[1] * a[2] * b[2]
        return function(*args, **(kwargs or {}))


def gemm_macs(method, case):
    """Of forward, grad_input and grad_weight."""
    x, w, g = tensors(case)
    found = []
    for function in (
        lambda: method.forward(x, w, case),
        lambda: method.grad_input(g, w, case),
        lambda: method.grad_weight(g, x, case),
    ):
        with GemmMacs() as counter:
            function()
        found.append(counter.total)
    return found


@pytest.mark.parametrize("settings_of", [{}, {"stride": 2}, {"dilation": 2}, {"groups": 2}])
@pytest.mark.parametrize(("name", "share"), [("direct", 0), ("mec", 1), ("indirect", 1)])
def test_gemms_do_the_work_of_the_definition(name, share, settings_of):
    for size in ((9,), (9, 8), (5, 6, 7)):
        case = ConvCase.of(2, 4, 6, size, 3, padding=1, **settings_of)
        assert gemm_macs(METHODS[name], case) == [share * case.macs] * 3


def test_a_stride_saves_kn2row_nothing():
    """It computes all pixels from the first output to the last, and keeps every s-th."""
    case = ConvCase.of(2, 4, 6, (9, 9), 3, padding=1)
    # Nine lines of eleven padded pixels, less the two at the end that start no window.
    assert gemm_macs(METHODS["kn2row"], case) == [2 * 9 * 4 * 6 * (9 * 11 - 2)] * 3
    strided = ConvCase.of(2, 4, 6, (9, 9), 3, padding=1, stride=2)
    assert gemm_macs(METHODS["kn2row"], strided) == gemm_macs(METHODS["kn2row"], case)
    assert strided.macs * 81 == case.macs * 25


# MEC: the matrix of Cho & Brand.


def test_mec_lowers_the_papers_example_to_5_by_21():
    """Their figure: 7×7 pixels and a 3×3 kernel, where im2col's matrix has 25×9 numbers."""
    case = ConvCase.of(1, 1, 1, (7, 7), 3)
    picture = torch.arange(49.0).view(1, 1, 7, 7)
    matrix = mec.lowered(picture, case)
    assert matrix.shape == (1, 5, 21)
    assert torch.equal(matrix[0, 0], picture[0, 0, :, 0:3].flatten())
    assert torch.equal(matrix[0, 4], picture[0, 0, :, 4:7].flatten())
    # The second output line starts three numbers, one kernel line, further in each row.
    assert matrix[0, 1, 3:12].tolist() == [8, 9, 10, 15, 16, 17, 22, 23, 24]


@given(case=cases(dims=(2,)))
@settings(max_examples=60, deadline=None)
def test_every_window_lies_in_one_piece_in_mecs_matrix(case):
    assume(case.dilation[0] == 1)
    x = tensors(case)[0]
    padded = F.pad(x, [side for pair in reversed(case.padding) for side in pair])
    per_group = case.in_channels // case.groups
    line = case.kernel_size[1] * per_group
    matrix = mec.lowered(x, case)
    assert matrix.shape == (case.groups, case.n * case.output_size[1], case.padded_size[0] * line)
    (top, left), span = case.stride, case.dilation[1] * (case.kernel_size[1] - 1) + 1
    for g, n in itertools.product(range(case.groups), range(case.n)):
        for p, q in np.ndindex(*case.output_size):
            start = p * top
            row = matrix[g, n * case.output_size[1] + q]
            window = padded[
                n,
                g * per_group : (g + 1) * per_group,
                start : start + case.kernel_size[0],
                q * left : q * left + span : case.dilation[1],
            ]
            found = row[start * line : (start + case.kernel_size[0]) * line]
            assert torch.equal(found, window.permute(1, 2, 0).flatten())


@pytest.mark.parametrize(
    ("kernel", "stride", "ratio"), [(3, 1, 1 / 3), (7, 2, 2 / 7), (3, 2, 2 / 3), (5, 1, 1 / 5)]
)
def test_mecs_matrix_is_about_stride_by_r_of_im2cols(kernel, stride, ratio):
    case = ConvCase.of(1, 2, 2, (112, 112), kernel, stride=stride, padding=kernel // 2)
    im2col = math.prod(case.output_size) * case.num_taps * case.in_channels
    found = mec.lowered(torch.zeros(case.input_shape), case).numel() / im2col
    assert found == pytest.approx(ratio, rel=0.06)


def test_in_one_dimension_mecs_matrix_is_im2cols():
    case = ConvCase.of(1, 1, 1, (5,), 3, dilation=2, padding=1)
    matrix = mec.lowered(torch.tensor([[[1.0, 2, 3, 4, 5]]]), case)
    assert matrix.tolist() == [[[0, 2, 4], [1, 3, 5], [2, 4, 0]]]


# Indirect: the pointers of Dukhan.


def test_pointers_of_a_row_of_three():
    case = ConvCase.of(1, 1, 1, (3,), 3, padding=1)
    assert indirect.pointers(case).tolist() == [[3, 0, 1], [0, 1, 2], [1, 2, 3]]


def test_pointers_of_two_by_two_pixels_padded_at_the_top_and_left():
    case = ConvCase.of(1, 1, 1, (2, 2), 2, padding=((1, 0), (1, 0)))
    assert indirect.pointers(case).tolist() == [
        [4, 4, 4, 0],
        [4, 4, 0, 1],
        [4, 0, 4, 2],
        [0, 1, 2, 3],
    ]


@given(case=cases())
@settings(max_examples=60, deadline=None)
def test_pointers_are_the_windows_of_a_picture_of_its_own_pixel_numbers(case):
    zeros = math.prod(case.size)
    numbers = np.pad(np.arange(zeros).reshape(case.size), case.padding, constant_values=zeros)
    expected = [
        [numbers[seen(place, tap, case)] for place in np.ndindex(*case.output_size)]
        for tap in np.ndindex(*case.kernel_size)
    ]
    table = indirect.pointers(case)
    assert table.dtype == torch.int64
    assert table.tolist() == expected


def test_pointers_depend_on_neither_batch_nor_channels():
    sizes = (5, 6), 3
    few, many = ConvCase.of(1, 1, 1, *sizes), ConvCase.of(8, 16, 32, *sizes)
    assert torch.equal(indirect.pointers(few), indirect.pointers(many))


# Memory, stated and measured.

LAYERS = {
    "3x3": ConvCase.of(2, 32, 32, (28, 28), 3, padding=1),
    "3x3 not padded": ConvCase.of(2, 32, 32, (28, 28), 3),
    "3x3 stride 2": ConvCase.of(2, 32, 64, (28, 28), 3, padding=1, stride=2),
    "3x3 dilation 2": ConvCase.of(2, 32, 32, (28, 28), 3, padding=2, dilation=2),
    "3x3 of four groups": ConvCase.of(2, 32, 32, (28, 28), 3, padding=1, groups=4),
    "7x7 of a picture": ConvCase.of(2, 3, 64, (64, 64), 7, padding=3, stride=2),
    "1x1": ConvCase.of(2, 64, 32, (28, 28), 1),
    "a row": ConvCase.of(2, 32, 32, (500,), 5, padding=2),
    "a volume": ConvCase.of(1, 16, 16, (12, 16, 16), 3, padding=1),
}


@every_method
@pytest.mark.parametrize("order", [torch.Tensor.contiguous, channels_last])
@pytest.mark.parametrize("layer", LAYERS)
def test_extra_memory_is_what_is_stated(method, order, layer):
    """Never more than stated, and at least half of it."""
    case = LAYERS[layer]
    x, w, _ = tensors(case, torch.float32)
    x = order(x)
    stated = method.extra_elements(case) * x.element_size()
    found = extra_bytes(lambda: method.forward(x, w, case))
    assert stated / 2 <= found <= stated


def test_extra_memory_in_numbers():
    """By hand for N 2, C 3, K 5, 10×10 pixels padded to 12×12, a 3×3 kernel, 10×10 outputs."""
    case = ConvCase.of(2, 3, 5, (10, 10), 3, padding=1)
    weights, padded = 5 * 3 * 9, 2 * 3 * 144
    stated = {name: METHODS[name].extra_elements(case) for name in NAMES}
    assert stated == {
        "direct": padded,
        "kn2row": 5 * (144 - 26) + 3 * 144 + weights,
        "mec": 2 * 3 * 12 * 10 * 3 + padded,
        "indirect": 2 * 100 * 9 + 101 * 3 + 100 * 3 + weights,
    }
