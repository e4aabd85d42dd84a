"""Filling a bank by workers that may be lost: which chunk is trained when, and again.

The workers write to the bank themselves; what comes back to the driver is a few numbers a chunk, and no
more tasks are handed out than the workers can hold, so its work and memory do not grow with the bank.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

from pyattr.retraining.worker import TRIES, Done, Lost, Outcome, Stopped, Task

__all__ = ["Pool", "Progress", "fill"]


class Pool(Protocol):
    """Workers, wherever they run."""

    @property
    def capacity(self) -> int:
        """How many tasks it takes at a time."""

    def submit(self, task: Task) -> None:
        """Hand out a task."""

    def wait(self) -> list[Outcome]:
        """Wait for some tasks that were handed out."""


@dataclass
class Progress:
    """How far the filling is.

    Attributes
    ----------
    n_models : int
        Models to train in this run.
    n_done : int
        Models stored since it began.
    n_failed : dict of status name to int
        Of these.
    n_lost : int
        Workers lost since it began.
    said : str
        What the last failed training, or lost worker, said.
    seconds : float
        Since the first chunk was handed out.
    n_first, seconds_to_first : int, float
        Models of the first chunk, and when it was there: starting takes its time.
    """

    n_models: int
    n_done: int = 0
    n_failed: dict[str, int] = field(default_factory=dict)
    n_lost: int = 0
    said: str = ""
    seconds: float = 0.0
    n_first: int = 0
    seconds_to_first: float = 0.0

    @property
    def models_per_second(self) -> float:
        """Rate since the first chunk; before the second, since the start."""
        n, seconds = self.n_done - self.n_first, self.seconds - self.seconds_to_first
        if n > 0 and seconds > 0:
            return n / seconds
        return self.n_done / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """At this rate; None before the first chunk."""
        rate = self.models_per_second
        return (self.n_models - self.n_done) / rate if rate > 0 else None


def fill(
    pool: Pool,
    tasks: Iterable[Task],
    n_tasks: int,
    chunk_rows: int,
    tell: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Train chunks until all are in the bank.

    Parameters
    ----------
    pool : Pool
    tasks : iterable of Task
        Read as workers become free.
    n_tasks : int
        How many, for the progress.
    chunk_rows : int
        Models a chunk.
    tell : callable
        Called with the progress after each chunk; it is the same object every time.

    Returns
    -------
    Progress
        The last one.

    Raises
    ------
    RuntimeError
        If a task cannot be done; the message says why. What was stored stays.
    """
    progress = Progress(n_tasks * chunk_rows)
    started = time.perf_counter()
    waiting, again, n_out = iter(tasks), list[Task](), 0
    in_a_row = 0  # workers lost since a chunk was stored
    while True:
        n_free = pool.capacity - n_out
        for task in _take(waiting, again, n_free, lost_first=in_a_row >= pool.capacity):
            pool.submit(task)
            n_out += 1
        if not n_out:
            return progress
        for outcome in pool.wait():
            n_out -= 1
            progress.seconds = time.perf_counter() - started
            if isinstance(outcome, Stopped):
                raise RuntimeError(outcome.why)
            if isinstance(outcome, Lost):
                again.append(_once_more(outcome))
                in_a_row += 1
                progress.n_lost += 1
                progress.said = outcome.how
            else:
                in_a_row = 0
                _count(progress, outcome, chunk_rows)
            tell(progress)


def _take(waiting: Iterator[Task], again: list[Task], n: int, lost_first: bool) -> Iterator[Task]:
    """Up to n tasks, those of lost workers last: whatever took the worker may be over by then.

    Unless no worker gets anywhere. Then these are tried first until one of them is through, or says what is
    the matter, rather than every task of a large job losing a worker.
    """
    for _ in range(n):
        lost = again.pop(0) if again and lost_first else None
        task = lost or next(waiting, None) or (again.pop(0) if again else None)
        if task is None:
            return
        yield task


def _once_more(lost: Lost) -> Task:
    task = replace(lost.task, n_lost=lost.task.n_lost + 1)
    if task.n_lost >= 2 * TRIES:
        raise RuntimeError(
            f"chunk {task.chunk} of seed {task.seed}: lost {task.n_lost} workers, the last: {lost.how}"
        )
    return task


def _count(progress: Progress, done: Done, chunk_rows: int) -> None:
    if not progress.n_done:
        progress.n_first, progress.seconds_to_first = chunk_rows, progress.seconds
    progress.n_done += chunk_rows
    progress.said = done.said or progress.said
    for status, n in done.n_failed.items():
        progress.n_failed[status] = progress.n_failed.get(status, 0) + n
