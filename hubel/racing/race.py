"""A race from beginning to end: planned, run by workers, answered; a folder to go on with.

race/
  race.json        who takes part, the rungs, the objective (`plan`)
  ledger/          who does what, and what came of each job (`ledger`)
  trials/NAME-sS/  the run of each training, as any other run
  outputs/         what each network said of the validation split at the end of each rung
  workers/N.log    what a worker said
  answer.json      the answer
  report.html      the page
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hubel.data.paths import exists, expanded
from hubel.errors import Interrupted, UserError
from hubel.inference import read_validation
from hubel.racing.answer import Answer, answer
from hubel.racing.ledger import FolderLedger, Ledger
from hubel.racing.plan import Plan, read_plan, write_plan
from hubel.racing.planning import RaceRequest, make_plan
from hubel.racing.rungs import Job, Outcome, due
from hubel.racing.trial import outputs_file, trial_folder
from hubel.racing.worker import work
from hubel.runs import RunFolder, write_atomic
from hubel.tasks import TASKS
from hubel.train.distributed import Group
from hubel.train.signals import catch_signals

__all__ = ["Race", "begin", "ledger_of", "open_race", "run_workers", "serve"]

_LOOK_S = 0.5
_PARENT = "HUBEL_WORKER_OF"  # in a worker's environment, the process that began it
_CRASHES = 3  # of workers in a row without an outcome in between: something else is wrong

Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Race:
    """A race's folder and its plan."""

    folder: Path
    plan: Plan

    def outcomes(self) -> dict[Job, Outcome]:
        """Of all jobs that ended."""
        return ledger_of(self.folder).outcomes()

    def answer(self) -> Answer:
        """Of a race that is over; written as answer.json. Raises `UserError` before."""
        outcomes = self.outcomes()
        left = due(self.plan.rungs, self.plan.names, self.plan.num_seeds, outcomes)
        if left:
            raise UserError(
                f"the race '{self.folder}' is not over; hubel compare --resume {self.folder} goes "
                f"on with it"
            )
        task = TASKS[self.plan.shared["task"]]
        found = answer(
            self.plan,
            outcomes,
            lambda job: read_validation(outputs_file(self.folder, job)),
            task.metrics,
        )
        text = json.dumps(found.to_json(), indent=1, ensure_ascii=False, allow_nan=False)
        write_atomic(self.folder / "answer.json", text + "\n")
        return found

    def best_run(self, name: str) -> RunFolder:
        """Of the runs of candidate `name` the one with the best score at its last rung."""
        scored = [(j, o) for j, o in self.outcomes().items() if j.candidate == name]
        job, _ = max(
            ((job, outcome) for job, outcome in scored if outcome.score is not None),
            key=lambda row: (row[0].rung, row[1].score, -row[0].seed),
        )
        return RunFolder.open(trial_folder(self.folder, job.trial))

    def logs(self) -> dict[str, list[dict[str, Any]]]:
        """By trial the rows of its log, for learning curves."""
        found = {}
        for folder in sorted((self.folder / "trials").glob("*")):
            rows = RunFolder(folder).log()
            if rows:
                found[folder.name] = rows
        return found


def ledger_of(folder: Path) -> Ledger:
    """The ledger of the race in `folder`."""
    return FolderLedger(folder / "ledger")


def begin(request: RaceRequest, folder: Path, report: Report) -> Race:
    """Plan a race and write its folder, which must be new or empty.

    Raises `UserError` for what the person can mend; nothing is left behind then.
    """
    if exists(folder) and (not folder.is_dir() or any(folder.iterdir())):
        fix = (
            f"go on with it by --resume {folder}, or name another folder"
            if (folder / "race.json").exists()
            else "name a new or empty folder"
        )
        raise UserError(f"--output '{folder}' is not empty; {fix}")
    where = expanded(request.data)
    if where.is_dir() and where.resolve() in (folder.resolve(), *folder.resolve().parents):
        raise UserError(
            f"--output '{folder}' lies inside DATA '{request.data}', which hubel never writes "
            f"into; name a folder elsewhere"
        )
    plan = make_plan(request, report)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "trials").mkdir(exist_ok=True)
        write_plan(folder, plan)
    except OSError as error:
        raise UserError(
            f"--output '{folder}' cannot be written: {error.strerror or error}; name a folder that "
            f"you may write to"
        ) from None
    return Race(folder, plan)


