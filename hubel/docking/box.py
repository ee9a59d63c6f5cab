"""The box that a search looks in: given, around a ligand, or at the largest pocket."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hubel.docking.receptor import PreparedReceptor
from hubel.errors import UserError
from hubel.molecules.extra import extra

__all__ = ["MARGIN", "SIDE", "Box", "box_around", "box_at", "largest_pocket"]

Places = npt.NDArray[np.float64]

MARGIN = 4.0
"""Å on each side of a ligand, as smina and gnina add (`--autobox_add`)."""
SIDE = 22.5
"""Å, the side of a box that only its centre is given of: AutoDock's 60 steps of 0.375 Å."""

_WIDEST = 126 * 0.375  # Å; the most steps that AutoDock's grids had, and plenty for one site
_SPACING = 1.0  # Å, of LIGSITE's grid
_PROBE = 1.4  # Å, the radius of water
_BURIED = 6  # of 7 lines: LIGSITE's most selective but one
_MOST_POINTS = 30e6  # a ribosome has some twenty million
_SMALLEST_POCKET = 10  # points, of 1 Å³ each


@dataclass(frozen=True)
class Box:
    """`center` and `size` (x, y, z) in Å; `origin` says where they come from."""

    center: tuple[float, float, float]
    size: tuple[float, float, float]
    origin: str

    def reaches(self, receptor: PreparedReceptor) -> "Box":
        """This box. Raises `UserError` if no atom of the receptor is inside."""
        outside = np.abs(receptor.places - self.center) - np.array(self.size) / 2
        if (outside <= 0).all(1).any():
            return self
        apart = float(np.linalg.norm(np.maximum(outside, 0), axis=1).min())
        low, high = receptor.places.min(0), receptor.places.max(0)
        spans = ", ".join(
            f"{axis} {a:.1f} to {b:.1f}" for axis, a, b in zip("xyz", low, high, strict=True)
        )
        center = " ".join(f"{value:g}" for value in self.center)
        size = " × ".join(f"{value:.1f}" for value in self.size)
        raise UserError(
            f"the box at {center} of {size} Å ({self.origin}) misses the receptor: no atom is "
            f"inside, the nearest is {apart:.1f} Å from its edge, and the receptor spans {spans} "
            f"Å; give --center inside these, a ligand of the same frame as --autobox, or --pocket"
        )


def box_at(
    center: Sequence[float], receptor: PreparedReceptor, size: Sequence[float] = (SIDE,) * 3
) -> Box:
    """A box of a given centre and size, Å.

    Raises
    ------
    UserError: not three numbers each, sides that are not from 1 to 47.25 Å, or a box that misses
        the receptor.
    """
    if len(center) != 3 or not np.isfinite(center).all():
        raise UserError(f"--center needs three finite numbers in Å, got {_words(center)}")
    if len(size) != 3 or not all(1 <= side <= _WIDEST for side in size):
        raise UserError(f"the box's sides must be from 1 to {_WIDEST:g} Å, got {_words(size)}")
    x, y, z = (float(value) for value in center)
    a, b, c = (float(value) for value in size)
    return Box((x, y, z), (a, b, c), "as given").reaches(receptor)


def box_around(
    places: npt.ArrayLike, receptor: PreparedReceptor, margin: float = MARGIN, name: str = "ligand"
) -> Box:
    """The extent of a ligand's atoms, `places` (a, 3) in Å, and `margin` on each side.

    Raises
    ------
    UserError: no atoms, atoms too far apart for one site, or a box that misses the receptor.
    """
    at = np.asarray(places, dtype=np.float64).reshape(-1, 3)
    if not len(at) or not np.isfinite(at).all():
        raise UserError(f"--autobox '{name}' has no atoms with coordinates")
    low, high = at.min(0) - margin, at.max(0) + margin
    if (high - low).max() > _WIDEST:
        raise UserError(
            f"--autobox '{name}' spans {(high - low).max() - 2 * margin:.1f} Å, and a box may have "
            f"sides of {_WIDEST:g} Å with {margin:g} Å on each side; give one ligand of one site"
        )
    return _box(low, high, f"the extent of {name} and {margin:g} Å on each side").reaches(receptor)


