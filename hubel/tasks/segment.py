"""`segment`: a class for every pixel of a picture or voxel of a volume.

A decoder goes up from the coarsest map of any zoo network to the finest, as in U-Net
(Ronneberger, Fischer and Brox 2015, MICCAI, arXiv 1505.04597) and the panoptic feature pyramid
(Kirillov et al. 2019, CVPR, arXiv 1901.02446): at each octave what is known coarser is made
narrower, brought to twice the size and added to the network's map of that size, and a
convolution looks at both. Octaves of which the network has no map, as those of a transformer, are
passed without. The width halves with the stride, so no octave costs much more than another. The
last step sees the picture itself, so that boundaries are sharp whatever the network's own first
stride is.

The loss is the cross-entropy of the pixels and the soft Dice loss of the classes (Milletari, Navab
and Ahmadi 2016, 3DV, arXiv 1606.04797, section 3), which counts a rare class as much as a
frequent one. Pixels of the class `IGNORED` are neither learned from nor judged.
"""

import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from hubel.data.source import Labelling
from hubel.data.targets import IGNORED
from hubel.errors import UserError
from hubel.layers import conv, conv_norm
from hubel.maps import without_head
from hubel.models import SMALL_PICTURE, Model
from hubel.shapes import format_shape
from hubel.stats import bootstrap_interval
from hubel.tasks import TASKS, Answer
from hubel.trial import trial

__all__ = ["Segment", "Segmenter"]

FloatArray = npt.NDArray[np.float64]

_NARROWEST, _WIDEST = 32, 128
"""Channels of the decoder at strides of up to 2, and from 8 on; 64 at 4."""
_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def _width(octave: int) -> int:
    return min(max(16 << octave, _NARROWEST), _WIDEST)


def _octave(shape: tuple[int, ...], input_shape: tuple[int, ...]) -> int:
    """How often the sides of a map (c, *spatial) are half of those of the input (c, *spatial)."""
    ratio = math.prod(input_shape[1:]) / math.prod(shape[1:])  # of places
    return round(math.log2(ratio) / (len(shape) - 1))


class Step(nn.Module):
    """One octave of the decoder: what is known coarser, the map of this size, and a look at both.

    Parameters
    ----------
    coarser: channels of what is known coarser, 0 for the first step.
    channels: of the network's map of this octave, 0 where there is none.
    """

    def __init__(self, spatial_dims: int, coarser: int, channels: int, width: int) -> None:
        super().__init__()
        self.narrow = conv_norm(spatial_dims, coarser, width, 1) if coarser else None
        self.lateral = conv_norm(spatial_dims, channels, width, 1) if channels else None
        self.look = conv_norm(spatial_dims, width, width, 3, activation=nn.ReLU(inplace=True))

    def forward(
        self,
        size: tuple[int, ...],
        known: torch.Tensor | None,
        map: torch.Tensor | None,
        more: torch.Tensor | None,
    ) -> torch.Tensor:
        """(n, width, *size) from `known` (n, coarser, …) and `map` (n, channels, …) of about that
        size; `more` (n, width, *size), or of a single place, is added before the look.
        """
        parts = []
        if self.narrow is not None and known is not None:
            parts.append(_at(self.narrow(known), size))
        if self.lateral is not None and map is not None:
            parts.append(_at(self.lateral(map), size))
        total = parts[0] if len(parts) == 1 else parts[0] + parts[1]
        looked: torch.Tensor = self.look(F.relu(total if more is None else total + more))
        return looked


