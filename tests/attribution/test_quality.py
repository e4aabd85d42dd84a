from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import r2_score, roc_auc_score

from pyattr.attribution import Attribution, held_out_r2, lds, lds_ceiling, mislabel_auc
from pyattr.masks import sample_masks


def case(n_masks=300, n_train=50, n_targets=4, noise=1.0, seed=0):
    rng = np.random.default_rng(seed)
    truth = Attribution(scores=rng.normal(size=(n_train, n_targets)), intercept=2.0)
    masks = sample_masks(n_masks, n_train, seed=seed)
    outputs = truth.predict(masks) + noise * rng.normal(size=(n_masks, n_targets))
    return truth, masks, outputs


def test_lds_is_spearman():
    truth, masks, outputs = case()
    outputs = np.round(outputs)  # with ties
    predicted = truth.predict(masks)
    expected = [scipy.stats.spearmanr(predicted[:, t], outputs[:, t]).statistic for t in range(4)]
    np.testing.assert_allclose(lds(truth, masks, outputs), expected, rtol=1e-10)


def test_lds_ignores_what_r2_sees():
    truth, masks, outputs = case()
    halved = Attribution(scores=truth.scores / 2, intercept=0.0)
    np.testing.assert_allclose(lds(halved, masks, outputs), lds(truth, masks, outputs), atol=1e-3)
    assert (held_out_r2(truth, masks, outputs) > 0.8).all()
    assert (held_out_r2(halved, masks, outputs) < 0.8).all()


def test_r2_is_that_of_scikit_learn():
    truth, masks, outputs = case()
    np.testing.assert_allclose(
        held_out_r2(truth, masks, outputs),
        r2_score(outputs, truth.predict(masks), multioutput="raw_values"),
        rtol=1e-5,
    )
    wrong = Attribution(scores=-truth.scores, intercept=0.0)
    assert (held_out_r2(wrong, masks, outputs) < 0).all()


def test_constants_are_nan():
    truth, masks, outputs = case(n_targets=2)
    outputs[:, 1] = 0.1
    assert np.isnan(held_out_r2(truth, masks, outputs)).tolist() == [False, True]
    assert np.isnan(lds(truth, masks, outputs)).tolist() == [False, True]
    assert np.isnan(lds_ceiling(outputs, outputs)).tolist() == [False, True]
    zero = Attribution(scores=np.zeros((50, 2)))
    assert np.isnan(lds(zero, masks, outputs)).all()
    assert np.isnan(lds(truth, masks[:0], outputs[:0])).all()
    for n_masks in (0, 1):
        assert np.isnan(held_out_r2(truth, masks[:n_masks], outputs[:n_masks])).all()


@pytest.mark.parametrize("noise", [0.3, 3.0, 10.0])
@pytest.mark.parametrize("n_averaged", [1, 2, 4])
def test_ceiling_is_what_the_truth_reaches(noise, n_averaged):
    # Predictions are sums of 60 bits, close to normal. With 20,000 subsets a rank correlation
    # has a standard error of at most 0.007 and so has each ceiling through the steepest part of
    # its formula at most 0.02; the bound is 0.03 on the mean of 4 targets, each independent.
    truth, masks, first = case(20_000, 60, 4, noise, seed=1)
    clean = truth.predict(masks)
    rng = np.random.default_rng(2)
    second = clean + noise * rng.normal(size=clean.shape)
    averaged = clean + noise / np.sqrt(n_averaged) * rng.normal(size=clean.shape)
    reached = lds(truth, masks, averaged)
    ceiling = lds_ceiling(first, second, n_averaged)
    assert np.abs(np.mean(reached - ceiling)) < 0.03
    if n_averaged == 1 and noise > 1:
        # The correlation of the two runs, often quoted, is not the ceiling: the truth exceeds it.
        plain = [scipy.stats.spearmanr(first[:, t], second[:, t]).statistic for t in range(4)]
        assert np.mean(reached - plain) > 0.05


def test_ceiling_ends():
    rng = np.random.default_rng(3)
    outputs = rng.normal(size=(500, 2))
    np.testing.assert_allclose(lds_ceiling(outputs, outputs), 1.0)
    np.testing.assert_array_equal(lds_ceiling(outputs, -outputs, 3), 0.0)
    np.testing.assert_allclose(lds_ceiling(outputs[:, 0], outputs[:, 0]), [1.0])


def test_auc_is_that_of_scikit_learn():
    rng = np.random.default_rng(4)
    flipped = rng.random(200) < 0.1
    suspicion = np.round(rng.normal(size=200) + flipped, 1)  # with ties
    assert mislabel_auc(suspicion, flipped) == pytest.approx(roc_auc_score(flipped, suspicion))
    assert mislabel_auc(flipped.astype(float), flipped) == 1.0
    assert mislabel_auc(-flipped.astype(float), flipped) == 0.0
    assert mislabel_auc(np.zeros(200), flipped) == 0.5


def test_examples_that_hurt_are_suspicious():
    flipped = np.array([True, False, False, False])
    scores = np.array([[-1.0, -2.0], [1.0, 0.5], [3.0, 0.0], [-5.0, 5.0]])
    assert mislabel_auc(Attribution(scores=scores), flipped) == 1.0
    assert mislabel_auc(Attribution(scores=-scores), flipped) == 0.0


@pytest.mark.parametrize(
    ("scores", "flipped", "message"),
    [
        (np.zeros((3, 1)), [True, False, False], "scores"),
        ([0.0, np.nan, 1.0], [True, False, False], "scores"),
        ([0.0, 2.0, 1.0], [True, False], "flipped"),
        ([0.0, 2.0, 1.0], [1, 0, 0], "flipped"),
        ([0.0, 2.0, 1.0], [False, False, False], "flipped"),
        ([0.0, 2.0, 1.0], [True, True, True], "flipped"),
    ],
)
def test_wrong_labels_are_refused(scores, flipped, message):
    with pytest.raises(ValueError, match=message):
        mislabel_auc(scores, flipped)


def test_wrong_shapes_are_refused():
    truth, masks, outputs = case()
    for measure in (lds, held_out_r2):
        with pytest.raises(ValueError, match="4 targets"):
            measure(truth, masks, outputs[:, :3])
        with pytest.raises(ValueError, match="300 rows"):
            measure(truth, masks, outputs[:-1])
        with pytest.raises(ValueError, match="target 3"):
            measure(truth, masks, np.where(np.arange(4) == 3, np.nan, outputs))
    with pytest.raises(ValueError, match="outputs_b"):
        lds_ceiling(outputs, outputs[:, :3])
    with pytest.raises(ValueError, match="n_averaged"):
        lds_ceiling(outputs, outputs, 0)
