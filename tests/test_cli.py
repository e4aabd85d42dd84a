"""The command line: what it prints, where, and how it ends."""

from __future__ import annotations

import _thread
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hidden_module import command_without

import pyattr
from pyattr import demo
from pyattr.cli import main

SMALL = ["--n-train", "40", "--n-test", "4"]


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["demo", *arguments], env={"COLUMNS": "80"})


def python(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_version() -> None:
    assert CliRunner().invoke(main, ["--version"]).output == f"pyattr {pyattr.__version__}\n"


def test_importing_pyattr_loads_nothing_heavy() -> None:
    heavy = ["torch", "sklearn", "matplotlib", "ray", "ffcv", "jinja2", "PIL"]
    code = (
        "import sys, pyattr; "
        f"from_pyattr = [m for m in {heavy} if m in sys.modules]; "
        "from pyattr.cli import main; main(['demo', '-h'], standalone_mode=False); "
        f"print(from_pyattr, [m for m in {heavy} if m in sys.modules])"
    )
    assert python(code).stdout.splitlines()[-1] == "[] []"


@pytest.mark.parametrize(
    ("module", "name"), [("torch", "torch"), ("sklearn", "scikit-learn"), ("PIL", "pillow")]
)
def test_missing_package_is_one_sentence(module: str, name: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = python(command_without(module, ["demo", "--out", str(out)]))
    assert ended.returncode == 3
    assert ended.stdout == ""
    assert (
        ended.stderr
        == f"Error: The demo needs {name}: pip install '.[demo]' in pyattr's source tree.\n"
    )
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--n-train", "5000"], "Error: --n-train: expected at most 1797, got 5000\n"),
        (["--n-train", "3"], "Error: --n-train: expected a whole number of at least 20, got 3\n"),
        (["--n-test", "0"], "Error: --n-test: expected a whole number of at least 1, got 0\n"),
        (["--seed", "-1"], "Error: --seed: expected a whole number of at least 0, got -1\n"),
        (["--path", "x"], "Error: --path: expected none for digits, which comes with scikit-learn, got x\n"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_one_sentence(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    result = call(*arguments, "--out", str(tmp_path / "out"))
    assert result.exit_code == 3
    assert result.stderr == message
    assert result.stdout == ""
    assert not (tmp_path / "out").exists()


def test_out_that_is_a_file_is_refused_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "precious.txt"
    file.write_text("precious")
    result = call("--out", str(file))
    assert result.exit_code == 3
    assert result.stderr == f"Error: --out: expected a folder, got the file {file}\n"
    assert file.read_text() == "precious"


def test_run_prints_one_table_and_writes_two_files(tmp_path: Path) -> None:
    result = call(*SMALL, "--out", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    assert result.stderr == ""  # no bars where there is no terminal
    assert "\x1b" not in result.stdout
    assert max(map(len, result.stdout.splitlines()[:-1])) <= 80
    assert result.stdout.count("models\n") == 1
    for words in ("honest", "halves all scores", "in a session:", "INCONCL. = INCONCLUSIVE"):
        assert words in result.stdout
    written = json.loads((tmp_path / "out" / "results.json").read_text())
    assert written["schema"] == demo.SCHEMA
    assert written["config"]["n_train"] == 40
    assert (tmp_path / "out" / "report.html").read_text().startswith("<!doctype html>")


def test_terminal_without_greek_letters(tmp_path: Path) -> None:
    arguments = ["demo", "--n-train", "20", "--n-test", "2", "--out", str(tmp_path)]
    result = CliRunner(charset="ascii").invoke(main, arguments)
    assert result.exit_code == 0, result.exception
    assert "Limits at ? = 0.05" in " ".join(result.stdout.split())


def test_interrupt_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    demo.run(demo.DemoConfig(n_train=20, n_test=2, models_per_example=2, n_held_out=2))  # warm
    alarm = threading.Timer(1.5, _thread.interrupt_main)
    alarm.start()
    try:
        result = call("--n-train", "1500", "--out", str(tmp_path / "out"))
    finally:
        alarm.cancel()
    assert result.exit_code == 130
    assert result.stderr == "Interrupted; no file was left half-written.\n"
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_interrupt_keeps_earlier_results(tmp_path: Path) -> None:
    earlier: dict[str, Any] = {"results.json": b"{}", "report.html": b"<p>"}
    for name, content in earlier.items():
        (tmp_path / name).write_bytes(content)
    alarm = threading.Timer(1.0, _thread.interrupt_main)
    alarm.start()
    try:
        result = call("--n-train", "1500", "--out", str(tmp_path))
    finally:
        alarm.cancel()
    assert result.exit_code == 130
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == earlier


def plan(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["plan", *arguments], env={"COLUMNS": "80"})


def test_plan_prints_one_table_of_four_methods() -> None:
    result = plan("--n-train", "1000", "--n-targets", "32", "--prover-price", "0.1")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("gap interactive: ")
    for name in ("paper non-interactive", "paper interactive", "gap local", "gap interactive"):
        assert sum(line.startswith(f"{name} ") for line in lines) == 1


def test_plan_prints_json() -> None:
    result = plan("--n-train", "1000", "--json", "--prize", "0.001")
    record = json.loads(result.stdout)
    assert record["schema"] == "pyattr-plan/1"
    assert record["recommended"] is None
    assert "the prize is 0.00" in record["reason"]
    assert [method["name"] for method in record["methods"]][2:] == ["gap local", "gap interactive"]
    assert record["methods"][2]["verifier_trainings"] < 60


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--r2", "1.2"], "--r2: expected a share of Var f in (0, 1], got 1.2"),
        (["--p", "0"], "--p: expected a probability strictly between 0 and 1, got 0.0"),
        (["--epsilon", "1"], "--epsilon: expected a share of Var f below 1, got 1.0"),
        (["--n-targets", "0"], "--n-targets: expected a whole number of at least 1, got 0"),
        (["--prize", "-1"], "--prize: expected a finite amount of at least 0, got -1.0"),
        (["--seed-share", "0.5"], "--r2: expected at most 1 with seed_share and odd_weight"),
        (["--verifier-seconds", "0"], "--verifier-seconds: expected a finite number above 0"),
        (["--pilot", __file__], "--pilot: expected an npz file with arrays masks (n, n_train)"),
        (["--pilot", "/nowhere.npz"], "/nowhere.npz: no such file or directory"),
    ],
)
def test_wrong_terms_of_a_plan_are_one_sentence(arguments: list[str], message: str) -> None:
    result = plan("--n-train", "100", *arguments)
    assert result.exit_code == 3
    assert result.stderr.startswith(f"Error: {message}")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""
    assert plan().exit_code == 3  # --n-train has no default


def test_plan_from_recorded_outputs(tmp_path: Path) -> None:
    masks = pyattr.sample_masks(300, 20, seed=1)
    bits = masks.unpack()
    noise = np.random.default_rng(2).standard_normal(300)
    np.savez(tmp_path / "bank.npz", masks=bits, outputs=(bits.sum(axis=1) + noise).astype("f4"))
    record = json.loads(
        plan("--n-train", "20", "--pilot", str(tmp_path / "bank.npz"), "--json").stdout
    )
    # Linear variance 5 of 6; measured on 60 held-out outputs: 0.83 ± 0.05 or so.
    assert 0.65 < record["r2"] < 0.93
    other = plan("--n-train", "21", "--pilot", str(tmp_path / "bank.npz"))
    assert other.stderr == "Error: --pilot: expected masks of 21 examples, got 20\n"
