"""Densities of atoms: against the definition point by point, both ways of computing them, the
gradient, and grids that libmolgrid made.
"""

import csv
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hubel.molecules import grid as grid_module
from hubel.molecules.channels import ATOM_TYPES, LIGAND_CHANNELS, RECEPTOR_CHANNELS, Channels
from hubel.molecules.grid import Atoms, Grid, atom_sums, densities, random_rotations

SMALL = Grid(0.5, 10)
POINTS = torch.arange(10, dtype=torch.float64) * 0.5


def some_atoms(seed=0, number=12, samples=2, spread=2.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    places = torch.randn(number, 3, generator=generator, dtype=torch.float64) * spread
    radii = 1.2 + torch.rand(number, generator=generator, dtype=torch.float64)
    channels = torch.randint(0, 3, (number,), generator=generator)
    return Atoms(
        places.to(dtype), radii.to(dtype), channels, torch.arange(number) * samples // number
    )


def centres(samples=2, dtype=torch.float64):
    return torch.tensor([[0.1, -0.2, 0.3]] * samples, dtype=dtype)


def by_definition(atoms, centres, num_channels, grid):
    """Every atom at every point, one number at a time."""
    out = np.zeros((len(centres), num_channels, *[grid.points] * 3))
    origins = (centres - grid.resolution * (grid.points - 1) / 2).tolist()
    for place, radius, channel, n in zip(
        atoms.places.tolist(), atoms.radii.tolist(), atoms.channels, atoms.samples, strict=True
    ):
        for index in np.ndindex(*[grid.points] * 3):
            point = [o + i * grid.resolution for o, i in zip(origins[n], index, strict=True)]
            x = math.dist(point, place) / radius
            if x <= 1:
                out[(n, channel, *index)] += math.exp(-2 * x**2)
            elif x <= 1.5:
                out[(n, channel, *index)] += math.exp(-2) * (4 * x**2 - 12 * x + 9)
    return torch.from_numpy(out)


def by_tensors(atoms, centres, num_channels, grid):
    shape = (len(centres), num_channels, *[grid.points] * 3)
    return grid_module._by_tensors(atoms, centres - grid.edge / 2, shape, grid)


@pytest.mark.parametrize("make", [densities, by_tensors])
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**16), spread=st.sampled_from([0.5, 2.0, 5.0]))
def test_densities_are_as_defined(make, seed, spread):
    atoms = some_atoms(seed, number=5, spread=spread)
    found = make(atoms, centres(), 3, SMALL)
    torch.testing.assert_close(found, by_definition(atoms, centres(), 3, SMALL))


@pytest.mark.parametrize("make", [densities, by_tensors])
def test_an_atom_on_a_point_is_one_there(make):
    atoms = some_atoms(number=1, samples=1)
    atoms.places[:] = centres(1) - SMALL.edge / 2 + 0.5 * torch.tensor([3.0, 4.0, 5.0])
    found = make(atoms, centres(1), 3, SMALL)
    assert found[0, atoms.channels[0], 3, 4, 5] == 1.0
    assert found.max() == 1.0


@pytest.mark.parametrize("make", [densities, by_tensors])
def test_atoms_out_of_reach_leave_nothing(make):
    atoms = some_atoms(number=4)
    atoms.places[:] += 50.0
    assert not make(atoms, centres(), 3, SMALL).any()
    none = Atoms(*(column[:0] for column in vars(atoms).values()))
    assert make(none, centres(), 3, SMALL).shape == (2, 3, 10, 10, 10)


