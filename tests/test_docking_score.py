"""Scores of poses by runs and published weights, and what atoms contribute to them."""

import numpy as np
import pytest
import torch

import hubel
from hubel.data.source import open_source
from hubel.docking.contributions import contributions
from hubel.docking.score import Scorer, load_scorer
from hubel.errors import UserError
from hubel.inference import load_trained
from hubel.models import Model, ModelSpec, build
from hubel.runs import RunFolder
from hubel.tasks import TASKS
from tests.data_makers import write_poses


class _Linear(Model):
    """A score that is linear in the densities, of which masking and gradient agree exactly."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.field = torch.randn(28, 48, 48, 48, generator=generator) / 10
        self.anything = torch.nn.Parameter(torch.zeros(1))

    def forward(self, input):
        score = (input * self.field).flatten(1).sum(1)
        return torch.stack([torch.zeros_like(score), score, 2 * score], dim=1)


@pytest.fixture(scope="module")
def complexes(tmp_path_factory):
    return open_source(write_poses(tmp_path_factory.mktemp("poses") / "poses")).poses.complexes


def scorer_of(model):
    return Scorer(
        "a", model.eval(), TASKS["rank_poses"], torch.device("cpu"), None, knows_affinity=True
    )


def test_masking_and_gradient_agree_where_a_score_is_linear(complexes):
    scorer = scorer_of(_Linear())
    masked = contributions(scorer, complexes, 4, "masking")
    sloped = contributions(scorer, complexes, 4, "gradient")
    np.testing.assert_allclose(masked.pose, sloped.pose, atol=2e-3)
    np.testing.assert_allclose(masked.receptor, sloped.receptor, atol=2e-3)
    assert len(masked.pose) == 8
    assert len(masked.receptor) == 40
    whole = scorer.score(complexes, 1, 0).log_odds[0, 4]
    assert masked.pose.sum() + masked.receptor.sum() == pytest.approx(whole, abs=0.02)
    assert np.abs(masked.pose).min() > 0


def test_what_a_grid_does_not_see_contributes_nothing(complexes):
    places = complexes.receptors.places.copy()
    places[1] = 500.0
    far = type(complexes.receptors)(complexes.receptors.starts, places, complexes.receptors.types)
    other = type(complexes)(far, complexes.poses, complexes.receptor_of)
    assert contributions(scorer_of(_Linear()), other, 0, "gradient").receptor[1] == 0


def test_the_first_orientation_is_the_pose_as_it_stands_and_others_are_turns(complexes):
    scorer = scorer_of(_Linear())
    one, three = scorer.score(complexes, 1, 0), scorer.score(complexes, 3, 0)
    np.testing.assert_array_equal(one.log_odds[0], three.log_odds[0])
    assert np.abs(three.log_odds[1] - three.log_odds[0]).min() > 1e-3
    np.testing.assert_array_equal(three.log_odds, scorer.score(complexes, 3, 0).log_odds)
    assert (three.log_odds[1] != scorer.score(complexes, 3, 1).log_odds[1]).all()
    np.testing.assert_allclose(three.affinities, 2 * three.log_odds, rtol=1e-6)
    assert ((three.probabilities > 0) & (three.probabilities < 1)).all()


def test_published_weights_are_told_by_their_shapes(tmp_path, complexes):
    torch.manual_seed(0)
    model = build(ModelSpec("gnina_dense", 28, 3, (48, 48, 48))).eval()
    state = model.state_dict()
    weight, bias = state.pop("head.weight"), state.pop("head.bias")
    torch.save(
        {
            **state,
            "pose_output.weight": weight[:2], "pose_output.bias": bias[:2],
            "affinity_output.weight": weight[2:], "affinity_output.bias": bias[2:],
        },
        tmp_path / "dense.pt",
    )  # fmt: skip
    scorer = load_scorer(tmp_path / "dense.pt")
    assert scorer.name == "gnina_dense, dense.pt"
    viewed = complexes.viewed(np.arange(2))
    torch.testing.assert_close(
        scorer.outputs(complexes, viewed), scorer_of(model).outputs(complexes, viewed)
    )


CODE = """
from pathlib import Path
import torch
from torch import nn

Path(__file__).with_name("executed").touch()

class Net(nn.Module):
    def __init__(self, in_channels, num_classes):
        super().__init__()
        self.layers = nn.Sequential(
            nn.AvgPool3d(12), nn.Flatten(), nn.Linear(64 * in_channels, num_classes))

    def forward(self, x):
        return self.layers(x)
"""


@pytest.fixture(scope="module")
def own_run(tmp_path_factory):
    """A run that learned a person's own network, and the file of it."""
    folder = tmp_path_factory.mktemp("own")
    file = folder / "mine.py"
    file.write_text(CODE)
    run = hubel.fit(
        write_poses(folder / "poses"), model=f"{file}:Net", output=folder / "run", epochs=1,
        threads=1, engine="fp32", turns="none", translate=0.0,
    )  # fmt: skip
    file.with_name("executed").unlink()
    return run.path, file


def test_a_run_of_ones_own_network_scores_when_its_file_is_named(own_run, complexes):
    path, file = own_run
    scorer = load_scorer(path, model=f"{file}:Net")
    assert scorer.name.endswith("mine.py:Net, run")
    trained = load_trained(RunFolder.open(path), f"{file}:Net")
    viewed = complexes.viewed(np.arange(3))
    found = scorer.outputs(complexes, viewed)
    assert found.shape == (3, 3)
    torch.testing.assert_close(found, scorer_of(trained.model).outputs(complexes, viewed))
    sloped = contributions(scorer, complexes, 0, "gradient")
    assert np.abs(sloped.pose).max() > 0
    file.with_name("executed").unlink()


def test_a_file_is_executed_only_when_it_is_named_and_unchanged(own_run, tmp_path):
    path, file = own_run
    with pytest.raises(UserError, match=r"no run may have a file executed: .* --model .*mine\.py"):
        load_scorer(path)
    other = tmp_path / "mine.py"
    other.write_text(CODE + "\n")
    with pytest.raises(UserError, match="the file is not as it was when the run"):
        load_scorer(path, model=f"{other}:Net")
    assert not file.with_name("executed").exists()
    assert not other.with_name("executed").exists()
    torch.save({"a": torch.zeros(2)}, tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"is of a run of your own network, and --scorer .* none"):
        load_scorer(tmp_path / "a.pt", model=f"{file}:Net")


def test_other_weights_are_refused(tmp_path):
    torch.save({"a": torch.zeros(2)}, tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"--scorer '.*a\.pt' fits none of gnina's networks"):
        load_scorer(tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"--scorer '.*b\.pt' does not exist"):
        load_scorer(tmp_path / "b.pt")
