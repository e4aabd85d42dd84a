from __future__ import annotations

import numpy as np
import pytest

from pyattr.kernels import set_num_threads
from pyattr.solvers import HeldOut, fit_mixtures, lasso_paths

SIZES = [1, 2, 15, 16, 17, 33, 150]


def problem(n_train, n_targets=5, n_rows=300, seed=0, noise=1.0):
    """Centred rows and outputs in float64 and their moments as the solvers take them."""
    rng = np.random.default_rng(seed + n_train)
    rows = (rng.random((n_rows, n_train)) < 0.4).astype(float)
    scores = rng.standard_normal((n_train, n_targets)) * (rng.random((n_train, n_targets)) < 0.3)
    scores[0] += 1.0
    values = rows @ scores + noise * rng.standard_normal((n_rows, n_targets))
    rows -= rows.mean(axis=0)
    values -= values.mean(axis=0)
    values /= np.sqrt(np.square(values).mean(axis=0))
    gram = (rows.T @ rows / n_rows).astype(np.float32)
    cross = np.ascontiguousarray((rows.T @ values / n_rows).T, np.float32)
    return rows, values, (gram, cross, np.square(values).mean(axis=0))


def path_to(cross, ratio, n_lambdas=12):
    largest = np.abs(cross).max(axis=1).astype(float)
    return largest[:, np.newaxis] * np.geomspace(1.0, ratio, n_lambdas)


def gap_of(rows, values, weights, lam):
    """Duality gap from rows in float64, by its definition."""
    n_rows = len(rows)
    residual = values - rows @ weights
    primal = residual @ residual / (2 * n_rows) + lam * np.abs(weights).sum()
    largest = np.abs(rows.T @ residual).max() / n_rows
    dual = residual * min(1.0, lam / largest)
    return primal - (values @ values - (values - dual) @ (values - dual)) / (2 * n_rows)


@pytest.mark.parametrize("n_train", SIZES)
@pytest.mark.parametrize("ratio", [0.1, 0.003])
def test_lasso_paths_reach_their_duality_gap(n_train, ratio):
    rows, values, moments = problem(n_train)
    lambdas = path_to(moments[1], ratio)
    for tolerance in (1e-4, 1e-6):
        paths = lasso_paths(*moments, lambdas, tolerance=tolerance, whole=True)
        assert (paths.gaps <= tolerance).all()
        assert (paths.n_done == 12).all()
        for t, k in np.ndindex(lambdas.shape):
            gap = gap_of(rows, values[:, t], paths.weights[t, k].astype(float), lambdas[t, k])
            assert gap <= tolerance + 2e-6  # the statement itself is about float32 moments
        last = lasso_paths(*moments, lambdas, tolerance=tolerance)
        np.testing.assert_array_equal(last.weights, paths.weights[:, -1])


def test_lambda_max_is_exact():
    _, _, moments = problem(40)
    largest = np.abs(moments[1]).max(axis=1).astype(float)
    at, below = largest[:, np.newaxis], np.nextafter(np.float32(largest), 0)[:, np.newaxis]
    assert (lasso_paths(*moments, at).weights == 0).all()
    # A gap of 1e-4 would leave all weights 0 just below.
    found = lasso_paths(*moments, below.astype(float), tolerance=1e-16)
    assert ((found.weights != 0).sum(axis=1) <= 1).all()
    found = lasso_paths(*moments, 0.999 * at, tolerance=1e-9)
    assert ((found.weights != 0).sum(axis=1) == 1).all()


@pytest.mark.parametrize("whole", [True, False])
def test_targets_and_threads_do_not_mix(whole, n_threads):
    _, _, moments = problem(70, n_targets=37)
    gram, cross, square = moments
    lambdas = path_to(cross, 0.02)
    held = HeldOut(gram, cross * np.float32(0.9), square, 2, 0.01)
    both = lasso_paths(*moments, lambdas, held_out=held, whole=whole)
    variances = np.tile(np.float32([0, 0.01, 0.1, 1.0]), (37, 1))
    fits = fit_mixtures(*moments, 300, variances)
    set_num_threads(1)
    for t in (0, 16, 36):
        part = slice(t, t + 1)
        own = held._replace(cross=held.cross[part].copy(), square=square[part])
        alone = lasso_paths(
            gram, cross[part], square[part], lambdas[part], held_out=own, whole=whole
        )
        for one, many in zip(alone, both, strict=True):
            np.testing.assert_array_equal(one[0], many[t])
        single = fit_mixtures(gram, cross[part], square[part], 300, variances[part])
        for one, many in zip(single, fits, strict=True):
            np.testing.assert_array_equal(one[0], many[t])


