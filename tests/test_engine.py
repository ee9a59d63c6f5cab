"""The engine: what can be asked for, and how the fastest right one is found."""

import contextlib
import json
import math
import shutil

import pytest
import torch
from torch import nn

import hubel
from hubel.config import FitConfig, parse_engine
from hubel.data.loader import Batch
from hubel.engine import Engine, choose_engine
from hubel.errors import UserError
from hubel.models import Outputs
from hubel.models.simple import Simple
from hubel.tasks import TASKS
from hubel.train import engine as engine_module
from hubel.train import loop as loop_module
from hubel.train import probe
from hubel.train.checkpoint import load_checkpoint, save_checkpoint
from hubel.train.probe import Bench, Distance, Evidence, compare, measure, undisturbed

CPU = torch.device("cpu")
SETTINGS = {"model": "simple", "batch_size": 16, "epochs": 2, "flip": "none", "threads": 1}


def engine(words):
    return Engine.of(CPU, parse_engine(words))


# What can be asked for


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("auto", "auto"),
        ("fp32", "fp32,channels_last"),
        (" contiguous , bf16", "bf16,contiguous"),
        ("tf32,compiled", "tf32,channels_last,compiled"),
        ("unfused, graphs, fp16", "fp16,channels_last,graphs,unfused"),
    ],
)
def test_words_of_an_engine(text, words):
    assert parse_engine(text) == words
    assert parse_engine(words) == words
    if words != "auto":
        assert engine(text).words.replace(", ", ",") == words


@pytest.mark.parametrize("text", ["", "fast", "contiguous", "fp32,bf16", "fp32,fp32", "bf16,big"])
def test_an_engine_that_there_is_not(text):
    with pytest.raises(UserError, match=r"--engine: write auto, or one of fp32, tf32, bf16, fp16"):
        FitConfig(engine=text)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("fp16", r"--engine 'fp16': cpu does not train in it; choose from fp32, bf16, or auto"),
        ("tf32", r"--engine 'tf32': cpu does not train in it"),
        ("fp32,graphs", r"--engine 'graphs' are CUDA graphs, and the device is cpu"),
    ],
)
def test_an_engine_that_the_device_has_not_got(pictures, tmp_path, words, message):
    with pytest.raises(UserError, match=message):
        choose_engine(FitConfig(device="cpu", engine=words))
    with pytest.raises(UserError, match=message):
        hubel.fit(pictures, output=tmp_path / "run", device="cpu", engine=words, **SETTINGS)
    assert not (tmp_path / "run").exists()


# How right is right enough


def evidence(seed=0, scale=1.0):
    draw = torch.Generator().manual_seed(seed)
    tensors = [torch.randn(n, generator=draw) * scale for n in (40, 500, 500, 30)]
    return Evidence(tensors[0], tensors[1:])


def moved(base, share, which=None):
    """`base` with each gradient (or the one called `which`) off by `share` of its length."""
    other = evidence(1)
    gradients = [
        g + share * o * g.norm() / o.norm() if which in (None, i) else g
        for i, (g, o) in enumerate(zip(base.gradients, other.gradients, strict=True))
    ]
    return Evidence(base.output, gradients)


def test_distances_are_shares_of_the_reference():
    base = evidence(scale=7.0)
    off = Distance.between(moved(base, 0.3), base)
    assert off.output == 0
    assert off.gradient == pytest.approx(0.3)
    assert off.tensors == pytest.approx([0.3] * 3)


def test_rounding_is_allowed_as_far_as_the_network_amplifies_it():
    base = evidence()
    assert compare(moved(base, 0.04), base, None)[2] == ""
    assert "gradients are off by 0.3" in compare(moved(base, 0.3), base, None)[2]
    rounded = Distance.between(moved(base, 0.1), base)
    assert compare(moved(base, 0.3), base, rounded)[2] == ""
    assert "gradients are off" in compare(moved(base, 0.6), base, rounded)[2]
    doubled = Evidence(2 * base.output, base.gradients)
    assert "outputs are off by 1" in compare(doubled, base, None)[2]


