"""`classify`: one label for each sample, by softmax and cross-entropy."""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F

from hubel.data.source import Labelling
from hubel.models import Model
from hubel.stats import share_with_interval, wilson_interval
from hubel.tasks import TASKS, Answer

__all__ = ["Classify"]


class Classify:
    """Single-label classification; outputs are (n, num_classes) logits."""

    name = "classify"
    score = "top1"
    objectives: tuple[str, ...] = ("top1", "loss")
    running = "top1"
    labels: Labelling = "class"
    answer: Answer = "class"
    defaults: Mapping[str, Any] = {}
    rate = 1.0

    def num_outputs(self, num_classes: int) -> int:
        """One logit a class."""
        return num_classes

    def network(self, model: Model, num_classes: int, input_shape: tuple[int, ...]) -> Model:
        """The zoo network as it is."""
        return model

    def loss(
        self,
        output: torch.Tensor,
        target: torch.Tensor,
        *,
        label_smoothing: float = 0.0,
        class_weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Cross-entropy in nats; `target` (n,) labels or (n, num_classes) probabilities.

        The mean is over samples, not over weights, so that a batch cut into parts makes the
        same step; class weights are 1 on average.
        """
        losses = F.cross_entropy(
            output.float(),
            target,
            weight=class_weights,
            label_smoothing=label_smoothing,
            reduction="none",
        )
        return losses.mean()

    def num_right(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """How often the largest logit is the label (the leading one of a mixed target)."""
        labels = target if target.ndim == 1 else target.argmax(1)
        return (output.argmax(1) == labels).sum()

    def untrained_loss(self, num_classes: int) -> float:
        """ln(num_classes): every class equally likely."""
        return math.log(num_classes)

    def probabilities(self, output: torch.Tensor) -> torch.Tensor:
        """Softmax over the classes."""
        return output.float().softmax(1)

    def kept(self, output: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """All of them: a logit a class, and the class."""
        return output, target

    def metrics(self, output: torch.Tensor, target: torch.Tensor) -> dict[str, Any]:
        """`top1` with its 95 % Wilson interval, `loss` in nats without smoothing, and `n`."""
        n = len(target)
        right = int(self.num_right(output, target))
        return {
            "top1": right / n,
            "top1_interval": list(wilson_interval(right, n)),
            "loss": float(self.loss(output, target)),
            "n": n,
        }

    def headline(self, metrics: Mapping[str, Any]) -> str:
        """The accuracy."""
        return share_with_interval(metrics["top1"], metrics["n"], metrics["top1_interval"])


TASKS.register("classify")(Classify())
