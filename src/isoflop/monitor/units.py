"""Numbers as a person reads them, always with their unit."""

import math

_SCALES = ((1e15, "P"), (1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def count(number: float) -> str:
    """A count in at most four digits: 853, 41.2 k, 125.9 M, 3.04 B (10⁹), 2.1 T."""
    for scale, suffix in _SCALES:
        if abs(number) >= scale * 0.99995:
            return f"{_short(number / scale)} {suffix}"
    return f"{number:,.0f}" if float(number).is_integer() else _short(number)


def rounded(number: float) -> str:
    """A count to two digits, for names of budgets: 820 k, 1.6 M."""
    number = float(f"{number:.1e}")
    for scale, suffix in _SCALES:
        if number >= scale:
            return f"{number / scale:.3g} {suffix}"
    return f"{number:.3g}"


def scientific(number: float, digits: int = 2) -> str:
    """As papers write it: 2.75e18, 1e-5 (with no digits)."""
    if number == 0 or not math.isfinite(number):
        return f"{number:g}"
    mantissa, exponent = f"{number:.{digits}e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def flop_rate(number: float) -> str:
    """FLOPs of one thing, or a second: 0.906 G, 989 T."""
    for scale, suffix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if number >= scale * 0.1:
            return f"{number / scale:.3g} {suffix}"
    return f"{number:.3g} "


def memory(number: float) -> str:
    """Bytes in binary units: 812 MiB, 71.3 GiB."""
    for scale, suffix in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if number >= scale:
            return (
                f"{number / scale:.3g} {suffix}"
                if number / scale < 1000
                else f"{number / scale:,.0f} {suffix}"
            )
    return f"{number:.0f} B"


def duration(seconds: float) -> str:
    """Two units at most: 0.42 s, 41 s, 12 min 5 s, 3 h 40 min, 2 d 4 h."""
    if not math.isfinite(seconds):
        return "–"
    if seconds < 10:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    for size, unit, inner_size, inner in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // inner_size
            return f"{whole // size} {unit}" + (f" {rest} {inner}" if rest else "")
    return f"{whole} s"


def percent(fraction: float) -> str:
    """38.2 %; small ones keep two digits."""
    return f"{100 * fraction:.3g} %" if abs(fraction) < 0.01 else f"{100 * fraction:.1f} %"


def _short(number: float) -> str:
    digits = 2 if abs(number) < 9.995 else 1 if abs(number) < 999.95 else 0
    return f"{number:.{digits}f}"
