"""Types of atoms against types written by hand from the definition, and of cofactors by their
geometry against those by their bonds.
"""

import numpy as np
import pytest

from hubel.molecules.atom_types import atom_types, element_type, type_number, unknown_elements
from hubel.molecules.channels import ATOM_TYPES
from hubel.molecules.geometry_types import geometry_types
from hubel.molecules.residue_types import RESIDUE_TYPES, backbone_types

Chem = pytest.importorskip("rdkit.Chem")
AllChem = pytest.importorskip("rdkit.Chem.AllChem")

C, CP = "aliphatic carbon, hydrophobic", "aliphatic carbon, polar"
A, AP = "aromatic carbon, hydrophobic", "aromatic carbon, polar"
N, ND = "nitrogen", "nitrogen, donor"
NA, NDA = "nitrogen, acceptor", "nitrogen, donor and acceptor"
OA, ODA = "oxygen, acceptor", "oxygen, donor and acceptor"


def names(types):
    return [ATOM_TYPES[number].name for number in types]


def heavy_types(mol):
    numbers = [atom.GetAtomicNum() for atom in mol.GetAtoms()]
    return [
        name for name, number in zip(names(atom_types(mol)), numbers, strict=True) if number > 1
    ]


@pytest.mark.parametrize(
    ("smiles", "expected"),
    [
        ("CC(=O)N", [C, CP, OA, ND]),  # acetamide
        ("CC(=O)N(C)C", [C, CP, OA, N, CP, CP]),
        ("Oc1ccccc1", [ODA, AP, A, A, A, A, A]),  # phenol
        ("COc1ccccc1", [CP, OA, AP, A, A, A, A, A]),
        ("c1ccncc1", [A, A, AP, NA, AP, A]),  # pyridine
        ("c1c[nH]cn1", [AP, AP, ND, AP, NA]),  # imidazole
        ("Nc1ccccc1", [ND, AP, A, A, A, A, A]),  # aniline is flat
        ("CN", [CP, NDA]),
        ("C[NH3+]", [CP, ND]),
        ("C[N+](C)(C)C", [CP, N, CP, CP, CP]),
        ("CN(C)C", [CP, NA, CP, CP]),
        ("CNC(N)=[NH2+]", [CP, ND, CP, ND, ND]),  # guanidinium
        ("CC(=O)[O-]", [C, CP, OA, OA]),  # carboxylate
        ("CC(=O)O", [C, CP, OA, ODA]),
        ("CC#N", [C, CP, NA]),
        ("C[N+](=O)[O-]", [CP, N, OA, OA]),
        ("CSC", [CP, "sulfur", CP]),  # thioether
        ("CS", [CP, "sulfur"]),
        ("C[S-]", [CP, "sulfur, acceptor"]),
        ("CS(=O)(=O)N", [CP, "sulfur", OA, OA, NDA]),  # sulfonamide
        ("COP(=O)(O)[O-]", [CP, OA, "phosphorus", OA, ODA, OA]),
        ("Fc1ccc(Cl)cc1Br", ["fluorine", AP, A, A, AP, "chlorine", A, AP, "bromine"]),
        ("CI", [CP, "iodine"]),
        ("CB(O)O", [CP, "boron", ODA, ODA]),  # boronic acid: boron makes its carbon polar
        ("C[Se]C", [CP, "sulfur", CP]),
        ("C[Si](C)(C)C", [CP, "other metal", CP, CP, CP]),
        ("[Zn+2]", ["zinc"]),
        ("[Na+]", ["other metal"]),
        ("O", [ODA]),
    ],
)
def test_types_written_by_hand(smiles, expected):
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert heavy_types(mol) == expected


def test_hydrogens_on_polar_atoms_are_polar():
    types = names(atom_types(Chem.AddHs(Chem.MolFromSmiles("CO"))))
    assert types == [CP, ODA, "hydrogen", "hydrogen", "hydrogen", "polar hydrogen"]


def test_elements_without_a_type_are_generic_and_counted():
    assert ATOM_TYPES[element_type(14)].name == "other metal"
    assert unknown_elements([6, 14, 14, 30, 11, 92, 0]) == {14: 2, 92: 1, 0: 1}


