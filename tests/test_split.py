"""Splits: disjoint, complete, stratified, groups whole, the same for the same seed."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from hubel.data.source import Array, Source, SourceInfo
from hubel.data.split import MAX_HOLD_OUT, Split, keep_copies_together, split_source
from hubel.errors import UserError


class Labels(Source):
    """A source of labels without pixels."""

    def __init__(self, targets, splits=None, groups=None, num_classes=None):
        self.path = Path("photos")
        self.targets = np.asarray(targets, np.int64)
        count = num_classes or int(self.targets.max()) + 1
        self.info = SourceInfo("folders", 2, tuple(f"c{k}" for k in range(count)))
        self.ids = [f"{i:04}" for i in range(len(self.targets))]
        self.splits = np.array([""] * len(self.targets) if splits is None else splits, np.str_)
        self.groups = None if groups is None else np.array(groups, np.str_)
        self.notes = []

    def stamp(self) -> str:
        return ""

    def content(self, i: int) -> bytes:
        return b""

    def decode(self, content: bytes, i: int, in_channels: int | None = None) -> Array:
        return np.zeros((1, 1, 1), np.uint8)


def check(split: Split, usable: np.ndarray) -> None:
    parts = [split.train, split.val, split.test]
    assert all(p.dtype == np.int64 for p in parts)
    assert all((np.diff(p) > 0).all() for p in parts)  # sorted, no repetition
    joined = np.sort(np.concatenate(parts))
    np.testing.assert_array_equal(joined, np.flatnonzero(usable))  # disjoint and complete


def test_nothing_given_is_eighty_ten_ten_by_class():
    source = Labels([0] * 100 + [1] * 50 + [2] * 10)
    split = split_source(source, val_fraction=0.1, seed=0)
    for part, counts in ((split.train, [80, 40, 8]), (split.val, [10, 5, 1])):
        np.testing.assert_array_equal(np.bincount(source.targets[part]), counts)
    np.testing.assert_array_equal(np.bincount(source.targets[split.test]), [10, 5, 1])
    assert split.notes == [
        "no splits given: drew train 128, val 16, test 16 by class (seed 0)"
    ]  # fmt: skip
    check(split, np.ones(160, bool))


def test_given_splits_are_kept():
    splits = ["train"] * 4 + ["val"] * 2 + ["test"] * 2
    split = split_source(Labels([0, 1, 0, 1, 0, 1, 0, 1], splits), val_fraction=0.1, seed=3)
    assert split.train.tolist() == [0, 1, 2, 3]
    assert split.val.tolist() == [4, 5]
    assert split.test.tolist() == [6, 7]
    assert split.notes == []


def test_train_and_test_given_hold_val_out_of_train():
    source = Labels([0, 1] * 60, ["train"] * 100 + ["test"] * 20)
    split = split_source(source, val_fraction=0.2, seed=1)
    assert split.test.tolist() == list(range(100, 120))
    assert split.val.size == 20
    assert source.targets[split.val].sum() == 10
    assert split.notes == ["no val given: held 20 of train out by class (seed 1)"]
    check(split, np.ones(120, bool))


def test_train_and_val_given_without_test():
    source = Labels([0, 1] * 3, ["train"] * 4 + ["val"] * 2)
    split = split_source(source, val_fraction=0.1, seed=0)
    assert split.test.size == 0
    assert split.test.dtype == np.int64
    assert split.notes == ["no test given: val is the only split to judge by"]


def test_the_hold_out_of_a_given_train_is_capped():
    source = Labels(np.arange(80_000) % 2, ["train"] * 80_000)
    assert split_source(source, val_fraction=0.1, seed=0).val.size == MAX_HOLD_OUT


def test_unusable_samples_are_left_out():
    usable = np.arange(100) % 5 != 0
    source = Labels([0, 1] * 50)
    split = split_source(source, val_fraction=0.1, seed=0, usable=usable)
    check(split, usable)


def test_a_class_with_one_sample_trains_and_is_noted():
    split = split_source(Labels([0] * 30 + [1] * 30 + [2]), val_fraction=0.1, seed=0)
    assert 60 in split.train
    assert split.notes[-1] == "class 'c2': its only sample is in train, so nothing checks it"


def test_many_small_classes_do_not_lose_half_their_samples():
    split = split_source(Labels(np.arange(400) % 100), val_fraction=0.1, seed=0)
    assert (split.train.size, split.val.size, split.test.size) == (320, 40, 40)


def test_few_classes_are_each_seen_in_val_and_test():
    source = Labels([0] * 60 + [1] * 4)
    split = split_source(source, val_fraction=0.1, seed=0)
    assert set(source.targets[split.val]) == {0, 1} == set(source.targets[split.test])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Labels([0, 1, 2], num_classes=5), r"DATA 'photos': 3 usable samples for 5 classes"),
        (
            Labels([0] * 20 + [1] * 20, num_classes=3),
            r"class 'c2' has 0 usable samples to train on \(train has 40 in all\); add samples",
        ),
        (
            Labels([0, 1, 0, 1, 1], ["train", "test", "train", "test", "test"]),
            r"class 'c1' has 0 usable samples to train on \(train has 2 in all\)",
        ),
        (
            Labels([0, 1, 2]),
            r"no test split can be held out of 3 samples of 3 classes so that every class is "
            r"still trained on; at least one class needs 2 samples here, better 10 "
            r"\(counts: 'c0' 1, 'c1' 1, 'c2' 1\)",
        ),
        (
            Labels([0, 1], ["test", "val"]),
            r"only val and test given, there is nothing to train on; add a train split",
        ),
        (
            Labels([0, 1, 0], ["train", "", "train"]),
            r"1 samples have no split while train are given \(first: 0001\); give every sample",
        ),
        (
            Labels([0, 1] * 10, groups=["a"] * 20),
            r"no test split can be held out of 20 samples .* needs 2 groups",
        ),
    ],
)
def test_what_cannot_be_split(source, message):
    with pytest.raises(UserError, match=message):
        split_source(source, val_fraction=0.1, seed=0)


@pytest.mark.parametrize("fraction", [0.0, -0.1, 0.5, float("nan")])
def test_the_fraction_is_checked(fraction):
    with pytest.raises(UserError, match=r"must be above 0 and at most 0\.4, got"):
        split_source(Labels([0, 1]), val_fraction=fraction, seed=0)


def test_all_unusable():
    with pytest.raises(UserError, match="0 usable samples for 2 classes"):
        split_source(Labels([0, 1]), val_fraction=0.1, seed=0, usable=np.zeros(2, bool))


def test_groups_are_drawn_close_to_the_share():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 120, 3000)
    targets = (groups + rng.integers(0, 2, 3000)) % 4  # classes cling to groups
    source = Labels(targets, groups=[f"patient{g}" for g in groups])
    split = split_source(source, val_fraction=0.1, seed=0)
    total = np.bincount(targets)
    for part in (split.val, split.test):
        share = np.bincount(targets[part], minlength=4) / total
        np.testing.assert_allclose(share, 0.1, atol=0.01)
    check(split, np.ones(3000, bool))


def test_groups_are_drawn_no_worse_than_scikit_learn_does():
    errors: dict[str, list[float]] = {"ours": [], "theirs": []}
    for seed in range(8):
        rng = np.random.default_rng(seed)
        groups = rng.integers(0, 60, 500)
        targets = (groups + rng.integers(0, 2, 500)) % 5
        source = Labels(targets, ["train"] * 500, groups=groups.astype(str))
        ours = split_source(source, val_fraction=0.1, seed=seed).val
        folds = StratifiedGroupKFold(10, shuffle=True, random_state=seed)
        _, theirs = next(folds.split(targets, targets, groups))
        for name, held in (("ours", ours), ("theirs", theirs)):
            share = np.bincount(targets[held], minlength=5) / np.bincount(targets)
            errors[name].append(float(np.abs(share - 0.1).mean()))
    assert np.mean(errors["ours"]) <= np.mean(errors["theirs"])


counts_of_classes = st.lists(st.integers(2, 60), min_size=2, max_size=8)


@settings(max_examples=150, deadline=None)
@given(counts_of_classes, st.floats(0.02, 0.4), st.integers(0, 2**32 - 1), st.booleans())
def test_samples_disjoint_complete_stratified_and_repeatable(counts, fraction, seed, train_only):
    targets = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    source = Labels(targets, ["train"] * len(targets) if train_only else None)
    try:
        split = split_source(source, val_fraction=fraction, seed=seed)
    except UserError as error:
        assert "can be held out" in str(error)  # noqa: PT017
        return
    check(split, np.ones(len(targets), bool))
    for part in [split.val] if train_only else [split.val, split.test]:
        held = np.bincount(targets[part], minlength=len(counts))
        expected = fraction * np.array(counts)
        spare = np.array(counts) - 1
        assert (np.abs(held - np.minimum(expected, spare)) <= 1).all()
    again = split_source(source, val_fraction=fraction, seed=seed)
    np.testing.assert_array_equal(split.val, again.val)
    np.testing.assert_array_equal(split.test, again.test)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_groups_are_never_cut(data):
    num_classes = data.draw(st.integers(2, 4))
    rows = data.draw(
        st.lists(
            st.tuples(st.integers(0, num_classes - 1), st.integers(0, 9)), min_size=8, max_size=80
        )
    )
    rows += [(k, 10 + k) for k in range(num_classes)]
    targets = np.array([r[0] for r in rows])
    groups = np.array([f"g{r[1]}" for r in rows])
    source = Labels(targets, groups=groups, num_classes=num_classes)
    try:
        split = split_source(source, val_fraction=0.2, seed=data.draw(st.integers(0, 99)))
    except UserError as error:
        assert "can be held out" in str(error)  # noqa: PT017
        return
    check(split, np.ones(len(targets), bool))
    parts = [set(groups[p]) for p in (split.train, split.val, split.test)]
    assert sum(map(len, parts)) == len(set(groups))
    assert set(targets[split.train]) == set(range(num_classes))
    assert split.val.size
    assert split.test.size


def test_another_seed_gives_another_split():
    source = Labels([0, 1] * 100)
    draws = [split_source(source, val_fraction=0.1, seed=s).val.tolist() for s in (0, 1)]
    assert draws[0] != draws[1]


def test_drawn_copies_of_training_samples_move_to_train():
    source = Labels([0, 1] * 50)
    split = split_source(source, val_fraction=0.2, seed=0)
    digests = np.array([f"{i:032x}".encode() for i in range(100)])
    copy, other = split.val[0], split.test[1]
    digests[copy] = digests[other] = digests[split.train[3]]
    moved = keep_copies_together(split, source, digests)
    assert set(moved.train) == {*split.train, copy, other}
    assert set(moved.val) == {*split.val} - {copy}
    assert set(moved.test) == {*split.test} - {other}
    assert "moved 2 held-out samples to train" in moved.notes[-1]


def test_given_copies_stay_where_the_data_put_them():
    source = Labels([0, 1] * 50, ["train"] * 80 + ["test"] * 20)
    split = split_source(source, val_fraction=0.2, seed=0)
    digests = np.array([f"{i:032x}".encode() for i in range(100)])
    digests[split.test[0]] = digests[split.train[0]]
    assert keep_copies_together(split, source, digests) is split
