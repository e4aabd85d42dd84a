"""The network: the same steps as torch's own SGD on the same batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pyattr.masks import Masks, sample_masks, sample_seeds
from pyattr.retraining.ensemble import Ensemble
from pyattr.retraining.mlp import MLPRecipe
from pyattr.retraining.model_seed import data_order, uniform_initialisation

RNG = np.random.default_rng(0)
X = RNG.standard_normal((120, 7)).astype(np.float32)
Y = (np.abs(X[:, 0]) + X[:, 1] > 0.7).astype(np.int64) + (X[:, 2] > 1)
TEST_X, TEST_Y = X[80:], Y[80:]
X, Y = X[:80], Y[:80]


def ensemble(recipe):
    return Ensemble(recipe, X, Y, TEST_X, TEST_Y)


def plain_logits(recipe, bits, seed, order_seed=None):
    """One model by autograd and torch.optim.SGD, in float64."""
    seeds = np.array([seed], np.uint64)
    h = recipe.hidden
    mean = X.astype(np.float64).mean(0)
    net = torch.nn.Sequential(
        torch.nn.Linear(7, h), torch.nn.ReLU(), torch.nn.Linear(h, 3)
    ).double()
    w1 = uniform_initialisation(seeds, 7 * h).reshape(7, h).T * recipe.init_scale * np.sqrt(6 / 7)
    w2 = (
        uniform_initialisation(seeds, 3 * h, plane=1).reshape(3, h)
        * recipe.init_scale
        * np.sqrt(6 / h)
    )
    with torch.no_grad():
        for layer, w in ((net[0], w1), (net[2], w2)):
            layer.weight.copy_(torch.from_numpy(np.ascontiguousarray(w)))
            layer.bias.zero_()
    rate, n = recipe.learning_rate, recipe.n_steps
    sgd = torch.optim.SGD(net.parameters(), rate, recipe.momentum, weight_decay=recipe.weight_decay)
    falling = torch.optim.lr_scheduler.LambdaLR(sgd, lambda t: 1 - t / n)
    seeds = seeds if order_seed is None else np.array([order_seed], np.uint64)
    order = data_order(bits[None], seeds, n * recipe.batch_size)[0].reshape(n, -1)
    for batch in order:
        sgd.zero_grad()
        x = torch.from_numpy(X[batch] - mean)
        torch.nn.functional.cross_entropy(net(x), torch.from_numpy(Y[batch])).backward()
        sgd.step()
        falling.step()
    with torch.no_grad():
        return net(torch.from_numpy(TEST_X - mean)).numpy()


RECIPES = [
    MLPRecipe(n_steps=40, batch_size=25),
    MLPRecipe(hidden=5, n_steps=30, batch_size=7, momentum=0.0, weight_decay=0.0),
    MLPRecipe(hidden=33, n_steps=12, batch_size=64, learning_rate=0.05, init_scale=1.0),
]


@pytest.mark.parametrize("recipe", RECIPES)
def test_takes_the_steps_of_torch(recipe):
    masks, seeds = sample_masks(4, 80, seed=1), sample_seeds(4, 1)
    logits = ensemble(recipe).logits(masks, seeds)
    for bits, seed, ours in zip(masks.unpack(), seeds, logits, strict=True):
        np.testing.assert_allclose(ours, plain_logits(recipe, bits, seed), atol=1e-4)
    wrong_order = plain_logits(recipe, bits, seed, order_seed=seed + 1)
    assert np.abs(ours - wrong_order).max() > 1e-2


def test_subsets_smaller_than_a_batch_or_without_a_class():
    recipe = MLPRecipe(hidden=8, n_steps=15, batch_size=30)
    bits = np.zeros((4, 80), bool)
    bits[0, 3] = True
    bits[1, :5] = True
    bits[2] = Y == 1
    bits[3] = True
    seeds = sample_seeds(4, 2)
    logits = ensemble(recipe).logits(Masks.pack(bits), seeds)
    for j in range(4):
        np.testing.assert_allclose(logits[j], plain_logits(recipe, bits[j], seeds[j]), atol=1e-4)


def test_empty_subset_stays_at_its_initialisation():
    recipe = MLPRecipe(hidden=8, n_steps=10, init_scale=0.5)
    logits = ensemble(recipe).logits(Masks.pack(np.zeros((2, 80), bool)), sample_seeds(2))
    h = uniform_initialisation(sample_seeds(2), 7 * 8).reshape(2, 7, 8) * 0.5 * np.sqrt(6 / 7)
    out = (
        uniform_initialisation(sample_seeds(2), 3 * 8, plane=1).reshape(2, 3, 8)
        * 0.5
        * np.sqrt(6 / 8)
    )
    active = np.maximum((TEST_X - X.astype(np.float64).mean(0)) @ h, 0)
    np.testing.assert_allclose(logits, active @ out.transpose(0, 2, 1), atol=1e-5)


def test_learns_more_than_a_linear_model():
    masks = Masks.pack(np.ones((8, 80), bool))
    assert ensemble(MLPRecipe(n_steps=300)).accuracy(masks, sample_seeds(8)).mean() > 0.7
    assert (np.bincount(TEST_Y).max() / len(TEST_Y)) < 0.65


def test_a_diverged_model_is_refused():
    masks = Masks.pack(np.array([[False] * 80] * 40 + [[True] * 80]))
    with pytest.raises(ValueError, match=r"^recipe: .*finite.* row 40 \(seed 40\)"):
        ensemble(MLPRecipe(learning_rate=1e6))(masks, np.arange(41, dtype=np.uint64))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("hidden", 0),
        ("n_steps", 0),
        ("batch_size", 1.5),
        ("learning_rate", 0.0),
        ("momentum", 1.0),
        ("weight_decay", -0.1),
        ("init_scale", np.inf),
    ],
)
def test_refuses(name, value):
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        MLPRecipe(**{name: value})
