"""Training what a job's bank does not hold yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from pyattr.jobs.chunks import usual_chunk
from pyattr.jobs.job import Job
from pyattr.jobs.source import Source
from pyattr.retraining.bank import Bank
from pyattr.retraining.bank_format import Status, statuses
from pyattr.retraining.bank_manifest import Manifest
from pyattr.retraining.executors import Executor, workers
from pyattr.retraining.scheduling import Progress, fill
from pyattr.retraining.worker import Task, Work

__all__ = ["Part", "bank_of", "parts_of", "retry", "train"]

# Keys of a job file, by the entries of a manifest.
_KEYS = {"p": "models.p", "design": "models.design", "chunk_rows": "models.chunk"}
_RETRIED = (Status.FAILED, Status.DIED)


@dataclass(frozen=True)
class Part:
    """Rows of one seed that a job needs.

    Attributes
    ----------
    name : {"fit", "held_out"}
    seed : int
    n_chunks : int
    """

    name: str
    seed: int
    n_chunks: int


def bank_of(job: Job) -> Bank:
    """Open the job's bank, and make it if there is none.

    Raises
    ------
    ValueError
        If the recipe is wrong, or the bank there is of another job; the message names the key.
    OSError
        If it cannot be written.
    """
    with job.placed():
        retrain, models = Source(job)(), job.models
        chunk = models.chunk
        if chunk is None:
            try:
                chunk = Bank.open(job.bank_url).manifest.chunk_rows
            except FileNotFoundError:
                chunk = usual_chunk(retrain, models)
        record = retrain.recipe_record()
        sizes = retrain.n_train, retrain.n_targets
        manifest = Manifest(*sizes, models.p, models.design, chunk, record)
        try:
            return Bank.create(job.bank_url, manifest)
        except ValueError as error:
            raise ValueError(_by_key(job, str(error))) from error


def _by_key(job: Job, said: str) -> str:
    """What a bank says of another manifest, by the key of the job file that differs, if one does."""
    where = f"{job.bank_url}: "
    entry, colon, told = said.removeprefix(where).partition(": ")
    sizes = "recipe" if job.data is None else "data"
    bits = "n_train" if job.data is None or job.data.sellers is None else "sellers"
    keys = _KEYS | {"n_train": f"{sizes}.{bits}", "n_targets": f"{sizes}.n_targets"}
    key = keys.get(entry, entry.replace("recipe.recipe.", "recipe."))
    table, _, name = key.partition(".")
    values = job.recipe if table == "recipe" else getattr(job, table, None)
    there = name.partition(".")[0] in values if isinstance(values, dict) else values is not None
    return f"{key}{colon}{told} than {job.bank_url}" if said.startswith(where) and there else said


def parts_of(job: Job, bank: Bank) -> list[Part]:
    """Rows that the job needs, in whole chunks: those to fit to, then those held out."""
    models, rows = job.models, bank.manifest.chunk_rows
    wanted = [("fit", models.seed, models.count), ("held_out", models.second_seed, models.held_out)]
    return [Part(name, seed, -(-count // rows)) for name, seed, count in wanted if count]


def train(
    job: Job,
    executor: Executor | None = None,
    tell: Callable[[Progress], None] = lambda progress: None,
    shard: tuple[int, int] = (0, 1),
) -> Bank:
    """Train what the bank does not hold yet.

    Parameters
    ----------
    job : Job
    executor : Executor, optional
        By default one process a core.
    tell : callable
        Called with the progress, after each chunk.
    shard : (int, int)
        (i, k): only chunks with ``chunk % k == i``.

    Returns
    -------
    Bank
        With all chunks that the job, or the shard, needs.

    Raises
    ------
    ValueError
        As `bank_of`.
    RuntimeError, OSError
        If training cannot go on; what was stored stays.
    """
    bank = bank_of(job)
    missing: list[Task] = []
    for part in parts_of(job, bank):
        bank.extend(part.seed, part.n_chunks)
        chunks = bank.missing(part.seed, part.n_chunks)
        missing += [Task(part.seed, chunk) for chunk in chunks if chunk % shard[1] == shard[0]]
    if missing:
        source = Source(job, bank.manifest)
        with workers(executor or Executor(), Work(bank.url, source, source.platform)) as pool:
            fill(pool, missing, len(missing), bank.manifest.chunk_rows, tell)
    return bank


def retry(job: Job) -> int:
    """Forget the chunks with trainings that raised an error or died, to be trained again.

    Those that diverged stay: they would again.

    Returns
    -------
    int
        How many chunks.
    """
    bank, n_forgotten = bank_of(job), 0
    for seed, chunk in _there(job, bank):
        if np.isin(statuses(bank.read(seed, chunk)), _RETRIED).any():
            bank.forget(seed, chunk)
            n_forgotten += 1
    return n_forgotten


def _there(job: Job, bank: Bank) -> Iterator[tuple[int, int]]:
    for part in parts_of(job, bank):
        for chunk in bank.stored(part.seed):
            if chunk < part.n_chunks:
                yield part.seed, chunk
