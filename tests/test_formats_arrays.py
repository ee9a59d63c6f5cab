"""NumPy arrays as data sets: names, shapes, types, and what is refused."""

import zipfile

import numpy as np
import pytest

from hubel.data import npy
from hubel.data.arraysource import channels_last
from hubel.data.source import open_source
from hubel.errors import UserError

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (6, 5, 4, 3), np.uint8)
LABELS = np.array([0, 1, 0, 1, 0, 1])


def npz(path, compress=False, **arrays):
    (np.savez_compressed if compress else np.savez)(path, **arrays)
    return path


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize(("x", "y"), [("X", "y"), ("images", "labels"), ("data", "targets")])
def test_npz_without_splits(tmp_path, compress, x, y):
    source = open_source(npz(tmp_path / "a.npz", compress, **{x: PICTURES, y: LABELS}))
    assert source.info.format == "arrays"
    assert source.info.spatial_dims == 2
    assert (source.info.in_channels, source.info.size) == (3, (5, 4))
    assert source.info.classes == ("0", "1")
    assert source.info.flip_safe is False
    assert source.ids[3] == "00003"
    assert source.targets.tolist() == LABELS.tolist()
    assert set(source.splits) == {""}
    assert source.notes == ["read (6, 5, 4, 3) as (n, height, width, channels)"]
    for i in range(6):
        np.testing.assert_array_equal(source[i].input, PICTURES[i])
    assert source.content(2) == PICTURES[2].tobytes()
    batch = source.batch(np.array([4, 0, 4]))
    assert batch is not None
    np.testing.assert_array_equal(batch, PICTURES[[4, 0, 4]])
    assert batch.dtype == np.uint8
    assert source.decode(source.content(0), 0, 1).shape == (5, 4, 1)


@pytest.mark.parametrize(
    "names",
    [
        ("X_train", "y_train", "X_test", "y_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),
        ("x-train", "y-train", "test.data", "test.target"),
    ],
)
def test_splits_by_name(tmp_path, names):
    arrays = dict(zip(names, (PICTURES[:4], LABELS[:4], PICTURES[4:], LABELS[4:]), strict=True))
    source = open_source(npz(tmp_path / "a.npz", **arrays))
    assert source.splits.tolist() == ["train"] * 4 + ["test"] * 2
    assert source.ids == [*(f"train/{i:05}" for i in range(4)), "test/00000", "test/00001"]
    np.testing.assert_array_equal(source[5].input, PICTURES[5])
    batch = source.batch(np.array([5, 0, 4, 3]))
    np.testing.assert_array_equal(batch, PICTURES[[5, 0, 4, 3]])


def test_a_folder_of_npy_files(tmp_path):
    np.save(tmp_path / "images.npy", PICTURES)
    np.save(tmp_path / "labels.npy", LABELS.astype(np.float64)[:, None])
    np.save(tmp_path / "notes.npy", LABELS)
    np.save(tmp_path / "classes.npy", np.array(["cat", "dog"]))
    source = open_source(tmp_path)
    assert source.info.classes == ("cat", "dog")
    assert source.info.flip_safe
    assert source.notes[-1] == "ignored the arrays notes"
    np.testing.assert_array_equal(source[1].input, PICTURES[1])
    first = source.stamp()
    np.save(tmp_path / "labels.npy", LABELS[::-1])
    assert open_source(tmp_path).stamp() != first


@pytest.mark.parametrize("where", ["npy", "npz"])
def test_large_arrays_are_mapped_not_read(tmp_path, where):
    if where == "npz":
        npz(tmp_path / "a.npz", X=PICTURES, y=LABELS)
        array = npy.open_npz_member(tmp_path / "a.npz", "X")
    else:
        np.save(tmp_path / "X.npy", PICTURES)
        array = npy.open_npy(tmp_path / "X.npy")
    assert isinstance(array, np.memmap)
    assert not array.flags.writeable
    np.testing.assert_array_equal(array, PICTURES)


@pytest.mark.parametrize("compress", [False, True])
def test_fortran_order_and_other_byte_orders(tmp_path, compress):
    x = np.asfortranarray(RNG.random((4, 5, 6)).astype(">f8"))
    source = open_source(npz(tmp_path / "a.npz", compress, X=x, y=LABELS[:4]))
    assert source[2].input.dtype == np.float32
    np.testing.assert_array_equal(source[2].input[:, :, 0], x[2].astype(np.float32))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((9, 28, 28), (None, 2)),
        ((9, 28, 28, 1), (3, 2)),
        ((9, 28, 28, 3), (3, 2)),
        ((9, 28, 28, 4), (3, 2)),
        ((9, 3, 28, 28), (1, 2)),
        ((9, 2, 28, 28), (1, 2)),
        ((9, 3, 28, 3), (3, 2)),
        ((9, 30, 30, 30), (None, 3)),
        ((9, 12, 30, 40, 1), (4, 3)),
        ((9, 1, 12, 30, 40), (1, 3)),
        ((9, 48, 48, 48, 28), (4, 3)),
        ((9, 28, 48, 48, 48), (1, 3)),
    ],
)
def test_shapes(shape, expected):
    assert channels_last(shape, "x")[:2] == expected


