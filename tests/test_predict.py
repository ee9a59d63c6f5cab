"""Single files predicted: how many at once, by parts, from NIfTI, and told on the command line."""

import csv
import io
import sys
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from commands import ran
from PIL import Image
from torch import nn

import hubel
from hubel.annotate import WRITERS
from hubel.config import FitConfig
from hubel.data.preprocess import Preprocess
from hubel.data.source import open_source
from hubel.engine import exact_engine
from hubel.errors import UserError
from hubel.inference import Trained
from hubel.predict import Found, Prediction, Reading, find_files, predict_files
from hubel.tasks import TASKS

ENGINE = exact_engine(FitConfig(data="", threads=1, engine="fp32"))


class Thresholds(nn.Module):
    """Of every place class 1 where its value is above the middle; notes how many it was given."""

    def __init__(self):
        super().__init__()
        self.numbers = []

    def forward(self, input):
        self.numbers.append(len(input))
        return torch.cat([-input[:, :1], input[:, :1]], dim=1)


def trained(size, scale=255.0, channels=1, middle=0.5, task="segment"):
    preprocess = Preprocess(size, (middle,) * channels, (1.0,) * channels, scale)
    return Trained(Thresholds(), None, TASKS[task], ("background", "bright"), preprocess)


def said(network, *paths, **reading):
    return list(predict_files(network, paths, ENGINE, Reading(**reading)))


# How many at once


def test_large_pictures_are_predicted_a_few_at_a_time(tmp_path):
    for i in range(6):
        Image.new("L", (20, 10), 40 * i).save(tmp_path / f"{i}.png")
    network = trained((512, 512))
    found = said(network, tmp_path)
    assert [p.mask.max() for p in found] == [0, 0, 0, 0, 1, 1]
    assert network.model.numbers == [4, 2]
    network = trained((512, 512))
    said(network, tmp_path / "5.png", tile=(5, 7))
    assert network.model.numbers == [4, 2]
    network = trained((8, 8))
    assert len(said(network, tmp_path)) == 6
    assert network.model.numbers == [6]


def test_masks_are_made_when_they_are_asked_for(tmp_path, monkeypatch):
    for i in range(3):
        Image.new("L", (9, 9)).save(tmp_path / f"{i}.png")
    made = []
    monkeypatch.setattr(
        "hubel.predict.likeliest", lambda m, size: made.append(1) or np.zeros(size, np.uint8)
    )
    predictions = predict_files(trained((8, 8)), [tmp_path], ENGINE)
    for i in range(3):
        assert len(made) == i
        next(predictions)


# Boxes by parts


def test_boxes_below_the_least_score_do_not_enlarge_sure_ones(tmp_path, monkeypatch):
    # Two parts of 100 pixels that share 40: a sure box at the first one's border, an unsure one
    # that agrees with it where both see and goes on to the end of the second.
    sure = [1, 0.9, 0.5, 0.1, 1.0, 0.5]
    unsure = [1, 0.01, 0.0, 0.1, 1.0, 0.5]
    answers = iter([sure, unsure] * 2)
    task = TASKS["detect"]
    monkeypatch.setattr(type(task), "boxes", lambda self, output: [torch.tensor([next(answers)])])
    Image.new("L", (160, 100)).save(tmp_path / "a.png")
    network = trained((8, 8), task="detect")
    (found,) = said(network, tmp_path / "a.png", tile=(100, 100), overlap=40, min_score=0.5)
    (box,) = found.objects
    assert (box.label, box.score) == ("bright", pytest.approx(0.9))
    assert box.box == pytest.approx((50, 10, 100, 50))
    (found,) = said(network, tmp_path / "a.png", tile=(100, 100), overlap=40)
    assert [b.box for b in found.objects] == [pytest.approx((50, 10, 160, 50))]


# NIfTI


@pytest.fixture
def nibabel():
    return pytest.importorskip("nibabel", reason="NIfTI needs nibabel")


