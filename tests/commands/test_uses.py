"""`pyattr check`, `price` and `select`: what they print, write and end with."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from accepting import verdict_of
from bank_trainers import N_TARGETS, N_TRAIN
from click.testing import CliRunner, Result

import pyattr
from pyattr.cli import main
from pyattr.uses import Certificate
from pyattr.uses.certificate import scores_digest

JOB = """\
[recipe]
kind = "own"
retrain = "bank_trainers:quick"
n_train = 40
n_targets = 5

[models]
count = 320
"""


def call(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(word) for word in arguments], env={"COLUMNS": "80"})
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A job, its true scores and half of them, verdicts about both, and sellers."""
    place = tmp_path_factory.mktemp("uses")
    (place / "job.toml").write_text(JOB)
    truth = np.random.default_rng(0).standard_normal((N_TRAIN, N_TARGETS))
    (place / "attribution").mkdir()
    pyattr.Attribution(truth).save(place / "attribution" / "attribution.safetensors")
    pyattr.Attribution(truth).save(place / "scores.safetensors")
    pyattr.Attribution(truth / 2).save(place / "half.safetensors")
    rows = "\n".join(f"{i},{'xyz'[i % 3]}" for i in range(N_TRAIN))
    (place / "owners.csv").write_text(f"example,seller\n{rows}\n")
    (place / "weights.csv").write_text("weight\n1\n1\n1\n0\n0\n")
    made = call("check", place / "job.toml", "--seed", 1, "--out", place / "verdict.json")
    assert (made.exit_code, made.stdout.split(":")[0]) == (0, "ACCEPT")
    return place


def price(place: Path, *options: object, scores: str = "scores") -> Result:
    return call("price", place / f"{scores}.safetensors", "--budget", 1000, *options)


def select(place: Path, *options: object) -> Result:
    return call("select", place / "scores.safetensors", "-n", 10, *options)


def test_check_ends_as_its_verdict_does(place, tmp_path):
    out = tmp_path / "half.json"
    words = ("check", place / "job.toml", "--seed", 1, "--out", out)
    halved = call(*words, "--attribution", place / "half.safetensors")
    assert halved.exit_code == 1
    assert halved.stdout.startswith("ABORT: the lower limit of the gap")
    assert "the verdict is in" in halved.stderr
    assert json.loads(out.read_text())["outcome"] == "ABORT"
    scores = pyattr.load_attribution(place / "scores.safetensors").scores * 0.8  # a gap of 0.04
    pyattr.Attribution(scores).save(tmp_path / "shaved.safetensors")
    tight = call(*words, "--epsilon", 0.035, "--attribution", tmp_path / "shaved.safetensors")
    assert (tight.exit_code, tight.stdout.split(":")[0]) == (2, "INCONCLUSIVE")
    assert call(*words, "--attribution", place / "half.safetensors").exit_code == 1
    refused = price(place, "--verdict", out, scores="half")
    assert refused.exit_code == 3
    assert "--verdict: expected ACCEPT about these very scores" in refused.stderr
    assert "got ABORT of method 'gap'" in refused.stderr


def test_check_of_a_weighted_sum(place, tmp_path):
    out = tmp_path / "sum.json"
    words = ("check", place / "job.toml", "--seed", 1, "--out", out, "--json")
    mean = json.loads(call(*words, "--sum").stdout)
    kept = json.loads(out.read_text())
    assert mean == {**kept, "schema": "pyattr-check/1", "file": str(out)}
    assert mean["weights"] == [0.2] * 5
    assert mean["n_targets"] == 1
    assert price(place, "--verdict", out).exit_code == 0
    others = price(place, "--verdict", out, "--weights", place / "weights.csv")
    assert others.exit_code == 3
    assert "got a verdict about a sum with other weights; `pyattr check` makes" in others.stderr
    options = ("--verdict", out, "--weights", place / "weights.csv", "--unverified", "--json")
    allowed = json.loads(price(place, *options).stdout)
    assert (allowed["verified"], allowed["weights"]) == (False, [1.0, 1.0, 1.0, 0.0, 0.0])
    weighted = json.loads(call(*words, "--weights", place / "weights.csv").stdout)
    assert weighted["weights"] == [1.0, 1.0, 1.0, 0.0, 0.0]
    assert price(place, "--verdict", out, "--weights", place / "weights.csv").exit_code == 0


