"""Whatever happens to a cache or its builder, nothing half-valid is ever opened."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from cache_sources import (
    FileSource,
    contents,
    expected_rows,
    use_processes,
    write_pictures,
)

from hubel.data import cache_build, cache_folder, ingest
from hubel.data.cache import open_store
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


def truncate(file):
    file.write_bytes(file.read_bytes()[:-7])


def flip(file):
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(bytes(content))


def claim_another_size(file):
    sealed = json.loads(file.read_text())
    sealed["facts"]["layout"]["size"] = [5, 6]
    file.write_text(json.dumps(sealed))


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        ("pixels.npy", truncate, "pixels.npy has 1921 bytes of 1928"),
        ("pixels.npy", Path.unlink, "No such file"),
        ("digests.npy", flip, "digests.npy was changed"),
        ("sizes.npy", truncate, "sizes.npy was changed"),
        ("channels.npy", Path.unlink, "No such file"),
        ("facts.json", truncate, "facts.json is not JSON"),
        ("facts.json", claim_another_size, "facts.json was changed"),
        ("facts.json", lambda f: f.write_text("[]"), "damaged"),
    ],
)
def test_a_damaged_cache_is_said_and_built_anew(folder, cache_dir, name, damage, said):
    first = open_store(FileSource(folder), cache_dir=cache_dir)
    pixels = first.pixels.clone()
    damage(contents(cache_dir)[0] / name)
    second = open_store(FileSource(folder), cache_dir=cache_dir)
    assert torch.equal(second.pixels, pixels)
    assert len(second.notes) == 1
    assert second.notes[0].startswith("the cache was damaged and is built anew (")
    assert said in second.notes[0]
    assert open_store(FileSource(folder), cache_dir=cache_dir).notes == []
    assert len(contents(cache_dir)) == 1


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"content": "../../etc"}', '{"content": 3}'])
def test_a_damaged_index_costs_a_look_at_the_bytes(folder, cache_dir, text):
    open_store(FileSource(folder), cache_dir=cache_dir)
    next((cache_dir / "index").iterdir()).write_text(text)
    source = FileSource(folder)
    open_store(source, cache_dir=cache_dir)
    assert source.num_decoded == 0


def test_another_version_builds_its_own(folder, cache_dir, monkeypatch):
    open_store(FileSource(folder), cache_dir=cache_dir)
    monkeypatch.setattr("hubel.data.cache_build.VERSION", -1)
    source = FileSource(folder)
    open_store(source, cache_dir=cache_dir)
    assert source.num_decoded > 0
    assert len(contents(cache_dir)) == 2


# The disk


def test_too_little_room(folder, cache_dir, monkeypatch):
    usage = type("Usage", (), {"free": 2_000_000})
    monkeypatch.setattr(cache_folder.shutil, "disk_usage", lambda path: usage)
    match = r"cache folder '.*' needs 60 MB and has 2 MB free; make room, .*HUBEL_CACHE.*--no-cache"
    with pytest.raises(UserError, match=match):
        open_store(FileSource(folder), size=(1000, 1000), cache_dir=cache_dir)
    assert contents(cache_dir) == []


def test_a_disk_that_fills_up_meanwhile(folder, cache_dir, monkeypatch):
    def full(source, task, indices):
        raise OSError(errno.ENOSPC, "No space left on device")

    real = ingest.read_chunk
    monkeypatch.setattr(
        ingest, "read_chunk", lambda s, t, i: full(s, t, i) if t.file else real(s, t, i)
    )
    with pytest.raises(UserError, match=r"needs 0 MB and has .* MB free; make room"):
        open_store(FileSource(folder), cache_dir=cache_dir)
    assert contents(cache_dir) == []


def test_a_cache_folder_that_is_a_file(folder, tmp_path):
    (tmp_path / "cache").write_text("")
    match = r"cache folder '.*cache' cannot be written \(.*\); name another by HUBEL_CACHE"
    with pytest.raises(UserError, match=match):
        open_store(FileSource(folder), cache_dir=tmp_path / "cache")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_folder_that_may_only_be_read_serves_what_it_has(folder, cache_dir):
    open_store(FileSource(folder), cache_dir=cache_dir)
    for path in (cache_dir, cache_dir / "index", cache_dir / "locks"):
        path.chmod(0o500)
    try:
        open_store(FileSource(folder), cache_dir=cache_dir)
        with pytest.raises(UserError, match=r"cannot be written \(Permission denied\)"):
            open_store(FileSource(folder), size=(4, 4), cache_dir=cache_dir)
    finally:
        for path in (cache_dir, cache_dir / "index", cache_dir / "locks"):
            path.chmod(0o700)


@pytest.mark.skipif(os.name != "posix", reason="permissions as on Unix")
def test_a_cache_is_open_to_whom_the_umask_lets(folder, cache_dir):
    old = os.umask(0o027)
    try:
        open_store(FileSource(folder), cache_dir=cache_dir)
    finally:
        os.umask(old)
    assert contents(cache_dir)[0].stat().st_mode & 0o777 == 0o750


# Interruptions and neighbours

BUILD = """
import sys
from pathlib import Path
from cache_sources import FileSource
from hubel.data import ingest
from hubel.data.cache_build import find_or_build
from hubel.data.cache_folder import CacheFolder
ingest.WORTH_S = 0.2
ingest.num_workers = lambda: 2
source = FileSource(Path(sys.argv[1]), delay_s=float(sys.argv[3]))
say = lambda what, done, total: print(what, done, flush=True)
entry, notes = find_or_build(CacheFolder(Path(sys.argv[2])), source, None, say)
print("built", entry.pixels.sum(), source.num_decoded)
"""


def start_building(folder, cache_dir, delay_s):
    return subprocess.Popen(
        [sys.executable, "-c", BUILD, folder, cache_dir, str(delay_s)],
        cwd=Path(__file__).parent,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["..", "."])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def alive_in(group):
    """Processes of a process group that are not just waiting to be reaped."""
    alive = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = file.read_text().rpartition(")")[2].split()[:3]
        except OSError:  # it has gone meanwhile
            continue
        if int(its_group) == group and state not in "ZX":
            alive.append(file.parent.name)
    return alive


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, -2)])
def test_an_interrupted_build_leaves_nothing_that_opens(tmp_path, cache_dir, sent, code):
    folder = write_pictures(tmp_path / "p", 60)
    process = start_building(folder, cache_dir, 0.03)
    with process:
        for line in process.stdout:  # processes are started and have written something
            if line.split()[0] == "reading" and int(line.split()[1]) > 10:
                break
        if sent == signal.SIGINT:  # as the terminal does: to the whole group
            os.killpg(process.pid, sent)
        else:
            process.send_signal(sent)
        _, errors = process.communicate()
    assert process.returncode == code
    if sent == signal.SIGKILL:
        assert [p.name.startswith(".building-") for p in contents(cache_dir)] == [True]
    else:
        assert contents(cache_dir) == []
        assert errors.count("KeyboardInterrupt") <= 2
    assert list((cache_dir / "index").iterdir()) == []
    give_up = time.monotonic() + 10  # the processes notice within half a second
    while alive_in(process.pid) and time.monotonic() < give_up:
        time.sleep(0.1)
    assert alive_in(process.pid) == []

    source = FileSource(folder)
    store = open_store(source, cache_dir=cache_dir)
    assert source.num_decoded > 0
    np.testing.assert_array_equal(store.pixels.numpy(), expected_rows(source, (6, 5)))
    assert [p.name.startswith(".") for p in contents(cache_dir)] == [False]


def test_two_processes_at_once_build_once(tmp_path, cache_dir):
    folder = write_pictures(tmp_path / "p", 60)
    with (
        start_building(folder, cache_dir, 0.02) as first,
        start_building(folder, cache_dir, 0.02) as second,
    ):
        said = [process.communicate() for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], said
    sums, decoded = zip(*(out.splitlines()[-1].split()[1:] for out, _ in said), strict=True)
    assert sums[0] == sums[1]
    assert sorted(number != "0" for number in decoded) == [False, True]
    assert len(contents(cache_dir)) == 1


def test_waiting_for_another_builder_is_said(folder, cache_dir):
    seen = []
    waiting = threading.Event()

    def progress(what, done, total):
        seen.append(what)
        waiting.set()

    def wait_and_open():
        open_store(FileSource(folder), cache_dir=cache_dir, progress=progress)

    index_key = cache_build._index_key(FileSource(folder), None)
    thread = threading.Thread(target=wait_and_open)
    with cache_folder.CacheFolder(cache_dir).lock(index_key, None):
        thread.start()
        assert waiting.wait(timeout=20)
        assert contents(cache_dir) == []
    thread.join()
    assert seen[0] == "waiting for another hubel that reads the same data"
    assert seen[1] == "reading"
    assert len(contents(cache_dir)) == 1


def test_the_same_content_under_two_paths_built_at_once(folder, tmp_path, cache_dir):
    other = write_pictures(tmp_path / "other", 20)
    meet = threading.Barrier(2)

    class Meeting(FileSource):
        def decode(self, content, i, in_channels=None):
            if i == len(self) - 1:
                meet.wait(timeout=20)  # both are at work before either is done
            return super().decode(content, i, in_channels)

    stores = []
    threads = [
        threading.Thread(
            target=lambda p=path: stores.append(open_store(Meeting(p), cache_dir=cache_dir))
        )
        for path in (folder, other)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch.equal(stores[0].pixels, stores[1].pixels)
    assert len(contents(cache_dir)) == 1


def test_a_living_neighbours_unfinished_folder_is_left_alone(folder, cache_dir):
    neighbour = cache_folder.CacheFolder(cache_dir)
    with neighbour.lock("living", None), neighbour.building("living") as unfinished:
        dead = cache_dir / ".building-dead-x"
        dead.mkdir()
        open_store(FileSource(folder), cache_dir=cache_dir)
        assert unfinished.is_dir()
        assert not dead.exists()


def test_a_process_that_dies_while_decoding(folder, cache_dir, with_processes):
    class Deadly(FileSource):
        home = os.getpid()

        def decode(self, content, i, in_channels=None):
            if os.getpid() != self.home:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().decode(content, i, in_channels)

    with pytest.raises(UserError, match="was ended by the system, most often because memory"):
        open_store(Deadly(folder), cache_dir=cache_dir)
    assert contents(cache_dir) == []
