import sys

import numpy as np
import pytest

for needed in ("rdkit", "gemmi", "vina", "meeko"):
    pytest.importorskip(needed, reason=f"docking needs {needed}: pip install 'hubel[docking]'")

from docking_example import small_ligand, small_receptor  # noqa: E402
from rdkit import Chem  # noqa: E402
from rdkit.Chem import AllChem  # noqa: E402

from hubel.docking.box import box_at  # noqa: E402
from hubel.docking.generate import VinaSearch  # noqa: E402
from hubel.docking.ligand import prepare_ligand  # noqa: E402
from hubel.docking.receptor import prepare_receptor  # noqa: E402
from hubel.errors import UserError  # noqa: E402
from hubel.molecules.extra import extra  # noqa: E402


@pytest.fixture(scope="module")
def receptor():
    return prepare_receptor(small_receptor())


@pytest.fixture(scope="module")
def box(receptor):
    return box_at((0, 0, 0), receptor, (14, 14, 14))


@pytest.fixture(scope="module")
def search(receptor, box):
    return VinaSearch(receptor, box, seed=1)


@pytest.fixture(scope="module")
def poses(search):
    return search.dock(prepare_ligand(small_ligand()), exhaustiveness=1, num_poses=4)


def _coordinates(molecule):
    return np.stack([c.GetPositions() for c in molecule.GetConformers()])


def _embedded(smiles, seed=5):
    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert AllChem.EmbedMolecule(molecule, randomSeed=seed) == 0
    return molecule


def test_poses_are_the_ligand_at_other_places(poses):
    ligand = small_ligand()
    assert 1 <= len(poses) <= 4
    assert len(poses) == poses.molecule.GetNumConformers()
    assert (np.diff(poses.affinities) >= 0).all()
    assert poses.affinities[0] < -3
    assert Chem.MolToSmiles(poses.molecule) == Chem.MolToSmiles(ligand)
    assert [a.GetSymbol() for a in poses.molecule.GetAtoms()] == [
        a.GetSymbol() for a in ligand.GetAtoms()
    ]
    # Bonds and angles, those of hydrogens on carbon too, are what they were.
    steps = Chem.GetDistanceMatrix(ligand)
    stiff = (steps == 1) | (steps == 2)
    before = ligand.GetConformer().GetPositions()
    old = np.linalg.norm(before[:, None] - before[None], axis=-1)[stiff]
    for places in _coordinates(poses.molecule):
        new = np.linalg.norm(places[:, None] - places[None], axis=-1)[stiff]
        np.testing.assert_allclose(new, old, atol=0.01)
        assert np.abs(places).max() < 9


def test_a_seed_makes_the_same_poses_on_any_number_of_threads(receptor, box, search, poses):
    ligand = prepare_ligand(small_ligand())
    again = search.dock(ligand, exhaustiveness=1, num_poses=4)
    np.testing.assert_array_equal(_coordinates(again.molecule), _coordinates(poses.molecule))
    two = search.dock(ligand, exhaustiveness=2, num_poses=4)
    threads = VinaSearch(receptor, box, seed=1, cpu=2).dock(ligand, exhaustiveness=2, num_poses=4)
    np.testing.assert_array_equal(_coordinates(threads.molecule), _coordinates(two.molecule))
    np.testing.assert_array_equal(threads.affinities, two.affinities)
    other = VinaSearch(receptor, box, seed=2).dock(ligand, exhaustiveness=1, num_poses=4)
    assert not np.array_equal(_coordinates(other.molecule)[0], _coordinates(poses.molecule)[0])


def test_scores_of_poses_are_those_of_the_search(search, poses):
    np.testing.assert_allclose(search.score(poses.molecule), poses.affinities, atol=0.02)


def test_minimising_lowers_the_score(search, poses):
    shifted = Chem.Mol(poses.molecule)
    for conformer in shifted.GetConformers():
        places = conformer.GetPositions()
        inwards = -0.4 * places.mean(0) / np.linalg.norm(places.mean(0))
        for atom, place in enumerate(places + inwards):
            conformer.SetAtomPosition(atom, place.tolist())
    before = search.score(shifted)
    lowered = search.minimise(shifted)
    assert (lowered.affinities <= before).all()
    assert lowered.affinities[0] < before[0] - 0.1
    np.testing.assert_allclose(search.score(lowered.molecule), lowered.affinities, atol=0.02)


def test_vina_is_silent(receptor, box, capfd):
    search = VinaSearch(receptor, box)
    found = search.dock(prepare_ligand(small_ligand()), exhaustiveness=1, num_poses=1)
    search.minimise(found.molecule)
    assert capfd.readouterr().out == ""


