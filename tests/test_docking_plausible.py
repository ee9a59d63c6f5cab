import os
from pathlib import Path

import numpy as np
import pytest

for needed in ("rdkit", "gemmi"):
    pytest.importorskip(needed, reason=f"docking needs {needed}: pip install 'hubel[docking]'")

from docking_example import small_ligand, small_receptor  # noqa: E402
from rdkit import Chem  # noqa: E402

from hubel.docking.plausible import Check, check_poses  # noqa: E402
from hubel.docking.receptor import PreparedReceptor, prepare_receptor  # noqa: E402
from hubel.errors import UserError  # noqa: E402


@pytest.fixture(scope="module")
def receptor():
    return prepare_receptor(small_receptor())


def _changed(change):
    molecule = Chem.Mol(small_ligand())
    places = change(molecule.GetConformer().GetPositions().copy())
    for atom, place in enumerate(places):
        molecule.GetConformer().SetAtomPosition(atom, place.tolist())
    return molecule


def _figures(pose):
    return {check.name: check.value for check in pose.checks}


def test_a_sound_pose_passes(receptor):
    (pose,) = check_poses(small_ligand(), receptor)
    assert pose.passed
    assert pose.failed == ()
    assert [check.name for check in pose.checks] == [
        "bond_lengths",
        "bond_angles",
        "internal_clash",
        "rings_flat",
        "double_bonds_flat",
        "clash",
        "clash_with_metal",
        "near_receptor",
        "volume_overlap",
    ]


def _stretched(places):
    places[0] += 3 * (places[0] - places[1])  # the amide's nitrogen and its carbon
    return places


def _folded(places):
    places[6] += np.array([0.0, 0.0, 0.9])  # out of the ring's plane, whichever that is
    places[6] += np.cross(places[3] - places[4], places[3] - places[8])
    return places


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_stretched, {"bond_lengths", "bond_angles"}),
        (_folded, {"rings_flat"}),
        (lambda places: places * 0.5, {"bond_lengths", "bond_angles", "internal_clash"}),
        (lambda places: places + 100, {"near_receptor"}),
    ],
)
def test_what_is_wrong_is_named(receptor, change, expected):
    (pose,) = check_poses(_changed(change), receptor)
    assert not pose.passed
    assert expected <= set(pose.failed)


def test_clashes_are_shares_of_the_radii():
    ligand = small_ligand()
    oxygen = ligand.GetConformer().GetPositions()[2]
    outward = oxygen / np.linalg.norm(oxygen)
    # Beside the carbonyl oxygen (1.55 Å, covalent 0.66 Å): carbon 1.7 Å, zinc covalent 1.22 Å.
    for element, distance, name, share in [
        ("C", 2.6, "clash", 2.6 / 3.25),
        ("C", 2.3, "clash", 2.3 / 3.25),
        ("Zn", 1.9, "clash_with_metal", 1.9 / 1.88),
        ("Zn", 1.3, "clash_with_metal", 1.3 / 1.88),
    ]:
        near = PreparedReceptor("", (oxygen + distance * outward)[None], (element,), ())
        (pose,) = check_poses(ligand, near)
        found = {check.name: check for check in pose.checks}[name]
        assert found.value == pytest.approx(share, abs=0.02)
        assert found.passed == (share > 0.75)
        assert _figures(pose)["near_receptor"] == pytest.approx(distance)


def test_two_spheres_share_the_volume_of_their_lens():
    xenon = Chem.MolFromSmiles("[Xe]")
    xenon.AddConformer(Chem.Conformer(1), assignId=True)
    table = Chem.GetPeriodicTable()
    a, b, d = 0.8 * table.GetRvdw("Xe"), 0.8 * table.GetRvdw("C"), 2.0
    lens = np.pi * (a + b - d) ** 2 * (d**2 + 2 * d * (a + b) - 3 * (a - b) ** 2) / (12 * d)
    (pose,) = check_poses(xenon, PreparedReceptor("", np.array([[d, 0, 0]]), ("C",), ()))
    expected = lens / (4 / 3 * np.pi * a**3)
    assert _figures(pose)["volume_overlap"] == pytest.approx(expected, abs=0.03)
    assert pose.failed == ("clash", "volume_overlap")


