"""`detect`: any number of objects a picture, each with its class and box.

FCOS (Tian et al. 2019, ICCV, arXiv 1904.01355): one stage and no anchors. Every place of a small
feature pyramid (Lin et al. 2017, CVPR, arXiv 1612.03144) says which class lies there, how far
the sides of its box are, and how central the place is in it; overlapping boxes of one class
are then reduced to the surest (class-wise non-maximum suppression). The sampling within 1.5
strides of a box's centre and the box loss by generalized IoU are those of its later version
(arXiv 2006.09214).
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from hubel.data.source import Labelling
from hubel.layers import batch_norm, conv
from hubel.maps import MapShape, map_shapes, nearest_stride
from hubel.models import Model
from hubel.tasks import TASKS

__all__ = ["Detect", "Detector"]

_WIDTH = 96
_STRIDES = (8.0, 16.0, 32.0)
_REACH = 4.0
"""Strides that a box's farthest side may be away from a place that is to find it; twice that on
the coarsest map and beyond."""
_CENTRE = 1.5
"""Strides around a box's centre within which places are to find it."""
_PRIOR = 0.01
"""Of an object of some class at some place, before training (Lin et al. 2017, arXiv 1708.02002)."""
_PLACE = 4
"""Columns of a place in the output: x, y, and its stride in x and y, as shares of the sides."""