def test_held_out_errors_and_the_end_of_a_path():
    _, _, (gram, cross, square) = problem(60, n_rows=70, noise=3.0)
    rows, values, held = problem(60, n_rows=50, seed=5, noise=3.0)
    lambdas = path_to(cross, 1e-3, 30)
    whole = lasso_paths(gram, cross, square, lambdas, whole=True)
    paths = lasso_paths(gram, cross, square, lambdas, held_out=HeldOut(*held, 3, 0.0))
    for t in range(5):
        expected = np.square(values[:, t, np.newaxis] - rows @ whole.weights[t].T).mean(axis=0)
        done = paths.n_done[t]
        np.testing.assert_allclose(paths.errors[t, :done], expected[:done], rtol=1e-4)
        assert np.isnan(paths.errors[t, done:]).all()
        assert done < 30
        assert done == paths.errors[t, :done].argmin() + 4


def test_constant_columns_and_targets_get_nothing():
    _, _, (gram, cross, square) = problem(20)
    gram[7], gram[:, 7], cross[:, 7] = 0, 0, 0
    cross[2], square[2] = 0, 0
    lambdas = path_to(cross, 0.01)
    paths = lasso_paths(gram, cross, square, lambdas)
    assert (paths.weights[:, 7] == 0).all()
    assert (paths.weights[2] == 0).all()
    assert (paths.gaps <= 1e-4).all()
    variances = np.tile(np.float32([0, 0.01, 1.0]), (5, 1))
    fits = fit_mixtures(gram, cross, square, 300, variances)
    assert (fits.weights[:, 7] == 0).all()
    # Nothing is known of such a score but its prior.
    prior = np.sqrt((fits.proportions * variances).sum(axis=1))
    np.testing.assert_allclose(fits.deviations[[0, 1, 3, 4], 7], prior[[0, 1, 3, 4]], rtol=0.02)
    assert (fits.weights[2] == 0).all()
    assert fits.residual[2] == 0


def posterior_by_quadrature(diagonal, cross, noise, proportions, variances):
    """Mean and variance of w under the prior and the likelihood exp(-(d w² / 2 - b w) / v)."""
    mean = variance = total = 0.0
    for share, width in zip(proportions, np.sqrt(variances), strict=True):
        w = np.linspace(-12, 12, 40_001) * width if width else np.zeros(1)
        density = np.exp(-np.square(w / width) / 2) if width else np.ones(1)
        weight = share * density / density.sum()
        weight = weight * np.exp(-(diagonal * w * w / 2 - cross * w) / noise)
        total, mean = total + weight.sum(), mean + weight @ w
        variance += weight @ (w * w)
    mean /= total
    return mean, variance / total - mean**2


@pytest.mark.parametrize("value", [0.03, 0.05, -0.1, 0.3])
def test_one_example_has_the_exact_posterior(value):
    """N = 1: coordinate ascent is Bayes' rule at the prior and noise that EM ends with."""
    gram, cross = np.float32([[0.24]]), np.float32([[value]])
    variances = np.float32([[0.0, 0.01, 0.5]])
    fits = fit_mixtures(gram, cross, np.ones(1), 100, variances, max_sweeps=500, tolerance=1e-14)
    mean, variance = posterior_by_quadrature(
        gram[0, 0], value, fits.noise[0] / 100, fits.proportions[0], variances[0]
    )
    np.testing.assert_allclose(fits.weights[0, 0], mean, atol=2e-4)
    np.testing.assert_allclose(fits.deviations[0, 0] ** 2, variance, rtol=2e-2, atol=1e-6)


