"""Numbers of spot checks and their choice."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest

from pyattr.verification.spot_check import draw_checks, miss_probability, most_undetected, n_checks

REFERENCE = {0.10: (29, 43), 0.05: (57, 86), 0.02: (138, 204), 0.01: (258, 368)}


@pytest.mark.parametrize("fraction", REFERENCE)
def test_reference_counts_at_a_thousand_outputs(fraction):
    bad = round(1000 * fraction)
    assert (n_checks(1000, bad, 0.05), n_checks(1000, bad, 0.01)) == REFERENCE[fraction]


def test_the_count_is_the_smallest_that_suffices():
    for n, w, k in [(10, 3, 4), (48, 1, 20), (200, 7, 50)]:
        assert miss_probability(n, w, k) == pytest.approx(comb(n - w, k) / comb(n, k))
    for n, w, miss in [(10, 1, 0.05), (50, 4, 0.01), (333, 17, 0.2)]:
        k = n_checks(n, w, miss)
        assert miss_probability(n, w, k) <= miss < miss_probability(n, w, k - 1)
    assert n_checks(5, 5, 0.5) == 1
    assert n_checks(10, 1, 0.001) == 10


def test_undetected_is_the_inverse_of_the_count():
    for n, k, miss in [(100, 20, 0.05), (64, 64, 0.05), (1000, 57, 0.05), (30, 0, 0.05)]:
        w = most_undetected(n, k, miss)
        assert w == 0 or miss_probability(n, w, k) > miss
        assert w == n - k or w == n or miss_probability(n, w + 1, k) <= miss
    assert most_undetected(64, 64, 0.05) == 0


def test_checks_catch_corruption_at_the_stated_rate():
    """5% corrupted outputs, checks for a 5% miss: 4,000 draws. Misses beyond 0.05 + 4 standard errors
    (0.064) happen to a right count 3e-5 of the time; half the checks miss 22%, which would be seen."""
    n, w = 200, 10
    k = n_checks(n, w, 0.05)
    corrupted = np.arange(w)

    def missed(n_checked: int) -> float:
        return float(
            np.mean([not np.isin(corrupted, draw_checks(n, n_checked)).any() for _ in range(4_000)])
        )

    assert missed(k) < 0.064
    assert missed(k // 2) > 0.15


def test_checks_are_sorted_distinct_and_not_repeated_between_calls():
    """Two draws of 50 out of 1000 agree with probability 1e-85."""
    first, second = draw_checks(1000, 50), draw_checks(1000, 50)
    assert (np.diff(first) > 0).all()
    assert first.size == 50
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1, 0.05), "n_outputs"),
        ((10, 0, 0.05), "n_corrupted: expected a count from 1 to 10, got 0"),
        ((10, 11, 0.05), "n_corrupted"),
        ((10, 1, 1.0), "miss"),
    ],
)
def test_impossible_counts_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        n_checks(*arguments)
