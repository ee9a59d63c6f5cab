"""From the labels that a format finds to a class list and indices into it."""

from typing import Any

import numpy as np
import numpy.typing as npt

from hubel.data.source import Array
from hubel.errors import UserError

__all__ = ["class_table", "split_name", "whole_number_labels"]

_SPLIT_NAMES = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}


def split_name(name: str) -> str | None:
    """ "train", "val" or "test" for a name that a person may give a split; None for others.

    >>> split_name("Validation"), split_name("cats")
    ('val', None)
    """
    return _SPLIT_NAMES.get(name.strip().lower())


def class_table(
    labels: Array, splits: npt.NDArray[np.str_], where: str, fix: str
) -> tuple[Array, npt.NDArray[np.int64], list[str]]:
    """The classes, the index of each sample's class, and notes about classes missing somewhere.

    The class list is fixed by the training split (by every sample where the data assign
    none), sorted: numbers by value, names as plain text ("10" before "2").

    Parameters
    ----------
    labels: (n,) whole numbers or text, one a sample.
    splits: (n,) "train", "val", "test" or "".
    where: the file or folder, for messages.
    fix: what to do about a class that the training split lacks, with "{name}" and "{split}".

    Raises `UserError` for a class outside the training split's, and for fewer than two.
    """
    found, inverse = np.unique(labels, return_inverse=True)
    given = [s for s in ("train", "val", "test") if bool((splits == s).any())]
    in_train = splits == given[0] if "train" in given else np.ones(len(labels), bool)
    known = np.bincount(inverse[in_train], minlength=len(found)) > 0
    for k in np.flatnonzero(~known):
        split = str(splits[inverse == k][0])
        name = str(found[k])
        raise UserError(
            f"{where}: class '{name}' is in {split} but not in train, so no network could "
            f"learn it; {fix.format(name=name, split=split)}"
        )
    if len(found) < 2:
        only = ", ".join(f"'{name}'" for name in found) or "none"
        raise UserError(f"{where}: at least two classes are needed, found one only ({only})")
    notes = []
    for split in given[1:]:
        counts = np.bincount(inverse[splits == split], minlength=len(found))
        missing = [str(name) for name in found[counts == 0]]
        if missing:
            notes.append(_missing(missing, split))
    return found, inverse.astype(np.int64), notes


def _missing(names: list[str], split: str) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:3])
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    noun = "class" if len(names) == 1 else "classes"
    verb = "has" if len(names) == 1 else "have"
    return f"{noun} {shown}{more} {verb} no sample in {split}"


def whole_number_labels(labels: Array, where: str) -> Array:
    """Labels of an array file as (n,) whole numbers or text.

    Floats are taken where each is a whole number; (n, 1) is taken as (n,). Raises `UserError`
    naming the first row at fault.
    """
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise UserError(
            f"{where}: labels must be one number or name a sample, shape (n,), got "
            f"{labels.shape}; one-hot rows become numbers by labels.argmax(axis=1)"
        )
    if labels.dtype.kind in "SU":
        text = np.char.decode(labels, "utf-8") if labels.dtype.kind == "S" else labels
        _refuse(
            np.char.strip(text) == "",
            text,
            where,
            "must not be empty; name it or leave the sample out",
        )
        return text
    if labels.dtype.kind == "b":
        return labels.astype(np.uint8)
    if labels.dtype.kind not in "iuf":
        raise UserError(f"{where}: labels must be whole numbers or names, got {labels.dtype}")
    if labels.dtype.kind == "f":
        _refuse(np.isnan(labels), labels, where, "must not be NaN; name it or leave the sample out")
        _refuse(labels != np.rint(labels), labels, where, "must be whole numbers")
    _refuse(labels < 0, labels, where, "must not be negative; leave out samples without a label")
    return labels.astype(np.int64)


def _refuse(wrong: Array, labels: Array, where: str, rule: str) -> None:
    rows: Any = np.flatnonzero(wrong)
    if rows.size:
        raise UserError(f"{where}: labels {rule}; got {labels[rows[0]]} in row {rows[0]} (from 0)")