def test_one_lost_tensor_of_many_is_found():
    draw = torch.Generator().manual_seed(2)
    base = Evidence(torch.ones(3), [torch.randn(100, generator=draw) for _ in range(900)])
    lost = [*base.gradients[:-1], torch.zeros(100)]
    off, _, verdict = compare(Evidence(base.output, lost), base, None)
    assert off == 0
    assert "one tensor's gradients are off by 1" in verdict
    rounding = [torch.full((100,), 1e-6), *base.gradients[1:]]
    noise = [torch.full((100,), 1e-5), *base.gradients[1:]]
    assert compare(Evidence(base.output, noise), Evidence(base.output, rounding), None)[2] == ""


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_not_finite_are_wrong(value):
    base = evidence()
    spoilt = Evidence(base.output, [g.clone() for g in base.gradients])
    spoilt.gradients[1][3] = value
    assert "not finite" in compare(spoilt, base, None)[2]
    assert "no gradient" in compare(Evidence(base.output, base.gradients[1:]), base, None)[2]


# Measuring


class Acted:
    """A trial by a script: seconds of each engine's steps, and its evidence or error."""

    def __init__(self, seconds, results=None):
        self.seconds = {engine(words): s for words, s in seconds.items()}
        self.results = {engine(words): r for words, r in (results or {}).items()}
        self.now = 0.0
        self.steps = []

    def clock(self):
        return self.now

    def evidence(self, chosen, noise=0.0):
        self.now += self.seconds[chosen]
        result = self.results.get(chosen, evidence())
        if isinstance(result, Exception):
            raise result
        return moved(result, 0.001) if noise else result

    def step_s(self, chosen):
        self.now += self.seconds[chosen]
        self.steps.append(chosen.words)
        return self.seconds[chosen]


def measured(seconds, results=None, allowed_s=1e9):
    acted = Acted(seconds, results)
    rows = measure(acted, list(acted.seconds), allowed_s, clock=acted.clock)
    return {row.engine.words.replace(", ", ","): row for row in rows}, acted


PLAIN, LAST, HALF = "fp32,contiguous", "fp32,channels_last", "bf16,channels_last"


def test_what_is_much_slower_gets_one_step_only():
    rows, _ = measured({PLAIN: 3.0, LAST: 1.4, HALF: 1.0})
    assert [len(row.times) for row in rows.values()] == [1, 4, 4]
    assert engine_module._fastest(list(rows.values())) is rows[HALF]


def test_a_wrong_engine_is_discarded_however_fast():
    rows, _ = measured({PLAIN: 3.0, LAST: 2.5, HALF: 0.1}, {HALF: evidence(5)})
    assert rows[HALF].verdict.startswith("wrong: outputs are off")
    assert rows[HALF].times == []
    assert engine_module._fastest(list(rows.values())) is rows[LAST]


def test_an_engine_that_fails_is_named_with_its_error():
    rows, _ = measured({PLAIN: 3.0, HALF: 0.1}, {HALF: RuntimeError("no kernel\nfor this")})
    assert rows[HALF].verdict == "failed: no kernel"
    assert engine_module._fastest(list(rows.values())) is rows[PLAIN]


def test_nothing_is_begun_that_would_not_end_in_time():
    rows, acted = measured({PLAIN: 3.0, LAST: 2.0, HALF: 1.0}, allowed_s=12.0)
    assert rows[HALF].verdict.startswith("not measured")
    assert acted.steps == ["fp32, contiguous", *2 * ["fp32, channels_last"]]
    assert acted.now == 12.0  # one more step fits, another turn as long as the longest does not


def test_an_engine_that_fails_late_is_discarded():
    class Late(Acted):
        def step_s(self, chosen):
            if self.steps.count(chosen.words) == 2 and chosen.words == "bf16, channels_last":
                raise RuntimeError("CUDA out of memory")
            return super().step_s(chosen)

    acted = Late({PLAIN: 3.0, LAST: 2.5, HALF: 2.4})
    rows = measure(acted, list(acted.seconds), 1e9, clock=acted.clock)
    assert [row.verdict for row in rows] == ["", "", "failed: CUDA out of memory"]
    assert engine_module._fastest(rows) is rows[1]


def test_without_the_plain_one_there_is_nothing_to_compare_with():
    for broken in (RuntimeError("no memory"), evidence(scale=math.inf)):
        rows, acted = measured({PLAIN: 3.0, LAST: 2.5, HALF: 2.4}, {PLAIN: broken})
        assert rows[PLAIN].verdict.startswith(("failed: no memory", "wrong: values"))
        assert {rows[w].verdict for w in (LAST, HALF)} == {"not measured: nothing to compare with"}
        assert acted.steps == []


