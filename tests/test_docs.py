"""README and documentation are true: every snippet runs, or says in the page why it does not.

Each page is gone through in an empty folder of its own. A comment right before a block changes what is
done with it: ``<!-- not run: reason -->``; ``<!-- file: name -->`` saves it; ``<!-- run -->`` runs commands
that are not cheap. Command lines of pyattr are parsed in any case, also in sentences. A ``text`` block after
a program or a command is what it prints, with ``...`` for anything. New pages are found by themselves.
"""

from __future__ import annotations

import contextlib
import functools
import re
import shlex
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import click
import nbformat
import pytest
import torch
from click.testing import CliRunner
from nbclient import NotebookClient
from site_tables import TABLES, put_tables
from snippets import (
    ROOT,
    Block,
    blocks,
    check_command,
    check_output,
    commands,
    inline_commands,
    pages,
    run,
)

import pyattr
from pyattr import interchange
from pyattr.attribution import held_out_r2
from pyattr.cli import main
from pyattr.jobs import attribute, load_job
from pyattr.retraining.executors import Executor

DOCS = ROOT / "docs"

# text and json: what something prints or holds; {toctree}: the order of the site's pages
LANGUAGES = {"python", "sh", "toml", "text", "json", "{toctree}"}

# Commands that are run as printed, everywhere; the others are parsed.
CHEAP = {"plan", "keygen"}


def jobs_page(folder: Path) -> None:
    """The page goes on from a job that was run."""
    (folder / "job.toml").write_text(
        '[data]\nname = "digits"\nn_train = 60\nn_targets = 2\n[recipe]\nkind = "softmax"\n'
        "[models]\ncount = 600\nheld_out = 64\n"
    )
    attribute(load_job(folder / "job.toml"), Executor(n_workers=1))


PREPARED: dict[str, Callable[[Path], None]] = {"docs/jobs.md": jobs_page}


@functools.cache
def run_page(page: str) -> dict[str, object]:
    """Go through a page as its reader would, in an empty folder, and return the names of its programs.

    Files are saved, programs run, and commands where they are cheap. Challenges are the same in every run.
    """
    names: dict[str, object] = {"__name__": "docs"}
    n_threads = torch.get_num_threads()  # which a page may change
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        mock.patch("secrets.randbits", return_value=1),
        mock.patch.object(sys, "path", [folder, *sys.path]),
    ):
        PREPARED.get(page, lambda folder: None)(Path(folder))
        for block in blocks(page):
            if block.file is not None:
                Path(block.file).write_text(block.code)
            elif block.reason is None and block.language == "python":
                run(block, names)
            elif block.reason is None and block.language == "sh":
                check_output(block, "".join(printed(words[1:]) for words in to_run(block)))
    for block in blocks(page):  # modules of this page are not those of the next
        sys.modules.pop(Path(block.file or "").stem, None)
    torch.set_num_threads(n_threads)
    return names


def to_run(block: Block) -> list[list[str]]:
    """Commands of a block, which must be cheap or asked for."""
    lines = list(commands(block))
    allowed = {f"pyattr {name}" for name in CHEAP}
    for words in lines:
        known = words[0] == "pyattr" if block.run else " ".join(words[:2]) in allowed
        assert known, f"{block}: {words} is not run; say why in the page"
    return lines


def of_language(page: str, language: str) -> list[Block]:
    return [block for block in blocks(page) if block.language == language]


def having(language: str) -> list[str]:
    return [page for page in pages() if of_language(page, language)]


# The program of the README is run, and held against more, by tests/test_readme.py.
@pytest.mark.parametrize("page", [page for page in pages() if page != "README.md"])
def test_programs_and_commands_run_and_print_what_the_page_says(page):
    run_page(page)


@pytest.mark.parametrize("page", having("toml"))
def test_job_files_are_accepted(page, tmp_path):
    for block in of_language(page, "toml"):
        if block.reason is None:
            (tmp_path / "snippet.toml").write_text(block.code)
            load_job(tmp_path / "snippet.toml")


@pytest.mark.parametrize("page", having("sh"))
def test_commands_exist(page):
    for block in of_language(page, "sh"):
        for words in commands(block):
            if words[0] == "pyattr":
                check_command(words[1:])
        if block.reason is None:
            to_run(block)


def printed(words: list[str]) -> str:
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("page", pages())
def test_every_block_is_of_a_kind_that_is_tested(page):
    for block in blocks(page):
        tested = block.language in LANGUAGES or block.reason is not None
        assert tested, f"{block}: expected one of {LANGUAGES}, or why it is not run"
        assert block.reason is None or len(block.reason.split()) > 2, f"{block}: a reason, please"


