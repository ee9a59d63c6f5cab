"""hubel in Python: the same calls as the command line makes.

run = hubel.fit("photos/", epochs=20)
run.evaluate()
hubel.load("runs/x").predict("cat.jpg")
"""

import itertools
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hubel.annotate import Annotated, Kind, check_names, common_root, writer_for
from hubel.config import AUTO, FitConfig, parse_budget, parse_size
from hubel.data.inspect import inspect as inspect_data
from hubel.data.inspection import Inspection
from hubel.data.own_transform import own_transform
from hubel.data.paths import exists, expanded, is_folder
from hubel.data.prepare import open_configured, split_to_inspect
from hubel.engine import exact_engine
from hubel.errors import UserError
from hubel.evaluate.run import AnyEvaluation, evaluate_run
from hubel.inference import Trained, load_trained
from hubel.predict import Prediction, Reading, find_files, predict_files
from hubel.python_file import is_own_file
from hubel.report.judged import write_report
from hubel.runs import RunFolder, RunInUseError, WatchedRun
from hubel.train import fit as training
from hubel.train.checkpoint import has_progress
from hubel.train.distributed import joined
from hubel.views import with_tta, with_views

if TYPE_CHECKING:
    from hubel.docking.dock import Docked
    from hubel.racing.document import Compared
    from hubel.racing.race import Race

__all__ = [
    "Inspected",
    "Judged",
    "Run",
    "compare",
    "dock",
    "fit",
    "inspect",
    "load",
    "resume",
    "resume_race",
    "serve_race",
]

Report = Callable[[dict[str, Any]], None]


def _quiet(facts: dict[str, Any]) -> None:
    """The report of those who did not ask for one."""


def _progress(report: Report) -> Callable[[str, int, int], None]:
    return lambda what, done, total: report({"stage": what, "count": done, "total": total})


@dataclass(frozen=True)
class Judged:
    """An evaluation and where its report lies."""

    run: Path
    evaluation: AnyEvaluation
    report: Path
    notes: list[str]

    def to_json(self) -> dict[str, Any]:
        """{run, split, n, metrics, per_class, confusion, …}, JSON-ready."""
        return {
            "run": str(self.run),
            **self.evaluation.to_json(),
            "report": str(self.report),
            "notes": [*self.evaluation.notes, *self.notes],
        }


@dataclass(frozen=True)
class Inspected:
    """What was found in a data set, and the page about it if one was asked for."""

    inspection: Inspection
    page: Path | None


