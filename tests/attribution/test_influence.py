from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from pyattr.attribution import empirical_influence, memorization
from pyattr.masks import Masks, sample_masks


def linear_outputs(masks, n_targets, noise, seed=0, offset=5.0):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(masks.n_train, n_targets))
    clean = offset + masks.unpack() @ scores
    return scores, clean + noise * rng.normal(size=clean.shape)


@pytest.mark.parametrize("n_train", [1, 8, 31, 65])
@pytest.mark.parametrize("scale", [1.0, 1e-25, 1e25])
def test_equals_welch(n_train, scale):
    masks = sample_masks(200, n_train, p=0.4, seed=1)
    _, outputs = linear_outputs(masks, 3, 1.0)
    outputs *= scale
    result = empirical_influence(masks, outputs)
    bits = masks.unpack()
    for i in range(n_train):
        inside, outside = outputs[bits[:, i]], outputs[~bits[:, i]]
        score = inside.mean(axis=0) - outside.mean(axis=0)
        test = scipy.stats.ttest_ind(inside, outside, equal_var=False)
        np.testing.assert_allclose(result.scores[i], score, rtol=1e-4, atol=1e-5 * scale)
        np.testing.assert_allclose(result.standard_error[i], score / test.statistic, rtol=1e-4)
    assert (result.method, result.design) == ("influence", "iid")


def test_mean_prediction_is_mean_output():
    masks = sample_masks(100, 40, p=0.3, seed=2)
    _, outputs = linear_outputs(masks, 4, 1.0, offset=1000.0)
    result = empirical_influence(masks, outputs)
    np.testing.assert_allclose(result.predict(masks).mean(axis=0), outputs.mean(axis=0), rtol=1e-6)


