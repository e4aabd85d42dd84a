"""The demo's page says what its results say."""

from __future__ import annotations

import re
from typing import Any

import demo_run
import pytest

from pyattr.reports.demo import pay_chart, render
from reports.page import ATTACK, Page, check_every_page


@pytest.fixture
def results() -> dict[str, Any]:
    return demo_run.results()


@pytest.fixture
def html(results: dict[str, Any]) -> str:
    return render(results)


@pytest.fixture
def page(html: str) -> Page:
    return check_every_page(html)


def test_title_states_the_finding(page: Page, results: dict[str, Any]) -> None:
    headline = results["findings"]["headline"]
    assert page.text("h1") == headline + "."
    assert headline in page.text("title")


def test_pictures(page: Page) -> None:
    assert len(page.all("img")) == 4 * (1 + 2 * 5)
    described = [svg for svg in page.all("svg") if svg.get("role") == "img"]
    # gap and cost for wide and narrow screens, four scatters, pay of nine attributions
    assert len(described) == 2 + 2 + 4 + 8
    assert "image-rendering: pixelated" in page.text("style")


def test_results_are_inside(page: Page, results: dict[str, Any]) -> None:
    assert page.json("results.json") == results


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
    html = render(results)
    assert "not accepted in every form" in Page(html).text("h1")
    assert ">fooled<" not in html
    assert "let the prover" not in html


def test_limits_of_pay_are_those_of_the_results(page: Page, results: dict[str, Any]) -> None:
    limits = results["payments"]["limits"]
    between = f"between {limits['lower'][0]:.0f} and {limits['upper'][0]:.0f}"
    assert between in page.words
    assert "It rules out a bonus" in page.words
    results["payments"]["limits"] |= {"verified": False, "lower": None, "upper": None}
    results["payments"]["limits"]["outcome"] = "INCONCLUSIVE"
    words = Page(render(results)).words
    assert "So nothing is promised about pay." in words
    assert between not in words


def test_bars_are_cut_only_beyond_the_end() -> None:
    row = {"title": "favours", "at_price": [20.0, 250.0, 20.0]}
    svg = str(pay_chart(row, "ABC", [20.0, 21.0, 20.5], 60.0, "p"))
    assert svg.count('class="cut"') == 1
    assert svg.count('class="pay changed"') == 1
    assert "seller B 250.0 (honest 21.0)" in svg
    assert 'class="cut"' not in str(pay_chart(row, "ABC", [20.0] * 3, 300.0, "p"))


def test_names_in_pictures_are_escaped() -> None:
    svg = str(pay_chart({"title": ATTACK, "at_price": [1.0]}, [ATTACK], [1.0], 2.0, "p"))
    assert "<script" not in svg
    assert svg.count("&lt;script&gt;") == 3  # title, description, label