def test_the_tables_of_residues_follow_from_the_rules():
    """Built by rdkit from the sequence, charged as the table says, but for the acids' oxygens."""
    for letter in "ACFGHIKLMNPQRSTVWY":
        peptide = Chem.MolFromSequence(f"G{letter}G")
        for atom in peptide.GetAtoms():
            if atom.GetPDBResidueInfo().GetName().strip() == "NZ":
                atom.SetFormalCharge(1)
        Chem.SanitizeMol(peptide)
        full = Chem.AddHs(peptide)
        types = atom_types(full)
        for atom in peptide.GetAtoms():
            info = atom.GetPDBResidueInfo()
            name, residue = info.GetName().strip(), info.GetResidueName()
            if info.GetResidueNumber() != 2 or (name in ("ND1", "NE2") and residue == "HIS"):
                continue
            if residue == "ARG" and name in ("NE", "NH1", "NH2"):
                assert RESIDUE_TYPES[residue][name] == type_number(ND)
                continue
            got = RESIDUE_TYPES[residue][name]
            assert got == types[atom.GetIdx()], (residue, name)


def test_acids_and_histidines_are_typed_as_in_the_published_sets():
    def of(residue, *atoms):
        return names(RESIDUE_TYPES[residue][atom] for atom in atoms)

    assert of("ASP", "OD1", "OD2") == [OA, ODA]
    assert of("GLU", "OE1", "OE2") == [ODA, OA]
    assert of("HIS", "ND1", "NE2") == of("HID", "ND1", "NE2") == [ND, NA]
    assert of("HIE", "ND1", "NE2") == [NA, ND]
    assert of("HIP", "ND1", "NE2") == [ND, ND]
    assert of("LYS", "NZ") + of("LYN", "NZ") + of("CYM", "SG") == [ND, NDA, "sulfur, acceptor"]
    assert names([backbone_types("PRO")["N"], backbone_types("SEP")["N"]]) == [N, ND]


def in_space(smiles):
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    settings = AllChem.ETKDGv3()
    settings.randomSeed = 1
    assert AllChem.EmbedMolecule(mol, settings) == 0
    relaxed = Chem.Mol(mol)  # MMFF leaves its own aromaticity in the molecule
    AllChem.MMFFOptimizeMolecule(relaxed, maxIters=2000)
    mol.GetConformer().SetPositions(relaxed.GetConformer().GetPositions())
    return mol


def by_geometry(mol, donors=None):
    heavy = [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetAtomicNum() > 1]
    elements = np.array([mol.GetAtomWithIdx(index).GetAtomicNum() for index in heavy])
    places = mol.GetConformer().GetPositions()[heavy]
    return names(geometry_types(elements, places, np.arange(len(heavy)), donors or {}))


@pytest.mark.parametrize(
    "smiles",
    [
        "Nc1ncnc2c1ncn2C",  # adenine
        "Nc1nc2c(ncn2C)c(=O)[nH]1",  # guanine
        "Cn1ccc(=O)[nH]c1=O",  # uracil
        "Cn1ccc(N)nc1=O",  # cytosine
        "OC1COC(CO)C1O",  # a sugar
        "CC(=O)NCC(=O)O",
        "Oc1ccccc1C=O",
        "CCOP(=O)(O)O",
        "C1CCNCC1",
        "CCN",
        "CC#N",
        "c1ccsc1",
        "CC(C)=NC",
        "CS(=O)(=O)O",
        "c1ccc2[nH]ccc2c1",
        "C[N+](=O)[O-]",
    ],
)
def test_geometry_tells_what_bonds_tell(smiles):
    mol = in_space(smiles)
    assert by_geometry(mol) == heavy_types(mol)


def test_hydrogens_that_are_shown_settle_the_donors():
    mol = in_space("CCO")
    assert by_geometry(mol) == [C, CP, ODA]
    assert by_geometry(mol, {2: False}) == [C, CP, OA]


def test_a_ring_nitrogen_on_a_metal_carries_no_hydrogen():
    mol = in_space("c1cc[nH]c1")
    heavy = [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetAtomicNum() > 1]
    places = mol.GetConformer().GetPositions()
    (hydrogen,) = [one.GetIdx() for one in mol.GetAtomWithIdx(3).GetNeighbors()
                   if one.GetAtomicNum() == 1]  # fmt: skip
    away = places[hydrogen] - places[3]
    iron = places[3] + 2.0 * away / np.linalg.norm(away)
    elements = np.array([6, 6, 6, 7, 6, 26])
    where = np.concatenate([places[heavy], iron[None]])
    assert names(geometry_types(elements, where, np.arange(6), {})) == [A, A, AP, NA, AP, "iron"]
    assert by_geometry(mol)[3] == ND
