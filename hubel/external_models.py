"""Networks from outside: `torchvision:NAME`, `timm:NAME` and a person's own `file.py:NAME`.

They get hubel's interface as far as their own code allows: `forward` is theirs, maps by
stride are read off the layers while it runs, and there is no head to call apart.
"""

import importlib
import importlib.util
import inspect
import math
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hubel.errors import UserError, suggestion
from hubel.models import Model, ModelSpec
from hubel.python_file import is_own_file, load_object, telling_where
from hubel.shapes import format_shape

__all__ = ["ExternalModel", "external", "is_external"]

_ARGUMENTS = ("in_channels", "num_classes", "input_size", "spatial_dims", "dropout", "width")
"""What a person's own class or function may take, by name."""


def is_external(name: str) -> bool:
    """Whether `name` names a network from outside of hubel.

    >>> is_external("timm:resnet50"), is_external("nets/mine.py:Net"), is_external("resnet50")
    (True, True, False)
    """
    return name.startswith(("torchvision:", "timm:")) or is_own_file(name)


def external(spec: ModelSpec) -> Model:
    """The network that `spec` names, freshly initialised from torch's default generator.

    A person's own file is executed: call this only with a name that the person gave, not with
    one that a run or another file contains. What its class or function takes of in_channels,
    num_classes, input_size, spatial_dims, dropout and width it is given by name, the last two
    only where `spec` asks for them or there is no default; the network itself is never changed.
    Networks of the libraries get the channels and classes of `spec`.

    Raises `UserError` for unknown names, libraries that are not installed, a stem, a width,
    sizes or numbers that the network cannot have, and errors in a person's file (with the line).
    """
    if spec.stem == "small":
        raise UserError(f"--stem small: '{spec.name}' has only a stem of its own; leave it out")
    if spec.in_channels < 1 or spec.num_classes < 1:
        raise UserError(
            f"--model '{spec.name}' needs at least 1 input channel and 1 output, got "
            f"{spec.in_channels} and {spec.num_classes}"
        )
    library, _, name = spec.name.partition(":")
    if library in ("torchvision", "timm") and spec.width != 1.0:
        raise UserError(
            f"--width {spec.width:g}: '{spec.name}' has channels of its own; leave --width out, or "
            f"take one of hubel's own networks (hubel models lists them)"
        )
    if library == "torchvision":
        network = _from_torchvision(name, spec)
    elif library == "timm":
        network = _from_timm(name, spec)
    else:
        network = _from_file(spec)
    return network if isinstance(network, Model) else ExternalModel(network, spec)


class ExternalModel(Model):
    """A network from outside behind hubel's interface; `network` is as its authors made it."""

    def __init__(self, network: nn.Module, spec: ModelSpec) -> None:
        super().__init__()
        self.network = network
        self.name = spec.name

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Outputs (n, num_classes) of `input` (n, in_channels, *input_size)."""
        output = self.network(input)
        if not isinstance(output, torch.Tensor):
            raise UserError(
                f"--model '{self.name}' gives {type(output).__name__}; hubel takes networks "
                "that give one tensor (n, num_classes): wrap it in a function that does"
            )
        return output

    def forward_features(self, input: torch.Tensor) -> list[torch.Tensor]:
        """The last map (n, c, *spatial) at each stride of 2, 4, 8, … that any layer gives.

        `UserError` if the network does not work on maps to its end, as transformers do not.
        """
        sides = tuple(input.shape[2:])
        octaves: dict[int, torch.Tensor] = {}
        seen: list[bool] = []  # of each layer that ran: is the last map its work, or earlier's?

        def after(module: nn.Module, inputs: tuple[Any, ...], output: object) -> None:
            octave = _octave(output, sides)
            is_map = octave > 0 and octave >= max(octaves, default=0)
            if is_map and isinstance(output, torch.Tensor):
                octaves[octave] = output
            if not list(module.children()):
                seen.append(is_map)

        handles = [m.register_forward_hook(after) for m in self.network.modules()]
        try:
            self.network(input)
        finally:
            for handle in handles:
                handle.remove()
        # Patches are maps, too, but of a transformer's first layer only.
        if not any(seen[len(seen) // 3 :]):
            raise UserError(
                f"--model '{self.name}' gives no maps by stride, which this use needs; take a "
                "convolutional network, or one of hubel's own (hubel models lists them)"
            )
        return [octaves[octave] for octave in sorted(octaves)]

    def forward_head(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Not to be had: where the head begins is known to the network's authors alone."""
        raise UserError(
            f"--model '{self.name}' comes from outside and has no head of its own to call; "
            "call the network as a whole, or take one of hubel's own (hubel models lists them)"
        )


