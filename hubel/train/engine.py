"""Which engine trains: the one that is asked for, or the fastest right one by measurement.

Every machine, version, network and size of picture has its own answer: bfloat16 may be three
times as fast as float32 or slower, memory order likewise. So a few steps are timed
(`hubel.train.probe`) before the training, at most a twentieth of it; the verdict is kept in
the cache folder, and in the run with all that was measured. A verdict holds for trainings that
are long enough to try the same compiled variants.
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from hubel.config import FitConfig, parse_engine
from hubel.data.loader import Batch
from hubel.engine import Engine, out_of_memory, precisions_of
from hubel.errors import UserError
from hubel.train.optimizers import use_precision
from hubel.train.probe import Bench, Measured, measure, set_fused, undisturbed
from hubel.train.training import Training
from hubel.train.verdicts import (
    Choice,
    compiled_kinds,
    keep_verdict,
    kept_verdicts,
    verdict_key,
)
from hubel.world import World

__all__ = [
    "allowed_s",
    "known_engine",
    "measured_engine",
    "settle_engine",
    "use_engine",
    "use_recorded_engine",
]

_SHARE = 0.05  # of the training's time, for the measurement
_LONGEST_S = 20.0  # of it where no budget says how long is long
_STEPS = 14.0  # plain steps that measuring the uncompiled candidates takes, about
_WARM = 8  # samples of the first step, which tells how long the others will be
_ENOUGH = 64  # samples tell how long larger batches will be
_NEAR = 0.95  # of a time: what is faster by less than this is not worth its rounding
_LAST_EPOCH = 1 << 40
_COMPILING_S = {"cpu": 60.0, "cuda": 90.0}
"""What compiling costs, about; 22 to 46 s were seen on a CPU for small networks."""


def settle_engine(t: Training) -> Choice:
    """Let `t` train by the engine that is asked for, or by the fastest; says which."""
    if t.config.engine == "auto":
        choice = measured_engine(t)
    else:
        choice = Choice(_compact(t.engine), "asked for")
        if t.engine.compiled:
            _try_compiled(t)
    use_engine(t, Engine.of(t.engine.device, choice.engine))
    for note in (*choice.discarded(), choice.sentence()):
        if note:
            t.report({"note": note})
    return choice


def _try_compiled(t: Training) -> None:
    """Raises `UserError` where this machine cannot compile the step of `t.engine`."""
    t.model.train()
    if t.freezing is not None:
        t.freezing.apply(0)
    bench = Bench(t.model, t.optimizer, t.task.loss, _micro_batch(t))
    with undisturbed(t.engine.device), bench:
        try:
            bench.step_s(replace(t.engine, compiled=""))
        except Exception:
            return  # not the compiler's fault: the loop says what it is, or mends it
        try:
            bench.step_s(t.engine)
        except Exception as error:
            if out_of_memory(error):
                return
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(
                f"--engine '{t.engine.compiled}' cannot be used here: {reason}; leave it out, or "
                f"give auto"
            ) from error


def use_recorded_engine(t: Training, words: str) -> None:
    """Let a resumed `t` train by the engine of its run, where the device has it."""
    engine = Engine.of(t.engine.device, parse_engine(words))
    have = engine.precision in precisions_of(engine.device) or t.config.engine != "auto"
    use_engine(t, engine if have else t.engine)


def _compact(engine: Engine) -> str:
    return engine.words.replace(", ", ",")


def use_engine(t: Training, engine: Engine) -> None:
    """Let `t` train by `engine`: memory order, compiled steps, optimizer, loss scaling."""
    t.engine = engine
    for model in (t.model, t.average):
        if model is not None:
            engine.place(model)
    t.scaler = torch.amp.GradScaler(engine.device.type, enabled=engine.precision == "fp16")
    share = t.group.world.share(t.config.batch_size)
    samples = -(-(share.stop - share.start) // t.at.accumulate)
    t.forward = engine.forward_of(_spread(t), (samples, *_input_shape(t)))
    # A fused step wants the momenta of all parameters or of none: unfreezing brings some later.
    set_fused(t.optimizer, fused=engine.fused and not _unfreezes(t))
    use_precision(t.optimizer, engine.precision)


def _unfreezes(t: Training) -> bool:
    return t.freezing is not None and t.freezing.every > 0


def _spread(t: Training) -> nn.Module:
    """The network as the processes of the group share it.

    The gradients are exchanged in the order in which they come; whether every parameter gets
    one, now and when stages unfreeze, has to be known before.
    """
    if t.group.alone:
        return t.model
    t.model.train()
    if t.freezing is not None:
        # What will ever learn has to be known from the start: as in the last epoch of all.
        t.freezing.apply(_LAST_EPOCH if _unfreezes(t) else 0)
    batch = _first(next(iter(t.loader.epoch(0))), _WARM)
    with undisturbed(t.engine.device), Bench(t.model, t.optimizer, t.task.loss, batch) as bench:
        found = len(bench.evidence(Engine(t.engine.device)).gradients)
    learning = sum(p.requires_grad for p in t.model.parameters())
    t.engine.place(t.model)
    return t.group.spread(t.model, find_unused=_unfreezes(t) or found < learning)


def measured_engine(
    t: Training, cache: Path | None = None, clock: Callable[[], float] = time.perf_counter
) -> Choice:
    """The fastest engine whose results are right, by measurement or from the cache.

    `t` is left as it is, its random streams too. `cache` is the folder of verdicts; by
    default it lies in hubel's cache folder.
    """
    device = t.engine.device
    about = (t.config, t.model, _input_shape(t), device, t.group.world)
    known = None
    if t.group.world.first:
        for compiled, kept in _known(*about, cache):
            if compiled == _compilable(device, allowed_s(t, kept.sample_s)[0]):
                known = kept
    text = t.group.text(json.dumps(known.to_json()) if known else "")
    if text:
        return replace(Choice.from_json(json.loads(text)), how="measured before")
    begun = clock()
    with undisturbed(device):
        torch.manual_seed(0)
        choice, complete = _measure(t, clock)
    choice = replace(choice, seconds=round(clock() - begun, 3))
    choice = Choice.from_json(json.loads(t.group.text(json.dumps(choice.to_json()))))
    if complete and t.group.world.first:
        tried = _compilable(device, allowed_s(t, choice.sample_s)[0])
        keep_verdict(verdict_key(*about, tried), choice, cache)
    return choice


def _input_shape(t: Training) -> tuple[int, ...]:
    """Of one sample: (c, *spatial)."""
    return (t.loader.store.in_channels, *t.loader.store.size)


def known_engine(
    config: FitConfig,
    model: nn.Module,
    input_shape: tuple[int, ...],
    device: torch.device,
    cache: Path | None = None,
) -> Engine | None:
    """What an earlier fit by `config` of such a network on inputs (c, *spatial) measured.

    How long a training without a budget would be is not known here: of several verdicts the
    one with the fewest compiled variants counts.
    """
    for compiled, kept in _known(config, model, input_shape, device, World(), cache):
        if config.budget is None or compiled == _compilable(device, _SHARE * config.budget):
            return Engine.of(device, kept.engine)
    return None


def _known(
    config: FitConfig,
    model: nn.Module,
    input_shape: tuple[int, ...],
    device: torch.device,
    world: World,
    cache: Path | None,
) -> Iterator[tuple[tuple[str, ...], Choice]]:
    """Of the verdicts that are kept, those for what the device has."""
    for compiled, kept in kept_verdicts(config, model, input_shape, device, world, cache):
        if Engine.of(device, kept.engine).precision in precisions_of(device):
            yield compiled, kept


def _measure(t: Training, clock: Callable[[], float]) -> tuple[Choice, bool]:
    """A choice, and whether every candidate had its turn."""
    begun = clock()
    device = t.engine.device
    plain = Engine(device, "fp32", channels_last=False)
    batch = _micro_batch(t)
    few = min(_WARM, len(batch))
    t.model.train()
    if t.freezing is not None:
        t.freezing.apply(0)
    with Bench(t.model, t.optimizer, t.task.loss, _first(batch, few)) as bench:
        # A first step on a few samples tells how long the others will be.
        try:
            bench.evidence(plain)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            how = "not measured: batch norm has one value a channel"  # the loop explains it
            return Choice(_compact(t.engine), how), False
        sample_s = bench.step_s(plain) / few
        share_s, longest_s = allowed_s(t, sample_s)
        compiled = _compilable(device, share_s)
        compiling_s = len(compiled) * _COMPILING_S.get(device.type, 0.0)
        longest_s = min(longest_s, share_s - compiling_s)
        samples = len(batch)
        while samples > few and samples * sample_s * _STEPS > longest_s:
            samples = -(-samples // 2)
        if samples * sample_s * 3 > longest_s:
            return Choice(_compact(t.engine), "not measured: the training is too short"), False
        bench.batch = _first(batch, samples)
        rows = measure(bench, _candidates(t.engine), longest_s - (clock() - begun), clock=clock)
        if rows[0].verdict and not rows[0].times:
            how = "not measured: nothing to compare with"
            found = tuple(row.to_json(samples) for row in rows)
            return Choice(_compact(t.engine), how, candidates=found), False
        if _unmeasured(rows, t.engine):
            how = "not measured: the training is too short"
            found = tuple(row.to_json(samples) for row in rows)
            return Choice(_compact(t.engine), how, candidates=found), False
        left_s = longest_s + compiling_s - (clock() - begun)
        rows += _refined(bench, _fastest(rows), compiled, left_s, clock)
    best = _fastest(rows)
    for row in rows:
        row.verdict = row.verdict or ("fastest" if row is best else "slower")
    speedup = rows[0].step / best.step if rows[0].times and best.times else None
    choice = Choice(
        _compact(best.engine),
        "measured",
        None if speedup is None else round(speedup, 3),
        samples,
        sample_s,
        candidates=tuple(row.to_json(samples) for row in rows),
    )
    enough = samples >= min(len(batch), _ENOUGH)
    return choice, enough and not any(row.verdict.startswith("not measured") for row in rows)


def _unmeasured(rows: list[Measured], likely: Engine) -> bool:
    """Whether the time was up before the `likely` engine's turn: then a slower one must not win."""
    return any(row.engine == likely and row.verdict.startswith("not measured") for row in rows)


