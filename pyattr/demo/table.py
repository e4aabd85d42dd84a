"""The demo's results as one table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pyattr.reports.words import CHECKS

__all__ = ["table"]

Record = Mapping[str, Any]

_WIDE: Final = 110  # columns from which on INCONCLUSIVE is written out
# Colours that are told apart without red and green; every cell says its meaning in words as well.
_STYLES: Final = {"ACCEPT": "bold blue", "ABORT": "bold yellow", "INCONCLUSIVE": "dim"}
_FOOLED: Final = "bold reverse yellow"


def table(results: Record, width: int) -> Group:
    """Make the table, with a sentence above and the meaning of its cells below.

    Parameters
    ----------
    results : mapping
        From `pyattr.demo.run`.
    width : int
        Columns of the terminal, 80 or more.

    Returns
    -------
    rich.console.Group
    """
    wide = width >= _WIDE
    grid = Table(
        box=SIMPLE_HEAD, padding=(0, 1 if wide else 0, 0, 0), pad_edge=False, show_edge=False
    )
    grid.add_column("prover")
    for method in ("naive", "paper", "gap"):
        grid.add_column(method, no_wrap=True)
    grid.add_column(Text("gap [limits]"), justify="right", no_wrap=True)
    grid.add_column("true gap" if wide else "true", justify="right", no_wrap=True)
    grid.add_column("prover / verifier" if wide else "models", justify="right", no_wrap=True)
    for case in results["cases"]:
        if case["key"] == "session_honest":
            grid.add_section()
            grid.add_row(Text("in a session:", style="dim"))
        grid.add_row(*_row(case, wide))
    headline = Text(results["findings"]["headline"] + ".", style="bold")
    below = Padding(Text(_legend(results, wide), style="dim"), (1, 0, 0, 0))
    return Group(headline, Text(), grid, below)


def _row(case: Record, wide: bool) -> list[Text | str]:
    """One prover."""
    gap, target = case["gap"], case["gap"]["decisive_target"]
    if target is None:
        check = gap["details"]["check"]
        interval = CHECKS[check] if wide else f"({check})"
    else:
        limits = [_gap(gap[key][target], wide) for key in ("gap", "gap_lower", "gap_upper")]
        interval = f"{limits[0]} [{limits[1]},{' ' if wide else ''}{limits[2]}]"
    harmless = " (harmless)" if case["truth"] == "harmless" else ""
    between = " / " if wide else "/"
    return [
        case["title"] + harmless,
        *(_verdict(case, method, wide) for method in ("naive", "paper", "gap")),
        Text(interval),
        _gap(case["true_gap_shown"], wide),
        f"{case['n_prover']:,}{between}{gap['n_retrained']:,}",
    ]


def _verdict(case: Record, method: str, wide: bool) -> Text:
    outcome = case[method]["outcome"]
    words = outcome if wide or outcome != "INCONCLUSIVE" else "INCONCL."
    if case["truth"] == "lie" and outcome == "ACCEPT":
        return Text("ACCEPT !", style=_FOOLED)
    return Text(words, style=_STYLES[outcome])


def _gap(value: float | None, wide: bool) -> str:
    if value is None:
        return "-"
    words = f"{value:.3f}" if value < 0.1 else f"{value:.2f}"
    return words if wide else words.removeprefix("0")


def _legend(results: Record, wide: bool) -> str:
    """What the cells mean."""
    honest, epsilon = results["cases"][0], results["config"]["epsilon"]
    n_targets, delta = results["config"]["n_test"], results["config"]["delta"]
    trouble = ""
    if honest["gap"]["outcome"] != "ACCEPT":
        trouble = f"The honest scores were not accepted: {honest['gap']['reason']}. "
    short = "" if wide else " INCONCL. = INCONCLUSIVE. (…) = the check that failed."
    return (
        f"{trouble}! = a lie was accepted.{short} Gap: how much worse the scores predict than the best "
        f"scores there are, as a share of the output's variance, at the test image that decided (of "
        f"{n_targets}). Limits at δ = {delta:g}; accepted if at most ε = {epsilon:g} everywhere. Naive: "
        f"error on {honest['naive']['n_retrained']} fresh models; in sessions, on the prover's own "
        f"answers. Paper: Karchmer et al. 2025 with {honest['paper']['n_retrained']} models; its plan "
        f"asks for {honest['paper']['details']['n_planned']:.1e}. True gap: measured by a referee "
        "who knows the lie. Models: trained by the prover, and by the verifier for the gap method."
    )
