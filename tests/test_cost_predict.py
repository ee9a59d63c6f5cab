"""Predicted times and memory: what they are made of. How true they are, benchmarks/cost.py says."""

import json
import threading
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from hubel.config import FitConfig
from hubel.cost.calls import Call, TensorSpec, call_of
from hubel.cost.fit_cost import facts_of, predict_fit
from hubel.cost.memory import held
from hubel.cost.predict import Estimate, predict
from hubel.cost.probe import Probe, Timings
from hubel.cost.replay import Timed, replay
from hubel.cost.trace import trace
from hubel.cost.updates import update_of
from hubel.cost.words import seconds_words
from hubel.engine import Engine
from hubel.train.composite import Composite
from hubel.train.forecast import forecast
from hubel.train.muon import Muon

CPU = torch.device("cpu")
PROBE = Probe(1e11, 1e10, 2e-4, 1e-9, 1e-6, 700_000_000)


class Known(Timings):
    """A machine on which every operation takes a microsecond for each kilobyte it is given."""

    def __init__(self, folder, unknown=()):
        super().__init__(Engine(CPU, "fp32"), folder)
        self.unknown = unknown
        self.asked = []

    @property
    def probe(self):
        return PROBE

    def of(self, calls, limit_s):
        self.asked += calls
        return {
            call: Timed(1e-9 * call.bytes, 0.9e-9 * call.bytes, 1.1e-9 * call.bytes)
            for call in calls
            if not any(name in str(call.func) for name in self.unknown)
        }


def network(spatial_dims=2):
    conv = (nn.Conv2d, nn.Conv3d)[spatial_dims - 2]
    norm = (nn.BatchNorm2d, nn.BatchNorm3d)[spatial_dims - 2]
    return nn.Sequential(conv(3, 8, 3), norm(8), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10))


def built(spatial_dims=2):
    found = network(spatial_dims)
    found(torch.zeros(1, 3, *(8,) * spatial_dims))
    return found


@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_every_operation_of_a_training_step_can_be_made_again(spatial_dims, autocast):
    model = built(spatial_dims)
    shape = (4, 3, *(8,) * spatial_dims)
    found = trace(model, shape, training=True, autocast=autocast, channels_last=True)
    operations = [op for layer in found.layers for op in (*layer.forward, *layer.backward)]
    assert len(operations) > 10
    for operation in operations:
        result = operation.call.prepare(CPU)()
        first = result[0] if isinstance(result, tuple | list) else result
        if first is not None:  # the gradient of a picture is not asked for
            assert tuple(first.shape) == operation.outputs[0]
    assert len(replay(list({op.call for op in operations}), CPU, 0.0)) == len(
        {op.call for op in operations}
    )