def _micro_batch(t: Training) -> Batch:
    """What the loop gives the network at once."""
    batch = next(iter(t.loader.epoch(0)))
    least = t.group.world.least
    return batch.split(t.at.accumulate, least(t.loader.largest), least(batch.whole or len(batch)))[
        0
    ]


def _first(batch: Batch, samples: int) -> Batch:
    return Batch(batch.input[:samples], batch.target[:samples], batch.ids[:samples])


def allowed_s(t: Training, sample_s: float) -> tuple[float, float]:
    """The twentieth of the training, in seconds, and how much of it may be used at first."""
    if t.config.budget is not None:
        return _SHARE * t.config.budget, _SHARE * t.config.budget
    share_s = _SHARE * sample_s * len(t.loader.indices) * t.config.epochs
    return share_s, min(share_s, _LONGEST_S)


def _compilable(device: torch.device, share_s: float) -> tuple[str, ...]:
    """Those for which `share_s` is long enough, when all else has been measured."""
    count = (share_s - _LONGEST_S) // _COMPILING_S.get(device.type, math.inf)
    return compiled_kinds(device)[: max(0, int(count))]


def _candidates(likely: Engine) -> list[Engine]:
    """All uncompiled engines: the plain one, the likely best, then the rest."""
    both = [
        Engine(likely.device, precision, order)
        for precision in precisions_of(likely.device)
        for order in (False, True)
    ]
    plain = both[0]
    rest = [e for e in both if e not in (plain, likely)]
    return [plain, *([likely] if likely in both else []), *rest]


