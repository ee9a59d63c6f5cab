"""Every network of the registry, found by itself: shapes, gradients, counts, torchvision, export.

A new file in hubel/models is tested here without a line of its own. What is special to a
network is tested in a file of its own. Whatever needs no numbers runs on torch's meta device;
of the networks of one paper the smallest runs by default, its larger sisters are slow.
"""

import itertools
import math
import warnings

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from hubel.errors import UserError
from hubel.models import (
    MODELS,
    SMALL_PICTURE,
    Architecture,
    ModelSpec,
    Outputs,
    Stem,
    build,
    resolve,
)
from hubel.shapes import format_shape

torchvision_models = pytest.importorskip("torchvision.models")

NAMES = MODELS.names()
WITH_SMALL_STEM = [name for name in NAMES if MODELS[name].smallest_small is not None]
WITH_TORCHVISION = [name for name in NAMES if MODELS[name].torchvision is not None]
MIDDLING = 3_000_000
"""Parameters from which only the smallest network of a paper is in the default tests."""
LARGE = 30_000_000
"""Parameters from which not even that one is, where it needs its paper's dense layers."""


def stems(name: str) -> list[Stem]:
    """The stems that a network has."""
    return ["paper"] if MODELS[name].smallest_small is None else ["paper", "small"]


def smallest(name: str, stem: Stem) -> int:
    """The smallest side that fits."""
    architecture = MODELS[name]
    small = architecture.smallest_small
    return architecture.smallest if stem == "paper" or small is None else small


def cheapest_stem(name: str) -> Stem:
    """The stem that takes the smallest picture."""
    return stems(name)[-1]


def smallest_of_its_paper(name: str) -> bool:
    """Whether no network of the same paper has fewer parameters."""
    sisters = [n for n in NAMES if MODELS[n].title == MODELS[name].title]
    return name == min(sisters, key=lambda n: (MODELS[n].num_params, n))


def slow_if(name: str, *, large_counts: bool) -> tuple[pytest.MarkDecorator, ...]:
    """The mark of a network that is too heavy for a default test."""
    heavy = MODELS[name].num_params > MIDDLING and not smallest_of_its_paper(name)
    heavy |= large_counts and MODELS[name].num_params > LARGE
    return (pytest.mark.slow,) if heavy else ()


def each(names: list[str], *, large_counts: bool = False) -> list[object]:
    """Parameters of a test that fills networks with numbers."""
    return [pytest.param(n, marks=slow_if(n, large_counts=large_counts), id=n) for n in names]


def on_meta(spec: ModelSpec) -> nn.Module:
    """The network without numbers."""
    with torch.device("meta"):
        return build(spec).eval()


def published(name: str) -> ModelSpec:
    """The network as its paper has it."""
    a = MODELS[name]
    return ModelSpec(name, a.in_channels, a.num_classes, a.input_shape[1:], stem="paper")


def disturb(model: nn.Module) -> None:
    """Give numbers to tensors that start constant, so that none can hide behind another.

    Zero biases, the ones and zeros of norms, zero heads, layer scales of 1e-6: exchanging two
    of them changes no result, and a zero weight hides everything before it.
    """
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point() and bool(tensor.min() == tensor.max()):
                tensor.add_(torch.rand_like(tensor), alpha=0.2)


def no_chance(model: nn.Module) -> None:
    """Switch off everything that draws numbers in training: dropout, stochastic depth."""
    for module in model.modules():
        if isinstance(getattr(module, "p", None), float):
            module.p = 0.0


@pytest.mark.parametrize("name", each(NAMES))
@pytest.mark.parametrize(("in_channels", "more"), [(1, (0, 5)), (5, (9, 0)), (3, (0, 1, 2))])
def test_finite_outputs_and_a_gradient_for_every_parameter(name, in_channels, more):
    torch.manual_seed(0)
    stem = cheapest_stem(name)
    size = tuple(smallest(name, stem) + pixels for pixels in more)
    model = build(ModelSpec(name, in_channels, 7, size, dropout=0.1, stem=stem))
    disturb(model)
    input = torch.randn(3, in_channels, *size)
    answer = Outputs.of(model(input))
    outputs = torch.stack([answer.output, *answer.auxiliaries])
    assert outputs.shape[1:] == (3, 7)
    assert outputs.isfinite().all()
    (outputs * torch.randn(outputs.shape)).sum().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name
    model.eval()
    with torch.no_grad():
        parts = model.forward_head(model.forward_features(input))
        torch.testing.assert_close(model(input), parts, rtol=0, atol=0)