def test_a_call_keeps_memory_order_and_repeated_dimensions():
    image = torch.zeros(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    repeated = torch.zeros(1, 3, 1, 1).expand(2, 3, 4, 4)
    call = call_of(torch.ops.aten.add.Tensor, (image, repeated), {})
    specs = [leaf for leaf in call.leaves if isinstance(leaf, TensorSpec)]
    assert [spec.span for spec in specs] == [96, 3]
    assert call.bytes == 4 * 99
    for spec in specs:
        made = spec.make(CPU)
        assert (made.shape, made.stride()) == (spec.shape, spec.stride)
    assert call.prepare(CPU)().is_contiguous(memory_format=torch.channels_last)


def test_equal_work_is_one_call():
    def add(value):
        return call_of(torch.ops.aten.add.Tensor, (torch.full((2,), value), 1.0), {})

    other = call_of(torch.ops.aten.add.Tensor, (torch.zeros(3), 1.0), {})
    assert add(1.0) == add(2.0)
    assert add(1.0).key == add(2.0).key != other.key


def test_what_cannot_be_made_again_is_left_out():
    impossible = call_of(torch.ops.aten.mm.default, (torch.zeros(2, 3), torch.zeros(4, 5)), {})
    possible = call_of(torch.ops.aten.mm.default, (torch.zeros(2, 3), torch.zeros(3, 5)), {})
    found = replay([impossible, possible], CPU, 0.01)
    assert list(found) == [possible]
    assert 0 < found[possible].low_s <= found[possible].seconds <= found[possible].high_s


def measured_peak(step):
    """Most bytes of torch's CPU allocator over `step`, by its own profiler."""
    step()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        step()
    events = [e for e in found.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


class Branches(nn.Module):
    """Maps that die at different times; nothing that a library would reorder."""

    def __init__(self):
        super().__init__()
        self.wide, self.narrow = nn.Linear(64, 512), nn.Linear(64, 32)
        self.last = nn.Linear(544, 10)

    def forward(self, input):
        wide = torch.tanh(self.wide(input)).exp()
        return self.last(torch.cat([torch.sigmoid(wide), self.narrow(input).relu()], dim=-1))


@pytest.mark.parametrize("shape", [(64, 64), (4, 16, 64), (2, 3, 5, 64)])
def test_the_peak_is_what_torchs_allocator_counts(shape):
    model = Branches()
    input = torch.zeros(shape)

    ones = torch.ones(*shape[:-1], 10)

    def training():
        model(input).backward(torch.ones_like(ones))
        model.zero_grad()

    @torch.no_grad()
    def inference():
        model(input)

    params = sum(p.nbytes for p in model.parameters())
    for step, mode in ((training, True), (inference, False)):  # the wide map is the largest
        kept = 2 * params
        found = held(model, shape, training=mode, autocast=None, channels_last=False, kept=kept)
        assert found.steady == params * (3 if mode else 1)
        assert found.most - found.steady - input.nbytes == pytest.approx(
            measured_peak(step), rel=0.01
        )
        assert found.largest_map == 4 * 544 * input.numel() // 64  # the two branches, joined


def test_the_peak_leaves_the_network_as_it_was():
    model = built().eval()
    held(model, (2, 3, 8, 8), training=True, autocast=None, channels_last=True)
    assert not model.training
    assert all(p.grad is None for p in model.parameters())


def test_layers_and_what_is_outside_add_up(tmp_path):
    model = built()
    found = predict(model, (3, 8, 8), 4, Engine(CPU, "fp32"), Known(tmp_path))
    assert found.step_s.value == pytest.approx(
        sum(layer.step_s for layer in found.layers.values()) + found.outside_s
    )
    assert found.inference_s.value == pytest.approx(
        sum(layer.inference_s for layer in found.layers.values())
    )
    assert found.step_s.low < found.step_s.value < found.step_s.high
    assert found.step_s.value > found.inference_s.value
    assert found.replayed_share == pytest.approx(1.0)
    params = [p.numel() for p in model.parameters()]
    assert found.outside_s == pytest.approx(2e-4 + sum(params) * 1e-9 + len(params) * 1e-6)
    json.dumps(found.to_json(), allow_nan=False)


def test_a_convolution_is_bound_by_arithmetic_and_an_activation_by_memory(tmp_path):
    model = nn.Sequential(nn.Conv2d(64, 64, 3), nn.ReLU())
    layers = predict(model, (64, 32, 32), 4, Engine(CPU, "fp32"), Known(tmp_path)).layers
    assert layers["0"].bound == "arithmetic"
    assert layers["1"].bound == "memory"


def test_unknown_operations_take_what_the_roofline_says(tmp_path):
    model = built()
    known = predict(model, (3, 8, 8), 4, Engine(CPU, "fp32"), Known(tmp_path))
    timings = Known(tmp_path, unknown=("convolution",))
    found = predict(model, (3, 8, 8), 4, Engine(CPU, "fp32"), timings)
    assert 0.0 < found.replayed_share < 1.0
    operation = next(
        op for op in trace(model, (4, 3, 8, 8)).layers[1].forward if op.name == "convolution"
    )
    moved = operation.bytes_read + operation.bytes_written
    roofline_s = PROBE.roofline_s(operation.macs, moved)
    replayed_s = 1e-9 * operation.call.bytes
    assert known.layers["0"].inference_s - found.layers["0"].inference_s == pytest.approx(
        replayed_s - roofline_s
    )


def test_a_batch_too_large_is_replayed_on_fewer_and_scaled(tmp_path, monkeypatch):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
    engine, shape = Engine(CPU, "fp32"), (3, 8, 8)
    whole = predict(model, shape, 64, engine, Known(tmp_path))
    monkeypatch.setattr("hubel.cost.predict.PROBE_LIMIT_S", 3e-4)
    timings = Known(tmp_path)
    found = predict(model, shape, 64, engine, timings)
    assert whole.scaled_from == 64
    assert 1 < found.scaled_from < 64
    sizes = {
        leaf.shape[0]
        for call in timings.asked
        if "relu" in str(call.func)
        for leaf in call.leaves
        if isinstance(leaf, TensorSpec)
    }
    assert sizes == {found.scaled_from}
    # An activation's bytes grow with the batch, so its time here does too.
    assert found.layers["1"].inference_s == pytest.approx(whole.layers["1"].inference_s, rel=1e-6)


def test_timings_are_kept_for_the_next_time(tmp_path, monkeypatch):
    engine = Engine(CPU, "fp32")
    call = call_of(torch.ops.aten.add.Tensor, (torch.zeros(3), 1.0), {})
    monkeypatch.setattr("hubel.cost.probe._measured", lambda engine: PROBE)
    first = Timings(engine, tmp_path)
    seconds = first.of([call], 0.01)[call].seconds
    assert first.probe == PROBE
    first.save()

    def fails(*given):
        raise ZeroDivisionError

    monkeypatch.setattr("hubel.cost.probe.replay", fails)
    monkeypatch.setattr("hubel.cost.probe._measured", fails)
    again = Timings(engine, tmp_path)
    assert again.of([call], 0.01)[call].seconds == seconds
    assert again.probe == PROBE
    with pytest.raises(ZeroDivisionError):
        Timings(engine, tmp_path, again=True).of([call], 0.01)
    with pytest.raises(ZeroDivisionError):  # another arithmetic is another machine
        _ = Timings(replace(engine, precision="bf16"), tmp_path).probe


@pytest.mark.parametrize("content", ["", "{", "[]", '{"calls": {"a": [1]}}', '{"calls": 3}'])
def test_damaged_timings_are_measured_again(tmp_path, monkeypatch, content):
    monkeypatch.setattr("hubel.cost.probe._measured", lambda engine: PROBE)
    engine = Engine(CPU, "fp32")
    Timings(engine, tmp_path).path.write_text(content)
    found = Timings(engine, tmp_path)
    assert found.probe == PROBE
    found.measured_s = 1.0
    found.save()
    assert json.loads(found.path.read_text())["probe"]["step_s"] == PROBE.step_s


def test_a_folder_that_cannot_be_written_does_not_matter(tmp_path, monkeypatch):
    monkeypatch.setattr("hubel.cost.probe._measured", lambda engine: PROBE)
    (tmp_path / "file").write_text("")
    timings = Timings(Engine(CPU, "fp32"), tmp_path / "file" / "below")
    assert timings.probe == PROBE
    timings.measured_s = 1.0
    timings.save()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_probe_of_this_machine_is_plausible(tmp_path, precision):
    timings = Timings(Engine(CPU, precision), tmp_path)
    probe = timings.probe
    assert 1e8 < probe.flops_per_s < 1e16
    assert 1e8 < probe.bytes_per_s < 1e14
    assert 1e-6 < probe.step_s < 10
    assert 1e-13 < probe.adam_s < 1e-5
    assert 1e-9 < probe.adam_tensor_s < 1e-1
    assert 0 <= probe.base_bytes < 1e12


def test_an_estimate_turned_into_a_rate_keeps_its_order():
    found = Estimate.within(2.0, 1.25).rate_of(10)
    assert (found.low, found.value, found.high) == (4.0, 5.0, 6.25)


def test_a_fit_is_its_steps_its_validation_and_its_ends(tmp_path):
    config = FitConfig(data="digits", epochs=3, batch_size=50)
    facts = facts_of(config)
    engine = Engine(CPU, "fp32")
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    found = predict(model, facts.input_shape, 50, engine, Known(tmp_path))
    fit = predict_fit(found, facts, config, engine)
    assert facts.input_shape == (1, 8, 8)
    assert len(facts.classes) == 10
    assert fit.steps == -(-facts.num_train // 50)
    step_s = found.step_s.value + fit.batch_s
    validation_s = found.inference_s.value * facts.num_val / 50
    assert fit.epoch_s.value == pytest.approx(step_s * facts.num_train / 50 + validation_s)
    # A look at the untrained network, and one at the end, in float32 as the engine is here.
    assert fit.fit_s.value == pytest.approx(3 * fit.epoch_s.value + 2 * validation_s)
    # A checkpoint copies all that stays, and writes it from memory.
    assert fit.fit_bytes.value - found.step_bytes.value > 2 * found.steady_bytes
    plain = predict_fit(found, facts, replace(config, hard_share=0.5), engine)
    assert plain.steps == -(-(facts.num_train - facts.num_train // 2) // 50)
    single = predict_fit(found, replace(facts, num_train=101), config, engine)
    assert single.steps == 2  # the one left over joins the second


def muon(model):
    """As hubel's own recipe divides it: filters to one optimizer, the rest to the other."""
    filters = [p for p in model.parameters() if p.ndim > 2]
    rest = [p for p in model.parameters() if p.ndim <= 2]
    return Composite(Muon(filters, 0.1), torch.optim.AdamW(rest, fused=True))


def test_the_optimizers_step_is_recorded_without_a_number():
    model = nn.Sequential(
        nn.Conv2d(8, 4, 3), nn.Conv2d(4, 6, 1), nn.Conv2d(6, 4, 1), nn.Linear(4, 3)
    )
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = update_of(model, muon, channels_last=True)
    # Five rounds of G = X·Xᵀ, G·G and (…)·X on the smaller side; equal shapes are one product.
    products = [op for op in found.operations if op.gemms]
    expected = sum(5 * (2 * r * r * c + r**3) for r, c in ((4, 72), (4, 6), (4, 6)))
    assert sum(op.macs for op in products) == expected
    assert sorted(found.adam_sizes) == [3, 4, 4, 6, 12]
    real = muon(model)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    real.step()
    tensors = [t for state in real.state.values() for t in state.values()]
    assert found.kept_bytes == sum(t.nbytes for t in tensors)
    assert 3 * 4 * 4 * 72 < found.passing_bytes < 12 * 4 * 4 * 72
    model.zero_grad()
    model.load_state_dict(before)
    again = update_of(model.to("meta"), muon, channels_last=True)
    assert [op.call.key for op in again.operations] == [op.call.key for op in found.operations]


def test_the_optimizers_step_leaves_the_network_as_it_was():
    model = built().eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    update_of(model, muon, channels_last=True)
    assert all(torch.equal(tensor, before[n]) for n, tensor in model.state_dict().items())
    assert all(p.grad is None and isinstance(p, nn.Parameter) for p in model.parameters())
    assert not model.training
    model.requires_grad_(False)
    assert update_of(model, muon, channels_last=True).adam_sizes == ()


def test_a_network_that_cannot_be_copied_counts_as_adams():
    model = nn.Linear(4, 3)
    model.lock = threading.Lock()
    found = update_of(model, muon, channels_last=False)
    assert (found.adam_sizes, found.kept_bytes) == ((12, 3), 2 * 4 * 15)


class LooksAtNumbers(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.hidden, self.last = nn.Conv2d(3, 8, 3), nn.Linear(8, 8), nn.Linear(8, 2)
        self.also = nn.Linear(8, 8)
        self.also.weight = self.hidden.weight

    def forward(self, input):
        features = self.hidden(self.first(input).mean((2, 3)))
        features = features if float(features.detach().max()) > 1 else 2 * features
        return self.last(self.also(features))


def test_a_forecast_has_the_recipes_optimizer_for_any_network(tmp_path):
    """One that has to be run to know its roles, and a weight in two places."""
    config = FitConfig(batch_size=128)
    model = LooksAtNumbers()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    timings = Known(tmp_path)
    found = forecast(config, model, (3, 8, 8), timings.engine, timings)
    products = [call for call in timings.asked if "bmm" in str(call.func)]
    shapes = {leaf.shape for call in products for leaf in call.leaves if hasattr(leaf, "shape")}
    assert shapes == {(1, 8, 8)}  # the tied matrix once; first and last are AdamW's
    plain = replace(config, optimizer="adamw", lookahead=0)
    assert forecast(plain, model, (3, 8, 8), timings.engine, timings).outside_s < found.outside_s
    assert all(torch.equal(tensor, before[n]) for n, tensor in model.state_dict().items())


def test_the_optimizer_and_slow_weights_are_in_the_step(tmp_path):
    model, engine = built(), Engine(CPU, "fp32")
    plain = predict(model, (3, 8, 8), 4, engine, Known(tmp_path))
    found = predict(model, (3, 8, 8), 4, engine, Known(tmp_path), optimizer=muon)
    update = update_of(model, muon, channels_last=True)
    replayed_s = sum(1e-9 * op.call.bytes for op in update.operations)
    adam_s = 1e-9 * sum(update.adam_sizes) + 1e-6 * len(update.adam_sizes)
    assert found.outside_s == pytest.approx(2e-4 + replayed_s + adam_s)
    assert found.step_s.value - plain.step_s.value == pytest.approx(
        found.outside_s - plain.outside_s
    )
    slow = predict(model, (3, 8, 8), 4, engine, Known(tmp_path), optimizer=muon, lookahead=5)
    size = sum(t.nbytes for t in model.state_dict().values())
    assert slow.outside_s - found.outside_s == pytest.approx(4 * size / 1e10 / 5)
    assert slow.step_bytes.value > found.step_bytes.value
    assert slow.inference_bytes == found.inference_bytes == plain.inference_bytes


def test_seconds_in_words_never_round_to_sixty():
    assert [seconds_words(s) for s in (0.9997e-3, 0.9997, 89.4, 119.7, 3599.9, 3600, 86_399)] == [
        "1 ms", "1.00 s", "89.4 s", "2 min 0 s", "1 h 0 min", "1 h 0 min", "1 d 0 h",
    ]  # fmt: skip


def test_a_call_is_told_apart_by_its_arithmetic():
    one = Call(torch.ops.aten.relu.default, (TensorSpec((2,), (1,), torch.float32),), None)
    other = Call(torch.ops.aten.relu.default, (TensorSpec((2,), (1,), torch.bfloat16),), None)
    assert one.key != other.key


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.last = nn.LSTM(24, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, input):
        return self.last(self.layer(input.transpose(1, 2).flatten(2))[0][:, -1])


def test_a_recurrent_layer_is_never_made_again(tmp_path):
    """It keeps private records in a tensor; on other numbers it would end the process."""
    timings = Known(tmp_path)
    found = predict(Recurrent(), (3, 8, 8), 4, Engine(CPU, "fp32"), timings)
    assert not [call for call in timings.asked if "rnn" in str(call.func)]
    assert 0 < found.replayed_share < 1
    assert found.layers["layer"].step_s > 0


def test_a_busy_machine_is_told_and_widens_the_interval(tmp_path, monkeypatch):
    class Scattered(Known):
        def of(self, calls, limit_s):
            return {call: Timed(1e-3, 0.4e-3, 1.6e-3) for call in calls}

    monkeypatch.setattr("hubel.cost.predict._load", lambda: 0.5)
    engine = Engine(CPU, "fp32")
    calm = predict(built(), (3, 8, 8), 4, engine, Known(tmp_path))
    found = predict(built(), (3, 8, 8), 4, engine, Scattered(tmp_path))
    assert not calm.busy
    assert found.busy
    assert found.scatter == pytest.approx(0.6)
    wide = found.step_s.high / found.step_s.value
    assert wide > 1.4 * calm.step_s.high / calm.step_s.value
    monkeypatch.setattr("hubel.cost.predict._load", lambda: 4.0)
    assert predict(built(), (3, 8, 8), 4, engine, Known(tmp_path)).busy