def _refined(
    trial: Bench,
    best: Measured,
    compiled: tuple[str, ...],
    left_s: float,
    clock: Callable[[], float],
) -> list[Measured]:
    """Variants of the best: another kind of optimizer step, and `compiled` in these ways."""
    variants = []
    if any(group.get("fused") for group in trial.optimizer.param_groups):
        variants.append(replace(best.engine, fused=False))
    variants += [replace(best.engine, compiled=kind) for kind in compiled]
    if not variants or not best.times:
        return []
    again, *new = measure(trial, [best.engine, *variants], left_s, clock=clock)
    best.times += again.times
    best.verdict = best.verdict or again.verdict
    return new


def _fastest(rows: list[Measured]) -> Measured:
    """The first, in order of exactness and simplicity, of those that are nearly the fastest."""
    right = [row for row in rows if row.times and not row.verdict] or rows[:1]
    limit = min(row.step for row in right) / _NEAR
    simple = sorted(right, key=lambda row: _simplicity(row.engine))
    return next(row for row in simple if row.step <= limit or row is simple[-1])


def _simplicity(engine: Engine) -> tuple[int, int, bool]:
    order = ("fp32", "tf32", "fp16", "bf16").index(engine.precision)
    return (("", "compiled", "graphs").index(engine.compiled), order, not engine.fused)
