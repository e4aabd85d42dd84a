"""`pyattr attribute` and `pyattr worker` from the job file to the results."""

from __future__ import annotations

import json
import re
import shutil
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from bank_trainers import N_TARGETS, N_TRAIN, quick
from click.testing import CliRunner, Result
from in_process import InProcess

import pyattr
from pyattr import jobs
from pyattr.cli import main
from pyattr.retraining.bank import Bank

JOB = """\
[recipe]
kind = "own"
retrain = "bank_trainers:{trainer}"
n_train = 40
n_targets = 5

[models]
count = {count}
held_out = {held_out}
design = "{design}"
chunk = 32
seed = 3

[fit]
method = "{method}"
"""


def write(folder: Path, **values: object) -> Path:
    defaults = {
        "trainer": "quick",
        "count": 320,
        "held_out": 64,
        "design": "iid",
        "method": "ridge",
    }
    folder.mkdir(exist_ok=True)
    path = folder / "job.toml"
    path.write_text(JOB.format(**defaults | values))
    return path


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in arguments])


def one_process(path: Path, *options: str) -> Result:
    return call("attribute", path, "--workers", "1", *options)


@pytest.fixture
def in_process(monkeypatch):
    monkeypatch.setattr(
        "pyattr.jobs.training.workers", lambda executor, work: nullcontext(InProcess(work))
    )


def scores_of(folder: Path) -> pyattr.Attribution:
    return pyattr.load_attribution(folder / "attribution" / "attribution.safetensors")


def file_of(folder: Path) -> bytes:
    return (folder / "attribution" / "attribution.safetensors").read_bytes()


