"""Receptive fields through any graph: a rule for each operation, from what its inputs see to
what its outputs see.

A field is followed exactly through windows, branches (the union: smallest start, largest end),
padding, slicing, reshaping and whatever mixes a dimension as a whole (global pooling, dense
layers, attention), where every output sees the hull. It is the hull of what the values can
depend on: a dilated kernel's holes count as seen, and statistics that a batch norm takes in
training do not. What no rule knows has no field, and says why.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from hubel.cost.field_layout import (
    as_strided,
    cat,
    expand,
    index_select,
    pad,
    permute,
    pieces,
    select,
    slice_,
    view,
)
from hubel.cost.fields import Field, Rule, Step, all_fields, dims_along, merged, nothing, resized
from hubel.cost.operations import kind_of, plain_name
from hubel.cost.spans import Span

__all__ = ["follow"]


def pointwise(step: Step) -> Field | None:
    return merged(all_fields(step), step.rank)


def same(step: Step) -> Field | None:
    return step.main()


def dims_of(value: Any, rank: int) -> tuple[int, ...]:
    """Dimensions as numbers from 0; none or an empty list are all."""
    if isinstance(value, int):
        value = (value,)
    return tuple(v % rank for v in value) if value else tuple(range(rank))


def _windows(field: Field, step: Step, name: str, kernels: Any, how: dict[str, Any]) -> Field:
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

        field = resized(field, first + i, count, window, f"{name} runs along merged dimensions")
    return field


def _conv(step: Step) -> Field | None:
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


def _pool(step: Step) -> Field | None:
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


def _adaptive_pool(step: Step) -> Field | None:
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

        field = resized(field, i, after, window, reason)
        if None in field.spans:
            field = replace(field, reason=field.reason or reason)
    return field


def _upsampled(step: Step) -> Field | None:
    """Where a map grows, neighbours share what they see: their windows have no one step."""
    field = step.main()
    if field is None:
        return None
    reason = "upsampling gives neighbours the same window"
    sizes = zip(step.bound["self"].shape, step.outputs[0].shape, strict=True)
    for i, (before, after) in enumerate(sizes):
        if before != after:
            field = resized(field, i, after, lambda span: None, reason)
    return replace(field, reason=field.reason or reason) if None in field.spans else field


def _reduction(step: Step) -> Field | None:
    field = step.field(step.bound["self"])
    if field is None:
        return None
    rank = len(field.axes)
    reduced = dims_of(step.bound.get("dim"), rank)
    if step.rank == rank:
        return field.with_axes([() if i in reduced else a for i, a in enumerate(field.axes)])
    return field.with_axes([a for i, a in enumerate(field.axes) if i not in reduced])


def _mixed(name: str) -> Rule:
    """The dimension `name` is mixed as a whole, and stays: softmax, cumulative sums, flips."""

    def rule(step: Step) -> Field | None:
        field = step.main()
        if field is None:
            return None
        mixed = dims_of(step.bound[name], len(field.axes))
        return field.hulled([d for i in mixed for d in dims_along(field.axes[i])])

    return rule


def _layer_norm(step: Step) -> Field | None:
    field = step.main()
    if field is None:
        return None
    first = len(field.axes) - len(step.bound["normalized_shape"])
    return field.hulled(field.along(slice(first, None)))


def _group_norm(step: Step) -> Field | None:
    field = step.main()
    return None if field is None else field.hulled(field.along(slice(1, None)))


def _product(first: str, second: str) -> Rule:
    """(…, m, k) by (…, k, n): what runs along k is seen by every output."""

    def rule(step: Step) -> Field | None:
        left, right = step.field(step.bound[first]), step.field(step.bound[second])
        found = []
        if left is not None:
            left = left.hulled(dims_along(left.axes[-1]))
            found.append(left.with_axes([*left.axes[:-1], ()]))
        if right is not None:
            right = right.hulled(dims_along(right.axes[-2]))
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
            for d in dims_along(axis):
                placed.setdefault(d, set()).add(i)
    twice = {d for d, places in placed.items() if len(places) > 1}
    # Rows against columns of the same pixels: each pair sees two places, no window.
    kept = [
        f.with_axes([() if twice.intersection(dims_along(axis)) else axis for axis in f.axes])
        for f in fields
    ]
    return merged(kept, rank)


def _attention(step: Step) -> Field | None:
    found = []
    for name in ("query", "key", "value"):
        field = step.field(step.bound[name])
        if field is None:
            continue
        if name != "query":
            field = field.hulled(dims_along(field.axes[-2])).with_axes([*field.axes[:-2], (), ()])
        found.append(field)
    return merged(found, step.rank)


# fmt: off
_RULES: dict[str, Rule] = {
    "convolution": _conv,
    "max_pool2d_with_indices": _pool, "max_pool3d_with_indices": _pool,
    "max_pool2d": _pool, "max_pool3d": _pool,
    "avg_pool1d": _pool, "avg_pool2d": _pool, "avg_pool3d": _pool,
    "_adaptive_avg_pool2d": _adaptive_pool, "_adaptive_avg_pool3d": _adaptive_pool,
    "adaptive_max_pool2d": _adaptive_pool, "adaptive_max_pool3d": _adaptive_pool,
    "upsample_nearest2d": _upsampled, "upsample_nearest3d": _upsampled,
    "upsample_bilinear2d": _upsampled, "upsample_trilinear3d": _upsampled,
    "native_batch_norm": same, "_native_batch_norm_legit": same,
    "_native_batch_norm_legit_no_training": same, "cudnn_batch_norm": same,
    "_batch_norm_with_update": same, "_batch_norm_no_update": same,
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
    "cat": cat,
    "constant_pad_nd": pad, "reflection_pad2d": pad, "replication_pad2d": pad,
    "slice": slice_, "select": select, "index_select": index_select,
    "as_strided": as_strided,
    "permute": permute, "transpose": permute, "t": permute,
    "expand": expand,
    "view": view, "_unsafe_view": view, "reshape": view, "unsqueeze": view, "squeeze": view,
    "clone": same, "copy": pointwise, "_to_copy": same, "contiguous": same, "detach": same,
    "alias": same, "lift_fresh": same, "native_dropout": same, "_reshape_alias": view,
    "_prelu_kernel": pointwise, "log_sigmoid_forward": same,
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
    step = Step(name, bound, outputs, field)
    sources = all_fields(step)
    if not sources:
        return [None] * len(outputs)
    if name in ("split", "split_with_sizes", "unbind", "chunk"):
        return pieces(step, name)
    rule = _RULES.get(name)
    if rule is None and (torch.Tag.pointwise in func.tags or kind_of(func) == "activation"):
        rule = pointwise
    if rule is None:
        return [nothing(sources[0], out.dim(), f"{name} has no rule") for out in outputs]
    found = rule(step)
    # Further outputs are indices and statistics: nobody looks through them.
    return [
        found
        if found is None or len(found.axes) == out.dim()
        else nothing(found, out.dim(), f"{name} has no rule")
        for out in outputs
    ]
