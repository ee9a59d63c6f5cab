"""The command line: instant help, exit codes, one JSON document, clear words."""

import csv
import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass

import pytest
from typer.testing import CliRunner

from hubel.cli.main import app, main
from hubel.cli.output import destination, write_file
from hubel.errors import UserError

FAST = [
    "--model",
    "simple",
    "--epochs",
    "2",
    "--batch-size",
    "16",
    "--threads",
    "1",
    "--engine",
    "fp32",
]


@dataclass
class Done:
    """How a command ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def hubel(capsys, monkeypatch):
    """The command in this process: torch is imported once for all tests."""

    def run(*words, check=True):
        monkeypatch.setattr(sys, "argv", ["hubel", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ending:
            main()
        said = capsys.readouterr()
        done = Done(int(ending.value.code or 0), said.out, said.err)
        assert done.returncode == 0 or not check, done.stderr
        return done

    return run


@pytest.mark.parametrize(
    "words", [["--help"], ["fit", "--help"], ["fit", "--bogus"], ["--version"]]
)
def test_help_and_usage_errors_never_import_torch(words):
    code = (
        "import sys; sys.argv = ['hubel', *sys.argv[1:]]\n"
        "from hubel.cli.main import main\n"
        "try: main()\n"
        "finally: assert not {'torch', 'numpy', 'PIL'} & set(sys.modules), 'heavy import'\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert "heavy import" not in done.stderr
    assert done.returncode == (2 if "--bogus" in words else 0)


@pytest.mark.parametrize("verb", ["inspect", "fit", "evaluate", "predict"])
def test_every_verb_has_help_and_takes_json(verb):
    done = CliRunner().invoke(app, [verb, "--help"])
    assert done.exit_code == 0
    assert "--json" in done.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fit"], "DATA is missing: name a folder of pictures"),
        (["fit", "nowhere"], "DATA 'nowhere' is neither a path that exists nor an embedded set"),
        (["fit", "digits", "--model", "lenet"], "did you mean 'lenet5'"),
        (["fit", "digits", "--optimizer", "adan"], "--optimizer 'adan' is not known; did you mean"),
        (["fit", "digits", "--budget", "5m", "--epochs", "2"], "both say when the training ends"),
        (["fit", "digits", "--budget", "soon"], "--budget: write a time such as 90s, 5m or 1h30m"),
        (["fit", "digits", "--img-size", "4"], "needs an input of at least 8×8, got 4×4"),
        (["fit", "digits", "--device", "cuda:7"], "--device 'cuda:7' cannot be used here"),
        (["fit", "--resume", "nowhere"], "RUN 'nowhere' does not exist"),
        (["fit", "--resume", "x", "--lr", "1"], "--lr cannot be given with --resume"),
        (["fit", "digits", "--resume", "x"], "DATA cannot be given with --resume"),
        (
            ["evaluate", "nowhere"],
            "RUN 'nowhere' does not exist; give the folder that hubel fit wrote",
        ),
        (["predict", "nowhere", "x.jpg"], "RUN 'nowhere' does not exist"),
        (["inspect", "nowhere"], "DATA 'nowhere' is neither a path"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_user_errors_are_one_sentence_and_exit_1(hubel, words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = hubel(*words, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("hubel: ") or "\nhubel: " in done.stderr
    assert message in done.stderr.replace("\n", " ")
    assert not list(tmp_path.rglob("*.json"))


def test_the_road_from_the_command_line(hubel, pictures, tmp_path):
    run = tmp_path / "run"
    done = hubel("fit", pictures, *FAST, "--output", run, "--json")
    document = json.loads(done.stdout)
    assert set(document) >= {
        "run", "task", "model", "epochs", "seconds", "images_per_s", "engine", "metrics",
    }  # fmt: skip
    assert document["run"] == str(run)
    assert "epoch   2" in done.stderr

    done = hubel("evaluate", run, "--json")
    document = json.loads(done.stdout)
    assert document["n"] == sum(map(sum, document["confusion"]["counts"]))
    assert document["confusion"]["rows"] == "truth"

    words = hubel("evaluate", run).stdout
    assert "95 % interval" in words
    assert "report: " in words
    assert max(map(len, words.splitlines()[:-1])) <= 80

    files = [pictures / "north" / "000.png", pictures / "south" / "001.png"]
    document = json.loads(hubel("predict", run, *files, "--json").stdout)
    assert [p["path"] for p in document["predictions"]] == [str(f) for f in files]
    rows = list(csv.DictReader(io.StringIO(hubel("predict", run, *files, "--csv").stdout)))
    assert [row["class"] for row in rows] == [p["label"] for p in document["predictions"]]
    assert "north" in hubel("predict", run, *files).stdout

    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"")
    done = hubel("predict", run, files[0], bad, "--csv", check=False)
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 3  # what could be read is not lost
    assert "1 of 2 files could not be read" in done.stderr


def test_inspect_prints_json_and_writes_its_page(hubel, pictures, tmp_path):
    page = tmp_path / "page.html"
    done = hubel("inspect", pictures, "--html", page, "--json")
    assert isinstance(json.loads(done.stdout), dict)
    assert "<html" in page.read_text()
    assert max(map(len, hubel("inspect", pictures).stdout.splitlines())) <= 80


def test_a_default_run_folder_is_numbered(hubel, pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        done = hubel("fit", pictures, *FAST, "--json")
        assert json.loads(done.stdout)["run"] == f"runs/spots-simple-{number}"


def test_output_is_refused_or_written_whole(tmp_path):
    old = tmp_path / "old.svg"
    old.write_text("mine")
    os.mkfifo(tmp_path / "pipe.svg")
    with pytest.raises(UserError, match=r"--svg must end in \.svg or \.png, got 'a.txt'"):
        destination("--svg", "a.txt", (".svg", ".png"), (), False)
    with pytest.raises(UserError, match=r"old.svg' exists; choose another name, or .* --force"):
        destination("--svg", str(old), (".svg",), (), False)
    with pytest.raises(UserError, match="is a file that is read"):
        destination("--svg", str(old), (".svg",), (None, str(old)), True)
    with pytest.raises(UserError, match=r"the folder '.*no' does not exist; make it"):
        destination("--svg", str(tmp_path / "no" / "a.svg"), (".svg",), (), False)
    with pytest.raises(UserError, match=r"pipe.svg' is not a plain file"):
        write_file("--svg", tmp_path / "pipe.svg", "x")
    assert destination("--svg", str(old), (".svg",), (), True) == old
    assert old.read_text() == "mine"
    write_file("--svg", old, "new")
    assert old.read_text() == "new"
