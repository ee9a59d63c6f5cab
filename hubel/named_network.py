"""A network to look at, by any of its names: an architecture, one from outside, or a run's."""

import math
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from hubel.errors import UserError
from hubel.external_models import ExternalModel, is_external
from hubel.inference import load_trained
from hubel.models import MODELS, ModelSpec, Stem
from hubel.network import network_of
from hubel.runs import RunFolder

__all__ = ["named_network", "written_shape"]

_COLOURED = (3, 224, 224)
_MAX_SIDE = 100_000
_MAX_INPUT = 1 << 31


def named_network(
    name: str,
    input_shape: tuple[int, ...] | None,
    *,
    num_classes: int | None = None,
    stem: Stem = "auto",
    width: float = 1.0,
) -> tuple[nn.Module, tuple[int, ...]]:
    """The network, without numbers in it where that can be, and the shape of its input.

    `name` is an architecture, `torchvision:NAME`, `timm:NAME`, `file.py:ClassOrFunction` (which
    is executed) or a run folder. `input_shape` (c, *spatial) and `num_classes` are the published
    ones if None. `UserError` for unknown names and for what a run has decided already.
    """
    try:
        return _named(name, input_shape, num_classes, stem, width)
    except UserError as error:
        raise UserError(_by_argument(str(error), input_shape)) from error


def _by_argument(message: str, input_shape: tuple[int, ...] | None) -> str:
    """A message about --model and --img-size in the words of verbs with MODEL and --input.

    >>> _by_argument("--model 'a' is small; give --img-size 32 or more", (3, 8, 8))
    "MODEL 'a' is small; give --input 3x32x32 or more"
    """
    channels, *sizes = input_shape or _COLOURED

    def shape(side: re.Match[str]) -> str:
        return "--input " + "x".join(map(str, (channels, *[side[1]] * len(sizes))))

    message = re.sub(r"--img-size (\d+)", shape, message.replace("--model '", "MODEL '"))
    return message.replace("--img-size", "--input")


def _named(
    name: str,
    input_shape: tuple[int, ...] | None,
    num_classes: int | None,
    stem: Stem,
    width: float,
) -> tuple[nn.Module, tuple[int, ...]]:
    is_architecture = is_external(name) or name in MODELS.names()
    if name and not is_architecture and Path(name).expanduser().is_dir():
        if num_classes is not None or stem != "auto" or width != 1.0:
            raise UserError(
                f"the run '{name}' has its network already: leave out --num-classes, --stem "
                f"and --width, or name an architecture (hubel models lists them)"
            )
        trained = load_trained(RunFolder.open(Path(name).expanduser()))
        return trained.model, input_shape or trained.spec.input_shape
    if is_external(name):
        shape, classes = input_shape or _COLOURED, 1000 if num_classes is None else num_classes
    else:
        published = MODELS[name]
        shape = input_shape or published.input_shape
        classes = published.num_classes if num_classes is None else num_classes
    spec = ModelSpec(name, shape[0], classes, shape[1:], stem=stem, width=width)
    if ".py" in name and is_external(name):
        model: nn.Module = network_of(spec)[1]  # a person's code may look at numbers
        if input_shape is None:
            raise UserError(
                f"--input is missing: '{name}' does not say what it takes; give channels and size, "
                f"such as --input 3x32x32"
            )
    else:
        model = _without_numbers(lambda: network_of(spec)[1])
    return model.network if isinstance(model, ExternalModel) else model, shape


def written_shape(words: str) -> tuple[int, ...]:
    """(c, *spatial) of 3x224x224, 3×224×224 or 3,224,224.

    >>> written_shape("1x48x48x48")
    (1, 48, 48, 48)
    """
    parts = re.split("[x×,]", words.lower().strip())
    if not all(re.fullmatch(r"[0-9]{1,9}", part.strip(), re.ASCII) for part in parts):
        raise UserError(
            f"--input takes channels and sizes such as 3x224x224 or 1x48x48x48, got '{words}'"
        )
    shape = tuple(map(int, parts))
    if len(shape) not in (3, 4):
        raise UserError(
            f"--input takes channels and 2 sizes (a picture, 3x224x224) or 3 (a volume, "
            f"1x48x48x48), got {len(shape)} number{'s' * (len(shape) > 1)}: '{words}'"
        )
    if shape[0] < 1:
        raise UserError(
            f"--input needs at least 1 channel, got '{words}'; a grey picture has 1, a coloured 3"
        )
    if not all(1 <= side <= _MAX_SIDE for side in shape):
        raise UserError(f"--input takes sizes from 1 to {_MAX_SIDE:,}, got '{words}'")
    if math.prod(shape) > _MAX_INPUT:
        raise UserError(
            f"--input '{words}' has {math.prod(shape):,} values a picture, at most "
            f"{_MAX_INPUT:,} are taken; give a smaller size"
        )
    return shape


def _without_numbers(build: Callable[[], nn.Module]) -> nn.Module:
    """What `build` makes, on the meta device if its builder does not look at numbers."""
    with warnings.catch_warnings():
        # torchvision announces how some will be initialised one day: here nothing is.
        warnings.simplefilter("ignore")
        try:
            with torch.device("meta"):
                return build()
        except (NotImplementedError, UserError):
            # It reads numbers out of tensors of its own, as torchvision's RegNet does; or the
            # user's mistake is told again.
            return build()
