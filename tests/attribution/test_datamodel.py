from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, RidgeCV

from pyattr.attribution import empirical_influence, fit_datamodel, leave_one_out_error
from pyattr.masks import Masks, sample_masks


def outputs_for(masks, n_targets=5, noise=2.0, seed=0, offset=3.0):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(masks.n_train, n_targets)) * np.linspace(0.1, 3.0, n_targets)
    clean = offset + masks.unpack() @ scores
    return clean + noise * rng.normal(size=clean.shape)


def cube(n_train):
    """Every subset once: averages over it are expectations under p = 1/2."""
    return np.array(np.meshgrid(*[[False, True]] * n_train)).reshape(n_train, -1).T


def polynomial(bits, seed=0):
    """A function of degree 3 in the ±1 coding; returns it and its linear Fourier weights."""
    rng = np.random.default_rng(seed)
    n = bits.shape[1]
    z = 2.0 * bits - 1.0
    linear, quadratic = rng.normal(size=n), rng.normal(size=(n, n))
    quadratic[np.diag_indices(n)] = 0.0
    cubic = z[:, 0] * z[:, 1] * z[:, 2]
    return 0.7 + z @ linear + np.einsum("ji,ik,jk->j", z, quadratic, z) + 2.0 * cubic, linear


def assert_like_scikit_learn(result, peer, loo):
    np.testing.assert_allclose(result.details["lambda"], peer.alpha_, rtol=1e-12)
    scale = np.abs(peer.coef_).max(initial=1e-3)
    np.testing.assert_allclose(result.scores.T, peer.coef_, rtol=2e-4, atol=2e-5 * scale)
    np.testing.assert_allclose(result.details["loo_mse"], loo, rtol=1e-3)


METHODS = ["bayes", "lasso", "ridge", "ols"]
SHAPES = [(200, 40), (81, 40), (60, 40), (42, 40), (41, 40), (40, 40), (30, 70), (3, 5), (7, 1)]


@pytest.mark.parametrize("shape", SHAPES)
def test_ridge_is_that_of_scikit_learn(shape):
    masks = sample_masks(*shape, p=0.4, seed=sum(shape))
    outputs = outputs_for(masks)
    lambdas = np.logspace(-2, 3, 16)
    result = fit_datamodel(masks, outputs, "ridge", lambdas=lambdas)
    peer = RidgeCV(lambdas, alpha_per_target=True).fit(masks.unpack().astype(float), outputs)
    assert_like_scikit_learn(result, peer, -peer.best_score_)
    np.testing.assert_allclose(result.intercept, peer.intercept_, rtol=1e-4, atol=1e-4)
    assert (result.method, result.design) == ("ridge", "iid")
    assert result.standard_error is None


@pytest.mark.parametrize("shape", [(200, 40), (100, 40), (82, 40), (80, 40), (30, 40)])
def test_ridge_on_pairs_is_that_of_scikit_learn(shape):
    masks = sample_masks(*shape, seed=sum(shape), design="complement")
    outputs = outputs_for(masks)
    lambdas = np.logspace(-2, 3, 16)
    result = fit_datamodel(masks, outputs, "ridge", lambdas=lambdas, design="complement")
    odd, even = (outputs[0::2] - outputs[1::2]) / 2, (outputs[0::2] + outputs[1::2]) / 2
    peer = RidgeCV(lambdas, alpha_per_target=True, fit_intercept=False)
    peer.fit(masks.unpack()[0::2] - 0.5, odd)
    assert_like_scikit_learn(result, peer, -peer.best_score_)
    expected = even.mean(axis=0) - peer.coef_.sum(axis=1) / 2
    np.testing.assert_allclose(result.intercept, expected, rtol=1e-3, atol=1e-3)
    assert result.design == "complement"


def dual_ridge(bits, values, lam):
    """Ridge by its definition: the normal equations with the intercept as an unpenalised column."""
    design = np.column_stack([np.ones(len(bits)), bits])
    penalty = lam * np.diag([0.0, *np.ones(bits.shape[1])])
    return np.linalg.solve(design.T @ design + penalty, design.T @ values)


