"""Segmentation and volumes on the whole road: fit, evaluate, predict and inspect."""

import json

import numpy as np
import pytest
from commands import loaded, ran
from PIL import Image

import hubel
from hubel.config import FitConfig
from hubel.data.formats.shapes import ShapesSource
from hubel.data.prepare import prepare_data
from hubel.data.source import open_source
from hubel.errors import UserError

SETTINGS = {"threads": 1, "engine": "fp32", "seed": 1}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("segment") / "run"
    settings = {**SETTINGS, "img_size": 32, "model": "simple", "epochs": 6}
    return hubel.fit("shapes-masks:120", output=folder, **settings)


def test_from_generated_masks_to_a_report(run):
    assert run.result["task"] == "segment"
    first, last = run.folder.log()[0], run.folder.log()[-1]
    assert last["val_loss"] < first["val_loss"]
    assert {"train_pixels", "val_miou"} <= set(last)
    judged = run.evaluate()
    metrics = judged.evaluation.metrics
    assert metrics.pixel_accuracy > 0.5
    page = judged.report.read_text()
    assert page.count("data:image/") >= len(judged.evaluation.worst)
    document = json.loads((run.path / "evaluation/test/evaluation.json").read_text())
    assert document["metrics"]["miou"] == metrics.miou


def test_masks_are_judged_at_the_pictures_own_size(run):
    source = ShapesSource(120, 64, name="shapes-masks")
    judged = run.evaluate()
    pixels = sum(map(sum, judged.evaluation.confusion))
    assert pixels == judged.evaluation.n * source[0].input[..., 0].size


def test_a_mask_has_the_size_of_its_file(run, tmp_path):
    Image.new("RGB", (50, 30), (200, 30, 30)).save(tmp_path / "a.png")
    found = run.predict(tmp_path / "a.png")[0]
    assert found.mask.shape == found.size == (30, 50)
    assert sum(found.shares.values()) == pytest.approx(1)
    assert "mask" not in found.to_json()
    tiled = run.predict(tmp_path / "a.png", tile="20x24", overlap=6)[0]
    assert tiled.mask.shape == (30, 50)
    whole = run.predict(tmp_path / "a.png", tile=64)[0]  # one part: as without parts
    np.testing.assert_array_equal(whole.mask, found.mask)


def test_the_commands(run, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = ran(["evaluate", run.path], capsys, monkeypatch).stdout
    assert "mIoU" in said
    assert max(map(len, said.splitlines()[:-1])) <= 80
    Image.new("RGB", (40, 30)).save("grey.png")
    assert "grey.png" in ran(["predict", run.path, "grey.png"], capsys, monkeypatch).stdout
    words = ["predict", run.path, "grey.png", "--write", "masks", "--output", "out", "--json"]
    document = loaded(ran(words, capsys, monkeypatch))
    assert sorted(document["predictions"][0]["shares"]) == sorted(
        run.folder.read_json("classes.json")
    )
    assert len(document["written"]) == 2
    with Image.open(tmp_path / "out" / "masks" / "grey.png") as mask:
        assert mask.size == (40, 30)
    refused = ran(words, capsys, monkeypatch)
    assert refused.returncode == 1
    assert "--output 'out' is not empty" in refused.stderr
    words = ["predict", run.path, "grey.png", "--write", "pictures", "--output", "drawn"]
    assert ran(words, capsys, monkeypatch).returncode == 0
    with Image.open(tmp_path / "drawn" / "grey.png") as drawn:
        assert drawn.size[0] >= 40
    words[4:] = ["coco", "--output", "boxes"]
    assert ran(words, capsys, monkeypatch).returncode == 0  # COCO holds masks, too
    words[4:] = ["yolo", "--output", "labels"]
    refused = ran(words, capsys, monkeypatch)
    assert refused.returncode == 1
    assert "--write 'yolo' holds boxes" in refused.stderr


def test_masks_are_inspected(capsys, monkeypatch):
    document = loaded(ran(["inspect", "shapes-masks:60", "--json"], capsys, monkeypatch))
    assert document["labels"] == "mask"
    assert document["counted"] == "pixels"


def test_unreadable_masks_are_no_samples(tmp_path):
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    for i in range(30):
        pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"data/images/{i:02}.png")
        size = (16, 16) if i == 4 else (32, 32)
        mask = (rng.random(size) > 0.5).astype(np.uint8)
        Image.fromarray(mask).save(tmp_path / f"data/masks/{i:02}.png")
    settings = {**SETTINGS, "model": "simple", "epochs": 1, "output": tmp_path / "run"}
    with pytest.raises(UserError, match=r"unreadable.*images/04\.png: its mask 'masks/04\.png'"):
        hubel.fit(tmp_path / "data", **settings)
    run = hubel.fit(tmp_path / "data", allow="corrupt", **settings)
    facts = run.folder.read_json("data.json")
    assert [p["id"] for p in facts["unreadable"]] == ["images/04.png"]
    assert sum(facts["splits"].values()) == 29


