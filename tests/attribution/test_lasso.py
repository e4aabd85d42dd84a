from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Lasso, LassoCV

from pyattr.attribution import fit_datamodel
from pyattr.attribution.lasso import fit_lasso
from pyattr.attribution.moments import held_out_moments, output_scale
from pyattr.attribution.statistics import SufficientStatistics
from pyattr.masks import Masks, sample_masks


def sparse_outputs(masks, n_targets=4, noise=1.0, seed=0, share=0.1):
    rng = np.random.default_rng(seed)
    shape = (masks.n_train, n_targets)
    scores = rng.standard_normal(shape) * (rng.random(shape) < share)
    clean = 2.0 + masks.unpack() @ scores
    return clean + noise * rng.standard_normal(clean.shape), scores


def objective(bits, values, scores, intercept, lam):
    residual = values - bits @ scores - intercept
    return np.mean(np.square(residual)) / 2 + lam * np.abs(scores).sum()


@pytest.mark.parametrize("shape", [(200, 40), (60, 40), (30, 70), (500, 3), (50, 1)])
@pytest.mark.parametrize("lam", [0.2, 0.03, 0.005])
def test_objective_and_optimality_conditions_are_those_of_scikit_learn(shape, lam):
    masks = sample_masks(*shape, p=0.4, seed=1)
    outputs, _ = sparse_outputs(masks)
    bits = masks.unpack().astype(float)
    # Far below the default gap, to meet the objective to 1e-6 of the variance.
    sums = SufficientStatistics.of(masks, outputs)
    fit = fit_lasso(sums, (), np.array([lam]), final_gap=1e-7)
    intercept = outputs.mean(axis=0) - bits.mean(axis=0) @ fit.scores
    for t in range(outputs.shape[1]):
        peer = Lasso(lam, tol=1e-12, max_iter=100_000).fit(bits, outputs[:, t])
        own = objective(bits, outputs[:, t], fit.scores[:, t], intercept[t], lam)
        best = objective(bits, outputs[:, t], peer.coef_, peer.intercept_, lam)
        assert abs(own - best) < 1e-6 * outputs[:, t].var()
        # |gradient| is λ where a score is not 0, with its sign, and at most λ elsewhere.
        residual = outputs[:, t] - bits @ fit.scores[:, t] - intercept[t]
        gradient = (bits - bits.mean(axis=0)).T @ residual / len(bits)
        used = fit.scores[:, t] != 0
        slack = 3e-3 * outputs[:, t].std()
        np.testing.assert_allclose(
            gradient[used], lam * np.sign(fit.scores[used, t]), rtol=0, atol=slack
        )
        assert np.abs(gradient).max() <= lam + slack
    public = fit_datamodel(masks, outputs, "lasso", lambdas=[lam])
    assert (public.details["duality_gap"] <= 1e-4).all()
    # Standardised columns would be another problem: here they differ in variance.
    assert np.ptp(bits.std(axis=0)) > 0 or shape[1] == 1


def test_lambda_max_is_where_the_first_score_appears():
    masks = sample_masks(200, 30, seed=2)
    outputs, _ = sparse_outputs(masks)
    sums = SufficientStatistics.of(masks, outputs)
    largest = fit_lasso(sums, (), np.array([1e3])).lambda_max
    bits = masks.unpack() - masks.unpack().mean(axis=0)
    expected = np.abs(bits.T @ (outputs - outputs.mean(axis=0))).max(axis=0) / 200
    np.testing.assert_allclose(largest, expected, rtol=1e-5)
    for t in range(4):
        above = fit_lasso(sums, (), np.array([largest[t] * (1 + 1e-6)]), final_gap=1e-9)
        below = fit_lasso(sums, (), np.array([largest[t] * (1 - 1e-3)]), final_gap=1e-9)
        assert (above.scores[:, t] == 0).all()
        assert (below.scores[:, t] != 0).sum() == 1


@pytest.mark.parametrize("n_masks", [100, 400])
def test_cross_validation_chooses_like_scikit_learn(n_masks):
    masks = sample_masks(n_masks, 80, seed=3)
    outputs, scores = sparse_outputs(masks, 16)
    result = fit_datamodel(masks, outputs, "lasso")
    bits = masks.unpack().astype(float)
    peers = [LassoCV(cv=5, alphas=40, eps=0.005, max_iter=5000).fit(bits, y) for y in outputs.T]
    own = np.square(result.scores - scores).sum(axis=0)
    theirs = np.square(np.stack([peer.coef_ for peer in peers], axis=1) - scores).sum(axis=0)
    assert own.sum() < 1.05 * theirs.sum()
    # The held-out error is that of rows the fit has not seen: noise of variance 1 and the scores'
    # own error, about a quarter of their sum of squared errors. 16 targets, so ± 5% or less.
    error = 1.0 + own.mean() / 4
    assert abs(result.details["held_out_error"].mean() / error - 1.0) < 0.25
    assert (result.details["lambda"] < 0.5 * result.details["lambda_max"]).all()