def open_race(folder: Path) -> Race:
    """The race in `folder`. Raises `UserError` where there is none."""
    return Race(folder, read_plan(folder))


def serve(folder: Path, report: Report, group: Group) -> int:
    """Be a worker of the race in `folder` until nothing is due; returns how many jobs were done."""
    race = open_race(folder)
    _leave_with_parent()
    return work(folder, race.plan, ledger_of(folder), report, group)


def _leave_with_parent() -> None:
    """A worker that `run_workers` began stops, everything saved, when that process is gone: the
    machine is free then for who goes on with the race.
    """
    parent = os.environ.get(_PARENT)
    if parent is None:
        return

    def watch() -> None:
        while str(os.getppid()) == parent:
            time.sleep(_LOOK_S)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def run_workers(race: Race, num_workers: int, report: Report) -> None:
    """Have processes of their own do what is due, and begin new ones for those that die.

    A training that takes its process with it (too little memory, a fault in a library) is an
    outcome of that trial, not the end of the race. Raises `Interrupted` after a signal, everything
    saved, and `UserError` where workers die before they do anything.
    """
    told: set[Job] = set()
    workers: dict[int, subprocess.Popen[bytes]] = {}
    crashes = 0
    with catch_signals() as stop:
        try:
            while True:
                outcomes = race.outcomes()
                if len(outcomes) > len(told):
                    crashes = 0
                told = _tell_new(race, outcomes, told, report)
                left = due(race.plan.rungs, race.plan.names, race.plan.num_seeds, outcomes)
                if not left or stop:
                    break
                rung = left[0].rung
                ended = sum(job.rung == rung for job in outcomes)
                report(
                    {
                        "stage": f"rung {rung + 1} of {len(race.plan.rungs)}, {left[0].trial}",
                        "count": ended,
                        "total": ended + len(left),
                    }
                )
                for number in range(num_workers):
                    worker = workers.get(number)
                    if worker is not None and worker.poll() is not None:
                        crashes += worker.returncode != 0
                    if worker is None or worker.poll() is not None:
                        workers[number] = _start(race.folder, number, num_workers)
                if crashes > _CRASHES * max(num_workers, 1):
                    raise UserError(
                        f"the workers of '{race.folder}' die again and again: see "
                        f"{race.folder / 'workers'}/0.log"
                    )
                time.sleep(_LOOK_S)
        finally:
            for worker in workers.values():
                worker.terminate()
            for worker in workers.values():
                worker.wait()
        if stop:
            raise Interrupted(
                f"stopped, everything is saved; go on with: hubel compare --resume {race.folder}",
                stop.exit_code,
            )


def _start(folder: Path, number: int, num_workers: int) -> "subprocess.Popen[bytes]":
    logs = folder / "workers"
    logs.mkdir(exist_ok=True)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    environment = {**os.environ, _PARENT: str(os.getpid())}
    if num_workers > 1:
        environment["OMP_NUM_THREADS"] = str(max(1, (cores or 1) // num_workers))
    words = [sys.executable, "-m", "hubel", "compare", "--resume", str(folder), "--worker"]
    with (logs / f"{number}.log").open("ab") as log:
        return subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
        )


def _tell_new(
    race: Race, outcomes: Mapping[Job, Outcome], told: set[Job], report: Report
) -> set[Job]:
    """Report the outcomes that were not `told` yet; all that now are."""
    for job in sorted(set(outcomes) - told):
        outcome = outcomes[job]
        words = (
            outcome.reason
            if outcome.score is None
            else f"{race.plan.objective} {abs(outcome.score):.4f}"
        )
        report(
            {
                "note": f"rung {job.rung + 1} of {len(race.plan.rungs)} "
                f"({race.plan.rungs[job.rung].seconds:.0f} s): {job.trial}: {words}"
            }
        )
    return set(outcomes)
