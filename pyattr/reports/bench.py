"""The page of bench results: who was faster, by how much, on what."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from pyattr.reports import svg
from pyattr.reports.bench_results import Comparison, File, read
from pyattr.reports.charts import Bar, Ratio, bars, ratios
from pyattr.reports.downloads import csv_file, json_file
from pyattr.reports.page import fill
from pyattr.reports.words import digits, seconds

__all__ = ["render"]

_SHOWN_ROWS: Final = 30
_SHOWN_FIGURES: Final = 60
_OPEN_ROWS: Final = 12  # of a table, or a list of figures, that need not be opened first


def render(folder: Path) -> str:
    """Make the page.

    Parameters
    ----------
    folder : Path
        With files that ``bench/harness.py`` wrote; other files are passed over.

    Returns
    -------
    str
        A whole HTML document.

    Raises
    ------
    ValueError, OSError
        If there is none, or one cannot be read.
    """
    files = sorted(read(folder), key=lambda file: not file.comparisons)  # those with some first
    every = [(file, comparison) for file in files for comparison in file.comparisons]
    ahead = [c for _, c in every if c.ahead(c.fastest_other) >= 1.0]
    return fill(
        "bench.html",
        headline=_headline(len(every), len(ahead)),
        n_files=len(files),
        n_compared=len(every),
        commits=sorted({_commit(file) for file in files}),
        files=[_section(file, f"file-{number}") for number, file in enumerate(files)],
        open_rows=_OPEN_ROWS,
        downloads=[
            csv_file("comparisons.csv", "a row for each peer", _HEADER, _rows(every)),
            *(json_file(f"{f.name}.json", "the whole file", f.record) for f in files),
        ],
    )


def _headline(n_compared: int, n_ahead: int) -> str:
    if not n_compared:
        return "Bench results without comparisons"
    if n_ahead == n_compared:
        return f"The first named was the fastest in all {n_compared} comparisons"
    return f"The first named was the fastest in {n_ahead} of {n_compared} comparisons"


def _commit(file: File) -> str:
    """Commit that a file was measured at, short, with a mark if more was changed."""
    commit = str(file.environment.get("commit") or "unknown")[:10]
    return commit + ("+" if file.environment.get("uncommitted_changes") else "")


def _section(file: File, name: str) -> dict[str, Any]:
    """What the template shows of a file."""
    compared = [
        Ratio(c.path or file.name, c.fastest_other, c.ahead(c.fastest_other))
        for c in file.comparisons
    ]
    title = f"{file.name}: speed of the first named over the fastest of its peers"
    chart = None
    if len(compared) > 1:
        chart = svg.both(lambda width, at: ratios(compared, width, at, title), f"{name}-ratios")
    return {
        "id": name,
        "name": file.name,
        "commit": _commit(file),
        "place": _place(file.environment),
        "ratios": chart,
        "comparisons": [
            (c.path or file.name, _bars(c, f"{name}-{number}"), _table(c))
            for number, c in enumerate(file.comparisons)
        ],
        "tables": [
            (t.path, t.header, t.rows[:_SHOWN_ROWS], max(0, len(t.rows) - _SHOWN_ROWS))
            for t in file.tables
        ],
        "figures": file.figures[:_SHOWN_FIGURES],
        "n_more_figures": max(0, len(file.figures) - _SHOWN_FIGURES),
    }


def _place(environment: dict[str, Any]) -> list[tuple[str, Any]]:
    """What was measured on what."""
    names = ("commit", "uncommitted_changes", "device", "n_cores", "n_threads", "platform")
    found = [(name, environment[name]) for name in names if environment.get(name) is not None]
    versions = environment.get("versions")
    if isinstance(versions, dict):
        found += [(str(name), number) for name, number in versions.items() if number is not None]
    return found


def _written(comparison: Comparison, value: float) -> str:
    if comparison.unit == "seconds":
        return seconds(value)
    short = re.sub(r"^ms .*", "ms", comparison.unit)
    return f"{digits(value)} {short if short == 'ms' else '/s'}"


def _said(comparison: Comparison, peer: str) -> str:
    """A value, and how many times the first is ahead of it."""
    value = _written(comparison, comparison.values[peer])
    first = next(iter(comparison.values))
    return value if peer == first else f"{value} · {digits(comparison.ahead(peer))}×"


def _bars(comparison: Comparison, name: str) -> Any:
    first = next(iter(comparison.values))
    rows = [
        Bar(peer, value, "ours" if peer == first else "peer", _said(comparison, peer))
        for peer, value in comparison.values.items()
    ]
    kind = "more is better" if comparison.more_is_better else "less is better"
    title = f"{comparison.path}: {comparison.unit}, {kind}"
    return bars(rows, svg.NARROW, name, title)


def _table(comparison: Comparison) -> tuple[str, list[str], list[list[str]]]:
    """Caption, header and rows."""
    kind = "more is better" if comparison.more_is_better else "less is better"
    header = ["peer", comparison.unit, *(["least", "largest"] if comparison.spread else [])]
    header.append("first over it")
    rows = []
    for peer, value in comparison.values.items():
        ends = [_written(comparison, end) for end in comparison.spread.get(peer, ())]
        ends += [""] * (len(header) - 3 - len(ends))
        ahead = f"{digits(comparison.ahead(peer))}×"
        rows.append([peer, _written(comparison, value), *ends, ahead])
    return f"{comparison.unit}, {kind}", header, rows


_HEADER: Final = ("file", "what", "peer", "unit", "value", "least", "largest", "first_over_it")


def _rows(every: Sequence[tuple[File, Comparison]]) -> Iterator[list[object]]:
    """Rows of ``comparisons.csv``."""
    for file, comparison in every:
        for peer, value in comparison.values.items():
            ends = comparison.spread.get(peer, (None, None))
            figures = [comparison.unit, value, *ends, comparison.ahead(peer)]
            yield [file.name, comparison.path, peer, *figures]
