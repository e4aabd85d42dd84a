from __future__ import annotations

import numpy as np
import pytest

from pyattr.attribution import leave_one_out

SEEDS = np.array([3, 2**64 - 1, 0], dtype=np.uint64)


class Simulation:
    """A training algorithm in closed form: degree 2 in the subset, plus an effect of the seed."""

    def __init__(self, n_train, n_targets=2, seed=0):
        rng = np.random.default_rng(seed)
        self.linear = rng.normal(size=(n_train, n_targets))
        self.pairs = rng.normal(size=(n_train, n_targets))
        self.calls = []

    def __call__(self, masks, seeds):
        self.calls.append((masks.n_masks, seeds.copy()))
        x = masks.unpack().astype(float)
        # The seed multiplies the effect of the subset: it does not cancel in a difference.
        luck = 1.0 + 0.1 * np.array([int(s) % 7 for s in seeds])[:, np.newaxis]
        neighbours = x * np.roll(x, 1, axis=1)
        return luck * (4.0 + x @ self.linear + neighbours @ self.pairs)

    def differences(self, seed):
        luck = 1.0 + 0.1 * (int(seed) % 7)
        return luck * (self.linear + self.pairs + np.roll(self.pairs, -1, axis=0))

    def full(self, seed):
        luck = 1.0 + 0.1 * (int(seed) % 7)
        return luck * (4.0 + self.linear.sum(axis=0) + self.pairs.sum(axis=0))


@pytest.mark.parametrize("n_train", [3, 9, 65])
def test_equals_the_definition(n_train):
    retrain = Simulation(n_train)
    result = leave_one_out(retrain, n_train=n_train, seeds=SEEDS)
    each = np.array([retrain.differences(seed) for seed in SEEDS])
    np.testing.assert_allclose(result.scores, each.mean(axis=0), rtol=1e-5, atol=1e-6)
    error = each.std(axis=0, ddof=1) / np.sqrt(3)
    np.testing.assert_allclose(result.standard_error, error, rtol=1e-4, atol=1e-6)
    full = np.mean([retrain.full(seed) for seed in SEEDS], axis=0)
    np.testing.assert_allclose(result.intercept + result.scores.sum(axis=0), full, rtol=1e-5)
    assert (result.method, result.design) == ("leave-one-out", "leave-one-out")


def test_one_seed_has_no_standard_error():
    retrain = Simulation(5)
    result = leave_one_out(retrain, n_train=5, seeds=[6])
    np.testing.assert_allclose(result.scores, retrain.differences(6), rtol=1e-5)
    assert result.standard_error is None


def test_subsets_come_in_bounded_batches_that_share_the_seed():
    retrain = Simulation(2100, 1)
    result = leave_one_out(retrain, n_train=2100, seeds=SEEDS[:2])
    assert [n for n, _ in retrain.calls] == 2 * [1, 1024, 1024, 52]
    for number, (_, seeds) in enumerate(retrain.calls):
        assert seeds.dtype == np.uint64
        assert (seeds == SEEDS[number // 4]).all()
    each = np.array([retrain.differences(seed) for seed in SEEDS[:2]])
    np.testing.assert_allclose(result.scores, each.mean(axis=0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_train": 0, "seeds": [1]}, "n_train"),
        ({"n_train": 3, "seeds": []}, "seeds"),
        ({"n_train": 3, "seeds": 5}, "seeds"),
        ({"n_train": 3, "seeds": [1.5]}, "seeds"),
        ({"n_train": 3, "seeds": [-1]}, "seeds"),
        ({"n_train": 3, "seeds": [2, 1, 2]}, "different"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        leave_one_out(Simulation(3), **arguments)


def test_wrong_outputs_are_refused():
    def too_few(masks, seeds):
        return np.zeros((1, 2))

    def not_finite(masks, seeds):
        return np.where(masks.unpack()[:, :2], 0.0, np.nan)

    def changing(masks, seeds):
        return np.zeros((masks.n_masks, 1 + int(seeds[0])))

    for retrain, message in (
        (too_few, "3 rows"),
        (not_finite, "target 0"),
        (changing, "1 targets"),
    ):
        with pytest.raises(ValueError, match=message):
            leave_one_out(retrain, n_train=3, seeds=[0, 1])
