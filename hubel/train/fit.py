"""`fit`: from a configuration to a finished run folder; `resume`: the rest of the way."""

import contextlib
import hashlib
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch

from hubel.config import FitConfig
from hubel.data.loader import Transform
from hubel.data.posed import ORIENTATIONS
from hubel.data.prepare import Data, prepare_data, restore_split
from hubel.data.preprocess import Preprocess, fit_preprocess
from hubel.engine import keep_freed_memory
from hubel.errors import Interrupted, UserError
from hubel.inference import (
    Validation,
    named_again,
    save_trained,
    write_train_digests,
    write_validation,
)
from hubel.models import ModelSpec
from hubel.runs import RunFolder
from hubel.tasks import TASKS, AnswersClass
from hubel.train.batch_size import AUTO, bounded_batch_size, measured_batch_size
from hubel.train.best import load_best
from hubel.train.checkpoint import load_checkpoint
from hubel.train.distributed import Group
from hubel.train.engine import settle_engine, use_recorded_engine
from hubel.train.loop import predicted, train
from hubel.train.profile import Profile
from hubel.train.recipe import settle_batch_size
from hubel.train.settle import settle_flip, settle_model, settle_preprocess, settle_task
from hubel.train.setup import assemble, optimizer_for, run_facts
from hubel.train.signals import StopRequest, catch_signals
from hubel.train.training import Report, Training, checkpoint, restore
from hubel.world import World

__all__ = ["fit", "resume"]

_ALONE = Group(World())
_EXAMPLES = 8  # samples whose untrained probabilities are kept for the report


def fit(
    config: FitConfig,
    run: RunFolder,
    report: Report,
    *,
    transform: Transform | None = None,
    started: float | None = None,
    group: Group = _ALONE,
) -> dict[str, Any]:
    """Train a network as `config` says and fill the empty folder `run`; returns result.json.

    `started` is the monotonic time from which a budget counts; by default this call. Of
    several processes all call it, and the first of `group` writes.
    `report` hears of progress. Raises `UserError` for what the user can mend and
    `Interrupted` after a signal.
    """
    started = time.monotonic() if started is None else started
    threads = config.threads or group.threads()
    with run.locked(), catch_signals() as stop, _prepared_process(threads):
        with group.first_before_others():
            data = prepare_data(config, _progress(report, stop))
        for note in data.notes:
            report({"note": note})
        config, note = settle_task(config, data.source)
        if note:
            report({"note": note})
        config, note = settle_model(config, data.store)
        if note:
            report({"note": note})
        config = settle_batch_size(config, len(data.split.train))
        config, note = bounded_batch_size(config, len(data.split.train))
        if note:
            report({"note": note})
        config, note = settle_flip(config, data)
        if note:
            report({"note": note})
        preprocess, note = settle_preprocess(config, fit_preprocess(data.store, data.split.train))
        if note:
            report({"note": note})
        task = TASKS[config.task]
        t, spec = assemble(config, run, data, task, preprocess, stop, report, transform, group)
        if config.batch_size == AUTO:
            report({"note": measured_batch_size(t)})
            config = t.config
            assert t.freezing is not None  # noqa: S101 — `assemble` gives one
            t.optimizer = optimizer_for(t.model, config, t.freezing, spec.input_shape)
        choice = settle_engine(t)
        run.write_json("data.json", data.to_json())
        run.write_json("split.json", data.split_json())
        write_train_digests(run, data.store.digests[data.split.train])
        run.write_json("classes.json", list(data.source.info.classes))
        run.write_json("preprocess.json", preprocess.to_json())
        facts = run_facts(t, spec, custom_transform=transform is not None)
        run.write_json("run.json", {**facts, "engine_choice": choice.to_json()})
        validation_s = _look_at_untrained(t, data)
        if config.budget is not None:
            writing_s = -time.monotonic()
            checkpoint(t, border=True)
            writing_s += time.monotonic()
            later_s = _after_loop_s(t, choice.speedup, validation_s, writing_s)
            used_s, later_s = group.most(time.monotonic() - started, later_s)
            t.at.limit_s, t.at.budget_s = max(config.budget - used_s - later_s, 0.0), config.budget
            if t.at.limit_s == 0:
                report(
                    {
                        "note": f"WARNING: the {config.budget:g} s of --budget were used up by "
                        f"the start ({used_s:.0f} s; the cache is there now): one step is made"
                    }
                )
        checkpoint(t, border=True)
        # The configuration comes last: with it the folder is a run that can be resumed.
        run.write_json("config.json", config.to_json())
        with t.engine.products():
            train(t)
        return _finish(t, spec, data, time.monotonic() - started)


