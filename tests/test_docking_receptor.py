import os
from pathlib import Path

import numpy as np
import pytest

gemmi = pytest.importorskip("gemmi", reason="docking needs gemmi: pip install 'hubel[docking]'")

from docking_example import small_receptor  # noqa: E402

from hubel.docking.polar_hydrogens import PolarAtom, count_hydrogens, place_hydrogens  # noqa: E402
from hubel.docking.receptor import prepare_receptor  # noqa: E402
from hubel.errors import UserError  # noqa: E402


def _structure(atoms, residue="ALA"):
    """One residue of (name, element, place)."""
    structure, model, chain = gemmi.Structure(), gemmi.Model(1), gemmi.Chain("A")
    group = gemmi.Residue()
    group.name, group.seqid = residue, gemmi.SeqId(1, " ")
    for name, element, place in atoms:
        atom = gemmi.Atom()
        atom.name, atom.element, atom.occ = name, gemmi.Element(element), 1.0
        atom.pos = gemmi.Position(*place)
        group.add_atom(atom)
    chain.add_residue(group)
    model.add_chain(chain)
    structure.add_model(model)
    structure.name = "made"
    return structure


def _types(prepared):
    """(atom, type) of each line."""
    return [
        (line[12:16].strip(), line[77:79].strip())
        for line in prepared.pdbqt.splitlines()
        if line.startswith("ATOM")
    ]


def test_types_and_hydrogens_of_amino_acids():
    prepared = prepare_receptor(small_receptor())
    lines = [line for line in prepared.pdbqt.splitlines() if line.startswith("ATOM")]
    first = [line for line in lines if line[21] == "B"]  # Asp-Ser-Lys
    assert [(line[12:16].strip(), line[17:20], line[77:79].strip()) for line in first] == [
        ("N", "ASP", "N"),
        ("H", "ASP", "HD"),
        ("H", "ASP", "HD"),
        ("H", "ASP", "HD"),
        ("CA", "ASP", "C"),
        ("C", "ASP", "C"),
        ("O", "ASP", "OA"),
        ("CB", "ASP", "C"),
        ("CG", "ASP", "C"),
        ("OD1", "ASP", "OA"),
        ("OD2", "ASP", "OA"),
        ("N", "SER", "N"),
        ("H", "SER", "HD"),
        ("CA", "SER", "C"),
        ("C", "SER", "C"),
        ("O", "SER", "OA"),
        ("CB", "SER", "C"),
        ("OG", "SER", "OA"),
        ("H", "SER", "HD"),
        ("N", "LYS", "N"),
        ("H", "LYS", "HD"),
        ("CA", "LYS", "C"),
        ("C", "LYS", "C"),
        ("O", "LYS", "OA"),
        ("CB", "LYS", "C"),
        ("CG", "LYS", "C"),
        ("CD", "LYS", "C"),
        ("CE", "LYS", "C"),
        ("NZ", "LYS", "N"),
        ("H", "LYS", "HD"),
        ("H", "LYS", "HD"),
        ("H", "LYS", "HD"),
        ("OXT", "LYS", "OA"),
    ]
    assert {line[77:79].strip() for line in lines if line[17:20] == "PHE"} == set(
        "A C N HD OA".split()
    )
    assert prepared.notes == ()
    assert (
        len(prepared.places)
        == len(prepared.elements)
        == sum(len(residue) for chain in small_receptor()[0] for residue in chain)
    )


def _peptide_with_hydrogens(sequence):
    from rdkit import Chem
    from rdkit.Chem import AllChem

    molecule = Chem.AddHs(Chem.MolFromSequence(sequence), addResidueInfo=True)
    AllChem.EmbedMolecule(molecule, randomSeed=1)
    return molecule


