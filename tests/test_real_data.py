"""The road on real data sets; run by `HUBEL_DATA=… make test-full`."""

import os
import zipfile
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


def camvid(tmp_path: Path) -> Path:
    """CamVid with the legend that its folders lack: the twelfth value is none."""
    names = ("sky", "building", "pole", "road", "pavement", "tree", "signsymbol", "fence", "car",
             "pedestrian", "bicyclist", "void")  # fmt: skip
    place = tmp_path / "camvid"
    place.mkdir()
    for folder in real("camvid").iterdir():
        if folder.is_dir():
            (place / folder.name).symlink_to(folder)
    (place / "classes.txt").write_text("\n".join(names))
    return place


def test_blood_cells_are_detected(tmp_path):
    data = real("bccd")
    found = hubel.inspect(data, near=False).inspection
    assert found.counts.sum() == 4886  # two of the 4,888 in the XML have no area
    assert len(found.faults) == 2
    run = hubel.fit(data, output=tmp_path / "run", budget="3m", seed=1)
    assert run.result["task"] == "detect"
    judged = run.evaluate()
    assert judged.evaluation.n == 72
    assert judged.evaluation.metrics.map50 > 0.3
    pictures = sorted((data / "JPEGImages").iterdir())[:3]
    predictions, written = run.write_predictions(*pictures, write="voc", output=tmp_path / "found")
    assert len(predictions) == 3
    assert [p.suffix for p in written] == [".xml"] * 3
    assert all(0 <= side <= 640 for p in predictions for o in p.objects for side in o.box)


def test_streets_are_segmented(tmp_path):
    place = camvid(tmp_path)
    assert hubel.inspect(place, near=False).inspection.labels == "mask"
    run = hubel.fit(place, output=tmp_path / "run", budget="3m", seed=1)
    assert run.result["task"] == "segment"
    assert len(run.folder.read_json("classes.json")) == 11
    judged = run.evaluate()
    assert judged.evaluation.n == 233
    assert judged.evaluation.metrics.pixel_accuracy > 0.5
    picture = next((place / "test").glob("*.jpg"))
    assert run.predict(picture)[0].mask.shape == (360, 480)


def test_objects_are_localized(tmp_path):
    with zipfile.ZipFile(real("tinyimagenet12_boxes") / "tinyimagenet12_boxes.zip") as archive:
        archive.extractall(tmp_path / "ti")
    (table,) = (tmp_path / "ti").rglob("train.csv")
    run = hubel.fit(table.parent, output=tmp_path / "run", budget="1m", seed=1)
    assert run.result["task"] == "localize"
    assert run.evaluate().evaluation.metrics.mean_iou > 0.4
