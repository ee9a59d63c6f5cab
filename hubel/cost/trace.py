"""A network's graph, recorded while it runs without computing.

The network runs once on fake tensors, which have shapes but no numbers: nothing is computed and
no memory is taken, on whatever input. A dispatch mode sees every operation that torch would do,
forward and backward, through functional calls and Python of any kind, and hooks on the modules
say in which layer. A network whose Python looks at values (`if x.max() > 1`, `x.numpy()`) runs
for real instead, on zeros. The network that is given is not changed.
"""

import contextlib
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import (
    FakeTensorMode,
)
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from hubel.cost.calls import Call, call_of
from hubel.cost.field_rules import follow
from hubel.cost.fields import Field, input_field
from hubel.cost.operations import conv_case, gemms_of, kind_of, plain_name
from hubel.cost.records import Layer, Operation, Trace
from hubel.cost.stand_ins import in_channels_last, on_stand_ins, stand_ins, tensors_of

__all__ = ["operation_of", "trace"]

# What a module is called, by a part of its class's name; the rest goes by its operations.
_UNIT_KINDS = (
    ("MultiheadAttention", "attention"),
    ("LocalResponseNorm", "lrn"),
    ("LRN", "lrn"),
    ("Dropout", "dropout"),
    ("StochasticDepth", "dropout"),
    ("Flatten", "flatten"),
    ("BatchNorm", "batch_norm"),
    ("LayerNorm", "layer_norm"),
    ("GroupNorm", "group_norm"),
    ("InstanceNorm", "instance_norm"),
    ("Pool", "pool"),
    ("Identity", "identity"),
)

_VIEWS = {"_unsafe_view", "lift_fresh", "detach", "alias"}


def trace(
    model: nn.Module,
    input_shape: Sequence[int],
    *,
    training: bool = False,
    autocast: torch.dtype | None = None,
    channels_last: bool = False,
) -> Trace:
    """The layers of `model` on an input of `input_shape` (n, c, *spatial), in running order.

    With `training` the network is in training mode, the backward pass is recorded too, and what
    autograd keeps between the two; without, it is in evaluation mode and no gradients are taken.
    `autocast` is the dtype to which torch.autocast lowers what it can; None leaves all as it is.
    Errors of the network itself (shapes that do not fit) come through as torch raises them.
    """
    return on_stand_ins(
        model,
        training,
        lambda fake: _Recorder(model, tuple(input_shape), training, channels_last).run(
            fake, autocast
        ),
    )


@dataclass
class _Call:
    """A module that is running."""

    path: str
    module: nn.Module
    unit: "Layer | None"
    inputs: list[int]


