"""Ligands and receptors out of files: whole ones, broken ones, and what is said of them."""

import csv
import gzip
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from hubel.errors import UserError
from hubel.molecules.channels import ATOM_TYPES
from hubel.molecules.ligands import embedded, ligand_of_smiles, read_ligands, with_places
from hubel.molecules.receptors import read_receptor, write_receptor
from hubel.molecules.residue_types import RESIDUE_TYPES

Chem = pytest.importorskip("rdkit.Chem")
AllChem = pytest.importorskip("rdkit.Chem.AllChem")
pytest.importorskip("gemmi")


def names(types):
    return [ATOM_TYPES[number].name for number in types]


def block(smiles="CCO", name="ethanol", hydrogens=True):
    mol = ligand_of_smiles(smiles, name).mol
    mol.SetProp("_Name", name)
    return Chem.MolToMolBlock(mol if hydrogens else Chem.RemoveHs(mol))


@pytest.fixture(scope="module")
def ethanol():
    return block()


@pytest.fixture(scope="module")
def peptide():
    """A PDB file of every amino acid once, with hydrogens."""
    mol = Chem.MolFromSequence("ARNDCQEGHILKMFPSTWYV")
    AllChem.Compute2DCoords(mol)  # names and hydrogens settle the types, and this is quick
    mol = Chem.AddHs(mol, addCoords=True, addResidueInfo=True)
    return Chem.MolToPDBBlock(mol, flavor=2 | 4).replace("HETATM", "ATOM  ")


def lines_of(text, without_hydrogens=True):
    return [
        line
        for line in text.splitlines()
        if line.startswith("ATOM") and not (without_hydrogens and line[76:78].strip() == "H")
    ]


def atom_line(serial, name, residue, number, place=(0, 0, 0), element="C", altloc=" ", occ=1.0,
              chain="A"):  # fmt: skip
    x, y, z = place
    return (
        f"HETATM{serial:5d} {name:<4s}{altloc}{residue:>3s} {chain}{number:4d}    "
        f"{x:8.3f}{y:8.3f}{z:8.3f}{occ:6.2f} 10.00          {element:>2s}"
    )


def glycine(number=1):
    """Five lines of one residue."""
    places = {"N": (0, 0, 0), "CA": (1.46, 0, 0), "C": (2.0, 1.42, 0), "O": (1.2, 2.3, 0)}
    return [
        atom_line(row, f" {name}", "GLY", number, place, name[0])
        for row, (name, place) in enumerate(places.items(), 1)
    ]


def written(path, text):
    path.write_text(text if isinstance(text, str) else "\n".join(text) + "\n")
    return path


# ligands


def test_a_ligand_has_places_and_types_of_its_heavy_atoms(tmp_path, ethanol):
    ligands = read_ligands(written(tmp_path / "a.sdf", ethanol))
    (ligand,) = ligands
    assert (ligand.name, ligand.entry, ligand.notes) == ("ethanol", 1, ())
    assert (ligands.problems, ligands.notes) == ((), ())
    assert names(ligand.types) == [
        "aliphatic carbon, hydrophobic",
        "aliphatic carbon, polar",
        "oxygen, donor and acceptor",
    ]
    assert (ligand.places.dtype, ligand.types.dtype) == (np.float32, np.int64)
    everything = ligand.mol.GetConformer().GetPositions()
    np.testing.assert_allclose(ligand.places, everything[ligand.heavy], atol=1e-6)


def test_hydrogens_that_a_file_leaves_out_are_set(tmp_path, ethanol):
    whole = read_ligands(written(tmp_path / "a.sdf", ethanol))[0]
    bare = read_ligands(written(tmp_path / "b.sdf", block(hydrogens=False)))[0]
    assert bare.mol.GetNumAtoms() == whole.mol.GetNumAtoms() == 9
    np.testing.assert_array_equal(bare.types, whole.types)
    np.testing.assert_allclose(bare.places, whole.places, atol=1e-3)
    (oxygen,) = (atom for atom in bare.mol.GetAtoms() if atom.GetAtomicNum() == 8)
    hydrogen = max(neighbour.GetIdx() for neighbour in oxygen.GetNeighbors())
    places = bare.mol.GetConformer().GetPositions()
    assert 0.9 < np.linalg.norm(places[hydrogen] - places[oxygen.GetIdx()]) < 1.05


