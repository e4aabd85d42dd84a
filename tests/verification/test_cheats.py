"""Each lie has the gap it is said to have."""

from __future__ import annotations

import numpy as np
import pytest
from cube import smooth_function

from pyattr import sample_masks, sample_seeds
from pyattr.verification.cheats import (
    AnotherModel,
    AnswersFromScores,
    FavouredGroup,
    FitsAfterChallenge,
    HalvedScores,
    NoisyScores,
    TrainsFraction,
    ZeroedSeller,
    added_gap,
)

FUNCTION = smooth_function(40, n_targets=3, quadratic=0.2)
HONEST = FUNCTION.best
SELLER = np.arange(8)


def measured_gap(published):
    """MSE of the published scores less that of the best, over all of a large sample, (3,)."""
    masks = sample_masks(40_000, 40, seed=3)
    outputs = FUNCTION(masks, sample_seeds(40_000))
    best = np.mean((outputs - HONEST.predict(masks)) ** 2, axis=0)
    bits = masks.unpack()
    return np.mean((outputs - bits @ published.scores - published.intercept) ** 2, axis=0) - best


@pytest.mark.parametrize(
    "lie",
    [
        HalvedScores(),
        HalvedScores(0.9),
        FavouredGroup(SELLER, 0.15),
        ZeroedSeller(SELLER),
        NoisyScores(0.2),
        AnotherModel(smooth_function(40, n_targets=3, seed=5).best),
    ],
    ids=lambda lie: type(lie).__name__,
)
def test_added_gap_is_what_a_large_sample_shows(lie):
    """40,000 masks: the standard error of the difference is below 0.01; 0.05 is never exceeded."""
    published = lie(HONEST)
    np.testing.assert_allclose(added_gap(HONEST, published), measured_gap(published), atol=0.05)
    assert np.all(added_gap(HONEST, published) > 0.001)
    assert lie.description


def test_strengths_are_as_asked():
    weight = 0.25 * np.sum(HONEST.scores.astype(float) ** 2, axis=0)
    np.testing.assert_allclose(added_gap(HONEST, HalvedScores()(HONEST)), weight / 4, rtol=1e-5)
    np.testing.assert_allclose(
        added_gap(HONEST, FavouredGroup(SELLER, 0.15)(HONEST)), 0.15 * weight, rtol=1e-4
    )
    np.testing.assert_allclose(added_gap(HONEST, NoisyScores(0.2)(HONEST)), 0.2 * weight, rtol=1e-4)
    assert (ZeroedSeller(SELLER)(HONEST).scores[SELLER] == 0).all()


def test_session_lies_answer_without_training():
    masks, seeds = sample_masks(10, 40), sample_seeds(10)
    true, predicted = FUNCTION(masks, seeds), HONEST.predict(masks)
    part = TrainsFraction(FUNCTION, HONEST, 0.3)(masks, seeds)
    assert (part[:3] == true[:3]).all()
    np.testing.assert_allclose(part[3:], predicted[3:], atol=1e-5)
    np.testing.assert_allclose(AnswersFromScores(HONEST)(masks, seeds), predicted, atol=1e-5)


def test_fitting_after_the_challenge_has_no_error_on_it_and_a_large_gap():
    masks, seeds = sample_masks(20, 40, seed=1), sample_seeds(20)
    outputs = FUNCTION(masks, seeds)
    fitted = FitsAfterChallenge().refit(masks, outputs)
    np.testing.assert_allclose(fitted.predict(masks), outputs, atol=1e-4)
    assert np.all(measured_gap(fitted) > 0.1)


def test_another_model_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"other.scores: expected shape \(40, 3\)"):
        AnotherModel(smooth_function(30).best)(HONEST)
