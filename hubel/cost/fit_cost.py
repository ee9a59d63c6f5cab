"""What a whole fit on a data set will take: its steps, its batches, its validation."""

import statistics
import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hubel.config import FitConfig
from hubel.cost.predict import Estimate, Prediction
from hubel.data.augment import Augment
from hubel.data.cache_build import look
from hubel.data.ingest import Reader, num_workers
from hubel.data.loader import Loader, batches_of
from hubel.data.prepare import input_size
from hubel.data.preprocess import Preprocess
from hubel.data.source import Source, UnreadableSampleError, open_source
from hubel.data.split import split_source
from hubel.data.store import Problem, Store
from hubel.data.targets import Labels
from hubel.engine import Engine
from hubel.errors import UserError

__all__ = ["DataFacts", "FitPrediction", "facts_of", "predict_fit"]

_DECODED = 24  # samples that are read to time reading
_BATCHES = 8  # that are made to time the making
_REST_BYTES = 130e6  # data, splits and checkpoints' code: fits of small networks hold that more


@dataclass(frozen=True)
class DataFacts:
    """What of a data set decides how long a fit takes, learned from a look at a few samples."""

    num_train: int
    num_val: int
    classes: tuple[str, ...]
    in_channels: int
    size: tuple[int, ...]
    dtype: str
    flip_safe: bool
    read_s: float
    """To read everything once; `hubel fit` does it for the first fit only, and keeps it."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(c, *spatial) of one sample."""
        return (self.in_channels, *self.size)


def facts_of(config: FitConfig) -> DataFacts:
    """Look at the data that `config` names. Raises `UserError` as a fit would."""
    source = open_source(config.data)
    size = input_size(config, source.info.spatial_dims)
    with Reader(source) as reader:
        layout = look(reader, size)
    usable = np.ones(len(source), dtype=bool)
    if source.poses is not None:
        raise UserError(
            f"--data '{source.name}': what a fit on poses costs is not predicted; give hubel fit a "
            f"--budget"
        )
    split = split_source(
        source, val_fraction=config.val_fraction, seed=config.holding_out, usable=usable
    )
    return DataFacts(
        len(split.train),
        len(split.val),
        source.info.classes,
        layout.in_channels,
        layout.size,
        layout.dtype,
        source.info.flip_safe,
        _read_s(source, layout.in_channels),
    )


def _read_s(source: Source, in_channels: int) -> float:
    times = []
    for i in np.linspace(0, len(source) - 1, min(_DECODED, len(source))).astype(int).tolist():
        start_s = time.perf_counter()
        try:
            source.decode(source.content(i), i, in_channels)
        except UnreadableSampleError:
            continue
        times.append(time.perf_counter() - start_s)
    return statistics.median(times or [0.0]) * len(source) / num_workers()


@dataclass(frozen=True)
class FitPrediction:
    """A fit on a data set, with the settings of `config`."""

    facts: DataFacts
    epochs: int
    steps: int
    """In one epoch."""
    batch_s: float
    """To make one training batch: gather, augment, normalise."""
    epoch_s: Estimate
    """Training and validation."""
    fit_s: Estimate
    """All epochs, with a look at the untrained network and a last validation in float32; without
    the start of the program and what a first step does once."""
    fit_bytes: Estimate
    """Most memory of the process: a step's, a checkpoint's copies, and the rest of hubel."""

    def to_json(self) -> dict[str, Any]:
        """For `hubel cost --json`."""
        return {
            "train_samples": self.facts.num_train,
            "val_samples": self.facts.num_val,
            "classes": len(self.facts.classes),
            "epochs": self.epochs,
            "steps_per_epoch": self.steps,
            "batch_s": self.batch_s,
            "read_s": self.facts.read_s,
            "epoch_s": self.epoch_s.to_json(),
            "fit_s": self.fit_s.to_json(),
            "peak_bytes": self.fit_bytes.to_json(),
        }


def predict_fit(
    prediction: Prediction, facts: DataFacts, config: FitConfig, engine: Engine
) -> FitPrediction:
    """From the prediction of one step to that of an epoch and of all `config.epochs`.

    `prediction` is for batches of `config.batch_size`; the last, smaller one counts for its share.
    """
    if config.flip == "auto":
        config = replace(config, flip="alternating" if facts.flip_safe else "none")
    visited = facts.num_train - int((1 - config.hard_share) * facts.num_train)
    steps = batches_of(visited, config.batch_size)
    batch_s = _batch_s(facts, config, engine)
    made = Estimate.within(batch_s, 1.15)
    train_s = prediction.step_s.plus(made).times(visited / config.batch_size)
    validation_s = prediction.inference_s.times(facts.num_val / prediction.batch_size)
    epoch_s = train_s.plus(validation_s)
    # Untrained, and the best at the end: the latter in float32, which takes about twice as long.
    beside_s = validation_s.times(2.0 if engine.precision == "fp32" else 3.0)
    fit_s = epoch_s.times(config.epochs).plus(beside_s)
    beside_bytes = 2 * prediction.steady_bytes + _REST_BYTES
    fit_bytes = prediction.step_bytes.plus(Estimate(*(beside_bytes,) * 3))
    return FitPrediction(facts, config.epochs, steps, batch_s, epoch_s, fit_s, fit_bytes)


@dataclass
class _Drawn:
    """A store of as many rows as the timing needs, all alike: only its shape matters."""

    size: tuple[int, ...]
    in_channels: int
    pixels: torch.Tensor | None
    readable: npt.NDArray[np.bool_]
    digests: npt.NDArray[np.bytes_]
    sizes: npt.NDArray[np.int32]
    channels: npt.NDArray[np.uint8]
    problems: list[Problem] = field(default_factory=list)
    fingerprint: str = ""
    notes: list[str] = field(default_factory=list)
    masks: Store | None = None

    def gather(self, indices: torch.Tensor) -> torch.Tensor:
        assert self.pixels is not None  # noqa: S101
        return self.pixels.index_select(0, indices)


def _batch_s(facts: DataFacts, config: FitConfig, engine: Engine) -> float:
    """Seconds of one batch out of the loader itself, at the data's size."""
    n = min(facts.num_train, _BATCHES * config.batch_size)
    rows = torch.zeros((n, *facts.size, facts.in_channels), dtype=getattr(torch, facts.dtype))
    store = _Drawn(
        facts.size,
        facts.in_channels,
        rows,
        np.ones(n, dtype=bool),
        np.zeros(n, "S32"),
        np.zeros((n, len(facts.size)), np.int32),
        np.ones(n, np.uint8),
    )
    scale = 255.0 if facts.dtype == "uint8" else 1.0
    zeros = (0.0,) * facts.in_channels
    loader = Loader(
        store,
        Labels.of(np.zeros(n, np.int64)),
        np.arange(n),
        Preprocess(facts.size, zeros, (1.0,) * facts.in_channels, scale),
        config.batch_size,
        config.seed,
        max(len(facts.classes), 2),
        augment=Augment.of(config, zeros),
        mixup=config.mixup,
        device=engine.device,
    )
    rounds = []
    for epoch in range(3):
        start_s = time.perf_counter()
        for batch in loader.epoch(epoch):
            engine.input(batch.input)
        rounds.append((time.perf_counter() - start_s) / len(loader))
    return min(rounds)
