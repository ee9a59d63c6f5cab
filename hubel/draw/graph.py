"""What a network does with one sample: its operations and which feeds which.

A forward pass on torch's meta device (shapes without numbers) is watched: every module
without children is one operation, and so is every torch function called outside of one. So
any network that runs can be drawn, whatever its Python looks like, and nothing is computed.
"""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from hubel.draw.words import operation_words, same_per_dim
from hubel.errors import UserError
from hubel.shapes import format_shape

__all__ = ["Graph", "Kind", "Node", "network_graph"]

Kind: TypeAlias = Literal[
    "input", "conv", "dense", "attention", "pool", "norm", "activation", "dropout",
    "add", "concat", "multiply", "reshape", "other",
]  # fmt: skip


@dataclass(frozen=True)
class Node:
    """One operation. `inputs` are the indices of the nodes that it reads."""

    name: str
    """The path of the module in the network, or of its caller and the function's name."""
    kind: Kind
    label: str
    """In the words of a drawing: 'conv 3×3 /2'."""
    shape: tuple[int, ...]
    """Of the output for one sample: (c, *spatial), or (tokens, c), or (c,)."""
    inputs: tuple[int, ...]
    params: int = 0
    """Trained numbers, counted where they are first used."""
    macs: int = 0
    """Multiply-accumulates for one sample; FLOPs are twice as many."""
    memory: int = 0
    """Bytes of the output of one sample as float32."""
    window: tuple[int, ...] = ()
    """Of a convolution or pooling."""
    stride: tuple[int, ...] = ()


