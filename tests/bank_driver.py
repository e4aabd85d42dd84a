"""A driver that fills a bank, for tests that kill it.

``python bank_driver.py local|ray FOLDER TRAINER N_CHUNKS``
"""

from __future__ import annotations

import sys

from bank_trainers import MANIFEST, Make

from pyattr.retraining.bank import Bank
from pyattr.retraining.executors import Executor, workers
from pyattr.retraining.scheduling import fill
from pyattr.retraining.worker import Task, Work

SEED = 3


def main(kind: str, folder: str, trainer: str, n_chunks: int) -> None:
    bank = Bank.create(folder, MANIFEST)
    bank.extend(SEED, n_chunks)
    tasks = [Task(SEED, chunk) for chunk in bank.missing(SEED, n_chunks)]
    if tasks:
        with workers(Executor(kind, 2), Work(folder, Make(trainer))) as pool:
            progress = fill(pool, tasks, len(tasks), MANIFEST.chunk_rows)
        print("lost", progress.n_lost)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