def test_broken_entries_are_skipped_and_listed(tmp_path, ethanol, capfd):
    cut = "\n".join(ethanol.splitlines()[:6]) + "\n"
    pentavalent = block("CC(C)C", "five").replace("  1  2  1", "  1  2  3")
    flat = Chem.MolFromSmiles("CCCCO")
    flat.SetProp("_Name", "flat")
    AllChem.Compute2DCoords(flat)
    nowhere = Chem.MolFromSmiles("CCCCN")
    nowhere.AddConformer(Chem.Conformer(5))
    nowhere.SetProp("_Name", "nowhere")
    records = [
        ethanol,
        cut.replace("ethanol", "cut"),
        pentavalent,
        Chem.MolToMolBlock(flat),
        Chem.MolToMolBlock(nowhere),
        "rubbish\n\n\nnot a count\nM  END\n",
        ethanol.replace(" O  ", " R# ").replace("ethanol", "group"),
        ethanol,
    ]
    file = written(tmp_path / "a.sdf", "$$$$\n".join(records) + "$$$$\n")
    ligands = read_ligands(file)
    assert [ligand.entry for ligand in ligands] == [1, 8]
    listed = [(problem.entry, problem.name) for problem in ligands.problems]
    assert listed == [
        (2, "cut"), (3, "five"), (4, "flat"), (5, "nowhere"), (6, "rubbish"), (7, "group"),
    ]  # fmt: skip
    reasons = [problem.reason for problem in ligands.problems]
    assert reasons[0].startswith("is cut off: it counts 9 atoms and 8 bonds")
    assert "Explicit valence" in reasons[1]
    assert reasons[2] == "has only 2-D coordinates: all z are zero"
    assert reasons[3] == "has no coordinates: all are zero"
    assert "its fourth line must count atoms and bonds, not 'not a count'" in reasons[4]
    assert "without an element" in reasons[5]
    assert ligands.notes == ("entries skipped: 6 of 8, the first: entry 2 'cut' " + reasons[0],)
    assert capfd.readouterr().err == ""


def test_a_flat_molecule_whose_header_says_3d_is_taken(tmp_path):
    mol = Chem.MolFromSmiles("c1ccccc1")
    AllChem.Compute2DCoords(mol)
    text = Chem.MolToMolBlock(mol)
    with pytest.raises(UserError, match="has only 2-D coordinates"):
        read_ligands(written(tmp_path / "a.sdf", text))
    assert len(read_ligands(written(tmp_path / "b.sdf", text.replace("2D", "3D")))) == 1


def test_thousands_of_entries_with_a_broken_one(tmp_path, ethanol):
    records = [ethanol] * 2000
    records[1234] = "x\n\n\nbroken\n"
    ligands = read_ligands(written(tmp_path / "a.sdf", "$$$$\n".join(records)))
    assert len(ligands) == 1999
    assert [problem.entry for problem in ligands.problems] == [1235]


def test_unknown_elements_are_generic_and_said(tmp_path):
    ligands = read_ligands(written(tmp_path / "a.sdf", block("C[Si](C)(C)C", "tms")))
    assert names(ligands[0].types)[1] == "other metal"
    assert ligands[0].notes == (
        "elements without a type are typed as 'other metal', the generic: Si (1)",
    )
    assert ligands.notes == (
        "entries of which it is said: 1, elements without a type are typed as 'other metal',"
        " the generic",
    )


def test_of_a_salt_the_largest_piece_is_kept(tmp_path):
    ligand = read_ligands(written(tmp_path / "a.smi", "CCC(=O)[O-].[Na+] salt\n"))[0]
    assert len(ligand.heavy) == 5
    assert ligand.notes == ("of its pieces the largest was kept, left out: 1 × [Na+]",)


@pytest.mark.parametrize("ending", [".sdf.gz", ".SDF.GZ"])
def test_gzipped_files(tmp_path, ethanol, ending):
    file = tmp_path / f"a{ending}"
    file.write_bytes(gzip.compress(ethanol.encode()))
    assert len(read_ligands(file)) == 1
    file.write_bytes(gzip.compress(ethanol.encode())[:60])
    with pytest.raises(UserError, match="cannot be unpacked"):
        read_ligands(file)
    file.write_text("no gzip")
    with pytest.raises(UserError, match="cannot be unpacked"):
        read_ligands(file)


