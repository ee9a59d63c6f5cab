"""A worker: takes a job that is due, makes it, tells the outcome, until the race is over."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hubel.racing.ledger import Ledger
from hubel.racing.plan import Plan
from hubel.racing.rungs import Job, due
from hubel.racing.trial import run_job
from hubel.runs import RunInUseError
from hubel.train.distributed import Group

__all__ = ["work"]

_PAUSE_S = 0.5  # between looks, while others do what is due

Report = Callable[[dict[str, Any]], None]


def work(race: Path, plan: Plan, ledger: Ledger, report: Report, group: Group) -> int:
    """Do jobs of the race in the folder `race` until none is due; returns how many.

    Several processes of one `group` do each job together: the first asks the ledger.
    """
    made = 0
    while True:
        if not group.world.first:
            job = _from_text(group.text(""))
            if job is None:
                return made
            run_job(race, plan, job, report, group)
            made += 1
            continue
        waiting = due(plan.rungs, plan.names, plan.num_seeds, ledger.outcomes())
        if not waiting:
            group.text("")
            return made
        for job in waiting:
            with ledger.claimed(job) as mine:
                if not mine:
                    continue
                group.text(_to_text(job))
                report({"note": f"job {job.key}"})
                try:
                    ledger.tell(job, run_job(race, plan, job, report, group))
                except RunInUseError:
                    time.sleep(_PAUSE_S)  # a worker that was given up for dead is not
                made += 1
                break
        else:
            time.sleep(_PAUSE_S)


def _to_text(job: Job) -> str:
    return f"{job.rung} {job.seed} {job.candidate}"


def _from_text(text: str) -> Job | None:
    if not text:
        return None
    rung, seed, candidate = text.split(" ", 2)
    return Job(int(rung), candidate, int(seed))
