"""The bounds on data of known distribution."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from pyattr.verification.bounds import (
    Interval,
    Levels,
    MeanSquares,
    chi2_interval,
    hoeffding_radius,
    moment_factor,
    moment_interval,
    ratio_interval,
    skewed_t_interval,
    t_interval,
)

LEVELS = Levels(0.05, 0.05)


def test_with_one_leaf_the_limits_are_the_classical_ones():
    squares = MeanSquares(np.array([2.0, 0.0]), np.zeros(2), 24, 1)
    interval = chi2_interval(squares, Levels(0.01, 0.05))
    assert interval.upper[0] == pytest.approx(2.0 * 24 / stats.chi2.ppf(0.05, 24))
    assert interval.lower[0] == pytest.approx(2.0 * 24 / stats.chi2.ppf(0.99, 24))
    assert interval.upper[1] == interval.lower[1] == 0.0


@pytest.mark.parametrize("effect", [0.0, 0.05, 0.5, 5.0])
@pytest.mark.parametrize(("n_clusters", "n_leaves"), [(8, 2), (30, 4), (12, 16)])
def test_modified_large_sample_limits_cover_normal_layouts(effect, n_clusters, n_leaves):
    """20,000 layouts: coverage of a 95% limit in [0.94, 0.975]; the standard error is 0.0015."""
    rng = np.random.default_rng(1)
    centre = math.sqrt(effect) * rng.standard_normal((20_000, n_clusters, 1))
    odd = centre + rng.standard_normal((20_000, n_clusters, n_leaves))
    mean = odd.mean(axis=2)
    between = n_leaves * np.mean(mean**2, axis=1)
    within = np.sum((odd - mean[..., None]) ** 2, axis=(1, 2)) / (n_clusters * (n_leaves - 1))
    interval = chi2_interval(MeanSquares(between, within, n_clusters, n_leaves), LEVELS)
    assert np.mean(interval.lower > effect) <= 0.06
    if effect:  # limits are cut at 0, so that no upper limit misses an effect of 0
        assert 0.94 <= np.mean(interval.upper >= effect) <= 0.975
        assert 0.94 <= np.mean(interval.lower <= effect) <= 0.975
        # A limit that ignored the leaves' scatter would not cover: it is what this test can see.
        naive = between * n_clusters / stats.chi2.ppf(0.95, n_clusters) / n_leaves
        assert np.mean(naive <= effect) < 0.94 or effect > 1.0


def test_t_limits_match_scipy():
    values = np.random.default_rng(0).standard_normal((12, 3))
    interval = t_interval(values, LEVELS)
    expected = stats.t.interval(0.9, 11, values.mean(0), stats.sem(values, axis=0))
    np.testing.assert_allclose([interval.lower, interval.upper], expected)
    with pytest.raises(ValueError, match="n_clusters: expected at least 2"):
        t_interval(values[:1], LEVELS)


def test_t_limits_that_allow_for_skewness():
    """Means of 128 squares of normals, 20,000 repeats, standard error 0.002: plain t limits are short
    above, the others are not, and give nothing away below."""
    values = np.random.default_rng(6).standard_normal((128, 20_000)) ** 2
    plain, moved = t_interval(values, LEVELS), skewed_t_interval(values, LEVELS)
    assert np.mean(plain.upper >= 1.0) < 0.92
    assert np.mean(moved.upper >= 1.0) >= 0.93
    np.testing.assert_array_equal(moved.lower, np.minimum(plain.lower, moved.lower))
    np.testing.assert_array_equal(moved.estimate, plain.estimate)
    mirrored = skewed_t_interval(-values, LEVELS)
    np.testing.assert_allclose(mirrored.lower, -moved.upper)
    still = skewed_t_interval(np.ones((5, 1)), LEVELS)
    assert still.lower[0] == still.upper[0] == 1.0


def test_moment_factor_is_the_published_figure_and_infinite_when_too_few():
    assert moment_factor(100, 3.0, 0.05) == pytest.approx(1.73, abs=0.01)
    assert moment_factor(17, 3.0, 0.05) == math.inf
    few = moment_interval(MeanSquares(np.array([0.0, 1.0]), np.zeros(2), 10, 1), LEVELS, 3.0)
    assert np.isinf(few.upper).all()


def test_the_moment_bound_holds_for_sparse_linear_functions_where_chi2_does_not_promise():
    """o = Σ c_i z_i with random signs has E o⁴ ≤ 3 (E o²)²; 5,000 repeats, coverage at least 0.95 - 3
    standard errors for every c, from one coordinate to many."""
    rng = np.random.default_rng(2)
    for weights in ([1.0], [1.0, 1.0], [1.0, 0.1, 0.1], np.ones(50)):
        c = np.asarray(weights) / np.linalg.norm(weights)
        signs = rng.choice([-1.0, 1.0], (5_000, 100, c.size))
        between = np.mean((signs @ c) ** 2, axis=1)
        interval = moment_interval(
            MeanSquares(between, np.zeros_like(between), 100, 1), LEVELS, 3.0
        )
        assert np.mean(interval.upper >= 1.0) >= 0.94


def test_hoeffding_covers_the_worst_distribution():
    """Two-point values ±1: 4,000 repeats of 200; the failure rate is at most 0.05 (0.03 expected)."""
    rng = np.random.default_rng(3)
    means = rng.choice([-1.0, 1.0], (4_000, 200)).mean(axis=1)
    assert np.mean(np.abs(means) > hoeffding_radius(200, 1.0, 0.05)) <= 0.05
    assert np.mean(np.abs(means) > hoeffding_radius(200, 1.0, 0.05) / 3) > 0.05


@pytest.mark.parametrize("correlation", [0.0, -0.6])
def test_ratio_limits_cover_normal_estimates(correlation):
    """20,000 pairs of normal estimates: coverage within [0.94, 0.965] when the correlation is known."""
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((2, 20_000))
    top, bottom = 1.0 + 0.3 * x, 4.0 + 0.5 * (correlation * x + math.sqrt(1 - correlation**2) * y)
    z = stats.norm.ppf(0.95)

    def limits(values, error):
        return Interval(values, values - z * error, values + z * error)

    interval = ratio_interval(limits(top, 0.3), limits(bottom, 0.5), np.full(20_000, correlation))
    assert 0.94 <= np.mean(interval.upper >= 0.25) <= 0.965
    if correlation:  # taking correlated estimates for independent ones would undercover
        wrong = ratio_interval(limits(top, 0.3), limits(bottom, 0.5), np.zeros(20_000))
        assert np.mean(wrong.upper >= 0.25) < 0.94


def test_a_ratio_with_an_unknown_denominator_says_nothing():
    top = Interval(np.ones(1), np.ones(1) * 0.9, np.ones(1) * 1.1)
    bottom = Interval(np.ones(1) * 0.1, np.ones(1) * -0.1, np.ones(1) * 0.3)
    interval = ratio_interval(top, bottom, np.zeros(1))
    assert interval.lower[0] == 0.0
    assert interval.upper[0] == math.inf


def test_skewed_t_limits_are_johnsons():
    """``mean + γ s (1 + 2t²) / (6n) + t s/√n``, outwards only: the formula, figure by figure."""
    values = np.random.default_rng(5).standard_normal((30, 4)) ** 2 * [1.0, -1.0, 3.0, 0.2]
    t = stats.t.isf(0.02, 29), stats.t.isf(0.05, 29)
    error = stats.sem(values, axis=0)
    third = np.mean((values - values.mean(axis=0)) ** 3, axis=0) / values.var(axis=0, ddof=1)
    lower, upper = (third * (1.0 + 2.0 * x**2) / (6 * 30) for x in t)
    found = skewed_t_interval(values, Levels(0.02, 0.05))
    plain = values.mean(axis=0) - t[0] * error, values.mean(axis=0) + t[1] * error
    np.testing.assert_allclose(found.lower, plain[0] + np.minimum(lower, 0.0))
    np.testing.assert_allclose(found.upper, plain[1] + np.maximum(upper, 0.0))


def test_every_fitted_parameter_takes_a_degree_of_freedom_of_t_limits():
    values = np.random.default_rng(0).standard_normal((12, 3))
    found = t_interval(values, Levels(0.01, 0.1), n_fitted=2)
    error = np.sqrt(np.sum((values - values.mean(axis=0)) ** 2, axis=0) / 10 / 12)
    np.testing.assert_allclose(found.upper - found.estimate, stats.t.isf(0.1, 10) * error)
    np.testing.assert_allclose(found.estimate - found.lower, stats.t.isf(0.01, 10) * error)


@pytest.mark.parametrize(("n_clusters", "n_leaves"), [(8, 2), (30, 4), (12, 16)])
def test_modified_large_sample_limits_are_exact_for_no_effect_and_for_a_dominating_one(
    n_clusters, n_leaves
):
    """Without an effect MSB/MSW is F: the lower limit leaves 0 at its upper quantile, the upper limit at its
    lower one. Without scatter the limits are those of χ²."""
    freedom, levels = (n_clusters, n_clusters * (n_leaves - 1)), Levels(0.02, 0.05)
    high, low = stats.f.isf(0.02, *freedom), stats.f.ppf(0.05, *freedom)

    def limits(ratio, within=2.0):
        between = np.atleast_1d(ratio) * (within or 1.0)
        squares = MeanSquares(between, np.full_like(between, within), n_clusters, n_leaves)
        return chi2_interval(squares, levels)

    at = limits([high * 0.999, high, high * 1.001, low * 1.001, low, low * 0.999])
    np.testing.assert_allclose(at.lower[:2], 0.0, atol=1e-7)
    assert at.lower[2] > 1e-5
    np.testing.assert_allclose(at.upper[4:], 0.0, atol=1e-7)
    assert at.upper[3] > 1e-5
    alone = limits([3.0], within=0.0)
    estimate = 3.0 / n_leaves
    assert alone.upper[0] == pytest.approx(estimate * n_clusters / stats.chi2.ppf(0.05, n_clusters))
    assert alone.lower[0] == pytest.approx(estimate * n_clusters / stats.chi2.isf(0.02, n_clusters))


def test_the_lower_limit_of_the_moment_bound_is_cantellis():
    """``(κ-1) / (κ-1 + nη²) = α`` for the η by which a mean is above its expectation."""
    squares = MeanSquares(np.array([2.0]), np.zeros(1), 50, 1)
    lower = moment_interval(squares, Levels(0.04, 0.05), 3.0).lower[0]
    eta = 2.0 / lower - 1.0
    assert 2.0 / (2.0 + 50 * eta**2) == pytest.approx(0.04)