def test_two_independent_examples_have_the_exact_posterior():
    """With no correlation between them mean field is exact: each has its own quadrature."""
    gram = np.float32([[0.25, 0.0], [0.0, 0.1]])
    cross, variances = np.float32([[0.1, 0.02]]), np.float32([[0.0, 0.04, 0.4]])
    fits = fit_mixtures(gram, cross, np.ones(1), 50, variances, max_sweeps=500, tolerance=1e-14)
    for i in range(2):
        mean, variance = posterior_by_quadrature(
            gram[i, i], cross[0, i], fits.noise[0] / 50, fits.proportions[0], variances[0]
        )
        np.testing.assert_allclose(fits.weights[0, i], mean, atol=5e-4)
        np.testing.assert_allclose(fits.deviations[0, i] ** 2, variance, rtol=3e-2)
    # Another noise gives another posterior: the test can tell.
    wrong, _ = posterior_by_quadrature(0.25, 0.1, 0.1, fits.proportions[0], variances[0])
    assert abs(fits.weights[0, 0] - wrong) > 0.01


def test_a_normal_prior_is_ridge_regression():
    rows, values, (gram, cross, square) = problem(80, n_rows=400)
    start = np.tile(np.float32([0, 0.05]), (5, 1))
    only = np.tile(np.float32([0, 1]), (5, 1))
    fits = fit_mixtures(
        gram, cross, square, 400, start, proportions=only, normal=True,
        tolerance=1e-12, max_sweeps=2000,
    )  # fmt: skip
    assert (fits.sweeps > 0).all()
    for t in range(5):
        # At the fixed point tau² = sum w² / sum h; the means solve (G + v / tau²) w = b.
        tau2 = np.square(fits.weights[t].astype(float)).sum() / (fits.freedom[t] * 400)
        v = fits.noise[t] / 400
        expected = np.linalg.solve(gram + v / tau2 * np.eye(80), cross[t])
        np.testing.assert_allclose(fits.weights[t], expected, atol=2e-4)
    residual = np.square(values - rows @ fits.weights.T).mean(axis=0)
    np.testing.assert_allclose(fits.residual, residual, rtol=1e-4)


def test_an_extra_row_keeps_a_fit_to_few_rows_from_passing_for_one_without_noise():
    """40 rows, 80 examples, 5% noise: some targets look as if there were none."""
    rows, _, (gram, _, _) = problem(80, n_rows=40)
    rng = np.random.default_rng(7)
    values = rows @ rng.standard_normal((80, 64)) + rng.standard_normal((40, 64))
    values -= values.mean(axis=0)
    values /= np.sqrt(np.square(values).mean(axis=0))
    cross = np.ascontiguousarray((rows.T @ values / 40).T, np.float32)
    kept = np.maximum(1.0 - 2.0 * np.linspace(0.0, 1.0, 257), 0.0)
    variances, proportions = np.zeros((2, 64, 2), np.float32)
    variances[:, 1], proportions[:, 1] = 0.015, 1.0
    with_row, without = (
        fit_mixtures(
            gram, cross, np.ones(64), 40, variances, proportions=proportions, kept=kept,
            normal=True, extra_rows=extra_rows,
        )
        for extra_rows in (1.0, 0.0)
    )  # fmt: skip
    assert (with_row.sweeps > 0).all()
    assert with_row.freedom.max() < 0.8
    assert with_row.noise.min() > 0.1
    # Without it they take more degrees of freedom than there are rows, and go on taking.
    assert without.freedom.max() > 1.0
    assert (without.sweeps < 0).any()


def test_wrong_arrays_are_refused():
    _, _, (gram, cross, square) = problem(20)
    with pytest.raises(ValueError, match="lambdas"):
        lasso_paths(gram, cross, square, path_to(cross, 0.1)[:, ::-1])
    with pytest.raises(ValueError, match=r"gram: expected shape|cross: expected shape"):
        lasso_paths(gram[:-1].copy(), cross, square, path_to(cross, 0.1))
    with pytest.raises(TypeError):
        lasso_paths(gram.astype(float), cross, square, path_to(cross, 0.1))
    with pytest.raises(ValueError, match="2 to 16 components"):
        fit_mixtures(gram, cross, square, 300, np.ones((5, 17), np.float32))
