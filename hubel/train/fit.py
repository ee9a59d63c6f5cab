"""`fit`: from a configuration to a finished run folder; `resume`: the rest of the way."""

import contextlib
import hashlib
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch

from hubel.config import FitConfig
from hubel.data.loader import Transform
from hubel.data.prepare import Data, prepare_data, restore_split
from hubel.data.preprocess import Preprocess, fit_preprocess
from hubel.engine import keep_freed_memory
from hubel.errors import Interrupted, UserError
from hubel.inference import named_again, outputs, save_trained, write_train_digests
from hubel.models import ModelSpec
from hubel.runs import RunFolder
from hubel.tasks import TASKS
from hubel.train.best import load_best
from hubel.train.checkpoint import load_checkpoint
from hubel.train.loop import Report, Training, checkpoint, restore, train
from hubel.train.setup import assemble, run_facts, settle_flip, settle_preprocess
from hubel.train.signals import StopRequest, catch_signals

__all__ = ["fit", "resume"]

_EXAMPLES = 8  # samples whose untrained probabilities are kept for the report


def fit(
    config: FitConfig,
    run: RunFolder,
    report: Report,
    *,
    transform: Transform | None = None,
    started: float | None = None,
) -> dict[str, Any]:
    """Train a network as `config` says and fill the empty folder `run`; returns result.json.

    `started` is the monotonic time from which a budget counts; by default this call.
    `report` hears of progress. Raises `UserError` for what the user can mend and
    `Interrupted` after a signal.
    """
    started = time.monotonic() if started is None else started
    with run.locked(), catch_signals() as stop, _prepared_process(config.threads):
        data = prepare_data(config, _progress(report, stop))
        for note in data.notes:
            report({"note": note})
        config, note = settle_flip(config, data)
        if note:
            report({"note": note})
        preprocess, note = settle_preprocess(config, fit_preprocess(data.store, data.split.train))
        if note:
            report({"note": note})
        t, spec = assemble(
            config, run, data, TASKS["classify"], preprocess, stop, report, transform
        )
        run.write_json("data.json", data.to_json())
        run.write_json("split.json", data.split_json())
        write_train_digests(run, data.store.digests[data.split.train])
        run.write_json("classes.json", list(data.source.info.classes))
        run.write_json("preprocess.json", preprocess.to_json())
        run.write_json("run.json", run_facts(t, spec, custom_transform=transform is not None))
        validation_s = _look_at_untrained(t, data)
        if config.budget is not None:
            # What comes after the loop is one more validation and two small files.
            used_s = time.monotonic() - started
            t.at.limit_s = max(config.budget - used_s - 2 * validation_s - 0.3, 0.0)
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
        train(t)
        return _finish(t, spec, time.monotonic() - started)


def resume(
    run: RunFolder,
    report: Report,
    *,
    epochs: int | None = None,
    model: str | None = None,
    transform: Transform | None = None,
) -> dict[str, Any]:
    """Go on with an interrupted run, or a finished one with more `epochs`; returns result.json.

    On the same number of CPU threads the result is the same, bit for bit, as without the
    interruption (a budget counts time, so there it is not). More epochs stretch the
    schedule to the new end. `model` is the `file.py:NAME` of a person's own network, which a
    run alone may not have executed.
    """
    started = time.monotonic()
    config = FitConfig.from_settings(run.read_json("config.json"))
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
        data = restore_split(config, run.read_json("split.json"), _progress(report, stop))
        if data.store.fingerprint != run.read_json("data.json")["fingerprint"]:
            raise UserError(
                f"DATA '{config.data}' has changed since the run '{run.path}' began, so the run "
                f"cannot be resumed; restore the data or start a new run"
            )
        preprocess = Preprocess.from_json(run.read_json("preprocess.json"))
        task = TASKS[facts["task"]]
        with _prepared_process(config.threads or saved.state["threads"]):
            t, spec = assemble(config, run, data, task, preprocess, stop, report, transform)
            for note in [*notes, *_differences(t, saved.state)]:
                report({"note": note})
            restore(t, saved)
            report({"note": f"going on after epoch {t.at.epoch}, step {t.at.step:,}"})
            earlier_s = t.at.elapsed_s
            run.keep_log(t.at.epoch)
            if epochs is not None:
                # Saved before the configuration: a kill in between must not end the run.
                t.at.finished = False
                checkpoint(t, border=t.at.batch == 0)
                run.write_json("config.json", config.to_json())
            train(t)
            return _finish(t, spec, earlier_s + time.monotonic() - started)


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
    }
    return [
        f"{name} is {value} here and was {state[name]} in the run: the result will not be the "
        f"same to the bit"
        for name, value in now.items()
        if state[name] != value
    ]


def _look_at_untrained(t: Training, data: Data) -> float:
    """Keep the untrained network's loss and probabilities; the seconds a validation takes.

    A loss far from ln(num_classes) is the first sign of a broken input or initialisation.
    """
    started = time.monotonic()
    output, target, ids = outputs(t.model, t.validation.evaluation(), t.engine)
    seconds = time.monotonic() - started
    loss = float(t.task.loss(output, target))
    expected = t.task.untrained_loss(len(data.source.info.classes))
    if not math.isfinite(loss):
        raise UserError(
            f"--model '{t.config.model}' gives a loss of {loss} before training: the data or the "
            f"network has non-finite values (hubel inspect {t.config.data})"
        )
    if not t.config.pretrained and abs(loss - expected) > 0.25 * expected:
        t.report(
            {
                "note": f"WARNING: the untrained network's loss is {loss:.3f}, "
                f"ln(classes) is {expected:.3f}: look at the data's scale and the initialisation"
            }
        )
    probabilities = t.task.probabilities(output)
    t.run.write_json(
        "untrained.json",
        {
            "loss": loss,
            "expected_loss": expected,
            "mean_probabilities": probabilities.mean(0).tolist(),
            "examples": [
                {"id": str(data.source.ids[int(i)]), "target": int(y), "probabilities": p.tolist()}
                for i, y, p in zip(
                    ids[:_EXAMPLES], target[:_EXAMPLES], probabilities[:_EXAMPLES], strict=True
                )
            ],
        },
    )
    return seconds


def _finish(t: Training, spec: ModelSpec, seconds: float) -> dict[str, Any]:
    """The best weights become the run's network; its figures on the validation split."""
    started = time.monotonic()
    run = t.run
    if t.at.best:  # else no epoch had a finite score: what there is must do
        t.evaluated.load_state_dict(load_best(run, t.at.best))
    output, target, _ = outputs(t.evaluated, t.validation.evaluation(), t.engine.exact())
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
    facts = run.read_json("run.json")
    save_trained(run, t.evaluated, spec)
    content = (run.path / "model.safetensors").read_bytes()
    facts["model_sha256"] = hashlib.sha256(content).hexdigest()
    run.write_json("run.json", facts)
    run.write_json("result.json", result)
    return result
