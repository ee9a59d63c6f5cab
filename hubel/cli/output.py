"""Where verbs write, and how: never over a file that was read, never over one unasked."""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from hubel.errors import UserError

__all__ = ["destination", "only_the_document", "write_file"]


@contextlib.contextmanager
def only_the_document(json: bool) -> Iterator[None]:
    """With --json, what a person's own network or transform prints goes to stderr meanwhile."""
    with contextlib.redirect_stdout(sys.stderr) if json else contextlib.nullcontext():
        yield


def destination(
    option: str, name: str, suffixes: Sequence[str], read: Sequence[str | None], force: bool
) -> Path:
    """Where to write: never a file that was read, nothing that exists unless forced."""
    from hubel.data.paths import exists, expanded, is_folder

    path = expanded(name)
    if path.suffix.lower() not in suffixes:
        raise UserError(f"{option} must end in {' or '.join(suffixes)}, got '{name}'")
    if is_folder(path):
        raise UserError(f"{option} '{name}' is a folder; name a file in it")
    if not is_folder(path.parent):
        raise UserError(f"{option} '{name}': the folder '{path.parent}' does not exist; make it")
    if not exists(path):
        return path
    for other in read:
        if other is not None and exists(expanded(other)) and path.samefile(expanded(other)):
            raise UserError(f"{option} '{name}' is a file that is read; choose another name")
    if not force:
        raise UserError(
            f"{option} '{name}' exists; choose another name, or replace it with --force"
        )
    return path


def write_file(option: str, path: Path, content: bytes | str) -> None:
    """Write it, whole or not at all. `UserError` names `option` if that cannot be."""
    from hubel.runs import write_atomic

    try:
        write_atomic(path, content)
    except OSError as error:
        raise UserError(
            f"{option} '{path}' could not be written: {error.strerror}; choose another place"
        ) from error
