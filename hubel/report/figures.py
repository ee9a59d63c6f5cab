"""One chart, every form: interactive on a page, and SVG and PNG files, all off-line.

A chart is written once with Altair. `figure` turns it into a Vega-Lite specification; the
page draws that with the Vega scripts inlined in it, and vl-convert draws the same to files.
Colours follow the reader's light or dark setting: a chart takes them from the theme, by
the named ranges "category", "heatmap" and "ramp" or by the parameters of `themes`.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from markupsafe import Markup
from PIL import Image

from hubel.errors import printable
from hubel.report.page import json_script

__all__ = ["WIDE", "Figure", "figure", "inline", "javascript", "themes"]

WIDE = 1020
"""Pixels across the column of a page, and so the `max_width` of a chart that fills it."""

# Pixels of a PNG for each pixel of the chart: sharp on screens of twice the density.
PNG_SCALE = 2.0

FONT = "Inter, system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

# Blue against orange holds for readers who do not tell red from green.
LIGHT = {
    "surface": "#ffffff",
    "ink": "#1b2333",
    "muted": "#5c6678",
    "grid": "#e5e8ee",
    "accent": "#2b5fd9",
    "second": "#d5640a",
    "on_accent": "#ffffff",
}
DARK = {
    "surface": "#171b22",
    "ink": "#e8ebf1",
    "muted": "#9ba6b8",
    "grid": "#2c333f",
    "accent": "#7ea6ff",
    "second": "#ff9f55",
    "on_accent": "#0d1117",
}
CATEGORY_LIGHT = ["#2b5fd9", "#d5640a", "#0f8a7e", "#8a4fd0", "#b0892b", "#c2326f"]
CATEGORY_DARK = ["#7ea6ff", "#ff9f55", "#4ecdbd", "#c09bff", "#e3c26a", "#ff8fbc"]


def _theme(colours: dict[str, str], category: list[str], dark: bool) -> dict[str, Any]:
    text = {"labelColor": colours["muted"], "titleColor": colours["muted"]}
    return {
        "background": "transparent",
        "font": FONT,
        "params": [
            *({"name": name, "value": value} for name, value in colours.items()),
            {"name": "dark", "value": dark},
        ],
        "view": {"stroke": None},
        "axis": {
            **text,
            "domainColor": colours["grid"],
            "gridColor": colours["grid"],
            "tickColor": colours["grid"],
            "labelFontSize": 11,
            "titleFontSize": 12,
            "titleFontWeight": 500,
            "titlePadding": 8,
        },
        "legend": {**text, "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": 500},
        "title": {
            "color": colours["ink"],
            "subtitleColor": colours["muted"],
            "fontSize": 13,
            "fontWeight": 600,
            "anchor": "start",
        },
        "mark": {"color": colours["accent"]},
        "rule": {"color": colours["muted"]},
        "text": {"color": colours["ink"], "fontSize": 11},
        "line": {"strokeWidth": 2},
        "range": {
            "category": category,
            "heatmap": [colours["surface"], colours["accent"]],
            "ramp": [colours["surface"], colours["second"]],
        },
    }


def themes() -> dict[str, dict[str, Any]]:
    """The Vega-Lite configurations "light" and "dark".

    In either, a chart's expressions may use `surface`, `ink`, `muted`, `grid`, `accent`,
    `second` and `on_accent` (colours) and `dark` (a boolean); "heatmap" runs from the
    surface to the accent, "ramp" from the surface to the second colour.
    """
    return {
        "light": _theme(LIGHT, CATEGORY_LIGHT, False),
        "dark": _theme(DARK, CATEGORY_DARK, True),
    }


@lru_cache(maxsize=1)
def javascript() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script of about 0.9 MB, from vl-convert."""
    import vl_convert

    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@dataclass(frozen=True)
