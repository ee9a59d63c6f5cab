"""Sentences about what a result's figures leave out, the same for every task."""

from collections.abc import Iterable, Mapping, Sequence

from hubel.evaluate.result import Interval

__all__ = ["absent_classes", "widthless_intervals"]

_LISTED = 5


def absent_classes(classes: Sequence[str], present: Iterable[bool], what: str) -> list[str]:
    """At most one sentence: which classes have no `what` ("box") in the split.

    >>> absent_classes(["cat", "dog"], [True, False], "box")[0][:38]
    '1 of 2 classes has no box in this spli'
    """
    absent = [name for name, here in zip(classes, present, strict=True) if not here]
    if not absent:
        return []
    shown = ", ".join(f"'{name}'" for name in absent[:_LISTED])
    has, are = ("has", "is") if len(absent) == 1 else ("have", "are")
    return [
        f"{len(absent)} of {len(classes)} classes {has} no {what} in this split and {are} left out "
        f"of the means over classes: {shown}{', …' if len(absent) > _LISTED else ''}"
    ]


def widthless_intervals(intervals: Mapping[str, Interval | None]) -> list[str]:
    """At most one sentence: the bootstrap intervals that are a single point.

    A perfect result, or a split of one picture, gives the same figure in every resample; the
    interval then looks like certainty, which it is not.
    """
    flat = [name for name, interval in intervals.items() if interval and interval[0] == interval[1]]
    if not flat:
        return []
    return [
        f"every resample of the split gives the same figure, so the interval of "
        f"{', '.join(flat)} has no width and says nothing"
    ]
