"""Every method of the registry against torch: outputs, both gradients, memory, limits."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from hubel.conv import METHODS, conv, reference, swap
from hubel.conv.case import ConvCase
from hubel.conv.memory import extra_bytes
from hubel.errors import UserError

ON_CPU = [name for name in METHODS.names() if METHODS[name].devices != ("cuda",)]
CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


@st.composite
def cases(draw, method):
    """A small case that `method` can do."""
    dims = draw(st.integers(1, 3))
    groups = draw(st.integers(1, 3))
    kernel = st.sampled_from((3, 3, 1, 2, 4) if dims < 3 else (3, 3, 1, 2))

    def each(strategy):
        return tuple(draw(strategy) for _ in range(dims))

    winograd = "winograd" in method
    try:
        case = ConvCase.of(
            draw(st.integers(1, 3)),
            groups * draw(st.integers(1, 3)),
            groups * draw(st.integers(1, 3)),
            each(st.integers(1, 9 if dims < 3 else 6)),
            (3,) * dims if winograd else each(kernel),
            stride=1 if winograd else each(st.integers(1, 3)),
            padding=each(st.tuples(st.integers(0, 3), st.integers(0, 3))),
            dilation=1 if winograd else each(st.integers(1, 3)),
            groups=groups,
        )
    except UserError:
        assume(False)
    assume(METHODS[method].limits(case) is None)
    return case


def tensors(case, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def new(shape):
        return torch.randn(shape, generator=generator, dtype=dtype)

    return new(case.input_shape), new(case.weight_shape), new(case.output_shape)


def arguments(case):
    return {
        "stride": case.stride,
        "padding": case.padding,
        "dilation": case.dilation,
        "groups": case.groups,
    }


def by_torch(case, input, weight):
    """torch's own convolution of the padded input."""
    padded = F.pad(input, [side for pair in reversed(case.padding) for side in pair])
    return CONV[case.dims](padded, weight, None, case.stride, 0, case.dilation, case.groups)


def by_autograd(function, input, weight, grad_output):
    """(output, gradient to input, gradient to weight) of function(input, weight)."""
    input, weight = input.clone().requires_grad_(), weight.clone().requires_grad_()
    output = function(input, weight)
    return (output.detach(), *torch.autograd.grad(output, (input, weight), grad_output))


def by_road(method, case, input, weight, grad_output):
    """The same three from the method's own functions."""
    road = METHODS[method]
    return (
        road.forward(input, weight, case),
        road.grad_input(grad_output, weight, case),
        road.grad_weight(grad_output, input, case),
    )


@pytest.mark.parametrize("method", ON_CPU)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_outputs_and_gradients_are_torchs_in_float64(method, data):
    case = data.draw(cases(method))
    x, w, g = tensors(case, torch.float64, data.draw(st.integers(0, 99)))
    if data.draw(st.booleans()):
        x = x.movedim(1, -1).contiguous().movedim(-1, 1)  # channels last
    found = by_road(method, case, x, w, g)
    expected = by_autograd(lambda x, w: by_torch(case, x, w), x, w, g)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("method", ON_CPU)
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_outputs_are_the_definitions_in_float32(method, data):
    case = data.draw(cases(method))
    x, w, _ = tensors(case, torch.float32, data.draw(st.integers(0, 99)))
    expected = reference.convolution(x.double(), w.double(), **arguments(case))
    # Rounding of the sums: a few units of the last place of their largest term.
    scale = float(expected.abs().max()) + 1
    found = conv(x, w, method=method, **arguments(case))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5 * scale)


