from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Lasso

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


def many_used(n_train=300, n_targets=70, n_rows=700, seed=3, n_constant=0):
    """Rows of very unequal frequency, some constant, and outputs that need most of them."""
    rng = np.random.default_rng(seed)
    rows = (rng.random((n_rows, n_train)) < rng.uniform(0.02, 0.6, n_train)).astype(float)
    rows[:, :n_constant] = 1.0
    values = rows @ rng.standard_normal((n_train, n_targets))
    values += 3.0 * rng.standard_normal(values.shape)
    return moments_of(rows, values)


def moments_of(rows, values):
    rows, values = rows - rows.mean(axis=0), values - values.mean(axis=0)
    scale = np.sqrt(np.square(values).mean(axis=0))
    values = values / np.where(scale > 0, scale, 1.0)
    gram = (rows.T @ rows / len(rows)).astype(np.float32)
    cross = np.ascontiguousarray((rows.T @ values / len(rows)).T, np.float32)
    return rows, values, (gram, cross, np.square(values).mean(axis=0))


def check_optimal(rows, values, paths, lambdas, tolerance):
    """Check gaps, signs and gradients of whole paths in float64, from the rows."""
    for t, k in np.ndindex(lambdas.shape):
        weights, lam = paths.weights[t, k].astype(float), lambdas[t, k]
        gap = gap_of(rows, values[:, t], weights, lam)
        assert gap <= tolerance + 2e-6
        gradient = rows.T @ (values[:, t] - rows @ weights) / len(rows)
        # A gap bounds |X (w - w*)|² / 2m, so a coordinate's gradient by its own column's norm.
        slack = np.sqrt(2 * (tolerance + 2e-6) * np.square(rows).mean(axis=0)) + 1e-6
        used = weights != 0
        assert (np.abs(gradient) <= lam + slack).all()
        wrong = np.abs(gradient - lam * np.sign(weights))
        assert (wrong[used] <= 2 * slack[used]).all()


@pytest.mark.parametrize("n_train", [65, 300])
def test_paths_that_use_most_coordinates_are_optimal(n_train):
    """Dense targets go on in lanes, on 16-bit codes of the Gram matrix."""
    rows, values, moments = many_used(n_train, 19)
    lambdas = path_to(moments[1], 1e-3)
    for tolerance in (1e-4, 1e-6):
        paths = lasso_paths(*moments, lambdas, tolerance=tolerance, whole=True)
        assert (paths.gaps <= tolerance).all()
        check_optimal(rows, values, paths, lambdas, tolerance)
    assert ((paths.weights != 0).mean(axis=2)[:, -3:] > 0.5).all()
    with pytest.raises(AssertionError):  # the same paths are not those of other lambdas
        check_optimal(rows, values, paths, 1.2 * lambdas, tolerance)


def test_dense_objectives_are_those_of_scikit_learn():
    rows, values, moments = many_used(250, 3)
    lambdas = path_to(moments[1], 2e-3)
    paths = lasso_paths(*moments, lambdas, tolerance=1e-7, whole=True)
    for t, k in np.ndindex(lambdas[:, 6::5].shape):
        lam, weights = lambdas[t, 6 + 5 * k], paths.weights[t, 6 + 5 * k].astype(float)
        peer = Lasso(lam, fit_intercept=False, tol=1e-10, max_iter=100_000).fit(rows, values[:, t])
        objectives = [
            np.square(values[:, t] - rows @ w).mean() / 2 + lam * np.abs(w).sum()
            for w in (weights, peer.coef_)
        ]
        assert abs(objectives[0] - objectives[1]) < 1e-6


