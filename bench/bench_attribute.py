"""From a job file to a verdict on Fashion-MNIST, killed and resumed on the way.

For each case (``--cases``, all by default) `pyattr attribute` is started, killed with all its workers
(SIGKILL) when a third of its chunks is stored, and started again until it ends. Then:

- chunks that were there at the kill must have the same bytes afterwards;
- some chunks (``--again``), half of them the first that were missing at the kill, are trained again by
  processes that nothing interrupts, into a bank of their own: the same bytes;
- `pyattr.verify` (method "gap", δ = 0.05) judges the published scores, and half of them, by fresh
  trainings of the job's trainer. Both judgements have the same masks and seeds, so what both ask for is
  trained once.

Claim: the honest scores end with ACCEPT, their halves with ABORT, and no byte differs.

Sizes are what 2 cores train in minutes. ``mlp`` has N = 5,000 and images pooled to 7 x 7. ResNet-9's seeds
(initialisation, order) move its outputs far more than the choice of half of 5,000 images does: 95% of the
variance of a short training. Scores to within ε of the remaining 5% would take days of these cores. So
its masks choose something larger than an image: ``resnet9-sellers`` has 5,000 images that belong to 25
sellers, each class shared among them very unevenly (Dirichlet, 0.3), so that it matters who is in; half of
the sellers train 25 steps of 100 images of 14 x 14 on 8 channels. ``resnet9`` has N = 50 images and masks
that choose images, 20 steps. Scores of images explain about half of the variance, those of sellers 60%.

Run: ``python bench/bench_attribute.py [--cases mlp resnet9 resnet9-sellers] [--folder DIR] [--again N]``.
A case that was recorded is kept in results/attribute.json until it is run again.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import harness
import numpy as np

import pyattr
from pyattr import datasets, jobs
from pyattr.jobs.training import Part, bank_of, parts_of
from pyattr.retraining.bank import Bank
from pyattr.retraining.executors import Executor, workers
from pyattr.retraining.scheduling import fill
from pyattr.retraining.worker import Task, Work
from pyattr.verification.cheats import HalvedScores
from pyattr.verification.evaluate import Recorded

ROOT = Path(__file__).parents[1]
SEED = 40_000  # of the judgements
DELTA = 0.05
# Job file, ε.
CASES = {
    "mlp": (
        """
[data]
name = "fashion-mnist"
n_train = 5000
n_targets = 4
pool = 4

[recipe]
kind = "mlp"
hidden = 32
batch_size = 100
weight_decay = 0.03

[models]
count = 60000
held_out = 512
chunk = 256
""",
        0.08,
    ),
    "resnet9": (
        """
[data]
name = "fashion-mnist"
n_train = 50
n_targets = 2
pool = 2

[recipe]
kind = "resnet9"
width_multiplier = 0.125
epochs = 20
batch_size = 25
learning_rate = 0.5
label_smoothing = 0.0
flip = false
translate = 0
cutout = 0

[models]
count = 1536
held_out = 128
chunk = 16
""",
        0.08,
    ),
    "resnet9-sellers": (
        """
[data]
name = "fashion-mnist"
n_train = 5000
n_targets = 4
pool = 2
sellers = "owners.csv"

[recipe]
kind = "resnet9"
width_multiplier = 0.125
epochs = 1
batch_size = 100
learning_rate = 0.5
label_smoothing = 0.0
flip = false
translate = 0
cutout = 0

[models]
count = 384
held_out = 32
chunk = 16
""",
        0.12,
    ),
}
N_SELLERS, SKEW = 25, 0.3


def write_owners(file: Path, labels: Any) -> None:
    """Deal each class to the sellers in shares drawn from a Dirichlet distribution."""
    rng = np.random.default_rng(0)
    owners = np.empty(len(labels), int)
    for label in np.unique(labels):
        own = rng.permutation(np.flatnonzero(labels == label))
        ends = np.cumsum(rng.dirichlet(np.full(N_SELLERS, SKEW))) * len(own)
        for seller, part in enumerate(np.split(own, ends[:-1].astype(int))):
            owners[part] = seller
    np.savetxt(file, owners, "%d")


def started(job: Path) -> subprocess.Popen[bytes]:
    """Start `pyattr attribute` and its workers in a process group of their own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pyattr.cli", "attribute", str(job)]
    return subprocess.Popen(command, env=environment, start_new_session=True)


def chunk_files(bank: Path) -> dict[str, bytes]:
    """Bytes of every stored chunk by its path in the bank."""
    return {str(path.relative_to(bank)): path.read_bytes() for path in bank.glob("seed-*/c.*")}


def kill_and_resume(job: jobs.Job, file: Path) -> dict[str, Any]:
    """Run the job with one kill; seconds of either run, and what was stored when."""
    bank = Path(job.bank_url)
    n_chunks = sum(part.n_chunks for part in _parts(job))
    start = time.perf_counter()
    process = started(file)
    while len(list(bank.glob("seed-*/c.*"))) < n_chunks // 3:
        assert process.poll() is None, "the command ended before it was killed"
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    killed = time.perf_counter()
    before = chunk_files(bank)
    assert started(file).wait() == 0
    ended = time.perf_counter()
    after = chunk_files(bank)
    assert len(after) == n_chunks
    return {
        "chunks": n_chunks,
        "chunks_at_the_kill": len(before),
        "same_bytes_after_resuming": all(after[name] == data for name, data in before.items()),
        "seconds_to_the_kill": killed - start,
        "seconds_resumed_with_fit": ended - killed,
        "missing_at_the_kill": sorted(set(after) - set(before)),
    }


