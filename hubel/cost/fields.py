"""What the positions of a tensor see of the input: the record of it, and how it changes.

A field is the hull of what a value can depend on: a dilated kernel's holes count as seen, and
statistics that a batch norm takes in training do not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch

from hubel.cost.spans import Span, union

__all__ = [
    "Axis",
    "Field",
    "Rule",
    "Step",
    "all_fields",
    "dims_along",
    "input_field",
    "merged",
    "nothing",
    "part",
    "resized",
]

Spans: TypeAlias = tuple[Span | None, ...]

Axis: TypeAlias = tuple[tuple[tuple[int, ...], int], ...]
"""What one dimension of a tensor runs along: (spatial dimensions of the input, positions).

() for the batch and channels; (((0,), 56),) for rows; several parts where a reshape merged
dimensions, so that it may come apart again; (((0, 1), 197),) where tokens were joined."""


def dims_along(axis: Axis) -> tuple[int, ...]:
    """The spatial dimensions along which an axis runs."""
    return tuple(d for dims, _ in axis for d in dims)


@dataclass(frozen=True)
class Field:
    """What the positions of one tensor see of the input."""

    axes: tuple[Axis, ...]
    """One a dimension of the tensor."""
    spans: Spans
    """One a spatial dimension of the input; None where there is no such thing."""
    reason: str = ""
    """Why one is None."""

    def hulled(self, dims: Sequence[int]) -> "Field":
        """Every position sees, along the spatial dimensions `dims`, what all see together."""
        spans = tuple(
            s.hull(s.count) if s is not None and d in dims else s for d, s in enumerate(self.spans)
        )
        return replace(self, spans=spans)

    def lost(self, dims: Sequence[int], reason: str) -> "Field":
        """No field any more along `dims`."""
        if not dims:
            return self
        spans = tuple(None if d in dims else s for d, s in enumerate(self.spans))
        return replace(self, spans=spans, reason=self.reason or reason)

    def along(self, dims: slice) -> tuple[int, ...]:
        """The spatial dimensions along which these dimensions of the tensor run."""
        return tuple(d for axis in self.axes[dims] for d in dims_along(axis))

    def with_axes(self, axes: Sequence[Axis]) -> "Field":
        """Other axes; along those that are gone everything is seen together."""
        left = {d for axis in axes for d in dims_along(axis)}
        spans = tuple(s if s is None or d in left else s.hull() for d, s in enumerate(self.spans))
        return replace(self, axes=tuple(axes), spans=spans)


def input_field(shape: Sequence[int]) -> Field:
    """Of the input (n, c, *spatial) itself: each pixel sees itself."""
    return Field(
        ((), (), *((((d,), side),) for d, side in enumerate(shape[2:]))),
        tuple(Span(1, 1, 0, side) for side in shape[2:]),
    )


@dataclass
class Step:
    """One operation: its arguments by name, its outputs, and the fields of its inputs."""

    name: str
    bound: dict[str, Any]
    outputs: list[torch.Tensor]
    field: Callable[[Any], Field | None]

    @property
    def rank(self) -> int:
        return self.outputs[0].dim()

    def main(self) -> Field | None:
        """The field of the first tensor argument that has one."""
        for value in self.bound.values():
            found = self.field(value) if isinstance(value, torch.Tensor) else None
            if found is not None:
                return found
        return None


def merged(fields: Sequence[Field], rank: int) -> Field | None:
    """Of an elementwise operation on tensors that broadcast: the union along aligned axes."""
    if not fields:
        return None
    result: Field | None = None
    for field in fields:
        padded = ((),) * (rank - len(field.axes)) + field.axes
        if result is None:
            result = replace(field, axes=padded)
            continue
        axes: list[Axis] = []
        for one, other in zip(result.axes, padded, strict=True):
            if one and other and dims_along(one) != dims_along(other):
                return nothing(result, rank, "its branches are laid out differently")
            # Of a map and one that broadcasts, the map's.
            axes.append(max(one, other, key=lambda axis: [count for _, count in axis]))
        spans: list[Span | None] = []
        reason = result.reason or field.reason
        for mine, its in zip(result.spans, field.spans, strict=True):
            joined = union(mine, its) if mine is not None and its is not None else None
            if joined is None and not reason:
                reason = "its branches have different strides"
            spans.append(joined)
        result = Field(tuple(axes), tuple(spans), reason)
    return result


def nothing(field: Field, rank: int, reason: str) -> Field:
    return Field(((),) * rank, (None,) * len(field.spans), field.reason or reason)


def all_fields(step: Step) -> list[Field]:
    found = []
    for value in step.bound.values():
        for one in value if isinstance(value, list | tuple) else (value,):
            field = step.field(one) if isinstance(one, torch.Tensor) else None
            if field is not None:
                found.append(field)
    return found


def resized(
    field: Field, dim: int, count: int, change: Callable[[Span], Span | None], merged: str
) -> Field:
    """`field` with `count` positions along `dim`, seen as `change` says; `merged` if it cannot."""
    along = dims_along(field.axes[dim])
    if not along:
        return field
    axes = (*field.axes[:dim], ((along, count),), *field.axes[dim + 1 :])
    field = replace(field, axes=axes)
    if len(along) > 1:
        return field.lost(along, merged)
    spans = list(field.spans)
    span = spans[along[0]]
    spans[along[0]] = None if span is None else change(span)
    return replace(field, spans=tuple(spans))


def part(field: Field, dim: int, before: int, first: int, step: int, count: int) -> Field:
    """`count` of the `before` positions along `dim`, from `first` on, every `step`-th."""
    if before == count and first == 0 and step == 1:
        return field
    along = dims_along(field.axes[dim])
    if len(along) > 1:
        field = field.hulled(along)
        return replace(field, axes=(*field.axes[:dim], ((along, count),), *field.axes[dim + 1 :]))
    return resized(field, dim, count, lambda span: span.part(first, step, count), "")


Rule: TypeAlias = Callable[[Step], Field | None]
"""From an operation to the field of its outputs."""
