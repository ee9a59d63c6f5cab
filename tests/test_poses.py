"""Poses as samples: their grids, how they move, how often each is drawn, and their folds."""

import numpy as np
import pytest
import torch

from hubel import api
from hubel.config import FitConfig
from hubel.data.cache import open_store
from hubel.data.folds import fold_splits
from hubel.data.loader import Loader
from hubel.data.posed import PoseStore, Posing
from hubel.data.prepare import prepare_data
from hubel.data.preprocess import fit_preprocess
from hubel.data.source import open_source
from hubel.data.targets import PoseTargets
from hubel.errors import UserError
from tests.data_makers import write_poses


@pytest.fixture
def source(tmp_path):
    return open_source(write_poses(tmp_path / "poses"))


def loader_of(source, **settings):
    store = open_store(source)
    indices = np.arange(len(source))
    targets = PoseTargets.of(source.poses, source.targets)
    return Loader(store, targets, indices, fit_preprocess(store, indices), 8, 3, 2, **settings)


def test_a_sample_is_the_densities_of_its_atoms(source):
    sample = source[0]
    assert sample.input.shape == (48, 48, 48, 28)
    store = open_store(source)
    assert isinstance(store, PoseStore)
    np.testing.assert_array_equal(store.gather(torch.tensor([0]))[0].numpy(), sample.input)
    # The density at an atom's own place is 1 and more where another of its channel is near.
    assert sample.input.max() > 0.9


def test_the_network_gets_densities_as_they_are(source):
    loader = loader_of(source)
    batch = next(loader.evaluation())
    np.testing.assert_array_equal(
        batch.input[0].movedim(0, -1).numpy(), loader.store.gather(torch.tensor([0]))[0].numpy()
    )


def test_turning_moves_what_is_seen_and_keeps_how_much(source):
    loader = loader_of(source, posing=Posing(turned=True, translate=0.0))
    still = torch.cat([b.input.sum((1, 2, 3, 4)) for b in loader.evaluation()])
    batch = next(loader.epoch(0))
    again = next(loader.epoch(0))
    torch.testing.assert_close(batch.input, again.input)
    total = batch.input.sum((1, 2, 3, 4))
    torch.testing.assert_close(total, still[batch.ids], rtol=0.02, atol=0.0)
    both = zip(batch.ids.tolist(), batch.input, strict=True)
    later = {i: x for b in loader.epoch(1) for i, x in zip(b.ids.tolist(), b.input, strict=True)}
    assert min(float((x - later[i]).abs().max()) for i, x in both) > 0.1


def test_orientations_of_an_evaluation_are_turns_that_come_again(source):
    loader = loader_of(source)
    views = [next(loader.evaluation(k)).input for k in (0, 1, 2, 1)]
    torch.testing.assert_close(views[1], views[3])
    assert (views[0] - views[1]).abs().max() > 0.1
    assert (views[1] - views[2]).abs().max() > 0.1


def test_without_turns_and_shifts_training_sees_poses_as_they_stand(source):
    loader = loader_of(source, posing=Posing(turned=False, translate=0.0))
    batch = next(loader.epoch(0))
    torch.testing.assert_close(
        batch.input.movedim(1, -1), loader.store.gather(batch.ids), rtol=0, atol=1e-6
    )


def test_a_shift_moves_by_as_much_as_it_says(source):
    store = open_store(source)
    draws = Posing(turned=False, translate=0.0).draws(1, 0, 0)
    edge = source.poses.complexes.grid.edge
    draws[0, 9] = 1.0 / edge  # one Å along the first axis: two points
    moved = store.made(torch.tensor([0]), torch.device("cpu"), draws)
    still = store.gather(torch.tensor([0]))
    torch.testing.assert_close(moved[:, 2:], still[:, :-2], rtol=1e-4, atol=1e-4)


def test_shifts_stay_within_their_share(source):
    draws = Posing(turned=True, translate=0.1).draws(500, 0, 0)
    assert draws[:, 9:].abs().max() <= 0.1
    assert draws[:, 9:].abs().max() > 0.09
    turns = draws[:, :9].reshape(-1, 3, 3)
    torch.testing.assert_close(
        turns @ turns.mT, torch.eye(3, dtype=torch.float64).expand(500, 3, 3)
    )


def test_half_of_what_is_drawn_is_good_and_every_ligand_has_its_share(source):
    targets = PoseTargets.of(source.poses, source.targets)
    ids = torch.arange(len(source))
    weights = targets.weights(ids)
    weights = weights / weights.sum()
    good = torch.from_numpy(source.targets) == 1
    assert weights[good].sum() == pytest.approx(0.5)
    ligand = torch.from_numpy(source.poses.ligand_of)
    shares = [float(weights[good & (ligand == k)].sum()) for k in ligand[good].unique()]
    assert shares == pytest.approx([0.5 / len(shares)] * len(shares))


def test_a_balanced_epoch_draws_by_these_weights(source):
    order = torch.cat([loader_of(source, balanced=True).order(e) for e in range(40)])
    share = float((torch.from_numpy(source.targets)[order] == 1).float().mean())
    assert share == pytest.approx(0.5, abs=0.05)


def test_folds_of_the_data_are_taken(source):
    usable = np.ones(len(source), bool)
    for number in (1, 2, 3):
        splits = fold_splits(source, f"{number}/3", 0, usable)
        np.testing.assert_array_equal(splits == "test", source.poses.folds == number - 1)
    with pytest.raises(UserError, match=r"gives 3 folds; write --fold 2/3"):
        fold_splits(source, "2/5", 0, usable)


def test_folds_may_be_numbered_from_one(tmp_path):
    source = open_source(write_poses(tmp_path / "poses", poses={"fold": lambda v: v + 1}))
    np.testing.assert_array_equal(np.unique(source.poses.folds), [0, 1, 2])


