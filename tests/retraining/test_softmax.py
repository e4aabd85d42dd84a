"""Softmax regression: the optimum of its objective, on any subset."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from pyattr.kernels import margins
from pyattr.masks import Masks, sample_masks, sample_seeds
from pyattr.retraining.ensemble import Ensemble
from pyattr.retraining.principal_axes import principal_axes
from pyattr.retraining.softmax import SoftmaxRecipe


def blobs(n, n_features=6, n_classes=4, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    centres = np.random.default_rng(99).standard_normal((n_classes, n_features))
    x = centres[y] + 1.5 * rng.standard_normal((n, n_features))
    return x.astype(np.float32), y


X, Y = blobs(300)
TEST_X, TEST_Y = blobs(40, seed=1)


def ensemble(recipe, x=X, y=Y):
    return Ensemble(recipe, x, y, TEST_X[:, : x.shape[1]], TEST_Y)


@pytest.mark.parametrize("l2", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("p", [0.5, 0.9])
def test_reaches_the_optimum_of_scikit_learn(l2, p):
    masks, seeds = sample_masks(5, 300, p, seed=1), sample_seeds(5, 1)
    outputs = ensemble(SoftmaxRecipe(l2=l2, n_steps=200))(masks, seeds)

    def optimum(c):
        model = LogisticRegression(C=c, tol=1e-10, max_iter=5000)
        fits = [
            model.fit(X[b].astype(float), Y[b]).decision_function(TEST_X) for b in masks.unpack()
        ]
        return margins(np.array(fits, np.float32), TEST_Y)

    np.testing.assert_allclose(outputs, optimum(1 / l2), atol=1e-4)
    assert np.abs(outputs - optimum(2 / l2)).max() > 2e-3


def test_default_steps_end_near_the_optimum():
    masks, seeds = sample_masks(64, 300, seed=2), sample_seeds(64, 2)
    end = ensemble(SoftmaxRecipe(n_steps=300))(masks, seeds)

    def distance(recipe):
        return ((ensemble(recipe)(masks, seeds) - end) ** 2).mean(0) / end.var(0)

    assert distance(SoftmaxRecipe()).max() < 1e-3
    assert distance(SoftmaxRecipe(n_steps=5)).max() > 1e-2


def test_seed_enters_through_the_initial_weights_alone():
    masks = sample_masks(2, 300, seed=3)
    seeds, others = np.array([1, 1], np.uint64), np.array([1, 2], np.uint64)
    recipe = SoftmaxRecipe(n_steps=3)
    first, second = ensemble(recipe)(masks, seeds), ensemble(recipe)(masks, others)
    assert np.array_equal(first[0], second[0])
    assert not np.array_equal(first[1], second[1])
    still = SoftmaxRecipe(n_steps=3, init_scale=0.0)
    assert np.array_equal(ensemble(still)(masks, seeds), ensemble(still)(masks, others))


def test_empty_subset_ends_at_zero_weights():
    masks = Masks.pack(np.zeros((1, 300), bool))
    logits = ensemble(SoftmaxRecipe()).logits(masks, sample_seeds(1))
    np.testing.assert_allclose(logits, 0.0, atol=1e-12)


@pytest.mark.parametrize("n_steps", [30, 500])
def test_subsets_without_some_classes(n_steps):
    bits = np.zeros((3, 300), bool)
    bits[0, 5] = True
    bits[1] = Y == 2
    bits[2] = Y < 2
    logits = ensemble(SoftmaxRecipe(n_steps=n_steps)).logits(Masks.pack(bits), sample_seeds(3))
    assert np.isfinite(logits).all()
    assert (logits[0].argmax(-1) == Y[5]).all()
    assert (logits[1].argmax(-1) == 2).all()
    assert (logits[2].argmax(-1) < 2).all()
    seen = TEST_Y < 2
    # Two classes are told apart as well as by the optimum, whatever the bias of the missing ones.
    two = LogisticRegression().fit(X[bits[2]], Y[bits[2]]).predict(TEST_X[seen])
    assert (logits[2][seen].argmax(-1) == two).mean() > 0.95


def test_pool_of_lower_rank_than_its_features():
    x, y = blobs(20, n_features=30)
    wide = Ensemble(SoftmaxRecipe(n_steps=300), x, y, *blobs(40, 30, seed=1))
    masks, seeds = Masks.pack(np.ones((1, 20), bool)), sample_seeds(1)
    model = LogisticRegression(tol=1e-10, max_iter=5000).fit(x.astype(float), y)
    expected = margins(model.decision_function(blobs(40, 30, seed=1)[0]).astype(np.float32), TEST_Y)
    np.testing.assert_allclose(wide(masks, seeds)[0], expected, atol=2e-4)


def test_constant_feature_and_two_classes():
    x = np.concatenate([X, np.full((300, 1), 7.0, np.float32)], axis=1)
    test = np.concatenate([TEST_X, np.full((40, 1), 7.0, np.float32)], axis=1)
    two = Ensemble(SoftmaxRecipe(n_steps=200), x, Y % 2, test, TEST_Y % 2)
    (margin,) = two(Masks.pack(np.ones((1, 300), bool)), sample_seeds(1))
    # Two weight vectors w, -w: scikit-learn's single one is 2w at half the penalty.
    model = LogisticRegression(C=2.0, tol=1e-10, max_iter=5000).fit(X.astype(float), Y % 2)
    expected = model.decision_function(TEST_X) * np.where(TEST_Y % 2, 1, -1)
    np.testing.assert_allclose(margin, expected, atol=2e-4)


def test_principal_axes():
    features = torch.from_numpy(X)
    mean, axes, spectrum = principal_axes(features)
    rotated = ((features.double() - mean) @ axes).numpy()
    np.testing.assert_allclose(rotated.T @ rotated, np.diag(spectrum.numpy()), atol=1e-9)
    np.testing.assert_allclose(axes.T @ axes, np.eye(6), atol=1e-12)
    assert (axes.gather(0, axes.abs().argmax(0, keepdim=True)) > 0).all()


@pytest.mark.parametrize(
    ("name", "value"),
    [("l2", 0.0), ("l2", np.nan), ("n_steps", 0), ("n_steps", 2.5), ("init_scale", -1.0)],
)
def test_refuses(name, value):
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        SoftmaxRecipe(**{name: value})
