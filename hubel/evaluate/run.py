"""`evaluate_run`: a finished run judged on its own held-out data, or on other data."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias, cast

import numpy as np
import numpy.typing as npt
import torch

from hubel.config import FitConfig
from hubel.data.boxes import Boxes
from hubel.data.cache import Progress, open_store
from hubel.data.loader import Batch, Loader, evaluation_batch
from hubel.data.posed import ORIENTATIONS, PoseSource
from hubel.data.poses import GOOD
from hubel.data.prepare import positions_of
from hubel.data.source import SPLITS, Source, open_source
from hubel.data.store import Store
from hubel.data.targets import Labels
from hubel.engine import Engine, exact_engine, keep_freed_memory
from hubel.errors import UserError
from hubel.evaluate.classification import evaluate_classification
from hubel.evaluate.detection import DetectionEvaluation, evaluate_detection
from hubel.evaluate.localization import LocalizationEvaluation, evaluate_localization
from hubel.evaluate.ranking import PoseScores, RankingEvaluation, evaluate_ranking
from hubel.evaluate.result import Evaluation
from hubel.evaluate.segmentation import LabelMap, SegmentationEvaluation, SegmentedSplit
from hubel.evaluate.segmenting import evaluate_maps
from hubel.inference import Trained, batch_outputs, load_trained, outputs, read_train_digests
from hubel.metrics.boxes import Predictions
from hubel.metrics.consensus import Consensus
from hubel.runs import RunFolder
from hubel.shapes import format_shape
from hubel.tasks import Answer, AnswersBox, AnswersBoxes, AnswersClass, AnswersMask, AnswersPose
from hubel.views import with_tta, with_views

__all__ = ["AnyEvaluation", "EvaluatedRun", "evaluate_run"]

AnyEvaluation: TypeAlias = (
    Evaluation
    | LocalizationEvaluation
    | DetectionEvaluation
    | SegmentationEvaluation
    | RankingEvaluation
)


@dataclass(frozen=True)
class EvaluatedRun:
    """An evaluation and where its samples come from.

    `masks` are truth and prediction, by their names, of the samples that a report of
    segmentation draws; `poses` what each was given, where poses are ranked.
    """

    evaluation: AnyEvaluation
    trained: Trained
    source: Source
    notes: list[str]
    masks: Mapping[str, tuple[LabelMap, LabelMap]] = field(default_factory=dict)
    poses: PoseScores | None = None


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
    trained = load_trained(run, model)
    config = with_tta(config, tta, trained.task)
    source = open_source(config.data if data is None else data)
    if isinstance(source, PoseSource) and trained.preprocess.drawing is not None:
        source = source.drawn_as(trained.preprocess.drawing)
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
        raise UserError(f"split '{name}' of '{source.name}' has no readable sample")
    engine = exact_engine(config)
    leaked = np.isin(store.digests[indices], read_train_digests(run))
    if data is None and name == "train":
        leaked[:] = False
        notes.append("WARNING: the network was trained on these very samples")
    if config.tta != "none" and trained.task.answer != "pose":
        which = "the pictures it is unsure of" if config.tta == "unsure" else "every picture"
        notes.append(
            f"outputs are means over shifted and mirrored views of {which} (--tta none: of one)"
        )
        viewed = with_views(trained.model, config.tta, config.flip)
        trained = replace(trained, model=viewed)
    held = _HeldOut(
        trained,
        source,
        store,
        indices,
        _class_table(source, trained),
        name,
        leaked,
        config.seed,
        engine,
        config.cache,
        progress,
        ORIENTATIONS if config.tta != "none" else 1,
        _consensus(run),
    )
    notes += held.notes()
    judged = _JUDGES[trained.task.answer](held)
    if isinstance(judged, SegmentedSplit):
        return EvaluatedRun(judged.evaluation, trained, source, notes, judged.worst)
    if isinstance(judged, tuple):
        return EvaluatedRun(judged[0], trained, source, notes, poses=judged[1])
    return EvaluatedRun(judged, trained, source, notes)


@dataclass(frozen=True)
class _HeldOut:
    """What a network is judged on: samples `indices` of a source, of which those `leaked` (n,) are
    copies of training samples. `table` gives each of the source's classes its number in the
    run's, -1 for one that the run does not know. Poses are looked at in several `orientations`.
    """

    trained: Trained
    source: Source
    store: Store
    indices: npt.NDArray[np.int64]
    table: npt.NDArray[np.int64]
    split: str
    leaked: npt.NDArray[np.bool_]
    seed: int
    engine: Engine
    cache: bool
    progress: Progress | None
    orientations: int
    consensus: Consensus | None

    @property
    def ids(self) -> list[str]:
        return [self.source.ids[int(i)] for i in self.indices]

    def outputs(self, orientation: int = 0) -> torch.Tensor:
        """Of the network for each sample, in order."""
        batches = self._batches(orientation)
        return outputs(self.trained.model, batches, self.engine, lambda o, y: (o, y))[0]

    def batch_outputs(self) -> Iterator[tuple[torch.Tensor, Batch]]:
        """The same batch by batch."""
        return batch_outputs(self.trained.model, self._batches(), self.engine)

    def sides(self) -> npt.NDArray[np.int64]:
        """Width, height, width, height of each sample in pixels, (n, 4): corners are of these."""
        return np.tile(self.store.sizes[self.indices][:, ::-1], 2).astype(np.int64)

    def boxes(self) -> Boxes:
        """The true ones, in the run's classes. Raises `UserError` where there are none."""
        if self.source.boxes is None:
            raise UserError(
                f"DATA '{self.source.name}' has no boxes to judge --task {self.trained.task.name} "
                f"by; name data with boxes"
            )
        if (self.table < 0).all():
            raise UserError(
                f"DATA '{self.source.name}' has none of the run's classes "
                f"({', '.join(self.trained.classes[:10])}); name data with boxes of these"
            )
        return self.source.boxes.take(self.indices, self.table)

    def notes(self) -> list[str]:
        """What figures of boxes and masks leave out, or take in; those of classes say it
        themselves.
        """
        if self.trained.task.answer == "class":
            return []
        notes = []
        if self.leaked.any():
            notes.append(
                f"WARNING: {int(self.leaked.sum())} of the samples are exact copies of training "
                f"samples"
            )
        if self.source.boxes is not None:
            everything = np.arange(len(self.source.info.classes))
            numbers = self.source.boxes.take(self.indices, everything).classes
            unknown = numbers[self.table[numbers] < 0]
            if len(unknown):
                names = [f"'{self.source.info.classes[i]}'" for i in np.unique(unknown)]
                shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
                notes.append(
                    f"{len(unknown)} boxes of {shown}, which the network does not know, are not "
                    f"asked for: what it finds there counts as wrong"
                )
        return notes

    def _batches(self, orientation: int = 0) -> Iterator[Batch]:
        self.engine.place(self.trained.model)
        loader = Loader(
            self.store,
            Labels.of(np.zeros(len(self.source), np.int64)),
            self.indices,
            self.trained.preprocess,
            evaluation_batch(self.store),
            seed=0,
            num_classes=len(self.trained.classes),
            device=self.engine.device,
        )
        return loader.evaluation(orientation)