def scan(nibabel, codes, size=(6, 5, 4), dtype=np.int16, kind="Nifti1Image", seed=0):
    """A volume whose axes run about towards `codes`, a little oblique, and its values."""
    values = np.random.default_rng(seed).integers(0, 100, size).astype(dtype)
    wanted = nibabel.orientations.axcodes2ornt(codes)
    turn = nibabel.orientations.inv_ornt_aff(wanted, (0, 0, 0))[:3, :3]
    oblique = nibabel.eulerangles.euler2mat(0.1, -0.05, 0.15)
    where = np.eye(4)
    where[:3, :3] = oblique @ np.linalg.inv(turn) @ np.diag((0.7, 1.5, 2.0))
    where[:3, 3] = (-30, 12, 7)
    assert "".join(nibabel.aff2axcodes(where)) == codes
    image = getattr(nibabel, kind)(values, where)
    image.set_sform(where, code=2)
    image.set_qform(where, code=1)
    return image


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SRA", "PIL"])
@pytest.mark.parametrize(("suffix", "kind"), [(".nii.gz", "Nifti1Image"), (".nii", "Nifti2Image")])
def test_a_mask_lies_on_its_scan(nibabel, tmp_path, codes, suffix, kind):
    """Seen by nibabel, voxel for voxel in the file's own order; and read back by hubel."""
    path = tmp_path / "out" / "images" / "sub" / f"a.b{suffix}"
    path.parent.mkdir(parents=True)
    image = scan(nibabel, codes, kind=kind)
    nibabel.save(image, path)
    x, y, z = nibabel.as_closest_canonical(image).shape
    network = trained((z, y, x), scale=1.0, middle=49.5)
    (found,) = said(network, path)
    assert (found.error, found.size) == (None, (z, y, x))

    root = tmp_path / "out" / "images"
    names = ("background", "bright")
    written = WRITERS["masks"].write([found.annotated(names)], names, tmp_path / "found", root)
    assert written[1] == tmp_path / "found" / "masks" / "sub" / "a.b.nii.gz"
    mask = nibabel.load(written[1])
    assert type(mask) is type(image)
    assert mask.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asanyarray(mask.dataobj), image.get_fdata() > 49.5)
    np.testing.assert_array_equal(mask.affine, image.affine)
    for form in ("get_sform", "get_qform"):
        ours, theirs = (getattr(i, form)(coded=True) for i in (mask, nibabel.load(path)))
        np.testing.assert_array_equal(ours[0], theirs[0])
        assert ours[1] == theirs[1]

    (tmp_path / "found" / "images").symlink_to(root)
    source = open_source(tmp_path / "found")
    assert source.info.format == "nifti"
    assert source.info.classes == names
    np.testing.assert_array_equal(source.masks[0].input[..., 0], found.mask)


def test_parts_of_a_nifti_volume(nibabel, tmp_path):
    nibabel.save(scan(nibabel, "LPS", size=(9, 8, 7)), tmp_path / "a.nii.gz")
    network = trained((4, 4, 4), scale=1.0, middle=49.5)
    (found,) = said(network, tmp_path / "a.nii.gz", tile=(4, 4, 4))
    values = nibabel.as_closest_canonical(nibabel.load(tmp_path / "a.nii.gz")).get_fdata()
    np.testing.assert_array_equal(found.mask, values.transpose(2, 1, 0) > 49.5)


def test_volumes_that_do_not_go_with_the_network(nibabel, tmp_path):
    nibabel.save(scan(nibabel, "RAS"), tmp_path / "floats.nii")
    nibabel.save(scan(nibabel, "RAS", dtype=np.uint8), tmp_path / "bytes.nii")
    nibabel.save(scan(nibabel, "RAS", size=(6, 5, 4, 3)), tmp_path / "three.nii")
    (tmp_path / "damaged.nii.gz").write_bytes(b"no volume at all")
    Image.new("L", (9, 9)).save(tmp_path / "picture.png")
    paths = [tmp_path / f"{n}.nii" for n in ("floats", "bytes", "three")]
    paths += [tmp_path / "damaged.nii.gz", tmp_path / "picture.png"]

    def errors(network):
        return [p.error for p in said(network, *paths)]

    of_bytes = errors(trained((4, 5, 6)))
    assert "is not stored as uint8, the network was trained on uint8" in of_bytes[0]
    assert of_bytes[1] is None
    of_floats = errors(trained((4, 5, 6), scale=1.0))
    assert of_floats[:2] == [None, None]  # as where a set has both
    assert of_floats[2] == "the volume has 3 values a voxel, the network takes 1"
    assert "is no NIfTI file" in of_floats[3]
    assert "give .npy or NIfTI files" in of_floats[4]
    assert errors(trained((4, 5, 6), scale=1.0, channels=3))[:3] == [None] * 3
    flat = errors(trained((8, 8)))
    assert flat[:4] == ["a volume, but the network takes pictures"] * 4
    assert flat[4] is None


