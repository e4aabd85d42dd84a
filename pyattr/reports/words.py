"""Numbers and outcomes as a reader of a report sees them."""

from __future__ import annotations

import math
from typing import Any, Final

__all__ = [
    "CHECKS", "OUTCOMES", "SIGNS", "digits", "gap", "in_words", "large", "plain", "seconds", "signed", "size",
]  # fmt: skip

SIGNS: Final = {"ACCEPT": "✓", "ABORT": "✕", "INCONCLUSIVE": "?"}
OUTCOMES: Final = {"ACCEPT": "accept", "ABORT": "abort", "INCONCLUSIVE": "inconclusive"}
CHECKS: Final = {
    "spot check": "spot check failed",
    "commitment": "commitment broken",
    "scores": "scores out of range",
    "outputs": "outputs out of range",
}
_WORDS: Final = (
    "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve",
)  # fmt: skip
_RAISED: Final = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
_NONE: Final = "—"


def in_words(count: int) -> str:
    """A small number as a word."""
    return _WORDS[count] if count < len(_WORDS) else str(count)


def large(count: float) -> str:
    """A count for people: 134, 20,000, 2.2 × 10²⁰."""
    return f"{count:,.0f}" if count < 1e7 else _power(count)


def _power(value: float) -> str:
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa} × 10{str(int(exponent)).translate(_RAISED)}".replace("-", "−")


def digits(value: float | None) -> str:
    """A figure with three digits that mean something: 0.0123, 12.3, 12,300, 1.2 × 10⁻⁷."""
    if value is None or not math.isfinite(value):
        return _NONE
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e7:
        return _power(value)
    places = max(0, 2 - math.floor(math.log10(abs(value))))
    written = f"{value:,.{places}f}"
    return (written.rstrip("0").rstrip(".") if "." in written else written).replace("-", "−")


def gap(value: float | None) -> str:
    """A gap with as many digits as mean something."""
    if value is None or math.isnan(value):
        return _NONE
    if math.isinf(value):
        return "∞"
    return (f"{value:.3f}" if value < 0.1 else f"{value:.2f}").replace("-", "−")


def signed(value: float) -> str:
    """A score with its sign; with more digits where it is small."""
    written = f"{value:+.3f}" if abs(value) >= 0.01 or value == 0 else f"{value:+.2g}"
    return written.replace("-", "−")


def seconds(value: float) -> str:
    """Seconds, or milliseconds and microseconds of something fast."""
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if value * factor >= 1.0 or unit == "µs":
            break
    if unit == "s":
        return f"{value:,.0f} s" if value >= 10 else f"{value:.1f} s"
    return f"{digits(value * factor)} {unit}"


def size(n_bytes: int) -> str:
    """Size of a file."""
    if n_bytes < 1000:
        return f"{n_bytes} bytes"
    return f"{n_bytes / 1e3:,.0f} kB" if n_bytes < 1e6 else f"{n_bytes / 1e6:,.1f} MB"


def plain(value: Any) -> str:
    """A setting or a figure from a JSON file, in a cell of a table."""
    if value is None:
        return _NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace("-", "−") if abs(value) < 10**15 else str(value)
    if isinstance(value, float):
        return digits(value)
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value)) or "none"
    return str(value)
