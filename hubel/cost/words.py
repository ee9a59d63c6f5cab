"""Figures in words: counts, bytes and times with the unit that fits."""

__all__ = ["bytes_words", "seconds_words", "short"]


def short(number: float) -> str:
    """Three or four digits with k, M, G or T.

    >>> short(4_089_184_256), short(25_557_032), short(588), short(9_408)
    ('4.09 G', '25.6 M', '588', '9.41 k')
    """
    for limit, word in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        # What would be rounded up to 1000 of the smaller unit takes the larger.
        if number >= 0.9995 * limit:
            value = number / limit
            digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
            return f"{value:.{digits}f}{word}"
    return f"{number:.0f}"


def bytes_words(number: int) -> str:
    """Bytes with kB, MB, GB: powers of a thousand."""
    words = short(number)
    return f"{words}B" if " " in words else f"{words} B"


def seconds_words(seconds: float) -> str:
    """Two or three digits in the unit that fits.

    >>> [seconds_words(s) for s in (2.5e-5, 0.0123, 1.5, 95, 4000, 200_000)]
    ['25 µs', '12.3 ms', '1.50 s', '1 min 35 s', '1 h 7 min', '2 d 8 h']
    """
    if seconds < 0.9995e-3:
        return f"{1e6 * seconds:.0f} µs"
    if seconds < 0.9995:
        return f"{1e3 * seconds:.3g} ms"
    if seconds < 89.5:
        return f"{seconds:.3g} s" if seconds >= 9.995 else f"{seconds:.2f} s"
    if round(seconds) < 3600:
        return _two(round(seconds), 60, "min", "s")
    if round(seconds / 60) < 24 * 60:
        return _two(round(seconds / 60), 60, "h", "min")
    return _two(round(seconds / 3600), 24, "d", "h")


def _two(count: int, each: int, large: str, small: str) -> str:
    return f"{count // each} {large} {count % each} {small}"
