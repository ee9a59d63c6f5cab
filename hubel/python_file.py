"""One object out of a person's own Python file: `net.py:Net`.

The file is executed, as Python would: only ever do this with a name that the person at the
keyboard has given, never with one that was read from a file. Nothing is written beside it
(no __pycache__). What goes wrong in it is told with its file and line.
"""

import hashlib
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from hubel.errors import UserError, printable, suggestion

__all__ = ["file_sha256", "is_own_file", "load_object", "telling_where"]

T = TypeVar("T")


def is_own_file(model: str) -> bool:
    """Whether `model` names something in a person's own Python file.

    >>> is_own_file("nets/mine.py:Net"), is_own_file("timm:resnet50"), is_own_file("vit_small/8")
    (True, False, False)
    """
    file = model.rpartition(":")[0] or model
    return file.endswith(".py") and not model.startswith(("torchvision:", "timm:"))


def file_sha256(model: str) -> str:
    """The sha256 of the file in `file.py:NAME`; nothing is executed.

    Of this one file: what it imports is not looked at. Raises `UserError` if it cannot be read.
    """
    file = model.rpartition(":")[0] or model
    try:
        return hashlib.sha256(Path(file).expanduser().read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(
            f"the file '{file}' cannot be read: {error.strerror}; give the path of a Python file"
        ) from None


def load_object(file: str, name: str) -> object:
    """What `file` defines as `name`.

    Raises `UserError` if there is no such file, if it is not Python, if executing it fails
    (with the line), or if it has no such name (with the nearest).
    """
    path = Path(file).expanduser()
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"the file '{file}' {what}; give the path of a Python file")
    try:
        code = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:  # ValueError: null bytes
        line = getattr(error, "lineno", None)
        reason = printable(getattr(error, "msg", None) or str(error))
        raise UserError(
            f"{path}{f':{line}' if line else ''} is not a Python file: {reason}; correct it "
            "or give another file"
        ) from None
    except OSError as error:
        raise UserError(f"the file '{file}' cannot be read: {error.strerror}") from None
    module = ModuleType(f"hubel_file_{path.stem}")
    module.__file__ = str(path)
    # Dataclasses and the like look their module up while they are being made.
    sys.modules[module.__name__] = module
    folder = str(path.resolve().parent)
    writes_bytecode = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    sys.path.insert(0, folder)  # as for a script: the file may import its neighbours
    try:
        telling_where(path, "cannot be executed", lambda: exec(code, module.__dict__))
    finally:
        sys.path.remove(folder)
        sys.dont_write_bytecode = writes_bytecode
    if name not in module.__dict__:
        own = [
            key
            for key, value in vars(module).items()
            if callable(value) and getattr(value, "__module__", "") == module.__name__
        ]
        near = suggestion(name, own) if own else "it defines no class and no function"
        raise UserError(f"{path} has no '{name}'; {near}")
    return module.__dict__[name]


def telling_where(path: Path, failure: str, call: Callable[[], T]) -> T:
    """What `call` gives; an error on its way through the file `path` becomes a `UserError`
    that names the line, and says `failure`."""
    try:
        return call()
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename == str(path)
        ]
        where = f"{path}:{lines[-1]}" if lines else str(path)
        reason = printable(str(error).strip().split("\n")[0])
        kind = type(error).__name__
        raise UserError(
            f"{where} {failure}: {kind}{f': {reason}' if reason else ''}; correct the file"
        ) from error