class Run:
    """A run folder, and what can be done with it.

    `model` is the `file.py:NAME` of a network of your own: the folder alone cannot have it
    executed.
    """

    def __init__(self, folder: RunFolder, model: str | None = None) -> None:
        self.folder = folder
        self.model = model

    @property
    def path(self) -> Path:
        """Where the run lies."""
        return self.folder.path

    @property
    def result(self) -> dict[str, Any]:
        """What the fit ended with: {run, task, model, epochs, seconds, …, metrics}."""
        result: dict[str, Any] = self.folder.read_json("result.json")
        return result

    def evaluate(
        self,
        data: str | Path | None = None,
        *,
        split: str | None = None,
        tta: str | None = None,
        report: Report = _quiet,
    ) -> Judged:
        """Judge the network and write the report into the run's evaluation/ folder.

        Without `data`, on the run's own test split (validation where it has none). `tta`
        ("none", "all", "unsure") averages over views of a picture; by default as in the run.
        """
        spec = None if data is None else str(data)
        judged = evaluate_run(
            self.folder, spec, split, _progress(report), tta=tta, model=self.model
        )
        name = judged.evaluation.split
        if spec is not None:
            name = f"{Path(spec.split(':')[0]).stem or 'data'}-{name}"
        folder = self.folder.folder(f"evaluation/{name}")
        page = write_report(self.folder, judged, folder)
        document = Judged(self.path, judged.evaluation, page, judged.notes)
        self.folder.write_json(f"evaluation/{name}/evaluation.json", document.to_json())
        return document

    def predict(
        self,
        *paths: str | Path,
        tta: str | None = None,
        min_score: float | None = None,
        tile: str | int | None = None,
        overlap: int | None = None,
    ) -> list[Prediction]:
        """A prediction for each file, or each picture in each folder; see `Prediction`.

        `tta` as in `evaluate`. Of a detector, objects from `min_score` on; by default the score
        that gave the largest F1 on the validation split. `tile`, "480x640", cuts large pictures
        into parts of that many pixels, which share `overlap` (by default a quarter of a side).
        """
        return list(self._predictions(paths, tta, min_score, tile, overlap)[1])

    def predict_each(
        self,
        *paths: str | Path,
        tta: str | None = None,
        min_score: float | None = None,
        tile: str | int | None = None,
        overlap: int | None = None,
    ) -> Iterator[Prediction]:
        """As `predict`, one after the other: not all masks of many large files need be held."""
        return self._predictions(paths, tta, min_score, tile, overlap)[1]

    def write_predictions(
        self,
        *paths: str | Path,
        write: str,
        output: str | Path,
        tta: str | None = None,
        min_score: float | None = None,
        tile: str | int | None = None,
        overlap: int | None = None,
    ) -> tuple[list[Prediction], list[Path]]:
        """The predictions, without their masks, and the files that were written of them.

        `write` is a format of `hubel.annotate`: "pictures" (drawn copies), "coco", "yolo", "voc",
        "masks"; `output` a new or empty folder. The others as in `predict`.
        """
        trained, predictions = self._predictions(paths, tta, min_score, tile, overlap)
        kinds: dict[str, Kind] = {"box": "boxes", "boxes": "boxes", "mask": "mask"}
        kind = kinds.get(trained.task.answer)
        if kind is None:
            raise UserError(
                f"--write is for boxes and masks, and --task {trained.task.name} gives one class "
                f"a sample; --csv and --json print those"
            )
        writer = writer_for(write, kind)
        files = find_files(paths)
        root = common_root(files)
        check_names(files, root)
        seen: list[Prediction] = []

        def annotated() -> Iterator[Annotated]:
            for p in predictions:
                seen.append(replace(p, mask=None))
                if p.error is None:
                    yield p.annotated(trained.classes)

        return seen, writer.write(annotated(), trained.classes, Path(output), root)

    def _predictions(
        self,
        paths: tuple[str | Path, ...],
        tta: str | None,
        min_score: float | None,
        tile: str | int | None,
        overlap: int | None,
    ) -> tuple[Trained, Iterator[Prediction]]:
        if not paths:
            raise UserError("PATH is missing: name at least one picture or folder")
        config = FitConfig.from_run(self.folder.read_json("config.json"))
        engine = exact_engine(config)
        trained = load_trained(self.folder, self.model)
        config = with_tta(config, tta, trained.task)
        engine.place(trained.model)
        viewed = replace(trained, model=with_views(trained.model, config.tta, config.flip))
        if min_score is not None and trained.task.answer != "boxes":
            raise UserError(
                f"--min-score is of a detector's objects, and --task {trained.task.name} has one "
                f"answer a file; leave it out"
            )
        if min_score is None:
            min_score = self.result["metrics"].get("min_score") or 0.0
        return viewed, predict_files(
            viewed, paths, engine, _reading(min_score, tile, overlap, len(trained.preprocess.size))
        )

    def __repr__(self) -> str:
        return f"Run('{self.path}')"


