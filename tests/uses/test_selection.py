"""Selections: best for the linear prediction, bounded beyond it, and measured by training."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from accepting import verdict_of
from cube import CubeFunction, smooth_function
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from pyattr import Attribution
from pyattr.uses import measure_selection, select
from pyattr.uses.basis import percent

VALUES = hnp.arrays(np.float32, st.integers(3, 8), elements=st.integers(-20, 20).map(float))


def chosen_from(values, n_selected, owners=None):
    return select(Attribution(values), n_selected, owners=owners, allow_unverified=True)


@given(values=VALUES, data=st.data())
def test_no_other_choice_is_predicted_to_be_better(values, data):
    n_selected = data.draw(st.integers(1, len(values) - 1))
    selection = chosen_from(values, n_selected)
    sums = [sum(values[list(s)]) for s in itertools.combinations(range(len(values)), n_selected)]
    assert sum(values[selection.examples]) == max(sums)
    assert selection.predicted_gain == pytest.approx(max(sums) - np.mean(sums), abs=1e-5)
    assert selection.mask().unpack().sum() == n_selected


def test_sellers_are_chosen_whole_by_their_sums():
    selection = chosen_from([3.0, 1.0, 1.5, -4.0, 1.0, 1.0], 2, owners=list("aabbcc"))
    assert selection.names == ("a", "c")
    assert selection.examples.tolist() == [0, 1, 4, 5]
    # Sums 4, -2.5 and 2: 6 less the mean over pairs of sellers.
    assert selection.predicted_gain == pytest.approx(6.0 - 2 / 3 * 3.5)
    assert chosen_from([1.0, 1.0, 1.0], 2).examples.tolist() == [0, 1]  # ties: the first


@pytest.mark.parametrize("owners", [None, [0, 0, 0, 1, 1, 2, 2, 2, 2, 3]])
def test_errors_hold_for_all_scores_within_the_radius_and_are_attained(owners):
    rng = np.random.default_rng(0)
    values = rng.standard_normal(10).astype(np.float32)
    scores = Attribution(values[:, None])
    selection = select(scores, 2, owners=owners, verdict=verdict_of(scores, 2.0))
    sellers = selection.sellers
    share = np.isin(np.arange(len(sellers)), selection.chosen) - 2 / len(sellers)
    weights = share[sellers.of]  # how an example's value enters the gain
    worst = weights / np.linalg.norm(weights) * 2.0
    assert worst @ weights == pytest.approx(selection.gain_error)
    choices = [list(c) for c in itertools.combinations(range(len(sellers)), 2)]
    largest = 0.0
    for _ in range(2000):
        change = rng.standard_normal(10) * [1.0, 0.1][rng.integers(2)]
        change *= 2.0 / np.linalg.norm(change)
        assert abs(change @ weights) <= selection.gain_error + 1e-9
        true = sellers.total(values + change)
        regret = max(true[c].sum() for c in choices) - true[selection.chosen].sum()
        largest = max(largest, regret)
    assert 0.0 < largest <= selection.regret
    n_exchanged = 4 if owners is None else 10  # two of four sellers for the other two
    assert selection.regret == pytest.approx(2.0 * math.sqrt(n_exchanged))


def test_the_regret_of_examples_is_the_radius_times_twice_the_root_of_the_smaller_part():
    scores = Attribution(np.arange(10.0))
    for n_selected, n_exchanged in ((3, 6), (8, 4)):
        selection = select(scores, n_selected, verdict=verdict_of(scores, 0.5))
        assert selection.regret == pytest.approx(0.5 * math.sqrt(n_exchanged))
        assert selection.gain_error == pytest.approx(
            0.5 * math.sqrt(n_selected * (1 - n_selected / 10))
        )


def test_what_is_wrong_is_named():
    for n_selected in (0, 3, 1.5, True):
        with pytest.raises(ValueError, match="n_selected: expected"):
            chosen_from([1.0, 2.0, 3.0], n_selected)
    with pytest.raises(ValueError, match="owners:"):
        chosen_from([1.0, 2.0, 3.0], 1, owners=[0, 1])
    selection = chosen_from([1.0, 2.0, 3.0], 1)
    one_target = smooth_function(3)
    for wrong in ({"n_repeats": 1}, {"n_random": 1}, {"confidence": 1.0}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}: expected"):
            measure_selection(one_target, selection, **wrong)
    with pytest.raises(ValueError, match="retrain: expected real outputs of shape"):
        measure_selection(smooth_function(3, n_targets=2), selection)
    assert "unverified" in repr(selection)


@pytest.mark.parametrize(("row", "of"), [(5, "the selection"), (70, "a random choice")])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_outputs_that_are_not_finite_are_refused_by_row(row, of, value):
    function = smooth_function(3)
    selection = chosen_from([1.0, 2.0, 3.0], 1)
    first = 0

    def wrong(masks, seeds):
        nonlocal first
        outputs = function(masks, seeds)
        if first <= row < first + len(masks):
            outputs[row - first, 0] = value
        first += len(masks)
        return outputs

    said = rf"retrain: expected finite outputs, got {value} in row {row}, target 0: a model on {of}, seed \d+"
    with pytest.raises(ValueError, match=said):
        measure_selection(wrong, selection)


def test_a_linear_model_gains_what_was_predicted():
    function = smooth_function(40, noise=0.3, n_targets=3)
    selection = select(function.best, 10, allow_unverified=True)
    told = []
    measured = measure_selection(
        function,
        selection,
        n_repeats=30,
        n_random=300,
        confidence=0.999,
        seed=1,
        progress=lambda done, planned: told.append((done, planned)),
    )
    assert measured.lower < selection.predicted_gain < measured.upper
    assert measured.lower < measured.gain < measured.upper
    assert measured.predicted == selection.predicted_gain
    assert measured.share_beaten == 1.0
    assert measured.gain_of_targets.mean() == pytest.approx(measured.gain)
    assert told[-1] == (330, 330)
    again = measure_selection(function, selection, n_repeats=30, n_random=300, seed=1)
    assert again.gain == measured.gain
    # The half that must fail: scores of the opposite sign choose what harms.
    wrong = select(Attribution(-function.best.scores), 10, allow_unverified=True)
    assert measure_selection(function, wrong, seed=1).upper < 0.0 < wrong.predicted_gain


def test_limits_of_the_gain_hold_as_often_as_stated():
    """300 selections, binomial with false alarm 1e-3; limits half as wide fail."""
    function = smooth_function(40, noise=0.5)
    selection = select(function.best, 20, allow_unverified=True)
    outside = outside_half = 0
    for seed in range(300):
        measured = measure_selection(
            function, selection, n_repeats=4, n_random=20, confidence=0.9, seed=seed
        )
        off = abs(measured.gain - selection.predicted_gain)
        reach = (measured.upper - measured.lower) / 2
        outside += off > reach
        outside_half += off > reach / 2
    assert outside <= stats.binom.isf(1e-3, 300, 0.1)
    assert outside_half > stats.binom.isf(1e-3, 300, 0.1)


def test_what_only_training_shows():
    """Two examples that are worthless without each other: the scores do not say that both were chosen, and a
    selection far from the masks' p gains what no linear prediction knows."""
    terms = {(i,): np.array([c]) for i, c in enumerate(np.linspace(0.1, 0.5, 10))}
    terms[(8, 9)] = np.array([-1.0])
    function = CubeFunction(10, terms)
    selection = select(function.best, 2, allow_unverified=True)
    assert selection.examples.tolist() == [8, 9]
    measured = measure_selection(function, selection, n_random=500)
    assert selection.predicted_gain > 0.0
    assert measured.upper < selection.predicted_gain


