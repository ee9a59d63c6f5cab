"""The road on real data sets; run by `HUBEL_DATA=… make test-full`."""

import os
from pathlib import Path

import pytest

import hubel

pytestmark = [pytest.mark.data, pytest.mark.timeout(1200)]


def real(name: str) -> Path:
    """The folder of a real data set, or a skip that says what is missing."""
    root = os.environ.get("HUBEL_DATA")
    if not root:
        pytest.skip("HUBEL_DATA does not name a folder of real data sets")
    path = Path(root, name)
    if not path.exists():
        pytest.skip(f"there is no {path}")
    return path


def test_cifar10_as_a_folder_of_jpegs(tmp_path):
    run = hubel.fit(real("cifar10"), model="simple", epochs=2, output=tmp_path / "run")
    data = run.folder.read_json("data.json")
    assert data["splits"] == {"train": 45_000, "val": 5_000, "test": 10_000}
    document = run.evaluate().to_json()
    assert document["n"] == 10_000
    assert [sum(row) for row in document["confusion"]["counts"]] == [1000] * 10
    assert document["metrics"]["top1"] > 0.55


def test_mnist_as_idx(tmp_path):
    run = hubel.fit(real("mnist"), model="lenet5", epochs=2, output=tmp_path / "run")
    assert run.folder.read_json("config.json")["flip"] == "none"
    mean, std = (run.folder.read_json("preprocess.json")[k][0] for k in ("mean", "std"))
    assert mean == pytest.approx(0.1307, abs=5e-4)
    assert std == pytest.approx(0.3081, abs=5e-4)
    evaluation = run.evaluate().evaluation
    assert evaluation.n == 10_000
    assert evaluation.metrics.top1 > 0.96


def test_modelnet10_as_volumes(tmp_path):
    path = real("modelnet10_voxels") / "modelnet10_30.npz"
    run = hubel.fit(path, model="simple", epochs=2, output=tmp_path / "run")
    evaluation = run.evaluate().evaluation
    assert evaluation.n == 908
    assert evaluation.leaks.n_leaked > 0  # equal voxel grids stand in the published splits
    assert evaluation.metrics.top1 > 0.6
