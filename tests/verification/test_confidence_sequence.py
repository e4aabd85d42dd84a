"""Betting confidence sequences: they hold whenever one stops, and they are worth having."""

from __future__ import annotations

import numpy as np
import pytest

from pyattr.verification.confidence_sequence import betting_lower, betting_upper

REPEATS = 1_000
# A sequence that fails with probability 0.05 exceeds this in 1,000 repeats with probability 5e-4.
MOST_MISSES = 0.074


def _draws(kind: str, n: int) -> tuple[np.ndarray, float]:
    rng = np.random.default_rng(3)
    if kind == "uniform":
        return rng.random((n, REPEATS)), 0.5
    if kind == "coin":
        return (rng.random((n, REPEATS)) < 0.1).astype(float), 0.1
    if kind == "rare":
        return (rng.random((n, REPEATS)) < 0.004).astype(float), 0.004
    # Squares of normals in a range a hundred times wider: what gap estimation produces.
    return np.minimum(rng.standard_normal((n, REPEATS)) ** 2 / 300.0, 1.0), 1.0 / 300.0


@pytest.mark.parametrize("kind", ["uniform", "coin", "rare", "squares"])
def test_limits_hold_at_every_time_together(kind):
    """The limit at the last time is the sharpest that ever was, so one look at it is a look at all."""
    values, mean = _draws(kind, 400)
    assert np.mean(betting_lower(values, 0.05)[0] > mean) <= MOST_MISSES
    assert np.mean(betting_upper(values, 0.05)[0] < mean) <= MOST_MISSES


def test_a_fixed_sample_bound_fails_under_optional_stopping_and_this_one_does_not():
    """Stopping as soon as the limit of 200 looks excludes the mean: the half that must fail."""
    values, mean = _draws("uniform", 200)
    looks = list(range(5, 201, 5))
    counts = np.array(looks, dtype=float)[:, np.newaxis]
    means = np.cumsum(values, axis=0)[np.array(looks) - 1] / counts
    normal = means - 1.645 * np.sqrt(1 / 12 / counts)
    assert np.mean((normal > mean).any(axis=0)) > 0.15
    running = betting_lower(values, 0.05, at=looks)
    assert np.mean((running > mean).any(axis=0)) <= MOST_MISSES


def test_limits_close_in_on_the_mean():
    values, mean = _draws("uniform", 2_000)
    some = values[:, :50]
    width = betting_upper(some, 0.05, at=[100, 2_000]) - betting_lower(some, 0.05, at=[100, 2_000])
    assert width[0].mean() < 0.25
    assert width[1].mean() < 0.06
    aimed = betting_upper(some, 0.05, horizon=2_000) - betting_lower(some, 0.05, horizon=2_000)
    assert aimed.mean() < width[1].mean()
    # Small values in a wide range are bounded from below on their own scale, from the first on.
    small, mean = _draws("squares", 400)
    assert np.median(betting_lower(small, 0.05, at=[100])) > mean / 3


def test_running_limits_agree_with_limits_of_prefixes_and_never_retreat():
    values, _ = _draws("coin", 120)
    values = values[:, :20]
    times = [1, 2, 10, 60, 120]
    lower, upper = betting_lower(values, 0.1, at=times), betting_upper(values, 0.1, at=times)
    for row, time in enumerate(times):
        np.testing.assert_allclose(lower[row], betting_lower(values[:time], 0.1)[0], atol=1e-12)
        np.testing.assert_allclose(upper[row], betting_upper(values[:time], 0.1)[0], atol=1e-12)
    assert (np.diff(lower, axis=0) >= 0.0).all()
    assert (np.diff(upper, axis=0) <= 0.0).all()
    assert betting_lower(values[:, 0], 0.1).shape == (1,)
    np.testing.assert_allclose(betting_lower(values[:, 0], 0.1), lower[-1:, 0], atol=1e-12)


def test_the_rejected_means_are_an_interval():
    """Capital falls as the candidate mean rises, by brute force over a grid: what bisection relies on."""
    values, _ = _draws("coin", 60)
    x = values[:, 0]
    stakes = np.full(60, 3.0)
    candidates = np.linspace(1e-3, 1.0, 500)
    factors = 1.0 + np.minimum(stakes[:, None], 0.5 / candidates) * (x[:, None] - candidates)
    capital = np.cumprod(factors, axis=0).max(axis=0)
    assert (factors > 0.0).all()
    assert (np.diff(capital) <= 1e-12).all()


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_constant_values(value):
    """n values of 0 leave an upper limit of order ln(1/α)/n."""
    values = np.full((200, 1), value)
    lower, upper = betting_lower(values, 0.05)[0, 0], betting_upper(values, 0.05)[0, 0]
    assert lower <= value <= upper
    assert upper - lower < 0.04 if value == 0.0 else upper - lower < 0.05


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.5, 1.5], 0.05), r"values: expected numbers in \[0, 1\]"),
        (([0.5, np.nan], 0.05), "values: expected numbers"),
        (([], 0.05), "values: expected shape"),
        (([0.5], 0.0), "alpha"),
        (([0.5], 1.0), "alpha"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        betting_lower(*arguments)


@pytest.mark.parametrize("at", [[0], [3], [2, 1], []])
def test_times_are_checked(at):
    with pytest.raises(ValueError, match="at: expected"):
        betting_upper([0.5, 0.5], 0.05, at=at)
    with pytest.raises(ValueError, match="horizon"):
        betting_upper([0.5, 0.5], 0.05, horizon=0)
