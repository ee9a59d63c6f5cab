"""Which receptors are the same protein, by their sequences.

Two receptors are alike by the share of identical residues in the best alignment of a chain of the
one with a chain of the other, of the shorter chain's length, as CD-HIT counts it (Li and Godzik
2006, Bioinformatics 22, pp. 1658-1659). Receptors that are alike are one protein, and so are those
that are joined by a row of such (single linkage), as folds without a shared protein need it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hubel.molecules.extra import extra

__all__ = ["alike_receptors", "sequences_of"]

Chain = tuple[str, ...]

_SHORTEST = 20  # residues of a chain that says whose it is; peptides are in many complexes


def sequences_of(structure: Any) -> tuple[Chain, ...]:
    """The names of the residues of each chain of amino acids in a gemmi structure, all chains of
    twenty residues and more, else the longest.
    """
    gemmi = extra("gemmi", "comparing receptors")
    chains = []
    for chain in structure[0]:
        names = (residue.name for residue in chain)
        known = (name for name in names if gemmi.find_tabulated_residue(name).is_amino_acid())
        chains.append(tuple(known))
    long = [chain for chain in chains if len(chain) >= _SHORTEST]
    return tuple(long or sorted(chains, key=len)[-1:])


def alike_receptors(
    sequences: Sequence[tuple[Chain, ...]], identity: float
) -> npt.NDArray[np.int64]:
    """(n,) a number for each receptor, the same for those that are one protein: chains that have at
    least the share `identity` of their residues in common.
    """
    cluster = np.arange(len(sequences))
    for i in range(len(sequences)):
        for j in range(i):
            if cluster[i] != cluster[j] and _alike(sequences[i], sequences[j], identity):
                cluster[cluster == cluster[i]] = cluster[j]
    numbers: npt.NDArray[np.int64] = np.unique(cluster, return_inverse=True)[1]
    return numbers.astype(np.int64)


def _alike(one: tuple[Chain, ...], other: tuple[Chain, ...], identity: float) -> bool:
    gemmi = extra("gemmi", "comparing receptors")
    for a in one:
        for b in other:
            shorter = min(len(a), len(b))
            if not shorter:
                continue
            # No alignment has more in common than the counts of each residue allow.
            most = sum(min(a.count(name), b.count(name)) for name in set(a))
            if most < identity * shorter:
                continue
            found = gemmi.align_string_sequences(list(a), list(b), [])
            if found.match_count >= identity * shorter:
                return True
    return False
