"""`hubel draw`, from the command line."""

import json

import pytest
from typer.testing import CliRunner

from hubel.cli.main import app
from hubel.errors import UserError


def run(*words: str):
    return CliRunner().invoke(app, ["draw", *words])


def test_draws_and_says_what(tmp_path):
    path = tmp_path / "lenet.svg"
    result = run("lenet5", "--style", "paper", "-o", str(path))
    assert result.exit_code == 0
    assert "61.7 k parameters" in result.stdout
    assert f"svg: {path}" in result.stdout
    assert path.read_text().startswith("<svg")
    # A path of a test may be long; what hubel says is not.
    assert max(len(line) for line in result.stdout.splitlines() if "svg:" not in line) <= 80


def test_json_is_one_document(tmp_path):
    path = tmp_path / "n.tex"
    args = ("lenet5", "--input", "3x40x48", "--color", "macs", "-o", str(path), "--json")
    result = run(*args)
    found = json.loads(result.stdout)
    assert found["input_shape"] == [3, 40, 48]
    assert found["flops"] == 2 * found["macs"] == 2 * sum(n["macs"] for n in found["nodes"])
    assert found["params"] == sum(n["params"] for n in found["nodes"])
    assert found["edges"] == [[i, i + 1] for i in range(len(found["nodes"]) - 1)]
    assert found["nodes"][1]["shape"] == [6, 36, 44]
    assert found["nodes"][1]["memory_bytes"] == 4 * 6 * 36 * 44
    assert found["files"] == {"tex": str(path)}


def test_without_output_the_name_says_what_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("torchvision:alexnet").exit_code == 0
    assert (tmp_path / "torchvision-alexnet-blocks.svg").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("lenet5", "--style", "papr"), "--style 'papr' is not known; did you mean 'paper'"),
        (("lenet5", "--color", "param"), "--color 'param' is not known; did you mean 'params'"),
        (("lenet5", "-o", "x.gif"), r"--output must end in .svg or .pdf .*got 'x.gif'"),
        (("lenet5", "-o", "x"), r"--output must end in .svg or .*got 'x'"),
        (("lenet5", "-o", "no/x.svg"), "the folder 'no' does not exist; make it"),
        (("lenet5", "-o", "/dev/full/x.svg"), "the folder '/dev/full' does not exist"),
        (("lenet6",), "MODEL 'lenet6' is not known; did you mean 'lenet5'"),
        (("nope.py:Net",), "the file 'nope.py' does not exist"),
        (
            ("lenet5", "--input", "1x8x8"),
            r"MODEL 'lenet5' needs an input of at least 16×16, got 8×8; enlarge it with "
            r"--input 1x16x16 or more",
        ),
        (("lenet5", "--input", "224"), "--input takes channels and 2 sizes"),
        (("torchvision:alexnet", "--input", "3x20x20"), r"does not fit .*\(layer '.*features.5'\)"),
    ],
)
def test_mistakes_are_told(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        raise run(*words).exception
    assert not list(tmp_path.iterdir())


def test_a_file_is_replaced_only_when_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "lenet5-blocks.svg"
    path.write_text("mine")
    with pytest.raises(UserError, match=r"'lenet5-blocks.svg' exists; .* replace it with --force"):
        raise run("lenet5").exception
    assert path.read_text() == "mine"
    assert run("lenet5", "--force").exit_code == 0
    assert path.read_text().startswith("<svg")


def test_the_title_of_a_persons_file_is_without_its_folder(tmp_path):
    folder = tmp_path / "deep" / "folder"
    folder.mkdir(parents=True)
    (folder / "mine.py").write_text(
        "from torch import nn\n\ndef net():\n    return nn.Sequential(nn.Conv2d(3, 4, 3))\n"
    )
    path = tmp_path / "x.svg"
    name = f"{folder}/mine.py:net"
    result = run(name, "--input", "3x8x8", "-o", str(path), "--json")
    assert json.loads(result.stdout)["model"] == name
    assert ">mine.py:net</text>" in path.read_text()
    assert "folder" not in path.read_text()
