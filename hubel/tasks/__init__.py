"""The tasks: what a network's output means. One file a task; each registers itself."""

from typing import Any, Protocol

import torch

from hubel.registry import Registry

__all__ = ["TASKS", "Task"]


class Task(Protocol):
    """Head size, loss, metrics and reading of a prediction. Stateless.

    Attributes
    ----------
    name: as registered and shown.
    score: the key of `metrics` by which epochs are compared; higher is better.
    """

    name: str
    score: str

    def num_outputs(self, num_classes: int) -> int:
        """Outputs that the network's head must give."""
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
        """How many of a batch are right, a scalar, for the progress line."""
        ...

    def untrained_loss(self, num_classes: int) -> float:
        """The loss that a network without knowledge should have."""
        ...

    def probabilities(self, output: torch.Tensor) -> torch.Tensor:
        """Outputs as probabilities."""
        ...

    def metrics(self, output: torch.Tensor, target: torch.Tensor) -> dict[str, Any]:
        """Figures over a whole split, JSON-ready, `loss` and `score` among them."""
        ...


TASKS: Registry[Task] = Registry("--task", "hubel.tasks")
