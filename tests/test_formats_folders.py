"""Class folders: every layout that works, and a clear word about every one that does not."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from data_makers import class_folders, encoded, png
from PIL import Image

from hubel.data import filesource
from hubel.data.source import FORMATS, UnreadableSampleError, open_source
from hubel.errors import UserError


def test_flat(tmp_path):
    source = open_source(class_folders(tmp_path, {"dog": 2, "cat": 3}))
    assert source.info.format == "folders"
    assert source.info.classes == ("cat", "dog")
    assert source.info.in_channels is None
    assert source.info.size is None
    assert source.info.spatial_dims == 2
    assert source.ids == ["cat/000.png", "cat/001.png", "cat/002.png", "dog/000.png", "dog/001.png"]
    assert source.targets.tolist() == [0, 0, 0, 1, 1]
    assert source.targets.dtype == np.int64
    assert set(source.splits) == {""}
    assert source.groups is None
    assert source.notes == []
    assert source.path == tmp_path
    assert len(source) == 5


def test_splits_and_samples(tmp_path):
    counts = {"train/a1": 2, "train/b1": 1, "val/a1": 1, "val/b1": 1, "test/b1": 1, "test/a1": 1}
    source = open_source(class_folders(tmp_path, counts))
    assert source.ids[0] == "train/a1/000.png"
    assert source.splits.tolist() == ["train"] * 3 + ["val"] * 2 + ["test"] * 2
    assert source.targets.tolist() == [0, 0, 1, 0, 1, 0, 1]
    sample = source[2]
    assert (sample.id, sample.target, sample.split) == ("train/b1/000.png", 1, "train")
    assert sample.input.shape == (3, 4, 3)
    assert sample.input[0, 0].tolist() == [3, 0, 7]  # the third picture that was written
    assert source.decode(source.content(2), 2, 1).shape == (3, 4, 1)


@pytest.mark.parametrize("name", ["valid", "validation", "Val", "VALIDATION"])
def test_other_names_of_val(tmp_path, name):
    counts = {"Train/a1": 1, "Train/b1": 1, f"{name}/a1": 1, f"{name}/b1": 1}
    source = open_source(class_folders(tmp_path, counts))
    assert source.splits.tolist() == ["train", "train", "val", "val"]
    assert source.ids[2] == f"{name}/a1/000.png"


def test_only_a_test_split_can_be_read(tmp_path):
    source = open_source(class_folders(tmp_path, {"test/a1": 1, "test/b1": 1}))
    assert source.splits.tolist() == ["test", "test"]


def test_nested_files_count(tmp_path):
    class_folders(tmp_path, {"cat/indoor/2024": 2, "cat": 1, "dog/x": 1})
    source = open_source(tmp_path)
    assert source.ids[1] == "cat/indoor/2024/000.png"
    assert source.targets.tolist() == [0, 0, 0, 1]


def test_names_are_sorted_as_text(tmp_path):
    source = open_source(class_folders(tmp_path, {"10": 1, "2": 1, "1": 1}))
    assert source.info.classes == ("1", "10", "2")


@pytest.mark.parametrize(
    ("names", "safe"),
    [
        (("0", "1"), False),
        (("a", "B"), False),
        (("zero", "Nine"), False),
        (("0", "10"), True),
        (("cat", "dog"), True),
        (("é", "ß"), False),
        (("left hand", "right hand", "none"), False),
    ],
)
def test_flip_safe(tmp_path, names, safe):
    source = open_source(class_folders(tmp_path, dict.fromkeys(names, 1)))
    assert source.info.flip_safe is safe


def test_every_suffix_in_any_case(tmp_path):
    class_folders(tmp_path, {"dog": 1, "cat": 0})
    names = ["a.JPG", "b.jpeg", "c.Png", "d.bmp", "e.tif", "f.tiff", "g.webp", "h.gif", "i.pgm"]
    for name in names:
        (tmp_path / "cat" / name).write_bytes(png())
    assert len(open_source(tmp_path)) == 10


def test_what_is_ignored_is_counted(tmp_path):
    class_folders(tmp_path, {"cat": 1, "dog": 1, ".git/x": 1, "cat/.thumbs": 1, "__MACOSX": 1})
    (tmp_path / "cat" / "notes.txt").write_text("x")
    (tmp_path / "dog" / "b.heic").write_text("x")
    (tmp_path / "dog" / "._a.png").write_text("x")
    (tmp_path / "README.md").write_text("x")
    (tmp_path / "dog" / "gone.png").symlink_to(tmp_path / "nowhere")
    source = open_source(tmp_path)
    assert len(source) == 2
    assert source.notes == [
        "ignored 4 hidden entries",
        "ignored 1 entry that is neither a file nor a folder (broken links, devices)",
        "ignored 2 files that are not pictures (first: cat/notes.txt)",
        "ignored 1 entry beside the class folders (first: README.md)",
    ]


def test_what_lies_beside_the_splits_is_noted(tmp_path):
    class_folders(tmp_path, {"train/a1": 1, "train/b1": 1, "docs": 0})
    (tmp_path / "README.txt").write_text("x")
    (tmp_path / "labels.csv").write_text("x")
    (tmp_path / "train" / "x.png").write_bytes(png())
    source = open_source(tmp_path)
    assert len(source) == 2
    assert source.notes == ["ignored 4 entries beside the class folders (first: README.txt)"]


def test_a_class_missing_from_val_or_test_is_noted(tmp_path):
    class_folders(tmp_path, {"train/a1": 1, "train/b1": 1, "val/a1": 1, "val/b1": 0, "test/b1": 1})
    assert open_source(tmp_path).notes == [
        "class folder 'val/b1' is empty",
        "class 'b1' has no sample in val",
        "class 'a1' has no sample in test",
    ]


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (
            {"cat": 1, "dog": 0},
            r"^DATA '.*': class folder 'dog' holds no pictures; put pictures into it or take",
        ),
        ({"train/cat": 1, "train/dog": 0}, r"class folder 'train/dog' holds no pictures"),
        (
            {"train/cat": 1, "train/dog": 1, "val/cat": 1, "val/bird": 1},
            r"class 'bird' is in val but not in train, so no network could learn it; put "
            r"pictures of it into train/bird, or take the folder val/bird away$",
        ),
        ({"cat": 3}, r"at least two classes are needed, found one only \('cat'\)$"),
        (
            {"train/a1": 1, "train/b1": 1, "test/a1": 1, "cats": 1},
            r"mixes split folders \(.*train.*\) with other folders of pictures \(cats\); move",
        ),
        ({"val/a1": 1, "cats": 1}, r"mixes split folders \(val\) with other folders"),
        (
            {"train/a1": 1, "val/a1": 1, "valid/a1": 1},
            r"has two folders for val: '(val|valid)' and '(val|valid)'; keep one$",
        ),
        (
            {"train": 3, "test": 2},
            r"train' holds pictures but no class folders; .*: train/CLASS/000\.png$",
        ),
        ({"train/a1": 1, "train/b1": 1, "val": 1}, r"val' holds pictures but no class folders"),
        ({"": 3}, r"holds 3 pictures but no class folders; the label is the name of the folder"),
        ({"": 0}, r"^DATA '.*' is empty; expected DATA/CLASS/\*\.jpg, or DATA/\{train,val,test\}"),
        ({".git": 2}, r"is empty; expected"),
        ({"train": 0, "test": 0}, r"holds no pictures in class folders; expected"),
    ],
)
def test_messages(tmp_path, counts, message):
    class_folders(tmp_path, counts)
    with pytest.raises(UserError, match=message):
        open_source(tmp_path)


def test_a_class_of_other_files_names_them(tmp_path):
    class_folders(tmp_path, {"cat": 1, "dog": 0})
    (tmp_path / "dog" / "IMG_1.HEIC").write_bytes(b"x")
    with pytest.raises(UserError, match=r"'dog' holds no pictures \(it holds 1 other files, "
                       r"first dog/IMG_1\.HEIC; hubel reads \.jpg .*\)"):  # fmt: skip
        open_source(tmp_path)


def test_pictures_beside_a_table_point_to_the_table(tmp_path):
    class_folders(tmp_path, {"": 2})
    (tmp_path / "labels.csv").write_text("path,label\n000.png,a\n001.png,b\n")
    with pytest.raises(UserError, match=r"the labels are in 'labels\.csv', name that file: .*csv$"):
        open_source(tmp_path)
    assert open_source(tmp_path / "labels.csv").info.format == "manifest"


def test_a_file_is_not_a_data_set(tmp_path):
    (tmp_path / "cat.jpg").write_bytes(png())
    with pytest.raises(UserError, match=r"cat\.jpg' has none of the layouts hubel reads\. Arrange"):
        open_source(tmp_path / "cat.jpg")
    with pytest.raises(UserError, match=r"cat\.jpg' is not a folder"):
        open_source(tmp_path / "cat.jpg", format="folders")
    with pytest.raises(UserError, match=r"neither a path that exists nor an embedded set"):
        open_source(tmp_path / "nowhere")


def test_a_folder_of_other_things_is_not_class_folders(tmp_path):
    (tmp_path / "src" / "deep").mkdir(parents=True)
    (tmp_path / "src" / "deep" / "main.c").write_text("x")
    assert not FORMATS["folders"].matches(str(tmp_path))
    with pytest.raises(UserError, match="has none of the layouts"):
        open_source(tmp_path)


def test_links_are_followed_and_loops_end(tmp_path):
    class_folders(tmp_path / "real", {"cats": 2})
    data = class_folders(tmp_path / "data", {"dog": 1})
    (data / "cat").symlink_to(tmp_path / "real" / "cats")
    (data / "dog" / "again").symlink_to(data / "dog")
    (data / "dog" / "up").symlink_to(data)
    source = open_source(data)
    assert source.info.classes == ("cat", "dog")
    ids = [i for i in source.ids if i.startswith("cat/")]
    assert ids == ["cat/000.png", "cat/001.png"]
    assert source[0].input.shape == (3, 4, 3)
    assert len(source) < 10


def test_names_that_are_not_unicode(tmp_path):
    class_folders(tmp_path, {"cat": 1})
    odd = os.fsencode(tmp_path) + b"/h\xfcnd"
    try:
        Path(os.fsdecode(odd)).mkdir()
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    for name in (b"bl\xf6d.png", b"bl\\xf6d.png"):
        Path(os.fsdecode(odd + b"/" + name)).write_bytes(png((1, 2, len(name))))
    source = open_source(tmp_path)
    assert source.info.classes == ("cat", "h\\xfcnd")
    assert sorted(source.ids[1:]) == ["h\\xfcnd/bl\\xf6d.png", "h\\xfcnd/bl\\xf6d.png~"]
    for i in range(3):
        source.ids[i].encode()  # can be written to a report
        assert source[i].input.shape == (3, 4, 3)
    assert sorted(source[i].input[0, 0, 2] for i in (1, 2)) == [8, 11]
    source.stamp()
    class_folders(tmp_path, {"h\\xfcnd": 1})
    with pytest.raises(UserError, match="two class folders have the same name when written as UTF"):
        open_source(tmp_path)


def test_an_unlabelled_test_folder_is_noted(tmp_path):
    source = open_source(class_folders(tmp_path, {"train/a1": 1, "train/b1": 1, "test": 2}))
    assert len(source) == 2
    assert source.notes == ["ignored 2 pictures in test: without class folders they have no labels"]


def test_a_folder_that_may_not_be_read(tmp_path, monkeypatch):
    class_folders(tmp_path, {"cat": 1, "dog": 1})
    real = os.scandir

    def denied(folder):
        if str(folder).endswith("dog"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(folder)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(UserError, match=r"dog' cannot be read: Permission denied; check its perm"):
        open_source(tmp_path)
    monkeypatch.setattr(os, "scandir", lambda _: (_ for _ in ()).throw(PermissionError(13, "No")))
    with pytest.raises(UserError, match="cannot be read: No; check its permissions"):
        open_source(tmp_path)


def test_files_that_cannot_be_read_give_a_reason(tmp_path, monkeypatch):
    class_folders(tmp_path, {"cat": 2, "dog": 1})
    (tmp_path / "cat" / "001.png").write_bytes(b"")
    source = open_source(tmp_path)
    with pytest.raises(UnreadableSampleError, match=r"^empty file \(0 bytes\)$"):
        source[1]
    (tmp_path / "cat" / "000.png").unlink()
    with pytest.raises(UnreadableSampleError, match=r"^cannot be read: No such file or directory$"):
        source.content(0)
    monkeypatch.setattr(filesource, "MAX_FILE_BYTES", 10)
    with pytest.raises(UnreadableSampleError, match=r"^too large: \d+ bytes, the limit is 10$"):
        source.content(2)


def test_the_stamp_follows_the_files(tmp_path):
    class_folders(tmp_path, {"cat": 2, "dog": 1})
    first = open_source(tmp_path).stamp()
    assert first == open_source(tmp_path).stamp()
    file = tmp_path / "cat" / "000.png"
    os.utime(file, ns=(1, 1))
    touched = open_source(tmp_path).stamp()
    assert touched != first
    (tmp_path / "cat" / "000.png").rename(tmp_path / "cat" / "moved.png")
    renamed = open_source(tmp_path).stamp()
    assert renamed not in (first, touched)
    source = open_source(tmp_path)
    (tmp_path / "cat" / "moved.png").unlink()
    assert source.stamp() not in (first, touched, renamed)  # gone while open: no error


def test_nothing_is_written(tmp_path):
    class_folders(tmp_path, {"cat": 2, "dog": 1})
    before = sorted((p, p.stat().st_mtime_ns) for p in tmp_path.rglob("*"))
    source = open_source(tmp_path)
    source.stamp()
    source[0]
    assert sorted((p, p.stat().st_mtime_ns) for p in tmp_path.rglob("*")) == before


def test_grey_and_colour_side_by_side(tmp_path):
    class_folders(tmp_path, {"cat": 1, "dog": 0})
    (tmp_path / "dog" / "g.png").write_bytes(encoded(Image.new("L", (4, 3), 9), "PNG"))
    source = open_source(tmp_path)
    assert [source[i].input.shape[2] for i in range(2)] == [3, 1]


def test_no_format_imports_torch():
    code = (
        "from hubel.data.source import FORMATS; FORMATS.names(); import sys; "
        "sys.exit(any(m in sys.modules for m in ('torch', 'sklearn', 'pickle5')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.data
def test_the_jpeg_copy_of_cifar10():
    if "HUBEL_DATA" not in os.environ:
        pytest.skip("HUBEL_DATA names no folder of real data sets")
    source = open_source(Path(os.environ["HUBEL_DATA"]) / "cifar10")
    assert len(source) == 60_000
    assert np.bincount(source.targets[source.splits == "train"]).tolist() == [5000] * 10
    assert np.bincount(source.targets[source.splits == "test"]).tolist() == [1000] * 10
    assert source[59_999].input.shape == (32, 32, 3)
