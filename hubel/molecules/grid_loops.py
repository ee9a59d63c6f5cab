"""The loops of the density grid, compiled by numba when they are first called.

Nothing is kept between processes: numba's cache on disk is made of pickles.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hubel.errors import UserError

__all__ = ["REACH", "TAIL", "Loops", "compiled_loops"]

REACH = 1.5
"""Radii from an atom to where its density ends."""
TAIL = 4 * math.exp(-2)
"""Of the parabola TAIL · (REACH - x)² from one radius on."""


@dataclass(frozen=True)
class Loops:
    """`make(places, radii, channels, samples, origins, resolution, out)` writes the sums of the
    atoms' densities to out (n, c, x, y, z), whatever it held; `pull(…, resolution, gradient,
    found)` adds to found (a, 3) what the gradient (n, c, x, y, z) of the densities is by the
    places; `weigh`, called alike, adds to found (a,) the sum of each atom's density times the
    field (n, c, x, y, z).
    """

    make: Callable[..., None]
    pull: Callable[..., None]
    weigh: Callable[..., None]


@functools.cache
def compiled_loops() -> Loops:
    """Raises `UserError` where numba is not installed."""
    try:
        import numba
    except ImportError:
        raise UserError(
            "grids of molecules need numba, which is not installed: pip install 'hubel[docking]'"
        ) from None
    return Loops(*(numba.njit(loop, nogil=True) for loop in (_make, _pull, _weigh)))


def _make(
    places: Any, radii: Any, channels: Any, samples: Any, origins: Any, resolution: float, out: Any
) -> None:
    num_samples, num_channels, side = out.shape[0], out.shape[1], out.shape[2]
    # The atoms of a channel one after the other: what they are drawn into stays in the cache.
    starts = np.zeros(num_samples * num_channels + 1, np.int64)
    for a in range(places.shape[0]):
        starts[samples[a] * num_channels + channels[a] + 1] += 1
    starts = np.cumsum(starts)
    order, filled = np.empty(places.shape[0], np.int64), starts.copy()
    for a in range(places.shape[0]):
        cell = samples[a] * num_channels + channels[a]
        order[filled[cell]] = a
        filled[cell] += 1

    # In the type of the places, without branches: so the innermost loop takes several at once.
    number = places.dtype.type
    one, nothing, reached, tail = number(1), number(0), number(REACH), number(TAIL)
    # Squared distances along the last two axes, in radii, and exponentials: made once an atom.
    z_squares, z_powers = np.empty(side, places.dtype), np.empty(side, places.dtype)
    y_squares, y_powers = np.empty(side), np.empty(side)
    for cell in range(num_samples * num_channels):
        n = cell // num_channels
        grid = out[n, cell % num_channels]
        grid[:] = nothing
        for row_of in range(starts[cell], starts[cell + 1]):
            a = order[row_of]
            r = radii[a]
            reach = REACH * r
            x, y, z = (
                places[a, 0] - origins[n, 0],
                places[a, 1] - origins[n, 1],
                places[a, 2] - origins[n, 2],
            )
            first_z = max(0, math.ceil((z - reach) / resolution))
            last_z = min(side - 1, math.floor((z + reach) / resolution))
            for k in range(first_z, last_z + 1):
                z_squares[k] = ((k * resolution - z) / r) ** 2
                z_powers[k] = math.exp(-2 * z_squares[k])
            first_y = max(0, math.ceil((y - reach) / resolution))
            last_y = min(side - 1, math.floor((y + reach) / resolution))
            for j in range(first_y, last_y + 1):
                y_squares[j] = ((j * resolution - y) / r) ** 2
                y_powers[j] = math.exp(-2 * y_squares[j])
            for i in range(
                max(0, math.ceil((x - reach) / resolution)),
                min(side - 1, math.floor((x + reach) / resolution)) + 1,
            ):
                x_square = ((i * resolution - x) / r) ** 2
                x_power = math.exp(-2 * x_square)
                for j in range(first_y, last_y + 1):
                    square = x_square + y_squares[j]
                    if square >= REACH * REACH:
                        continue
                    near, power = number(square), number(x_power * y_powers[j])
                    for k in range(first_z, last_z + 1):
                        q = near + z_squares[k]
                        left = max(reached - np.sqrt(q), nothing)
                        grid[i, j, k] += power * z_powers[k] if q <= one else tail * left * left


def _pull(
    places: Any,
    radii: Any,
    channels: Any,
    samples: Any,
    origins: Any,
    resolution: float,
    gradient: Any,
    found: Any,
) -> None:
    side = gradient.shape[2]
    for a in range(places.shape[0]):
        r, n = radii[a], samples[a]
        reach = REACH * r
        x, y, z = (
            places[a, 0] - origins[n, 0],
            places[a, 1] - origins[n, 1],
            places[a, 2] - origins[n, 2],
        )
        by_x = by_y = by_z = 0.0
        for i in range(
            max(0, math.ceil((x - reach) / resolution)),
            min(side - 1, math.floor((x + reach) / resolution)) + 1,
        ):
            dx = (i * resolution - x) / r
            for j in range(
                max(0, math.ceil((y - reach) / resolution)),
                min(side - 1, math.floor((y + reach) / resolution)) + 1,
            ):
                dy = (j * resolution - y) / r
                for k in range(
                    max(0, math.ceil((z - reach) / resolution)),
                    min(side - 1, math.floor((z + reach) / resolution)) + 1,
                ):
                    dz = (k * resolution - z) / r
                    q = dx * dx + dy * dy + dz * dz
                    if q >= REACH * REACH:
                        continue
                    # The derivative by q; q falls by 2 d / r as the atom moves towards the point.
                    if q <= 1:
                        slope = -2 * math.exp(-2 * q)
                    else:
                        root = math.sqrt(q)
                        slope = -TAIL * (REACH - root) / root
                    pulled = -2 * slope * gradient[n, channels[a], i, j, k] / r
                    by_x += pulled * dx
                    by_y += pulled * dy
                    by_z += pulled * dz
        found[a, 0] += by_x
        found[a, 1] += by_y
        found[a, 2] += by_z


def _weigh(
    places: Any,
    radii: Any,
    channels: Any,
    samples: Any,
    origins: Any,
    resolution: float,
    field: Any,
    found: Any,
) -> None:
    side = field.shape[2]
    for a in range(places.shape[0]):
        r, n = radii[a], samples[a]
        reach = REACH * r
        x, y, z = (
            places[a, 0] - origins[n, 0],
            places[a, 1] - origins[n, 1],
            places[a, 2] - origins[n, 2],
        )
        total = 0.0
        for i in range(
            max(0, math.ceil((x - reach) / resolution)),
            min(side - 1, math.floor((x + reach) / resolution)) + 1,
        ):
            for j in range(
                max(0, math.ceil((y - reach) / resolution)),
                min(side - 1, math.floor((y + reach) / resolution)) + 1,
            ):
                square = ((i * resolution - x) / r) ** 2 + ((j * resolution - y) / r) ** 2
                for k in range(
                    max(0, math.ceil((z - reach) / resolution)),
                    min(side - 1, math.floor((z + reach) / resolution)) + 1,
                ):
                    q = square + ((k * resolution - z) / r) ** 2
                    if q >= REACH * REACH:
                        continue
                    density = math.exp(-2 * q) if q <= 1 else TAIL * (REACH - math.sqrt(q)) ** 2
                    total += density * field[n, channels[a], i, j, k]
        found[a] += total
