"""What the README prints is true."""

from __future__ import annotations

import contextlib
import io
import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)


def test_the_example_accepts_the_honest_scores_and_aborts_the_halved(monkeypatch):
    monkeypatch.setattr("secrets.randbits", lambda bits: 1)  # the same challenge in every run
    code = "".join(blocks("python"))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    first, second, recorded = printed.getvalue().splitlines()
    assert first.split()[0] == "ACCEPT"
    assert int(first.split()[1]) <= 200
    assert second == "ABORT"
    assert recorded == "ACCEPT"


def test_commands_are_one_line_each_and_ci_finds_the_test_command():
    commands = blocks("sh")
    assert len(commands) == 3
    assert all(
        command.count("\n") == 1 and command.startswith("python3 -m venv") for command in commands
    )
    assert sum("-m pytest" in command for command in commands) == 1


def test_ci_and_the_message_of_a_missing_ffcv_name_the_line_that_the_readme_prints():
    (command,) = (command for command in blocks("sh") if "[ffcv]" in command)
    variable = 'PKG_CONFIG_PATH="$PWD/csrc/ffcv_build"'
    assert f"{variable} .venv/bin/pip install '.[ffcv]'" in command
    message = f"{variable} pip install '.[ffcv]'"
    assert message in (ROOT / "pyattr/retraining/ffcv_loader.py").read_text()
    ci = (ROOT / ".ci/run").read_text()
    assert f"{variable} $bin/pip install -q -e '.[dev,ffcv]'" in ci
    assert (ROOT / "csrc/ffcv_build/opencv4.pc").is_file()


def test_the_site_is_built_from_a_tree_that_has_the_compiled_module():
    for page in (README, (ROOT / "docs/install.md").read_text()):
        assert "pip install -e '.[docs]'" in page  # autodoc imports the tree, not what is installed


def test_what_it_says_was_measured_is_in_the_results_of_the_bench():
    measured = json.loads((ROOT / "bench/results/verification.json").read_text())["results"]
    cells = {name: cell for name, cell in measured.items() if {"honest", "halved"} <= set(cell)}
    cells = {name: cell for name, cell in cells.items() if "sessions" in cell}
    count = {
        (who, outcome): sum(cell[who]["outcomes"][outcome] for cell in cells.values())
        for who in ("honest", "halved")
        for outcome in ("ACCEPT", "ABORT")
    }
    medians = {
        kind: [
            cell["honest"]["trainings_median"]
            for name, cell in cells.items()
            if name.startswith(kind)
        ]
        for kind in ("softmax", "mlp")
    }
    softmax, mlp = medians.values()
    assert len(softmax) + len(mlp) == len(cells)
    expected = (
        f"of {sum(cell['sessions'] for cell in cells.values()):,} verifications of honest scores "
        f"{count['honest', 'ACCEPT']:,} ended in ACCEPT and {count['honest', 'ABORT']} in ABORT, "
        f"of as many of halved scores {count['halved', 'ACCEPT']} in ACCEPT and "
        f"{count['halved', 'ABORT']:,} in ABORT. They took {min(softmax):.0f} to {max(softmax):.0f} "
        f"retrainings of softmax regressions at the median, {min(mlp):.0f} to {max(mlp):.0f} of small"
    )
    assert expected in " ".join(README.split())


def test_importing_pyattr_loads_nothing_heavy():
    code = "import sys, pyattr; print([m for m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/"
    )
    loaded = set(done.stdout.replace("'", "").strip("[]\n").split(", "))
    assert "pyattr" in loaded
    assert not loaded & {"torch", "ffcv", "ray", "sklearn", "matplotlib", "click", "rich", "jinja2"}


def test_every_public_name_exists():
    import pyattr

    assert all(hasattr(pyattr, name) for name in pyattr.__all__)
