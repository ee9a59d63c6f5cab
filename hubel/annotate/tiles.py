"""Pictures and volumes much larger than a network's input: in tiles with an overlap, and back.

    found = []
    for tile in tiles(size, tile=(512, 512), overlap=128):
        found.append((tile, boxes of picture[tile.slices]))
    boxes = merge_boxes(found, size)

Two boxes of neighbouring tiles are one object if they agree in what both tiles see. Plain
suppression by IoU, as in sliced inference (Akyon et al. 2022, SAHI, arXiv 2202.06934), keeps the
part of an object that a border cuts beside the whole one, because the two have little IoU.

Class scores are averaged with a window that falls off towards a tile's borders, where the network
sees least around a pixel (as in Isensee et al. 2021, nnU-Net, which takes a Gaussian), so that no
seam shows.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hubel.errors import UserError
from hubel.metrics.boxes import iou as overlaps
from hubel.metrics.boxes import paired_iou

__all__ = ["Tile", "merge_boxes", "merge_masks", "tiles"]

FloatArray = npt.NDArray[np.float64]

_EDGE = 0.02
"""A box that ends within this share of a tile's side of its border counts as cut by it: networks
do not draw to the pixel. One that merely ends there is compared as if it were cut, no more."""


@dataclass(frozen=True)
class Tile:
    """A part of a picture or volume: from `start` on, `size` long, along each spatial axis."""

    start: tuple[int, ...]
    size: tuple[int, ...]

    @property
    def stop(self) -> tuple[int, ...]:
        """The first index after it along each axis."""
        return tuple(a + n for a, n in zip(self.start, self.size, strict=True))

    @property
    def slices(self) -> tuple[slice, ...]:
        """What picks it out of an array (*spatial, …)."""
        return tuple(map(slice, self.start, self.stop))


def tiles(size: Sequence[int], tile: Sequence[int], overlap: int) -> list[Tile]:
    """Tiles that cover `size`, in the order of their starts; neighbours share `overlap` or more.

    All have the size `tile`, but along an axis that is shorter than it. They are spread evenly, so
    that none is at the border for a few pixels' sake. The number is the smallest possible.

    >>> [t.start[0] for t in tiles((100,), (40,), 10)]
    [0, 30, 60]
    >>> tiles((30, 50), (32, 32), 8)
    [Tile(start=(0, 0), size=(30, 32)), Tile(start=(0, 18), size=(30, 32))]

    Raises `UserError` where `overlap` is not from 0 to less than the tile.
    """
    if len(size) != len(tile) or min(*size, *tile) < 1:
        raise ValueError(
            f"size and tile must be as many whole numbers from 1. Got {tuple(size)} and "
            f"{tuple(tile)} instead."
        )
    if not 0 <= overlap < min(tile):
        raise UserError(
            f"--overlap must be from 0 to {min(tile) - 1}, less than the tile's shortest side. "
            f"Got {overlap}; give about a quarter of the side"
        )
    starts = []
    for length, side in zip(size, tile, strict=True):
        room = max(0, length - side)
        steps = -(-room // (side - overlap))
        starts.append([round(k * room / steps) for k in range(steps + 1)] if steps else [0])
    shape = tuple(map(min, size, tile))
    return [Tile(start, shape) for start in itertools.product(*starts)]


# Boxes


def merge_boxes(
    parts: Sequence[tuple[Tile, FloatArray]], size: tuple[int, int], iou: float = 0.5
) -> FloatArray:
    """The boxes (k, 6) of a picture of `size` (height, width), from those of its tiles.

    Each part is a tile and its boxes (k, 6), class, score, left, top, right, bottom in pixels of
    the tile, of which the network has already suppressed the doubles: boxes of one tile are not
    compared. Of two boxes of a class from two tiles, whose IoU within what both tiles see is `iou`
    or more, the one goes that a border cuts, or else the one of lower score. Where borders cut
    all boxes of an object, what is left is the box around them, with the highest of their scores;
    of one tile it takes one box at most, the one that agrees best.

    Boxes too unsure to be told are to be left out before: each could make a sure one larger.
    """
    if any(boxes.ndim != 2 or boxes.shape[1] != 6 for _, boxes in parts):
        shapes = [boxes.shape for _, boxes in parts]
        raise ValueError(f"the boxes of a tile must be (k, 6). Got shapes {shapes} instead.")
    if not parts:
        return np.zeros((0, 6))
    corners = np.array([(*t.start[::-1], *t.stop[::-1]) for t, _ in parts], np.float64)
    owner = np.repeat(np.arange(len(parts)), [len(boxes) for _, boxes in parts])
    boxes = np.concatenate([boxes.astype(np.float64) for _, boxes in parts])
    boxes[:, 2:] += np.tile(corners[:, :2], 2)[owner]
    borders = corners[owner]
    cut = _cut(boxes, borders, size)
    overlapping = overlaps(corners, corners) > 0
    np.fill_diagonal(overlapping, False)
    rows = [np.flatnonzero(owner == t) for t in range(len(parts))]
    near = [
        np.concatenate([np.zeros(0, np.int64), *(rows[u] for u in np.flatnonzero(overlapping[t]))])
        for t in range(len(parts))
    ]
    alive = np.ones(len(boxes), np.bool_)
    chosen = np.zeros(len(boxes), np.bool_)
    for i in np.lexsort((-boxes[:, 1], cut)).tolist():  # the whole ones first, then by score
        if not alive[i]:
            continue
        alive[i], chosen[i] = False, True
        group = [i]
        for member in group:  # which grows: an object may go through many tiles
            others = near[owner[member]]
            others = others[alive[others] & (boxes[others, 0] == boxes[i, 0])]
            agreement = _agreement(boxes, cut, borders, member, others)
            best_first = np.argsort(-agreement, kind="stable")
            same = others[best_first][agreement[best_first] >= iou]
            if cut[i]:
                same = _one_a_tile(same, owner, owner[group])
                group += same.tolist()
            alive[same] = False
        boxes[i, 2:4] = boxes[group, 2:4].min(axis=0)
        boxes[i, 4:] = boxes[group, 4:].max(axis=0)
        boxes[i, 1] = boxes[group, 1].max()
    merged: FloatArray = boxes[chosen]
    return merged


def _one_a_tile(
    candidates: npt.NDArray[np.int64], owner: npt.NDArray[np.int64], taken: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Of `candidates` the first of each tile, by its `owner`, that is not one of `taken`."""
    candidates = candidates[~np.isin(owner[candidates], taken)]
    _, first = np.unique(owner[candidates], return_index=True)
    return candidates[np.sort(first)]


