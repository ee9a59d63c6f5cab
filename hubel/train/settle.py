"""What a configuration leaves to the data, decided: task, network, mirroring, normalisation."""

from dataclasses import replace
from pathlib import Path

from hubel.config import AUTO, FitConfig
from hubel.data.prepare import Data
from hubel.data.preprocess import Preprocess
from hubel.data.source import Source
from hubel.data.store import Store
from hubel.errors import UserError
from hubel.models import MODELS
from hubel.tasks import TASKS
from hubel.train.optimizers import usual_rate
from hubel.transfer import TORCHVISION, published_weights

__all__ = ["settle_flip", "settle_model", "settle_preprocess", "settle_task"]

_USUAL = {"class": "classify", "boxes": "detect", "mask": "segment", "pose": "rank_poses"}
_FOR_MINUTES, _FOR_TINY, _FOR_BOXES, _FOR_MASKS = "swift_s", "simple", "resnet18", "swift_m"
_FOR_POSES = "contacts"


def settle_model(config: FitConfig, store: Store) -> tuple[FitConfig, str]:
    """`config` with the model "auto" decided by task and size, and a sentence that says so.

    Boxes are read off maps of several strides, and need a network that has something to say in
    each, where swift keeps its width for the last.
    """
    if config.model != AUTO:
        return config, ""
    if TASKS[config.task].answer == "pose":
        return replace(config, model=_FOR_POSES), f"network: {_FOR_POSES} (--model takes another)"
    fits = min(store.size) >= MODELS[_FOR_MINUTES].smallest
    of_pictures = {"boxes": _FOR_BOXES, "mask": _FOR_MASKS} if len(store.size) == 2 else {}
    name = of_pictures.get(TASKS[config.task].answer, _FOR_MINUTES) if fits else _FOR_TINY
    return replace(config, model=name), f"network: {name} (--model takes another)"


def settle_task(config: FitConfig, source: Source) -> tuple[FitConfig, str]:
    """`config` with the task "auto" decided by the labels, and a sentence where it was a choice.

    Raises `UserError` where the data are not labelled for the task that was asked for.
    """
    possible = _possible_tasks(source)
    note = ""
    if config.task == AUTO and possible:
        config = replace(config, task=possible[0])
        note = f"task: {config.task} (--task takes another)" if len(possible) > 1 else ""
    if config.task != AUTO:
        TASKS[config.task]  # an unknown one is told
    if config.task not in possible:
        have = {
            "class": "one class a sample",
            "boxes": "boxes",
            "mask": "masks",
            "pose": "poses",
        }
        fix = f"give --task {' or '.join(possible)}" if possible else "name other data"
        raise UserError(
            f"--task {config.task} cannot be learned from DATA '{config.data}', whose labels are "
            f"{have[source.info.labels]}; {fix}"
        )
    task = TASKS[config.task]
    if config.mosaic and task.answer != "boxes":
        raise UserError(
            f"--mosaic shows the objects of four pictures at once, which --task detect learns "
            f"from and --task {config.task} does not; leave it out"
        )
    if config.turns == "free" and task.answer != "pose":
        raise UserError(
            f"--turns free moves atoms, and --task {config.task} has pictures; give --turns plane "
            f"or all"
        )
    if task.answer == "pose":
        _refuse_for_poses(config)
    if config.turns == AUTO:
        config = replace(config, turns="free" if task.answer == "pose" else "none")
    left = {name: v for name, v in task.defaults.items() if getattr(config, name) is None}
    config = replace(config, **left)
    if config.lr is None and task.rate != 1.0:
        config = replace(config, lr=task.rate * usual_rate(config.optimizer))
    if task.answer == "pose":
        views = "none" if config.tta == "none" else "all"  # of what is moved nobody is unsure
        return replace(_without_classes(replace(config, tta="none")), tta=views), note
    return (config if task.answer == "class" else _without_classes(config)), note


def _refuse_for_poses(config: FitConfig) -> None:
    """Poses are moved by turns and shifts; mirrored they would be other molecules."""
    asked = {
        "--flip": config.flip not in ("auto", "none"),
        "--turns": config.turns not in ("auto", "none", "free"),
        "--resized-crop": config.resized_crop < 1,
        "--rotate": config.rotate > 0,
        "--jitter": config.jitter > 0,
        "--cutout": config.cutout > 0,
        "--scale": bool(config.scale),
    }
    for option, given in asked.items():
        if given:
            raise UserError(
                f"{option} changes pictures, and --task {config.task} sees atoms, which are turned "
                f"(--turns free or none) and shifted (--translate); leave it out"
            )


def _without_classes(config: FitConfig) -> FitConfig:
    """`config` for a task whose targets are not one class a sample: without what needs it."""
    for option, asked in {
        "--mixup mixes classes": config.mixup > 0,
        "--balanced-sampling draws by class": config.balanced_sampling,
        "--hard-share asks a classifier": config.hard_share < 1,
        "--tta all averages over classes": config.tta == "all",
        "--class-weights counts samples of a class": config.class_weights,
    }.items():
        if asked:
            raise UserError(f"{option}, and --task {config.task} has other targets; leave it out")
    return replace(config, tta="none")


def _possible_tasks(source: Source) -> list[str]:
    """That the labels serve, the usual one first: one box a picture is a class and a place."""
    first = [_USUAL[source.info.labels]]
    alone = source.boxes is not None and bool((source.boxes.counts == 1).all())
    if alone:
        first = ["localize", "classify", "detect"]
    fitting = [name for name in TASKS.names() if TASKS[name].labels == source.info.labels]
    others = [name for name in fitting if alone or TASKS[name].answer != "box"]
    return first + [name for name in others if name not in first]


def settle_flip(config: FitConfig, data: Data) -> tuple[FitConfig, str]:
    """`config` with flip "auto" decided by the data, and a sentence that says so."""
    if config.flip != "auto":
        return config, ""
    if data.source.poses is not None:
        return replace(config, flip="none"), ""  # the mirror image is another molecule
    if data.source.info.flip_safe:
        return replace(config, flip="random" if config.recipe == "plain" else "alternating"), ""
    return replace(config, flip="none"), (
        "no mirroring: the classes look like digits or letters, or like left and right "
        "(--flip alternating turns it on)"
    )


def settle_preprocess(config: FitConfig, preprocess: Preprocess) -> tuple[Preprocess, str]:
    """`preprocess` as published weights expect it, and a sentence that says so.

    Pictures of one or three channels are normalised as torchvision's were (a grey one by the
    mean of the three); other data, and weights from elsewhere, by the training split's own.
    """
    if not config.pretrained:
        return preprocess, ""
    published = published_weights(config.model)
    asked = (TORCHVISION, "" if published is None else published.name)
    if published is None or Path(config.pretrained).name not in asked:
        return preprocess, ""
    if preprocess.scale != 255.0 or preprocess.in_channels not in (1, 3):
        return preprocess, (
            "the published weights are for pictures of 8 bits, grey or in colour: this data is "
            "normalised by its own mean and deviation"
        )
    mean, std = published.mean, published.std
    if preprocess.in_channels == 1:
        mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
    shown = ", ".join(f"{m:.3f} ± {s:.3f}" for m, s in zip(mean, std, strict=True))
    return replace(preprocess, mean=mean, std=std), (
        f"input normalised as the published weights expect it ({shown})"
    )
