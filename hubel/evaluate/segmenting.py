"""From the maps of a network and the true masks to an evaluation, a picture at a time.

A segmenter is judged at the size of the masks that it is given: the network's maps of
probabilities are brought to that size by linear interpolation, and of each pixel the likeliest
class is taken. So a network that works on smaller pictures is judged on the pixels of the larger
ones, and masks of the network's own size judge it as it is.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from hubel.data.cache import Store
from hubel.evaluate.boundary import boundary_f
from hubel.evaluate.segmentation import (
    IGNORED,
    MAX_WORST,
    SegmentationEvaluation,
    evaluate_segmentation,
    map_counts,
    picture_miou,
)
from hubel.maps import likeliest

__all__ = ["LabelMap", "SegmentedSplit", "evaluate_maps"]

LabelMap: TypeAlias = npt.NDArray[np.uint8]
"""A class for each pixel, (*size), `IGNORED` where there is none."""


@dataclass(frozen=True)
class SegmentedSplit:
    """An evaluation, and what a report draws of it.

    Attributes
    ----------
    evaluation: with its confusion.
    worst: truth and prediction of each picture of `evaluation.worst`, by its name.
    """

    evaluation: SegmentationEvaluation
    worst: Mapping[str, tuple[LabelMap, LabelMap]]


def evaluate_maps(
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    masks: Store,
    mask_classes: Sequence[str],
    names: Sequence[str],
    classes: Sequence[str],
    *,
    split: str,
    seed: int = 0,
) -> SegmentedSplit:
    """Judge a segmenter at the size of `masks`; of the split's maps those of one batch are held.

    Parameters
    ----------
    batches: probabilities or logits (b, num_classes, *any), and the samples (b,) int64.
    masks: the true ones of all samples, (n, *size, 1) uint8.
    mask_classes: the names that they count in. Pixels of a class that is not one of `classes`
        are not judged, and a note says so.
    names: of all n samples, as in the source.
    classes: the names that the maps count in.
    split: the split's name, kept in the result.
    seed: of the bootstrap.
    """
    renamed = _renamed(mask_classes, classes)
    num_classes = len(classes)
    ids: list[str] = []
    counts: list[npt.NDArray[np.int64]] = []
    outlines: list[npt.NDArray[np.float64]] = []
    confusion = np.zeros((num_classes, num_classes), np.int64)
    worst: list[_Drawn] = []
    found: npt.NDArray[np.int64] = np.zeros(256, np.int64)
    for maps, indices in batches:
        truths = masks.gather(indices.cpu())[..., 0].numpy()
        for scores, raw, index in zip(maps, truths, indices.tolist(), strict=True):
            found += np.bincount(raw.reshape(-1), minlength=256)
            truth, prediction = renamed[raw], likeliest(scores, masks.size)
            counts.append(map_counts(truth, prediction, num_classes))
            outlines.append(boundary_f(truth, prediction, num_classes, ignored=IGNORED))
            confusion += _confusion(truth, prediction, num_classes)
            miou = float(picture_miou(counts[-1][None])[0])
            ids.append(names[index])
            if not np.isnan(miou):
                worst.append(_Drawn(miou, len(ids), ids[-1], truth, prediction))
            if len(worst) > 2 * MAX_WORST:
                worst = _lowest(worst)
    evaluation = evaluate_segmentation(
        np.array(counts, np.int64).reshape(-1, num_classes, 3),
        classes,
        ids,
        split=split,
        boundary=np.array(outlines, np.float64).reshape(-1, num_classes),
        seed=seed,
    )
    unknown = [
        f"'{name}'" for i, name in enumerate(mask_classes) if renamed[i] == IGNORED and found[i] > 0
    ]
    notes = evaluation.notes
    if unknown:
        notes += (
            f"pixels of {', '.join(unknown)}, which the network does not know, are not judged",
        )
    evaluation = replace(evaluation, notes=notes, confusion=tuple(map(tuple, confusion.tolist())))
    return SegmentedSplit(evaluation, {d.id: (d.truth, d.prediction) for d in _lowest(worst)})


@dataclass(frozen=True)
class _Drawn:
    """A picture's label maps, its own mean IoU, and its place in the split."""

    miou: float
    place: int
    id: str
    truth: LabelMap
    prediction: LabelMap


def _lowest(drawn: list[_Drawn]) -> list[_Drawn]:
    return sorted(drawn, key=lambda d: (d.miou, d.place))[:MAX_WORST]


def _renamed(mask_classes: Sequence[str], classes: Sequence[str]) -> LabelMap:
    """For each value of a mask (256,) its class in `classes`, `IGNORED` where there is none."""
    table = np.full(256, IGNORED, np.uint8)
    position = {name: i for i, name in enumerate(classes)}
    for value, name in enumerate(mask_classes):
        table[value] = position.get(name, IGNORED)
    return table


def _confusion(truth: LabelMap, prediction: LabelMap, num_classes: int) -> npt.NDArray[np.int64]:
    judged = truth != IGNORED
    cells = truth[judged].astype(np.int64) * num_classes + prediction[judged]
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)
