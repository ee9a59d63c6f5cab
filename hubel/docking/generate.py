"""Poses by AutoDock Vina, and Vina's score and local minimum of poses that exist.

Trott and Olson (2010), Journal of Computational Chemistry 31, 455-461; Eberhardt, Santos-Martins,
Tillack and Forli (2021), Journal of Chemical Information and Modeling 61, 3891-3898.
"""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hubel.docking.box import Box
from hubel.docking.ligand import PreparedLigand, VinaPoses, prepare_ligand
from hubel.docking.receptor import PreparedReceptor
from hubel.errors import UserError
from hubel.molecules.extra import extra

if TYPE_CHECKING:
    from rdkit.Chem import Mol

__all__ = ["VinaSearch"]

_ALL = 1000.0  # kcal/mol above the best: poses are limited by number, not by energy
_STEPS = 1000  # of a descent, which ends long before
_LARGEST_SEED = 2**31 - 1


class VinaSearch:
    """Vina with one receptor and one box, whose grids serve every ligand.

    Results follow from `seed` and the ligand alone: not from `cpu`, nor from what was docked
    before. Vina prints nothing.

    Parameters
    ----------
    receptor, box: what to dock to, and where.
    seed: at least 1; Vina takes 0 for "any".
    cpu: threads of one search; never more than its exhaustiveness are of use.

    Raises
    ------
    UserError: a box that misses the receptor, a seed or a number of threads below 1.
    """

    def __init__(
        self, receptor: PreparedReceptor, box: Box, *, seed: int = 1, cpu: int = 1
    ) -> None:
        if not 1 <= seed <= _LARGEST_SEED:
            raise UserError(f"Vina's seed must be from 1 to {_LARGEST_SEED}, got {seed}")
        if cpu < 1:
            raise UserError(f"Vina needs at least 1 thread, got {cpu}")
        self.box = box.reaches(receptor)
        vina = extra("vina", "docking")
        self._vina: Any = vina.Vina(sf_name="vina", cpu=cpu, seed=seed, verbosity=0)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "receptor.pdbqt")
            path.write_text(receptor.pdbqt)
            self._vina.set_receptor(str(path))
        self._vina.compute_vina_maps(center=list(box.center), box_size=list(box.size))

    def dock(
        self, ligand: PreparedLigand, *, exhaustiveness: int = 8, num_poses: int = 9
    ) -> VinaPoses:
        """At most `num_poses` poses at least 1 Å apart, best first.

        Bond lengths, angles and rings stay as they are in the ligand; what turns are the
        `num_rotors` bonds. `exhaustiveness` is the number of independent searches.

        Raises
        ------
        UserError: numbers below 1, or no pose in the box.
        """
        if exhaustiveness < 1 or num_poses < 1:
            raise UserError(
                f"exhaustiveness and the number of poses must be at least 1, got {exhaustiveness} "
                f"and {num_poses}"
            )
        self._vina.set_ligand_from_string(ligand.pdbqt)
        self._vina.dock(exhaustiveness=exhaustiveness, n_poses=num_poses)
        text = self._vina.poses(n_poses=num_poses, energy_range=_ALL)
        if not text.strip():
            size = " × ".join(f"{side:g}" for side in self.box.size)
            raise UserError(
                f"Vina found no pose of the ligand in the box of {size} Å ({self.box.origin}); "
                f"give a larger box"
            )
        energies = self._vina.energies(n_poses=num_poses, energy_range=_ALL)
        return ligand.poses(text, energies[:, 0])

    def score(self, molecule: "Mol") -> npt.NDArray[np.float64]:
        """Vina's scores (p,) in kcal/mol of the conformers of `molecule`, as they are.

        Raises
        ------
        UserError: a conformer that is not in the box.
        """
        return np.array([self._at(molecule, c)[1].score()[0] for c in _conformers(molecule)])

    def minimise(self, molecule: "Mol") -> VinaPoses:
        """Each conformer of `molecule` at the nearest minimum of Vina's score, in their order.

        Vina descends on interpolated energies; where that leads to a worse score than before, the
        pose stays as it is.

        Raises
        ------
        UserError: a conformer that is not in the box.
        """
        texts, affinities = [], []
        for conformer in _conformers(molecule):
            ligand, vina = self._at(molecule, conformer)
            before = float(vina.score()[0])
            after = float(vina.optimize(max_steps=_STEPS)[0])
            affinities.append(min(before, after))
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "pose.pdbqt")
                vina.write_pose(str(path))
                texts.append("MODEL\n" + (path.read_text() if after < before else ligand.pdbqt))
        return ligand.poses("".join(texts), np.array(affinities))

    def _at(self, molecule: "Mol", conformer: int) -> tuple[PreparedLigand, Any]:
        ligand = prepare_ligand(molecule, conformer)
        places = ligand.molecule.GetConformer().GetPositions()[ligand.atoms]
        outside = (np.abs(places - self.box.center) - np.array(self.box.size) / 2).max()
        if outside > 0:
            raise UserError(
                f"pose {conformer} of the ligand reaches {outside:.2f} Å out of the box "
                f"({self.box.origin}), and Vina scores inside only; give a box around the poses"
            )
        self._vina.set_ligand_from_string(ligand.pdbqt)
        return ligand, self._vina


def _conformers(molecule: "Mol") -> list[int]:
    found = [conformer.GetId() for conformer in molecule.GetConformers()]
    if not found:
        raise UserError("the poses have no coordinates")
    return found
