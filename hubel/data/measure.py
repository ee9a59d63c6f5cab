"""What the stored pixels are like: channel statistics, and pictures with nothing in them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from hubel.data.cache import Progress
from hubel.data.store import Store

__all__ = ["FAINT", "PixelFacts", "measure_pixels"]

Indices = npt.NDArray[np.int64]

FAINT = 2 / 255
"""A picture is nearly empty if its pixels' standard deviation is below this share of the
range of values in the set: two of 255 grey levels."""

CHUNK_VALUES = 4 << 20  # float64 values held at once: bounds memory, not the result


@dataclass(frozen=True)
class PixelFacts:
    """Of the pixels as they are stored.

    Attributes
    ----------
    mean, std: per channel over the training split, on the 0…1 scale (uint8) or on the
        values' own scale (float).
    constant: indices of samples of which every channel has one single value.
    faint: indices of other samples that vary less than `FAINT`.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    constant: Indices
    faint: Indices


def measure_pixels(
    store: Store, samples: Indices, train: Indices, progress: Progress | None = None
) -> PixelFacts:
    """One pass over `samples` (indices of readable ones), of which `train` are a part.

    Moments are taken sample by sample about its own mean and then joined, in float64, so
    that neither the size of the set nor large values cost digits.
    """
    num_pixels = int(np.prod(store.size))
    rows = max(1, CHUNK_VALUES // (num_pixels * store.in_channels))
    means = np.zeros((len(samples), store.in_channels))
    squares = np.zeros((len(samples), store.in_channels))
    constant = np.zeros(len(samples), np.bool_)
    low, high, scale = np.inf, -np.inf, 255.0
    for start in range(0, len(samples), rows):
        part = slice(start, min(start + rows, len(samples)))
        pixels = store.gather(torch.from_numpy(samples[part])).flatten(1, -2)  # (b, pixels, c)
        scale = 255.0 if pixels.dtype == torch.uint8 else 1.0
        least, most = pixels.amin(1), pixels.amax(1)
        constant[part] = (least == most).all(1).numpy()
        low, high = min(low, float(least.min())), max(high, float(most.max()))
        values = pixels.to(torch.float64)
        centre = values.mean(1)
        means[part] = centre.numpy()
        squares[part] = values.sub_(centre[:, None]).square_().sum(1).numpy()
        if progress is not None:
            progress("measuring", part.stop, len(samples))
    deviation = np.sqrt(squares.mean(axis=1) / num_pixels)
    faint = ~constant & (deviation < FAINT * (high - low))
    trained = np.isin(samples, train)
    mean, std = _join(means[trained] / scale, squares[trained] / scale**2, num_pixels)
    return PixelFacts(mean, std, samples[constant], samples[faint])


def _join(
    means: npt.NDArray[np.float64], squares: npt.NDArray[np.float64], num_pixels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation over samples of `num_pixels` each.

    means (b, c); squares (b, c): sums of squared distances from them (Chan, Golub and
    LeVeque, 1983, The American Statistician 37, pp. 242-247, eq. 1.5).
    """
    if len(means) == 0:
        return (), ()
    mean = means.mean(axis=0)
    spread = squares.sum(axis=0) + num_pixels * np.square(means - mean).sum(axis=0)
    std = np.sqrt(spread / (num_pixels * len(means)))
    return tuple(mean.tolist()), tuple(std.tolist())
