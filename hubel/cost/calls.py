"""One call of torch's, without its numbers: enough to make it again on tensors like its own."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils import _pytree as pytree

__all__ = ["Call", "TensorSpec", "call_of"]

_NORM_BACKWARDS = {
    torch.ops.aten.native_batch_norm_backward.default: 2,
    torch.ops.aten.native_layer_norm_backward.default: 5,
    torch.ops.aten.native_group_norm_backward.default: 4,
}
"""Backward passes of norms, with the place of the weight among their arguments."""


@dataclass(frozen=True)
class TensorSpec:
    """A tensor without its numbers."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    @property
    def span(self) -> int:
        """Elements of memory from the first to the last: a repeated dimension takes one."""
        if 0 in self.shape:
            return 0
        return 1 + sum((n - 1) * step for n, step in zip(self.shape, self.stride, strict=True))

    def make(self, device: torch.device) -> torch.Tensor:
        """A tensor of this kind with harmless numbers: 0.5; of integers 0."""
        memory = torch.empty(self.span, dtype=self.dtype, device=device)
        memory.fill_(0.5) if self.dtype.is_floating_point else memory.zero_()
        return memory.as_strided(self.shape, self.stride)


@dataclass(frozen=True)
class Call:
    """One operation with its arguments, tensors replaced by their specifications."""

    func: Any
    leaves: tuple[object, ...]
    form: Any

    @property
    def key(self) -> str:
        """Equal for equal work."""
        return f"{self.func} {self.leaves}"

    @property
    def bytes(self) -> int:
        """Of the tensors that it is given."""
        specs = [leaf for leaf in self.leaves if isinstance(leaf, TensorSpec)]
        return sum(spec.span * spec.dtype.itemsize for spec in specs)

    def prepare(self, device: torch.device) -> Callable[[], object]:
        """The call with tensors of its own, ready to be made again and again."""
        made = [leaf.make(device) if isinstance(leaf, TensorSpec) else leaf for leaf in self.leaves]
        args, kwargs = pytree.tree_unflatten(made, self.form)
        return lambda: self.func(*args, **kwargs)


def call_of(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    """The record of `func(*args, **kwargs)`."""
    leaves, form = pytree.tree_flatten((args, kwargs))
    specs = tuple(_without_numbers(leaf) for leaf in leaves)
    if func in _NORM_BACKWARDS:
        # The saved statistics: a fake norm has them in the map's arithmetic, a real one on the
        # CPU in the weight's.
        weight = args[_NORM_BACKWARDS[func]]
        dtype = torch.float32 if weight is None else weight.dtype
        specs = tuple(
            replace(spec, dtype=dtype)
            if isinstance(spec, TensorSpec) and len(spec.shape) == 1
            else spec
            for spec in specs
        )
    return Call(func, specs, form)


def _without_numbers(leaf: object) -> object:
    if isinstance(leaf, torch.Tensor):
        return TensorSpec(tuple(leaf.shape), tuple(leaf.stride()), leaf.dtype)
    return leaf