class Pyramid(nn.Module):
    """Maps of several strides as maps of one width, each knowing what the coarser ones know."""

    def __init__(self, shapes: list[MapShape], width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(conv(2, s.channels, width, 1) for s in shapes)
        self.smooth = nn.ModuleList(conv(2, width, width, 3, padding=1) for _ in shapes)

    def forward(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """Finest first: (n, c, h, w) each -> (n, width, h, w) each."""
        known = [lateral(map) for lateral, map in zip(self.lateral, maps, strict=True)]
        for i in range(len(known) - 1, 0, -1):
            coarser = F.interpolate(known[i], known[i - 1].shape[2:], mode="nearest")
            known[i - 1] = known[i - 1] + coarser
        return [smooth(map) for smooth, map in zip(self.smooth, known, strict=True)]


def _tower(width: int) -> nn.Sequential:
    return nn.Sequential(
        conv(2, width, width, 3, padding=1, bias=False), batch_norm(2, width), nn.ReLU(inplace=True),
        conv(2, width, width, 3, padding=1, bias=False), batch_norm(2, width), nn.ReLU(inplace=True),
    )  # fmt: skip


class Detector(Model):
    """A zoo network's maps with a pyramid and one head for all its levels.

    Outputs (n, places, 4 + 1 + num_classes + 4): the box as shares of the sides (left, top,
    right, bottom), the logit of centre-ness, a logit a class, and the place itself.
    """

    def __init__(self, model: Model, num_classes: int, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.model = model
        shapes = map_shapes(model, input_shape)
        chosen = {nearest_stride(shapes, stride).index: stride for stride in _STRIDES}
        self.indices = sorted(chosen)
        by_index = {shape.index: shape for shape in shapes}
        self.pyramid = Pyramid([by_index[i] for i in self.indices], _WIDTH)
        self.classes_tower, self.box_tower = _tower(_WIDTH), _tower(_WIDTH)
        self.classes = nn.Conv2d(_WIDTH, num_classes, 3, padding=1)
        self.box = nn.Conv2d(_WIDTH, 5, 3, padding=1)
        nn.init.constant_(self.classes.bias, math.log(_PRIOR / (1 - _PRIOR)))  # type: ignore[arg-type]
        nn.init.zeros_(self.box.bias)  # type: ignore[arg-type]

    def forward_features(self, input: torch.Tensor) -> list[torch.Tensor]:
        """The network's own maps."""
        return self.model.forward_features(input)

    def forward_head(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Outputs (n, places, 9 + num_classes)."""
        levels = self.pyramid([features[i] for i in self.indices])
        return torch.cat([self._said(level) for level in levels], dim=1)

    def _said(self, level: torch.Tensor) -> torch.Tensor:
        """Of one level (n, width, h, w): (n, h · w, 9 + num_classes)."""
        n, _, height, width = level.shape
        logits = self.classes(self.classes_tower(level)).float()
        said = self.box(self.box_tower(level)).float()
        y = (torch.arange(height, device=level.device) + 0.5) / height
        x = (torch.arange(width, device=level.device) + 0.5) / width
        y, x = torch.meshgrid(y, x, indexing="ij")
        stride = level.new_tensor([1 / width, 1 / height, 1 / width, 1 / height]).float()
        away = F.softplus(said[:, :4]).movedim(1, -1) * 2 * stride  # (n, h, w, 4)
        box = torch.stack(
            [x - away[..., 0], y - away[..., 1], x + away[..., 2], y + away[..., 3]], dim=-1
        )
        place = torch.stack(
            [x, y, torch.full_like(x, 1 / width), torch.full_like(y, 1 / height)], dim=-1
        ).expand(n, -1, -1, -1)
        columns = [box, said[:, 4:].movedim(1, -1), logits.movedim(1, -1), place]
        return torch.cat(columns, dim=-1).flatten(1, 2)


def _assigned(
    places: torch.Tensor, target: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What each place is to find: its class (n, places), -1 for nothing, its box and how central.

    `places` (places, 4), `target` (n, most, 5), all in shares of the sides. A place is for the
    smallest of the boxes that it lies in, near whose centre it is, and whose size its stride is for.
    """
    x, y, step_x, step_y = places.unbind(-1)
    left, top, right, bottom = target[..., 1:].unbind(-1)  # (n, most)
    sides = torch.stack(
        [
            x - left[..., None], y - top[..., None], right[..., None] - x, bottom[..., None] - y
        ],
        dim=-1,
    )  # (n, most, places, 4)  # fmt: skip
    inside = sides.amin(-1) > 0
    off_x = (x - (left + right)[..., None] / 2).abs() / step_x
    off_y = (y - (top + bottom)[..., None] / 2).abs() / step_y
    central = (off_x < _CENTRE) & (off_y < _CENTRE)
    farthest = (sides / torch.stack([step_x, step_y, step_x, step_y], -1)).amax(-1)
    finest, coarsest = step_x <= step_x.min() * 1.01, step_x >= step_x.max() * 0.99
    fits = (finest | (farthest > _REACH)) & (coarsest | (farthest <= 2 * _REACH))
    meant = inside & central & fits & (target[..., 0] >= 0)[..., None]
    area = ((right - left) * (bottom - top))[..., None].expand_as(meant)
    smallest, index = area.masked_fill(~meant, math.inf).min(dim=1)  # (n, places)
    found = smallest.isfinite()
    chosen = target.gather(1, index[..., None].expand(-1, -1, 5))
    classes = torch.where(found, chosen[..., 0], -1.0).long()
    own = sides.gather(1, index[:, None, :, None].expand(-1, 1, -1, 4))[:, 0].clamp_min(1e-9)
    across, down = own[..., 0::2], own[..., 1::2]
    ratio = (across.amin(-1) / across.amax(-1)) * (down.amin(-1) / down.amax(-1))
    return classes, chosen[..., 1:], torch.where(found, ratio.sqrt(), 0.0)


class Detect:
    """Boxes and classes; targets are (n, most, 5)."""

    name = "detect"
    score = "map50"
    running = "recalled"
    labels: Labelling = "boxes"

    def num_outputs(self, num_classes: int) -> int:
        """Of the zoo network's own head, which detects nothing."""
        return num_classes

    def loss(
        self,
        output: torch.Tensor,
        target: torch.Tensor,
        *,
        label_smoothing: float = 0.0,
        class_weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Focal loss of the classes, generalized IoU of the boxes weighted by how central their
        places are, and cross-entropy of the centre-ness, each over the places that find something.
        """
        from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

        box, central, logits = output[..., :4], output[..., 4], output[..., 5:-_PLACE]
        classes, true_box, centre = _assigned(output[0, :, -_PLACE:].detach(), target)
        found = classes >= 0
        wanted = F.one_hot(classes.clamp_min(0), logits.shape[-1]).float() * found[..., None]
        places = max(int(found.sum()), 1)
        focal = sigmoid_focal_loss(logits, wanted, alpha=0.25, gamma=2.0, reduction="sum")
        weight = centre[found]
        overlap = generalized_box_iou_loss(box[found], true_box[found], reduction="none")
        boxes = (overlap * weight).sum() / weight.sum().clamp_min(1e-6)
        centres = F.binary_cross_entropy_with_logits(central[found], weight, reduction="sum")
        total: torch.Tensor = focal / places + boxes + centres / places
        return total
