"""The definitions against torch, values and gradients, and by pencil and paper."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import scipy.signal
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hubel.conv import reference
from hubel.conv.reference import (
    BatchNormState,
    adaptive_average_pool,
    adaptive_max_pool,
    average_pool,
    batch_norm_inference,
    batch_norm_training,
    convolution,
    local_response_norm,
    max_pool,
    relu,
    residual,
    transposed_convolution,
)
from hubel.errors import UserError

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
MAX_POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
AVERAGE_POOL = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
ADAPTIVE_MAX_POOL = {
    1: F.adaptive_max_pool1d,
    2: F.adaptive_max_pool2d,
    3: F.adaptive_max_pool3d,
}
ADAPTIVE_AVERAGE_POOL = {
    1: F.adaptive_avg_pool1d,
    2: F.adaptive_avg_pool2d,
    3: F.adaptive_avg_pool3d,
}
BATCH_NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}

Ints = tuple[int, ...]


@dataclass(frozen=True)
class Drawn:
    """One drawn layer that fits its input; every tuple has an entry a dimension."""

    dims: int
    size: Ints
    kernel_size: Ints
    stride: Ints
    padding: tuple[tuple[int, int], ...]
    dilation: Ints
    groups: int
    in_channels: int
    out_channels: int
    seed: int

    @property
    def low(self) -> Ints:
        """The padding where both sides must be alike."""
        return tuple(low for low, _ in self.padding)

    @property
    def half(self) -> Ints:
        """The padding that a pooling window may have."""
        return tuple(min(low, k // 2) for low, k in zip(self.low, self.kernel_size, strict=True))

    def pad(self, input: Tensor) -> Tensor:
        return F.pad(input, [side for pair in reversed(self.padding) for side in pair])

    def random(self, *shape: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def input(self) -> Tensor:
        return self.random(2, self.in_channels, *self.size)

    def ties(self) -> Tensor:
        """Of few different values, as after a ReLU."""
        return self.input().round().clamp(-1, 1)


@st.composite
def drawn(draw: st.DrawFn) -> Drawn:
    dims = draw(st.integers(1, 3))

    def each(low: int, high: int) -> Ints:
        return tuple(draw(st.integers(low, high)) for _ in range(dims))

    kernel_size, dilation = each(1, 3), each(1, 2)
    # As large as the window spans, or a little more; so the windows fit without padding.
    size = tuple(
        d * (k - 1) + more
        for k, d, more in zip(kernel_size, dilation, each(1, 4 if dims < 3 else 3), strict=True)
    )
    groups = draw(st.integers(1, 3))
    return Drawn(
        dims,
        size,
        kernel_size,
        each(1, 3),
        tuple(zip(each(0, 2), each(0, 2), strict=True)),
        dilation,
        groups,
        groups * draw(st.integers(1, 2)),
        groups * draw(st.integers(1, 2)),
        draw(st.integers(0, 2**31)),
    )


def over_cases(test: Callable[..., None]) -> Callable[..., None]:
    return settings(max_examples=40, deadline=None)(given(case=drawn())(test))


def assert_same(
    ours: Callable[..., Tensor], torchs: Callable[..., Tensor], *tensors: Tensor
) -> None:
    """Equal outputs, and equal gradients to each tensor for a random gradient of the output."""
    results = []
    for function in (ours, torchs):
        leaves = [tensor.clone().requires_grad_() for tensor in tensors]
        output = function(*leaves)
        seeded = torch.Generator().manual_seed(output.numel())
        grad_output = torch.randn(output.shape, generator=seeded, dtype=torch.float64)
        results.append((output, *torch.autograd.grad(output, leaves, grad_output)))
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)


@over_cases
def test_convolution_is_torchs(case: Drawn) -> None:
    assert_same(
        lambda x, w, b: convolution(
            x,
            w,
            b,
            stride=case.stride,
            padding=case.padding,
            dilation=case.dilation,
            groups=case.groups,
        ),
        lambda x, w, b: CONV[case.dims](
            case.pad(x), w, b, stride=case.stride, dilation=case.dilation, groups=case.groups
        ),
        case.input(),
        case.random(case.out_channels, case.in_channels // case.groups, *case.kernel_size),
        case.random(case.out_channels),
    )


@over_cases
def test_flipped_convolution_is_scipys(case: Drawn) -> None:
    """SciPy knows the mathematician's convolution, of one channel and stride 1."""
    x, w = case.random(*case.size), case.random(*case.kernel_size)
    full = tuple((k - 1, k - 1) for k in case.kernel_size)
    ours = convolution(x[None, None], w[None, None], padding=full, flip=True)[0, 0]
    theirs = torch.from_numpy(scipy.signal.convolve(x.numpy(), w.numpy(), method="direct"))
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@over_cases
def test_flipped_convolution_reads_the_kernel_from_its_other_end(case: Drawn) -> None:
    axes = tuple(range(2, 2 + case.dims))
    window = {"stride": case.stride, "dilation": case.dilation, "groups": case.groups}
    assert_same(
        lambda x, w: convolution(x, w, padding=case.padding, flip=True, **window),
        lambda x, w: CONV[case.dims](case.pad(x), w.flip(axes), **window),
        case.input(),
        case.random(case.out_channels, case.in_channels // case.groups, *case.kernel_size),
    )


@over_cases
def test_transposed_convolution_is_torchs(case: Drawn) -> None:
    extra = tuple(case.seed % max(s, d) for s, d in zip(case.stride, case.dilation, strict=True))
    # At most half of the window, so that pixels are left.
    window = {
        "stride": case.stride,
        "padding": case.half,
        "output_padding": extra,
        "dilation": case.dilation,
        "groups": case.groups,
    }
    assert_same(
        lambda x, w, b: transposed_convolution(x, w, b, **window),
        lambda x, w, b: CONV_TRANSPOSE[case.dims](x, w, b, **window),
        case.input(),
        case.random(case.in_channels, case.out_channels // case.groups, *case.kernel_size),
        case.random(case.out_channels),
    )


@over_cases
def test_transposed_convolution_is_the_adjoint_with_padding_per_side(case: Drawn) -> None:
    """⟨conv(x), y⟩ = ⟨x, transposed(y)⟩, whichever sides are padded."""
    window = {
        "stride": case.stride,
        "padding": case.padding,
        "dilation": case.dilation,
        "groups": case.groups,
    }
    x = case.input()
    w = case.random(case.out_channels, case.in_channels // case.groups, *case.kernel_size)
    out = convolution(x, w, **window)
    y = torch.randn(out.shape, dtype=torch.float64)
    left_over = tuple(
        (low + i + high - d * (k - 1) - 1) % s
        for i, k, s, (low, high), d in zip(
            case.size, case.kernel_size, case.stride, case.padding, case.dilation, strict=True
        )
    )
    back = transposed_convolution(y, w, output_padding=left_over, **window)
    torch.testing.assert_close((out * y).sum(), (x * back).sum(), rtol=1e-10, atol=1e-10)


@given(case=drawn(), ceil_mode=st.booleans())
@settings(max_examples=60, deadline=None)
def test_max_pool_is_torchs_and_so_is_the_choice_among_equals(case: Drawn, ceil_mode: bool) -> None:
    for input in (case.input(), case.ties()):
        assert_same(
            lambda x: max_pool(
                x,
                case.kernel_size,
                stride=case.stride,
                padding=case.half,
                dilation=case.dilation,
                ceil_mode=ceil_mode,
            ),
            lambda x: MAX_POOL[case.dims](
                x, case.kernel_size, case.stride, case.half, case.dilation, ceil_mode
            ),
            input,
        )


@given(case=drawn(), ceil_mode=st.booleans(), count_include_pad=st.booleans())
@settings(max_examples=80, deadline=None)
def test_average_pool_is_torchs(case: Drawn, ceil_mode: bool, count_include_pad: bool) -> None:
    assert_same(
        lambda x: average_pool(
            x,
            case.kernel_size,
            stride=case.stride,
            padding=case.half,
            ceil_mode=ceil_mode,
            count_include_pad=count_include_pad,
        ),
        lambda x: AVERAGE_POOL[case.dims](
            x, case.kernel_size, case.stride, case.half, ceil_mode, count_include_pad
        ),
        case.input(),
    )


@over_cases
def test_adaptive_pools_are_torchs(case: Drawn) -> None:
    bins = case.stride  # 1 to 3 of them, sometimes more than there are pixels
    for input in (case.input(), case.ties()):
        assert_same(
            lambda x: adaptive_max_pool(x, bins),
            lambda x: ADAPTIVE_MAX_POOL[case.dims](x, bins),
            input,
        )
    assert_same(
        lambda x: adaptive_average_pool(x, bins),
        lambda x: ADAPTIVE_AVERAGE_POOL[case.dims](x, bins),
        case.input(),
    )


@over_cases
def test_relu_is_torchs_at_zero_too(case: Drawn) -> None:
    for input in (case.input(), case.ties()):
        assert_same(relu, F.relu, input)


@given(case=drawn(), size=st.integers(1, 8), channels=st.integers(1, 6))
@settings(max_examples=50, deadline=None)
def test_local_response_norm_is_torchs(case: Drawn, size: int, channels: int) -> None:
    assert_same(
        lambda x: local_response_norm(x, size, alpha=0.3, beta=0.6, k=1.7),
        lambda x: F.local_response_norm(x, size, alpha=0.3, beta=0.6, k=1.7),
        case.random(2, channels, *case.size),
    )


@over_cases
def test_batch_norm_is_torchs_over_several_batches(case: Drawn) -> None:
    channels = case.in_channels
    module = BATCH_NORM[case.dims](channels, eps=1e-3, momentum=0.3, dtype=torch.float64)
    state = BatchNormState.initial(case.input())
    weight, bias = case.random(2, channels)
    with torch.no_grad():
        module.weight.copy_(weight)
        module.bias.copy_(bias)

    def torchs(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return torch.func.functional_call(module, {"weight": w, "bias": b}, x)

    for batch in (case.input(), 2 * case.input() + 1):
        before = state

        def training(x: Tensor, w: Tensor, b: Tensor, before: BatchNormState = before) -> Tensor:
            return batch_norm_training(x, before, w, b, momentum=0.3, eps=1e-3)[0]

        assert_same(training, torchs, batch, weight, bias)
        state = batch_norm_training(batch, before, momentum=0.3, eps=1e-3)[1]
        torch.testing.assert_close(state.mean, module.running_mean, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(state.variance, module.running_var, rtol=1e-10, atol=1e-10)

    module.eval()
    assert_same(
        lambda x, w, b: batch_norm_inference(x, state, w, b, eps=1e-3),
        torchs,
        case.input(),
        weight,
        bias,
    )


def test_running_estimates_carry_no_gradient() -> None:
    x = torch.randn(3, 2, 4, requires_grad=True)
    _, state = batch_norm_training(x, BatchNormState.initial(x))
    assert not state.mean.requires_grad
    assert not state.variance.requires_grad


def test_residual_is_the_sum() -> None:
    x, y = torch.randn(2, 3, 4, 5, dtype=torch.float64), torch.randn(2, 3, 4, 5).double()
    assert_same(residual, torch.add, x, y)


def random(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


GRADIENTS: dict[str, tuple[Callable[..., Tensor], tuple[Tensor, ...]]] = {
    "convolution": (
        lambda x, w, b: convolution(
            x, w, b, stride=2, padding=((0, 1), 2), dilation=(1, 2), groups=2, flip=True
        ),
        (random(1, 2, 4, 3), random(4, 1, 2, 3), random(4)),
    ),
    "transposed": (
        lambda x, w, b: transposed_convolution(
            x, w, b, stride=(3, 2), padding=((0, 1), 2), output_padding=1, groups=2
        ),
        (random(1, 2, 3, 3), random(2, 2, 2, 3), random(4)),
    ),
    "max": (lambda x: max_pool(x, 2, stride=1, padding=1), (random(1, 2, 3, 4),)),
    "average": (
        lambda x: average_pool(x, 3, stride=2, padding=1, count_include_pad=False),
        (random(1, 2, 3, 4),),
    ),
    "adaptive max": (lambda x: adaptive_max_pool(x, (2, 3)), (random(1, 2, 5, 4),)),
    "adaptive average": (lambda x: adaptive_average_pool(x, (2, 3)), (random(1, 2, 5, 4),)),
    "relu": (relu, (random(3, 4),)),
    "local response": (lambda x: local_response_norm(x, 4, alpha=0.5), (random(2, 5, 3),)),
    "batch norm": (
        lambda x, w, b: batch_norm_training(x, BatchNormState.initial(x), w, b)[0],
        (random(2, 3, 2, 2), random(3), random(3)),
    ),
    "residual": (residual, (random(1, 2, 3), random(1, 2, 3))),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_are_the_difference_quotients(name: str) -> None:
    function, tensors = GRADIENTS[name]
    assert torch.autograd.gradcheck(function, tensors)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_single_precision_stays_single(dims: int) -> None:
    x = torch.randn(2, 2, *(5,) * dims)
    w = torch.randn(2, 2, *(3,) * dims)
    state = BatchNormState.initial(x)
    for output, exact in (
        (convolution(x, w), convolution(x.double(), w.double())),
        (transposed_convolution(x, w), transposed_convolution(x.double(), w.double())),
        (max_pool(x, 2), max_pool(x.double(), 2)),
        (average_pool(x, 2), average_pool(x.double(), 2)),
        (adaptive_max_pool(x, 2), adaptive_max_pool(x.double(), 2)),
        (adaptive_average_pool(x, 2), adaptive_average_pool(x.double(), 2)),
        (relu(x), relu(x.double())),
        (local_response_norm(x, 3), local_response_norm(x.double(), 3)),
        (
            batch_norm_training(x, state)[0],
            batch_norm_training(x.double(), BatchNormState.initial(x.double()))[0],
        ),
        (residual(x, x), residual(x.double(), x.double())),
    ):
        assert output.dtype == torch.float32
        torch.testing.assert_close(output.double(), exact, rtol=1e-5, atol=1e-5)


# The lecture's example: Dumoulin & Visin 2016, figures 1.1 to 1.6.
PICTURE = torch.tensor(
    [
        [3, 3, 2, 1, 0],
        [0, 0, 1, 3, 1],
        [3, 1, 2, 2, 3],
        [2, 0, 0, 2, 2],
        [2, 0, 0, 0, 1],
    ],
    dtype=torch.float64,
)[None, None]
KERNEL = torch.tensor([[0, 1, 2], [2, 2, 0], [0, 1, 2]], dtype=torch.float64)[None, None]


def rows(output: Tensor) -> list[list[float]]:
    return [[round(value, 1) for value in row] for row in output[0, 0].tolist()]


def test_the_lectures_convolution() -> None:
    assert rows(convolution(PICTURE, KERNEL, stride=2, padding=1)) == [
        [6, 17, 3],
        [8, 17, 13],
        [6, 4, 4],
    ]
    # Without padding, at stride 1: the first window is 3·0 + 3·1 + 2·2 + 0·2 + 0·2 + 1·0
    # + 3·0 + 1·1 + 2·2 = 12.
    assert rows(convolution(PICTURE, KERNEL)) == [[12, 12, 17], [10, 17, 19], [9, 6, 14]]


def test_the_lectures_pooling() -> None:
    assert rows(max_pool(PICTURE, 3, stride=1)) == [[3, 3, 3], [3, 3, 3], [3, 2, 3]]
    assert rows(average_pool(PICTURE, 3, stride=1)) == [
        [1.7, 1.7, 1.7],
        [1.0, 1.2, 1.8],
        [1.1, 0.8, 1.3],
    ]


def test_flipping_by_hand() -> None:
    """(1, 2, 3) and (1, 10): the product of 1 + 2z + 3z² and 1 + 10z when flipped."""
    x, w = torch.tensor([[[1.0, 2, 3]]]), torch.tensor([[[1.0, 10]]])
    assert convolution(x, w, padding=1).tolist() == [[[10, 21, 32, 3]]]
    assert convolution(x, w, padding=1, flip=True).tolist() == [[[1, 12, 23, 30]]]


def test_transposing_by_hand() -> None:
    """Each of (1, 2, 3) stamps (1, 10, 100), two apart; the bias reaches the added pixel too."""
    x, w = torch.tensor([[[1.0, 2, 3]]]), torch.tensor([[[1.0, 10, 100]]])
    assert transposed_convolution(x, w, stride=2).tolist() == [[[1, 10, 102, 20, 203, 30, 300]]]
    assert transposed_convolution(
        x, w, torch.tensor([0.5]), stride=2, padding=((2, 0),), output_padding=1
    ).tolist() == [[[102.5, 20.5, 203.5, 30.5, 300.5, 0.5]]]


def test_adaptive_bins_by_hand() -> None:
    """Five pixels in three bins: 0–1, 1–3, 3–4."""
    x = torch.tensor([[[5.0, 1, 2, 4, 3]]])
    assert adaptive_max_pool(x, 3).tolist() == [[[5, 4, 4]]]
    assert adaptive_average_pool(x, 3).tolist() == [[[3.0, pytest.approx(7 / 3), 3.5]]]


def test_local_response_norm_by_hand() -> None:
    """Krizhevsky's sum over c − 2 … c + 2, with his k = 2: alpha/size is his alpha."""
    x = torch.tensor([1.0, 2, 3, 4], dtype=torch.float64)[None, :, None]
    # Channel 0 sees 1 + 4 + 9 = 14, the others 1 + 4 + 9 + 16 = 30 or, from channel 3, 29.
    sums = torch.tensor([14.0, 30, 30, 29], dtype=torch.float64)[None, :, None]
    expected = x / (2 + 1e-4 * sums) ** 0.75
    ours = local_response_norm(x, 5, alpha=5e-4, k=2)
    torch.testing.assert_close(ours, expected, rtol=1e-14, atol=0)
    # An even window has its odd channel below: channel 3 of size 2 sees 3 and 4.
    even = local_response_norm(x, 2, alpha=2.0, beta=1.0, k=0.0)
    torch.testing.assert_close(even[0, 3, 0].item(), 4 / 25)


def test_batch_norm_by_hand() -> None:
    """Of 1, 2, 3, 4 the mean is 2.5; squares of the distances sum to 5: 5/4 and 5/3."""
    x = torch.tensor([[[1.0, 2]], [[3.0, 4]]], dtype=torch.float64)
    output, state = batch_norm_training(x, BatchNormState.initial(x), eps=0.75)
    # √(1.25 + 0.75) = √2
    expected = (x - 2.5) / 2**0.5
    torch.testing.assert_close(output, expected, rtol=1e-14, atol=0)
    assert state.mean.item() == pytest.approx(0.25)
    assert state.variance.item() == pytest.approx(0.9 + 0.1 * 5 / 3)


def test_special_values_pass_as_in_torch() -> None:
    x = torch.tensor([[[float("nan"), -float("inf"), float("inf"), -0.0]]])
    torch.testing.assert_close(relu(x), F.relu(x), equal_nan=True)
    torch.testing.assert_close(max_pool(x, 2), F.max_pool1d(x, 2), equal_nan=True)


X = torch.zeros(2, 4, 5)
STATE = BatchNormState.initial(X)
REFUSED: list[tuple[Callable[[], object], str]] = [
    (
        lambda: convolution(X, torch.zeros(2, 3, 3)),
        r"weight of shape \(2, 3, 3\) with groups 1 takes 3 input channels, input 2×4×5 has 4",
    ),
    (lambda: convolution(X, torch.zeros(2, 4, 6)), "kernel_size 6 spans 6 pixels"),
    (lambda: convolution(X, torch.zeros(2, 4, 3), stride=0), "stride must be at least 1"),
    (
        lambda: transposed_convolution(X, torch.zeros(4, 2, 3, 3)),
        r"weight takes \(in_channels, out_channels / groups, \*kernel_size\) with as many "
        r"dimensions as input \(3\), got shape \(4, 2, 3, 3\)",
    ),
    (
        lambda: transposed_convolution(X, torch.zeros(3, 2, 3)),
        r"weight of shape \(3, 2, 3\) takes 3 input channels, input 2×4×5 has 4; "
        r"weight\.shape\[0\] must be in_channels",
    ),
    (
        lambda: transposed_convolution(X, torch.zeros(4, 2, 3), groups=3),
        "in_channels must be divisible by groups, got in_channels 4 and groups 3",
    ),
    (
        lambda: transposed_convolution(X, torch.zeros(4, 2, 3), torch.zeros(3), groups=2),
        r"bias takes one number for each of the 4 channels, got shape \(3,\)",
    ),
    (
        lambda: transposed_convolution(X, torch.zeros(4, 2, 3).double()),
        r"weight is torch\.float64 on cpu and input torch\.float32 on cpu; they must be the "
        r"same: weight\.to\(input\)",
    ),
    (
        lambda: transposed_convolution(X, torch.zeros(4, 2, 3), output_padding=1),
        "output_padding must be smaller than stride or dilation",
    ),
    (
        lambda: max_pool(X[0], 2),
        r"input takes \(n, channels, \*spatial\) with 1 to 3 spatial dimensions, got shape "
        r"\(4, 5\); a single picture needs its batch axis: input\[None\]",
    ),
    (
        lambda: max_pool(X.long(), 2),
        r"input takes real floating-point numbers, got torch\.int64; convert it: input\.float",
    ),
    (
        lambda: max_pool(torch.zeros(0, 4, 5), 2),
        r"input size must be at least 1 in every dimension, got \(0, 4, 5\)",
    ),
    (lambda: max_pool(X, 3, padding=2), "padding of a pooling window is at most half"),
    (lambda: average_pool(X, (2, 2)), "kernel_size takes one int or 1 of them"),
    (lambda: adaptive_max_pool(X, 0), "output_size must be at least 1 in every dimension, got 0"),
    (lambda: adaptive_average_pool(X, (2, 2)), "output_size takes one int or 1 of them"),
    (lambda: local_response_norm(X, 0), "size must be at least 1 in every dimension, got 0"),
    (
        lambda: batch_norm_training(X[:1, :, :1], STATE),
        r"batch_norm_training needs more than one value a channel \(one has no variance\), got "
        "input 1×4×1; give more samples or use batch_norm_inference",
    ),
    (
        lambda: batch_norm_training(X, STATE, momentum=1.5),
        r"momentum must lie between 0 and 1 \(the share of the new batch\), got 1\.5",
    ),
    (
        lambda: batch_norm_inference(X, STATE, eps=0),
        r"eps must be above 0 \(it keeps the divisor from being 0\), got 0",
    ),
    (
        lambda: batch_norm_inference(X[:, :3], STATE),
        r"state\.mean takes one number for each of the 3 channels, got shape \(4,\)",
    ),
    (
        lambda: batch_norm_inference(X, STATE, torch.zeros(4, 1)),
        r"weight takes one number for each of the 4 channels, got shape \(4, 1\)",
    ),
    (lambda: batch_norm_inference(X.double(), STATE), r"state\.mean is torch\.float32 on cpu"),
    (
        lambda: residual(X, X[:, :1]),
        "branch must have the shape of input, got branch 2×1×5 and input 2×4×5; where a block "
        "changes channels or size, give the input through a 1×1 convolution with the block's "
        "stride",
    ),
    (lambda: residual(X, X.double()), r"branch is torch\.float64 on cpu and input torch\.float32"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_what_cannot_be_is_refused_in_words(call: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        call()


def test_the_public_names_are_the_documented_ones() -> None:
    assert all(getattr(reference, name).__doc__ for name in reference.__all__)