def test_an_ambiguity_that_is_settled_is_said():
    said = channels_last((9, 3, 28, 3), "x")[2]
    assert said.endswith("(n, height, width, channels) (channels last, though the first axis is as "
                         "short)")  # fmt: skip


@pytest.mark.parametrize("shape", [(9, 16, 64, 64), (9, 64, 64, 13), (9, 5, 6, 7), (9, 8, 8, 8, 8)])
def test_shapes_that_can_be_read_in_several_ways(shape):
    with pytest.raises(UserError, match=r"can be read in several ways; save volumes of one chan"):
        channels_last(shape, "'a.npz'")


@pytest.mark.parametrize("shape", [(9,), (9, 784), (9, 1, 2, 3, 4, 5)])
def test_shapes_that_are_not_images(shape):
    with pytest.raises(UserError, match=r"^'a\.npz': images must have the shape \(n, height, w"):
        channels_last(shape, "'a.npz'")


def test_channels_first_becomes_last(tmp_path):
    pictures = RNG.integers(0, 256, (6, 5, 7, 3), np.uint8)
    source = open_source(npz(tmp_path / "a.npz", X=pictures.transpose(0, 3, 1, 2), y=LABELS))
    np.testing.assert_array_equal(source[3].input, pictures[3])
    assert source.content(3) == pictures[3].tobytes()
    np.testing.assert_array_equal(source.batch(np.array([3])), pictures[[3]])


def test_volumes(tmp_path):
    voxels = (RNG.random((4, 6, 6, 6)) > 0.5).astype(np.uint8)
    source = open_source(npz(tmp_path / "a.npz", X_train=voxels, y_train=LABELS[:4]))
    assert source.info.spatial_dims == 3
    assert (source.info.in_channels, source.info.size) == (1, (6, 6, 6))
    assert source[1].input.shape == (6, 6, 6, 1)


@pytest.mark.parametrize(
    ("values", "dtype", "note"),
    [
        (np.array([0, 255], np.int64), np.uint8, None),
        (np.array([False, True]), np.uint8, None),
        (np.array([0, 60000], np.uint16), np.float32, "uint16 values from 0 to 60000 are read as"),
        (np.array([-1, 7], np.int8), np.float32, "int8 values from -1 to 7 are read as float32"),
        (np.array([0.5, -2], np.float16), np.float32, None),
    ],
)
def test_types(tmp_path, values, dtype, note):
    x = np.resize(values, (4, 5, 5))
    source = open_source(npz(tmp_path / "a.npz", X=x, y=LABELS[:4]))
    pixels = source[1].input
    assert pixels.dtype == dtype
    np.testing.assert_array_equal(pixels[:, :, 0], x[1].astype(np.float64))
    np.testing.assert_array_equal(source.batch(np.array([1]))[0], pixels)  # type: ignore[index]
    assert any(n.startswith(note) for n in source.notes) if note else len(source.notes) == 1