def test_folds_that_share_a_group_are_refused(source):
    source.groups = np.full(len(source), "one protein")
    with pytest.raises(UserError, match="share groups; leave out --same-protein"):
        fold_splits(source, "1/3", 0, np.ones(len(source), bool))


def test_drawn_folds_share_no_receptor_and_are_the_whole(tmp_path):
    source = open_source(write_poses(tmp_path / "poses", folds=False))
    usable = np.ones(len(source), bool)
    tests = [fold_splits(source, f"{k}/4", 0, usable) == "test" for k in (1, 2, 3, 4)]
    np.testing.assert_array_equal(np.sum(tests, axis=0), 1)
    for test in tests:
        assert not set(source.groups[test]) & set(source.groups[~test])
    with pytest.raises(UserError, match="12 groups for 13 folds"):
        fold_splits(source, "1/13", 0, usable)


def test_a_fold_is_the_test_split_of_a_fit(tmp_path):
    where = str(write_poses(tmp_path / "poses"))
    data = prepare_data(FitConfig(data=where, fold="2/3"))
    np.testing.assert_array_equal(data.split.test, np.flatnonzero(data.source.poses.folds == 1))
    groups = data.source.groups
    assert not set(groups[data.split.train]) & set(groups[data.split.val])


def test_data_with_splits_of_their_own_have_no_folds():
    source = open_source("shapes:30")
    with pytest.raises(UserError, match="gives splits of its own"):
        fold_splits(source, "1/3", 0, np.ones(len(source), bool))


@pytest.mark.parametrize("fold", ["0/3", "4/3", "1/1", "a", "1"])
def test_a_fold_that_is_none_is_refused(fold):
    with pytest.raises(UserError, match=r"--fold: write one of how many folds, such as 1/3"):
        FitConfig(fold=fold)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"receptors": {"xyz": None}}, r"receptors\.npz' has no 'xyz'"),
        ({"poses": {"receptor": None}}, r"has no 'receptor', the row"),
        ({"poses": {"receptor": lambda v: v + 99}}, r"receptors\.npz has 12, numbered from 0"),
        ({"poses": {"label": None, "rmsd": None}}, r"neither 'label' nor 'rmsd'"),
        ({"poses": {"type": lambda v: v * 0 + 28}}, r"atom types are numbered from 0 to 27"),
        ({"poses": {"xyz": lambda v: v * np.nan}}, r"NaN, or 100000 Å and more"),
        ({"poses": {"offset": lambda v: v[:-1]}}, r"offset must grow from 0 to the"),
        ({"poses": {"vina": lambda v: v[1:]}}, r"his? 'vina' is float32 of shape"),
        ({"poses": {"name": lambda v: np.full_like(v, "a")}}, r"1 different names of"),
        ({"poses": {"label": lambda v: 2 * v.astype(int) - 1}}, r"got values from -1 to 1"),
        ({"poses": {"fold": lambda v: np.arange(len(v)) % 2}}, r"'r0' into several folds"),
    ],
)
def test_what_is_wrong_with_the_arrays_is_told(tmp_path, change, message):
    with pytest.raises(UserError, match=message.replace("his?", "its")):
        open_source(write_poses(tmp_path / "poses", **change))


def test_rmsd_says_what_is_good_where_no_label_does(tmp_path):
    source = open_source(write_poses(tmp_path / "poses", poses={"label": None}))
    np.testing.assert_array_equal(source.targets == 1, source.poses.rmsd < 2)


def test_an_empty_pose_is_left_out_and_named(tmp_path):
    source = open_source(write_poses(tmp_path / "poses", empty=3))
    store = open_store(source)
    assert [p.id for p in store.problems] == [source.ids[3]]
    assert not store.readable[3]
    assert store.readable.sum() == len(source) - 1


def test_atoms_beyond_the_grid_are_counted(tmp_path):
    def far(places):
        places = places.copy()
        places[0] += 40
        return places

    source = open_source(write_poses(tmp_path / "poses", poses={"xyz": far}))
    assert any("1 atoms of 1 poses lie outside their grid" in n for n in open_store(source).notes)


def test_another_size_is_refused(source):
    with pytest.raises(UserError, match=r"poses are drawn on 48x48x48 points 0\.5 Å apart"):
        open_store(source, size=(32, 32, 32))


def test_an_inspection_counts_ligands_and_what_is_not_known(tmp_path):
    def some(scores):
        return np.where(np.arange(len(scores)) < 5, np.nan, scores).astype(np.float32)

    def last_bad(labels):
        return np.where(np.arange(len(labels)) >= 66, 0, labels)

    where = write_poses(tmp_path / "poses", poses={"vina": some, "label": last_bad})
    found = api.inspect(where, near=False).inspection
    assert found.noun == "pose"
    assert found.notes[:4] == [
        "72 poses of 12 ligands in 12 receptors",
        "1 of the ligands have no good pose",
        "5 poses have no docking score",
        "72 poses have no affinity",
    ]


def test_a_pose_that_is_drawn_twice_is_seen_in_two_ways(source):
    loader = loader_of(source, posing=Posing(turned=True, translate=0.0), balanced=True)
    ids = torch.cat([batch.ids for batch in loader.epoch(0)])
    inputs = torch.cat([batch.input for batch in loader.epoch(0)])
    twice = next(i for i in ids.tolist() if (ids == i).sum() > 1)
    one, other = inputs[ids == twice][:2]
    assert (one - other).abs().max() > 0.1
    later = torch.cat([batch.input for batch in loader.epoch(0, start=3)])
    torch.testing.assert_close(later, inputs[24:])
