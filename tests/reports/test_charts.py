"""Charts stand where their numbers say, within their width, and say in words what they show."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from pyattr.reports import words
from pyattr.reports.charts import Bar, Ratio, bars, histogram, ratios, scatter
from pyattr.reports.examples import encode_png, influential, shown_targets
from pyattr.reports.gap_chart import GapRow, gap_chart

ROWS = [
    GapRow(title="honest", outcome="ACCEPT", estimate=0.01, low=0.0, high=0.03, others=[0.02]),
    GapRow(title="open", outcome="INCONCLUSIVE", estimate=0.04, low=0.0, high=float("inf")),
    GapRow(title="lie", outcome="ABORT", estimate=0.3, low=0.2, high=0.5, truth=0.25),
    GapRow(title="late", outcome="ABORT", failed="commitment broken", truth=0.1),
]
BARS = [Bar("prover", 20_000, "prover", "20,000"), Bar("verifier", 134, "verifier", "134")]
RATIOS = [Ratio("gram", "numpy", 3.0), Ratio("margins", "reading", 0.25), Ratio("x", "y", 1000.0)]


def test_gap_chart_places_gaps_and_epsilon():
    svg = str(gap_chart(ROWS, 0.05, 900, "g"))
    limit = float(re.search(r'<line x1="([\d.]+)"[^>]*class="limit"', svg)[1])
    places = [float(x) for x in re.findall(r'<circle cx="([\d.]+)"', svg)]
    assert [place < limit for place in places] == [True, True, False]
    assert places == sorted(places)
    assert "late: abort, commitment broken" in svg
    assert "lie: abort, gap 0.300 between 0.200 and 0.500" in svg


def test_large_gaps_have_room():
    far = [GapRow(title=str(g), outcome="ABORT", estimate=g, low=g, high=g) for g in (3.0, 7.0)]
    svg = str(gap_chart(far, 0.05, 900, "g"))
    first, second = [float(x) for x in re.findall(r'<circle cx="([\d.]+)"', svg)]
    assert first < second < 900 - 128
    assert ">10</text>" in svg
    assert ">20</text>" not in svg


@pytest.mark.parametrize("width", [328, 1040])
def test_charts_stay_inside_their_width(width):
    for svg in (
        gap_chart(ROWS, 0.05, width, "g"),
        bars(BARS, width, "b", "title"),
        ratios(RATIOS, width, "r", "title"),
    ):
        inside = [float(x) for x in re.findall(r'(?:x1|x2|cx|x)="(-?[\d.]+)"', str(svg))]
        assert min(inside) >= 0
        assert max(inside) <= width


def test_bars_are_as_long_as_their_values():
    svg = str(bars([Bar("a", 3.0, "ours", "3"), Bar("b", 1.5, "peer", "1.5")], 1040, "b", "t"))
    long, short = [float(w) for w in re.findall(r'<rect [^>]*width="([\d.]+)"', svg)]
    assert short == pytest.approx(long / 2, abs=0.1)
    assert "a: 3; b: 1.5" in svg


def test_ratios_turn_at_one():
    svg = str(ratios(RATIOS, 1040, "r", "t"))
    one = float(re.search(r'<line x1="([\d.]+)"[^>]*class="limit"', svg)[1])
    shown = re.findall(r'<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)"[^>]*class="(\w+)"', svg)
    assert [css for *_, css in shown] == ["ours", "slower", "ours"]
    for (left, width, css), ratio in zip(shown, (3.0, 0.25, 1000.0), strict=True):
        edge = float(left) if css == "ours" else float(left) + float(width)
        assert edge == pytest.approx(one, abs=0.2), ratio
    lengths = [float(width) for _, width, _ in shown]
    assert lengths[2] / lengths[0] == pytest.approx(np.log(1000) / np.log(3), rel=0.01)
    assert "margins, against reading: 0.25×" in svg


def test_histogram_counts():
    values = np.concatenate([np.zeros(30), np.ones(10), [np.nan] * 5])
    svg = str(histogram(values, "h", "t", "x"))
    heights = [float(h) for h in re.findall(r'<rect [^>]*height="([\d.]+)"', svg)]
    assert heights[0] == 130
    assert heights[-1] == pytest.approx(130 / 3, abs=0.1)
    assert sum(heights[1:-1]) == 0
    assert "40 values; least, quartiles and largest: 0, 0, 0, 0.25, 1; 5 not known" in svg


@pytest.mark.parametrize("values", [[], [np.nan], [2.0], [2.0, 2.0], [np.inf, 1e30, -1e30]])
def test_histograms_of_anything(values):
    svg = str(histogram(values, "h", "t", "x", limit=0.5))
    assert not re.search(r'="-?(nan|inf)', svg)


def test_scatter_of_constant_outputs_is_drawn():
    panel = {"target": 0, "r2": 0.0, "predicted": [1.0, 1.0], "true": [1.0, 1.0]}
    assert "nan" not in str(scatter(panel, "s"))


def test_images_survive():
    grey = np.linspace(0, 1, 64, dtype=np.float32)
    decoded = Image.open(io.BytesIO(base64.b64decode(encode_png(grey, (8, 8)))))
    assert decoded.mode == "L"
    assert np.abs(np.asarray(decoded).ravel() / 255 - grey).max() < 0.003
    colour = np.zeros((3, 2, 4), np.float32)
    colour[1] = 1.0  # green
    decoded = Image.open(io.BytesIO(base64.b64decode(encode_png(colour.ravel(), (3, 2, 4)))))
    assert decoded.size == (4, 2)
    assert np.asarray(decoded)[0, 0].tolist() == [0, 255, 0]


def test_examples_are_those_with_the_largest_scores_of_either_sign():
    scores = np.array([[0.1, 3.0], [-0.5, 0.0], [0.7, -1.0], [0.0, 2.0]], np.float32)
    first, second = influential(scores, [0, 1])
    assert [e["index"] for e in first["helpful"]] == [2, 0]
    assert [e["index"] for e in first["harmful"]] == [1]
    assert [e["index"] for e in second["harmful"]] == [2]
    (nobody,) = influential(-np.ones((3, 1), np.float32), [0])
    assert nobody["helpful"] == []
    assert second["helpful"][0] == {"index": 0, "label": "", "score": 3.0, "seller": "", "png": ""}


def test_shown_targets_spread_and_differ_in_class():
    rank = np.array([0.9, np.nan, 0.2, 0.5, 0.7, 0.3])
    assert shown_targets(rank, n_shown=3) == [1, 5, 0]
    labels = np.array([0, 0, 0, 1, 2, 0])
    assert {int(labels[t]) for t in shown_targets(rank, labels, 3)} == {0, 1, 2}
    assert sorted(shown_targets(rank, np.zeros(6, int), 6)) == list(range(6))


def test_numbers_are_readable():
    assert words.large(20_000) == "20,000"
    assert words.large(2.2149e20) == "2.2 × 10²⁰"
    assert [words.in_words(8), words.in_words(40)] == ["eight", "40"]
    found = [words.digits(v) for v in (0.0, 0.012345, -12.345, 123456.0, 1.24e-7, float("nan"))]
    assert found == ["0", "0.0123", "−12.3", "123,456", "1.2 × 10⁻⁷", "—"]
    assert [words.seconds(v) for v in (1234.0, 2.5, 0.0025, 2.5e-6)] == [
        "1,234 s", "2.5 s", "2.5 ms", "2.5 µs",
    ]  # fmt: skip
    assert [words.gap(v) for v in (0.01234, 0.5, float("inf"), None)] == ["0.012", "0.50", "∞", "—"]
    assert [words.signed(v) for v in (0.25, -0.25, 0.00123)] == ["+0.250", "−0.250", "+0.0012"]
    assert words.plain([True, 3, 0.5, None, "x"]) == "yes, 3, 0.5, —, x"
    assert [words.size(n) for n in (12, 12_345, 2_500_000)] == ["12 bytes", "12 kB", "2.5 MB"]
