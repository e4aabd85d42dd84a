"""What a worker does with a chunk, and what comes back of it: a few numbers, never outputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pyattr.interface import Retrain
from pyattr.retraining.bank import Bank, Failure
from pyattr.retraining.outcomes import train_apart, train_rows

__all__ = ["TRIES", "Done", "Lost", "Outcome", "Stopped", "Task", "Work", "Worker"]

TRIES = 3  # of a chunk whose workers are lost, before its rows are trained apart


@dataclass(frozen=True)
class Work:
    """What a worker is told once; it can be pickled.

    Attributes
    ----------
    bank : str
        Folder or URL.
    make_retrain : callable
        Makes the trainer in the worker.
    platform : callable, optional
        Says the worker's platform class; empty if nothing is known of it.
    """

    bank: str
    make_retrain: Callable[[], Retrain]
    platform: Callable[[], dict[str, Any]] | None = None


@dataclass(frozen=True)
class Task:
    """A chunk to train.

    Attributes
    ----------
    seed, chunk : int
    n_lost : int
        Workers that were lost over it.
    """

    seed: int
    chunk: int
    n_lost: int = 0

    @property
    def apart(self) -> bool:
        """Whether its rows are trained in processes of their own, since it seems to kill workers."""
        return self.n_lost >= TRIES


@dataclass(frozen=True)
class Done:
    """A chunk that is in the bank.

    Attributes
    ----------
    task : Task
    n_failed : mapping of status name to int
    said : str
        What the first failed training said, "" if none failed.
    """

    task: Task
    n_failed: dict[str, int] = field(default_factory=dict)
    said: str = ""


@dataclass(frozen=True)
class Lost:
    """A task whose worker is gone."""

    task: Task
    how: str


@dataclass(frozen=True)
class Stopped:
    """A task that no other worker would do better: the disk is full, the trainer is wrong."""

    task: Task
    why: str


Outcome = Done | Lost | Stopped


class Worker:
    """Trains chunks into a bank; one in each process that trains."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._retrain: Retrain | None = None
        self._bank: Bank | None = None

    def __call__(self, task: Task) -> Done | Stopped:
        """Train a chunk, unless it is there, and store it."""
        try:
            return self._train(task)
        except Exception as error:  # anything here is no training's own failure
            return Stopped(task, _said(error))

    def _open(self) -> Bank:
        if self._bank is None:
            self._bank = Bank.open(self._work.bank)
            if self._work.platform is not None:
                record = self._work.platform()
                if record:
                    self._bank.note_platform(record)
        return self._bank

    def _train(self, task: Task) -> Done:
        bank = self._open()
        masks, seeds = bank.runs(task.seed, task.chunk)
        n_targets = bank.manifest.n_targets
        if task.apart:
            outcome = train_apart(self._work.make_retrain, masks, seeds, n_targets)
        else:
            if self._retrain is None:
                self._retrain = self._work.make_retrain()
            outcome = train_rows(self._retrain, masks, seeds, n_targets)
        outputs, failures = outcome
        first = task.chunk * bank.manifest.chunk_rows
        said = [
            Failure(task.seed, first + row, status, message)
            for row, (status, message) in failures.items()
        ]
        if len(said) == len(masks) and not bank.stored(task.seed):
            raise RuntimeError(
                f"all of the first {len(masks)} trainings failed, so nothing was stored; "
                f"row {said[0].row}: {said[0].message}"
            )
        for failure in said:
            bank.note_failure(failure)
        if not bank.put(task.seed, task.chunk, outputs):
            said = bank.withdraw(task.chunk, said)
        counts = Counter(failure.status.name.lower() for failure in said)
        return Done(task, dict(counts), f"row {said[0].row}: {said[0].message}" if said else "")


def _said(error: Exception) -> str:
    """An error in words; of what this package raises itself they are enough."""
    own = isinstance(error, ValueError | RuntimeError)
    return str(error) if own and str(error) else f"{type(error).__name__}: {error}"