def test_a_gain_that_is_hardly_one_does_not_pay_for_rounding():
    rows, _ = measured({PLAIN: 1.2, LAST: 1.0, HALF: 0.97})
    assert engine_module._fastest(list(rows.values())) is rows[LAST]
    rows, _ = measured({PLAIN: 1.2, LAST: 1.0, HALF: 0.9})
    assert engine_module._fastest(list(rows.values())) is rows[HALF]


# The real network on the bench


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.5),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4),
    )  # fmt: skip


@pytest.fixture
def batch():
    draw = torch.Generator().manual_seed(1)
    return Batch(torch.randn(8, 3, 9, 9, generator=draw), torch.arange(8) % 4, torch.arange(8))


def loss(output, target):
    return TASKS["classify"].loss(output, target)


def test_the_bench_leaves_everything_as_it_was(network, batch):
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1, fused=True)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    places = {k: v.data_ptr() for k, v in network.named_buffers()}
    network[0].eval()
    torch.manual_seed(7)
    stream = torch.get_rng_state()
    with undisturbed(CPU), Bench(network, optimizer, loss, batch) as bench:
        for words in (PLAIN, HALF, "fp32,channels_last,unfused"):
            bench.evidence(engine(words))
            bench.step_s(engine(words))
            bench.evidence(engine(PLAIN), noise=0.01)
        assert not torch.equal(network[0].weight, before["0.weight"])
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert {k: v.data_ptr() for k, v in network.named_buffers()} == places
    assert not optimizer.state
    assert all(p.grad is None for p in network.parameters())
    assert [m.training for m in network] == [False] + 6 * [True]
    assert torch.equal(torch.get_rng_state(), stream)


def test_evidence_that_fails_leaves_no_trace(network, batch):
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    with Bench(network, optimizer, loss, batch) as bench:
        first = bench.evidence(engine(PLAIN))

        def failing(output, target):
            raise RuntimeError("no")

        bench.loss = failing
        with pytest.raises(RuntimeError, match="no"):
            bench.evidence(engine(PLAIN), noise=0.1)
        assert all(module.training for module in network)
        assert bench.batch is batch
        bench.loss = loss
        bench.step_s(engine(PLAIN))
        again = bench.evidence(engine(PLAIN))
    assert torch.equal(first.output, again.output)


def test_only_the_shape_of_a_whole_batch_is_compiled(network, batch, monkeypatch):
    seen = []

    def compiled(model, **_):
        return lambda input: seen.append(tuple(input.shape)) or model(input)

    monkeypatch.setattr(torch, "compile", compiled)
    forward = engine("fp32,compiled").forward_of(network, (8, 3, 9, 9))
    for input in (batch.input, batch.input[:5], batch.input[..., :7, :7], batch.input):
        forward(input)
    assert seen == 2 * [(8, 3, 9, 9)]


class TwoHeads(nn.Module):
    """With an auxiliary head in training, as GoogLeNet."""

    def __init__(self):
        super().__init__()
        self.body, self.head, self.other = nn.Linear(243, 6), nn.Linear(6, 4), nn.Linear(6, 4)

    def forward(self, input):
        features = self.body(input.flatten(1)).relu()
        if not self.training:
            return self.head(features)
        return Outputs(self.head(features), (self.other(features),), 0.3)


def test_auxiliary_heads_are_measured_too(batch):
    torch.manual_seed(0)
    network = TwoHeads()
    with Bench(network, torch.optim.SGD(network.parameters(), lr=0.1), loss, batch) as bench:
        found = bench.evidence(engine(PLAIN))
        assert bench.step_s(engine(PLAIN)) > 0
    main, (other,), _ = network(batch.input)
    whole = loss(main, batch.target) + 0.3 * loss(other, batch.target)
    expected = torch.autograd.grad(whole, list(network.parameters()))
    torch.testing.assert_close(found.output, main.detach())
    torch.testing.assert_close(found.gradients, list(expected))


def test_evidence_is_the_gradient_without_dropout(network, batch):
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    with Bench(network, optimizer, loss, batch) as bench:
        first = bench.evidence(engine(PLAIN))
        bench.step_s(engine(PLAIN))
        again = bench.evidence(engine(PLAIN))
        noisy = bench.evidence(engine(PLAIN), noise=2.0**-9)
        half = bench.evidence(engine(HALF))
    network[3].eval()
    output = network(batch.input)
    expected = torch.autograd.grad(loss(output, batch.target), list(network.parameters()))
    torch.testing.assert_close(first.output, output.detach())
    for mine, theirs, same in zip(first.gradients, expected, again.gradients, strict=True):
        torch.testing.assert_close(mine, theirs)
        assert torch.equal(mine, same)
    assert 0 < Distance.between(noisy, first).gradient < 0.1
    assert 0 < Distance.between(half, first).gradient < 0.2


