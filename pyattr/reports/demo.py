"""The page of the demo, from the content of its ``results.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from markupsafe import Markup

from pyattr.reports import svg
from pyattr.reports.charts import Bar, bars, scatter
from pyattr.reports.downloads import json_file
from pyattr.reports.gap_chart import GapRow, gap_chart
from pyattr.reports.page import fill
from pyattr.reports.words import CHECKS, seconds

__all__ = ["pay_chart", "render"]

Record = Mapping[str, Any]

_PAY_END: Final = 2.6  # bars of pay are cut at this multiple of the highest honest pay


def render(results: Record) -> str:
    """Make the page.

    Parameters
    ----------
    results : mapping
        From `pyattr.demo.run`, or read back from ``results.json``.

    Returns
    -------
    str
        A whole HTML document.
    """
    return fill(
        "demo.html",
        r=results,
        by_key={case["key"]: case for case in results["cases"]},
        charts=_charts(results),
        downloads=[json_file("results.json", "all figures, settings and the recipe", results)],
    )


def _charts(results: Record) -> dict[str, Any]:
    """All pictures, by name."""
    epsilon, payments = results["config"]["epsilon"], results["payments"]
    rows, costs = [_gap_row(case) for case in results["cases"]], _costs(results)
    sellers = [seller["name"] for seller in payments["sellers"]]
    honest = payments["rows"][0]["at_price"]
    end = _PAY_END * max(honest)
    return {
        "gap": svg.both(lambda width, name: gap_chart(rows, epsilon, width, name), "gap"),
        "cost": svg.both(
            lambda width, name: bars(costs, width, name, "Models trained by prover and verifier"),
            "cost",
        ),
        "scatter": [
            scatter(panel, f"scatter-{index}")
            for index, panel in enumerate(results["quality"]["scatter"])
        ],
        "pay": {
            row["key"]: pay_chart(row, sellers, honest, end, f"pay-{number}")
            for number, row in enumerate(payments["rows"])
        },
    }


def _gap_row(case: Record) -> GapRow:
    """One prover in the chart of gaps."""
    gap, target = case["gap"], case["gap"]["decisive_target"]
    title = f"session: {case['title']}" if case["interactive"] else str(case["title"])
    row = {"title": title, "outcome": gap["outcome"], "truth": case["true_gap_shown"]}
    if target is None:
        return GapRow(**row, failed=CHECKS[gap["details"]["check"]])
    high = gap["gap_upper"][target]
    return GapRow(
        **row,
        estimate=gap["gap"][target],
        low=gap["gap_lower"][target],
        high=float("inf") if high is None else high,
        others=[g or 0.0 for g in gap["gap"]],
    )


def _costs(results: Record) -> list[Bar]:
    """Rows of the cost chart."""
    cases = {case["key"]: case for case in results["cases"]}
    honest, session = cases["honest"], cases["session_honest"]
    prover, took = results["prover"], honest["seconds"]
    spent = prover["train_seconds"] + prover["fit_seconds"]

    def models(label: str, side: str, count: int, note: str = "") -> Bar:
        return Bar(label, count, side, f"{count:,}{note}")

    return [
        models("prover: makes the scores", "prover", prover["n_models"], f" · {seconds(spent)}"),
        *(
            models(
                f"verifier: {method} check",
                "verifier",
                honest[method]["n_retrained"],
                f" · {seconds(took[method])}",
            )
            for method in ("gap", "naive")
        ),
        models("session: prover answers", "prover", session["gap"]["n_prover_retrained"]),
        models("session: verifier checks", "verifier", session["gap"]["n_retrained"]),
    ]


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
        parts.append(svg.text(0, y + 14, seller, "name"))
        parts.append(svg.bar(left, y, length, 18, "pay changed" if changed else "pay"))
        if paid > end:
            x = left + room - 16
            parts.append(f'<path d="M{x:.1f} {y + 19:.1f}l6-20m5 0l-6 20" class="cut"/>')
        parts.append(svg.line(mark, y - 2, mark, y + 20, "fair"))
        parts.append(svg.text(left + max(length, mark - left) + 7, y + 14, f"{paid:.1f}", "value"))
    described = ", ".join(
        f"seller {s} {p:.1f} (honest {f:.1f})"
        for s, p, f in zip(sellers, row["at_price"], honest, strict=True)
    )
    title = f"Pay of each seller: {row['title']}"
    return svg.picture(left + room + 50, step * len(sellers) + 2, name, title, described, parts)
