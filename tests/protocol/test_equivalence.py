"""Comparing outputs, and telling a faulty machine from a lying peer."""

from __future__ import annotations

import numpy as np
import pytest
from cube import smooth_function

from pyattr import sample_masks, sample_seeds
from pyattr.protocol.equivalence import canonical, differs, retrain_and_compare
from pyattr.verification.evaluate import Evaluator

FUNCTION = smooth_function(30, n_targets=3, noise=0.3)
MASKS, SEEDS = sample_masks(12, 30, seed=1), sample_seeds(12, 2)
TRUE = FUNCTION(MASKS, SEEDS)


def next_float(values):
    return np.nextafter(values, np.float32(np.inf))


def test_bytes_are_compared_at_tolerance_0():
    theirs = TRUE.copy()
    theirs[4, 2] = next_float(theirs[4, 2])
    assert np.flatnonzero(differs(theirs, TRUE, 0.0)).tolist() == [4]
    assert not differs(TRUE, TRUE.copy(), 0.0).any()
    assert differs(np.zeros((1, 1), np.float32), -np.zeros((1, 1), np.float32), 0.0).all()


def test_each_target_has_to_be_within_the_tolerance():
    theirs = TRUE.astype(np.float64)
    theirs[1] += 0.9e-3
    theirs[3, 1] -= 1.1e-3
    theirs[5, 0] = np.nan
    assert np.flatnonzero(differs(theirs.astype(np.float32), TRUE, 1e-3)).tolist() == [3, 5]


def test_zero_has_one_spelling():
    zeros = np.array([[-0.0, 0.0, -1.0]], np.float32)
    assert np.signbit(canonical(zeros)).tolist() == [[False, False, True]]


class Faulty:
    """A machine that gets the given calls wrong by a bit in the given places."""

    def __init__(self, wrong):
        self.wrong = wrong
        self.calls = 0

    def __call__(self, masks, seeds):
        outputs = FUNCTION(masks, seeds)
        places = np.isin(seeds, SEEDS[self.wrong.get(self.calls, [])])
        outputs[places] = next_float(outputs[places]) if self.calls == 0 else outputs[places] + 1
        self.calls += 1
        return outputs


def compare(machine, theirs, tolerance=0.0):
    evaluate = Evaluator(machine, 3)
    return retrain_and_compare(evaluate, MASKS, SEEDS, theirs, tolerance), evaluate.n_trained


@pytest.mark.parametrize("tolerance", [0.0, 1e-12])
def test_equal_outputs_are_trained_once(tolerance):
    check, n_trained = compare(FUNCTION, TRUE, tolerance)
    assert (check.suspects.size, check.n_faults, n_trained) == (0, 0, 12)
    assert not check.accused.any()


def test_a_lie_is_trained_twice_and_accused():
    theirs = TRUE.copy()
    theirs[[2, 7]] += 0.5
    check, n_trained = compare(FUNCTION, theirs)
    assert check.suspects.tolist() == [2, 7]
    assert check.accused.all()
    assert not check.unsteady.any()
    assert n_trained == 14
    assert np.array_equal(check.theirs, theirs[[2, 7]])
    assert np.array_equal(check.first, TRUE[[2, 7]])
    assert np.array_equal(check.second, TRUE[[2, 7]])


def test_a_fault_of_this_machine_is_not_blamed_on_the_peer():
    check, n_trained = compare(Faulty({0: [3]}), TRUE)
    assert check.suspects.tolist() == [3]
    assert not check.accused.any()
    assert not check.unsteady.any()
    assert check.n_faults == 1
    assert n_trained == 13


def test_a_machine_that_disagrees_with_itself_accuses_nobody_and_accepts_nothing():
    check, _ = compare(Faulty({0: [3], 1: [3]}), TRUE)
    assert check.unsteady.tolist() == [True]
    assert not check.accused.any()


def test_a_fault_next_to_a_lie_leaves_the_lie():
    theirs = TRUE.copy()
    theirs[5] += 0.5
    check, _ = compare(Faulty({0: [3]}), theirs)
    assert check.suspects.tolist() == [3, 5]
    assert check.accused.tolist() == [False, True]


def test_a_machine_that_counts_its_seeds_up_in_place_still_accuses_a_lie():
    """Its second run was of other seeds: it disagreed with the first, and the lie was nobody's fault."""

    def counts_up(masks, seeds):
        outputs = FUNCTION(masks, seeds)
        seeds += np.uint64(1)
        return outputs

    theirs = TRUE.copy()
    theirs[[2, 7]] += 0.5
    seeds = SEEDS.copy()
    check = retrain_and_compare(Evaluator(counts_up, 3), MASKS, seeds, theirs, 0.0)
    assert check.suspects.tolist() == [2, 7]
    assert check.accused.all()
    assert np.array_equal(seeds, SEEDS)