def test_price_prints_pays_and_writes(place, tmp_path):
    out, examples = tmp_path / "pay.csv", tmp_path / "examples.csv"
    options = ("--verdict", place / "verdict.json", "--sellers", place / "owners.csv")
    made = price(place, *options, "--out", out, "--examples", examples, "--lies")
    assert made.exit_code == 0, made.output
    assert "Rule 'proportional': 1,000.00 of 1,000.00 paid." in made.stdout
    assert "publishes 0.5 a" in made.stdout
    assert max(map(len, made.stdout.splitlines())) <= 80
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["seller"] for row in rows] == ["x", "y", "z"]
    assert sum(float(row["payment"]) for row in rows) == pytest.approx(1000.0)
    assert len(examples.read_text().splitlines()) == N_TRAIN + 1
    shown = json.loads(price(place, *options, "--json").stdout)
    assert [row["payment"] for row in shown["sellers"]] == pytest.approx(
        [float(row["payment"]) for row in rows]
    )
    everything = tmp_path / "pay.json"
    price(place, *options, "--out", everything)
    assert json.loads(everything.read_text()) == {**shown, "schema": "pyattr-price/1"}
    at_price = price(place, *options, "--rule", "price", "--unit-price", 1.0, "--json")
    assert json.loads(at_price.stdout)["spent"] < 1000.0


def test_a_verdict_is_kept_and_found_beside_the_scores(place, tmp_path):
    published = tmp_path / "published.safetensors"
    for words in ((), ("--attribution", published)):
        own = tmp_path / "job" / "attribution" / "attribution.safetensors"
        scores = published if words else own
        scores.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(place / "scores.safetensors", scores)
        job = tmp_path / "job" / "job.toml"
        job.write_text(JOB)
        made = call("check", job, "--seed", 1, *words)
        assert made.exit_code == 0
        assert str(scores.with_name("verdict.json")) in made.stderr
        made = call("price", scores, "--budget", 1, "--json")
        assert json.loads(made.stdout)["verified"]
        # It may have come from the publisher, with the scores: nobody is to take it for their own unawares.
        assert f"By {scores.with_name('verdict.json')}, which is not signed" in made.stderr
        named = call("price", scores, "--budget", 1, "--verdict", scores.with_name("verdict.json"))
        assert "not signed" not in named.stderr
        assert json.loads(call("select", scores, "-n", 3, "--json").stdout)["verified"]
    # Another file in the same folder is no better for it.
    shutil.copy(place / "half.safetensors", published)
    refused = call("price", published, "--budget", 1)
    assert refused.exit_code == 3
    found = published.with_name("verdict.json")
    digests = [
        scores_digest(pyattr.load_attribution(place / f"{n}.safetensors").scores)
        for n in ("scores", "half")
    ]
    said = (
        f"{found}, a verdict about other scores ({digests[0][:12]}…, and these have the digest "
        f"{digests[1][:12]}…)"
    )
    assert f"got {said}; name another by --verdict, or --unverified uses" in refused.stderr
    allowed = call("price", published, "--budget", 1, "--unverified", "--json")
    assert allowed.exit_code == 0
    assert allowed.stderr.startswith(f"Not used: {said}.\n")
    assert not json.loads(allowed.stdout)["verified"]


