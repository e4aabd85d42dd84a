"""kill -9 at random moments loses no stored chunk and changes no byte.

``bench/bench_kills.py`` does the same with 200 deaths of each executor, and its counts are committed.
"""

from __future__ import annotations

import numpy as np
import pytest
from bank_trainers import CHUNK_ROWS, MANIFEST, N_TARGETS
from random_kills import Tally, compare, random_kills

from pyattr.retraining.bank import Bank


@pytest.mark.parametrize(("kind", "n_kills"), [("local", 4), ("ray", 1)])
def test_random_kills_lose_nothing_and_change_no_byte(kind, n_kills, tmp_path):
    if kind == "ray":
        pytest.importorskip("ray")
    tally = random_kills(kind, tmp_path, n_kills, np.random.default_rng(11))
    assert tally.deaths == n_kills
    assert tally.resumed_runs >= tally.driver_deaths
    assert tally.chunks > 0
    assert (tally.lost_chunks, tally.changed_chunks, tally.other_files) == (0, 0, 0)
    outputs = Bank.open(tmp_path / "bank-0").read(3, 0)
    assert outputs.shape == (CHUNK_ROWS, N_TARGETS) == (MANIFEST.chunk_rows, MANIFEST.n_targets)


def test_what_is_lost_or_changed_is_counted():
    tally = Tally()
    compare({"a": b"1", "b": b"2", "c": b"3"}, {"a": b"1", "b": b"3", "d": b"4"}, tally)
    assert (tally.lost_chunks, tally.changed_chunks) == (1, 1)