def test_a_check_without_figures_passes():
    assert Check("clash_with_metal", float("nan"), 0.75, most=False).passed
    assert not Check("clash", 0.7, 0.75, most=False).passed
    assert not Check("rings_flat", 0.3, 0.25).passed


def test_a_double_bond_must_be_flat(receptor):
    from rdkit.Chem import AllChem

    molecule = Chem.AddHs(Chem.MolFromSmiles("C/C=C/C"))
    AllChem.EmbedMolecule(molecule, randomSeed=1)
    assert _figures(check_poses(molecule, receptor)[0])["double_bonds_flat"] < 0.1
    Chem.rdMolTransforms.SetDihedralDeg(molecule.GetConformer(), 0, 1, 2, 3, 90.0)
    assert "double_bonds_flat" in check_poses(molecule, receptor)[0].failed


def test_poses_without_coordinates_are_refused(receptor):
    with pytest.raises(UserError, match="the poses have no coordinates"):
        check_poses(Chem.MolFromSmiles("CC"), receptor)


def _verdicts_of_posebusters(ligand, protein):
    pytest.importorskip("posebusters")
    from posebusters.modules.distance_geometry import check_geometry
    from posebusters.modules.flatness import check_flatness, flat_rings
    from posebusters.modules.intermolecular_distance import check_intermolecular_distance

    shape = check_geometry(
        ligand,
        threshold_bad_bond_length=0.25,
        threshold_bad_angle=0.25,
        threshold_clash=0.3,
        bound_matrix_params={
            "set15bounds": True,
            "scaleVDW": True,
            "doTriangleSmoothing": True,
            "useMacrocycle14config": False,
        },
    )["results"]
    rings = check_flatness(ligand, threshold_flatness=0.25, flat_systems=flat_rings)["results"]
    near = check_intermolecular_distance(ligand, protein, ignore_types={"hydrogens"})["results"]
    return {
        "bond_lengths": bool(shape["bond_lengths_within_bounds"]),
        "bond_angles": bool(shape["bond_angles_within_bounds"]),
        "internal_clash": bool(shape["no_internal_clash"]),
        "rings_flat": bool(rings["flatness_passes"]),
        "clash": bool(near["no_clashes"]),
        "near_receptor": bool(near["not_too_far_away"]),
    }


def _protein(receptor):
    protein = Chem.RWMol()
    conformer = Chem.Conformer(len(receptor.places))
    for element, place in zip(receptor.elements, receptor.places, strict=True):
        conformer.SetAtomPosition(protein.AddAtom(Chem.Atom(element)), place.tolist())
    protein.AddConformer(conformer)
    return protein.GetMol()


@pytest.mark.parametrize("seed", range(8))
def test_the_verdicts_are_those_of_posebusters(receptor, seed):
    """Of the molecule, moved and shaken by more and more."""
    random = np.random.default_rng(seed)
    molecule = _changed(
        lambda places: (
            places
            + random.normal(size=(1, 3)) * seed
            + random.normal(size=places.shape) * 0.05 * seed
        )
    )
    (pose,) = check_poses(molecule, receptor)
    ours = {check.name: check.passed for check in pose.checks}
    theirs = _verdicts_of_posebusters(molecule, _protein(receptor))
    assert {name: ours[name] for name in theirs} == theirs


@pytest.mark.data
def test_crystal_poses_are_plausible():
    import gemmi

    root = Path(os.environ.get("HUBEL_DATA", Path.home() / ".cache/hubel-data"))
    folders = sorted((root / "posebusters_complexes").glob("*_*/"))
    if not folders:
        pytest.skip(f"{root} has no posebusters_complexes")
    for folder in folders[::20]:
        ligand = Chem.MolFromMolFile(str(folder / f"{folder.name}_ligand.sdf"))
        protein = gemmi.read_structure(str(folder / f"{folder.name}_protein.pdb.gz"))
        (pose,) = check_poses(Chem.AddHs(ligand, addCoords=True), prepare_receptor(protein))
        assert pose.failed == (), folder.name