@pytest.mark.parametrize("sequence", ["AHKRNQ", "WYSTCM", "GPDEVF"])
@pytest.mark.parametrize("renamed", [False, True])
def test_hydrogens_are_those_that_rdkit_adds(sequence, renamed):
    """By name, and by geometry where the names say nothing; charged ends are not rdkit's."""
    Chem = pytest.importorskip("rdkit.Chem")
    molecule = _peptide_with_hydrogens(sequence)
    if renamed:  # geometry tells exactly what a force field has relaxed
        Chem.rdForceFieldHelpers.MMFFOptimizeMolecule(molecule, maxIters=2000)
    bare = gemmi.read_pdb_string(Chem.MolToPDBBlock(Chem.RemoveHs(molecule)))
    if renamed:
        for residue in bare[0][0]:
            residue.name = "UNK"
    prepared = prepare_receptor(bare)
    donors = {}
    heavy = None
    for line in prepared.pdbqt.splitlines():
        if line[77:79].strip() == "HD":
            donors[heavy] = donors.get(heavy, 0) + 1
        else:
            heavy = (line[22:26].strip(), line[12:16].strip())
    expected = {}
    for atom in molecule.GetAtoms():
        if atom.GetAtomicNum() in (7, 8, 16):
            info = atom.GetPDBResidueInfo()
            count = sum(n.GetAtomicNum() == 1 for n in atom.GetNeighbors())
            if count:
                expected[(str(info.GetResidueNumber()), info.GetName().strip())] = count
    last = str(len(sequence))
    for told in (donors, expected):  # acids are ions here, amines too
        for name in ("O", "OXT"):
            told.pop((last, name), None)
        told.pop(("1", "N"), None)
        for key in [
            k for k in told if k[1] in ("OD1", "OD2", "OE1", "OE2", "NZ", "NH1", "NH2", "NE")
        ]:
            told.pop(key)
    if sequence == "AHKRNQ":  # which of its nitrogens a histidine has its hydrogen on is open
        for told in (donors, expected):
            assert told.pop(("2", "ND1"), 0) + told.pop(("2", "NE2"), 0) >= 1
    assert donors == expected


@pytest.mark.parametrize(
    "smiles",
    ["Cn1ccc(=O)[nH]c1=O", "Cn1cnc2c(N)ncnc21", "c1ccncc1", "O=C1CCCN1", "N#CCO", "CC(=O)NC", "CS"],
)
def test_hydrogens_by_geometry_are_those_of_the_molecule(smiles):
    Chem = pytest.importorskip("rdkit.Chem")
    from rdkit.Chem import AllChem

    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    AllChem.EmbedMolecule(molecule, randomSeed=1)
    AllChem.MMFFOptimizeMolecule(molecule, maxIters=2000)
    places = molecule.GetConformer().GetPositions().tolist()
    heavy = [a for a in molecule.GetAtoms() if a.GetAtomicNum() > 1]
    atoms = [(f"X{a.GetIdx()}", a.GetSymbol(), places[a.GetIdx()]) for a in heavy]
    found: list[tuple[str, int]] = []
    for name, kind in _types(prepare_receptor(_structure(atoms, "LIG"))):
        found = (
            [*found[:-1], (found[-1][0], found[-1][1] + 1)] if kind == "HD" else [*found, (name, 0)]
        )
    expected = [
        (f"X{a.GetIdx()}", 0 if a.GetSymbol() == "C" else a.GetTotalNumHs(includeNeighbors=True))
        for a in heavy
    ]
    assert found == expected


def test_hydrogens_of_the_file_are_kept():
    Chem = pytest.importorskip("rdkit.Chem")
    molecule = _peptide_with_hydrogens("AS")
    prepared = prepare_receptor(gemmi.read_pdb_string(Chem.MolToPDBBlock(molecule)))
    places = molecule.GetConformer().GetPositions()
    polar = [
        places[a.GetIdx()]
        for a in molecule.GetAtoms()
        if a.GetAtomicNum() == 1 and a.GetNeighbors()[0].GetAtomicNum() != 6
    ]
    written = [
        [float(line[i : i + 8]) for i in (30, 38, 46)]
        for line in prepared.pdbqt.splitlines()
        if line[77:79].strip() == "HD"
    ]
    assert len(written) == len(polar) == 5
    nearest = np.linalg.norm(np.array(written)[:, None] - np.array(polar)[None], axis=-1).min(1)
    assert nearest.max() < 0.002


