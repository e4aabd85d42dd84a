"""What goes wrong while `pyattr attribute` runs: a message that says it, and a bank that can be read."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from in_process import InProcess

from pyattr.cli import main
from pyattr.retraining.bank import Bank
from pyattr.retraining.bank_format import Status, statuses

ROOT = Path(__file__).parents[2]
SEED = 3

OWN = """\
[recipe]
kind = "own"
retrain = "bank_trainers:{trainer}"
n_train = {n_train}
n_targets = 5

[models]
count = {count}
held_out = 0
chunk = 32
seed = 3

[fit]
method = "ols"
"""
DIGITS = """\
[data]
name = "digits"
n_train = 3
n_targets = 4

[recipe]
kind = "{kind}"
{settings}

[models]
count = 64
held_out = 0
chunk = 32
seed = 3

[fit]
method = "ols"
"""


def write(folder: Path, text: str, **values: object) -> Path:
    defaults = {"n_train": 40, "count": 320, "settings": ""}
    path = folder / "job.toml"
    path.write_text(text.format(**defaults | values))
    return path


def attribute(path: Path) -> Result:
    result = CliRunner().invoke(main, ["attribute", str(path), "--workers", "1"])
    assert "Traceback" not in result.output
    return result


def outputs_in(folder: Path) -> np.ndarray:
    """All rows of the bank; each chunk is read and its checksum compared."""
    bank = Bank.open(folder / "bank")
    return np.concatenate([bank.read(SEED, chunk) for chunk in bank.stored(SEED)])


def failures(folder: Path) -> dict[str, str]:
    """What the failed trainings said, and as what they count."""
    record = json.loads((folder / "attribution" / "quality.json").read_text())["fit"]
    return {failure["message"]: failure["status"] for failure in record["failures"]}


@pytest.fixture
def in_process(monkeypatch):
    monkeypatch.setattr(
        "pyattr.jobs.training.workers", lambda executor, work: nullcontext(InProcess(work))
    )


@pytest.mark.parametrize(
    ("trainer", "status", "words"),
    [
        ("diverging", "diverged", "the outputs hold NaN or infinity"),
        ("greedy", "failed", "Unable to allocate"),
    ],
)
def test_nan_and_want_of_memory_are_their_model_s_own(in_process, tmp_path, trainer, status, words):
    result = attribute(write(tmp_path, OWN, trainer=trainer))
    assert result.exit_code == 0, result.output
    found = statuses(outputs_in(tmp_path))
    n_failed = int((found == Status[status.upper()]).sum())
    assert 0 < n_failed < 20
    assert f"of 320 models ({n_failed} {status})." in result.output
    assert words in result.stderr  # while it trains
    said = failures(tmp_path)
    assert set(said.values()) == {status}
    assert all(words in message for message in said)


def test_a_worker_killed_for_its_memory_costs_one_model(tmp_path):
    """As the system kills: SIGKILL, without a word. In processes of their own."""
    result = attribute(write(tmp_path, OWN, trainer="dying", count=160))
    assert result.exit_code == 0, result.output
    found = statuses(outputs_in(tmp_path))
    n_died = int((found == Status.DIED).sum())
    assert 0 < n_died < 10
    assert f"of 160 models ({n_died} died)." in result.output
    assert failures(tmp_path) == {"the process was ended by SIGKILL, as for want of memory": "died"}


def test_subsets_that_a_trainer_cannot_take_are_said_and_left_out(in_process, tmp_path):
    """Of 4 examples: none, one, and one class alone are among 320 subsets."""
    result = attribute(write(tmp_path, OWN, trainer="needs_both_classes", n_train=4))
    assert result.exit_code == 0, result.output
    found = statuses(outputs_in(tmp_path))
    n_failed = int((found == Status.FAILED).sum())
    assert 0.3 < n_failed / 320 < 0.6  # 7 of the 16 subsets
    assert f"of 320 models ({n_failed} failed)." in result.output
    said = " ".join(failures(tmp_path))
    assert "samples of at least 2 classes; 0 examples" in said
    assert "samples of at least 2 classes; 1 examples" in said


@pytest.mark.parametrize("kind", ["softmax", "mlp"])
def test_built_in_recipes_train_on_nothing_one_example_and_few_classes(in_process, tmp_path, kind):
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    result = attribute(write(tmp_path, DIGITS, kind=kind))
    assert result.exit_code == 0, result.output
    assert "to 64 of 64 models." in result.output
    masks, _ = Bank.open(tmp_path / "bank").runs(SEED, 0, 2)
    sizes = np.bincount(masks.unpack().sum(1), minlength=4)
    assert (sizes[:2] > 0).all()
    assert np.isfinite(outputs_in(tmp_path)).all()


def test_a_recipe_that_always_diverges_is_said_at_once(in_process, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    many = DIGITS.replace("n_train = 3", "n_train = 40")  # no subset is empty
    result = attribute(write(tmp_path, many, kind="mlp", settings="learning_rate = 1e30"))
    assert result.exit_code != 0
    assert "all of the first 32 trainings failed, so nothing was stored" in result.stderr
    assert "expected training that ends in finite logits, got NaN or infinity" in result.stderr
    assert Bank.open(tmp_path / "bank").stored(SEED) == []


def mounted(folder: Path, options: str, commands: str) -> subprocess.CompletedProcess[str]:
    """Run commands where a small file system lies over a folder; skip where none can be mounted."""
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare")
    mount = f"mount -t tmpfs -o {options} none {folder}"
    if subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("needs the right to mount a small file system")
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", f"{mount}; {commands}"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


READ = "import sys; from pyattr.retraining.bank import Bank; bank = Bank.open(sys.argv[1]); \
chunks = bank.stored(3); print('read', sum(len(bank.read(3, chunk)) for chunk in chunks))"


def commands(*lines: str, job: Path, folder: Path) -> str:
    """A shell script; ATTRIBUTE, READ and SHOW stand for commands over the job in the folder."""
    words = {
        "ATTRIBUTE": f"{sys.executable} -m pyattr.cli attribute {folder}/job.toml --workers 1; "
        'echo "ended $?"',
        "READ": f'{sys.executable} -c "{READ}" {folder}/bank',
    }
    return "; ".join([f"cp {job} {folder}/job.toml", *(words.get(line, line) for line in lines)])


def test_a_full_disk_is_said_and_more_space_is_all_it_takes(tmp_path):
    job = write(tmp_path, OWN, trainer="quick", count=3200)
    folder = tmp_path / "small"
    folder.mkdir()
    lines = ("ATTRIBUTE", "READ", f"mount -o remount,size=16m {folder}", "ATTRIBUTE", "READ")
    done = mounted(folder, "size=256k", commands(*lines, job=job, folder=folder))
    first, n_read, second, all_read = (
        line for line in done.stdout.splitlines() if line.startswith(("ended", "read"))
    )
    assert first != "ended 0"
    assert "Traceback" not in done.stderr
    assert f"bank {folder}/bank cannot take chunk" in done.stderr
    assert "No space left on device; what it holds can be read" in done.stderr
    assert 0 < int(n_read.split()[1]) < 3200
    assert (second, all_read) == ("ended 0", "read 3200")


def test_a_full_disk_under_the_results_names_their_folder(tmp_path):
    job = write(tmp_path, 'bank = "../bank"\n' + OWN, trainer="quick", count=3200)
    folder = tmp_path / "small"
    folder.mkdir()
    lines = ("ATTRIBUTE", f"mount -o remount,size=16m {folder}", "ATTRIBUTE")
    done = mounted(folder, "size=32k", commands(*lines, job=job, folder=folder))
    assert [line for line in done.stdout.splitlines() if line.startswith("ended")][1] == "ended 0"
    assert "Traceback" not in done.stderr
    assert f"{folder}/attribution: No space left on device; the bank is whole" in done.stderr


def test_a_read_only_folder_is_said_and_can_be_read(tmp_path):
    job = write(tmp_path, OWN, trainer="quick", count=320)
    folder = tmp_path / "fixed"
    folder.mkdir()
    more = f"sed -i 's/count = 320/count = 640/' {folder}/job.toml"
    lines = ("ATTRIBUTE", more, f"mount -o remount,ro {folder}", "ATTRIBUTE", "READ")
    done = mounted(folder, "size=16m", commands(*lines, job=job, folder=folder))
    said = [line for line in done.stdout.splitlines() if line.startswith(("ended", "read"))]
    assert said[0] == "ended 0", done.stderr
    assert said[1] != "ended 0"
    assert said[2] == "read 320"
    assert "Traceback" not in done.stderr
    assert f"bank {folder}/bank cannot be written: Read-only file system" in done.stderr
