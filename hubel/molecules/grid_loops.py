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
    """`add(places, radii, channels, samples, origins, resolution, out)` adds each atom's density to
    out (n, c, x, y, z); `pull(…, resolution, gradient, found)` adds to found (a, 3) what the
    gradient (n, c, x, y, z) of the densities is by the places; `weigh`, called alike, adds to
    found (a,) the sum of each atom's density times the field (n, c, x, y, z).
    """

    add: Callable[..., None]
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
    return Loops(*(numba.njit(loop, nogil=True) for loop in (_add, _pull, _weigh)))


def _add(
    places: Any, radii: Any, channels: Any, samples: Any, origins: Any, resolution: float, out: Any
) -> None:
    side = out.shape[2]
    # In the type of the places, without branches: so the innermost loop takes several at once.
    number = places.dtype.type
    one, nothing, reached, tail = number(1), number(0), number(REACH), number(TAIL)
    # Squared distances along the last axis, in radii, and their exponentials: made once an atom.
    squares, powers = np.empty(side, places.dtype), np.empty(side, places.dtype)
    for a in range(places.shape[0]):
        r, n = radii[a], samples[a]
        reach = REACH * r
        x, y, z = (
            places[a, 0] - origins[n, 0],
            places[a, 1] - origins[n, 1],
            places[a, 2] - origins[n, 2],
        )
        first_z = max(0, math.ceil((z - reach) / resolution))
        last_z = min(side - 1, math.floor((z + reach) / resolution))
        for k in range(first_z, last_z + 1):
            squares[k] = ((k * resolution - z) / r) ** 2
            powers[k] = math.exp(-2 * squares[k])
        for i in range(
            max(0, math.ceil((x - reach) / resolution)),
            min(side - 1, math.floor((x + reach) / resolution)) + 1,
        ):
            x_square = ((i * resolution - x) / r) ** 2
            for j in range(
                max(0, math.ceil((y - reach) / resolution)),
                min(side - 1, math.floor((y + reach) / resolution)) + 1,
            ):
                square = x_square + ((j * resolution - y) / r) ** 2
                if square >= REACH * REACH:
                    continue
                near, power = number(square), number(math.exp(-2 * square))
                row = out[n, channels[a], i, j]
                for k in range(first_z, last_z + 1):
                    q = near + squares[k]
                    left = max(reached - np.sqrt(q), nothing)
                    row[k] += power * powers[k] if q <= one else tail * left * left


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
