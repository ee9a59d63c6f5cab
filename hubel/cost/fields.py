"""Receptive fields through any graph: a rule for each operation, from what its inputs see to
what its outputs see.

A field is followed exactly through windows, branches (the union: smallest start, largest end),
padding, slicing, reshaping and whatever mixes a dimension as a whole (global pooling, dense
layers, attention), where every output sees the hull. It is the hull of what the values can
depend on: a dilated kernel's holes count as seen, and statistics that a batch norm takes in
training do not. What no rule knows has no field, and says why.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch

from hubel.cost.operations import kind_of, plain_name
from hubel.cost.spans import Span, union

__all__ = ["Field", "follow", "input_field"]

Spans: TypeAlias = tuple[Span | None, ...]

Axis: TypeAlias = tuple[tuple[tuple[int, ...], int], ...]
"""What one dimension of a tensor runs along: (spatial dimensions of the input, positions).

() for the batch and channels; (((0,), 56),) for rows; several parts where a reshape merged
dimensions, so that it may come apart again; (((0, 1), 197),) where tokens were joined."""


def _along(axis: Axis) -> tuple[int, ...]:
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
        return tuple(d for axis in self.axes[dims] for d in _along(axis))

    def with_axes(self, axes: Sequence[Axis]) -> "Field":
        """Other axes; along those that are gone everything is seen together."""
        left = {d for axis in axes for d in _along(axis)}
        spans = tuple(s if s is None or d in left else s.hull() for d, s in enumerate(self.spans))
        return replace(self, axes=tuple(axes), spans=spans)


def input_field(shape: Sequence[int]) -> Field:
    """Of the input (n, c, *spatial) itself: each pixel sees itself."""
    return Field(
        ((), (), *((((d,), side),) for d, side in enumerate(shape[2:]))),
        tuple(Span(1, 1, 0, side) for side in shape[2:]),
    )


@dataclass
class _Step:
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


Rule: TypeAlias = Callable[[_Step], Field | None]


def _merged(fields: Sequence[Field], rank: int) -> Field | None:
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
            if one and other and _along(one) != _along(other):
                return _nothing(result, rank, "its branches are laid out differently")
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


def _nothing(field: Field, rank: int, reason: str) -> Field:
    return Field(((),) * rank, (None,) * len(field.spans), field.reason or reason)


def _all_fields(step: _Step) -> list[Field]:
    found = []
    for value in step.bound.values():
        for one in value if isinstance(value, list | tuple) else (value,):
            field = step.field(one) if isinstance(one, torch.Tensor) else None
            if field is not None:
                found.append(field)
    return found


def _pointwise(step: _Step) -> Field | None:
    return _merged(_all_fields(step), step.rank)


def _same(step: _Step) -> Field | None:
    return step.main()


def _dims(value: Any, rank: int) -> tuple[int, ...]:
    """Dimensions as numbers from 0; none or an empty list are all."""
    if isinstance(value, int):
        value = (value,)
    return tuple(v % rank for v in value) if value else tuple(range(rank))


def _windows(field: Field, step: _Step, name: str, kernels: Any, how: dict[str, Any]) -> Field:
    """A window over the last len(kernels) dimensions of the output."""
    first = step.rank - len(kernels)
    for i, kernel in enumerate(kernels):
        stride, padding, dilation = (
            v[i] if len(v) > 1 else v[0] for v in (how["stride"], how["padding"], how["dilation"])
        )
        if kernel == 1 and stride == 1 and not padding:
            continue
        count = step.outputs[0].shape[first + i]

        def window(
            span: Span,
            kernel: int = kernel,
            stride: int = stride,
            padding: int = padding,
            dilation: int = dilation,
            count: int = count,
        ) -> Span:
            return span.window(kernel, stride, padding, dilation, count)

        field = _resized(field, first + i, count, window, f"{name} runs along merged dimensions")
    return field


def _resized(
    field: Field, dim: int, count: int, change: Callable[[Span], Span | None], merged: str
) -> Field:
    """`field` with `count` positions along `dim`, seen as `change` says; `merged` if it cannot."""
    along = _along(field.axes[dim])
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


def _conv(step: _Step) -> Field | None:
    a = step.bound
    field = step.field(a["input"])
    if field is None:
        return None
    field = field.hulled(field.along(slice(1, 2)))
    field = field.with_axes((field.axes[0], (), *field.axes[2:]))
    if a["transposed"]:
        seen = field.along(slice(2, None))
        return field.lost(seen, "a transposed convolution sees different windows in turn")
    how = {key: a[key] for key in ("stride", "padding", "dilation")}
    return _windows(field, step, "a convolution", a["weight"].shape[2:], how)


def _pool(step: _Step) -> Field | None:
    a = step.bound
    field = step.field(a["self"])
    if field is None:
        return None
    dims = int(step.name[step.name.index("pool") + 4])
    kernels = [*a["kernel_size"]] * (dims if len(a["kernel_size"]) == 1 else 1)
    how = {
        "stride": a["stride"] or a["kernel_size"],
        "padding": a["padding"],
        "dilation": a.get("dilation") or [1],
    }
    return _windows(field, step, "pooling", kernels, how)


def _adaptive_pool(step: _Step) -> Field | None:
    field = step.field(step.bound["self"])
    if field is None:
        return None
    ins, outs = step.bound["self"].shape, step.outputs[0].shape
    reason = "adaptive pooling has windows of different sizes"
    for i, (before, after) in enumerate(zip(ins, outs, strict=True)):
        if before == after:
            continue
        if after == 1:
            field = field.hulled(field.along(slice(i, i + 1)))
        ratio = before // after

        def window(
            span: Span, ratio: int = ratio, after: int = after, even: bool = before % after == 0
        ) -> Span | None:
            if span.jump == 0:
                return replace(span, count=after)
            return span.window(ratio, ratio, 0, 1, after) if even else None

        field = _resized(field, i, after, window, reason)
        if None in field.spans:
            field = replace(field, reason=field.reason or reason)
    return field


def _reduction(step: _Step) -> Field | None:
    field = step.field(step.bound["self"])
    if field is None:
        return None
    rank = len(field.axes)
    reduced = _dims(step.bound.get("dim"), rank)
    if step.rank == rank:
        return field.with_axes([() if i in reduced else a for i, a in enumerate(field.axes)])
    return field.with_axes([a for i, a in enumerate(field.axes) if i not in reduced])


def _mixed(name: str) -> Rule:
    """The dimension `name` is mixed as a whole, and stays: softmax, cumulative sums, flips."""

    def rule(step: _Step) -> Field | None:
        field = step.main()
        if field is None:
            return None
        mixed = _dims(step.bound[name], len(field.axes))
        return field.hulled([d for i in mixed for d in _along(field.axes[i])])

    return rule


def _layer_norm(step: _Step) -> Field | None:
    field = step.main()
    if field is None:
        return None
    first = len(field.axes) - len(step.bound["normalized_shape"])
    return field.hulled(field.along(slice(first, None)))


def _group_norm(step: _Step) -> Field | None:
    field = step.main()
    return None if field is None else field.hulled(field.along(slice(1, None)))


def _product(first: str, second: str) -> Rule:
    """(…, m, k) by (…, k, n): what runs along k is seen by every output."""

    def rule(step: _Step) -> Field | None:
        left, right = step.field(step.bound[first]), step.field(step.bound[second])
        found = []
        if left is not None:
            left = left.hulled(_along(left.axes[-1]))
            found.append(left.with_axes([*left.axes[:-1], ()]))
        if right is not None:
            right = right.hulled(_along(right.axes[-2]))
            found.append(right.with_axes([*right.axes[:-2], (), right.axes[-1]]))
        added = step.field(step.bound.get("self")) if first != "self" else None
        if added is not None:
            found.append(added)
        return _crossed(found, step.rank)

    return rule


def _crossed(fields: list[Field], rank: int) -> Field | None:
    """Union of fields that run along the same spatial dimension in different places."""
    placed: dict[int, set[int]] = {}
    for field in fields:
        for i, axis in enumerate(field.axes):
            for d in _along(axis):
                placed.setdefault(d, set()).add(i)
    twice = {d for d, places in placed.items() if len(places) > 1}
    # Rows against columns of the same pixels: each pair sees two places, no window.
    kept = [
        f.with_axes([() if twice.intersection(_along(axis)) else axis for axis in f.axes])
        for f in fields
    ]
    return _merged(kept, rank)


def _attention(step: _Step) -> Field | None:
    found = []
    for name in ("query", "key", "value"):
        field = step.field(step.bound[name])
        if field is None:
            continue
        if name != "query":
            field = field.hulled(_along(field.axes[-2])).with_axes([*field.axes[:-2], (), ()])
        found.append(field)
    return _merged(found, step.rank)


def _cat(step: _Step) -> Field | None:
    tensors = step.bound["tensors"]
    dim = step.bound.get("dim", 0) % step.rank
    pairs = [(t, step.field(t)) for t in tensors]
    fields = [f for _, f in pairs if f is not None]
    if not fields:
        return None
    along = {d for f in fields for d in _along(f.axes[dim])}
    result = _merged(fields, step.rank) if len(fields) > 1 else fields[0]
    if result is None or not along:
        return result
    if len(fields) == 1 and len(_along(result.axes[dim])) > 1:
        # A class token before the patches: those keep their windows, it sees nothing.
        joined: Axis = ((_along(result.axes[dim]), step.outputs[0].shape[dim]),)
        return replace(result, axes=(*result.axes[:dim], joined, *result.axes[dim + 1 :]))
    return result.lost(sorted(along), "positions are joined end to end")


def _slice(step: _Step) -> Field | None:
    a = step.bound
    field = step.field(a["self"])
    if field is None:
        return None
    dim = a["dim"] % step.rank
    before, after = a["self"].shape[dim], step.outputs[0].shape[dim]
    first = a["start"] or 0
    first = max(0, first + before if first < 0 else first)
    return _part(field, dim, before, first, a["step"], after)


def _part(field: Field, dim: int, before: int, first: int, step: int, count: int) -> Field:
    """`count` of the `before` positions along `dim`, from `first` on, every `step`-th."""
    if before == count and first == 0 and step == 1:
        return field
    along = _along(field.axes[dim])
    if len(along) > 1:
        field = field.hulled(along)
        return replace(field, axes=(*field.axes[:dim], ((along, count),), *field.axes[dim + 1 :]))
    return _resized(field, dim, count, lambda span: span.part(first, step, count), "")


def _select(step: _Step) -> Field | None:
    a = step.bound
    field = step.field(a["self"])
    if field is None:
        return None
    rank = len(field.axes)
    dim = a["dim"] % rank
    before = a["self"].shape[dim]
    part = _part(field, dim, before, a["index"] % before, 1, 1)
    return part.with_axes([axis for i, axis in enumerate(part.axes) if i != dim])


def _index_select(step: _Step) -> Field | None:
    field = step.field(step.bound["self"])
    if field is None:
        return None
    along = _along(field.axes[step.bound["dim"] % step.rank])
    return field.lost(along, "positions are picked one by one")


def _as_strided(step: _Step) -> Field | None:
    """torch gives a pooled map other strides by it, in the same shape."""
    field = step.main()
    if field is None or step.bound["self"].shape == step.outputs[0].shape:
        return field
    return _nothing(field, step.rank, "as_strided has no rule")


def _pad(step: _Step) -> Field | None:
    field = step.field(step.bound["self"])
    if field is None:
        return None
    pad = step.bound.get("pad") or step.bound["padding"]
    for i in range(len(pad) // 2):
        dim = step.rank - 1 - i
        before, after = step.bound["self"].shape[dim], step.outputs[0].shape[dim]
        if pad[2 * i] or pad[2 * i + 1]:
            along = _along(field.axes[dim])
            if len(along) > 1:
                field = field.lost(along, "padding of merged dimensions")
            field = _part(field, dim, before, -pad[2 * i], 1, after)
    return field


def _permute(step: _Step) -> Field | None:
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


def _expand(step: _Step) -> Field | None:
    field = step.main()
    if field is None:
        return None
    return field.with_axes([()] * (step.rank - len(field.axes)) + list(field.axes))


def _view(step: _Step) -> Field | None:
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
            if not _along(axis):
                continue
            places = [theirs[j] for j in right if outs[theirs[j]] > 1 or len(right) == 1]
            if len(places) == 1:
                axes[places[0]] = axis
            elif places:
                lost += _along(axis)
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


# fmt: off
_RULES: dict[str, Rule] = {
    "convolution": _conv,
    "max_pool2d_with_indices": _pool, "max_pool3d_with_indices": _pool,
    "max_pool2d": _pool, "max_pool3d": _pool,
    "avg_pool1d": _pool, "avg_pool2d": _pool, "avg_pool3d": _pool,
    "_adaptive_avg_pool2d": _adaptive_pool, "_adaptive_avg_pool3d": _adaptive_pool,
    "adaptive_max_pool2d": _adaptive_pool, "adaptive_max_pool3d": _adaptive_pool,
    "native_batch_norm": _same, "_native_batch_norm_legit": _same,
    "_native_batch_norm_legit_no_training": _same, "cudnn_batch_norm": _same,
    "_batch_norm_with_update": _same, "_batch_norm_no_update": _same,
    "native_layer_norm": _layer_norm, "native_group_norm": _group_norm,
    "mm": _product("self", "mat2"), "addmm": _product("mat1", "mat2"),
    "bmm": _product("self", "mat2"), "baddbmm": _product("batch1", "batch2"),
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "_scaled_dot_product_flash_attention": _attention,
    "_scaled_dot_product_efficient_attention": _attention,
    "_scaled_dot_product_cudnn_attention": _attention,
    "_softmax": _mixed("dim"), "_log_softmax": _mixed("dim"), "_safe_softmax": _mixed("dim"),
    "cumsum": _mixed("dim"), "flip": _mixed("dims"), "roll": _mixed("dims"), "sort": _mixed("dim"),
    "mean": _reduction, "sum": _reduction, "amax": _reduction, "amin": _reduction,
    "max": _reduction, "min": _reduction, "var": _reduction, "std": _reduction,
    "var_mean": _reduction, "linalg_vector_norm": _reduction, "norm": _reduction,
    "logsumexp": _reduction, "argmax": _reduction,
    "cat": _cat,
    "constant_pad_nd": _pad, "reflection_pad2d": _pad, "replication_pad2d": _pad,
    "slice": _slice, "select": _select, "index_select": _index_select,
    "as_strided": _as_strided,
    "permute": _permute, "transpose": _permute, "t": _permute,
    "expand": _expand,
    "view": _view, "_unsafe_view": _view, "reshape": _view, "unsqueeze": _view, "squeeze": _view,
    "clone": _same, "copy": _pointwise, "_to_copy": _same, "contiguous": _same, "detach": _same,
    "alias": _same, "lift_fresh": _same, "native_dropout": _same, "_reshape_alias": _view,
    "_prelu_kernel": _pointwise, "log_sigmoid_forward": _same,
    "zeros_like": lambda step: None, "ones_like": lambda step: None,
    "empty_like": lambda step: None, "new_empty": lambda step: None,
    "bernoulli": lambda step: None, "full_like": lambda step: None,
    "new_zeros": lambda step: None, "new_ones": lambda step: None,
}
# fmt: on


def follow(
    func: torch._ops.OpOverload,
    bound: dict[str, Any],
    outputs: list[torch.Tensor],
    field: Callable[[Any], Field | None],
) -> list[Field | None]:
    """The field of each of `outputs` of one operation."""
    if not outputs:
        return []
    name = plain_name(func)
    step = _Step(name, bound, outputs, field)
    sources = _all_fields(step)
    if not sources:
        return [None] * len(outputs)
    if name in ("split", "split_with_sizes", "unbind", "chunk"):
        return _pieces(step, name)
    rule = _RULES.get(name)
    if rule is None and (torch.Tag.pointwise in func.tags or kind_of(func) == "activation"):
        rule = _pointwise
    if rule is None:
        return [_nothing(sources[0], out.dim(), f"{name} has no rule") for out in outputs]
    found = rule(step)
    # Further outputs are indices and statistics: nobody looks through them.
    return [
        found
        if found is None or len(found.axes) == out.dim()
        else _nothing(found, out.dim(), f"{name} has no rule")
        for out in outputs
    ]


def _pieces(step: _Step, name: str) -> list[Field | None]:
    field = step.field(step.bound["self"])
    if field is None:
        return [None] * len(step.outputs)
    dim = step.bound.get("dim", 0) % len(field.axes)
    before = step.bound["self"].shape[dim]
    found: list[Field | None] = []
    first = 0
    for out in step.outputs:
        count = 1 if name == "unbind" else out.shape[dim]
        part = _part(field, dim, before, first, 1, count)
        if name == "unbind":
            part = part.with_axes([axis for i, axis in enumerate(part.axes) if i != dim])
        found.append(part)
        first += count
    return found
