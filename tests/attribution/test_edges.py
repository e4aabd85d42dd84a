"""All estimators at the edges: what is not finite, constant, or hardly there at all."""

from __future__ import annotations

import numpy as np
import pytest

from pyattr.attribution import empirical_influence, fit_datamodel
from pyattr.masks import Masks, sample_masks

ESTIMATORS = [
    ("bayes", "gram"),
    ("bayes", "gram-free"),
    ("lasso", "gram"),
    ("lasso", "gram-free"),
    ("ridge", "gram"),
    ("ridge", "gram-free"),
    ("ols", "gram"),
    ("influence", ""),
]
DESIGNS = ["iid", "complement"]


def fit(masks, outputs, estimator, design):
    method, solver = estimator
    if method == "influence":
        return empirical_influence(masks, outputs, design=design)
    return fit_datamodel(masks, outputs, method, design=design, solver=solver)


def problem(design, n_masks=120, n_train=15, n_targets=4, seed=0):
    masks = sample_masks(n_masks, n_train, seed=seed, design=design)
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n_train, n_targets)) * 2.0
    return masks, 5.0 + masks.unpack() @ scores + rng.normal(size=(n_masks, n_targets))


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_by_target(estimator, design, bad):
    masks, outputs = problem(design)
    outputs[-1, 2] = outputs[3, 3] = bad
    with pytest.raises(ValueError, match=r"outputs: expected finite numbers, got .* for target 2"):
        fit(masks, outputs, estimator, design)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("value", [0.0, 0.1, -1e30])
def test_constant_targets_have_no_scores(estimator, design, value):
    masks, outputs = problem(design)
    outputs[:, 1] = value
    result = fit(masks, outputs, estimator, design)
    np.testing.assert_array_equal(result.scores[:, 1], 0.0)
    np.testing.assert_allclose(result.intercept[1], value, rtol=1e-6)
    assert (np.abs(result.scores[:, [0, 2, 3]]).max(axis=0) > 1.0).all()
    for name, values in result.details.items():
        assert np.isfinite(values).all(), name
    if result.standard_error is not None and estimator[0] != "bayes":
        np.testing.assert_array_equal(result.standard_error[:, 1], 0.0)
    # The other targets do not know of it.
    alone = fit(masks, outputs[:, [0, 2, 3]], estimator, design)
    np.testing.assert_allclose(result.scores[:, [0, 2, 3]], alone.scores, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_constant_examples_have_no_scores_or_are_named(estimator):
    masks, outputs = problem("iid")
    bits = masks.unpack()
    bits[:, 3], bits[:, 7] = True, False
    constant = Masks.pack(bits)
    if estimator[0] in ("ols", "influence"):
        with pytest.raises(ValueError, match=r"example 3 in all"):
            fit(constant, outputs, estimator, "iid")
        return
    result = fit(constant, outputs, estimator, "iid")
    np.testing.assert_array_equal(result.scores[[3, 7]], 0.0)
    assert np.abs(result.scores).max() > 1.0
    mean = result.predict(constant).mean(axis=0)
    np.testing.assert_allclose(mean, outputs.mean(axis=0), rtol=1e-5)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("n_masks", [2, 4, 6])
@pytest.mark.parametrize("n_train", [1, 3])
def test_hardly_any_masks(estimator, design, n_masks, n_train):
    bits = np.arange(n_masks)[:, np.newaxis] + np.arange(n_train) & 1 == 1
    masks, outputs = Masks.pack(bits), bits[:, 0] * 2.0
    n_free = n_masks // 2 if design == "complement" else n_masks - 1
    if estimator[0] == "ols" and n_free <= n_train:
        with pytest.raises(ValueError, match=r"rows for least squares"):
            fit(masks, outputs, estimator, design)
        return
    if estimator[0] == "ols" and n_train == 3:  # the first and the third example are the same
        with pytest.raises(ValueError, match="singular"):
            fit(masks, outputs, estimator, design)
        return
    result = fit(masks, outputs, estimator, design)
    assert np.isfinite(result.scores).all()
    assert (result.scores[0] >= -1e-6).all()
    assert (result.scores[0] <= 2.0 + 1e-3).all()
    np.testing.assert_allclose(result.predict(masks).mean(), 1.0, rtol=1e-5)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_nothing_to_fit_is_refused(estimator):
    masks, outputs = problem("iid")
    with pytest.raises(ValueError, match="at least one target"):
        fit(masks, outputs[:, :0], estimator, "iid")
    one = "example 0 in" if estimator[0] == "influence" else "at least 2 rows"
    with pytest.raises(ValueError, match=one):
        fit(masks[:1], outputs[:1], estimator, "iid")
    none = "at least one row" if estimator[0] == "influence" else "at least 2 rows"
    with pytest.raises(ValueError, match=none):
        fit(masks[:0], outputs[:0], estimator, "iid")
    with pytest.raises(ValueError, match="even number of rows"):
        fit(masks[:0], outputs[:0], estimator, "complement")
    equal = Masks.pack(np.repeat(masks[:1].unpack(), 5, axis=0))
    same = "example 0 in" if estimator[0] == "influence" else "all rows equal"
    with pytest.raises(ValueError, match=same):
        fit(equal, outputs[:5], estimator, "iid")


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("design", DESIGNS)
def test_one_example(estimator, design):
    masks, noise = problem(design, n_masks=200, n_train=1, n_targets=2)
    outputs = noise + 5.0 * masks.unpack()
    result = fit(masks, outputs, estimator, design)
    bits = masks.unpack()[:, 0]
    difference = outputs[bits].mean(axis=0) - outputs[~bits].mean(axis=0)
    np.testing.assert_allclose(result.scores[0], difference, rtol=0.1)
