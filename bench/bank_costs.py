"""What the bank and its workers cost beside the training itself: parts of bench_retraining.

Claims on 2 free cores, where a synced write of a small file takes at most 2 ms: a null training through
retrain_with, checks, checksum and the disk takes at most 50 µs at N = 1,000 and 1 ms at N = 50,000, 200
times less than pyDVL's MSR sampler. opendataval's loop stores nothing, so it is compared with masks, seeds,
trainings and scores in memory: at N = 1,000 it takes 50 times as long as a plain train function that is
called once a model, and 200 times as long as a `Retrain`, called once for all; at N = 50,000 both 200 times.
Chunks of 64 rows and 1,000 targets go to the bank at half the rate at least of plain files of the same
bytes, synced likewise. Ray trains at least 90% of the local executor's models/s.

The peers' environment: ``pip install "numpy<1.26" scikit-learn==1.4.2 "transformers<4.40" pyDVL==0.10.0
geomloss==0.2.6 torch pandas pandera pykeops torcheval typer matplotlib requests``, then ``pip install
--no-deps opendataval==1.3.0``.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness

CHUNK_ROWS = 64
N_FRAMEWORK = 2048  # null trainings a round
N_CHUNKS, N_TARGETS = 100, 1000  # of a round of bank writes
N_MODELS = 64 * 100  # trained by each executor in a round
# Updates an example of pyDVL, which takes minutes for one at N = 50,000; models of opendataval.
PEER_SIZES = {
    "pyDVL MSR": {1000: 20, 5000: 4},
    "opendataval influence": {1000: 2000, 50_000: 2000},
}


class NullTrain:
    """A training that takes no time."""

    def __init__(self, n_targets: int) -> None:
        import numpy as np

        self._outputs = np.zeros(n_targets, np.float32)

    def __call__(self, indices: Any, seed: int) -> Any:
        return self._outputs


def _bank(folder: str, n_train: int, n_targets: int) -> Any:
    from pyattr.retraining.bank import Bank
    from pyattr.retraining.bank_manifest import Manifest

    return Bank.create(folder, Manifest(n_train, n_targets, 0.5, "iid", CHUNK_ROWS, {}))


def framework(folder: str, rounds: int, peers_python: str | None) -> dict[str, Any]:
    """Microseconds that a null training takes, to the synced chunk and to scores in memory."""
    from pyattr.retraining import retrain_with
    from pyattr.retraining.worker import Done, Task, Work, Worker

    retrain = retrain_with(NullTrain(100))
    ours: dict[str, Any] = {}
    for n_train in (1000, 50_000):
        with tempfile.TemporaryDirectory(dir=folder) as where:
            _bank(where, n_train, 100)
            worker, chunks = Worker(Work(where, lambda: retrain)), itertools.count()

            def stored(worker: Any = worker, chunks: Any = chunks) -> None:
                for _ in range(N_FRAMEWORK // CHUNK_ROWS):
                    assert isinstance(worker(Task(0, next(chunks))), Done)

            n_models = PEER_SIZES["opendataval influence"][n_train]
            peers: dict[str, Callable[[], object]] = {"stored": stored}
            for kind, null in (
                ("in memory", retrain_with(NullTrain(1))),
                ("in blocks", null_retrain),
            ):
                peers[kind] = attribution_of(null, n_train, n_models)
            times = harness.measure(peers, rounds)
        for kind, time in times.items():
            n = N_FRAMEWORK if kind == "stored" else n_models
            ours[f"us_per_retraining {kind}, N={n_train}"] = time["median_s"] / n * 1e6
    return {"pyattr": ours, **_against(ours, _peers(peers_python))}


def null_retrain(masks: Any, seeds: Any) -> Any:
    """Train no models, all of a block at once."""
    import numpy as np

    return np.zeros((len(masks), 1), np.float32)


def attribution_of(retrain: Any, n_train: int, n_models: int) -> Callable[[], object]:
    """Do what opendataval does: draw subsets, train, attribute one number; store nothing."""
    import pyattr

    calls = itertools.count()

    def attribute() -> object:
        seed = next(calls)
        masks = pyattr.sample_masks(n_models, n_train, seed=seed)
        outputs = retrain(masks, pyattr.sample_seeds(n_models, seed))
        return pyattr.empirical_influence(masks, outputs)

    return attribute


def _against(ours: dict[str, Any], peers: dict[str, Any]) -> dict[str, Any]:
    """Add to each peer how many times longer it takes: one that stores nothing, than we do then."""
    for name, measured in peers.items():
        kinds = ("in memory", "in blocks") if name.startswith("opendataval") else ("stored",)
        for key, time in list(measured.items()):
            _, _, size = key.partition(", ")
            for kind in kinds:
                if (own := ours.get(f"us_per_retraining {kind}, {size}")) is not None:
                    measured[f"over pyattr {kind}, {size}"] = time / own
    return peers


PEERS = """
import contextlib, io, json, sys, time, warnings
warnings.simplefilter("ignore")
import numpy as np
from importlib.metadata import version
from unittest.mock import MagicMock
import torch, transformers
try:
    import torchvision
except ImportError:  # opendataval imports it for its image data sets, of which none is used here
    for name in ("", ".transforms", ".transforms.functional", ".datasets", ".models"):
        sys.modules["torchvision" + name] = MagicMock()
from opendataval.dataval import InfluenceSubsample
from opendataval.model import Model
from pydvl.valuation.dataset import Dataset
from pydvl.valuation.methods.banzhaf import MSRBanzhafValuation
from pydvl.valuation.stopping import MaxUpdates
from pydvl.valuation.utility.base import UtilityBase

class NullUtility(UtilityBase):
    calls = 0
    def __call__(self, sample):
        NullUtility.calls += 1
        return 0.5

