"""A network to draw, by its name: one of hubel's, one from outside, or a run's."""

import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from hubel.errors import UserError, suggestion
from hubel.external_models import ExternalModel, external, is_external
from hubel.inference import load_trained
from hubel.models import MODELS, Model, ModelSpec, build
from hubel.runs import RunFolder
from hubel.shapes import format_shape

__all__ = ["checked_shape", "named_network"]

_LARGEST = 100_000
_COLOURED = (3, 224, 224)


def named_network(
    name: str, input_shape: tuple[int, ...] | None
) -> tuple[nn.Module, tuple[int, ...]]:
    """The network, without numbers in it where that can be, and the shape of its input.

    `name` is an architecture, `torchvision:NAME`, `timm:NAME`, `file.py:ClassOrFunction` (which
    is executed) or a run folder. `input_shape` (c, *spatial) is the published one if None.
    `UserError` for unknown names.
    """
    if is_external(name):
        shape = input_shape or _COLOURED
        spec = ModelSpec(name, shape[0], 1000, shape[1:])
        own = not name.startswith(("torchvision:", "timm:"))
        model = external(spec) if own else _without_numbers(lambda: external(spec))
        return model.network if isinstance(model, ExternalModel) else model, shape
    if name not in MODELS.names() and Path(name).is_dir():
        trained = load_trained(RunFolder.open(Path(name)))
        return trained.model, input_shape or trained.spec.input_shape
    if name not in MODELS.names():
        hint = suggestion(name, MODELS.names())
        if not hint.startswith("did you mean"):
            hint = "hubel models lists them; torchvision:NAME reaches torchvision's"
        raise UserError(f"MODEL '{name}' is not known; {hint}")
    architecture = MODELS[name]
    sides = (architecture.input_side,) * 2
    channels, *size = input_shape or (architecture.in_channels, *sides)
    spec = ModelSpec(name, channels, architecture.num_classes, tuple(size))
    return _without_numbers(lambda: build(spec)), spec.input_shape


def _without_numbers(builder: Callable[[], Model]) -> Model:
    """What `builder` builds, on the meta device where it can be built there."""
    with warnings.catch_warnings():
        # torchvision announces how some will be initialised one day: here nothing is.
        warnings.simplefilter("ignore")
        try:
            with torch.device("meta"):
                return builder()
        except (NotImplementedError, UserError):
            # It reads numbers out of tensors of its own, as torchvision's RegNet does; or the
            # user's mistake is told again.
            return builder()


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
