"""Does a network fit its input? If not, where, and in which shapes.

One sample of zeros is sent through the network with a hook on every layer; what torch would
report as a matrix product that cannot be formed is told in the terms of the network.
"""

from typing import Any

import torch
from torch import nn

from hubel.errors import UserError
from hubel.shapes import format_shape

__all__ = ["check_fits"]


def check_fits(model: nn.Module, input_shape: tuple[int, ...]) -> torch.Size:
    """The shape of `model`'s output for one sample of `input_shape` (c, *spatial).

    Raises `UserError` naming the first layer that does not fit, what it expects and what
    it gets: "Linear expects 256 features, the map before it is 32×6×6 = 1152 for a
    3×32×32 input".
    """
    last_map: list[tuple[int, ...]] = [input_shape]
    current: list[tuple[nn.Module, str, tuple[int, ...]]] = []
    names = {module: name for name, module in model.named_modules()}

    def before(module: nn.Module, args: tuple[Any, ...]) -> None:
        if args and isinstance(args[0], torch.Tensor):
            shape = tuple(args[0].shape[1:])
            current[:] = [(module, names[module], shape)]
            if len(shape) > 1:
                last_map[0] = shape

    leaves = [m for m in model.modules() if not list(m.children())]
    handles = [m.register_forward_pre_hook(before) for m in leaves]
    training = model.training
    model.eval()  # one sample has no batch statistics
    reference = next(model.parameters(), torch.empty(0))
    try:
        with torch.no_grad():
            zeros = torch.zeros(1, *input_shape, device=reference.device)
            output = model(zeros)
    except (RuntimeError, ValueError) as error:
        if isinstance(error, UserError) or not current:
            raise
        raise UserError(_explain(*current[0], last_map[0], input_shape, error)) from None
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    return torch.Size(output.shape[1:])


def _explain(
    module: nn.Module,
    name: str,
    got: tuple[int, ...],
    last_map: tuple[int, ...],
    input_shape: tuple[int, ...],
    error: Exception,
) -> str:
    kind = type(module).__name__
    where = f" (layer '{name}')" if name else ""
    whole = format_shape(*input_shape)
    if isinstance(module, nn.Linear):
        features = 1
        for side in last_map:
            features *= side
        if got[-1:] == (features,) and len(last_map) > 1:
            before = f"the map before it is {format_shape(*last_map)} = {features}"
        else:
            before = f"what comes before it has {format_shape(*got)}"
        return (
            f"Linear expects {module.in_features} features, {before} for a {whole} input{where}; "
            f"make it Linear({got[-1]}, {module.out_features}) or change the input's size"
        )
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        if got[0] != module.in_channels:
            return (
                f"{kind} expects {module.in_channels} channels, what comes before it has "
                f"{got[0]} ({format_shape(*got)}) for a {whole} input{where}; "
                f"make its in_channels {got[0]}"
            )
        return (
            f"{kind} with kernel {format_shape(*module.kernel_size)} is larger than the map "
            f"before it, {format_shape(*got)} for a {whole} input{where}; enlarge the input or "
            f"use a network with less reduction"
        )
    reason = str(error).splitlines()[0]
    return (
        f"{kind} does not fit the map before it, {format_shape(*got)} for a {whole} "
        f"input{where}: {reason}; enlarge the input or use a network with less reduction"
    )
