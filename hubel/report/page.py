"""Pages: one HTML file each, complete in itself.

A page loads nothing from anywhere: style, scripts and pictures are inside it, and its
content security policy forbids the rest. Text from disk (class names, file names, ids) is
text: templates escape it, `json_script` escapes it inside data blocks, and only the two
scripts whose hashes the policy names can run.
"""

import base64
import hashlib
import io
import json
import math
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import jinja2
import numpy.typing as npt
from markupsafe import Markup
from PIL import Image

from hubel.report import words
from hubel.report.volumes import side_by_side, slices, visible
from hubel.runs import write_atomic

__all__ = ["json_script", "picture_uri", "render", "still_picture", "write_page"]

Array = npt.NDArray[Any]

TEMPLATES = Path(__file__).parent / "templates"
CHART_MARK = 'class="chart"'
MOLECULE_MARK = 'class="molecule"'

# What would end a <script> element or a JavaScript line, as JSON writes it harmlessly.
SCRIPT_UNSAFE = {c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}

# Above this many pixels a PNG of a photograph grows past what a page should carry.
MAX_PNG_PIXELS = 64 * 64


def json_script(value: object) -> Markup:
    """JSON that may stand inside a <script type="application/json"> element.

    Raises `ValueError` if the value holds NaN or an infinity: JSON has neither.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character, escape in SCRIPT_UNSAFE.items():
        text = text.replace(character, escape)
    return Markup(text)  # escaped above


def still_picture(array: Array) -> Array:
    """A picture that can be looked at, of one sample.

    Parameters
    ----------
    array: (h, w, c) or a volume (d, h, w, c), channels last, made visible as
        `hubel.report.volumes.visible` does. A volume becomes its three middle slices side by
        side, across depth, height and width.

    Returns: uint8 (h, w, 1) or (h, w, 3).
    """
    if array.ndim not in (3, 4) or array.size == 0:
        raise ValueError(
            f"a picture must be (h, w, c) or (d, h, w, c) and not empty. "
            f"Got shape {array.shape} instead."
        )
    if array.ndim == 4:
        return side_by_side(slices(array))
    return visible(array, [array])[0]


def picture_uri(array: Array, scale: int = 1, max_side: int = 192) -> str:
    """A sample as a data URI: PNG if small, JPEG if large.

    Parameters
    ----------
    array: as in `still_picture`.
    scale: each pixel becomes a square of `scale` × `scale`. A page needs no more than 1:
        its style enlarges small pictures with their pixels kept square.
    max_side: in pixels; a larger picture is reduced to it, its proportions kept.
    """
    shown = still_picture(array)
    image = Image.fromarray(shown[..., 0] if shown.shape[-1] == 1 else shown)
    if max(image.size) > max_side:
        image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    elif scale > 1:
        image = image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    if scale > 1 or image.width * image.height <= MAX_PNG_PIXELS:
        image.save(buffer, "PNG", optimize=True)
        kind = "png"
    else:
        image.save(buffer, "JPEG", quality=85, optimize=True)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


@lru_cache(maxsize=1)
def _chart_scripts() -> tuple[Markup, ...]:
    """What draws charts: Vega with Vega-Lite and its embedding, then our few lines."""
    from hubel.report import figures

    bundle = figures.javascript()
    boot = (TEMPLATES / "charts.js").read_text(encoding="utf-8")
    boot = boot.replace("/*THEMES*/", str(json_script(figures.themes())))
    return _inlined(bundle, boot)


@lru_cache(maxsize=1)
def _molecule_scripts() -> tuple[Markup, ...]:
    """What draws molecules, then what ties the view to the tables beside it."""
    files = ("molecule_view.js", "docking.js")
    return _inlined(*((TEMPLATES / name).read_text(encoding="utf-8") for name in files))


def _inlined(*scripts: str) -> tuple[Markup, ...]:
    """Trusted text: a library's own and ours. It may hold no end of a script element."""
    if any("</script" in s.lower() or "<!--" in s for s in scripts):
        raise RuntimeError("a script cannot be inlined: it holds the end of a script element")
    return tuple(Markup(s) for s in scripts)


def _page_scripts(body: str) -> tuple[Markup, ...]:
    scripts: tuple[Markup, ...] = ()
    if CHART_MARK in body:
        scripts += _chart_scripts()
    if MOLECULE_MARK in body:
        scripts += _molecule_scripts()
    return scripts


def _policy(scripts: tuple[Markup, ...]) -> str:
    """The content security policy: these scripts, inline style and data pictures only."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode('ascii')}'"
        for s in scripts
    )
    return (
        "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; "
        f"script-src {hashes or chr(39) + 'none' + chr(39)}; base-uri 'none'; form-action 'none'"
    )


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.do"],
    )
    filters: dict[str, Callable[..., object]] = {
        "bytes_text": words.bytes_text,
        "duration": words.duration,
        "integer": words.integer,
        "log": math.log,
        "interval": words.interval_text,
        "number": words.number,
        "percent": words.percent,
        "plural": words.plural,
    }
    environment.filters.update(filters)
    environment.globals["page_scripts"] = _page_scripts
    environment.globals["policy"] = _policy
    return environment


def render(template: str, context: Mapping[str, object]) -> str:
    """The page that `template` (a file of this folder's templates) makes of `context`.

    A template extends base.html, fills its blocks `title`, `lead` and `content`, and builds
    content from the macros of macros.html, which also collect the table of contents:

        {% extends "base.html" %}
        {% from "macros.html" import section with context %}
        {% block title %}Data of {{ name }}{% endblock %}
        {% block content %}
          {% call section("classes", "Classes") %} {{ figure.html }} {% endcall %}
        {% endblock %}
    """
    made = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z").strip()
    return (
        _environment()
        .get_template(template)
        .render({"contents": [], "made": made, "version": metadata.version("hubel"), **context})
    )


def write_page(destination: Path, html: str) -> Path:
    """Write a page, whole or not at all; its folder is made if need be."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(destination, html)
    return destination