CASES = {
    "1-D": ConvCase.of(2, 4, 6, (9,), 3, padding=1, groups=2),
    "2-D": ConvCase.of(2, 2, 3, (5, 6), 3, padding=((1, 0), (0, 2))),
    "2-D strided": ConvCase.of(1, 2, 2, (6, 7), (3, 2), stride=(2, 3), padding=1, dilation=(1, 2)),
    "3-D": ConvCase.of(1, 2, 2, (4, 3, 5), 3, padding=1),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("method", ON_CPU)
def test_gradients_of_first_and_second_order(method, name):
    case = CASES[name]
    if METHODS[method].limits(case) is not None:
        pytest.skip(METHODS[method].limits(case))
    x, w, _ = (t.requires_grad_() for t in tensors(case, torch.float64))

    def function(x, w):
        return conv(x, w, method=method, **arguments(case))

    assert torch.autograd.gradcheck(function, (x, w), fast_mode=True)
    assert torch.autograd.gradgradcheck(function, (x, w), fast_mode=True)


@pytest.mark.parametrize("method", ON_CPU)
def test_sixteen_bits_are_summed_in_thirty_two(method):
    """One rounding of the result, not one a tap."""
    case = ConvCase.of(2, 32, 8, (8, 8), 3, padding=1)
    x, w, g = tensors(case, torch.bfloat16)
    exact = by_autograd(lambda x, w: by_torch(case, x, w), x.double(), w.double(), g.double())
    found = by_road(method, case, x, w, g)
    assert all(f.dtype == torch.bfloat16 for f in found)
    # winograd's transforms are in float32, its weights too; a bfloat16 has 8 bits.
    for f, e in zip(found, exact, strict=True):
        assert float((f.double() - e).abs().max()) < 2**-7 * float(e.abs().max())


MEMORY_CASES = {
    "narrow": ConvCase.of(4, 16, 16, (28, 28), 3, padding=1),
    "wide": ConvCase.of(2, 64, 32, (14, 14), 3, padding=1),
    "strided": ConvCase.of(4, 16, 32, (28, 28), 3, stride=2, padding=1),
    "grouped": ConvCase.of(2, 32, 32, (14, 14), 3, padding=1, groups=4),
    "3-D": ConvCase.of(2, 8, 8, (10, 10, 10), 3, padding=1),
    "large kernel": ConvCase.of(1, 4, 4, (32, 32), 9, padding=4),
}


@pytest.mark.parametrize("name", MEMORY_CASES)
@pytest.mark.parametrize("method", ON_CPU)
def test_extra_memory_keeps_its_formula(method, name):
    case = MEMORY_CASES[name]
    road = METHODS[method]
    if road.limits(case) is not None:
        pytest.skip(road.limits(case))
    x, w, _ = tensors(case, torch.float32)
    road.forward(x, w, case)  # whatever is made once
    measured = extra_bytes(lambda: road.forward(x, w, case)) / x.element_size()
    stated = road.extra_elements(case)
    # Index arithmetic and scalars: a few hundred bytes that no formula speaks of.
    assert measured <= stated + 256
    if method != "torch":  # a library whose choices are its own
        assert measured >= stated / 2.2
    assert road.extra_memory


def test_the_implicit_road_needs_a_small_part_of_im2cols_memory():
    """Measured, with channels last as in training: at most 5 %."""
    case = ConvCase.of(8, 64, 64, (28, 28), 3, padding=1)
    x, w, _ = (
        t.contiguous(memory_format=torch.channels_last) for t in tensors(case, torch.float32)
    )
    implicit, im2col = (
        extra_bytes(lambda name=name: METHODS[name].forward(x, w, case))
        for name in ("implicit", "im2col")
    )
    assert implicit <= 0.05 * im2col


@pytest.mark.parametrize("method", [*ON_CPU, "auto"])
def test_a_bias_is_added_and_has_its_gradient(method):
    x, w, g = tensors(CASES["2-D"], torch.float64)
    b = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64, requires_grad=True)
    case = CASES["2-D"]
    without = conv(x, w, method=method, **arguments(case))
    found = conv(x, w, b, method=method, **arguments(case))
    torch.testing.assert_close(found, without + b.view(-1, 1, 1), rtol=1e-12, atol=1e-12)
    (gradient,) = torch.autograd.grad(found, b, g)
    torch.testing.assert_close(gradient, g.sum((0, 2, 3)))


