"""The cache: the same pixels by every way, decoded once."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from cache_sources import (
    ArraySource,
    FileSource,
    contents,
    expected_rows,
    use_processes,
    write_picture,
    write_pictures,
)
from PIL import Image

from hubel.data import cache_folder, ingest
from hubel.data.cache import open_store
from hubel.data.ingest import Task
from hubel.data.layout import look_indices
from hubel.data.source import UnreadableSampleError, open_source
from hubel.data.store import Problem
from hubel.errors import UserError


@pytest.fixture
def folder(tmp_path):
    return write_pictures(tmp_path / "pictures", 20)


@pytest.fixture
def cache_dir(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def with_processes(monkeypatch):
    use_processes(monkeypatch)


# The same rows by every way


def test_rows_are_the_decoded_pictures_in_order(folder, cache_dir):
    source = FileSource(folder)
    store = open_store(source, cache_dir=cache_dir)
    assert (store.size, store.in_channels) == ((6, 5), 3)
    assert store.pixels.dtype == torch.uint8
    np.testing.assert_array_equal(store.pixels.numpy(), expected_rows(source, (6, 5)))
    assert store.readable.all()
    assert store.problems == []
    assert store.notes == []
    assert (store.sizes == [6, 5]).all()
    assert (store.channels == 3).all()


def test_processes_and_streaming_give_the_same_bit_for_bit(folder, cache_dir, with_processes):
    write_picture(folder / "cat_grey.png", np.arange(56).reshape(7, 8, 1))
    (folder / "dog_bad.png").write_bytes(b"no picture")
    stored = open_store(FileSource(folder), size=(9, 4), cache_dir=cache_dir)
    source = FileSource(folder)
    streamed = open_store(source, size=(9, 4), cache=False)
    assert source.num_decoded < len(source)  # processes did the rest
    here = ingest.Reader(FileSource(folder))
    here._stay_here = True
    assert [c.problems for c in here.read(Task(decode=True)) if c.problems] == [
        [(21, "is not a picture")]
    ]
    order = torch.tensor([21, 3, 3, 0, 20, 19])
    assert streamed.pixels is None
    assert torch.equal(stored.gather(order), streamed.gather(order))
    assert torch.equal(stored.gather(order), stored.pixels[order])
    for name in ("size", "in_channels", "problems", "fingerprint", "notes"):
        assert getattr(stored, name) == getattr(streamed, name), name
    for name in ("readable", "digests", "sizes", "channels"):
        np.testing.assert_array_equal(getattr(stored, name), getattr(streamed, name), name)
    rows = stored.pixels.numpy()
    keep = [i for i in range(22) if i != 21]
    here.source.ids = [here.source.ids[i] for i in keep]
    np.testing.assert_array_equal(rows[keep], expected_rows(here.source, (9, 4)))


def test_digests_tell_copies(folder, cache_dir):
    (folder / "dog_copy.png").write_bytes((folder / "cat_0000.png").read_bytes())
    store = open_store(FileSource(folder), cache_dir=cache_dir)
    assert store.digests.dtype == "S32"
    assert store.digests[0] == store.digests[20]
    assert len(set(store.digests.tolist())) == 20


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("batched", [True, False])
def test_arrays_are_read_in_this_process(cache_dir, dtype, batched, request):
    rows = np.random.default_rng(0).uniform(0, 255, (600, 4, 3, 2, 1)).astype(dtype)
    source = ArraySource(rows, batched)
    if batched:  # even where processes would be worth it
        request.getfixturevalue("with_processes")
    for cache in (True, False):
        store = open_store(source, cache=cache, cache_dir=cache_dir)
        assert (store.size, store.in_channels) == ((4, 3, 2), 1)
        got = store.gather(torch.arange(600))
        np.testing.assert_array_equal(got.numpy(), rows)
        assert got.dtype == getattr(torch, dtype)
    assert (source.num_decoded == 0) == batched


def test_writing_into_the_tensor_leaves_the_file_alone(folder, cache_dir):
    store = open_store(FileSource(folder), cache_dir=cache_dir)
    before = store.pixels.clone()
    store.pixels.zero_()
    assert torch.equal(open_store(FileSource(folder), cache_dir=cache_dir).pixels, before)


# The stated size and channels


@pytest.mark.parametrize(
    ("shapes", "asked", "size", "note"),
    [
        ([(6, 5)] * 4, None, (6, 5), None),
        (
            [(6, 5)] * 4,
            (8, 8),
            (8, 8),
            "pictures of 6×5 are stretched and stored at 8×8 (height×width; choose with "
            "--img-size)",
        ),
        (
            [(30, 40), (480, 640), (140, 200), (150, 130)],
            None,
            (128, 128),  # the median short side is 135
            "pictures from 30×40 to 480×640 are stretched and stored at 128×128 "
            "(height×width; choose with --img-size)",
        ),
        ([(9, 8), (7, 9)], None, (32, 32), "from 7×9 to 9×8"),
        ([(400, 500), (500, 400)], None, (224, 224), "stored at 224×224"),
        ([(64, 64), (64, 64), (70, 64)], None, (64, 64), "1 of 3 pictures are of 70×64"),
    ],
)
def test_the_stated_size(tmp_path, cache_dir, shapes, asked, size, note):
    for i, shape in enumerate(shapes):
        (tmp_path / "p").mkdir(exist_ok=True)
        write_picture(tmp_path / "p" / f"p_{i}.png", np.zeros((*shape, 3)))
    store = open_store(FileSource(tmp_path / "p"), size=asked, cache_dir=cache_dir)
    assert store.size == size
    assert store.pixels.shape == (len(shapes), *size, 3)
    assert store.sizes.tolist() == [list(s) for s in shapes]
    assert len(store.notes) == (note is not None)
    assert note is None or note in store.notes[0]


def test_the_formats_size_and_channels_come_first(folder, cache_dir):
    source = FileSource(folder, size=(12, 10), in_channels=3)
    assert open_store(source, cache_dir=cache_dir).size == (12, 10)


def test_channels_that_do_not_go_with_the_formats_are_a_problem(folder, cache_dir):
    write_picture(folder / "cat_grey.png", np.zeros((6, 5, 1)))
    store = open_store(FileSource(folder, in_channels=1), cache_dir=cache_dir)
    assert store.in_channels == 1
    assert store.readable.sum() == 1
    assert store.problems[0] == Problem("cat_0000.png", "has 3 channels where the set has 1")


@pytest.mark.parametrize("cache", [True, False])
def test_colour_among_grey_that_the_look_missed_starts_over(
    tmp_path, cache_dir, cache, with_processes
):
    path = write_pictures(tmp_path / "p", 100, shape=(4, 4, 1))
    source = FileSource(path)
    missed = next(i for i in range(50, 100) if i not in look_of(100))
    write_picture(path / source.ids[missed], np.arange(48).reshape(4, 4, 3))
    store = open_store(FileSource(path), cache=cache, cache_dir=cache_dir)
    assert store.in_channels == 3
    np.testing.assert_array_equal(
        store.gather(torch.arange(100)).numpy(), expected_rows(FileSource(path), (4, 4))
    )
    assert store.notes == ["99 of 100 pictures are grey: stored with 3 channels"]


def test_floats_among_bytes_that_the_look_missed_start_over(folder, cache_dir):
    class Late(FileSource):
        def decode(self, content, i, in_channels=None):
            pixels = super().decode(content, i, in_channels)
            return pixels if i != missed else pixels.astype(np.float32) + 0.5

    write_pictures(folder, 100)
    missed = next(i for i in range(100) if i not in look_of(100))
    store = open_store(Late(folder), cache_dir=cache_dir)
    assert store.pixels.dtype == torch.float32
    expected = expected_rows(FileSource(folder), (6, 5)).astype(np.float32)
    expected[missed] += 0.5
    np.testing.assert_array_equal(store.pixels.numpy(), expected)


def look_of(num_samples):
    return look_indices(num_samples, size_is_known=False).tolist()


@pytest.mark.parametrize("size", [(8,), (8, 8, 8), (0, 8)])
def test_a_size_that_does_not_fit(folder, cache_dir, size):
    with pytest.raises(UserError, match=r"--img-size \(.*\) does not fit .* give 2 whole numbers"):
        open_store(FileSource(folder), size=size, cache_dir=cache_dir)


# Unreadable samples


@pytest.mark.parametrize("cache", [True, False])
def test_unreadable_samples_are_named_and_zero(folder, cache_dir, cache):
    source = FileSource(folder)
    (folder / "cat_0004.png").write_bytes(b"no picture")
    (folder / "dog_0007.png").unlink()
    store = open_store(source, cache=cache, cache_dir=cache_dir)
    assert store.problems == [
        Problem("cat_0004.png", "is not a picture"),
        Problem("dog_0007.png", "No such file or directory"),
    ]
    bad = [source.ids.index(p.id) for p in store.problems]
    assert np.flatnonzero(~store.readable).tolist() == bad
    assert store.digests[bad].tolist() == [b"", b""]
    assert (store.sizes[bad] == 0).all()
    assert (store.channels[bad] == 0).all()
    assert store.gather(torch.tensor(bad)).sum() == 0


def test_a_mended_file_is_read(folder, cache_dir):
    path = folder / "cat_0004.png"
    good = path.read_bytes()
    path.write_bytes(b"no picture")
    assert not open_store(FileSource(folder), cache_dir=cache_dir).readable.all()
    path.write_bytes(good)
    assert open_store(FileSource(folder), cache_dir=cache_dir).readable.all()


def test_a_file_that_could_not_be_opened_is_tried_again(folder, cache_dir):
    class Locked(FileSource):
        locked = True

        def content(self, i):
            if self.locked and i == 3:
                raise PermissionError(errno.EACCES, "Permission denied")
            return super().content(i)

    source = Locked(folder)
    assert open_store(source, cache_dir=cache_dir).problems[0].reason == "Permission denied"
    source.locked = False  # its stamp is what it was
    assert open_store(source, cache_dir=cache_dir).readable.all()


def test_unreadable_rows_of_an_array(cache_dir):
    class Holed(ArraySource):
        def content(self, i):
            if i == 7:
                raise UnreadableSampleError("has a hole")
            return super().content(i)

    rows = np.full((9, 2, 2, 1), 5, np.uint8)
    for cache in (True, False):
        store = open_store(Holed(rows), cache=cache, cache_dir=cache_dir)
        assert store.problems == [Problem("train/00007", "has a hole")]
        got = store.gather(torch.tensor([6, 7, 8]))
        assert got.flatten(1).tolist() == [[5] * 4, [0] * 4, [5] * 4]


def test_one_readable_sample_that_the_look_missed_gives_the_size(folder, cache_dir):
    write_pictures(folder, 100)
    ids = FileSource(folder).ids
    missed = next(i for i in range(100) if i not in look_of(100))
    for name in ids[:missed] + ids[missed + 1 :]:
        (folder / name).write_bytes(b"no picture")
    store = open_store(FileSource(folder), cache_dir=cache_dir)
    assert store.size == (6, 5)
    assert np.flatnonzero(store.readable).tolist() == [missed]


def test_nothing_readable(tmp_path, cache_dir):
    for i in range(40):
        (tmp_path / f"a_{i}").write_bytes(b"no picture")
    match = r"DATA '.*': none of its 40 samples can be read; the first is 'a_0': is not a picture"
    with pytest.raises(UserError, match=match):
        open_store(FileSource(tmp_path), cache_dir=cache_dir)


@pytest.mark.parametrize("processes", [True, False])
def test_a_defect_of_a_decoder_names_the_sample(folder, cache_dir, processes, request):
    if processes:
        request.getfixturevalue("with_processes")
    (folder / "dog_0019.png").write_bytes(b"defect")
    with pytest.raises(ZeroDivisionError) as caught:
        open_store(FileSource(folder), size=(4, 4), cache_dir=cache_dir)
    assert caught.value.__notes__ == ["while decoding sample 'dog_0019.png'"]
    assert contents(cache_dir) == []


def test_a_file_that_changes_under_a_stream(folder):
    store = open_store(FileSource(folder), cache=False)
    write_picture(folder / "cat_0002.png", np.zeros((6, 5, 3)))
    (folder / "dog_0003.png").unlink()
    ids = [f"{('cat', 'dog')[i % 2]}_{i:04}.png" for i in (*range(0, 20, 2), *range(1, 20, 2))]
    with pytest.raises(UserError, match=r"'cat_0002.png' has changed since hubel started"):
        store.gather(torch.tensor([ids.index("cat_0002.png")]))
    with pytest.raises(UserError, match=r"'dog_0003.png' could be read when hubel started"):
        store.gather(torch.tensor([ids.index("dog_0003.png")]))


# Opening again


def test_a_second_start_decodes_nothing_and_reads_nothing(folder, cache_dir):
    first = open_store(FileSource(folder), cache_dir=cache_dir)

    class Closed(FileSource):
        def content(self, i):
            raise AssertionError("read again")

    second = open_store(Closed(folder), cache_dir=cache_dir)
    assert torch.equal(first.pixels, second.pixels)
    assert first.fingerprint == second.fingerprint


def test_touched_or_moved_files_are_not_decoded_again(folder, cache_dir):
    open_store(FileSource(folder), cache_dir=cache_dir)
    os.utime(folder / "cat_0000.png", (1, 1))
    touched = FileSource(folder)
    open_store(touched, cache_dir=cache_dir)
    assert touched.num_decoded == 0
    moved = FileSource(folder.rename(folder.with_name("moved")))
    open_store(moved, cache_dir=cache_dir)
    assert moved.num_decoded == 0
    assert len(contents(cache_dir)) == 1


@pytest.mark.parametrize("keep_time", [True, False])
def test_changed_bytes_are_decoded_again(folder, cache_dir, keep_time):
    before = open_store(FileSource(folder), cache_dir=cache_dir)
    path = folder / "cat_0000.png"
    time_ns = path.stat().st_mtime_ns
    write_picture(path, np.arange(90).reshape(6, 5, 3))
    if keep_time:  # the number of bytes tells
        os.utime(path, ns=(time_ns, time_ns))
    after = open_store(FileSource(folder), cache_dir=cache_dir)
    assert after.pixels[0].flatten().tolist() == list(range(90))
    assert torch.equal(before.pixels[1:], after.pixels[1:])
    assert before.fingerprint != after.fingerprint


def test_sizes_do_not_share_a_cache(folder, cache_dir):
    for size in ((4, 4), (8, 8), (4, 4)):
        assert open_store(FileSource(folder), size=size, cache_dir=cache_dir).size == size
    assert len(contents(cache_dir)) == 2


def test_the_fingerprint_follows_labels_and_splits(folder, cache_dir):
    def fingerprint(change=None):
        source = FileSource(folder)
        if change:
            change(source)
        return open_store(source, cache_dir=cache_dir).fingerprint

    def relabel(source):
        source.targets[0] = 1

    def resplit(source):
        source.splits[0] = "val"

    assert fingerprint() == fingerprint()
    assert len({fingerprint(), fingerprint(relabel), fingerprint(resplit)}) == 3


def test_two_folders_that_look_alike_from_outside(tmp_path, cache_dir):
    # Equal names, sizes and times, as archives with a fixed time unpack them.
    for seed in (0, 1):
        folder = tmp_path / str(seed)
        folder.mkdir()
        for name in ("a_0", "b_0"):
            (folder / name).write_bytes(b"P6 1 1 255 " + bytes([seed, seed, seed]))
            os.utime(folder / name, (1, 1))
    sources = [FileSource(tmp_path / str(seed)) for seed in (0, 1)]
    assert sources[0].stamp() == sources[1].stamp()
    assert [open_store(s, cache_dir=cache_dir).pixels.max() for s in sources] == [0, 1]


def test_the_folder_is_named_by_the_environment(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HUBEL_CACHE", str(tmp_path / "named"))
    open_store(FileSource(folder))
    assert len(contents(tmp_path / "named")) == 1
    monkeypatch.delenv("HUBEL_CACHE")
    assert cache_folder.default_folder().name == "hubel"


@pytest.mark.data
def test_cifar10_as_pillow_reads_it(tmp_path):
    if "HUBEL_DATA" not in os.environ:
        pytest.skip("HUBEL_DATA names no folder of real data sets")
    source = open_source(Path(os.environ["HUBEL_DATA"]) / "cifar10")
    store = open_store(source, cache_dir=tmp_path)
    assert store.pixels.shape == (60_000, 32, 32, 3)
    assert store.problems == []
    assert store.notes == []
    for i in range(0, 60_000, 1_001):
        with Image.open(source.path / source.ids[i]) as image:
            np.testing.assert_array_equal(store.pixels[i].numpy(), np.asarray(image))
    again = open_store(source, cache_dir=tmp_path)
    assert again.fingerprint == store.fingerprint
