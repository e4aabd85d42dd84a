"""Where workers run: processes of this machine, or a Ray cluster. The only module that imports ray."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from pyattr.errors import bad_value, check_count
from pyattr.optional import install_line
from pyattr.retraining.processes import ProcessPool
from pyattr.retraining.scheduling import Pool
from pyattr.retraining.worker import Lost, Outcome, Stopped, Task, Work, Worker

__all__ = ["EXECUTORS", "Executor", "workers"]

EXECUTORS: Final = ("local", "ray")
_QUEUED = 2  # tasks handed out for each slot of a cluster: one trains while the next one waits

_worker: tuple[str, Worker] | None = None  # of a Ray worker process, with the run it belongs to


@dataclass(frozen=True)
class Executor:
    """Where to train.

    Parameters
    ----------
    kind : {"local", "ray"}
    n_workers : int, optional
        Workers at a time; by default one a core (or GPU), of this machine or of the cluster.
    address : str, optional
        Of a Ray cluster, "auto" for the one that this machine belongs to; by default one is started here.
    gpus : tuple of str
        GPUs of this machine to train on, for "local".
    gpu_share : float
        Share of a GPU that a worker takes, for "ray"; 0 for trainings on processors.

    Raises
    ------
    ValueError
        If one is wrong, named in the message.
    """

    kind: str = "local"
    n_workers: int | None = None
    address: str | None = None
    gpus: tuple[str, ...] = ()
    gpu_share: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in EXECUTORS:
            raise bad_value("executor", " or ".join(map(repr, EXECUTORS)), repr(self.kind))
        if self.n_workers is not None:
            check_count("workers", self.n_workers, 1)
        if self.address is not None and self.kind != "ray":
            raise bad_value("address", "none but with the executor 'ray'", repr(self.address))


@contextmanager
def workers(executor: Executor, work: Work) -> Iterator[Pool]:
    """Provide workers for some work, and let them go afterwards.

    Raises
    ------
    RuntimeError
        If ray is not installed.
    ConnectionError
        If there is no Ray cluster at the address.
    """
    if executor.kind == "local":
        with ProcessPool(work, executor.n_workers, executor.gpus) as pool:
            yield pool
    else:
        with _cluster(executor):
            yield _RayPool(work, executor.n_workers, executor.gpu_share)


@contextmanager
def _cluster(executor: Executor) -> Iterator[None]:
    ray = _ray()
    own: dict[str, Any] = {"include_dashboard": False}
    if executor.n_workers is not None:
        own["num_cpus"] = executor.n_workers
    there = {} if executor.address is None else {"address": executor.address}
    ray.init(**(there or own), log_to_driver=False, logging_level="warning")
    try:
        yield
    finally:
        ray.shutdown()


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        message = f"executor: 'ray' needs ray: {install_line('ray')}"
        raise RuntimeError(message) from error
    return ray


class _RayPool:
    """A `Pool` of Ray tasks. A worker process makes its trainer once and keeps it."""

    def __init__(self, work: Work, n_workers: int | None, gpu_share: float) -> None:
        self._ray, self._n_workers, self._gpu_share = _ray(), n_workers, gpu_share
        # Whether a chunk is tried again is decided by `fill`, for all executors alike.
        options = {"num_cpus": 1, "num_gpus": gpu_share, "max_retries": 0}
        self._train = self._ray.remote(**options)(_train)
        self._work, self._run = self._ray.put(work), secrets.token_hex(8)
        self._tasks: dict[Any, Task] = {}

    @property
    def capacity(self) -> int:
        """Tasks that keep all slots of the cluster, which may grow and shrink, at work."""
        resources = self._ray.cluster_resources()
        slots = int(resources.get("CPU", 1))
        if self._gpu_share:
            slots = min(slots, int(resources.get("GPU", 0) / self._gpu_share))
        return max(1, min(slots, self._n_workers or slots)) * _QUEUED

    def submit(self, task: Task) -> None:
        """Hand a task to the cluster."""
        self._tasks[self._train.remote(self._work, self._run, task)] = task

    def wait(self) -> list[Outcome]:
        """Wait for some tasks that were handed out."""
        ready, _ = self._ray.wait(list(self._tasks), num_returns=1)
        return [self._outcome(reference) for reference in ready]

    def _outcome(self, reference: Any) -> Outcome:
        task = self._tasks.pop(reference)
        try:
            outcome: Outcome = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:  # it cannot even begin there
            return Stopped(task, f"a Ray worker cannot run pyattr: {error.cause}")
        except self._ray.exceptions.RayError as error:  # the worker, its machine, or its memory
            return Lost(task, f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")
        return outcome


def _train(work: Work, run: str, task: Task) -> Outcome:
    """Train one chunk in a Ray worker process."""
    global _worker
    if _worker is None or _worker[0] != run:
        _worker = run, Worker(work)
    return _worker[1](task)
