"""The networks: one paper, one file; each registers a builder under its name."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from hubel.errors import UserError
from hubel.registry import Registry
from hubel.shapes import format_shape

__all__ = ["MODELS", "Builder", "Model", "ModelSpec", "build", "require_size"]


class Model(nn.Module):
    """A backbone and a head: `forward` is `forward_head(forward_features(input))`."""

    def forward_features(self, input: torch.Tensor) -> list[torch.Tensor]:
        """Maps (n, c, *spatial) of growing stride, the last one what the head takes."""
        raise NotImplementedError

    def forward_head(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Outputs (n, num_classes) from the maps."""
        raise NotImplementedError

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Outputs (n, num_classes), not normalised, of `input` (n, in_channels, *input_size)."""
        return self.forward_head(self.forward_features(input))


class Builder(Protocol):
    """What a module of this folder registers: from explicit arguments to a network."""

    def __call__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        input_size: tuple[int, ...],
        spatial_dims: int = 2,
        dropout: float = 0.0,
    ) -> Model:
        """Raises `UserError` if no such network exists, naming the smallest input that fits."""
        ...


MODELS: Registry[Builder] = Registry("--model", "hubel.models")


@dataclass(frozen=True)
class ModelSpec:
    """All that is needed to build a network again; saved in the run and with the weights."""

    name: str
    in_channels: int
    num_classes: int
    input_size: tuple[int, ...]
    dropout: float = 0.0

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(c, *spatial) of one sample."""
        return (self.in_channels, *self.input_size)


def build(spec: ModelSpec) -> Model:
    """The network that `spec` names, freshly initialised from torch's default generator."""
    builder = MODELS[spec.name]
    if spec.in_channels < 1 or spec.num_classes < 2:
        raise UserError(
            f"--model '{spec.name}' needs at least 1 input channel and 2 classes, "
            f"got {spec.in_channels} and {spec.num_classes}"
        )
    return builder(
        in_channels=spec.in_channels,
        num_classes=spec.num_classes,
        input_size=spec.input_size,
        spatial_dims=len(spec.input_size),
        dropout=spec.dropout,
    )


def require_size(name: str, input_size: tuple[int, ...], smallest: int) -> None:
    """Raise `UserError` if a side of the input is below `smallest` pixels."""
    if min(input_size) < smallest:
        least = format_shape(*(smallest for _ in input_size))
        raise UserError(
            f"--model '{name}' needs an input of at least {least}, got "
            f"{format_shape(*input_size)}; enlarge it with --img-size {smallest} or more"
        )
