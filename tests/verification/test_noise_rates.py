"""Noise rates by linear programming: sound for every function, cheaper than signed pairs."""

from __future__ import annotations

import numpy as np
import pytest

from pyattr.verification.noise_rates import NoiseRates, lowest_rate, solve_noise_rates


@pytest.mark.parametrize("p", [0.5, 0.4, 0.2, 0.1, 0.03, 1e-3, 1e-6, 0.7, 0.97])
@pytest.mark.parametrize("leak", [0.02, 0.1, 0.3])
def test_no_degree_is_counted_negatively(p, leak):
    """c_0 = 0, c_1 = 1, c_k within [0, 1.25 leak] (even) and [0, 1.25] (odd) for k up to 3,000."""
    found = solve_noise_rates(p, leak)
    assert lowest_rate(p) - 1e-12 <= min(found.rates)
    assert max(found.rates) <= 1.0
    degrees = np.arange(3_001)
    powers = np.asarray(found.rates)[np.newaxis] ** degrees[:, np.newaxis]
    coefficients = powers @ np.asarray(found.weights)
    assert coefficients[0] == pytest.approx(0.0, abs=1e-8)
    assert coefficients[1] == pytest.approx(1.0, abs=1e-8)
    assert coefficients[2:].min() >= -1e-8 * found.cost
    assert coefficients[2::2].max() <= 1.25 * leak + 1e-6
    assert coefficients[3::2].max() <= 1.25 + 1e-6
    assert found.leak(0) == pytest.approx(max(coefficients[2::2].max(), 0.0), abs=1e-9)
    assert found.leak(1) == pytest.approx(max(coefficients[3::2].max(), 0.0), abs=1e-9)


def test_known_solutions():
    """At p = 1/2 the complement; between, h(λ + leak) against h(-λ), with ‖w‖₁ = 2 / (2λ + leak), up to the
    spacing of the grid, 0.02."""
    half = solve_noise_rates(0.5, 0.1)
    np.testing.assert_allclose(half.rates, [-1.0, 1.0], atol=1e-9)
    np.testing.assert_allclose(half.weights, [-0.5, 0.5], atol=1e-9)
    for p in (0.3, 0.4, 0.75):
        low = -lowest_rate(p)
        found = solve_noise_rates(p, 0.1)
        np.testing.assert_allclose(found.rates, [-low, low + 0.1], atol=0.02)
        assert found.cost == pytest.approx(2.0 / (2.0 * low + 0.1), rel=0.02)


def test_it_pays_where_signed_pairs_do_not():
    """Signed pairs cost 1/λ: 49 at p = 0.02 and 999 at p = 0.001."""
    assert solve_noise_rates(0.02, 0.1).cost < 13.0
    assert solve_noise_rates(0.001, 0.1).cost < 15.0
    assert solve_noise_rates(0.1, 0.1).cost < -1.0 / lowest_rate(0.1)


def test_a_small_noise_rate_alone_is_what_a_negative_coefficient_would_hide():
    """Weights that count degree 2 negatively would certify a quadratic cheat; they are refused."""
    with pytest.raises(ValueError, match="weights: expected no negative coefficient"):
        NoiseRates((0.0, 0.5, 1.0), (-3.0, 4.0, -1.0))  # c_2 = 0, c_3 = -1/2
    with pytest.raises(ValueError, match="coefficients 0 and 1"):
        NoiseRates((0.0, 0.5), (-1.0, 1.0))
    with pytest.raises(ValueError, match="rates, weights"):
        NoiseRates((0.5,), (1.0, 2.0))
    with pytest.raises(ValueError, match="rates: expected correlations"):
        NoiseRates((-1.5, 1.0), (-0.4, 0.4))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0.0, 0.1), "p: expected"), ((0.3, 0.0), "leak: expected"), ((0.3, 2.0), "leak: expected")],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        solve_noise_rates(*arguments)
