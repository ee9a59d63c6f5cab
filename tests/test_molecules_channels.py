"""Which atoms share a channel, on which points: files, ready sets, lengths."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubel.errors import UserError
from hubel.molecules.channel_files import LIGAND_SETS, RECEPTOR_SETS, read_channels, smina_names
from hubel.molecules.channels import (
    ATOM_TYPES,
    ELEMENT_CHANNELS,
    HYDROGENS,
    LIGAND_CHANNELS,
    RECEPTOR_CHANNELS,
)
from hubel.molecules.drawing import Drawing, drawing_of
from hubel.molecules.grid import Grid

HEAVY = [kind.smina for kind in ATOM_TYPES[HYDROGENS:]]

# The maps of types that gnina's networks are published with.
GNINA_RECEPTOR = """AliphaticCarbonXSHydrophobe
AliphaticCarbonXSNonHydrophobe
AromaticCarbonXSHydrophobe
AromaticCarbonXSNonHydrophobe
Bromine Iodine Chlorine Fluorine
Nitrogen NitrogenXSAcceptor
NitrogenXSDonor NitrogenXSDonorAcceptor
Oxygen OxygenXSAcceptor
OxygenXSDonorAcceptor OxygenXSDonor
Sulfur SulfurAcceptor
Phosphorus
Calcium
Zinc
GenericMetal Boron Manganese Magnesium Iron
"""


def of_text(folder, text, option="--ligand-channels"):
    file = folder / "ligand.map"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_channels(str(file), LIGAND_SETS, option)


def test_gninas_map_of_the_receptor_is_the_default(tmp_path):
    found = of_text(tmp_path, GNINA_RECEPTOR)
    np.testing.assert_array_equal(found.of_type, RECEPTOR_CHANNELS.of_type)


def test_remarks_empty_lines_and_line_ends_count_for_nothing(tmp_path):
    found = of_text(tmp_path, b"\xef\xbb\xbf# mine\r\n\r\n Zinc\tIron # metals\r\nBoron\r\n")
    assert found.groups == (("zinc", "iron"), ("boron",))
    assert len(found) == 2


def test_ready_sets_have_names():
    assert read_channels("default", RECEPTOR_SETS, "--a") is RECEPTOR_CHANNELS
    assert read_channels("default", LIGAND_SETS, "--a") is LIGAND_CHANNELS
    assert read_channels("elements", LIGAND_SETS, "--a") is ELEMENT_CHANNELS


def test_elements_draw_every_heavy_atom_by_what_it_is():
    assert len(ELEMENT_CHANNELS) == 7
    assert (ELEMENT_CHANNELS.of_type >= 0).tolist() == [False] * 2 + [True] * 26
    for number, kind in enumerate(ATOM_TYPES[HYDROGENS:], HYDROGENS):
        elements = ["Carbon", "Nitrogen", "Oxygen", "Sulfur", "Phosphorus"]
        of = [k for k, element in enumerate(elements) if element in kind.smina]
        halogen = kind.smina in ("Fluorine", "Chlorine", "Bromine", "Iodine")
        assert ELEMENT_CHANNELS.of_type[number] == (of[0] if of else 5 if halogen else 6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Zinc\nNitrogenXSDoner", r"line 2: 'NitrogenXSDoner' is no atom type; did you mean 'Nitr"),
        ("zinc", r"line 1: 'zinc' is no atom type; did you mean 'Zinc'"),
        ("Zinc\n\nIron Zinc", r"line 3: 'Zinc' stands in line 1 already, and a type has one chan"),
        ("Zinc Zinc", r"line 1: 'Zinc' stands in line 1 already"),
        ("Zinc PolarHydrogen", r"line 1: 'PolarHydrogen' is never drawn, because hydrogens"),
        ("", r"names no atom type; write a channel a line, such as 'Nitrogen NitrogenXSAccept"),
        ("# Zinc\n \n", r"--ligand-channels '.*ligand\.map' names no atom type"),
        (b"\xff\xfe\x00", r"is not a text of at most 65,536 bytes"),
        ("Zinc " * 20_000, r"is not a text of at most 65,536 bytes"),
        ("a\x1b[31m", r"line 1: 'a\\x1b\[31m' is no atom type"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        of_text(tmp_path, text)


@pytest.mark.parametrize("name", ["elemnts", "", "no\0thing", "."])
def test_a_file_that_is_not_there_is_told(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    message = (
        r"--receptor-channels '.*' cannot be read: .*; name a file .* 'default' and 'elements'"
    )
    with pytest.raises(UserError, match=message):
        read_channels(name, RECEPTOR_SETS, "--receptor-channels")


groups = st.lists(
    st.lists(st.sampled_from(HEAVY), min_size=1, max_size=4), min_size=1, max_size=6
).filter(lambda rows: len({n for row in rows for n in row}) == sum(map(len, rows)))


@given(receptor=groups, ligand=groups, points=st.integers(2, 256), step=st.floats(0.05, 10))
def test_a_drawing_comes_back_from_json_and_from_its_own_file(
    tmp_path_factory, receptor, ligand, points, step
):
    folder = tmp_path_factory.getbasetemp()
    made = []
    for name, rows in (("receptor", receptor), ("ligand", ligand)):
        (folder / name).write_text("\n".join(" ".join(row) for row in rows))
        made.append(read_channels(str(folder / name), {}, "--a"))
        assert smina_names(made[-1]) == rows
    drawing = Drawing(made[0], made[1], Grid(step, points))
    assert Drawing.from_json(drawing.to_json()) == drawing
    assert drawing.num_channels == len(receptor) + len(ligand)


def test_drawings_differ_by_their_channels():
    assert Drawing() == Drawing.from_json(Drawing().to_json())
    assert Drawing() != Drawing(ligand_channels=ELEMENT_CHANNELS)


@pytest.mark.parametrize(
    "change", [{"points": 2.5}, {"resolution_angstrom": 0}, {"ligand_channels": [["Gold"]]}]
)
def test_a_damaged_drawing_is_none(change):
    with pytest.raises(ValueError, match=r"are no grid|'Gold' is no atom type"):
        Drawing.from_json({**Drawing().to_json(), **change})


@pytest.mark.parametrize(
    ("resolution", "edge", "grid"),
    [
        (None, None, Grid(0.5, 48)),
        (1.0, 24.0, Grid(1.0, 25)),
        (None, 11.5, Grid(0.5, 24)),
        (0.1, 2.3, Grid(0.1, 24)),
    ],
)
def test_lengths_make_a_grid(resolution, edge, grid):
    assert drawing_of("default", "elements", resolution, edge).grid == grid


@pytest.mark.parametrize(
    ("resolution", "edge", "message"),
    [
        (1.0, None, r"--grid-edge 23\.5 Å is no whole .* 1 Å; give --grid-edge 23 or 24"),
        (2.0, 1.0, r"is no whole number of steps .*; give --grid-edge 2"),
        (0.05, 20.0, r"make 401 points a side, at most 256 can be"),
    ],
)
def test_lengths_that_make_none_are_told(resolution, edge, message):
    with pytest.raises(UserError, match=message):
        drawing_of("default", "default", resolution, edge)