def _octave(output: object, sides: tuple[int, ...]) -> int:
    """log2 of the stride of the map `output` of a picture of `sides`; 0 if it is none.

    Tokens, vectors and channels-last maps are none: a map keeps the picture's proportions.
    """
    if not isinstance(output, torch.Tensor) or output.ndim != 2 + len(sides):
        return 0
    shape = output.shape[2:]
    if max(shape) == 1 or min(shape) == 0:
        return 0  # pooled over the whole picture
    strides = [side / length for side, length in zip(sides, shape, strict=True)]
    if max(strides) > 2 * min(strides):
        return 0
    return max(0, round(math.log2(math.prod(strides)) / len(strides)))


def _from_torchvision(name: str, spec: ModelSpec) -> nn.Module:
    """A classifier of torchvision: of pictures, or in 3-D of films."""
    from torchvision import models

    pictures = len(spec.input_size) == 2
    known = models.list_models(module=models if pictures else models.video)
    if name not in known:
        if name in models.list_models():
            kind = "pictures" if pictures else "volumes"
            raise UserError(
                f"--model '{spec.name}' does not classify {kind}; for those "
                f"{suggestion('', known, 'torchvision:')}"
            )
        near = suggestion(name, known, "torchvision:")
        raise UserError(f"--model '{spec.name}' is not known; {near}")
    arguments: dict[str, Any] = {"weights": None, "num_classes": spec.num_classes}
    if name in ("googlenet", "inception_v3"):
        # Their auxiliary heads give a tuple in training.
        arguments |= {"aux_logits": False, "init_weights": True}
    if name.startswith("vit_"):
        patch = int(name.rpartition("_")[2])
        side = spec.input_size[0]
        if set(spec.input_size) != {side} or side % patch:
            raise UserError(
                f"--model '{spec.name}' takes squares of a multiple of {patch} pixels, got "
                f"{format_shape(*spec.input_size)}; give such a size by --img-size"
            )
        arguments["image_size"] = side
    if name == "maxvit_t":
        arguments["input_size"] = spec.input_size
    try:
        network: nn.Module = models.get_model(name, **arguments)
    except (ValueError, RuntimeError, AssertionError) as error:
        raise _cannot_build(spec, error) from None
    if spec.in_channels != 3:
        _take_channels(network, spec)
    if spec.dropout is not None:
        _take_dropout(network, spec.dropout)
    return network


def _from_timm(name: str, spec: ModelSpec) -> nn.Module:
    """A network of timm, which is an optional part of hubel."""
    if importlib.util.find_spec("timm") is None:
        raise UserError(
            f"--model '{spec.name}' needs timm, which is not installed; "
            "install it with: pip install 'hubel[hub]'"
        )
    if len(spec.input_size) != 2:
        raise UserError(
            f"--model '{spec.name}' takes pictures (2 sizes), got "
            f"{format_shape(*spec.input_size)}; hubel's own networks take volumes "
            "(hubel models lists them)"
        )
    timm = importlib.import_module("timm")
    # Also keeps out names such as hf-hub:…, which download.
    known = timm.list_models()
    if name.partition(".")[0] not in known:
        near = suggestion(name, known, "timm:")
        raise UserError(f"--model '{spec.name}' is not known; {near}")
    arguments: dict[str, Any] = {
        "pretrained": False,
        "in_chans": spec.in_channels,
        "num_classes": spec.num_classes,
    }
    if spec.dropout is not None:
        arguments["drop_rate"] = spec.dropout
    try:
        try:
            # Only networks that are built for one size take it.
            sized: nn.Module = timm.create_model(name, img_size=spec.input_size, **arguments)
            return sized
        except TypeError:
            network: nn.Module = timm.create_model(name, **arguments)
            return network
    except (ValueError, TypeError, RuntimeError, AssertionError) as error:
        raise _cannot_build(spec, error) from None


