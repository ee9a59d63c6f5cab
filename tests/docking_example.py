"""A small receptor and a ligand for the tests of docking, built by rdkit."""

import functools
from typing import Any

import numpy as np


@functools.cache
def small_ligand() -> Any:
    """4-hydroxybenzamide with hydrogens, about the origin."""
    from rdkit import Chem
    from rdkit.Chem import AllChem

    molecule = Chem.AddHs(Chem.MolFromSmiles("NC(=O)c1ccc(O)cc1"))
    AllChem.EmbedMolecule(molecule, randomSeed=3)
    AllChem.MMFFOptimizeMolecule(molecule)
    positions = molecule.GetConformer().GetPositions()
    for atom, place in enumerate(positions - positions.mean(0)):
        molecule.GetConformer().SetAtomPosition(atom, place.tolist())
    molecule.SetProp("_Name", "hydroxybenzamide")
    return molecule


@functools.cache
def small_receptor() -> Any:
    """A gemmi structure without hydrogens: six tripeptides around a cavity at the origin.

    Their centres are the corners of an octahedron of radius 8 Å.
    """
    import gemmi
    from rdkit import Chem
    from rdkit.Chem import AllChem

    corners = 8.0 * np.array([sign * axis for axis in np.eye(3) for sign in (-1, 1)])
    structure = gemmi.Structure()
    model = gemmi.Model(1)
    for number, corner in enumerate(corners):
        peptide = Chem.AddHs(Chem.MolFromSequence(("LSF", "DSK")[number % 2]))
        AllChem.EmbedMolecule(peptide, randomSeed=number + 1)
        places = peptide.GetConformer().GetPositions()
        heavy = [a for a in peptide.GetAtoms() if a.GetAtomicNum() > 1]
        places = places - places.mean(0)
        # Its thinnest direction points outwards, so that it lines the cavity.
        flat = np.linalg.svd(places)[2]
        out = corner / np.linalg.norm(corner)
        side = np.cross(out, np.eye(3)[np.abs(out).argmin()])
        side /= np.linalg.norm(side)
        frame = np.array([side, np.cross(out, side), out])
        places = places @ flat.T @ frame + corner
        chain = gemmi.Chain("ABCDEF"[number])
        for atom in heavy:
            info = atom.GetPDBResidueInfo()
            if not len(chain) or chain[-1].seqid.num != info.GetResidueNumber():
                residue = gemmi.Residue()
                residue.name = info.GetResidueName()
                residue.seqid = gemmi.SeqId(info.GetResidueNumber(), " ")
                chain.add_residue(residue)
            new = gemmi.Atom()
            new.name = info.GetName().strip()
            new.element = gemmi.Element(atom.GetSymbol())
            new.occ = 1.0
            new.pos = gemmi.Position(*places[atom.GetIdx()].tolist())
            chain[-1].add_atom(new)
        model.add_chain(chain)
    structure.add_model(model)
    structure.name = "cage"
    return structure
