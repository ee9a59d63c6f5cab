"""Which atoms a score comes from, in two ways.

By masking: what the log odds of a good pose lose where one atom is left out (Hochuli, Helbling,
Skaist, Ragoza and Koes 2018, Journal of Molecular Graphics and Modelling 84, pp. 96-108). By
gradient: what they change by, to first order, as the atom's density grows by all of itself; one
pass for all atoms, and as near to masking as the network is to a straight line. Positive: the atom
speaks for the pose.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from hubel.data.loader import samples_at_once
from hubel.docking.score import Scorer
from hubel.molecules.complexes import Complexes
from hubel.molecules.grid import atom_sums, densities

__all__ = ["METHODS", "Contributions", "contributions"]

METHODS = ("masking", "gradient")


@dataclass(frozen=True)
class Contributions:
    """In units of log odds, of each atom; 0 of those that the grid does not see.

    Attributes
    ----------
    pose: (number of atoms of the pose,).
    receptor: (number of atoms of the receptor,).
    """

    pose: npt.NDArray[np.float64]
    receptor: npt.NDArray[np.float64]


def contributions(scorer: Scorer, complexes: Complexes, i: int, method: str) -> Contributions:
    """Of the atoms of pose `i` and of its receptor, by one of `METHODS`, as the pose stands."""
    viewed = complexes.viewed(np.array([i]))
    if method == "masking":
        whole = scorer.task.log_odds(scorer.outputs(complexes, viewed))
        at_once = samples_at_once((complexes.grid.points,) * 3)
        parts = [
            whole - scorer.task.log_odds(scorer.outputs(complexes, viewed.without(atoms)))
            for atoms in torch.arange(len(viewed.numbers)).split(at_once)
        ]
        found = torch.cat(parts)
    else:
        there = viewed.to(scorer.device)
        grids = densities(there.atoms, there.centers, complexes.num_channels, complexes.grid)
        with torch.enable_grad():
            grids.requires_grad_()
            log_odds = scorer.task.log_odds(scorer.model(grids)).sum()
            (gradient,) = torch.autograd.grad(log_odds, grids)
        found = atom_sums(there.atoms, there.centers, gradient, complexes.grid).cpu()
    values, numbers = found.double().numpy(), viewed.numbers.numpy()
    in_pose = viewed.in_pose.numpy()
    pose = np.zeros(len(complexes.poses.atoms(i)[1]))
    receptor = np.zeros(len(complexes.receptors.atoms(int(complexes.receptor_of[i]))[1]))
    pose[numbers[in_pose]] = values[in_pose]
    receptor[numbers[~in_pose]] = values[~in_pose]
    return Contributions(pose, receptor)
