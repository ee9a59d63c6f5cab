"""Does a network fit its input? If not, where, in which shapes, and what would mend it.

One sample of zeros is sent through the network, whoever wrote it, with a hook on every module
and an eye on every function that it calls; what torch would report as a matrix product that
cannot be formed is told in the terms of the network.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils import _pytree as pytree

from hubel.errors import UserError
from hubel.shapes import format_shape

__all__ = ["check_fits"]

_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class _FailingCall(TorchFunctionMode):
    """Remembers the name and the tensors' shapes of the function that raised."""

    def __init__(self) -> None:
        super().__init__()
        self.name = ""
        self.shapes: list[tuple[int, ...]] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        try:
            return func(*args, **(kwargs or {}))
        except (RuntimeError, ValueError):
            tensors = pytree.tree_leaves((args, kwargs))
            self.name = (resolve_name(func) or str(func)).rpartition(".")[2].strip("_")
            self.shapes = [tuple(t.shape) for t in tensors if isinstance(t, torch.Tensor)]
            raise


def check_fits(model: nn.Module, input_shape: tuple[int, ...]) -> torch.Size:
    """The shape of `model`'s (first) output for one sample of `input_shape` (c, *spatial).

    Raises `UserError` naming the first layer that does not fit, what it expects, what it gets
    and the line that would fix it: "Linear expects 256 features, the map before it is
    32×6×6 = 1152 for a 3×32×32 input (layer '7'); make it nn.Linear(1152, 10)".
    """
    last_map: list[tuple[int, ...]] = [input_shape]
    running: list[tuple[nn.Module, str, tuple[int, ...]]] = []

    def before(name: str) -> Callable[..., None]:
        def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
            shape = next(
                (t.shape for t in pytree.tree_leaves((args, kwargs)) if torch.is_tensor(t)),
                torch.Size(),
            )
            running.append((module, name, tuple(shape[1:])))
            if len(shape) > 2:
                last_map[0] = tuple(shape[1:])

        return enter

    def after(module: nn.Module, args: Any, output: Any) -> None:
        running.pop()

    handles = []
    for name, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(before(name), with_kwargs=True))
        handles.append(module.register_forward_hook(after))
    training = {module: module.training for module in model.modules()}
    model.eval()  # one sample has no batch statistics
    reference = next(model.parameters(), torch.empty(0))
    failing = _FailingCall()
    try:
        zeros = torch.zeros(1, *input_shape, device=reference.device, dtype=reference.dtype)
        with torch.no_grad(), failing:
            output = model(zeros)
    except (RuntimeError, ValueError) as error:
        # What is not implemented does not come from sizes.
        if isinstance(error, UserError | NotImplementedError) or not running:
            raise
        raise UserError(_explain(running[-1], last_map[0], input_shape, failing, error)) from None
    finally:
        for module, mode in training.items():
            module.training = mode
        for handle in handles:
            handle.remove()
    tensors = [t for t in pytree.tree_leaves(output) if isinstance(t, torch.Tensor)]
    if not tensors:
        raise UserError(
            f"the network {type(model).__name__} returns no tensor but "
            f"{type(output).__name__}; make its forward return the outputs (n, …)"
        )
    if tensors[0].dim() == 0 or tensors[0].shape[0] != 1:
        raise UserError(
            f"the network {type(model).__name__} gives an output of shape "
            f"{tuple(tensors[0].shape)} for one {format_shape(*input_shape)} sample, the first "
            f"size must be the 1 sample; where its forward has view(-1, …) or flatten(0), put "
            f"flatten(1), which keeps samples apart"
        )
    return tensors[0].shape[1:]


