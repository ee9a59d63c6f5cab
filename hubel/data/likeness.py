"""How alike two pictures are, by their details: the second stage of `hubel.data.near`.

The differences between neighbouring pixels are correlated, along each axis, over the whole
and over the middle alone, at shifts of a few pixels; the *least* of these correlations at the
best shift counts. Differences do not see brightness; asking it of each axis keeps apart two
ships before one horizon, and asking it of the middle two pictures in one white frame.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import torch

__all__ = ["details", "likeness", "soft"]

SOFT = 8.0
"""Grey levels: differences up to it count in full, larger ones by their square root, so that
one strong edge does not decide."""
FLAT = 0.11
"""Mean square (after `SOFT`) of a difference of one grey level: with less there is nothing
that could be recognised."""
MIDDLE_SLACK = 0.1
"""How much less alike the middle may be than the whole: of fewer pixels, it scatters more."""


def soft(differences: Any) -> Any:
    """Differences in grey levels, an array or tensor, the large ones reduced."""
    return differences / (abs(differences) + SOFT) ** 0.5


def details(grey: torch.Tensor) -> torch.Tensor:
    """(b, *spatial) grey as softened differences to the next pixel along each axis.

    (b, axes, *spatial), each side shorter by the one pixel that has no next.
    """
    dims = grey.ndim - 1
    inner = [n - 1 for n in grey.shape[1:]]
    here = grey[_box([0] * dims, inner)]
    steps = [grey[_box([int(a == k) for k in range(dims)], inner)] - here for a in range(dims)]
    softened: torch.Tensor = soft(torch.stack(steps, dim=1))
    return softened


def likeness(first: torch.Tensor, second: torch.Tensor, reach: int) -> torch.Tensor:
    """(b,) least correlation over axes, whole and middle, at the best shift up to `reach`.

    Of `first` everything but a border of `reach` is taken, and laid on `second` at each shift.
    """
    dims, spatial = first.ndim - 2, first.shape[2:]
    whole = _Window(first, second, reach)
    inner = tuple(s - 2 * reach for s in spatial)
    middle = _Window(first, second, reach, tuple(s // 4 for s in inner))
    best = torch.full((len(first),), -1.0)
    for shift in itertools.product(range(2 * reach + 1), repeat=dims):
        product = whole.first * second[_box(shift, inner)]
        outer = whole.correlation(product, shift, if_flat=0.0)
        central = middle.correlation(product, shift, if_flat=1.0) + MIDDLE_SLACK
        best = best.maximum(outer.minimum(central))
    return best


def _box(low: Sequence[int], size: Sequence[int]) -> Any:
    return (..., *(slice(a, a + n) for a, n in zip(low, size, strict=True)))


class _Window:
    """A part of `first` and the powers of it and of what lies under it at every shift.

    margin: what the part leaves out on every side of `first` without its border of `reach`.
    """

    def __init__(
        self,
        first: torch.Tensor,
        second: torch.Tensor,
        reach: int,
        margin: tuple[int, ...] | None = None,
    ) -> None:
        margin = margin or (0,) * (first.ndim - 2)
        outer = first.shape[2:]
        size = tuple(n - 2 * reach - 2 * m for n, m in zip(outer, margin, strict=True))
        self.in_product = _box(margin, size)
        self.first = first[_box([reach + m for m in margin], size)].contiguous()
        self.power = self.first.square().flatten(2).mean(2)
        under = second[_box(margin, [n - 2 * m for n, m in zip(outer, margin, strict=True)])]
        powers = under.square()
        for axis, n in enumerate(size, start=2):
            powers = powers.unfold(axis, n, 1).mean(-1)
        self.powers = powers  # (b, axes, *shifts)

    def correlation(
        self, product: torch.Tensor, shift: tuple[int, ...], *, if_flat: float
    ) -> torch.Tensor:
        """(b,) the least over the axes of `product` (b, axes, *inner) at `shift`.

        An axis flat in both pictures is passed over; where all are, the answer is `if_flat`.
        """
        place: Any = (..., *shift)
        other = self.powers[place]
        scale = self.power.clamp_min(FLAT) * other.clamp_min(FLAT)
        flat = (self.power < FLAT) & (other < FLAT)
        found = product[self.in_product].flatten(2).mean(2) / scale.sqrt()
        worst = found.masked_fill(flat, 2.0).amin(1)
        return torch.where(flat.all(1), torch.full_like(worst, if_flat), worst)