@pytest.mark.parametrize(
    ("labels", "classes", "targets"),
    [
        (np.array(["dog", "cat", "dog", "cat"]), ("cat", "dog"), [1, 0, 1, 0]),
        (np.array([b"dog", b"cat", b"dog", b"cat"]), ("cat", "dog"), [1, 0, 1, 0]),
        (np.array([10, 9, 10, 9]), ("9", "10"), [1, 0, 1, 0]),
        (np.array([3.0, 1.0, 3.0, 1.0]), ("1", "3"), [1, 0, 1, 0]),
        (np.array([True, False, True, False]), ("0", "1"), [1, 0, 1, 0]),
        (np.array([[5], [4], [5], [4]], np.uint8), ("4", "5"), [1, 0, 1, 0]),
    ],
)
def test_labels(tmp_path, labels, classes, targets):
    source = open_source(npz(tmp_path / "a.npz", X=PICTURES[:4], y=labels))
    assert source.info.classes == classes
    assert source.targets.tolist() == targets


def test_names_of_text_labels_and_of_numbers(tmp_path):
    classes = np.array(["dog", "cat", "bird"])
    for y in (np.array(["cat", "dog", "cat", "dog"]), np.array([1, 0, 1, 0])):
        source = open_source(npz(tmp_path / "a.npz", X=PICTURES[:4], y=y, classes=classes))
        assert source.info.classes == ("dog", "cat")  # bird has no sample
        assert source.targets.tolist() == [1, 0, 1, 0]


def broken(**changes):
    arrays = {"X": PICTURES, "y": LABELS, **changes}
    return {name: array for name, array in arrays.items() if array is not None}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (broken(y=LABELS[:5]), r": 6 images but 5 labels; every image has one label$"),
        (
            broken(y=np.array([0, 1, np.nan, 1, 0, 1])),
            r"\(y\): labels must not be NaN; .* in row 2",
        ),
        (
            broken(y=np.array([0, 1, 0.5, 1, 0, 1])),
            r"labels must be whole numbers; got 0\.5 in row",
        ),
        (
            broken(y=np.array([0, 1, -1, 1, 0, 1])),
            r"labels must not be negative; leave out .* -1 in",
        ),
        (broken(y=np.array(["a", "", "b", "a", "a", "b"])), r"must not be empty; .* in row 1 \(fr"),
        (
            broken(y=np.eye(6)),
            r"shape \(n,\), got \(6, 6\); one-hot rows become numbers by labels\.",
        ),
        (
            broken(y=LABELS.astype(complex)),
            r"labels must be whole numbers or names, got complex128",
        ),
        (broken(y=np.zeros(6)), r"at least two classes are needed, found one only \('0'\)"),
        (broken(y=None), r"must come in pairs such as X and y, .*; got the arrays X$"),
        (broken(X=None, foo=LABELS), r"must come in pairs .*; got the arrays y, foo$"),
        (broken(images=PICTURES), r"'X' and 'images' are both images; keep one$"),
        (broken(y_test=LABELS), r"must come in pairs"),
        (
            broken(X_test=PICTURES, y_test=LABELS),
            r"'X' has no split while 'X_test' has; rename it to X_train$",
        ),
        (broken(X=PICTURES.astype(str)), r"pixels must be numbers, got <U3$"),
        (broken(X=PICTURES[:0], y=LABELS[:0]), r"no samples, the array's shape is \(0, 5, 4, 3\)$"),
        (broken(classes=np.array(["a", "a"])), r"'classes' names a class twice$"),
        (
            broken(classes=np.array([1, 2])),
            r"'classes' must be a list of names, got int64 of shape",
        ),
        (
            broken(classes=np.array(["a"])),
            r"label 1 has no name, the 1 classes are numbered from 0$",
        ),
        (
            broken(y=np.array(["a", "b", "a", "b", "c", "b"]), classes=np.array(["a", "b"])),
            r"label 'c' is not one of the 2 classes$",
        ),
    ],
)
def test_messages(tmp_path, arrays, message):
    with pytest.raises(UserError, match=message) as caught:
        open_source(npz(tmp_path / "a.npz", **arrays))
    assert "a.npz" in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_that_are_not_finite(tmp_path, value):
    x = np.zeros((6, 4, 4), np.float32)
    x[4, 2, 2] = value
    with pytest.raises(UserError, match=r"image 4 \(from 0\) has values that are NaN or infinite"):
        open_source(npz(tmp_path / "a.npz", X=x, y=LABELS))