@pytest.mark.parametrize(
    ("count", "flat", "angle"), [(1, False, 109.5), (2, True, 120.0), (3, False, 109.5)]
)
def test_hydrogens_at_an_end(count, flat, angle):
    atom = PolarAtom(
        "N", "NX", "UNK", np.zeros(3), np.array([[1.4, 0, 0]]), ("C",), np.array([[2.0, 1.2, 0]])
    )
    placed = place_hydrogens(atom, count, flat)
    assert placed.shape == (count, 3)
    np.testing.assert_allclose(np.linalg.norm(placed, axis=1), 1.01)
    np.testing.assert_allclose(np.degrees(np.arccos(placed[:, 0] / 1.01)), angle)
    if flat:
        np.testing.assert_allclose(placed[:, 2], 0, atol=1e-12)
    if count > 1:
        between = np.linalg.norm(placed[0] - placed[1:], axis=1)
        assert between.min() > 1.6


def test_a_histidine_on_a_metal_has_its_hydrogen_on_the_other_side():
    def his(name, **metal):
        two = np.array([[1.1, 0.8, 0], [-1.1, 0.8, 0]])
        return PolarAtom(
            "N", name, "HIS", np.zeros(3), two, ("C", "C"), np.empty((0, 3)), 5, **metal
        )

    assert count_hydrogens(his("NE2")) == (1, True)
    assert count_hydrogens(his("ND1")) == (0, True)
    assert count_hydrogens(his("NE2", on_metal=True, his_metal=True)) == (0, True)
    assert count_hydrogens(his("ND1", his_metal=True)) == (1, True)


def test_what_was_left_out_or_guessed_is_told():
    structure = _structure(
        [
            ("O1", "O", (0, 0, 0)),
            ("X1", "X", (9, 0, 0)),
            ("B1", "B", (0, 9, 0)),
            ("M1", "Mo", (0, 0, 9)),
        ],
        "LIG",
    )
    double = structure[0][0][0][0].clone()
    double.altloc, double.occ, double.pos = "B", 0.3, gemmi.Position(5, 5, 5)
    structure[0][0][0].add_atom(double)
    prepared = prepare_receptor(structure)
    assert prepared.notes == (
        "1 atoms of unknown element were left out",
        "1 atoms at alternative places were left out",
        "hydrogens by geometry, not by name, in: LIG",
        "1 B, which Vina has no type for, is taken as carbon",
        "1 Mo, which Vina has no type for, is taken as a metal",
    )
    assert _types(prepared) == [("O1", "OA"), ("H", "HD"), ("H", "HD"), ("B1", "C"), ("M1", "Zn")]
    np.testing.assert_allclose(prepared.places[0], 0)


def test_a_receptor_without_atoms_or_far_away_is_refused():
    with pytest.raises(UserError, match="the receptor 'made' has no atoms to dock to; give a PDB"):
        prepare_receptor(_structure([("H", "H", (0, 0, 0))]))
    with pytest.raises(UserError, match="from -5000 to 0 Å, and PDBQT holds -999 to 9999; move it"):
        prepare_receptor(_structure([("C", "C", (0, -5000, 0))]))


@pytest.mark.data
def test_real_receptors_are_prepared():
    root = Path(os.environ.get("HUBEL_DATA", Path.home() / ".cache/hubel-data"))
    folders = sorted((root / "posebusters_complexes").glob("*_*/"))
    if not folders:
        pytest.skip(f"{root} has no posebusters_complexes")
    for folder in folders[::16]:
        structure = gemmi.read_structure(str(folder / f"{folder.name}_protein.pdb.gz"))
        prepared = prepare_receptor(structure)
        assert len(prepared.places) == structure[0].count_atom_sites()
        kinds = [kind for _, kind in _types(prepared)]
        # Each residue but proline has its NH, and every second or so a polar side chain.
        assert 1.0 < kinds.count("HD") / (structure[0].count_atom_sites() / 7.8) < 2.2
