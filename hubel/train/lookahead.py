"""Lookahead: slow weights that the fast ones explore ahead of and are pulled back to.

Zhang, Lucas, Hinton and Ba 2019, "Lookahead Optimizer: k steps forward, 1 step back"
(NeurIPS, arXiv 1907.08610, algorithm 1). As in Jordan 2024 (arXiv 2404.00498, section 3.4)
the slow weights follow slower as training goes on, here as a function of the share done: at
first they are the fast ones, at the end nearly three quarters of their own past. They are the
network that a finished training leaves; the epochs before are judged by the fast ones.
"""

import torch
from torch import nn

__all__ = ["Lookahead"]

_DECAY = 0.95
"""Of the slow weights for one step of the optimizer, at the end of training."""


class Lookahead:
    """Slow copies of the floating tensors of `model`, buffers too; `every` steps a pull.

    What does not learn stays as it is. After a pull model and copies agree.
    """

    def __init__(self, model: nn.Module, every: int) -> None:
        self.every = every
        self.fast = {
            name: tensor
            for name, tensor in model.state_dict(keep_vars=True).items()
            if tensor.is_floating_point()
            and (tensor.requires_grad or name not in _parameters(model))
        }
        self.slow = {name: tensor.detach().clone() for name, tensor in self.fast.items()}

    def kept(self, done: float) -> float:
        """The share of themselves that the slow weights keep when `done` of training is over."""
        return float(_DECAY**self.every * done**3)

    @torch.no_grad()
    def after_step(self, step: int, done: float) -> None:
        """To be called after step number `step` (from 1) of the optimizer."""
        if step % self.every:
            return
        fast, slow = list(self.fast.values()), list(self.slow.values())
        torch._foreach_lerp_(slow, fast, 1 - self.kept(done))
        torch._foreach_copy_(fast, slow)

    @torch.no_grad()
    def finish(self, step: int) -> None:
        """Make the network the slow weights, after the last `step`: what a training leaves.

        Before the first pull the slow weights know nothing yet, and it stays as it is.
        """
        if step < self.every:
            return
        torch._foreach_copy_(list(self.fast.values()), list(self.slow.values()))

    def load(self, tensors: dict[str, torch.Tensor]) -> None:
        """The slow weights of a checkpoint."""
        for name, tensor in self.slow.items():
            tensor.copy_(tensors[name])


def _parameters(model: nn.Module) -> set[str]:
    return {name for name, _ in model.named_parameters()}