def test_splits_of_different_shapes(tmp_path):
    arrays = {"X_train": PICTURES, "y_train": LABELS, "y_test": LABELS}
    with pytest.raises(
        UserError, match=r"\(test\): samples of shape \(7, 4, 3\) where the first h"
    ):
        open_source(npz(tmp_path / "a.npz", X_test=np.zeros((6, 7, 4, 3), np.uint8), **arrays))
    with pytest.raises(UserError, match=r"X_test has the shape \(6, 7, 4\), which differs from"):
        open_source(npz(tmp_path / "a.npz", X_test=np.zeros((6, 7, 4), np.uint8), **arrays))
    arrays["y_test"] = LABELS + 1
    with pytest.raises(UserError, match=r"class '2' is in test but not in train, .* of 2 in train"):
        open_source(npz(tmp_path / "a.npz", X_test=PICTURES, **arrays))


def test_python_objects_are_refused(tmp_path):
    objects = np.array([PICTURES[0], None, 1, 2, 3, 4], dtype=object)
    path = npz(tmp_path / "a.npz", X=objects, y=LABELS)
    with pytest.raises(UserError, match=r"a\.npz:X' holds Python objects, which could run code"):
        open_source(path)
    np.save(tmp_path / "X.npy", objects, allow_pickle=True)
    np.save(tmp_path / "y.npy", LABELS)
    with pytest.raises(UserError, match=r"X\.npy' holds Python objects, which could run code"):
        open_source(tmp_path)


def test_damaged_files(tmp_path):
    path = npz(tmp_path / "a.npz", X=PICTURES, y=LABELS)
    whole = path.read_bytes()
    path.write_bytes(whole[:200])
    with pytest.raises(UserError, match=r"a\.npz' is not a whole \.npz file: "):
        open_source(path)
    path.write_bytes(b"no zip")
    with pytest.raises(UserError, match=r"a\.npz' is not a whole \.npz file: "):
        open_source(path)
    np.save(tmp_path / "X.npy", PICTURES)
    np.save(tmp_path / "y.npy", LABELS)
    content = (tmp_path / "X.npy").read_bytes()
    for damaged in (content[:-1], content[:20], b"", b"\x80\x04K\x01."):
        (tmp_path / "X.npy").write_bytes(damaged)
        with pytest.raises(UserError, match=r"X\.npy' is not a whole \.npy file: "):
            open_source(tmp_path)


def test_a_compressed_member_whose_bits_flipped(tmp_path):
    path = npz(tmp_path / "a.npz", True, X=PICTURES, y=LABELS)
    content = bytearray(path.read_bytes())
    content[180] ^= 0xFF
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match=r"a\.npz:X' is not a whole array: "):
        open_source(path)


def test_a_header_that_claims_more_than_there_is(tmp_path):
    np.save(tmp_path / "X.npy", PICTURES)
    lying = (tmp_path / "X.npy").read_bytes().replace(b"(6, 5, 4, 3), }   ", b"(6666, 5, 4, 3), }")
    (tmp_path / "X.npy").write_bytes(lying)
    np.save(tmp_path / "y.npy", LABELS)
    with pytest.raises(UserError, match=r"X\.npy' is not a whole \.npy file"):
        open_source(tmp_path)
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("X.npy", lying)
        archive.write(tmp_path / "y.npy", "y.npy")
    with pytest.raises(UserError, match=r"X' is not a whole array: 360 bytes of data, 399960 decl"):
        open_source(path)


def test_arrays_too_large_for_memory(tmp_path, monkeypatch):
    path = npz(tmp_path / "a.npz", True, X=PICTURES, y=LABELS)
    monkeypatch.setattr(npy, "MAX_ARRAY_BYTES", 300)
    with pytest.raises(
        UserError, match=r"holds 360 bytes, more than hubel reads into memory \(300"
    ):
        open_source(path)


def test_one_npy_file_alone(tmp_path):
    np.save(tmp_path / "images.npy", PICTURES)
    with pytest.raises(UserError, match=r"images\.npy' is one array; hubel needs the labels too"):
        open_source(tmp_path / "images.npy")
    with pytest.raises(UserError, match=r"must come in pairs .* got the arrays images$"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    "shape", ["(1000000, 1000000, 1000000, 1000000)", "(True, 5)", "(2," * 500 + "2" + ")" * 500]
)
def test_a_header_that_lies_about_its_shape_is_refused(tmp_path, shape):
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    path = tmp_path / "a.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(64))
    with pytest.raises(UserError, match=r"is not a whole \.npy file"):
        npy.open_npy(path)
