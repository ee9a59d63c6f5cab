"""The records of a traced network: what each operation and each layer computes, reads and keeps.

How it counts: one fused multiply-add is one MAC, and one MAC is two FLOPs. Only products of
matrices and convolutions have MACs; additions, activations, norms and pooling have none, but
their traffic (bytes read and written) is recorded like everyone's.
"""

from dataclasses import dataclass, field

from hubel.conv.case import ConvCase
from hubel.cost.calls import Call
from hubel.shapes import ReceptiveField

__all__ = ["Gemm", "Layer", "LayerTime", "Operation", "Seen", "Trace"]


@dataclass(frozen=True)
class Gemm:
    """`count` products of an (m, k) by a (k, n) matrix; `count` is groups, or heads × pictures."""

    m: int
    k: int
    n: int
    count: int = 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all of them."""
        return self.m * self.k * self.n * self.count

    def __str__(self) -> str:
        times = f"{self.count}·" if self.count > 1 else ""
        return f"{times}{self.m}×{self.k}×{self.n}"


@dataclass(frozen=True)
class Seen:
    """What one output sees along one spatial dimension of the input, in pixels.

    The output at position o sees [start + o·stride, start + o·stride + size); below 0 or beyond
    the input is padding. `stride` None: every output sees the same range.
    """

    size: int
    stride: int | None
    start: int

    def whole(self, side: int) -> bool:
        """Does every output see all of an input of `side` pixels?"""
        return self.stride is None and self.start <= 0 and self.start + self.size >= side


@dataclass(frozen=True)
class Operation:
    """One operation of torch's (`aten`) that computes or moves data; views do neither."""

    name: str
    kind: str
    inputs: tuple[tuple[int, ...], ...]
    """Shapes of the tensors read, parameters among them."""
    outputs: tuple[tuple[int, ...], ...]
    gemms: tuple[Gemm, ...]
    bytes_read: int
    bytes_written: int
    case: ConvCase | None = None
    """The convolution that it is, forward or backward; None for others and transposed ones."""
    call: Call | None = None
    """The operation itself, to be run again on tensors like its own."""

    @property
    def macs(self) -> int:
        """Multiply-accumulates; FLOPs are twice as many."""
        return sum(gemm.macs for gemm in self.gemms)


@dataclass(frozen=True)
class LayerTime:
    """The predicted seconds of a layer or a block of layers, over the batch."""

    inference_s: float
    step_s: float
    """Forward and backward in training; the optimizer is not any layer's."""
    arithmetic_s: float
    """What the multiply-accumulates of a training step take at this machine's best."""
    memory_s: float
    """What its bytes, read and written, take at this machine's best."""

    @property
    def bound(self) -> str:
        """What holds a training step back at most: "arithmetic" or "memory"."""
        return "arithmetic" if self.arithmetic_s > self.memory_s else "memory"

    def plus(self, other: "LayerTime") -> "LayerTime":
        """Of both together."""
        return LayerTime(
            self.inference_s + other.inference_s,
            self.step_s + other.step_s,
            self.arithmetic_s + other.arithmetic_s,
            self.memory_s + other.memory_s,
        )


@dataclass
class Layer:
    """One call of a layer, or one operation that a network does outside of any layer.

    `name` is the module's path; an operation outside of a layer has the path of the module that
    does it and the operation's own name: "layer1.0.add". Later calls of the same have "#2".
    """

    name: str
    module: str
    kind: str
    type: str
    inputs: list[int] = field(default_factory=list)
    """Indices in `Trace.layers` of those whose outputs it reads, in the order of reading."""
    output_shapes: list[tuple[int, ...]] = field(default_factory=list)
    """(n, c, *spatial) of what it hands on."""
    params: int = 0
    """Parameters that it is the first to read."""
    param_bytes: int = 0
    forward: list[Operation] = field(default_factory=list)
    backward: list[Operation] = field(default_factory=list)
    kept: int = 0
    """Elements of what it made that stay in memory for the backward pass."""
    kept_bytes: int = 0
    seen: tuple[Seen | None, ...] = ()
    """Per spatial dimension of the input; None where there is no such field."""
    unseen_reason: str = ""
    """Why an entry of `seen` is None."""

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The (last) output's shape; () if there is none."""
        return self.output_shapes[-1] if self.output_shapes else ()

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the forward pass."""
        return sum(op.macs for op in self.forward)

    @property
    def backward_macs(self) -> int:
        """Multiply-accumulates of the backward pass."""
        return sum(op.macs for op in self.backward)

    @property
    def gemms(self) -> tuple[Gemm, ...]:
        """The matrix products of its forward pass, as its lowering has them."""
        return tuple(gemm for op in self.forward for gemm in op.gemms)

    @property
    def receptive_field(self) -> ReceptiveField | None:
        """The field, where it is a window that moves by a stride in every dimension."""
        found = [s for s in self.seen if s is not None and s.stride is not None]
        if not found or len(found) < len(self.seen):
            return None
        return ReceptiveField(
            tuple(s.size for s in found),
            tuple(s.stride or 0 for s in found),
            tuple(s.start for s in found),
        )


@dataclass
class Trace:
    """A network on one input: its layers in the order in which they ran.

    `layers[0]` is the input itself, of kind "input": what is kept of it for backward is there,
    and parameters that nothing reads are not in any layer (`unused_params`).
    """

    input_shape: tuple[int, ...]
    """(n, c, *spatial)."""
    training: bool
    layers: list[Layer]
    params: int
    """Of the whole network, used or not; a shared one is counted once."""
    unused_params: int
    output_bytes: int
    """Of what the network returns."""

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the forward pass over the whole batch."""
        return sum(layer.macs for layer in self.layers)

    @property
    def backward_macs(self) -> int:
        """Multiply-accumulates of the backward pass over the whole batch."""
        return sum(layer.backward_macs for layer in self.layers)

    @property
    def kept(self) -> int:
        """Elements kept for the backward pass."""
        return sum(layer.kept for layer in self.layers)

    @property
    def kept_bytes(self) -> int:
        """Bytes kept for the backward pass; parameters are not among them."""
        return sum(layer.kept_bytes for layer in self.layers)
