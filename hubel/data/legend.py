"""What the values of a mask mean: a class each, or nothing.

A legend is a list of names, or names with the index or the colour that stands for each. A
class called "void", "ignore" or "unlabelled", or marked in a column "ignore", is none: its
pixels are neither learned from nor judged. So are those of the index 255 in a mask of
indices, unless the legend names it.

No torch here: the processes that build the cache import this module.
"""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from io import StringIO
from pathlib import Path

import numpy as np

from hubel.data.source import Array, UnreadableSampleError
from hubel.errors import UserError

__all__ = [
    "IGNORED",
    "ColouredMaskError",
    "Legend",
    "named_legend",
    "numbered_legend",
    "read_legend",
]

IGNORED = 255
"""The class of a pixel that is neither learned from nor judged."""

_MOST_CLASSES = 255
_NOT_CLASSES = frozenset(("void", "ignore", "ignored", "unlabelled", "unlabeled"))
_DELIMITERS = (",", ";", "\t")
_COLUMNS = {
    **dict.fromkeys(("name", "class", "label"), "name"),
    **dict.fromkeys(("index", "id", "value"), "index"),
    **dict.fromkeys(("r", "red"), "r"),
    **dict.fromkeys(("g", "green"), "g"),
    **dict.fromkeys(("b", "blue"), "b"),
    **dict.fromkeys(("ignore", "ignored"), "ignore"),
}
_WITHOUT_HEADER = {1: ["name"], 2: ["name", "index"], 4: ["name", "r", "g", "b"]}
_SAID = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False, "": False}


class ColouredMaskError(UnreadableSampleError):
    """A mask has colours where indices were asked for."""


@dataclass(frozen=True)
class Legend:
    """The classes, and the class of each known value.

    Attributes
    ----------
    names: of the classes 0, 1, ….
    classes: (value, class) of every known value, ascending; `IGNORED` for a class. A value is
        an index 0 to 255, or a colour 65536·red + 256·green + blue where `coloured`.
    coloured: whether values are colours.
    """

    names: tuple[str, ...]
    classes: tuple[tuple[int, int], ...]
    coloured: bool = False

    def digest(self) -> str:
        """A fingerprint (hex): equal ones make equal masks of equal files."""
        facts = repr((self.classes, self.coloured)).encode()
        return blake2b(facts, digest_size=8).hexdigest()

    def applied(self, values: Array) -> Array:
        """The class of each value: uint8 of the same shape, `IGNORED` for unknown ones."""
        known, classes = (np.array(column) for column in zip(*self.classes, strict=True))
        if not self.coloured:
            table = np.full(256, IGNORED, np.uint8)
            table[known] = classes
            return table[values]
        place = np.minimum(np.searchsorted(known, values), len(known) - 1)
        found: Array = np.where(known[place] == values, classes[place], IGNORED).astype(np.uint8)
        return found

    def check(self, values: Array) -> None:
        """Raises `UnreadableSampleError` where a value is not known."""
        known = [value for value, _ in self.classes]
        if self.coloured:
            found, counts = np.unique(values, return_counts=True)
        else:
            counts = np.bincount(values.reshape(-1), minlength=256)
            found = np.arange(256)
            known.append(IGNORED)
        strange = (counts > 0) & ~np.isin(found, known)
        if strange.any():
            value, count = int(found[strange][0]), int(counts[strange].sum())
            said = str(_colour(value)) if self.coloured else str(value)
            noun = "colour" if self.coloured else "value"
            raise UnreadableSampleError(
                f"{count:,} of its {values.size:,} values stand for no class; the first is the "
                f"{noun} {said}"
            )


def named_legend(names: Sequence[str], where: str) -> Legend:
    """Classes named in the order of their indices 0, 1, …. Raises `UserError`.

    >>> named_legend(["sky", "void", "road"], "'classes'").classes
    ((0, 0), (1, 255), (2, 1))
    """
    rows = [(name, index, name.lower() in _NOT_CLASSES) for index, name in enumerate(names)]
    return _legend(rows, False, where)


def numbered_legend(found: Iterable[int], where: str) -> Legend:
    """Classes named after the indices that were found, without 255.

    Where 0 and 255 are all there is, 255 is the object. Raises `UserError` for fewer than two.

    >>> numbered_legend([3, 0, 255], "'data'").names
    ('class 0', 'class 3')
    """
    values = sorted(set(found))
    if values != [0, IGNORED]:
        values = [value for value in values if value != IGNORED]
    return _legend([(f"class {value}", value, False) for value in values], False, where)