@pytest.mark.parametrize("name", each(NAMES))
def test_any_size_from_the_smallest_up_in_2d_and_3d(name):
    for stem in stems(name):
        least = smallest(name, stem)
        for more in [(0, 0), (16, 7), (0, 0, 0), (0, 3, 9)]:
            size = tuple(least + pixels for pixels in more)
            model = on_meta(ModelSpec(name, 2, 7, size, stem=stem))
            assert model(torch.empty(2, 2, *size, device="meta")).shape == (2, 7), (stem, size)


def pixels_of_maps(name: str, spatial_dims: int, stem: Stem) -> int:
    """Positions of all maps together, after each was found smaller than the one before."""
    size = (max(2 * smallest(name, "paper"), 64),) * spatial_dims
    model = on_meta(ModelSpec(name, 3, 7, size, stem=stem))
    maps = model.forward_features(torch.empty(2, 3, *size, device="meta"))
    assert all(m.shape[0] == 2 and m.ndim == 2 + spatial_dims for m in maps)
    sides = [tuple(m.shape[2:]) for m in maps]
    assert all(mine <= whole for mine, whole in zip(sides[0], size, strict=True))
    for larger, smaller in itertools.pairwise(sides):
        assert all(b < a for a, b in zip(larger, smaller, strict=True)), (stem, sides)
    assert model.forward_head(maps).shape == (2, 7)
    return sum(math.prod(side) for side in sides)


@pytest.mark.parametrize("name", NAMES)
def test_maps_shrink_in_2d(name):
    pixels_of_maps(name, 2, "paper")


@pytest.mark.parametrize("name", each(NAMES))
def test_maps_shrink_in_3d(name):
    pixels_of_maps(name, 3, "paper")


@pytest.mark.parametrize("name", each(WITH_SMALL_STEM))
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_the_small_stem_has_larger_maps_and_takes_smaller_pictures(name, spatial_dims):
    assert smallest(name, "small") <= smallest(name, "paper")
    # Equal where the maps stay and what follows them is made for fewer of them.
    small, paper = (pixels_of_maps(name, spatial_dims, stem) for stem in ("small", "paper"))
    assert small >= paper


@pytest.mark.parametrize("name", NAMES)
def test_published_parameters_and_macs(name):
    architecture = MODELS[name]
    spec = published(name)
    model = on_meta(spec)
    assert sum(p.numel() for p in model.parameters()) == architecture.num_params
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, *spec.input_shape, device="meta"))
    # torch counts a multiply-accumulate as two, of everything that multiplies matrices.
    assert counter.get_total_flops() == 2 * architecture.macs


@pytest.mark.parametrize("name", NAMES)
def test_what_is_said_of_a_network_is_complete(name):
    architecture = MODELS[name]
    for words in (architecture.title, architecture.authors, architecture.source):
        assert words == words.strip() != ""
    for words in (architecture.blocks, architecture.introduced):
        assert words == words.strip() != ""
    assert architecture.idea.count(". ") == 2
    assert architecture.idea.endswith(".")
    assert architecture.blocks.endswith(".")
    assert 1980 < architecture.year < 2030


@pytest.mark.parametrize("name", NAMES)
def test_too_small_an_input_names_the_smallest(name):
    for stem in stems(name):
        least = smallest(name, stem)
        if least == 1:
            continue
        for size in [(least - 1, 400), (400, least, least - 1)]:
            fitting = format_shape(*(least for _ in size))
            message = (
                rf"--model '{name}' needs an input of at least {fitting}, got "
                rf"{format_shape(*size)}; enlarge it with --img-size {least} or more"
            )
            with pytest.raises(UserError, match=message):
                build(ModelSpec(name, 1, 2, size, stem=stem))


@pytest.mark.parametrize("name", NAMES)
def test_the_stem_follows_the_size_of_the_picture(name):
    architecture = MODELS[name]
    large = ModelSpec(name, 3, 2, (max(SMALL_PICTURE, architecture.smallest),) * 2)
    assert resolve(large).stem == "paper"
    if architecture.smallest_small is None:
        with pytest.raises(UserError, match=rf"--stem small: '{name}' has only the stem of its"):
            build(ModelSpec(name, 3, 2, large.input_size, stem="small"))
    else:
        size = (SMALL_PICTURE - 1, 400)
        assert resolve(ModelSpec(name, 3, 2, size)).stem == "small"


