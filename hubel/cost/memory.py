"""The most memory that the tensors of a step hold at once, without computing it.

The network runs on tensors without numbers, as in `trace`; whatever torch allocates is added
when it appears and taken away when its last user lets go of it, autograd among them.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from hubel.cost.stand_ins import in_channels_last, on_stand_ins, stand_ins

__all__ = ["Held", "Live", "held"]


@dataclass(frozen=True)
class Held:
    """Bytes of tensors in one step."""

    most: int
    """All that live at the worst moment."""
    steady: int
    """Those among them that stay from step to step: parameters, buffers, the optimizer's state."""
    largest_map: int
    """The largest single tensor that grows with the batch."""


def held(
    model: nn.Module,
    input_shape: Sequence[int],
    *,
    training: bool,
    autocast: torch.dtype | None,
    channels_last: bool,
    kept: int = 0,
) -> Held:
    """What the tensors of a step on `input_shape` (n, c, *spatial) hold.

    With `training` gradients are among them and `kept` bytes that stay, the optimizer's. What
    libraries take for themselves is not counted.
    """

    def run(fake: FakeTensorMode | None) -> Held:
        live = Live(input_shape[0])
        with contextlib.ExitStack() as stack:
            if fake is not None:
                stack.enter_context(fake)
            state = stand_ins(
                model, training=training, channels_last=channels_last, with_numbers=fake is None
            )
            twins = {id(twin): twin for twin in state.values()}.values()
            for twin in twins:
                live.hold(twin)
            steady = live.held
            input = torch.zeros(tuple(input_shape))
            if channels_last:
                input = in_channels_last(input)
            live.hold(input)
            stack.enter_context(torch.set_grad_enabled(training))
            stack.enter_context(live)
            with torch.autocast("cpu", autocast, enabled=autocast is not None):
                output = torch.func.functional_call(model, state, (input,), tie_weights=False)
            wanted = [t for t in pytree.tree_leaves(output) if isinstance(t, torch.Tensor)]
            wanted = [t for t in wanted if t.requires_grad]
            del output
            if wanted:
                torch.autograd.backward(wanted, [torch.ones_like(t) for t in wanted])
        beside = kept if training else 0
        return Held(live.peak + beside, steady + beside, live.largest_map)

    return on_stand_ins(model, training, run)


class Live(TorchDispatchMode):
    """What memory is held while it is on, as far as it saw it taken; `peak` is the most."""

    def __init__(self, batch_size: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.batch_size = batch_size
        self.largest_map = 0
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}  # by the storage's address
        self.held = 0
        self.peak = 0

    def hold(self, tensor: torch.Tensor) -> None:
        """Count the memory of `tensor` until nobody has it any more."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self.alive:
            size = storage.nbytes()
            self.alive[storage._cdata] = (StorageWeakRef(storage), size)
            if tensor.dim() > 1 and tensor.shape[0] == self.batch_size:
                self.largest_map = max(self.largest_map, size)
            self.held += size

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in pytree.tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self.hold(tensor)
        if self.held > self.peak:  # as far as is known: what was let go of is still in it
            self._let_go()
            self.peak = max(self.peak, self.held)
        return result

    def _let_go(self) -> None:
        # The storage class's own test: thousands are asked at every operation.
        expired = torch.UntypedStorage._expired
        for key in [key for key in self.alive if expired(key)]:
            self.held -= self.alive.pop(key)[1]
