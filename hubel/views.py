"""Test-time augmentation: the mean of what a network says of several views of one picture.

Krizhevsky, Sutskever and Hinton 2012 (NeurIPS, section 4.1) averaged over crops and their
mirror images; the views here are the six of Jordan 2024 (arXiv 2404.00498, section 3.5): the
picture and two shifts by a thirty-second of its side along the diagonal, each mirrored too
where mirroring changes no label. The picture as it is has half of the weight.
"""

import itertools
from dataclasses import replace

import torch
import torch.nn.functional as F

from hubel.config import FitConfig
from hubel.errors import UserError
from hubel.models import Model
from hubel.tasks import Task

__all__ = ["Views", "with_tta", "with_views"]

_SURE = 0.5
"""From this lead of the likeliest class over the second on, more views seldom change it."""


class Views(Model):
    """`model`, whose outputs are means over views; a `Model` like any other.

    With `only_unsure`, pictures whose likeliest class leads by half or more keep their one
    view. That depends on the picture alone: what else is in its batch changes nothing.
    """

    def __init__(self, model: Model, *, mirror: bool, only_unsure: bool) -> None:
        super().__init__()
        self.model = model
        self.mirror = mirror
        self.only_unsure = only_unsure

    def forward_features(self, input: torch.Tensor) -> list[torch.Tensor]:
        """The maps of the picture as it is."""
        return self.model.forward_features(input)

    def forward_head(self, features: list[torch.Tensor]) -> torch.Tensor:
        """The network's own."""
        return self.model.forward_head(features)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Mean outputs (n, num_classes)."""
        output: torch.Tensor = self.model(input).float()
        if not self.only_unsure:
            return self._mean(input, output)
        top = output.softmax(1).topk(2, dim=1).values
        unsure = (top[:, 0] - top[:, 1] < _SURE).nonzero()[:, 0]
        if len(unsure) == 0:
            return output
        return output.index_copy(0, unsure, self._mean(input[unsure], output[unsure]))

    def _mean(self, input: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """Over all views of `input`, whose own output is `output`."""
        reach = [side // 32 if side >= 64 else min(1, side - 1) for side in input.shape[2:]]
        shifts = [-1, 0, 1] if any(reach) else [0]
        total, weights = torch.zeros_like(output), 0.0
        for shift, mirrored in itertools.product(
            shifts, (False, True) if self.mirror else (False,)
        ):
            weight = 2.0 if shift == 0 else 1.0
            if shift == 0 and not mirrored:
                view = output
            else:
                moved = _shifted(input, [shift * pixels for pixels in reach])
                view = self.model(moved.flip(-1) if mirrored else moved).float()
            total += weight * view
            weights += weight
        return total / weights


def with_views(model: Model, tta: str, flip: str) -> Model:
    """`model` evaluated as `tta` says ("none", "all", "unsure"); `flip` is the training's."""
    if tta == "none":
        return model
    return Views(model, mirror=flip != "none", only_unsure=tta == "unsure").train(model.training)


def _shifted(input: torch.Tensor, offset: list[int]) -> torch.Tensor:
    """(n, c, *spatial) moved by `offset` pixels along each axis, the border reflected."""
    if not any(offset):
        return input
    padding = [abs(pixels) for pixels in reversed(offset) for _ in range(2)]
    padded = F.pad(input, padding, mode="reflect")
    window = tuple(
        slice(abs(pixels) - pixels, abs(pixels) - pixels + side)
        for pixels, side in zip(offset, input.shape[2:], strict=True)
    )
    return padded[(slice(None), slice(None), *window)]


def with_tta(config: FitConfig, asked: str | None, task: Task) -> FitConfig:
    """`config` with the views that were asked for. Raises `UserError` where means over views mean
    nothing: places move with the picture.
    """
    if asked is None:
        return config
    config = replace(config, tta=asked)
    if task.answer == "pose" and config.tta != "unsure":
        return config
    if config.tta != "none" and task.answer != "class":
        raise UserError(
            f"--tta {asked} averages over shifted views, and --task {task.name} says where things "
            f"are; leave it out"
        )
    return config