class NullModel(Model):
    def clone(self):
        return self
    def fit(self, *arguments, **named):
        return self
    def predict(self, x):
        return x

def pydvl(n, updates):
    data = Dataset(np.zeros((n, 2)), np.zeros(n, int))
    valuation = MSRBanzhafValuation(
        NullUtility(), is_done=MaxUpdates(updates), progress=False, seed=0
    )
    NullUtility.calls = 0
    started = time.perf_counter()
    valuation.fit(data)
    return (time.perf_counter() - started) / NullUtility.calls

def opendataval(n, n_models):
    x = torch.zeros(n, 2)
    evaluator = InfluenceSubsample(n_models, 0.5, 0).input_data(x, x, x[:100], x[:100])
    evaluator.pred_model, evaluator.metric = NullModel(), lambda y, predicted: 0.5
    started = time.perf_counter()
    with contextlib.redirect_stderr(io.StringIO()):
        evaluator.train_data_values()
    return (time.perf_counter() - started) / n_models

sizes = json.loads(sys.argv[1])
result = {}
for name, call in (("pyDVL MSR", pydvl), ("opendataval influence", opendataval)):
    result[name] = {"version": version(name.split()[0])}
    for n, amount in sizes[name].items():
        result[name][f"us_per_retraining, N={n}"] = call(int(n), amount) * 1e6
print(json.dumps(result))
"""


def _peers(python: str | None) -> dict[str, Any]:
    """The same of packages that need an older NumPy and so an environment of their own."""
    if python is None:
        return {}
    command = [python, "-c", PEERS, json.dumps(PEER_SIZES)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def writes(folder: str, rounds: int) -> dict[str, Any]:
    """MB/s of chunks into the bank, into plain files and by the zarr package."""
    import numpy as np

    outputs = np.random.default_rng(0).standard_normal((CHUNK_ROWS, N_TARGETS), np.float32)
    data = outputs.tobytes()

    def plain(where: str, sync: bool) -> None:
        for chunk in range(N_CHUNKS):
            with Path(where, str(chunk)).open("wb") as file:
                file.write(data)
                if sync:
                    file.flush()
                    os.fsync(file.fileno())

    def bank(where: str) -> None:
        opened = _bank(where, 100, N_TARGETS)
        for chunk in range(N_CHUNKS):
            assert opened.put(0, chunk, outputs)

    def zarr_package(where: str) -> None:
        import zarr

        array = zarr.create_array(
            where, name="x", shape=(N_CHUNKS * CHUNK_ROWS, N_TARGETS), dtype="f4",
            chunks=outputs.shape, compressors=[zarr.codecs.Crc32cCodec()],
        )  # fmt: skip
        for chunk in range(N_CHUNKS):
            array[chunk * CHUNK_ROWS : (chunk + 1) * CHUNK_ROWS] = outputs

    def in_a_folder(write: Callable[[str], None]) -> Callable[[], None]:
        def call() -> None:
            with tempfile.TemporaryDirectory(dir=folder) as where:
                write(where)

        return call

    peers = {
        "bank, synced": bank,
        "plain files, synced": lambda where: plain(where, True),
        "plain files, not synced": lambda where: plain(where, False),
        "zarr package, not synced": zarr_package,
    }
    times = harness.measure({name: in_a_folder(call) for name, call in peers.items()}, rounds)
    size = len(data) * N_CHUNKS / 1e6
    rates = {name: size / time["median_s"] for name, time in times.items()}
    share = rates["bank, synced"] / rates["plain files, synced"]
    return {"megabytes_per_s": rates, "share_of_plain_files_synced": share, "times": times}


JOB = """
[data]
name = "digits"
n_train = 1000
n_targets = 797
[recipe]
kind = "softmax"
[models]
count = {count}
held_out = 0
seed = {seed}
{chunk}
"""
# Models to a task: what jobs take of their own, and the trainer's block, which takes a hundredth of a second.
CHUNKS = {"chunks that jobs choose": "", "chunks of 32": "chunk = 32"}


def executors(folder: str, rounds: int, n_workers: int) -> dict[str, Any]:
    """Both executors at each size of chunks."""
    return {name: at_chunks(line, folder, rounds, n_workers) for name, line in CHUNKS.items()}


def at_chunks(line: str, folder: str, rounds: int, n_workers: int) -> dict[str, Any]:
    """Models/s of softmax regressions on digits, by the same worker under both executors.

    One after the other, which is first in turn: the share is the median over these pairs, so that a machine
    that slows down meanwhile slows both.
    """
    from pyattr import jobs
    from pyattr.retraining.executors import Executor
    from pyattr.retraining.scheduling import Progress

    rates: dict[str, list[float]] = {"local": [], "ray": []}
    size = 0
    for seed in range(rounds):
        for kind in ("local", "ray") if seed % 2 == 0 else ("ray", "local"):
            with tempfile.TemporaryDirectory(dir=folder) as where:
                path = Path(where, "job.toml")
                path.write_text(JOB.format(count=N_MODELS, seed=seed, chunk=line))
                last: list[Progress] = []
                bank = jobs.train(jobs.load_job(path), Executor(kind, n_workers), last.append)
                size = bank.manifest.chunk_rows
                assert last[-1].n_done == N_MODELS
                rates[kind].append(last[-1].models_per_second)
    medians = {kind: statistics.median(values) for kind, values in rates.items()}
    shares = [ray / local for local, ray in zip(rates["local"], rates["ray"], strict=True)]
    return {
        "models_per_s": medians,
        "all": rates,
        "n_workers": n_workers,
        "models_per_chunk": size,
        "ray_share_of_local": statistics.median(shares),
    }
