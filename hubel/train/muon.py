"""Muon: momentum whose matrix is made orthogonal before each step.

Jordan, Jin, Boza, You, Cesista, Newhouse and Bernstein 2024, "Muon: an optimizer for hidden
layers in neural networks" (kellerjordan.github.io/posts/muon); for filters as in the CIFAR-10
record of the same year. A gradient's few large directions drown the many small ones; replaced
by the nearest matrix with orthonormal rows, all directions move by the same amount. That
matrix is found by a Newton–Schulz iteration, products of matrices only.

Differs from it: parameters of equal shape are iterated together, and a rate is relative. A
step moves a parameter by `lr` times the norm that it had at the start, so one rate serves
filters and dense layers of any shape and network. (Where `keep_norm` is set, that is the
record's rule: the norm is reset to √out_channels. An orthogonal update has that norm too where
out_channels ≤ in_channels · taps; of a taller matrix the record's steps are shorter than ours.)
"""

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import nn

__all__ = ["Muon", "orthogonalised"]

_A, _B, _C = 3.4445, -4.7750, 2.0315
"""Of x ↦ a·x + b·x³ + c·x⁵, applied to each singular value: steep at 0, near 1 at 1."""


def orthogonalised(
    matrices: torch.Tensor, steps: int = 5, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """The factor U·Vᵀ of `matrices` (b, rows, columns) = U·S·Vᵀ, roughly, in float32.

    After five steps singular values that were at least a few hundredths of the Frobenius norm
    lie between about 0.7 and 1.2; exactly 1 is not worth more steps. A zero matrix stays zero.
    """
    wide = matrices.shape[-2] <= matrices.shape[-1]
    x = matrices if wide else matrices.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-12)
    x = x.to(dtype)
    for _ in range(steps):
        gram = x @ x.mT
        x = _A * x + (_B * gram + _C * (gram @ gram)) @ x
    found: torch.Tensor = (x if wide else x.mT).float()
    return found


class Muon(torch.optim.Optimizer):
    """Muon over filters (out_channels, in_channels, *kernel) and matrices.

    Parameters
    ----------
    params: parameters of two or more dimensions, or groups of them; a filter counts as the
        matrix (out_channels, in_channels · taps).
    lr: length of a step as a share of the parameter's first norm.
    momentum: of the running gradient, with Nesterov's look ahead.
    weight_decay: decoupled, multiplied by `lr`.
    steps: of the Newton–Schulz iteration.
    keep_norm: reset the parameter's norm to √out_channels before each step: for filters whose
        size changes nothing because batch norm follows, so that `lr` stays an angle.
    dtype: of the iteration's products.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float = 0.05,
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        steps: int = 5,
        keep_norm: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "steps": steps,
            "keep_norm": keep_norm,
        }
        self.dtype = dtype
        super().__init__(params, defaults)
        for group in self.param_groups:
            if any(p.ndim < 2 for p in group["params"]):
                raise ValueError("Muon takes matrices and filters, got a parameter of one axis")

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step for every parameter that has a gradient."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[nn.Parameter]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    by_shape.setdefault((len(p), p.numel() // len(p)), []).append(p)
            for parameters in by_shape.values():
                self._step_together(parameters, group)
        return loss

    def _step_together(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        """The step of parameters that are the same matrix in shape."""
        directions = []
        for p in parameters:
            assert p.grad is not None  # noqa: S101 — sorted out above
            state = self.state[p]
            if not state:
                state["momentum"] = torch.zeros_like(p)
                norm = p.norm()
                # A layer that starts at zero has no length of its own: that of a unit map.
                state["norm"] = torch.where(norm > 0, norm, norm.new_tensor(len(p)).sqrt())
            running = state["momentum"]
            running.mul_(group["momentum"]).add_(p.grad)
            directions.append(p.grad.add(running, alpha=group["momentum"]).flatten(1))
        updates = orthogonalised(torch.stack(directions), group["steps"], self.dtype)
        updates /= updates.norm(dim=(1, 2), keepdim=True).clamp_min(1e-12)
        for p, update in zip(parameters, updates, strict=True):
            if group["keep_norm"]:
                length: torch.Tensor | float = len(p) ** 0.5
                p.mul_(length / p.norm().clamp_min(1e-12))
            else:
                length = self.state[p]["norm"]
                p.mul_(1 - group["lr"] * group["weight_decay"])
            p.sub_(update.view(p.shape) * (group["lr"] * length))
