"""What each parameter of a network is for: the optimizer treats them differently.

Found from one forward pass, whoever wrote the network: which layer runs first, which Linear
last, behind which convolutions batch norm follows, and at how many places a layer works.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hubel.trial import CONVS, NORMS, trial

__all__ = ["Roles", "roles_of"]

_KEEPS_SCALE = (
    nn.Identity, nn.Dropout, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d,
    nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
)  # fmt: skip
"""Layers between a convolution and its norm that a scaled input only scales."""


@dataclass(frozen=True)
class Roles:
    """Sets of parameters; what is in none of them is the rest.

    Attributes
    ----------
    filters: convolutions whose output goes through batch norm, so that their size means nothing.
    matrices: the other hidden convolutions and dense layers.
    norm_biases: the biases of batch norm.
    """

    filters: frozenset[nn.Parameter]
    matrices: frozenset[nn.Parameter]
    norm_biases: frozenset[nn.Parameter]


def roles_of(model: nn.Module, input_shape: tuple[int, ...], batch_size: int) -> Roles:
    """The roles of the parameters of `model`, whose input is (batch_size, *input_shape).

    The first layer, the last ones, convolutions in groups (whose filters are no matrix from
    all channels to all channels), and layers for which making a step orthogonal would be more
    work than the step itself (large dense layers, few places, small batches) are of the rest.
    """
    order: list[nn.Module] = []
    places: dict[nn.Module, int] = {}
    followed: set[nn.Module] = set()
    made: dict[Any, nn.Module] = {}
    # From a layer's output (kept alive, so that its identity stays its own) to its convolution.
    source: dict[int, tuple[torch.Tensor, nn.Module]] = {}

    def after(module: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if module not in order:
            order.append(module)
        if isinstance(module, (*CONVS, nn.Linear)):
            channels = output.shape[1 if isinstance(module, CONVS) else -1]
            places[module] = places.get(module, 0) + output.numel() // channels
            made[output.grad_fn] = module
        if isinstance(module, CONVS):
            source[id(output)] = (output, module)
        elif args and id(args[0]) in source:
            if isinstance(module, NORMS):
                followed.add(source[id(args[0])][1])
            elif isinstance(module, _KEEPS_SCALE) and output is not args[0]:
                source[id(output)] = (output, source[id(args[0])][1])

    watched = (*CONVS, nn.Linear, *NORMS, *_KEEPS_SCALE)
    handles = [m.register_forward_hook(after) for m in model.modules() if isinstance(m, watched)]
    try:
        with trial(model, input_shape) as zeros:
            output = model(zeros.requires_grad_())
    finally:
        for handle in handles:
            handle.remove()

    layers = [m for m in order if isinstance(m, (*CONVS, nn.Linear))]
    ends = {*layers[:1], *_last_layers(output, made)}
    filters: set[nn.Parameter] = set()
    matrices: set[nn.Parameter] = set()
    for layer in layers:
        if layer in ends or getattr(layer, "groups", 1) > 1:
            continue
        weight: nn.Parameter = layer.weight  # type: ignore[assignment]
        if _orthogonal_work(weight) > _step_work(weight, places[layer] * batch_size):
            continue
        (filters if layer in followed else matrices).add(weight)
    biases = [m.bias for m in model.modules() if isinstance(m, NORMS) and m.bias is not None]
    return Roles(frozenset(filters), frozenset(matrices - filters), frozenset(biases))


def _last_layers(output: torch.Tensor, made: dict[Any, nn.Module]) -> set[nn.Module]:
    """The layers that `output` comes from with no other of them in between; `made` has the layer
    that each of autograd's nodes is the output of.
    """
    found: set[nn.Module] = set()
    seen, waiting = set(), [output.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node in made:
            found.add(made[node])
        else:
            waiting += [behind for behind, _ in node.next_functions]
    return found


def _orthogonal_work(weight: nn.Parameter) -> float:
    """Multiply-accumulates of five Newton–Schulz iterations."""
    rows, columns = sorted((len(weight), weight.numel() // len(weight)))
    return 5.0 * (2 * rows**2 * columns + rows**3)


def _step_work(weight: nn.Parameter, places: int) -> float:
    """Multiply-accumulates of the layer's forward and its two backward products."""
    return 3.0 * weight.numel() * places
