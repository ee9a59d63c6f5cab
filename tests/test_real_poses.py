"""Poses on real data; run by `HUBEL_DATA=… make test-full`."""

import os
from pathlib import Path

import numpy as np
import pytest

from hubel import api
from hubel.data.cache import open_store
from hubel.data.source import open_source
from hubel.metrics.ranking import roc_auc, top_good

pytestmark = [pytest.mark.data, pytest.mark.timeout(1200)]


def real(name: str) -> Path:
    """The folder of a real data set, or a skip that says what is missing."""
    root = os.environ.get("HUBEL_DATA")
    if not root or not Path(root, name).exists():
        pytest.skip(f"HUBEL_DATA does not name a folder with {name}")
    return Path(root, name)


def test_the_csar_set_has_vinas_published_figures():
    source = open_source(real("csar_poses"))
    energies = source.poses.docking_score.astype(float)
    good, ligands = source.targets == 1, source.poses.ligand_of
    assert (len(source), int(good.sum())) == (3996, 745)
    assert roc_auc(-energies, good) == pytest.approx(0.645, abs=5e-4)
    assert top_good(-energies, good, ligands, 1).sum() == pytest.approx(284, abs=0.5)
    assert top_good(0 * energies, good, ligands, 1).mean() == pytest.approx(0.294, abs=5e-4)
    assert open_store(source).readable.all()
    folds = source.poses.folds
    for k in range(3):
        assert not set(source.groups[folds == k]) & set(source.groups[folds != k])


def test_a_crystal_complex_is_docked_scored_and_recovered(tmp_path):
    """5SAK_ZRY is rigid: Vina finds the crystal's pose, and both published networks like it."""
    folder = real("posebusters_complexes") / "5SAK_ZRY"
    ligand = folder / "5SAK_ZRY_ligand.sdf"
    for number, weights in enumerate(("crossdock_default2018.pt", "dense.pt")):
        docked = api.dock(
            folder / "5SAK_ZRY_protein.pdb.gz",
            ligand,
            output=tmp_path / str(number),
            crystal=str(ligand),
            scorer=str(real("gnina_oracle") / weights),
            num_poses=5,
            orientations=2,
        )
        best = docked.ligands[0].poses[0]
        assert best.rmsd < 2
        assert best.plausible
        assert best.probability > 0.5
        assert np.abs(best.atoms).max() > 0
        assert docked.found()["top1"] == 1
