"""NIfTI volumes: orientation, spacing, classes, masks, and files that are none."""

import gzip
import sys
from io import BytesIO

import numpy as np
import pytest

from hubel.data.legend import IGNORED
from hubel.data.nifti_file import MAX_BYTES, decode_volume, read_grid
from hubel.data.source import UnreadableSampleError, open_source
from hubel.errors import UserError

nibabel = pytest.importorskip("nibabel", reason="NIfTI needs nibabel: pip install 'hubel[medical]'")

SIZE = (5, 4, 3)  # along x, y, z


def affine(codes="RAS", spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0)):
    """Of an array whose axes run towards `codes`; `spacing` is along right, front and head."""
    found = np.eye(4)
    found[:3, :3] = 0
    for axis, code in enumerate(codes):
        world = next(k for k, pair in enumerate(("RL", "AP", "SI")) if code in pair)
        found[world, axis] = spacing[world] * (1 if code in "RAS" else -1)
    found[:3, 3] = origin
    return found


def nifti(values, where=None, kind=None, **fields):
    """The bytes of a .nii file; `fields` of the header are set as they are."""
    values = np.asarray(values)
    content = (kind or nibabel.Nifti1Image)(values, affine() if where is None else where).to_bytes()
    if not fields:
        return content
    header = nibabel.Nifti1Header(content[:348], check=False)
    for name, value in fields.items():
        header[name] = value
    return header.binaryblock + content[348:]


def noise(size=SIZE, dtype=np.int16, seed=0):
    return np.random.default_rng(seed).integers(0, 100, size).astype(dtype)


def write(root, files):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        packed = name.endswith(".gz") and isinstance(content, bytes)
        data = gzip.compress(content) if packed else content
        (root / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    return root


def pairs(masks, **more):
    volumes = {f"images/{k}.nii.gz": nifti(noise(seed=k)) for k in range(len(masks))}
    return {**volumes, **{f"masks/{k}.nii.gz": m for k, m in enumerate(masks)}, **more}


# One file


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LAS", "SRP", "AIL", "PSR"])
@pytest.mark.parametrize("kind", [None, nibabel.Nifti2Image])
def test_axes_run_to_head_front_and_right(codes, kind):
    """Against nibabel's own way to the same, which reads the whole image."""
    where = affine(codes, spacing=(0.5, 2.0, 3.0))
    values = noise()
    canonical = nibabel.as_closest_canonical(nibabel.Nifti1Image(values, where))
    content = nifti(values, where, kind)
    expected = np.asarray(canonical.dataobj).transpose(2, 1, 0)
    found = decode_volume(content)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[..., 0], expected)
    grid = read_grid(BytesIO(content))
    assert grid.size == expected.shape
    assert grid.spacing == pytest.approx((3.0, 2.0, 0.5))
    np.testing.assert_allclose(grid.affine, canonical.affine)
    np.testing.assert_array_equal(decode_volume(gzip.compress(content)), found)


def test_types_and_scaling():
    values = noise(dtype=np.uint8)
    assert decode_volume(nifti(values)).dtype == np.uint8
    scaled = decode_volume(nifti(values, scl_slope=0.5, scl_inter=-10.0))
    assert scaled.dtype == np.float32
    np.testing.assert_array_equal(scaled[..., 0], values.transpose(2, 1, 0) * 0.5 - 10)
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(np.int16)
    swapped = nibabel.Nifti1Image(noise(), affine(), header).to_bytes()
    assert swapped[:4] == b"\0\0\x01\x5c"
    np.testing.assert_array_equal(decode_volume(swapped), decode_volume(nifti(noise())))


def test_a_fourth_axis_is_channels():
    values = noise((*SIZE, 3))
    found = decode_volume(nifti(values))
    np.testing.assert_array_equal(found, values.transpose(2, 1, 0, 3))
    assert decode_volume(nifti(noise((*SIZE, 1)))).shape == (*SIZE[::-1], 1)


