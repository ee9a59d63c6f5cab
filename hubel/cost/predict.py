"""How long a network's steps will take on this machine and how much memory, before it runs.

The work is counted (`trace`: every operation, forward and backward, in the arithmetic and memory
order in which the engine will run it), each distinct operation is timed once on this machine
(`replay`), and the sum, with what the loss adds (`probe`), is the prediction; the optimizer's
operations are recorded and timed like the network's (`updates`). A replayed operation is called
from Python, which costs about what module and autograd cost in the network.
A batch too large for the probe's time is replayed on fewer pictures and scaled by its work.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from hubel.cost.memory import held
from hubel.cost.operations import is_repeatable
from hubel.cost.probe import Probe, Timings, dtype_of
from hubel.cost.records import LayerTime, Operation, Trace
from hubel.cost.trace import trace
from hubel.cost.updates import MakeOptimizer, Update, adamw, update_of
from hubel.engine import Engine

__all__ = ["PROBE_LIMIT_S", "Estimate", "Prediction", "predict"]

PROBE_LIMIT_S = 5.0
"""Of probing and replaying together, if nothing is known yet."""

_WITHIN = 1.15  # a time is true to this factor
_BUSY_LOAD, _BUSY_SCATTER = 1.5, 0.3  # beyond, somebody else's work was timed
_RUNS = 3  # of a replayed operation, at least
_OF_ROOFLINE = 1.7  # how much longer operations take than the roofline says, for planning only

# What the process of a step holds beside its tensors: scratch memory of libraries, and what the
# allocator cannot reuse, the more the larger its blocks are. Fitted to what 64 cases of
# benchmarks/cost.py held (docs/benchmarks.md): an allowance, no theory.
_SCRATCH, _SCRATCH_BYTES = 0.3, 24e6
_FRAGMENTED = 0.3  # of what comes and goes
_LARGE_BLOCKS = 5.0
_MEMORY_WITHIN = 1.15


@dataclass(frozen=True)
class Estimate:
    """A predicted figure, and the interval in which 90 % of such predictions were true.

    The interval is that of `benchmarks/cost.py` (docs/benchmarks.md).
    """

    value: float
    low: float
    high: float

    @classmethod
    def within(cls, value: float, factor: float) -> "Estimate":
        """`value`, true to a factor of `factor` either way."""
        return cls(value, value / factor, value * factor)

    def times(self, factor: float) -> "Estimate":
        """So many of the same."""
        return Estimate(self.value * factor, self.low * factor, self.high * factor)

    def plus(self, other: "Estimate") -> "Estimate":
        """Of two that err alike, as all on one machine do."""
        return Estimate(self.value + other.value, self.low + other.low, self.high + other.high)

    def rate_of(self, items: int) -> "Estimate":
        """Items a second, where this is the time for `items`."""
        return Estimate(items / self.value, items / self.high, items / self.low)

    def to_json(self) -> dict[str, float]:
        """value, low, high."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Prediction:
    """Of one network, input, batch size and engine."""

    engine: str
    batch_size: int
    step_s: Estimate
    inference_s: Estimate
    step_bytes: Estimate
    """Most memory of the process in training; on a GPU, of its tensors."""
    inference_bytes: Estimate
    layers: dict[str, LayerTime]
    outside_s: float
    """Of a training step, outside of all layers: the optimizer, the loss."""
    replayed_share: float
    """Of the step's time that comes from operations timed here; the rest is from the roofline."""
    scaled_from: int
    """Pictures in the replayed batch: fewer than `batch_size` where that would take too long."""
    scatter: float
    """By how much the rounds of the same operation differed (half their middle half, by time)."""
    load: float
    """Processes that wanted a core of this machine meanwhile, for each core; 0 if not known."""
    steady_bytes: int
    """Of a training step's memory: parameters, buffers and the optimizer's state."""
    base_bytes: int
    """Of the memory: the process without any network. 0 on a GPU."""
    probe_s: float
    """What probing and timing took now; 0 if all was known."""

    @property
    def busy(self) -> bool:
        """Whether the machine had too much else to do for its times to be trusted."""
        return self.load > _BUSY_LOAD or self.scatter > _BUSY_SCATTER

    @property
    def layers_s(self) -> float:
        """Of a training step, of all layers together."""
        return sum(layer.step_s for layer in self.layers.values())

    def to_json(self) -> dict[str, Any]:
        """For `hubel cost --json`."""
        return {
            "engine": self.engine,
            "batch_size": self.batch_size,
            "training_step_s": self.step_s.to_json(),
            "training_images_per_s": self.step_s.rate_of(self.batch_size).to_json(),
            "inference_s": self.inference_s.to_json(),
            "inference_images_per_s": self.inference_s.rate_of(self.batch_size).to_json(),
            "training_peak_bytes": self.step_bytes.to_json(),
            "inference_peak_bytes": self.inference_bytes.to_json(),
            "optimizer_and_loss_s": self.outside_s,
            "replayed_share": self.replayed_share,
            "scatter": self.scatter,
            "load_per_core": self.load,
            "machine_was_busy": self.busy,
            "replayed_batch_size": self.scaled_from,
            "probe_s": self.probe_s,
        }


