"""Bars, ratios, histograms and scatters, each with what it shows in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import ArrayLike

from pyattr.reports import svg
from pyattr.reports.words import digits

__all__ = ["Bar", "Ratio", "bars", "histogram", "ratios", "scatter"]

_VALUE_ROOM = 150.0  # pixels for the words behind a bar
_LETTER = 6.6  # mean width of a letter of 13 pixels


@dataclass(frozen=True)
class Bar:
    """One bar.

    Parameters
    ----------
    label : str
    value : float
        At least 0; its length.
    css : str
        Class of the style sheet that colours it: "prover", "verifier", "ours" or "peer".
    said : str
        Words behind it.
    """

    label: str
    value: float
    css: str
    said: str


@dataclass(frozen=True)
class Ratio:
    """How many times as fast something is as the fastest of its peers.

    Parameters
    ----------
    label, peer : str
    ratio : float
        Above 0; 1 is the same speed.
    """

    label: str
    peer: str
    ratio: float


def _cut(words: str, room: float) -> str:
    """Words that fit into so many pixels."""
    most = max(8, int(room / _LETTER))
    return words if len(words) <= most else words[: most - 1] + "…"


def bars(rows: Sequence[Bar], width: int, name: str, title: str) -> Markup:
    """Bars on one linear scale.

    Parameters
    ----------
    rows : sequence of Bar
    width : int
        In pixels; below 600 a label stands above its bar.
    name : str
        Distinguishes this picture from others on the page.
    title : str
    """
    narrow = width < 600
    left, step = (0.0, 46.0) if narrow else (252.0, 34.0)
    room = width - left - _VALUE_ROOM
    most = max((row.value for row in rows), default=0.0) or 1.0
    parts = []
    for index, row in enumerate(rows):
        y = step * index + (18.0 if narrow else 4.0)
        length = max(2.0, room * row.value / most)
        if narrow:
            parts.append(svg.text(0, y - 5, _cut(row.label, width), "name"))
        else:
            label = _cut(row.label, left - 20)
            parts.append(svg.text(left - 14, y + 14, label, "name", "end"))
        parts.append(svg.bar(left, y, length, 20, row.css))
        parts.append(svg.text(left + length + 8, y + 14, row.said, "value"))
    described = "; ".join(f"{row.label}: {row.said}" for row in rows)
    return svg.picture(width, step * len(rows) + 4, name, title, described, parts)


def ratios(rows: Sequence[Ratio], width: int, name: str, title: str) -> Markup:
    """Speed against the fastest peer, on a logarithmic axis: right of 1 faster, left slower.

    Parameters
    ----------
    rows : sequence of Ratio
    width, name, title
        As for `bars`.
    """
    narrow = width < 600
    left, right = (8.0, width - 46.0) if narrow else (420.0, width - 70.0)
    step, top = (60.0, 4.0) if narrow else (28.0, 4.0)
    low = min(0.5, *(row.ratio for row in rows))
    high = max(2.0, *(row.ratio for row in rows))
    start, length = math.log(low), math.log(high / low)

    def place(ratio: float) -> float:
        return left + (right - left) * (math.log(ratio) - start) / length

    bottom = top + step * len(rows)
    parts = []
    for tick in _powers(low, high, 6 if narrow else 12):
        css = "limit" if tick == 1.0 else "grid"
        parts.append(svg.line(place(tick), top, place(tick), bottom, css))
        parts.append(svg.text(place(tick), bottom + 16, f"{digits(tick)}×", "tick", "middle"))
    for index, row in enumerate(rows):
        y = top + step * index + (38.0 if narrow else 6.0)
        if narrow:
            parts.append(svg.bar(0, y - 36, width, 34, "behind"))
            words = [_cut(row.label, width), _cut(f"against {row.peer}", width)]
            parts.append(svg.text(0, y - 22, words[0], "name"))
            parts.append(svg.text(0, y - 7, words[1], "tick"))
        else:
            words = [_cut(row.label, 225), _cut(row.peer, 165)]
            parts.append(svg.text(0, y + 11, words[0], "name"))
            parts.append(svg.text(left - 14, y + 11, words[1], "tick", "end"))
        ends = sorted((place(1.0), place(row.ratio)))
        css = "ours" if row.ratio >= 1.0 else "slower"
        parts.append(svg.bar(ends[0], y, max(ends[1] - ends[0], 2.0), 14, css))
        parts.append(svg.text(ends[1] + 6, y + 12, f"{digits(row.ratio)}×", "value"))
    described = "; ".join(f"{row.label}, against {row.peer}: {digits(row.ratio)}×" for row in rows)
    return svg.picture(width, bottom + 24, name, title, described, parts)


def _powers(low: float, high: float, most: int) -> list[float]:
    """1, 2, 5, 10, … or 1, 10, 100, … between two numbers, few enough to be read."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for steps in ((1.0, 2.0, 5.0), (1.0,)):
        found = [step * 10.0**power for power in range(first, last + 1) for step in steps]
        inside = [tick for tick in found if low * 0.999 <= tick <= high * 1.001]
        if len(inside) <= most:
            break
    return inside