def test_folders_are_searched_for_nifti_and_nibabel_is_asked_for(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="is a folder without pictures or volumes; name another"):
        find_files([tmp_path])
    for name in ("a.NII", "b/c.nii.gz", "d.gz", ".e.nii"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [p.name for p in find_files([tmp_path])] == ["a.NII", "c.nii.gz"]
    monkeypatch.setitem(sys.modules, "nibabel", None)
    message = r"PATH '.*a\.NII' holds NIfTI.*by nibabel.*pip install 'hubel\[medical\]'"
    with pytest.raises(UserError, match=message):
        said(trained((4, 4, 4)), tmp_path)


def test_a_run_of_nifti_predicts_nifti(nibabel, tmp_path, capsys, monkeypatch):
    for folder in ("images", "masks"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    for i in range(12):
        image = scan(nibabel, "LSP", size=(16, 16, 16), seed=i)
        nibabel.save(image, tmp_path / f"data/images/{i:02}.nii.gz")
        mask = nibabel.Nifti1Image((image.get_fdata() > 50).astype(np.uint8), image.affine)
        nibabel.save(mask, tmp_path / f"data/masks/{i:02}.nii.gz")
    settings = {"threads": 1, "engine": "fp32", "model": "simple", "epochs": 1, "seed": 1}
    run = hubel.fit(tmp_path / "data", output=tmp_path / "run", **settings)
    words = ["predict", run.path, tmp_path / "data/images", "--write", "masks", "--output"]
    assert ran([*words, tmp_path / "out"], capsys, monkeypatch).returncode == 0
    masks = sorted((tmp_path / "out/masks").iterdir())
    assert [path.name for path in masks] == [f"{i:02}.nii.gz" for i in range(12)]
    first = nibabel.load(masks[0])
    assert first.shape == (16, 16, 16)
    np.testing.assert_array_equal(first.affine, image.affine)
    with pytest.raises(UserError, match="--min-score is of a detector's objects"):
        run.predict(tmp_path / "data/images", min_score=0.5)
    done = ran(["predict", run.path, "a.nii", "--output", "out"], capsys, monkeypatch)
    assert done.returncode == 1
    assert "--output is the folder of --write" in done.stderr


# The command line


@pytest.fixture
def told(monkeypatch, capsys):
    """What `hubel predict` prints of predictions that a run gives one by one."""

    def of(predictions, *words):
        run = SimpleNamespace(predict_each=lambda *paths, **settings: predictions)
        monkeypatch.setattr("hubel.api.load", lambda path, model=None: run)
        return ran(["predict", "run", "a.png", *words], capsys, monkeypatch)

    return of


def segmented(path, mask):
    shares = {"sea": float((mask == 0).mean()), "land": float((mask == 1).mean()), "ice": 0.0}
    return Prediction(path, mask.shape, shares=shares, mask=mask)


def test_the_command_holds_one_mask_at_a_time(told):
    alive = []

    def predictions():
        for i in range(4):
            mask = np.zeros((3, 4), np.uint8)
            alive.append(weakref.ref(mask))
            found = segmented(f"{i}.png", mask)
            del mask
            yield found
            del found
            assert sum(ref() is not None for ref in alive[:-1]) == 0

    done = told(predictions())
    assert done.returncode == 0
    assert len(alive) == 4
    assert "100.0 % sea" in done.stdout


def test_csv_has_a_row_for_each_class_of_a_mask(told):
    mask = np.array([[0, 0, 0, 1]], np.uint8)
    broken = Prediction("b.png", error="no picture")
    done = told(iter([segmented("a.png", mask), broken]), "--csv")
    assert done.returncode == 1
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [tuple(row.values()) for row in rows] == [
        ("a.png", "sea", "0.75", ""),
        ("a.png", "land", "0.25", ""),
        ("a.png", "ice", "0", ""),
        ("b.png", "", "", "no picture"),
    ]
    assert list(rows[0]) == ["path", "class", "share", "error"]


def test_csv_of_objects_is_as_it_was(told):
    found = Found("cat", 0.5, (1.0, 2.0, 3.5, 1234.5678))
    predictions = [
        Prediction("a.png", (9, 9), objects=(found,)),
        Prediction("b.png", (9, 9), objects=()),
    ]
    lines = told(iter(predictions), "--csv").stdout.splitlines()
    assert lines == [
        "path,class,probability,error,left,top,right,bottom",
        "a.png,cat,0.5,,1,2,3.5,1234.57",
        "b.png,,,,,,,",
    ]