class Figure:
    """A chart in every form.

    Attributes
    ----------
    name: what its files are called, and its download from the page.
    text: what it shows, in one sentence, for who cannot see it.
    spec: the Vega-Lite specification.
    min_width, max_width: in pixels; on the page the chart takes the room that there is
        between the two, and scrolls sideways below the smaller.
    keep_aspect: whether its height shrinks along with its width.
    """

    name: str
    text: str
    spec: dict[str, Any]
    min_width: int
    max_width: int
    keep_aspect: bool

    @cached_property
    def _image(self) -> Image.Image:
        import vl_convert

        raw = vl_convert.vegalite_to_png(
            self.spec, config=self._still_theme(), scale=PNG_SCALE, allowed_base_urls=[]
        )
        return Image.open(io.BytesIO(raw)).convert("RGB")

    @property
    def png(self) -> bytes:
        """As a PNG on white, `PNG_SCALE` pixels to a pixel of the chart."""
        return _png(self._image)

    @property
    def still(self) -> bytes:
        """The PNG in 96 colours: a third of the bytes, for a page that may carry a dozen."""
        return _png(self._image.quantize(96, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE))

    @property
    def svg(self) -> str:
        """As an SVG on white."""
        import vl_convert

        return str(
            vl_convert.vegalite_to_svg(self.spec, config=self._still_theme(), allowed_base_urls=[])
        )

    @staticmethod
    def _still_theme() -> dict[str, Any]:
        return {**themes()["light"], "background": LIGHT["surface"]}

    def save(self, folder: Path) -> list[Path]:
        """Write `name`.svg and `name`.png into `folder`, which is made if need be."""
        folder.mkdir(parents=True, exist_ok=True)
        svg, png = folder / f"{self.name}.svg", folder / f"{self.name}.png"
        svg.write_text(self.svg, encoding="utf-8")
        png.write_bytes(self.png)
        return [svg, png]

    @property
    def html(self) -> Markup:
        """For a page: the chart as data, drawn by the page's script, and the PNG, which
        stands in where scripts do not run and on paper."""
        still = base64.b64encode(self.still).decode("ascii")
        return Markup(
            '<div class="chart" data-name="{}" data-min-width="{}" data-max-width="{}"'
            ' data-keep-aspect="{}"><div class="live"></div>'
            '<img class="still" alt="{}" width="{}" src="data:image/png;base64,{}">'
            '<script type="application/json">{}</script></div>'
        ).format(
            self.name,
            self.min_width,
            self.max_width,
            str(self.keep_aspect).lower(),
            self.text,
            round(self._image.width / PNG_SCALE),
            still,
            json_script(self.spec),
        )


def inline(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Rows as the data of an Altair chart, written into its specification."""
    import altair

    return altair.InlineData(values=[dict(row) for row in rows])


def _drawable(value: Any) -> Any:
    """`value` with every text in it free of what XML cannot hold: names come from disk."""
    if isinstance(value, str):
        return "\n".join(map(printable, value.split("\n")))
    if isinstance(value, dict):
        return {_drawable(key): _drawable(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_drawable(v) for v in value]
    return value


def figure(
    chart: Any,
    name: str,
    *,
    text: str,
    min_width: int = 260,
    max_width: int | None = None,
    keep_aspect: bool = False,
) -> Figure:
    """A `Figure` of one Altair chart.

    Parameters
    ----------
    chart: an altair.Chart or altair.LayerChart with `width` and `height` in pixels, which
        are those of the whole figure, axes and legends included. Concatenated charts are
        drawn at their own size. Data must be inline: `altair.Chart(inline(rows))`.
    name: letters, digits, - and _; it becomes a file name.
    text, min_width, max_width, keep_aspect: see `Figure`; `max_width` is the chart's own
        width unless given.
    """
    if not name or not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
        raise ValueError(f"name must be letters, digits, - and _. Got '{name}' instead.")
    spec: dict[str, Any] = chart.to_dict()
    spec.pop("config", None)  # Altair's own defaults; ours come with the theme.
    spec["description"] = text
    spec = _drawable(spec)
    single = not any(key in spec for key in ("hconcat", "vconcat", "concat"))
    width = 0
    if single:
        spec["autosize"] = {"type": "fit", "contains": "padding"}
        width = int(spec["width"])
    return Figure(name, text, spec, min_width, max_width or width, keep_aspect)
