"""Folders are recognised by what is in them; where pages go, and what is said when there is none."""

from __future__ import annotations

import json
import os

import pytest
from click.testing import CliRunner

from pyattr import reports
from pyattr.cli import main
from reports import folders


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_kinds():
    assert reports.kind_of(folders.attribution()) is reports.Kind.ATTRIBUTION
    assert reports.kind_of(folders.session()) is reports.Kind.SESSION
    assert reports.kind_of(folders.bench()) is reports.Kind.BENCH
    assert reports.kind_of(folders.demo()) is reports.Kind.DEMO


@pytest.mark.parametrize(
    "files",
    [{}, {"results.json": "[]"}, {"results.json": "{"}, {"quality.json": "{}"}, {"a.json": "{}"}],
)
def test_an_unknown_folder_is_told_what_was_looked_for(files, tmp_path):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    done = CliRunner().invoke(main, ["report", str(tmp_path)])
    assert done.exit_code == 3
    (line,) = done.stderr.splitlines()
    for name in ("0-invitation.dsse", "attribution.safetensors", "results.json", "harness.py"):
        assert name in line
    assert str(tmp_path) in line
    assert content(tmp_path) == {tmp_path / name: text.encode() for name, text in files.items()}


def test_what_is_no_folder(tmp_path):
    with pytest.raises(
        ValueError, match=r"^folder: expected a folder, got .*/x, which is not there$"
    ):
        reports.kind_of(tmp_path / "x")
    (tmp_path / "y").touch()
    with pytest.raises(ValueError, match=r"which is a file$"):
        reports.render(tmp_path / "y")


def test_the_page_goes_into_the_folder(tmp_path):
    (tmp_path / "kernels.json").write_text(json.dumps(folders.BENCH))
    done = CliRunner().invoke(main, ["report", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{tmp_path / 'report.html'}\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["kernels.json", "report.html"]
    assert (tmp_path / "report.html").read_text() == reports.render(tmp_path)


def test_a_session_stays_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = folders.session()
    before = content(folder)
    done = CliRunner().invoke(main, ["report", str(folder)])
    assert (done.exit_code, done.stdout) == (0, "report.html\n")
    assert "is evidence" in done.stderr
    assert content(folder) == before
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_out_names_the_file(tmp_path):
    out = tmp_path / "page.html"
    done = CliRunner().invoke(main, ["report", str(folders.bench()), "--out", str(out)])
    assert (done.exit_code, done.output) == (0, f"{out}\n")
    assert out.read_text().startswith("<!doctype html>")
    for wrong, words in ((tmp_path, "expected a file, got the folder"), (out / "x", "--out")):
        done = CliRunner().invoke(main, ["report", str(folders.bench()), "--out", str(wrong)])
        assert done.exit_code == 3
        assert words in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]


def test_a_failed_write_leaves_the_old_page(tmp_path, monkeypatch):
    out = tmp_path / "page.html"
    out.write_text("old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    done = CliRunner().invoke(main, ["report", str(folders.bench()), "--out", str(out)])
    assert done.exit_code == 3
    advice = "make room, and run the same command again"
    assert done.stderr == f"Error: {out}: no space left on device; {advice}\n"
    assert content(tmp_path) == {out: b"old"}


def test_a_demo_of_another_version_is_an_error(tmp_path):
    (tmp_path / "results.json").write_text('{"schema": "pyattr-demo/0", "cases": []}')
    with pytest.raises(
        ValueError, match=r"results\.json: expected what this version's demo writes"
    ):
        reports.render(tmp_path)


def test_the_page_of_a_folder_is_always_the_same():
    assert reports.render(folders.session()) == reports.render(folders.session())


def test_a_missing_package_is_named(monkeypatch):
    import sys

    for module in ("jinja2", "pyattr.reports.page", "pyattr.reports.bench"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    done = CliRunner().invoke(main, ["report", str(folders.bench())])
    assert done.exit_code == 3
    assert "pip install '.[report]'" in done.stderr