def largest_pocket(receptor: PreparedReceptor) -> Box:
    """A box of side `SIDE` or more about the largest pocket that LIGSITE finds.

    Hendlich, Rippmann and Barnickel (1997), Journal of Molecular Graphics and Modelling 15,
    359-363: a point of a 1 Å grid outside the receptor is in a pocket if of seven lines through it
    (three axes, four diagonals) at least six have the receptor on both sides. Neighbouring points
    are one pocket; the one with the most points is taken.

    Raises
    ------
    UserError: the receptor has no pocket of ten points.
    """
    from scipy.ndimage import label

    start, inside = _grid(receptor)
    # Along each of the lines: was the receptor met before this point, and is it met after it?
    buried = np.zeros(inside.shape, dtype=np.int8)
    for line in _LINES:
        buried += _met(inside, line) & _met(inside[::-1, ::-1, ::-1], line)[::-1, ::-1, ::-1]
    numbers, count = label((buried >= _BURIED) & ~inside)
    sizes = np.bincount(numbers.ravel(), minlength=count + 1)[1:]
    if not count or sizes.max() < _SMALLEST_POCKET:
        raise UserError(
            "--pocket found no pocket in the receptor; say where to look by --center or --autobox"
        )
    points = np.argwhere(numbers == 1 + int(sizes.argmax())) * _SPACING + start
    center = points.mean(0)
    half = np.clip(np.ptp(points, axis=0) / 2 + MARGIN, SIDE / 2, 15.0)
    volume = int(sizes.max() * _SPACING**3)
    origin = (
        f"the largest of {int((sizes >= _SMALLEST_POCKET).sum())} pockets, {volume} Å³, LIGSITE"
    )
    return _box(center - half, center + half, origin).reaches(receptor)


# Each line in the sense in which its first step that is not zero goes up.
_LINES = ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1), (1, 1, -1), (1, -1, 1), (1, -1, -1))


def _grid(receptor: PreparedReceptor) -> tuple[Places, npt.NDArray[np.bool_]]:
    """The place of the first point, and which points a probe cannot be at."""
    from scipy.spatial import cKDTree

    gemmi = extra("gemmi", "finding a pocket")
    # Half the probe, as in a united-atom surface: whole water would close narrow clefts.
    radius = {e: gemmi.Element(e).vdw_r + _PROBE / 2 for e in set(receptor.elements)}
    reach = max(radius.values())
    start = np.floor(receptor.places.min(0) - reach)
    shape = np.ceil((receptor.places.max(0) + reach - start) / _SPACING).astype(int) + 1
    if shape.prod(dtype=np.float64) > _MOST_POINTS:
        spans = " × ".join(f"{side:.0f}" for side in shape * _SPACING)
        raise UserError(
            f"--pocket looks at every Å of the receptor, which spans {spans} Å: is an atom far "
            f"off? Give --center, or a part of the receptor"
        )
    inside = np.zeros(shape, dtype=np.bool_)
    points = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) * _SPACING + start
    tree = cKDTree(points.reshape(-1, 3))
    flat = inside.reshape(-1)
    radii = np.array([radius[e] for e in receptor.elements])
    for found in tree.query_ball_point(receptor.places, radii):
        flat[found] = True
    return start, inside


def _met(inside: npt.NDArray[np.bool_], line: tuple[int, int, int]) -> npt.NDArray[np.bool_]:
    """Whether on the way to each point along `line` there is the receptor."""
    if line[0] == 0:
        met: npt.NDArray[np.bool_] = np.logical_or.accumulate(inside, axis=line.index(1))
        return met
    met = inside.copy()
    _, height, depth = inside.shape
    (to_y, from_y), (to_z, from_z) = _shift(height, line[1]), _shift(depth, line[2])
    for x in range(1, len(met)):
        met[x, to_y, to_z] |= met[x - 1, from_y, from_z]
    return met


def _shift(length: int, step: int) -> tuple[slice, slice]:
    """Where points that are moved by `step` arrive, and where they come from."""
    low, high = max(0, step), length + min(0, step)
    return slice(low, high), slice(low - step, high - step)


def _box(low: Places, high: Places, origin: str) -> Box:
    x, y, z = ((low + high) / 2).round(3).tolist()
    a, b, c = (high - low).round(3).tolist()
    return Box((x, y, z), (a, b, c), origin)


def _words(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in values) or "none"
