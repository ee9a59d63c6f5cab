"""The errors a user may see.

A `UserError` is a mistake that the person at the keyboard can mend: its message names
the file or argument, the rule, the value that was got, and the fix. The command line
prints it after ``hubel: `` and exits with 1; Python callers catch it as a `ValueError`.
Everything else that is raised is a defect of hubel's and keeps its traceback.
"""

import difflib
import unicodedata
from collections.abc import Iterable

__all__ = ["Interrupted", "UserError", "printable", "suggestion"]


class UserError(ValueError):
    """One clear message about something that the user gave and can change."""


class Interrupted(Exception):
    """A signal ended the work after everything was saved.

    `exit_code` is what a shell expects: 130 after Ctrl-C, 143 after SIGTERM.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def printable(text: str) -> str:
    """`text` from disk, fit for a terminal or a drawing: control characters and halves of
    surrogate pairs are written out, so that a name can neither colour a screen nor break XML.

    >>> printable("a\\x1b[31mb")
    'a\\\\x1b[31mb'
    """
    return "".join(
        c.encode("unicode_escape").decode("ascii")
        if unicodedata.category(c) in ("Cc", "Cs") or c in "\ufffe\uffff"
        else c
        for c in text
    )


def suggestion(name: str, known: Iterable[str]) -> str:
    """The tail of a message about an unknown name: the nearest known ones, or all of them.

    >>> suggestion("resnet43", ["resnet34", "vgg16"])
    "did you mean 'resnet34'?"
    >>> suggestion("x", ["adam", "sgd"])
    "choose from 'adam', 'sgd'"
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if near:
        return "did you mean " + " or ".join(f"'{n}'" for n in near) + "?"
    return "choose from " + ", ".join(f"'{n}'" for n in names)
