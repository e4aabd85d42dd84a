"""The thread pool of the kernels: how many threads, and which part of the output each computes.

Work is split over outputs alone, never over a sum, so results are the same bytes for any number of
threads.
"""

from __future__ import annotations

import ctypes
import itertools
import math
import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue

from pyattr.errors import check_count

__all__ = ["get_num_threads", "over_outputs", "over_rows", "over_triangle", "set_num_threads"]

_TARGET_BLOCK = 16  # targets that share one table look-up (csrc/packed_matmul.hpp)
_MIN_OUTPUTS = 512  # with fewer outputs a thread, building the tables would cost more
_MIN_WORK = 1 << 16  # elements that are worth a thread's start
_MIN_TILES = 2  # rows of tiles: with fewer, what they share in cache is read anew (csrc/gram.hpp)
_TASKS = 4  # a thread, where cutting finer costs nothing: whoever is done takes the next

# Cores that this process may use, which a container or a scheduler may have cut down.
_n_threads = (
    len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
)
_pool: _Pool | None = None
_pool_lock = threading.Lock()


def get_num_threads() -> int:
    """Return the number of threads that kernels use."""
    return _n_threads


def set_num_threads(n_threads: int) -> None:
    """Set the number of threads that kernels use; results do not depend on it.

    Parameters
    ----------
    n_threads : int
        At least 1. The default is the number of cores that the process may use.
    """
    global _n_threads
    _n_threads = check_count("n_threads", n_threads, 1)


_current_core: Callable[[], int] | None = None
if hasattr(os, "sched_setaffinity"):
    with suppress(OSError, AttributeError):  # a C library without it
        # Of a PyDLL, as it is too short to let other threads of Python in.
        _current_core = ctypes.PyDLL(None).sched_getcpu


def _forget_pool() -> None:
    # A forked child has the pool object but none of its threads, and perhaps a held lock.
    global _pool, _pool_lock
    _pool, _pool_lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


class _Share:
    """One helper's part in a call: it takes tasks, unless the caller is done before it has begun."""

    def __init__(self, left: deque[Callable[[], None]], *, from_end: bool = False) -> None:
        self._left, self._from_end = left, from_end
        self._claim, self._done = threading.Lock(), threading.Lock()
        self._done.acquire()
        self._error: BaseException | None = None

    def serve(self) -> None:
        """Take tasks until none is left; of the helper."""
        if not self._claim.acquire(blocking=False):
            return
        try:
            _take(self._left, from_end=self._from_end)
        except BaseException as error:
            self._error = error
        finally:
            self._done.release()

    def finish(self) -> BaseException | None:
        """Wait for the helper if it has begun, and return what went wrong there; of the caller.

        An interrupt (Ctrl-C) is returned too, once the helper is done: it writes where the caller may
        look, and a process that ends while it is in a kernel is aborted.
        """
        if self._claim.acquire(blocking=False):
            return None
        interrupt: BaseException | None = None
        while True:
            try:
                self._done.acquire()
            except BaseException as error:
                self._left.clear()
                interrupt = error
            else:
                return interrupt or self._error


class _Pool:
    """Helpers that wait for shares.

    Futures of an executor, with their conditions, took fifty microseconds longer a call than a queue
    and two bare locks: a twentieth of what a small kernel takes.
    """

    def __init__(self) -> None:
        self._shares: SimpleQueue[_Share] = SimpleQueue()
        self._helpers: list[threading.Thread] = []
        self._cores: frozenset[int] | None = None  # of the helpers

    def put(self, shares: list[_Share]) -> None:
        """Hand shares to as many helpers, or as can be had; they begin when they are free."""
        with suppress(RuntimeError):  # no more threads: those that there are do it all
            while len(self._helpers) < len(shares):
                helper = threading.Thread(target=self._serve, name="pyattr", daemon=True)
                helper.start()
                self._helpers.append(helper)
                self._cores = None
        self._spread(min(len(shares), len(self._helpers)))
        for share in shares[: len(self._helpers)]:
            self._shares.put(share)

    def _spread(self, n_busy: int) -> None:
        """Keep the helpers off the caller's core, if each that is busy can have another.

        Where the system sees no cache that cores share, it wakes a thread on the core that it had last,
        and if that is the caller's they take turns for milliseconds, while another core has nothing to do.
        """
        if _current_core is None:
            return
        with suppress(OSError):  # where it is not allowed the system decides
            allowed, here = os.sched_getaffinity(0), _current_core()
            others = allowed - {here}
            cores = frozenset(others if len(others) >= n_busy else allowed)
            if cores == self._cores:
                return
            self._cores = cores
            for helper in self._helpers:
                os.sched_setaffinity(helper.native_id or 0, cores)

    def _serve(self) -> None:
        while True:
            share = self._shares.get()
            share.serve()
            del share  # its tasks hold the arrays of the caller


