"""Receptive fields through what only moves data: joins, cuts, padding, reshaping."""

from dataclasses import replace

from hubel.cost.fields import Axis, Field, Step, dims_along, merged, nothing, part

__all__ = [
    "as_strided",
    "cat",
    "expand",
    "index_select",
    "pad",
    "permute",
    "pieces",
    "select",
    "slice_",
    "view",
]


def cat(step: Step) -> Field | None:
    tensors = step.bound["tensors"]
    dim = step.bound.get("dim", 0) % step.rank
    pairs = [(t, step.field(t)) for t in tensors]
    fields = [f for _, f in pairs if f is not None]
    if not fields:
        return None
    along = {d for f in fields for d in dims_along(f.axes[dim])}
    result = merged(fields, step.rank) if len(fields) > 1 else fields[0]
    if result is None or not along:
        return result
    if len(fields) == 1 and len(dims_along(result.axes[dim])) > 1:
        # A class token before the patches: those keep their windows, it sees nothing.
        joined: Axis = ((dims_along(result.axes[dim]), step.outputs[0].shape[dim]),)
        return replace(result, axes=(*result.axes[:dim], joined, *result.axes[dim + 1 :]))
    return result.lost(sorted(along), "positions are joined end to end")


def slice_(step: Step) -> Field | None:
    a = step.bound
    field = step.field(a["self"])
    if field is None:
        return None
    dim = a["dim"] % step.rank
    before, after = a["self"].shape[dim], step.outputs[0].shape[dim]
    first = a["start"] or 0
    first = max(0, first + before if first < 0 else first)
    return part(field, dim, before, first, a["step"], after)


def select(step: Step) -> Field | None:
    a = step.bound
    field = step.field(a["self"])
    if field is None:
        return None
    rank = len(field.axes)
    dim = a["dim"] % rank
    before = a["self"].shape[dim]
    one = part(field, dim, before, a["index"] % before, 1, 1)
    return one.with_axes([axis for i, axis in enumerate(one.axes) if i != dim])


def index_select(step: Step) -> Field | None:
    field = step.field(step.bound["self"])
    if field is None:
        return None
    along = dims_along(field.axes[step.bound["dim"] % step.rank])
    return field.lost(along, "positions are picked one by one")


def as_strided(step: Step) -> Field | None:
    """torch gives a pooled map other strides by it, in the same shape."""
    field = step.main()
    if field is None or step.bound["self"].shape == step.outputs[0].shape:
        return field
    return nothing(field, step.rank, "as_strided has no rule")


def pad(step: Step) -> Field | None:
    field = step.field(step.bound["self"])
    if field is None:
        return None
    pad = step.bound.get("pad") or step.bound["padding"]
    for i in range(len(pad) // 2):
        dim = step.rank - 1 - i
        before, after = step.bound["self"].shape[dim], step.outputs[0].shape[dim]
        if pad[2 * i] or pad[2 * i + 1]:
            along = dims_along(field.axes[dim])
            if len(along) > 1:
                field = field.lost(along, "padding of merged dimensions")
            field = part(field, dim, before, -pad[2 * i], 1, after)
    return field


def permute(step: Step) -> Field | None:
    field = step.main()
    if field is None:
        return None
    rank = len(field.axes)
    order = list(range(rank))
    if "dims" in step.bound:
        order = [d % rank for d in step.bound["dims"]]
    else:
        one, other = (step.bound.get(key, i) % rank for i, key in enumerate(("dim0", "dim1")))
        if rank > 1:
            order[one], order[other] = order[other], order[one]
    return field.with_axes([field.axes[i] for i in order])


def expand(step: Step) -> Field | None:
    field = step.main()
    if field is None:
        return None
    return field.with_axes([()] * (step.rank - len(field.axes)) + list(field.axes))


def view(step: Step) -> Field | None:
    """Dimensions may merge, and a merged one may come apart again where it was joined."""
    field = step.main()
    if field is None:
        return None
    ins, outs = tuple(step.bound["self"].shape), tuple(step.outputs[0].shape)
    axes: list[Axis] = [()] * len(outs)
    lost: list[int] = []
    for ours, theirs in _groups(ins, outs):
        parts = [part for i in ours for part in (field.axes[i] or (((), ins[i]),))]
        sizes = tuple(count for _, count in parts)
        for left, right in _groups(sizes, tuple(outs[j] for j in theirs)):
            axis = tuple(parts[i] for i in left)
            if not dims_along(axis):
                continue
            places = [theirs[j] for j in right if outs[theirs[j]] > 1 or len(right) == 1]
            if len(places) == 1:
                axes[places[0]] = axis
            elif places:
                lost += dims_along(axis)
    return field.lost(lost, "a dimension of the map is cut into pieces").with_axes(axes)


def _groups(ins: tuple[int, ...], outs: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """The finest runs of both shapes with equal products, in order."""
    found = []
    i = j = 0
    while i < len(ins) or j < len(outs):
        ours, theirs = [], []
        mine = its = 1
        if i < len(ins):
            ours.append(i)
            mine, i = ins[i], i + 1
        if j < len(outs) and (mine != 1 or outs[j] == 1 or i >= len(ins)):
            theirs.append(j)
            its, j = outs[j], j + 1
        while mine != its:
            if mine < its and i < len(ins):
                ours.append(i)
                mine, i = mine * ins[i], i + 1
            elif j < len(outs):
                theirs.append(j)
                its, j = its * outs[j], j + 1
            else:
                break
        found.append((ours, theirs))
    return found


def pieces(step: Step, name: str) -> list[Field | None]:
    field = step.field(step.bound["self"])
    if field is None:
        return [None] * len(step.outputs)
    dim = step.bound.get("dim", 0) % len(field.axes)
    before = step.bound["self"].shape[dim]
    found: list[Field | None] = []
    first = 0
    for out in step.outputs:
        count = 1 if name == "unbind" else out.shape[dim]
        piece = part(field, dim, before, first, 1, count)
        if name == "unbind":
            piece = piece.with_axes([axis for i, axis in enumerate(piece.axes) if i != dim])
        found.append(piece)
        first += count
    return found
