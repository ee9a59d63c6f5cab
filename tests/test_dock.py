"""`hubel dock`, by command and from Python, on a small protein that the tests build."""

import csv
import json

import numpy as np
import pytest
import torch

for needed in ("rdkit", "gemmi", "vina", "meeko"):
    pytest.importorskip(needed, reason=f"docking needs {needed}: pip install 'hubel[docking]'")

import gemmi  # noqa: E402
from docking_example import small_ligand, small_receptor  # noqa: E402
from rdkit import Chem  # noqa: E402

from hubel import api  # noqa: E402
from hubel.docking.dock import B_FACTOR  # noqa: E402
from hubel.docking.ranked import read_ranked  # noqa: E402
from hubel.docking.request import DockRequest  # noqa: E402
from hubel.docking.site import open_site  # noqa: E402
from hubel.errors import UserError  # noqa: E402
from hubel.models import ModelSpec, build  # noqa: E402
from hubel.molecules.atom_types import type_number  # noqa: E402
from tests.commands import ran  # noqa: E402

QUICK = {"exhaustiveness": 1, "num_poses": 3, "orientations": 2}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A receptor, a ligand in it, two as SMILES of which the second cannot be docked, weights."""
    folder = tmp_path_factory.mktemp("dock")
    (folder / "protein.pdb").write_text(small_receptor().make_pdb_string())
    Chem.MolToMolFile(small_ligand(), str(folder / "ligand.sdf"))
    smiles = Chem.MolToSmiles(Chem.RemoveHs(small_ligand()))
    (folder / "two.smi").write_text(f"{smiles} first\nC[Ge](C)(C)C second\n")
    torch.manual_seed(0)
    state = build(ModelSpec("gnina_default2018", 28, 3, (48, 48, 48))).state_dict()
    weight, bias = state.pop("head.weight"), state.pop("head.bias")
    torch.save(
        {
            **state,
            "pose_output.weight": weight[:2], "pose_output.bias": bias[:2],
            "affinity_output.weight": weight[2:], "affinity_output.bias": bias[2:],
        },
        folder / "weights.pt",
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def docked(files, tmp_path_factory):
    return api.dock(
        files / "protein.pdb",
        files / "ligand.sdf",
        output=tmp_path_factory.mktemp("out") / "docked",
        crystal=str(files / "ligand.sdf"),
        scorer=str(files / "weights.pt"),
        **QUICK,
    )


def test_poses_are_ranked_by_the_consensus_and_judged(docked):
    (ligand,) = docked.ligands
    assert 1 <= len(ligand.poses) <= 3
    consensus = [pose.consensus for pose in ligand.poses]
    assert consensus == sorted(consensus, reverse=True)
    for pose, conformer in zip(ligand.poses, ligand.molecule.GetConformers(), strict=True):
        assert 0 < pose.probability < 1
        assert pose.spread > 0
        assert pose.rmsd >= 0
        apart = conformer.GetPositions() - small_ligand().GetConformer().GetPositions()
        # Symmetry and hydrogens can only make it smaller than atom by atom.
        assert pose.rmsd <= 1.5 * np.sqrt((apart**2).sum(1).mean()) + 1e-6
        assert {check.name for check in pose.checks} >= {"bond_lengths", "clash", "near_receptor"}


def test_the_files_say_the_same(docked):
    folder, (ligand,) = docked.folder, docked.ligands
    with (folder / "ranking.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["rank"]) for row in rows] == list(range(1, len(ligand.poses) + 1))
    assert float(rows[0]["vina_kcal_mol"]) == pytest.approx(ligand.poses[0].vina, rel=1e-5)
    document = json.loads((folder / "ranking.json").read_text())
    assert document["ligands"][0]["poses"][0]["probability"] == ligand.poses[0].probability
    assert document["with_crystal"] == 1
    molecules = list(Chem.SDMolSupplier(str(folder / "ligands" / "00001.sdf"), removeHs=False))
    assert len(molecules) == len(ligand.poses)
    first = molecules[0]
    assert float(first.GetProp("hubel_probability")) == pytest.approx(
        ligand.poses[0].probability, rel=1e-5
    )
    best = list(Chem.SDMolSupplier(str(folder / "poses.sdf"), removeHs=False))
    assert len(best) == 1
    np.testing.assert_allclose(
        best[0].GetConformer().GetPositions(), first.GetConformer().GetPositions()
    )
    page = docked.report.read_text()
    assert "the probability that pose 1 of" in page


def test_contributions_are_properties_of_atoms_and_b_factors(docked):
    folder, (ligand,) = docked.folder, docked.ligands
    pose = ligand.poses[0]
    first = next(iter(Chem.SDMolSupplier(str(folder / "ligands" / "00001.sdf"), removeHs=False)))
    heavy = [a for a in first.GetAtoms() if a.GetAtomicNum() > 1]
    told = [atom.GetDoubleProp("contribution") for atom in heavy]
    np.testing.assert_allclose(told, pose.atoms, atol=1e-5)
    assert np.abs(told).max() > 0
    lines = (folder / "ligands" / "00001_receptor.pdb").read_text().splitlines()
    factors = [float(line[60:66]) for line in lines if line.startswith(("ATOM", "HETATM"))]
    expected = np.zeros(len(factors))
    for i, value in pose.receptor_atoms:
        expected[i] = value
    np.testing.assert_allclose(factors, B_FACTOR * expected, atol=0.006)


def test_what_was_written_is_read_again(docked):
    (ligand,) = docked.ligands
    again = read_ranked(docked.folder / "ligands", 1)
    assert again.poses == ligand.poses
    assert again.molecule.GetNumConformers() == len(ligand.poses)


def test_a_docking_goes_on_where_it_was_and_refuses_another(files, tmp_path, docked):
    settings = {"crystal": str(files / "ligand.sdf"), "scorer": str(files / "weights.pt"), **QUICK}
    heard = []
    again = api.dock(
        files / "protein.pdb", files / "ligand.sdf", output=docked.folder,
        report=heard.append, **settings,
    )  # fmt: skip
    assert {"note": "1 of 1 ligands are done already"} in heard
    assert again.ligands[0].poses == docked.ligands[0].poses
    with pytest.raises(UserError, match="holds a docking with other settings or files"):
        api.dock(
            files / "protein.pdb", files / "ligand.sdf", output=docked.folder,
            **{**settings, "num_poses": 2},
        )  # fmt: skip
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(UserError, match="is not an empty folder; name a new one"):
        api.dock(files / "protein.pdb", files / "ligand.sdf", output=tmp_path, **settings)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_a_ligand_cut_off_is_done_again(files, docked, tmp_path):
    """Without its JSON, or with half an SDF, a ligand is not done."""
    kept = tmp_path / "ligands"
    kept.mkdir()
    whole = (docked.folder / "ligands" / "00001.sdf").read_text()
    (kept / "00001.json").write_bytes((docked.folder / "ligands" / "00001.json").read_bytes())
    assert read_ranked(kept, 1) is None
    (kept / "00001.sdf").write_text(whole[: len(whole) // 2])
    assert read_ranked(kept, 1) is None
    (kept / "00001.sdf").write_text(whole)
    assert read_ranked(kept, 1) is not None


def test_a_ligand_that_cannot_be_docked_is_a_row_and_not_the_end(
    files, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    done = ran(
        ["dock", files / "protein.pdb", files / "two.smi", "--center", "0", "0", "0",
         "--exhaustiveness", "1", "--num-poses", "2", "--processes", "1", "--json"],
        capsys, monkeypatch,
    )  # fmt: skip
    assert done.returncode == 0
    document = json.loads(done.stdout)
    first, second = document["ligands"]
    assert first["poses"]
    assert first["poses"][0]["probability"] is None
    assert first["error"] is None
    assert "Ge, which AutoDock Vina has no atom type for" in second["error"]
    assert second["poses"] == []
    assert "WARNING: second" in done.stderr
    page = (tmp_path / "docked" / "report.html").read_text()
    assert "no network was" in page


def test_poses_that_are_given_are_scored_where_they_are(files, tmp_path, docked):
    given = docked.folder / "ligands" / "00001.sdf"
    scored = api.dock(
        files / "protein.pdb", output=tmp_path / "scored", poses=str(given),
        scorer=str(files / "weights.pt"), contributions="none", **QUICK,
    )  # fmt: skip
    (ligand,) = scored.ligands
    before = sorted(pose.vina for pose in docked.ligands[0].poses)
    assert sorted(pose.vina for pose in ligand.poses) == pytest.approx(before, abs=0.05)
    assert ligand.poses[0].atoms is None
    chances = [
        [p.probability for p in sorted(poses, key=lambda p: p.vina)]
        for poses in (ligand.poses, docked.ligands[0].poses)
    ]
    assert chances[0] == pytest.approx(chances[1], abs=0.02)  # turned in other ways


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"say where to dock: --center X Y Z, --autobox LIGAND \(a file\), or --pocket"),
        ({"pocket": True, "center": (0, 0, 0)}, r"each say where: give one of them"),
        ({"pocket": True, "poses": "a.sdf"}, r"--poses scores poses as they are"),
        ({"pocket": True, "size": (9, 9, 9)}, r"--size is of the box about --center"),
        ({"pocket": True, "num_poses": 0}, r"--num-poses must be from 1 to 1000, got 0"),
        (
            {"pocket": True, "model": "mine.py:Net"},
            r"--model 'mine\.py:Net' is of the run that sco",
        ),
        ({"pocket": True, "contributions": "both"}, r"--contributions 'both' is not known"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        DockRequest("a.pdb", "b.sdf", **settings)


def test_hydrogens_of_the_file_reach_vina_and_the_network(files, tmp_path):
    """An Asp that is protonated where none is by name, and has one hydrogen on its nitrogen."""
    structure = small_receptor().clone()
    (acid,) = [residue for residue in structure[0]["B"] if residue.name == "ASP"]
    for heavy in ("N", "OD1"):
        hydrogen = gemmi.Atom()
        hydrogen.name, hydrogen.element, hydrogen.occ = f"H{heavy}", gemmi.Element("H"), 1.0
        hydrogen.pos = acid[heavy][0].pos + gemmi.Position(0, 0, 0.9)
        acid.add_atom(hydrogen)
    (tmp_path / "protein.pdb").write_text(structure.make_pdb_string())
    request = DockRequest(
        str(tmp_path / "protein.pdb"), str(files / "ligand.sdf"), center=(0, 0, 0)
    )
    site = open_site(request, cpu=1)
    lines = [line for line in site.prepared.pdbqt.splitlines() if line[17:26] == "ASP B   1"]
    kinds = [(line[12:16].strip(), line[77:79].strip()) for line in lines]
    assert [kinds[row - 1][0] for row, one in enumerate(kinds) if one[1] == "HD"] == ["N", "OD1"]
    assert "1 of 18 residues keep the hydrogens of the file" in site.prepared.notes
    row = [label[:1] + label[3:] for label in site.receptor.labels].index(("B", "OD1"))
    assert site.receptor.types[row] == type_number("oxygen, donor and acceptor")
    assert site.prepared.places.shape == site.receptor.places.shape


def test_a_box_that_misses_and_files_that_are_not_there_are_told(files, tmp_path):
    with pytest.raises(UserError, match="misses the receptor: no atom is inside"):
        api.dock(
            files / "protein.pdb", files / "ligand.sdf", output=tmp_path / "a",
            center=(90, 90, 90), **QUICK,
        )  # fmt: skip
    with pytest.raises(UserError, match=r"nowhere\.sdf"):
        api.dock(files / "protein.pdb", "nowhere.sdf", output=tmp_path / "b", pocket=True)
    zinc = "HETATM    1 ZN    ZN A   1       0.000   0.000   0.000  1.00  0.00          ZN\nEND\n"
    (tmp_path / "zinc.pdb").write_text(zinc)
    with pytest.raises(UserError, match="must hold a protein"):
        api.dock(
            tmp_path / "zinc.pdb", files / "ligand.sdf", output=tmp_path / "c", center=(0, 0, 0)
        )


def test_a_request_knows_the_file_of_ones_own_network_by_its_content(files, tmp_path):
    (tmp_path / "a.py").write_text("class Net: ...\n")
    (tmp_path / "run").mkdir()
    for name in ("model.safetensors", "preprocess.json", "result.json"):
        (tmp_path / "run" / name).write_text("")
    request = DockRequest(
        str(files / "protein.pdb"), str(files / "ligand.sdf"), pocket=True,
        scorer=str(tmp_path / "run"), model=f"{tmp_path / 'a.py'}:Net",
    )  # fmt: skip
    before = request.to_json()
    assert request.model in before["sha256"]
    (tmp_path / "a.py").write_text("class Net: pass\n")
    assert request.to_json()["sha256"] != before["sha256"]


@pytest.mark.slow
def test_several_processes_give_what_one_gives(files, tmp_path):
    smiles = Chem.MolToSmiles(Chem.RemoveHs(small_ligand()))
    (tmp_path / "three.smi").write_text(f"{smiles} a\nCCO b\nc1ccccc1O c\n")
    one, two = (
        api.dock(
            files / "protein.pdb", tmp_path / "three.smi", output=tmp_path / str(n),
            center=(0, 0, 0), processes=n, **QUICK,
        )
        for n in (1, 2)
    )  # fmt: skip
    assert [ligand.name for ligand in one.ligands] == ["a", "b", "c"]
    assert [ligand.poses for ligand in one.ligands] == [ligand.poses for ligand in two.ligands]
