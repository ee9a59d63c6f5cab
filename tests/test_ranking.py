"""Ranking of poses: the figures against other ways to count them, the consensus, the task."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from hubel.errors import UserError
from hubel.evaluate.ranking import RankingEvaluation, evaluate_ranking
from hubel.metrics.consensus import Consensus
from hubel.metrics.ranking import ligand_auc, roc_auc, roc_auc_interval, top_good
from hubel.tasks import TASKS
from tests.commands import ran
from tests.data_makers import write_poses

poses = st.lists(st.tuples(st.integers(-3, 3), st.booleans(), st.integers(0, 3)), min_size=2)


def columns(rows):
    scores, good, ligands = map(np.array, zip(*rows, strict=True))
    return scores.astype(float), good.astype(bool), ligands.astype(np.int64)


@settings(deadline=None)  # scikit-learn's first call is a slow one
@given(poses)
def test_the_area_is_scikit_learns(rows):
    scores, good, _ = columns(rows)
    if good.all() or not good.any():
        assert roc_auc(scores, good) is None
    else:
        assert roc_auc(scores, good) == pytest.approx(roc_auc_score(good, scores))


@given(poses, st.integers(1, 3))
def test_the_first_poses_are_those_of_many_shuffles(rows, k):
    scores, good, ligands = columns(rows)
    rng = np.random.default_rng(0)
    found = top_good(scores, good, ligands, k)
    for chance, ligand in zip(found, np.unique(ligands), strict=True):
        own, right = scores[ligands == ligand], good[ligands == ligand]
        hits = 0
        for _ in range(200):
            order = np.lexsort((rng.random(len(own)), -own))
            hits += bool(right[order][:k].any())
        assert hits / 200 == pytest.approx(chance, abs=0.15)
        assert (hits == 200) == (chance == 1.0) or 0 < chance < 1


def test_within_a_ligand_only_its_own_poses_are_compared():
    scores = np.array([9.0, 8.0, 1.0, 0.0, 5.0])
    good = np.array([True, False, True, False, True])
    ligands = np.array([0, 0, 1, 1, 2])
    assert roc_auc(scores, good) == pytest.approx(4 / 6)
    np.testing.assert_array_equal(ligand_auc(scores, good, ligands), [1.0, 1.0])


def test_the_interval_is_by_ligand():
    """Ten copies of the poses of a ligand are no more evidence than one."""
    rng = np.random.default_rng(1)
    scores, good = rng.normal(size=60), rng.random(60) < 0.4
    scores[good] += 1
    ligands = np.arange(60) // 3
    one = roc_auc_interval(scores, good, ligands, 0)
    many = roc_auc_interval(np.repeat(scores, 10), np.repeat(good, 10), np.repeat(ligands, 10), 0)
    assert many == pytest.approx(one)
    assert one[0] < roc_auc(scores, good) < one[1]


def test_the_consensus_finds_what_each_score_knows():
    rng = np.random.default_rng(0)
    ligands = np.repeat(np.arange(60), 10)
    good = rng.random(600) < 0.3
    log_odds = 2.0 * good + rng.normal(size=600)
    size = rng.normal(size=60)[ligands] * 5  # the energy of a large ligand is low
    energies = size - 2.0 * good + rng.normal(size=600)
    found = Consensus.fitted(log_odds[:300], energies[:300], ligands[:300], good[:300])
    both = found.log_odds(log_odds[300:], energies[300:], ligands[300:])
    alone = roc_auc(log_odds[300:], good[300:])
    assert roc_auc(both, good[300:]) > alone + 0.01
    assert roc_auc(both, good[300:]) > roc_auc(-energies[300:], good[300:]) + 0.1
    assert found.network > 0 > found.gap
    assert Consensus(**found.to_json()) == found


def test_the_consensus_forgives_a_network_that_is_too_sure_of_some_ligands():
    rng = np.random.default_rng(1)
    ligands = np.repeat(np.arange(60), 10)
    good = rng.random(600) < 0.3
    level = rng.normal(size=60)[ligands] * 5
    log_odds = 3.0 * good + rng.normal(size=600) + level
    energies = rng.normal(size=600)
    found = Consensus.fitted(log_odds[:300], energies[:300], ligands[:300], good[:300])
    both = found.log_odds(log_odds[300:], energies[300:], ligands[300:])
    assert roc_auc(both, good[300:]) > roc_auc(log_odds[300:], good[300:]) + 0.15
    assert found.network_gap < 0


def test_a_run_from_before_the_network_gap_has_none(tmp_path):
    weights = {"intercept": 1.0, "network": 2.0, "energy": 0.5, "gap": -1.0}
    found = Consensus.of_run({"consensus": weights}, tmp_path)
    assert found == Consensus(1.0, 2.0, 0.0, 0.5, -1.0)


def test_there_is_no_consensus_without_energies_or_kinds():
    ones, ligands = np.ones(4), np.arange(4)
    good = np.array([True, False, True, False])
    assert Consensus.fitted(ones, ones * np.nan, ligands, good) is None
    assert Consensus.fitted(ones, ones, ligands, good | True) is None


def test_a_ligand_that_lacks_an_energy_is_left_out_of_the_fit():
    rng = np.random.default_rng(0)
    ligands, good = np.repeat(np.arange(20), 5), rng.random(100) < 0.4
    log_odds, energies = good + rng.normal(size=100), rng.normal(size=100) - good
    whole = Consensus.fitted(log_odds[:-5], energies[:-5], ligands[:-5], good[:-5])
    energies[97] = np.nan
    assert Consensus.fitted(log_odds, energies, ligands, good) == whole
    one = ligands == 3
    alone = np.where(one, 0.0, np.nan)  # the one ligand that has all its scores has good poses only
    assert Consensus.fitted(log_odds, alone, ligands, good | one) is None


def evaluation(energies=None, consensus=None):
    rng = np.random.default_rng(0)
    ligands = np.repeat(np.arange(8), 5)
    good = np.arange(40) % 5 == 0
    good[:5] = False  # a ligand without a good pose
    views = good + rng.normal(size=(2, 40))
    energies = np.full(40, np.nan) if energies is None else energies
    names, ids = [f"l{i}" for i in range(8)], [f"p{i}" for i in range(40)]
    return evaluate_ranking(
        views, energies, good, ligands, names, ids, consensus=consensus, split="test"
    )


def test_an_evaluation_compares_with_docking_and_with_both():
    energies = -np.arange(40.0)
    found, given_to = evaluation(energies, Consensus(0.0, 1.0, 0.0, 0.0, -0.1))
    assert [s.scorer for s in found.scorers] == ["network", "docking score", "consensus"]
    assert found.with_good == 7
    assert any("1 of 8 ligands have no good pose" in note for note in found.notes)
    assert max(s.top1 for s in found.scorers) <= 7 / 8
    assert found.random_top1 == pytest.approx(7 * 0.2 / 8)
    again = RankingEvaluation.from_json(json.loads(json.dumps(found.to_json())))
    assert again == found
    lines = given_to.to_csv().splitlines()
    assert lines[0] == "id,ligand,good,network,spread,docking,consensus"
    assert lines[8].startswith("p7,l1,0,")
    assert len(lines) == 41


def test_without_docking_scores_the_network_stands_alone():
    found, given_to = evaluation()
    assert [s.scorer for s in found.scorers] == ["network"]
    assert any("40 of 40 poses have no docking score" in note for note in found.notes)
    assert given_to.to_csv().splitlines()[1].endswith(",")


def test_ligands_that_lack_docking_scores_are_left_out_of_the_comparison_and_counted():
    energies, weights = -np.arange(40.0), Consensus(0.0, 1.0, 0.0, 0.0, -0.1)
    whole, _ = evaluation(energies, weights)
    missing = energies.copy()
    missing[[7, 8, 39]] = np.nan  # of ligands 1 and 7
    found, given_to = evaluation(missing, weights)
    assert [s.scorer for s in found.scorers] == [
        "network", "network, same ligands", "docking score", "consensus",
    ]  # fmt: skip
    assert found.network == whole.network
    assert (found.num_unscored, found.num_compared, whole.num_unscored, whole.num_compared) == (
        3, 6, 0, 8,
    )  # fmt: skip
    assert found.notes[0] == (
        "3 of 40 poses have no docking score; 'network, same ligands' and the scorers below it are"
        " judged on the 6 of 8 ligands whose poses all have one"
    )
    rows = np.isin(np.arange(40) // 5, [1, 7], invert=True)
    good = (np.arange(40) % 5 == 0) & (np.arange(40) >= 5)
    same, docking, both = found.scorers[1:]
    log_odds = [float(line.split(",")[3]) for line in given_to.to_csv().splitlines()[1:]]
    assert same.auc == pytest.approx(roc_auc_score(good[rows], np.array(log_odds)[rows]))
    assert docking.auc == pytest.approx(roc_auc_score(good[rows], -energies[rows]))
    together = given_to.consensus
    assert np.isfinite(together[rows]).all()
    assert np.isnan(together[~rows]).all()
    assert both.auc == pytest.approx(roc_auc_score(good[rows], together[rows]))
    places = {one.name: (one.docking, one.consensus) for one in found.ligands}
    assert places["l1"] == places["l7"] == (None, None)
    assert None not in places["l2"]
    before = {one.name: (one.docking, one.consensus) for one in whole.ligands}
    assert places["l2"] == before["l2"]
    lines = given_to.to_csv().splitlines()
    assert lines[6].endswith(",")  # ligand 1 has this score, and no consensus
    assert lines[6].split(",")[5] == "-5"
    document = json.loads(json.dumps(found.to_json()))
    assert (document["num_unscored"], document["num_compared"]) == (3, 6)
    assert RankingEvaluation.from_json(document) == found


def test_scores_of_ligands_of_one_kind_compare_nothing():
    energies = np.full(40, np.nan)
    energies[:5] = -1.0  # the ligand without a good pose
    found, _ = evaluation(energies, Consensus(0.0, 1.0, 0.0, 0.0, -0.1))
    assert [s.scorer for s in found.scorers] == ["network"]
    assert "the 1 of 8 ligands whose poses all have one have poses of one kind" in found.notes[0]
    energies[0] = np.nan
    found, _ = evaluation(energies)
    assert "36 of 40 poses have no docking score; no ligand has one for each" in found.notes[0]


def test_page_and_terminal_say_how_many_lack_a_docking_score(tmp_path, capsys):
    from hubel.cli.show import show_judged
    from hubel.report.ranking import write_ranking_report

    energies = -np.arange(40.0)
    energies[7] = np.nan
    found, _ = evaluation(energies, Consensus(0.0, 1.0, 0.0, 0.0, -0.1))
    page = write_ranking_report(
        tmp_path / "report.html", found, run_facts={}, history=[], figures_dir=tmp_path
    ).read_text()
    show_judged(found, "report.html")
    shown = " ".join(capsys.readouterr().out.split())
    for text in (page, shown):
        assert "1 of 40 poses have no docking score" in text
        assert "network, same ligands" in text


def test_poses_of_one_kind_are_refused():
    with pytest.raises(UserError, match="0 good poses of 3; there is nothing to tell apart"):
        evaluate_ranking(
            np.zeros((1, 3)), np.zeros(3), np.zeros(3, bool), np.arange(3), "abc", "abc",
            consensus=None, split="val",
        )  # fmt: skip


def test_the_loss_of_affinity_counts_what_is_known():
    task = TASKS["rank_poses"]
    logits = torch.zeros(4, 2)

    def loss(said, rows):
        output = torch.cat([logits[: len(rows)], torch.tensor(said)[:, None]], dim=1)
        return float(task.loss(output, torch.tensor(rows)))

    unknown = float("nan")
    half = float(np.log(2))
    assert loss([7.0], [[1, 0, 0, unknown]]) == pytest.approx(half)
    assert loss([7.0], [[1.0, 0, 0, 7.0]]) == pytest.approx(half)
    assert loss([3.0], [[1.0, 0, 0, 7.0]]) > half + 0.1  # of a good pose too little is wrong
    assert loss([3.0], [[0.0, 0, 0, 7.0]]) == pytest.approx(half)  # of a bad one only too much
    assert loss([11.0], [[0.0, 0, 0, 7.0]]) > half + 0.1
    gradient = torch.tensor([[0.0, 0.0, 5.0]], requires_grad=True)
    task.loss(gradient, torch.tensor([[1.0, 0, 0, unknown]])).backward()
    assert gradient.grad.isfinite().all()


@pytest.fixture
def hubel(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return lambda *words: ran(words, capsys, monkeypatch)


def test_poses_are_learned_evaluated_and_told(tmp_path, hubel):
    """The whole way, by command: the good ones are those whose oxygen meets the nitrogen."""
    where = str(write_poses(tmp_path / "poses"))
    fitted = hubel(
        "fit", where, "--model", "gnina_default2018", "--fold", "1/3", "--epochs", "4",
        "--turns", "none", "--translate", "0", "--engine", "fp32", "--threads", "2",
        "--output", "run", "--json",
    )  # fmt: skip
    assert json.loads(fitted.stdout)["task"] == "rank_poses"
    judged = hubel("evaluate", "run", "--json")
    document = json.loads(judged.stdout)
    assert document["metrics"]["auc"] > 0.9
    assert document["orientations"] == 8
    assert [s["scorer"] for s in document["scorers"]][:2] == [
        "network",
        "docking score",
    ]
    page = (tmp_path / "run" / "evaluation" / "test" / "report.html").read_text()
    assert "area under the ROC curve" in page
    lines = (tmp_path / "run" / "evaluation" / "test" / "poses.csv").read_text().splitlines()
    assert len(lines) == 25
    one = json.loads(hubel("evaluate", "run", "--tta", "none", "--json").stdout)
    assert one["orientations"] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--flip", "random"], "--flip changes pictures, and --task rank_poses sees atoms"),
        (["--turns", "plane"], "--turns changes pictures"),
        (["--cutout", "0.2"], "--cutout changes pictures"),
        (["--mixup", "0.2"], "--mixup mixes classes"),
        (["--task", "classify"], "whose labels are poses; give --task rank_poses"),
        (["--img-size", "32"], "poses are drawn on 48x48x48 points"),
    ],
)
def test_what_poses_cannot_is_refused(tmp_path, hubel, words, message):
    where = str(write_poses(tmp_path / "poses"))
    found = hubel("fit", where, "--output", "run", *words)
    assert found.returncode == 1
    assert message in found.stderr.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_free_turns_are_of_poses(hubel):
    found = hubel("fit", "shapes:40", "--turns", "free", "--output", "run")
    assert "--turns free moves atoms" in found.stderr.splitlines()[-1]