MOL2 = """@<TRIPOS>MOLECULE
water-ish
3 2 0 0 0
SMALL
NO_CHARGES

@<TRIPOS>ATOM
1 C1 0.0 0.0 0.0 C.3 1 LIG 0.0
2 C2 1.5 0.0 0.2 C.2 1 LIG 0.0
3 O1 2.2 1.0 0.0 O.2 1 LIG 0.0
@<TRIPOS>BOND
1 1 2 1
2 2 3 2
"""


def test_mol2_files_of_several(tmp_path):
    broken = MOL2.replace("3 2 0 0 0", "9 2 0 0 0").replace("water-ish", "short")
    ligands = read_ligands(written(tmp_path / "a.mol2", MOL2 + broken + MOL2))
    assert [ligand.entry for ligand in ligands] == [1, 3]
    assert [problem.name for problem in ligands.problems] == ["short"]
    assert names(ligands[0].types)[2] == "oxygen, acceptor"


def test_a_pdb_file_says_no_bond_orders(tmp_path):
    mol = ligand_of_smiles("Oc1ccccc1").mol
    whole = written(tmp_path / "whole.pdb", Chem.MolToPDBBlock(mol, flavor=8))
    assert names(read_ligands(whole)[0].types).count("aromatic carbon, hydrophobic") == 5
    bare = written(tmp_path / "bare.pdb", Chem.MolToPDBBlock(Chem.RemoveHs(mol), flavor=8))
    with pytest.raises(UserError, match=r"has no bond orders.*give the ligand as SDF"):
        read_ligands(bare)
    told = read_ligands(bare, smiles="c1ccccc1O")[0]
    assert names(told.types).count("aromatic carbon, hydrophobic") == 5
    with pytest.raises(UserError, match="is another molecule than 'CCO'"):
        read_ligands(bare, smiles="CCO")
    with pytest.raises(UserError, match="is none"):
        read_ligands(written(tmp_path / "a.smi", "CCO"), smiles="CCO")


def test_smiles_files_have_no_places_until_they_are_embedded(tmp_path):
    file = written(tmp_path / "a.smi", "CCO ethyl alcohol\n\n# a remark\nC1CC\nCC(N)C(F)Cl\n")
    ligands = read_ligands(file)
    assert [ligand.name for ligand in ligands] == ["ethyl alcohol", "a-3"]
    assert [problem.reason for problem in ligands.problems] == ["is no SMILES: 'C1CC'"]
    assert ligands[0].places is None
    made = embedded(ligands[0], seed=3)
    assert made.places.shape == (3, 3)
    np.testing.assert_array_equal(made.places, embedded(ligands[0], seed=3).places)
    assert np.abs(made.places - embedded(ligands[0], seed=4).places).max() > 0.01
    assert embedded(ligands[1]).notes == ("2 stereocentres are left open: one form was drawn",)


def test_an_embedded_ligand_keeps_its_aromaticity():
    ligand = ligand_of_smiles("Cn1ccc(=O)[nH]c1=O")  # MMFF knows it as no aromatic ring
    assert sum(atom.GetIsAromatic() for atom in ligand.mol.GetAtoms()) == 6
    assert 1.1 < np.linalg.norm(ligand.places[0] - ligand.places[1]) < 1.6


def test_smiles_that_cannot_be():
    with pytest.raises(UserError, match="'C1CC' is no SMILES"):
        ligand_of_smiles("C1CC")
    with pytest.raises(UserError, match="is no molecule that chemistry allows: Explicit valence"):
        ligand_of_smiles("CC(C)(C)(C)C")
    with pytest.raises(UserError, match="no conformer was found for ligand 'knot'"):
        ligand_of_smiles("C1#CC1", "knot")


def test_another_pose_takes_the_hydrogens_along(tmp_path):
    ligand = ligand_of_smiles("CC(O)N")
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    moved = with_places(ligand, ligand.places @ turn.T + [5, 6, 7])
    np.testing.assert_allclose(moved.places, ligand.places @ turn.T + [5, 6, 7], atol=1e-5)
    np.testing.assert_allclose(
        moved.mol.GetConformer().GetPositions()[moved.heavy], moved.places, atol=1e-4
    )
    for bond in moved.mol.GetBonds():
        ends = [bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()]
        before, after = (
            np.linalg.norm(np.subtract(*one.mol.GetConformer().GetPositions()[ends]))
            for one in (ligand, moved)
        )
        assert after == pytest.approx(before, abs=0.1)
    assert ligand.places[0, 0] == np.float32(ligand.mol.GetConformer().GetPositions()[0, 0])
    with pytest.raises(ValueError, match=r"must be finite and \(4, 3\), not \(3, 3\)"):
        with_places(ligand, np.zeros((3, 3)))