# In a fit


@pytest.fixture
def patient(monkeypatch):
    """Time enough to measure, on a device that has bf16, whatever it multiplies in."""
    monkeypatch.setattr(engine_module, "_SHARE", 1e3)
    monkeypatch.setattr(engine_module, "_LONGEST_S", 1e3)  # the machine may be busy
    monkeypatch.setattr(engine_module, "_COMPILING_S", {})
    monkeypatch.setattr(engine_module, "precisions_of", lambda device: ["fp32", "bf16"])


class Stopped(Exception):
    pass


def stopping(heard):
    """A report that keeps what is said of engines, and ends the fit when one is chosen."""

    def report(facts):
        if facts.get("note", "").startswith("engine"):
            heard.append(facts["note"])
            raise Stopped

    return report


def fit(pictures, path, **settings):
    heard = []
    run = hubel.fit(pictures, output=path, report=heard.append, **{**SETTINGS, **settings})
    return run, [h["note"] for h in heard if h.get("note", "").startswith("engine")]


def test_the_choice_is_said_recorded_and_kept(pictures, tmp_path, patient):
    run, notes = fit(pictures, tmp_path / "a")
    choice = run.folder.read_json("run.json")["engine_choice"]
    assert choice["how"] == "measured"
    assert notes == [
        f"engine: {choice['engine'].replace(',', ', ')}: {choice['speedup']:.1f}× fp32"
    ]
    assert run.result["engine"] == "cpu, " + choice["engine"].replace(",", ", ")
    names = [row["engine"] for row in choice["candidates"]]
    assert names[0] == "fp32, contiguous"
    assert {"fp32, channels_last", "bf16, channels_last", "bf16, contiguous"} < set(names)
    assert [row["verdict"] for row in choice["candidates"]].count("fastest") == 1
    assert all(row["step_s"] > 0 and row["gradient_error"] < 1 for row in choice["candidates"])

    again, notes = fit(pictures, tmp_path / "b")
    assert notes[0].endswith("(measured before)")
    assert (again.path / "model.safetensors").read_bytes() == (
        run.path / "model.safetensors"
    ).read_bytes()
    _, notes = fit(pictures, tmp_path / "c", batch_size=8)
    assert "measured before" not in notes[0]


@pytest.fixture
def compiling(monkeypatch):
    """Every measurement by a script, in which compiling halves a step, on a CPU with bf16."""
    uncompiled = {PLAIN: 3.0, LAST: 2.0, HALF: 1.0, "bf16,contiguous": 3.0}
    seconds = {w + rest: s / (2 if "compiled" in rest else 1) for w, s in uncompiled.items()
               for rest in ("", ",unfused", ",compiled")}  # fmt: skip

    def scripted(bench, candidates, allowed_s, clock):
        acted = Acted(seconds)
        return measure(acted, candidates, 1e9, clock=acted.clock)

    monkeypatch.setattr(engine_module, "measure", scripted)
    monkeypatch.setattr(engine_module, "precisions_of", lambda device: ["fp32", "bf16"])
    monkeypatch.setattr(Bench, "step_s", lambda bench, engine: 1e-3 * len(bench.batch))
    monkeypatch.setattr(torch, "compile", lambda model, **_: model)


def test_a_verdict_holds_for_trainings_that_may_compile_as_much(pictures, tmp_path, compiling):
    # One sample takes 1 ms. A minute of compiling pays where a twentieth is that and more.
    def chosen(name, **settings):
        heard = []
        with contextlib.suppress(Stopped):
            hubel.fit(pictures, output=tmp_path / name, report=stopping(heard),
                      **{**SETTINGS, **settings})  # fmt: skip
        return heard

    short, long = {"budget": 600.0}, {"budget": 36_000.0}
    compiled = "engine: bf16, channels_last, compiled: 6.0× fp32"
    assert chosen("a", **short) == ["engine: bf16, channels_last: 3.0× fp32"]
    assert chosen("b", **long) == [compiled]
    assert chosen("c", **short) == ["engine: bf16, channels_last: 3.0× fp32 (measured before)"]
    assert chosen("d", **long) == [compiled + " (measured before)"]
    epochs = 40_000  # 40,000 epochs of 58 samples are as long
    assert chosen("e", epochs=epochs) == [compiled + " (measured before)"]


