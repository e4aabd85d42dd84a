"""Tables of the site's page on performance, made from ``bench/results`` when the site is built.

A page asks for one by a line ``<!-- table: name -->``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["TABLES", "put_tables"]

RESULTS = Path(__file__).parent / "results"
MARK = re.compile(r"^<!-- table: (\w+) -->$", re.MULTILINE)

Rows = Iterable[Sequence[object]]


def put_tables(markdown: str) -> str:
    """Put the tables of a page in place of their marks."""
    return MARK.sub(lambda mark: TABLES[mark[1]](), markdown)


def read(name: str) -> dict[str, Any]:
    """Results of a file, and where they were measured, under ``environment``."""
    return dict(json.loads((RESULTS / f"{name}.json").read_text()))


def table(header: Sequence[str], rows: Rows, measured: Mapping[str, Any]) -> str:
    """A Markdown table; a line below says what it was measured on."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    text = "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
    text = re.sub(r"(?<=\d) (?=(?:×|ms|s|MB) )", "\u00a0", text)  # no line break before a unit
    versions = measured["versions"]
    return (
        f"{text}\n\n*{measured['device']}, {measured['n_threads']} of {measured['n_cores']} cores, "
        f"numpy {versions['numpy']}, torch {versions['torch']}; commit `{measured['commit'][:7]}`.*\n"
    )


def figure(value: float | None) -> str:
    """Three digits, thousands set apart; a dash where nothing was timed."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def kernels() -> str:
    """Each kernel beside the fastest other library that was measured."""
    data = read("kernels_1_threads")
    rows = []
    for name, peers in data["results"]["peers"].items():
        others = {peer: m for peer, m in peers.items() if not peer.startswith("pyattr")}
        if not others:
            continue
        best = min(others, key=lambda peer: others[peer]["median_s"])
        own = peers["pyattr"]["median_s"]
        ratio = others[best]["median_s"] / own
        rows.append((name, f"{figure(1e3 * own)} ms", best, f"{figure(ratio)} ×"))
    return table(("kernel", "pyattr", "fastest other", "its time"), rows, data["environment"])


def scaling() -> str:
    """How much faster the kernels are on every core, and what the machine allows."""
    data = read("kernels_scaling")
    columns = ("speedup", "speedup_again", "side_by_side")
    rows = [
        (name, *(f"{cell[column]:.2f} ×" if column in cell else "–" for column in columns))
        for name, cell in data["results"].items()
    ]
    header = ("kernel", "on two threads", "called again", "two runs side by side")
    return table(header, rows, data["environment"])


def retraining() -> str:
    """Models a second beside a plain loop of torch."""
    data = read("retraining")
    rows = []
    for name, cell in data["results"].items():
        if "speed_up" not in cell:  # of the framework and the bank
            continue
        rates = cell["models_per_s"]
        plain = max(rate for peer, rate in rates.items() if peer.startswith("plain"))
        own = max(rate for peer, rate in rates.items() if peer.startswith("pyattr"))
        rows.append((name, figure(own), figure(plain), f"{figure(own / plain)} ×"))
    return table(("models", "pyattr, a second", "plain loop", "faster"), rows, data["environment"])


def estimators() -> str:
    """Held-out error by number of models."""
    data = read("estimators")
    rows = []
    for bank, cell in data["results"]["bank"].items():
        for count, methods in cell["models"].items():
            errors = [methods[m]["held-out error over Var f"] for m in ("bayes", "lasso", "ridge")]
            rows.append((bank, f"{int(count):,}", *(f"{error:.3f}" for error in errors)))
    return table(("bank", "models", "bayes", "lasso", "ridge"), rows, data["environment"])


def regression() -> str:
    """Time of a fit beside scikit-learn."""
    data = read("regression")
    rows = [
        (
            size,
            *(f"{figure(cell['ms a target'][name])} ms" for name in ("bayes", "lasso", "LassoCV")),
        )
        for size, cell in data["results"]["selection"].items()
    ]
    return table(
        ("models × examples", "bayes", "lasso", "LassoCV of scikit-learn"),
        rows,
        data["environment"],
    )


def outcomes(cell: Mapping[str, int]) -> str:
    """Accepted, aborted and inconclusive sessions, in one piece."""
    return "\u00a0/\u00a0".join(str(cell[name]) for name in ("ACCEPT", "ABORT", "INCONCLUSIVE"))


def verification() -> str:
    """Honest and halved scores: outcomes and trainings."""
    data = read("verification")
    rows = []
    for name, cell in data["results"].items():
        if {"honest", "halved"} <= set(cell) and "sessions" in cell:
            honest, halved = cell["honest"], cell["halved"]
            trained = f"{honest['trainings_median']:.0f} ({honest['trainings_max']})"
            paper = cell.get("paper", {}).get("trainings_planned_by_its_bounds")
            rows.append(
                (
                    name,
                    outcomes(honest["outcomes"]),
                    trained,
                    outcomes(halved["outcomes"]),
                    f"{paper:.1e}" if paper else "",
                )
            )
    header = ("models", "honest", "its trainings, median (most)", "halved", "planned by the paper")
    return table(header, rows, data["environment"])


def detection() -> str:
    """Every lie before every method: sessions that accept, abort, decide nothing."""
    data = read("verification")
    cells = data["results"]["detection, local"]
    methods = ("naive", "paper", "gap")
    lies = dict.fromkeys(name.partition(": ")[2] for name in cells)
    rows = [
        (lie, *(outcomes(cells[f"{method}: {lie}"]["outcomes"]) for method in methods))
        for lie in lies
        if all(f"{method}: {lie}" in cells for method in methods)
    ]
    return table(
        ("scores", "error below a threshold", "paper, 96 trainings", "gap"),
        rows,
        data["environment"],
    )


def jobs() -> str:
    """From a job file to verdicts."""
    data = read("attribute")
    rows = [
        (
            name,
            f"{cell['models']:,}",
            figure(cell.get("models_per_s_with_kill_and_fit")),
            *(f"{v['outcome']} after {v['trainings']:,}" for v in cell["verdicts"].values()),
        )
        for name, cell in data["results"].items()
    ]
    return table(
        ("model on Fashion-MNIST", "models", "a second", "honest", "halved"),
        rows,
        data["environment"],
    )


def session() -> str:
    """What a session costs beyond its trainings."""
    data = read("session")
    rows = [
        (
            name,
            f"{cell['prover']['cpu_s']:.2f} s",
            f"{cell['verifier']['cpu_s']:.2f} s",
            f"{cell['bytes']['total'] / 1e6:.2f} MB",
        )
        for name, cell in data["results"].items()
        if "verifier" in cell
    ]
    return table(("session", "prover", "verifier", "sent"), rows, data["environment"])


def platforms() -> str:
    """How far outputs of two instruction sets lie apart."""
    data = read("platforms")
    rows = [
        (
            name,
            f"{cell['quantiles']['0.5']:.1e}",
            f"{cell['quantiles']['1.0']:.1e}",
            f"{cell['smallest_sd_over_masks']:.2g}",
        )
        for name, cell in data["results"].items()
        if "quantiles" in cell
    ]
    return table(
        ("model", "median difference", "largest", "spread of outputs"), rows, data["environment"]
    )


TABLES: dict[str, Callable[[], str]] = {
    made.__name__: made
    for made in (
        kernels, scaling, retraining, estimators, regression, verification, detection, jobs,
        session, platforms,
    )
}  # fmt: skip
