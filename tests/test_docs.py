"""The programs in docs/ do what is said beside them."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import sys
from pathlib import Path

from click.testing import CliRunner

import pyattr
from pyattr import interchange
from pyattr.attribution import held_out_r2
from pyattr.cli import main

DOCS = Path(__file__).parents[1] / "docs"


def run_program(name: str) -> tuple[dict[str, object], list[str]]:
    text = (DOCS / name).read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    names: dict[str, object] = {"__name__": "docs"}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, name, "exec"), names)
    return names, printed.getvalue().splitlines()


def test_components_are_attributed_and_verified_at_several_p():
    names, printed = run_program("component_attribution.md")
    assert printed == ["ACCEPT", "ABORT"]
    forward, attribute = names["forward"], names["attribute"]
    passes = {}
    for p in (0.5, 0.9):
        published = attribute(p)
        fresh = pyattr.sample_masks(2000, 64, p=p, seed=2)
        assert held_out_r2(published, fresh, forward(fresh, None)).min() > 0.7
        verdict = pyattr.verify(forward, published, p=p, epsilon=0.1, seed=0)
        assert verdict.outcome is pyattr.Outcome.ACCEPT
        passes[p] = verdict.n_retrained
    assert passes[0.5] < 300
    assert passes[0.9] < 100_000
    # The wrong answer fails: scores of units of another order, with the right spread.
    shuffled = pyattr.Attribution(scores=published.scores[::-1], intercept=published.intercept)
    wrong = pyattr.verify(forward, shuffled, p=0.9, epsilon=0.1, seed=0, budget=60_000)
    assert wrong.outcome is not pyattr.Outcome.ACCEPT


def test_every_threat_that_has_a_defence_names_tests_that_exist():
    tests = Path(__file__).parent.parent
    _, page = (DOCS / "sessions.md").read_text().split("## What each side could try")
    rows = re.findall(r"^\| (\d+) \|.*\|([^|]*)\|$", page, flags=re.MULTILINE)
    threats = [(int(number), named) for number, named in rows]
    assert [number for number, _ in threats] == list(range(1, 29))
    for number, named in threats:
        references = re.findall(r"`(tests/[^`]+)`", named)
        assert bool(references) == (number < 27)
        for reference in references:
            file, _, function = reference.partition("::")
            source = (tests / file).read_text()
            assert "def test_" in source
            assert not function or f"def {function}(" in source, reference


def test_sellers_are_paid_and_chosen_by_program_and_by_commands(tmp_path, monkeypatch):
    page = (DOCS / "pricing.md").read_text()
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE)
    assert [language for language, _ in blocks] == ["python", "python", "text", "toml", "sh"]
    module, program, expected, job, commands = (text for _, text in blocks)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "sellers.py").write_text(module)
    (tmp_path / "job.toml").write_text(job)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(program, "pricing.md", "exec"), {"__name__": "docs"})
    assert printed.getvalue() == expected
    monkeypatch.setattr("secrets.randbits", lambda bits: 3)  # the same verifier in every run
    for line in commands.splitlines():
        name, *words = line.split()
        result = CliRunner().invoke(main, words)
        assert (name, result.exit_code) == ("pyattr", 0), result.output
    assert len((tmp_path / "pay.csv").read_text().splitlines()) == 25
    assert "measured (8 models, 64 random)" in result.output
    monkeypatch.delitem(sys.modules, "sellers")


def test_a_store_of_datamodels_is_read_fitted_and_verified():
    names, printed = run_program("interchange.md")
    (expected,) = re.findall(
        r"^```text\n(.*?)^```$",
        (DOCS / "interchange.md").read_text(),
        flags=re.DOTALL | re.MULTILINE,
    )
    assert printed == expected.splitlines()
    shutil.rmtree(names["folder"])
    documented = (DOCS / "interchange.md").read_text()
    functions = {name for name in interchange.__all__ if name.islower()}
    assert all(f"`{name}" in documented or f"*{name}(" in documented for name in functions)