@pytest.mark.parametrize("shape", [(40, 12), (16, 12), (10, 12)])
def test_leave_one_out_error_is_that_of_refitting(shape):
    masks = sample_masks(*shape, seed=9)
    bits, outputs = masks.unpack().astype(float), outputs_for(masks, 2)
    lam = 0.8
    errors = []
    for j in range(shape[0]):
        keep = np.arange(shape[0]) != j
        fitted = dual_ridge(bits[keep], outputs[keep], lam)
        errors.append(outputs[j] - fitted[0] - bits[j] @ fitted[1:])
    result = fit_datamodel(masks, outputs, "ridge", lambdas=[lam])
    refitted = np.square(errors).mean(axis=0)
    np.testing.assert_allclose(result.details["loo_mse"], refitted, rtol=1e-4)
    # Without the intercept's 1/n_masks in the hat diagonal the errors come out too small.
    centred = bits - bits.mean(axis=0)
    hat = centred @ np.linalg.solve(centred.T @ centred + lam * np.eye(shape[1]), centred.T)
    y = outputs - outputs.mean(axis=0)
    wrong = np.square((y - hat @ y) / (1 - np.diagonal(hat))[:, np.newaxis]).mean(axis=0)
    assert (wrong < 0.99 * refitted).all()


@pytest.mark.parametrize("n_masks", [30, 60, 61, 119, 120, 400])
def test_both_forms_agree_where_they_meet(n_masks, monkeypatch):
    """Few rows, many rows in float64, many in float32: one estimator, seams included."""
    masks = sample_masks(n_masks, 60, seed=10)
    outputs = outputs_for(masks, 90)
    whole = fit_datamodel(masks, outputs, "ridge")
    monkeypatch.setattr(leave_one_out_error, "_FITS_AT_ONCE", 1 << 5)
    monkeypatch.setattr("pyattr.attribution.rows._BLOCK_ROWS", 16)
    blocks = fit_datamodel(masks, outputs, "ridge")
    np.testing.assert_allclose(whole.details["lambda"], blocks.details["lambda"], rtol=1e-12)
    np.testing.assert_allclose(whole.scores, blocks.scores, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(whole.details["loo_mse"], blocks.details["loo_mse"], rtol=1e-4)


def test_default_lambdas_fit_signal_and_noise():
    masks = sample_masks(400, 50, seed=11)
    rng = np.random.default_rng(11)
    scores = rng.normal(size=50)
    signal = masks.unpack() @ scores
    noise = rng.normal(size=400)
    result = fit_datamodel(masks, np.column_stack([signal + 1e-3 * noise, signal, noise]), "ridge")
    np.testing.assert_allclose(result.scores[:, 0], scores, atol=0.01)
    np.testing.assert_allclose(result.scores[:, 1], scores, atol=0.01)
    mean_eigenvalue = 400 * 0.25
    # The least λ for what is all signal, a large one for pure noise, which it shrinks to little.
    assert result.details["lambda"][1] < 1e-3 * mean_eigenvalue
    assert result.details["lambda"][2] > 10 * mean_eigenvalue
    assert np.square(result.scores[:, 2]).sum() * 0.25 < 0.05
    assert abs(result.details["loo_mse"][2] - 1.0) < 0.25  # sd of a variance of 400: 0.07


def test_repeated_rows_and_columns_and_constant_columns():
    rng = np.random.default_rng(12)
    for n_rows in (6, 25):
        bits = np.repeat(rng.random((n_rows, 8)) < 0.5, 2, axis=0)
        bits = np.column_stack([bits, bits, np.ones(len(bits), bool), np.zeros(len(bits), bool)])
        outputs = rng.normal(size=(len(bits), 3))
        lambdas = np.logspace(-2, 2, 9)
        result = fit_datamodel(Masks.pack(bits), outputs, "ridge", lambdas=lambdas)
        peer = RidgeCV(lambdas, alpha_per_target=True).fit(bits.astype(float), outputs)
        assert_like_scikit_learn(result, peer, -peer.best_score_)
        np.testing.assert_array_equal(result.scores[-1], 0)  # never in: no evidence, no score
        np.testing.assert_allclose(result.scores[:8], result.scores[8:16], rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_scores_scale_with_the_outputs(method, scale):
    masks = sample_masks(100, 20, seed=13)
    outputs = outputs_for(masks)
    plain = fit_datamodel(masks, outputs, method)
    scaled = fit_datamodel(masks, outputs * scale, method)
    np.testing.assert_allclose(scaled.scores / scale, plain.scores, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(scaled.intercept / scale, plain.intercept, rtol=1e-3)


@pytest.mark.parametrize("shape", [(22, 20), (200, 20), (3, 1)])
def test_least_squares_is_that_of_scikit_learn(shape):
    masks = sample_masks(*shape, seed=5)
    bits, outputs = masks.unpack().astype(float), outputs_for(masks)
    result = fit_datamodel(masks, outputs, "ols")
    peer = LinearRegression().fit(bits, outputs)
    np.testing.assert_allclose(result.scores.T, peer.coef_, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(result.intercept, peer.intercept_, rtol=1e-3, atol=1e-3)
    residual = outputs - peer.predict(bits)
    variance = np.square(residual).sum(axis=0) / (shape[0] - shape[1] - 1)
    design = np.column_stack([np.ones(len(bits)), bits])
    leverage = np.diagonal(np.linalg.inv(design.T @ design))[1:, np.newaxis]
    np.testing.assert_allclose(result.details["residual_variance"], variance, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(
        result.standard_error, np.sqrt(leverage * variance), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("shape", [(44, 20), (200, 20)])
def test_least_squares_on_pairs_is_that_of_scikit_learn(shape):
    """Half differences on half signs, with no intercept and so a degree of freedom more."""
    masks = sample_masks(*shape, seed=5, design="complement")
    outputs = outputs_for(masks)
    result = fit_datamodel(masks, outputs, "ols", design="complement")
    odd, signs = (outputs[0::2] - outputs[1::2]) / 2, masks.unpack()[0::2] - 0.5
    peer = LinearRegression(fit_intercept=False).fit(signs, odd)
    np.testing.assert_allclose(result.scores.T, peer.coef_, rtol=1e-3, atol=1e-3)
    variance = np.square(odd - peer.predict(signs)).sum(axis=0) / (shape[0] // 2 - shape[1])
    leverage = np.diagonal(np.linalg.inv(signs.T @ signs))[:, np.newaxis]
    np.testing.assert_allclose(result.details["residual_variance"], variance, rtol=1e-3)
    np.testing.assert_allclose(result.standard_error, np.sqrt(leverage * variance), rtol=1e-3)


def test_standard_errors_of_least_squares_have_their_size():
    # Mean of 40·50 squared standard scores: about 1 ± 0.05. The bound of 0.3 is 6 standard
    # deviations. The standard error of a difference of means is too large here by a factor 3.
    masks = sample_masks(400, 40, seed=14)
    rng = np.random.default_rng(14)
    scores = rng.normal(size=(40, 50))
    outputs = masks.unpack() @ scores + rng.normal(size=(400, 50))
    result = fit_datamodel(masks, outputs, "ols")
    z = (result.scores - scores) / result.standard_error
    assert abs(np.mean(np.square(z)) - 1.0) < 0.3
    wrong = (result.scores - scores) / empirical_influence(masks, outputs).standard_error
    assert np.mean(np.square(wrong)) < 0.5


def test_the_whole_cube_gives_the_fourier_weights():
    bits = cube(8)
    values, linear = polynomial(bits)
    for result in (
        fit_datamodel(Masks.pack(bits), values, "ols"),
        fit_datamodel(Masks.pack(bits), values, "ridge", lambdas=[1e-6]),
        empirical_influence(Masks.pack(bits), values),
    ):
        # In the 0/1 coding a score is twice the weight in the ±1 coding.
        np.testing.assert_allclose(result.scores[:, 0], 2 * linear, rtol=1e-5)
        np.testing.assert_allclose(result.intercept, 0.7 - linear.sum(), rtol=1e-5)


def test_pairs_remove_even_degrees():
    masks = sample_masks(60, 12, seed=15, design="complement")
    bits = masks.unpack()
    z = 2.0 * bits - 1.0
    rng = np.random.default_rng(15)
    linear = rng.normal(size=12)
    values = 0.7 + z @ linear + 5.0 * z[:, 0] * z[:, 1] - 5.0 * z[:, 2] * z[:, 3]
    paired = fit_datamodel(masks, values, "ols", design="complement")
    np.testing.assert_allclose(paired.scores[:, 0], 2 * linear, atol=1e-4)
    np.testing.assert_allclose(paired.details["residual_variance"], 0.0, atol=1e-6)
    # The same number of independent masks leaves the even part in the residual.
    fresh = sample_masks(60, 12, seed=15)
    z = 2.0 * fresh.unpack() - 1.0
    values = 0.7 + z @ linear + 5.0 * z[:, 0] * z[:, 1] - 5.0 * z[:, 2] * z[:, 3]
    plain = fit_datamodel(fresh, values, "ols")
    assert np.abs(plain.scores[:, 0] - 2 * linear).max() > 0.5


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("design", ["iid", "complement"])
def test_prediction_centres_on_the_mean_output(method, design):
    masks = sample_masks(100, 12, seed=16, design=design)
    outputs = outputs_for(masks, offset=50.0)
    result = fit_datamodel(masks, outputs, method, design=design)
    np.testing.assert_allclose(result.predict(masks).mean(axis=0), outputs.mean(axis=0), rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_constant_outputs_give_zeros(method):
    result = fit_datamodel(sample_masks(50, 9, seed=7), np.full((50, 2), 0.1), method)
    np.testing.assert_array_equal(result.scores, 0)
    np.testing.assert_allclose(result.intercept, 0.1)


def test_smallest_problems():
    two = Masks.pack(np.array([[True], [False]]))
    # λ = 1 against a centred sum of squares of 1/2 leaves a third of the difference.
    np.testing.assert_allclose(fit_datamodel(two, [3.0, 0.0], "ridge", lambdas=1.0).scores, [[1.0]])
    # Each of two rows is predicted by the other, whatever λ is.
    np.testing.assert_allclose(fit_datamodel(two, [3.0, 0.0], "ridge").details["loo_mse"], 9.0)
    three = Masks.pack(np.array([[True], [False], [True]]))
    np.testing.assert_allclose(fit_datamodel(three, [3.0, 1.0, 5.0], "ols").scores, [[3.0]])
    # One pair and the only model without an intercept: z = ±1/2, half difference 1.
    pair = fit_datamodel(two, [3.0, 1.0], "ridge", lambdas=0.25, design="complement")
    np.testing.assert_allclose(pair.scores, [[1.0]])
    np.testing.assert_allclose(pair.intercept, [1.5])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "elastic"}, "'bayes' or 'lasso' or 'ridge' or 'ols'"),
        ({"design": "pairs"}, "design"),
        ({"design": "complement"}, "pair 0 not"),
        ({"lambdas": [], "method": "ridge"}, "lambdas"),
        ({"lambdas": [1.0, 0.0], "method": "ridge"}, "lambdas"),
        ({"lambdas": [np.inf], "method": "lasso"}, "lambdas"),
        ({"lambdas": [[1.0]], "method": "ridge"}, "lambdas"),
        ({"lambdas": [1.0], "method": "ols"}, "lambdas"),
        ({"lambdas": [1.0], "method": "bayes"}, "lambdas"),
        ({"memory_limit": 1000}, "memory: expected at most 1000 bytes"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    masks = sample_masks(50, 9, seed=1)
    with pytest.raises(ValueError, match=message):
        fit_datamodel(masks, np.zeros(50), **arguments)


def test_impossible_fits_are_refused():
    masks = sample_masks(10, 9, seed=1)
    with pytest.raises(ValueError, match=r"more than 10 rows for least squares on 9 examples.*10"):
        fit_datamodel(masks, np.zeros(10), "ols")
    pairs = sample_masks(18, 9, seed=1, design="complement")
    with pytest.raises(ValueError, match="a pair of complements is one row"):
        fit_datamodel(pairs, np.zeros(18), "ols", design="complement")
    twins = np.repeat(sample_masks(50, 4, seed=1).unpack(), 2, axis=1)
    with pytest.raises(ValueError, match="singular"):
        fit_datamodel(Masks.pack(twins), np.zeros(50), "ols")


@pytest.mark.parametrize("method", METHODS)
def test_what_has_no_answer_is_refused(method):
    masks = sample_masks(10, 9, seed=1)
    with pytest.raises(ValueError, match="at least 2 rows"):
        fit_datamodel(masks[:1], np.zeros(1), method)
    equal = Masks.pack(np.repeat(masks[:1].unpack(), 5, axis=0))
    with pytest.raises(ValueError, match="all rows equal"):
        fit_datamodel(equal, np.zeros(5), method)
    with pytest.raises(ValueError, match="at least one target"):
        fit_datamodel(masks, np.zeros((10, 0)), method)
    with pytest.raises(ValueError, match="target 1"):
        fit_datamodel(masks, np.where(np.arange(3) == 1, np.inf, np.zeros((10, 3))), method)