def read_legend(path: Path) -> Legend:
    """The legend in a file: a line a class, `name`, `name,index` or `name,red,green,blue`.

    A first line may name the columns (name, index, r, g, b, ignore), in any order. Raises
    `UserError` naming the line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"legend '{path}' cannot be read: {error}; save it as UTF-8") from error
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(_DELIMITERS, key=first.count)
    columns: list[str] | None = None
    rows: list[tuple[str, int, bool]] = []
    reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            row = [cell.strip() for cell in cells]
            if not any(row):
                continue
            where = f"legend '{path}' line {reader.line_num}"
            if columns is None:
                columns = [_COLUMNS.get(cell.lower(), "") for cell in row]
                if "name" in columns and len(set(columns) - {""}) > 1:
                    continue
                if "name" not in columns and len(row) > 1 and all(columns):
                    raise UserError(_lacks_name(where, row))
                columns = _WITHOUT_HEADER.get(len(row))
            if columns is None or len(row) != len(columns):
                raise UserError(
                    f"{where} has {len(row)} fields; write name, or name,index, or "
                    f"name,red,green,blue in every line"
                )
            rows.append(_row(dict(zip(columns, row, strict=True)), len(rows), where))
    except csv.Error as error:
        raise UserError(f"legend '{path}' line {reader.line_num}: {error}") from error
    if columns == ["name"] and _is_column_of_numbers([name for name, _, _ in rows]):
        raise UserError(_lacks_name(f"legend '{path}' line 1", [rows[0][0]]))
    return _legend(rows, columns is not None and "r" in columns, f"legend '{path}'")


def _is_column_of_numbers(cells: Sequence[str]) -> bool:
    """Whether these are a column's title, of another column than name, and numbers."""
    title = _COLUMNS.get(cells[0].lower(), "name") if cells else "name"
    return title != "name" and len(cells) > 1 and all(cell.isdecimal() for cell in cells[1:])


def _lacks_name(where: str, header: Sequence[str]) -> str:
    noun = "column" if len(header) == 1 else "columns"
    return (
        f"{where} names the {noun} {', '.join(header)} but not the column name; write name, or "
        f"name,index, or name,red,green,blue in every line"
    )


def _row(cells: dict[str, str], number: int, where: str) -> tuple[str, int, bool]:
    """(name, value, whether ignored) of one line; `number` is its index if it states none."""
    name = cells["name"]
    if not name:
        raise UserError(f"{where} has no name; write the class")
    said = cells.get("ignore", "").lower()
    if said not in _SAID:
        raise UserError(f"{where}: ignore must be yes or no, got '{said}'")
    value = number
    if "r" in cells:
        red, green, blue = (_byte(cells.get(axis, ""), where) for axis in "rgb")
        value = red << 16 | green << 8 | blue
    elif "index" in cells:
        value = _byte(cells["index"], where)
    return name, value, _SAID[said] or name.lower() in _NOT_CLASSES


def _byte(text: str, where: str) -> int:
    if not (text.isdecimal() and int(text) <= 255):
        raise UserError(f"{where}: indices and colours are whole numbers 0 to 255, got '{text}'")
    return int(text)


def _legend(rows: Sequence[tuple[str, int, bool]], coloured: bool, where: str) -> Legend:
    """From (name, value, whether ignored) of each row."""
    names: list[str] = []
    classes: dict[int, int] = {}
    for name, value, ignored in rows:
        if value in classes:
            said = f"colour {_colour(value)}" if coloured else f"index {value}"
            raise UserError(f"{where}: the {said} stands for two classes, one of them '{name}'")
        if not ignored and name in names:
            raise UserError(f"{where}: class '{name}' is named twice; keep one")
        classes[value] = IGNORED if ignored else len(names)
        if not ignored:
            names.append(name)
    if not 2 <= len(names) <= _MOST_CLASSES:
        raise UserError(
            f"{where}: masks need 2 to {_MOST_CLASSES} classes, got {len(names)}"
            f"{f' ({names[0]})' if names else ''}; the index {IGNORED} is no class"
        )
    if not coloured and max(classes) > IGNORED:
        raise UserError(f"{where}: indices are whole numbers 0 to 255, got {max(classes)}")
    return Legend(tuple(names), tuple(sorted(classes.items())), coloured)


def _colour(value: int) -> tuple[int, int, int]:
    return value >> 16, value >> 8 & 255, value & 255