@dataclass(frozen=True)
class _Timed:
    """One operation of a layer with its predicted seconds."""

    layer: str
    operation: Operation
    seconds: float
    scatter_s: float
    replayed: bool

    def as_layer(self, training: bool, probe: Probe) -> LayerTime:
        if not training:
            return LayerTime(self.seconds, 0.0, 0.0, 0.0)
        arithmetic_s = 2 * self.operation.macs / probe.flops_per_s
        return LayerTime(
            0.0, self.seconds, arithmetic_s, _bytes(self.operation) / probe.bytes_per_s
        )


def predict(
    model: nn.Module,
    input_shape: tuple[int, ...],
    batch_size: int,
    engine: Engine,
    timings: Timings,
    *,
    optimizer: MakeOptimizer = adamw,
    lookahead: int = 0,
) -> Prediction:
    """The times and memory of `model` on `batch_size` inputs of `input_shape` (c, *spatial).

    Nothing of the network runs; its operations do, one by one, on tensors of their own, unless
    `timings` knows them. `timings.save()` keeps what was measured. `optimizer` makes what trains
    the network; with `lookahead` its weights are pulled to slow copies every so many steps.
    """
    probe = timings.probe
    passes = {
        training: _trace(model, input_shape, batch_size, engine, training)
        for training in (False, True)
    }
    pictures = _affordable(passes[True], probe, batch_size)
    timed: dict[bool, list[_Timed]] = {}
    for training, full in passes.items():
        small = full
        if pictures < batch_size:
            small = _trace(model, input_shape, pictures, engine, training)
        share = 0.5 if training else 0.25  # of what is left; the rest is the optimizer's
        timed[training] = list(_timed(full, small, timings, share * _left_s(timings)))
    layers: dict[str, LayerTime] = {}
    for training, operations in timed.items():
        for one in operations:
            so_far = layers.get(one.layer, LayerTime(0.0, 0.0, 0.0, 0.0))
            layers[one.layer] = so_far.plus(one.as_layer(training, probe))
    inference_s = sum(layer.inference_s for layer in layers.values())
    step_s = sum(layer.step_s for layer in layers.values())
    update = update_of(model, optimizer, channels_last=engine.channels_last)
    slow_bytes = sum(t.nbytes for t in model.state_dict().values()) if lookahead else 0
    outside_s = probe.step_s + _update_s(update, timings)
    if lookahead:  # both copies are read and written
        outside_s += 4 * slow_bytes / probe.bytes_per_s / lookahead
    replayed_s = sum(t.seconds for t in timed[True] if t.replayed)
    scatter = sum(t.scatter_s for t in timed[True]) / replayed_s if replayed_s else 0.0
    within = _WITHIN * (1.0 + scatter)
    sizes = (model, input_shape, batch_size, engine, probe)
    step_bytes, steady_bytes = _memory(*sizes, update, slow_bytes)
    inference_bytes, _ = _memory(*sizes, None, 0)
    return Prediction(
        str(engine),
        batch_size,
        Estimate.within(step_s + outside_s, within),
        Estimate.within(inference_s, within),
        step_bytes,
        inference_bytes,
        layers,
        outside_s,
        replayed_s / step_s if step_s else 1.0,
        pictures,
        scatter,
        _load(),
        steady_bytes,
        probe.base_bytes,
        timings.measured_s,
    )


def _left_s(timings: Timings) -> float:
    """Of the limit, for timing."""
    return max(PROBE_LIMIT_S - timings.measured_s, 0.0)