def test_complement_pairs_equal_paired_test():
    masks = sample_masks(120, 33, seed=3, design="complement")
    _, outputs = linear_outputs(masks, 3, 1.0)
    result = empirical_influence(masks, outputs, design="complement")
    plain = empirical_influence(masks, outputs)
    sign = 2.0 * masks.unpack()[0::2] - 1.0
    for i in range(33):
        gain = sign[:, i, np.newaxis] * (outputs[0::2] - outputs[1::2])
        test = scipy.stats.ttest_1samp(gain, 0.0)
        np.testing.assert_allclose(result.scores[i], gain.mean(axis=0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(
            result.standard_error[i], gain.mean(axis=0) / test.statistic, rtol=1e-4
        )
    np.testing.assert_allclose(result.scores, plain.scores, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(result.intercept, plain.intercept, rtol=1e-4, atol=1e-4)
    assert result.design == "complement"


def mean_square_z(result, scores):
    return float(np.mean(np.square((result.scores - scores) / result.standard_error)))


def test_standard_errors_have_their_size():
    # Mean of 64·16 squared standard scores, nearly independent: 1 ± 0.044. The bound of 0.25 is
    # 5.6 standard deviations: false-alarm rate below 1e-7 (and the seeds are fixed).
    masks = sample_masks(2000, 64, seed=4)
    scores, outputs = linear_outputs(masks, 16, 1.0, seed=4)
    assert abs(mean_square_z(empirical_influence(masks, outputs), scores) - 1.0) < 0.25

    pairs = sample_masks(2000, 64, seed=5, design="complement")
    scores, outputs = linear_outputs(pairs, 16, 1.0, seed=5)
    right = empirical_influence(pairs, outputs, design="complement")
    assert abs(mean_square_z(right, scores) - 1.0) < 0.25
    # Welch takes the two halves of a pair for independent, and is wrong by a factor near 2.
    assert mean_square_z(empirical_influence(pairs, outputs), scores) > 1.6


def test_memorization_is_the_diagonal():
    rng = np.random.default_rng(6)
    masks = sample_masks(300, 65, p=0.7, seed=6)
    bits = masks.unpack()
    correct = rng.random(bits.shape) < np.where(bits, 0.9, 0.3)  # Feldman and Zhang's output
    result = memorization(masks, correct)
    full = empirical_influence(masks, correct)
    assert result.scores.shape == (65,)
    assert result.scores.dtype == result.standard_error.dtype == np.float32
    np.testing.assert_allclose(result.scores, np.diagonal(full.scores), atol=1e-6)
    np.testing.assert_allclose(result.standard_error, np.diagonal(full.standard_error), rtol=1e-4)
    # Mean of 65 differences, each with standard error about 0.045: 0.6 ± 0.006, bound 5 of these.
    assert abs(result.scores.mean() - 0.6) < 0.03


@pytest.mark.parametrize("value", [False, True])
def test_constant_examples_are_named(value):
    bits = np.random.default_rng(0).random((20, 6)) < 0.5
    bits[:, [3, 5]] = value
    side = "all" if value else "none"
    for estimate, outputs in (
        (empirical_influence, np.zeros(20)),
        (memorization, np.zeros((20, 6))),
    ):
        with pytest.raises(ValueError, match=f"example 3 in {side} of 20"):
            estimate(Masks.pack(bits), outputs)


def test_unknown_standard_errors_are_nan():
    bits = np.array([[1, 1], [0, 1], [0, 0], [0, 0]], dtype=bool)
    result = empirical_influence(Masks.pack(bits), [1.0, 2.0, 4.0, 6.0])
    np.testing.assert_allclose(result.scores[:, 0], [-3.0, -3.5])
    assert np.isnan(result.standard_error[0, 0])
    np.testing.assert_allclose(result.standard_error[1, 0], np.sqrt(0.5 / 2 + 2.0 / 2), rtol=1e-6)
    pair = sample_masks(2, 5, seed=1, design="complement")
    assert np.isnan(empirical_influence(pair, [1.0, 2.0], design="complement").standard_error).all()


def test_constant_outputs_give_zeros():
    masks = sample_masks(50, 9, seed=7)
    result = empirical_influence(masks, np.full((50, 2), 0.1))
    np.testing.assert_array_equal(result.scores, 0)
    np.testing.assert_array_equal(result.standard_error, 0)
    np.testing.assert_allclose(result.intercept, 0.1)


def test_more_targets_than_one_block():
    masks = sample_masks(40, 9, seed=8)
    _, outputs = linear_outputs(masks, 600, 1.0)
    whole = empirical_influence(masks, outputs)
    part = empirical_influence(masks, outputs[:, 255:258])
    np.testing.assert_allclose(whole.scores[:, 255:258], part.scores, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (np.zeros(19), "20 rows"),
        (np.zeros((20, 0)), "at least one target"),
        (np.zeros((20, 2, 2)), "dimensions"),
        (np.array(["a"] * 20), "real numbers"),
        (np.where(np.arange(60).reshape(20, 3) == 31, np.nan, 0.0), "target 1"),
    ],
)
def test_wrong_outputs_are_refused(outputs, message):
    with pytest.raises(ValueError, match=message):
        empirical_influence(sample_masks(20, 6, seed=1), outputs)


def test_wrong_designs_are_refused():
    masks = sample_masks(20, 6, seed=1)
    with pytest.raises(ValueError, match="pair 0 not"):
        empirical_influence(masks, np.zeros(20), design="complement")
    with pytest.raises(ValueError, match="even number"):
        empirical_influence(masks[:19], np.zeros(19), design="complement")
    with pytest.raises(ValueError, match="design"):
        empirical_influence(masks, np.zeros(20), design="paired")
    pairs = sample_masks(20, 6, seed=1, design="complement").unpack()
    pairs[12, 3] = ~pairs[12, 3]
    with pytest.raises(ValueError, match="pair 6 not"):
        empirical_influence(Masks.pack(pairs), np.zeros(20), design="complement")
    with pytest.raises(ValueError, match="6 targets"):
        memorization(masks, np.zeros((20, 5)))