@pytest.mark.parametrize("name", each(NAMES))
def test_dropout_is_what_was_asked_for(name):
    torch.manual_seed(0)
    stem = cheapest_stem(name)
    size = (smallest(name, stem),) * 2
    input = torch.randn(3, 2, *size)
    for rate in (0.0, 0.5):
        model = build(ModelSpec(name, 2, 7, size, dropout=rate, stem=stem)).train()
        disturb(model)
        with torch.no_grad():
            once, again = (Outputs.of(model(input)).output for _ in range(2))
            assert torch.equal(once, again) == (rate == 0.0)


def theirs(architecture: Architecture, side: int) -> nn.Module:
    """torchvision's network, randomly initialised."""
    assert architecture.torchvision is not None
    arguments: dict[str, object] = {"weights": None}
    if architecture.torchvision.startswith("vit_"):
        arguments["image_size"] = side
    if architecture.torchvision == "googlenet":
        arguments |= {"init_weights": False, "aux_logits": False}
    return torchvision_models.get_model(architecture.torchvision, **arguments)


def copy_in_order(source: nn.Module, target: nn.Module) -> None:
    """Copy every tensor of `source` into `target`, by order of definition."""
    names = list(source.state_dict())
    values = list(source.state_dict().values())
    own = target.state_dict()
    assert [tuple(v.shape) for v in own.values()] == [tuple(v.shape) for v in values], [
        (mine, tuple(own[mine].shape), other, tuple(value.shape))
        for mine, other, value in zip(own, names, values, strict=False)
        if own[mine].shape != value.shape
    ]
    target.load_state_dict(dict(zip(own, values, strict=True)))


@pytest.mark.parametrize("name", each(WITH_TORCHVISION, large_counts=True))
def test_torchvisions_weights_give_torchvisions_outputs(name):
    torch.manual_seed(0)
    architecture = MODELS[name]
    side = 32 * math.ceil(max(architecture.smallest, 64) / 32)
    reference = theirs(architecture, side)
    disturb(reference)
    model = build(ModelSpec(name, 3, 1000, (side, side), dropout=0.0, stem="paper"))
    copy_in_order(reference, model)
    no_chance(reference)
    no_chance(model)
    input = torch.randn(3, 3, side, side)
    # Once more in eval mode: training has moved the running statistics of both.
    for training in (False, True, False):
        model.train(training)
        reference.train(training)
        with torch.no_grad():
            expected = reference(input)
            found = model(input)
        scale = float(expected.abs().max())
        assert scale > 0
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * max(1.0, scale))


# Export visits every operation several times: the deepest are left to make test-full.
DEEP = ("densenet", "googlenet", "efficientnet")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(p.values[0], marks=(*p.marks, pytest.mark.slow), id=p.id)
        if p.values[0].startswith(DEEP)
        else p
        for p in each(NAMES)
    ],
)
def test_exports_with_any_batch_size(name):
    torch.manual_seed(0)
    stem = cheapest_stem(name)
    size = (smallest(name, stem),) * 2
    model = build(ModelSpec(name, 3, 7, size, stem=stem)).eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own export
        program = torch.export.export(
            model, (torch.randn(2, 3, *size),), dynamic_shapes=({0: batch},)
        )
    input = torch.randn(5, 3, *size)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(input), model(input), rtol=1e-5, atol=1e-5)


def test_unknown_names_get_a_suggestion():
    with pytest.raises(UserError, match=r"--model 'lenet' is not known; did you mean 'lenet5"):
        build(ModelSpec("lenet", 1, 2, (32, 32)))


@pytest.mark.parametrize(("channels", "classes"), [(0, 2), (1, 1)])
def test_impossible_numbers_are_refused(channels, classes):
    with pytest.raises(UserError, match=r"at least 1 input channel and 2 classes, got"):
        build(ModelSpec("simple", channels, classes, (32, 32)))


@pytest.mark.parametrize("size", [(64,), (64, 64, 64, 64)])
def test_neither_signals_nor_films_of_volumes(size):
    with pytest.raises(UserError, match=r"takes pictures \(2 sizes\) or volumes \(3\), got 64"):
        build(ModelSpec("simple", 1, 2, size))
