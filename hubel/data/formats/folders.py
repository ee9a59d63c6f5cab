"""Class folders: DATA/CLASS/*, or DATA/{train,val,test}/CLASS/*.

The label of a picture is the name of the folder that it lies in, at any depth below it. The
class list is the sorted names of train's folders (of DATA's, where there are no splits), so it
never depends on what the other splits hold.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hubel.data.filesource import FileSource, readable_name
from hubel.data.labels import class_table, split_name
from hubel.data.magic import PICTURE_SUFFIXES
from hubel.data.mask_folders import mask_parts
from hubel.data.paths import expanded, is_folder
from hubel.data.source import FORMATS, SPLITS, Format, Source, SourceInfo
from hubel.errors import UserError

__all__ = ["Folders"]

_HIDDEN = frozenset(("__MACOSX", "@eaDir", "$RECYCLE.BIN", "Thumbs.db", "desktop.ini"))
_PEEK = 2_000  # entries that `matches` looks at before it gives up


@dataclass
class _Passed:
    """What was passed over, counted for the notes."""

    hidden: int = 0
    broken: int = 0
    foreign: list[str] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)
    unlabelled: int = 0

    def notes(self) -> list[str]:
        notes = []
        if self.hidden:
            notes.append(f"ignored {_count(self.hidden, 'hidden entry', 'hidden entries')}")
        if self.broken:
            notes.append(
                f"ignored {_count(self.broken, 'entry that is', 'entries that are')} "
                f"neither a file nor a folder (broken links, devices)"
            )
        if self.foreign:
            notes.append(
                f"ignored {_count(len(self.foreign), 'file that is', 'files that are')} not "
                f"{'a picture' if len(self.foreign) == 1 else 'pictures'} "
                f"(first: {readable_name(self.foreign[0])})"
            )
        if self.beside:
            notes.append(
                f"ignored {_count(len(self.beside), 'entry', 'entries')} beside the class "
                f"folders (first: {readable_name(self.beside[0])})"
            )
        if self.unlabelled:
            notes.append(
                f"ignored {_count(self.unlabelled, 'picture', 'pictures')} in test: without "
                f"class folders they have no labels"
            )
        return notes


class Folders(Format):
    """Pictures in one folder a class, with or without train, val and test above them."""

    general = True  # any folder of pictures matches; annotations in it say more

    def describe(self) -> str:
        return "DATA/CLASS/*.jpg, or DATA/{train,val,test}/CLASS/*.jpg, one folder a class"

    def matches(self, spec: str) -> bool:
        root = expanded(spec)
        if not is_folder(root) or mask_parts(root):
            return False
        try:
            entries = [e for e in os.scandir(root) if not _is_hidden(e.name)]
        except OSError:
            return True  # `open` says why it cannot be read
        folders = [e for e in entries if e.is_dir()]
        if not entries or any(_is_picture(e.name) for e in entries):
            return True  # empty, or pictures without class folders: `open` says what is wrong
        num_files = 0
        for budget, name in enumerate(_walk_names([e.path for e in folders])):
            if _is_picture(name):
                return True
            if budget >= _PEEK:
                return False
            num_files += 1
        return bool(folders) and num_files == 0 and len(folders) == len(entries)

    def open(self, spec: str) -> Source:
        root = expanded(spec)
        if not is_folder(root):
            raise UserError(f"DATA '{spec}' is not a folder; class folders are: {self.describe()}")
        passed = _Passed()
        parts = _parts(root, spec, passed)
        names: list[str] = []
        classes: list[str] = []
        splits: list[str] = []
        emptied: list[str] = []
        for split, prefix in parts:
            folders = _class_folders(root, prefix, passed)
            for folder in folders:
                below = prefix + folder.name
                found = sorted(_pictures(folder.path, below + "/", passed))
                if not found and split in ("", "train"):
                    raise UserError(_empty_class(spec, below, passed))
                if not found:
                    emptied.append(below)
                names += found
                classes += [readable_name(folder.name)] * len(found)
                splits += [split] * len(found)
            if len({readable_name(folder.name) for folder in folders}) < len(folders):
                raise UserError(
                    f"DATA '{spec}': two class folders have the same name when written as "
                    f"UTF-8; rename one of {[readable_name(f.name) for f in folders]}"
                )
        if not names:
            raise UserError(
                f"DATA '{spec}' holds no pictures in class folders; expected {self.describe()}"
            )
        notes = passed.notes()
        notes += [f"class folder '{readable_name(e)}' is empty" for e in emptied]
        split_column = np.array(splits, dtype=np.str_)
        table, targets, missing = class_table(
            np.array(classes, dtype=np.str_),
            split_column,
            f"DATA '{spec}'",
            "put pictures of it into train/{name}, or take the folder {split}/{name} away",
        )
        class_list = tuple(str(name) for name in table)
        info = SourceInfo("folders", 2, class_list)
        return FileSource(root, root, info, names, targets, split_column, notes + missing)


def _parts(root: Path, spec: str, passed: _Passed) -> list[tuple[str, str]]:
    """(split, prefix of its class folders) in reading order; [("", "")] without splits."""
    by_split: dict[str, str] = {}
    others: list[os.DirEntry[str]] = []
    files: list[str] = []
    num_hidden = 0
    for entry in _scan(root):
        if _is_hidden(entry.name):
            num_hidden += 1
        elif not entry.is_dir():
            files.append(entry.name)
        elif (split := split_name(entry.name)) is None:
            others.append(entry)
        elif split in by_split:
            raise UserError(
                f"DATA '{spec}' has two folders for {split}: '{by_split[split]}' and "
                f"'{entry.name}'; keep one"
            )
        else:
            by_split[split] = entry.name
    if not by_split and not others:
        raise UserError(_no_folders(spec, sorted(files)))
    if not by_split:
        return [("", "")]
    with_pictures = [e.name for e in others if any(map(_is_picture, _walk_names([e.path])))]
    if with_pictures:
        raise UserError(
            f"DATA '{spec}' mixes split folders ({', '.join(by_split.values())}) with other "
            f"folders of pictures ({readable_name(with_pictures[0])}); move the class folders "
            f"into train, or the split folders elsewhere"
        )
    passed.hidden += num_hidden
    passed.beside += sorted(files + [e.name for e in others])
    return [(s, by_split[s] + "/") for s in SPLITS if s in by_split]


def _class_folders(root: Path, prefix: str, passed: _Passed) -> list[os.DirEntry[str]]:
    """The class folders of one split, sorted by name; what lies beside them is noted."""
    folders = []
    files = []
    for entry in _scan(root / prefix):
        if _is_hidden(entry.name):
            passed.hidden += 1
        elif entry.is_dir():
            folders.append(entry)
        else:
            files.append(prefix + entry.name)
    pictures = [name for name in files if _is_picture(name)]
    if pictures and not folders and split_name(prefix.rstrip("/")) == "test":
        passed.unlabelled = len(pictures)
        return []
    if pictures and not folders:
        raise UserError(
            f"folder '{root / prefix}' holds pictures but no class folders; the label is the "
            f"name of the folder: {prefix}CLASS/{Path(min(pictures)).name}"
        )
    passed.beside += sorted(files)
    return sorted(folders, key=lambda e: e.name)


def _pictures(folder: str, prefix: str, passed: _Passed) -> list[str]:
    """Names, relative to the root, of the pictures at any depth below a class folder."""
    found = []
    seen = set()
    pending = [(folder, prefix)]
    while pending:
        folder, prefix = pending.pop()
        stat = os.stat(folder)  # noqa: PTH116
        if (stat.st_dev, stat.st_ino) in seen:  # a link back to a folder already read
            continue
        seen.add((stat.st_dev, stat.st_ino))
        for entry in _scan(folder):
            name = entry.name
            if _is_hidden(name):
                passed.hidden += 1
            elif _is(entry, "file"):
                if name.lower().endswith(PICTURE_SUFFIXES):
                    found.append(prefix + name)
                else:
                    passed.foreign.append(prefix + name)
            elif _is(entry, "dir"):
                pending.append((entry.path, f"{prefix}{name}/"))
            else:
                passed.broken += 1
    return found


def _is(entry: "os.DirEntry[str]", kind: str) -> bool:
    """Whether `entry` is a file or a folder; a link to itself is neither."""
    try:
        return entry.is_file() if kind == "file" else entry.is_dir()
    except OSError:
        return False


def _walk_names(folders: list[str]) -> Iterator[str]:
    """Names of the visible files at any depth below `folders`; unreadable ones are skipped."""
    pending = list(folders)
    seen = set()
    while pending:
        folder = os.path.realpath(pending.pop())
        if folder in seen:
            continue
        seen.add(folder)
        try:
            entries = list(os.scandir(folder))
        except OSError:
            continue
        for entry in entries:
            if _is_hidden(entry.name):
                continue
            if entry.is_dir():
                pending.append(entry.path)
            else:
                yield entry.name


def _scan(folder: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        shown = readable_name(str(folder))
        raise UserError(
            f"folder '{shown}' cannot be read: {error.strerror}; check its permissions"
        ) from error


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in _HIDDEN


def _is_picture(name: str) -> bool:
    return name.lower().endswith(PICTURE_SUFFIXES)


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _empty_class(spec: str, below: str, passed: _Passed) -> str:
    below = readable_name(below)
    other = [name for name in passed.foreign if name.startswith(below + "/")]
    found = f"it holds {len(other)} other files, first {readable_name(other[0])}" if other else ""
    known = " ".join(PICTURE_SUFFIXES)
    return (
        f"DATA '{spec}': class folder '{below}' holds no pictures"
        + (f" ({found}; hubel reads {known})" if other else "")
        + "; put pictures into it or take the folder away"
    )


def _no_folders(spec: str, files: list[str]) -> str:
    pictures = [name for name in files if _is_picture(name)]
    tables = [name for name in files if name.lower().endswith((".csv", ".tsv"))]
    if pictures and tables:
        return (
            f"DATA '{spec}' holds pictures but no class folders; if the labels are in "
            f"'{tables[0]}', name that file: {Path(spec) / tables[0]}"
        )
    if pictures:
        return (
            f"DATA '{spec}' holds {len(pictures)} pictures but no class folders; the label is "
            f"the name of the folder: move each into CLASS/ or write a CSV of path,label"
        )
    if files:
        return f"DATA '{spec}' holds no class folders; expected {Folders().describe()}"
    return f"DATA '{spec}' is empty; expected {Folders().describe()}"


FORMATS.register("folders")(Folders())
