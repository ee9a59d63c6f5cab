"""Putting a training together from a configuration and its data."""

import importlib.metadata
import platform
import shlex
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from hubel.config import FitConfig
from hubel.data.augment import Augment
from hubel.data.loader import Loader, Transform, evaluation_batch, resident
from hubel.data.paths import expanded
from hubel.data.posed import Posing
from hubel.data.prepare import Data
from hubel.data.preprocess import Preprocess
from hubel.data.targets import BoxTargets, Labels, Masks, PoseTargets, Targets
from hubel.engine import choose_engine
from hubel.errors import UserError
from hubel.fits import check_fits
from hubel.models import ModelSpec, Stem
from hubel.molecules.drawing import Drawing
from hubel.network import network_of
from hubel.python_file import file_sha256, is_own_file
from hubel.randomness import stream_seed
from hubel.runs import RunFolder
from hubel.shapes import format_shape
from hubel.tasks import Task
from hubel.train.distributed import Group
from hubel.train.freezing import Freezing, make_freezing
from hubel.train.lookahead import Lookahead
from hubel.train.optimizers import make_optimizer
from hubel.train.profile import NoProfile, Profile
from hubel.train.progressive import SMALLEST_SIDE
from hubel.train.recipe import begin, make_progressive
from hubel.train.roles import roles_of
from hubel.train.schedules import make_schedule
from hubel.train.selection import select
from hubel.train.signals import StopRequest
from hubel.train.training import Position, Report, Training
from hubel.transfer import TORCHVISION, load_pretrained
from hubel.world import World

__all__ = [
    "assemble",
    "optimizer_for",
    "run_facts",
    "targets_for",
]


def targets_for(task: Task, data: Data) -> Targets:
    """What `task` learns of each sample of `data`."""
    if task.labels == "boxes":
        assert data.source.boxes is not None  # noqa: S101 — `settle_task` has looked
        return BoxTargets.of(data.source.boxes, data.store, task.answer)
    if task.labels == "mask":
        assert data.store.masks is not None  # noqa: S101 — as above
        return Masks(data.store.masks)
    if data.source.poses is not None:
        return PoseTargets.of(data.source.poses, data.source.targets)
    return Labels.of(data.source.targets)


def _refuse_other_channels(pretrained: str, drawing: Drawing) -> None:
    """As many channels may stand for other atoms; a run says for which."""
    path = expanded(pretrained)
    run = RunFolder(path if path.is_dir() else path.parent)
    if not (run.has("config.json") and run.has("preprocess.json")):
        return
    theirs = Preprocess.from_json(run.read_json("preprocess.json")).drawing
    for part in ("receptor_channels", "ligand_channels"):
        if theirs is not None and getattr(theirs, part) != getattr(drawing, part):
            raise UserError(
                f"--pretrained '{pretrained}' has learned other {part.replace('_', ' ')} than "
                f"these data are drawn in; give --{part.replace('_', '-')} as that run had it "
                f"(its preprocess.json lists them)"
            )