def _parts(job: jobs.Job) -> list[Part]:
    return parts_of(job, bank_of(job))


def trained_again(job: jobs.Job, folder: Path, at_the_kill: list[str], n: int) -> dict[str, Any]:
    """Train some chunks without interruption and compare bytes."""
    bank = bank_of(job)
    fresh = Bank.create(folder / "fresh", bank.manifest)
    fit = next(part for part in parts_of(job, bank) if part.name == "fit")
    missing = [c for c in range(fit.n_chunks) if f"seed-{fit.seed}/c.{c}.0" in at_the_kill]
    others = np.random.default_rng(0).permutation(fit.n_chunks).tolist()
    chosen = list(dict.fromkeys([*missing[: n // 2], *others]))[:n]
    tasks = [Task(fit.seed, chunk) for chunk in chosen]
    with workers(Executor(), Work(fresh.url, jobs.Source(job))) as pool:
        fill(pool, tasks, len(tasks), bank.manifest.chunk_rows)
    here, there = chunk_files(folder / "fresh"), chunk_files(Path(job.bank_url))
    return {
        "chunks": len(here),
        "models": len(here) * bank.manifest.chunk_rows,
        "same_bytes": all(there[name] == data for name, data in here.items()),
    }


def judged(job: jobs.Job, epsilon: float) -> dict[str, Any]:
    """Verdicts on what was published and on half of it."""
    honest = pyattr.load_attribution(job.out_folder / "attribution.safetensors")
    retrain: Any = jobs.Source(job)()
    shared = Recorded(retrain.with_threads(os.cpu_count() or 1))
    record: dict[str, Any] = {}
    for name, scores in (("honest", honest), ("halved", HalvedScores()(honest))):
        start = time.perf_counter()
        verdict = pyattr.verify(shared, scores, epsilon=epsilon, delta=DELTA, seed=SEED)
        record[name] = {
            "outcome": verdict.outcome.value,
            "outcomes": [outcome.value for outcome in verdict.outcomes],
            "trainings": verdict.n_retrained,
            "gap": verdict.gap.tolist(),
            "gap_upper": verdict.gap_upper.tolist(),
            "seconds": time.perf_counter() - start,
        }
    return record


def case(name: str, folder: Path, n_again: int) -> dict[str, Any]:
    """Run one case from the job file to the verdicts."""
    text, epsilon = CASES[name]
    file = folder / "job.toml"
    file.write_text(text.lstrip())
    job = jobs.load_job(file)
    assert job.data is not None
    if isinstance(job.data.sellers, str):
        data = datasets.load(job.data.name, job.data.n_train, job.data.n_targets)
        write_owners(folder / job.data.sellers, data.train_labels)
    resumed = kill_and_resume(job, file)
    again = trained_again(job, folder, resumed.pop("missing_at_the_kill"), n_again)
    quality = json.loads((job.out_folder / "quality.json").read_text())
    seconds = resumed["seconds_to_the_kill"] + resumed["seconds_resumed_with_fit"]
    fitted, held_out = quality["fit"], quality["held_out"]
    return {
        "job": text.strip().splitlines(),
        "epsilon": epsilon,
        "delta": DELTA,
        "models": fitted["n_models"] + held_out["n_models"],
        "models_per_s_with_kill_and_fit": (fitted["n_models"] + held_out["n_models"]) / seconds,
        "fit_seconds": fitted["seconds"],
        "held_out_r2": held_out["r2"]["per_target"],
        "examples_of_sellers": quality.get("sellers", {}).get("n_examples"),
        "kill": resumed,
        "trained_again": again,
        "verdicts": judged(job, epsilon),
    }


def claimed(record: dict[str, Any]) -> bool:
    """Whether a case showed what it must."""
    outcomes = {name: verdict["outcome"] for name, verdict in record["verdicts"].items()}
    return (
        outcomes == {"honest": pyattr.Outcome.ACCEPT.value, "halved": pyattr.Outcome.ABORT.value}
        and record["kill"]["same_bytes_after_resuming"]
        and record["trained_again"]["same_bytes"]
    )


def main() -> None:
    """Run the cases and write each down as it is done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--folder", help="of the banks, on a disk; a temporary one by default")
    parser.add_argument("--again", type=int, default=32, help="Chunks to train again.")
    options = parser.parse_args()
    path = harness.RESULTS / "attribute.json"
    results: dict[str, Any] = json.loads(path.read_text())["results"] if path.exists() else {}
    for name in options.cases:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            results[name] = case(name, Path(folder), options.again)
        print(name, json.dumps(results[name], indent=1), flush=True)
        harness.write("attribute", results, n_threads=os.cpu_count() or 1)
    assert all(claimed(results[name]) for name in options.cases)


if __name__ == "__main__":
    main()
