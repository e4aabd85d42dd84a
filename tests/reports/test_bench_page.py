"""The page of bench results compares what was compared, and leaves nothing out."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from pyattr import reports
from pyattr.reports.bench_results import read
from reports import folders
from reports.page import check_every_page

COMMITTED = Path(__file__).parents[2] / "bench" / "results"


@pytest.fixture(scope="module")
def page():
    return check_every_page(reports.render(folders.bench()))


def test_times_and_rates_are_compared():
    (file,) = read(folders.bench())
    found = {c.path: c for c in file.comparisons}
    assert set(found) == {"kernel a", "kernel b", "softmax", "path"}
    a = found["kernel a"]
    assert (a.unit, a.more_is_better) == ("seconds", False)
    assert [a.ahead(peer) for peer in a.values] == [1.0, 10.0, 0.5]
    assert a.fastest_other == "bound"
    assert a.spread["slow"] == (0.01, 0.03)
    rates = found["softmax"]  # its times say the same again
    assert (rates.unit, rates.ahead("plain loop")) == ("models per s", 9.0)
    assert found["path"].ahead("other") == 2.5


def test_the_rest_is_in_tables_and_figures():
    (file,) = read(folders.bench())
    (table,) = file.tables
    assert table.path == "cells"
    assert table.header == ["", "rate", "interval", "outcomes ACCEPT"]
    assert table.rows == [["one", 0.95, [0.9, 1.0], 3], ["two", 0.5, [0.4, 0.6], 1]]
    assert dict(file.figures) == {
        "repeats": 1000,
        "unknown": None,
        "many": ["100 values", "least", 0, "largest", 99],
    }


def test_the_page_says_who_was_faster(page):
    assert page.text("h1") == "The first named was the fastest in 3 of 4 comparisons."
    rows = page.csv("comparisons.csv")
    assert len(rows) == 3 + 2 + 2 + 2
    slow = next(row for row in rows if row["peer"] == "slow")
    assert (slow["what"], slow["value"], slow["first_over_it"]) == ("kernel a", "0.02", "10")
    assert page.json("kernels.json") == folders.BENCH
    assert "0123456789+" in page.words
    assert "uncommitted changes" in page.words
    assert "other" not in page.files()


def test_few_records_of_many_figures_are_columns(tmp_path):
    record = copy.deepcopy(folders.BENCH)
    figures = {f"figure {n}": n for n in range(20)}
    record["results"] = {"small": figures, "large": figures}
    (tmp_path / "x.json").write_text(json.dumps(record))
    (file,) = read(tmp_path)
    (table,) = file.tables
    assert table.header == ["", "small", "large"]
    assert table.rows[3] == ["figure 3", 3, 3]


@pytest.mark.parametrize("results", [[1, 2], 3, {}, {"a": {}}, {"a": [{"b": 1}, {"b": 2}]}, "x"])
def test_results_of_any_shape(results, tmp_path):
    record = folders.BENCH | {"results": results}
    (tmp_path / "x.json").write_text(json.dumps(record))
    check_every_page(reports.render(tmp_path))


def test_what_is_nested_too_deeply_is_refused(tmp_path):
    nested: object = {"a": 1}
    for _ in range(50):
        nested = {"b": nested}
    (tmp_path / "x.json").write_text(json.dumps(folders.BENCH | {"results": nested}))
    with pytest.raises(ValueError, match=r"x\.json: expected at most 12 levels"):
        reports.render(tmp_path)


def test_the_committed_results_have_a_page():
    page = check_every_page(reports.render(COMMITTED))
    regression = json.loads((COMMITTED / "regression.json").read_text())["results"]["ridge"]
    rows = [
        r for r in page.csv("comparisons.csv") if (r["file"], r["what"]) == ("regression", "ridge")
    ]
    ratio = next(float(r["first_over_it"]) for r in rows if r["peer"] == "RidgeCV")
    assert ratio == pytest.approx(regression["RidgeCV"]["ratio"], rel=1e-6)
    files = {f"{path.stem}.json" for path in COMMITTED.glob("*.json")}
    assert files <= set(page.files())
    assert page.text("h1").startswith("The first named was the fastest in ")
