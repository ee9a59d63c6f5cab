"""A scene as a standalone LaTeX document that draws it with TikZ: no fonts or packages beyond."""

import re

from hubel.draw.scene import Line, Point, Scene, Words
from hubel.draw.svg import LIGHT, decimal
from hubel.errors import printable

__all__ = ["escaped", "tikz"]

# TeX cannot hold a length above 16383 pt.
_LARGEST = 16_000.0

_SIGNS = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "%": r"\%", "_": r"\_", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}",
    "×": r"$\times$", "√": r"$\surd$", "·": r"$\cdot$", "∝": r"$\propto$", "→": r"$\to$",
    "–": "--", "…": r"\dots{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    '"': "''", "≤": r"$\le$", "±": r"$\pm$", "−": "$-$",
    "²": r"$^2$", "↓": r"$\downarrow$", "'": r"'",
}  # fmt: skip


def tikz(scene: Scene) -> str:
    """The text of a .tex file; one pixel is 0.75 pt, less where TeX could not hold the size."""
    left, top, right, bottom = scene.bounds
    unit = min(0.75, _LARGEST / max(right - left, bottom - top, 1.0))
    colours = sorted({c for m in scene.marks for c in _colours(m)})
    lines = [
        f"% {_comment(scene.title)}",
        f"% {_comment(scene.description)}",
        # With it the fonts that every LaTeX has come in any size, as outlines.
        r"\RequirePackage{fix-cm}",
        r"\documentclass[tikz,border=8pt]{standalone}",
        r"\renewcommand{\familydefault}{\sfdefault}",
        *(rf"\definecolor{{{_name(c)}}}{{HTML}}{{{_hex(c)}}}" for c in colours),
        r"\begin{document}",
        rf"\begin{{tikzpicture}}[x={decimal(unit, 5)}pt, y=-{decimal(unit, 5)}pt, "
        r"line join=round, inner sep=0pt, outer sep=0pt]",
    ]
    lines += [_line(m) if isinstance(m, Line) else _words(m, unit) for m in scene.marks]
    return "\n".join([*lines, r"\end{tikzpicture}", r"\end{document}", ""])


def escaped(words: str) -> str:
    r"""`words` as LaTeX sets them; signs that a plain font lacks become '?'.

    >>> escaped("3×3 & 50 %_")
    '3$\\times$3 \\& 50 \\%\\_'
    """
    found = (_SIGNS.get(c, c if " " <= c <= "~" else "?") for c in printable(words))
    return "".join(found)


def _colours(mark: Line | Words) -> list[str]:
    found = [mark.fill, mark.stroke] if isinstance(mark, Line) else [mark.colour]
    return [c for c in found if c is not None]


def _name(colour: str) -> str:
    return "c" + colour[1:] if colour.startswith("#") else colour


def _hex(colour: str) -> str:
    return (colour if colour.startswith("#") else LIGHT[colour])[1:].upper()


def _comment(words: str) -> str:
    plain = re.sub(r"\s+", " ", printable(words)).replace("×", "x").replace("·", "-")
    return plain.encode("ascii", "replace").decode("ascii")


def _at(point: Point) -> str:
    return f"({decimal(point[0])},{decimal(point[1])})"


def _line(line: Line) -> str:
    options = []
    if line.fill is not None:
        options.append(f"fill={_name(line.fill)}")
    if line.stroke is not None:
        width = decimal(0.75 * line.width)
        options += [f"draw={_name(line.stroke)}", f"line width={width}pt"]
    if line.dashed:
        options.append("dashed")
    path = _at(line.start)
    for move in line.moves:
        if len(move) == 3:
            path += f" .. controls {_at(move[0])} and {_at(move[1])} .. {_at(move[2])}"
        else:
            path += f" -- {_at(move[0])}"
    return rf"\path[{', '.join(options)}] {path}{' -- cycle' if line.closed else ''};"


def _words(words: Words, unit: float) -> str:
    anchor = {"start": "base west", "middle": "base", "end": "base east"}[words.anchor]
    size = words.size * unit
    font = rf"\fontsize{{{decimal(size)}}}{{{decimal(1.2 * size)}}}\selectfont"
    if words.bold:
        font += r"\bfseries"
    return (
        rf"\node[anchor={anchor}, text={_name(words.colour)}, font={{{font}}}] "
        rf"at {_at((words.x, words.y))} {{{escaped(words.words)}}};"
    )