def fit(
    data: str | Path,
    *,
    output: str | Path | None = None,
    transform: Callable[[Any], Any] | None = None,
    report: Report = _quiet,
    started: float | None = None,
    **settings: Any,
) -> Run:
    """Train a network on `data` and return its run.

    `settings` are the fields of `FitConfig` by name (model="simple", epochs=20, …): one
    hop, checked there. `transform` is your own augmentation of one picture, a torchvision
    transform for instance (see `hubel.data.own_transform`); hubel's own comes after it, so
    turn off what you do not want twice (flip="none", translate=0). `started` is the monotonic time
    from which a budget counts. Raises `UserError`, a `ValueError`, for what you can mend.
    """
    started = time.monotonic() if started is None else started
    # The run must find its data again from any working folder.
    where = expanded(str(data))
    spec = str(where.resolve()) if exists(where) else str(data)
    config = FitConfig.from_settings({"data": spec, **settings})
    if output is not None and is_folder(where):
        target = expanded(str(output)).resolve()
        if where.resolve() in (target, *target.parents):
            raise UserError(
                f"--output '{output}' lies inside DATA '{data}', which hubel never writes into; "
                f"name a folder elsewhere"
            )
    with joined() as group:
        folder = RunFolder("")
        if group.world.first:
            folder = _new_run(config) if output is None else RunFolder.create(output)
        path = group.text(str(folder.path))
        config = replace(config, data=group.text(config.data))  # a path only once it is there
        if not group.world.first:
            folder, report = WatchedRun(path), _quiet
        try:
            own = None if transform is None else own_transform(transform)
            training.fit(config, folder, report, transform=own, started=started, group=group)
        except RunInUseError:
            raise  # somebody else's run: nothing in it is ours to remove
        except BaseException:
            if folder.writes and not has_progress(folder):
                folder.discard()
            raise
        return Run(folder, config.model if is_own_file(config.model) else None)


def resume(
    run: str | Path,
    *,
    epochs: int | None = None,
    budget: float | str | None = None,
    model: str | None = None,
    transform: Callable[[Any], Any] | None = None,
    report: Report = _quiet,
) -> Run:
    """Go on with an interrupted run, or a finished one with more `epochs` or a larger `budget`.

    The budget, in seconds or as "1h30m", is of all the run. `model` is that of `load`.
    """
    seconds = None if budget is None else parse_budget(budget)
    with joined() as group:
        folder = RunFolder.open(run)
        if not group.world.first:
            folder, report = WatchedRun(folder.path), _quiet
        own = None if transform is None else own_transform(transform)
        training.resume(
            folder,
            report,
            epochs=epochs,
            budget=seconds,
            model=model,
            transform=own,
            group=group,
        )
        return Run(folder, model)


def load(run: str | Path, *, model: str | None = None) -> Run:
    """The run in a folder. Raises `UserError` where there is none.

    A run that trained a network of your own needs its `model`, "file.py:NAME", again: a run may
    be anybody's, so a file that it names is not executed.
    """
    return Run(RunFolder.open(run), model)


def inspect(
    data: str | Path,
    *,
    page: str | Path | None = None,
    near: bool = True,
    report: Report = _quiet,
    **settings: Any,
) -> Inspected:
    """Look at a data set before it is trained on; with `page`, write an HTML page about it.

    `near` looks for near copies too. `settings` are those of `fit` that shape the data
    (img_size, val_fraction, seed, cache; of poses their channels and grid).
    """
    config = FitConfig.from_settings({"data": str(data), **settings})
    source, store = open_configured(config, _progress(report))
    split = split_to_inspect(source, store, config)
    inspection = inspect_data(source, store, split, near=near, progress=_progress(report))
    written = None
    if page is not None:
        from hubel.report.inspection import write_inspection_page

        written = write_inspection_page(Path(page), inspection, store, source)
    return Inspected(inspection, written)


def dock(
    receptor: str | Path,
    ligands: str | Path | None = None,
    *,
    output: str | Path,
    processes: int | None = None,
    report: Report = _quiet,
    **settings: Any,
) -> "Docked":
    """Dock the ligands of a file into a protein, score their poses and rank them.

    `settings` are the fields of `hubel.docking.request.DockRequest` by name (autobox="lig.sdf",
    scorer="runs/x", …). `output` is a new folder, or one of the same docking, which goes on.
    Needs the extra `docking`. Raises `UserError` for what you can mend.
    """
    from hubel.docking.dock import dock as docked
    from hubel.docking.request import DockRequest

    request = DockRequest(str(receptor), None if ligands is None else str(ligands), **settings)
    return docked(request, Path(output), report, processes=processes)