def test_the_company_of_a_dense_target_does_not_change_its_bits():
    _, _, moments = many_used()
    gram, cross, square = moments
    lambdas = path_to(cross, 1e-3)
    everyone = lasso_paths(*moments, lambdas, whole=True)
    assert ((everyone.weights[:, -1] != 0).mean(axis=1) > 0.5).all()
    order = np.random.default_rng(0).permutation(70)
    for part in ([41], order, order[:9], order[20:37]):
        alone = lasso_paths(gram, cross[part], square[part], lambdas[part], whole=True)
        np.testing.assert_array_equal(alone.weights, everyone.weights[part])
        np.testing.assert_array_equal(alone.gaps, everyone.gaps[part])


@pytest.mark.parametrize("copy", [1.0, -1.0])
def test_duplicated_and_complementary_columns(copy):
    """Correlations of ±1, at the limit of the codes; the fit is that without the copies."""
    rows, values, single = many_used(100, 18)
    lambdas = path_to(single[1], 3e-3)
    both, _, moments = moments_of(np.hstack([rows, copy * rows]), values)
    paths = lasso_paths(*moments, lambdas, whole=True)
    assert (paths.gaps <= 1e-4).all()
    merged = paths.weights[..., :100] + np.float32(copy) * paths.weights[..., 100:]
    only = lasso_paths(*single, lambdas, whole=True)
    for t, k in np.ndindex(lambdas.shape):
        # Two points within the gap of the same minimum.
        apart = rows @ (merged[t, k] - only.weights[t, k])
        assert np.square(apart).mean() <= 8 * (1e-4 + 2e-6)
        assert gap_of(both, values[:, t], paths.weights[t, k].astype(float), lambdas[t, k]) < 1.1e-4


def test_constant_columns_and_targets_in_lanes():
    rows, values, _ = many_used(200, 20, n_constant=5)
    values[:, 4] = 0.0
    _, _, moments = moments_of(rows, values)
    lambdas = path_to(moments[1], 1e-3)
    paths = lasso_paths(*moments, lambdas, whole=True)
    assert (paths.weights[..., :5] == 0).all()
    assert (paths.weights[4] == 0).all()
    assert (paths.gaps[4] == 0).all()
    used = np.arange(20) != 4
    assert ((paths.weights[used, -1] != 0).mean(axis=1) > 0.5).all()
    assert (paths.gaps <= 1e-4).all()
    # What the others get is what they get without them.
    cut = moments[0][5:, 5:].copy(), moments[1][used, 5:], moments[2][used]
    alone = lasso_paths(*cut, lambdas[used], whole=True)
    apart = (paths.weights[used][..., 5:] - alone.weights) @ rows[:, 5:].T
    assert np.square(apart).mean(axis=2).max() <= 8 * (1e-4 + 2e-6)


def test_any_falling_lambdas_will_do():
    """Equal, lone and uneven: a start from where the path was heading is a start only."""
    rows, values, moments = many_used(120, 4)
    largest = np.abs(moments[1]).max(axis=1).astype(float)[:, np.newaxis]
    for shares in ([0.01], [0.01, 0.01, 0.0099, 1e-4, 1e-4], [1, 0.003, 0.0029, 0.002, 1e-4]):
        lambdas = largest * shares
        paths = lasso_paths(*moments, lambdas, whole=True)
        assert (paths.gaps <= 1e-4).all()
        check_optimal(rows, values, paths, lambdas, 1e-4)


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


@pytest.mark.parametrize("n_rows", [2, 3, 4])
def test_noise_is_a_number_where_no_row_is_left_to_judge_it_by(n_rows):
    """As many degrees of freedom as rows, nothing unexplained, no extra row: 0 / 0."""
    rows, _, (gram, _, _) = problem(257, n_rows=n_rows)
    values = np.random.default_rng(0).standard_normal((n_rows, 63))
    values -= values.mean(axis=0)
    cross = np.ascontiguousarray((rows.T @ values / n_rows).T, np.float32)
    variances = np.tile(np.float32([0.0, 0.01, 0.1]), (63, 1))
    fits = fit_mixtures(gram, cross, np.square(values).mean(axis=0), n_rows, variances)
    for numbers in fits:
        assert np.isfinite(numbers).all()
    assert (fits.noise > 0.0).all()


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