def _at(map: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    """`map` (n, c, …) at (n, c, *size), each place taken from the nearest one."""
    return map if map.shape[2:] == size else F.interpolate(map, size, mode="nearest")


class Segmenter(Model):
    """A zoo network's maps and a decoder: logits (n, num_classes, *spatial) for each pixel.

    The network's own head is taken away.
    """

    def __init__(self, model: Model, num_classes: int, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        dims = len(input_shape) - 1
        with trial(model, input_shape) as zeros, torch.no_grad():
            shapes = [tuple(map.shape[1:]) for map in model.forward_features(zeros)]
        self.model = without_head(model, input_shape)
        self.finest = 0 if min(input_shape[1:]) < SMALL_PICTURE else 1
        # The deepest map of each octave; those finer than the decoder count as its finest.
        self.places = {
            max(_octave(shape, input_shape), self.finest): index
            for index, shape in enumerate(shapes)
            if max(shape[1:]) > 1
        }
        if not self.places:
            raise UserError(
                f"--task segment needs maps with more than one place, and this network has none "
                f"for an input of {format_shape(*input_shape[1:])}; enlarge it with "
                f"--img-size, or take another --model"
            )
        coarsest = max(self.places)
        # A map of a single place, the end of the network for small pictures, is of the whole.
        self.whole = {i: s[0] for i, s in enumerate(shapes) if max(s[1:]) == 1}
        self.context = nn.ModuleList(
            conv(dims, channels, _width(coarsest), 1) for channels in self.whole.values()
        )
        self.octaves = list(range(coarsest, self.finest - 1, -1))
        self.steps = nn.ModuleList(
            Step(
                dims,
                0 if o == coarsest else _width(o + 1),
                shapes[self.places[o]][0] if o in self.places else 0,
                _width(o),
            )
            for o in self.octaves
        )
        self.picture = conv_norm(
            dims, input_shape[0], _width(self.finest), 3, stride=2**self.finest
        )
        self.classes = conv(dims, _width(self.finest), num_classes, 1)
        # At first every class is about equally likely everywhere; zeros would hold back the rest.
        nn.init.normal_(cast(torch.Tensor, self.classes.weight), std=0.001)
        nn.init.zeros_(cast(torch.Tensor, self.classes.bias))

    def forward_features(self, input: torch.Tensor) -> list[torch.Tensor]:
        """The network's own maps, after the input itself."""
        maps = self.model.forward_features(input)
        return [input, *maps]

    def forward_head(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Logits (n, num_classes, *spatial), float32, of the size of the input."""
        input, *maps = features
        size = tuple(input.shape[2:])
        known = None
        for o, step in zip(self.octaves, self.steps, strict=True):
            more = None
            if o == self.octaves[0]:
                for index, look in zip(self.whole, self.context, strict=True):
                    more = look(maps[index]) if more is None else more + look(maps[index])
            if o == self.finest:
                seen = self.picture(input)
                more = seen if more is None else more + seen
            there = tuple(-(-side // 2**o) for side in size)
            known = step(there, known, maps[self.places[o]] if o in self.places else None, more)
        logits: torch.Tensor = self.classes(known).float()
        if logits.shape[2:] == size:
            return logits
        return F.interpolate(logits, size, mode=_LINEAR[len(size)], align_corners=False)


class Segment:
    """A class for every pixel; targets are masks (n, *spatial) uint8, 255 where nothing counts."""

    name = "segment"
    score = "miou"
    running = "pixels"
    labels: Labelling = "mask"
    answer: Answer = "mask"
    defaults: Mapping[str, Any] = {}

    def num_outputs(self, num_classes: int) -> int:
        """One logit a class, at every pixel."""
        return num_classes

    def network(self, model: Model, num_classes: int, input_shape: tuple[int, ...]) -> Model:
        """`model` with a decoder for its head."""
        return Segmenter(model, num_classes, input_shape)

    def loss(
        self,
        output: torch.Tensor,
        target: torch.Tensor,
        *,
        label_smoothing: float = 0.0,
        class_weights: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Cross-entropy in nats, a mean over the pixels that count, and the Dice loss, a mean over
        the classes that the batch has: 1 - 2 Σ p·t / (Σ p² + Σ t²), sums over those pixels.

        0 where no pixel counts. Smoothing and weights are of the cross-entropy. `target`
        (n, *spatial) may be of another size than `output`: it is picked at the output's.
        """
        logs, classes, counted = _read(output, target)
        num_classes = logs.shape[1]
        right = logs.gather(1, classes.unsqueeze(1)).squeeze(1)  # (n, *spatial)
        losses = -right if class_weights is None else -right * class_weights[classes]
        if label_smoothing:
            axes = (-1, *[1] * (logs.ndim - 2))
            weighed = logs if class_weights is None else logs * class_weights.view(axes)
            losses = torch.lerp(losses, -weighed.mean(1), label_smoothing)
        entropy = (losses * counted).sum() / counted.sum().clamp_min(1)

        places = [0, *range(2, logs.ndim)]
        squares = (logs.exp().square() * counted.unsqueeze(1)).sum(places)  # (num_classes,)
        zeros, flat = squares.new_zeros(num_classes), classes.flatten()
        hits = zeros.index_add(0, flat, (right.exp() * counted).flatten())
        true = zeros.index_add(0, flat, counted.flatten())
        present = true > 0
        dice = 2 * hits / (squares + true).clamp_min(1e-12)
        lost: torch.Tensor = ((1 - dice) * present).sum() / present.sum().clamp_min(1)
        return entropy + lost

    def num_right(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Of each sample the share of the pixels that count whose largest logit is their class,
        summed over samples; one in which none counts adds nothing.
        """
        target = _picked(target, output)
        counted = (target != IGNORED).flatten(1)
        right = (output.argmax(1) == target).flatten(1) & counted
        return (right.sum(1) / counted.sum(1).clamp_min(1)).sum()

    def untrained_loss(self, num_classes: int) -> float:
        """Of K equally likely and equally frequent classes: ln K, and a Dice loss of
        1 - 2 (1/K)(1/K) / (1/K² + 1/K) = 1 - 2 / (K + 1).
        """
        return math.log(num_classes) + 1 - 2 / (num_classes + 1)

    def maps(self, output: torch.Tensor) -> torch.Tensor:
        """Softmax over the classes, (n, num_classes, *spatial)."""
        return output.float().softmax(1)

    def kept(self, output: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(n, 1 + num_classes²) float64: the batch's loss, and how many pixels of each class
        (rows) were given each class (columns); and (n, 0), for the targets are in these.
        """
        n, num_classes = output.shape[:2]
        target = _picked(target, output)
        samples = torch.arange(n, device=output.device).view(-1, *[1] * (target.ndim - 1))
        cells = (samples * num_classes + target.long()) * num_classes + output.argmax(1)
        counts = cells[target != IGNORED].bincount(minlength=n * num_classes**2)
        loss = self.loss(output, target).expand(n, 1)
        rows = [loss.double().cpu(), counts.view(n, -1).double().cpu()]  # not every device has 64
        return torch.cat(rows, dim=1), target.new_empty(n, 0)

    def metrics(self, output: torch.Tensor, target: torch.Tensor) -> dict[str, Any]:
        """`miou` and its 95 % interval by bootstrap over samples, mean `dice` over the same
        classes, `pixel_accuracy`, `loss` (of batches, without smoothing) and `n`, from what was
        `kept`.

        Means are over the classes that the split has; all are 0 where no pixel counts.
        """
        n, num_classes = len(output), math.isqrt(output.shape[1] - 1)
        confusion = output[:, 1:].double().view(n, num_classes, num_classes).numpy()
        both = np.diagonal(confusion, axis1=1, axis2=2)
        counts = np.stack([both, confusion.sum(1), confusion.sum(2)], axis=2)  # (n, K, 3)
        total = counts.sum(0)
        known = bool(total[:, 2].any())
        interval = (0.0, 0.0)
        if known:
            interval = bootstrap_interval(
                np.ones(n, np.int64),
                lambda times: _means(np.tensordot(times.astype(np.float64), counts, 1))[0],
            )
        miou, dice = (float(v[0]) for v in _means(total[None])) if known else (0.0, 0.0)
        return {
            "miou": miou,
            "miou_interval": list(interval),
            "dice": dice,
            "pixel_accuracy": float(total[:, 0].sum() / max(total[:, 2].sum(), 1)),
            "loss": float(output[:, 0].mean()),
            "n": n,
        }

    def headline(self, metrics: Mapping[str, Any]) -> str:
        """How well regions overlap, and the share of right pixels."""
        low, high = metrics["miou_interval"]
        return (
            f"mIoU {metrics['miou']:.3f} on {metrics['n']} validation samples (95 % interval "
            f"{low:.3f}–{high:.3f}); {100 * metrics['pixel_accuracy']:.1f} % of the pixels right"
        )


def _picked(target: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """`target` (n, *any) at the spatial size of `output`, each pixel from the one its centre is in.

    A network learns from smaller pictures at first, whose masks are whole.
    """
    for axis, side in enumerate(output.shape[2:], start=1):
        length = target.shape[axis]
        if length != side:
            index = (2 * torch.arange(side, device=target.device) + 1) * length // (2 * side)
            target = target.index_select(axis, index)
    return target


def _read(
    output: torch.Tensor, target: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logarithms of the probabilities (n, num_classes, *spatial), and of each pixel its class
    (int64, 0 where none counts) and whether it counts (float32), (n, *spatial).
    """
    target = _picked(target, output)
    counted = target != IGNORED
    # One class after the other in memory: the sums over pixels are then over rows.
    logs = output.float().contiguous().log_softmax(1)
    return logs, target.long() * counted, counted.float()


def _means(sums: FloatArray) -> tuple[FloatArray, FloatArray]:
    """mIoU and mean Dice (b,) from sums (b, num_classes, 3) of intersection, prediction, truth,
    over the classes with truth; NaN where there is none.
    """
    both, predicted, true = np.moveaxis(sums, -1, 0)
    present = true > 0
    number = present.sum(1)
    iou = np.where(present, both / np.maximum(predicted + true - both, 1), 0).sum(1)
    dice = np.where(present, 2 * both / np.maximum(predicted + true, 1), 0).sum(1)
    missing = np.where(number > 0, number, np.nan)
    return iou / missing, dice / missing


TASKS.register("segment")(Segment())
