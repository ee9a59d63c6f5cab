"""Reading in processes: what they are sent, what they load, how they end."""

import time

import pytest
from cache_sources import (
    FileSource,
    use_processes,
    write_pictures,
)

from hubel.data.cache import open_store
from hubel.data.ingest import Reader, Task


@pytest.fixture
def folder(tmp_path):
    return write_pictures(tmp_path / "pictures", 20)


@pytest.fixture
def cache_dir(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def with_processes(monkeypatch):
    use_processes(monkeypatch)


def test_processes_that_decode_do_not_import_torch_and_leave_ctrl_c_to_us(folder, with_processes):
    for path in folder.iterdir():
        path.write_bytes(b"process?")
    with Reader(FileSource(folder)) as reader:
        chunks = list(reader.read(Task(decode=True)))
    said = {reason for chunk in chunks for _, reason in chunk.problems}
    assert said == {"torch: True, deaf: False", "torch: False, deaf: True"}  # here, and there


def test_leaving_a_reading_early_leaves_nothing_at_work(folder, tmp_path, with_processes):
    log = tmp_path / "log"

    class Logging(FileSource):
        def decode(self, content, i, in_channels=None):
            time.sleep(0.02)
            with log.open("a") as file:
                file.write(".")
            return super().decode(content, i, in_channels)

    with Reader(Logging(folder)) as reader:
        chunks = reader.read(Task(decode=True))
        for _ in range(3):  # the third comes from a process, while others are at work
            next(chunks)
        chunks.close()
        written = log.stat().st_size
        time.sleep(0.2)
        assert log.stat().st_size == written
        assert sum(len(chunk.indices) for chunk in reader.read(Task(decode=True))) == 20


def test_a_source_is_sent_once_to_each_process(folder, with_processes):
    class Counting(FileSource):
        sent = 0

        def __getstate__(self):
            type(self).sent += 1
            return self.__dict__

    with Reader(Counting(folder)) as reader:
        for _ in range(3):
            assert sum(len(chunk.indices) for chunk in reader.read(Task(decode=True))) == 20
    assert 1 <= Counting.sent <= 2


@pytest.mark.parametrize("processes", [True, False])
def test_progress(folder, cache_dir, processes, request):
    if processes:
        request.getfixturevalue("with_processes")
    seen = []
    open_store(
        FileSource(folder), cache_dir=cache_dir, progress=lambda *report: seen.append(report)
    )
    assert {(what, total) for what, _, total in seen} == {("reading", 20)}
    done = [number for _, number, _ in seen]
    assert done == sorted(done)
    assert done[-1] == 20