def _classified(held: _HeldOut) -> Evaluation:
    labels, boxes = held.source.info.labels, held.source.boxes
    several = boxes is not None and bool((boxes.counts[held.indices] != 1).any())
    if labels == "mask" or several:
        what = "a class for every pixel" if labels == "mask" else "none or several boxes a picture"
        raise UserError(
            f"DATA '{held.source.name}' has {what}, and --task {held.trained.task.name} is judged "
            f"by one class a sample; name data with one each"
        )
    targets = held.table[held.source.targets]
    unknown = held.indices[targets[held.indices] < 0]
    if len(unknown):
        classes = held.trained.classes
        raise UserError(
            f"class '{held.source.info.classes[int(held.source.targets[unknown[0]])]}' of "
            f"'{held.source.name}' is not one of the run's "
            f"({', '.join(classes[:10])}{', …' if len(classes) > 10 else ''}); rename or remove it"
        )
    return evaluate_classification(
        cast(AnswersClass, held.trained.task).probabilities(held.outputs()).numpy(),
        targets[held.indices],
        held.trained.classes,
        held.ids,
        split=held.split,
        leaked=held.leaked,
        seed=held.seed,
    )


def _localized(held: _HeldOut) -> LocalizationEvaluation:
    truth = held.boxes()
    task, output = cast(AnswersBox, held.trained.task), held.outputs()
    probabilities = task.probabilities(output).numpy()
    corners = task.box(output).numpy() * held.sides()
    rows = np.column_stack([probabilities.argmax(1), probabilities.max(1), corners])
    return evaluate_localization(
        truth,
        Predictions.of(list(rows[:, None])),
        held.trained.classes,
        held.ids,
        split=held.split,
        seed=held.seed,
    )


