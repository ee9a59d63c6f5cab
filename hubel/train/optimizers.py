"""The optimizers, with the defaults and the decay rule of the field.

Weight decay acts on matrices and filters, never on biases and norms, whose size carries no
complexity (as He et al. 2019, arXiv 1812.01187, §3.1), and not on what Muon keeps at one norm.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hubel.config import FitConfig
from hubel.train.composite import Composite
from hubel.train.freezing import Freezing
from hubel.train.muon import Muon
from hubel.train.roles import Roles

__all__ = [
    "load_optimizer_tensors",
    "make_optimizer",
    "optimizer_tensors",
    "set_rate",
    "use_precision",
    "usual_decay",
    "usual_rate",
]


@dataclass(frozen=True)
class _Default:
    lr: float
    weight_decay: float
    momentum: float = 0.0


_DEFAULTS = {
    "sgd": _Default(lr=0.05, weight_decay=5e-4, momentum=0.9),
    "adam": _Default(lr=2e-3, weight_decay=0.0),
    "adamw": _Default(lr=3e-3, weight_decay=0.05),
    "muon": _Default(lr=0.2, weight_decay=0.01, momentum=0.6),
}
# With muon, the rates of what is no filter, as multiples of the filters' rate. A dense layer
# or a filter without batch norm behind it has a size of its own to keep: smaller steps.
_MATRIX_RATE = 0.2
_REST_RATE = 0.02
_PRODUCTS = {"bf16": torch.bfloat16, "fp16": torch.float16}
_REST_BETAS = (0.9, 0.99)  # a training may be shorter than the memory of 0.999


def usual_rate(optimizer: str) -> float:
    """The peak learning rate of the optimizer of that name where none is given."""
    return _DEFAULTS[optimizer].lr


def usual_decay(optimizer: str) -> float:
    """The weight decay of the optimizer of that name where none is given."""
    return _DEFAULTS[optimizer].weight_decay


def make_optimizer(
    model: nn.Module,
    config: FitConfig,
    freezing: Freezing,
    roles: Roles,
) -> torch.optim.Optimizer:
    """The optimizer that `config` names over the parameters of `model` that ever train.

    With `layer_decay`, each stage's rate is that share of the rate of the stage after it, the
    last one's is `lr` (Clark et al. 2020, ELECTRA, arXiv 2003.10555, table 6). `roles` say
    which parameters are Muon's, and which are batch norm's biases, which have `bias_rate`
    times the rate of their optimizer.
    """
    default = _DEFAULTS[config.optimizer]
    lr = default.lr if config.lr is None else config.lr
    decay = default.weight_decay if config.weight_decay is None else config.weight_decay
    momentum = default.momentum if config.momentum is None else config.momentum
    never = freezing.never_train()
    trained = [p for p in model.parameters() if p.requires_grad and p not in never]
    parts = [(lr, trained)]
    if config.layer_decay < 1.0:
        stages = enumerate(reversed(freezing.stages))  # the first group's rate is the one shown
        parts = [
            (lr * config.layer_decay**i, [p for p in stage.parameters if p not in never])
            for i, stage in stages
        ]
    orthogonal: list[dict[str, Any]] = []
    groups: list[dict[str, Any]] = []
    for rate, parameters in parts:
        if config.optimizer == "muon":
            orthogonal += _orthogonal_groups(parameters, roles, rate, decay)
            parameters = [p for p in parameters if p not in roles.filters | roles.matrices]
            rate *= _REST_RATE
        groups += _groups(parameters, roles, rate, decay, config.bias_rate)
    orthogonal = [group for group in orthogonal if group["params"]]
    groups = [group for group in groups if group["params"]]
    # One fused kernel for each group instead of a handful for each tensor.
    optimizer: torch.optim.Optimizer
    if config.optimizer == "sgd":
        optimizer = torch.optim.SGD(
            groups, lr, momentum=momentum, nesterov=momentum > 0, fused=True
        )
    elif config.optimizer == "adam":
        optimizer = torch.optim.Adam(groups, lr, fused=True)
    elif config.optimizer == "adamw":
        optimizer = torch.optim.AdamW(groups, lr, fused=True)
    else:
        made: list[torch.optim.Optimizer] = []
        if orthogonal:
            made.append(Muon(orthogonal, lr, momentum=momentum))
        if groups:
            made.append(torch.optim.AdamW(groups, lr, betas=_REST_BETAS, fused=True))
        optimizer = Composite(*made)
    for group in optimizer.param_groups:
        group["peak_lr"] = group["lr"]
    return optimizer


def _groups(
    parameters: list[nn.Parameter], roles: Roles, rate: float, decay: float, bias_rate: float
) -> list[dict[str, Any]]:
    """What one of torch's optimizers takes: matrices decay, biases of norms are faster."""
    apart = roles.norm_biases if bias_rate != 1.0 else frozenset()
    matrices = [p for p in parameters if p.ndim > 1]
    others = [p for p in parameters if p.ndim <= 1 and p not in apart]
    biases = [p for p in parameters if p in apart]
    return [
        {"params": matrices, "lr": rate, "weight_decay": decay},
        {"params": others, "lr": rate, "weight_decay": 0.0},
        {"params": biases, "lr": rate * bias_rate, "weight_decay": 0.0},
    ]


def _orthogonal_groups(
    parameters: list[nn.Parameter], roles: Roles, rate: float, decay: float
) -> list[dict[str, Any]]:
    """What Muon takes. A filter's size means nothing, so a rough direction is enough for it."""
    filters = [p for p in parameters if p in roles.filters]
    matrices = [p for p in parameters if p in roles.matrices]
    return [
        {"params": filters, "lr": rate, "keep_norm": True, "steps": 3},
        {"params": matrices, "lr": rate * _MATRIX_RATE, "weight_decay": decay},
    ]


def use_precision(optimizer: torch.optim.Optimizer, precision: str) -> None:
    """Let Muon multiply in the engine's `precision`: exact enough for a direction."""
    for part in optimizer.parts if isinstance(optimizer, Composite) else ():
        if isinstance(part, Muon):
            part.dtype = _PRODUCTS.get(precision, torch.float32)


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
