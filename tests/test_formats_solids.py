"""The generated volumes."""

import numpy as np
import pytest

from hubel.data.formats.solids import SOLIDS, SolidsSource
from hubel.data.source import open_source
from hubel.errors import UserError


def test_solids():
    source = open_source("solids:60:20")
    assert (source.info.format, source.info.labels) == ("solids", "class")
    assert source.info.classes == SOLIDS == tuple(sorted(SOLIDS))
    assert (source.info.spatial_dims, source.info.in_channels) == (3, 1)
    assert (source.info.size, source.path) == ((20, 20, 20), None)
    assert source.info.flip_safe
    assert source.masks is None
    assert [int((source.splits == s).sum()) for s in ("train", "val", "test")] == [48, 6, 6]
    assert source.targets.tolist() == [i % 6 for i in range(60)]
    sample = source[3]
    assert sample.input.shape == (20, 20, 20, 1)
    assert sample.input.dtype == np.uint8


def test_defaults():
    assert (len(open_source("solids")), open_source("solids").info.size) == (1200, (32, 32, 32))
    assert len(open_source("solids-masks")) == 600


# Of the ball that a solid fits in, as its definition has it.
SHARES = {
    "ball": 1,
    "cone": 0.8**2 * 1.6 / 4,
    "cube": (2 / 3**0.5) ** 3 / (4 / 3 * np.pi),
    "cylinder": 0.6**2 * 1.6 / (4 / 3),
    "tetrahedron": 8 * 3**0.5 / 27 / (4 / 3 * np.pi),
    "torus": 2 * np.pi**2 * 0.68 * 0.32**2 / (4 / 3 * np.pi),
}


def test_the_volume_of_a_solid():
    source = SolidsSource(30, 48)
    for i in range(30):
        pixels, mask = source.drawn(i)
        assert set(np.unique(mask)) == {0, source.targets[i] + 1}
        radius = 48 * np.random.default_rng((0, i)).uniform(0.25, 0.45)
        share = (mask > 0).sum() / (4 / 3 * np.pi * radius**3)
        assert share == pytest.approx(SHARES[SOLIDS[source.targets[i]]], rel=0.05)
        inside, outside = pixels[mask > 0].mean(), pixels[mask == 0].mean()
        assert abs(inside - outside) > 40


def test_solids_are_turned_at_random():
    """The mean squared extent along an axis is a third of the whole, whichever the axis."""
    source = SolidsSource(300, 16)
    spread = []
    for i in np.flatnonzero(source.targets == SOLIDS.index("cylinder")):
        points = np.argwhere(source.drawn(int(i))[1])
        variance = points.var(axis=0)
        spread.append(variance / variance.sum())
    np.testing.assert_allclose(np.mean(spread, axis=0), 1 / 3, atol=0.04)
    assert np.std(spread) > 0.05


def test_masks():
    source = open_source("solids-masks:40:24")
    assert source.info.labels == "mask"
    assert source.info.classes == source.masks.info.classes == ("background", *SOLIDS)
    counts = []
    for i in range(40):
        mask = source.masks[i].input
        assert mask.shape == (24, 24, 24, 1)
        np.testing.assert_array_equal(mask[..., 0], source.drawn(i)[1])
        assert mask.max() > 0
        counts.append(len(np.unique(mask)) - 1)
    assert set(counts) == {1, 2, 3}
    assert source.masks.ids == source.ids
    assert source.masks.info.interpolate is False
    assert source.masks.stamp() != source.stamp()


def test_a_volume_is_a_function_of_seed_and_index():
    first, again, other = SolidsSource(30, 16), SolidsSource(60, 16), SolidsSource(30, 16, 1)
    for i in (0, 7, 29):
        assert first.content(i) == again.content(i)
        assert first.content(i) != other.content(i)
    several = SolidsSource(30, 16, name="solids-masks")
    assert len({s.stamp() for s in (first, again, other, several, SolidsSource(30, 17))}) == 5


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "solids:ten",
            r"DATA 'solids:ten' is not understood; write solids, solids:N or solids:N:S",
        ),
        ("solids-masks:", r"write solids-masks, .*, e\.g\. solids-masks:600:32$"),
        ("solids:5", r"solids:N needs N from 20 to 1,000,000, got 5$"),
        ("solids:60:300", r"solids:N:SIZE needs SIZE from 16 to 256 pixels, got 300$"),
    ],
)
def test_messages(spec, message):
    with pytest.raises(UserError, match=message):
        open_source(spec)