def test_single_precision_is_near():
    atoms, wide = some_atoms(3, 40, dtype=torch.float32), some_atoms(3, 40)
    found = densities(atoms, centres(dtype=torch.float32), 3, SMALL)
    assert found.dtype == torch.float32
    torch.testing.assert_close(
        found.double(), densities(wide, centres(), 3, SMALL), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("make", [densities, by_tensors])
def test_the_gradient_by_the_places(make):
    atoms = some_atoms(7, number=6)
    places = atoms.places.clone().requires_grad_()

    def of(places):
        return make(Atoms(places, atoms.radii, atoms.channels, atoms.samples), centres(), 3, SMALL)

    assert torch.autograd.gradcheck(of, (places,))


def test_a_pose_that_is_turned_and_moved_with_its_centre_keeps_its_mass():
    atoms = some_atoms(1, 30, samples=1, spread=1.0)
    turned = random_rotations(1, torch.Generator().manual_seed(0))[0]
    moved = Atoms(atoms.places @ turned.T + 7.0, atoms.radii, atoms.channels, atoms.samples)
    grid = Grid(0.25, 60)
    one = densities(atoms, torch.zeros(1, 3).double(), 3, grid).sum((2, 3, 4))
    other = densities(moved, torch.full((1, 3), 7.0).double(), 3, grid).sum((2, 3, 4))
    torch.testing.assert_close(one, other, rtol=1e-3, atol=0)


def test_rotations_are_rotations_and_everywhere():
    turns = random_rotations(4000, torch.Generator().manual_seed(1))
    unit = torch.eye(3, dtype=torch.float64).expand(4000, 3, 3)
    torch.testing.assert_close(turns @ turns.mT, unit)
    torch.testing.assert_close(turns.det(), torch.ones(4000, dtype=torch.float64))
    # Of uniform rotations every entry has mean 0 and variance 1/3, and the trace mean 0.
    assert turns.mean(0).abs().max() < 0.05
    assert (turns.var(0) - 1 / 3).abs().max() < 0.03


def test_channels():
    assert len(ATOM_TYPES) == 28
    assert (len(RECEPTOR_CHANNELS), len(LIGAND_CHANNELS)) == (14, 14)
    hydrogens = [i for i, kind in enumerate(ATOM_TYPES) if "hydrogen" in kind.name]
    for channels in (RECEPTOR_CHANNELS, LIGAND_CHANNELS):
        left_out = np.flatnonzero(channels.of_type < 0).tolist()
        assert left_out == hydrogens
        assert set(channels.of_type[channels.of_type >= 0]) == set(range(14))
    with pytest.raises(ValueError, match="'gold' is no atom type"):
        Channels([["gold"]])
    with pytest.raises(ValueError, match="'zinc' stands in two channels"):
        Channels([["zinc"], ["zinc"]])


# Against libmolgrid


def published(name):
    """A pose of the CSAR set as atoms in 28 channels, and the middle of its ligand."""
    root = Path(os.environ["HUBEL_DATA"]) / "csar_poses"
    poses, receptors = np.load(root / "poses.npz"), np.load(root / "receptors.npz")
    i = poses["name"].tolist().index(name)
    m = poses["receptor"][i]
    radii = np.array([kind.radius for kind in ATOM_TYPES], np.float32)
    rows = []
    for table, row, channels, first in (
        (receptors, m, RECEPTOR_CHANNELS, 0),
        (poses, i, LIGAND_CHANNELS, 14),
    ):
        part = slice(table["offset"][row], table["offset"][row + 1])
        kinds, places = table["type"][part], table["xyz"][part]
        drawn = channels.of_type[kinds] >= 0
        of = channels.of_type[kinds[drawn]] + first
        rows.append((places[drawn], radii[kinds[drawn]], of))
    places, sizes, of = (np.concatenate(column) for column in zip(*rows, strict=True))
    atoms = Atoms(
        torch.from_numpy(places), torch.from_numpy(sizes), torch.from_numpy(of),
        torch.zeros(len(of), dtype=torch.int64),
    )  # fmt: skip
    return atoms, torch.from_numpy(rows[1][0].mean(0))[None]


@pytest.mark.data
def test_grids_are_those_of_libmolgrid():
    if not os.environ.get("HUBEL_DATA"):
        pytest.skip("HUBEL_DATA does not name a folder of real data sets")
    root = Path(os.environ["HUBEL_DATA"]) / "gnina_oracle"
    with np.load(root / "golden_grids.npz") as golden:
        for key in golden.files:
            found = densities(*published(key.replace("__", "/")), 28)[0]
            torch.testing.assert_close(found, torch.from_numpy(golden[key]), rtol=0, atol=1e-5)
    with (root / "golden.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24
    for row in rows:
        sums = densities(*published(row["pose"]), 28)[0].double().sum((1, 2, 3))
        expected = [float(row[f"sum_ch{c}"]) for c in range(28)]
        torch.testing.assert_close(sums, torch.tensor(expected).double(), rtol=1e-5, atol=1e-2)


@pytest.mark.parametrize("by_tensors", [False, True])
def test_what_an_atom_sums_is_what_a_field_loses_without_it(by_tensors):
    generator = torch.Generator().manual_seed(0)
    grid, a = Grid(0.5, 16), 12
    atoms = Atoms(
        (torch.rand(a, 3, generator=generator, dtype=torch.float64) - 0.5) * 8,
        torch.linspace(1.0, 2.0, a, dtype=torch.float64),
        torch.arange(a) % 3,
        torch.arange(a) % 2,
    )
    centres = torch.zeros(2, 3, dtype=torch.float64)
    field = torch.randn(2, 3, 16, 16, 16, generator=generator, dtype=torch.float64)
    whole = (densities(atoms, centres, 3, grid) * field).sum()
    if by_tensors:
        index, value = grid_module._windows(atoms, centres - grid.edge / 2, field.shape, grid)
        sums = (value * field.reshape(-1)[index]).flatten(1).sum(1)
    else:
        sums = atom_sums(atoms, centres, field, grid)
    for i in range(a):
        kept = torch.arange(a) != i
        rest = Atoms(
            *(getattr(atoms, name)[kept] for name in ("places", "radii", "channels", "samples"))
        )
        lost = whole - (densities(rest, centres, 3, grid) * field).sum()
        assert float(sums[i]) == pytest.approx(float(lost), abs=1e-9)
