"""`--json` of every command holds what docs/commands.md says, and nothing else is on standard output."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from command_records import SCHEMAS, check_record

import pyattr
from pyattr.cli import main
from pyattr.commands.terms import read_calibration
from pyattr.transport.directory import MESSAGES
from pyattr.uses import load_certificate

ROOT = Path(pyattr.__file__).parents[1]
N_TRAIN = 40
MODULE = """
import numpy as np
from pyattr.transport.job import Job

w = np.linspace(-1, 1, 40, dtype=np.float32)[:, None]


def train(masks, seeds):
    return masks.unpack() @ w


def job():
    return Job.of(train, train=[w], targets=[w[:1]], recipe={"model": "sum"}, output="f", n_targets=1)
"""
JOB = """
[recipe]
kind = "own"
retrain = "bank_trainers:quick"
n_train = 40
n_targets = 5

[models]
count = 64
held_out = 32
chunk = 32

[fit]
method = "ols"
"""


def run(*words, code=0):
    """A command with --json; there are words for people beside it."""
    result = CliRunner().invoke(main, [*map(str, words), "--json"])
    assert result.exit_code == code, result.output
    assert result.stderr.strip()
    plain = check_record(result.stdout)
    return plain, result.stderr


@pytest.fixture
def parties(tmp_path, monkeypatch):
    """A folder with keys, scores and code, in which commands are run."""
    (tmp_path / "parties_code.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    for name in ("v.key", "p.key"):
        record, said = run("keygen", name)
        assert record["public_key"] in said
    weights = np.linspace(-1, 1, N_TRAIN, dtype=np.float32)[:, None]
    pyattr.Attribution(scores=weights, intercept=[0.0]).save("scores")
    yield tmp_path
    sys.modules.pop("parties_code", None)


def test_the_page_and_the_commands_name_the_same_schemas():
    written = set()
    for path in (ROOT / "pyattr" / "commands").glob("*.py"):
        written |= set(re.findall(r'answer\(\s*"(.+?)"', path.read_text()))
    assert written == set(SCHEMAS)


@pytest.mark.parametrize(
    "wrong",
    [
        '{"schema": "pyattr-keygen/1", "private_file": "a", "public_file": "b"}',
        '{"schema": "pyattr-keygen/1", "private_file": "a", "public_file": "b", "public_key": 3}',
        '{"schema": "pyattr-keygen/1", "private_file": "a", "public_file": "b", "public_key": null}',
        '{"schema": "pyattr-keygen/1", "private_file": "a", "public_file": "b", "public_key": "c", "d": 1}',
        '{"schema": "pyattr-keygen/1"} and words',
    ],
)  # fmt: skip
def test_a_record_that_is_not_as_documented_is_noticed(wrong):
    with pytest.raises((AssertionError, ValueError)):
        check_record(wrong)


def test_plan():
    record, said = run("plan", "--n-train", 1000, "--n-targets", 32)
    assert record["recommended"] in said
    record, _ = run("plan", "--n-train", 1000, "--prize", "0.0001")
    assert record["recommended"] is None


def test_demo(tmp_path):
    record, said = run("demo", "--n-train", 40, "--n-test", 4, "--out", tmp_path / "out")
    assert record["headline"].split("; ")[0] in " ".join(said.split())
    assert Path(record["report"]).is_file()
    assert json.loads(Path(record["results"]).read_text())["seconds"]["total"] == record["seconds"]
    assert {case["truth"] for case in record["cases"]} == {"honest", "lie", "harmless"}


def test_attribute_and_worker(tmp_path):
    (tmp_path / "job.toml").write_text(JOB)
    job = tmp_path / "job.toml"
    assert run("worker", job, "--shard", "0/2", "--workers", 1)[0]["shard"] == "0/2"
    record, said = run("attribute", job, "--workers", 1)
    assert "Fitted ols" in said
    quality = json.loads((Path(record["folder"]) / "quality.json").read_text())
    assert record["fit"] == quality["fit"]


def test_check_price_select_and_report(tmp_path):
    job, scores = tmp_path / "job.toml", tmp_path / "attribution" / "attribution.safetensors"
    job.write_text(JOB)
    run("attribute", job, "--workers", 1)
    record, said = run("price", scores, "--budget", 10, "--unverified")
    assert (record["radius"], record["verified"], "No limits" in said) == (None, False, True)
    for words, weights in (((), None), (("--sum",), [0.2] * 5)):
        record, said = run("check", job, "--seed", 1, "--epsilon", 0.3, *words)
        assert record["weights"] == weights
        assert record["file"] in said
        kept = load_certificate(record["file"])
        assert (kept.scores, kept.n_retrained) == (record["scores"], record["n_retrained"])
    record, _ = run(
        "check", job, "--seed", 1, "--budget", 20, "--out", tmp_path / "few.json", code=2
    )
    assert record["outcome"] == "INCONCLUSIVE"
    record, said = run("price", scores, "--budget", 10, "--lies")
    assert (record["unit_price"], record["verified"], len(record["lies"])) == (None, True, 4)
    assert "10.00 of 10.00 paid" in said
    priced, _ = run("price", scores, "--budget", 10, "--rule", "price", "--unit-price", 0.1)
    assert priced["unit_price"] == 0.1
    record, _ = run("select", scores, "-n", 5)
    assert len(record["selected"]) == record["n_selected"] == 5
    record, said = run("select", scores, "-n", 5, "--unverified", "--job", job, "--random", 8)
    assert "measured (8 models, 8 random)" in said
    result = CliRunner().invoke(main, ["report", str(scores.parent), "--json"])
    assert check_record(result.stdout) == {"file": str(scores.parent / "report.html")}
    assert result.stderr == f"{scores.parent / 'report.html'}\n"


def test_doctor():
    record, said = run("doctor")
    assert record["promises_hold"]
    assert "All promises hold." in said


def test_calibrate(parties, tmp_path):
    files = [tmp_path / name for name in ("ours", "theirs")]
    for file in files:
        options = ("--source", "parties_code:job", "--clip", 8, "--n-rows", 20)
        record, _ = run("calibrate", "run", *options, file)
        assert record["file"] == str(file)
    record, said = run("calibrate", "compare", *files)
    assert "tolerance 0" in said
    (tmp_path / "record").write_text(json.dumps({"schema": "pyattr-calibration/1", **record}))
    assert read_calibration(tmp_path / "record").tolerance == record["tolerance"] == 0.0


SOURCE = ("--source", "parties_code:job")


def test_a_session_by_files(parties):
    keys = {
        "v": ("--key", "v.key", "--peer", "p.key.pub", "--ledger", "ledger"),
        "p": ("--key", "p.key", "--peer", "v.key.pub", "--attribution", "scores"),
    }
    (parties / "p").mkdir()
    expected = ("init", "commit", "challenge", "respond", "verify", "audit")
    for turn, (command, side) in enumerate(zip(expected[:-1], "vpvpv", strict=True)):
        if turn:
            record, _ = run("session", "show", "v")
            assert record["next"].endswith(command)
            assert len(record["messages"]) == (0, 1, 2, 3, 5)[turn]
        record, _ = run("session", command, side, *keys[side], *SOURCE)
        for name in MESSAGES:
            for here, there in ("vp", "pv"):
                if (parties / here / name).exists() and not (parties / there / name).exists():
                    shutil.copyfile(parties / here / name, parties / there / name)
    assert record["outcome"] == "ACCEPT"
    assert run("session", "respond", "p", *keys["p"], *SOURCE)[0]["decision"] == "ACCEPT"
    assert run("session", "show", "v")[0]["next"].endswith("audit")
    record, _ = run("session", "audit", "v", code=2)
    assert (record["holds"], record["outcome"]) == (True, "ACCEPT")
    assert record["n_believed"] > 0


def test_a_session_over_http(parties):
    words = ["serve", "--attribution", "scores", "--key", "p.key", "--verifier-key", "v.key.pub"]
    words += ["--state", "host", "--port", "0", "--json", *SOURCE]
    with subprocess.Popen(
        [sys.executable, "-m", "pyattr.cli", *words],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        lines = [server.stdout.readline()]
        while lines[-1] != "}\n":
            assert lines[-1], server.stderr.read()
            lines.append(server.stdout.readline())
        address = check_record("".join(lines))
        keys = ("--key", "v.key", "--prover-key", "p.key.pub", "--ledger", "ledger")
        record, said = run(
            "verify",
            "--prover",
            address["url"],
            *keys,
            "--state",
            "verifier",
            "--seconds",
            60,
            *SOURCE,
        )
        server.send_signal(signal.SIGTERM)
        rest, log = server.communicate(timeout=30)
    assert record["outcome"] == "ACCEPT"
    assert record["session"] in said
    assert rest == ""
    assert f"listening on {address['url']}" in log


def test_after_an_error_standard_output_is_empty():
    result = CliRunner().invoke(main, ["plan", "--n-train", "0", "--json"])
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith("Error: --n-train: expected")