def resume(
    run: RunFolder,
    report: Report,
    *,
    epochs: int | None = None,
    budget: float | None = None,
    model: str | None = None,
    transform: Transform | None = None,
    group: Group = _ALONE,
) -> dict[str, Any]:
    """Go on with an interrupted run, or a finished one with more `epochs` or a larger `budget`, in
    seconds; returns result.json.

    On the same number of CPU threads the result is the same, bit for bit, as without the
    interruption (a budget counts time, so there it is not). More epochs, or more time, stretch
    the schedule to the new end: the rate rises again to what it is at that share of the way. What
    this call needs before and after its steps is part of the larger budget. `model` is the
    `file.py:NAME` of a person's own network, which a run alone may not have executed.
    """
    started = time.monotonic()
    config = FitConfig.from_run(run.read_json("config.json"))
    facts = run.read_json("run.json")
    config = replace(config, model=named_again(run, config.model, model))
    if facts["custom_transform"] and transform is None:
        raise UserError(
            f"the run '{run.path}' was trained with a transform of your own: resume it from "
            f"Python, hubel.resume(run, transform=…)"
        )
    if epochs is not None:
        if config.budget is not None:
            raise UserError(
                f"--epochs cannot extend the run '{run.path}', which has a --budget; "
                f"start a new one"
            )
        config = replace(config, epochs=epochs)
    had_s = config.budget
    if budget is not None:
        if had_s is None or budget < had_s:
            raise UserError(
                f"--budget {budget:g}s cannot extend the run '{run.path}', which has "
                f"{f'{had_s:g} s' if had_s else 'none'}; give a larger one, or "
                f"start a new run"
            )
        config = replace(config, budget=budget)
    with run.locked(), catch_signals() as stop:
        found = load_checkpoint(run)
        if found is None:
            raise UserError(
                f"the run '{run.path}' has no checkpoint to go on from; start it anew with "
                f"another --output"
            )
        saved, notes = found
        done_epochs = saved.state["position"]["epoch"]
        if epochs is not None and epochs < done_epochs:
            raise UserError(
                f"--epochs {epochs} is less than the {done_epochs} that the run '{run.path}' "
                f"has behind it; give {done_epochs} or more"
            )
        run.sweep()
        preprocess = Preprocess.from_json(run.read_json("preprocess.json"))
        with group.first_before_others():
            ids = run.read_json("split.json")
            data = restore_split(config, ids, preprocess.drawing, _progress(report, stop))
        if data.store.fingerprint != run.read_json("data.json")["fingerprint"]:
            raise UserError(
                f"DATA '{config.data}' has changed since the run '{run.path}' began, so the run "
                f"cannot be resumed; restore the data or start a new run"
            )
        task = TASKS[facts["task"]]
        saved.state.setdefault("processes", 1)  # from before there could be several
        same = group.world.size == saved.state["processes"]
        threads = config.threads or (saved.state["threads"] if same else group.threads())
        with _prepared_process(threads):
            t, spec = assemble(config, run, data, task, preprocess, stop, report, transform, group)
            use_recorded_engine(t, _recorded_engine(facts))
            for note in [*notes, *_differences(t, saved.state)]:
                report({"note": note})
            t.at.budget_s = had_s or 0.0  # unless the checkpoint says it
            restore(t, saved)
            report({"note": f"going on after epoch {t.at.epoch}, step {t.at.step:,}"})
            earlier_s = t.at.elapsed_s
            run.keep_log(t.at.epoch)
            if budget is not None:
                _extend_limit(t, budget, started, _recorded_speedup(facts))
            if epochs is not None or budget is not None:
                # Saved before the configuration: a kill in between must not end the run.
                t.at.finished = False
                checkpoint(t, border=t.at.batch == 0)
                run.write_json("config.json", config.to_json())
            with t.engine.products():
                train(t)
            return _finish(t, spec, data, earlier_s + time.monotonic() - started)