def assemble(
    config: FitConfig,
    run: RunFolder,
    data: Data,
    task: Task,
    preprocess: Preprocess,
    stop: StopRequest,
    report: Report,
    transform: Transform | None,
    group: Group,
) -> tuple[Training, ModelSpec]:
    """The network, freshly initialised from the seed, and all that trains it."""
    engine = choose_engine(config, group.world)
    num_classes = len(data.source.info.classes)
    torch.manual_seed(stream_seed(config.seed, "model"))
    spec, model = network_of(
        ModelSpec(
            config.model,
            data.store.in_channels,
            task.num_outputs(num_classes),
            data.store.size,
            config.dropout,
            # Published weights have the paper's first layers, whatever the picture's size.
            "paper"
            if config.stem == "auto" and config.pretrained == TORCHVISION
            else cast(Stem, config.stem),
            config.width,
        )
    )
    if config.stem == "auto" and spec.stem == "small":
        size = format_shape(*spec.input_size)
        report({"note": f"small stem for {size} pixels (--stem paper takes the paper's)"})
    _check_outputs(config, tuple(check_fits(model, spec.input_shape)), spec.num_classes)
    # A resumed run has its own weights; the first process says so before it writes anything.
    begun_before = bool(group.text("yes" if run.has("pretrained.json") else ""))
    if config.pretrained and not begun_before:
        if preprocess.drawing is not None:
            _refuse_other_channels(config.pretrained, preprocess.drawing)
        loaded = load_pretrained(
            model,
            spec,
            config.pretrained,
            lambda what, done, total: report({"stage": what, "count": done, "total": total}),
        )
        run.write_json("pretrained.json", loaded.to_json())
        report({"note": loaded.sentence()})
    model = task.network(model, num_classes, spec.input_shape)
    beginning = begin(model, config, data.store, data.split.train, preprocess)
    if beginning:
        report({"note": beginning})
    engine.place(model)
    freezing = make_freezing(model, config)
    if freezing.sentence():
        report({"note": freezing.sentence()})
    train_targets = data.source.targets[data.split.train]
    class_weights = None
    if config.class_weights:
        counts = np.bincount(train_targets, minlength=num_classes).clip(1)
        weights = len(train_targets) / (num_classes * counts)
        class_weights = torch.tensor(weights, dtype=torch.float32, device=engine.device)
    augment = posing = None
    if task.answer == "pose":
        posing = Posing(config.turns == "free", config.translate)
    else:
        augment = Augment.of(config, tuple(m * preprocess.scale for m in preprocess.mean))
    loader = Loader(
        data.store,
        targets_for(task, data),
        data.split.train,
        preprocess,
        max(config.batch_size, 1),  # until `auto` is measured
        config.seed,
        num_classes,
        augment=augment,
        posing=posing,
        transform=transform,
        mixup=config.mixup,
        balanced=config.balanced_sampling or task.answer == "pose",
        device=engine.device,
        world=group.world,
        resident=resident(data.store, engine.device),
    )
    num_outputs = task.num_outputs(num_classes)
    with group.first_before_others():  # the first writes the difficulties, the others read them
        whole = replace(loader, world=World())
        whole = select(whole, config.hard_share, run, task, engine, num_outputs)
    loader = replace(whole, world=group.world)
    validation = replace(
        loader,
        difficulty=None,
        hard_share=1.0,
        indices=data.split.val,
        batch_size=evaluation_batch(data.store),
        augment=None,
        posing=None,
        transform=None,
        mixup=0.0,
        balanced=False,
    )
    average = None
    if config.ema > 0:
        average = AveragedModel(model, multi_avg_fn=_averaging(config.ema))
    # The training's own stream for dropout, apart from the weights' one.
    rank = group.world.rank
    torch.manual_seed(stream_seed(config.seed, "training", *((rank,) if rank else ())))
    training = Training(
        config=config,
        run=run,
        model=model,
        average=average,
        task=task,
        loader=loader,
        validation=validation,
        optimizer=optimizer_for(model, config, freezing, spec.input_shape),
        schedule=make_schedule(config),
        engine=engine,
        stop=stop,
        report=report,
        class_weights=class_weights,
        scaler=torch.amp.GradScaler(engine.device.type, enabled=engine.precision == "fp16"),
        at=Position(accumulate=config.accumulate),
        freezing=freezing,
        group=group,
        profile=Profile(engine.device) if config.profile else NoProfile(),
        lookahead=Lookahead(model, config.lookahead) if config.lookahead else None,
        progressive=make_progressive(model, config, spec.input_shape),
    )
    if training.progressive is None and config.changed_from_default().get("progressive", 1.0) < 1.0:
        report(
            {
                "note": f"--progressive {config.progressive:g} is left out: the pictures are "
                f"smaller than {SMALLEST_SIDE} pixels, or the network takes one size only"
            }
        )
    return training, spec


def _averaging(decay: float) -> Callable[[Any, Any, Any], None]:
    """The rule of the averaged weights: of `decay` once the steps are many, before that of less,
    (1 + n) / (10 + n) after n steps, so that a short training does not keep its first weights.
    """

    @torch.no_grad()
    def update(averaged: Any, current: Any, num_averaged: Any) -> None:
        n = float(num_averaged)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + n) / (10 + n)))

    return update


def _check_outputs(config: FitConfig, got: tuple[int, ...], num_outputs: int) -> None:
    if got != (num_outputs,):
        raise UserError(
            f"--model '{config.model}' gives outputs of {format_shape(*got)} for one sample, the "
            f"data's classes need {num_outputs}; end it in a layer with {num_outputs} outputs"
        )


def optimizer_for(
    model: nn.Module, config: FitConfig, freezing: Freezing, input_shape: tuple[int, ...]
) -> torch.optim.Optimizer:
    """The optimizer of `config`; what it does with a layer depends on the batch size too."""
    samples = max(config.batch_size, 1)  # 1 until `auto` is measured
    return make_optimizer(model, config, freezing, roles_of(model, input_shape, samples))


def run_facts(t: Training, spec: ModelSpec, *, custom_transform: bool) -> dict[str, Any]:
    """What run.json says: enough to know how this run came about."""
    packages = ("hubel", "torch", "torchvision", "numpy", "pillow", "safetensors")
    return {
        "run": str(t.run.path),
        "task": t.task.name,
        "model": spec.name,
        "spec": asdict(spec),
        "model_file_sha256": file_sha256(spec.name) if is_own_file(spec.name) else None,
        "params": sum(p.numel() for p in t.model.parameters()),
        "engine": str(t.engine),
        "seed": t.config.seed,
        "custom_transform": custom_transform,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": _command(t.config),
        "environment": {
            "python": platform.python_version(),
            "system": platform.platform(),
            "machine": platform.machine(),
            "threads": torch.get_num_threads(),
            "processes": t.group.world.size,
            **{name: importlib.metadata.version(name) for name in packages},
        },
    }


def _command(config: FitConfig) -> str:
    """The command line that trains the same again."""
    words = ["hubel", "fit", config.data]
    for name, value in config.changed_from_default().items():
        option = "--" + name.replace("_", "-")
        if name == "data":
            continue
        if isinstance(value, bool):
            words.append(option if value else option.replace("--", "--no-", 1))
        elif isinstance(value, tuple):
            words += [option, "x".join(str(v) for v in value)]
        else:
            words += [option, str(value)]
    return shlex.join(words)