def test_volumes_are_classified_and_segmented(tmp_path):
    settings = {**SETTINGS, "model": "simple", "img_size": 16, "epochs": 2}
    run = hubel.fit("solids:60", output=tmp_path / "classes", **settings)
    assert run.result["task"] == "classify"
    run = hubel.fit("solids-masks:60", output=tmp_path / "masks", **settings)
    assert run.result["task"] == "segment"
    judged = run.evaluate()
    assert "data:image/" in judged.report.read_text()
    volume = open_source("solids-masks:60")[0].input
    np.save(tmp_path / "volume.npy", volume)
    found = run.predict(tmp_path / "volume.npy")[0]
    assert found.mask.shape == volume.shape[:-1]
    tiled = run.predict(tmp_path / "volume.npy", tile=20)[0]
    assert tiled.mask.shape == volume.shape[:-1]
    _, written = run.write_predictions(
        tmp_path / "volume.npy", write="masks", output=tmp_path / "out"
    )
    assert [p.name for p in written] == ["classes.txt", "volume.npy"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tile": "20x20x20"}, r"--tile 20×20×20 has 3 sides"),
        ({"tile": "big"}, r"--tile: write a size"),
        ({"tile": 20, "overlap": 20}, r"--overlap must be from 0 to 19"),
        ({"overlap": 3}, r"--overlap is of tiles"),
    ],
)
def test_impossible_tiles_are_told(run, tmp_path, settings, message):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=message):
        run.predict(tmp_path / "a.png", **settings)


def mask_set(folder, values):
    """Thirty pictures of noise whose masks are of `values`; the legend knows a and b."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for i in range(30):
        pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"images/{i:02}.png")
        Image.fromarray(rng.choice(values, (32, 32)).astype(np.uint8)).save(
            folder / f"masks/{i:02}.png"
        )
    (folder / "classes.txt").write_text("a\nb\n")
    return folder


def test_masks_without_any_class_teach_nothing(tmp_path):
    data = mask_set(tmp_path / "data", [255])
    with pytest.raises(UserError, match=r"has no pixel to learn from: in every mask of train"):
        hubel.fit(data, output=tmp_path / "run", model="simple", epochs=1, **SETTINGS)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("values", "warning"),
    [
        ([0, 255], "WARNING: no training pixel of 'b': nothing is learned of it, while 4"),
        ([0], "WARNING: no training pixel of 'b': nothing is learned of it"),
        ([0, 1], None),
    ],
)
def test_a_class_without_a_training_pixel_is_told(tmp_path, values, warning):
    """Black and white masks whose white has no name are the usual case."""
    data = prepare_data(FitConfig(data=str(mask_set(tmp_path / "data", values))))
    told = [note for note in data.notes if note.startswith("WARNING: no training pixel")]
    assert [note[: len(warning)] for note in told] == [warning] if warning else told == []
    if values == [0, 255]:
        assert "of the pixels are 255, which is no class" in told[0]


def test_masks_of_other_classes_are_told(run, tmp_path):
    with pytest.raises(UserError, match=r"has none of the run's classes \(background, circle"):
        run.evaluate(mask_set(tmp_path / "data", [0, 1]))
    with pytest.raises(UserError, match=r"has no masks to judge --task segment by"):
        run.evaluate("shapes:20")
