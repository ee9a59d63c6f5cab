"""gnina's lists of poses, written by the tests."""

import numpy as np
import pytest

from hubel.data.source import open_source
from hubel.errors import UserError

ATOM = np.dtype([("place", "<f4", (3,)), ("type", "<i4")])


def write_atoms(path, types, first=0.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    atoms = np.zeros(len(types), ATOM)
    atoms["type"] = types
    atoms["place"][:, 0] = first + np.arange(len(types))
    path.write_bytes(atoms.tobytes())


@pytest.fixture
def listed(tmp_path):
    """A function that writes a list of these lines beside two receptors and three poses."""
    for name in ("a", "b"):
        write_atoms(tmp_path / name / "rec.gninatypes", [2, 0, 7, 13])
        for k in range(2):
            write_atoms(tmp_path / name / f"pose{k}.gninatypes", [5, 1, 13], first=k)

    def write(*lines):
        (tmp_path / "all.types").write_text("\n".join(lines) + "\n")
        return str(tmp_path / "all.types")

    return write


def test_lines_of_every_kind_are_read(listed):
    source = open_source(
        listed(
            "1 a/rec.gninatypes a/pose0.gninatypes #0.75 -9.9",
            "",
            "0 -6.5 4.25 a/rec.gninatypes a/pose1.gninatypes # -7.5",
            "1 6.5 b/rec.gninatypes b/pose0.gninatypes",
            "0 0 b/rec.gninatypes b/pose1.gninatypes",
        )
    )
    poses = source.poses
    np.testing.assert_array_equal(source.targets, [1, 0, 1, 0])
    np.testing.assert_array_equal(poses.rmsd, np.float32([0.75, 4.25, np.nan, np.nan]))
    np.testing.assert_array_equal(poses.docking_score, np.float32([-9.9, -7.5, np.nan, np.nan]))
    np.testing.assert_array_equal(poses.affinity, np.float32([np.nan, 6.5, 6.5, np.nan]))
    assert list(source.groups) == ["a"] * 2 + ["b"] * 2
    np.testing.assert_array_equal(poses.ligand_of, [0, 0, 1, 1])
    assert poses.names == ("a/rec.gninatypes, pose", "b/rec.gninatypes, pose")
    assert source.ids[1] == "a/pose1.gninatypes"


def test_atoms_are_read_without_hydrogens(listed):
    source = open_source(listed("1 a/rec.gninatypes a/pose1.gninatypes"))
    places, types = source.poses.complexes.poses.atoms(0)
    np.testing.assert_array_equal(types, [5, 13])
    np.testing.assert_array_equal(places, [[1, 0, 0], [3, 0, 0]])
    np.testing.assert_array_equal(source.poses.complexes.receptors.atoms(0)[1], [2, 7, 13])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2 a/rec.gninatypes a/pose0.gninatypes", r"line 1: expected a label \(0 or 1\)"),
        ("a/rec.gninatypes a/pose0.gninatypes", r"expected a label"),
        ("1 a/rec.gninatypes", r"the files of a receptor and of a pose; got '1 a/rec"),
        ("1 a/rec.gninatypes nowhere.gninatypes", r"is listed and cannot be read: No such file"),
        ("# nothing", r"lists no pose"),
    ],
)
def test_what_is_wrong_with_a_line_is_told(listed, line, message):
    with pytest.raises(UserError, match=message):
        open_source(listed(line))


def test_a_pose_named_twice_is_refused(listed):
    with pytest.raises(UserError, match=r"names the pose 'a/pose0\.gninatypes' twice"):
        open_source(listed(*["1 a/rec.gninatypes a/pose0.gninatypes"] * 2))


def test_files_that_are_no_atoms_are_refused(listed, tmp_path):
    line = "1 a/rec.gninatypes a/pose0.gninatypes"
    (tmp_path / "a" / "pose0.gninatypes").write_bytes(b"12345")
    with pytest.raises(UserError, match=r"has 5 bytes; a \.gninatypes file has 16 an atom"):
        open_source(listed(line))
    write_atoms(tmp_path / "a" / "pose0.gninatypes", [28])
    with pytest.raises(UserError, match="atom types from 28 to 28; they are numbered from 0 to 27"):
        open_source(listed(line))
    write_atoms(tmp_path / "a" / "pose0.gninatypes", [5], first=np.nan)
    with pytest.raises(UserError, match="coordinates that are NaN or infinite"):
        open_source(listed(line))
    write_atoms(tmp_path / "a" / "rec.gninatypes", [])
    with pytest.raises(UserError, match="and a receptor at least one"):
        open_source(listed(line))


def test_other_ligands_do_not_compete_and_a_folder_of_receptors_is_one_group(listed, tmp_path):
    write_atoms(tmp_path / "a" / "rec2.gninatypes", [2])
    write_atoms(tmp_path / "a" / "other_0.gninatypes", [5])
    write_atoms(tmp_path / "a" / "other_1.gninatypes", [5])
    source = open_source(
        listed(
            "1 a/rec.gninatypes a/pose0.gninatypes",
            "0 a/rec.gninatypes a/pose1.gninatypes",
            "1 a/rec.gninatypes a/other_0.gninatypes",
            "1 a/rec2.gninatypes a/other_1.gninatypes",
            "0 b/rec.gninatypes b/pose0.gninatypes",
        )
    )
    np.testing.assert_array_equal(source.poses.ligand_of, [0, 0, 1, 2, 3])
    assert list(source.groups) == ["a"] * 4 + ["b"]