@pytest.mark.parametrize("page", [page for page in pages() if inline_commands(page)])
def test_commands_in_sentences_exist(page):
    for line in inline_commands(page):
        check_command(shlex.split(line)[1:], values=False)


@pytest.mark.parametrize("page", pages())
def test_links_between_pages_lead_somewhere(page):
    folder = (ROOT / page).parent
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", (ROOT / page).read_text()):
        assert "://" in target or (folder / target).exists(), f"{page}: {target}"


def test_a_page_may_hold_files_and_commands_that_are_asked_for(tmp_path, monkeypatch):
    page = (
        "<!-- file: effects.py -->\n```python\nSIZE = 40\n```\n\n"
        "```python\nfrom effects import SIZE\nprint(SIZE)\n```\n\n```text\n40\n```\n\n"
        "<!-- run -->\n```sh\npyattr demo --help\n```\n\n```text\nUsage: ...\n```\n"
    )
    (tmp_path / "page.md").write_text(page)
    monkeypatch.setattr("snippets.ROOT", tmp_path)
    assert run_page("page.md")["SIZE"] == 40
    assert "effects" not in sys.modules


class TestTheChecksCanFail:
    """Each of the checks above refuses the wrong thing."""

    def test_output_that_differs(self):
        with pytest.raises(AssertionError, match="it printed"):
            run(Block("page", 1, "python", "print('ABORT')", "ACCEPT\n"), {})

    @pytest.mark.parametrize(
        "line",
        ["pyattr plan --n-trian 5", "pyattr pln", "pyattr plan --n-train five", "pyattr plan 5"],
    )
    def test_command_lines(self, line):
        (words,) = commands(Block("page", 1, "sh", line))
        with pytest.raises(click.UsageError):
            check_command(words[1:])

    def test_commands_in_sentences(self):
        with pytest.raises(click.UsageError):
            check_command(["plan", "--n-trian", "N"], values=False)

    def test_commands_that_are_not_run(self):
        with pytest.raises(AssertionError, match="say why"):
            to_run(Block("page", 1, "sh", "pyattr demo"))
        with pytest.raises(AssertionError, match="say why"):
            to_run(Block("page", 1, "sh", "pyattr demo; ls", run=True))

    def test_reasons_and_lines_are_found(self, tmp_path, monkeypatch):
        text = "a\n\n<!-- not run: takes a day -->\n```sh\npyattr demo; echo $?\n```\n"
        (tmp_path / "page.md").write_text(text)
        monkeypatch.setattr("snippets.ROOT", tmp_path)
        (block,) = blocks("page.md")
        assert (block.reason, block.line, block.file, block.run) == ("takes a day", 5, None, False)
        assert list(commands(block)) == [["pyattr", "demo"], ["echo", "$?"]]


def test_the_notebook_runs():
    notebook = nbformat.read(DOCS / "quickstart.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "outputs stay out of git"
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(ROOT)}}).execute()
    shown = str([cell.outputs for cell in notebook.cells if cell.cell_type == "code"])
    assert shown.index("Verdict(ACCEPT") < shown.index("Verdict(ABORT")


def test_the_site_has_every_page_once_and_every_table_is_made():
    order = "".join(block.code for block in of_language("docs/index.md", "{toctree}"))
    listed = re.findall(r"^(?:.*<)?([\w/]+)>?$", order, flags=re.MULTILINE)
    files = [*DOCS.rglob("*.md"), *DOCS.rglob("*.rst")]
    written = [str(file.relative_to(DOCS).with_suffix("")) for file in files]
    assert sorted(name.replace("self", "index") for name in listed) == sorted(written)
    made = put_tables((DOCS / "performance.md").read_text())
    assert "<!-- table" not in made
    assert all(
        f"<!-- table: {name} -->" in (DOCS / "performance.md").read_text() for name in TABLES
    )
    assert made.count("| --- |") == len(TABLES)
    with pytest.raises(KeyError):
        put_tables("<!-- table: nothing -->")


def test_components_are_attributed_and_verified_at_several_p():
    names = run_page("docs/component_attribution.md")
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
    tests = ROOT
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


def test_every_function_of_interchange_is_in_its_page():
    documented = (DOCS / "interchange.md").read_text()
    functions = {name for name in interchange.__all__ if name.islower()}
    assert all(f"`{name}" in documented or f"*{name}(" in documented for name in functions)
