"""One small registry: a folder of modules, each of which registers what it brings.

A new architecture, data format or task is one new file in its folder. The registry
imports the folder's modules at the first look-up, not before, so that the command line
can start without torch.
"""

import importlib
import pkgutil
from collections.abc import Callable
from typing import Generic, TypeVar

from hubel.errors import UserError, suggestion

__all__ = ["Registry"]

T = TypeVar("T")


class Registry(Generic[T]):
    """Named entries that the modules of one package register.

    Parameters
    ----------
    kind: what an entry is, in the words of an error message ("--model").
    package: the dotted name of the folder whose modules register entries.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._entries: dict[str, T] = {}
        self._loaded = False

    def register(self, name: str) -> Callable[[T], T]:
        """A decorator that enters what it decorates under `name`."""

        def enter(entry: T) -> T:
            if name in self._entries:
                raise RuntimeError(f"{self.kind} '{name}' is registered twice")
            self._entries[name] = entry
            return entry

        return enter

    def _load(self) -> None:
        if self._loaded:
            return
        package = importlib.import_module(self.package)
        for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__)):
            importlib.import_module(f"{self.package}.{module}")
        self._loaded = True

    def __getitem__(self, name: str) -> T:
        self._load()
        if not isinstance(name, str):
            raise UserError(f"{self.kind} takes a name, got {name!r}; give one as text")
        if name not in self._entries:
            raise UserError(f"{self.kind} '{name}' is not known; {suggestion(name, self._entries)}")
        return self._entries[name]

    def names(self) -> list[str]:
        """Every registered name, sorted."""
        self._load()
        return sorted(self._entries)