def test_units_become_millimetres():
    where = affine(spacing=(1500.0, 1000.0, 2000.0))
    image = nibabel.Nifti1Image(noise(), where)
    image.header.set_xyzt_units("micron")
    assert read_grid(BytesIO(image.to_bytes())).spacing == pytest.approx((2.0, 1.0, 1.5))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"^is no NIfTI file$"),
        (b"not a volume" * 100, r"^is no NIfTI file$"),
        (nifti(noise())[:200], r"^ends early: 196 of 344 bytes"),
        (nifti(noise())[:-7], r"^ends early: 113 of 120 bytes are there$"),
        (gzip.compress(nifti(noise()))[:-12], r"^damaged NIfTI: "),
        (gzip.compress(nifti(noise()))[:-8] + b"\0" * 8, r"^damaged NIfTI: CRC check failed"),
        (nifti(noise(), magic=b"ni1"), r"header of a pair \.hdr/\.img; save it as one \.nii"),
        (nifti(noise(), datatype=999), r"^damaged NIfTI: "),
        (nifti(noise(), vox_offset=1.0), r"^its voxels begin at byte 1, which cannot be$"),
        (nifti(noise(), vox_offset=np.nan), r"^damaged NIfTI: "),
        (nifti(noise((5, 4))), r"^is no volume: its shape is 5×4$"),
        (nifti(noise((2, 2, 2, 40))), r"^is a series of 40 volumes; save each"),
        (nifti(noise().astype(np.complex64)), r"^its voxels are complex64"),
        (nifti(np.full(SIZE, np.nan, np.float32)), r"^has values that are NaN or infinite$"),
        (nifti(noise(), srow_x=[0, 0, 0, 0]), r"does not say where its voxels lie$"),
    ],
)  # fmt: skip
def test_other_files_are_unreadable(content, message):
    with pytest.raises(UnreadableSampleError, match=message):
        decode_volume(content)


def test_a_bomb_is_refused_by_its_header():
    huge = nifti(noise(), dim=[3, 2000, 2000, 2000, 1, 1, 1, 1])
    with pytest.raises(
        UnreadableSampleError, match=rf"^too large: its 2000×2000×2000 .* limit is {MAX_BYTES:,}$"
    ):
        decode_volume(gzip.compress(huge))


def test_no_more_is_unpacked_than_the_header_declares():
    """Gigabytes of zeros behind a small volume; the header tells what is the volume's."""
    small = nifti(noise())
    member = gzip.compress(bytes(1 << 24))
    found = decode_volume(gzip.compress(small) + 64 * member)
    np.testing.assert_array_equal(found, decode_volume(small))


# Class folders


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".NII.GZ"])
def test_class_folders(tmp_path, suffix):
    names = [f"{c}/{k}{suffix}" for c in ("healthy", "tumour") for k in range(2)]
    content = [nifti(noise(seed=k)) for k in range(4)]
    packed = [gzip.compress(c) if "gz" in suffix.lower() else c for c in content]
    for name, data in zip(names, packed, strict=True):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    source = open_source(tmp_path)
    assert source.info.format == "nifti"
    assert (source.info.spatial_dims, source.info.labels) == (3, "class")
    assert source.info.classes == ("healthy", "tumour")
    assert list(source.ids) == names
    assert source.targets.tolist() == [0, 0, 1, 1]
    np.testing.assert_array_equal(source[3].input[..., 0], noise(seed=3).transpose(2, 1, 0))
    assert source.notes == ["voxels are 1×1×1 mm (depth×height×width)"]


def test_class_folders_with_splits(tmp_path):
    files = {f"{s}/{c}/a/1.nii": nifti(noise()) for s in ("train", "valid") for c in ("a", "b")}
    source = open_source(write(tmp_path, files))
    assert source.splits.tolist() == ["train", "train", "val", "val"]
    write(tmp_path, {"other/1.nii": nifti(noise())})
    with pytest.raises(UserError, match=r"mixes split folders with other folders \(other\)"):
        open_source(tmp_path)


def test_messages_of_class_folders(tmp_path):
    with pytest.raises(UserError, match=r"holds no NIfTI volumes; they are DATA/CLASS/\*\.nii\.gz"):
        open_source(tmp_path, format="nifti")
    write(tmp_path, {"a.nii": nifti(noise())})
    with pytest.raises(UserError, match=r"but no class folders and no masks"):
        open_source(tmp_path)
    write(tmp_path, {"x/a.nii": nifti(noise()), "y/a.txt": "no"})
    with pytest.raises(UserError, match=r"class folder 'y' holds no volumes; put \.nii or"):
        open_source(tmp_path)


def test_spacings_that_differ_are_told(tmp_path):
    files = {f"a/{k}.nii": nifti(noise(seed=k)) for k in range(4)}
    files["b/thick.nii"] = nifti(noise(), affine(spacing=(1.0, 1.0, 2.5)))
    files["b/near.nii"] = nifti(noise(), affine(spacing=(1.04, 1.0, 1.0)))
    files["b/broken.nii"] = b"no"
    source = open_source(write(tmp_path, files))
    assert source.notes[0] == (
        "voxels are 1×1×1 mm (depth×height×width) in the median; 1 of 6 differ by more than 5%, "
        "from 2.5×1×1 to 2.5×1×1 mm"
    )
    assert source.notes[1].startswith(
        "volumes show 3×4×5 mm (depth×height×width) in the median; 1 of 6 differ by more than "
        "5%, from 7.5×4×5 to 7.5×4×5 mm; each is stretched to one size, so a mm is not equally"
    )
    assert np.isnan(source.spacing[list(source.ids).index("b/broken.nii")]).all()


