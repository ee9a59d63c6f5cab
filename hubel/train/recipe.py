"""The parts of a recipe that need the data or the network: batch size, views of it, beginnings.

What each recipe switches on stands in hubel/config.py; docs/recipe.md explains the parts.
"""

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from hubel.config import FitConfig
from hubel.data.preprocess import Preprocess
from hubel.data.store import Store
from hubel.train.initialise import begin_as_identity
from hubel.train.progressive import SMALLEST_SIDE, Progressive, takes_smaller
from hubel.train.whitening import whiten

__all__ = ["batch_size_for", "begin", "make_progressive", "settle_batch_size"]

_STEPS_AN_EPOCH = 50
_WHITENED_SAMPLES = 5000
_PASSED_SAMPLES = 16
_MOST_VALUES = 1 << 26  # in all these: a few volumes of many channels are a gigabyte


def batch_size_for(num_samples: int) -> int:
    """About fifty steps an epoch, a power of two from 16 to 512.

    >>> batch_size_for(45_000), batch_size_for(1_437), batch_size_for(60)
    (512, 32, 16)
    """
    wanted = max(num_samples, 1) / _STEPS_AN_EPOCH
    return int(min(max(2 ** round(math.log2(wanted)), 16), 512))


def settle_batch_size(config: FitConfig, num_samples: int) -> FitConfig:
    """`config` with a batch size of 0 replaced by one for a training split of `num_samples`."""
    if config.batch_size:
        return config
    return replace(config, batch_size=batch_size_for(num_samples))


def begin(
    model: nn.Module,
    config: FitConfig,
    store: Store,
    train: npt.NDArray[np.int64],
    preprocess: Preprocess,
) -> str:
    """Give `model` the beginning that `config` asks for; a sentence for the terminal or "".

    The pictures whose patches are whitened are up to 5,000 of the training split, and those that
    tell which channels vary up to 16.
    """
    said = []
    if config.whitening:
        done = whiten(model, _some(store, train, preprocess, _WHITENED_SAMPLES))
        asked_for = config.recipe == "plain" or bool(config.pretrained)
        if asked_for or not done.refusal:  # a recipe's part that does not apply is no news
            said.append(done.sentence())
    if config.identity:
        few = _some(store, train, preprocess, _PASSED_SAMPLES)
        said.append(begin_as_identity(model, few).sentence())
    return "; ".join(sentence for sentence in said if sentence)


def _some(
    store: Store, train: npt.NDArray[np.int64], preprocess: Preprocess, most: int
) -> torch.Tensor:
    """Up to `most` samples of `train`, as the network gets them; evenly spaced, so that all
    classes are among them.
    """
    values = math.prod(store.size) * store.in_channels
    most = max(1, min(most, _MOST_VALUES // values))
    step = max(1, len(train) // most)
    return preprocess(store.gather(torch.from_numpy(train[::step][:most])))


def make_progressive(
    model: nn.Module, config: FitConfig, input_shape: tuple[int, ...]
) -> Progressive | None:
    """The resizing that `config` asks for, None where pictures or network do not allow it."""
    if config.progressive == 1.0 or min(input_shape[1:]) < SMALLEST_SIDE:
        return None
    if not takes_smaller(model, input_shape, config.progressive):
        return None
    return Progressive(config.progressive)
