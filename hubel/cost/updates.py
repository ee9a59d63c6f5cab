"""What the optimizer does after the backward pass, recorded without computing it.

The optimizer itself makes its step on a twin of the network whose tensors have shapes but no
numbers; each operation is recorded, as those of the network are by `trace`. Adam's fused kernel
stays one entry of all its parameters: it takes a time for each number and each tensor.
"""

import contextlib
import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree

from hubel.cost.memory import Live
from hubel.cost.records import Operation
from hubel.cost.stand_ins import on_stand_ins, stand_ins, tensors_of
from hubel.cost.trace import operation_of

__all__ = ["MakeOptimizer", "Update", "adamw", "update_of"]

MakeOptimizer: TypeAlias = Callable[[nn.Module], torch.optim.Optimizer]
"""From a network to what trains it."""

_FUSED_ADAM = ("_fused_adam", "_fused_adamw")


@dataclass(frozen=True)
class Update:
    """One step of an optimizer that has made a step before."""

    operations: tuple[Operation, ...]
    """All but Adam's kernel."""
    adam_sizes: tuple[int, ...]
    """Of the tensors that Adam's kernel updates, each its number of elements."""
    kept_bytes: int
    """What it remembers from step to step."""
    passing_bytes: int
    """The most that it takes meanwhile, beside parameters, gradients and what it remembers."""


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    """Of all that is trained: the textbook's."""
    return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], fused=True)


def update_of(model: nn.Module, make: MakeOptimizer, *, channels_last: bool) -> Update:
    """The step of the optimizer that `make` gives for `model`, which stays as it is.

    `make` gets a copy, and may run it: nothing is computed then either.
    """
    if not any(p.requires_grad for p in model.parameters()):
        return Update((), (), 0, 0)

    def run(fake: FakeTensorMode | None) -> Update:
        with contextlib.nullcontext() if fake is None else fake:
            tensors = stand_ins(
                model, training=True, channels_last=channels_last, with_numbers=fake is None
            )
            # The copy takes the stand-ins for its tensors: what is in its memo is copied already.
            memo = {id(tensor): tensors[name] for name, tensor in tensors_of(model)}
            try:
                twin = copy.deepcopy(model, memo)
            except (RuntimeError, TypeError):
                return _by_adam(model)  # what cannot be copied: as if AdamW updated all of it
            return _recorded(twin, make)

    return on_stand_ins(model, True, run)


def _by_adam(model: nn.Module) -> Update:
    trained = [p for p in model.parameters() if p.requires_grad]
    return Update((), tuple(p.numel() for p in trained), 2 * sum(p.nbytes for p in trained), 0)


def _recorded(twin: nn.Module, make: MakeOptimizer) -> Update:
    optimizer = make(twin)
    for parameter in twin.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.empty_like(parameter)
    optimizer.step()  # makes what it remembers
    state = [t for t in pytree.tree_leaves(dict(optimizer.state)) if isinstance(t, torch.Tensor)]
    steps = _Steps()
    for tensor in (*twin.parameters(), *(p.grad for p in twin.parameters()), *state):
        if tensor is not None:
            steps.hold(tensor)
    steady = steps.peak = steps.held
    with steps:
        optimizer.step()
    kept = sum(t.nbytes for t in state)
    return Update(tuple(steps.operations), tuple(steps.adam_sizes), kept, steps.peak - steady)


class _Steps(Live):
    """Records operations, and watches the memory."""

    def __init__(self) -> None:
        super().__init__(0)  # no map has so many samples
        self.operations: list[Operation] = []
        self.adam_sizes: list[int] = []

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = super().__torch_dispatch__(func, types, args, kwargs)
        if func.namespace != "aten" or func.is_view:
            return result
        if func._schema.name.removeprefix("aten::").rstrip("_") in _FUSED_ADAM:
            self.adam_sizes += [p.numel() for p in args[0]]
            return result
        operation = operation_of(func, args, kwargs or {}, result)
        if any(operation.inputs):  # else it counts Adam's steps, which are in its own time
            self.operations.append(operation)
        return result
