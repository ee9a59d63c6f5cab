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
from hubel.layers import batch_norm, conv, conv_norm
from hubel.maps import resized, without_head
from hubel.models import SMALL_PICTURE, Model
from hubel.shapes import format_shape
from hubel.stats import bootstrap_interval
from hubel.tasks import TASKS, Answer
from hubel.trial import trial

__all__ = ["Segment", "Segmenter"]

FloatArray = npt.NDArray[np.float64]

_NARROWEST, _WIDEST = 32, 128
"""Channels of the decoder at strides of up to 2, and from 8 on; 64 at 4."""


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
        self.narrow = conv(spatial_dims, coarser, width, 1, bias=False) if coarser else None
        self.lateral = conv(spatial_dims, channels, width, 1, bias=False) if channels else None
        self.norm = batch_norm(spatial_dims, width)
        self.activation = nn.ReLU(inplace=True)
        self.look = conv_norm(spatial_dims, width, width, 3, activation=nn.ReLU(inplace=True))

    def forward(
        self,
        size: tuple[int, ...],
        known: torch.Tensor | None,
        map: torch.Tensor | None,
        more: list[torch.Tensor],
    ) -> torch.Tensor:
        """(n, width, *size) from `known` (n, coarser, …) and `map` (n, channels, …) of about that
        size; `more`, each (n, width, *size) or of a single place, is added before the look.
        """
        parts = list(more)
        if self.narrow is not None and known is not None:
            parts.append(_at(self.narrow(known), size))
        if self.lateral is not None and map is not None:
            parts.append(_at(self.lateral(map), size))
        total = parts.pop()
        for part in parts:
            total = total + part
        looked: torch.Tensor = self.look(self.activation(self.norm(total)))
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
            conv(dims, channels, _width(coarsest), 1, bias=False)
            for channels in self.whole.values()
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
        self.picture = conv(
            dims,
            input_shape[0],
            _width(self.finest),
            3,
            stride=2**self.finest,
            padding=1,
            bias=False,
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
        """Logits (n, num_classes, *spatial), float32, of the size of the input; in training mode
        of the decoder's finest step, where each stands for the pixels that lie in its place.
        """
        input, *maps = features
        size = tuple(input.shape[2:])
        known = None
        for o, step in zip(self.octaves, self.steps, strict=True):
            more = []
            if o == self.octaves[0]:
                more = [c(maps[i]) for i, c in zip(self.whole, self.context, strict=True)]
            if o == self.finest:
                more.append(self.picture(input))
            there = tuple(-(-side // 2**o) for side in size)
            known = step(there, known, maps[self.places[o]] if o in self.places else None, more)
        logits: torch.Tensor = self.classes(known).float()
        return logits if self.training else resized(logits, size)


class Segment:
    """A class for every pixel; targets are masks (n, *spatial) uint8, 255 where nothing counts."""

    name = "segment"
    score = "miou"
    objectives: tuple[str, ...] = ("miou", "dice", "pixel_accuracy", "loss")
    running = "pixels"
    labels: Labelling = "mask"
    answer: Answer = "mask"
    defaults: Mapping[str, Any] = {}
    rate = 1.0

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
        (n, *spatial) may be larger than `output`: see `_folded`.
        """
        target = _folded(target, output)  # (n, f, *spatial): f pixels in a place
        counted = target != IGNORED
        classes, counted = target.long() * counted, counted.float()
        # One class after the other in memory: sums over places are then over rows.
        logs = output.float().contiguous().log_softmax(1)
        num_classes, num_pixels = logs.shape[1], counted.sum(1, keepdim=True)
        right = logs.gather(1, classes)  # (n, f, *spatial)
        losses = -right if class_weights is None else -right * class_weights[classes]
        entropy = (losses * counted).sum()
        if label_smoothing:
            axes = (-1, *[1] * (logs.ndim - 2))
            weighed = logs if class_weights is None else logs * class_weights.view(axes)
            spread = -(weighed.mean(1, keepdim=True) * num_pixels).sum()
            entropy = torch.lerp(entropy, spread, label_smoothing)
        entropy = entropy / num_pixels.sum().clamp_min(1)

        places = [0, *range(2, logs.ndim)]
        squares = (logs.exp().square() * num_pixels).sum(places)  # (num_classes,)
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
        target = _folded(target, output)
        counted = (target != IGNORED).flatten(1)
        right = (output.argmax(1, keepdim=True) == target).flatten(1) & counted
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
        pixels = _folded(target, output)
        samples = torch.arange(n, device=output.device).view(-1, *[1] * (pixels.ndim - 1))
        said = output.argmax(1, keepdim=True)
        cells = (samples * num_classes + pixels.long()) * num_classes + said
        counts = cells[pixels != IGNORED].bincount(minlength=n * num_classes**2)
        loss = self.loss(output, target).expand(n, 1)
        rows = [loss.cpu().double(), counts.view(n, -1).cpu().double()]  # not every device has 64
        return torch.cat(rows, dim=1), target.new_empty(n, 0)

    def metrics(self, output: torch.Tensor, target: torch.Tensor) -> dict[str, Any]:
        """`miou` and its 95 % interval by bootstrap over samples, mean `dice` over the same
        classes, `pixel_accuracy`, `loss` (of batches, without smoothing), `n`, how many pixels
        were `judged`, and how many `predicted_classes` there are, from what was `kept`.

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
            "judged": int(total[:, 2].sum()),
            "predicted_classes": int((total[:, 1] > 0).sum()),
            "n": n,
        }

    def headline(self, metrics: Mapping[str, Any]) -> str:
        """How well regions overlap, and the share of right pixels."""
        if metrics["judged"] == 0:
            return f"nothing to judge by: no pixel of {metrics['n']} validation samples has a class"
        low, high = metrics["miou_interval"]
        right = f"{100 * metrics['pixel_accuracy']:.1f} % of the pixels right"
        alone = "; one class is predicted everywhere" if metrics["predicted_classes"] == 1 else ""
        return (
            f"mIoU {metrics['miou']:.3f} on {metrics['n']} validation samples (95 % interval "
            f"{low:.3f}–{high:.3f}); {right}{alone}"
        )


def _folded(target: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """The pixels of `target` (n, *any) that each place of `output` (n, num_classes, *spatial)
    stands for: (n, f, *spatial), f being 1 where both are of one size.

    In training a place is a square of pixels that have its logits together. And a network learns
    from smaller pictures at first, whose masks are whole: of these pixels are left out evenly.
    """
    sides = output.shape[2:]
    times = [max(1, int(n / side + 0.25)) for n, side in zip(target.shape[1:], sides, strict=True)]
    for axis, (side, step) in enumerate(zip(sides, times, strict=True), start=1):
        length, wanted = target.shape[axis], side * step
        if length != wanted:
            index = (2 * torch.arange(wanted, device=target.device) + 1) * length // (2 * wanted)
            target = target.index_select(axis, index)
    # (n, h · f, w · g) -> (n, h, f, w, g) -> (n, f, g, h, w) -> (n, f · g, h, w)
    split = [part for pair in zip(sides, times, strict=True) for part in pair]
    target = target.reshape(len(target), *split)
    order = [*range(2, target.ndim, 2), *range(1, target.ndim, 2)]
    return target.permute(0, *order).flatten(1, len(times)).contiguous()


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
