"""Workers as processes of this machine, each on cores, or a GPU, of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType

from pyattr.errors import check_count
from pyattr.retraining.worker import Lost, Outcome, Task, Work, Worker

__all__ = ["ProcessPool"]

_PATIENCE = 10.0  # seconds for a worker to end by itself


@dataclass
class _Slot:
    """A worker's place: its cores and, while it lives, its process."""

    cores: frozenset[int]
    gpu: str | None
    process: BaseProcess | None = None
    connection: Connection | None = None
    task: Task | None = None


class ProcessPool:
    """A `Pool` of fresh processes.

    A worker that is lost is replaced when the next task is handed out. Workers end when the driver does,
    however it ends, once they have stored the chunk that they are at.

    Parameters
    ----------
    work : Work
        Sent to each process, which must be able to import what it names.
    n_workers : int, optional
        One a core, or a GPU, by default.
    gpus : sequence of str
        Names as in ``CUDA_VISIBLE_DEVICES``; workers take them in turn.
    """

    def __init__(self, work: Work, n_workers: int | None = None, gpus: Sequence[str] = ()) -> None:
        cores = _cores()
        n = len(gpus) or len(cores) if n_workers is None else n_workers
        n = check_count("n_workers", n, 1)
        self._work = work
        self._context = multiprocessing.get_context("spawn")
        self._slots = [
            _Slot(_share(cores, worker, n), gpus[worker % len(gpus)] if gpus else None)
            for worker in range(n)
        ]

    def __enter__(self) -> ProcessPool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for slot in self._slots:
            if slot.connection is not None:
                slot.connection.close()
        for slot in self._slots:
            if slot.process is not None:
                if error is not None and slot.task is not None:
                    slot.process.terminate()  # its chunk is lost, or there already
                slot.process.join(_PATIENCE)
                if slot.process.is_alive():
                    slot.process.kill()
                    slot.process.join()

    @property
    def capacity(self) -> int:
        """One task a worker."""
        return len(self._slots)

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that live."""
        return [
            slot.process.pid
            for slot in self._slots
            if slot.process is not None and slot.process.pid is not None
        ]

    def submit(self, task: Task) -> None:
        """Hand a task to a free worker, which is started if need be."""
        slot = next(slot for slot in self._slots if slot.task is None)
        slot.task = task
        if slot.connection is None:
            self._start(slot)
        assert slot.connection is not None
        try:
            slot.connection.send(task)
        except OSError:  # it died while it was idle
            self._reap(slot)
            self._start(slot)
            slot.connection.send(task)

    def wait(self) -> list[Outcome]:
        """Wait for some tasks that were handed out."""
        busy = {
            slot.connection: slot
            for slot in self._slots
            if slot.connection is not None and slot.task is not None
        }
        ready = wait(list(busy))
        return [self._receive(slot) for connection, slot in busy.items() if connection in ready]

    def _receive(self, slot: _Slot) -> Outcome:
        assert slot.connection is not None
        assert slot.task is not None
        task, slot.task = slot.task, None
        try:
            outcome: Outcome = slot.connection.recv()
        except (EOFError, OSError):
            return Lost(task, self._reap(slot))
        return outcome

    def _start(self, slot: _Slot) -> None:
        slot.connection, theirs = self._context.Pipe()
        # Not a daemon: a worker may have to start processes itself, see `train_apart`.
        arguments = (theirs, self._work, slot.cores, slot.gpu)
        process = self._context.Process(target=_serve, args=arguments)
        try:
            with _interrupts_held():
                process.start()
                slot.process = process  # now there is one to put away
        except RuntimeError as error:
            if "bootstrapping" not in str(error):
                raise
            raise RuntimeError(  # this is such a process, which imports the program that started it
                "workers import the program that starts them: let it do so under "
                'if __name__ == "__main__":'
            ) from None
        finally:
            theirs.close()

    def _reap(self, slot: _Slot) -> str:
        """Put away a dead worker; say how it ended."""
        assert slot.process is not None
        assert slot.connection is not None
        slot.connection.close()
        slot.process.join(_PATIENCE)
        code, pid = slot.process.exitcode, slot.process.pid
        slot.process = slot.connection = None
        how = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
        how += ", what it said is above" if code == 1 else ""  # Python's traceback
        return f"worker {pid} was lost ({how})"


def _serve(connection: Connection, work: Work, cores: frozenset[int], gpu: str | None) -> None:
    """Train what comes in until nothing more can."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # also for the processes that it starts itself
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    worker = Worker(work)
    while True:
        try:
            connection.send(worker(connection.recv()))
        except (EOFError, OSError):  # the driver is gone
            return


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach, not even while they import; it is the driver's.

    A process inherits which signals are blocked. Here one that comes meanwhile arrives afterwards.
    """
    resource_tracker.ensure_running()  # else started with the process, and unblocks the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _cores() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _share(cores: Sequence[int], worker: int, n_workers: int) -> frozenset[int]:
    """Cores of a worker: an equal share, or one in turn where there are more workers."""
    if n_workers >= len(cores):
        return frozenset([cores[worker % len(cores)]])
    begin, end = (len(cores) * k // n_workers for k in (worker, worker + 1))
    return frozenset(cores[begin:end])
