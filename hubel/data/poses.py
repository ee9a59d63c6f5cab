"""Poses of ligands in receptors, as samples: where their atoms are, and what is known of them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hubel.molecules.complexes import Complexes

__all__ = ["GOOD", "GOOD_RMSD", "POSE_CLASSES", "Poses"]

POSE_CLASSES = ("bad", "good")
GOOD_RMSD = 2.0
"""Å: a pose nearer than this to where the ligand really sits is good, by the field's custom."""
GOOD = 1
"""The class of a pose that is where the ligand really sits: in `POSE_CLASSES`, and as a target."""


@dataclass(frozen=True)
class Poses:
    """The poses of a source, one a sample.

    Attributes
    ----------
    complexes: the atoms.
    ligand_of: int64 (n,), a number for each ligand in its receptor: poses of one number compete.
    names: of the ligands in their receptors, which the numbers index.
    rmsd: float32 (n,), Å to where the ligand really sits; NaN where it is not known.
    docking_score: float32 (n,), what the poses came with, in kcal/mol, lower is better; NaN where
        there is none.
    affinity: float32 (n,), -log₁₀ of the dissociation constant in mol/l; NaN where it is not
        known.
    folds: int8 (n,), those that the data give for cross-validation, or None.
    sequences: of each receptor the residues of its chains, or None where they are not known.
    """

    complexes: Complexes
    ligand_of: npt.NDArray[np.int64]
    names: tuple[str, ...]
    rmsd: npt.NDArray[np.float32]
    docking_score: npt.NDArray[np.float32]
    affinity: npt.NDArray[np.float32]
    folds: npt.NDArray[np.int8] | None = None
    sequences: tuple[tuple[tuple[str, ...], ...], ...] | None = None

    def __len__(self) -> int:
        return len(self.complexes)
