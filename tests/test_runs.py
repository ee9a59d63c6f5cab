"""The run folder: whole or not at all, checksummed, held by one process."""

import os
import subprocess
import sys

import pytest

from hubel import runs
from hubel.errors import UserError
from hubel.runs import RunFolder, folder_intact, write_atomic, write_checked_folder


def test_a_checked_folder_is_whole_and_notices_one_flipped_bit(tmp_path):
    folder = tmp_path / "x"
    write_checked_folder(folder, {"a.bin": bytes(1000), "b.json": b"{}"})
    assert folder_intact(folder) == ""
    content = bytearray((folder / "a.bin").read_bytes())
    content[500] ^= 1
    (folder / "a.bin").write_bytes(content)
    assert "a.bin does not have the checksum" in folder_intact(folder)
    (folder / "a.bin").unlink()
    assert "FileNotFoundError" in folder_intact(folder)
    (folder / "manifest.json").write_text("[]")
    assert folder_intact(folder) != ""


def test_replacing_a_checked_folder_keeps_no_leftovers(tmp_path):
    for content in (b"1", b"2"):
        write_checked_folder(tmp_path / "x", {"a": content})
    assert (tmp_path / "x" / "a").read_bytes() == b"2"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_full_disk_leaves_the_old_folder_whole(tmp_path, monkeypatch):
    write_checked_folder(tmp_path / "x", {"a": b"old"})

    class Usage:
        free = 10

    monkeypatch.setattr(runs.shutil, "disk_usage", lambda path: Usage)
    with pytest.raises(OSError, match="no space"):
        write_checked_folder(tmp_path / "x", {"a": b"new"})
    assert (tmp_path / "x" / "a").read_bytes() == b"old"


def test_a_write_that_fails_midway_leaves_the_old_folder_whole(tmp_path, monkeypatch):
    write_checked_folder(tmp_path / "x", {"a": b"old", "b": b"old"})
    real, calls = runs._write_durably, []

    def fail(path, content):
        calls.append(path)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        real(path, content)

    monkeypatch.setattr(runs, "_write_durably", fail)
    with pytest.raises(OSError, match="No space left"):
        write_checked_folder(tmp_path / "x", {"a": b"new", "b": b"new"})
    assert folder_intact(tmp_path / "x") == ""
    assert (tmp_path / "x" / "b").read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_atomic_write_replaces_and_cleans_up(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_atomic(path, "one")
    write_atomic(path, "two")
    assert path.read_text() == "two"

    def fail(path, content):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runs, "_write_durably", fail)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, "three")
    assert path.read_text() == "two"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_create_refuses_what_is_there_and_open_what_is_not(tmp_path):
    run = RunFolder.create(tmp_path / "run")
    run.write_json("config.json", {})
    with pytest.raises(UserError, match=r"is not empty; go on with it by --resume"):
        RunFolder.create(tmp_path / "run")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("x")
    with pytest.raises(UserError, match=r"is not empty; name a new or empty folder"):
        RunFolder.create(tmp_path / "other")
    with pytest.raises(UserError, match=r"is not a run folder: there is no config.json"):
        RunFolder.open(tmp_path / "other")
    with pytest.raises(UserError, match=r"nothing' does not exist"):
        RunFolder.open(tmp_path / "nothing")
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=r"cannot be written: .*; name a folder"):
        RunFolder.create(tmp_path / "file" / "run")


def test_the_log_survives_a_line_cut_short(tmp_path):
    run = RunFolder(tmp_path)
    for epoch in (1, 2, 3):
        run.append_log({"epoch": epoch})
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"epoch": 4, "tr')
    assert [row["epoch"] for row in run.log()] == [1, 2, 3]
    run.keep_log(2)
    assert [row["epoch"] for row in run.log()] == [1, 2]


def test_missing_and_broken_files_are_named(tmp_path):
    run = RunFolder(tmp_path)
    with pytest.raises(UserError, match=r"has no result.json: it is not finished"):
        run.read_json("result.json")
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(UserError, match=r"result.json' cannot be read"):
        run.read_json("result.json")


def test_nan_never_reaches_a_json_file(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        RunFolder(tmp_path).write_json("a.json", {"loss": float("nan")})
    assert not list(tmp_path.iterdir())


def test_a_second_process_is_refused_with_the_holders_pid(tmp_path):
    code = (
        "import sys; from hubel.runs import RunFolder\n"
        "try:\n"
        "    with RunFolder(sys.argv[1]).locked(): print('got it')\n"
        "except ValueError as error: print(error)\n"
    )

    def other() -> str:
        return subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
        ).stdout

    with RunFolder(tmp_path).locked():
        assert f"is in use by process {os.getpid()}; wait for it or stop it first" in other()
    assert "got it" in other()


def test_nothing_but_a_plain_file_is_replaced(tmp_path):
    """A rename would put a file in a device's place."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(UserError, match="pipe' is not a plain file and cannot be replaced"):
        write_atomic(pipe, "text")
    assert pipe.is_fifo()
