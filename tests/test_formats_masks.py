"""Masks: folders and arrays of them, legends, and how they are stored."""

import struct
import zlib

import numpy as np
import pytest
import torch
from data_makers import class_folders, encoded
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hubel.data import targets
from hubel.data.cache import open_store
from hubel.data.legend import IGNORED, named_legend, numbered_legend, read_legend
from hubel.data.masked import mask_values
from hubel.data.resize import resize
from hubel.data.source import UnreadableSampleError, open_source
from hubel.errors import UserError

VALUES = np.array([[0, 1, 1], [2, 2, 255]], np.uint8)
PALETTE = [0, 0, 0, 200, 0, 0, 0, 200, 0]


def index_png(values=VALUES):
    return encoded(Image.fromarray(np.asarray(values, np.uint8)), "PNG")


def palette_png(values=VALUES, bits=8, **options):
    image = Image.fromarray(np.asarray(values, np.uint8), "P")
    image.putpalette(PALETTE if bits < 8 else PALETTE + [9] * 759)
    return encoded(image, "PNG", **options)


def colour_png(values=VALUES):
    colours = np.zeros((256, 3), np.uint8)
    colours[:3] = np.reshape(PALETTE, (3, 3))
    colours[255] = 9
    return encoded(Image.fromarray(colours[values]), "PNG")


def picture(size=(3, 2), shade=5):
    return encoded(Image.new("RGB", size, (shade, 0, 0)), "JPEG")


def write(root, files):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def mask(source, i):
    return source.masks[i].input[..., 0].tolist()


FLAT = {
    "images/a.jpg": picture(),
    "images/b.jpg": picture(shade=9),
    "masks/a.png": index_png(),
    "masks/b.png": index_png(2 - VALUES % 3),
}


# Layouts


@pytest.mark.parametrize(
    ("pictures", "masks"),
    [
        ("{}", "{}annot"),
        ("images/{}", "masks/{}"),
        ("images/{}", "labels/{}"),
        ("images/{}/town", "annotations/{}/town"),
        ("{}/images", "{}/masks"),
    ],
)
def test_layouts_with_splits(tmp_path, pictures, masks):
    for k, split in enumerate(("train", "val", "test")):
        name = f"{k}.x"  # a stem with a dot in it
        write(
            tmp_path,
            {
                f"{pictures.format(split)}/{name}.jpg": picture(shade=k),
                f"{masks.format(split)}/{name}.png": index_png(np.roll(VALUES, k)),
            },
        )
    source = open_source(tmp_path)
    assert (source.info.format, source.info.labels, source.info.spatial_dims) == (
        "masks",
        "mask",
        2,
    )
    assert source.splits.tolist() == ["train", "val", "test"]
    assert source.ids == [f"{pictures.format(s)}/{k}.x.jpg" for k, s in enumerate(source.splits)]
    assert source.masks.ids == [f"{masks.format(s)}/{k}.x.png" for k, s in enumerate(source.splits)]
    assert source.info.classes == source.masks.info.classes == ("class 0", "class 1", "class 2")
    assert source.targets.tolist() == [0, 0, 0]
    assert source.faults == []
    for k in range(3):
        assert source[k].input.shape == (2, 3, 3)
        assert mask(source, k) == np.roll(VALUES, k).tolist()


def test_a_split_without_masks_is_passed_over(tmp_path):
    write(
        tmp_path,
        {
            "train/a.jpg": picture(),
            "trainannot/a.png": index_png(),
            "test/a.jpg": picture(),
        },
    )
    source = open_source(tmp_path)
    assert source.splits.tolist() == ["train"]
    assert source.notes[0] == "ignored 1 pictures in test/: no masks"


def test_folders_of_other_formats_are_not_taken(tmp_path):
    yolo = write(tmp_path / "yolo", {"images/a.jpg": picture(), "labels/a.txt": "0 .5 .5 1 1"})
    assert open_source(class_folders(tmp_path / "c", {"cat": 1, "dog": 1})).info.format == "folders"
    with pytest.raises(UserError, match=r"holds no masks; folders of masks are DATA/images"):
        open_source(yolo, format="masks")


