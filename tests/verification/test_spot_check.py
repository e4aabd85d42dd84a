"""Numbers of spot checks and their choice."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
import pytest
from scipy import stats

from pyattr.verification.spot_check import (
    check_probabilities,
    choose_rows,
    choose_weighted,
    fewest_hiding,
    miss_probability,
    n_checks,
)

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


def uniforms(rng, n):
    return rng.integers(0, 2**64, n, dtype=np.uint64)


def test_checks_catch_corruption_at_the_stated_rate():
    """5% corrupted outputs, checks for a 5% miss: 4,000 draws. Misses beyond 0.05 + 4 standard errors
    (0.064) happen to a right count 3e-5 of the time; half the checks miss 22%, which would be seen."""
    n, w = 200, 10
    k = n_checks(n, w, 0.05)
    corrupted, rng = np.arange(w), np.random.default_rng(11)

    def missed(n_checked: int) -> float:
        return float(
            np.mean(
                [
                    not np.isin(corrupted, choose_rows(uniforms(rng, n), n_checked)).any()
                    for _ in range(4_000)
                ]
            )
        )

    assert missed(k) < 0.064
    assert missed(k // 2) > 0.15


def test_checks_are_the_rows_with_the_smallest_numbers():
    numbers = np.array([7, 3, 9, 3, 2**64 - 1, 0], dtype=np.uint64)
    assert choose_rows(numbers, 3).tolist() == [1, 3, 5]
    assert choose_rows(numbers, 2).tolist() == [1, 5]  # of two that are equal, the first
    assert choose_rows(numbers, 6).tolist() == list(range(6))
    assert choose_weighted(numbers, np.array([0.0, 1.0, 0.0, 0.5, 1.0, 1e-9])).tolist() == [
        1,
        3,
        4,
        5,
    ]


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


def test_fewest_hiding_is_the_greedy_sum():
    influence = np.array([[0.1, 0.0], [0.5, 0.2], [0.3, 0.9], [0.5, 0.0]])
    assert fewest_hiding(influence, np.array([1.0, 2.0])) == 2  # 0.5 + 0.5 at the first target
    assert fewest_hiding(influence, np.array([1.05, 1.0])) == 2  # 0.9 + 0.2 at the second
    assert fewest_hiding(influence, np.array([1.35, 1.1])) == 2
    assert fewest_hiding(influence, np.array([1.41, 1.2])) == 5  # more than all of them
    assert fewest_hiding(influence, np.array([0.5, 9.0])) == 1
    assert fewest_hiding(influence, np.array([9.0, 0.0])) == 0
    rng = np.random.default_rng(1)
    for _ in range(50):
        values, slack = rng.random((9, 1)), rng.uniform(0.0, 5.0, 1)
        sizes = [
            size
            for size in range(1, 10)
            if max(values[list(s)].sum() for s in combinations(range(9), size)) >= slack
        ]
        assert fewest_hiding(values, slack) == min(sizes, default=10)


def test_weighted_checks_miss_any_set_that_hides_enough_at_the_stated_rate():
    """Sets whose shares just reach 1: many small influences, few large ones, mixed. 4,000 draws each: a miss
    rate of 0.05 is measured within ±0.014 (4 standard errors, false-alarm rate 6e-5 a set). With shares
    that are half of what they should be the rate is 0.22, and the test sees it."""
    shares = np.concatenate([np.full(60, 0.02), np.full(40, 0.1), np.full(4, 0.5), np.zeros(96)])
    probabilities = check_probabilities(shares, 0.05)
    lax = check_probabilities(shares / 2.0, 0.05)
    assert probabilities[-1] == 0.0
    sets = {"small": range(50), "medium": range(60, 70), "large": [100, 101]}
    sets["mixed"] = [*range(10), *range(60, 63), 100]
    for members in sets.values():
        assert shares[list(members)].sum() == pytest.approx(1.0)
    caught = dict.fromkeys(sets, 0)
    caught_lax = dict(caught)
    n_draws, rng = 4_000, np.random.default_rng(12)
    for _ in range(n_draws):
        for counts, chances in ((caught, probabilities), (caught_lax, lax)):
            drawn = choose_weighted(uniforms(rng, len(chances)), chances)
            for name, members in sets.items():
                counts[name] += bool(np.isin(drawn, list(members)).any())
    for name in sets:
        assert 0.036 < 1.0 - caught[name] / n_draws < 0.064
        assert 1.0 - caught_lax[name] / n_draws > 0.15


def test_weighted_checks_come_at_their_own_rates():
    """Each output as often as its probability says, independently (χ² test, false-alarm rate 1e-4)."""
    probabilities = np.linspace(0.05, 0.95, 19)
    n_draws, rng = 3_000, np.random.default_rng(13)
    drawn = np.zeros((n_draws, 19), dtype=bool)
    for row in drawn:
        row[choose_weighted(uniforms(rng, 19), probabilities)] = True
    score = (drawn.sum(axis=0) - n_draws * probabilities) / np.sqrt(
        n_draws * probabilities * (1.0 - probabilities)
    )
    assert stats.chi2.sf(np.sum(score**2), 19) > 1e-4
    assert drawn.sum(axis=1).var() == pytest.approx(
        np.sum(probabilities * (1.0 - probabilities)), rel=0.15
    )


def test_impossible_shares_are_refused():
    for shares in (np.array([-0.1, 0.2]), np.array([np.nan, 0.2])):
        with pytest.raises(ValueError, match="shares: expected finite numbers of at least 0"):
            check_probabilities(shares, 0.05)
    with pytest.raises(ValueError, match="miss"):
        check_probabilities(np.ones(2), 0.0)


def test_the_miss_probability_is_scipys_hypergeometric():
    for n, w, k in [(1000, 50, 86), (96, 12, 6), (256, 3, 200)]:
        assert miss_probability(n, w, k) == pytest.approx(
            stats.hypergeom(n, w, k).cdf(0), rel=1e-12
        )
