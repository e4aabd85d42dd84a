"""Finite-sample limits: they hold for distributions chosen to break them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pyattr.verification.bounds import Levels, MeanSquares
from pyattr.verification.finite_sample import (
    bernstein_radius,
    bounded_interval,
    moment_interval,
)
from pyattr.verification.interval import Interval, quotient_interval

LEVELS = Levels(0.05, 0.05)
REPEATS = 2_000
# 2,000 repeats of a limit that fails 5% of the time exceed this 3e-4 of the time.
MOST_MISSES = 0.067


def draws(kind: str, n: int) -> tuple[np.ndarray, float]:
    rng = np.random.default_rng(1)
    if kind == "coin":
        return (rng.random((n, REPEATS)) < 0.5).astype(float), 0.5
    if kind == "rare":
        return (rng.random((n, REPEATS)) < 0.01).astype(float), 0.01
    return rng.beta(0.3, 30.0, (n, REPEATS)), 0.3 / 30.3


@pytest.mark.parametrize("kind", ["coin", "rare", "beta"])
@pytest.mark.parametrize("bound", ["hoeffding", "bernstein", "betting"])
def test_limits_of_bounded_values_hold(bound, kind):
    values, mean = draws(kind, 300)
    interval = bounded_interval(bound, values, LEVELS)
    assert np.mean(interval.upper < mean) <= MOST_MISSES
    assert np.mean(interval.lower > mean) <= MOST_MISSES
    np.testing.assert_array_equal(interval.estimate, values.mean(axis=0))
    assert (interval.lower >= 0.0).all()
    assert (interval.upper <= 1.0).all()


def test_what_the_guarantee_costs_and_buys():
    """A normal limit misses rare values, which is the half that must fail; of the three, the ones that
    see the variance are sharper where it is small."""
    values, mean = draws("rare", 300)
    error = values.std(axis=0, ddof=1) / math.sqrt(300)
    assert np.mean(values.mean(axis=0) + 1.645 * error < mean) > 1.5 * MOST_MISSES
    values, _ = draws("beta", 3_000)
    upper = {
        kind: np.median(bounded_interval(kind, values[:, :200], LEVELS).upper)
        for kind in ("hoeffding", "bernstein", "betting")
    }
    assert upper["betting"] < upper["bernstein"] < upper["hoeffding"]


def test_bernstein_is_the_published_formula():
    """Maurer, Pontil 2009, Theorem 4, by hand: V = 1/4, n = 101, δ = 2/e² gives √(1/101) + 14/300."""
    radius = bernstein_radius(np.array([0.25]), 101, 2.0 / math.e**2)
    assert radius[0] == pytest.approx(math.sqrt(1.0 / 101.0) + 14.0 / 300.0)
    assert math.isinf(bernstein_radius(np.array([0.25]), 1, 0.05)[0])


@pytest.mark.parametrize("kind", ["sign", "normal", "three"])
def test_moment_limits_hold_at_the_edge_of_their_condition(kind):
    """o with κ of 1, 3 and (three-valued, ±√3 one time in three) 3 as well; κ = 3 stated."""
    rng = np.random.default_rng(2)
    shape = (REPEATS, 80)
    o = {
        "sign": rng.choice([-1.0, 1.0], shape),
        "normal": rng.standard_normal(shape),
        "three": math.sqrt(3.0) * rng.choice([-1.0, 0.0, 0.0, 0.0, 0.0, 1.0], shape),
    }[kind]
    between = np.mean(o**2, axis=1)
    interval = moment_interval(MeanSquares(between, np.zeros(REPEATS), 80, 1), LEVELS, 3.0)
    assert np.mean(interval.upper < 1.0) <= MOST_MISSES
    assert np.mean(interval.lower > 1.0) <= MOST_MISSES
    # Beyond κ = 3 it need not hold: one value in 200 carries everything, κ = 200.
    rare = (rng.random(shape) < 1 / 200) * 200.0
    squares = MeanSquares(rare.mean(axis=1), np.zeros(REPEATS), 80, 1)
    assert np.mean(moment_interval(squares, LEVELS, 3.0).upper < 1.0) > 0.3


def test_quotients_of_limits():
    top = Interval(np.ones(2), np.full(2, 0.5), np.full(2, 2.0))
    bottom = Interval(np.array([4.0, 4.0]), np.array([2.0, 0.0]), np.array([5.0, 5.0]))
    found = quotient_interval(top, bottom)
    np.testing.assert_allclose(found.estimate, 0.25)
    np.testing.assert_allclose(found.lower, 0.1)
    np.testing.assert_allclose(found.upper, [1.0, math.inf])
