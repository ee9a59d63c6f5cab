"""The Python of docs/convolution.md runs, and its commands are known."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from hubel.cli.main import main
from hubel.conv import METHODS

PAGE = (Path(__file__).parents[1] / "docs" / "convolution.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [
    shlex.split(line, comments=True)
    for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
    if "cat.jpg" not in line and "bench" not in line  # your picture; minutes
]


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_the_python_runs(number):
    exec(compile(SNIPPETS[number], f"docs/convolution.md, snippet {number}", "exec"), {})


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_the_commands_run(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ending:
        main()
    assert not ending.value.code, capsys.readouterr().err


@pytest.mark.parametrize("name", [*METHODS.names(), "auto"])
def test_every_method_is_described(name):
    assert f"`{name}`" in PAGE
