"""Type-complete: programs that use pyattr pass a strict type checker, and wrong ones do not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy")  # of the extra `dev`, with which CI runs this file

ROOT = Path(__file__).parents[1]
CONSUMER = ROOT / "tests" / "consumer" / "verify_own_model.py"


def checked(file, *options):
    """Run mypy as it is in a project that depends on pyattr: with no configuration of ours."""
    command = [
        sys.executable, "-m", "mypy", "--strict", "--config-file=", "--follow-imports=silent",
        f"--cache-dir={ROOT / '.mypy_cache' / 'consumer'}", "--no-error-summary", *options, str(file),
    ]  # fmt: skip
    done = subprocess.run(
        command,
        cwd=file.parent,
        env=os.environ | {"MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_a_consumer_passes_a_strict_checker_and_runs():
    assert checked(CONSUMER) == (0, "")
    done = subprocess.run(
        [sys.executable, str(CONSUMER)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "ACCEPT\n"


def test_each_wrong_line_of_it_is_an_error(tmp_path):
    text = CONSUMER.read_text()
    n_wrong = text.count("# type: ignore[")
    (tmp_path / "consumer.py").write_text(re.sub(r"  # type: ignore\[.*?\]", "", text))
    code, said = checked(tmp_path / "consumer.py")
    assert code == 1
    lines = set(re.findall(r"consumer\.py:(\d+): error", said))
    assert len(lines) == n_wrong == 7


def programs():
    """The programs of a page, one after the other as its reader runs them."""
    for page in ("README.md", "docs/commands.md"):
        blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.M | re.S)
        yield pytest.param("\n".join(blocks), id=page)


@pytest.mark.parametrize("code", list(programs()))
def test_snippets_pass_it_too(code, tmp_path):
    """Their own functions have no annotations, and scikit-learn has none at all."""
    (tmp_path / "snippet.py").write_text(code)
    options = ("--allow-untyped-defs", "--allow-untyped-calls", "--check-untyped-defs")
    code_, said = checked(tmp_path / "snippet.py", *options, "--ignore-missing-imports")
    assert (code_, said) == (0, "")
