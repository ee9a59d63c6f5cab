"""The convolutions of a network, found by running it without computing."""

import copy
from collections.abc import Sequence

import torch
from torch import nn

from hubel.conv.case import ConvCase, case_of
from hubel.conv.swapping import Swapped
from hubel.errors import UserError

__all__ = ["conv_cases", "distinct_cases"]


def conv_cases(model: nn.Module, input_shape: Sequence[int]) -> dict[str, ConvCase]:
    """Every nn.Conv1d, 2d and 3d of `model` by name, in the order in which they run.

    `input_shape` is (n, c, *spatial). The model is not changed and nothing is computed: shapes
    are traced on torch's meta device, where tensors have no numbers. A layer that runs more
    than once is entered once, as it ran last.
    """
    found: dict[str, ConvCase] = {}
    twin = copy.deepcopy(model).to("meta").eval()
    for name, module in twin.named_modules():
        if isinstance(module, Swapped):
            module.method = "torch"  # which needs no numbers, either
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):

            def note(
                layer: nn.Conv1d | nn.Conv2d | nn.Conv3d,
                inputs: tuple[torch.Tensor, ...],
                name: str = name,
            ) -> None:
                found[name] = case_of(
                    inputs[0],
                    layer.weight,
                    stride=layer.stride,
                    padding=layer.padding,  # type: ignore[arg-type]
                    dilation=layer.dilation,
                    groups=layer.groups,
                )

            module.register_forward_pre_hook(note)
    try:
        twin(torch.empty(*input_shape, device="meta"))
    except Exception as error:  # whatever a network of others raises
        raise UserError(
            f"the network {type(model).__name__} does not take an input of shape "
            f"{tuple(input_shape)}: {error}"
        ) from None
    return found


def distinct_cases(model: nn.Module, input_shape: Sequence[int]) -> dict[ConvCase, list[str]]:
    """The different convolutions among `conv_cases`, each with the names of its layers."""
    found: dict[ConvCase, list[str]] = {}
    for name, case in conv_cases(model, input_shape).items():
        found.setdefault(case, []).append(name)
    return found
