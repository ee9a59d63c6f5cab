"""Near copies: the same picture saved again, brightened, resized, cut a little, mirrored.

Two stages. Thumbs of 8×8 grey values find the candidates: each is described by the
differences between its neighbouring values (as the difference hash is, but with their
sizes), and all pairs of descriptions are multiplied. Then the candidates' details decide, at
up to 32×32 pixels (`hubel.data.likeness`).

How alike different pictures of a set are depends on the set: two photographs hardly, two
handwritten ones very much. So a copy must stand out from it: for each class, the second best
match of up to 2,000 pictures drawn at random gives the median and the spread (Fisher's z,
from the lower quartile, which copies do not touch), and a copy is 6 spreads above the median
and 4.5 above the 95th percentile, within `BOUNDS`.

Measured on 20,000 pictures of CIFAR-10 with 200 copies of each kind hidden among them: found
are 99 to 100 % of those in JPEG at quality 20, brighter or darker by 10 %, resized to half
and back, noisy, grey or mirrored; 98 % of those shifted by a pixel each way, 75 % by two
pixels, 23 % with 5 % cut off each side. Turned ones are not. Of scans of handwriting, alike as
they are, only brightness, contrast and light compression keep a copy recognisable.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from hubel.data.cache import Progress
from hubel.data.likeness import details, likeness, soft
from hubel.data.store import Store

__all__ = ["NearCopies", "near_copies"]

Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

THUMB = {2: 8, 3: 5}
DETAIL = {2: 32, 3: 12}
"""Sides of the two sizes at which pictures are compared, by spatial dims."""
SMALLEST = 12
"""Pictures with a shorter side in pixels have too little in them to be compared."""
FLAT_THUMB = 0.33
"""Root mean square of the differences in a flat thumb, softened: about one grey level."""

CANDIDATE = 0.7
"""Least correlation of two thumbs' descriptions. On CIFAR-10 it lets 98 of 100 copies pass
and one pair in 90,000 of the others."""
PAIRS_PER_SAMPLE = 1
"""In classes where more candidates than this are expected, the bound on thumbs is raised."""

BOUNDS = (0.5, 0.96)
"""`alike` of a copy: at least the first, wherever the set puts its bound; the second always
suffices."""
MIRROR_BOUND = 0.55
"""Mirror images are rarer, so chance must be given less."""
GLANCE = 0.1
"""How much less alike a copy may be at the first glance."""
SPREADS, TAIL_SPREADS = 6.0, 4.5
DRAWN, NEIGHBOURS, PER_CLASS = 2000, 8, 40
"""Pictures drawn to learn how alike different ones are; their nearest by thumbs that are
looked at; and how many drawn ones a class needs for a bound of its own."""

ALL_PAIRS = 150_000
"""Up to this many samples, all pairs are multiplied; more are first sorted into cells."""
CELL, CELLS_EACH = 2_000, 4
"""Samples to a cell's centre, and cells that each sample lies in: at 240,000 pictures it
takes a third of the time of all pairs and finds 98 of 100 copies."""

CHUNK_BYTES = 32 << 20
CONFIRM_BYTES = 2 << 20
"""Of details compared at once: what a core's cache holds."""
LOOK = 64

LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class NearCopies:
    """Pairs of samples that look the same, the most alike first.

    Attributes
    ----------
    pairs: int64 (m, 2), sample indices, the smaller first.
    alike: float32 (m,), 1 for the same details, 0 for unrelated ones.
    mirrored: bool (m,), whether one is the other's mirror image.
    num_compared: samples that were compared; flat ones are not.
    """

    pairs: Indices
    alike: Floats
    mirrored: npt.NDArray[np.bool_]
    num_compared: int


