"""The CSV manifest: columns, delimiters, encodings, and a line number in every complaint."""

import pytest
from data_makers import class_folders

from hubel.data.source import open_source
from hubel.errors import UserError


@pytest.fixture
def photos(tmp_path):
    """Six pictures photos/000.png … photos/005.png; returns a function that writes the CSV."""
    class_folders(tmp_path, {"photos": 6})

    def write(text, name="labels.csv", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes(text.encode(encoding))
        return path

    return write


def rows(*cells: str, header: str = "path,label") -> str:
    lines = [f"photos/{i:03}.png,{cell}" for i, cell in enumerate(cells)]
    return "\n".join([header, *lines]) + "\n"


def test_path_and_label(photos):
    path = photos(rows("dog", "cat", "dog"))
    source = open_source(path)
    assert source.info.format == "manifest"
    assert source.info.classes == ("cat", "dog")
    assert source.targets.tolist() == [1, 0, 1]
    assert source.ids == ["photos/000.png", "photos/001.png", "photos/002.png"]
    assert set(source.splits) == {""}
    assert source.groups is None
    assert source.path == path
    assert source.notes == []
    assert source[1].input[0, 0].tolist() == [2, 0, 7]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_delimiters_byte_order_marks_and_line_ends(photos, delimiter, encoding, newline):
    text = rows("grün,train,p1", "rot,train,p2", header="Path,Label, Split ,GROUP")
    text = text.replace(",", delimiter).replace("\n", newline)
    source = open_source(photos(text, encoding=encoding))
    assert source.info.classes == ("grün", "rot")
    assert source.splits.tolist() == ["train", "train"]
    assert source.groups is not None
    assert source.groups.tolist() == ["p1", "p2"]


def test_splits_and_groups(photos):
    text = rows(
        "a,train,p1", "b,train,p1", "a,Validation,p2", "b,val,", "a,test,p3", "b,test,",
        header="path,label,split,group",
    )  # fmt: skip
    source = open_source(photos(text))
    assert source.splits.tolist() == ["train", "train", "val", "val", "test", "test"]
    assert source.groups is not None
    assert source.groups.tolist() == [
        "p1",
        "p1",
        "p2",
        "line 5 (no group)",
        "p3",
        "line 7 (no group)",
    ]
    assert source.info.flip_safe is False


def test_columns_in_any_order_extra_ones_and_quotes(photos):
    text = 'label,camera,path\n"cat, black",x,"photos/000.png"\n\ndog,y, photos/001.png \n,,\n'
    source = open_source(photos(text))
    assert source.info.classes == ("cat, black", "dog")
    assert source.notes == ["ignored the columns camera of the manifest"]


def test_numbers_are_text_and_sorted_as_text(photos):
    assert open_source(photos(rows("10", "9", "1"))).info.classes == ("1", "10", "9")


def test_absolute_and_parent_paths(photos, tmp_path):
    (tmp_path / "tables").mkdir()
    text = f"path,label\n../photos/000.png,a\n{tmp_path}/photos/001.png,b\n"
    source = open_source(photos(text, name="tables/x.CSV"))
    assert source.ids == ["../photos/000.png", f"{tmp_path}/photos/001.png"]
    assert source[1].input[0, 0, 0] == 2


def test_the_stamp_follows_labels_and_files(photos, tmp_path):
    first = open_source(photos(rows("a", "b", "b"))).stamp()
    assert open_source(photos(rows("a", "b", "b"))).stamp() == first
    assert open_source(photos(rows("a", "b", "a"))).stamp() != first
    (tmp_path / "photos" / "000.png").write_bytes(b"other")
    assert open_source(photos(rows("a", "b", "b"))).stamp() != first


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"line 1 must name the columns path and label .* got an empty line$"),
        ("file,class\nx,y\n", r"line 1 must name the columns path and label .*; got file, class$"),
        ("photos/000.png,cat\n", r"got photos/000\.png, cat$"),
        ("path,label,path\n", r"line 1 names the column 'path' twice; keep one$"),
        ("path,label\n", r"has a header but no rows; write one row a picture$"),
        (rows("a", ""), r"line 3 has no label \(got '' for photos/001\.png\); write the class"),
        (rows("a", "NaN"), r"line 3 has no label \(got 'NaN' for photos/001\.png\)"),
        (rows("a", " "), r"line 3 has no label"),
        ("path,label\n,a\n", r"line 2 has no path; name the picture or take the row out$"),
        ("path,label\nx.png,a,b\n", r"line 2 has 3 fields, the header has 2; quote a field"),
        ("path,label\nx.png\n", r"line 2 has 1 fields, the header has 2"),
        (
            "path,label\nphotos/000.png,a\ngone.png,a\nlost.png,b\n",
            r"line 3: 'gone\.png' is not a file below '.*' \(2 such rows\); paths are relative",
        ),
        ("path,label\nphotos\\000.png,a\n", r"relative to the CSV's folder; write paths with /$"),
        ("path,label\nphotos,a\n", r"line 2: 'photos' is not a file"),
        (
            "path,label\nphotos/000.png,a\nphotos/./000.png,b\n",
            r"line 3 names photos/\./000\.png again \(first in line 2\); a picture has one row$",
        ),
        (
            rows("a,train", "b,trian", header="path,label,split"),
            r"line 3: split 'trian' is not known; did you mean 'train'\?$",
        ),
        (
            rows("a,train", "b,", header="path,label,split"),
            r"line 3 has no split while other rows have; give every row train, val or test",
        ),
        (
            rows("a,train,p1", "b,train,p2", "a,test,p1", header="path,label,split,group"),
            r"group 'p1' is in train \(line 2\) and in test \(line 4\); a group belongs to one",
        ),
        (
            rows("a,train", "b,train", "c,test", header="path,label,split"),
            r"class 'c' is in test but not in train, so no network could learn it; label rows "
            r"of train with 'c', or take its rows of test out$",
        ),
        (rows("a", "a"), r"at least two classes are needed, found one only \('a'\)$"),
        ('path,label\n"photos/000.png,a\n', r"line 2 is not valid CSV: unexpected end of data$"),
        ("path,label\nphotos/000.png,a\n" + "x" * 140_000 + ",b\n", r"line 3 is not valid CSV"),
    ],
)
def test_messages(photos, text, message):
    path = photos(text)
    with pytest.raises(UserError, match=message) as caught:
        open_source(path)
    assert str(path) in str(caught.value)


def test_not_utf8(photos):
    path = photos("path,label\nphotos/000.png,é\n", encoding="latin-1")
    with pytest.raises(UserError, match=r"is not UTF-8 text \(byte 26: .*\); save it as UTF-8 CSV"):
        open_source(path)
    path = photos("path,label\n", encoding="utf-16")
    with pytest.raises(UserError, match=r"is not UTF-8 text \(byte 0"):
        open_source(path)


def test_a_folder_is_not_a_manifest(tmp_path):
    (tmp_path / "x.csv").mkdir()
    with pytest.raises(UserError, match=r"is not a file; a manifest is a CSV file with the col"):
        open_source(tmp_path / "x.csv", format="manifest")
