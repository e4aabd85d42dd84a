"""All estimators from sufficient statistics: the same fits as from rows, and the same bits."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from pyattr import kernels
from pyattr.attribution import (
    FixedPointScale,
    SufficientStatistics,
    empirical_influence,
    fit_datamodel,
    fit_statistics,
)
from pyattr.masks import Masks, sample_masks

ESTIMATORS = ["bayes", "lasso", "ridge", "ols", "influence"]


def problem(design="iid", n_masks=300, n_train=40, n_targets=5, seed=0, p=0.5):
    masks = sample_masks(n_masks, n_train, p=p, seed=seed, design=design)
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n_train, n_targets)) * np.linspace(0.1, 2.0, n_targets)
    outputs = 3.0 + masks.unpack() @ scores + rng.normal(size=(n_masks, n_targets))
    return masks, outputs


def statistics_of(masks, outputs, design="iid", **options):
    options = {"squares": design == "iid", **options}
    return SufficientStatistics.of(masks, outputs, design=design, **options)


def from_rows(masks, outputs, method, design, **options):
    if method == "influence":
        return empirical_influence(masks, outputs, design=design)
    return fit_datamodel(masks, outputs, method, design=design, **options)


def lambdas_for(method):
    return {"lasso": [0.02], "ridge": [3.0]}.get(method)


def assert_same_bits(one, other):
    assert one.scores.tobytes() == other.scores.tobytes()
    assert one.intercept.tobytes() == other.intercept.tobytes()
    assert (one.standard_error is None) == (other.standard_error is None)
    if one.standard_error is not None:
        assert one.standard_error.tobytes() == other.standard_error.tobytes()
    assert one.details.keys() == other.details.keys()
    for name, value in one.details.items():
        assert value.tobytes() == other.details[name].tobytes(), name


@pytest.mark.parametrize("method", ESTIMATORS)
@pytest.mark.parametrize("design", ["iid", "complement"])
def test_statistics_alone_give_the_fit_of_the_rows(method, design):
    masks, outputs = problem(design)
    lambdas = lambdas_for(method)
    options = {} if lambdas is None else {"lambdas": lambdas}
    expected = from_rows(masks, outputs, method, design, **options)
    got = fit_statistics(statistics_of(masks, outputs, design), method, **options)
    size = np.abs(expected.scores).max()
    np.testing.assert_allclose(got.scores, expected.scores, rtol=0, atol=1e-5 * size)
    np.testing.assert_allclose(got.intercept, expected.intercept, rtol=1e-4)
    assert (got.method, got.design) == (expected.method, expected.design)
    if expected.standard_error is not None:
        np.testing.assert_allclose(got.standard_error, expected.standard_error, rtol=1e-4)


def test_pairs_have_the_scores_of_all_rows_and_the_errors_of_half_differences():
    masks, outputs = problem("complement")
    outputs += 20.0 * (masks.unpack()[:, :1] ^ masks.unpack()[:, 1:2])  # of even degree
    pairs = fit_statistics(statistics_of(masks, outputs, "complement"), "ols")
    single = fit_statistics(statistics_of(masks, outputs, "iid"), "ols")
    np.testing.assert_allclose(pairs.scores, single.scores, rtol=1e-4, atol=1e-5)
    # Noise of variance 1 in both, half of it in a half difference; and 100 of the even part.
    assert (pairs.details["residual_variance"] < 0.8).all()
    assert (single.details["residual_variance"] > 50).all()


@pytest.mark.parametrize("method", ESTIMATORS)
@pytest.mark.parametrize("design", ["iid", "complement"])
def test_order_shards_and_threads_change_no_bit(method, design):
    masks, outputs = problem(design, n_masks=600, n_train=97, n_targets=20)
    scale = FixedPointScale.of(outputs)
    lambdas = lambdas_for(method)
    expected = fit_statistics(statistics_of(masks, outputs, design), method, lambdas=lambdas)
    pairs = np.random.default_rng(1).permutation(300)
    order = (2 * pairs[:, np.newaxis] + [1, 0]).ravel()  # pairs stay together, turned round
    parts = [
        statistics_of(masks[rows], outputs[rows], design, scale=scale)
        for rows in (order[:2], order[2:400], order[400:])
    ]
    merged = parts[2] + parts[0] + parts[1]
    before = kernels.get_num_threads()
    try:
        for n_threads in (1, 2, 7):
            kernels.set_num_threads(n_threads)
            assert_same_bits(fit_statistics(merged, method, lambdas=lambdas), expected)
    finally:
        kernels.set_num_threads(before)
    # Half a step on one output is enough to see that equality is not for lack of looking.
    outputs = outputs.copy()
    outputs[7] += 2.0 * scale.step
    moved = fit_statistics(
        statistics_of(masks, outputs, design, scale=scale), method, lambdas=lambdas
    )
    assert moved.scores.tobytes() != expected.scores.tobytes()


@pytest.mark.parametrize("design", ["iid", "complement"])
@pytest.mark.parametrize("shape", [(300, 40), (60, 40), (30, 40)])
def test_ridge_chooses_by_generalised_cross_validation(design, shape):
    masks, outputs = problem(design, *shape)
    lambdas = np.logspace(-1, 3, 9)
    got = fit_statistics(statistics_of(masks, outputs, design), "ridge", lambdas=lambdas)
    if design == "iid":
        x, y, taken = masks.unpack() - masks.unpack().mean(axis=0), outputs - outputs.mean(0), 1
    else:
        x, y, taken = masks.unpack()[0::2] - 0.5, (outputs[0::2] - outputs[1::2]) / 2, 0
    errors = []
    for lam in lambdas:
        hat = x @ np.linalg.solve(x.T @ x + lam * np.eye(x.shape[1]), x.T)
        left = 1.0 - (np.trace(hat) + taken) / len(x)
        errors.append(np.square(y - hat @ y).mean(axis=0) / left**2)
    errors = np.array(errors)
    np.testing.assert_allclose(got.details["gcv_mse"], errors.min(axis=0), rtol=1e-3)
    np.testing.assert_allclose(got.details["lambda"], lambdas[errors.argmin(axis=0)], rtol=1e-12)


def test_lasso_chooses_over_the_shards():
    masks, outputs = problem(n_masks=200)
    scale = FixedPointScale.of(outputs)
    shards = [statistics_of(masks[k::5], outputs[k::5], scale=scale) for k in range(5)]
    expected = fit_datamodel(masks, outputs, "lasso")  # whose folds are the same rows
    got = fit_statistics(shards, "lasso")
    np.testing.assert_array_equal(got.scores, expected.scores)
    np.testing.assert_array_equal(got.details["lambda"], expected.details["lambda"])
    for given in (shards[0], shards[:1]):
        with pytest.raises(ValueError, match="two or more parts of the rows for lasso"):
            fit_statistics(given, "lasso")


@pytest.mark.parametrize("p", [0.5, 0.2])
def test_influence_without_squares_assumes_equal_variances(p):
    masks, outputs = problem(p=p)
    outputs[masks.unpack()[:, 0]] += 3.0 * np.random.default_rng(1).normal(
        size=(masks.unpack()[:, 0].sum(), 5)
    )
    with_squares = fit_statistics(statistics_of(masks, outputs), "influence")
    without = fit_statistics(statistics_of(masks, outputs, squares=False), "influence")
    np.testing.assert_array_equal(with_squares.scores, without.scores)
    bits = masks.unpack()
    for i in (0, 1, 39):
        sides = outputs[bits[:, i]], outputs[~bits[:, i]]
        score = sides[0].mean(axis=0) - sides[1].mean(axis=0)
        for result, equal in ((with_squares, False), (without, True)):
            test = scipy.stats.ttest_ind(*sides, equal_var=equal)
            np.testing.assert_allclose(
                result.standard_error[i], np.abs(score / test.statistic), rtol=1e-4
            )
    if p == 0.2:  # where the two are not the same
        assert with_squares.standard_error[0, 0] > 1.2 * without.standard_error[0, 0]


def test_squares_are_exact():
    masks, outputs = problem(p=0.3)
    got = statistics_of(masks, outputs)
    q = got.scale.steps(outputs).astype(np.int64)
    np.testing.assert_array_equal(got.cross_square_steps, masks.unpack().T.astype(int) @ (q * q))
    pairs, values = problem("complement")
    got = statistics_of(pairs, values, "complement")
    q = got.scale.steps(values).astype(np.int64)
    np.testing.assert_array_equal(got.pair_square_steps, np.square(q[0::2] - q[1::2]).sum(axis=0))


def test_what_cannot_be_fitted_is_refused():
    masks, outputs = problem()
    good = statistics_of(masks, outputs)
    with pytest.raises(ValueError, match="method"):
        fit_statistics(good, "elastic")
    with pytest.raises(ValueError, match="at least one part"):
        fit_statistics([])
    with pytest.raises(ValueError, match=r"gram=True\) for method 'bayes'"):
        fit_statistics(statistics_of(masks, outputs, gram=False))
    with pytest.raises(ValueError, match="memory: expected at most 1e-06 GB"):
        fit_statistics(good, memory_limit=1000)
    with pytest.raises(ValueError, match="at least 2 rows"):
        fit_statistics(good - good)
    with pytest.raises(ValueError, match="at least one target"):
        fit_statistics(statistics_of(masks, outputs[:, :0]))
    equal = Masks.pack(np.repeat(masks[:1].unpack(), 300, axis=0))
    with pytest.raises(ValueError, match="all rows equal"):
        fit_statistics(statistics_of(equal, outputs))
    with pytest.raises(ValueError, match="same examples, targets"):
        fit_statistics([good, statistics_of(masks, outputs * 3)])
    constant = masks.unpack()
    constant[:, 3] = True
    for method, message in (("ols", "example 3 in all or none"), ("influence", "example 3 in all")):
        with pytest.raises(ValueError, match=message):
            fit_statistics(statistics_of(Masks.pack(constant), outputs), method)


def test_generalised_cross_validation_does_not_choose_rounding():
    """Noise alone, fewer rows than examples, and λ so small that the fit interpolates: the least error is
    that of a large λ, not the 0 / 0 of a small one."""
    masks = sample_masks(100, 300, seed=1)
    outputs = np.random.default_rng(2).standard_normal((100, 3))
    statistics = SufficientStatistics.of(masks, outputs)
    fit = fit_statistics(statistics, "ridge", lambdas=np.logspace(4, -14, 37))
    assert (fit.details["lambda"] > 1.0).all()
    assert (fit.details["gcv_mse"] > 0.5).all()
