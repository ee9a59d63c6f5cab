"""`localize`: one class and one box a picture.

The lecture's "classification + localization", ImageNet's second task (Russakovsky et al. 2015,
IJCV, arXiv 1409.0575, section 3.1). The class comes from the network's own head. For the box every
place of one of its maps says how far the box's sides are from there, as in FCOS (Tian et al.
2019, arXiv 1904.01355, section 3.1), and how much its word should count; the box is the mean of
all words. So the head is convolutional and takes any size, and no place is chosen by a rule.
"""

import math
from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn

from hubel.data.source import Labelling
from hubel.layers import batch_norm, conv
from hubel.maps import map_shapes, nearest_stride
from hubel.models import Model
from hubel.stats import share_with_interval, wilson_interval
from hubel.tasks import TASKS, Answer

__all__ = ["Localize", "Localizer"]

_PLACES = 8
"""A side of the map that the box is read from has about so many places."""
_WIDTH = 64
_BOX_WEIGHT = 2.0
"""Of the box's loss beside the class's: both are then about equal when training begins."""
_RIGHT = 0.5
"""From this intersection over union on a box is right."""


class Localizer(Model):
    """A zoo network with a box beside its classes: outputs (n, num_classes + 4).

    The last four are left, top, right, bottom as shares of the picture's sides.
    """

    def __init__(self, model: Model, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.model = model
        chosen = nearest_stride(map_shapes(model, input_shape), input_shape[-1] / _PLACES)
        self.index = chosen.index
        last = nn.Conv2d(_WIDTH, 5, 1)
        # At first every place says the same of itself, and counts the same.
        nn.init.zeros_(last.weight)
        nn.init.zeros_(cast(torch.Tensor, last.bias))
        self.box = nn.Sequential(
            conv(2, chosen.channels, _WIDTH, 3, padding=1, bias=False),
            batch_norm(2, _WIDTH),
            nn.ReLU(inplace=True),
            last,
        )

    def forward_features(self, input: torch.Tensor) -> list[torch.Tensor]:
        """The network's own maps."""
        return self.model.forward_features(input)

    def forward_head(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Outputs (n, num_classes + 4)."""
        said = self.box(features[self.index]).float()  # (n, 5, h, w)
        height, width = said.shape[2:]
        y = (torch.arange(height, device=said.device) + 0.5) / height
        x = (torch.arange(width, device=said.device) + 0.5) / width
        y, x = torch.meshgrid(y, x, indexing="ij")
        away = 0.25 * F.softplus(said[:, 1:] + math.log(math.e - 1))  # 0.25 where it says 0
        sides = torch.stack(
            [x - away[:, 0], y - away[:, 1], x + away[:, 2], y + away[:, 3]], dim=1
        )  # (n, 4, h, w)
        counts = said[:, 0].flatten(1).softmax(1)  # (n, h * w)
        box = (sides.flatten(2) * counts[:, None]).sum(2)
        return torch.cat([self.model.forward_head(features).float(), box], dim=1)


class Localize:
    """Class and box; targets are boxes (n, 1, 5) of which the first row counts."""

    name = "localize"
    score = "located"
    objectives: tuple[str, ...] = ("located", "top1", "mean_iou", "loss")
    running = "located"
    labels: Labelling = "boxes"
    answer: Answer = "box"
    defaults: Mapping[str, Any] = {}
    rate = 1.0

    def num_outputs(self, num_classes: int) -> int:
        """One logit a class, of the zoo network; the box has an output of its own."""
        return num_classes

    def network(self, model: Model, num_classes: int, input_shape: tuple[int, ...]) -> Model:
        """`model` with a box."""
        return Localizer(model, input_shape)

    def loss(
        self,
        output: torch.Tensor,
        target: torch.Tensor,
        *,
        label_smoothing: float = 0.0,
        class_weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Cross-entropy in nats and twice the generalized IoU loss (Rezatofighi et al. 2019,
        arXiv 1902.09630), means over samples. `target` (n, 1, 5): class and corners as shares.
        """
        from torchvision.ops import generalized_box_iou_loss  # takes a second to import

        logits, box = output[:, :-4].float(), output[:, -4:].float()
        classes = F.cross_entropy(
            logits,
            target[:, 0, 0].long(),
            weight=class_weights,
            label_smoothing=label_smoothing,
            reduction="none",
        )
        boxes = generalized_box_iou_loss(box, target[:, 0, 1:], reduction="none")
        total: torch.Tensor = (classes + _BOX_WEIGHT * boxes).mean()
        return total

    def num_right(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """How many have the right class and an IoU of at least one half."""
        right, overlap = _judged(output, target)
        return (right & (overlap >= _RIGHT)).sum()

    def untrained_loss(self, num_classes: int) -> float:
        """Equal classes, and the box of a guess: a loss of about one."""
        return math.log(num_classes) + _BOX_WEIGHT

    def probabilities(self, output: torch.Tensor) -> torch.Tensor:
        """Softmax over the classes."""
        return output[:, :-4].float().softmax(1)

    def box(self, output: torch.Tensor) -> torch.Tensor:
        """The last four outputs, inside the picture."""
        return output[:, -4:].float().clamp(0, 1)

    def kept(self, output: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """All outputs, and the boxes."""
        return output, target

    def metrics(self, output: torch.Tensor, target: torch.Tensor) -> dict[str, Any]:
        """`located` (1 less ImageNet's localization error) and `top1` with their
        95 % Wilson intervals, `mean_iou`, `loss` and `n`.
        """
        n = len(target)
        right, overlap = _judged(output, target)
        both = int((right & (overlap >= _RIGHT)).sum())
        return {
            "located": both / n,
            "located_interval": list(wilson_interval(both, n)),
            "top1": int(right.sum()) / n,
            "top1_interval": list(wilson_interval(int(right.sum()), n)),
            "mean_iou": float(overlap.mean()),
            "loss": float(self.loss(output, target)),
            "n": n,
        }

    def headline(self, metrics: Mapping[str, Any]) -> str:
        """How many have the right class and place."""
        located = share_with_interval(
            metrics["located"], metrics["n"], metrics["located_interval"],
            "have the right class and an IoU of at least 0.5",
        )  # fmt: skip
        return f"{located}; mean IoU {metrics['mean_iou']:.3f}"


def _judged(output: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each sample: whether its class is right (n,), and its box's IoU (n,)."""
    from torchvision.ops import box_iou

    right = output[:, :-4].argmax(1) == target[:, 0, 0].long()
    box, truth = output[:, -4:].float(), target[:, 0, 1:]
    overlap = torch.stack(
        [box_iou(b[None], t[None])[0, 0] for b, t in zip(box, truth, strict=True)]
    )
    return right, overlap


TASKS.register("localize")(Localize())
