"""`detect`: any number of objects a picture, each with its class and box.

FCOS (Tian et al. 2019, ICCV, arXiv 1904.01355): one stage and no anchors. Every place of a small
feature pyramid (Lin et al. 2017, CVPR, arXiv 1612.03144) says which class lies there, how far
the sides of its box are, and how central the place is in it; overlapping boxes of one class
are then reduced to the surest (class-wise non-maximum suppression). The sampling within 1.5
strides of a box's centre and the box loss by generalized IoU are those of its later version
(arXiv 2006.09214).
"""

import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from hubel.data.boxes import Boxes
from hubel.data.source import Labelling
from hubel.data.targets import NO_OBJECT
from hubel.layers import conv
from hubel.maps import MapShape, map_shapes, nearest_stride, without_head
from hubel.metrics.boxes import Predictions
from hubel.models import Model
from hubel.tasks import TASKS, Answer

__all__ = ["Detect", "Detector"]

_WIDTH, _GROUPS = 96, 16
_FINEST, _FINEST_SMALL, _SMALL = 8.0, 4.0, 128
"""Stride of the finest map in pixels, and that for pictures below so many a side."""
_LEVELS = 3
_REACH = 4.0
"""Strides that a box's farthest side may be away from a place that is to find it; twice that on
the coarsest map and beyond."""
_CENTRE = 1.5
"""Strides around a box's centre within which places are to find it."""
_PRIOR = 0.01
"""Of an object of some class at some place, before training (Lin et al. 2017, arXiv 1708.02002)."""
_ALPHA, _GAMMA = 0.25, 2.0
_PLACE = 4
"""Columns of a place in the output: x, y, and its stride in x and y, as shares of the sides."""
_MIN_SCORE, _CANDIDATES, _MOST = 0.01, 1000, 300
"""Of a prediction; before suppression; and of what is left of a picture."""
_FEW = 4
_MOST_PAIRS = 1 << 21
"""Of boxes and places compared at once: some dozen values each."""
_MOST_KEPT = 100
"""Of a picture, for the figures of an epoch: what COCO looks at."""
_OVERLAP = 0.6
"""From this IoU on two boxes of a class are of one object."""


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
    """Group norm as in FCOS: the levels share a tower, and batch norm's running statistics would be
    of none of them.
    """
    layers: list[nn.Module] = []
    for _ in range(2):
        layers += [
            conv(2, width, width, 3, padding=1, bias=False),
            nn.GroupNorm(_GROUPS, width),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class Detector(Model):
    """A zoo network's maps with a pyramid and one head for all its levels.

    Outputs (n, places, 9 + num_classes): the box as shares of the sides (left, top, right,
    bottom), the logit of centre-ness, a logit a class, and the place itself.
    """

    def __init__(self, model: Model, num_classes: int, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.model = without_head(model, input_shape)
        shapes = map_shapes(model, input_shape)
        finest = _FINEST_SMALL if min(input_shape[1:]) < _SMALL else _FINEST
        chosen = {nearest_stride(shapes, finest * 2**level).index for level in range(_LEVELS)}
        self.indices = sorted(chosen)
        by_index = {shape.index: shape for shape in shapes}
        self.pyramid = Pyramid([by_index[i] for i in self.indices], _WIDTH)
        self.classes_tower, self.box_tower = _tower(_WIDTH), _tower(_WIDTH)
        self.classes = nn.Conv2d(_WIDTH, num_classes, 3, padding=1)
        self.box = nn.Conv2d(_WIDTH, 5, 3, padding=1)
        # Every place begins with the same: a box of some strides, and hardly any class.
        for last in (self.classes, self.box):
            nn.init.normal_(last.weight, std=0.01)
        nn.init.constant_(cast(torch.Tensor, self.classes.bias), math.log(_PRIOR / (1 - _PRIOR)))
        nn.init.zeros_(cast(torch.Tensor, self.box.bias))

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
        away = 2 * F.softplus(said[:, :4])  # strides to left, top, right, bottom
        box = torch.stack(
            [
                x - away[:, 0] / width, y - away[:, 1] / height,
                x + away[:, 2] / width, y + away[:, 3] / height,
            ],
            dim=1,
        )  # fmt: skip
        strides = torch.full_like(x, 1 / width), torch.full_like(y, 1 / height)
        place = torch.stack([x, y, *strides]).expand(n, -1, -1, -1)
        return torch.cat([box, said[:, 4:], logits, place], dim=1).flatten(2).mT


def assigned(
    places: torch.Tensor, target: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`_assigned`, a few samples at a time where there are many boxes and places."""
    few = max(1, _MOST_PAIRS // (target.shape[1] * len(places)))
    parts = zip(*(_assigned(places, part) for part in target.split(few)), strict=True)
    classes, boxes, centres = (torch.cat(part) for part in parts)
    return classes, boxes, centres


def _assigned(
    places: torch.Tensor, target: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What each place is to find: its class (n, places), -1 for nothing, its box and how central.

    `places` (places, 4), `target` (n, most, 5), all in shares of the sides. A place is for the
    smallest of the boxes that it lies in, near whose centre it is, and whose size its stride is
    for. A box whose size is for no place near its centre goes to the nearest of the finest map.
    """
    # Rows that no sample of this batch fills cost as much as others.
    used = (target[..., 0] >= 0).any(0)
    target = target[:, : int(used.nonzero().max()) + 1 if used.any() else 1]
    x, y, step_x, step_y = places.unbind(-1)
    left, top, right, bottom = (side[..., None] for side in target[..., 1:].unbind(-1))
    sides = torch.stack([x - left, y - top, right - x, bottom - y], dim=-1)  # (n, most, places, 4)
    off = torch.maximum(
        (x - (left + right) / 2).abs() / step_x, (y - (top + bottom) / 2).abs() / step_y
    )
    farthest = (sides / torch.stack([step_x, step_y, step_x, step_y], -1)).amax(-1)
    finest, coarsest = step_x <= step_x.min() * 1.01, step_x >= step_x.max() * 0.99
    fits = (finest | (farthest > _REACH)) & (coarsest | (farthest <= 2 * _REACH))
    meant = (sides.amin(-1) > 0) & (off < _CENTRE) & fits
    # A box between two places, or narrower than a stride, must not be lost.
    near = off.masked_fill(~finest, math.inf)
    lost = ~meant.any(-1, keepdim=True) & (near <= near.amin(-1, keepdim=True))
    meant = (meant | lost) & (target[..., 0] >= 0)[..., None]
    area = ((right - left) * (bottom - top)).expand_as(meant)
    smallest, index = area.masked_fill(~meant, math.inf).min(dim=1)  # (n, places)
    found = smallest.isfinite()
    chosen = target.gather(1, index[..., None].expand(-1, -1, 5))
    own = sides.gather(1, index[:, None, :, None].expand(-1, 1, -1, 4))[:, 0].clamp_min(1e-6)
    across, down = own[..., 0::2], own[..., 1::2]
    ratio = (across.amin(-1) / across.amax(-1)) * (down.amin(-1) / down.amax(-1))
    classes = torch.where(found, chosen[..., 0], NO_OBJECT).long()
    return classes, chosen[..., 1:], torch.where(found, ratio.sqrt(), 0.0)


class Detect:
    """Boxes and classes; targets are (n, most, 5)."""

    name = "detect"
    score = "map50"
    objectives: tuple[str, ...] = ("map50", "map50_95", "loss")
    running = "placed"
    labels: Labelling = "boxes"
    answer: Answer = "boxes"
    defaults: Mapping[str, Any] = {"scale": 0.25}
    rate = 1.0

    def num_outputs(self, num_classes: int) -> int:
        """Of the zoo network's own head, which is left out; no network has one of one class."""
        return max(num_classes, 2)

    def network(self, model: Model, num_classes: int, input_shape: tuple[int, ...]) -> Model:
        """The maps of `model`, and what reads boxes off them."""
        return Detector(model, num_classes, input_shape)

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

        Labels are not smoothed: the focal loss has its own way with what is easy.
        """
        from torchvision.ops import (  # takes a second to import
            generalized_box_iou_loss,
            sigmoid_focal_loss,
        )

        box, central, logits = output[..., :4], output[..., 4], output[..., 5:-_PLACE]
        classes, true_box, centre = assigned(output[0, :, -_PLACE:].detach(), target)
        found = classes >= 0
        wanted = F.one_hot(classes.clamp_min(0), logits.shape[-1]).float() * found[..., None]
        places = max(int(found.sum()), 1)
        focal = sigmoid_focal_loss(logits, wanted, _ALPHA, _GAMMA, reduction="sum")
        weight = centre[found]
        overlap = generalized_box_iou_loss(box[found], true_box[found], reduction="none")
        boxes = (overlap * weight).sum() / weight.sum().clamp_min(1e-6)
        centres = F.binary_cross_entropy_with_logits(central[found], weight, reduction="sum")
        total: torch.Tensor = focal / places + boxes + centres / places
        return total

    def num_right(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The share of places with an object whose likeliest class is its class, times n; of the
        first few samples, because it is asked at every step.
        """
        few = output[:_FEW]
        classes, _, _ = assigned(few[0, :, -_PLACE:], target[:_FEW])
        found = classes >= 0
        right = (few[..., 5:-_PLACE].argmax(-1) == classes) & found
        return len(output) * right.sum() / found.sum().clamp_min(1)

    def untrained_loss(self, num_classes: int) -> float:
        """Of an unlikely class, a box that hardly overlaps and a centre-ness of one half."""
        unlikely = math.exp(_GAMMA * math.log(1 - _PRIOR)) * -math.log(_PRIOR)
        return _ALPHA * unlikely + 0.75 + math.log(2)

    def boxes(self, output: torch.Tensor) -> list[torch.Tensor]:
        """At most 300 a picture, of which no two of a class overlap by an IoU of 0.6. A score is
        the geometric mean of the class's probability and the centre-ness.
        """
        from torchvision.ops import batched_nms

        output = output.float()
        scores = (output[..., 5:-_PLACE].sigmoid() * output[..., 4:5].sigmoid()).sqrt()
        found = []
        for corners, of_places in zip(output[..., :4].clamp(0, 1), scores, strict=True):
            flat = of_places.flatten()
            best, order = flat.topk(min(_CANDIDATES, len(flat)))
            order = order[~(best < _MIN_SCORE)]  # not a number stays, and is told later
            place = order.div(of_places.shape[1], rounding_mode="floor")
            rows = torch.cat(
                [
                    (order % of_places.shape[1])[:, None].float(), flat[order][:, None],
                    corners[place],
                ],
                dim=1,
            )  # fmt: skip
            kept = batched_nms(rows[:, 2:], rows[:, 1], rows[:, 0].long(), _OVERLAP)
            found.append(rows[kept[:_MOST]])
        return found

    def kept(self, output: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The surest boxes (n, 1 + 100, 6), behind a row with the loss; and the true ones."""
        rows = output.new_full((len(output), 1 + _MOST_KEPT, 6), NO_OBJECT)
        rows[:, 0, 0] = self.loss(output, target)
        for i, found in enumerate(self.boxes(output)):
            rows[i, 1 : 1 + len(found)] = found[:_MOST_KEPT]
        return rows, target

    def metrics(self, output: torch.Tensor, target: torch.Tensor) -> dict[str, Any]:
        """`map50` and `map50_95` as COCO defines them, the `min_score` to keep for the largest F1
        at IoU 0.5 (None without any box), `loss`, `n`, and how many boxes were `judged`. Overlaps
        are of boxes in shares of the sides; difficult boxes are no targets, so that here, unlike
        in an evaluation, what finds one is wrong.
        """
        from hubel.metrics.matching import match, operating_point  # pycocotools

        rows, truth = output[:, 1:].double().numpy(), target.double().numpy()
        predicted = Predictions.of([r[r[:, 0] >= 0] for r in rows])
        asked = [[(int(r[0]), r[1:], False) for r in t if r[0] >= 0] for t in truth]
        true = Boxes.of(asked, len(asked))
        most = max(int(truth[..., 0].max()), int(rows[..., 0].max()))
        precision, matches = match(true, predicted, max(most, 0) + 1)
        point = operating_point(matches)
        return {
            "map50": _mean(precision[0]),
            "map50_95": _mean(precision),
            "min_score": None if point is None else point.min_score,
            "loss": float(output[:, 0, 0].mean()),
            "judged": len(true),
            "n": len(output),
        }

    def headline(self, metrics: Mapping[str, Any]) -> str:
        """The two average precisions."""
        if metrics["judged"] == 0:
            return f"nothing to judge by: none of {metrics['n']} validation samples has a box"
        return (
            f"mAP50 {metrics['map50']:.3f}, mAP50-95 {metrics['map50_95']:.3f} on "
            f"{metrics['n']} validation samples"
        )


def _mean(precision: npt.NDArray[np.float64]) -> float:
    """Over the classes that there are; 0 where there is none."""
    present = precision[~np.isnan(precision)]
    return float(present.mean()) if len(present) else 0.0


TASKS.register("detect")(Detect())