def quality(folder: Path) -> dict:
    return json.loads((folder / "attribution" / "quality.json").read_text())


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A job that ran through, in one process."""
    folder = tmp_path_factory.mktemp("finished")
    result = one_process(write(folder))
    assert result.exit_code == 0, result.output
    return folder


def test_scores_and_their_quality_are_written(finished):
    scores = scores_of(finished)
    assert (scores.n_train, scores.n_targets, scores.method) == (N_TRAIN, N_TARGETS, "ridge")
    weights = np.random.default_rng(0).standard_normal((N_TRAIN, N_TARGETS))
    assert np.corrcoef(scores.scores.ravel(), weights.ravel())[0, 1] > 0.99
    record = quality(finished)
    assert record["fit"]["n_models"] == record["fit"]["n_used"] == 320
    assert record["held_out"]["n_used"] == 64
    assert record["held_out"]["lds"]["mean"] > 0.95
    assert record["held_out"]["r2"]["quantiles"]["0.0"] > 0.9
    assert len(record["held_out"]["r2"]["per_target"]) == N_TARGETS


def test_what_was_published_is_verified_as_the_docs_say(finished, monkeypatch, capsys):
    text = (Path(__file__).parents[2] / "docs" / "jobs.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(finished)
    monkeypatch.setattr("secrets.randbits", lambda bits: 1)  # the same challenge in every run
    exec(compile(code, "jobs.md", "exec"), {"__name__": "docs"})
    halved = pyattr.Attribution(scores=scores_of(finished).scores / 2)
    monkeypatch.setattr("pyattr.load_attribution", lambda path: halved)
    exec(compile(code, "jobs.md", "exec"), {"__name__": "docs"})
    assert capsys.readouterr().out.split() == ["ACCEPT", "ABORT"]


def test_scores_of_noise_have_no_quality(in_process, tmp_path):
    assert one_process(write(tmp_path, trainer="noise", method="ols")).exit_code == 0
    record = quality(tmp_path)
    # Spearman's coefficient of 64 unrelated pairs: sd 0.126, of five targets' mean 0.056; 5 sd.
    assert abs(record["held_out"]["lds"]["mean"]) < 0.28
    assert record["held_out"]["r2"]["mean"] < 0.05


def test_running_again_trains_nothing_and_writes_the_same(finished, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    before = files_of(folder / "bank")
    result = one_process(folder / "job.toml")
    assert result.exit_code == 0
    assert "models/s" not in result.stderr
    assert files_of(folder / "bank") == before
    assert file_of(folder) == file_of(finished)


def test_more_models_go_on_in_the_same_bank(in_process, finished, tmp_path):
    assert one_process(write(tmp_path, count=100, held_out=0)).exit_code == 0
    assert quality(tmp_path)["fit"]["n_models"] == 128  # whole chunks
    assert "held_out" not in quality(tmp_path)
    assert one_process(write(tmp_path)).exit_code == 0
    assert files_of(tmp_path / "bank") == files_of(finished / "bank")


def test_shards_and_any_number_of_workers_give_the_same_bytes(finished, tmp_path):
    path = write(tmp_path)
    for shard in ("1/2", "0/2"):
        result = call("worker", path, "--shard", shard, "--workers", "1")
        assert result.exit_code == 0, result.output
        assert f"Part {shard} is in" in result.stdout
    assert files_of(tmp_path / "bank") == files_of(finished / "bank")
    assert not (tmp_path / "attribution").exists()
    assert one_process(path).exit_code == 0
    assert file_of(tmp_path) == file_of(finished)


def test_failures_are_counted_named_and_left_out(in_process, tmp_path):
    result = one_process(write(tmp_path, trainer="raising"))
    assert result.exit_code == 0
    record = quality(tmp_path)["fit"]
    assert record["n_failed"] == {"failed": len(record["failures"])}
    assert record["n_used"] == 320 - len(record["failures"])
    assert "cannot train seed" in record["failures"][0]["message"]
    assert f"({len(record['failures'])} failed)" in result.stdout


def test_the_complement_of_a_failed_model_is_left_out_too(in_process, tmp_path):
    assert one_process(write(tmp_path, trainer="raising", design="complement")).exit_code == 0
    record = quality(tmp_path)["fit"]
    n_failed = record["n_failed"]["failed"]
    assert n_failed > 0
    assert record["n_left_out_with_their_complement"] == n_failed
    assert record["n_used"] == 320 - 2 * n_failed


@pytest.mark.parametrize("method", ["ols", "influence"])
def test_scores_are_those_of_the_job_s_design(in_process, tmp_path, method):
    path = write(tmp_path, design="complement", method=method, held_out=0)
    assert one_process(path).exit_code == 0
    masks = pyattr.sample_masks(320, N_TRAIN, seed=3, design="complement")
    outputs = quick(masks, pyattr.sample_seeds(320, seed=3))
    expected = (
        pyattr.empirical_influence(masks, outputs, design="complement")
        if method == "influence"
        else pyattr.fit_datamodel(masks, outputs, method, design="complement")
    )
    found = scores_of(tmp_path)
    assert found.design == "complement"
    np.testing.assert_array_equal(found.scores, expected.scores)


def test_what_diverged_is_not_trained_again(in_process, tmp_path):
    """It would diverge again."""
    path = write(tmp_path, trainer="diverging", held_out=0)
    assert one_process(path).exit_code == 0
    before = files_of(tmp_path / "bank")
    result = one_process(path, "--retry-failed")
    assert result.exit_code == 0
    assert "Chunks to train again: 0." in result.stderr
    assert quality(tmp_path)["fit"]["n_failed"]["diverged"] > 0
    assert files_of(tmp_path / "bank") == before


def test_what_failed_is_trained_again_on_request_only(in_process, finished, tmp_path):
    path = write(tmp_path, trainer="raising")
    assert one_process(path).exit_code == 0
    # The cause is removed: the same trainer works now.
    manifest = tmp_path / "bank" / "zarr.json"
    manifest.write_text(manifest.read_text().replace("raising", "quick"))
    path = write(tmp_path)
    assert one_process(path).exit_code == 0
    assert quality(tmp_path)["fit"]["n_failed"] != {}
    result = one_process(path, "--retry-failed")
    assert result.exit_code == 0
    assert "Chunks to train again:" in result.stderr
    assert quality(tmp_path)["fit"]["n_failed"] == {}
    assert files_of(tmp_path / "bank") == files_of(finished / "bank")


def test_damage_is_named(in_process, finished, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    chunk = folder / "bank" / "seed-3" / "c.7.0"
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"\0")
    result = one_process(folder / "job.toml")
    assert result.exit_code == 3
    assert "seed-3/c.7.0: expected bytes of CRC-32C" in result.stderr
    assert "Traceback" not in result.output
    chunk.unlink()  # as the message says
    assert one_process(folder / "job.toml").exit_code == 0
    assert files_of(folder / "bank") == files_of(finished / "bank")


def test_another_job_is_refused_the_bank(finished, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    (folder / "job.toml").write_text((folder / "job.toml").read_text().replace("quick", "slow"))
    result = one_process(folder / "job.toml")
    assert result.exit_code == 3
    assert (
        "recipe.retrain: expected 'bank_trainers:quick' as in the bank's manifest" in result.stderr
    )


@pytest.mark.parametrize(
    ("trainer", "words"),
    [
        ("broken", "all of the first 32 trainings failed, so nothing was stored; row"),
        ("misshapen", "outputs: expected shape (32, 5), got (32, 2)"),
    ],
)
def test_a_trainer_that_cannot_work_is_said_at_once(in_process, tmp_path, trainer, words):
    result = one_process(write(tmp_path, trainer=trainer))
    assert result.exit_code == 3
    assert words in result.stderr
    assert Bank.open(tmp_path / "bank").stored(3) == []


@pytest.mark.parametrize("shard", ["2/2", "1", "-1/2", "a/b"])
def test_a_wrong_shard_is_refused(tmp_path, shard):
    result = call("worker", write(tmp_path), f"--shard={shard}")
    assert result.exit_code == 3
    assert "--shard: expected I/K with 0 <= I < K" in result.stderr


def test_a_missing_job_file_is_one_sentence(tmp_path):
    result = call("attribute", tmp_path / "none.toml")
    assert result.exit_code == 3
    assert "none.toml" in result.stderr


def test_a_built_in_recipe_on_digits_finds_wrong_labels(in_process, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    path = tmp_path / "job.toml"
    path.write_text(
        '[data]\nname = "digits"\nn_train = 100\nn_targets = 40\nflip_fraction = 0.1\n'
        '[recipe]\nkind = "softmax"\n[models]\ncount = 1024\nheld_out = 128\n[fit]\nmethod = "ridge"\n'
    )
    job = jobs.load_job(path)
    told: list[int] = []
    record = jobs.attribute(job, tell=lambda progress: told.append(progress.n_done))
    assert told[-1] == 1024 + 128
    assert record["held_out"]["lds"]["mean"] > 0.9
    assert record["mislabel_auc"] > 0.65
    assert len(record["platforms"]) == 1
    assert record["manifest"]["recipe"]["recipe"]["kind"] == "SoftmaxRecipe"