def _cut(boxes: FloatArray, borders: FloatArray, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Whether a border of its tile (k, 4), which is not the picture's, cuts each box: (k,)."""
    sides = borders[:, 2:] - borders[:, :2]
    slack = np.tile(np.maximum(1.0, _EDGE * sides), 2)
    inner = np.hstack([borders[:, :2] > 0, borders[:, 2:] < np.array(size[::-1])])
    at_border = inner & (np.abs(boxes[:, 2:] - borders) <= slack)
    touched: npt.NDArray[np.bool_] = np.asarray(at_border.any(axis=1))
    return touched


def _agreement(
    boxes: FloatArray,
    cut: npt.NDArray[np.bool_],
    borders: FloatArray,
    i: int,
    others: npt.NDArray[np.int64],
) -> FloatArray:
    """IoU of box `i` with `others`, of two whole ones as they are, else in what both tiles see."""
    low = np.maximum(borders[i, :2], borders[others, :2])
    high = np.minimum(borders[i, 2:], borders[others, 2:])
    whole = (~cut[others] & ~cut[i])[:, None]
    low, high = np.where(whole, -np.inf, low), np.where(whole, np.inf, high)
    shared = np.hstack([low, high])
    first = _within(np.broadcast_to(boxes[i, 2:], shared.shape), shared)
    second = _within(boxes[others, 2:], shared)
    return paired_iou(first, second)


def _within(boxes: FloatArray, shared: FloatArray) -> FloatArray:
    return np.hstack(
        [np.maximum(boxes[:, :2], shared[:, :2]), np.minimum(boxes[:, 2:], shared[:, 2:])]
    )


# Masks


def merge_masks(
    parts: Iterable[tuple[Tile, npt.NDArray[Any]]], size: tuple[int, ...]
) -> npt.NDArray[np.uint8]:
    """The class (*size) of each pixel or voxel: the highest weighted mean of its tiles' scores.

    Each part is a tile and its scores (classes, *tile.size), logits or probabilities; the parts
    come in the order of `tiles` and are taken one by one, and sums are kept for no more of the
    first axis than a tile is long, so that memory does not grow with the picture's height.

    Raises `ValueError` where the tiles are not in order, or leave pixels out.
    """
    mask = np.zeros(size, np.uint8)
    sums = np.zeros((0, 0, *size[1:]), np.float32)  # of rows from `top` on
    top = 0
    for tile, scores in parts:
        if scores.shape[1:] != tile.size:
            raise ValueError(f"scores must be (classes, *{tile.size}). Got {scores.shape} instead.")
        if not len(sums):
            sums = np.zeros((len(scores), 0, *size[1:]), np.float32)
        done = tile.start[0] - top
        if not 0 <= done <= sums.shape[1]:
            raise ValueError(f"tiles must come in order, without gaps. Got {tile} at {top}.")
        if done:  # no later tile reaches these rows
            mask[top : top + done] = sums[:, :done].argmax(axis=0)
            top += done
        missing = max(0, tile.stop[0] - top - (sums.shape[1] - done))
        more = np.zeros((len(sums), missing, *size[1:]), np.float32)
        sums = np.concatenate([sums[:, done:], more], axis=1)
        rows, *rest = tile.slices
        place = (slice(None), slice(rows.start - top, rows.stop - top), *rest)
        sums[place] += scores * _window(tile, size)
    if top + sums.shape[1] != size[0]:
        raise ValueError(f"tiles must cover {size}. Got {top + sums.shape[1]} rows instead.")
    mask[top:] = sums.argmax(axis=0)
    return mask


def _window(tile: Tile, size: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Weights of a tile's pixels, all above 0: Hann's window along each axis, which stays at 1
    towards a border that is the picture's, because no other tile sees what lies there."""
    window = np.ones((), np.float32)
    for start, length, whole in zip(tile.start, tile.size, size, strict=True):
        weights = np.sin(np.pi * (np.arange(length) + 0.5) / length) ** 2
        if start == 0:
            weights[: length // 2] = 1.0
        if start + length == whole:
            weights[length - length // 2 :] = 1.0
        window = window[..., None] * weights.astype(np.float32)
    return window
