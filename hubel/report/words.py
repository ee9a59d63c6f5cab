"""How numbers read on a page: thousands grouped, shares in per cent, times in words."""

from collections.abc import Sequence

__all__ = ["bytes_text", "duration", "integer", "interval_text", "number", "percent", "plural"]

NO_BREAK = "\u202f"  # a narrow space that keeps a number and its unit on one line


def integer(value: float) -> str:
    """Thousands grouped: 1234567 → 1,234,567."""
    return f"{round(value):,}"


def number(value: float | None, digits: int = 3) -> str:
    """A fixed number of decimals; – where there is no value."""
    return "–" if value is None else f"{value:,.{digits}f}"


def percent(share: float | None, digits: int = 1) -> str:
    """A share as per cent: 0.942 → 94.2 %; – where there is none.

    Only the whole reads "100 %" and only nothing "0 %": 0.9999 is "> 99.9 %".
    """
    if share is None:
        return "–"
    text = f"{100 * share:.{digits}f}"
    step = 10.0**-digits
    if share < 1.0 and float(text) >= 100.0:
        return f">{NO_BREAK}{100 - step:.{digits}f}{NO_BREAK}%"
    if share > 0.0 and float(text) == 0.0:
        return f"<{NO_BREAK}{step:.{digits}f}{NO_BREAK}%"
    if share in (0.0, 1.0):
        text = str(int(100 * share))
    return f"{text}{NO_BREAK}%"


def interval_text(interval: Sequence[float], digits: int = 1) -> str:
    """Two shares as one range in per cent: (0.898, 0.967) → 89.8–96.7 %."""
    low, high = (f"{100 * bound:.{digits}f}" for bound in interval)
    return f"{low}–{high}{NO_BREAK}%"


def duration(seconds: float | None) -> str:
    """Seconds in words of one or two units: 252 → 4 min 12 s."""
    if seconds is None:
        return "–"
    if seconds < 1:
        return f"{1000 * seconds:.0f}{NO_BREAK}ms"
    if seconds < 9.95:
        return f"{seconds:.1f}{NO_BREAK}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}{NO_BREAK}s"
    if whole < 3600:
        return f"{whole // 60}{NO_BREAK}min {whole % 60}{NO_BREAK}s"
    minutes = round(seconds / 60)
    return f"{minutes // 60}{NO_BREAK}h {minutes % 60}{NO_BREAK}min"


def bytes_text(count: float) -> str:
    """A number of bytes in decimal units: 1500000 → 1.5 MB."""
    if count < 1000:
        return f"{count:.0f}{NO_BREAK}bytes"
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if count < 999.5:
            return f"{count:.3g}{NO_BREAK}{unit}"
    return f"{count / 1000:,.3g}{NO_BREAK}TB"


def plural(count: int, one: str, many: str | None = None) -> str:
    """A count with its noun: (1, "picture") → 1 picture; (1200, "picture") → 1,200 pictures."""
    return f"{integer(count)} {one if count == 1 else (many or one + 's')}"