def _run(tasks: list[Callable[[], None]], *, both_ends: bool = False) -> None:
    """Run the tasks, which write to disjoint outputs, and wait for them.

    The calling thread and those of the pool take the next task when they are done with one, so
    that a thread which comes late or is held up leaves more to the others. If a task fails, those
    that nobody has begun are dropped and the rest waited for before the caller is told: they write
    where it may look.

    With `both_ends` the pool's threads begin with the last task. Two threads then write to two pieces of
    memory, and from call to call to the same ones: lines that another core wrote last, perhaps one
    with another cache, cost several times as much to write.
    """
    global _pool
    left = deque(tasks)
    shares: list[_Share] = []
    with _pool_lock:
        if _n_threads > 1 and len(tasks) > 1:
            if _pool is None:
                _pool = _Pool()
            n_helpers = min(_n_threads, len(tasks)) - 1
            shares = [_Share(left, from_end=both_ends) for _ in range(n_helpers)]
            _pool.put(shares)
    try:
        _take(left)
    finally:
        errors = [share.finish() for share in shares]
    for error in errors:
        if error is not None:
            raise error


def _take(left: deque[Callable[[], None]], *, from_end: bool = False) -> None:
    """Run the tasks that nobody has begun, one after the other."""
    pop = left.pop if from_end else left.popleft  # both atomic
    try:
        while left:
            try:
                task = pop()
            except IndexError:  # another thread took the last
                return
            task()
    except BaseException:
        left.clear()
        raise


def _split(size: int, parts: int, step: int = 1) -> list[tuple[int, int]]:
    """Cut [0, size) into at most `parts` ranges that begin at multiples of `step`."""
    n_steps = -(-size // step)
    parts = max(1, min(parts, n_steps))
    edges = [(k * n_steps // parts) * step for k in range(parts)] + [size]
    return list(itertools.pairwise(edges))


def over_rows(n_rows: int, work_per_row: int, kernel: Callable[[int, int], None]) -> None:
    """Call ``kernel(begin, end)`` on ranges of rows.

    Parameters
    ----------
    n_rows : int
    work_per_row : int
        Elements touched a row; ranges are not cut below about 2^16 elements, or below 2^18 to
        have more ranges than threads.
    kernel : callable
    """
    n_elements = n_rows * work_per_row
    parts = min(_n_threads, n_elements // _MIN_WORK)
    if parts > 1:
        parts = max(parts, min(_TASKS * _n_threads, n_elements // (_TASKS * _MIN_WORK)))
    _run([partial(kernel, *rows) for rows in _split(n_rows, parts)], both_ends=True)


def over_outputs(
    n_outputs: int, n_targets: int, step: int, kernel: Callable[[int, int, int, int], None]
) -> None:
    """Call ``kernel(begin, end, target_begin, target_end)`` on blocks of a product's outputs.

    Outputs are split first: each thread makes tables for its outputs, and turns only their masks.
    Few outputs would not repay the tables: then targets are split.

    Parameters
    ----------
    n_outputs, n_targets : int
    step : int
        Ranges of outputs begin at multiples of it.
    kernel : callable
    """
    rows = _split(n_outputs, min(_n_threads, n_outputs // _MIN_OUTPUTS), step)
    parts = -(-_n_threads // len(rows))
    columns = _split(n_targets, parts if parts == 1 else _TASKS * parts, _TARGET_BLOCK)
    _run([partial(kernel, *r, *c) for r in rows for c in columns])


def over_triangle(n_tiles: int, kernel: Callable[[int, int], None]) -> None:
    """Call ``kernel(begin, end)`` on ranges of rows of tiles; row i has ``n_tiles - i`` tiles.

    Parameters
    ----------
    n_tiles : int
    kernel : callable
    """
    parts = (
        1 if _n_threads == 1 else min(_TASKS * _n_threads, max(_n_threads, n_tiles // _MIN_TILES))
    )
    # Rows before e hold the share 1 - (1 - e / n)² of the area.
    edges = [round(n_tiles * (1.0 - math.sqrt(1.0 - k / parts))) for k in range(parts)] + [n_tiles]
    ranges = [(b, e) for b, e in itertools.pairwise(edges) if b < e]
    # Whole rows are not equal shares: the largest first, so that the last to be taken is small.
    ranges.sort(key=lambda rows: (rows[1] - rows[0]) * (2 * n_tiles - rows[0] - rows[1] + 1))
    _run([partial(kernel, *rows) for rows in reversed(ranges)])