def test_what_lies_beside_scores_does_not_block_who_asked_for_unverified_ones(place, tmp_path):
    shutil.copy(place / "half.safetensors", tmp_path / "scores.safetensors")
    found = tmp_path / "verdict.json"
    other = Certificate.of(verdict_of(pyattr.Attribution(np.ones((3, 2))), 0.1))
    other.save(found)
    for content in (found.read_bytes(), found.read_bytes()[:40], b"\xff", b"[]", b""):
        found.write_bytes(content)
        refused = price(tmp_path)
        assert (refused.exit_code, refused.stdout) == (3, "")
        assert f"got {found}, " in refused.stderr
        assert (
            "name another by --verdict, or --unverified uses the scores without" in refused.stderr
        )
        allowed = price(tmp_path, "--unverified")
        assert allowed.exit_code == 0
        assert f"Not used: {found}, " in allowed.stderr
        assert "No limits: the scores are unverified: no verdict." in allowed.stdout
        assert select(tmp_path, "--unverified").exit_code == 0
        # One that is named is to be used.
        assert price(tmp_path, "--verdict", found).exit_code == 3
    # Of an ABORT about these very scores nobody is kept in the dark.
    call("check", place / "job.toml", "--seed", 1, "--attribution", tmp_path / "scores.safetensors")
    allowed = price(tmp_path, "--unverified")
    assert f"By {found}" in allowed.stderr
    assert "No limits: the scores are unverified: ABORT of method 'gap'." in allowed.stdout


def test_unverified_scores_need_a_word(place, tmp_path):
    shutil.copy(place / "scores.safetensors", tmp_path)
    refused = price(tmp_path)
    assert refused.exit_code == 3
    assert refused.stderr == (
        "Error: --verdict: expected ACCEPT about these very scores, or unverified ones to be allowed, "
        "got no verdict; `pyattr check` makes a verdict, --unverified allows them\n"
    )
    assert refused.stdout == ""
    allowed = price(tmp_path, "--unverified")
    assert allowed.exit_code == 0
    assert "No limits: the scores are unverified: no verdict." in allowed.stdout
    assert "… and 20 more; --out or --json has all." in allowed.stdout
    others = price(place, "--verdict", place / "verdict.json", scores="half")
    assert others.exit_code == 3
    assert "got a verdict about other scores" in others.stderr
    assert select(tmp_path).exit_code == 3


def test_tables_of_much_money_and_many_sellers_fit_a_screen(place):
    words = (place / "scores.safetensors", "--unverified", "--lies", "--budget", 10_000_000)
    shown = call("price", *words)
    assert shown.exit_code == 0
    assert max(map(len, shown.stdout.splitlines())) <= 80
    assert "…" not in shown.stdout.replace("… and 20 more", "")
    assert "10,000,000 of 10,000,000 paid." in shown.stdout


def test_names_of_sellers_do_not_command_the_terminal(place, tmp_path):
    names = ("\x1b[2Ja", "b\u202ec", "[red]d", "e")
    rows = "".join(f"{i},{names[i % 4]}\n" for i in range(N_TRAIN))
    (tmp_path / "owners.csv").write_text(f"example,seller\n{rows}", encoding="utf-8")
    made = price(place, "--unverified", "--lies", "--sellers", tmp_path / "owners.csv")
    assert made.exit_code == 0
    assert not set("\x1b\u202e") & set(made.stdout)
    assert {"�[2Ja", "b�c", "[red]d", "e"} <= set(made.stdout.split())


def test_vacuous_limits_are_explained(place, tmp_path):
    scores = pyattr.load_attribution(place / "scores.safetensors")
    Certificate.of(verdict_of(scores, 100.0)).save(tmp_path / "wide.json")
    made = price(place, "--verdict", tmp_path / "wide.json")
    assert made.exit_code == 0
    assert "The limits are vacuous" in made.stdout


