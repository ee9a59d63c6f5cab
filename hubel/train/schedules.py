"""Learning-rate schedules: functions from the share of training done to a share of the peak.

The share is of steps when epochs are given and of time when a budget is given, so every
schedule ends when the training does.
"""

import math
from collections.abc import Callable

from hubel.config import FitConfig

__all__ = ["Schedule", "make_schedule"]

_START = 0.1
"""Of the peak, at the first step: a training of one step is to learn something, too."""

Schedule = Callable[[float], float]
"""schedule(done in [0, 1]) -> factor in [0, 1]."""


def make_schedule(config: FitConfig) -> Schedule:
    """The schedule that `config` names."""
    warmup = config.warmup

    def rising(done: float) -> float:
        return _START + (1 - _START) * done / warmup

    def constant(done: float) -> float:
        return 1.0

    def step(done: float) -> float:
        """A tenth after half of the training, a hundredth after three quarters."""
        return 1.0 if done < 0.5 else 0.1 if done < 0.75 else 0.01

    def cosine(done: float) -> float:
        """Half a cosine to zero (Loshchilov & Hutter 2017, arXiv 1608.03983) after warm-up."""
        if done < warmup:
            return rising(done)
        return 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))

    def triangular(done: float) -> float:
        """Up over the warm-up, then straight down to zero (Smith & Topin 2019, 1708.07120)."""
        if done < warmup:
            return rising(done)
        return (1 - done) / (1 - warmup)

    chosen = {"constant": constant, "step": step, "cosine": cosine, "triangular": triangular}
    schedule = chosen[config.schedule]
    return lambda done: schedule(min(max(done, 0.0), 1.0))
