import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubel.docking.box import MARGIN, Box, _met, box_around, box_at, largest_pocket
from hubel.docking.receptor import PreparedReceptor
from hubel.errors import UserError


def _receptor(places):
    return PreparedReceptor("", np.array(places, dtype=float), ("C",) * len(places), ())


def _shell(opening=0.0):
    """Carbons on a sphere of radius 10 Å filled to 7 Å inwards, open where x > `opening`."""
    axis = np.arange(-12, 13, 1.5)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    distance = np.linalg.norm(points, axis=1)
    wall = (distance > 6.5) & (distance < 11)
    return _receptor(points[wall & (points[:, 0] < opening)])


def test_a_box_around_a_ligand_has_its_margin():
    box = box_around([[0, 0, 0], [2, 4, 6]], _receptor([[1, 1, 1]]), name="ATP")
    assert box == Box((1, 2, 3), (10, 12, 14), "the extent of ATP and 4 Å on each side")
    assert MARGIN == 4


def test_a_box_that_misses_the_receptor_says_by_how_much():
    receptor = _receptor([[0, 0, 0], [3, 4, 5]])
    with pytest.raises(
        UserError,
        match=r"the box at 20 0 0 of 10\.0 × 10\.0 × 10\.0 Å \(as given\) misses the receptor: no "
        r"atom is inside, the nearest is 12\.0 Å from its edge, and the receptor spans x 0\.0 to "
        r"3\.0, y 0\.0 to 4\.0, z 0\.0 to 5\.0 Å; give --center inside these",
    ):
        box_at((20, 0, 0), receptor, (10, 10, 10))
    assert box_at((7.9, 4, 5), receptor, (10, 10, 10)).center == (7.9, 4, 5)
    with pytest.raises(UserError, match=r"the nearest is 5\.0 Å from its edge"):
        # Past a corner: 3 and 4 Å along two axes.
        box_at((3 + 5 + 3, 4 + 5 + 4, 5), receptor, (10, 10, 10))


@pytest.mark.parametrize(
    ("center", "size", "message"),
    [
        ((1, 2), (9, 9, 9), "--center needs three finite numbers in Å, got 1 2"),
        ((1, 2, float("nan")), (9, 9, 9), "--center needs three finite numbers in Å, got 1 2 nan"),
        ((0, 0, 0), (9, 9, 0), r"sides must be from 1 to 47\.25 Å, got 9 9 0"),
        ((0, 0, 0), (9, 90, 9), r"sides must be from 1 to 47\.25 Å, got 9 90 9"),
    ],
)
def test_senseless_boxes_are_refused(center, size, message):
    with pytest.raises(UserError, match=message):
        box_at(center, _receptor([[0, 0, 0]]), size)


def test_a_ligand_without_places_or_of_two_sites_is_refused():
    receptor = _receptor([[0, 0, 0]])
    with pytest.raises(UserError, match=r"--autobox 'x\.sdf' has no atoms with coordinates"):
        box_around([], receptor, name="x.sdf")
    with pytest.raises(
        UserError, match=r"spans 60\.0 Å, and a box may have sides of 47\.25 Å with 4 Å"
    ):
        box_around([[0, 0, 0], [60, 0, 0]], receptor)


def test_the_pocket_is_the_hollow():
    pytest.importorskip("gemmi")
    pytest.importorskip("scipy")
    box = largest_pocket(_shell(opening=6.0))
    assert np.linalg.norm(box.center) < 2.5
    assert box.origin.startswith("the largest of ")
    assert min(box.size) >= 22.5


def test_no_pocket_is_told():
    pytest.importorskip("gemmi")
    with pytest.raises(UserError, match="--pocket found no pocket in the receptor; say where"):
        largest_pocket(_receptor([[0, 0, 0], [1.5, 0, 0]]))


_LINES = st.sampled_from(
    [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1), (1, 1, -1), (1, -1, 1), (1, -1, -1)]
)


@given(st.integers(0, 2**32 - 1), _LINES)
def test_what_a_line_has_met(seed, line):
    random = np.random.default_rng(seed)
    inside = random.random(random.integers(1, 6, 3)) < 0.15
    met = _met(inside, line)
    for place in np.ndindex(*inside.shape):
        at, seen = np.array(place), False
        while (at >= 0).all() and (at < inside.shape).all():
            seen |= bool(inside[tuple(at)])
            at = at - line
        assert met[place] == seen