def test_a_model_without_noise_has_limits_from_the_random_choices_alone():
    function = smooth_function(12)
    selection = select(function.best, 6, allow_unverified=True)
    measured = measure_selection(function, selection, n_repeats=2)
    assert measured.selected.std() == 0.0
    assert measured.lower < measured.gain < measured.upper
    constant = measure_selection(lambda masks, seeds: np.ones((len(masks), 1)), selection)
    assert constant.lower == constant.gain == constant.upper == 0.0
    assert "gain 0 in [0, 0] at 95%" in repr(constant)


def counted(values, n_targets=1):
    """A function that returns given numbers row by row, and the masks and seeds that it was asked for."""
    asked, rest = [], iter(values)

    def retrain(masks, seeds):
        asked.append((masks, seeds.copy()))
        rows = [[next(rest)] * n_targets for _ in range(len(masks))]
        return np.asarray(rows, np.float32)

    return retrain, asked


def test_measured_limits_are_welchs():
    """Against SciPy: unequal variances and sizes, which neither pooled nor uncorrected variances match."""
    rng = np.random.default_rng(3)
    selected, random = rng.normal(1.0, 2.0, 3), rng.normal(0.0, 0.7, 12)
    random[4] = selected.mean() + 0.1  # above the mean, below the largest
    retrain, asked = counted(np.float32([*selected, *random]))
    selection = chosen_from(np.arange(30.0), 10)
    measured = measure_selection(retrain, selection, n_repeats=3, n_random=12, confidence=0.9)
    parts = np.float32(selected).astype(float), np.float32(random).astype(float)
    expected = stats.ttest_ind(*parts, equal_var=False).confidence_interval(0.9)
    assert (measured.lower, measured.upper) == pytest.approx((expected.low, expected.high))
    assert measured.share_beaten == np.mean(parts[1] < parts[0].mean()) < 1.0
    assert measured.selected.tolist() == parts[0].tolist()
    assert measured.random.tolist() == parts[1].tolist()
    # A seed each, the selection first, and random subsets of its size that differ.
    ((masks, seeds),) = asked
    assert len(set(seeds.tolist())) == 15
    bits = masks.unpack()
    assert (bits[:3] == selection.mask().unpack()).all()
    assert (bits.sum(axis=1) == 10).all()
    assert len({row.tobytes() for row in bits[3:]}) == 12


def test_a_function_that_fills_one_array_again_is_measured_as_any_other():
    """Its last rows took the place of the first: no gain was measured where there was one."""
    function, filled = smooth_function(40), np.empty((64, 1), np.float32)

    def again(masks, seeds):
        filled[: len(masks)] = function(masks, seeds)
        return filled[: len(masks)]

    selection = select(function.best, 10, allow_unverified=True)
    expected, measured = (measure_selection(f, selection, seed=1) for f in (function, again))
    assert measured.selected.tolist() == expected.selected.tolist()
    assert measured.random.tolist() == expected.random.tolist()


def test_confidence_is_rounded_down():
    """1 - 2δ for δ = 0.002 was printed as 100%."""
    assert [percent(share) for share in (0.9, 0.95, 0.996, 0.99999, 1.0, 0.0, 2 / 3)] == [
        "90%",
        "95%",
        "99.6%",
        "99.9%",
        "100%",
        "0%",
        "66.6%",
    ]
    assert all(percent(1.0 - 2.0 * k / 1000) == f"{(1000 - 2 * k) / 10:g}%" for k in range(500))