GOOD = (torch.zeros(1, 4, 5, 5), torch.zeros(6, 4, 3, 3), torch.zeros(6))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"input": torch.zeros(4, 5)},
            r"input takes \(n, in_channels, .* input\[None\]",
        ),
        ({"weight": torch.zeros(6, 4, 3)}, r"weight takes .* as many dimensions as input \(4\)"),
        ({"weight": torch.zeros(6, 4, 7, 3)}, r"kernel_size 7 spans 7 pixels, more than .* 2 more"),
        ({"stride": 0}, "stride must be at least 1 in every dimension, got 0"),
        ({"stride": (1, 2, 3)}, r"stride takes one int or 2 of them .* got \(1, 2, 3\)"),
        ({"dilation": 0}, "dilation must be at least 1"),
        ({"padding": -1}, "padding must be at least 0"),
        ({"padding": "full"}, "padding takes 'same', 'valid'.* got 'full'"),
        ({"padding": "same", "stride": 2}, "padding 'same' needs stride 1"),
        ({"groups": 3}, "in_channels must be divisible by groups, got in_channels 4 and groups 3"),
        ({"groups": 2}, r"weight .* with groups 2 takes 8 input channels, input 1×4×5×5 has 4"),
        ({"weight": torch.zeros(6, 4, 3, 3).double()}, r"weight has dtype torch.float64 .*\.to\("),
        ({"bias": torch.zeros(5)}, "bias takes one number for each of the 6 output channels"),
        (
            dict(zip(("input", "weight", "bias"), (t.int() for t in GOOD), strict=True)),
            "input takes real floating-point numbers of 16 bits or more, got torch.int32",
        ),
        ({"input": torch.full((1, 4, 5, 5), math.nan)}, r"input must hold finite .* nan at \(0, 0"),
        (
            {"weight": torch.full((6, 4, 3, 3), -math.inf)},
            "weight must hold finite .* -inf",
        ),
        ({"bias": torch.full((6,), math.inf)}, r"bias must hold finite numbers, got inf at \(0,\)"),
        ({"method": "gemm"}, "method 'gemm' is not known"),
        ({"method": None}, "method takes a name, got None"),
        ({"groups": 1.0}, "groups takes whole numbers, got 1.0"),
        ({"padding": 10**12}, "padding takes numbers up to 2,147,483,647"),
        ({"weight": [[1.0]]}, "weight takes a dense tensor, got list"),
        ({"input": torch.zeros(1, 4, 5, 5).to_sparse()}, "got torch.sparse_coo one; convert it"),
        ({"method": "winograd", "stride": 2}, "method 'winograd' .*stride.*'auto' or 'implicit'"),
        ({"method": "tensor_core"}, "method 'tensor_core' runs on cuda only, got cpu"),
    ],
)
def test_bad_input_is_told_in_one_sentence(arguments, message):
    given = dict(zip(("input", "weight", "bias"), GOOD, strict=True)) | arguments
    with pytest.raises(UserError, match=message):
        conv(**given)


@pytest.mark.parametrize("method", [*ON_CPU, "auto"])
def test_autocast_is_as_with_torch(method):
    """Forward in bfloat16, and a backward pass inside the context as exact as one outside."""
    torch.manual_seed(0)
    x, w, b = torch.randn(2, 4, 8, 8), torch.randn(6, 4, 3, 3), torch.randn(6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, expected = conv(x, w, b, method=method), F.conv2d(x, w, b)
        assert found.dtype == expected.dtype == torch.bfloat16
        torch.testing.assert_close(found, expected, rtol=2e-2, atol=4e-2)
        # float64 is left alone
        assert conv(x.double(), w.double(), method=method).dtype == torch.float64
    exact = by_autograd(F.conv2d, x.double(), w.double(), torch.ones(2, 6, 6, 6).double())
    x, w = x.requires_grad_(), w.requires_grad_()
    output = conv(x, w, method=method)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        gradients = torch.autograd.grad(output, (x, w), torch.ones_like(output))
    for ours, theirs in zip(gradients, exact[1:], strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-4)


def test_a_swapped_network_follows_autocast():
    model = swap(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)), "im2col")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(torch.randn(2, 3, 8, 8))
        assert output.dtype == torch.bfloat16
        output.float().square().mean().backward()
    assert model[0].weight.grad.dtype == torch.float32


