import numpy as np
import pytest

pytest.importorskip("rdkit", reason="docking needs rdkit: pip install 'hubel[docking]'")

from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem
from rdkit.Chem import AllChem, rdMolAlign

from hubel.errors import UserError
from hubel.molecules.rmsd import pose_rmsd

SYMMETRIC = [
    "c1ccccc1C(=O)[O-]",
    "FC(F)(F)c1ccc(C(C)(C)C)cc1",
    "OP(=O)(O)OCC(N)=[NH2+]",
    "CC(C)CN(CC(C)C)S(=O)(=O)c1ccc(N)cc1",
    "C1CCCCC1",
    "FS(F)(F)(F)(F)F",
    "FC(F)(F)CC(Cl)(Cl)Cl",
    "CC#N",
    "O",
    "c1ccc(-c2ccccc2)cc1",
]


def _embedded(smiles, poses=2):
    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    if len(AllChem.EmbedMultipleConfs(molecule, poses, randomSeed=4)) != poses:
        random = np.random.default_rng(1)
        for _ in range(poses - molecule.GetNumConformers()):
            conformer = Chem.Conformer(molecule.GetNumAtoms())
            for atom in range(molecule.GetNumAtoms()):
                conformer.SetAtomPosition(atom, (3 * random.normal(size=3)).tolist())
            molecule.AddConformer(conformer, assignId=True)
    return molecule


def _graph(molecule):
    """Elements, adjacency of the heavy atoms: what spyrmsd reads."""
    heavy = Chem.RemoveAllHs(molecule, sanitize=False)
    numbers = np.array([a.GetAtomicNum() for a in heavy.GetAtoms()])
    return heavy, numbers, Chem.GetAdjacencyMatrix(heavy)


@pytest.mark.parametrize("smiles", SYMMETRIC)
def test_equal_to_spyrmsd(smiles):
    spyrmsd = pytest.importorskip("spyrmsd.rmsd")
    molecule = _embedded(smiles, 3)
    heavy, numbers, adjacency = _graph(molecule)
    coordinates = [c.GetPositions() for c in heavy.GetConformers()]
    reference = Chem.Mol(molecule, confId=molecule.GetConformers()[0].GetId())
    if len(numbers) == 1:
        expected = [np.linalg.norm(coordinates[0] - c) for c in coordinates]
    else:
        expected = spyrmsd.symmrmsd(
            coordinates[0], coordinates, numbers, numbers, adjacency, adjacency, center=False
        )
    found = pose_rmsd(molecule, reference)
    assert found.exact
    np.testing.assert_allclose(found.rmsd, expected, atol=1e-9)


@pytest.mark.parametrize("smiles", ["c1ccccc1C(=O)[O-]", "CC(C)CN(CC(C)C)S(=O)(=O)c1ccc(N)cc1"])
def test_equal_to_rdkit(smiles):
    molecule = Chem.RemoveHs(_embedded(smiles))
    first, second = (Chem.Mol(molecule, confId=i) for i in (0, 1))
    expected = rdMolAlign.CalcRMS(Chem.Mol(second), first)
    assert pose_rmsd(second, first).rmsd == pytest.approx([expected], abs=1e-9)


@settings(max_examples=15, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from(SYMMETRIC[:4]))
def test_the_order_of_atoms_and_hydrogens_do_not_matter(random, smiles):
    molecule = _embedded(smiles)
    order = list(range(molecule.GetNumAtoms()))
    random.shuffle(order)
    first, second = (Chem.Mol(molecule, confId=i) for i in (0, 1))
    expected = pose_rmsd(second, first).rmsd
    shuffled = Chem.RenumberAtoms(second, order)
    np.testing.assert_allclose(pose_rmsd(shuffled, Chem.RemoveHs(first)).rmsd, expected)
    same = Chem.RenumberAtoms(first, order)
    np.testing.assert_allclose(pose_rmsd(same, first).rmsd, 0, atol=1e-9)


def test_nothing_is_superposed():
    molecule = _embedded("CCO", 1)
    moved = Chem.Mol(molecule)
    for atom, place in enumerate(molecule.GetConformer().GetPositions()):
        moved.GetConformer().SetAtomPosition(atom, (place + np.array([3.0, 0, 4.0])).tolist())
    assert pose_rmsd(moved, molecule).rmsd == pytest.approx([5.0])


def test_too_many_symmetries_end_in_an_upper_bound():
    # Each of four phenyls turns, and all change places: 2^4 · 4! ways.
    molecule = _embedded("c1ccccc1C(c1ccccc1)(c1ccccc1)c1ccccc1")
    first, second = (Chem.Mol(molecule, confId=i) for i in (0, 1))
    exact, bounded = pose_rmsd(second, first), pose_rmsd(second, first, most=10)
    assert exact.exact
    assert not bounded.exact
    assert bounded.rmsd[0] >= exact.rmsd[0]


@pytest.mark.parametrize("other", ["CCN", "COC", "CCCO", "CC=O.O"])
def test_another_molecule_is_refused(other):
    with pytest.raises(
        UserError, match="the crystal ligand is not the molecule that was docked: C"
    ):
        pose_rmsd(_embedded("CCO", 1), _embedded(other, 1))
