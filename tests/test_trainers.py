"""Trainers on the processor: the models of the torch code that defines them, and refused arguments."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pyattr import _cpu, trainers
from pyattr.masks import sample_masks, sample_seeds
from pyattr.retraining.ensemble import MLPRecipe, SoftmaxRecipe
from pyattr.retraining.mlp_cuda import CardMLPTrainer
from pyattr.retraining.pool import Pool
from pyattr.retraining.softmax_cuda import CardSoftmaxTrainer

CPU = torch.device("cpu")


def pool(n_features: int, n_classes: int, n_targets: int = 23) -> Pool:
    rng = np.random.default_rng(n_features)
    x = rng.standard_normal((90 + n_targets, n_features), dtype=np.float32)
    y = np.arange(90 + n_targets) % n_classes
    x[:, 0] += y
    return Pool.of(x[:90], y[:90], x[90:], y[90:])


@pytest.mark.parametrize(("n_features", "n_classes"), [(1, 2), (15, 3), (16, 5), (33, 17)])
# Whether momentum restarts hangs on a sign: after some steps a rounding can move a restart.
@pytest.mark.parametrize(("n_steps", "bound"), [(1, 2e-5), (2, 2e-5), (30, 2e-3)])
def test_softmax_regressions_are_those_of_torch(n_features, n_classes, n_steps, bound):
    recipe, examples = SoftmaxRecipe(n_steps=n_steps, init_scale=0.1), pool(n_features, n_classes)
    bits, seeds = sample_masks(6, 90, 0.4, seed=1).unpack(), sample_seeds(6, 1)
    bits[2], bits[3], bits[4] = False, True, np.arange(90) < 1
    ours = recipe.trainer(examples, CPU).logits(bits, seeds).numpy()
    theirs = CardSoftmaxTrainer(recipe, examples, CPU).logits(bits, seeds).numpy()
    np.testing.assert_allclose(ours, theirs, rtol=bound, atol=bound)
    other = CardSoftmaxTrainer(SoftmaxRecipe(1.5, n_steps, 0.1), examples, CPU)
    assert np.abs(ours - other.logits(bits, seeds).numpy()).max() > 2 * bound


@pytest.mark.parametrize(("n_features", "n_classes"), [(1, 2), (15, 3), (33, 17)])
@pytest.mark.parametrize(("hidden", "batch_size"), [(1, 1), (16, 8), (67, 21)])
def test_networks_are_those_of_torch(n_features, n_classes, hidden, batch_size):
    recipe = MLPRecipe(hidden, 12, batch_size, learning_rate=0.1)
    examples = pool(n_features, n_classes)
    bits, seeds = sample_masks(5, 90, 0.4, seed=2).unpack(), sample_seeds(5, 2)
    bits[2] = False
    ours = recipe.trainer(examples, CPU).logits(bits, seeds).numpy()
    theirs = CardMLPTrainer(recipe, examples, CPU).logits(bits, seeds).numpy()
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    other = CardMLPTrainer(MLPRecipe(hidden, 12, batch_size, 0.11), examples, CPU)
    assert np.abs(ours - other.logits(bits, seeds).numpy()).max() > 4e-4


def network_arguments():
    shape = trainers.NetworkShape(4, 16, 3)
    weights = shape.flat(np.ones((2, 3, 16), np.float32), np.ones((2, 3, 16), np.float32))
    return {
        "rows": np.ones((5, 4), np.float32),
        "labels": np.zeros(5, np.int32),
        "n_hidden": 16,
        "n_classes": 3,
        "rates": np.ones(2, np.float32),
        "momentum": 0.5,
        "decay": 0.0,
        "examples": np.zeros((2, 2, 4), np.int32),
        "weights": weights,
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rows", np.ones((0, 4), np.float32)),
        ("labels", np.full(5, 3, np.int32)),
        ("labels", np.full(5, -1, np.int32)),
        ("labels", np.zeros(4, np.int32)),
        ("rates", np.zeros(0, np.float32)),
        ("examples", np.full((2, 2, 4), 5, np.int32)),
        ("examples", np.zeros((2, 3, 4), np.int32)),
        ("examples", np.zeros((2, 2), np.int32)),
        ("examples", np.zeros((2, 2, 0), np.int32)),  # a mean over nothing
        ("weights", np.zeros((2, 5), np.float32)),
    ],
)
def test_networks_refuse(name, value):
    _cpu.train_networks(**network_arguments())
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        _cpu.train_networks(**network_arguments() | {name: value})


def softmax_arguments():
    shape = trainers.LinearShape(4, 3)
    flat = shape.flat(np.ones((4, 3), np.float32), np.float32(1.0))
    return {
        "rows": shape.rows(np.ones((5, 4), np.float32)),
        "labels": np.zeros(5, np.int32),
        "n_features": 4,
        "n_classes": 3,
        "bits": np.ones((2, 5), np.uint8),
        "spectrum": flat,
        "l2": flat,
        "floor": 1e-4,
        "start": 0.25,
        "safety": 1.5,
        "decay": 0.9,
        "n_steps": 2,
        "weights": np.zeros((2, len(flat)), np.float32),
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rows", np.ones((5, 4), np.float32)),
        ("labels", np.full(5, 3, np.int32)),
        ("bits", np.ones((2, 6), np.uint8)),
        ("spectrum", np.ones(3, np.float32)),
        ("l2", np.ones(3, np.float32)),
        ("weights", np.zeros((1, 64), np.float32)),
        ("floor", 0.0),
        ("n_features", 2**64 - 1),
        ("n_classes", 2**62),
    ],
)
def test_softmax_regressions_refuse(name, value):
    _cpu.fit_softmax_regressions(**softmax_arguments())
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        _cpu.fit_softmax_regressions(**softmax_arguments() | {name: value})


def test_sizes_whose_products_overflow_are_refused():
    # 4 inputs and 4 classes times 2^62 units would be 0 weights beside 16 biases.
    rows, weights = np.ones((5, 4), np.float32), np.zeros((2, 16), np.float32)
    huge = {"n_hidden": 2**62, "n_classes": 4, "weights": weights}
    with pytest.raises(ValueError, match=r"^n_hidden: expected less than 2\^31"):
        _cpu.train_networks(**network_arguments() | huge)
    with pytest.raises(ValueError, match=r"^n_hidden: expected less than 2\^31"):
        _cpu.network_logits(rows, 2**62, 4, weights, np.zeros((2, 5, 4), np.float32))


def test_logits_refuse_other_shapes():
    weights = np.zeros((2, 64), np.float32)
    out = np.zeros((2, 3, 3), np.float32)
    with pytest.raises(ValueError, match=r"^turned: expected shape \(4, 16\)"):
        _cpu.linear_logits(np.zeros((4, 3), np.float32), 3, 3, weights, out)
    with pytest.raises(ValueError, match=r"^weights: expected shape"):
        _cpu.network_logits(np.zeros((3, 4), np.float32), 16, 3, weights, out)
