"""The report's charts: inline SVG without scripts, coloured by the page's style sheet.

Text in an SVG shrinks with the picture, so a chart for wide screens and one for phones are drawn at
their own size and the style sheet shows one of them. Every chart has a title and a description.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from markupsafe import Markup, escape

__all__ = ["CHECKS", "SIGNS", "cost_chart", "gap_chart", "pay_chart", "scatter_chart"]

Record = Mapping[str, Any]

SIGNS: Final = {"ACCEPT": "✓", "ABORT": "✕", "INCONCLUSIVE": "?"}
CHECKS: Final = {
    "spot check": "spot check failed",
    "commitment": "commitment broken",
    "scores": "scores out of range",
    "outputs": "outputs out of range",
}
_OUTCOMES: Final = {"ACCEPT": "accept", "ABORT": "abort", "INCONCLUSIVE": "inconclusive"}
_GAP_END: Final = 2.0
_GAP_TICKS: Final = (0.0, 0.02, 0.1, 0.2, 0.5, 1.0, 2.0)


def _svg(width: float, height: float, name: str, title: str, desc: str, parts: list[str]) -> Markup:
    """Join the parts of a picture."""
    return Markup(
        f'<svg class="chart" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img" aria-labelledby="{name}-t {name}-d">'
        f'<title id="{name}-t">{escape(title)}</title><desc id="{name}-d">{escape(desc)}</desc>'
        f"{''.join(parts)}</svg>"
    )


def _text(x: float, y: float, words: str, css: str = "", anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" class="{css}" text-anchor="{anchor}">{escape(words)}</text>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, css: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{css}"/>'


def _bar(x: float, y: float, width: float, height: float, css: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.0):.1f}" height="{height:.1f}" '
        f'class="{css}"/>'
    )


def _dots(points: Sequence[tuple[float, float]], css: str) -> str:
    """Many dots as one path of strokes without length, which are round."""
    path = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in points)
    return f'<path d="{path}" class="{css}"/>'


def _diamond(x: float, y: float, css: str) -> str:
    return f'<path d="M{x:.1f} {y - 5:.1f}l5 5l-5 5l-5-5z" class="{css}"/>'


class _GapAxis:
    """Near zero linear, from about ε on logarithmic: honest and dishonest gaps both have room."""

    def __init__(self, left: float, right: float, epsilon: float) -> None:
        self._left, self._right, self._unit = left, right, epsilon / 2.0

    def __call__(self, gap: float) -> float:
        place = math.asinh(min(max(gap, 0.0), _GAP_END) / self._unit)
        return self._left + (self._right - self._left) * place / math.asinh(_GAP_END / self._unit)


def gap_chart(cases: Sequence[Record], epsilon: float, width: int, name: str) -> Markup:
    """Gap of every prover, with its interval, and the tolerance ε.

    Parameters
    ----------
    cases : sequence of dict
        As in ``results.json``.
    epsilon : float
    width : int
        In pixels; below 600 a prover's name stands above its row.
    name : str
        Distinguishes this picture from others on the page.
    """
    narrow = width < 600
    left, right = (12.0, width - 12.0) if narrow else (256.0, width - 128.0)
    step, top = (54.0, 44.0) if narrow else (36.0, 44.0)
    axis, bottom = _GapAxis(left, right, epsilon), top + step * len(cases)
    # On phones names stand on lines of their own: nothing is drawn behind them.
    bands = [(top - 8, bottom)]
    if narrow:
        bands = [(top + step * row + 20, top + step * row + 40) for row in range(len(cases))]
    parts = [_bar(axis(epsilon), a, right - axis(epsilon), b - a, "beyond") for a, b in bands]
    for tick in _GAP_TICKS:
        if narrow and tick in (0.02, 0.2, 1.0):
            continue
        parts += [_line(axis(tick), a, axis(tick), b, "grid") for a, b in bands]
        parts.append(_text(axis(tick), bottom + 16, f"{tick:g}", "tick", "middle"))
    parts += [
        _line(axis(epsilon), a - (0 if narrow else 6), axis(epsilon), b, "limit") for a, b in bands
    ]
    parts.append(_text(axis(epsilon), top - 18, f"ε = {epsilon:g}", "limit-label", "middle"))
    parts.append(
        _text(right, bottom + 34, "gap, as a share of the output’s variance", "tick", "end")
    )
    for row, case in enumerate(cases):
        parts += _gap_row(case, axis, top + step * row, (left, right), narrow)
    described = "; ".join(f"{_full_title(case)}: {_gap_words(case)}" for case in cases)
    title = f"Gap of each prover with its interval, against the tolerance of {epsilon:g}"
    return _svg(width, bottom + 42, name, title, described, parts)


def _full_title(case: Record) -> str:
    return f"session: {case['title']}" if case["interactive"] else str(case["title"])


def _gap_words(case: Record) -> str:
    """One row of the chart in words."""
    gap, target = case["gap"], case["gap"]["decisive_target"]
    outcome = _OUTCOMES[gap["outcome"]]
    if target is None:
        return f"{outcome}, {CHECKS[gap['details']['check']]}"
    figures = [gap[key][target] for key in ("gap", "gap_lower", "gap_upper")]
    return f"{outcome}, gap {figures[0]:.3f} between {figures[1]:.3f} and {figures[2]:.3f}"


def _gap_row(
    case: Record, axis: _GapAxis, y: float, span: tuple[float, float], narrow: bool
) -> list[str]:
    """One prover: all targets, the deciding one with its interval, the true gap, the verdict."""
    gap, target = case["gap"], case["gap"]["decisive_target"]
    outcome, middle = gap["outcome"], y + (30.0 if narrow else 14.0)
    css = _OUTCOMES[outcome]
    verdict = f"{SIGNS[outcome]} {outcome}"
    if narrow:
        parts = [_text(span[0], y + 14, _full_title(case), "name")]
        parts.append(_text(span[1], y + 14, verdict, f"verdict {css}", "end"))
    else:
        parts = [_text(span[0] - 14, middle + 4, _full_title(case), "name", "end")]
        lift = 2 if target is None else -4
        parts.append(_text(span[1] + 12, middle - lift, verdict, f"verdict {css}"))
    parts.append(_line(span[0], middle, span[1], middle, "rail"))
    if target is None:
        words = CHECKS[gap["details"]["check"]]
        if narrow:
            parts.append(_text(span[0], middle + 21, words, "stopped"))
        else:
            parts.append(_text(span[1] + 12, middle + 12, words, "stopped"))
    else:
        parts.append(_dots([(axis(g or 0.0), middle) for g in gap["gap"]], f"cloud {css}"))
        low, high = axis(gap["gap_lower"][target]), axis(gap["gap_upper"][target] or _GAP_END)
        parts.append(_line(low, middle, high, middle, f"interval {css}"))
        parts.append(f'<circle cx="{axis(gap["gap"][target]):.1f}" cy="{middle:.1f}" r="5" '
                     f'class="estimate {css}"/>')  # fmt: skip
    parts.append(_diamond(axis(case["true_gap_shown"]), middle, "truth"))
    return parts


def cost_chart(rows: Sequence[tuple[str, str, int, str]], width: int, name: str) -> Markup:
    """Models trained by each side, on one linear scale.

    Parameters
    ----------
    rows : sequence of (label, side, n_models, note)
        `side` is "prover" or "verifier".
    width : int
    name : str
    """
    narrow = width < 600
    left, step = (0.0, 46.0) if narrow else (252.0, 34.0)
    room = width - left - 150.0
    most = max(row[2] for row in rows)
    parts = []
    for index, (label, side, count, note) in enumerate(rows):
        y = step * index + (18.0 if narrow else 4.0)
        length = max(2.0, room * count / most)
        if narrow:
            parts.append(_text(0, y - 5, label, "name"))
        else:
            parts.append(_text(left - 14, y + 14, label, "name", "end"))
        parts.append(_bar(left, y, length, 20, side))
        parts.append(_text(left + length + 8, y + 14, f"{count:,}{note}", "value"))
    described = "; ".join(f"{label}: {count:,} models" for label, _, count, _ in rows)
    height = step * len(rows) + 4
    return _svg(width, height, name, "Models trained by prover and verifier", described, parts)


def scatter_chart(panel: Record, name: str) -> Markup:
    """Predicted against true outputs of one target on fresh subsets.

    Parameters
    ----------
    panel : dict
        Of ``quality.scatter`` in ``results.json``.
    name : str
    """
    size, left, top = 190.0, 40.0, 8.0
    predicted, true = panel["predicted"], panel["true"]
    low, high = float(min(*predicted, *true)), float(max(*predicted, *true))
    margin = 0.05 * (high - low) or 1.0
    low, high = low - margin, high + margin

    def place(value: float) -> float:
        return size * (value - low) / (high - low)

    bottom = top + size
    parts = [
        _bar(left, top, size, size, "frame"),
        _line(left, bottom, left + size, top, "diagonal"),
        _dots(
            [(left + place(p), bottom - place(t)) for p, t in zip(predicted, true, strict=True)],
            "points",
        ),
        _text(left + size / 2, bottom + 30, "predicted by the scores", "tick", "middle"),
        f'<text transform="translate(10 {top + size / 2:.1f}) rotate(-90)" class="tick" '
        f'text-anchor="middle">of the trained model</text>',
    ]
    step = _round_step((high - low) / 3)
    tick = math.ceil(low / step) * step
    while tick <= high:
        parts.append(_text(left + place(tick), bottom + 14, _number(tick), "tick", "middle"))
        parts.append(_text(left - 5, bottom - place(tick) + 4, _number(tick), "tick", "end"))
        tick += step
    title = f"Predicted against true output at test image {panel['target']}"
    described = (
        f"{len(true)} fresh models; R² {panel['r2']:.2f}; points near the diagonal are right"
    )
    return _svg(left + size + 8, bottom + 38, name, title, described, parts)


def _number(value: float) -> str:
    return f"{value:.4g}".replace("-", "−")


def _round_step(step: float) -> float:
    """1, 2 or 5 times a power of ten, at least `step`."""
    unit: float = 10.0 ** math.floor(math.log10(step))
    return unit * next(k for k in (1, 2, 5, 10) if unit * k >= step * 0.999)


def pay_chart(
    row: Record, sellers: Sequence[str], honest: Sequence[float], end: float, name: str
) -> Markup:
    """What each seller is paid for one published attribution; a mark shows the honest pay.

    Parameters
    ----------
    row : dict
        Of ``payments.rows`` in ``results.json``.
    sellers : sequence of str
    honest : (n_sellers,) sequence of float
    end : float
        Pay at which bars are cut, with a sign that they are.
    name : str
    """
    left, room, step = 20.0, 186.0, 24.0
    parts = []
    for index, (seller, paid, fair) in enumerate(
        zip(sellers, row["at_price"], honest, strict=True)
    ):
        y = step * index + 2
        length = room * min(paid, end) / end
        mark = left + room * fair / end
        changed = abs(paid - fair) > 0.05 * fair
        parts.append(_text(0, y + 14, seller, "name"))
        parts.append(_bar(left, y, length, 18, "pay changed" if changed else "pay"))
        if paid > end:
            x = left + room - 16
            parts.append(f'<path d="M{x:.1f} {y + 19:.1f}l6-20m5 0l-6 20" class="cut"/>')
        parts.append(_line(mark, y - 2, mark, y + 20, "fair"))
        parts.append(_text(left + max(length, mark - left) + 7, y + 14, f"{paid:.1f}", "value"))
    described = ", ".join(
        f"seller {s} {p:.1f} (honest {f:.1f})"
        for s, p, f in zip(sellers, row["at_price"], honest, strict=True)
    )
    title = f"Pay of each seller: {row['title']}"
    return _svg(left + room + 50, step * len(sellers) + 2, name, title, described, parts)
