"""A drawing as SVG text: a thin layer over ElementTree, which does the escaping.

A drawing is one element tree with a style sheet of its own, no scripts and nothing fetched:
it looks the same in a browser, in an <img> and in a paper. Text takes the class of its role;
colours are named once, for the light and the dark setting of the reader.
"""

from collections.abc import Mapping
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from hubel.errors import printable

__all__ = ["DARK", "FONT", "LIGHT", "add", "decimal", "document", "text", "to_text"]

# Of like widths, so that what was laid out fits; what a system falls back to may be wider.
FONT = "Inter, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'Liberation Sans', sans-serif"

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
