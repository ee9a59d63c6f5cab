"""Which samples train, which choose, which judge.

Splits that the data give are kept. What they lack is drawn here: stratified by class, a
function of the seed alone, and never through a group.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hubel.data.source import Source
from hubel.errors import UserError

__all__ = ["MAX_HOLD_OUT", "Split", "given_split", "keep_copies_together", "split_source"]

MAX_HOLD_OUT = 5_000
"""A validation split held out of a given train is no larger: at 5,000 samples the 95 %
interval of an accuracy is within ±1.4 points, and more would be missed in training."""

_CHOSEN = 100

_Indices = npt.NDArray[np.int64]
_Shares = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Split:
    """Sample indices of each split, sorted; disjoint, together all usable samples.

    `test` is empty where the data give train and val but no test. `notes` are sentences for
    the user about what was drawn; `refused` says why no network can be trained on it, "" where
    one can.
    """

    train: _Indices
    val: _Indices
    test: _Indices
    notes: list[str]
    refused: str = ""


def split_source(
    source: Source,
    *,
    val_fraction: float,
    seed: int,
    usable: npt.NDArray[np.bool_] | None = None,
    splits: npt.NDArray[np.str_] | None = None,
) -> Split:
    """Train, val and test of `source`.

    - train and val given: kept, and test if it is given too.
    - train given without val: `val_fraction` of train, at most `MAX_HOLD_OUT`, becomes val.
    - nothing given: `val_fraction` each for val and test, the rest trains.

    Parameters
    ----------
    val_fraction: share to hold out, above 0 and at most 0.4.
    seed: of the draw; the same seed gives the same split.
    usable: (n,) False for samples to leave out (unreadable ones).
    splits: (n,) in place of the source's own, those of a fold.

    Raises `UserError` where a class has no sample to train on (boxes and masks may lack one:
    `inspect` counts them), or nothing can be held out.
    """
    if not 0 < val_fraction <= 0.4:
        raise UserError(
            f"the validation fraction must be above 0 and at most 0.4, got {val_fraction}"
        )
    keep = np.ones(len(source), bool) if usable is None else usable
    splits = source.splits if splits is None else splits
    one_class_each = source.info.labels in ("class", "pose")
    if one_class_each:
        _check_enough(source, keep)
    given = {s: np.flatnonzero(keep & (splits == s)) for s in ("train", "val", "test")}
    free = np.flatnonzero(keep & (splits == ""))
    names = [s for s in given if given[s].size]
    notes: list[str] = []
    if names and free.size:
        raise UserError(
            f"DATA '{source.name}': {free.size} samples have no split while {', '.join(names)} "
            f"are given (first: {source.ids[int(free[0])]}); give every sample a split or none"
        )
    if names and "train" not in names:
        raise UserError(
            f"DATA '{source.name}': only {' and '.join(names)} given, there is nothing to train "
            f"on; add a train split"
        )
    if one_class_each:
        _check_train(source, given["train"] if names else free)
    rng = np.random.default_rng(seed)
    if not names:
        quota = _counts(source, free) * val_fraction
        rest, test = _hold_out(source, free, quota, rng, "test")
        train, val = _hold_out(source, rest, quota, rng, "val")
        notes.append(
            f"no splits given: drew train {train.size}, val {val.size}, test {test.size} by "
            f"class (seed {seed})"
        )
    else:
        train, val, test = given["train"], given["val"], given["test"]
        if not val.size:
            share = min(val_fraction, MAX_HOLD_OUT / train.size)
            train, val = _hold_out(source, train, _counts(source, train) * share, rng, "val")
            notes.append(f"no val given: held {val.size} of train out by class (seed {seed})")
        if not test.size:
            notes.append("no test given: val is the only split to judge by")
    notes += _single_samples(source, keep, train, val)
    return Split(train, val, test, notes)


def given_split(source: Source, usable: npt.NDArray[np.bool_], refused: str) -> Split:
    """What the data give and nothing drawn, to be looked at; samples of no split are train's."""
    train, val, test = (
        np.flatnonzero(usable & np.isin(source.splits, names))
        for names in (["train", ""], ["val"], ["test"])
    )
    return Split(train, val, test, [], refused)


def _counts(source: Source, indices: _Indices) -> _Indices:
    return np.bincount(source.targets[indices], minlength=len(source.info.classes))


def keep_copies_together(split: Split, source: Source, digests: npt.NDArray[np.bytes_]) -> Split:
    """`split` with the held-out copies of training samples moved to train.

    Only samples that hubel itself assigned move: a copy in a given val or test is the
    data's own leak, which is reported and counted out, not repaired. Sources with groups
    are left as they are, because a move would tear a group apart.
    """
    if source.groups is not None:
        return split
    movable = np.isin(source.splits, ["", "train"])
    parts: dict[str, _Indices] = {}
    moved = []
    for name, indices in (("val", split.val), ("test", split.test)):
        copies = movable[indices] & np.isin(digests[indices], digests[split.train])
        if copies.all():
            copies[:] = False  # an empty split would judge nothing at all
        moved.append(indices[copies])
        parts[name] = indices[~copies]
    together = np.concatenate(moved)
    if not together.size:
        return split
    note = (
        f"moved {together.size} held-out sample{'s' if together.size > 1 else ''} to train: "
        f"exact copies of training samples judge nothing"
    )
    train = np.sort(np.concatenate([split.train, together]))
    return Split(train, parts["val"], parts["test"], [*split.notes, note])


