"""`pyattr check`, interrupted anywhere: the trainings are kept, and the verdict is the same to the byte."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from kill_points import killed_at_each_point

import pyattr
from pyattr.cli import main
from pyattr.jobs import Check, load_job
from pyattr.transport.directory import SessionDirectory

ROOT = Path(__file__).parents[2]
N_TRAIN, N_TARGETS = 12, 2
TRUTH = np.random.default_rng(0).standard_normal((N_TRAIN, N_TARGETS)).astype(np.float32)

JOB = f"""\
[recipe]
kind = "own"
retrain = "check_trainer:{{trainer}}"
n_train = {N_TRAIN}
n_targets = {N_TARGETS}
settings = {{settings}}

[models]
count = 400
{{chunk}}
"""

TRAINER = """\
import os, time
import numpy as np
from pathlib import Path

TRUTH = np.random.default_rng(0).standard_normal((12, 2)).astype(np.float32)
LOG = Path(__file__).with_name("log")


def quick(masks, seeds):
    with LOG.open("a") as file:
        rows = zip(masks.packed, seeds, strict=True)
        file.writelines(f"{row.tobytes().hex()}-{seed}\\n" for row, seed in rows)
    noise = (seeds % np.uint64(1009)).astype(np.float32) / 1009 - 0.5
    return (masks.unpack() @ TRUTH + 2.0 * noise[:, None]).astype(np.float32)


def slow(masks, seeds):
    time.sleep(0.02 * len(masks))
    return quick(masks, seeds)


def failing(masks, seeds):
    if LOG.exists() and len(LOG.read_text().split()) >= 20:
        raise RuntimeError("the machine is too hot")
    return quick(masks, seeds)
