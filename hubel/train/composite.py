"""Several optimizers as one: each has its own parameters, all share rates, state and steps."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any, overload

import torch

__all__ = ["Composite"]


class Composite(torch.optim.Optimizer):
    """The optimizers `parts`, stepped in order.

    `param_groups` are the parts' own dictionaries and `state` is one for all of them, so that
    whatever sets a rate, saves or restores the state, unscales gradients or clears them need
    not know that there are several.
    """

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        groups = [group for part in parts for group in part.param_groups]
        super().__init__([dict(group) for group in groups], {})
        self.parts = parts
        self.param_groups = groups
        self.state: defaultdict[torch.Tensor, Any] = defaultdict(dict)
        for part in parts:
            part.state = self.state

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """A step of each part."""
        loss = None if closure is None else closure()
        for part in self.parts:
            part.step()
        return loss