def compare(
    data: str | Path,
    *,
    budget: float | str = "30m",
    models: Sequence[str] = (),
    preset: str = "",
    seeds: int = 2,
    objective: str = "",
    constraints: Sequence[str] = (),
    tune: Sequence[str] = (),
    trials: int = 0,
    workers: int = 1,
    output: str | Path | None = None,
    report: Report = _quiet,
    **settings: Any,
) -> "Compared":
    """Race networks on `data` within `budget` (seconds, or "30m"), and say which to take.

    `models` are names as resnet18 or resnet18@img_size=64, a `preset` ("small", "wide") is a list
    of them; `tune` names settings of the one model that are varied instead. `constraints` are as
    "latency_ms<=5". `settings` are those of `fit` for all candidates. Everything lies in the
    folder `output`, which `resume_race` goes on with. Raises `UserError` for what you can mend.
    """
    from hubel.racing.planning import RaceRequest
    from hubel.racing.race import begin

    started = time.monotonic()
    where = expanded(str(data))
    request = RaceRequest(
        data=str(where.resolve()) if exists(where) else str(data),
        budget_s=parse_budget(budget),
        models=tuple(models),
        preset=preset,
        tune=tuple(tune),
        trials=trials,
        num_seeds=seeds,
        objective=objective,
        constraints=tuple(constraints),
        workers=workers,
        settings=settings,
    )
    folder = _new_race(str(data)) if output is None else expanded(str(output))
    race = begin(request, folder, report)
    return _raced(race, workers, report, started)


def resume_race(race: str | Path, *, workers: int = 1, report: Report = _quiet) -> "Compared":
    """Go on with a race that was stopped; what is done is not done again."""
    from hubel.racing.race import open_race

    return _raced(open_race(expanded(str(race))), workers, report, time.monotonic())


def serve_race(race: str | Path, *, report: Report = _quiet) -> int:
    """Be one more worker of a race until nothing is left to do; how many jobs were done.

    Of several processes that torchrun started all do each job together.
    """
    from hubel.racing.race import serve

    with joined() as group:
        return serve(expanded(str(race)), report, group)


def _raced(race: "Race", workers: int, report: Report, started: float) -> "Compared":
    from hubel.racing.document import compared
    from hubel.racing.race import run_workers

    run_workers(race, workers, report)
    found = race.answer()
    folder = race.best_run(found.choice)
    model = race.plan.entry(found.choice).candidate.settings["model"]
    test = None
    if folder.read_json("split.json")["test"]:
        name = "evaluation/test/evaluation.json"
        if not folder.has(name):  # the test split is touched once
            Run(folder, model if is_own_file(model) else None).evaluate(report=report)
        test = folder.read_json(name)
    return compared(race, found, test, time.monotonic() - started)


def _new_race(data: str) -> Path:
    """races/DATA-N for the first N that is free."""
    stem = Path(data.split(":")[0]).stem or "data"
    numbers = (Path("races") / f"{stem}-{number}" for number in itertools.count(1))
    return next(path for path in numbers if not path.exists())


def _reading(
    min_score: float, tile: str | int | None, overlap: int | None, spatial_dims: int
) -> Reading:
    if tile is None:
        if overlap is not None:
            raise UserError("--overlap is of tiles: give --tile, or leave it out")
        return Reading(min_score)
    try:
        sides = parse_size(str(tile))
    except ValueError as error:
        raise UserError(f"--tile: {error}, got '{tile}'") from None
    sides = sides * spatial_dims if len(sides) == 1 else sides
    return Reading(min_score, sides, min(sides) // 4 if overlap is None else overlap)


def _new_run(config: FitConfig) -> RunFolder:
    """runs/DATA-MODEL-N for the first N that is free; without MODEL where the data choose it."""
    stem = Path(config.data.split(":")[0]).stem or "data"
    # Of a file.py:NAME, the NAME; vit_small/8 and torchvision:resnet18 in one word.
    name = config.model.rpartition(":")[2] if is_own_file(config.model) else config.model
    model = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "model"
    named = stem if config.model == AUTO else f"{stem}-{model}"
    for number in itertools.count(1):
        path = Path("runs") / f"{named}-{number}"
        if not path.exists():
            break
    return RunFolder.create(path)
