"""One score out of two: what a network says of a pose, and the energy that docking gave it.

Docking energies compare poses of one ligand well and those of different ligands badly, because
they grow with the number of atoms; and what a network says of all poses of a ligand may be too high
or too low together. So each counts twice: as it is, and by how far it is from the best of its
ligand.
"""

import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hubel.errors import UserError

__all__ = ["Consensus", "fully_scored", "standardised"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Consensus:
    """The log odds of a good pose, a weighted sum.

    Attributes
    ----------
    intercept: log odds where all else is zero.
    network: weight of the network's own log odds.
    network_gap: of what these lie below the highest of the same ligand.
    energy: of the docking score, per kcal/mol.
    gap: of what the docking score lies above the lowest of the same ligand, per kcal/mol.
    """

    intercept: float
    network: float
    network_gap: float
    energy: float
    gap: float

    @classmethod
    def fitted(
        cls,
        log_odds: FloatArray,
        energies: FloatArray,
        ligands: IntArray,
        good: npt.NDArray[np.bool_],
    ) -> "Consensus | None":
        """By logistic regression (scikit-learn's, L2 of strength 1 on standardised columns, both
        kinds of poses weighing the same) on the ligands that are `fully_scored`; None where these
        have poses of one kind only, or are none.
        """
        from sklearn.linear_model import LogisticRegression  # takes a second to import

        kept = fully_scored(energies, ligands)
        good = good[kept]
        if good.all() or not good.any():
            return None
        columns = _columns(log_odds[kept], energies[kept], ligands[kept])
        mean, deviation = columns.mean(axis=0), columns.std(axis=0)
        # In natural units: a column that hardly varies on a few poses gets no large weight.
        deviation = np.maximum(deviation, 0.1)
        found = LogisticRegression(class_weight="balanced").fit((columns - mean) / deviation, good)
        weights = found.coef_[0] / deviation
        intercept = float(found.intercept_[0] - weights @ mean)
        return cls(intercept, *map(float, weights))

    @classmethod
    def of_run(cls, metrics: Any, where: Path) -> "Consensus | None":
        """The one that the metrics of the run `where` hold; None where there is none.

        Raises `UserError` where it is not as many finite numbers.
        """
        found = metrics.get("consensus") if isinstance(metrics, dict) else ()
        if found is None:
            return None
        if isinstance(found, dict):
            found = {"network_gap": 0.0, **found}  # of runs from before that counted
        names = {field.name for field in fields(cls)}
        numbers = isinstance(found, dict) and all(
            isinstance(v, float | int) and math.isfinite(v) for v in found.values()
        )
        if not isinstance(found, dict) or not numbers or set(found) != names:
            raise UserError(
                f"'{where / 'result.json'}' does not hold the consensus that a fit writes: "
                f"{', '.join(sorted(names))}, finite numbers; restore it from a copy"
            )
        return cls(**found)

    def log_odds(self, log_odds: FloatArray, energies: FloatArray, ligands: IntArray) -> FloatArray:
        """Of each pose (n,), from the network's log odds, docking scores and ligands' numbers."""
        columns = _columns(log_odds, energies, ligands)
        weights = [self.network, self.network_gap, self.energy, self.gap]
        together: FloatArray = self.intercept + columns @ weights
        return together

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dictionary; `Consensus(**…)` reads it back."""
        return asdict(self)


def fully_scored(energies: FloatArray, ligands: IntArray) -> npt.NDArray[np.bool_]:
    """Which poses (n,) are of ligands whose poses all have a docking score, a finite one: only
    among these does the score say which is the first.
    """
    whole: npt.NDArray[np.bool_] = ~np.isin(ligands, ligands[~np.isfinite(energies)])
    return whole


def _columns(log_odds: FloatArray, energies: FloatArray, ligands: IntArray) -> FloatArray:
    columns = [
        log_odds,
        _above_lowest(-log_odds, ligands),
        energies,
        _above_lowest(energies, ligands),
    ]
    return np.column_stack(columns).astype(np.float64)


def _above_lowest(values: FloatArray, ligands: IntArray) -> FloatArray:
    """(n,): by how much each lies above the lowest of its ligand."""
    numbers, ligand = np.unique(ligands, return_inverse=True)
    lowest = np.full(len(numbers), np.inf)
    np.minimum.at(lowest, ligand, values)
    above: FloatArray = values - lowest[ligand]
    return above


def standardised(log_odds: FloatArray, energies: FloatArray) -> FloatArray:
    """The consensus of the poses of one ligand where no weights are known: by how many standard
    deviations each lies above the mean, by both scores together.
    """
    total = np.zeros(len(log_odds))
    for column in (log_odds, -energies):
        deviation = column.std()
        if deviation > 0:
            total += (column - column.mean()) / deviation
    return total
