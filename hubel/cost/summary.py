"""The cost of a network, a row a layer: what an inference and a training step come to."""

from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import torch
from torch import nn

from hubel.cost.records import Gemm, Layer, LayerTime, Seen, Trace
from hubel.cost.trace import trace

__all__ = ["Cost", "Row", "blocks", "count"]


_NO_TIME = LayerTime(0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Row:
    """A layer, or a block of layers. Every number is the sum over its layers."""

    name: str
    kind: str
    layers: int
    output_shape: tuple[int, ...]
    """Of one picture, without the batch: (c, *spatial)."""
    params: int
    macs: int
    """Of one picture in inference; what runs in training only has none."""
    step_macs: int
    """Of a training step over the batch, forward and backward."""
    activations: int
    """Elements kept for the backward pass, over the batch."""
    activation_bytes: int
    gemms: tuple[Gemm, ...]
    """Of the forward pass over the batch: M = N·P·Q, K = R·S·C/G, N = out/G, G of them."""
    seen: tuple[Seen | None, ...]
    unseen_reason: str
    training_only: bool
    time: LayerTime | None = None
    """Where it was predicted."""

    @property
    def flops(self) -> int:
        """Two a MAC."""
        return 2 * self.macs

    def to_json(self, step_s: float) -> dict[str, Any]:
        """For `hubel cost --json`; `step_s` is the time of all layers in a training step."""
        field = [s if s is None else {"size": s.size, "stride": s.stride, "start": s.start}
                 for s in self.seen]  # fmt: skip
        return {
            "name": self.name,
            "kind": self.kind,
            "layers": self.layers,
            "output_shape": list(self.output_shape),
            "params": self.params,
            "macs": self.macs,
            "flops": self.flops,
            "training_step_macs": self.step_macs,
            "activations": self.activations,
            "activation_bytes": self.activation_bytes,
            "gemms": [{"m": g.m, "k": g.k, "n": g.n, "count": g.count} for g in self.gemms],
            "receptive_field": field,
            "no_field_because": self.unseen_reason or None,
            "training_only": self.training_only,
            "time": None
            if self.time is None
            else {
                "inference_s": self.time.inference_s,
                "training_step_s": self.time.step_s,
                "share": self.time.step_s / step_s if step_s else 0.0,
                "bound": self.time.bound,
            },
        }


@dataclass(frozen=True)
class Cost:
    """What `count` found."""

    model: str
    input_shape: tuple[int, ...]
    batch_size: int
    rows: tuple[Row, ...]
    inference: Trace
    """Of one picture, in evaluation mode."""
    training: Trace
    """Of the whole batch, forward and backward."""

    @property
    def params(self) -> int:
        """Of the whole network."""
        return self.training.params

    @property
    def macs(self) -> int:
        """Of one picture in inference."""
        return self.inference.macs

    @property
    def step_macs(self) -> int:
        """Of a training step over the batch, forward and backward."""
        return self.training.macs + self.training.backward_macs

    def to_json(self, rows: tuple[Row, ...]) -> dict[str, Any]:
        """For `hubel cost --json`, with these rows."""
        return {
            "model": self.model,
            "input_shape": list(self.input_shape),
            "batch_size": self.batch_size,
            "params": self.params,
            "macs": self.macs,
            "flops": 2 * self.macs,
            "training_step_macs": self.step_macs,
            "training_step_flops": 2 * self.step_macs,
            "activations": self.training.kept,
            "activation_bytes": self.training.kept_bytes,
            "layers": [row.to_json(self.layers_s) for row in rows],
        }

    @property
    def layers_s(self) -> float:
        """Predicted seconds of a training step in all layers together; 0 if not predicted."""
        return sum(row.time.step_s for row in self.rows if row.time is not None)

    def timed(self, layers: dict[str, LayerTime]) -> "Cost":
        """The same with the predicted times of `layers` in its rows."""
        rows = tuple(replace(row, time=layers.get(row.name, _NO_TIME)) for row in self.rows)
        return replace(self, rows=rows)


def count(
    model: nn.Module,
    input_shape: tuple[int, ...],
    *,
    batch_size: int = 1,
    autocast: torch.dtype | None = None,
) -> Cost:
    """The cost of `model` on pictures of `input_shape` (c, *spatial); nothing is computed.

    Counts of work are of one picture in inference; activations and GEMMs are of a training step
    on `batch_size` pictures. Rows add up to the totals: parameters that nothing reads and what
    is kept of the input have rows of their own.
    """
    inference = trace(model, (1, *input_shape), autocast=autocast)
    training = trace(model, (batch_size, *input_shape), training=True, autocast=autocast)
    found = {layer.name: layer for layer in inference.layers}
    names = {layer.name for layer in training.layers}
    rows = [_row(found.get(layer.name), layer) for layer in training.layers]
    rows += [_row(layer, None) for layer in inference.layers if layer.name not in names]
    if training.unused_params:
        unused = Layer("(not used)", "", "unused", "", params=training.unused_params)
        rows.append(_row(unused, unused))
    return Cost(type(model).__name__, input_shape, batch_size, tuple(rows), inference, training)


def _row(inference: Layer | None, training: Layer | None) -> Row:
    layer = training or inference
    if layer is None:
        raise ValueError("a row needs a layer")
    shown = inference or layer
    return Row(
        name=layer.name,
        kind=layer.kind,
        layers=1,
        output_shape=shown.output_shape[1:],
        params=training.params if training else 0,
        macs=inference.macs if inference else 0,
        step_macs=training.macs + training.backward_macs if training else 0,
        activations=training.kept if training else 0,
        activation_bytes=training.kept_bytes if training else 0,
        gemms=training.gemms if training else (),
        seen=shown.seen,
        unseen_reason=shown.unseen_reason,
        training_only=inference is None,
    )


def blocks(rows: tuple[Row, ...], depth: int) -> tuple[Row, ...]:
    """Rows of layers, summed by the first `depth` parts of their names: "layer1.0" at depth 2.

    A block's shape and field are those of its last layer.
    """
    parts: dict[str, list[Row]] = {}
    for row in rows:
        parts.setdefault(".".join(row.name.partition("#")[0].split(".")[:depth]), []).append(row)
    return tuple(
        Row(
            name=name,
            kind=block[-1].kind if len(block) == 1 else f"{len(block)} layers",
            layers=sum(row.layers for row in block),
            output_shape=block[-1].output_shape,
            params=sum(row.params for row in block),
            macs=sum(row.macs for row in block),
            step_macs=sum(row.step_macs for row in block),
            activations=sum(row.activations for row in block),
            activation_bytes=sum(row.activation_bytes for row in block),
            gemms=tuple(gemm for row in block for gemm in row.gemms),
            seen=block[-1].seen,
            unseen_reason=block[-1].unseen_reason,
            training_only=all(row.training_only for row in block),
            time=_together([row.time for row in block if row.time is not None]),
        )
        for name, block in parts.items()
    )


def _together(times: list[LayerTime]) -> LayerTime | None:
    return reduce(LayerTime.plus, times) if times else None
