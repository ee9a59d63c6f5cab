"""`fit`: from a configuration to a finished run folder; `resume`: the rest of the way."""

import hashlib
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from hubel.config import FitConfig
from hubel.data.loader import Transform
from hubel.data.prepare import Data, prepare_data, restore_split
from hubel.data.preprocess import Preprocess, fit_preprocess
from hubel.engine import keep_freed_memory
from hubel.errors import UserError
from hubel.inference import outputs, save_trained, write_train_digests
from hubel.models import ModelSpec
from hubel.runs import RunFolder
from hubel.tasks import TASKS
from hubel.train.best import load_best, save_best
from hubel.train.checkpoint import load_checkpoint
from hubel.train.loop import Report, Training, checkpoint, restore, train
from hubel.train.setup import assemble, run_facts, settle_flip
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
    stop = StopRequest()
    with run.locked():
        _prepare_process(config)
        data = prepare_data(config, _progress(report))
        for note in data.notes:
            report({"note": note})
        config, note = settle_flip(config, data)
        if note:
            report({"note": note})
        preprocess = fit_preprocess(data.store, data.split.train)
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
        checkpoint(t, border=True)
        with catch_signals(stop):
            # The configuration comes last: with it the folder is a run that can be resumed.
            run.write_json("config.json", config.to_json())
            train(t)
        return _finish(t, spec, time.monotonic() - started)


def resume(
    run: RunFolder,
    report: Report,
    *,
    epochs: int | None = None,
    transform: Transform | None = None,
) -> dict[str, Any]:
    """Go on with an interrupted run, or a finished one with more `epochs`; returns result.json.

    On the same number of CPU threads the result is the same, bit for bit, as without the
    interruption (a budget counts time, so there it is not). More epochs stretch the
    schedule to the new end.
    """
    started = time.monotonic()
    config = FitConfig.from_settings(run.read_json("config.json"))
    facts = run.read_json("run.json")
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
    stop = StopRequest()
    with run.locked():
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
        _prepare_process(config)
        data = restore_split(config, run.read_json("split.json"), _progress(report))
        if data.store.fingerprint != run.read_json("data.json")["fingerprint"]:
            raise UserError(
                f"DATA '{config.data}' has changed since the run '{run.path}' began, so the run "
                f"cannot be resumed; restore the data or start a new run"
            )
        threads = torch.get_num_threads()
        if saved.state["threads"] != threads:
            notes.append(
                f"this process has {threads} CPU threads, the run had {saved.state['threads']}: "
                f"the result will not be the same to the bit (--threads sets them)"
            )
        for note in notes:
            report({"note": note})
        preprocess = Preprocess.from_json(run.read_json("preprocess.json"))
        task = TASKS[facts["task"]]
        t, spec = assemble(config, run, data, task, preprocess, stop, report, transform)
        restore(t, saved)
        earlier_s = t.at.elapsed_s
        t.at.finished = t.at.finished and epochs is None
        run.keep_log(t.at.epoch)
        run.write_json("config.json", config.to_json())
        with catch_signals(stop):
            train(t)
        return _finish(t, spec, earlier_s + time.monotonic() - started)


def _prepare_process(config: FitConfig) -> None:
    keep_freed_memory()
    if config.threads:
        torch.set_num_threads(config.threads)


def _progress(report: Report) -> Callable[[str, int, int], None]:
    return lambda what, done, total: report({"stage": what, "count": done, "total": total})


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
    if abs(loss - expected) > 0.25 * expected:
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
    if t.at.best_epoch == 0:  # no epoch had a finite score: keep what there is
        save_best(run, t.evaluated, 0, 0.0)
    t.evaluated.load_state_dict(load_best(run))
    save_trained(run, t.evaluated, spec)
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
        "images_per_s": round(statistics.median(row["images_per_s"] for row in log), 1),
        "engine": str(t.engine),
        "metrics": {"split": "val", **t.task.metrics(output, target)},
    }
    facts = run.read_json("run.json")
    content = (run.path / "model.safetensors").read_bytes()
    facts["model_sha256"] = hashlib.sha256(content).hexdigest()
    run.write_json("run.json", facts)
    run.write_json("result.json", result)
    return result