def _hold_out(
    source: Source,
    pool: _Indices,
    quota: _Shares,
    rng: np.random.Generator,
    split: str,
) -> tuple[_Indices, _Indices]:
    """(the rest, the held out) of `pool`: about `quota[k]` samples of each class k."""
    targets = source.targets[pool]
    if source.groups is None:
        held, unit = _some_samples(targets, quota, rng), "samples"
    else:
        held, unit = _some_groups(targets, source.groups[pool], quota, rng), "groups"
    if not held.any():
        raise UserError(
            f"DATA '{source.name}': no {split} split can be held out of {pool.size} samples of "
            f"{quota.size} classes so that every class is still trained on; at least one class "
            f"needs 2 {unit} here, better 10 (counts: {_shown_counts(source, pool)})"
        )
    return pool[~held], pool[held]


def _some_samples(
    targets: _Indices, quota: _Shares, rng: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Which samples to hold out; each class gives its quota, rounded down or up.

    The rounding goes by largest remainder, towards the quotas' sum; where the classes are few
    beside the samples, each gives at least one. A class never gives its last sample.
    """
    counts = np.bincount(targets, minlength=quota.size)
    spare = np.maximum(counts - 1, 0)
    take = np.minimum(np.floor(quota + 1e-9).astype(np.int64), spare)
    each = (take == 0) & (spare > 0)
    if each.sum() <= targets.size // 5:
        take[each] = 1
    order = np.lexsort((rng.random(quota.size), take - quota))
    for k in order:
        if take.sum() < max(1, round(quota.sum())) and take[k] < min(quota[k], spare[k]):
            take[k] += 1
    shuffled = rng.permutation(targets.size)
    by_class = shuffled[np.argsort(targets[shuffled], kind="stable")]
    rank = np.arange(targets.size) - np.repeat(np.cumsum(counts) - counts, counts)
    held = np.zeros(targets.size, bool)
    held[by_class[rank < np.repeat(take, counts)]] = True
    return held


def _some_groups(
    targets: _Indices,
    groups: npt.NDArray[np.str_],
    quota: _Shares,
    rng: np.random.Generator,
) -> npt.NDArray[np.bool_]:
    """Which samples to hold out; whole groups, whose class counts come close to the quotas.

    The first half of the quota (or more) is filled by groups in random order, the rest by
    taking, one after the other, the group that brings the class counts nearest to the quotas
    (squared distance, each class relative to its quota), until none brings them nearer; at
    least one is taken. No group is taken that would leave a class without a sample.
    """
    names, group_of = np.unique(groups, return_inverse=True)
    table = np.zeros((len(names), quota.size), np.int64)  # samples of each class by group
    np.add.at(table, (group_of, targets), 1)
    present = quota > 0
    table, quota = table[:, present], quota[present]
    order = rng.permutation(len(names))
    chosen = np.zeros(len(names), bool)
    # Choosing costs time for each group taken: no more than about _CHOSEN are.
    at_random = max(quota.sum() / 2, quota.sum() - _CHOSEN * table.sum() / len(names))
    chosen[order] = np.cumsum(table[order].sum(axis=1)) <= at_random
    emptied = table[~chosen].sum(axis=0) == 0
    chosen &= ~(table[:, emptied] > 0).any(axis=1)
    squares = (table * table / quota).sum(axis=1)
    while True:
        missing = quota - table[chosen].sum(axis=0)
        left = table[~chosen].sum(axis=0)
        gain = 2 * (table * missing / quota).sum(axis=1) - squares
        gain[chosen | (table >= left).any(axis=1)] = -np.inf
        best = int(gain[order].argmax())  # the random order decides between equals
        if np.isneginf(gain[order[best]]) or (gain[order[best]] <= 0 and chosen.any()):
            return chosen[group_of]
        chosen[order[best]] = True


def _shown_counts(source: Source, pool: _Indices) -> str:
    counts = _counts(source, pool)
    few = np.argsort(counts, kind="stable")[:5]
    shown = ", ".join(f"'{source.info.classes[k]}' {counts[k]}" for k in few)
    return shown + (", …" if counts.size > few.size else "")


def _check_enough(source: Source, keep: npt.NDArray[np.bool_]) -> None:
    num_classes, num_samples = len(source.info.classes), int(keep.sum())
    if num_samples < num_classes:
        raise UserError(
            f"DATA '{source.name}': {num_samples} usable samples for {num_classes} classes; every "
            f"class needs at least one to train on and a second to check on"
        )


def _check_train(source: Source, train: _Indices) -> None:
    counts = _counts(source, train)
    for k in np.flatnonzero(counts == 0):
        raise UserError(
            f"DATA '{source.name}': class '{source.info.classes[k]}' has 0 usable samples to train "
            f"on (train has {train.size} in all); add samples of it or take the class away"
        )


def _single_samples(
    source: Source, keep: npt.NDArray[np.bool_], train: _Indices, val: _Indices
) -> list[str]:
    """A note about classes that val does not see because there is nothing to spare."""
    in_train, in_val = _counts(source, train), _counts(source, val)
    total = _counts(source, np.flatnonzero(keep))
    lone = np.flatnonzero((in_val == 0) & (in_train == 1) & (total == 1))
    if not lone.size:
        return []
    shown = ", ".join(f"'{source.info.classes[k]}'" for k in lone[:3])
    more = f" and {lone.size - 3} more" if lone.size > 3 else ""
    return [f"class {shown}{more}: its only sample is in train, so nothing checks it"]
