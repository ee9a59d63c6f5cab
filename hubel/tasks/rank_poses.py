"""`rank_poses`: which of a ligand's poses is where it really sits, and how tightly it binds.

A network sees the densities of a pose's atoms and of the receptor's about it. After Ragoza et al.
2017 (Journal of Chemical Information and Modeling 57, pp. 942-957) it says whether the pose is
good, and after Francoeur et al. 2020 (ibid. 60, pp. 4200-4215) its affinity too.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from hubel.data.source import Labelling
from hubel.metrics.consensus import Consensus
from hubel.metrics.ranking import roc_auc, top_good
from hubel.models import Model
from hubel.tasks import TASKS, Answer

__all__ = ["RankPoses"]

_AFFINITY_WEIGHT = 0.1
_WIDTH = 4.0
"""Where an error of affinity begins to count less than by its square, in units of pK."""


class RankPoses:
    """Outputs (n, 3): logits of a bad and of a good pose, and the affinity.

    Targets are rows of `PoseTargets` (n, 4): good or not, the ligand's number, docking score,
    affinity.
    """

    name = "rank_poses"
    score = "auc"
    objectives: tuple[str, ...] = ("auc", "top1", "loss")
    running = "right"
    labels: Labelling = "pose"
    answer: Answer = "pose"
    defaults: Mapping[str, Any] = {}
    rate = 0.25  # which of two poses is better shows little: a step's gradient is mostly noise

    def num_outputs(self, num_classes: int) -> int:
        """Two logits and the affinity."""
        return num_classes + 1

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
        """Cross-entropy in nats, and a tenth of the affinity's pseudo-Huber loss (Francoeur et
        al. 2020, p. 4204): of poses that are bad only what is said above the true affinity counts,
        of those whose affinity is not known nothing.
        """
        output = output.float()
        good = target[:, 0].long()
        poses = F.cross_entropy(
            output[:, :2], good, label_smoothing=label_smoothing, reduction="none"
        )
        known = target[:, 3].isfinite()
        above = output[:, 2] - target[:, 3].nan_to_num()
        above = torch.where(good == 1, above, above.clamp_min(0)) * known
        affinity = _WIDTH**2 * ((1 + (above / _WIDTH).square()).sqrt() - 1)
        return (poses + _AFFINITY_WEIGHT * affinity).mean()

    def num_right(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """How many are told right from wrong."""
        return (output[:, :2].argmax(1) == target[:, 0]).sum()

    def untrained_loss(self, num_classes: int) -> float:
        """Either kind equally likely."""
        return math.log(num_classes)

    def log_odds(self, output: torch.Tensor) -> torch.Tensor:
        """Of a good pose, (n,)."""
        return output[:, 1].float() - output[:, 0].float()

    def affinities(self, output: torch.Tensor) -> torch.Tensor:
        """-log₁₀ of the dissociation constant in mol/l, (n,)."""
        return output[:, 2].float()

    def kept(self, output: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """All of them."""
        return output, target

    def metrics(self, output: torch.Tensor, target: torch.Tensor) -> dict[str, Any]:
        """`auc` over all poses (a half where all are of one kind), `top1`, the share of ligands
        whose first pose is good, `loss`, `n`, the weights of a `consensus` with the docking
        scores, None where there are none, and whether there were affinities to learn.
        """
        scores = self.log_odds(output).cpu().numpy().astype(np.float64)
        rows = target.cpu().numpy().astype(np.float64)
        good, ligands = rows[:, 0] == 1, rows[:, 1].astype(np.int64)
        area = roc_auc(scores, good) if np.isfinite(scores).all() else None
        both = area is not None
        consensus = Consensus.fitted(scores, rows[:, 2], ligands, good) if both else None
        return {
            "auc": area if area is not None else 0.5,
            "top1": float(top_good(scores, good, ligands, 1).mean()),
            "ligands": len(np.unique(ligands)),
            "loss": float(self.loss(output, target)),
            "n": len(rows),
            "consensus": None if consensus is None else consensus.to_json(),
            "knows_affinity": bool(np.isfinite(rows[:, 3]).any()),
        }

    def headline(self, metrics: Mapping[str, Any]) -> str:
        """The area, and the share of ligands."""
        return (
            f"AUC {metrics['auc']:.3f} over {metrics['n']} poses; the first pose is good for "
            f"{metrics['top1']:.1%} of {metrics['ligands']} ligands"
        )


TASKS.register("rank_poses")(RankPoses())