def _recorded_engine(facts: dict[str, Any]) -> str:
    """What run.json says, as --engine takes it; before engines were measured it had no choice."""
    choice = facts.get("engine_choice")
    words: str = facts["engine"].partition(", ")[2] if choice is None else choice["engine"]
    return words


@contextlib.contextmanager
def _prepared_process(threads: int) -> Iterator[None]:
    """The allocator tuned, `threads` CPU threads if not 0; threads and torch's stream as before
    afterwards, because the process is the caller's.
    """
    keep_freed_memory()
    before = torch.get_num_threads()
    if threads:
        torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(before)


def _progress(report: Report, stop: StopRequest) -> Callable[[str, int, int], None]:
    """Reports of the preparation, which a signal ends: there is nothing to save yet."""

    def progress(what: str, done: int, total: int) -> None:
        if stop:
            raise Interrupted("stopped before the training began", stop.exit_code)
        report({"stage": what, "count": done, "total": total})

    return progress


def _differences(t: Training, state: dict[str, Any]) -> list[str]:
    """What differs from the process that saved `state`, and costs exactness to the bit."""
    now = {
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "engine": str(t.engine),
        "processes": t.group.world.size,
    }
    return [
        f"{name} is {value} here and was {state[name]} in the run: the result will not be the "
        f"same to the bit"
        for name, value in now.items()
        # Of several processes each has a device, whose number is not the run's.
        if state[name] != value and (name != "engine" or t.group.alone)
    ]


def _look_at_untrained(t: Training, data: Data) -> float:
    """Keep the untrained network's loss, and its probabilities where it answers with a class; the
    seconds a validation takes.

    A loss far from that of knowing nothing is the first sign of a broken input or initialisation.
    """
    started = time.monotonic()
    output, target, ids = predicted(t, t.model, t.engine)
    seconds = time.monotonic() - started
    figures = t.task.metrics(output, target)
    loss = float(figures["loss"])
    expected = t.task.untrained_loss(len(data.source.info.classes))
    if not math.isfinite(loss):
        raise UserError(
            f"--model '{t.config.model}' gives a loss of {loss} before training: the data or the "
            f"network has non-finite values (hubel inspect {t.config.data})"
        )
    # Where something is may be guessed well by chance; a class may not.
    least = 0.75 * expected if t.task.answer == "class" else 0.0
    odd = not least <= loss <= (1.25 if t.task.answer == "class" else 1.5) * expected
    if odd and not t.config.pretrained and figures.get("judged", 1):
        t.report(
            {
                "note": f"WARNING: the untrained network's loss is {loss:.3f}, "
                f"about {expected:.3f} was expected: look at the data's scale and the network"
            }
        )
    facts: dict[str, Any] = {"loss": loss, "expected_loss": expected}
    if t.task.answer == "class":
        probabilities = cast(AnswersClass, t.task).probabilities(output)
        facts["mean_probabilities"] = probabilities.mean(0).tolist()
        facts["examples"] = [
            {
                "id": str(data.source.ids[int(i)]),
                "target": int(data.source.targets[int(i)]),
                "probabilities": p.tolist(),
            }
            for i, p in zip(ids[:_EXAMPLES], probabilities[:_EXAMPLES], strict=True)
        ]
    t.run.write_json("untrained.json", facts)
    return seconds