def test_a_verdict_on_a_part_of_the_batch_is_not_kept(pictures, tmp_path, compiling):
    for name in ("a", "b"):  # 14 steps of 16 samples take 0.224 s, and 0.2 s are allowed
        _, notes = fit(pictures, tmp_path / name, budget=4.0, patience=1, epochs=1)
        assert notes == ["engine: bf16, channels_last: 3.0× fp32"]


def test_where_the_plain_step_fails_the_likely_engine_trains(
    pictures, tmp_path, patient, monkeypatch
):
    def scripted(bench, candidates, allowed_s, clock):
        acted = Acted({PLAIN: 1.0, LAST: 1.0}, {PLAIN: RuntimeError("no kernel")})
        return measure(acted, list(acted.seconds), allowed_s, clock=acted.clock)

    monkeypatch.setattr(engine_module, "measure", scripted)
    run, notes = fit(pictures, tmp_path / "run")
    assert notes[0] == "engine: fp32, contiguous is left out, failed: no kernel"
    assert notes[1].endswith("channels_last (not measured: nothing to compare with)")
    assert "channels_last" in run.result["engine"]


def test_where_the_time_is_up_before_its_turn_the_likely_engine_trains(
    pictures, tmp_path, patient, monkeypatch
):
    def scripted(bench, candidates, allowed_s, clock):
        acted = Acted({str(e.words): 1.0 for e in candidates})
        return measure(acted, candidates, 1.5, clock=acted.clock)

    monkeypatch.setattr(engine_module, "measure", scripted)
    monkeypatch.setattr(engine_module, "precisions_of", lambda device: ["fp32", "bf16"])
    run, notes = fit(pictures, tmp_path / "run")
    likely = "bf16, channels_last (not measured: the training is too short)"
    assert notes[-1] == f"engine: {likely}"
    assert "bf16, channels_last" in run.result["engine"]


def test_a_pinned_engine_that_cannot_be_compiled_is_said(pictures, tmp_path, monkeypatch):
    def compiled(model, **_):
        def forward(input):
            raise RuntimeError("No working C++ compiler found\nin all of this")

        return forward

    monkeypatch.setattr(torch, "compile", compiled)
    message = (
        r"--engine 'compiled' cannot be used here: No working C\+\+ compiler found; leave it out, "
        r"or give auto"
    )
    with pytest.raises(UserError, match=message):
        fit(pictures, tmp_path / "run", engine="fp32,compiled")


