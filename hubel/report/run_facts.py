"""What a page says of a run: its network, data, time and versions."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from hubel.report import words

__all__ = ["shown_facts"]


def shown_facts(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values for the page, of what is known."""
    splits = run.get("splits") or {}
    versions = run.get("versions") or {}
    width = run.get("width", 1.0)
    shown: list[tuple[str, object]] = [
        ("Network", run.get("model")),
        ("Width", None if width == 1.0 else f"{width:g} × the published channels"),
        ("Parameters", _known(run.get("params"), words.integer)),
        ("Input (channels × size)", run.get("input")),
        ("Task", run.get("task")),
        ("Data", run.get("data")),
        ("Classes", run.get("classes")),
        ("Samples", ", ".join(f"{name} {words.integer(n)}" for name, n in splits.items()) or None),
        ("Epochs", run.get("epochs")),
        ("Training time", _known(run.get("seconds"), words.duration)),
        ("Speed", _known(run.get("images_per_s"), lambda v: f"{words.integer(v)} images/s")),
        ("Engine", run.get("engine")),
        ("Share of the time", _known(run.get("profile"), _shares)),
        ("Seed", run.get("seed")),
        ("Created", _known(run.get("created"), _moment)),
        ("Versions", ", ".join(f"{name} {v}" for name, v in versions.items()) or None),
    ]
    return [(name, str(value)) for name, value in shown if value is not None]


def _known(value: Any, form: Callable[[Any], str]) -> str | None:
    return None if value is None else form(value)


def _shares(profile: Any) -> str:
    return ", ".join(f"{part} {100 * share:.1f} %" for part, share in profile["shares"].items())


def _moment(stamp: Any) -> str:
    """A time stamp without its fraction: 2025-01-01 10:11:12+00:00."""
    try:
        return datetime.fromisoformat(str(stamp)).isoformat(" ", "seconds")
    except ValueError:
        return str(stamp)