@pytest.mark.parametrize("read", [read_ligands, read_receptor])
def test_endings_and_files_that_are_none(tmp_path, read):
    with pytest.raises(UserError, match=r"must end in one of \..*each also with \.gz"):
        read(written(tmp_path / "a.docx", "x"))
    with pytest.raises(UserError, match="is no file"):
        read(tmp_path / "none.pdb")


@pytest.mark.parametrize("ending", [".sdf", ".mol2", ".pdb", ".smi"])
def test_empty_files_of_ligands(tmp_path, ending):
    with pytest.raises(UserError, match="is empty: it must hold at least one molecule"):
        read_ligands(written(tmp_path / f"a{ending}", ""))


@pytest.mark.parametrize(
    ("module", "read", "file"),
    [("rdkit", read_ligands, "a.sdf"), ("gemmi", read_receptor, "a.pdb")],
)
def test_missing_extras_say_how_to_install_them(tmp_path, monkeypatch, module, read, file):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=r"not installed: pip install 'hubel\[docking\]'"):
        read(written(tmp_path / file, "x"))


# receptors


def test_hydrogens_where_names_say_do_not_change_the_types(tmp_path, peptide):
    """rdkit's peptide is neutral: only its lysine is another than the tables'."""
    whole = read_receptor(written(tmp_path / "a.pdb", lines_of(peptide, False)))
    bare = read_receptor(written(tmp_path / "b.pdb", lines_of(peptide)))
    assert len(bare.types) == len(lines_of(peptide))
    hydrogens = len(lines_of(peptide, False)) - len(bare.types)
    differ = {whole.labels[row][1::2] for row in np.flatnonzero(whole.types != bare.types)}
    protonated = {
        (residue, atom) for residue, atom in differ if residue not in ("HIS", "ASP", "GLU")
    }
    assert protonated == {("LYS", "NZ")}
    np.testing.assert_array_equal(whole.places, bare.places)
    assert whole.labels == bare.labels
    assert bare.notes == ()
    assert bare.with_hydrogens is bare.structure
    assert whole.with_hydrogens[0].count_atom_sites() == len(bare.types) + hydrogens
    first, second = whole.notes
    assert first == f"hydrogens in the file: {hydrogens}, they say who the donors are"
    assert second.startswith("residues whose own hydrogens give them another type than their name")
    assert "LYS A 12" in second
    of = {(label.residue, label.atom): name for label, name in
          zip(bare.labels, names(bare.types), strict=True)}  # fmt: skip
    assert of["TRP", "NE1"] == "nitrogen, donor"
    assert of["TYR", "OH"] == "oxygen, donor and acceptor"
    assert of["PRO", "N"] == "nitrogen"
    assert of["VAL", "OXT"] == "oxygen, donor and acceptor"
    assert "other metal" not in of.values()


SIDE_CHAINS = {
    "HIS": {"ND1": (6, 0, 0), "NE2": (9, 0, 0)},
    "ASP": {"OD1": (6, 0, 0), "OD2": (9, 0, 0)},
    "GLU": {"OE1": (6, 0, 0), "OE2": (9, 0, 0)},
    "LYS": {"NZ": (6, 0, 0)},
    "CYS": {"SG": (6, 0, 0)},
}


def residue_lines(residue, shown, backbone=True, extra=()):
    """A residue whose side chain's polar atoms have as many hydrogens as `shown` says."""
    text = [line.replace("GLY", residue) for line in glycine()]
    atoms = {**SIDE_CHAINS[residue], **({"N": (0, 0, 0)} if backbone else {})}
    hydrogens = {**shown, **({"N": 1} if backbone else {})}
    for name, (x, y, z) in atoms.items():
        if name != "N":
            text.append(atom_line(20, f" {name}", residue, 1, (x, y, z), name[0]))
        length = 1.34 if name == "SG" else 1.0
        for number, turn in enumerate(np.arange(hydrogens.get(name, 0)) * 2 * np.pi / 3):
            place = (x, y + length * np.cos(turn), z + length * np.sin(turn))
            text.append(atom_line(30, f"H{number}{name[:2]}", residue, 1, place, "H"))
    return [*text, *extra]


