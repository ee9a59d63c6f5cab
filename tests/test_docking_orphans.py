"""Worker processes whose parent is killed: they leave."""

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hubel.docking.orphans import end_with_parent

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kills by POSIX signals")

DRIVER = """
import ctypes, multiprocessing, os, time
from hubel.docking.orphans import end_with_parent

def work(holds_the_lock):
    end_with_parent()
    os.write(1, b"ready\\n")  # in one piece, beside the other worker's
    if holds_the_lock:  # as Vina's search does
        ctypes.PyDLL(None).sleep(600)
    time.sleep(600)

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    for _ in range(2):
        context.Process(target=work, args=({holds},)).start()
    time.sleep(600)
"""

DOCKING = """
import sys
from hubel import api

def report(event):
    if event.get("count", 0) >= 1:
        print("ready", flush=True)

if __name__ == "__main__":
    protein, ligands, output = sys.argv[1:]
    api.dock(protein, ligands, output=output, center=(0, 0, 0), processes=2, exhaustiveness=32,
             report=report)
"""


def killed_after(lines, *command):
    """Kills a script -9 once it and its workers have said `lines` lines; True if all are gone.

    All of them hold the pipe that they write to: its end is read when the last has left.
    """
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, start_new_session=True, env=environment
    )
    try:
        for _ in range(lines):
            assert process.stdout.readline() == b"ready\n"
        process.kill()
        process.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        return False
    else:
        return True
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.stdout.close()
        process.wait()


@pytest.mark.parametrize("holds", [False, True])
def test_workers_leave_when_their_parent_is_killed(tmp_path, holds):
    if holds and not sys.platform.startswith("linux"):
        pytest.skip("only Linux is known to signal the end of a pipe")
    script = tmp_path / "driver.py"
    script.write_text(DRIVER.replace("{holds}", str(holds)))
    assert killed_after(2, script)


def test_a_process_that_nobody_started_goes_on():
    assert multiprocessing.parent_process() is None
    before = signal.getsignal(signal.SIGIO)
    end_with_parent()
    assert signal.getsignal(signal.SIGIO) == before


@pytest.mark.slow
def test_a_docking_that_is_killed_leaves_no_process(tmp_path):
    for needed in ("rdkit", "gemmi", "vina", "meeko"):
        pytest.importorskip(needed, reason=f"docking needs {needed}")
    from docking_example import small_receptor

    (tmp_path / "protein.pdb").write_text(small_receptor().make_pdb_string())
    # The first is done in a moment; the others are then being searched.
    long = "CCCCOCCCCNC(=O)CCCCc1ccc(OCCCC)cc1"
    (tmp_path / "many.smi").write_text("CO a\n" + "".join(f"{long} l{i}\n" for i in range(8)))
    script = tmp_path / "driver.py"
    script.write_text(DOCKING)
    assert killed_after(
        1, script, tmp_path / "protein.pdb", tmp_path / "many.smi", tmp_path / "out"
    )
