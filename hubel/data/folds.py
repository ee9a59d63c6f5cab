"""Cross-validation: which samples are the test split of one fold, the same for every fold."""

import numpy as np
import numpy.typing as npt

from hubel.data.source import Source
from hubel.errors import UserError

__all__ = ["fold_splits"]


def fold_splits(
    source: Source, fold: str, seed: int, usable: npt.NDArray[np.bool_]
) -> npt.NDArray[np.str_]:
    """Unicode (n,): "test" for the samples of `fold` ("1/3"), "train" for all others.

    Folds that the data give are taken where their number is right. Others are drawn by `seed`
    among the `usable` samples, stratified by class, and never through a group (scikit-learn's
    StratifiedGroupKFold). Raises `UserError` where the data have splits of their own.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    number, total = map(int, fold.split("/"))
    if (source.splits != "").any():
        raise UserError(
            f"--fold {fold}: DATA '{source.name}' gives splits of its own, on which networks are "
            f"compared; leave it out"
        )
    given = None if source.poses is None else source.poses.folds
    if given is not None:
        if total != int(given.max()) + 1:
            raise UserError(
                f"--fold {fold}: DATA '{source.name}' gives {int(given.max()) + 1} folds; write "
                f"--fold {min(number, int(given.max()) + 1)}/{int(given.max()) + 1}"
            )
        test = given == number - 1
        if (
            source.groups is not None
            and np.intersect1d(source.groups[test], source.groups[~test]).size
        ):
            raise UserError(
                f"--fold {fold}: the folds that DATA '{source.name}' gives share groups; leave out "
                f"--same-protein, or take the folds out of the data"
            )
        return np.where(test, "test", "train")
    kept = np.flatnonzero(usable)
    groups = None if source.groups is None else source.groups[kept]
    units = len(kept) if groups is None else len(np.unique(groups))
    if units < total:
        raise UserError(
            f"--fold {fold}: DATA '{source.name}' has {units} "
            f"{'samples' if groups is None else 'groups'} for {total} folds; ask for fewer"
        )
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    drawn = kind(total, shuffle=True, random_state=seed)
    try:
        parts = [test for _, test in drawn.split(kept, source.targets[kept], groups)]
    except ValueError as error:
        raise UserError(f"--fold {fold}: DATA '{source.name}': {error}; ask for fewer") from None
    splits = np.full(len(source), "train", "<U5")
    splits[kept[parts[number - 1]]] = "test"
    return splits
