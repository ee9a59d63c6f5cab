"""The Python version of CIFAR, read as data.

Its batches are pickles, and a pickle is a program: loading one runs whatever it names. Here
the program is only listed (`pickletools.genops`, which executes nothing) and its data
instructions are followed on a stack of plain values. Names that it refers to become `Global`
and calls become `Call`, which hold text and values and are never resolved; any name but those
of a NumPy array, and any other instruction, is refused.
"""

import math
import pickletools
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hubel.data.source import Array
from hubel.errors import UserError

__all__ = ["array_in", "read_opcodes"]

_MAX_OPCODES = 4_000_000  # CIFAR-100's largest file has about 0.4 million

_ARRAY_NAMES = frozenset(
    f"{module} {name}"
    for module, name in (
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
    )
)

_CONSTANTS = {
    "NONE": None,
    "NEWTRUE": True,
    "NEWFALSE": False,
}
_VALUES = frozenset(
    ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
     "STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
     "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8")
)  # fmt: skip
_NOTHING = frozenset(("PROTO", "FRAME"))


@dataclass(frozen=True)
class Global:
    """A name that the data refer to: "module name". Text, never resolved."""

    name: str


@dataclass
class Call:
    """A call that the data ask for, and the state that they would give its result."""

    function: Any
    arguments: Any
    state: Any = field(default=None)


class _Mark:
    """Where a list or tuple began on the stack."""


def read_opcodes(content: bytes, where: str) -> Any:
    """The value that `content` describes: dictionaries, lists, text, numbers, `Call`s.

    Raises `UserError`, naming `where`, for damage and for everything that is not data.
    """
    try:
        return _followed(content, where)
    except UserError:
        raise
    except (ValueError, KeyError, IndexError, TypeError, OverflowError) as error:
        raise UserError(
            f"'{where}' is not a whole CIFAR batch: {error or type(error).__name__}"
        ) from error


def array_in(value: Any, where: str) -> Array:
    """The uint8 array that a `Call` of NumPy's describes. Raises `UserError`."""
    try:
        _, shape, kind, fortran, raw = value.state
        # Python 2 wrote bytes as text of code points below 256.
        data = raw.encode("latin-1") if isinstance(raw, str) else raw
        sound = (
            isinstance(data, bytes)
            and kind.arguments[0] in ("u1", "|u1")
            and kind.function.name == "numpy dtype"
            and value.function.name.endswith("_reconstruct")
            and fortran is False
            and all(isinstance(side, int) and side >= 0 for side in shape)
            and math.prod(shape) == len(data)
        )
    except (AttributeError, TypeError, ValueError, IndexError, UnicodeError):
        sound = False
    if not sound:
        raise UserError(f"'{where}' is not a CIFAR batch: its data are not an array of bytes")
    array: Array = np.frombuffer(data, np.uint8).reshape(shape)
    return array


def _followed(content: bytes, where: str) -> Any:
    stack: list[Any] = []
    memo: dict[int, Any] = {}

    def popped_to_mark() -> list[Any]:
        k = len(stack) - 1
        while not isinstance(stack[k], _Mark):  # an IndexError where there is none
            k -= 1
        values = stack[k + 1 :]
        del stack[k:]
        return values

    argument: Any
    for count, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        if count >= _MAX_OPCODES:
            raise ValueError(f"more than {_MAX_OPCODES:,} instructions")
        name = opcode.name
        if name in _VALUES:
            stack.append(argument)
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            memo[int(argument)] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(memo[int(argument)])
        elif name == "MARK":
            stack.append(_Mark())
        elif name in ("EMPTY_LIST", "EMPTY_DICT", "EMPTY_TUPLE"):
            stack.append({"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}[name]())
        elif name == "APPEND":
            value = stack.pop()
            _of(stack[-1], list).append(value)
        elif name == "APPENDS":
            values = popped_to_mark()
            _of(stack[-1], list).extend(values)
        elif name in ("SETITEM", "SETITEMS"):
            values = popped_to_mark() if name == "SETITEMS" else [stack.pop(), stack.pop()][::-1]
            _of(stack[-1], dict).update(zip(values[::2], values[1::2], strict=True))
        elif name in ("LIST", "TUPLE", "DICT"):
            values = popped_to_mark()
            pairs = zip(values[::2], values[1::2], strict=True) if name == "DICT" else ()
            stack.append({"LIST": values, "TUPLE": tuple(values), "DICT": dict(pairs)}[name])
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            size = int(name[-1])
            values = stack[-size:]
            del stack[-size:]
            stack.append(tuple(values))
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            named = argument if name == "GLOBAL" else " ".join([stack.pop(), stack.pop()][::-1])
            if named not in _ARRAY_NAMES:
                raise UserError(
                    f"'{where}' names '{named}', which loading it would run; hubel reads data "
                    f"only, and a published CIFAR batch names nothing but NumPy arrays"
                )
            stack.append(Global(named))
        elif name == "REDUCE":
            arguments = stack.pop()
            stack.append(Call(_of(stack.pop(), Global), arguments))
        elif name == "BUILD":
            state = stack.pop()
            _of(stack[-1], Call).state = state
        elif name == "STOP":
            return stack.pop()
        elif name not in _NOTHING:
            raise UserError(
                f"'{where}' has the instruction {name}, which is not data; hubel reads data only"
            )
    raise ValueError("it ends early")


def _of(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"a {kind.__name__} is expected where there is a {type(value).__name__}")
    return value