def histogram(
    values: ArrayLike, name: str, title: str, what: str, limit: float | None = None
) -> Markup:
    """How many values lie where.

    Parameters
    ----------
    values : (n,) array_like
        Those that are not finite are left out, and said to be.
    name, title : str
        As for `bars`.
    what : str
        Under the axis.
    limit : float, optional
        Where a mark stands.
    """
    known = np.asarray(values, np.float64)
    lost, known = int((~np.isfinite(known)).sum()), known[np.isfinite(known)]
    left, top, width, height = 46.0, 8.0, svg.NARROW - 62.0, 130.0
    bottom = top + height
    if not known.size:
        parts = [svg.text(left, top + 60, "no finite value", "tick")]
        return svg.picture(svg.NARROW, bottom + 40, name, title, "no finite value", parts)
    ends = [float(known.min()), float(known.max())] + ([] if limit is None else [limit])
    low, high = min(ends), max(ends)
    if high - low < 1e-12 * max(abs(low), abs(high), 1e-300):
        low, high = low - 0.5, high + 0.5
    n_bins = int(np.clip(2 * math.sqrt(len(known)), 8, 40))
    counts = np.histogram(known, n_bins, (low, high))[0]
    most = max(int(counts.max()), 1)
    slot = width / n_bins

    def place(value: float) -> float:
        return left + width * (value - low) / (high - low)

    parts = [
        svg.bar(left + slot * i, bottom - height * n / most, slot - 1, height * n / most, "ours")
        for i, n in enumerate(counts.tolist())
    ]
    parts.append(svg.line(left, bottom, left + width, bottom, "rule"))
    parts += [
        svg.text(left - 6, top + 5, f"{most:,}", "tick", "end"),
        svg.text(left - 6, bottom + 1, "0", "tick", "end"),
    ]
    parts += [
        svg.text(place(tick), bottom + 16, digits(tick), "tick", "middle")
        for tick in _ticks(low, high, 4)
    ]
    if limit is not None:
        parts.append(svg.line(place(limit), top - 4, place(limit), bottom, "limit"))
    parts.append(svg.text(left + width / 2, bottom + 34, what, "tick", "middle"))
    quartiles = np.quantile(known, [0.0, 0.25, 0.5, 0.75, 1.0])
    said = ", ".join(map(digits, quartiles.tolist()))
    described = f"{len(known):,} values; least, quartiles and largest: {said}"
    described += f"; {lost:,} not known" if lost else ""
    return svg.picture(svg.NARROW, bottom + 40, name, title, described, parts)


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers between two."""
    step = svg.round_step((high - low) / most)
    first = math.ceil(low / step - 1e-9)
    return [step * k for k in range(first, math.floor(high / step + 1e-9) + 1)]


def scatter(panel: dict[str, Any], name: str) -> Markup:
    """Predicted against true outputs of one target on fresh subsets.

    Parameters
    ----------
    panel : dict
        ``target``, ``r2``, ``predicted`` and ``true``.
    name : str
        As for `bars`.
    """
    size, left, top = 190.0, 44.0, 8.0
    predicted, true = panel["predicted"], panel["true"]
    low, high = float(min(*predicted, *true)), float(max(*predicted, *true))
    margin = 0.05 * (high - low) or 1.0
    low, high = low - margin, high + margin

    def place(value: float) -> float:
        return size * (value - low) / (high - low)

    bottom = top + size
    points = [(left + place(p), bottom - place(t)) for p, t in zip(predicted, true, strict=True)]
    parts = [
        svg.bar(left, top, size, size, "frame"),
        svg.line(left, bottom, left + size, top, "diagonal"),
        svg.dots(points, "points"),
        svg.text(left + size / 2, bottom + 30, "predicted by the scores", "tick", "middle"),
        f'<text transform="translate(10 {top + size / 2:.1f}) rotate(-90)" class="tick" '
        f'text-anchor="middle">of the trained model</text>',
    ]
    for tick in _ticks(low, high, 3):
        parts.append(svg.text(left + place(tick), bottom + 14, digits(tick), "tick", "middle"))
        parts.append(svg.text(left - 5, bottom - place(tick) + 4, digits(tick), "tick", "end"))
    title = f"Predicted against true output at target {panel['target']}"
    described = (
        f"{len(true)} fresh models; R² {panel['r2']:.2f}; points near the diagonal are right"
    )
    return svg.picture(left + size + 8, bottom + 38, name, title, described, parts)
