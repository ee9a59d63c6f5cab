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


_LISTED = 40  # names in a message; timm has more than a thousand


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


def suggestion(name: str, known: Iterable[str], prefix: str = "") -> str:
    """The tail of a message about an unknown name: the nearest known ones, or what there is.

    Capitals and lower case are the same here. Of a long list its beginning is told.
    `prefix` is put before each name that is told.

    >>> suggestion("resnet43", ["resnet34", "vgg16"])
    "did you mean 'resnet34'?"
    >>> suggestion("x", ["adam", "sgd"])
    "choose from 'adam', 'sgd'"
    >>> suggestion("VGG16", ["resnet34", "vgg16"])
    "did you mean 'vgg16'?"
    """
    names = sorted(known)
    plain = {n.lower(): n for n in names}
    near = difflib.get_close_matches(name.lower(), plain, n=3, cutoff=0.6)
    if near:
        return "did you mean " + " or ".join(f"'{prefix}{plain[n]}'" for n in near) + "?"
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return "choose from " + ", ".join(f"'{prefix}{n}'" for n in names[:_LISTED]) + more
