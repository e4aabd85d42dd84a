"""Jobs whose masks choose sellers: another split is another bank, and verdicts are about sellers."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from in_process import InProcess

import pyattr
from pyattr.cli import main
from pyattr.datasets import load
from pyattr.jobs import Source, load_job
from pyattr.jobs.training import bank_of
from pyattr.retraining.bank import Bank
from pyattr.retraining.worker import TRIES
from pyattr.subject.sellers import deal_to_sellers
from pyattr.transport.job import Job

pytest.importorskip("torch")
pytest.importorskip("sklearn")

JOB = """\
[data]
name = "digits"
n_train = 500
n_targets = 4
{data}

[recipe]
kind = "softmax"

[models]
count = 512
held_out = 64

[fit]
method = "ols"
"""
DEALT = 'sellers = 20\nseller_skew = "label"'


def write(folder: Path, data: str = DEALT) -> Path:
    path = folder / "job.toml"
    path.write_text(JOB.format(data=data))
    return path


def attribute(path: Path) -> Result:
    return CliRunner().invoke(main, ["attribute", str(path), "--workers", "1"])


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sellers")
    result = attribute(write(folder, "sellers = 20\nflip_fraction = 0.05"))
    assert result.exit_code == 0, result.output
    return folder


def test_there_is_one_score_a_seller(finished):
    scores = pyattr.load_attribution(finished / "attribution" / "attribution.safetensors")
    assert (scores.n_train, scores.n_targets) == (20, 4)
    record = json.loads((finished / "attribution" / "quality.json").read_text())
    assert record["manifest"]["n_train"] == 20
    assert record["manifest"]["recipe"]["n_examples"] == 500
    assert record["sellers"]["n_examples"] == [25] * 20
    assert sum(record["sellers"]["n_flipped"]) == 25
    labels = load("digits", 500, 4, flip_fraction=0.05).train_labels
    by_label = record["sellers"]["n_by_label"]
    for digit in range(10):  # runs of 25 examples
        counts = [int((labels[25 * s : 25 * s + 25] == digit).sum()) for s in range(20)]
        assert by_label[str(digit)] == counts
    assert "mislabel_auc" not in record
    assert record["held_out"]["lds"]["mean"] > 0.9


def test_a_mask_bit_moves_all_examples_of_a_seller(tmp_path):
    """Against an ensemble that masks choose examples of."""
    by_seller = Source(load_job(write(tmp_path)))()
    by_example = Source(load_job(write(tmp_path, "")))()
    owners = deal_to_sellers(load("digits", 500, 4).train_labels, 20, "label")
    masks, seeds = pyattr.sample_masks(5, 20, seed=3), pyattr.sample_seeds(5, seed=4)
    expected = by_example(masks.expand(owners), seeds)
    assert by_seller(masks, seeds).tobytes() == expected.tobytes()
    assert by_seller(masks, seeds + np.uint64(1)).tobytes() != expected.tobytes()


def test_what_was_published_is_verified(finished):
    retrain = Source(load_job(finished / "job.toml"))()
    scores = pyattr.load_attribution(finished / "attribution" / "attribution.safetensors")
    halved = pyattr.Attribution(scores=scores.scores / 2, intercept=scores.intercept)
    assert pyattr.verify(retrain, scores, seed=1).outcome == "ACCEPT"
    assert pyattr.verify(retrain, halved, seed=1).outcome == "ABORT"


def test_sellers_are_verified_paid_and_chosen_by_commands(finished, tmp_path):
    place = tmp_path / "job"
    shutil.copytree(finished, place)
    scores = place / "attribution" / "attribution.safetensors"

    def call(*words: object) -> Result:
        return CliRunner().invoke(main, [str(word) for word in words])

    checked = call("check", place / "job.toml", "--seed", 1)
    assert checked.exit_code == 0, checked.output
    verdict = json.loads((place / "attribution" / "verdict.json").read_text())
    assert (verdict["n_train"], verdict["n_targets"]) == (20, 4)
    paid = json.loads(call("price", scores, "--budget", 100, "--json").stdout)
    assert [seller["n_examples"] for seller in paid["sellers"]] == [1] * 20  # a mask bit each
    assert paid["verified"]
    chosen = call("select", scores, "-n", 5, "--job", place / "job.toml", "--random", 8, "--json")
    assert json.loads(chosen.stdout)["measured"]["gain"] > 0
    published = pyattr.load_attribution(scores)
    halved = pyattr.Attribution(scores=published.scores / 2, intercept=published.intercept)
    halved.save(tmp_path / "half")
    refused = call("check", place / "job.toml", "--seed", 1, "--attribution", tmp_path / "half")
    assert refused.exit_code == 1
    assert json.loads((tmp_path / "verdict.json").read_text())["outcome"] == "ABORT"


@pytest.mark.parametrize(
    ("data", "entry"),
    [
        ("sellers = 20", r"recipe\.crc32\.groups"),
        ('sellers = 21\nseller_skew = "label"', r"line \d+: data\.sellers"),
        ("", r"line \d+: data\.n_train"),
        ('sellers = "owners.csv"', r"recipe\.crc32\.groups"),
    ],
)
def test_another_split_is_another_bank(tmp_path, data, entry):
    (tmp_path / "owners.csv").write_text("".join(f"{k % 20}\n" for k in range(500)))
    bank_of(load_job(write(tmp_path)))
    with pytest.raises(ValueError, match=rf"{entry}: expected .* as in the bank's manifest"):
        bank_of(load_job(write(tmp_path, data)))


@pytest.mark.parametrize("n_lost", [0, TRIES])
def test_a_worker_with_another_file_trains_nothing(tmp_path, monkeypatch, n_lost):
    """A cluster's machine may hold another file under this name, a new worker read one that changed."""

    @contextmanager
    def elsewhere(executor, work):
        (tmp_path / "owners.csv").write_text("".join(f"{k // 25}\n" for k in range(500)))
        pool = InProcess(work)
        pool.submit = lambda task: InProcess.submit(pool, replace(task, n_lost=n_lost))
        yield pool

    monkeypatch.setattr("pyattr.jobs.training.workers", elsewhere)
    (tmp_path / "owners.csv").write_text("".join(f"{k % 20}\n" for k in range(500)))
    path = write(tmp_path, 'sellers = "owners.csv"')
    result = attribute(path)
    assert result.exit_code != 0
    assert "has other data, or another pyattr, than the job: recipe.crc32.groups:" in result.stderr
    assert Bank.open(tmp_path / "bank").stored(0) == []


def test_a_file_of_the_same_split_is_the_same_bank(tmp_path):
    owners = deal_to_sellers(load("digits", 500, 4).train_labels, 20, "label")
    np.save(tmp_path / "owners.npy", owners)
    dealt, read = (
        Source(load_job(write(tmp_path, data)))().recipe_record()
        for data in (DEALT, 'sellers = "owners.npy"')
    )
    assert dealt == read


def test_a_session_is_about_sellers(tmp_path):
    """Who owns what is in the digest of the data, so in what both parties sign."""
    jobs = [
        Job.of_ensemble(Source(load_job(write(tmp_path, data)))())
        for data in (DEALT, "sellers = 20", "")
    ]
    assert [job.n_train for job in jobs] == [20, 20, 500]
    assert len({job.train for job in jobs}) == 3
    assert len({job.targets for job in jobs}) == 1
    assert jobs[0].recipe["grouped"] is True


def test_files_are_found_beside_the_job_file(tmp_path, monkeypatch):
    monkeypatch.chdir(Path(__file__).parent)
    path = write(tmp_path, 'sellers = "none.csv"')
    result = attribute(path)
    assert result.exit_code == 3
    assert str(tmp_path / "none.csv") in result.stderr