"""


@pytest.fixture
def place(tmp_path) -> Path:
    """A job and true scores."""
    write_job(tmp_path)
    (tmp_path / "check_trainer.py").write_text(TRAINER)
    pyattr.Attribution(TRUTH).save(tmp_path / "scores.safetensors")
    sys.modules.pop("check_trainer", None)
    yield tmp_path
    sys.modules.pop("check_trainer", None)
    while str(tmp_path) in sys.path:
        sys.path.remove(str(tmp_path))


def write_job(folder, trainer="quick", settings="{}", chunk="chunk = 4"):
    (folder / "job.toml").write_text(JOB.format(trainer=trainer, settings=settings, chunk=chunk))


def words(place, *more):
    scores = place / "scores.safetensors"
    return ["check", place / "job.toml", "--attribution", scores, "--epsilon", 0.1, *more]


def call(place, *more):
    result = CliRunner().invoke(main, [str(word) for word in words(place, *more)])
    assert "Traceback" not in result.output
    return result


def trained(place):
    """Each training that was made, in order, since the log was taken away."""
    log = place / "log"
    return log.read_text().split() if log.exists() else []


def start(place, *more):
    command = [
        sys.executable,
        "-c",
        "from pyattr.cli import main; main()",
        *map(str, words(place, *more)),
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def blocks(place):
    return sorted(place.glob("verdict.unfinished-*/trainings-verifier/*.safetensors"))


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("seed", [(), ("--seed", "5")])
def test_killed_and_resumed_it_comes_to_the_same_verdict(place, end, seed):
    write_job(place, "slow")
    with start(place, *seed) as process:
        while len(blocks(place)) < 3 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(end)
        _, said = process.communicate()
    assert process.returncode == (-9 if end is signal.SIGKILL else 130)
    if end is signal.SIGINT:
        assert said.endswith(
            b"Interrupted; what was trained is kept, and the same command goes on.\n"
        )
    kept = {path: path.read_bytes() for path in blocks(place)}
    assert len(kept) >= 3
    assert not (place / "verdict.json").exists()
    (folder,) = place.glob("verdict.unfinished-*")
    # The seed in it is the verifier's secret.
    assert folder.stat().st_mode & 0o77 == 0
    assert all(file.stat().st_mode & 0o77 == 0 for file in folder.rglob("*"))
    done = call(place, *seed)
    assert (done.exit_code, done.stdout.split(":")[0]) == (0, "ACCEPT")
    assert f"Going on from {4 * len(kept)} trainings in {folder}.\n" in done.stderr
    assert not list(place.glob("*unfinished*"))
    assert not list(place.glob(".*"))
    # No training was made twice, but for those of the block that was lost.
    made = trained(place)
    assert len(made) - len(set(made)) <= 4
    if seed:
        verdict = (place / "verdict.json").read_bytes()
        assert call(place, *seed).exit_code == 0  # anew, for there is a verdict
        assert (place / "verdict.json").read_bytes() == verdict
        assert len(trained(place)) > len(made)


def test_killed_at_calls_to_the_system_nothing_kept_is_lost(place):
    """Whatever was written when it died serves the next run, which ends as one that nothing disturbed."""
    write_job(place, chunk="chunk = 16")
    scores = pyattr.load_attribution(place / "scores.safetensors")
    check = Check(
        load_job(place / "job.toml"), scores, seed=5, options={"epsilon": 0.1, "budget": 40}
    )
    check.run(place / "whole.json")
    folder = place / "killed"

    def work(point):
        folder.mkdir(exist_ok=True)
        check.run(folder / "verdict.json")

    deaths = 0
    for point in killed_at_each_point(work, step=7):
        before = len(list(folder.rglob("*.safetensors"))) if folder.exists() else 0
        (place / "log").unlink(missing_ok=True)
        n_whole = len(list(folder.glob("verdict.json")))
        work(point)
        # A block in the folder is not trained again; once there is a verdict, the next run is another one.
        assert n_whole or before == 0 or len(trained(place)) < check_size(place)
        assert (folder / "verdict.json").read_bytes() == (place / "whole.json").read_bytes()
        left = {path.name for path in folder.iterdir()} - {"verdict.json"}
        # A verdict that was half written when the process died, under its temporary name.
        assert all(name.startswith(".verdict.json.") for name in left)
        shutil.rmtree(folder)
        deaths += 1
    assert deaths > 30


def check_size(place):
    return json.loads((place / "whole.json").read_text())["n_retrained"]


def test_a_training_that_fails_costs_no_other(place):
    write_job(place, "failing")
    failed = call(place, "--seed", "5")
    assert failed.exit_code == 3
    assert "the machine is too hot" in failed.stderr
    assert 16 <= len(trained(place)) <= 20
    (place / "check_trainer.py").write_text(TRAINER.replace(">= 20", ">= 2000"))
    sys.modules.pop("check_trainer")
    done = call(place, "--seed", "5")
    assert (done.exit_code, done.stdout.split(":")[0]) == (0, "ACCEPT")
    assert len(set(trained(place))) == len(trained(place))


def interrupted(place, *more):
    """Make a check that ends after some trainings."""
    write_job(place, "failing")
    assert call(place, *more).exit_code == 3
    (place / "check_trainer.py").write_text(TRAINER.replace(">= 20", ">= 2000"))
    sys.modules.pop("check_trainer")
    (folder,) = place.glob("verdict.unfinished-*")
    return folder


def test_another_check_takes_no_trainings_of_the_first(place):
    """Masks that were drawn before other scores were published say nothing about these."""
    folder = interrupted(place)
    held = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    first = set(trained(place))
    pyattr.Attribution(TRUTH / 2).save(place / "half.safetensors")
    for other in (
        ("--attribution", place / "half.safetensors", "--out", place / "verdict.json"),
        ("--delta", 0.04),
        ("--seed", 5),
        ("--sum",),
        ("--budget", 99),
    ):
        (place / "log").unlink()
        result = call(place, *other)
        assert result.exit_code < 3, result.output
        assert f"Trainings of another check that has not ended lie in {folder}.\n" in result.stderr
        assert not first & set(trained(place))
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == held
    # The first goes on all the same.
    assert f"trainings in {folder}" in call(place).stderr
    assert not folder.exists()


def test_wrong_arguments_leave_nothing_behind_and_take_nothing_away(place):
    assert call(place, "--delta", 3).exit_code == 3
    assert not list(place.glob("*unfinished*"))
    folder = interrupted(place)
    for wrong in (("--delta", 3), ("--bound", "none"), ("--budget", 1)):
        assert call(place, *wrong).exit_code == 3
        assert list(place.glob("*unfinished*")) == [folder]


def test_damage_and_company_are_named(place):
    folder = interrupted(place)
    with SessionDirectory(folder, "verifier"):
        busy = call(place)
    assert busy.exit_code == 3
    assert f"{folder}: expected no other process that makes this very check, got one" in busy.stderr
    first, second = blocks(place)[:2]
    content = first.read_bytes()
    first.write_bytes(content[:-1])
    cut = call(place)
    assert cut.exit_code == 3
    assert "000000.safetensors: expected a safetensors file" in cut.stderr
    assert "take this folder away, and the check begins anew" in cut.stderr
    first.write_bytes(second.read_bytes())
    swapped = call(place)
    assert swapped.exit_code == 3
    assert "take this folder away, and the check begins anew" in swapped.stderr
    first.write_bytes(content)
    secret = folder / "private-verifier.json"
    seed = secret.read_bytes()
    secret.write_bytes(b"{")
    assert "take this folder away, and the check begins anew" in call(place).stderr
    secret.write_bytes(seed)
    assert call(place).exit_code == 0