def near_copies(
    store: Store,
    samples: Indices,
    labels: Indices,
    *,
    mirrored: bool = True,
    seed: int = 0,
    progress: Progress | None = None,
) -> NearCopies:
    """The near copies among `samples` of a store.

    Parameters
    ----------
    samples: (s,) indices of readable samples, none an exact copy of another.
    labels: (s,) their classes; how alike different pictures are is learned by class.
    mirrored: also look for mirror images, left to right; pictures only.
    seed: draws the pictures that the bounds are learned from.
    """
    if len(samples) < 2 or min(store.size) < SMALLEST:
        return _no_copies(0)
    with _one_thread():
        return _compare(store, samples, labels, mirrored, seed, progress)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch's threads, which meet after each of many small steps, wait for each other at length
    where the machine has other work; one thread loses little."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _compare(
    store: Store,
    samples: Indices,
    labels: Indices,
    mirrored: bool,
    seed: int,
    progress: Progress | None,
) -> NearCopies:
    dims = len(store.size)
    thumbs = _thumbs(store, samples, progress)
    described = _describe(thumbs)
    seen = np.flatnonzero(np.linalg.norm(described, axis=1) > 1 - 1e-4)
    if len(seen) < 2:
        return _no_copies(len(seen))
    # By class, so that a block of pairs is mostly of two classes and can take their bound.
    seen = seen[np.argsort(labels[seen], kind="stable")]
    described, samples, labels = described[seen], samples[seen], labels[seen]
    rng = np.random.default_rng(seed)
    drawn = np.sort(rng.permutation(len(seen))[:DRAWN])
    least, neighbours = _look_around(described, labels, drawn)
    resemblance = _confirm(store, samples, neighbours, DETAIL[dims], False, progress)
    bounds = _class_bounds(resemblance, labels[drawn], len(least))
    found = []
    for turned in (False, True) if mirrored and dims == 2 else (False,):
        other = _describe(thumbs[seen][:, :, ::-1]) if turned else described
        pairs = _candidates(described, other, least[labels], rng, progress)
        # A glance at half the size lets few but copies pass, at a tenth of the cost.
        for side, slack in ((DETAIL[dims] // 2, GLANCE), (DETAIL[dims], 0.0)):
            alike = _confirm(store, samples, pairs, side, turned, progress)
            enough = bounds[labels[pairs]].max(axis=1)
            if turned:
                enough = enough.clip(min=MIRROR_BOUND)
            kept = alike > enough - slack
            pairs, alike = pairs[kept], alike[kept]
        found.append((pairs, alike, np.full(len(pairs), turned)))
    pairs, alike, flips = (np.concatenate(column) for column in zip(*found, strict=True))
    # A symmetric picture's copy is found both ways: the better way stays.
    order = np.lexsort((flips, -alike))
    _, best = np.unique(pairs[order] @ np.array([len(seen), 1]), return_index=True)
    order = order[np.sort(best)]
    named = np.sort(samples[pairs[order]], axis=1)
    return NearCopies(named, alike[order], flips[order], len(seen))


def _no_copies(num_compared: int) -> NearCopies:
    return NearCopies(
        np.zeros((0, 2), np.int64), np.zeros(0, np.float32), np.zeros(0, np.bool_), num_compared
    )


# Pictures at two sizes


def _grey(store: Store, samples: Indices, side: int) -> Iterator[tuple[slice, torch.Tensor]]:
    """Chunks of `samples` as grey (b, *spatial) float32, each side at most `side`.

    A look at some samples gives the least and the greatest value, which become 0 and 255:
    volumes may hold 0 and 1 alone, and floats anything.
    """
    shape = tuple(min(side, s) for s in store.size)
    row_values = store.in_channels * int(np.prod(store.size))
    some = samples[np.linspace(0, len(samples) - 1, min(len(samples), LOOK)).astype(np.int64)]
    looked = _finite(store.gather(torch.from_numpy(some)))
    low, high = float(looked.min()), float(looked.max())
    rows = max(1, CHUNK_BYTES // (4 * row_values))
    for start in range(0, len(samples), rows):
        part = slice(start, min(start + rows, len(samples)))
        values = _finite(store.gather(torch.from_numpy(samples[part])))
        grey = values @ torch.tensor(LUMA) if values.shape[-1] == 3 else values.mean(-1)
        grey = (grey - low) * (255.0 / (high - low or 1.0))
        if shape != store.size:
            grey = functional.interpolate(grey[:, None], size=shape, mode="area")[:, 0]
        yield part, grey


def _finite(pixels: torch.Tensor) -> torch.Tensor:
    values = pixels.to(torch.float32)
    return values if pixels.dtype == torch.uint8 else values.nan_to_num(0.0, 0.0, 0.0)


def _thumbs(store: Store, samples: Indices, progress: Progress | None) -> Floats:
    """(s, *thumb) float32."""
    side = THUMB[len(store.size)]
    thumbs = np.zeros((len(samples), *(min(side, s) for s in store.size)), np.float32)
    for part, grey in _grey(store, samples, side):
        thumbs[part] = grey.numpy()
        if progress is not None:
            progress("shrinking", part.stop, len(samples))
    return thumbs


def _describe(thumbs: Floats) -> Floats:
    """Unit vectors (s, d) of softened neighbour differences; flat thumbs stay shorter."""
    axes = range(1, thumbs.ndim)
    parts = [soft(np.diff(thumbs, axis=a)).reshape(len(thumbs), -1) for a in axes]
    described: Floats = np.concatenate(parts, axis=1)
    least = FLAT_THUMB * max(1, described.shape[1]) ** 0.5
    described /= np.linalg.norm(described, axis=1, keepdims=True).clip(min=least)
    return described


# Candidates


def _look_around(
    described: Floats, labels: Indices, drawn: Indices
) -> tuple[npt.NDArray[np.float64], Indices]:
    """What candidates must exceed, by class (k,); and pairs of drawn samples and their nearest.

    labels: (s,) ascending. The pairs are (drawn × neighbours, 2).
    """
    n, num_classes = len(described), int(labels[-1]) + 1
    counts = np.zeros((num_classes, 4000))
    nearest = np.zeros((len(drawn), min(NEIGHBOURS, n - 1)), np.int64)
    step = max(1, CHUNK_BYTES // (4 * n))
    for start in range(0, len(drawn), step):
        rows = drawn[start : start + step]
        close = torch.from_numpy(described[rows] @ described.T).clamp_(-1.0, 1.0)
        close[torch.arange(len(rows)), torch.from_numpy(rows)] = -1.0
        nearest[start : start + step] = close.topk(nearest.shape[1], dim=1).indices.numpy()
        here, first = np.unique(labels[rows], return_index=True)
        for label, part in zip(here, close.tensor_split(first[1:].tolist()), strict=True):
            counts[label] += torch.histc(part, counts.shape[1], -1.0, 1.0).numpy()
    num_drawn = np.bincount(labels[drawn], minlength=num_classes)
    bounds = np.full(num_classes, _candidate_bound(counts.sum(axis=0), len(drawn)))
    for label in np.flatnonzero(num_drawn >= PER_CLASS):
        bounds[label] = _candidate_bound(counts[label], int(num_drawn[label]))
    pairs = np.stack([np.broadcast_to(drawn[:, None], nearest.shape), nearest], axis=-1)
    return bounds, pairs.reshape(-1, 2)


def _candidate_bound(counts: npt.NDArray[np.float64], num_drawn: int) -> float:
    """The least bound above which a sample has no more partners than it may.

    counts: a histogram of how close `num_drawn` samples are to all others, from -1 to 1.
    """
    partners = counts[::-1].cumsum()[::-1] / num_drawn
    low = np.linspace(-1, 1, len(counts) + 1)[:-1]
    few = np.flatnonzero(partners <= 2 * PAIRS_PER_SAMPLE)  # a pair is a partner to both
    return max(CANDIDATE, float(low[few[0]]) if len(few) else float(low[-1]))


def _candidates(
    described: Floats,
    other: Floats,
    least: npt.NDArray[np.float64],
    rng: np.random.Generator,
    progress: Progress | None,
) -> Indices:
    """Pairs (m, 2), the smaller index first, whose product exceeds `least` (n,) of both."""
    n = len(described)
    if n <= ALL_PAIRS:
        return _most_alike(described, other, least, progress)
    # An inverted file: each sample lies in the few cells whose centres, samples drawn at
    # random, are nearest; copies nearly always share one.
    centres = described[rng.permutation(n)[: n // CELL]]
    each = min(CELLS_EACH, len(centres) - 1)
    cells = np.concatenate(
        [
            np.argpartition(described[k : k + 4096] @ -centres.T, each)[:, :each]
            for k in range(0, n, 4096)
        ]
    )
    order = np.argsort(cells, axis=None, kind="stable")
    borders = np.searchsorted(cells.reshape(-1)[order], np.arange(1, len(centres)))
    found = []
    for cell, flat in enumerate(np.split(order, borders)):
        members = np.sort(flat // each)
        pairs = _most_alike(described[members], other[members], least[members], None)
        found.append(members[pairs])
        if progress is not None:
            progress("comparing", cell + 1, len(centres))
    return np.unique(np.concatenate(found), axis=0)


def _most_alike(
    described: Floats,
    other: Floats,
    least: npt.NDArray[np.float64],
    progress: Progress | None,
) -> Indices:
    """The pairs above both their bounds; of far more than were expected, the most alike."""
    n = len(described)
    limit = 2 * PAIRS_PER_SAMPLE * n + 1000
    pairs, close, bound = np.zeros((0, 2), np.int64), np.zeros(0, np.float32), -1.0
    rows, columns = 1024, 4096
    for i in range(0, n, rows):
        for j in range(i, n, columns):
            block = described[i : i + rows] @ other[j : j + columns].T
            lowest = max(bound, least[i : i + rows].min(), least[j : j + columns].min())
            hits = np.flatnonzero(block > lowest)
            if len(hits) == 0:
                continue
            a, b = np.divmod(hits, block.shape[1])
            a, b, found = a + i, b + j, block.reshape(-1)[hits]
            kept = (b > a) & (found > least[a]) & (found > least[b])
            pairs = np.concatenate([pairs, np.stack([a, b], axis=1)[kept]])
            close = np.concatenate([close, found[kept]])
            if len(pairs) > 2 * limit:
                best = np.argpartition(-close, limit)[:limit]
                pairs, close = pairs[best], close[best]
                bound = float(close.min())
        if progress is not None:
            progress("comparing", min(i + rows, n), n)
    return pairs


# Confirmation


def _confirm(
    store: Store,
    samples: Indices,
    pairs: Indices,
    side: int,
    mirrored: bool,
    progress: Progress | None,
) -> Floats:
    """`alike` (m,) of each pair (m, 2) of positions in `samples`, seen at `side` pixels."""
    if len(pairs) == 0:
        return np.zeros(0, np.float32)
    used, place = np.unique(pairs, return_inverse=True)
    places = torch.from_numpy(place.reshape(-1, 2))
    shape = tuple(min(side, s) for s in store.size)
    small = torch.zeros((len(used), *shape), dtype=torch.float16)
    for part, grey in _grey(store, samples[used], side):
        small[part] = grey.to(torch.float16)
    alike = np.zeros(len(pairs), np.float32)
    reach = max(1, round(min(shape) / 16))
    rows = max(16, CONFIRM_BYTES // (4 * len(shape) * int(np.prod(shape))))
    for start in range(0, len(pairs), rows):
        part = slice(start, start + rows)
        first, second = (small[places[part, end]].to(torch.float32) for end in (0, 1))
        if mirrored:
            second = second.flip(-1)
        alike[part] = likeness(details(first), details(second), reach).numpy()
        if progress is not None:
            progress("confirming", min(start + rows, len(pairs)), len(pairs))
    return alike


def _class_bounds(alike: Floats, labels: Indices, num_classes: int) -> Floats:
    """The bound on `alike` by class (k,), from the neighbours of the drawn samples.

    alike: (d × neighbours,), labels: (d,).
    """
    neighbours = np.sort(alike.reshape(len(labels), -1), axis=1)
    typical = np.arctanh(neighbours[:, -2:].min(axis=1).clip(-0.99, 0.999))
    bounds = np.full(num_classes, _bound(typical), np.float32)
    for label, count in enumerate(np.bincount(labels)):
        if count >= PER_CLASS:
            bounds[label] = _bound(typical[labels == label])
    return bounds


def _bound(typical: npt.NDArray[np.floating[Any]]) -> float:
    quartile, median, high = np.quantile(typical, [0.25, 0.5, 0.95])
    spread = (median - quartile) / 0.6745  # of a normal distribution
    # A class of several kinds has a long upper tail, of which the lower half says nothing.
    clear = max(median + SPREADS * spread, high + TAIL_SPREADS * spread)
    return float(np.tanh(clear).clip(*BOUNDS))
