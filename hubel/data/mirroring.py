"""Whether a picture may be mirrored, told from the names of its classes."""

import re
from collections.abc import Sequence

__all__ = ["flip_safe"]

_NUMBER_WORDS = frozenset(
    ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
)
_OTHER_SIDE = {"left": "right", "right": "left", "l": "r", "r": "l"}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+|\d+")
"""A word of "left_kidney", "Left Kidney" or "leftKidney"."""


def flip_safe(classes: Sequence[str]) -> bool:
    """False where mirroring a picture may change its label.

    So it is where all classes are digits or letters, and where two of them are the left and the
    right of one thing: the same words but for "left" and "right", or "L" and "R".

    >>> flip_safe(("0", "1")), flip_safe(("a", "b")), flip_safe(("cat", "dog"))
    (False, False, True)
    >>> flip_safe(("liver", "left_kidney", "right_kidney")), flip_safe(("left_lung", "heart"))
    (False, True)
    """
    characters = all(
        (len(name) == 1 and name.isalnum()) or name.lower() in _NUMBER_WORDS for name in classes
    )
    words = {tuple(word.lower() for word in _WORD.findall(name)) for name in classes}
    mirrored = {tuple(_OTHER_SIDE.get(word, word) for word in name) for name in words}
    # Names without a side are their own mirror images.
    sided = {name for name in words if not _OTHER_SIDE.keys().isdisjoint(name)}
    return not (characters or sided & mirrored)
