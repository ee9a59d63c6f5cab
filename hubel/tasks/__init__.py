"""The tasks: what a network's output means. One file a task; each registers itself.

What a network answers is one of five kinds, and each has its way of being judged, drawn and
written; a task of a kind that is there is one file. `AnswersClass`, `AnswersBox`, `AnswersBoxes`,
`AnswersMask` and `AnswersPose` say what a task of each kind gives beside the rest.
"""

from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias

import torch

from hubel.data.source import Labelling
from hubel.data.targets import Kind
from hubel.models import Model
from hubel.registry import Registry

__all__ = [
    "TASKS",
    "Answer",
    "AnswersBox",
    "AnswersBoxes",
    "AnswersClass",
    "AnswersMask",
    "AnswersPose",
    "Task",
]

Answer: TypeAlias = Kind
"""What a prediction is: a class, a class with a box, any number of both, a class a pixel, how good
a pose is."""


class Task(Protocol):
    """Head, loss, metrics and reading of a prediction. Stateless.

    Attributes
    ----------
    name: as registered and shown.
    score: the key of `metrics` by which epochs are compared; higher is better.
    objectives: the keys of `metrics` by which networks may be compared, `score` the first; higher
        is better, but for "loss".
    running: what `num_right` counts as a share, for the progress line.
    labels: what its samples are labelled with.
    answer: what a prediction is, by which it is judged, drawn and written.
    defaults: settings that the task decides where they are not given (None).
    rate: what the optimizer's own learning rate is multiplied by where none is given.
    """

    name: str
    score: str
    objectives: tuple[str, ...]
    running: str
    labels: Labelling
    answer: Answer
    defaults: Mapping[str, Any]
    rate: float

    def num_outputs(self, num_classes: int) -> int:
        """Outputs that the zoo network's own head must give."""
        ...

    def network(self, model: Model, num_classes: int, input_shape: tuple[int, ...]) -> Model:
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

    def kept(self, output: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What `metrics` needs of a batch's outputs and targets, one row a sample each: a split's
        maps need not lie in memory together.
        """
        ...

    def metrics(self, output: torch.Tensor, target: torch.Tensor) -> dict[str, Any]:
        """Figures over a whole split, JSON-ready, `loss`, `score` and `n` among them, from all
        that was `kept`.
        """
        ...

    def headline(self, metrics: Mapping[str, Any]) -> str:
        """`metrics` as the sentence that a fit ends with."""
        ...


class AnswersClass(Task, Protocol):
    """A task whose answer is "class"."""

    def probabilities(self, output: torch.Tensor) -> torch.Tensor:
        """Of each class for each sample, (n, num_classes)."""
        ...


class AnswersBox(AnswersClass, Protocol):
    """A task whose answer is "box"."""

    def box(self, output: torch.Tensor) -> torch.Tensor:
        """Left, top, right, bottom as shares of the sides, (n, 4)."""
        ...


class AnswersBoxes(Task, Protocol):
    """A task whose answer is "boxes"."""

    def boxes(self, output: torch.Tensor) -> list[torch.Tensor]:
        """Of each sample (k, 6): class, score, left, top, right, bottom as shares of the sides,
        the highest score first, those of hardly any score too.
        """
        ...


class AnswersMask(Task, Protocol):
    """A task whose answer is "mask"."""

    def maps(self, output: torch.Tensor) -> torch.Tensor:
        """Probabilities of each class at each pixel, (n, num_classes, *spatial)."""
        ...


class AnswersPose(Task, Protocol):
    """A task whose answer is "pose"."""

    def log_odds(self, output: torch.Tensor) -> torch.Tensor:
        """Of a good pose, (n,)."""
        ...

    def affinities(self, output: torch.Tensor) -> torch.Tensor:
        """-log₁₀ of the dissociation constant in mol/l, (n,)."""
        ...


TASKS: Registry[Task] = Registry("--task", "hubel.tasks")
