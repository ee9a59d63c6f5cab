"""How wide words are: drawings are laid out before any font is at hand."""

__all__ = ["words_width"]

# Thousandths of the size, as Helvetica, Arial and Liberation Sans have them.
_WIDTHS = {
    sign: width
    for width, signs in (
        (222, "ijl'"), (278, " !,./:;I[\\]ft·"), (333, "()-r`"), (389, "*"), (500, "cksvxyzJ"),
        (556, "0123456789abdeghnopqu#$?_L"), (584, "+<=>~×−"), (611, "FTZ"),
        (667, "ABEKPSVXY&"), (722, "CDHNRUw"), (778, "GOQ"), (833, "Mm"), (889, "%"),
        (944, "W"), (1015, "@"),
    )
    for sign in signs
}  # fmt: skip
_OTHER = 1000
# Inter and Segoe UI are wider by up to a tenth, and so are bold letters.
_ROOM, _BOLD = 1.1, 1.07


def words_width(words: str, size: float, *, bold: bool = False) -> float:
    """Pixels that `words` of `size` take at most in the fonts that drawings name.

    >>> round(words_width("3×3", 10), 1)
    18.7
    """
    width = sum(_WIDTHS.get(sign, 556 if sign.isascii() else _OTHER) for sign in words)
    return size * width / 1000 * _ROOM * (_BOLD if bold else 1.0)