@pytest.mark.parametrize(
    ("residue", "shown", "types"),
    [
        ("HIS", {"NE2": 1}, ["nitrogen, acceptor", "nitrogen, donor"]),
        ("HIS", {"ND1": 1}, ["nitrogen, donor", "nitrogen, acceptor"]),
        ("HIS", {"ND1": 1, "NE2": 1}, ["nitrogen, donor"] * 2),
        ("HIS", {}, ["nitrogen, acceptor"] * 2),
        ("ASP", {"OD1": 1}, ["oxygen, donor and acceptor", "oxygen, acceptor"]),
        ("ASP", {"OD2": 1}, ["oxygen, acceptor", "oxygen, donor and acceptor"]),
        ("ASP", {}, ["oxygen, acceptor", "oxygen, donor and acceptor"]),  # as published
        ("GLU", {"OE2": 1}, ["oxygen, acceptor", "oxygen, donor and acceptor"]),
        ("GLU", {}, ["oxygen, donor and acceptor", "oxygen, acceptor"]),
        ("LYS", {"NZ": 3}, ["nitrogen, donor"]),
        ("LYS", {"NZ": 2}, ["nitrogen, donor and acceptor"]),
        ("LYS", {}, ["nitrogen, acceptor"]),
        ("CYS", {"SG": 1}, ["sulfur"]),
        ("CYS", {}, ["sulfur, acceptor"]),
    ],
)
def test_amino_acids_that_show_hydrogens_are_typed_by_them(tmp_path, residue, shown, types):
    receptor = read_receptor(written(tmp_path / "a.pdb", residue_lines(residue, shown)))
    side = list(SIDE_CHAINS[residue])
    found = dict(zip([label.atom for label in receptor.labels], names(receptor.types), strict=True))
    assert [found[atom] for atom in side] == types
    usual = names(RESIDUE_TYPES[residue][atom] for atom in side)
    told = any(f"does: 1 ({residue} A 1)" in note for note in receptor.notes)
    assert told == (types != usual)


def test_a_residue_without_hydrogens_keeps_its_table_beside_one_with(tmp_path):
    other = [line.replace("A   1", "B   1") for line in residue_lines("HIS", {}, backbone=False)]
    text = [*residue_lines("HIS", {"NE2": 1}), *other]
    receptor = read_receptor(written(tmp_path / "a.pdb", text))
    found = {label[::3]: name for label, name in
             zip(receptor.labels, names(receptor.types), strict=True)}  # fmt: skip
    assert (found["A", "ND1"], found["B", "ND1"]) == ("nitrogen, acceptor", "nitrogen, donor")


@pytest.mark.parametrize(
    ("element", "name", "expected"),
    [("S", " SG", "sulfur"), ("C", " CX", "sulfur"), ("ZN", "ZN", "sulfur, acceptor")],
)
def test_a_cysteine_without_its_hydrogen_is_charged_unless_it_is_bonded(
    tmp_path, element, name, expected
):
    bonded = atom_line(40, name, "XXX", 7, (8.1, 0, 0), element)
    text = residue_lines("CYS", {}, extra=[bonded])
    receptor = read_receptor(written(tmp_path / "a.pdb", text))
    (row,) = [i for i, label in enumerate(receptor.labels) if label[1::2] == ("CYS", "SG")]
    assert names(receptor.types)[row] == expected


def test_hydrogens_of_a_place_that_is_not_kept_protonate_nothing(tmp_path):
    text = [
        *residue_lines("HIS", {}),
        atom_line(50, "HD1", "HIS", 1, (6, 1, 0), "H", "A", 0.3),
        atom_line(51, "HE2", "HIS", 1, (9, 1, 0), "H", "B", 0.7),
    ]
    receptor = read_receptor(written(tmp_path / "a.pdb", text))
    assert names(receptor.types)[-2:] == ["nitrogen, acceptor", "nitrogen, donor"]
    kept = [atom.name for atom in receptor.with_hydrogens[0][0][0] if atom.is_hydrogen()]
    assert kept == ["H0N", "HE2"]