def _from_file(spec: ModelSpec) -> nn.Module:
    """What a person's own class or function makes."""
    file, _, name = spec.name.rpartition(":")
    if not file or not name:
        file = spec.name.rstrip(":")
        raise UserError(
            f"--model '{spec.name}' names a file without a class or function in it; "
            f"give {file}:NAME"
        )
    maker = load_object(file, name)
    if not callable(maker) or isinstance(maker, nn.Module):
        raise UserError(
            f"--model '{spec.name}' is of type {type(maker).__name__}, not a class or function; "
            "write a function that returns a new network and name that"
        )
    values: dict[str, Any] = {key: getattr(spec, key) for key in _ARGUMENTS if hasattr(spec, key)}
    values["spatial_dims"] = len(spec.input_size)
    asked = {"dropout": spec.dropout is not None, "width": spec.width != 1.0}
    given = {}
    try:
        parameters = dict(inspect.signature(maker).parameters)
    except ValueError:  # something compiled, that does not say
        parameters = {}
    for key, parameter in parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if not asked.get(key, True) and parameter.default is not parameter.empty:
            continue  # its own
        if key in values and parameter.kind is not parameter.POSITIONAL_ONLY:
            given[key] = values[key]
        elif parameter.default is parameter.empty:
            raise UserError(
                f"--model '{spec.name}' needs '{key}', which hubel does not know; give it a "
                f"default (hubel gives {', '.join(_ARGUMENTS)}, each by name)"
            )
    for key in asked:
        if asked[key] and key not in given:
            raise UserError(
                f"--{key} {values[key]:g}: '{spec.name}' takes no argument '{key}'; add it or "
                f"leave --{key} out"
            )
    network = telling_where(
        Path(file).expanduser(), f"cannot build '{name}'", lambda: maker(**given)
    )
    if not isinstance(network, nn.Module):
        raise UserError(
            f"--model '{spec.name}' gives {type(network).__name__}, not a torch.nn.Module; "
            "let it return the network"
        )
    return network


def _cannot_build(spec: ModelSpec, error: Exception) -> UserError:
    reason = str(error).strip().split("\n")[0]
    return UserError(
        f"--model '{spec.name}' cannot be built for "
        f"{format_shape(*spec.input_shape)}: {reason}; try another size (--img-size)"
    )


def _take_channels(network: nn.Module, spec: ModelSpec) -> None:
    """Replace the convolution that sees the picture by one for `spec.in_channels`."""
    for name, old in network.named_modules():
        if isinstance(old, nn.Conv2d | nn.Conv3d) and old.in_channels == 3:
            if old.padding_mode != "zeros" or old.groups != 1:
                break
            new = type(old)(
                spec.in_channels,
                old.out_channels,
                old.kernel_size,  # type: ignore[arg-type]
                stride=old.stride,  # type: ignore[arg-type]
                padding=old.padding,  # type: ignore[arg-type]
                dilation=old.dilation,  # type: ignore[arg-type]
                bias=old.bias is not None,
            )
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, new)
            return
    raise UserError(
        f"--model '{spec.name}' takes 3 channels and hubel finds no first convolution to change "
        f"for {spec.in_channels}; take another network"
    )


def _take_dropout(network: nn.Module, rate: float) -> None:
    """Give every dropout layer the rate, or put one before the last Linear if there is none."""
    layers = [m for m in network.modules() if isinstance(m, nn.Dropout)]
    for layer in layers:
        layer.p = rate
    if not layers:
        name, last = [(n, m) for n, m in network.named_modules() if isinstance(m, nn.Linear)][-1]
        parent, _, child = name.rpartition(".")
        setattr(network.get_submodule(parent), child, nn.Sequential(nn.Dropout(rate), last))