def test_select_predicts_and_measures(place, tmp_path):
    out = tmp_path / "chosen.csv"
    options = ("--verdict", place / "verdict.json", "--out", out)
    made = select(place, *options)
    assert made.exit_code == 0, made.output
    assert "10 of 40 examples chosen, 10 examples." in made.stdout
    assert "--job measures" in made.stdout
    assert len(out.read_text().splitlines()) == 11
    trained = select(place, *options, "--job", place / "job.toml", "--random", 200, "--json")
    record = json.loads(trained.stdout)
    measured = record["measured"]
    assert measured["lower"] - 0.3 < record["predicted_gain"] < measured["upper"] + 0.3
    assert len(measured["random"]) == 200
    shown = select(place, *options, "--job", place / "job.toml")
    assert "measured (8 models, 64 random)" in shown.stdout
    assert "The verdict is about subsets of 50% of the examples" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80
    everything = tmp_path / "chosen.json"
    whole = call(
        "select", place / "scores.safetensors", "-n", 1, "--sellers", place / "owners.csv",
        "--unverified", "--out", everything,
    )  # fmt: skip
    assert "1 of 3 sellers chosen" in whole.stdout
    assert json.loads(everything.read_text())["n_total"] == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("price", "scores", "--budget", "0", "--unverified"), "--budget: expected a finite"),
        (("price", "scores", "--budget", "1", "--out", "pay.txt"), "--out: expected a name that"),
        (
            ("price", "scores", "--budget", "1", "--examples", "pay.json"),
            "--examples: expected a name that ends in .csv",
        ),
        (
            ("price", "scores", "--budget", "1", "--out", "none/pay.csv"),
            "--out: expected a file in a folder that exists",
        ),
        (
            ("price", "scores", "--budget", "1", "--unverified", "--rule", "price"),
            "--unit-price: expected a price of a point, got None",
        ),
        (
            ("price", "scores", "--budget", "1", "--unverified", "--sellers", "weights.csv"),
            "--sellers: expected 40 rows",
        ),
        (
            ("price", "scores", "--budget", "1", "--unverified", "--weights", "owners.csv"),
            "--weights: expected 5 rows",
        ),
        (
            ("price", "scores", "--budget", "1", "--verdict", "job.toml"),
            "--verdict: expected a file",
        ),
        (
            ("select", "scores", "-n", "40", "--unverified"),
            "--n-selected: expected fewer than the 40",
        ),
        (
            ("select", "wide", "-n", "2", "--unverified", "--job", "job.toml"),
            "--job: expected 3 examples and 2 targets, as the scores have, got 40 and 5",
        ),
        (("check", "job.toml", "--epsilon", "2"), "--epsilon: expected a share of Var f below 1"),
        (
            ("check", "job.toml", "--attribution", "wide.safetensors"),
            "--attribution: expected n_train",
        ),
        (
            ("check", "unmade.toml"),
            "--attribution: expected scores to verify: run `pyattr attribute`",
        ),
        (
            ("check", "job.toml", "--out", "."),
            "--out: expected a file in a folder that exists, got .",
        ),
        (("check", "job.toml", "--out", "none/v.json"), "--out: expected a file in a folder"),
        (
            ("check", "job.toml", "--out", "half.safetensors"),
            "--out: expected a name that ends in .json, got half.safetensors",
        ),
        (("check", "none.toml"), "File 'none.toml' does not exist"),
    ],
)
def test_errors_are_one_sentence(place, monkeypatch, words, message):
    monkeypatch.chdir(place)
    pyattr.Attribution(np.ones((3, 2))).save("wide.safetensors")
    Path("unmade.toml").write_text(f'out = "nowhere"\n{JOB}')
    command, file, *options = words
    name = file if command == "check" else f"{file}.safetensors"
    result = call(command, name, *options)
    assert result.exit_code == 3
    assert message in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("command", ["check", "price", "select"])
def test_help_fits_a_screen_and_has_an_example(command):
    lines = call(command, "--help").output.splitlines()
    assert len(lines) <= 32
    assert max(map(len, lines)) <= 80
    assert any(f"pyattr {command} " in line for line in lines)


def test_an_interrupt_says_what_is_kept(place, monkeypatch):
    def interrupted(*arguments, **words):
        raise KeyboardInterrupt

    monkeypatch.setattr("pyattr.jobs.check.verify", interrupted)
    result = call("check", place / "job.toml", "--out", place / "none.json")
    assert (result.exit_code, result.stderr) == (
        130,
        "Interrupted; what was trained is kept, and the same command goes on.\n",
    )
    assert not list(place.glob("none*"))  # nothing was trained
