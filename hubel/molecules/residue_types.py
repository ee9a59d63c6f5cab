"""The types of the heavy atoms of amino acids, known from the names of residue and atom; hydrogens
are not needed. Where a file shows them, `shown_hydrogens` has the last word on side chains that may
lose or gain one.

Where chemistry leaves a choice, the choice is the one that stands in the published sets of types
that the published networks were trained with (measured in the 337 receptors of the CSAR set of
Ragoza et al. 2017, Journal of Chemical Information and Modeling 57, pp. 942-957): of a
carboxylate's oxygens one is typed as a donor (OD2 of Asp, OE1 of Glu, OXT), plain His has its
hydrogen on ND1, Lys and the first residue of a chain are charged. The names HIE, HIP, ASH, GLH,
LYN, CYM and their like are read as they say.
"""

from hubel.molecules.atom_types import type_number

__all__ = ["RESIDUE_TYPES", "backbone_types"]

# Short names of this file only.
_SHORT = {
    "C": "aliphatic carbon, hydrophobic",
    "CP": "aliphatic carbon, polar",
    "A": "aromatic carbon, hydrophobic",
    "AP": "aromatic carbon, polar",
    "N": "nitrogen",
    "NA": "nitrogen, acceptor",
    "ND": "nitrogen, donor",
    "NDA": "nitrogen, donor and acceptor",
    "OA": "oxygen, acceptor",
    "ODA": "oxygen, donor and acceptor",
    "S": "sulfur",
    "SA": "sulfur, acceptor",
}


def _table(text: str) -> dict[str, int]:
    """Of 'C: CB CG; ND: NE' the type of each atom."""
    groups = [group.split(":") for group in text.split(";")] if text else []
    return {
        atom: type_number(_SHORT[short.strip()])
        for short, atoms in groups
        for atom in atoms.split()
    }


BACKBONE = _table("ND: N; CP: CA C; OA: O; ODA: OXT")
"""Also of residues whose side chain is not known."""

_PROLINE = BACKBONE | _table("N: N")

_PHENYL = "A: CG CD1 CD2 CE1 CE2"
_IMIDAZOLE = "C: CB; AP: CG CD2 CE1"
_SIDE_CHAINS = {
    "ALA": "C: CB",
    "ARG": "C: CB CG; CP: CD CZ; ND: NE NH1 NH2",
    "ASN": "C: CB; CP: CG; OA: OD1; ND: ND2",
    "ASP": "C: CB; CP: CG; OA: OD1; ODA: OD2",
    "CYS": "CP: CB; S: SG",
    "GLN": "C: CB CG; CP: CD; OA: OE1; ND: NE2",
    "GLU": "C: CB CG; CP: CD; ODA: OE1; OA: OE2",
    "GLY": "",
    "HIS": f"{_IMIDAZOLE}; ND: ND1; NA: NE2",
    "ILE": "C: CB CG1 CG2 CD1 CD",
    "LEU": "C: CB CG CD1 CD2",
    "LYS": "C: CB CG CD; CP: CE; ND: NZ",
    "MET": "C: CB; CP: CG CE; S: SD",
    "PHE": f"C: CB; {_PHENYL} CZ",
    "PRO": "C: CB CG; CP: CD",
    "SER": "CP: CB; ODA: OG",
    "THR": "CP: CB; C: CG2; ODA: OG1",
    "TRP": "C: CB; A: CG CD2 CE3 CZ2 CZ3 CH2; AP: CD1 CE2; ND: NE1",
    "TYR": f"C: CB; {_PHENYL}; AP: CZ; ODA: OH",
    "VAL": "C: CB CG1 CG2",
    # Kinds that a name tells.
    "CYM": "CP: CB; SA: SG",
    "HIE": f"{_IMIDAZOLE}; NA: ND1; ND: NE2",
    "HIP": f"{_IMIDAZOLE}; ND: ND1 NE2",
    "LYN": "C: CB CG CD; CP: CE; NDA: NZ",
    "MSE": "C: CB; CP: CG CE; S: SE",
}
_ALIASES = {
    "HID": "HIS", "HSD": "HIS", "HSE": "HIE", "HSP": "HIP", "CYX": "CYS", "ASH": "ASP",
    "GLH": "GLU",
}  # fmt: skip


def backbone_types(residue: str) -> dict[str, int]:
    """The types of N, CA, C, O and OXT."""
    return _PROLINE if residue == "PRO" else BACKBONE


RESIDUE_TYPES: dict[str, dict[str, int]] = {
    name: backbone_types(name) | _table(text) for name, text in _SIDE_CHAINS.items()
}
"""For each amino acid the type of each heavy atom by its name."""
RESIDUE_TYPES |= {name: RESIDUE_TYPES[as_] for name, as_ in _ALIASES.items()}