def _recorded_speedup(facts: dict[str, Any]) -> float | None:
    """Of the run's engine over float32, if it was measured."""
    found: float | None = (facts.get("engine_choice") or {}).get("speedup")
    return found


def _extend_limit(t: Training, budget: float, started: float, speedup: float | None) -> None:
    """Let the loop go on for what a larger `budget` gives, less what is needed around it.

    A kill may have come between this checkpoint and the configuration: then it is done already.
    """
    if t.at.limit_s is None or t.at.budget_s == budget:
        return
    rows = t.run.log()
    validation_s = float(rows[-1]["validation_s"]) if rows else 0.0
    later_s = _after_loop_s(t, speedup, validation_s, 0.0)
    used_s, later_s = t.group.most(time.monotonic() - started, later_s)
    t.at.limit_s += max(budget - t.at.budget_s - used_s - later_s, 0.0)
    t.at.budget_s = budget


def _after_loop_s(
    t: Training, speedup: float | None, validation_s: float, writing_s: float
) -> float:
    """What the loop's last epoch and its aftermath take beyond the steps, in seconds, about.

    One validation by the engine and one in float32; the best weights, a checkpoint with the
    optimizer's state and the finished network, of which the first checkpoint had a part.
    """
    slower = 1.0 if t.engine.precision == "fp32" else max(speedup or 2.0, 1.0)
    return (1 + slower * _views(t)) * validation_s + 4 * writing_s + 0.3


def _views(t: Training) -> int:
    """In how many orientations poses are judged, at the end as ever after: the consensus is fitted
    to that. Of pictures one view: more would take their time from the training.
    """
    return ORIENTATIONS if t.task.answer == "pose" and t.config.tta == "all" else 1


def _finish(t: Training, spec: ModelSpec, data: Data, seconds: float) -> dict[str, Any]:
    """The best weights become the run's network; its figures on the validation split."""
    started = time.monotonic()
    run = t.run
    if t.at.best:  # else no epoch had a finite score: what there is must do
        t.evaluated.load_state_dict(load_best(run, t.at.best))
    views = [predicted(t, t.evaluated, t.engine.exact(), view) for view in range(_views(t))]
    output = torch.stack([output for output, _, _ in views]).mean(0)
    _, target, ids = views[0]
    log = run.log()
    result = {
        "run": str(run.path),
        "task": t.task.name,
        "model": spec.name,
        "epochs": t.at.epoch,
        "best_epoch": t.at.best_epoch,
        "samples_seen": t.at.samples,
        "seconds": round(seconds + time.monotonic() - started, 3),
        "images_per_s": round(statistics.median([row["images_per_s"] for row in log] or [0.0]), 1),
        "engine": str(t.engine),
        "metrics": {"split": "val", **t.task.metrics(output, target)},
    }
    seen = t.at.samples / len(t.loader.indices)
    if t.config.budget is not None and seen < 1:
        t.report({"note": f"the budget ended when {seen:.1%} of the training samples were seen"})
    if isinstance(t.profile, Profile):
        run.write_json("profile.json", t.profile.to_json())
        t.report({"note": t.profile.sentence()})
    if run.writes:
        facts = run.read_json("run.json")
        save_trained(run, t.evaluated, spec)
        content = (run.path / "model.safetensors").read_bytes()
        facts["model_sha256"] = hashlib.sha256(content).hexdigest()
        run.write_json("run.json", facts)
        write_validation(run, Validation(output, target, _units(data, ids)))
        run.write_json("result.json", result)
    t.group.wait()
    return result


def _units(data: Data, ids: torch.Tensor) -> torch.Tensor:
    """Of samples `ids` (n,) the number of each one's group, what stands or falls together."""
    if data.source.groups is None:
        return torch.arange(len(ids))
    return torch.from_numpy(np.unique(data.source.groups[ids.numpy()], return_inverse=True)[1])
