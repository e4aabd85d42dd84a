"""Parts of pictures: inline SVG without scripts, coloured by the page's style sheet.

Text in an SVG shrinks with the picture, so a chart for wide screens and one for phones are drawn at
their own size and the style sheet shows one of them. Every chart has a title and a description.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from markupsafe import Markup, escape

__all__ = [
    "NARROW",
    "WIDE",
    "bar",
    "both",
    "diamond",
    "dots",
    "line",
    "picture",
    "round_step",
    "text",
]

WIDE: Final = 1040
NARROW: Final = 328


def picture(
    width: float, height: float, name: str, title: str, desc: str, parts: Sequence[str]
) -> Markup:
    """Join the parts of a picture.

    Parameters
    ----------
    width, height : float
        In pixels.
    name : str
        Distinguishes this picture from others on the page; of letters, digits and dashes.
    title, desc : str
        What it is, and what it shows, for those who do not see it.
    parts : sequence of str
        SVG, escaped.
    """
    return Markup(
        f'<svg class="chart" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img" aria-labelledby="{name}-t {name}-d">'
        f'<title id="{name}-t">{escape(title)}</title><desc id="{name}-d">{escape(desc)}</desc>'
        f"{''.join(parts)}</svg>"
    )


def both(draw: Callable[[int, str], Markup], name: str) -> Markup:
    """One picture for wide screens and one for phones; the style sheet shows one.

    Parameters
    ----------
    draw : callable
        ``draw(width, name)``.
    name : str
    """
    return Markup('<div class="wide">{}</div><div class="narrow">{}</div>').format(
        draw(WIDE, f"{name}-wide"), draw(NARROW, f"{name}-narrow")
    )


def text(x: float, y: float, words: str, css: str = "", anchor: str = "start") -> str:
    """Words at a place."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" class="{css}" text-anchor="{anchor}">{escape(words)}</text>'
    )


def line(x1: float, y1: float, x2: float, y2: float, css: str) -> str:
    """A straight line."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{css}"/>'


def bar(x: float, y: float, width: float, height: float, css: str) -> str:
    """A rectangle."""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.0):.1f}" '
        f'height="{max(height, 0.0):.1f}" class="{css}"/>'
    )


def dots(points: Sequence[tuple[float, float]], css: str) -> str:
    """Many dots as one path of strokes without length, which are round."""
    path = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in points)
    return f'<path d="{path}" class="{css}"/>'


def diamond(x: float, y: float, css: str) -> str:
    """A diamond with its middle at a place."""
    return f'<path d="M{x:.1f} {y - 5:.1f}l5 5l-5 5l-5-5z" class="{css}"/>'


def round_step(step: float) -> float:
    """1, 2 or 5 times a power of ten, at least `step`."""
    unit: float = 10.0 ** math.floor(math.log10(step))
    return unit * next(k for k in (1, 2, 5, 10) if unit * k >= step * 0.999)
