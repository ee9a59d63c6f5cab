"""Chosen channels and grids on their way: data, fit, run, evaluate, resume, dock."""

import json
import shutil

import numpy as np
import pytest
import torch
from commands import ran, refusal
from data_makers import write_poses

from hubel import api
from hubel.config import FitConfig
from hubel.data.prepare import open_configured, prepare_data
from hubel.data.preprocess import Preprocess, fit_preprocess
from hubel.data.source import open_source
from hubel.docking.score import load_scorer
from hubel.errors import UserError
from hubel.evaluate.run import evaluate_run
from hubel.inference import load_trained
from hubel.models import ModelSpec, build
from hubel.molecules.drawing import Drawing
from hubel.runs import RunFolder

MAP = """# two channels
AliphaticCarbonXSHydrophobe AliphaticCarbonXSNonHydrophobe
Oxygen OxygenXSDonor OxygenXSDonorAcceptor OxygenXSAcceptor
"""
GRID = {"grid_resolution": 1.0, "grid_edge": 15.0}
# The rate is high, so that one pass leaves contributions that five digits show.
QUICK = {
    "model": "gnina_default2018", "engine": "fp32", "threads": 1, "tta": "none", "lr": 0.2, **GRID,
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Poses, a map of types, and a run that was trained with it; the map is gone."""
    folder = tmp_path_factory.mktemp("channels")
    data = write_poses(folder / "poses")
    (folder / "ligand.map").write_text(MAP)
    notes = []
    run = api.fit(
        data,
        output=folder / "run",
        report=lambda said: notes.append(said.get("note", "")),
        receptor_channels="elements",
        ligand_channels=str(folder / "ligand.map"),
        epochs=1,
        **QUICK,
    )
    (folder / "ligand.map").unlink()
    return data, run, notes


def opened(data, **settings):
    return open_configured(FitConfig(data=str(data), **settings), None)


def test_channels_that_share_types_are_sums_of_the_default_ones(tmp_path):
    """Of densities at the same points; carbons of both kinds are one element."""
    data = write_poses(tmp_path / "poses")
    source, store = opened(data, receptor_channels="elements", ligand_channels="elements")
    assert (store.in_channels, source.info.in_channels) == (14, 14)
    grids = store.gather(torch.tensor([0, 5])).movedim(-1, 1)
    usual = opened(data)[1].gather(torch.tensor([0, 5])).movedim(-1, 1)
    for part in (0, 1):
        mine, theirs = grids[:, 7 * part : 7 * part + 7], usual[:, 14 * part : 14 * part + 14]
        torch.testing.assert_close(mine[:, 0], theirs[:, :4].sum(1))
        torch.testing.assert_close(mine.sum(1), theirs.sum(1))
    # nitrogens of the receptor: channels 5 and 6 by default, after the halogens'
    torch.testing.assert_close(grids[:, 1], usual[:, 5] + usual[:, 6])


def test_a_coarser_grid_has_every_other_point(tmp_path):
    data = write_poses(tmp_path / "poses")
    fine = opened(data, grid_edge=23.0)[1]
    coarse = opened(data, grid_resolution=1.0, grid_edge=23.0)[1]
    assert (fine.size, coarse.size) == ((47,) * 3, (24,) * 3)
    one = torch.tensor([3])
    torch.testing.assert_close(coarse.gather(one), fine.gather(one)[:, ::2, ::2, ::2])


def test_atoms_without_a_channel_are_counted(tmp_path):
    data = write_poses(tmp_path / "poses", poses={"type": lambda v: np.where(v == 6, 0, v)})
    (tmp_path / "a.map").write_text(MAP)
    notes = opened(data, ligand_channels=str(tmp_path / "a.map"))[1].notes
    # of eight atoms in each of 72 poses one is aromatic; the hydrogen that was a nitrogen is not
    # counted
    assert notes == [
        "left out for want of a channel: 72 atoms of 576 in poses (AromaticCarbonXSNonHydrophobe)"
    ]
    assert opened(data)[1].notes == []


def test_poses_of_which_nothing_is_seen_are_unreadable(tmp_path):
    data = write_poses(tmp_path / "poses")
    (tmp_path / "a.map").write_text("OxygenXSAcceptor")  # 13: what good poses have
    source, store = opened(data, ligand_channels=str(tmp_path / "a.map"))
    np.testing.assert_array_equal(store.readable, source.targets == 1)
    assert store.problems[0].reason == "has no atom in a channel"
    config = FitConfig(data=str(data), ligand_channels=str(tmp_path / "a.map"))
    with pytest.raises(UserError, match=r"48 of 72 samples of the data are unreadable, .* has no"):
        prepare_data(config)


def test_what_is_chosen_changes_nothing_that_the_data_are_known_by(tmp_path):
    data = write_poses(tmp_path / "poses")
    usual, other = opened(data)[1], opened(data, ligand_channels="elements", **GRID)[1]
    assert usual.fingerprint == other.fingerprint
    np.testing.assert_array_equal(usual.digests, other.digests)


def test_the_run_keeps_the_channels_type_by_type(made):
    _, run, notes = made
    kept = json.loads((run.path / "preprocess.json").read_text())
    assert kept["drawing"]["ligand_channels"] == [
        ["AliphaticCarbonXSHydrophobe", "AliphaticCarbonXSNonHydrophobe"],
        ["Oxygen", "OxygenXSDonor", "OxygenXSDonorAcceptor", "OxygenXSAcceptor"],
    ]
    assert len(kept["drawing"]["receptor_channels"]) == 7
    assert (kept["drawing"]["resolution_angstrom"], kept["drawing"]["points"]) == (1.0, 16)
    assert kept["size"] == [16, 16, 16]
    assert load_trained(RunFolder.open(run.path)).spec.in_channels == 9
    assert any(note.startswith("left out for want of a channel: 144 atoms") for note in notes)


def test_evaluation_sees_what_training_saw(made):
    data, run, _ = made
    assert run.evaluate(split="val", tta="none").evaluation.n == 6
    judged = evaluate_run(RunFolder.open(run.path), str(data), tta="none")
    assert judged.evaluation.n == 72
    assert judged.source.info.size == (16, 16, 16)
    scorer = load_scorer(run.path)
    drawn = open_source(data).drawn_as(scorer.drawing)
    scores = scorer.score(drawn.poses.complexes, 1, 0)
    np.testing.assert_allclose(judged.poses.network, scores.log_odds[0], atol=1e-4)


def test_a_resumed_run_sees_what_it_saw(made, tmp_path):
    """The file that its channels came from is gone."""
    data, run, _ = made
    config = json.loads((run.path / "config.json").read_text())
    with pytest.raises(UserError, match="cannot be read: No such file"):
        opened(data, ligand_channels=config["ligand_channels"])
    shutil.copytree(run.path, tmp_path / "half")
    resumed = api.resume(tmp_path / "half", epochs=2)
    assert resumed.result["epochs"] == 2
    trained = load_trained(RunFolder.open(resumed.path))
    assert trained.preprocess.drawing == load_trained(RunFolder.open(run.path)).preprocess.drawing


def test_a_scorer_of_a_run_sees_what_training_saw(made):
    _, run, _ = made
    assert (
        load_scorer(run.path).drawing == load_trained(RunFolder.open(run.path)).preprocess.drawing
    )


def test_docking_sees_what_the_scorer_learned_to_see(made, tmp_path):
    """Of 4-hydroxybenzamide one carbon and two oxygens, of benzene nothing."""
    for needed in ("rdkit", "gemmi", "vina", "meeko"):
        pytest.importorskip(needed, reason=f"docking needs {needed}")
    from docking_example import small_ligand, small_receptor
    from rdkit import Chem
    from rdkit.Chem import AllChem

    benzene = Chem.AddHs(Chem.MolFromSmiles("c1ccccc1"))
    AllChem.EmbedMolecule(benzene, randomSeed=1)
    benzene.SetProp("_Name", "benzene")
    with Chem.SDWriter(str(tmp_path / "poses.sdf")) as file:
        file.write(small_ligand())
        file.write(benzene)
    (tmp_path / "protein.pdb").write_text(small_receptor().make_pdb_string())
    _, run, _ = made
    docked = api.dock(
        tmp_path / "protein.pdb",
        poses=str(tmp_path / "poses.sdf"),
        output=tmp_path / "docked",
        scorer=str(run.path),
        orientations=1,
        processes=1,
    )
    one, other = docked.ligands
    assert any(
        note.startswith("left out by the scorer for want of a channel: 7") for note in one.notes
    )
    elements = [a.GetSymbol() for a in one.molecule.GetAtoms() if a.GetAtomicNum() > 1]
    told = [e for e, value in zip(elements, one.poses[0].atoms, strict=True) if value]
    assert sorted(told) == ["C", "O", "O"]
    assert other.error is not None
    assert "the scorer has a channel for none of its atoms (AromaticCarbonXSH" in other.error


def test_a_run_without_a_drawing_is_of_the_default(tmp_path):
    data = write_poses(tmp_path / "poses")
    preprocess = fit_preprocess(opened(data)[1], np.arange(4))
    assert preprocess.drawing == Drawing()
    old = preprocess.to_json()
    del old["drawing"]
    assert Preprocess.from_json(old).drawing is None
    torch.manual_seed(0)
    run = api.fit(
        data,
        output=tmp_path / "run",
        model="gnina_default2018",
        epochs=1,
        engine="fp32",
        tta="none",
    )
    before = run.evaluate(split="val").evaluation.to_json()
    (run.path / "preprocess.json").write_text(json.dumps(old))
    assert load_scorer(run.path).drawing == Drawing()
    assert api.load(run.path).evaluate(split="val").evaluation.to_json() == before


@pytest.mark.parametrize(
    "change",
    [
        {"points": 15},
        {"ligand_channels": [["Zinc"]]},
        {"ligand_channels": [["Zinc"], ["Zinc"]]},
        {"resolution_angstrom": None},
    ],
)
def test_a_drawing_that_does_not_fit_the_network_is_refused(made, tmp_path, change):
    _, run, _ = made
    shutil.copytree(run.path, tmp_path / "run")
    kept = json.loads((run.path / "preprocess.json").read_text())
    kept["drawing"].update(change)
    (tmp_path / "run" / "preprocess.json").write_text(json.dumps(kept))
    with pytest.raises(UserError, match=r"preprocess\.json' does not fit the network's input 9"):
        load_trained(RunFolder.open(tmp_path / "run"))


def test_weights_for_other_channels_are_refused(tmp_path):
    state = build(ModelSpec("gnina_dense", 14, 3, (48, 48, 48))).state_dict()
    torch.save(state, tmp_path / "dense.pt")
    message = (
        r"takes 14 channels, and a file of weights does not say which .* published 28 channels"
    )
    with pytest.raises(UserError, match=message):
        load_scorer(tmp_path / "dense.pt")


def test_weights_of_other_channels_are_no_beginning(made, tmp_path):
    data, run, _ = made
    with pytest.raises(UserError, match=r"has learned other receptor channels .* as that run had"):
        api.fit(data, output=tmp_path / "a", pretrained=str(run.path), epochs=1, **QUICK)
    shutil.copy(run.path / "model.safetensors", tmp_path / "weights.safetensors")
    message = r"its 9 channels are no colours and cannot be made into 28: .* --receptor-channels"
    with pytest.raises(UserError, match=message):
        api.fit(
            data,
            output=tmp_path / "a",
            pretrained=str(tmp_path / "weights.safetensors"),
            epochs=1,
            **QUICK,
        )


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["--receptor-channels", "elements"], "receptor-channels"),
        (["--ligand-channels", "x.map"], "ligand-channels"),
        (["--grid-resolution", "0.5"], "grid-resolution"),
        (["--grid-edge", "20"], "grid-edge"),
    ],
)
@pytest.mark.parametrize("verb", ["fit", "inspect"])
def test_pictures_have_no_channels_of_atoms(verb, words, option, capsys, monkeypatch):
    said = refusal(ran([verb, "digits", *words], capsys, monkeypatch))
    assert f"--{option} says how atoms are drawn, and DATA 'digits' has no poses" in said


def test_inspect_counts_by_the_channels_asked_for(tmp_path, capsys, monkeypatch):
    data = write_poses(tmp_path / "poses")
    (tmp_path / "a.map").write_text(MAP)
    words = ["inspect", data, "--no-near", "--json", "--ligand-channels", tmp_path / "a.map"]
    found = ran(words, capsys, monkeypatch)
    assert found.returncode == 0
    notes = json.loads(found.stdout)["notes"]
    assert any(
        note.startswith("left out for want of a channel: 144 atoms of 576") for note in notes
    )


def test_the_cost_of_a_run_is_that_of_its_channels(made, capsys, monkeypatch):
    _, run, _ = made
    found = ran(["cost", run.path, "--json", "--no-predict"], capsys, monkeypatch)
    assert json.loads(found.stdout)["input_shape"] == [9, 16, 16, 16]


def test_wrong_words_are_told_by_the_command(tmp_path, capsys, monkeypatch):
    data = write_poses(tmp_path / "poses")
    said = refusal(ran(["fit", data, "--ligand-channels", "element"], capsys, monkeypatch))
    assert "--ligand-channels 'element' cannot be read: No such file" in said
    said = refusal(ran(["fit", data, "--grid-resolution", "1"], capsys, monkeypatch))
    assert "give --grid-edge 23 or 24" in said
    said = refusal(ran(["fit", data, "--grid-resolution", "99"], capsys, monkeypatch))
    assert "--grid-resolution must be between 0.05 and 10" in said
