"""hubel in Python: the same calls as the command line makes.

run = hubel.fit("photos/", model="simple", epochs=20)
run.evaluate()
hubel.load("runs/x").predict("cat.jpg")
"""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hubel.config import FitConfig
from hubel.data.loader import Transform
from hubel.runs import RunFolder
from hubel.train import fit as training

__all__ = ["Run", "fit", "load", "resume"]

Report = Callable[[dict[str, Any]], None]


def _quiet(facts: dict[str, Any]) -> None:
    """The report of those who did not ask for one."""


class Run:
    """A run folder, and what can be done with it."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    @property
    def path(self) -> Path:
        """Where the run lies."""
        return self.folder.path

    @property
    def result(self) -> dict[str, Any]:
        """What the fit ended with: {run, task, model, epochs, seconds, …, metrics}."""
        result: dict[str, Any] = self.folder.read_json("result.json")
        return result

    def __repr__(self) -> str:
        return f"Run('{self.path}')"


def fit(
    data: str | Path,
    *,
    output: str | Path | None = None,
    transform: Transform | None = None,
    download: bool = False,
    report: Report = _quiet,
    started: float | None = None,
    **settings: Any,
) -> Run:
    """Train a network on `data` and return its run.

    `settings` are the fields of `FitConfig` by name (model="simple", epochs=20, …): one
    hop, checked there. `transform` is your own augmentation of one picture. `started` is the
    monotonic time from which a budget counts. Raises `UserError`, a `ValueError`, for what
    you can mend.
    """
    started = time.monotonic() if started is None else started
    config = FitConfig.from_settings({"data": str(data), **settings})
    folder = RunFolder.create(output if output is not None else _free_name(config))
    try:
        training.fit(config, folder, report, transform=transform, started=started)
    except BaseException:
        if not folder.has("config.json"):  # nothing of worth yet: leave no ruin behind
            shutil.rmtree(folder.path, ignore_errors=True)
        raise
    return Run(folder)


def resume(
    run: str | Path,
    *,
    epochs: int | None = None,
    transform: Transform | None = None,
    report: Report = _quiet,
) -> Run:
    """Go on with an interrupted run, or a finished one with more `epochs`."""
    folder = RunFolder.open(run)
    training.resume(folder, report, epochs=epochs, transform=transform)
    return Run(folder)


def load(run: str | Path) -> Run:
    """The run in a folder. Raises `UserError` where there is none."""
    return Run(RunFolder.open(run))


def _free_name(config: FitConfig) -> Path:
    """runs/DATA-MODEL-N for the first N that is free."""
    stem = Path(config.data.split(":")[0]).stem or "data"
    number = 1
    while (path := Path("runs") / f"{stem}-{config.model}-{number}").exists():
        number += 1
    return path
