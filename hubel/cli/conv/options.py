"""What the verbs of `hubel conv` share: sizes, paddings and numbers written by a person."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from hubel.errors import UserError
from hubel.shapes import Padding, format_shape

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers: TypeAlias = NDArray[np.float64]

__all__ = [
    "MAX_SIZE",
    "as_json",
    "as_kernel",
    "drawn",
    "matrix_lines",
    "read_numbers",
    "sizes",
    "sizes_per_dim",
    "written_padding",
]

MAX_SIZE = 1_000_000
"""The largest size of a dimension; larger ones are typing errors."""

_MAX_FILE_BYTES = 1 << 20
_LARGEST = 1e12


def _whole(option: str, word: str, least: int) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", word.strip(), re.ASCII):
        raise UserError(
            f"{option} takes whole numbers such as 5 or 5x5, got '{word}'; write 5x5, 5×5 or 5,5"
        )
    value = int(word)
    if not least <= value <= MAX_SIZE:
        raise UserError(
            f"{option} takes numbers from {least} to {MAX_SIZE:,}, got {value}; "
            f"{'give a smaller one' if value > least else f'give at least {least}'}"
        )
    return value


def sizes(option: str, words: str, *, least: int = 1) -> tuple[int, ...]:
    """Sizes written as 5x5, 5×5 or 5,5, one to three of them.

    >>> sizes("--input", "5x4"), sizes("--stride", "2")
    ((5, 4), (2,))
    """
    found = tuple(_whole(option, word, least) for word in re.split("[x×,]", words.lower()))
    if len(found) > 3:
        raise UserError(
            f"{option} takes 1, 2 or 3 sizes, got {len(found)}: '{words}'; channels and batch "
            f"have options of their own"
        )
    return found


def sizes_per_dim(option: str, words: str, dims: int, *, least: int = 1) -> tuple[int, ...]:
    """One size for all of `dims` dimensions, or one for each."""
    found = sizes(option, words, least=least)
    if len(found) == 1:
        return found * dims
    if len(found) != dims:
        raise UserError(
            f"{option} takes one size or {dims} of them (as many as the input has), got "
            f"{len(found)}: '{words}'"
        )
    return found


def written_padding(option: str, words: str, dims: int) -> Padding:
    """Padding as 1, 1x2, low:high pairs such as 0:1x2, 'same' or 'valid'.

    >>> written_padding("--padding", "0:1x2", 2)
    ((0, 1), (2, 2))
    """
    if words == "same":
        return "same"
    if words == "valid":
        return "valid"
    sides = []
    for part in re.split("[x×,]", words.lower()):
        low, colon, high = part.partition(":")
        first = _whole(option, low, 0)
        sides.append((first, _whole(option, high, 0) if colon else first))
    if len(sides) not in (1, dims):
        raise UserError(
            f"{option} takes 'same', 'valid', one size or {dims} of them, each a number or "
            f"low:high, got '{words}'"
        )
    return tuple(sides * dims if len(sides) == 1 else sides)


def read_numbers(option: str, name: str, shape: Sequence[int] | None = None) -> "Numbers":
    """The array of numbers in file `name`; `shape` is what it must have, if that is known.

    A .npy file, or text: one row a line, numbers apart by spaces, tabs, commas or semicolons,
    an empty line between the slices of a volume, ``#`` before a remark. A single row is 1-D.
    """
    import numpy as np

    from hubel.conv.worked import MAX_GRID
    from hubel.data.npy import open_npy
    from hubel.data.paths import expanded

    path = expanded(name)
    if not path.is_file():
        raise UserError(f"{option} '{name}' is not a file; give a text, CSV or .npy file")
    if path.suffix.lower() == ".npy":
        found = open_npy(path)
        if found.dtype.kind not in "iufb":
            raise UserError(
                f"{option} '{name}' holds {found.dtype}, not real numbers; save it as float64"
            )
        if found.size > MAX_GRID:
            raise UserError(
                f"{option} '{name}' holds {found.size:,} numbers, at most {MAX_GRID:,} are worked "
                f"out one by one; cut out a part"
            )
        numbers = np.array(found, dtype=np.float64)
    else:
        numbers = _read_text(option, path)
    if not numbers.size or not np.isfinite(numbers).all():
        raise UserError(
            f"{option} '{name}' must hold finite numbers, got "
            f"{'none' if not numbers.size else 'NaN or infinity'}; replace them"
        )
    if np.abs(numbers).max() > _LARGEST:
        raise UserError(
            f"{option} '{name}' must hold numbers up to {_LARGEST:g}, got "
            f"{np.abs(numbers).max():g}; scale them down"
        )
    if shape is None and not 1 <= numbers.ndim <= 3:
        raise UserError(
            f"{option} '{name}' must have 1, 2 or 3 dimensions (one channel of one picture), got "
            f"shape ({format_shape(*numbers.shape)}); take one channel"
        )
    if shape is None:
        return numbers
    # 1×5 in a file and 5 on the command line are the same row.
    if [n for n in numbers.shape if n > 1] != [n for n in shape if n > 1]:
        raise UserError(
            f"{option} '{name}' holds {format_shape(*numbers.shape)} numbers, "
            f"{format_shape(*shape)} are needed; change the file or the size"
        )
    return numbers.reshape(tuple(shape))


def _read_text(option: str, path: Path) -> "Numbers":
    import numpy as np

    if path.stat().st_size > _MAX_FILE_BYTES:
        raise UserError(f"{option} '{path}' is larger than 1 MiB; cut out a part")
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{option} '{path}' is not UTF-8 text; write numbers as text, or a .npy file"
        ) from error
    blocks: list[list[list[float]]] = [[]]
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.partition("#")[0].replace(",", " ").replace(";", " ").split()
        if not words:
            if blocks[-1] and not line.strip():
                blocks.append([])
            continue
        try:
            row = [float(word) for word in words]
        except ValueError:
            raise UserError(
                f"{option} '{path}' line {number}: '{line.strip()[:40]}' is not a row of "
                f"numbers; write them apart by spaces or commas, with a decimal point"
            ) from None
        if blocks[0] and len(row) != len(blocks[0][0]):
            raise UserError(
                f"{option} '{path}' line {number} has {len(row)} numbers, the first row "
                f"{len(blocks[0][0])}; all rows need the same number"
            )
        blocks[-1].append(row)
    blocks = [block for block in blocks if block]
    if len({len(block) for block in blocks}) > 1:
        raise UserError(
            f"{option} '{path}': empty lines part it into slices of "
            f"{', '.join(str(len(b)) for b in blocks[:8])} rows; all slices need the same number"
        )
    numbers: Numbers = np.array(blocks, dtype=np.float64)
    if numbers.ndim == 3 and len(blocks) == 1:
        numbers = numbers[0, 0] if len(blocks[0]) == 1 else numbers[0]
    return numbers


def as_kernel(numbers: "Numbers", dims: int) -> "Numbers":
    """A kernel read from a file, with the input's number of dimensions: (3,) is 1×3 in 2-D."""
    if numbers.ndim > dims:
        raise UserError(
            f"--kernel-values holds {format_shape(*numbers.shape)} numbers, the input has "
            f"{dims} dimension{'s' * (dims > 1)}; give a kernel with as many"
        )
    return numbers.reshape((1,) * (dims - numbers.ndim) + numbers.shape)


