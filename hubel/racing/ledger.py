"""Who does which job, and what came of it: the part of a race that several workers write.

`FolderLedger` keeps it in the race's folder: a job has a lock that its worker holds while it lives
and an outcome that is written once. The operating system drops the lock with the process, however
that ends, so that a job whose worker was killed is free at once, and no clock is asked. It is for
the processes of one machine; `study.StudyLedger` is for many.
"""

import contextlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import filelock

from hubel.errors import UserError
from hubel.racing.rungs import Job, Outcome
from hubel.runs import write_atomic

__all__ = ["MOST_ATTEMPTS", "FolderLedger", "Ledger"]

MOST_ATTEMPTS = 3
"""A job that took its process with it so often (too little memory, as a rule) has failed."""

_KEY = re.compile(r"r(\d+)-(.+)-s(\d+)")


class Ledger(Protocol):
    """What a worker asks of it; every method may be called by several processes at once."""

    def outcomes(self) -> dict[Job, Outcome]:
        """Of all jobs that ended."""
        ...

    def claimed(self, job: Job) -> AbstractContextManager[bool]:
        """Within it the job is this process's alone, if the value is True; False where another
        has it, or it has an outcome already.
        """
        ...

    def tell(self, job: Job, outcome: Outcome) -> None:
        """Write the outcome of a job that is `claimed`."""
        ...


class FolderLedger:
    """In the files of `folder`: KEY.lock, KEY.attempts (a line each), KEY.json, the outcome."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def outcomes(self) -> dict[Job, Outcome]:
        """Of all jobs that ended. Raises `UserError` where a file is not what was written."""
        found = {}
        for path in sorted(self.folder.glob("r*.json")):
            named = _KEY.fullmatch(path.stem)
            if named is None:
                continue
            try:
                outcome = Outcome.from_json(json.loads(path.read_text(encoding="utf-8")))
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"'{path}' cannot be read: {error}; restore it from a copy, or delete it, and "
                    f"the job is made again"
                ) from None
            found[Job(int(named[1]), named[2], int(named[3]))] = outcome
        return found

    @contextlib.contextmanager
    def claimed(self, job: Job) -> Iterator[bool]:
        """See `Ledger`; after three attempts that left no outcome the job counts as failed."""
        lock = filelock.FileLock(self.folder / f"{job.key}.lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            yield False
            return
        try:
            if self._file(job).exists():
                yield False
                return
            attempts = self.folder / f"{job.key}.attempts"
            made = len(attempts.read_text().splitlines()) if attempts.exists() else 0
            if made >= MOST_ATTEMPTS:
                self.tell(job, lost(made))
                yield False
                return
            with attempts.open("a") as file:
                file.write(f"{os.uname().nodename} {os.getpid()}\n")
            yield True
        finally:
            lock.release()

    def tell(self, job: Job, outcome: Outcome) -> None:
        """Write the outcome: whole, or not at all."""
        text = json.dumps(outcome.to_json(), indent=1, ensure_ascii=False, allow_nan=False)
        write_atomic(self._file(job), text + "\n")

    def _file(self, job: Job) -> Path:
        return self.folder / f"{job.key}.json"


def lost(attempts: int) -> Outcome:
    """Of a job whose processes were killed."""
    return Outcome(None, f"its process was killed {attempts} times, most likely for want of memory")
