"""Counts, sizes, times and money in few characters."""

from __future__ import annotations

from typing import Final

__all__ = ["duration", "money", "number", "size"]

_UNITS: Final = (
    ("s", 60.0),
    ("min", 60.0),
    ("h", 24.0),
    ("d", 365.25),
)


def number(value: float) -> str:
    """A count: whole up to a million, then with two digits and a power of ten."""
    return f"{value:,.0f}" if value < 1e6 else f"{value:.1e}".replace("e+", "e")


def size(n_bytes: float) -> str:
    """Bytes in units of 1,000."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if n_bytes < 999.5:  # above it three digits are 1,000, of the next unit 1
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000.0
    return f"{number(n_bytes)} PB"


def duration(seconds: float) -> str:
    """A time in its largest unit of at least 1."""
    for unit, factor in _UNITS:
        if seconds < factor:
            return f"{seconds:.3g} {unit}"
        seconds /= factor
    return f"{number(seconds)} y"


def money(amount: float) -> str:
    """Money with two decimals, or two digits if that shows nothing."""
    return (
        number(amount) if amount >= 1e4 else f"{amount:.2f}" if amount >= 0.1 else f"{amount:.2g}"
    )