def drawn(seed: int, stream: int, shape: Sequence[int], low: int, high: int) -> "Numbers":
    """Whole numbers from `low` to `high` - 1, a function of (seed, stream)."""
    import numpy as np

    generator = np.random.default_rng((seed, stream))
    return generator.integers(low, high, tuple(shape)).astype(np.float64)


def as_json(numbers: "NDArray[Any] | None") -> Any:
    """Nested lists for a JSON document: whole numbers as such, null for infinity and None."""
    if numbers is None:
        return None
    if numbers.ndim:
        return [as_json(part) for part in numbers]
    value = float(numbers)
    if value in (float("inf"), float("-inf")):
        return None
    return int(value) if value.is_integer() else value


def matrix_lines(
    numbers: "Numbers",
    digits: int = 2,
    *,
    dots: "NDArray[np.bool_] | None" = None,
    width: int = 78,
    rows: int = 40,
) -> list[str]:
    """A 1-D to 3-D array as aligned lines, or one line that says why it is not shown.

    Where `dots` is true stands a dot instead of the number.
    """
    import numpy as np

    from hubel.draw.cells import short

    whole = bool(np.all(np.mod(numbers[np.isfinite(numbers)], 1) == 0))

    def word(value: float) -> str:
        if whole or not np.isfinite(value) or abs(value) >= 1e6:
            return short(value, digits)
        return f"{value:.{digits}f}".replace("-", "−")

    written = np.vectorize(word, otypes=[object])(numbers)
    if dots is not None:
        written[dots] = "·"
    cell = max(len(w) for w in written.ravel())
    columns = numbers.shape[-1]
    if columns * (cell + 1) + 1 > width or numbers.size // columns > rows:
        return [f"  {format_shape(*numbers.shape)} numbers: too many for a terminal (see --json)"]
    lines: list[str] = []
    for plane in written.reshape((-1, *written.shape[-2:])) if written.ndim > 1 else [[written]]:
        if lines:
            lines.append("")
        lines += ["  " + " ".join(w.rjust(cell) for w in row) for row in plane]
    return lines
