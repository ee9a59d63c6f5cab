"""Command-line options made from the fields of `FitConfig`, their only home."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import typer

from hubel.config import FitConfig

__all__ = ["TTA_HELP", "with_settings"]

TTA_HELP = (
    "Average over mirrored and shifted views: none, all, or unsure (of unsure pictures only); "
    "by default as the run was fitted."
)


def with_settings(
    verb: Callable[..., None], settings: str, names: tuple[str, ...] = ()
) -> Callable[..., None]:
    """`verb` with its parameter `settings` replaced by one option for each setting.

    `names` are the settings that concern the verb; by default all of them.

    `verb` gets a dictionary of those that were given, so that a default stays the
    configuration's business and --resume can tell what was asked for.
    """
    fields = [
        f
        for f in dataclasses.fields(FitConfig)
        if f.name in names or (not names and f.name != "data")
    ]
    signature = inspect.signature(verb)
    own = [p for p in signature.parameters.values() if p.name != settings]

    def command(**values: Any) -> None:
        given = {f.name: values.pop(f.name) for f in fields}
        values[settings] = {name: v for name, v in given.items() if v is not None}
        verb(**values)

    made = [_parameter(f) for f in fields]
    command.__signature__ = signature.replace(parameters=[*own, *made])  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in [*own, *made]}
    command.__doc__ = verb.__doc__
    return command


def _parameter(f: "dataclasses.Field[Any]") -> inspect.Parameter:
    rule = f.metadata["rule"]
    name = "--" + f.name.replace("_", "-")
    kind: Any = str if rule.parse is not None else f.type if f.type in (str, bool, int) else float
    text = rule.help
    if rule.choices:
        text += f" [{'|'.join(c for c in rule.choices if c)}]"
    if rule.recipes is not None:
        fast, plain = _shown(rule.recipes["fast"]), _shown(rule.recipes["plain"])
        text += f" (default: {fast})" if fast == plain else f" (default: {fast}; plain: {plain})"
    elif f.default not in (None, ""):
        text += f" (default: {_shown(f.default)})"
    declaration = f"{name}/--no-{name[2:]}" if kind is bool else name
    option = typer.Option(
        None, declaration, help=text, show_default=False, rich_help_panel=rule.panel
    )
    return inspect.Parameter(
        f.name, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=kind | None
    )


def _shown(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