def _update_s(update: Update, timings: Timings) -> float:
    """Of one step of the optimizer."""
    probe = timings.probe
    seconds = sum(update.adam_sizes) * probe.adam_s + len(update.adam_sizes) * probe.adam_tensor_s
    calls = dict.fromkeys(op.call for op in update.operations if op.call is not None)
    known = timings.of(list(calls), 0.6 * _left_s(timings)) if calls else {}
    for operation in update.operations:
        timed = known.get(operation.call) if operation.call is not None else None
        roofline_s = probe.roofline_s(operation.macs, _bytes(operation))
        seconds += roofline_s if timed is None else timed.seconds
    return seconds


def _trace(
    model: nn.Module, input_shape: tuple[int, ...], batch_size: int, engine: Engine, training: bool
) -> Trace:
    return trace(
        model,
        (batch_size, *input_shape),
        training=training,
        autocast=dtype_of(engine),
        channels_last=engine.channels_last,
    )


def _operations(found: Trace) -> Iterator[tuple[str, Operation]]:
    for layer in found.layers:
        for operation in (*layer.forward, *layer.backward):
            yield layer.name, operation


def _bytes(operation: Operation) -> int:
    return operation.bytes_read + operation.bytes_written


def _affordable(full: Trace, probe: Probe, batch_size: int) -> int:
    """How many pictures to replay so that all distinct operations run in half the limit."""
    distinct = {op.call: op for _, op in _operations(full)}
    once_s = sum(probe.roofline_s(op.macs, _bytes(op)) for op in distinct.values())
    pictures = batch_size
    while (
        pictures > 1 and once_s * _RUNS * _OF_ROOFLINE * pictures / batch_size > PROBE_LIMIT_S / 2
    ):
        pictures = -(-pictures // 2)
    return pictures


def _timed(full: Trace, small: Trace, timings: Timings, limit_s: float) -> Iterator[_Timed]:
    """Each operation of `full` with its seconds: of its like in `small`, by the work of both."""
    pairs = list(zip(_operations(full), _operations(small), strict=False))
    same = len(full.layers) == len(small.layers) and all(
        one.name == other.name for (_, one), (_, other) in pairs
    )
    replayed = [
        op.call
        for _, op in _operations(small)
        if same and op.call is not None and is_repeatable(op.call.func)
    ]
    known = timings.of(list(dict.fromkeys(replayed)), limit_s)
    probe = timings.probe
    pairs = pairs if same else [(one, one) for one in _operations(full)]
    for (layer, operation), (_, like) in pairs:
        timed = known.get(like.call) if like.call is not None and _bytes(like) else None
        if timed is None:
            seconds = probe.roofline_s(operation.macs, _bytes(operation))
        else:
            work = (
                operation.macs / like.macs
                if like.macs
                else _bytes(operation) / max(_bytes(like), 1)
            )
            seconds = timed.seconds * work
        scatter_s = 0.0 if timed is None else (timed.high_s - timed.low_s) / 2
        yield _Timed(layer, operation, seconds, scatter_s, timed is not None)


def _memory(
    model: nn.Module,
    input_shape: tuple[int, ...],
    batch_size: int,
    engine: Engine,
    probe: Probe,
    update: Update | None,
    slow_bytes: int,
) -> tuple[Estimate, int]:
    """Of the process in a training step with `update`, in inference without; and what stays."""
    tensors = held(
        model,
        (batch_size, *input_shape),
        training=update is not None,
        autocast=dtype_of(engine),
        channels_last=engine.channels_last,
        kept=0 if update is None else update.kept_bytes + slow_bytes,
    )
    if update is not None:  # the backward pass is over then, and the gradients are there
        gradients = sum(p.nbytes for p in model.parameters() if p.requires_grad)
        stepping = tensors.steady + gradients + update.passing_bytes
        tensors = replace(tensors, most=max(tensors.most, stepping))
    beside = 0.0
    if engine.device.type == "cpu":
        beside = (
            min(_SCRATCH * tensors.most, _SCRATCH_BYTES)
            + _FRAGMENTED * (tensors.most - tensors.steady)
            + _LARGE_BLOCKS * tensors.largest_map
        )
    most = Estimate.within(probe.base_bytes + tensors.most + beside, _MEMORY_WITHIN)
    return most, tensors.steady


def _load() -> float:
    """Of this process too: 1 if it has as many cores as it can use and no company."""
    if not hasattr(os, "getloadavg"):
        return 0.0
    return os.getloadavg()[0] / max(os.cpu_count() or 1, 1)