@dataclass(frozen=True)
class Graph:
    """A network: nodes in the order in which they run, the first the input."""

    name: str
    nodes: tuple[Node, ...]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(c, *spatial) of one sample."""
        return self.nodes[0].shape

    @property
    def edges(self) -> list[tuple[int, int]]:
        """(from, to), sorted by `to`."""
        return [(i, n) for n, node in enumerate(self.nodes) for i in node.inputs]

    @property
    def consumers(self) -> list[list[int]]:
        """For each node, those that read it."""
        found: list[list[int]] = [[] for _ in self.nodes]
        for start, end in self.edges:
            found[start].append(end)
        return found

    @property
    def params(self) -> int:
        """Of all nodes: what a forward pass in eval mode uses."""
        return sum(node.params for node in self.nodes)

    @property
    def macs(self) -> int:
        """Of all nodes, for one sample."""
        return sum(node.macs for node in self.nodes)


def network_graph(model: nn.Module, input_shape: tuple[int, ...], name: str) -> Graph:
    """The graph of `model` in eval mode for one sample of `input_shape` (c, *spatial).

    `model` is left as it is. `UserError` if it does not take such an input.
    """
    twin = copy.deepcopy(model).to("meta").eval()
    watcher = _Watcher(twin)
    sample = torch.empty((1, *input_shape), device="meta")
    watcher.enter_input(sample)
    fast = torch.backends.mha.get_fastpath_enabled()
    # The fused path of attention hides its products from the counter.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), watcher.counter, watcher:
            twin(sample)
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        where = f" at '{watcher.path}'" if watcher.path else ""
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"--input {format_shape(*input_shape)} does not fit '{name}'{where}: {reason}; "
            f"give another --input CxHxW"
        ) from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        watcher.unhook()
    return Graph(name, tuple(_used(watcher.nodes)))


class _Watcher(TorchFunctionMode):
    """Writes a node for each leaf module and for each function outside of one."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.nodes: list[Node] = []
        self.counter = FlopCounterMode(display=False)
        self.path = ""
        self._producer: dict[int, int] = {}
        self._kept: list[torch.Tensor] = []  # an id is a tensor's as long as the tensor lives
        self._fresh = {id(p) for p in model.parameters()}
        self._leaf: nn.Module | None = None
        self._flops = 0
        self._inputs: tuple[int, ...] = ()
        self._callers: list[str] = []
        self._handles = []
        for path, module in model.named_modules():
            leaf = path != "" and _is_leaf(module)
            self._handles += [
                module.register_forward_pre_hook(self._before(path, leaf), with_kwargs=True),
                module.register_forward_hook(self._after(path, leaf), with_kwargs=True),
            ]

    def unhook(self) -> None:
        for handle in self._handles:
            handle.remove()

    def enter_input(self, sample: torch.Tensor) -> None:
        self._write("input", sample, (), "input", "input", 0)

    def _before(self, path: str, leaf: bool) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            self._callers.append(path)
            self.path = path or self.path
            if leaf and self._leaf is None:
                self._leaf = module
                self._flops = self.counter.get_total_flops()
                self._inputs = self._read((args, kwargs))

        return hook

    def _after(self, path: str, leaf: bool) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            self._callers.pop()
            if module is not self._leaf:
                return
            self._leaf = None
            first = next(_tensors(output), None)
            if first is None:
                return
            words = operation_words(module, self._input_shapes(), tuple(first.shape[1:]))
            if words is None and self._inputs:  # does nothing when predicting
                self._produce(output, self._inputs[0])
                return
            kind, label = words or ("other", type(module).__name__)
            params = self._claim(p for p in module.parameters())
            index = self._write(path, first, self._inputs, kind, label, params, module)
            self._produce(output, index)

        return hook

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self._leaf is not None:
            return func(*args, **kwargs)
        flops = self.counter.get_total_flops()
        inputs = self._read((args, kwargs))
        before = [tuple(t.shape) for t in _tensors((args, kwargs))]
        output = func(*args, **kwargs)
        first = next(_tensors(output), None)
        if first is None:
            return output
        if not inputs:
            self._hand_on_parameters(args, kwargs, output)
            return output
        name = getattr(func, "__name__", "function").strip("_")
        words = operation_words(name, before, tuple(first.shape))
        if words is None:
            self._produce(output, inputs[0])
            return output
        kind, label = words
        params = self._claim(_tensors((args, kwargs)))
        if params and kind in ("add", "concat", "multiply") and len(inputs) == 1:
            label += " learned"  # a class token, a position, a scale
        self._flops, self._inputs = flops, inputs
        caller = self._callers[-1] if self._callers else ""
        path = f"{caller}.{name}" if caller else name
        self._produce(output, self._write(path, first, inputs, kind, label, params))
        return output

    def _write(
        self,
        path: str,
        output: torch.Tensor,
        inputs: tuple[int, ...],
        kind: Kind,
        label: str,
        params: int,
        module: nn.Module | None = None,
    ) -> int:
        shape = tuple(output.shape[1:])
        window, stride = _window(module, len(shape) - 1)
        macs = (self.counter.get_total_flops() - self._flops) // 2 if inputs else 0
        memory = 4 * math.prod(shape)
        self.nodes.append(
            Node(path, kind, label, shape, inputs, params, macs, memory, window, stride)
        )
        self._produce(output, len(self.nodes) - 1)
        return len(self.nodes) - 1

    def _produce(self, output: Any, index: int) -> None:
        for tensor in _tensors(output):
            self._producer[id(tensor)] = index
            self._kept.append(tensor)

    def _read(self, values: Any) -> tuple[int, ...]:
        known = (self._producer.get(id(t)) for t in _tensors(values))
        return tuple(dict.fromkeys(i for i in known if i is not None))

    def _input_shapes(self) -> list[tuple[int, ...]]:
        return [(1, *self.nodes[i].shape) for i in self._inputs]

    def _claim(self, tensors: Iterator[torch.Tensor]) -> int:
        claimed = 0
        for tensor in tensors:
            if id(tensor) in self._fresh:
                self._fresh.remove(id(tensor))
                claimed += tensor.numel()
        return claimed

    def _hand_on_parameters(self, args: Any, kwargs: Any, output: Any) -> None:
        """A view of a parameter, as `class_token.expand(n, -1, -1)`, counts where it is used."""
        sizes = [t for t in _tensors((args, kwargs)) if id(t) in self._fresh]
        for tensor in _tensors(output):
            if sizes and tensor.numel() == sizes[0].numel() and id(tensor) != id(sizes[0]):
                self._fresh.remove(id(sizes[0]))
                self._fresh.add(id(tensor))
                self._kept.append(tensor)


def _is_leaf(module: nn.Module) -> bool:
    return isinstance(module, nn.MultiheadAttention) or next(module.children(), None) is None


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def _window(module: nn.Module | None, dims: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    kernel = getattr(module, "kernel_size", None)
    if kernel is None or dims < 1:
        return (), ()
    stride = getattr(module, "stride", 1)
    return same_per_dim(kernel, dims), same_per_dim(stride, dims)


def _used(nodes: list[Node]) -> Iterator[Node]:
    """`nodes` without those that do not lead to the last one (unused outputs), renumbered."""
    needed = {0, len(nodes) - 1}
    for index in range(len(nodes) - 1, -1, -1):
        if index in needed:
            needed.update(nodes[index].inputs)
    place = {old: new for new, old in enumerate(sorted(needed))}
    for index in sorted(needed):
        node = nodes[index]
        yield replace(node, inputs=tuple(place[i] for i in node.inputs))
