"""MNIST's files: plain, gzipped, whole, broken."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
from data_makers import idx_bytes, write_idx_set

from hubel.data.formats.idx import FASHION_CLASSES
from hubel.data.source import FORMATS, open_source
from hubel.errors import UserError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (12, 7, 5), np.uint8)
LABELS = (np.arange(12) % 10).astype(np.uint8)


@pytest.mark.parametrize("gz", [False, True])
def test_both_splits(tmp_path, gz):
    write_idx_set(tmp_path / "mnist", (IMAGES, LABELS), (IMAGES[:3], LABELS[:3]), gz)
    source = open_source(tmp_path / "mnist")
    assert source.info.format == "idx"
    assert source.info.classes == tuple("0123456789")
    assert source.info.flip_safe is False
    assert (source.info.in_channels, source.info.size, source.info.spatial_dims) == (1, (7, 5), 2)
    assert source.splits.tolist() == ["train"] * 12 + ["test"] * 3
    assert source.ids[0] == "train/00000"
    assert source.ids[14] == "test/00002"
    assert source.targets.tolist() == [*LABELS, *LABELS[:3]]
    for i, expected in ((0, IMAGES[0]), (11, IMAGES[11]), (13, IMAGES[1])):
        np.testing.assert_array_equal(source[i].input[:, :, 0], expected)
        assert source.content(i) == expected.tobytes()
    assert source.decode(source.content(0), 0, 3).shape == (7, 5, 3)
    batch = source.batch(np.array([14, 2]))
    np.testing.assert_array_equal(batch[..., 0], np.stack([IMAGES[2], IMAGES[2]]))
    assert source.notes == ["classes '3', '4', '5' and 4 more have no sample in test"]


def test_plain_files_are_mapped(tmp_path):
    write_idx_set(tmp_path, (IMAGES, LABELS))
    source = open_source(tmp_path)
    assert any(isinstance(b.base, np.memmap) for b in source._blocks)


def test_only_one_split(tmp_path):
    write_idx_set(tmp_path, (IMAGES, LABELS))
    assert set(open_source(tmp_path).splits) == {"train"}


def test_names_with_a_dot(tmp_path):
    write_idx_set(tmp_path, (IMAGES, LABELS))
    (tmp_path / "train-images-idx3-ubyte").rename(tmp_path / "train-images.idx3-ubyte")
    assert len(open_source(tmp_path)) == 12


def test_fashion_is_known_by_its_folder(tmp_path):
    write_idx_set(tmp_path / "Fashion-MNIST", (IMAGES, LABELS))
    source = open_source(tmp_path / "Fashion-MNIST")
    assert source.info.classes == FASHION_CLASSES
    assert source.info.flip_safe
    (tmp_path / "link").symlink_to(tmp_path / "Fashion-MNIST")
    assert open_source(tmp_path / "link").info.classes == FASHION_CLASSES
    write_idx_set(tmp_path / "fashion-2", (IMAGES, LABELS + 5))  # not its labels
    assert open_source(tmp_path / "fashion-2").info.classes[0] == "5"


def test_four_dimensions(tmp_path):
    colour = RNG.integers(0, 256, (10, 7, 5, 3), np.uint8)
    write_idx_set(tmp_path / "a", (colour, LABELS[:10]))
    source = open_source(tmp_path / "a")
    np.testing.assert_array_equal(source[2].input, colour[2])
    assert source.notes == ["read (10, 7, 5, 3) as (n, height, width, channels)"]
    write_idx_set(tmp_path / "b", (RNG.integers(0, 256, (10, 6, 6, 6), np.uint8), LABELS[:10]))
    assert open_source(tmp_path / "b").info.spatial_dims == 3


def test_the_stamp_follows_the_files(tmp_path):
    write_idx_set(tmp_path, (IMAGES, LABELS))
    first = open_source(tmp_path).stamp()
    assert open_source(tmp_path).stamp() == first
    os.utime(tmp_path / "train-images-idx3-ubyte", ns=(1, 1))
    assert open_source(tmp_path).stamp() != first


def test_the_installed_set_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    installed = write_idx_set(tmp_path / "usr" / "fashion-mnist", (IMAGES, LABELS))
    monkeypatch.setattr("hubel.data.formats.idx._INSTALLED", {"fashion-mnist": installed})
    assert open_source("fashion-mnist").info.classes == FASHION_CLASSES
    (installed / "train-images-idx3-ubyte").unlink()
    (installed / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(UserError, match=r"'fashion-mnist' is not installed: .* dataset-fashion-m"):
        open_source("fashion-mnist")
    # A folder of that name here comes first.
    write_idx_set(tmp_path / "fashion-mnist", (IMAGES[:10], LABELS[:10]))
    assert len(open_source("fashion-mnist")) == 10


IMAGES_FILE = "train-images-idx3-ubyte"
LABELS_FILE = "train-labels-idx1-ubyte"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (IMAGES_FILE, idx_bytes(IMAGES)[:-1], r"images-idx3-ubyte' is truncated: its header "
         r"declares 420 values, it holds 419; fetch the file again$"),
        (IMAGES_FILE, idx_bytes(IMAGES) + b"x", r"holds more than the 420 values"),
        (IMAGES_FILE, idx_bytes(IMAGES)[:9], r"is truncated: it ends within its header"),
        (IMAGES_FILE, b"", r"is not an idx file: it starts with '', expected '00 00 08' and"),
        (IMAGES_FILE, b"\x89PNG1234", r"is not an idx file: it starts with '89 50 4e 47'"),
        (IMAGES_FILE, b"\0\0\x0d\x01\0\0\0\0", r"holds values of type 0x0d; hubel reads idx files"),
        (IMAGES_FILE, b"\0\0\x08\x03" + b"\xff" * 12, r"declares 7\d,.* values, more than hubel"),
        (LABELS_FILE, idx_bytes(LABELS[:-2]), r": 12 images but 10 labels"),
        (LABELS_FILE, idx_bytes(LABELS[:, None]), r"has 2 dimensions; a file of labels has one$"),
        (LABELS_FILE, idx_bytes(LABELS * 0), r"at least two classes are needed"),
        (LABELS_FILE, None, r"has train-images-idx3-ubyte but no file of its labels; put train-l"),
        (IMAGES_FILE, None, r"has train-labels-idx1-ubyte but no file of its images; put train-i"),
    ],
)  # fmt: skip
def test_messages(tmp_path, name, content, message):
    write_idx_set(tmp_path, (IMAGES, LABELS))
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        open_source(tmp_path)


def test_damaged_gzip(tmp_path):
    write_idx_set(tmp_path, (IMAGES, LABELS), gz=True)
    file = tmp_path / f"{IMAGES_FILE}.gz"
    whole = file.read_bytes()
    for content in (whole[: len(whole) // 2], b"no gzip", b""):
        file.write_bytes(content)
        with pytest.raises(
            UserError, match=r"\.gz' (cannot be read: .*; fetch|is (truncated|not))"
        ):
            open_source(tmp_path)
    file.write_bytes(gzip.compress(idx_bytes(IMAGES) + bytes(9)))
    with pytest.raises(UserError, match=r"\.gz' holds more than the 420 values"):
        open_source(tmp_path)


def test_a_class_of_test_that_train_lacks(tmp_path):
    write_idx_set(tmp_path, (IMAGES, LABELS % 3), (IMAGES, LABELS % 4))
    with pytest.raises(UserError, match="class '3' is in test but not in train"):
        open_source(tmp_path)


def test_other_folders_are_not_idx(tmp_path):
    assert not FORMATS["idx"].matches(str(tmp_path))
    with pytest.raises(UserError, match=r"has no idx files; expected a folder of \{train,t10k\}"):
        open_source(tmp_path, format="idx")


@pytest.mark.data
def test_mnist():
    if "HUBEL_DATA" not in os.environ:
        pytest.skip("HUBEL_DATA names no folder of real data sets")
    source = open_source(Path(os.environ["HUBEL_DATA"]) / "mnist")
    assert len(source) == 70_000
    train = source.batch(np.arange(60_000)).astype(np.float64) / 255
    assert train.mean() == pytest.approx(0.13066, abs=5e-6)  # as the set's own notes say
    assert train.std() == pytest.approx(0.30811, abs=5e-6)


@pytest.mark.data
def test_debians_fashion_mnist():
    folder = Path("/usr/share/datasets/fashion-mnist")
    if not folder.is_dir():
        pytest.skip("Debian's dataset-fashion-mnist is not installed")
    source = open_source("fashion-mnist")
    assert source.info.classes[9] == "Ankle boot"
    assert np.bincount(source.targets).tolist() == [7000] * 10
