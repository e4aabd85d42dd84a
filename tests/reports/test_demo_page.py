"""The report is self-contained, says what the results say, and can be read without seeing it."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from typing import Any

import demo_run
import numpy as np
import pytest
from PIL import Image
from pyattr.report_charts import cost_chart, gap_chart, pay_chart, scatter_chart

from pyattr import report

VOID = {"meta", "img", "br", "link", "input", "hr", "col"}


class Page(HTMLParser):
    """Collects elements, and checks that they are closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self._open[-1] if self._open else "", []).append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self, tag: str) -> str:
        return " ".join(" ".join(self.texts.get(tag, [])).split())


@pytest.fixture
def results() -> dict[str, Any]:
    return demo_run.results()


@pytest.fixture
def html(results: dict[str, Any]) -> str:
    return report.render(results)


@pytest.fixture
def page(html: str) -> Page:
    return Page(html)


def test_nothing_is_loaded_from_outside(page: Page, html: str) -> None:
    tags = {tag for tag, _ in page.elements}
    assert not tags & {
        "script",
        "link",
        "iframe",
        "object",
        "embed",
        "video",
        "audio",
        "base",
        "use",
    }
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in {"src", "srcset", "poster", "data", "action", "background", "xlink:href"}:
                assert value.startswith("data:image/png;base64,"), (tag, name)
            if name == "href":
                assert value == "results.json"
            assert "http:" not in value, (tag, name)
            assert "https:" not in value, (tag, name)
    style = page.text("style")
    assert "url(" not in style
    assert "@import" not in style
    policy = [m["content"] for m in page.all("meta") if m.get("http-equiv")]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert len(html) < 1_000_000


def test_title_states_the_finding(page: Page, results: dict[str, Any]) -> None:
    headline = results["findings"]["headline"]
    assert page.text("h1") == headline + "."
    assert headline in page.text("title")


def test_every_picture_has_words(page: Page) -> None:
    assert all(image["alt"] for image in page.all("img"))
    assert len(page.all("img")) == 4 * (1 + 2 * 5)
    identities = [a["id"] for _, a in page.elements if "id" in a]
    assert len(identities) == len(set(identities))
    described = [svg for svg in page.all("svg") if svg.get("role") == "img"]
    # gap and cost for wide and narrow screens, four scatters, pay of nine attributions
    assert len(described) == 2 + 2 + 4 + 8
    for svg in described:
        assert set(svg["aria-labelledby"].split()) <= set(identities)
    assert all("aria-hidden" in svg for svg in page.all("svg") if svg not in described)


def test_page_adapts(page: Page) -> None:
    style = page.text("style")
    assert "prefers-color-scheme: dark" in style
    assert "image-rendering: pixelated" in style
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all(
        "meta"
    )
    assert page.all("html") == [{"lang": "en"}]


def test_verdicts_are_words_and_fooled_is_marked(html: str, results: dict[str, Any]) -> None:
    table = html[html.index("<table") : html.index("</table>")]
    for outcome in ("ACCEPT", "ABORT", "INCONCLUSIVE"):
        shown = len(re.findall(rf"</span> {outcome}</span>", table))
        told = sum(
            case[method]["outcome"] == outcome
            for case in results["cases"]
            for method in ("naive", "paper", "gap")
        )
        assert shown == told
    assert table.count(">fooled<") == len(results["findings"]["lies_naive_accepted"])


def test_failure_is_reported_as_such(results: dict[str, Any]) -> None:
    from pyattr.demo.results import findings

    for case in results["cases"]:
        case["naive"]["outcome"] = case["gap"]["outcome"] = "INCONCLUSIVE"
    results["findings"] = findings(results["cases"])
    html = report.render(results)
    assert "not accepted in every form" in Page(html).text("h1")
    assert ">fooled<" not in html
    assert "let the prover" not in html


def test_words_of_the_results_are_escaped(results: dict[str, Any]) -> None:
    attack = "<script>alert(1)</script>"
    results["cases"][1]["title"] = results["payments"]["rows"][1]["title"] = attack
    results["dataset"]["name"] = results["examples"][0]["label"] = attack
    html = report.render(results)
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_images_survive() -> None:
    grey = np.linspace(0, 1, 64, dtype=np.float32)
    decoded = Image.open(io.BytesIO(base64.b64decode(report.encode_png(grey, (8, 8)))))
    assert decoded.mode == "L"
    assert np.abs(np.asarray(decoded).ravel() / 255 - grey).max() < 0.003
    colour = np.zeros((3, 2, 4), np.float32)
    colour[1] = 1.0  # green
    decoded = Image.open(io.BytesIO(base64.b64decode(report.encode_png(colour.ravel(), (3, 2, 4)))))
    assert decoded.size == (4, 2)
    assert np.asarray(decoded)[0, 0].tolist() == [0, 255, 0]


def test_gap_chart_places_gaps_and_epsilon(results: dict[str, Any]) -> None:
    svg = str(gap_chart(results["cases"], 0.05, 900, "g"))
    limit = float(re.search(r'<line x1="([\d.]+)"[^>]*class="limit"', svg)[1])  # type: ignore[index]
    places = [float(x) for x in re.findall(r'<circle cx="([\d.]+)"', svg)]
    shown = [case for case in results["cases"] if case["gap"]["decisive_target"] is not None]
    assert len(places) == len(shown)
    for place, case in zip(places, shown, strict=True):
        gap = case["gap"]["gap"][case["gap"]["decisive_target"]]
        assert (place < limit) == (gap < 0.05), case["key"]
    assert "session: fits after the challenge: abort, commitment broken" in svg


@pytest.mark.parametrize("width", [328, 900])
def test_charts_stay_inside_their_width(results: dict[str, Any], width: int) -> None:
    rows = [("prover", "prover", 20_000, " · 20 s"), ("verifier", "verifier", 134, " · 0.1 s")]
    for svg in (gap_chart(results["cases"], 0.05, width, "g"), cost_chart(rows, width, "c")):
        inside = [float(x) for x in re.findall(r'(?:x1|x2|cx|x)="(-?[\d.]+)"', str(svg))]
        assert min(inside) >= 0
        assert max(inside) <= width


def test_bars_are_cut_only_beyond_the_end() -> None:
    row = {"title": "favours", "at_price": [20.0, 250.0, 20.0]}
    svg = str(pay_chart(row, "ABC", [20.0, 21.0, 20.5], 60.0, "p"))
    assert svg.count('class="cut"') == 1
    assert svg.count('class="pay changed"') == 1
    assert "seller B 250.0 (honest 21.0)" in svg
    assert 'class="cut"' not in str(pay_chart(row, "ABC", [20.0] * 3, 300.0, "p"))


def test_scatter_of_constant_outputs_is_drawn() -> None:
    panel = {"target": 0, "r2": 0.0, "predicted": [1.0, 1.0], "true": [1.0, 1.0]}
    assert "nan" not in str(scatter_chart(panel, "s"))


def test_counts_are_readable() -> None:
    assert report._large(20_000) == "20,000"
    assert report._large(2.2149e20) == "2.2 × 10²⁰"
    assert report.in_words(8) == "eight"
    assert report.in_words(40) == "40"