def network():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding="same", padding_mode="circular"),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=2, bias=False),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(8 * 4 * 4, 5),
    )


@pytest.mark.parametrize("method", ["auto", "implicit", "im2col", "indirect"])
def test_a_swapped_network_computes_and_trains_the_same(method):
    torch.manual_seed(0)
    ours, theirs = network(), network()
    theirs.load_state_dict(ours.state_dict())
    assert swap(ours, method) is ours
    assert list(ours.state_dict()) == list(theirs.state_dict())
    x = torch.randn(4, 3, 8, 8)
    for net in (ours, theirs):
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            net(x).square().mean().backward()
            optimizer.step()
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours[0](x[0]), theirs[0](x[0]), rtol=1e-4, atol=1e-5)
    assert copy.deepcopy(ours)[0].method == method
    assert swap(ours, "torch")[0].method == "torch"


def test_swap_refuses_what_it_cannot_do():
    with pytest.raises(UserError, match="method 'gemm' is not known"):
        swap(network(), "gemm")
    with pytest.raises(UserError, match=r"model Linear has no nn\.Conv1d"):
        swap(nn.Linear(2, 2), "im2col")

    class Standardised(nn.Conv2d):
        pass

    model = nn.Sequential(nn.Conv2d(1, 1, 1), Standardised(1, 1, 1))
    with pytest.raises(UserError, match="layer '1' is a Standardised, a subclass"):
        swap(model, "im2col")
    assert type(model[0]) is nn.Conv2d  # nothing was changed
    with pytest.raises(UserError, match=r"layer '2': method 'winograd' takes stride 1 .*otherwise"):
        swap(network(), "winograd")


def test_layers_beyond_a_methods_limits_take_the_other_one():
    torch.manual_seed(0)
    ours = network()
    x = torch.randn(2, 3, 8, 8)
    expected = ours(x)
    swap(ours, "winograd", otherwise="implicit")
    assert [ours[0].method, ours[2].method] == ["winograd", "implicit"]
    assert "method=winograd" in repr(ours)
    assert repr(ours[0]).startswith("Conv2d(")
    torch.testing.assert_close(ours(x), expected, rtol=1e-4, atol=1e-5)


def test_a_swapped_resnet18_trains():
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=3)
    x, y = torch.randn(6, 3, 32, 32), torch.tensor([0, 1, 2, 0, 1, 2])
    with torch.no_grad():
        expected = model.eval()(x)
        torch.testing.assert_close(swap(model, "implicit")(x), expected, rtol=1e-3, atol=1e-4)
    optimizer = torch.optim.SGD(model.train().parameters(), lr=0.01, momentum=0.9)
    losses = []
    for _ in range(8):
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize("method", ["auto", "torch"])
def test_tensors_without_numbers_have_shapes(method):
    x, w = torch.zeros(2, 3, 8, 8, device="meta"), torch.zeros(4, 3, 3, 3, device="meta")
    assert conv(x, w, stride=2, method=method).shape == (2, 4, 3, 3)


def test_float8_is_refused():
    x = torch.zeros(1, 1, 3, 3).to(torch.float8_e4m3fn)
    with pytest.raises(UserError, match=r"16 bits or more, got torch.float8_e4m3fn"):
        conv(x, x)