def test_mmcif_and_pdb_give_the_same(tmp_path, peptide):
    receptor = read_receptor(written(tmp_path / "a.pdb", lines_of(peptide)))
    write_receptor(receptor, tmp_path / "b.cif")
    again = read_receptor(tmp_path / "b.cif")
    np.testing.assert_array_equal(again.types, receptor.types)
    np.testing.assert_allclose(again.places, receptor.places, atol=1e-3)
    packed = tmp_path / "c.cif.gz"
    packed.write_bytes(gzip.compress((tmp_path / "b.cif").read_bytes()))
    third = read_receptor(packed)
    assert (third.name, third.labels) == ("c", again.labels)


def test_waters_metals_cofactors_and_what_is_left_out(tmp_path):
    text = [
        *glycine(),
        atom_line(5, "ZN", "ZN", 2, (9, 9, 9), "ZN"),
        atom_line(6, "CA", "CA", 3, (19, 9, 9), "CA"),
        atom_line(7, " O", "HOH", 4, (20, 0, 0), "O"),
        atom_line(8, " C1", "EOH", 5, (30, 0, 0), "C"),
        atom_line(9, " O1", "EOH", 5, (31.42, 0, 0), "O"),
        atom_line(10, "SI", "UNX", 6, (50, 0, 0), "SI"),
    ]
    file = written(tmp_path / "a.pdb", text)
    receptor = read_receptor(file)
    assert names(receptor.types)[4:] == [
        "zinc", "calcium", "aliphatic carbon, polar", "oxygen, donor and acceptor", "other metal",
    ]  # fmt: skip
    assert receptor.notes == (
        "waters left out: 1",
        "metal ions kept: 2 (ZN A 2, CA A 3)",
        "residues kept that are no standard amino acids: 2, typed by their geometry (EOH A 5 of 2"
        " atoms, UNX A 6 of 1 atoms)",
        "atoms of elements without a type: 1 (Si 1), typed as 'other metal', the generic one",
    )
    assert names(read_receptor(file, keep_waters=True).types)[6] == "oxygen, donor and acceptor"
    fewer = read_receptor(file, without=["EOH", "A 3"])
    assert [label.residue for label in fewer.labels][4:] == ["ZN", "UNX"]
    assert "left out as asked: EOH (1), A 3 (1)" in fewer.notes
    with pytest.raises(UserError, match="holds no residue 'GOL' to leave out"):
        read_receptor(file, without=["GOL"])


def test_the_likeliest_place_is_kept(tmp_path):
    text = [
        *glycine(),
        atom_line(5, " N", "SER", 2, (3.3, 1.5, 0), "N"),
        atom_line(6, " CA", "SER", 2, (4, 2.7, 0), "C", "A", 0.4),
        atom_line(7, " CA", "SER", 2, (4, 2.8, 0), "C", "B", 0.6),
        atom_line(8, " CB", "SER", 2, (4, 2.7, 1.5), "C", "A", 0.4),
        atom_line(8, " OG", "SER", 2, (5, 3.0, 1.5), "O", "B", 0.6),
        atom_line(8, " OG", "SER", 2, (5, 2.9, 1.5), "O", "A", 0.4),
        atom_line(9, " C", "ALA", 3, (7, 0, 0), "C", "A", 0.3),
        atom_line(10, " C", "GLY", 3, (8, 0, 0), "C", "B", 0.7),
    ]
    receptor = read_receptor(written(tmp_path / "a.pdb", text))
    kept = [(label.residue, label.atom) for label in receptor.labels][4:]
    assert kept == [("SER", "N"), ("SER", "CA"), ("SER", "CB"), ("SER", "OG"), ("GLY", "C")]
    np.testing.assert_allclose(receptor.places[[5, 7], 1], [2.8, 3.0], atol=1e-6)
    assert receptor.notes == (
        "residues in several places (altlocs): 2, the likeliest place of each was kept and 3 atoms"
        " left out",
    )


def test_the_first_model_is_kept(tmp_path):
    text = ["MODEL        1", *glycine(), "ENDMDL", "MODEL        2", *glycine(), "ENDMDL"]
    receptor = read_receptor(written(tmp_path / "a.pdb", text))
    assert (len(receptor.types), receptor.notes) == (
        4,
        ("models in the file: 2, the first was kept",),
    )


def test_a_modified_amino_acid_keeps_the_types_of_its_backbone(tmp_path):
    text = [line.replace("GLY", "SEP") for line in glycine()]
    receptor = read_receptor(written(tmp_path / "a.pdb", text))
    assert names(receptor.types) == [
        "nitrogen, donor", "aliphatic carbon, polar", "aliphatic carbon, polar", "oxygen, acceptor",
    ]  # fmt: skip
    assert "SEP A 1 of 4 atoms" in receptor.notes[0]


