"""What each candidate costs before it runs, and who is struck out for it.

Counted by `hubel.cost`; times are measured on a few samples, in about a second a network.
"""

import re
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from hubel.config import FitConfig
from hubel.cost.fit_cost import DataFacts
from hubel.cost.summary import count
from hubel.engine import exact_engine, out_of_memory
from hubel.errors import UserError, suggestion
from hubel.fits import check_fits
from hubel.models import Model, ModelSpec, Outputs
from hubel.network import network_of
from hubel.tasks import Task
from hubel.train.batch_size import bounded_batch_size
from hubel.train.forecast import likely_engine
from hubel.train.recipe import settle_batch_size

__all__ = ["FIGURES", "Constraint", "Price", "nearest", "price"]

_WARM_UP, _RUNS = 3, 15
_LONGEST_S = 0.5  # of measuring one network's latency
_BATCH = 32  # samples in a step that is timed
_COPIES = 4  # of each weight in training: itself, its gradient, two of the optimizer

FIGURES = {
    "params": "parameters",
    "macs": "multiply-accumulates of one sample",
    "latency_ms": "milliseconds for one sample, in float32 on this machine",
    "epoch_s": "seconds of a pass over the training split and a validation, told from two steps",
    "training_mb": "MB of what a training step keeps for its way back, and of weights, gradients "
    "and the optimizer's state",
}
"""What a constraint may name, and what the figure is."""


@dataclass(frozen=True)
class Price:
    """The figures of one candidate; those that could not be told are None."""

    params: int
    macs: int
    latency_ms: float
    epoch_s: float | None
    training_mb: float

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        return vars(self).copy()


@dataclass(frozen=True)
class Constraint:
    """`figure` at most, or at least, `limit`."""

    figure: str
    sign: str
    limit: float

    @classmethod
    def parse(cls, text: str) -> "Constraint":
        """From `latency_ms<=5`. Raises `UserError` for what is none."""
        found = re.fullmatch(r"\s*([a-z_]+)\s*(<=|>=|<|>)\s*([0-9.eE+-]+)\s*", text)
        try:
            limit = float(found[3]) if found else 0.0
        except ValueError:
            found = None
        if found is None:
            raise UserError(
                f"--constraint '{text}': write a figure, <= or >= and a number, as "
                f"latency_ms<=5; figures are {', '.join(FIGURES)}"
            )
        if found[1] not in FIGURES:
            raise UserError(
                f"--constraint '{text}': '{found[1]}' is no figure of a network; "
                f"{suggestion(found[1], FIGURES)}"
            )
        return cls(found[1], found[2].removesuffix("=") + "=", limit)

    def __str__(self) -> str:
        return f"{self.figure}{self.sign}{self.limit:g}"

    def excess(self, price: Price) -> float:
        """By which factor `price` is beyond the limit; at most 1 where it is within, or not
        known.
        """
        value = getattr(price, self.figure)
        if value is None:
            return 1.0
        over, under = float(value), self.limit
        if self.sign == ">=":
            over, under = under, over
        return over / under if under > 0 else float("inf") if over > under else 1.0


def nearest(prices: Mapping[str, Price], constraints: Sequence[Constraint]) -> tuple[str, float]:
    """The candidate that misses `constraints` least, and by which factor."""
    missed = {name: max(c.excess(p) for c in constraints) for name, p in prices.items()}
    name = min(missed, key=lambda n: missed[n])
    return name, missed[name]


def price(config: FitConfig, facts: DataFacts, task: Task) -> Price:
    """Of the network that `config` would train on data of `facts`.

    Raises `UserError` where it cannot be built for them.
    """
    config = settle_batch_size(config, facts.num_train)
    config, _ = bounded_batch_size(config, facts.num_train)
    spec = ModelSpec(
        config.model,
        facts.in_channels,
        task.num_outputs(len(facts.classes)),
        facts.size,
        config.dropout,
        config.stem,  # type: ignore[arg-type]
        config.width,
    )
    spec, model = network_of(spec)
    check_fits(model, spec.input_shape)
    network = task.network(model, len(facts.classes), spec.input_shape)
    counted = count(network, spec.input_shape, batch_size=max(config.batch_size, 2))
    latency_ms = _latency_ms(network, config, spec.input_shape)
    held = counted.training.kept_bytes + _COPIES * 4 * counted.params
    epoch_s = None
    if facts.num_train:
        train_s, validate_s = _sample_s(network, config, spec.input_shape)
        epoch_s = train_s * facts.num_train + validate_s * facts.num_val
    return Price(counted.params, counted.macs, latency_ms, epoch_s, held / 1e6)


def _sample_s(network: Model, config: FitConfig, shape: tuple[int, ...]) -> tuple[float, float]:
    """Seconds of one sample in a training step and in a validation, by the likely engine.

    Of the quicker of two steps of up to 32 samples: to strike out what is several times too slow
    that is enough, and a race of minutes has no time for more.
    """
    engine, _ = likely_engine(config, network, shape)
    engine.place(network)
    network.train()
    batch = min(max(config.batch_size, 2), _BATCH)
    input = engine.input(torch.zeros(batch, *shape))
    forward_s, step_s = [], []
    for _ in range(2):
        started = time.perf_counter()
        with engine.autocast():
            output = Outputs.of(network(input)).output
        forward_s.append(time.perf_counter() - started)
        output.float().sum().backward()
        if engine.device.type == "cuda":
            torch.cuda.synchronize(engine.device)
        step_s.append(time.perf_counter() - started)
        network.zero_grad()
    return min(step_s) / batch, min(forward_s) / batch


@torch.no_grad()
def _latency_ms(network: Model, config: FitConfig, shape: tuple[int, ...]) -> float:
    """Median time of one sample's forward pass; the network is left as it was."""
    engine = exact_engine(config)
    was_training = network.training
    engine.place(network)
    network.eval()
    input = engine.input(torch.zeros(1, *shape))
    times: list[float] = []
    try:
        while len(times) < _WARM_UP + _RUNS and sum(times) < _LONGEST_S:
            started = time.perf_counter()
            network(input)
            if engine.device.type == "cuda":
                torch.cuda.synchronize(engine.device)
            times.append(time.perf_counter() - started)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise UserError(f"the memory of {engine.device} is too small for one sample") from None
    finally:
        network.train(was_training)
    return 1000 * statistics.median(times[_WARM_UP:] or times)