def test_files_without_a_partner(tmp_path):
    write(tmp_path, {**FLAT, "images/c.jpg": picture(), "masks/d.png": index_png()})
    write(tmp_path, {"images/a.png": picture(), "images/.hidden.png": b""})
    source = open_source(tmp_path)
    assert {(f.where, f.reason) for f in source.faults} == {
        ("images/c.jpg", "has no mask in masks/"),
        ("masks/d.png", "has no picture in images/"),
        ("images/a.png", "has the name of images/a.jpg"),
    }
    assert len(source) == 2
    assert source.notes[0].startswith("passed over 3 files without a partner (first: ")


def test_no_pair_at_all(tmp_path):
    write(tmp_path, {"images/a.jpg": picture(), "masks/a_mask.png": index_png()})
    with pytest.raises(UserError, match=r"no picture has a mask; .* the first: images/a\.jpg$"):
        open_source(tmp_path)


# What a mask's file may be


@pytest.mark.parametrize(
    "content",
    [
        index_png(),
        palette_png(),
        palette_png(transparency=b"\0\xff\xff"),
        encoded(Image.fromarray(np.stack([VALUES] * 3, axis=-1)), "PNG"),
        encoded(Image.fromarray(np.stack([VALUES, 0 * VALUES], axis=-1), "LA"), "PNG"),
    ],
)
def test_indices(content):
    np.testing.assert_array_equal(mask_values(content, coloured=False), VALUES)


def test_few_bits():
    values = VALUES % 3
    four = palette_png(values, bits=2)
    assert four[24] == 2
    np.testing.assert_array_equal(mask_values(four, coloured=False), values)
    one = encoded(Image.fromarray(values > 0), "PNG")
    np.testing.assert_array_equal(mask_values(one, coloured=False), values > 0)
    # Grey with 2 bits: Pillow writes none, so the palette's file is relabelled as grey.
    ihdr = four[12:16] + four[16:25] + b"\0" + four[26:29]
    head = four[:12] + ihdr + struct.pack(">I", zlib.crc32(ihdr))
    start, stop = four.index(b"PLTE") - 4, four.index(b"IDAT") - 4
    grey = head + four[33:start] + four[stop:]
    np.testing.assert_array_equal(mask_values(grey, coloured=False), values)


@pytest.mark.parametrize("content", [palette_png(), colour_png()])
def test_colours(content):
    values = mask_values(content, coloured=True)
    assert values[0, 1] == 200 << 16
    assert values[1, 0] == 200 << 8


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (picture(), "a mask must be a PNG file, .*; this is a JPEG; save the mask again, as PNG$"),
        (b"", r"^empty file \(0 bytes\); save the mask again, as PNG$"),
        (b"\0\0\0\0ftypheic", r"\(a HEIC file\); save the mask again, as PNG$"),
        (colour_png(), "is coloured, and no legend says what its colours mean"),
        (
            encoded(Image.fromarray(VALUES.astype(np.uint16)), "PNG"),
            "8 bits a value, .* has 16; save",
        ),
        (index_png()[:50], "damaged PNG: .*; save the mask again$"),
    ],
)
def test_other_files_are_unreadable(content, message):
    with pytest.raises(UnreadableSampleError, match=message):
        mask_values(content, coloured=False)


# Legends


LEGENDS = {
    "sky\nroad\ntree\n": ("sky", "road", "tree"),
    "sky,0\ntree,2\nroad,1": ("sky", "tree", "road"),
    "index;name\n0;sky\n1;road\n2;void\n": ("sky", "road"),
    "name,index,ignore\nsky,0,no\nroad,1,\nedge,2,yes": ("sky", "road"),
}


@pytest.mark.parametrize("text", LEGENDS)
def test_legends_of_indices(tmp_path, text):
    source = open_source(write(tmp_path, {**FLAT, "classes.txt": text}))
    names = LEGENDS[text]
    assert source.info.classes == names
    order = {"sky": 0, "road": 1, "tree": 2}
    place = np.full(256, IGNORED)
    for k, name in enumerate(names):
        place[order[name]] = k
    assert mask(source, 0) == place[VALUES].tolist()
    assert source.notes == []


