"""One trial's way through one rung: an ordinary fit, or an ordinary resume with more time."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hubel.config import FitConfig
from hubel.errors import Interrupted, UserError
from hubel.python_file import is_own_file
from hubel.racing.plan import Plan
from hubel.racing.rungs import Job, Outcome
from hubel.runs import RunFolder, RunInUseError, WatchedRun, write_atomic
from hubel.train.distributed import Group
from hubel.train.fit import fit, resume

__all__ = ["outputs_file", "run_job", "trial_folder"]

_SAME_S = 1e-3  # budgets are written in milliseconds

Report = Callable[[dict[str, Any]], None]


def trial_folder(race: Path, trial: str) -> Path:
    """Where the run of a trial lies."""
    return race / "trials" / trial


def outputs_file(race: Path, job: Job) -> Path:
    """What its network said of the validation split at the end of that rung."""
    return race / "outputs" / f"{job.key}.safetensors"


def run_job(race: Path, plan: Plan, job: Job, report: Report, group: Group) -> Outcome:
    """Train until the rung's time is over, from wherever the trial stands.

    A failure is an outcome, not an error. Raises `Interrupted` after a signal, everything saved,
    and `RunInUseError` where another process trains this trial still.
    """
    started = time.monotonic()
    path = trial_folder(race, job.trial)
    seconds = plan.rungs[job.rung].seconds
    config = plan.config(job.candidate, job.seed, seconds)
    try:
        result = _trained(path, config, report, group)
    except (Interrupted, RunInUseError):
        raise
    except Exception as error:
        return Outcome(None, _reason(error), {"wall_s": time.monotonic() - started})
    if group.world.first:
        target = outputs_file(race, job)
        target.parent.mkdir(exist_ok=True)
        write_atomic(target, (path / "validation.safetensors").read_bytes())
    try:
        score = plan.score(result["metrics"])
    except (KeyError, TypeError, ValueError):
        score = float("nan")
    if score != score:
        return Outcome(None, f"its {plan.objective} is no number", {})
    facts = {name: result[name] for name in ("epochs", "samples_seen", "seconds", "engine")}
    facts |= {"metrics": result["metrics"], "wall_s": round(time.monotonic() - started, 3)}
    return Outcome(score, "", facts)


def _trained(path: Path, config: FitConfig, report: Report, group: Group) -> dict[str, Any]:
    """result.json of the run at `path`, which has trained for the budget of `config`."""
    own = config.model if is_own_file(config.model) else None
    folder = RunFolder(path)
    begun = group.text("yes" if folder.has("config.json") else "")
    if not group.world.first:
        folder = WatchedRun(path)
    if not begun:
        if group.world.first:
            # What a kill left before the run could be resumed; the folder is the race's own.
            shutil.rmtree(path, ignore_errors=True)
            folder = RunFolder.create(path)
        group.wait()
        return fit(config, folder, report, group=group)
    had_s = float(folder.read_json("config.json")["budget"])
    assert config.budget is not None  # noqa: S101 — a rung's time
    more = config.budget if config.budget > had_s + _SAME_S else None
    return resume(folder, report, budget=more, model=own, group=group)


def _reason(error: Exception) -> str:
    """Why a trial failed, in one line."""
    text = " ".join(str(error).split())
    if isinstance(error, UserError):
        return text
    return f"{type(error).__name__}: {text[:300]}"
