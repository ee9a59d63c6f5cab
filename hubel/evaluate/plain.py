"""Between frozen dataclasses, which hold tuples, and JSON, which has lists only."""

from typing import Any

__all__ = ["lists", "tuples"]


def lists(value: Any) -> Any:
    """The same value with lists for tuples, as JSON reads back.

    >>> lists({"a": (1, (2, 3))})
    {'a': [1, [2, 3]]}
    """
    if isinstance(value, dict):
        return {k: lists(v) for k, v in value.items()}
    return [lists(v) for v in value] if isinstance(value, list | tuple) else value


def tuples(value: Any) -> Any:
    """The same value with tuples for lists, as frozen dataclasses hold."""
    if isinstance(value, dict):
        return {k: tuples(v) for k, v in value.items()}
    return tuple(tuples(v) for v in value) if isinstance(value, list | tuple) else value
