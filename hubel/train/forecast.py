"""What a fit would do, for `hubel cost` to predict: by which engine, with which optimizer."""

import torch
from torch import nn

from hubel.config import FitConfig
from hubel.cost.predict import Prediction, predict
from hubel.cost.probe import Timings
from hubel.engine import Engine, choose_engine, keep_freed_memory
from hubel.train.engine import known_engine
from hubel.train.freezing import make_freezing
from hubel.train.optimizers import use_precision
from hubel.train.recipe import make_progressive
from hubel.train.setup import optimizer_for

__all__ = ["forecast", "forecast_here", "left_out", "likely_engine"]


def forecast_here(
    config: FitConfig, model: nn.Module, input_shape: tuple[int, ...], *, again: bool = False
) -> tuple[Prediction, Engine, str]:
    """The prediction for a fit by `config` on this machine, its engine, and how that is known.

    What was measured of the machine is kept for the next time, unless it was busy; `again`
    forgets what is kept. Raises `UserError` for an engine that the device has not got.
    """
    keep_freed_memory()  # as a fit does
    engine, how = likely_engine(config, model, input_shape)
    timings = Timings(engine, again=again)
    found = forecast(config, model, input_shape, engine, timings)
    if not found.busy:
        timings.save()
    return found, engine, how


def likely_engine(
    config: FitConfig, model: nn.Module, input_shape: tuple[int, ...]
) -> tuple[Engine, str]:
    """The engine by which `config` would train `model` on (c, *spatial), and how that is known."""
    engine = choose_engine(config)
    if config.engine != "auto":
        return engine, "asked for"
    known = known_engine(config, model, input_shape, engine.device)
    return (engine, "likely") if known is None else (known, "measured by an earlier fit")


def forecast(
    config: FitConfig,
    model: nn.Module,
    input_shape: tuple[int, ...],
    engine: Engine,
    timings: Timings,
) -> Prediction:
    """The prediction for `model` with the optimizer of `config`."""

    def optimizer(twin: nn.Module) -> torch.optim.Optimizer:
        made = optimizer_for(twin, config, make_freezing(twin, config), input_shape)
        use_precision(made, engine.precision)
        return made

    return predict(
        model,
        input_shape,
        config.batch_size,
        engine,
        timings,
        optimizer=optimizer,
        lookahead=config.lookahead,
    )


def left_out(
    config: FitConfig, model: nn.Module, input_shape: tuple[int, ...], engine: Engine
) -> list[str]:
    """What a fit of `model` does that the prediction does not know, in sentences."""
    found = []
    progressive = make_progressive(model, config, input_shape)
    if progressive is not None:
        found.append(
            f"not included: a fit begins on pictures of {progressive.share(0.0):g} of the side, "
            f"which is quicker (--progressive 1 of hubel fit turns it off)"
        )
    if engine.compiled:
        found.append("not included: what compiling saves; times are of the network as written")
    return found
