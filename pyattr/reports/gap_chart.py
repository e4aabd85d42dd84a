"""The chart of gaps: estimates with their limits against the tolerance ε."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from pyattr.reports import svg
from pyattr.reports.words import OUTCOMES, SIGNS

__all__ = ["GapRow", "gap_chart"]

_ENDS: Final = (2.0, 5.0, 10.0, 20.0, 50.0, 100.0)  # of the axis: the first that has room
_TICKS: Final = (0.0, 0.02, 0.1, 0.2, 0.5, 1.0, *_ENDS)
_TICKS_OF_PHONES: Final = (0.0, 0.1, 0.5, 2.0, 10.0, 50.0)


@dataclass(frozen=True, kw_only=True)
class GapRow:
    """One row: a prover, or a target.

    Parameters
    ----------
    title : str
    outcome : {"ACCEPT", "ABORT", "INCONCLUSIVE"}
    estimate, low, high : float or None
        Gap and its limits, as shares of Var f; None where a check failed. `high` may be infinite.
    failed : str
        Which check failed.
    others : sequence of float
        Estimates that are shown small in the same row: of the other targets.
    truth : float, optional
        The gap as someone knows it who saw everything.
    """

    title: str
    outcome: str
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    failed: str = ""
    others: Sequence[float] = ()
    truth: float | None = None

    def in_words(self) -> str:
        """The row for those who do not see it."""
        outcome = OUTCOMES[self.outcome]
        if self.estimate is None or self.low is None or self.high is None:
            return f"{self.title}: {outcome}, {self.failed}"
        limits = f"between {self.low:.3f} and {self.high:.3f}"
        return f"{self.title}: {outcome}, gap {self.estimate:.3f} {limits}"


class _Axis:
    """Near zero linear, from about ε on logarithmic: honest and dishonest gaps both have room."""

    def __init__(self, left: float, right: float, epsilon: float, largest: float) -> None:
        self.left, self.right, self._unit = left, right, epsilon / 2.0
        needed = max(largest, 2.0 * epsilon)
        self.end = next((end for end in _ENDS if end >= needed), needed)

    def __call__(self, gap: float) -> float:
        place = math.asinh(min(max(gap, 0.0), self.end) / self._unit)
        return self.left + (self.right - self.left) * place / math.asinh(self.end / self._unit)


def gap_chart(
    rows: Sequence[GapRow],
    epsilon: float,
    width: int,
    name: str,
    what: str = "prover",
    unit: str = "gap, as a share of the output’s variance",
) -> Markup:
    """Gaps with their intervals, and the tolerance ε.

    Parameters
    ----------
    rows : sequence of GapRow
    epsilon : float
        As a share of Var f.
    width : int
        In pixels; below 600 a title stands above its row.
    name : str
        Distinguishes this picture from others on the page.
    what : str
        What a row is.
    unit : str
        Under the axis.
    """
    narrow = width < 600
    left, right = (12.0, width - 12.0) if narrow else (256.0, width - 128.0)
    step, top = (54.0, 44.0) if narrow else (36.0, 44.0)
    largest = max((row.estimate or 0.0 for row in rows), default=0.0)
    axis, bottom = _Axis(left, right, epsilon, largest), top + step * len(rows)
    # On phones names stand on lines of their own: nothing is drawn behind them.
    bands = [(top - 8, bottom)]
    if narrow:
        bands = [(top + step * row + 20, top + step * row + 40) for row in range(len(rows))]
    parts = [svg.bar(axis(epsilon), a, right - axis(epsilon), b - a, "beyond") for a, b in bands]
    for tick in _TICKS_OF_PHONES if narrow else _TICKS:
        if tick > axis.end:
            break
        parts += [svg.line(axis(tick), a, axis(tick), b, "grid") for a, b in bands]
        parts.append(svg.text(axis(tick), bottom + 16, f"{tick:g}", "tick", "middle"))
    parts += [
        svg.line(axis(epsilon), a - (0 if narrow else 6), axis(epsilon), b, "limit")
        for a, b in bands
    ]
    parts.append(svg.text(axis(epsilon), top - 18, f"ε = {epsilon:g}", "limit-label", "middle"))
    parts.append(svg.text(right, bottom + 34, unit, "tick", "end"))
    for number, row in enumerate(rows):
        parts += _row(row, axis, top + step * number, narrow)
    described = "; ".join(row.in_words() for row in rows)
    title = f"Gap of each {what} with its interval, against the tolerance of {epsilon:g}"
    return svg.picture(width, bottom + 42, name, title, described, parts)


def _row(row: GapRow, axis: _Axis, y: float, narrow: bool) -> list[str]:
    """One row: title, small estimates, the estimate with its interval, the truth, the verdict."""
    css, middle = OUTCOMES[row.outcome], y + (30.0 if narrow else 14.0)
    verdict, left, right = f"{SIGNS[row.outcome]} {row.outcome}", axis.left, axis.right
    failed = row.estimate is None
    if narrow:
        parts = [svg.text(left, y + 14, row.title, "name")]
        parts.append(svg.text(right, y + 14, verdict, f"verdict {css}", "end"))
    else:
        parts = [svg.text(left - 14, middle + 4, row.title, "name", "end")]
        parts.append(
            svg.text(right + 12, middle - (2 if failed else -4), verdict, f"verdict {css}")
        )
    parts.append(svg.line(left, middle, right, middle, "rail"))
    if row.estimate is None or row.low is None or row.high is None:
        place = (left, middle + 21) if narrow else (right + 12, middle + 12)
        parts.append(svg.text(*place, row.failed, "stopped"))
    else:
        if row.others:
            parts.append(svg.dots([(axis(g), middle) for g in row.others], f"cloud {css}"))
        parts.append(svg.line(axis(row.low), middle, axis(row.high), middle, f"interval {css}"))
        parts.append(f'<circle cx="{axis(row.estimate):.1f}" cy="{middle:.1f}" r="5" '
                     f'class="estimate {css}"/>')  # fmt: skip
    if row.truth is not None:
        parts.append(svg.diamond(axis(row.truth), middle, "truth"))
    return parts
