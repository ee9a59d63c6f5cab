"""Receptive fields in one dimension: where the windows of a map's positions lie in the input."""

from dataclasses import dataclass, replace

from hubel.cost.records import Seen
from hubel.shapes import ReceptiveField

__all__ = ["Span", "union"]


@dataclass(frozen=True)
class Span:
    """Position o of `count` sees [start + o·jump, start + o·jump + size) of the input.

    `jump` 0: every position sees the same range.
    """

    size: int
    jump: int
    start: int
    count: int

    def hull(self, count: int = 1) -> "Span":
        """All that all positions see together, seen by each of `count` positions."""
        return Span(self.size + (self.count - 1) * self.jump, 0, self.start, count)

    def window(self, kernel: int, stride: int, padding: int, dilation: int, count: int) -> "Span":
        """`count` positions of a convolution or pooling on top of this map."""
        if self.jump == 0:
            return replace(self, count=count)
        layer = ReceptiveField.of_window(
            (kernel,), stride=stride, padding=((padding, padding),), dilation=dilation
        )
        mine = ReceptiveField((self.size,), (self.jump,), (self.start,)).then(layer)
        return Span(mine.size[0], mine.jump[0], mine.start[0], count)

    def part(self, first: int, step: int, count: int) -> "Span":
        """`count` positions from `first` on, every `step`-th; a negative `first` is padding."""
        return Span(self.size, self.jump * step, self.start + first * self.jump, count)

    @property
    def seen(self) -> Seen:
        """The record of it."""
        return Seen(self.size, self.jump or None, self.start)


def union(one: Span, other: Span) -> Span | None:
    """What a position sees through both branches; None if their windows move differently.

    A branch of one position, or of one range for all, is seen by every position of the other.
    """
    count = max(one.count, other.count)
    if count > 1:
        one = one.hull(count) if one.count == 1 else one
        other = other.hull(count) if other.count == 1 else other
    if one.jump != other.jump:
        if count > 1 and one.jump and other.jump:
            return None
        one, other = one.hull(count), other.hull(count)
    if one.count != other.count:
        return None
    start = min(one.start, other.start)
    return Span(max(one.start + one.size, other.start + other.size) - start, one.jump, start, count)
