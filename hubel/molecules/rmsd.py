"""How far a pose is from a crystal's, whichever of equal atoms is called by which name.

The root mean square deviation of heavy atoms without superposition, smallest over all ways to put
the one molecular graph on the other (Meli and Biggin 2020, Journal of Cheminformatics 12, 49). The
graph is of elements and connections, so charges and the writing of double bonds do not matter, and
the oxygens of a carboxylate are equal.

The many ways to exchange the fluorines of a CF3 and the like are never enumerated: their best
assignment is found for each pair of atoms that carry such leaves. What is left, turned phenyl rings
and mirror planes, has few symmetries in molecules that are drugs; `MOST` of them are looked at.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hubel.errors import UserError
from hubel.molecules.extra import extra

if TYPE_CHECKING:
    from rdkit.Chem import Mol

__all__ = ["MOST", "Deviations", "pose_rmsd"]

MOST = 20_000
"""Symmetries of the molecule without its leaves that are looked at; a second of work."""


@dataclass(frozen=True)
class Deviations:
    """`rmsd` (p,) in Å; `exact` is False where the molecule has more than `MOST` symmetries, and
    the figures are upper bounds."""

    rmsd: npt.NDArray[np.float64]
    exact: bool


@dataclass(frozen=True)
class _Graph:
    """The heavy atoms of a molecule but for leaves that stand for each other."""

    core: list[int]  # atoms of the molecule
    leaves: list[list[list[int]]]  # of each core atom: its groups of equal leaves
    labels: list[tuple[int, ...]]  # of each core atom: its element, and those of its leaves
    bonds: list[tuple[int, int]]  # by places in `core`


def pose_rmsd(poses: "Mol", reference: "Mol", *, most: int = MOST) -> Deviations:
    """Of every conformer of `poses` to the first conformer of `reference`.

    The two may list their atoms in different orders and have hydrogens or not.

    Raises
    ------
    UserError: they are not the same molecule.
    """
    chem = extra("rdkit.Chem", "comparing poses")
    there, here = _graph(poses), _graph(reference)
    ways = np.array(_ways(there, here, most + 1, chem), dtype=np.int64)
    if not len(ways):
        formula = extra("rdkit.Chem.rdMolDescriptors", "comparing poses").CalcMolFormula
        raise UserError(
            f"the crystal ligand is not the molecule that was docked: {formula(reference)} and "
            f"{formula(poses)}, or the same atoms connected in another way; give the crystal pose "
            f"of the same ligand"
        )
    crystal = reference.GetConformer().GetPositions()
    count = len(there.core) + sum(len(g) for groups in there.leaves for g in groups)
    rows = np.arange(len(there.core))
    found = []
    for conformer in poses.GetConformers():
        cost = _costs(conformer.GetPositions(), crystal, there, here)
        best = min(
            float(cost[rows, part].sum(1).min())
            for part in np.array_split(ways[:most], _parts(ways))
        )
        found.append(np.sqrt(best / count))
    return Deviations(np.array(found), exact=len(ways) <= most)


def _parts(ways: npt.NDArray[np.int64]) -> int:
    return 1 + ways.size // 1_000_000


def _ways(there: _Graph, here: _Graph, most: int, chem: Any) -> Any:
    """At most `most` ways to put the one graph on the other: of each core atom its partner."""
    if sorted(there.labels) != sorted(here.labels) or len(there.bonds) != len(here.bonds):
        return []
    numbers = {label: number for number, label in enumerate(sorted(set(there.labels)), 1)}
    skeletons = []
    for graph in (there, here):
        skeleton = chem.RWMol()
        for label in graph.labels:
            atom = chem.Atom(label[0])
            atom.SetNoImplicit(True)
            atom.SetIsotope(numbers[label])  # which rdkit matches exactly
            skeleton.AddAtom(atom)
        for i, j in graph.bonds:
            skeleton.AddBond(i, j, chem.BondType.SINGLE)
        skeletons.append(skeleton)
    return skeletons[1].GetSubstructMatches(skeletons[0], uniquify=False, maxMatches=most)


def _graph(molecule: "Mol") -> _Graph:
    heavy = [a.GetIdx() for a in molecule.GetAtoms() if a.GetAtomicNum() > 1]
    near = {
        i: [n.GetIdx() for n in molecule.GetAtomWithIdx(i).GetNeighbors() if n.GetAtomicNum() > 1]
        for i in heavy
    }
    leaves_of: dict[int, list[list[int]]] = defaultdict(list)
    dropped: set[int] = set()
    for parent in heavy:
        by_element = defaultdict(list)
        for i in near[parent]:
            if len(near[i]) == 1 and len(near[parent]) > 1:
                by_element[molecule.GetAtomWithIdx(i).GetAtomicNum()].append(i)
        for _, leaves in sorted(by_element.items()):
            if len(leaves) > 1:
                leaves_of[parent].append(leaves)
                dropped.update(leaves)
    core = [i for i in heavy if i not in dropped]
    number = {i: place for place, i in enumerate(core)}

    def element(i: int) -> int:
        return int(molecule.GetAtomWithIdx(i).GetAtomicNum())

    return _Graph(
        core,
        [leaves_of[i] for i in core],
        [(element(i), *(element(k) for group in leaves_of[i] for k in group)) for i in core],
        [(number[i], number[j]) for i in core for j in near[i] if i < j and j in number],
    )


def _costs(
    pose: npt.NDArray[np.float64], crystal: npt.NDArray[np.float64], there: _Graph, here: _Graph
) -> npt.NDArray[np.float64]:
    """Squared distances (core, core), with those of the leaves in their best assignment."""
    from scipy.optimize import linear_sum_assignment

    def squares(a: list[int], b: list[int]) -> npt.NDArray[np.float64]:
        squared: npt.NDArray[np.float64] = ((pose[a][:, None] - crystal[b][None]) ** 2).sum(-1)
        return squared

    cost = squares(there.core, here.core)
    for i, groups in enumerate(there.leaves):
        for j, others in enumerate(here.leaves):
            if groups and [len(g) for g in groups] == [len(g) for g in others]:
                for group, other in zip(groups, others, strict=True):
                    between = squares(group, other)
                    cost[i, j] += between[linear_sum_assignment(between)].sum()
    return cost