class _Recorder(TorchDispatchMode):
    def __init__(
        self, model: nn.Module, input_shape: tuple[int, ...], training: bool, channels_last: bool
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.model = model
        self.channels_last = channels_last
        self.input_shape = input_shape
        self.training = training
        self.layers = [Layer("input", "", "input", "", output_shapes=[input_shape])]
        self.calls: list[_Call] = []
        self.times: dict[str, int] = {}
        self.alive: list[Any] = []  # what is known by its id must not be freed
        self.maker: dict[int, int] = {}  # id of a tensor -> index of the layer that made it
        self.fields: dict[int, Field] = {}
        self.params_of: dict[int, frozenset[str]] = {}  # id of a view of parameters -> names
        self.claimed: set[str] = set()
        self.param_sizes: dict[str, tuple[int, int]] = {}
        self.state_storages: set[int] = set()
        self.storage_maker: dict[int, int] = {}
        self.kept_storages: set[int] = set()
        self.node_layer: dict[int, int] = {}

    # -- running ------------------------------------------------------------------------------

    def run(self, fake: FakeTensorMode | None, autocast: torch.dtype | None) -> Trace:
        state, input = self._stand_ins(fake)
        self.maker[id(input)] = 0
        self.fields[id(input)] = input_field(self.input_shape)
        self.storage_maker[input.untyped_storage()._cdata] = 0
        with contextlib.ExitStack() as stack:
            for path, module in self.model.named_modules():
                stack.enter_context(self._hooked(path, module))
            if fake is not None:
                stack.enter_context(fake)
            stack.enter_context(torch.set_grad_enabled(self.training))
            if autocast is not None:
                stack.enter_context(torch.autocast(input.device.type, autocast))
            with self, torch.autograd.graph.saved_tensors_hooks(self._keep, lambda kept: kept):
                # Tied tensors are tied in `state` already; torch would put twins back for a
                # module that has two names.
                output = torch.func.functional_call(self.model, state, (input,), tie_weights=False)
            found = [t for t in pytree.tree_leaves(output) if isinstance(t, torch.Tensor)]
            output_bytes = sum(t.nbytes for t in found)
            wanted = [t for t in found if t.requires_grad]
            if wanted:
                ones = [torch.ones_like(t) for t in wanted]
                with self:
                    torch.autograd.backward(wanted, ones)
        return Trace(
            self.input_shape,
            self.training,
            self.layers,
            sum(count for count, _ in self.param_sizes.values()),
            sum(c for name, (c, _) in self.param_sizes.items() if name not in self.claimed),
            output_bytes,
        )

    def _stand_ins(
        self, fake: FakeTensorMode | None
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Parameters and buffers of the same shapes, and an input; none of them the user's."""
        with fake if fake is not None else contextlib.nullcontext():
            state = stand_ins(
                self.model,
                training=self.training,
                channels_last=self.channels_last,
                with_numbers=fake is None,
            )
            for name, tensor in tensors_of(self.model):
                twin = state[name]
                self.state_storages.add(twin.untyped_storage()._cdata)
                if isinstance(tensor, nn.Parameter) and id(twin) not in self.params_of:
                    self.param_sizes[name] = (tensor.numel(), tensor.nbytes)
                    self.params_of[id(twin)] = frozenset((name,))
            dtype = next((p.dtype for p in self.model.parameters()), torch.float32)
            input = torch.zeros(self.input_shape, dtype=dtype)
            if self.channels_last:
                input = in_channels_last(input)
        self.alive += [*state.values(), input]
        return state, input

    @contextlib.contextmanager
    def _hooked(self, path: str, module: nn.Module) -> Iterator[None]:
        me = weakref.proxy(self)

        def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
            inputs = [
                me.maker[id(t)] for t in pytree.tree_leaves((args, kwargs)) if id(t) in me.maker
            ]
            outer = me.calls[-1].unit if me.calls else None
            whole = not list(module.children()) or "MultiheadAttention" in type(module).__name__
            unit = outer
            if outer is None and whole and path:
                unit = me._new_layer(path, path, _unit_kind(module), type(module).__name__)
            me.calls.append(_Call(path, module, unit, inputs))

        def leave(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            call = me.calls.pop()
            outer = me.calls[-1].unit if me.calls else None
            if call.unit is not None and outer is None:
                me._finish(call, output)

        handles = [
            module.register_forward_pre_hook(enter, with_kwargs=True),
            module.register_forward_hook(leave, with_kwargs=True),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    # -- layers -------------------------------------------------------------------------------

    def _new_layer(self, name: str, module: str, kind: str, type_name: str) -> Layer:
        self.times[name] = self.times.get(name, 0) + 1
        if self.times[name] > 1:
            name = f"{name}#{self.times[name]}"
        self.layers.append(Layer(name, module, kind, type_name))
        return self.layers[-1]

    def _finish(self, call: _Call, output: Any) -> None:
        """A layer has ended: what it returns is its own, even if it only passed it on."""
        layer = call.unit
        if layer is None:
            return
        index = next(i for i in range(len(self.layers) - 1, -1, -1) if self.layers[i] is layer)
        layer.inputs = list(dict.fromkeys([*call.inputs, *layer.inputs]))
        layer.inputs = [i for i in layer.inputs if i != index]
        tensors = [t for t in pytree.tree_leaves(output) if isinstance(t, torch.Tensor)]
        layer.output_shapes = [tuple(t.shape) for t in tensors]
        for tensor in tensors:
            self.maker[id(tensor)] = index
            self.alive.append(tensor)
        if tensors:
            self._see(layer, self.fields.get(id(tensors[0])))
        if not layer.kind:
            layer.kind = _kind_of_operations(layer)

    def _see(self, layer: Layer, field: Field | None) -> None:
        if field is not None:
            layer.seen = tuple(s.seen if s is not None else None for s in field.spans)
            layer.unseen_reason = field.reason

    # -- operations ---------------------------------------------------------------------------

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.namespace != "aten":
            return result
        bound = _bind(func, args, kwargs or {})
        outputs = [t for t in pytree.tree_leaves(result) if isinstance(t, torch.Tensor)]
        call = call_of(func, args, kwargs or {})
        node = torch._C._current_autograd_node()
        if node is not None:
            self._backward(func, call, bound, outputs, node)
        else:
            self._forward(func, call, bound, outputs)
        return result

    def _forward(
        self, func: Any, call: Call, bound: dict[str, Any], outputs: list[torch.Tensor]
    ) -> None:
        inputs = [t for t in pytree.tree_leaves(bound) if isinstance(t, torch.Tensor)]
        self.alive += outputs
        found = follow(func, bound, outputs, lambda t: self.fields.get(id(t)))
        names = frozenset().union(*(self.params_of.get(id(t), frozenset()) for t in inputs))
        makers = [self.maker[id(t)] for t in inputs if id(t) in self.maker]
        unit = self.calls[-1].unit if self.calls else None
        view = func.is_view or plain_name(func) in _VIEWS
        flattens = view and outputs[0].dim() == 2 and any(t.dim() > 2 for t in inputs)
        index: int | None = None
        if unit is not None:
            index = len(self.layers) - 1
            unit.inputs += [i for i in makers if i not in unit.inputs]
        elif (not view and inputs) or (flattens and makers):
            path = self.calls[-1].path if self.calls else ""
            name = "flatten" if flattens else plain_name(func).strip("_")
            kind = kind_of(func)
            layer = self._new_layer(f"{path}.{name}".lstrip("."), path, kind, "")
            index = len(self.layers) - 1
            layer.inputs = list(dict.fromkeys(makers))
            layer.output_shapes = [tuple(outputs[0].shape)] if outputs else []
            self._see(layer, found[0] if found else None)
        elif makers:
            index = makers[0]
        if not view and index is not None and inputs:
            self.layers[index].forward.append(_operation(func, call, bound, inputs, outputs, names))
            self._claim(names, self.layers[index])
        if index is not None:
            # The first after it: what makes no node of its own (a counter) finds the last one.
            self.node_layer.setdefault(torch._C._autograd._get_sequence_nr() - 1, index)
        for tensor, field in zip(outputs, found, strict=True):
            if field is not None:
                self.fields[id(tensor)] = field
            if index is not None and (makers or not view) and (makers or not names):
                self.maker[id(tensor)] = index
                self.storage_maker.setdefault(tensor.untyped_storage()._cdata, index)
            elif index is not None:
                self.storage_maker.setdefault(tensor.untyped_storage()._cdata, index)
            if view and names:
                self.params_of[id(tensor)] = names

    def _claim(self, names: frozenset[str], layer: Layer) -> None:
        for name in names - self.claimed:
            self.claimed.add(name)
            count, size = self.param_sizes[name]
            layer.params += count
            layer.param_bytes += size

    def _backward(
        self,
        func: Any,
        call: Call,
        bound: dict[str, Any],
        outputs: list[torch.Tensor],
        node: Any,
    ) -> None:
        self.alive += outputs
        index = self.node_layer.get(node._sequence_nr())
        # Gradients are accumulated in place of what was handed over, without a copy.
        if index is None or func.is_view or plain_name(func) in _VIEWS:
            return
        inputs = [t for t in pytree.tree_leaves(bound) if isinstance(t, torch.Tensor)]
        operation = _operation(func, call, bound, inputs, outputs, frozenset())
        self.layers[index].backward.append(operation)

    def _keep(self, tensor: torch.Tensor) -> torch.Tensor:
        """Autograd saves `tensor`: its storage is counted once, with the layer that made it."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self.state_storages and key not in self.kept_storages:
            self.kept_storages.add(key)
            self.alive.append(storage)
            layer = self.layers[self.storage_maker.get(key, len(self.layers) - 1)]
            layer.kept += storage.nbytes() // tensor.element_size()
            layer.kept_bytes += storage.nbytes()
        return tensor


def _bind(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments by the names of the schema, defaults filled in."""
    bound: dict[str, Any] = {}
    for i, argument in enumerate(func._schema.arguments):
        if i < len(args):
            bound[argument.name] = args[i]
        elif argument.name in kwargs:
            bound[argument.name] = kwargs[argument.name]
        elif argument.has_default_value():
            bound[argument.name] = argument.default_value
    return bound


def _operation(
    func: Any,
    call: Call,
    bound: dict[str, Any],
    inputs: list[torch.Tensor],
    outputs: list[torch.Tensor],
    names: frozenset[str],
) -> Operation:
    gemms = gemms_of(func, bound, outputs)
    kind = kind_of(func)
    distinct = {id(t): t for t in inputs}.values()
    return Operation(
        plain_name(func),
        "linear" if kind == "matmul" and names else kind,
        tuple(tuple(t.shape) for t in inputs),
        tuple(tuple(t.shape) for t in outputs),
        gemms,
        sum(map(_bytes, distinct)),
        sum(map(_bytes, outputs)),
        conv_case(func, bound),
        call,
    )


def operation_of(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
) -> Operation:
    """The record of `func(*args, **kwargs)`, which gave `result`, outside of any network."""
    bound = _bind(func, args, kwargs)
    inputs = [t for t in pytree.tree_leaves(bound) if isinstance(t, torch.Tensor)]
    outputs = [t for t in pytree.tree_leaves(result) if isinstance(t, torch.Tensor)]
    call = call_of(func, args, kwargs)
    return _operation(func, call, bound, inputs, outputs, frozenset())


def _bytes(tensor: torch.Tensor) -> int:
    """What of memory a tensor touches: an expanded one is no larger than what it repeats."""
    return min(tensor.nbytes, tensor.untyped_storage().nbytes())


def _unit_kind(module: nn.Module) -> str:
    name = type(module).__name__
    return next((kind for part, kind in _UNIT_KINDS if part in name), "")


def _kind_of_operations(layer: Layer) -> str:
    """A layer is what its largest product is, and without one what it writes most."""
    if not layer.forward:
        return "identity"
    if any(op.kind == "attention" for op in layer.forward):
        return "attention"
    return max(layer.forward, key=lambda op: (op.macs, op.bytes_written)).kind
