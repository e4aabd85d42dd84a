"""Work is cut into ranges that cover all outputs once, and errors come back to the caller."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from pyattr import threads
from pyattr.threads import (
    get_num_threads,
    over_outputs,
    over_rows,
    over_triangle,
    set_num_threads,
)


@pytest.mark.parametrize("n_rows", [0, 1, 3, 1000])
def test_every_row_is_computed_once(n_rows: int, n_threads: int) -> None:
    for work in (1, 1 << 14, 1 << 20):
        counts = np.zeros(n_rows, int)

        def count(begin: int, end: int, counts: np.ndarray = counts) -> None:
            counts[begin:end] += 1

        over_rows(n_rows, work, count)
        assert (counts == 1).all()
        counts[:] = 0
        over_triangle(n_rows, count)
        assert (counts == 1).all()


@pytest.mark.parametrize("n_outputs", [1, 100, 1023, 5000])
@pytest.mark.parametrize("n_targets", [1, 16, 17, 200])
def test_every_output_is_computed_once(n_outputs: int, n_targets: int, n_threads: int) -> None:
    counts = np.zeros((n_outputs, n_targets), int)

    def count(begin: int, end: int, target_begin: int, target_end: int) -> None:
        assert begin % 64 == 0
        counts[begin:end, target_begin:target_end] += 1

    over_outputs(n_outputs, n_targets, 64, count)
    assert (counts == 1).all()


@pytest.mark.parametrize("n_tiles", [16, 63, 157])
def test_two_threads_share_a_triangle_evenly(n_tiles: int, monkeypatch: pytest.MonkeyPatch) -> None:
    areas: list[int] = []

    def note(begin: int, end: int) -> None:
        areas.append(sum(n_tiles - row for row in range(begin, end)))

    def in_order(tasks: list[Callable[[], None]]) -> None:
        for task in tasks:
            task()

    monkeypatch.setattr(threads, "_run", in_order)
    monkeypatch.setattr(threads, "_n_threads", 2)
    over_triangle(n_tiles, note)
    taken = [0, 0]  # whoever is done first takes the next
    for area in areas:
        taken[taken.index(min(taken))] += area
    assert sum(taken) == n_tiles * (n_tiles + 1) // 2
    assert max(taken) <= 0.515 * sum(taken)


def test_the_calling_thread_works_too(n_threads: int) -> None:
    seen: list[int] = []

    def note(begin: int, end: int) -> None:
        seen.append(threading.get_ident())
        time.sleep(0.01)

    over_rows(64, 1 << 20, note)
    assert threading.get_ident() in seen
    assert len(set(seen)) <= n_threads


@pytest.mark.parametrize("bad", [0, 500, 999])
def test_an_error_reaches_the_caller(bad: int, n_threads: int) -> None:
    def fail(begin: int, end: int) -> None:
        if begin <= bad < end:
            raise KeyError(bad)

    with pytest.raises(KeyError, match=str(bad)):
        over_rows(1000, 1 << 20, fail)


def test_nothing_runs_on_after_an_error(n_threads: int) -> None:
    """Tasks write where the caller may look: when it is told of an error, all are over."""
    running = []

    def work(begin: int, end: int) -> None:
        if begin == 0:
            raise MemoryError
        running.append(begin)
        time.sleep(0.02)
        running.remove(begin)

    with pytest.raises(MemoryError):
        over_rows(64, 1 << 20, work)
    assert not running
    time.sleep(0.05)
    assert not running


@pytest.mark.parametrize("n_started", [0, 1])
def test_work_is_done_where_no_more_threads_can_be_had(
    n_started: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under a limit of a container on processes."""
    start, started, before = threading.Thread.start, [], get_num_threads()

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("pyattr"):
            if len(started) == n_started:
                raise RuntimeError("can't start new thread")
            started.append(thread.name)
        start(thread)

    counts = np.zeros(64, int)

    def count(begin: int, end: int) -> None:
        time.sleep(0.001)  # so that a helper is still busy when the next is asked for
        counts[begin:end] += 1

    set_num_threads(4)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr(threads, "_pool", None)
    try:
        for round_ in (1, 2):
            over_rows(64, 1 << 20, count)
            assert (counts == round_).all()
    finally:
        set_num_threads(before)
    assert len(started) == n_started


def test_threads_may_be_changed_while_others_work() -> None:
    stop, errors = threading.Event(), []

    def work() -> None:
        while not stop.is_set():
            try:
                over_rows(64, 1 << 20, lambda begin, end: None)
            except Exception as error:  # whatever it is, it is what the test is for
                errors.append(error)

    before, workers = get_num_threads(), [threading.Thread(target=work) for _ in range(2)]
    try:
        for worker in workers:
            worker.start()
        for k in range(2000):
            set_num_threads(1 + k % 2)
    finally:
        stop.set()
        for worker in workers:
            worker.join()
        set_num_threads(before)
    assert not errors


