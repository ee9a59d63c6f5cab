"""What a network does with one sample: its operations and which feeds which.

The trace that counts a network's cost, in the words of a drawing: a layer of the network is
a node, and so is every operation outside of one; what does nothing when predicting is none.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch
from torch import nn
from torch.utils import _pytree as pytree

from hubel.cost.records import Layer
from hubel.cost.trace import trace
from hubel.draw.words import operation_words, same_per_dim
from hubel.errors import UserError
from hubel.fits import check_fits
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
    outputs = 0

    def count(_model: nn.Module, _inputs: object, output: object) -> None:
        nonlocal outputs
        outputs = sum(isinstance(leaf, torch.Tensor) for leaf in pytree.tree_leaves(output))

    counting = model.register_forward_hook(count)
    try:
        layers = trace(model, (1, *input_shape)).layers
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        if isinstance(error, UserError):
            raise
        check_fits(model, input_shape)  # says where it does not fit
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UserError(
            f"'{name}' could not be run on {format_shape(*input_shape)}: {reason}; try another "
            f"--input"
        ) from error
    finally:
        counting.remove()
    nodes = _nodes(model, layers)
    if len(nodes) == 1:
        raise UserError(f"'{name}' has no layers to draw: it hands on its input as it is")
    return Graph(name, tuple(_used(nodes, all_ends=outputs > 1)))


def _nodes(model: nn.Module, layers: list[Layer]) -> list[Node]:
    """A node for each layer that does something to the sample."""
    shape = tuple(layers[0].output_shape[1:])
    nodes = [Node("input", "input", "input", shape, (), memory=4 * math.prod(shape))]
    place = {0: 0}  # of the layer, and of one that hands on what it gets, among the nodes
    params = 0
    last: set[int] = set()  # nodes whose layer works on the last dimension as the channels
    for index, layer in enumerate(layers[1:], 1):
        params += layer.params
        inputs = tuple(dict.fromkeys(place[i] for i in layer.inputs if i in place))
        if not inputs or not layer.output_shapes:
            continue  # it works on parameters only: they count where they meet the sample
        output = layer.output_shapes[0]
        module = model.get_submodule(layer.module) if layer.type else None
        before = [(output[0], *nodes[i].shape) for i in inputs]
        if module is not None:
            words = operation_words(module, before, tuple(output[1:]))
        else:
            function = layer.name.rpartition(".")[2].partition("#")[0]
            words = operation_words(function, before, tuple(output))
        if words is None:
            place[index] = inputs[0]
            continue
        kind, label = words
        if params and len(inputs) == 1 and kind in ("add", "concat", "multiply"):
            label += " learned"  # a class token, a position, a scale
        shape = tuple(output[1:])
        window, stride = _window(module, len(shape) - 1)
        memory = 4 * math.prod(shape)
        nodes.append(
            Node(layer.name, kind, label, shape, inputs, params, layer.macs, memory, window, stride)
        )
        place[index] = len(nodes) - 1
        if isinstance(module, nn.Linear | nn.LayerNorm) and len(shape) > 2:
            normed = getattr(module, "normalized_shape", (shape[-1],))
            last |= {len(nodes) - 1} if tuple(normed) == shape[-1:] else set()
        params = 0
    return _channels_first(nodes, last)


def _channels_first(nodes: list[Node], last: set[int]) -> list[Node]:
    """`nodes` with maps (*spatial, c) written as (c, *spatial): those in `last`, and what keeps
    their shape before and after them."""
    plain = {"activation", "dropout", "add", "multiply", "concat", "reshape", "other"}

    def follows(node: Node, other: Node) -> bool:
        return node.kind in plain and node.shape == other.shape

    for index, node in enumerate(nodes):
        if any(i in last and follows(node, nodes[i]) for i in node.inputs):
            last.add(index)
    for index in range(len(nodes) - 1, -1, -1):
        if index in last:
            last |= {i for i in nodes[index].inputs if follows(nodes[i], nodes[index])}
    return [
        replace(node, shape=(node.shape[-1], *node.shape[:-1])) if index in last else node
        for index, node in enumerate(nodes)
    ]


def _window(module: nn.Module | None, dims: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    kernel = getattr(module, "kernel_size", None)
    if kernel is None or dims < 1:
        return (), ()
    stride = getattr(module, "stride", 1)
    return same_per_dim(kernel, dims), same_per_dim(stride, dims)


def _used(nodes: list[Node], *, all_ends: bool) -> Iterator[Node]:
    """`nodes` without those that do not lead to the last one (unused outputs), renumbered.

    With `all_ends`, for a network that returns several outputs, whatever nothing reads is one.
    """
    read = {i for node in nodes for i in node.inputs}
    needed = {0, len(nodes) - 1}
    needed |= set(range(len(nodes))) - read if all_ends else set()
    for index in range(len(nodes) - 1, -1, -1):
        if index in needed:
            needed.update(nodes[index].inputs)
    place = {old: new for new, old in enumerate(sorted(needed))}
    for index in sorted(needed):
        node = nodes[index]
        yield replace(node, inputs=tuple(place[i] for i in node.inputs))
