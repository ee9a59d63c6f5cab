"""`hubel WORDS` in this process, for tests of the command line: torch is imported once for all."""

import json
import sys
from dataclasses import dataclass

import pytest

from hubel.cli.main import main

__all__ = ["Done", "loaded", "ran", "refusal"]


@dataclass
class Done:
    """How a command ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


def ran(words, capsys, monkeypatch) -> Done:
    """What came of `hubel WORDS`."""
    monkeypatch.setattr(sys, "argv", ["hubel", *map(str, words)])
    capsys.readouterr()
    with pytest.raises(SystemExit) as ending:
        main()
    said = capsys.readouterr()
    return Done(int(ending.value.code or 0), said.out, said.err)


def refusal(found: Done) -> str:
    """The one line that a command says on stderr when it refuses."""
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr.startswith("hubel: ")
    assert found.stderr.count("\n") == 1
    return found.stderr


def loaded(found: Done):
    """Its one JSON document, which must not have NaN or infinity in it."""

    def fail(constant):
        raise AssertionError(constant)

    return json.loads(found.stdout, parse_constant=fail)