def test_the_final_fit_is_to_all_rows():
    masks = sample_masks(90, 60, seed=4)
    outputs, scores = sparse_outputs(masks, 16)
    result = fit_datamodel(masks, outputs, "lasso")
    refit = [
        fit_datamodel(masks, outputs[:, t], "lasso", lambdas=[result.details["lambda"][t]])
        for t in range(16)
    ]
    alone = np.column_stack([fit.scores for fit in refit])
    np.testing.assert_allclose(result.scores, alone, atol=0.02)
    # The fit to four fifths of the rows, which a refit replaces, is worse.
    part = np.column_stack([
        fit_datamodel(masks[:72], outputs[:72, t], "lasso", lambdas=fit.details["lambda"]).scores
        for t, fit in enumerate(refit)
    ])  # fmt: skip
    errors = [np.square(found - scores).sum() for found in (result.scores, part)]
    assert errors[0] < 0.95 * errors[1]


def test_rare_examples_are_not_standardised():
    """With a common λ a rare example needs a larger score to come in than a common one."""
    rng = np.random.default_rng(5)
    bits = rng.random((4000, 2)) < np.array([0.5, 0.02])
    outputs = bits @ np.array([1.0, 1.0])
    result = fit_datamodel(Masks.pack(bits), outputs, "lasso", lambdas=[0.05])
    assert abs(result.scores[0, 0] - (1 - 0.05 / 0.25)) < 0.01
    assert result.scores[1, 0] == 0  # 0.0196 < λ; standardised, both would keep the same share


@pytest.mark.parametrize("n_masks", [2, 3, 4, 6])
@pytest.mark.parametrize("n_train", [1, 3])
@pytest.mark.parametrize("design", ["iid", "complement"])
def test_smallest_problems(n_masks, n_train, design):
    bits = np.arange(n_masks)[:, np.newaxis] + np.arange(n_train) & 1 == 1
    if design == "complement" and n_masks % 2:
        n_masks, bits = 2, bits[:2]
    result = fit_datamodel(Masks.pack(bits), bits[:, 0] * 2.0, "lasso", design=design)
    assert np.isfinite(result.scores).all()
    np.testing.assert_allclose(result.predict(Masks.pack(bits)).mean(), 2 * bits[:, 0].mean())


def test_pairs_have_no_intercept_in_the_regression():
    masks = sample_masks(300, 20, seed=6, design="complement")
    outputs, _ = sparse_outputs(masks, 3)
    result = fit_datamodel(masks, outputs, "lasso", design="complement", lambdas=[0.02])
    odd, rows = (outputs[0::2] - outputs[1::2]) / 2, masks[0::2].unpack() - 0.5
    for t in range(3):
        peer = Lasso(0.02, fit_intercept=False, tol=1e-12).fit(rows, odd[:, t])
        np.testing.assert_allclose(result.scores[:, t], peer.coef_, atol=0.03)


def test_held_out_moments_are_the_error_on_the_rows_that_were_held_out():
    """About the means of the fitted rows: the intercept is theirs, and its error counts."""
    masks, rng = sample_masks(90, 12, seed=1), np.random.default_rng(0)
    bits, weights = masks.unpack().astype(float), rng.standard_normal((12, 2))
    outputs = 3.0 + bits @ weights + rng.standard_normal((90, 2))
    outputs[60:] += 2.0
    whole = SufficientStatistics.of(masks, outputs)
    held = SufficientStatistics.of(masks[60:], outputs[60:], scale=whole.scale)
    fitted = whole - held
    scale = output_scale(fitted, intercept=True)
    found = held_out_moments(held, fitted, scale, intercept=True)
    square = np.einsum("it,ij,jt->t", weights, found.gram, weights)
    error = found.square - 2.0 * np.einsum("ti,it->t", found.cross, weights) + square
    centred = bits[60:] - bits[:60].mean(axis=0)
    residual = (outputs[60:] - outputs[:60].mean(axis=0)) / scale - centred @ weights
    np.testing.assert_allclose(error, np.mean(residual**2, axis=0), rtol=1e-5)
