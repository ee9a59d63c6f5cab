"""CIFAR's four published forms, made tiny; damage, lies and programs among them."""

import gzip
import hashlib
import io
import os
import pickletools
import tarfile
from pathlib import Path

import numpy as np
import pytest
from data_makers import cifar_binary_records, python2_batch, python2_names

from hubel.data import tarball
from hubel.data.download import PUBLISHED
from hubel.data.opcodes import Call, Global, array_in, read_opcodes
from hubel.data.source import FORMATS, open_source
from hubel.errors import UserError

RNG = np.random.default_rng(0)
NAMES = ["airplane", "bird", "cat"]
COUNTS = [3, 4, 3, 3, 3, 5]  # five batches of train and one of test
LABELS = [(np.arange(n) % 3).astype(np.uint8) for n in COUNTS]
PIXELS = [RNG.integers(0, 256, (n, 3, 32, 32), np.uint8) for n in COUNTS]
BATCHES = [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HUBEL_CACHE", str(tmp_path / "cache"))


def files(stem: str) -> dict[str, bytes]:
    """The files of one published form, with few samples."""
    if stem == "cifar-10-binary":
        out = {
            f"{name}.bin": cifar_binary_records(labels, pixels)
            for name, labels, pixels in zip(BATCHES, LABELS, PIXELS, strict=True)
        }
        out["batches.meta.txt"] = ("\n".join(NAMES) + "\n\n").encode()
        return {f"cifar-10-batches-bin/{name}": content for name, content in out.items()}
    if stem == "cifar-10-python":
        out = {
            name: python2_batch(labels, pixels)
            for name, labels, pixels in zip(BATCHES, LABELS, PIXELS, strict=True)
        }
        out["batches.meta"] = python2_names(b"label_names", NAMES)
        return {f"cifar-10-batches-py/{name}": content for name, content in out.items()}
    train = (np.concatenate(LABELS[:5]), np.concatenate(PIXELS[:5]))
    test = (LABELS[5], PIXELS[5])
    if stem == "cifar-100-binary":
        return {
            "cifar-100-binary/train.bin": cifar_binary_records(*train, coarse=True),
            "cifar-100-binary/test.bin": cifar_binary_records(*test, coarse=True),
            "cifar-100-binary/fine_label_names.txt": "\n".join(NAMES).encode(),
            "cifar-100-binary/coarse_label_names.txt": b"things\n",
        }
    return {
        "cifar-100-python/train": python2_batch(*train, label_key=b"fine_labels"),
        "cifar-100-python/test": python2_batch(*test, label_key=b"fine_labels"),
        "cifar-100-python/meta": python2_names(b"fine_label_names", NAMES),
        "cifar-100-python/file.txt~": b"",
    }


STEMS = ["cifar-10-binary", "cifar-10-python", "cifar-100-binary", "cifar-100-python"]


def write_folder(root: Path, contents: dict[str, bytes]) -> Path:
    for name, content in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root / next(iter(contents)).split("/")[0]


def write_archive(path: Path, contents: dict[str, bytes], *extra: tarfile.TarInfo) -> Path:
    mode = "w:gz" if path.suffix in (".gz", ".tgz") else "w"
    with tarfile.open(path, mode) as archive:
        folder = tarfile.TarInfo(next(iter(contents)).split("/")[0])
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in extra:
            archive.addfile(info)
    return path


def check(source) -> None:
    assert source.info.format == "cifar"
    assert source.info.classes == tuple(NAMES)
    assert (source.info.size, source.info.in_channels) == ((32, 32), 3)
    assert source.info.flip_safe
    assert source.splits.tolist() == ["train"] * 16 + ["test"] * 5
    assert source.ids[0] == "train/00000"
    assert source.ids[15:17] == ["train/00015", "test/00000"]
    assert source.targets.tolist() == np.concatenate(LABELS).tolist()
    expected = np.concatenate(PIXELS).transpose(0, 2, 3, 1)
    for i in (0, 3, 15, 16, 20):
        np.testing.assert_array_equal(source[i].input, expected[i])
        assert source.content(i) == expected[i].tobytes()
    np.testing.assert_array_equal(source.batch(np.arange(21)[::-1]), expected[::-1])
    assert source.stamp() == source.stamp()


@pytest.mark.parametrize("stem", STEMS)
def test_an_extracted_folder(tmp_path, stem):
    folder = write_folder(tmp_path / "data", files(stem))
    check(open_source(folder))
    check(open_source(tmp_path / "data"))  # the folder above it


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("suffix", [".tar.gz", ".tgz", ".tar"])
def test_an_archive(tmp_path, stem, suffix):
    path = write_archive(tmp_path / f"{stem}{suffix}", files(stem))
    before = sorted(tmp_path.iterdir())
    check(open_source(path))
    # Nothing beside the archive but the cache folder; the second time it is read from there.
    assert [p for p in sorted(tmp_path.iterdir()) if p not in before] == [tmp_path / "cache"]
    check(open_source(path))


def test_the_unpacked_copy_is_mapped_renewed_and_dispensable(tmp_path, monkeypatch):
    path = write_archive(tmp_path / "cifar-10-binary.tar.gz", files("cifar-10-binary"))
    stamp = open_source(path).stamp()
    kept = sorted((tmp_path / "cache" / "unpacked").iterdir())
    assert len(kept) == 1
    monkeypatch.setattr("hubel.data.formats.cifar.read_members", None)  # not read again
    check(open_source(path))
    monkeypatch.undo()
    monkeypatch.setenv("HUBEL_CACHE", str(tmp_path / "cache"))
    next(kept[0].glob("train-0-pixels.npy")).write_bytes(b"damage")
    check(open_source(path))
    monkeypatch.setattr("hubel.data.formats.cifar.read_members", None)
    check(open_source(path))  # the damaged copy was replaced
    monkeypatch.undo()
    monkeypatch.setenv("HUBEL_CACHE", str(tmp_path / "cache"))
    os.utime(path, ns=(1, 1))
    second = open_source(path)
    check(second)
    assert second.stamp() != stamp
    assert len(list((tmp_path / "cache" / "unpacked").iterdir())) == 2
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("HUBEL_CACHE", str(tmp_path / "file"))  # cannot be a folder
    check(open_source(path))


def test_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = (
        r"^DATA 'cifar10' is not on this machine\. Run the same command with --download, or fetch "
        r"cifar-10-binary\.tar\.gz \(.*\) on another machine and put it at .*/cache/downloads/cifar"
    )
    with pytest.raises(UserError, match=message):
        open_source("cifar10")
    downloads = tmp_path / "cache" / "downloads"
    downloads.mkdir(parents=True)
    write_archive(downloads / "cifar-10-python.tar.gz", files("cifar-10-python"))
    check(open_source("cifar10"))
    with pytest.raises(UserError, match="'cifar100' is not on this machine"):
        open_source("cifar100")
    # A folder of that name here comes first.
    write_folder(tmp_path / "cifar100", files("cifar-10-binary"))
    check(open_source("cifar100"))


def test_published_files_are_named_as_the_format_expects():
    assert PUBLISHED["cifar10"].name == "cifar-10-binary.tar.gz"
    assert PUBLISHED["cifar100"].name == "cifar-100-binary.tar.gz"


# ---------------------------------------------------------------- damage


@pytest.mark.parametrize(
    ("stem", "name", "content", "message"),
    [
        ("cifar-10-binary", "data_batch_2.bin", b"x" * 3072, r"3,072 bytes are not a multiple of"),
        ("cifar-10-binary", "test_batch.bin", b"", r"is truncated: 0 bytes are not a multiple"),
        ("cifar-10-binary", "data_batch_3.bin", None, r"lacks .*data_batch_3\.bin"),
        ("cifar-10-binary", "batches.meta.txt", b"\n", r"does not list the names of the classes"),
        ("cifar-10-binary", "batches.meta.txt", b"cat\n", r"label 2 has no name, the 1 classes"),
        ("cifar-10-python", "data_batch_1", b"junk", r"data_batch_1' is not a whole CIFAR batch: "),
        ("cifar-10-python", "data_batch_1", b"", r"data_batch_1' is not a whole CIFAR batch: "),
        ("cifar-10-python", "data_batch_1", b"].", r"is not a CIFAR batch: it holds a list$"),
        ("cifar-10-python", "data_batch_1", b"}.", r"its data are not an array of bytes$"),
        ("cifar-10-python", "batches.meta", b"}.", r"does not list the names of the classes"),
        (
            "cifar-10-python",
            "data_batch_5",
            python2_batch(LABELS[0], PIXELS[0]).replace(b"labels", b"others"),
            r"data_batch_5' is not a CIFAR batch: 'labels' are not small numbers$",
        ),
        (
            "cifar-10-python",
            "data_batch_5",
            python2_batch(LABELS[0], PIXELS[0]).replace(b"J\3\0\0\0", b"J\4\0\0\0"),
            r"its data are not an array of bytes",
        ),
        (
            "cifar-10-python",
            "data_batch_5",
            python2_batch(LABELS[0], PIXELS[0]).replace(b"u1", b"u2"),
            r"its data are not an array of bytes",
        ),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_messages(tmp_path, stem, name, content, message, packed):
    contents = files(stem)
    key = f"{next(iter(contents)).split('/')[0]}/{name}"
    if content is None:
        del contents[key]
    else:
        contents[key] = content
    path = (
        write_archive(tmp_path / f"{stem}.tar.gz", contents)
        if packed
        else write_folder(tmp_path / "data", contents)
    )
    with pytest.raises(UserError, match=message):
        open_source(path)


def test_every_prefix_of_a_batch_is_refused():
    whole = python2_batch(LABELS[0], PIXELS[0])
    for end in [*range(250), *range(250, len(whole), 997), len(whole) - 1]:
        with pytest.raises(UserError, match=r"'b' is not a whole CIFAR batch: "):
            read_opcodes(whole[:end], "b")


def test_archives_that_are_damaged(tmp_path):
    path = write_archive(tmp_path / "cifar-10-binary.tar.gz", files("cifar-10-binary"))
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    for content in (b"", b"text", whole[: len(whole) // 2], whole[:-6], bytes(flipped)):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"binary\.tar\.gz' (is damaged or truncated: |lacks )"):
            open_source(path)


def test_other_files_and_folders(tmp_path):
    with pytest.raises(UserError, match="is not a folder of CIFAR; expected CIFAR's published"):
        open_source(tmp_path, format="cifar")
    other = write_archive(tmp_path / "other.tar.gz", files("cifar-10-binary"))
    assert not FORMATS["cifar"].matches(str(other))
    with pytest.raises(UserError, match="is not an archive of CIFAR; expected"):
        open_source(other, format="cifar")


# ---------------------------------------------------------------- archives with intent


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    ("info", "message"),
    [
        (member("cifar-10-batches-bin/l", tarfile.SYMTYPE, "/etc/passwd"), "is a link, a device"),
        (member("cifar-10-batches-bin/l", tarfile.LNKTYPE, "x"), "is a link, a device or sparse"),
        (member("cifar-10-batches-bin/d", tarfile.CHRTYPE), "is a link, a device or sparse"),
        (member("cifar-10-batches-bin/p", tarfile.FIFOTYPE), "is a link, a device or sparse"),
        (member("cifar-10-batches-bin/s", tarfile.GNUTYPE_SPARSE), "is a link, a device or sparse"),
        (member("/etc/x"), "member '/etc/x' lies outside the archive; refused"),
        (member("cifar-10-batches-bin/../../x"), "lies outside the archive; refused"),
    ],
)
def test_members_that_are_refused(tmp_path, info, message):
    path = write_archive(tmp_path / "cifar-10-binary.tar.gz", files("cifar-10-binary"), info)
    with pytest.raises(UserError, match=message):
        open_source(path)


def test_too_many_members_and_too_many_bytes(tmp_path, monkeypatch):
    path = tmp_path / "cifar-10-binary.tar.gz"
    write_archive(path, files("cifar-10-binary"), *(member(f"x/{i}") for i in range(1000)))
    with pytest.raises(UserError, match="has more than 1000 members; refused"):
        open_source(path)
    write_archive(path, files("cifar-10-binary"))
    monkeypatch.setattr(tarball, "MAX_BYTES", 20_000)
    with pytest.raises(UserError, match="unpacks to more than 20,000 bytes; refused"):
        open_source(path)


def test_a_header_that_declares_a_huge_member(tmp_path, monkeypatch):
    monkeypatch.setattr(tarball, "MAX_BYTES", 100_000)
    info = tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin")
    info.size = 8 << 30
    path = tmp_path / "cifar-10-binary.tar.gz"
    path.write_bytes(gzip.compress(info.tobuf() + bytes(200_000)))
    with pytest.raises(UserError, match="unpacks to more than 100,000 bytes; refused"):
        open_source(path)


# ---------------------------------------------------------------- programs


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (b"cos\nsystem\n(S'touch {mark}'\ntR.", r"names 'os system', which loading it would run"),
        (b"cbuiltins\neval\n(S'1'\ntR.", r"names 'builtins eval'"),
        (b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x01x\x85R.", r"names 'posix system'"),
        (b"(S'touch {mark}'\nios\nsystem\n.", r"has the instruction INST, which is not data"),
        (b"(cnumpy\ndtype\no.", r"has the instruction OBJ, which is not data"),
        (b"\x80\x02cnumpy\ndtype\n)\x81.", r"has the instruction NEWOBJ, which is not data"),
        (b"P1\n.", r"has the instruction PERSID, which is not data"),
        (b"\x80\x02\x82\x01.", r"has the instruction EXT1, which is not data"),
        (b"cnumpy.core.multiarray\nscalar\n.", r"names 'numpy\.core\.multiarray scalar'"),
        (b"]N}b.", r"is not a whole CIFAR batch: a Call is expected where there is a NoneType$"),
        (
            b"K\x01K\x02R.",
            r"is not a whole CIFAR batch: a Global is expected where there is a int$",
        ),
        (b"}K\x01a.", r"a list is expected where there is a dict$"),
        (b"]K\x01K\x02s.", r"a dict is expected where there is a list$"),
        (b"h\x05.", r"is not a whole CIFAR batch"),
        (b"t.", r"is not a whole CIFAR batch"),
        (b".", r"is not a whole CIFAR batch"),
        (b"N", r"is not a whole CIFAR batch"),
        (b"}](]u.", r"is not a whole CIFAR batch"),
        (b"(]Nd.", r"is not a whole CIFAR batch: unhashable"),
        (b"T\xff\xff\xff\x7fab", r"is not a whole CIFAR batch"),
    ],
)
def test_programs_are_refused_and_run_nothing(tmp_path, program, message):
    mark = tmp_path / "mark"
    program = program.replace(b"{mark}", os.fsencode(mark))
    with pytest.raises(UserError, match=message):
        read_opcodes(program, "b")
    contents = files("cifar-10-python")
    contents["cifar-10-batches-py/data_batch_3"] = program
    path = write_archive(tmp_path / "cifar-10-python.tar.gz", contents)
    with pytest.raises(UserError):
        open_source(path)
    assert not mark.exists()


def test_a_call_is_described_and_never_made():
    described = read_opcodes(b"cnumpy\nndarray\n(K\x05tR.", "b")
    assert described == Call(Global("numpy ndarray"), (5,))
    with pytest.raises(UserError, match="its data are not an array of bytes"):
        array_in(described, "b")


def test_too_many_instructions(monkeypatch):
    monkeypatch.setattr("hubel.data.opcodes._MAX_OPCODES", 100)
    with pytest.raises(UserError, match="more than 100 instructions"):
        read_opcodes(b"]q\x00" + b"h\x00" * 200, "b")


def test_the_written_batch_is_a_well_formed_program():
    """The maker of the test data against the standard library's own reading of opcodes."""
    batch = python2_batch(LABELS[0], PIXELS[0])
    out = io.StringIO()
    pickletools.dis(batch, out)
    assert "numpy.core.multiarray _reconstruct" in out.getvalue()
    assert "highest protocol among opcodes = 2" in out.getvalue()


def test_other_kinds_of_value():
    """Newer instructions, which a batch saved again by a later Python would have."""
    program = (
        b"\x80\x04\x95\x10\0\0\0\0\0\0\0}\x94(\x8c\x01a\x94]\x94(K\x01M\x00\x01J\xff\xff\xff\xff"
        b"G\x3f\xf0\0\0\0\0\0\0e\x8c\x01b\x94h\x01\x8c\x01c\x94C\x02hi\x94\x8c\x01d\x94N\x88\x89\x87"
        b"X\x01\0\0\0e)u."
    )
    value = read_opcodes(program, "b")
    assert value == {
        "a": [1, 256, -1, 1.0],
        "b": "a",
        "c": b"hi",
        "d": (None, True, False),
        "e": (),
    }


def test_long_lists_come_in_pieces():
    labels = (np.arange(2500) % 3).astype(np.uint8)
    value = read_opcodes(python2_batch(labels, np.zeros((2500, 3, 32, 32), np.uint8)), "b")
    assert value["labels"] == labels.tolist()
    assert len(value["filenames"]) == 2500
    assert array_in(value["data"], "b").shape == (2500, 3072)


@pytest.mark.data
def test_the_published_archives():
    if "HUBEL_DATA" not in os.environ:
        pytest.skip("HUBEL_DATA names no folder of real data sets")
    for name in ("cifar10", "cifar100"):
        published = PUBLISHED[name]
        file = Path(os.environ["HUBEL_DATA"]) / published.name
        if not file.is_file():
            pytest.skip(f"{file} is not there")
        assert file.stat().st_size == published.size
        assert hashlib.sha256(file.read_bytes()).hexdigest() == published.sha256
        assert len(open_source(file)) == 60_000