def test_a_helper_that_comes_late_does_nothing() -> None:
    """The caller has done all tasks and been told so: what it then does must not be written over."""
    done: list[int] = []
    left = deque([partial(done.append, 0)])
    share = threads._Share(left)
    assert share.finish() is None
    share.serve()
    assert not done
    assert left


def test_the_caller_waits_for_a_helper_that_has_begun() -> None:
    begun, done = threading.Event(), threading.Event()

    def task() -> None:
        begun.set()
        time.sleep(0.05)
        done.set()
        raise KeyError(7)

    share = threads._Share(deque([task]))
    helper = threading.Thread(target=share.serve)
    helper.start()
    assert begun.wait(10)
    error = share.finish()
    assert done.is_set()
    assert isinstance(error, KeyError)
    helper.join()


def test_an_interrupted_caller_waits_for_a_helper_that_has_begun() -> None:
    """Ctrl-C while the caller waits: the helper still writes where it may look."""

    class Interrupted:
        def __init__(self, lock: threading.Lock) -> None:
            self.lock, self.n_interrupts = lock, 2

        def acquire(self) -> None:
            if self.n_interrupts:
                self.n_interrupts -= 1
                raise KeyboardInterrupt
            self.lock.acquire()

        def release(self) -> None:
            self.lock.release()

    begun, go, ran = threading.Event(), threading.Event(), []

    def task() -> None:
        begun.set()
        go.wait(10)
        time.sleep(0.05)
        ran.append(True)

    left = deque([task, partial(ran.append, False)])
    share = threads._Share(left)
    # Ctrl-C itself would come at no certain moment: a lock in its place raises what it raises.
    share._done = Interrupted(share._done)  # type: ignore[assignment]
    helper = threading.Thread(target=share.serve)
    helper.start()
    assert begun.wait(10)
    go.set()
    assert isinstance(share.finish(), KeyboardInterrupt)
    assert ran == [True]
    helper.join()


def test_helpers_stay_when_the_number_of_threads_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    def helpers() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name == "pyattr"}

    monkeypatch.setattr(threads, "_pool", None)
    before, others = get_num_threads(), helpers()
    try:
        for n_threads, n_helpers in ((3, 2), (1, 2), (2, 2), (4, 3), (3, 3)):
            set_num_threads(n_threads)
            over_rows(64, 1 << 20, lambda begin, end: time.sleep(0.001))
            assert len(helpers() - others) == n_helpers
    finally:
        set_num_threads(before)


@pytest.mark.skipif(threads._current_core is None, reason="the system does not say on which core")
def test_helpers_are_kept_off_the_callers_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the caller goes, within the cores that it may use."""
    before, allowed = get_num_threads(), os.sched_getaffinity(0)
    if len(allowed) < 2:
        pytest.skip("needs two cores")
    monkeypatch.setattr(threads, "_pool", None)

    def cores_of_helpers() -> list[set[int]]:
        over_rows(64, 1 << 20, lambda begin, end: time.sleep(0.001))
        pool = threads._pool
        assert pool is not None
        return [os.sched_getaffinity(helper.native_id or 0) for helper in pool._helpers]

    set_num_threads(2)
    try:
        for core in sorted(allowed)[:2]:
            monkeypatch.setattr(threads, "_current_core", lambda core=core: core)
            assert cores_of_helpers() == [allowed - {core}]
        set_num_threads(len(allowed) + 1)  # more than there are other cores
        assert cores_of_helpers() == [allowed] * len(allowed)
        os.sched_setaffinity(0, {core})  # nowhere else to go
        assert cores_of_helpers() == [{core}] * len(allowed)
    finally:
        os.sched_setaffinity(0, allowed)
        set_num_threads(before)


def test_two_threads_write_to_two_pieces() -> None:
    """The caller goes up from the first row, the helper down from the last."""
    calls: dict[int, list[int]] = {}
    met = threading.Barrier(2)

    def note(begin: int, end: int) -> None:
        thread = threading.get_ident()
        if thread not in calls:
            calls[thread] = []
            met.wait(10)
        calls[thread].append(begin)
        time.sleep(0.01)

    before = get_num_threads()
    try:
        set_num_threads(2)
        over_rows(64, 1 << 20, note)
    finally:
        set_num_threads(before)
    caller = calls.pop(threading.get_ident())
    (helper,) = calls.values()
    assert caller == sorted(caller)
    assert helper == sorted(helper, reverse=True)
    assert max(caller) < min(helper)
