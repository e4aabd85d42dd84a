"""The adaptor for plain train functions: what it passes, what it refuses, how it splits work."""

from __future__ import annotations

import random

import numpy as np
import pytest

import pyattr
from pyattr.masks import Masks, sample_masks, sample_seeds
from pyattr.retraining.retrain import check_groups, check_runs, retrain_with


def describe(indices, seed):
    return [len(indices), indices.sum(), seed % 1000]


def draw_from_global_generator(indices, seed):
    # Only separate processes keep this the same for any n_jobs.
    random.seed(seed)
    return [random.random() + len(indices), random.random()]


def fail_on_seed_7(indices, seed):
    if seed == 7:
        raise ArithmeticError("did not converge")
    return 1.0


def test_passes_indices_and_seed_of_each_row():
    masks, seeds = sample_masks(9, 70, seed=1), sample_seeds(9, 1)
    outputs = retrain_with(describe)(masks, seeds)
    bits = masks.unpack()
    expected = [
        [b.sum(), np.flatnonzero(b).sum(), int(s) % 1000] for b, s in zip(bits, seeds, strict=True)
    ]
    assert outputs.dtype == np.float32
    np.testing.assert_array_equal(outputs, np.array(expected, np.float32))


def test_is_the_public_name():
    assert pyattr.retrain_with is retrain_with


def test_groups_put_in_all_examples_of_a_player():
    groups = np.array([2, 0, 1, 1, 2, 0, 1])
    masks = Masks.pack(np.array([[1, 0, 0], [0, 1, 1], [0, 0, 0]], bool))
    seen = []
    retrain = retrain_with(lambda indices, seed: seen.append(indices.tolist()) or 0.0, groups)
    assert retrain(masks, np.zeros(3, np.uint64)).shape == (3, 1)
    assert seen == [[1, 5], [0, 2, 3, 4, 6], []]


def test_seeds_reach_the_whole_64_bits():
    seeds = np.array([2**64 - 1, 2**63], np.uint64)
    seen = []
    retrain_with(lambda indices, seed: seen.append(seed) or 0.0)(sample_masks(2, 4), seeds)
    assert seen == [2**64 - 1, 2**63]
    assert all(type(seed) is int for seed in seen)


def test_outputs_do_not_depend_on_n_jobs():
    masks, seeds = sample_masks(13, 20, seed=3), sample_seeds(13, 3)
    alone = retrain_with(draw_from_global_generator)(masks, seeds)
    together = retrain_with(draw_from_global_generator, n_jobs=2)(masks, seeds)
    assert alone.tobytes() == together.tobytes()
    assert len(np.unique(alone[:, 1])) == 13


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_failure_names_the_row(n_jobs):
    seeds = np.array([5, 6, 7, 8], np.uint64)
    with pytest.raises(
        RuntimeError, match=r"ArithmeticError at row 2 \(seed 7, .*did not converge"
    ):
        retrain_with(fail_on_seed_7, n_jobs=n_jobs)(sample_masks(4, 10), seeds)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (np.nan, "outputs: expected finite.* row 0"),
        ([1.0, np.inf], "outputs: expected finite.* row 0"),
        ([], "outputs: expected a non-empty vector"),
        ([[1.0]], "outputs: expected a non-empty vector"),
        ("much", "outputs: expected numbers"),
        (None, "outputs: expected finite"),
    ],
)
def test_refuses_outputs(output, message):
    with pytest.raises(ValueError, match=message):
        retrain_with(lambda indices, seed: output)(sample_masks(2, 5), sample_seeds(2))


def test_refuses_outputs_that_change_shape():
    with pytest.raises(ValueError, match=r"outputs: expected shape \(1,\).*row 1"):
        retrain_with(lambda indices, seed: [0.0] * (seed + 1))(sample_masks(2, 5), np.arange(2))


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"train": 3}, "train"),
        ({"train": describe, "n_jobs": 0}, "n_jobs"),
        ({"train": lambda indices, seed: 0.0, "n_jobs": 2}, "train"),
        ({"train": describe, "groups": [0, 2]}, "groups"),
        ({"train": describe, "groups": [-1, 0]}, "groups"),
        ({"train": describe, "groups": [0.0, 1.0]}, "groups"),
        ({"train": describe, "groups": []}, "groups"),
    ],
)
def test_refuses_arguments(arguments, name):
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        retrain_with(**arguments)


def test_refuses_runs():
    masks = sample_masks(3, 10)
    with pytest.raises(ValueError, match=r"^masks"):
        check_runs(masks.unpack(), sample_seeds(3))
    with pytest.raises(ValueError, match=r"^masks"):
        check_runs(masks, sample_seeds(3), 11)
    with pytest.raises(ValueError, match=r"^seeds"):
        check_runs(masks, sample_seeds(2))
    with pytest.raises(ValueError, match=r"^seeds"):
        check_runs(masks, np.ones(3))
    with pytest.raises(ValueError, match=r"^seeds"):
        check_runs(masks, np.array([1, -1, 0]))
    with pytest.raises(ValueError, match=r"^masks"):
        retrain_with(describe, groups=[0, 1])(masks, sample_seeds(3))
    with pytest.raises(ValueError, match=r"^masks"):
        retrain_with(describe)(masks[:0], sample_seeds(0))
    with pytest.raises(ValueError, match=r"^groups"):
        check_groups([0, 1], 3)