def test_without_nibabel_the_message_says_how_to_get_it(tmp_path, monkeypatch):
    write(tmp_path, {"a/1.nii": nifti(noise()), "b/1.nii": nifti(noise())})
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(UserError, match=r"not installed: pip install 'hubel\[medical\]'$"):
        open_source(tmp_path)


# Masks


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float64])
@pytest.mark.parametrize("codes", ["RAS", "LPS"])
def test_masks_are_turned_with_their_volumes(tmp_path, dtype, codes):
    where = affine(codes)
    values = np.random.default_rng(1).choice([0, 2, 255], SIZE)
    files = {"images/a.nii.gz": nifti(values.astype(np.int16), where)}
    files["masks/a.nii"] = nifti(values.astype(dtype), where)
    source = open_source(write(tmp_path, files))
    assert (source.info.labels, source.info.classes) == ("mask", ("class 0", "class 2"))
    assert (source.info.format, source.masks.info.interpolate) == ("nifti", False)
    classes = np.array([0, IGNORED, 1, *[IGNORED] * 253], np.uint8)
    volume, mask = source[0].input, source.masks[0].input
    np.testing.assert_array_equal(mask, classes[volume.astype(int)])


def test_layouts_and_legends(tmp_path):
    files = {}
    for split in ("train", "val"):
        files[f"images/{split}/a.nii.gz"] = nifti(noise())
        files[f"labels/{split}/a.nii.gz"] = nifti(noise() % 2)
    files["images/train/alone.nii.gz"] = nifti(noise())
    files["classes.txt"] = "ground\nliver\n"
    source = open_source(write(tmp_path, files))
    assert source.info.classes == ("ground", "liver")
    assert source.splits.tolist() == ["train", "val"]
    assert [(f.where, f.reason) for f in source.faults] == [
        ("images/train/alone.nii.gz", "has no mask in labels/train/")
    ]
    write(tmp_path, {"classes.txt": "ground,0,0,0\nliver,255,0,0\n"})
    with pytest.raises(UserError, match=r"names colours, and the masks of volumes have none"):
        open_source(tmp_path)


def test_a_mask_that_does_not_lie_on_its_volume(tmp_path):
    masks = [
        nifti(noise() % 2),
        nifti(noise((5, 4, 4)) % 2),
        nifti(noise() % 2, affine(origin=(0.0, 7.0, 0.0))),
        nifti(noise() % 2, affine(origin=(0.3, 0.0, 0.0))),
        nifti(noise() % 2, affine("LAS")),
    ]
    source = open_source(write(tmp_path, pairs(masks))).masks
    source.content(0)
    source.content(3)
    for i, message in (
        (1, r"'images/1\.nii\.gz': 4×4×5 voxels \(depth×height×width\) against 3×4×5$"),
        (2, r"their headers place them up to 7 mm apart$"),
        (4, r"their headers place them up to 4 mm apart$"),
    ):
        with pytest.raises(UnreadableSampleError, match=message):
            source.content(i)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (
            nifti(np.full(SIZE, 0.5, np.float32)),
            r"whole numbers from 0 to 255, this one 0\.5; save the",
        ),
        (
            nifti(np.full(SIZE, -1, np.int16)),
            r"this one -1; save the numbers of the classes, as uint8$",
        ),
        (nifti(noise((*SIZE, 2))), r"^a mask has one value a voxel, this one 2; save the"),
        (nifti(np.full(SIZE, 9, np.uint8)), r"60 of its 60 values stand for no class"),
    ],
)
def test_masks_of_other_values_are_unreadable(tmp_path, mask, message):
    files = pairs([nifti(noise() % 2), mask], **{"classes.txt": "a\nb"})
    masks = open_source(write(tmp_path, files)).masks
    with pytest.raises(UnreadableSampleError, match=message):
        masks.decode(masks.content(1), 1)


def test_no_legend_would_mend_masks_of_fractions(tmp_path):
    files = pairs([nifti(np.full(SIZE, 0.5, np.float32))])
    with pytest.raises(
        UserError, match=r"this one 0\.5; save the numbers of the classes, as uint8$"
    ):
        open_source(write(tmp_path, files))


def test_they_are_stored(tmp_path):
    from hubel.data.cache import open_store

    files = pairs([nifti(noise(seed=k) % 2) for k in range(3)])
    files["images/3.nii.gz"], files["masks/3.nii.gz"] = b"no", nifti(noise() % 2)
    source = open_source(write(tmp_path / "set", files))
    store = open_store(source, size=(4, 4, 4), cache_dir=tmp_path / "cache")
    masks = open_store(source.masks, size=(4, 4, 4), cache_dir=tmp_path / "cache")
    assert store.readable.tolist() == [True, True, True, False]
    assert store.problems[0].id == "images/3.nii.gz"
    assert masks.readable.all()
    assert store.pixels.dtype.is_floating_point
    assert set(masks.pixels.unique().tolist()) == {0, 1}