@pytest.mark.parametrize("content", [palette_png, colour_png])
@pytest.mark.parametrize("head", ["", "\ufeffName,R,G,B\n"])
def test_legends_of_colours(tmp_path, content, head):
    values = np.minimum(VALUES, 2)
    rows = "ground,0,0,0\nvoid,200,0,0\ntree,0,200,0\n"
    files = {"images/a.jpg": picture(), "masks/a.png": content(values), "legend.csv": head + rows}
    source = open_source(write(tmp_path, files))
    assert source.info.classes == ("ground", "tree")
    assert mask(source, 0) == np.array([0, IGNORED, 1])[values].tolist()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sky,0\nroad", r"line 2 has 1 fields; write name, or name,index"),
        ("sky,0\nroad,x", r"line 2: indices and colours are whole numbers 0 to 255, got 'x'"),
        ("sky,0\nroad,256", r"got '256'"),
        ("sky,0\nroad,0", r"the index 0 stands for two classes, one of them 'road'"),
        ("a,1,2,3\nb,1,2,3", r"the colour \(1, 2, 3\) stands for two classes"),
        ("sky\nsky", r"class 'sky' is named twice"),
        ("sky\nvoid", r"masks need 2 to 255 classes, got 1 \(sky\)"),
        ("", r"masks need 2 to 255 classes, got 0"),
        ("name,index\n,0", r"line 2 has no name"),
        ("name,ignore\na,maybe", r"ignore must be yes or no, got 'maybe'"),
        ('"sky', r"line 1: unexpected end of data"),
        ("Index\n0\n1", r"line 1 names the column Index but not the column name; write name, or "),
        ("id,r,g,b\n0,1,2,3\n1,4,5,6", r"line 1 names the columns id, r, g, b but not the column "),
    ],
)
def test_messages_of_legends(tmp_path, text, message):
    (tmp_path / "legend.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        read_legend(tmp_path / "legend.csv")


def test_a_class_may_be_called_index(tmp_path):
    (tmp_path / "legend.csv").write_text("index\nthumb\n2")
    assert read_legend(tmp_path / "legend.csv").names == ("index", "thumb", "2")


def test_two_legends(tmp_path):
    write(tmp_path, {**FLAT, "classes.txt": "a\nb", "legend.csv": "a\nb"})
    with pytest.raises(UserError, match=r"holds both classes\.txt and legend\.csv; keep one"):
        open_source(tmp_path)


def test_without_a_legend(tmp_path):
    holes = np.where(VALUES == 1, 7, VALUES)
    files = {
        "train/images/a.jpg": picture(),
        "train/masks/a.png": index_png(holes),
        "val/images/b.jpg": picture(),
        "val/masks/b.png": index_png(holes + 1),
    }
    source = open_source(write(tmp_path, files))
    assert source.info.classes == ("class 0", "class 2", "class 7")
    assert mask(source, 0) == [[0, 2, 2], [1, 1, IGNORED]]
    assert source.notes == [
        "no classes.txt says what the masks mean: 3 classes are numbered as found in train, and "
        "only 255 is ignored"
    ]
    with pytest.raises(
        UnreadableSampleError, match=r"5 of its 6 values .* the first is the value 1"
    ):
        mask(source, 1)


def test_black_and_white_masks_are_an_object_and_its_ground():
    legend = numbered_legend([0, 255], "here")
    assert legend.names == ("class 0", "class 255")
    assert legend.applied(np.array([255, 0])).tolist() == [1, 0]


def test_colours_without_a_legend(tmp_path):
    write(tmp_path, {"images/a.jpg": picture(), "masks/a.png": colour_png()})
    with pytest.raises(UserError, match=r"'masks/a\.png': is coloured.*; write legend\.csv there"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    ("content", "fix"),
    [
        (encoded(Image.fromarray(VALUES.astype(np.uint16)), "PNG"), "save its classes as 8-bit gr"),
        (index_png()[:50], "save the mask again$"),
    ],
)
def test_masks_that_no_legend_would_mend(tmp_path, content, fix):
    write(tmp_path, {"images/a.jpg": picture(), "masks/a.png": content})
    message = rf"none of the 1 masks can be read; the first: 'masks/a\.png': .*; {fix}"
    with pytest.raises(UserError, match=message) as caught:
        open_source(tmp_path)
    assert "legend.csv" not in str(caught.value)


def test_an_unknown_colour(tmp_path):
    (tmp_path / "legend.csv").write_text("a,0,0,0\nb,200,0,0")
    legend = read_legend(tmp_path / "legend.csv")
    values = mask_values(colour_png(), coloured=True)
    with pytest.raises(UnreadableSampleError, match=r"2 of its 4 .* colour \(0, 200, 0\)$"):
        legend.check(values[:, :2])


def test_ignored_is_what_targets_say():
    assert targets.IGNORED == IGNORED == 255


# Masks that do not fit, and the cache


def test_another_size_than_the_picture(tmp_path):
    source = open_source(write(tmp_path, {**FLAT, "images/b.jpg": picture((4, 2))}))
    assert mask(source, 0) == VALUES.tolist()
    with pytest.raises(UnreadableSampleError, match=r"the mask is 3×2 pixels, .*b\.jpg' 4×2$"):
        source.masks.content(1)
    # A picture that cannot be read is its own problem.
    write(tmp_path, {"images/b.jpg": b"no"})
    assert source.masks.content(1) == FLAT["masks/b.png"]


def test_sets_that_share_their_good_masks_keep_their_own_reasons(tmp_path):
    def reason(name, size):
        write(tmp_path / name, {**FLAT, "images/b.jpg": picture(size)})
        masks = open_source(tmp_path / name).masks
        (problem,) = open_store(masks, cache_dir=tmp_path / "cache").problems
        return problem.reason

    said = "the mask is 3×2 pixels, its picture 'images/b.jpg' {}"
    assert reason("one", (4, 4)) == said.format("4×4")
    assert reason("two", (7, 5)) == said.format("7×5")
    kept = sorted((tmp_path / "cache").rglob("*.npy"))
    assert kept
    assert reason("copy", (4, 4)) == said.format("4×4")
    assert sorted((tmp_path / "cache").rglob("*.npy")) == kept  # found, not built


def test_masks_are_stored_by_nearest_neighbour(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.choice(np.array([0, 7, 9, 255], np.uint8), (2, 12, 20))
    files = {"classes.txt": "a,0\nb,7\nc,9\n"}
    for k in range(2):
        files[f"images/{k}.jpg"] = picture((20, 12))
        files[f"masks/{k}.png"] = index_png(values[k])
    files["images/2.jpg"], files["masks/2.png"] = picture((20, 12)), index_png(VALUES * 0)
    source = open_source(write(tmp_path / "set", files))
    store = open_store(source.masks, size=(8, 8), cache_dir=tmp_path / "cache")
    assert (store.in_channels, store.size) == (1, (8, 8))
    assert store.readable.tolist() == [True, True, False]
    assert store.problems[0].id == "masks/2.png"
    classes = np.full(256, 255, np.uint8)
    classes[[0, 7, 9]] = 0, 1, 2
    for k in range(2):
        small = Image.fromarray(values[k]).resize((8, 8), Image.Resampling.NEAREST)
        np.testing.assert_array_equal(store.pixels[k, :, :, 0].numpy(), classes[np.array(small)])
    streamed = open_store(source.masks, size=(8, 8), cache=False)
    np.testing.assert_array_equal(streamed.gather(torch.arange(2)), store.pixels[:2])
    # Another legend, or a picture of the right size, make other rows.
    write(tmp_path / "set", {"classes.txt": "a,7\nb,0\nc,9\n", "images/2.jpg": picture((3, 2))})
    again = open_store(
        open_source(tmp_path / "set").masks, size=(8, 8), cache_dir=tmp_path / "cache"
    )
    assert again.readable.all()
    swapped = np.array([1, 0, 2, *[255] * 253], np.uint8)
    np.testing.assert_array_equal(again.pixels[:2], swapped[store.pixels[:2].numpy()])


@given(
    length=st.integers(1, 40),
    new_length=st.integers(1, 40),
    dims=st.integers(2, 3),
)
def test_nearest_neighbour(length, new_length, dims):
    """The input pixel that the output pixel's centre lies in, on every axis; as Pillow's."""
    rng = np.random.default_rng(length)
    pixels = rng.integers(0, 256, (length,) * dims + (1,), np.uint8)
    got = resize(pixels, (new_length,) * dims, interpolate=False)
    index = [int((i + 0.5) * length / new_length + 1e-9) for i in range(new_length)]
    np.testing.assert_array_equal(got, pixels[np.ix_(*[index] * dims)])
    if dims == 2:
        image = Image.fromarray(pixels[..., 0])
        judged = np.array(image.resize((new_length,) * 2, Image.Resampling.NEAREST))
        clear = np.array([(2 * i + 1) * length % (2 * new_length) > 0 for i in range(new_length)])
        np.testing.assert_array_equal(got[clear][:, clear, 0], judged[clear][:, clear])


# Arrays


def npz(path, **arrays):
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("shape", [(6, 7, 5, 3), (6, 6, 6, 6), (6, 1, 7, 5), (6, 3, 4, 5, 2)])
@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32"])
def test_arrays_with_masks(tmp_path, shape, dtype):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, shape, np.uint8)
    spatial = {(6, 6, 6, 6): (6, 6, 6), (6, 3, 4, 5, 2): (3, 4, 5)}.get(shape, (7, 5))
    y = rng.choice(np.array([0, 2, 3, 255]), (6, *spatial)).astype(dtype)
    source = open_source(npz(tmp_path / "a.npz", x=x, y=y))
    assert (source.info.labels, source.info.spatial_dims) == ("mask", len(spatial))
    assert source.info.classes == ("class 0", "class 2", "class 3")
    assert source.masks.info.size == source.info.size == spatial
    expected = np.array([0, 255, 1, 2, *[255] * 252], np.uint8)[y.astype(int)][..., None]
    np.testing.assert_array_equal(source.masks.batch(np.arange(6)), expected)
    for i in (0, 5):
        masks = source.masks
        np.testing.assert_array_equal(masks.decode(masks.content(i), i, 3), expected[i])
    assert source.masks.info.interpolate is False


def test_arrays_with_masks_and_splits(tmp_path):
    x = np.zeros((3, 5, 4, 3), np.uint8)
    y = np.arange(3, dtype=np.uint8).repeat(20).reshape(3, 5, 4)
    names = {"x_train": x[:2], "y_train": y[:2], "x_val": x[2:], "y_val": y[2:]}
    source = open_source(npz(tmp_path / "a.npz", **names))
    assert source.info.classes == ("class 0", "class 1")
    assert source.splits.tolist() == ["train", "train", "val"]
    assert source.masks.content(0) == bytes(20)
    with pytest.raises(UnreadableSampleError, match=r"20 of its 20 values .* value 2$"):
        source.masks.content(2)
    named = npz(tmp_path / "b.npz", **names, classes=np.array(["ground", "void", "tree"]))
    source = open_source(named)
    assert source.info.classes == ("ground", "tree")
    assert source.masks[1].input.max() == source.masks[1].input.min() == 255
    assert source.masks[2].input.max() == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y_train": np.full((3, 5, 4), 300)}, r"\(train\): masks hold classes 0 to 254, .* 300"),
        ({"y_train": np.full((3, 5, 4), 0.5)}, r"got 0\.5 in mask 0 \(from 0\)"),
        ({"y_train": np.full((3, 5, 4), "a")}, r"masks must be whole numbers, got <U1"),
        (
            {"y_train": np.zeros((3, 5, 3), int)},
            r"\(y_train\): labels of the shape \(3, 5, 3\) are masks of 5×3, and their images are "
            r"5×4; save masks as \(3, 5, 4\), or one class a sample as \(3,\)$",
        ),
        (
            {"y_train": np.zeros((3, 5, 4, 1), int)},
            r"masks of 5×4×1, and their images are 5×4; save masks as \(3, 5, 4\)",
        ),
        ({"y_train": np.zeros(3, int)}, r"labels of some splits are masks and those of others"),
        ({"y_train": np.zeros((3, 5, 4), int)}, r"masks need 2 to 255 classes, got 1"),
        ({"y_train": np.ones((2, 5, 4), int)}, r"3 images but 2 labels"),
    ],
)
def test_messages_of_arrays(tmp_path, change, message):
    y = np.arange(60).reshape(3, 5, 4) % 2
    x = np.zeros((3, 5, 4, 3), np.uint8)
    arrays = {"x_train": x, "y_train": y, "x_test": x, "y_test": y, **change}
    with pytest.raises(UserError, match=message):
        open_source(npz(tmp_path / "a.npz", **arrays))


def test_too_many_classes():
    with pytest.raises(UserError, match=r"here: masks need 2 to 255 classes, got 256"):
        named_legend([str(k) for k in range(256)], "here")
