"""The optimizers, with the defaults and the decay rule of the field.

Weight decay acts on matrices and filters, never on biases and norms, whose size carries no
complexity (as He et al. 2019, arXiv 1812.01187, §3.1).
"""

from dataclasses import dataclass

import torch
from torch import nn

from hubel.config import FitConfig

__all__ = ["load_optimizer_tensors", "make_optimizer", "optimizer_tensors", "set_rate"]


@dataclass(frozen=True)
class _Default:
    lr: float
    weight_decay: float


_DEFAULTS = {
    "sgd": _Default(lr=0.05, weight_decay=5e-4),
    "adam": _Default(lr=2e-3, weight_decay=0.0),
    "adamw": _Default(lr=3e-3, weight_decay=0.05),
}


def make_optimizer(model: nn.Module, config: FitConfig) -> torch.optim.Optimizer:
    """The optimizer that `config` names over the parameters of `model` that train."""
    default = _DEFAULTS[config.optimizer]
    lr = default.lr if config.lr is None else config.lr
    decay = default.weight_decay if config.weight_decay is None else config.weight_decay
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    # One fused kernel for each group instead of a handful for each tensor.
    optimizer: torch.optim.Optimizer
    if config.optimizer == "sgd":
        optimizer = torch.optim.SGD(
            groups, lr, momentum=config.momentum, nesterov=config.momentum > 0, fused=True
        )
    elif config.optimizer == "adam":
        optimizer = torch.optim.Adam(groups, lr, fused=True)
    else:
        optimizer = torch.optim.AdamW(groups, lr, fused=True)
    for group in optimizer.param_groups:
        group["peak_lr"] = group["lr"]
    return optimizer


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Set every group to `factor` of its peak rate; the first group's rate comes back."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
    rate: float = optimizer.param_groups[0]["lr"]
    return rate


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimizer's state by "number of the parameter.name", for a safetensors file."""
    found = {}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for number, parameter in enumerate(parameters):
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, torch.Tensor):
                found[f"{number}.{key}"] = value.detach().cpu().contiguous()
    return found


def load_optimizer_tensors(
    optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]
) -> None:
    """Set the state to what `optimizer_tensors` gave.

    A value of its parameter's shape gets the parameter's memory order too: with another
    order a fused kernel would round some elements differently, and a resumed run would
    leave the path of an uninterrupted one.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    optimizer.state.clear()
    for name, value in tensors.items():
        number, key = name.split(".", 1)
        parameter = parameters[int(number)]
        if value.shape == parameter.shape and value.dtype == parameter.dtype:
            restored = torch.empty_like(parameter).copy_(value)
        else:
            restored = value.to(parameter.device, copy=True)  # where fused kernels want it
        optimizer.state[parameter][key] = restored
