"""From the maps of a network and the true masks to an evaluation, a picture at a time.

A segmenter is judged at the size of the masks that it is given: the network's maps of
probabilities are brought to that size by linear interpolation, and of each pixel the likeliest
class is taken. So a network that works on smaller pictures is judged on the pixels of the larger
ones, and masks of the network's own size judge it as it is.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from hubel.data.store import Store
from hubel.evaluate.segmentation import IGNORED, LabelMap, SegmentedSplit, evaluate_label_maps
from hubel.maps import likeliest

__all__ = ["evaluate_maps"]


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
    found: npt.NDArray[np.int64] = np.zeros(256, np.int64)

    def pictures() -> Iterator[tuple[str, LabelMap, LabelMap]]:
        for maps, indices in batches:
            truths = masks.gather(indices.cpu())[..., 0].numpy()
            for scores, truth, index in zip(maps, truths, indices.tolist(), strict=True):
                found[:] += np.bincount(truth.reshape(-1), minlength=256)
                yield names[index], renamed[truth], likeliest(scores, masks.size)

    judged = evaluate_label_maps(pictures(), classes, split=split, seed=seed)
    unknown = [
        f"'{name}'" for i, name in enumerate(mask_classes) if renamed[i] == IGNORED and found[i] > 0
    ]
    if not unknown:
        return judged
    note = f"pixels of {', '.join(unknown)}, which the network does not know, are not judged"
    evaluation = replace(judged.evaluation, notes=(*judged.evaluation.notes, note))
    return replace(judged, evaluation=evaluation)


def _renamed(mask_classes: Sequence[str], classes: Sequence[str]) -> LabelMap:
    """For each value of a mask (256,) its class in `classes`, `IGNORED` where there is none."""
    table = np.full(256, IGNORED, np.uint8)
    position = {name: i for i, name in enumerate(classes)}
    for value, name in enumerate(mask_classes):
        table[value] = position.get(name, IGNORED)
    return table
