"""A pool of one worker without a process, for what does not depend on processes."""

from __future__ import annotations

from pyattr.retraining.worker import Outcome, Task, Work, Worker


class InProcess:
    """Trains a task when it is handed out."""

    capacity = 1

    def __init__(self, work: Work) -> None:
        self._worker = Worker(work)
        self._done: list[Outcome] = []

    def submit(self, task: Task) -> None:
        self._done.append(self._worker(task))

    def wait(self) -> list[Outcome]:
        done, self._done = self._done, []
        return done
