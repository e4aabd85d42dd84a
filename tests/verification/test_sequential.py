"""Verification in rounds: the same trainings as at once, stopped early, and never lost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cube import smooth_function, with_gap

import pyattr
from pyattr import Attribution, ClusterDesign, Outcome
from pyattr.verification.bounds import Interval, Levels
from pyattr.verification.cheats import HalvedScores
from pyattr.verification.conclusion import conclude
from pyattr.verification.criterion import Criterion
from pyattr.verification.evaluate import Evaluator, Recorded
from pyattr.verification.judge import find_gap
from pyattr.verification.opening import open_clusters
from pyattr.verification.scores import LinearScores
from pyattr.verification.sequential import (
    find_in_blocks,
    narrowed,
    prospect,
    unbarred,
    verify_in_rounds,
)
from pyattr.verification.spending import Looks, failure_probability
from pyattr.verification.trainings import Trainings


@pytest.mark.parametrize(
    "design",
    [
        ClusterDesign(9),
        ClusterDesign(9, 3),
        ClusterDesign(9, 3, rho=0.4),
        ClusterDesign(9, 2, 0.6, 0.4),
    ],
    ids=str,
)
def test_rounds_together_are_the_design_at_once(design):
    masks, seeds = design.draw(11, 70)
    parts = [design.draw(11, 70, a, b) for a, b in ((0, 2), (2, 3), (3, 9))]
    assert pyattr.Masks.concatenate([part[0] for part in parts]) == masks
    assert (np.concatenate([part[1] for part in parts]) == seeds).all()
    assert len(set(seeds.tolist())) == design.n_evaluations // 2
    # and a leaf is the same however many there are
    more = ClusterDesign(9, design.n_leaves + 2, design.p, design.rho).draw(11, 70)
    rows = np.arange(len(more[0])).reshape(9, -1)[:, : 2 * design.n_leaves].ravel()
    assert more[0][rows] == masks
    assert (more[1][rows] == seeds).all()


def test_the_last_round_judges_what_one_look_would_see():
    function = smooth_function(60, noise=0.3)
    scores, criterion = LinearScores.of(with_gap(function, 0.04)), Criterion(epsilon=0.045)
    asked = []

    def spy(masks, seeds):
        asked.append((masks, seeds))
        return function(masks, seeds)

    design = ClusterDesign(40, 3)
    looks = Looks((10, 20, 40), 3)
    verdict = verify_in_rounds(Evaluator(spy, 1), scores, criterion, 5, design, looks)
    assert verdict.details["n_looks"] == 3  # the gap is too near ε to stop earlier
    masks, seeds = design.draw(5, 60)
    assert pyattr.Masks.concatenate([m for m, _ in asked]) == masks
    assert (np.concatenate([s for _, s in asked]) == seeds).all()
    once = find_gap(
        criterion,
        design,
        masks,
        function(masks, seeds),
        scores,
        looks.levels(Levels(0.05, 0.05))[-1],
    )
    assert verdict.gap == once.gap.estimate
    assert verdict.gap_upper <= once.gap.upper
    assert verdict.gap_lower >= once.gap.lower


def test_honest_verification_is_cheaper_and_never_above_its_plan():
    """40 sessions of the honest. A fixed plan takes 46 trainings, the plan of the looks at most 15% more;
    the median of an honest prover with a gap of ε/5 is little more than half of it."""
    function = smooth_function(80, quadratic=0.1, cubic=0.002)
    verdicts = [pyattr.verify(function, with_gap(function, 0.01), seed=s) for s in range(40)]
    trained = [v.n_retrained for v in verdicts]
    assert np.median(trained) <= 30
    assert max(trained) <= 53
    assert np.mean([v.outcome is Outcome.ACCEPT for v in verdicts]) >= 0.87
    lies = [pyattr.verify(function, HalvedScores()(function.best), seed=s) for s in range(20)]
    assert np.median([v.n_retrained for v in lies]) <= 30


@pytest.mark.parametrize("delta", [0.02, 0.1])
def test_the_looks_of_a_verdict_spend_its_delta_and_no_more(delta):
    """The levels that a verdict states, walked through by its proof note."""
    function = smooth_function(60)
    verdict = pyattr.verify(function, with_gap(function, 0.045), delta=delta, seed=3)
    looks, split = verdict.details["looks"], verdict.delta_split
    levels = [split[name] for name in split if name.startswith("upper limit at look")]
    assert len(levels) == len(looks) > 1
    assert failure_probability(looks, levels) == pytest.approx(delta, rel=0.01)
    assert split["upper limit of each target"] == delta


def test_no_training_is_repeated_and_the_opening_is_used():
    function = smooth_function(60, noise=0.0)
    verdict = pyattr.verify(function, with_gap(function, 0.01), seed=3)
    # Two clusters of two leaves, of which the second leaves are lost: 4 trainings.
    assert verdict.details["n_opening"] == 8
    assert verdict.n_retrained == 4 + 2 * verdict.details["n_clusters"] == function.calls
    noisy = smooth_function(60, noise=0.5)
    verdict = pyattr.verify(noisy, with_gap(noisy, 0.01), seed=3)
    assert verdict.details["n_leaves"] > 1
    assert verdict.details["n_opening"] == 24
    used = 2 * verdict.details["n_clusters"] * verdict.details["n_leaves"]
    assert verdict.n_retrained == used == noisy.calls


def test_false_acceptance_with_a_design_chosen_from_its_own_data():
    """A gap of 1.2 ε, noise above and below what needs several leaves: false acceptance at most δ = 0.2
    for 150 sessions each; more than 45 has probability 1e-3. At ε/2 acceptance is the rule."""
    for noise in (0.05, 0.35):
        function = smooth_function(60, noise=noise, quadratic=0.05)
        options = {"delta": 0.2, "budget": 400}
        bad = [
            bool(pyattr.verify(function, with_gap(function, 0.06, seed=s), seed=s, **options))
            for s in range(150)
        ]
        assert sum(bad) <= 45
        good = [
            bool(pyattr.verify(function, with_gap(function, 0.02, seed=s), seed=s, **options))
            for s in range(30)
        ]
        assert sum(good) >= 26


def test_a_failed_training_costs_none_of_those_before():
    function = smooth_function(60, noise=0.4)
    attribution = with_gap(function, 0.01)
    whole = pyattr.verify(function, attribution, seed=8)
    before = function.calls
    left = [3]

    def breaks(masks, seeds):
        left[0] -= 1
        if left[0] == 0:
            raise OSError("disk full")
        return function(masks, seeds)

    function.calls = 0
    with pytest.raises(OSError, match="disk full") as caught:
        pyattr.verify(breaks, attribution, seed=8)
    completed = caught.value.completed
    assert isinstance(completed, Recorded)
    assert len(completed.trainings) == function.calls > 0
    assert "seed=8" in caught.value.__notes__[0]
    again = pyattr.verify(completed, attribution, seed=8)
    assert function.calls == before  # nothing twice, nothing missing
    assert (again.gap_upper, again.outcome) == (whole.gap_upper, whole.outcome)
    assert again.n_retrained == whole.n_retrained


def test_bad_outputs_in_a_later_round_keep_the_earlier_ones():
    function = smooth_function(60)

    def spoils(masks, seeds):
        out = function(masks, seeds)
        return out if function.calls <= 8 else out * np.float32("nan")

    with pytest.raises(ValueError, match="finite float32 values") as caught:
        pyattr.verify(spoils, function.best, seed=1)
    assert len(caught.value.completed.trainings) == 8


@pytest.mark.parametrize("block", [1, 3, 7])
def test_blocks_of_targets_say_the_same(block):
    function = smooth_function(50, noise=0.3, n_targets=7)
    scores, design = LinearScores.of(with_gap(function, 0.02)), ClusterDesign(12, 2)
    masks, seeds = design.draw(3, 50)
    outputs = function(masks, seeds)
    arguments = (Criterion(), design, masks, outputs, scores, Levels(0.01, 0.05))
    whole, parts = find_in_blocks(*arguments), find_in_blocks(*arguments, block=block)
    for name in ("estimate", "lower", "upper"):
        assert np.allclose(getattr(whole.gap, name), getattr(parts.gap, name), rtol=1e-12)
    assert np.allclose(whole.variance.lower, parts.variance.lower, rtol=1e-12)
    assert np.allclose(
        whole.details["excess_kurtosis"], parts.details["excess_kurtosis"], rtol=1e-9
    )
    assert parts.tails_accept.shape == (7,)


def test_a_thousand_targets_have_outcomes_of_their_own_and_a_short_reason():
    function = smooth_function(60, n_targets=1000)
    scores = with_gap(function, 0.005).scores.copy()
    scores[:, 700] /= 2
    verdict = pyattr.verify(function, Attribution(scores=scores), seed=4, budget=400)
    assert verdict.outcome is Outcome.ABORT
    assert verdict.outcomes[700] is Outcome.ABORT
    assert verdict.outcomes.count(Outcome.ABORT) == 1
    assert len(verdict.reason) < 400
    assert len(repr(verdict)) < 600
    honest = pyattr.verify(function, with_gap(function, 0.005), seed=4, budget=400)
    assert honest.outcomes.count(Outcome.ACCEPT) == 1000


def test_targets_need_not_be_accepted_by_the_same_look():
    """24 targets at ε/3: with the running limits at most as many trainings as any one look would need."""
    function = smooth_function(80, n_targets=24)
    attribution = with_gap(function, 0.0165)
    verdict = pyattr.verify(function, attribution, seed=2)
    assert verdict.outcome is Outcome.ACCEPT
    assert (verdict.gap_lower <= verdict.gap).all()
    assert (verdict.gap <= verdict.gap_upper).all()
    assert max(verdict.gap_upper) <= 0.05


def test_an_inconclusive_verdict_says_what_more_would_buy():
    """At a gap of 0.8 ε. Where the estimate is within 10% of it, the trainings promised decide about half
    of the sessions: of 40, fewer than 8 or more than 34 would be far from it (1e-5 for a fair coin)."""
    function = smooth_function(80)
    near = with_gap(function, 0.04)
    promised = []
    for seed in range(40):
        verdict = pyattr.verify(function, near, seed=seed, design=ClusterDesign(100))
        if verdict.outcome is Outcome.INCONCLUSIVE and abs(verdict.gap[0] - 0.04) < 0.004:
            assert verdict.details["expected_outcome"] is Outcome.ACCEPT
            promised.append(200 + verdict.details["expected_more_trainings"])
            assert f"{promised[-1] - 200:,} more trainings might end in ACCEPT" in verdict.reason
    larger = ClusterDesign(int(np.median(promised)) // 2)
    accepted = sum(
        bool(pyattr.verify(function, near, seed=100 + s, design=larger)) for s in range(40)
    )
    assert 8 <= accepted <= 34
    at_epsilon = with_gap(function, 0.052)
    said = [
        pyattr.verify(function, at_epsilon, seed=s, design=ClusterDesign(20)) for s in range(20)
    ]
    assert any("no number of trainings" in v.reason for v in said)


def test_a_larger_budget_adds_looks_beyond_the_plan():
    function = smooth_function(80)
    verdict = pyattr.verify(function, with_gap(function, 0.035), seed=6, budget=2000)
    assert verdict.outcome is Outcome.ACCEPT
    assert 100 < verdict.n_retrained <= 2000
    last = verdict.details["looks"][-1]
    assert 2 * last <= 2000
    split = verdict.delta_split
    assert split["upper limit of each target"] == 0.05
    assert sum("at look" in name for name in split) == len(verdict.details["looks"])


def test_the_prospect_of_a_vacuous_target_is_none():
    constant = smooth_function(30)
    zeros = Attribution(scores=np.zeros((30, 1)))
    verdict = pyattr.verify(lambda masks, seeds: constant(masks, seeds) * 0 + 1, zeros, seed=1)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert prospect(verdict, 40).outcome is Outcome.INCONCLUSIVE
    assert "no number of trainings" in verdict.reason


def test_a_betting_bound_stops_when_it_is_sure():
    """Forward passes are cheap: a finite-sample verdict in thousands, and false acceptance is rare."""
    function = smooth_function(30)
    options = {"bound": "betting", "clip": 6.0, "budget": 40_000, "seed": 1}
    good = pyattr.verify(function, with_gap(function, 0.005), **options)
    assert good.outcome is Outcome.ACCEPT
    assert good.details["spending"] == "anytime"
    assert good.n_retrained < 40_000
    bad = pyattr.verify(function, with_gap(function, 0.06), **options)
    assert bad.outcome is not Outcome.ACCEPT


def test_clipping_more_than_one_percent_is_never_accepted():
    function = smooth_function(60)
    verdict = pyattr.verify(function, function.best, seed=1, clip=1.0)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "clipped" in verdict.reason


def test_the_opening_finds_seeds_that_matter():
    for noise, matters in ((0.0, False), (0.3, True)):
        function = smooth_function(60, noise=noise)
        evaluate = Evaluator(function, 1, trainings=Trainings())
        opening = open_clusters(evaluate, LinearScores.of(function.best), 0.5, 3, 0.05)
        assert opening.seeds_matter(0.05) is matters
        assert evaluate.n_trained == opening.n_trained == (24 if matters else 8)
        assert (opening.noise > 0.01) is matters


@pytest.mark.parametrize(("noise", "bound"), [(0.0, "moment"), (0.4, "betting")])
def test_a_proof_is_planned_and_judged_by_the_same_bound(noise, bound):
    """The looks belong to one bound; a verdict by another would spend its δ several times."""
    function = smooth_function(60, noise=noise)
    verdict = pyattr.verify(
        function, with_gap(function, 0.005), bound="proof", clip=8.0, seed=1, budget=3000
    )
    assert verdict.bound == bound
    assert verdict.details["spending"] == ("anytime" if bound == "betting" else "walk")
    assert verdict.outcome is (Outcome.ACCEPT if bound == "moment" else Outcome.INCONCLUSIVE)


def test_bounds_for_clipped_outputs_ask_for_a_clip_before_any_training():
    function = smooth_function(60)
    with pytest.raises(ValueError, match="clip: expected a bound of the outputs"):
        pyattr.verify(function, function.best, bound="betting")
    assert function.calls == 0


def test_limits_that_tails_bar_serve_no_later_look():
    """A look whose upper limit is barred from acceptance leaves none behind, and likewise below."""
    function = smooth_function(40)
    scores = LinearScores.of(with_gap(function, 0.01))
    design, criterion = ClusterDesign(20), Criterion()
    masks, seeds = design.draw(1, 40)
    found = find_gap(
        criterion, design, masks, function(masks, seeds), scores, criterion.levels(0.05, 1)
    )
    assert found.gap.upper[0] < 0.05
    wide = replace(found, gap=Interval(found.gap.estimate, found.gap.lower, found.gap.upper + 1.0))
    assert conclude(criterion, narrowed(unbarred(found), wide)).outcome is Outcome.ACCEPT
    barred = replace(found, tails_accept=np.array([True]), tails_accuse=np.array([True]))
    assert unbarred(barred).gap.upper[0] == np.inf
    assert unbarred(barred).gap.lower[0] == 0.0
    assert conclude(criterion, narrowed(unbarred(barred), wide)).outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("factor", [0.0, 0.1])
def test_scores_that_say_nothing_are_aborted(factor):
    """Shrinking scores until they explain next to nothing is no way to be merely inconclusive."""
    function = smooth_function(60)
    published = pyattr.Attribution(scores=factor * function.best.scores)
    for seed in range(10):
        assert pyattr.verify(function, published, seed=seed).outcome is Outcome.ABORT
