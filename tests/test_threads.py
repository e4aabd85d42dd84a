"""Work is cut into ranges that cover all outputs once, and errors come back to the caller."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from pyattr.threads import over_outputs, over_rows, over_triangle


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
