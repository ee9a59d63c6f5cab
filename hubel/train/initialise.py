"""Beginnings at which a network passes its input on, found from its graph.

A convolution that starts as the identity hands features and gradients through from the first
step (Jordan 2024, arXiv 2404.00498, section 3.3; Zagoruyko and Komodakis 2017, "DiracNets",
arXiv 1706.00388). Where a shortcut does that already, the branch beside it starts at zero
instead, by its last batch norm (Goyal et al. 2017, arXiv 1706.02677, section 5.1). Which of
the two a layer needs is read off the graph that autograd records, so it works for networks
that hubel never saw: a convolution is the only way if no path from output to input goes
round it.

What hardly varies is not passed on. In volumes that are mostly empty, and in drawings, a channel
may be the same everywhere once it was pooled; batch norm divides it by next to nothing, and each
one that the gradient goes back through makes it a hundred times larger.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from hubel.data.sentences import counted
from hubel.trial import CONVS, NORMS, trial

__all__ = ["Beginning", "begin_as_identity"]

_Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d

_STILL = 0.01
"""Of the mean variance of a layer's channels: one below it is taken to be the same everywhere."""


@dataclass(frozen=True)
class Beginning:
    """How many convolutions begin as the identity, how many last norms at zero, and how many
    channels are not passed on because they are `still`.
    """

    identities: int
    zeros: int
    still: int = 0

    def sentence(self) -> str:
        """For the terminal; "" where nothing was changed."""
        parts = []
        if self.identities:
            but = f" but for {counted(self.still, 'still channel')}" if self.still else ""
            parts.append(f"{counted(self.identities, 'convolution')} as the identity{but}")
        if self.zeros:
            parts.append(f"{counted(self.zeros, 'residual branch')} at zero")
        return f"to begin with {' and '.join(parts)}" if parts else ""


def begin_as_identity(model: nn.Module, input: torch.Tensor) -> Beginning:
    """Change the initial weights of `model` in place; `input` (n, c, *spatial) are a few samples.

    - A convolution of odd kernel and stride 1, no narrower behind than before, not the first
      one, without a way round it: the first in_channels filters pass one channel on each, but
      for channels whose variance is below a hundredth of the mean, which keep their filters.
    - An addition of a branch that ends in batch norm and of something that does not go
      through all of that branch: the norm's scale is zero.
    """
    graph = _Graph(model, tuple(input.shape[1:]))
    layers = [
        m
        for m in model.modules()
        if isinstance(m, CONVS) and _can_pass_on(m) and graph.only_way(m.weight)
    ]
    norms = graph.last_norms(model)
    still = _pass_on_what_varies(model, layers, input) if layers else 0
    for weight in norms:
        nn.init.zeros_(weight)
    return Beginning(len(layers), len(norms), still)


@torch.no_grad()
def _pass_on_what_varies(model: nn.Module, layers: list[_Conv], input: torch.Tensor) -> int:
    """Make `layers` pass on the channels that vary; how many do not.

    Each layer is settled when `input` comes to it, so that what it hands on is what the next one
    judges.
    """
    still = 0

    def settle(layer: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> Any:
        nonlocal still
        assert isinstance(layer, CONVS)  # noqa: S101
        if layer not in waiting:
            return None
        waiting.remove(layer)
        own = layer.weight[: layer.in_channels].clone()
        nn.init.dirac_(layer.weight[: layer.in_channels])
        variance = layer.forward(*args).transpose(0, 1).flatten(1).var(1, correction=0)
        keep = variance[: layer.in_channels] < _STILL * variance.mean()
        layer.weight[: layer.in_channels][keep] = own[keep]
        still += int(keep.sum())
        return layer.forward(*args)

    waiting = set(layers)
    reference = next(model.parameters())
    handles = [layer.register_forward_hook(settle) for layer in layers]
    norms = [m for m in model.modules() if isinstance(m, NORMS) and m.track_running_stats]
    try:
        with trial(model, tuple(input.shape[1:])):
            for norm in norms:  # the batch's statistics, which leave no trace; one has none
                norm.training, norm.track_running_stats = len(input) > 1, False
            model(input.to(reference))
    finally:
        for norm in norms:
            norm.track_running_stats = True
        for handle in handles:
            handle.remove()
    return still


def _can_pass_on(layer: _Conv) -> bool:
    """Whether identity filters would put out the input, in the same place and size."""
    half = tuple((side - 1) // 2 for side in layer.kernel_size)
    return (
        all(side % 2 == 1 and side > 1 for side in layer.kernel_size)
        and layer.padding in (half, "same")
        and set(layer.stride) == {1} == set(layer.dilation)
        and layer.groups == 1
        and layer.in_channels <= layer.out_channels
    )


class _Graph:
    """What autograd recorded of one forward pass, from the output back to input and weights."""

    def __init__(self, model: nn.Module, input_shape: tuple[int, ...]) -> None:
        with trial(model, input_shape) as input:
            input.requires_grad_()
            output = next(t for t in tree_leaves(model(input)) if isinstance(t, torch.Tensor))
        self.root = output.grad_fn
        self.nodes = list(_behind(self.root, None))
        self.leaves = {id(node.variable): node for node in self.nodes if hasattr(node, "variable")}
        self.input = self.leaves[id(input)]
        self.keep = (input, output)  # whose identities are in use

    def user(self, parameter: torch.Tensor) -> Any:
        """The operation that takes `parameter`, None if none does, or several."""
        leaf = self.leaves.get(id(parameter))
        users = [n for n in self.nodes if leaf is not None and leaf in _inputs(n)]
        return users[0] if len(users) == 1 else None

    def only_way(self, weight: torch.Tensor) -> bool:
        """Whether every path from the output goes through what `weight` does, then elsewhere."""
        node = self.user(weight)
        if node is None or self.input in _inputs(node):
            return False
        return self.input not in set(_behind(self.root, node))

    def last_norms(self, model: nn.Module) -> list[torch.Tensor]:
        """The scales of the batch norms that residual additions take, one for each addition."""
        norms = {
            node: m.weight
            for m in model.modules()
            if isinstance(m, NORMS) and m.affine and (node := self.user(m.weight)) is not None
        }
        found: list[torch.Tensor] = []
        for node in self.nodes:
            if not node.name().startswith("AddBackward"):
                continue
            # The branch is the longer way: it has more operations behind it.
            ways = sorted(_inputs(node), key=lambda way: sum(1 for _ in _behind(way, None)))
            if len(ways) == 2 and ways[-1] in norms and self.input in set(_behind(ways[0], None)):
                found.append(norms[ways[-1]])
        return found


def _inputs(node: Any) -> list[Any]:
    return [before for before, _ in node.next_functions if before is not None]


def _behind(start: Any, without: Any) -> Iterator[Any]:
    """`start` and every node behind it, those that only `without` leads to left out."""
    seen, waiting = set(), [start]
    while waiting:
        node = waiting.pop()
        if node in seen or node is without:
            continue
        seen.add(node)
        yield node
        waiting += _inputs(node)
