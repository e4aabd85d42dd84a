from __future__ import annotations

import numpy as np
import pytest

from pyattr.attribution import spectrum
from pyattr.attribution.spectrum import kept_precision
from pyattr.solvers import fit_mixtures

SHARES = np.linspace(0.0, 1.0, 257)


def centred_rows(n_rows, n_train, seed=0, grouped=False):
    rng = np.random.default_rng(seed)
    bits = rng.random((n_rows, n_train)) < 0.5
    if grouped:
        groups = np.repeat(rng.random((n_rows, n_train // 10)) < 0.5, 10, axis=1)
        bits = np.where(rng.random(bits.shape) < 0.7, groups, bits)
    return bits - bits.mean(axis=0)


def gram_of(rows):
    return (rows.T @ rows / len(rows)).astype(np.float32)


@pytest.mark.parametrize("ratio", [0.5, 1, 4])
def test_independent_rows_lose_what_the_fit_has_absorbed(ratio):
    kept = kept_precision(gram_of(centred_rows(int(400 * ratio), 400)))
    expected = np.maximum(1.0 - SHARES / ratio, 0.0)
    # Fluctuations of a spectrum of 400 eigenvalues are of order 1 / 400.
    np.testing.assert_allclose(kept, expected, atol=0.012)
    grouped = kept_precision(gram_of(centred_rows(int(400 * ratio), 400, grouped=True)))
    assert np.abs(grouped - expected).max() > 0.12


@pytest.mark.parametrize("grouped", [False, True])
def test_it_is_the_precision_of_ridge_regression(grouped):
    """By the definition, from the inverse: no eigenvalue is computed."""
    gram = gram_of(centred_rows(240, 120, seed=1, grouped=grouped)).astype(float)
    scale = np.sqrt(np.diagonal(gram))
    correlation = gram / np.multiply.outer(scale, scale)
    kept = kept_precision(gram.astype(np.float32))
    for penalty in (3.0, 0.3, 0.03):
        variance = np.trace(np.linalg.inv(correlation + penalty * np.eye(120))) / 120
        expected = 1.0 / variance - penalty
        at = np.interp(1.0 - penalty * variance, SHARES, kept)
        assert abs(at - expected) < 0.005


@pytest.mark.parametrize(
    ("n_rows", "grouped"), [(300, False), (1200, False), (1200, True), (3, False)]
)
def test_quadrature_agrees_with_eigenvalues(monkeypatch, n_rows, grouped):
    gram = gram_of(centred_rows(n_rows, 600, seed=2, grouped=grouped))
    exact = kept_precision(gram)
    monkeypatch.setattr(spectrum, "_MOST_EXACT", 1)
    # Eight vectors of 600 random signs; the seed is the size.
    np.testing.assert_allclose(kept_precision(gram), exact, atol=0.03)
    np.testing.assert_array_equal(kept_precision(gram), kept_precision(gram))


def test_constant_columns_do_not_count():
    gram = gram_of(centred_rows(100, 60, seed=3))
    padded = np.zeros((80, 80), np.float32)
    padded[:60, :60] = gram
    at = SHARES[: 257 * 3 // 4]
    kept = np.interp(at * 80 / 60, SHARES, kept_precision(gram))
    np.testing.assert_allclose(kept_precision(padded)[: len(at)], kept, atol=1e-3)


def test_a_normal_prior_has_the_freedom_and_the_deviations_of_ridge_regression():
    """On correlated masks, where mean field has neither."""
    n_rows, n_train = 400, 200
    rows = centred_rows(n_rows, n_train, seed=4, grouped=True)
    rng = np.random.default_rng(4)
    values = rows @ rng.standard_normal((n_train, 4)) + 3.0 * rng.standard_normal((n_rows, 4))
    gram, cross = gram_of(rows), np.ascontiguousarray((rows.T @ values / n_rows).T, np.float32)
    variances, proportions = np.zeros((2, 4, 2), np.float32)
    variances[:, 1], proportions[:, 1] = 0.5, 1.0

    def ratios(kept):
        fits = fit_mixtures(
            gram, cross, np.square(values).mean(axis=0), n_rows, variances, kept=kept,
            proportions=proportions, normal=True, tolerance=1e-12, max_sweeps=3000,
        )  # fmt: skip
        assert (fits.sweeps > 0).all()
        found = []
        for t in range(4):
            tau2 = np.square(fits.weights[t].astype(float)).sum() / (fits.freedom[t] * n_rows)
            noise = fits.noise[t] / n_rows
            inverse = np.linalg.inv(gram + noise / tau2 * np.eye(n_train))
            np.testing.assert_allclose(fits.weights[t], inverse @ cross[t], atol=2e-3)
            variance = noise * np.diagonal(inverse)
            found.append(
                [
                    fits.freedom[t] * n_rows / np.trace(gram @ inverse),
                    np.square(fits.deviations[t].astype(float)).mean() / variance.mean(),
                ]
            )
        return np.array(found)

    # Columns differ a little in variance, which the table takes for equal.
    np.testing.assert_allclose(ratios(kept_precision(gram)), 1.0, atol=0.02)
    assert (np.abs(ratios(None) - 1.0) > 0.1).all()
