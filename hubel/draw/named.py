"""A network to draw, by its name: one of hubel's, or `torchvision:NAME`."""

import warnings
from collections.abc import Callable

import torch
from torch import nn

from hubel.errors import UserError, suggestion
from hubel.models import MODELS, ModelSpec, build
from hubel.shapes import format_shape

__all__ = ["checked_shape", "named_network"]

_TORCHVISION = "torchvision:"
_LARGEST = 100_000


def named_network(
    name: str, input_shape: tuple[int, ...] | None
) -> tuple[nn.Module, tuple[int, ...]]:
    """The network without numbers in it (on the meta device), and the shape of its input.

    `input_shape` (c, *spatial) is the published one if None. `UserError` for unknown names.
    """
    if name.startswith(_TORCHVISION):
        return _of_torchvision(name), input_shape or (3, 224, 224)
    if name not in MODELS.names():
        known = [*MODELS.names(), *(_TORCHVISION + other for other in _torchvision_names())]
        same = _TORCHVISION + name
        hint = f"did you mean '{same}'?" if same in known else _nearest(name, known)
        raise UserError(f"MODEL '{name}' is not known; {hint}")
    architecture = MODELS[name]
    sides = (architecture.input_side,) * 2
    channels, *size = input_shape or (architecture.in_channels, *sides)
    spec = ModelSpec(name, channels, architecture.num_classes, tuple(size))
    return _without_numbers(lambda: build(spec)), spec.input_shape


def _without_numbers(builder: Callable[[], nn.Module]) -> nn.Module:
    """What `builder` builds, on the meta device where it can be built there."""
    try:
        with torch.device("meta"):
            return builder()
    except NotImplementedError:
        # It reads numbers out of tensors of its own, as torchvision's RegNet does.
        return builder()


def _nearest(name: str, known: list[str]) -> str:
    words = suggestion(name, known)
    if words.startswith("did"):
        return words
    # All of torchvision's would fill the screen.
    return suggestion(name, MODELS.names()) + ", or torchvision:NAME"


def _torchvision_names() -> list[str]:
    import torchvision

    return sorted(torchvision.models.list_models(module=torchvision.models))


def _of_torchvision(name: str) -> nn.Module:
    import torchvision

    bare = name.removeprefix(_TORCHVISION)
    known = _torchvision_names()
    if bare not in known:
        raise UserError(f"MODEL '{name}': torchvision has no '{bare}'; {suggestion(bare, known)}")
    with warnings.catch_warnings():
        # It announces how some will be initialised one day: here nothing is.
        warnings.simplefilter("ignore")
        return _without_numbers(lambda: torchvision.models.get_model(bare, weights=None))


def checked_shape(words: str) -> tuple[int, ...]:
    """`3x224x224` as (3, 224, 224): channels, then 2 or 3 sides."""
    try:
        shape = tuple(int(part) for part in words.lower().replace("×", "x").split("x"))
    except ValueError:
        shape = ()
    if len(shape) not in (3, 4) or min(shape) < 1 or max(shape) > _LARGEST:
        got = format_shape(*shape) if shape else f"'{words}'"
        raise UserError(
            f"--input is channels and 2 or 3 sides of 1 to {_LARGEST}, as in 3x224x224; got {got}"
        )
    return shape
