"""Folders of complexes, made of the small protein and ligand of the docking tests."""

import numpy as np
import pytest

for needed in ("rdkit", "gemmi"):
    pytest.importorskip(needed, reason=f"needs {needed}: pip install 'hubel[docking]'")

from docking_example import small_ligand, small_receptor  # noqa: E402
from rdkit import Chem  # noqa: E402
from rdkit.Geometry import Point3D  # noqa: E402

from hubel.config import FitConfig  # noqa: E402
from hubel.data.prepare import open_configured  # noqa: E402
from hubel.data.source import open_source  # noqa: E402
from hubel.errors import UserError  # noqa: E402
from hubel.molecules.sequences import alike_receptors  # noqa: E402


def moved(by, **properties):
    molecule = Chem.Mol(small_ligand())
    conformer = molecule.GetConformer()
    for i, (x, y, z) in enumerate(conformer.GetPositions().tolist()):
        conformer.SetAtomPosition(i, Point3D(x + by, y, z))
    for name, value in properties.items():
        molecule.SetProp(name, str(value))
    return molecule


def write_complex(folder, poses, crystal=True):
    folder.mkdir(parents=True)
    (folder / "protein.pdb").write_text(small_receptor().make_pdb_string())
    with Chem.SDWriter(str(folder / "poses.sdf")) as writer:
        for pose in poses:
            writer.write(pose)
    if crystal:
        Chem.MolToMolFile(small_ligand(), str(folder / "crystal.sdf"))


def test_rmsds_are_said_or_computed(tmp_path):
    write_complex(tmp_path / "a", [moved(0.5, vina_kcal_mol=-7.5), moved(3.0), moved(6.0)])
    said = [moved(9.0, rmsd=1.0, docking_score=-3, affinity=6.5), moved(0.0, rmsd=7.0)]
    write_complex(tmp_path / "b", said, crystal=False)
    source = open_source(tmp_path)
    assert source.info.format == "complexes"
    np.testing.assert_allclose(source.poses.rmsd, [0.5, 3.0, 6.0, 1.0, 7.0], atol=1e-3)
    np.testing.assert_array_equal(source.targets, [1, 0, 0, 1, 0])
    np.testing.assert_array_equal(
        source.poses.docking_score, np.float32([-7.5, np.nan, np.nan, -3, np.nan])
    )
    np.testing.assert_array_equal(source.poses.affinity[3:], np.float32([6.5, np.nan]))
    assert list(source.groups) == ["a"] * 3 + ["b"] * 2
    assert source.ids[4] == "b/00002"
    assert "1 of 5 poses lie 2 to 4 Å off and count as bad" in source.notes
    assert source[0].input.shape == (48, 48, 48, 28)


def test_without_rmsd_and_crystal_there_is_nothing_to_learn(tmp_path):
    write_complex(tmp_path / "a", [moved(0.5)], crystal=False)
    with pytest.raises(UserError, match="does not say the RMSD of every pose"):
        open_source(tmp_path)


def test_broken_entries_are_passed_over_and_named(tmp_path):
    write_complex(tmp_path / "a", [moved(0.5), moved(6.0)])
    path = tmp_path / "a" / "poses.sdf"
    path.write_text("broken\n\n\nnonsense\n$$$$\n" + path.read_text())
    source = open_source(tmp_path)
    assert source.ids == ["a/00002", "a/00003"]
    assert any("entry 1 of 'poses.sdf' was skipped" in note for note in source.notes)


def test_a_folder_without_complexes_is_none(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "protein.pdb").write_text("")
    with pytest.raises(UserError, match="has no folder with a protein"):
        open_source(tmp_path, "complexes")


def test_receptors_of_one_sequence_are_one_protein_on_request(tmp_path):
    for name in ("a", "b", "c", "d", "e", "f"):
        write_complex(tmp_path / name, [moved(0.5), moved(6.0)])
    other = small_receptor().clone()
    for chain in other[0]:
        for residue in chain:
            residue.name = "GLY"
    for name in ("d", "e", "f"):
        (tmp_path / name / "protein.pdb").write_text(other.make_pdb_string())
    source, _ = open_configured(FitConfig(data=str(tmp_path), same_protein=0.8), None)
    assert list(source.groups) == ["0"] * 6 + ["1"] * 6
    assert "6 receptors are 2 proteins at 80% of identical residues" in source.notes
    source, _ = open_configured(FitConfig(data=str(tmp_path)), None)
    assert len(set(source.groups)) == 6
    with pytest.raises(UserError, match="--same-protein compares sequences of receptors"):
        open_configured(FitConfig(data="shapes:20", same_protein=0.5), None)


def test_proteins_are_told_apart_by_the_shorter_chain():
    chain = tuple("ALA GLY SER LEU LYS ASP".split() * 10)
    half = chain[:30]
    other = tuple("TRP HIS TYR PHE".split() * 10)
    mutant = ("TRP", *chain[1:])
    found = alike_receptors([(chain,), (other,), (half, other), (mutant,)], 0.9)
    assert found[0] == found[3]  # 59 of 60 residues
    assert found[0] == found[2] == found[1]  # the third has both
    assert len(set(alike_receptors([(chain,), (other,), (mutant,)], 0.99).tolist())) == 3