def test_wrong_numbers_are_refused(receptor, box, search, poses):
    ligand = prepare_ligand(small_ligand())
    with pytest.raises(UserError, match="seed must be from 1 to 2147483647, got 0"):
        VinaSearch(receptor, box, seed=0)
    with pytest.raises(UserError, match="Vina needs at least 1 thread, got 0"):
        VinaSearch(receptor, box, cpu=0)
    with pytest.raises(UserError, match="must be at least 1, got 0 and 9"):
        search.dock(ligand, exhaustiveness=0)
    outside = Chem.Mol(poses.molecule)
    conformer = outside.GetConformer()
    for atom, place in enumerate(conformer.GetPositions()):
        conformer.SetAtomPosition(atom, (place + np.array([30, 0, 0])).tolist())
    with pytest.raises(
        UserError, match=r"pose 0 of the ligand reaches \d\d\.\d\d Å out of the box"
    ):
        search.score(outside)
    with pytest.raises(UserError, match="the poses have no coordinates"):
        search.score(Chem.MolFromSmiles("C"))


SMILES = [
    "C",
    "CC#N",
    "C[C@H](N)C(=O)O",
    "FC(F)(F)c1ccccc1[Se]C",
    "OB(O)c1ccccc1",
    "O=C1CCCCCCCCCCCCCCN1",
    "C/C=C/C[NH3+]",
    "C1CC2CCC1CC2",
]


@pytest.mark.parametrize("smiles", SMILES)
def test_a_ligand_comes_back_from_its_pdbqt(smiles):
    """Moved as a whole in the PDBQT, all atoms move, those that it lacks too."""
    molecule = _embedded(smiles)
    prepared = prepare_ligand(molecule)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    lines = []
    for line in prepared.pdbqt.splitlines():
        if line.startswith("ATOM"):
            place = turn @ [float(line[i : i + 8]) for i in (30, 38, 46)] + 3
            line = line[:30] + "".join(f"{value:8.3f}" for value in place) + line[54:]
        lines.append(line)
    back = prepared.poses("\n".join(lines), np.zeros(1)).molecule
    expected = molecule.GetConformer().GetPositions() @ turn.T + 3
    found = back.GetConformer().GetPositions()
    # Nothing says how far a lone atom or a line of atoms is turned about itself.
    known = [
        a.GetIdx() for a in back.GetAtoms() if smiles not in ("C", "CC#N") or a.GetAtomicNum() > 1
    ]
    np.testing.assert_allclose(found[known], expected[known], atol=0.006)
    between = np.linalg.norm(found[:, None] - found[None], axis=-1)
    wanted = np.linalg.norm(expected[:, None] - expected[None], axis=-1)
    np.testing.assert_allclose(between, wanted, atol=0.01)
    assert Chem.MolToSmiles(back) == Chem.MolToSmiles(molecule)
    assert Chem.FindMolChiralCenters(back) == Chem.FindMolChiralCenters(molecule)


def test_boron_is_taken_as_carbon_and_told():
    prepared = prepare_ligand(_embedded("OB(O)c1ccccc1"))
    assert prepared.notes == ("1 B, which Vina has no type for, taken as carbon",)
    assert " B \n" not in prepared.pdbqt + "\n"
    assert prepare_ligand(small_ligand()).notes == ()
    assert prepare_ligand(small_ligand()).num_rotors == 2


def test_ligands_that_cannot_be_docked_are_refused():
    flat = Chem.AddHs(Chem.MolFromSmiles("CCO"))
    with pytest.raises(UserError, match="without a name has no three-dimensional coordinates"):
        prepare_ligand(flat)
    bare = Chem.RemoveHs(small_ligand())
    with pytest.raises(UserError, match="'hydroxybenzamide' lacks 7 hydrogens, which decide"):
        prepare_ligand(bare)
    with pytest.raises(UserError, match=r"is 2 molecules \(8 \+ 1 atoms\), and one is docked at"):
        prepare_ligand(_embedded("C[NH3+].[Cl-]"))
    with pytest.raises(UserError, match="the ligand without a name has no atoms"):
        prepare_ligand(Chem.Mol())
    with pytest.raises(
        UserError, match="has Te, which AutoDock Vina has no atom type for; dock it"
    ):
        prepare_ligand(_embedded("C[Te]C"))


def test_a_missing_package_gives_the_line_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "vina", None)
    with pytest.raises(
        UserError,
        match=r"docking needs vina, which is not installed: pip install 'hubel\[docking\]'",
    ):
        extra("vina", "docking")