@pytest.mark.parametrize("content", ["", "{}", '{"key": 1, "choice": {}}', "cut", "other"])
def test_a_damaged_verdict_is_measured_again(pictures, tmp_path, patient, content, monkeypatch):
    monkeypatch.setenv("HUBEL_CACHE", str(tmp_path / "cache"))
    fit(pictures, tmp_path / "a")
    (file,) = (tmp_path / "cache" / "engine").glob("*.json")
    good = file.read_text()
    other = json.dumps({**json.loads(good), "key": "another"})
    file.write_text({"cut": good[: len(good) // 2], "other": other}.get(content, content))
    _, notes = fit(pictures, tmp_path / "b")
    assert "measured before" not in notes[0]
    assert json.loads(file.read_text())["key"] == json.loads(good)["key"]


def test_measuring_changes_no_bit_of_the_training(pictures, tmp_path, patient, monkeypatch):
    monkeypatch.setattr(engine_module, "_fastest", lambda rows: rows[0])
    settings = {"dropout": 0.3, "model": "lenet5", "ema": 0.9}
    measured, _ = fit(pictures, tmp_path / "a", **settings)
    pinned, notes = fit(pictures, tmp_path / "b", engine="fp32,contiguous", **settings)
    assert notes == []
    assert measured.result["engine"] == pinned.result["engine"] == "cpu, fp32, contiguous"
    a, b = ((run.path / "model.safetensors").read_bytes() for run in (measured, pinned))
    assert a == b


def test_a_network_that_is_wrong_in_bf16_trains_in_fp32(pictures, tmp_path, patient, monkeypatch):
    forward = Simple.forward

    def broken(self, input):
        output = forward(self, input)
        return output.flip(0) if torch.is_autocast_enabled("cpu") else output

    monkeypatch.setattr(Simple, "forward", broken)
    run, notes = fit(pictures, tmp_path / "run")
    assert "engine: bf16, channels_last is left out, wrong: outputs are off" in notes[0]
    assert run.result["engine"].startswith("cpu, fp32")


def test_a_resumed_run_takes_the_engine_that_it_began_with(
    pictures, tmp_path, patient, monkeypatch
):
    monkeypatch.setattr(engine_module, "_fastest", lambda rows: rows[0])
    real = loop_module.set_rate

    calls = []

    def dying(optimizer, factor):
        calls.append(factor)
        if len(calls) > 2:
            raise KeyboardInterrupt
        return real(optimizer, factor)

    monkeypatch.setattr(loop_module, "set_rate", dying)
    with pytest.raises(KeyboardInterrupt):
        fit(pictures, tmp_path / "run", checkpoint_every=1e-6)
    monkeypatch.setattr(loop_module, "set_rate", real)
    whole, _ = fit(pictures, tmp_path / "whole")
    monkeypatch.setattr(engine_module, "measured_engine", None)
    run = hubel.resume(tmp_path / "run")
    assert run.result["engine"] == "cpu, fp32, contiguous"
    a, b = ((r.path / "model.safetensors").read_bytes() for r in (run, whole))
    assert a == b


def test_a_run_from_before_engines_were_measured_is_read_and_resumed(pictures, tmp_path):
    """As this package's first runs were written: two settings, and no choice in run.json."""
    run, _ = fit(pictures, tmp_path / "run", engine="fp32,contiguous", recipe="plain")
    config = run.folder.read_json("config.json")
    recipe_s = ("recipe", "engine", "profile", "bias_rate", "whitening", "identity", "lookahead",
                "progressive", "hard_share", "tta")  # fmt: skip
    old = {name: value for name, value in config.items() if name not in recipe_s}
    run.folder.write_json("config.json", {**old, "precision": "auto", "channels_last": False})
    facts = run.folder.read_json("run.json")
    del facts["engine_choice"]
    run.folder.write_json("run.json", facts)
    saved, _ = load_checkpoint(run.folder)
    del saved.state["processes"]
    shutil.rmtree(run.path / "checkpoints")
    save_checkpoint(run.folder, saved, step=saved.state["position"]["step"], rollbacks=0,
                    border=True)  # fmt: skip
    assert hubel.load(run.path).evaluate().evaluation.n > 0
    resumed = hubel.resume(run.path, epochs=config["epochs"] + 1)
    assert resumed.result["engine"] == "cpu, fp32, contiguous"
    assert resumed.result["epochs"] == config["epochs"] + 1


def test_a_short_training_is_not_held_up_by_measuring(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(engine_module, "_SHARE", 0.0)
    _, notes = fit(pictures, tmp_path / "run")
    assert notes[0].endswith("(not measured: the training is too short)")


@pytest.mark.slow
def test_a_compiled_step_is_the_same_step(network, batch):
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    with Bench(network, optimizer, loss, batch) as bench:
        plain = bench.evidence(engine(LAST))
        compiled = bench.evidence(engine("fp32,channels_last,compiled"))
    assert Distance.between(compiled, plain).gradient < 1e-4


@pytest.mark.gpu
def test_every_engine_of_a_gpu_is_right(network, batch):
    device = torch.device("cuda")
    network.to(device)
    batch = Batch(batch.input.to(device), batch.target.to(device), batch.ids)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1, fused=True)
    former = torch.backends.cuda.matmul.fp32_precision
    with Bench(network, optimizer, loss, batch) as bench:
        candidates = engine_module._candidates(choose_engine(FitConfig(device="cuda")))
        candidates.append(Engine(device, "fp32", compiled="graphs"))
        rows = probe.measure(bench, candidates, 1e9)
    assert [row.verdict for row in rows] == [""] * len(rows)
    assert torch.backends.cuda.matmul.fp32_precision == former


def test_parameters_may_join_a_momentum_later(pictures, tmp_path):
    """A fused step wants all of a group's momenta from the start; unfreezing gives it some."""
    run, _ = fit(pictures, tmp_path / "run", optimizer="sgd", freeze="2", unfreeze_epochs=1,
                 engine="fp32", epochs=3)  # fmt: skip
    assert run.result["epochs"] == 3
