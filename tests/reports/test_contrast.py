"""Contrast of the style's colours, as WCAG 2.1 defines it: 4.5 for words, 3 for what charts are made of."""

from __future__ import annotations

import re
from importlib import resources

import pytest

STYLE = resources.files("pyattr.reports").joinpath("style.css").read_text(encoding="utf-8")
WORDS = [
    *((ink, behind) for ink in ("ink", "muted", "accept", "abort", "open")
      for behind in ("paper", "panel", "faint")),
    ("on", "accept"),
]  # fmt: skip
SHAPES = [(ink, behind) for ink in ("prover", "verifier", "abort", "ink") for behind in ("paper",)]


def palette(dark: bool) -> dict[str, str]:
    light, darker = re.findall(r":root \{(.*?)\}", STYLE, flags=re.DOTALL)[:2]
    colours = dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6})", light))
    return colours | (dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6})", darker)) if dark else {})


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    low, high = sorted(map(luminance, (first, second)))
    return (high + 0.05) / (low + 0.05)


def test_the_formula_is_that_of_the_standard():
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)  # just not enough
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)  # just enough


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_colours_can_be_told_apart(dark):
    colours = palette(dark)
    assert len(colours) == 12
    for pairs, least in ((WORDS, 4.5), (SHAPES, 3.0)):
        for ink, behind in pairs:
            found = contrast(colours[ink], colours[behind])
            assert found >= least, f"{ink} on {behind}: {found:.2f}"


def test_both_palettes_are_complete_and_differ():
    light, dark = palette(False), palette(True)
    assert light.keys() == dark.keys()
    assert luminance(light["paper"]) > 0.8
    assert luminance(dark["paper"]) < 0.05
