"""What each candidate costs before it runs, and who is struck out for it.

Counted and predicted by `hubel.cost`; the latency is measured, since a forward pass takes
milliseconds.
"""

import re
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from hubel.config import FitConfig
from hubel.cost.fit_cost import DataFacts, predict_fit
from hubel.cost.summary import count
from hubel.engine import exact_engine, out_of_memory
from hubel.errors import UserError, suggestion
from hubel.fits import check_fits
from hubel.models import Model, ModelSpec
from hubel.network import network_of
from hubel.tasks import Task
from hubel.train.batch_size import bounded_batch_size
from hubel.train.forecast import forecast_here
from hubel.train.recipe import settle_batch_size

__all__ = ["FIGURES", "Constraint", "Price", "nearest", "price"]

_WARM_UP, _RUNS = 3, 15
_LONGEST_S = 1.0  # of measuring one network's latency

FIGURES = {
    "params": "parameters",
    "macs": "multiply-accumulates of one sample",
    "latency_ms": "milliseconds for one sample, in float32 on this machine",
    "epoch_s": "predicted seconds of one pass over the training split and a validation",
    "training_mb": "predicted most memory in training, in MB",
}
"""What a constraint may name, and what the figure is."""


@dataclass(frozen=True)
class Price:
    """The figures of one candidate; those that could not be told are None."""

    params: int
    macs: int
    latency_ms: float
    epoch_s: float | None
    training_mb: float | None

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
    )
    spec, model = network_of(spec)
    check_fits(model, spec.input_shape)
    network = task.network(model, len(facts.classes), spec.input_shape)
    counted = count(network, spec.input_shape, batch_size=1)
    latency_ms = _latency_ms(network, config, spec.input_shape)
    epoch_s, training_mb = _of_training(network, config, facts, spec.input_shape)
    return Price(counted.params, counted.macs, latency_ms, epoch_s, training_mb)


def _of_training(
    network: Model, config: FitConfig, facts: DataFacts, shape: tuple[int, ...]
) -> tuple[float | None, float | None]:
    """Seconds of an epoch and megabytes, None where they cannot be predicted."""
    if facts.num_train == 0:
        return None, None
    found, engine, _ = forecast_here(config, network, shape)
    fit = predict_fit(found, facts, replace(config, epochs=1), engine)
    return fit.epoch_s.value, fit.fit_bytes.value / 1e6


@torch.inference_mode()
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
