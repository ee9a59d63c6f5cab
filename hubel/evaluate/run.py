"""`evaluate_run`: a finished run judged on its own held-out data, or on other data."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hubel.config import FitConfig
from hubel.data.cache import Progress, Store, open_store
from hubel.data.loader import Loader, evaluation_batch
from hubel.data.prepare import positions_of
from hubel.data.source import SPLITS, Source, open_source
from hubel.data.targets import Labels
from hubel.engine import Engine, exact_engine, keep_freed_memory
from hubel.errors import UserError
from hubel.evaluate.classification import evaluate_classification
from hubel.evaluate.result import Evaluation
from hubel.inference import Trained, load_trained, outputs, read_train_digests
from hubel.runs import RunFolder
from hubel.views import with_views

__all__ = ["EvaluatedRun", "evaluate_run"]


@dataclass(frozen=True)
class EvaluatedRun:
    """An evaluation and where its samples come from."""

    evaluation: Evaluation
    trained: Trained
    source: Source
    notes: list[str]


def evaluate_run(
    run: RunFolder,
    data: str | None = None,
    split: str | None = None,
    progress: Progress | None = None,
    *,
    tta: str | None = None,
    model: str | None = None,
) -> EvaluatedRun:
    """Judge the network of `run`, in float32.

    Without `data`: the run's own test split, or its validation split where it has no test.
    With `data`: that data's test split, else its validation split, else all of it. `split`
    names another one. Every sample counts, none is dropped, none is augmented. `tta` says
    over which views of a sample outputs are averaged ("none", "all", "unsure"); by default as
    the run's settings do. `model` is that of `load_trained`.

    Raises `UserError` for an unknown split or class, or data that has no such samples.
    """
    keep_freed_memory()
    config = FitConfig.from_run(run.read_json("config.json"))
    if tta is not None:
        config = replace(config, tta=tta)
    trained = load_trained(run, model)
    source = open_source(config.data if data is None else data)
    dims = len(trained.preprocess.size)
    if source.info.spatial_dims != dims:
        raise UserError(
            f"DATA '{data}' has {source.info.spatial_dims} spatial dimensions, the run "
            f"'{run.path}' was trained on {dims}; name data of the same kind"
        )
    store = open_store(source, size=trained.preprocess.size, cache=config.cache, progress=progress)
    notes = [*source.notes, *store.notes] if data is not None else []
    if data is None:
        ids = run.read_json("split.json")
        name = split or ("test" if ids["test"] else "val")
        if not ids.get(name):
            have = ", ".join(f"'{s}'" for s in SPLITS if ids[s])
            raise UserError(f"--split '{name}' has no samples in this run; it has {have}")
        indices = positions_of(source, {name: ids[name]})[name]
        if store.fingerprint != run.read_json("data.json")["fingerprint"]:
            notes.append("the data has changed since the run was trained on it")
    else:
        name, indices = _choose(source, data, split)
    unreadable = int((~store.readable[indices]).sum())
    if unreadable:
        notes.append(f"{unreadable} unreadable samples are left out")
        indices = indices[store.readable[indices]]
    if len(indices) == 0:
        raise UserError(f"split '{name}' of '{source.path or config.data}' has no readable sample")
    targets = _translated(source, trained, indices)
    engine = exact_engine(config)
    if config.tta != "none":
        which = "the pictures it is unsure of" if config.tta == "unsure" else "every picture"
        notes.append(
            f"outputs are means over shifted and mirrored views of {which} (--tta none: of one)"
        )
    viewed = replace(trained, model=with_views(trained.model, config.tta, config.flip))
    probabilities = _probabilities(viewed, store, targets, indices, engine)
    evaluation = evaluate_classification(
        probabilities,
        targets[indices],
        trained.classes,
        [source.ids[int(i)] for i in indices],
        split=name,
        leaked=np.isin(store.digests[indices], read_train_digests(run)),
        seed=config.seed,
    )
    return EvaluatedRun(evaluation, trained, source, notes)


def _choose(source: Source, data: str, split: str | None) -> tuple[str, npt.NDArray[np.int64]]:
    """The split of other data to evaluate on: its name and its samples."""
    have = set(np.unique(source.splits))
    if split is not None and split not in have:
        shown = ", ".join(f"'{s}'" for s in sorted(have) if s) or "none: its samples have no split"
        raise UserError(f"--split '{split}' is not in '{data}'; it has {shown}")
    for name in (split,) if split else ("test", "val"):
        if name in have:
            return name, np.flatnonzero(source.splits == name)
    return "all", np.arange(len(source))


def _translated(
    source: Source, trained: Trained, indices: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """The source's targets as indices into the run's classes."""
    position = {name: i for i, name in enumerate(trained.classes)}
    table = np.array([position.get(name, -1) for name in source.info.classes], dtype=np.int64)
    targets: npt.NDArray[np.int64] = table[source.targets]
    unknown = indices[targets[indices] < 0]
    if len(unknown):
        name = source.info.classes[int(source.targets[unknown[0]])]
        raise UserError(
            f"class '{name}' of '{source.path or source.info.format}' is not one of the run's "
            f"({', '.join(trained.classes[:10])}{', …' if len(trained.classes) > 10 else ''}); "
            f"rename or remove it"
        )
    return targets


def _probabilities(
    trained: Trained,
    store: Store,
    targets: npt.NDArray[np.int64],
    indices: npt.NDArray[np.int64],
    engine: Engine,
) -> npt.NDArray[np.float32]:
    engine.place(trained.model)
    loader = Loader(
        store,
        Labels.of(targets),
        indices,
        trained.preprocess,
        evaluation_batch(store),
        seed=0,
        num_classes=len(trained.classes),
        device=engine.device,
    )
    output, _, _ = outputs(trained.model, loader.evaluation(), engine)
    probabilities: npt.NDArray[np.float32] = trained.task.probabilities(output).numpy()
    return probabilities