def test_hydrogens_of_a_cofactor_say_who_its_donors_are(tmp_path):
    text = [
        *glycine(),
        atom_line(8, " C1", "EOH", 5, (30, 0, 0), "C"),
        atom_line(9, " O1", "EOH", 5, (31.42, 0, 0), "O"),
        atom_line(10, " H1", "EOH", 5, (29, 0, 0), "H"),
        atom_line(11, " C1", "EOH", 6, (40, 0, 0), "C"),
        atom_line(12, " O1", "EOH", 6, (41.42, 0, 0), "O"),
    ]
    receptor = read_receptor(written(tmp_path / "a.pdb", text))
    # The first shows one hydrogen, on carbon; the second shows none, so its donor is guessed.
    assert names(receptor.types)[5::2] == ["oxygen, acceptor", "oxygen, donor and acceptor"]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("a.pdb", "", "must be a PDB file with atoms, but it holds none"),
        ("a.pdb", "hello\n", "must be a PDB file with atoms, but it holds none"),
        ("a.cif", "data_x\n", "must be a mmCIF file with atoms, but it holds none"),
        ("a.cif", "", "cannot be read"),
        ("a.cif", "hello", "cannot be read: .*expected block header"),
        ("a.pdb.gz", "no gzip", "must be a PDB file with atoms|cannot be read"),
        (
            "a.pdb",
            [atom_line(1, "ZN", "ZN", 2, (9, 9, 9), "ZN")],
            r"must hold a protein, but none of its 1 residues \(ZN\) is an amino acid",
        ),
        ("a.pdb", [atom_line(1, " O", "HOH", 2, (9, 9, 9), "O")], "must hold a protein"),
    ],
)
def test_files_that_hold_no_receptor(tmp_path, file, text, message):
    with pytest.raises(UserError, match=message):
        read_receptor(written(tmp_path / file, text))


def test_b_factors_are_written_for_each_atom(tmp_path):
    receptor = read_receptor(written(tmp_path / "a.pdb", glycine()))
    for ending in (".pdb", ".cif"):
        write_receptor(receptor, tmp_path / f"b{ending}", [1, 2.5, -3, 0])
        atoms = [atom for chain in read_receptor(tmp_path / f"b{ending}").structure[0]
                 for residue in chain for atom in residue]  # fmt: skip
        assert [atom.b_iso for atom in atoms] == [1, 2.5, -3, 0]
    assert [atom.b_iso for atom in receptor.structure[0][0][0]] == [10] * 4
    with pytest.raises(ValueError, match="one finite number for each of 4 atoms"):
        write_receptor(receptor, tmp_path / "b.pdb", [1, 2])
    with pytest.raises(ValueError, match="must lie from"):
        write_receptor(receptor, tmp_path / "b.pdb", [1, 2, 3, 1000])
    with pytest.raises(UserError, match=r"written as \.pdb or \.cif, not as 'b\.xyz'"):
        write_receptor(receptor, tmp_path / "b.xyz")


@pytest.mark.data
def test_crystal_complexes_are_read_whole():
    if not os.environ.get("HUBEL_DATA"):
        pytest.skip("HUBEL_DATA does not name a folder of real data sets")
    root = Path(os.environ["HUBEL_DATA"]) / "posebusters_complexes"
    with (root / "index.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 160
    for row in rows:
        name = row["id"]
        ligands = read_ligands(root / name / f"{name}_ligand.sdf")
        assert (len(ligands), ligands.problems) == (1, ())
        assert len(ligands[0].heavy) == int(row["ligand_heavy_atoms"])
    for row in rows[::8]:
        receptor = read_receptor(root / row["id"] / f"{row['id']}_protein.pdb.gz")
        assert len(receptor.types) >= int(row["protein_heavy_atoms"])
        assert not any("without a type" in note for note in receptor.notes)


def test_a_receptor_whose_gzip_is_cut_off_is_refused(tmp_path):
    from docking_example import small_receptor

    whole = gzip.compress(small_receptor().make_pdb_string().encode())
    path = tmp_path / "protein.pdb.gz"
    path.write_bytes(whole)
    atoms = len(read_receptor(path).types)
    assert atoms == 150
    for cut in (len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(UserError, match="cannot be read"):
            read_receptor(path)
