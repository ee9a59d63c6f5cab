"""Boxes in CSV files: one row a box, with the columns path,class,xmin,ymin,xmax,ymax.

    DATA/train.csv, val.csv, test.csv     paths relative to DATA
    boxes.csv                             and, if wanted, the column split

Coordinates are pixels. A picture has as many rows as boxes; a row with a path and nothing else
in these columns is a picture without objects. The delimiter is a comma, a semicolon or a tab.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from hubel.data.annotation_files import (
    AnnotationError,
    class_name,
    inside,
    pictures_below,
    printable,
    read_text,
    visible,
)
from hubel.data.boxed import Object, Picture, boxed_source
from hubel.data.boxes import Fault
from hubel.data.filesource import readable_name
from hubel.data.labels import split_name
from hubel.data.paths import expanded, is_file, is_folder
from hubel.data.source import FORMATS, SPLITS, Format, Source
from hubel.errors import UserError, suggestion

__all__ = ["BoxTables"]

_SUFFIXES = (".csv", ".tsv")
_DELIMITERS = (",", ";", "\t")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_COLUMNS = ("path", "class", *_CORNERS)
_MAX_BYTES = 1 << 30
_MAX_HEADER = 1 << 16


@dataclass(frozen=True)
class _Row:
    """Cells by column, stripped, and where they stand."""

    cells: dict[str, str]
    where: str


class BoxTables(Format):
    """Pictures whose boxes are rows of CSV files."""

    def describe(self) -> str:
        return (
            "a CSV file with the columns path,class,xmin,ymin,xmax,ymax[,split], or a folder "
            "with such files train.csv, val.csv and test.csv"
        )

    def matches(self, spec: str) -> bool:
        path = expanded(spec)
        if is_folder(path):
            # Not those that lack "path": tools that write other formats add tables of their own.
            return any("path" in columns for _, _, columns in _tables(path))
        return spec.lower().endswith(_SUFFIXES) and is_file(path) and bool(_columns(path))

    def open(self, spec: str) -> Source:
        path = expanded(spec)
        if is_folder(path):
            root, tables = path, [(split, name) for split, name, _ in _tables(path)]
        elif is_file(path):
            root, tables = path.parent, [("", path.name)]
        else:
            tables = []
        if not tables:
            raise UserError(f"DATA '{spec}' has no table of boxes: {self.describe()}")
        faults: list[Fault] = []
        notes: list[str] = []
        pictures: list[Picture] = []
        for split in ("", *SPLITS):
            files = [name for of, name in tables if of == split]
            if len(files) > 1:
                raise UserError(
                    f"DATA '{spec}' has two tables for {split}: '{files[0]}' and '{files[1]}'; "
                    f"keep one"
                )
            for name in files:
                pictures += _pictures(root / name, split, faults, notes)
        if is_folder(path):
            named = {inside(picture.name) for picture in pictures}
            said = "is in no table and is passed over; a row with its path only would make it "
            said += "a picture of nothing"
            below = pictures_below(root)
            faults += [Fault(readable_name(name), said) for name in below if name not in named]
        return boxed_source("boxes", spec, root, pictures, faults, notes)


def _tables(folder: Path) -> list[tuple[str, str, list[str]]]:
    """(split, name, columns) of the tables of boxes in a folder."""
    named = [
        (split_name(Path(e.name).stem), e.name)
        for e in visible(folder)
        if e.name.lower().endswith(_SUFFIXES)
    ]
    found = [(split, name, _columns(folder / name)) for split, name in named if split]
    return [(split, name, columns) for split, name, columns in found if columns]


def _columns(file: Path) -> list[str]:
    """The names of the columns of a table of boxes; none where it is something else."""
    if not is_file(file):
        return []
    try:
        with file.open(encoding="utf-8-sig", errors="replace") as opened:
            found = _header(opened.readline(_MAX_HEADER))
    except OSError:
        return []
    return found[0] if found else []


def _header(line: str) -> tuple[list[str], str] | None:
    """The names of the columns and the delimiter between them; None where they are not of boxes.

    Two corners are enough, so that a table that lacks a column is told which; with path and
    label it is a manifest.
    """
    for delimiter in _DELIMITERS:
        try:
            row = next(csv.reader([line], delimiter=delimiter), [])
        except csv.Error:
            continue
        header = [name.strip().lower() for name in row]
        complete = all(name in header for name in _COLUMNS)
        partly = sum(name in header for name in _CORNERS) >= 2
        if complete or (partly and not {"path", "label"} <= set(header)):
            return header, delimiter
    return None


def _pictures(file: Path, split: str, faults: list[Fault], notes: list[str]) -> list[Picture]:
    """The pictures of one table, all of `split`, or of the split that each row gives."""
    found: dict[str, Picture] = {}
    splits: set[bool] = set()
    for row in _rows(file, split, faults, notes):
        name = row.cells["path"]
        if not name:
            faults.append(Fault(row.where, "has no path; the row is passed over"))
            continue
        own = split or _split(row, file)
        splits.add(bool(own))
        if len(splits) > 1:
            raise UserError(
                f"'{file}': {row.where} {'has a' if own else 'has no'} split, unlike the rows "
                f"before it; give every row train, val or test, or leave the whole column out"
            )
        picture = found.setdefault(inside(name) or name, Picture(name, row.where, own))
        if picture.split != own:
            said = f"its picture is in {picture.split} ({picture.where}), and here in {own}"
            faults.append(Fault(row.where, f"{said}; the row is passed over"))
        elif o := _object(row, faults):
            picture.objects.append(o)
    return list(found.values())


def _object(row: _Row, faults: list[Fault]) -> Object | None:
    """The box of a row; None where there is none or it cannot be read."""
    corners = [row.cells[name] for name in _CORNERS]
    name = class_name(row.cells["class"])
    if not name and not any(corners):
        return None
    if not name:
        faults.append(Fault(row.where, "has no class; the box is passed over"))
        return None
    try:
        left, top, right, bottom = map(float, corners)
    except ValueError:
        got = printable(",".join(corners)[:60])
        said = f"class '{name}': {','.join(_CORNERS)} must be numbers, got {got}"
        faults.append(Fault(row.where, f"{said}; the box is passed over"))
        return None
    return Object(name, (left, top, right, bottom), False, row.where)


def _split(row: _Row, file: Path) -> str:
    told = row.cells.get("split", "")
    split = split_name(told) if told else ""
    if split is None:
        raise UserError(
            f"'{file}': {row.where}: split '{printable(told)}' is not known; "
            f"{suggestion(told, SPLITS)}"
        )
    return split


def _rows(file: Path, split: str, faults: list[Fault], notes: list[str]) -> Iterator[_Row]:
    """The rows of a table; those with a wrong number of cells are faults."""
    try:
        lines = list(StringIO(read_text(file, _MAX_BYTES), newline=""))
    except AnnotationError as error:
        raise UserError(f"'{file}' {error}") from error
    first = _header(lines[0]) if lines else None
    if first is None:
        raise UserError(
            f"'{file}' line 1 must name the columns {', '.join(_COLUMNS)}, separated by a comma, "
            f"semicolon or tab"
        )
    header, delimiter = first
    lacking = [name for name in _COLUMNS if name not in header]
    if lacking:
        raise UserError(
            f"'{file}' line 1 lacks the {'column' if len(lacking) == 1 else 'columns'} "
            f"{', '.join(lacking)}; a table of boxes names {','.join(_COLUMNS)}"
        )
    known = (*_COLUMNS,) if split else (*_COLUMNS, "split")
    twice = [name for name in known if header.count(name) > 1]
    if twice:
        raise UserError(f"'{file}' line 1 names the column '{twice[0]}' twice; keep one")
    extra = [printable(name) for name in header if name not in known]
    if extra:
        notes.append(f"ignored the columns {', '.join(extra)} of {readable_name(file.name)}")
    columns = {name: header.index(name) for name in known if name in header}
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    next(reader)
    try:
        for row in reader:
            where = f"{readable_name(file.name)} line {reader.line_num}"
            if not any(cell.strip() for cell in row):
                continue
            if len(row) == len(header):
                yield _Row({name: row[k].strip() for name, k in columns.items()}, where)
            else:
                said = f"has {len(row)} fields, the header has {len(header)}"
                faults.append(Fault(where, f"{said}; the row is passed over"))
    except csv.Error as error:
        raise UserError(f"'{file}' line {reader.line_num} is not valid CSV: {error}") from error


FORMATS.register("boxes")(BoxTables())
