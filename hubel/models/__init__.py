"""The networks: one paper, one file; each registers its architectures under their names."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Protocol, TypeAlias

import torch
from torch import nn

from hubel.config import WIDTHS
from hubel.errors import UserError
from hubel.registry import Registry
from hubel.shapes import format_shape

__all__ = [
    "MODELS",
    "SMALL_PICTURE",
    "Architecture",
    "Builder",
    "Model",
    "ModelSpec",
    "Outputs",
    "Stem",
    "build",
    "resolve",
]

Stem: TypeAlias = Literal["auto", "paper", "small"]
"""The first layers: the paper's, those for small pictures, or by the size of the picture."""

SMALL_PICTURE = 96
"""Below this side in pixels 'auto' takes the small stem where an architecture has one."""


class Outputs(NamedTuple):
    """What a network with auxiliary heads gives in training mode, where others give a tensor.

    Returned by `forward` itself, so that what wraps a network (DDP, torch.compile) sees every
    parameter at work; a loss is loss(output) + weight · Σ loss(auxiliary).
    """

    output: torch.Tensor
    """(n, num_classes), what evaluation mode gives."""
    auxiliaries: tuple[torch.Tensor, ...] = ()
    """Each as `output`, the nearest to the input first."""
    weight: float = 0.0
    """What the loss of an auxiliary head counts beside the main one."""

    @classmethod
    def of(cls, answer: "torch.Tensor | Outputs") -> "Outputs":
        """What any network gave, in any mode."""
        return cls(answer) if isinstance(answer, torch.Tensor) else answer

    def losses(
        self, loss: Callable[[torch.Tensor], torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What training descends, with the auxiliary heads' share, and the main head's part."""
        main = loss(self.output)
        return main + self.weight * sum(map(loss, self.auxiliaries)), main


class Model(nn.Module):
    """A backbone and a head: `forward` is `forward_head(forward_features(input))`.

    Networks with auxiliary heads give `Outputs` in training mode.
    """

    def forward_features(self, input: torch.Tensor) -> list[torch.Tensor]:
        """Maps (n, c, *spatial) of growing stride, the last one what the head takes."""
        raise NotImplementedError

    def forward_head(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Outputs (n, num_classes) from the maps."""
        raise NotImplementedError

    def forward(self, input: torch.Tensor) -> torch.Tensor | Outputs:
        """Outputs (n, num_classes), not normalised, of `input` (n, in_channels, *input_size)."""
        return self.forward_head(self.forward_features(input))


class Builder(Protocol):
    """From explicit arguments to a network, freshly initialised from torch's generator."""

    def __call__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        input_size: tuple[int, ...],
        spatial_dims: int,
        dropout: float | None,
        stem: Stem,
        width: float,
    ) -> Model:
        """`stem` is 'paper' or 'small'; `dropout` None is the paper's own.

        `width` is what the paper's channels are multiplied by (`hubel.layers.scaled`), but for
        those of the input and the classes.
        """
        ...


@dataclass(frozen=True)
class Architecture:
    """What a module of this folder registers: a builder, and what its paper says."""

    builder: Builder
    title: str
    authors: str
    year: int
    source: str
    """Where to read it: venue and page, arXiv number."""
    idea: str
    """Three sentences."""
    blocks: str
    """How it is built, in one or two sentences."""
    introduced: str
    """What it brought, in a few words."""
    num_params: int
    """Of the published network: `num_classes` outputs, input of `input_shape`."""
    macs: int
    """Multiply-accumulates of convolutions and dense layers for one such input."""
    smallest: int
    """The smallest side in pixels that fits, with the paper's stem."""
    smallest_small: int | None = None
    """The same with the small stem; None if there is none."""
    input_side: int = 224
    in_channels: int = 3
    num_classes: int = 1000
    spatial_dims: int = 2
    torchvision: str | None = None
    """The name of the same network in torchvision, whose weights fit in the same order."""
    fixed_width: bool = False
    """Whether its channels are those of its paper and nothing else: no width but 1."""
    patched: "Callable[[int], Architecture] | None" = None
    """The same network on patches of another side; None where there are no patches."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(c, *spatial) of the published network."""
        return (self.in_channels, *(self.input_side,) * self.spatial_dims)


class _Architectures(Registry[Architecture]):
    """The registered networks, and `vit_base/32`: one of them with its patch, as papers write."""

    def __getitem__(self, name: str) -> Architecture:
        base, slash, patch = name.partition("/") if isinstance(name, str) else (name, "", "")
        architecture = super().__getitem__(base)
        if not slash:
            return architecture
        if architecture.patched is None:
            raise UserError(
                f"{self.kind} '{name}': '{base}' has no patches whose size could be chosen; "
                f"leave out '/{patch}'"
            )
        if not re.fullmatch("[1-9][0-9]{0,2}", patch, re.ASCII):
            raise UserError(
                f"{self.kind} '{name}': the size of a patch is a number of pixels from 1 to 999, "
                f"got '{patch}'; write {base}/16 for example"
            )
        return architecture.patched(int(patch))


MODELS: Registry[Architecture] = _Architectures("--model", "hubel.models")


@dataclass(frozen=True)
class ModelSpec:
    """All that is needed to build a network again; saved in the run and with the weights."""

    name: str
    in_channels: int
    num_classes: int
    input_size: tuple[int, ...]
    dropout: float | None = None
    stem: Stem = "auto"
    width: float = 1.0
    """What the paper's channels are multiplied by; 1 in what was saved before there were others."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(c, *spatial) of one sample."""
        return (self.in_channels, *self.input_size)


def resolve(spec: ModelSpec) -> ModelSpec:
    """`spec` with its stem decided. `UserError` for what cannot be built."""
    architecture = MODELS[spec.name]
    if spec.in_channels < 1 or spec.num_classes < 2:
        raise UserError(
            f"--model '{spec.name}' needs at least 1 input channel and 2 classes, "
            f"got {spec.in_channels} and {spec.num_classes}"
        )
    if len(spec.input_size) not in (2, 3):
        raise UserError(
            f"--model '{spec.name}' takes pictures (2 sizes) or volumes (3), got "
            f"{format_shape(*spec.input_size)}"
        )
    narrowest, widest = WIDTHS
    if not narrowest <= spec.width <= widest:
        raise UserError(f"--width must be between {narrowest:g} and {widest:g}, got {spec.width}")
    if spec.width != 1.0 and architecture.fixed_width:
        raise UserError(
            f"--width {spec.width:g}: '{spec.name}' has the channels that were published and no "
            f"others; leave --width out, or choose another network (hubel models lists them)"
        )
    has_small = architecture.smallest_small is not None
    stem = spec.stem
    if stem == "auto":
        stem = "small" if has_small and min(spec.input_size) < SMALL_PICTURE else "paper"
    if stem == "small" and not has_small:
        raise UserError(
            f"--stem small: '{spec.name}' has only the stem of its paper; leave --stem out"
        )
    smallest = architecture.smallest_small if stem == "small" else architecture.smallest
    if smallest is not None and min(spec.input_size) < smallest:
        least = format_shape(*(smallest for _ in spec.input_size))
        other = architecture.smallest_small
        small = (
            f", or take --stem small (from {other})"
            if stem == "paper" and other is not None and other < smallest
            else ""
        )
        of_poses = " (of poses: a longer --grid-edge)" if len(spec.input_size) == 3 else ""
        raise UserError(
            f"--model '{spec.name}' needs an input of at least {least}, got "
            f"{format_shape(*spec.input_size)}; enlarge it with --img-size {smallest} or more"
            f"{of_poses}{small}"
        )
    return replace(spec, stem=stem)


def build(spec: ModelSpec) -> Model:
    """The network that `spec` names, freshly initialised from torch's default generator."""
    spec = resolve(spec)
    return MODELS[spec.name].builder(
        in_channels=spec.in_channels,
        num_classes=spec.num_classes,
        input_size=spec.input_size,
        spatial_dims=len(spec.input_size),
        dropout=spec.dropout,
        stem=spec.stem,
        width=spec.width,
    )
