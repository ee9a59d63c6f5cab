"""Files of annotations, and the folders that they and their pictures lie in: names and texts."""

import os
import re
import stat
from pathlib import Path, PurePath

from hubel.data.magic import PICTURE_SUFFIXES

__all__ = [
    "AnnotationError",
    "class_name",
    "inside",
    "is_picture",
    "pictures_below",
    "printable",
    "read_text",
    "visible",
]

_HIDDEN = frozenset(("__MACOSX", "@eaDir", "$RECYCLE.BIN"))
_DRIVE = re.compile(r"[A-Za-z]:")


class AnnotationError(Exception):
    """A file of annotations cannot be used; the text is the reason ("is not UTF-8 text")."""


def inside(name: str) -> str | None:
    """A relative path in plain form; None for one that leaves its folder.

    >>> inside("./a//b/../c.jpg"), inside("a/../../c.jpg"), inside("/c.jpg"), inside("C:\\\\c.jpg")
    ('a/c.jpg', None, None, None)
    """
    plain = os.path.normpath(name) if name else "."
    if plain == "." or plain.startswith(("/", "\\")) or _DRIVE.match(plain):
        return None
    return None if ".." in PurePath(plain).parts else plain


def printable(text: str) -> str:
    r"""`text` with what cannot be printed, or written as UTF-8, as escapes.

    >>> printable("a\x1b[31m\udce9")
    'a\\x1b[31m\\udce9'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def class_name(text: str) -> str:
    """The name of a class as a file has it: one line, no spaces around it."""
    return printable(" ".join(text.split()))


def read_text(file: Path, limit: int) -> str:
    """The text of a file of annotations, of at most `limit` bytes.

    Raises `AnnotationError` where it cannot be read or is not UTF-8.
    """
    try:
        facts = file.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise AnnotationError("is not a file")
        if facts.st_size > limit:
            raise AnnotationError(f"is too large: {facts.st_size:,} bytes, the limit is {limit:,}")
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AnnotationError(
            f"is not UTF-8 text (byte {error.start}: {error.reason}); save it as UTF-8"
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AnnotationError(f"cannot be read: {reason}") from error


def is_picture(name: str) -> bool:
    """Whether a file's suffix is that of a picture."""
    return name.lower().endswith(PICTURE_SUFFIXES)


def visible(folder: Path) -> list["os.DirEntry[str]"]:
    """The entries of `folder` that are not hidden, by name; none where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            shown = [e for e in entries if not e.name.startswith(".") and e.name not in _HIDDEN]
    except OSError:
        return []
    return sorted(shown, key=lambda e: e.name)


def pictures_below(folder: Path) -> list[str]:
    """Names, relative to `folder`, of the pictures at any depth below it, sorted.

    Links are followed; one back to a folder already read is not.
    """
    found: list[str] = []
    seen: set[tuple[int, int]] = set()
    pending = [""]
    while pending:
        prefix = pending.pop()
        try:
            facts = (folder / prefix).stat()
        except OSError:
            continue
        if (facts.st_dev, facts.st_ino) in seen:
            continue
        seen.add((facts.st_dev, facts.st_ino))
        for entry in visible(folder / prefix):
            try:
                if entry.is_dir():
                    pending.append(f"{prefix}{entry.name}/")
                elif is_picture(entry.name) and entry.is_file():
                    found.append(prefix + entry.name)
            except OSError:  # a link to itself
                continue
    return sorted(found)
