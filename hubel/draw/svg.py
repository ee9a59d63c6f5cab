"""A drawing as SVG text: a thin layer over ElementTree, which does the escaping.

A drawing is one element tree with a style sheet of its own, no scripts and nothing fetched:
it looks the same in a browser, in an <img> and in a paper. Text takes the class of its role;
colours are named once, for the light and the dark setting of the reader.
"""

from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from hubel.errors import UserError, printable
from hubel.runs import write_atomic

__all__ = ["DARK", "FONT", "LIGHT", "add", "decimal", "document", "text", "to_text", "write_svg"]

FONT = "Inter, system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

LIGHT = {
    "surface": "#ffffff", "ink": "#1b2333", "muted": "#5c6678", "grid": "#c9cfda",
    "accent": "#2b5fd9", "second": "#d5640a", "tint": "#dce7ff",
}  # fmt: skip
DARK = {
    "surface": "#171b22", "ink": "#e8ebf1", "muted": "#9ba6b8", "grid": "#414957",
    "accent": "#7ea6ff", "second": "#ff9f55", "tint": "#243a66",
}  # fmt: skip


def document(
    width: float, height: float, title: str, description: str, *, style: str = ""
) -> Element:
    """An empty drawing, `width` by `height`, that scales with its `viewBox`.

    `title` and `description` are what a screen reader says. `style` is CSS in which ``$ink``
    and the other names of `LIGHT` stand for colours.
    """
    svg = Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {decimal(width)} {decimal(height)}",
            "width": decimal(width),
            "height": decimal(height),
            "role": "img",
        },
    )
    add(svg, "title", {}, title)
    add(svg, "desc", {}, description)
    rules = (
        f".surface{{fill:$surface}} text{{font-family:{FONT};fill:$ink}} "
        f".muted{{fill:$muted}} .end{{text-anchor:end}} .middle{{text-anchor:middle}} {style}"
    )
    dark = f"@media (prefers-color-scheme:dark){{{_coloured(rules, DARK)}}}"
    add(svg, "style", {}, f"{_coloured(rules, LIGHT)} {dark}")
    add(svg, "rect", {"class": "surface", "width": "100%", "height": "100%"})
    return svg


def _coloured(rules: str, colours: Mapping[str, str]) -> str:
    for name, colour in colours.items():
        rules = rules.replace(f"${name}", colour)
    return rules


def add(
    parent: Element, tag: str, attributes: Mapping[str, str | float], words: str = ""
) -> Element:
    """A new last child of `parent`; numbers are written short, words made fit for XML."""
    child = ElementTree.SubElement(
        parent,
        tag,
        {
            name: printable(value) if isinstance(value, str) else decimal(value)
            for name, value in attributes.items()
        },
    )
    child.text = printable(words) or None
    return child


def text(
    parent: Element, x: float, y: float, words: str, *, size: float = 12, classes: str = ""
) -> Element:
    """A line of text whose baseline starts at (x, y); the class `middle` or `end` moves it."""
    attributes: dict[str, str | float] = {"x": x, "y": y, "font-size": size}
    if classes:
        attributes["class"] = classes
    return add(parent, "text", attributes, words)


def decimal(value: float, digits: int = 2) -> str:
    """`value` with at most `digits` decimals and no idle zeros.

    >>> decimal(2.0), decimal(1.666), decimal(-0.001)
    ('2', '1.67', '0')
    """
    written = f"{value:.{digits}f}"
    if "." in written:
        written = written.rstrip("0").rstrip(".")
    return "0" if written == "-0" else written


def to_text(svg: Element) -> str:
    """The drawing as the text of an .svg file."""
    return ElementTree.tostring(svg, encoding="unicode") + "\n"


def write_svg(path: Path, svg: Element, option: str = "--svg") -> Path:
    """Write the drawing, whole or not at all. `UserError` names `option` if that cannot be."""
    if path.is_dir():
        raise UserError(f"{option} takes the name of a file, '{path}' is a folder: {path}/out.svg")
    if path.exists() and not path.is_file():
        # A rename would put a file in the place of a device or a pipe.
        raise UserError(f"{option} '{path}' is not a plain file; give another name")
    if not path.parent.is_dir():
        raise UserError(f"{option} '{path}': the folder '{path.parent}' does not exist; make it")
    try:
        write_atomic(path, to_text(svg))
    except OSError as error:
        raise UserError(
            f"{option} '{path}' cannot be written: {error.strerror}; choose another folder"
        ) from error
    return path
