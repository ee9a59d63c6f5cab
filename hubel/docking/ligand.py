"""A ligand for AutoDock Vina, by meeko: atom types, rotatable bonds, PDBQT; and the way back.

meeko (Forli lab, LGPL-2.1) decides which bonds turn and opens large rings (Forli and Botta 2007,
Journal of Chemical Information and Modeling 47, 1481-1492). PDBQT has no bond orders and drops the
hydrogens on carbon, so poses are put back into the molecule that was given: its atoms, their order
and its bonds stay as they were, only the coordinates are new.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hubel.errors import UserError, printable
from hubel.molecules.extra import extra

if TYPE_CHECKING:
    from rdkit.Chem import Mol

__all__ = ["PreparedLigand", "VinaPoses", "prepare_ligand"]

Places = npt.NDArray[np.float64]

# Where meeko has no type of Vina's: Vina knows selenium, and no boron.
_MORE_TYPES = {34: "Se", 5: "C"}


@dataclass(frozen=True)
class VinaPoses:
    """Poses of one ligand, best first where a search made them.

    `molecule` has one conformer for each pose, numbered from 0, with the atoms and bonds of the
    ligand that was given; `affinities` (p,) are Vina's scores in kcal/mol, low is good.
    """

    molecule: "Mol"
    affinities: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.affinities)


@dataclass(frozen=True)
class PreparedLigand:
    """A ligand's PDBQT and where the molecule's atoms are in it.

    `atoms` (m,) are indices of atoms of `molecule` and `serials` (m,) their numbers in the PDBQT.
    """

    molecule: "Mol"
    pdbqt: str
    atoms: npt.NDArray[np.int64]
    serials: npt.NDArray[np.int64]
    num_rotors: int
    notes: tuple[str, ...]

    def poses(self, text: str, affinities: npt.NDArray[np.float64]) -> VinaPoses:
        """The molecule in the poses of PDBQT `text`, one MODEL each or a single one without."""
        chem, geometry = extra("rdkit.Chem", "docking"), extra("rdkit.Geometry", "docking")
        start = self.molecule.GetConformer().GetPositions()
        molecule = chem.Mol(self.molecule)
        molecule.RemoveAllConformers()
        frames = _frames(molecule, self.atoms)
        for places in _models(text):
            moved = start.copy()
            moved[self.atoms] = [places[serial] for serial in self.serials.tolist()]
            for atom, frame in frames:
                moved[atom] = _carried(start[atom], start[frame], moved[frame])
            conformer = chem.Conformer(len(moved))
            for atom, (x, y, z) in enumerate(moved.tolist()):
                conformer.SetAtomPosition(atom, geometry.Point3D(x, y, z))
            molecule.AddConformer(conformer, assignId=True)
        return VinaPoses(molecule, affinities)


def prepare_ligand(molecule: "Mol", conformer: int = -1) -> PreparedLigand:
    """Types and rotatable bonds of `molecule` as it is in one of its conformers.

    Parameters
    ----------
    molecule: one molecule with explicit hydrogens and three-dimensional coordinates.
    conformer: the identifier of the conformer, -1 for the first.

    Raises
    ------
    UserError: no coordinates, hydrogens missing, several molecules in one, or an element that
        Vina has no type for.
    """
    meeko, chem = extra("meeko", "preparing a ligand"), extra("rdkit.Chem", "docking")
    name = _name(molecule)
    _check(molecule, name, chem)
    single = chem.Mol(molecule, confId=conformer) if conformer >= 0 else chem.Mol(molecule)
    try:
        # Vina ignores charges, and meeko's own would fail on elements without parameters.
        (setup,) = meeko.MoleculePreparation(charge_model="zero").prepare(single)
        untyped = set()
        for atom in setup.atoms:
            atom.atom_type = _MORE_TYPES.get(atom.atomic_num, atom.atom_type)
            if not atom.is_ignore and atom.atom_type is None:
                untyped.add(molecule.GetAtomWithIdx(atom.index).GetSymbol())
        if untyped:
            raise UserError(
                f"the ligand {name} has {', '.join(sorted(untyped))}, which AutoDock Vina has no "
                f"atom type for; dock it without"
            )
        text, done, trouble = meeko.PDBQTWriterLegacy.write_string(setup, add_index_map=True)
    except (ValueError, RuntimeError, KeyError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"meeko cannot prepare the ligand {name}: {error}") from error
    if not done:
        raise UserError(f"meeko cannot prepare the ligand {name}: {trouble.strip()}")
    pairs = np.array(_index_map(text), dtype=np.int64).reshape(-1, 2)
    borons = sum(atom.GetAtomicNum() == 5 for atom in molecule.GetAtoms())
    return PreparedLigand(
        molecule=single,
        pdbqt=text,
        atoms=pairs[:, 0] - 1,
        serials=pairs[:, 1],
        num_rotors=int(text.rsplit("TORSDOF", 1)[1]),
        notes=(f"{borons} B, which Vina has no type for, taken as carbon",) if borons else (),
    )


def _name(molecule: "Mol") -> str:
    given = molecule.GetProp("_Name") if molecule.HasProp("_Name") else ""
    return f"'{printable(given)}'" if given.strip() else "without a name"


def _check(molecule: "Mol", name: str, chem: Any) -> None:
    if molecule.GetNumAtoms() == 0:
        raise UserError(f"the ligand {name} has no atoms")
    if molecule.GetNumConformers() == 0 or not molecule.GetConformer().Is3D():
        raise UserError(
            f"the ligand {name} has no three-dimensional coordinates; embed it first (rdkit's "
            f"AllChem.EmbedMolecule)"
        )
    if not np.isfinite(molecule.GetConformer().GetPositions()).all():
        raise UserError(f"the ligand {name} has coordinates that are not numbers")
    parts = chem.GetMolFrags(molecule)
    if len(parts) > 1:
        sizes = " + ".join(str(len(part)) for part in parts)
        raise UserError(
            f"the ligand {name} is {len(parts)} molecules ({sizes} atoms), and one is docked at a "
            f"time; leave out the salt or solvent"
        )
    missing = sum(atom.GetTotalNumHs() for atom in molecule.GetAtoms())
    if missing:
        raise UserError(
            f"the ligand {name} lacks {missing} hydrogens, which decide who is a donor; add them "
            f"with coordinates (rdkit's Chem.AddHs(molecule, addCoords=True))"
        )


def _index_map(text: str) -> Sequence[tuple[int, int]]:
    """Pairs (atom from 1, serial) of the remarks that meeko wrote."""
    numbers = [
        int(word)
        for line in re.findall(r"^REMARK INDEX MAP(.*)$", text, flags=re.MULTILINE)
        for word in line.split()
    ]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _models(text: str) -> Sequence[dict[int, tuple[float, float, float]]]:
    """Places by serial of every model of a PDBQT."""
    models: list[dict[int, tuple[float, float, float]]] = [{}]
    for line in text.splitlines():
        if line.startswith("MODEL") and models[-1]:
            models.append({})
        elif line.startswith(("ATOM", "HETATM")):
            x, y, z = (float(line[i : i + 8]) for i in (30, 38, 46))
            models[-1][int(line[6:11])] = (x, y, z)
    return [model for model in models if model]


def _frames(molecule: "Mol", known: npt.NDArray[np.int64]) -> list[tuple[int, list[int]]]:
    """For each atom that PDBQT left out (a hydrogen on carbon) the atoms that it moves with.

    Its neighbour and that one's neighbours are stiff; an end such as a methyl, which has one more
    neighbour only, is stiff together with what that one is bonded to.
    """
    placed = set(known.tolist())

    def near(atom: int) -> list[int]:
        return [n.GetIdx() for n in molecule.GetAtomWithIdx(atom).GetNeighbors()]

    frames = []
    for atom in range(molecule.GetNumAtoms()):
        if atom in placed:
            continue
        (parent,) = near(atom)
        frame = [parent, *(n for n in near(parent) if n in placed)]
        if len(frame) == 2:
            frame += [n for n in near(frame[1]) if n in placed and n != parent]
        frames.append((atom, frame))
    return frames


def _carried(place: Places, before: Places, after: Places) -> Places:
    """`place` moved as the frame moved, `before` (f, 3) to `after`, turned as Kabsch (1976) does.

    Acta Crystallographica A32, 922-923. The frame's first atom, the neighbour, is met exactly.
    """
    u, _, v = np.linalg.svd((before - before[0]).T @ (after - after[0]))
    turn = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ v)) or 1.0])
    moved: Places = (place - before[0]) @ u @ turn @ v + after[0]
    return moved
