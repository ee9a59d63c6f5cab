"""Numbers and names as the findings of an inspection say them."""

from collections.abc import Sequence

__all__ = ["counted", "is_are", "named", "plural_of", "share_of"]


def counted(count: int, noun: str) -> str:
    """1 picture, 1,200 pictures, 3 boxes, 2 classes."""
    return f"{count:,} {noun if count == 1 else plural_of(noun)}"


def plural_of(noun: str) -> str:
    """pictures, boxes, classes."""
    return noun + ("es" if noun.endswith(("x", "s", "ch")) else "s")


def is_are(count: int) -> str:
    """The verb that goes with `count` of something."""
    return "is" if count == 1 else "are"


def share_of(part: int, whole: int) -> str:
    """The share in per cent; never "0.0 %" or "100.0 %" unless it is none or all."""
    percent = 100 * part / max(1, whole)
    if 0 < percent < 0.1:
        return "< 0.1 %"
    if 99.9 < percent < 100:
        return "> 99.9 %"
    return f"{percent:.1f} %"


def named(names: Sequence[str], most: int = 3) -> str:
    """'cat', 'dog', 'eel' and 7 more."""
    shown = ", ".join(f"'{name}'" for name in names[:most])
    return shown + (f" and {len(names) - most:,} more" if len(names) > most else "")
