"""Tensors in the place of a network's own, so that it can be run without being touched."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)

__all__ = ["in_channels_last", "on_stand_ins", "stand_ins", "tensors_of"]

Result = TypeVar("Result")

_NEEDS_NUMBERS = (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)
# Where torch has no class of its own for it: x.numpy(), and code that reads memory itself.
_NEEDS_NUMBERS_WORDS = ("for tensor subclasses", "FakeTensor")


def on_stand_ins(
    model: nn.Module, training: bool, run: Callable[[FakeTensorMode | None], Result]
) -> Result:
    """What `run` finds with `model` in training or evaluation mode; its mode comes back.

    `run` gets a fake mode, in which tensors have shapes but no numbers. A network whose Python
    looks at values runs again with None, on numbers. Other errors come through.
    """
    modes = {module: module.training for module in model.modules()}
    model.train(training)
    try:
        with _without_fused_attention(), _quiet():
            try:
                return run(FakeTensorMode(allow_non_fake_inputs=True))
            except Exception as error:
                has_numbers = not any(t.is_meta for t in [*model.parameters(), *model.buffers()])
                if not (_needs_numbers(error) and has_numbers):
                    raise
                return run(None)
    finally:
        for module, mode in modes.items():
            module.training = mode


def in_channels_last(tensor: torch.Tensor) -> torch.Tensor:
    """`tensor` in channels-last memory order where it is a map or a filter."""
    if tensor.ndim not in (4, 5):
        return tensor
    order = torch.channels_last if tensor.ndim == 4 else torch.channels_last_3d
    return tensor.contiguous(memory_format=order)


def tensors_of(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Every place of a parameter or buffer once, tied ones too; a module has one name."""
    for path, module in model.named_modules():
        own = [
            *module.named_parameters(recurse=False, remove_duplicate=False),
            *module.named_buffers(recurse=False, remove_duplicate=False),
        ]
        yield from ((f"{path}.{name}".lstrip("."), tensor) for name, tensor in own)


def stand_ins(
    model: nn.Module, *, training: bool, channels_last: bool, with_numbers: bool
) -> dict[str, torch.Tensor]:
    """By name, a twin of each parameter and buffer; places that share a tensor share its twin.

    In a fake mode the twins have no numbers; `with_numbers` copies them to the CPU. With
    `training` the twin of a parameter that is trained is trained too.
    """
    twins: dict[int, torch.Tensor] = {}
    found = {}
    for name, tensor in tensors_of(model):
        if id(tensor) not in twins:
            if with_numbers:
                twin = tensor.detach().cpu().clone()
            else:
                twin = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)
            if isinstance(tensor, nn.Parameter):
                twin = in_channels_last(twin) if channels_last else twin
                twin.requires_grad_(training and tensor.requires_grad)
            twins[id(tensor)] = twin
        found[name] = twins[id(tensor)]
    return found


def _needs_numbers(error: Exception) -> bool:
    """Whether a network fails on tensors that have shapes but no numbers, and may with them."""
    return isinstance(error, _NEEDS_NUMBERS) or any(w in str(error) for w in _NEEDS_NUMBERS_WORDS)


@contextlib.contextmanager
def _without_fused_attention() -> Iterator[None]:
    """nn.MultiheadAttention step by step in evaluation mode too, as it is in training."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's log of an error that is raised anyway."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    disabled = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = disabled
