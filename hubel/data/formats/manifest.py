"""A manifest: a CSV file with the columns path, label and, if wanted, split and group.

One row a picture. Paths are relative to the CSV's folder. The first row names the columns;
the delimiter is a comma, a semicolon or a tab. Rows of one group (a patient, a scene) never
land in different splits.
"""

import csv
import os
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import numpy as np

from hubel.data.filesource import FileSource
from hubel.data.labels import class_table, split_name
from hubel.data.paths import expanded, is_file
from hubel.data.source import FORMATS, Format, Source, SourceInfo
from hubel.errors import UserError, suggestion

__all__ = ["Manifest"]

_SUFFIXES = (".csv", ".tsv")
_DELIMITERS = (",", ";", "\t")
_COLUMNS = ("path", "label", "split", "group")
_NO_LABEL = frozenset(("", "nan"))


@dataclass
class _Table:
    """The rows, column by column, with the line that each came from."""

    names: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    groups: list[str] | None = None
    lines: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Manifest(Format):
    """Pictures named one a row in a CSV file."""

    def describe(self) -> str:
        return "a CSV file with the columns path,label[,split][,group], paths relative to it"

    def matches(self, spec: str) -> bool:
        return spec.lower().endswith(_SUFFIXES) and is_file(expanded(spec))

    def open(self, spec: str) -> Source:
        path = expanded(spec)
        if not is_file(path):
            raise UserError(f"DATA '{spec}' is not a file; a manifest is {self.describe()}")
        table = _read(path, spec)
        root = path.parent
        _check_files(table, root, spec)
        _check_splits(table, spec)
        splits = np.array(table.splits, dtype=np.str_)
        classes, targets, missing = class_table(
            np.array(table.labels, dtype=np.str_),
            splits,
            f"'{spec}'",
            "label rows of train with '{name}', or take its rows of {split} out",
        )
        class_list = tuple(str(name) for name in classes)
        return FileSource(
            path,
            root,
            SourceInfo("manifest", 2, class_list),
            table.names,
            targets,
            splits,
            table.notes + missing,
            groups=None if table.groups is None else np.array(table.groups, dtype=np.str_),
        )


def _read(path: Path, spec: str) -> _Table:
    """The rows of the CSV; each value checked by itself."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"'{spec}' is not UTF-8 text (byte {error.start}: {error.reason}); save it as UTF-8 CSV"
        ) from error
    except OSError as error:
        raise UserError(f"'{spec}' cannot be read: {error.strerror}") from error
    lines = list(StringIO(text, newline=""))  # str.splitlines would split at other characters
    header, delimiter = _header(lines[0] if lines else "", spec)
    columns = [header.index(name) if name in header else None for name in _COLUMNS]
    table = _Table(groups=[] if "group" in header else None)
    extra = [name for name in header if name not in _COLUMNS]
    if extra:
        table.notes.append(f"ignored the columns {', '.join(extra)} of the manifest")
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    next(reader)
    try:
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            where = f"'{spec}' line {reader.line_num}"
            if len(row) != len(header):
                raise UserError(
                    f"{where} has {len(row)} fields, the header has {len(header)}; quote a "
                    f'field that holds a delimiter: "a, b.jpg"'
                )
            cells = [None if k is None else row[k].strip() for k in columns]
            _append(table, cells, where, reader.line_num)
    except csv.Error as error:
        raise UserError(f"'{spec}' line {reader.line_num} is not valid CSV: {error}") from error
    if not table.names:
        raise UserError(f"'{spec}' has a header but no rows; write one row a picture")
    return table


def _header(line: str, spec: str) -> tuple[list[str], str]:
    """The names of the columns and the delimiter that they are separated by."""
    seen = []
    for delimiter in _DELIMITERS:
        row = next(csv.reader([line], delimiter=delimiter), [])
        header = [name.strip().lower() for name in row]
        if "path" in header and "label" in header:
            twice = [name for name in _COLUMNS if header.count(name) > 1]
            if twice:
                raise UserError(f"'{spec}' line 1 names the column '{twice[0]}' twice; keep one")
            return header, delimiter
        seen.append(header)
    found = max(seen, key=len)
    raise UserError(
        f"'{spec}' line 1 must name the columns path and label (and split, group if wanted), "
        f"separated by a comma, semicolon or tab; got {', '.join(found) or 'an empty line'}"
    )


def _append(table: _Table, cells: list[str | None], where: str, line: int) -> None:
    name, label, split, group = cells
    if not name:
        raise UserError(f"{where} has no path; name the picture or take the row out")
    if label is None or label.lower() in _NO_LABEL:
        raise UserError(
            f"{where} has no label (got '{label}' for {name}); write the class or take the row out"
        )
    known = ""
    if split:
        known = split_name(split) or ""
        if not known:
            raise UserError(
                f"{where}: split '{split}' is not known; "
                f"{suggestion(split, ('train', 'val', 'test'))}"
            )
    table.names.append(name)
    table.labels.append(label)
    table.splits.append(known)
    table.lines.append(line)
    if table.groups is not None:
        table.groups.append(
            group or f"line {line} (no group)"
        )  # without a group: a group of its own


def _check_files(table: _Table, root: Path, spec: str) -> None:
    """Every path names a file, and no file is named twice."""
    first: dict[str, int] = {}
    missing = []
    for name, line in zip(table.names, table.lines, strict=True):
        # Strings and os.path: pathlib would double the time for 60,000 rows.
        file = os.path.normpath(os.path.join(root, name))  # noqa: PTH118
        if file in first:
            raise UserError(
                f"'{spec}' line {line} names {name} again (first in line {first[file]}); a "
                f"picture has one row"
            )
        first[file] = line
        if not os.path.isfile(file):  # noqa: PTH113
            missing.append((name, line))
    if missing:
        name, line = missing[0]
        more = f" ({len(missing)} such rows)" if len(missing) > 1 else ""
        slash = "; write paths with /" if "\\" in name else ""
        raise UserError(
            f"'{spec}' line {line}: '{name}' is not a file below '{root}'{more}; paths are "
            f"relative to the CSV's folder{slash}"
        )


def _check_splits(table: _Table, spec: str) -> None:
    """Every row has a split or none has, and no group lies in two."""
    if any(table.splits) and not all(table.splits):
        k = table.splits.index("")
        raise UserError(
            f"'{spec}' line {table.lines[k]} has no split while other rows have; give every "
            f"row train, val or test, or leave the whole column out"
        )
    if table.groups is None:
        return
    first: dict[str, int] = {}
    for k, group in enumerate(table.groups):
        other = first.setdefault(group, k)
        if table.splits[k] != table.splits[other]:
            raise UserError(
                f"'{spec}': group '{group}' is in {table.splits[other]} (line "
                f"{table.lines[other]}) and in {table.splits[k]} (line {table.lines[k]}); "
                f"a group belongs to one split"
            )


FORMATS.register("manifest")(Manifest())