def _detected(held: _HeldOut) -> DetectionEvaluation:
    truth = held.boxes()
    task = cast(AnswersBoxes, held.trained.task)
    found = [rows.cpu() for output, _ in held.batch_outputs() for rows in task.boxes(output)]
    in_pixels = [
        np.hstack([rows[:, :2], rows[:, 2:] * sides])
        for rows, sides in zip((r.double().numpy() for r in found), held.sides(), strict=True)
    ]
    return evaluate_detection(
        truth,
        Predictions.of(in_pixels),
        held.trained.classes,
        held.ids,
        split=held.split,
        seed=held.seed,
    )


def _segmented(held: _HeldOut) -> SegmentedSplit:
    """At the size of the samples themselves where all have one, else at the network's."""
    if held.source.masks is None:
        raise UserError(
            f"DATA '{held.source.name}' has no masks to judge --task {held.trained.task.name} by; "
            f"name data with masks"
        )
    if (held.table < 0).all():
        raise UserError(
            f"DATA '{held.source.name}' has none of the run's classes "
            f"({', '.join(held.trained.classes[:10])}); name data with masks of these"
        )
    task = cast(AnswersMask, held.trained.task)
    own = held.store.sizes[held.indices]
    alike = bool((own == own[0]).all())
    size = tuple(own[0].tolist()) if alike else held.store.size
    split = evaluate_maps(
        ((task.maps(output), batch.ids) for output, batch in held.batch_outputs()),
        open_store(held.source.masks, size=size, cache=held.cache, progress=held.progress),
        held.source.info.classes,
        held.source.ids,
        held.trained.classes,
        split=held.split,
        seed=held.seed,
    )
    if alike:
        return split
    note = f"sizes differ: masks are judged at the network's, {format_shape(*size)}"
    evaluation = split.evaluation
    return replace(split, evaluation=replace(evaluation, notes=(*evaluation.notes, note)))


def _ranked(held: _HeldOut) -> tuple[RankingEvaluation, PoseScores]:
    poses = held.source.poses
    if poses is None:
        raise UserError(
            f"DATA '{held.source.name}' has no poses to judge --task {held.trained.task.name} by; "
            f"name data with poses"
        )
    task = cast(AnswersPose, held.trained.task)
    views = []
    for orientation in range(held.orientations):
        if held.progress is not None:
            held.progress("looking at poses", orientation, held.orientations)
        views.append(task.log_odds(held.outputs(orientation)).double().numpy())
    return evaluate_ranking(
        np.array(views),
        poses.docking_score[held.indices].astype(np.float64),
        held.source.targets[held.indices] == GOOD,
        poses.ligand_of[held.indices],
        poses.names,
        held.ids,
        consensus=held.consensus,
        split=held.split,
        seed=held.seed,
    )


def _consensus(run: RunFolder) -> Consensus | None:
    """The weights that a scorer of poses found on the validation split."""
    return Consensus.of_run(run.read_json("result.json")["metrics"], run.path)


_Judged: TypeAlias = AnyEvaluation | SegmentedSplit | tuple[RankingEvaluation, PoseScores]

_JUDGES: dict[Answer, Callable[[_HeldOut], _Judged]] = {
    "class": _classified,
    "box": _localized,
    "boxes": _detected,
    "mask": _segmented,
    "pose": _ranked,
}


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


def _class_table(source: Source, trained: Trained) -> npt.NDArray[np.int64]:
    """The number in the run's classes of each of the source's, -1 where it has none."""
    position = {name: i for i, name in enumerate(trained.classes)}
    return np.array([position.get(name, -1) for name in source.info.classes], dtype=np.int64)
