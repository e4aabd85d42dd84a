"""The looks of a sequential verification: levels, and what they add up to."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pyattr.verification.bounds import Levels, MeanSquares, chi2_interval, skewed_t_interval
from pyattr.verification.spending import Looks, failure_probability, nominal_levels

COUNTS = (9, 12, 16, 22)
N_WALKS = 40_000
# 40,000 walks: 4.5 standard errors of a share of 0.05 are 0.0049.
TOLERANCE = 0.0049


def test_a_single_look_has_its_own_level():
    for count, level in ((4, 0.05), (22, 1e-4), (3000, 0.05)):
        assert failure_probability([count], [level]) == pytest.approx(level, rel=5e-3)
    assert nominal_levels((17,), 0.03) == (0.03,)


def test_levels_rise_with_the_clusters_and_add_up_to_more_than_alpha():
    levels = nominal_levels(COUNTS, 0.05)
    assert np.allclose(np.divide(levels, levels[-1]), np.divide(COUNTS, COUNTS[-1]))
    assert failure_probability(COUNTS, levels) == pytest.approx(0.05, rel=5e-3)
    # What the walk knows and the union bound does not; the last look keeps more than half of alpha.
    assert sum(levels) > 0.07
    assert levels[-1] > 0.025


def total_failure(failed):
    return np.mean(failed.any(axis=1))


def test_limits_fail_as_often_as_computed():
    """χ² walks, and the half that must fail: the same level at every look fails twice."""
    rng = np.random.default_rng(1)
    steps = rng.chisquare(np.diff((0, *COUNTS)), (N_WALKS, len(COUNTS)))
    walks, levels = np.cumsum(steps, axis=1), nominal_levels(COUNTS, 0.05)
    low = total_failure(walks < stats.chi2.ppf(levels, COUNTS))
    assert low == pytest.approx(0.05, abs=TOLERANCE)
    assert 0.03 < total_failure(walks > stats.chi2.isf(levels, COUNTS)) < 0.05
    assert total_failure(walks < stats.chi2.ppf(0.05, COUNTS)) > 0.1


def cluster_walk(effect, noise, leaves, n, rng):
    """``L ō²`` and scatter of normal clusters, (n, C)."""
    shape = (n, COUNTS[-1] * 3)
    mean = np.sqrt(effect + noise / leaves) * rng.standard_normal(shape)
    return leaves * mean**2, noise * rng.chisquare(leaves - 1, shape)


@pytest.mark.parametrize(("noise", "leaves"), [(0.5, 2), (2.0, 3), (8.0, 6)])
def test_several_leaves_fail_no_more_often(noise, leaves):
    """The modified large-sample limits are not exactly pivotal: total failure of the chi2 limit at most
    0.05 + 4.5 standard errors for small and large noise (effect 1), 40,000 sessions of 66 clusters."""
    counts = tuple(3 * c for c in COUNTS)
    between, scatter = cluster_walk(1.0, noise, leaves, N_WALKS, np.random.default_rng(2))
    failed = np.zeros(N_WALKS, dtype=bool)
    for count, level in zip(counts, nominal_levels(counts, 0.05), strict=True):
        within = scatter[:, :count].sum(axis=1) / (count * (leaves - 1))
        squares = MeanSquares(between[:, :count].mean(axis=1), within, count, leaves)
        failed |= chi2_interval(squares, Levels(level, level)).upper < 1.0
    assert 0.02 < failed.mean() <= 0.05 + TOLERANCE


def test_a_gaussian_walk_fails_less_often():
    """What the t bound and many leaves tend to."""
    rng = np.random.default_rng(3)
    steps = rng.standard_normal((N_WALKS, 4)) * np.sqrt(np.diff((0, *COUNTS)))
    z = np.cumsum(steps, axis=1) / np.sqrt(COUNTS)
    failed = z < stats.norm.ppf(nominal_levels(COUNTS, 0.05))
    assert 0.035 < total_failure(failed) < 0.05


def test_t_limits_have_one_look():
    """Squares of normals, the shape of products at a gap of ε, 20,000 sessions of 60 clusters: early looks
    would let t limits fail twice as often as they may."""
    assert Looks.plan(60, 60, "t").counts == (60,)
    values = np.random.default_rng(4).standard_normal((60, 20_000)) ** 2
    once = skewed_t_interval(values, Levels(0.05, 0.05)).upper < 1.0
    assert once.mean() < 0.075
    early, counts = np.zeros(20_000, dtype=bool), Looks.plan(60, 60, "chi2").counts
    for count, level in zip(counts, nominal_levels(counts, 0.05), strict=True):
        early |= skewed_t_interval(values[:count], Levels(level, level)).upper < 1.0
    assert early.mean() > 0.09


@pytest.mark.parametrize(
    ("planned", "most"), [(4, 4), (9, 9), (22, 22), (22, 23), (22, 500), (400, 401)]
)
@pytest.mark.parametrize("bound", ["chi2", "t", "moment", "bernstein", "betting"])
def test_looks_stay_within_plan_and_budget(planned, most, bound):
    looks = Looks.plan(planned, most, bound)
    assert list(looks.counts) == sorted(set(looks.counts))
    assert looks.counts[-1] == most
    assert looks.counts[looks.n_planned - 1] == planned
    levels = looks.levels(Levels(0.001, 0.05))
    if bound == "betting":  # limits that hold at all times together need no spending
        assert {(level.lower, level.upper, level.horizon) for level in levels} == {
            (0.001, 0.05, most)
        }
    else:
        total = failure_probability(looks.counts, [level.upper for level in levels])
        assert total <= 0.05 * 1.01
        assert sum(level.lower for level in levels) <= 0.001 * (1 + 1e-9)
    if bound in (
        "moment",
        "bernstein",
    ):  # no walk is known for them: looks by the union bound alone
        assert looks.n_planned == 1
        assert sum(level.upper for level in levels) <= 0.05 * (1 + 1e-12)
