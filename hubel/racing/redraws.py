"""What the scores of trials would have been on other samples, and with other seeds.

The validation samples are drawn again with replacement, groups of samples together, the same draw
for all trials (Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 8): networks
that fail on the same samples rise and fall together, so their differences are known better than
either score. What chance does in a training is seen between the seeds of one candidate; it is
pooled over the candidates of a rung, since two or three seeds say little alone.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hubel.inference import Validation
from hubel.randomness import stream_seed

__all__ = ["Scores", "redrawn", "seed_spread", "with_seeds"]

Scores = dict[str, npt.NDArray[np.float64]]
"""By candidate (num_draws,): its mean over the seeds in each redraw."""

_MOST, _LEAST = 400, 40
_LONGEST_S = 20.0


def redrawn(
    validations: Mapping[tuple[str, int], Validation],
    score: Callable[[Mapping[str, Any]], float],
    metrics: Callable[[torch.Tensor, torch.Tensor], Mapping[str, Any]],
    seed: int,
) -> Scores:
    """Mean scores of the candidates of one rung in up to 400 redraws of the validation samples.

    Parameters
    ----------
    validations: by candidate and seed what its trial said; all of one split, in one order.
    score, metrics: from outputs and targets (n, …) to the figure that the race is about.

    Fewer redraws are made, 40 at least, where they would take longer than 20 seconds. Redraws in
    which a score is not defined are NaN.
    """
    units = next(iter(validations.values())).units.numpy()
    _, unit_of = np.unique(units, return_inverse=True)
    members = np.split(np.argsort(unit_of, kind="stable"), np.cumsum(np.bincount(unit_of))[:-1])
    stream = np.random.default_rng(stream_seed(seed, "redraws"))
    names = list(dict.fromkeys(name for name, _ in validations))
    drawn: dict[str, list[float]] = {name: [] for name in names}
    started = time.monotonic()
    for number in range(_MOST):
        if number >= _LEAST and time.monotonic() - started > _LONGEST_S:
            break
        chosen = stream.integers(0, len(members), len(members))
        rows = torch.from_numpy(np.concatenate([members[i] for i in chosen]))
        by_name: dict[str, list[float]] = {name: [] for name in names}
        for (name, _), found in validations.items():
            try:
                value = score(metrics(found.output[rows], found.target[rows]))
            except (KeyError, TypeError, ValueError):
                value = math.nan
            by_name[name].append(value)
        for name in names:
            drawn[name].append(float(np.mean(by_name[name])))
    return {name: np.array(values) for name, values in drawn.items()}


def seed_spread(scores: Mapping[str, Sequence[float]]) -> float | None:
    """The standard deviation between trainings of one network that differ in their seed, pooled
    over candidates; None where no candidate was trained twice.
    """
    known = [np.var(values, ddof=1) for values in scores.values() if len(values) > 1]
    weights = [len(values) - 1 for values in scores.values() if len(values) > 1]
    if not known:
        return None
    return float(np.sqrt(np.average(known, weights=weights)))


def with_seeds(
    drawn: Scores, num_seeds: Mapping[str, int], spread: float | None, seed: int
) -> Scores:
    """`drawn` with what chance does to the mean over so many trainings of each candidate."""
    if spread is None:
        return drawn
    stream = np.random.default_rng(stream_seed(seed, "seeds"))
    return {
        name: values + stream.normal(0.0, spread / math.sqrt(num_seeds[name]), len(values))
        for name, values in drawn.items()
    }