def _explain(
    where: tuple[nn.Module, str, tuple[int, ...]],
    last_map: tuple[int, ...],
    input_shape: tuple[int, ...],
    failing: _FailingCall,
    error: Exception,
) -> str:
    module, name, got = where
    kind = type(module).__name__
    layer = f" (layer '{name}')" if name else ""
    whole = f"for a {format_shape(*input_shape)} input{layer}"
    if isinstance(module, nn.Linear):
        return _linear(module, got, last_map, input_shape, whole)
    if isinstance(module, (*_CONVS, *_NORMS)):
        found = _channels(module, got, whole)
        if found:
            return found
    if isinstance(module, _CONVS):
        return (
            f"{kind} with kernel {format_shape(*module.kernel_size)} is larger than the map "
            f"before it, {format_shape(*got)} {whole}; enlarge the input or "
            f"use a network with less reduction"
        )
    reason = str(error).splitlines()[0].rstrip(".")
    if list(module.children()) or "torch.nn" not in type(module).__module__:
        return _function(kind, failing, last_map, whole, reason)
    return (
        f"{kind} does not fit the map before it, {format_shape(*got)} {whole}: {reason}; "
        f"enlarge the input or use a network with less reduction"
    )


def _linear(
    module: nn.Linear,
    got: tuple[int, ...],
    last_map: tuple[int, ...],
    input_shape: tuple[int, ...],
    whole: str,
) -> str:
    features = math.prod(last_map)
    flatten = ""
    if len(got) == len(input_shape) > 1 and got == last_map:
        flatten = "put nn.Flatten() before it and "
    elif got[-1:] != (features,) or len(last_map) == 1:
        features = got[-1] if got else 1
        return (
            f"Linear expects {module.in_features} features, what comes before it has "
            f"{format_shape(*got)} {whole}; make it nn.Linear({features}, "
            f"{module.out_features}) or change the input's size"
        )
    fits = f"make it nn.Linear({features}, {module.out_features}) or change the input's size"
    if flatten and features == module.in_features:
        fits = "Linear takes its features from one dimension"
        flatten = "put nn.Flatten() before it: "
    return (
        f"Linear expects {module.in_features} features, the map before it is "
        f"{format_shape(*last_map)} = {features} {whole}; {flatten}{fits}"
    )


def _channels(module: nn.Module, got: tuple[int, ...], whole: str) -> str:
    """What is wrong with the channels or the dimensions that a layer gets, if something is."""
    kind = type(module).__name__
    dims = int(kind[-2]) if kind[-2:-1].isdigit() else len(got) - 1
    word = {1: "rows of numbers", 2: "pictures", 3: "volumes"}
    allowed = (1, 2) if isinstance(module, nn.BatchNorm1d) else (dims + 1,)
    if len(got) not in allowed:
        other = f"nn.{kind[:-2]}{len(got) - 1}d"
        fix = f"or use {other}" if 2 <= len(got) <= 4 else "or take out what flattens it"
        return (
            f"{kind} takes {word[dims]} (channels and {dims} size{'s' * (dims > 1)}), what comes "
            f"before it has {format_shape(*got)} {whole}; give it such an input, {fix}"
        )
    if isinstance(module, _CONVS) and got[0] != module.in_channels:
        arguments = f"{got[0]}, {module.out_channels}, {module.kernel_size[0]}, …"
        expects = module.in_channels
        fix = f"make its in_channels {got[0]}: nn.{kind}({arguments})"
    elif isinstance(module, _NORMS) and got[0] != module.num_features:
        expects = module.num_features
        fix = f"make it nn.{kind}({got[0]})"
    else:
        return ""
    return (
        f"{kind} expects {expects} channels, what comes before it has {got[0]} "
        f"({format_shape(*got)}) {whole}; {fix}"
    )


def _function(
    kind: str, failing: _FailingCall, last_map: tuple[int, ...], whole: str, reason: str
) -> str:
    """What a module does itself, outside of its layers."""
    shapes = " and ".join(format_shape(*shape[1:]) or "one number" for shape in failing.shapes)
    name = failing.name or "its forward"
    if name in ("view", "reshape") and failing.shapes:
        fix = (
            f"flatten(1) in its place gives {math.prod(failing.shapes[0][1:])} "
            f"features for such an input"
        )
    elif name in ("add", "iadd", "sub", "mul", "imul", "cat", "concat"):
        fix = "give both branches the same stride, padding and channels"
    else:
        fix = f"change what comes before it ({format_shape(*last_map)}) or the input's size"
    return f"{kind}: {name} of {shapes or 'its input'} fails {whole}: {reason}; {fix}"
