"""The tasks: what a network's output means. One file a task; each registers itself."""

from typing import Any, Protocol

import torch

from hubel.data.source import Labelling
from hubel.models import Model
from hubel.registry import Registry

__all__ = ["TASKS", "Task"]


class Task(Protocol):
    """Head, loss, metrics and reading of a prediction. Stateless.

    Attributes
    ----------
    name: as registered and shown.
    score: the key of `metrics` by which epochs are compared; higher is better.
    running: what `num_right` counts as a share, for the progress line.
    labels: what its samples are labelled with.
    """

    name: str
    score: str
    running: str
    labels: Labelling

    def num_outputs(self, num_classes: int) -> int:
        """Outputs that the zoo network's own head must give."""
        ...

    def network(self, model: Model, input_shape: tuple[int, ...]) -> Model:
        """What learns the task: the zoo network `model`, with a head for the task on its maps.

        `input_shape` (c, *spatial) is that of one sample.
        """
        ...

    def loss(
        self,
        output: torch.Tensor,
        target: torch.Tensor,
        *,
        label_smoothing: float = 0.0,
        class_weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Mean loss of a batch, a scalar."""
        ...

    def num_right(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """How many of a batch are right, a scalar; parts of samples count as parts."""
        ...

    def untrained_loss(self, num_classes: int) -> float:
        """The loss that a network without knowledge should have."""
        ...

    def probabilities(self, output: torch.Tensor) -> torch.Tensor:
        """Of each class for each sample, (n, num_classes)."""
        ...

    def metrics(self, output: torch.Tensor, target: torch.Tensor) -> dict[str, Any]:
        """Figures over a whole split, JSON-ready, `loss` and `score` among them."""
        ...


TASKS: Registry[Task] = Registry("--task", "hubel.tasks")
