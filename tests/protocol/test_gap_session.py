"""Interactive gap estimation on functions whose weights are known."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from cube import CubeFunction, smooth_function, with_gap
from scipy import stats
from two_parties import exchange, header, secrets_of, verifier_with

from pyattr import Attribution
from pyattr.protocol import Prover, Verifier, run
from pyattr.protocol.challenges import chosen_rows, design_of, row_blocks
from pyattr.protocol.checks import SecretChecks
from pyattr.protocol.gap_session import most_covered
from pyattr.protocol.words import ClusterParameters, ResidualParameters
from pyattr.verification.cheats import (
    AnswersFromScores,
    FavouredGroup,
    HalvedScores,
    NoisyScores,
    TrainsFraction,
)
from pyattr.verification.clusters import ClusterDesign
from pyattr.verification.judge import Criterion, judge_gap
from pyattr.verification.scores import LinearScores
from pyattr.verification.spot_check import miss_probability, n_checks
from pyattr.verification.verdict import Outcome

# Linear weight 1, odd non-linear weight 0.01: an honest residual fills a fifth of ε.
FUNCTION = smooth_function(60, cubic=0.01, quadratic=0.05, constant=0.3)
# |f| ≤ 10 here: no output is clipped (asserted below).
CLIP = 10.0
# 48 pairs: with χ² limits at δ = 0.04 an honest prover stays under ε when χ²_48 < 48·5·0.66, and a gap
# of 0.26 Var f is missed when χ²_48 < 6: both of probability below 1e-9.
DESIGN = ClusterDesign(48)
HONEST = FUNCTION.best


def session(prover_retrain, attribution, seed=None, **changes):
    terms = {"design": DESIGN, "clip": CLIP} | changes
    return meet(prover_retrain, attribution, FUNCTION, seed, **terms)


def meet(prover_retrain, attribution, function, seed=None, kind=Verifier, p=0.5, **terms):
    """A prover and a verifier; with a seed, always the same challenge and the same checks."""
    provers, verifiers = secrets_of(seed)
    agreed = {"clip": terms.get("clip"), "tolerance": terms.get("tolerance", 0.0)}
    prover = Prover(prover_retrain, attribution, p=p, secret=provers, **agreed)
    verifier = kind(function, p=p, secret=verifiers, **terms)
    verdict = run(prover, verifier)
    assert prover.outcome is verdict.outcome
    return verdict


def test_honest_is_accepted():
    outcomes = Counter(session(FUNCTION, HONEST, seed).outcome for seed in range(100))
    # False-alarm rate: 6 or more misses at 5% each or less would be seen with probability 0.38 if the
    # design were only just as good as asked; here the rate of a miss is below 1e-9.
    assert outcomes[Outcome.ACCEPT] >= 95
    assert outcomes[Outcome.ABORT] == 0


def test_honest_is_accepted_with_a_design_and_clip_of_the_pilot():
    outcomes = []
    for seed in range(20):
        verdict = meet(FUNCTION, HONEST, FUNCTION, seed)
        outcomes.append(verdict.outcome)
        assert verdict.details["n_pilot"] == 8
        assert verdict.details["clipped_share"] == 0.0
        assert verdict.n_retrained == 8 + verdict.details.get("n_checked", 0)
    # Planned for 5% misses; 5 or more of 20 have probability 0.3%.
    assert outcomes.count(Outcome.ACCEPT) >= 16
    assert Outcome.ABORT not in outcomes


SCORE_LIES = [
    HalvedScores(),
    FavouredGroup(np.arange(6), gap=0.3),
    NoisyScores(gap=0.3),
]


@pytest.mark.parametrize("lie", SCORE_LIES, ids=lambda lie: lie.description)
def test_score_lies_are_never_accepted(lie):
    # Each adds a gap of 0.25 Var f or more: accepted with probability below 1e-9, not aborted (lower
    # limit below 0.07) with probability below 1e-3 a session.
    outcomes = Counter(session(FUNCTION, lie(HONEST), seed).outcome for seed in range(40))
    assert outcomes[Outcome.ACCEPT] == 0
    assert outcomes[Outcome.ABORT] >= 37


@pytest.mark.parametrize("fraction", [0.3, 0.9])
@pytest.mark.parametrize("truth", [1.0, 0.5], ids=["true scores", "halved scores"])
def test_untrained_answers_are_never_accepted(fraction, truth):
    published = HalvedScores(truth)(HONEST)
    cheat = TrainsFraction(FUNCTION, published, fraction)
    verdicts = [session(cheat, published) for _ in range(25)]
    accepted = sum(map(bool, verdicts))
    if truth < 1.0:
        assert accepted == 0
    else:
        # The answers look better than the truth, and only spot checks tell: 9 wrong answers of 96, more than
        # are covered, are missed with probability 1% at most. 4 or more of 25 have probability 1e-4.
        assert accepted <= 3
        reasons = [verdict.reason for verdict in verdicts if not verdict]
        assert all("outputs differ" in reason for reason in reasons)


def test_answers_from_the_scores_are_aborted_by_spot_checks():
    for published in (HONEST, HalvedScores()(HONEST)):
        verdict = session(AnswersFromScores(published), published)
        assert verdict.outcome is Outcome.ABORT
        assert verdict.details["check"] == "spot check"
        k = verdict.details["n_checked"]
        assert verdict.reason.startswith(f"spot check: observed {k} of {k} outputs differ")
        # Every check was trained again before the accusation, and both results are kept.
        assert verdict.n_retrained == 2 * k
        assert verdict.details["spot_check"].second.shape == (k, 1)


def test_the_verdict_is_that_of_the_same_design_judged_alone():
    prover, verifier = Prover(FUNCTION, HONEST), Verifier(FUNCTION, design=DESIGN, clip=CLIP)
    challenge = header(exchange(prover, verifier)[2])
    verdict = verifier.verdict
    masks, seeds = DESIGN.draw(int(challenge.seed, 16), 60)
    outputs = FUNCTION(masks, seeds)
    assert np.abs(outputs).max() < CLIP
    covered = verdict.details["n_corrupted_covered"]
    scores = LinearScores.of(HONEST)
    local = judge_gap(Criterion(clip=CLIP), DESIGN, masks, outputs, scores, delta=0.04)
    assert verdict.outcome is local.outcome
    assert np.array_equal(verdict.gap_lower, local.gap_lower)
    # The upper limit also holds with the covered number of answers corrupted.
    assert local.gap_upper < verdict.gap_upper <= 0.05
    assert covered >= 1
    assert verdict.reason == local.reason
    assert verdict.n_retrained == n_checks(96, covered + 1, 0.01)
    assert verdict.n_prover_retrained == 96
    assert verdict.delta_split["spot checks"] + verdict.delta_split["interval"] == pytest.approx(
        0.05
    )


def test_one_of_several_attempts_has_its_part_of_delta_and_no_more():
    """Spot checks and limits of one of five sessions at δ = 0.2 are those of δ = 0.04."""
    verdict = session(FUNCTION, HONEST, seed=1, delta=0.2, attempts=5)
    covered = verdict.details["n_corrupted_covered"]
    assert verdict.delta == pytest.approx(0.04)
    assert verdict.delta_split["spot checks"] == pytest.approx(0.008)
    assert verdict.delta_split["upper limit of each target"] == pytest.approx(0.032)
    assert verdict.n_retrained == n_checks(96, covered + 1, 0.008)


def test_nothing_is_retrained_for_a_verdict_that_is_no_acceptance():
    verdict = session(FUNCTION, HalvedScores()(HONEST), seed=1)
    assert verdict.outcome is Outcome.ABORT
    assert verdict.n_retrained == 0
    # A gap of ε itself: the interval contains it with probability 0.92.
    between = session(FUNCTION, with_gap(FUNCTION, 0.05), seed=1)
    assert between.outcome is Outcome.INCONCLUSIVE
    assert between.n_retrained == 0


def test_constant_outputs_are_inconclusive():
    constant = CubeFunction(60, {(): np.array([0.7])})
    verdict = run(Prover(constant, constant.best), Verifier(constant))
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "hardly varies" in verdict.reason


# Three examples matter, so outputs vary as much as they can: b is 2.1 standard deviations.
NARROW = CubeFunction(20, {(0,): np.array([1.0]), (1,): np.array([0.8]), (2,): np.array([0.6])})
WIDE = {"design": ClusterDesign(1000), "clip": 2.5, "epsilon": 0.1}


class Corrupts:
    """Returns the truth but for some rows."""

    def __init__(self, function, rows):
        self.function, self.rows = function, rows

    def __call__(self, masks, seeds):
        outputs = self.function(masks, seeds)
        outputs[self.rows] *= 0.999
        return outputs


def test_corruption_beyond_what_the_interval_covers_is_caught():
    verdict = meet(NARROW, NARROW.best, NARROW, 3, **WIDE)
    assert verdict.outcome is Outcome.ACCEPT
    covered, k = verdict.details["n_corrupted_covered"], verdict.details["n_checked"]
    assert covered >= 2
    assert k == n_checks(2000, covered + 1, 0.01) < 2000
    n_corrupted = covered + 1
    corrupted = Corrupts(NARROW, np.arange(n_corrupted))
    caught = 0
    for seed in range(100):
        # The changes are too small to alter w: the estimate is about 0 with and without them.
        verdict = meet(corrupted, NARROW.best, NARROW, seed, **WIDE)
        caught += verdict.outcome is Outcome.ABORT
    # Missed with probability at most 1% each: 7 or more misses of 100 have probability 1e-4.
    assert caught >= 94
    # The wrong answer fails: as many checks as would do if nearly all were corrupted miss it often.
    assert miss_probability(2000, n_corrupted, n_checks(2000, 1900, 0.01)) > 0.5


def test_corruption_is_caught_at_the_hypergeometric_rate():
    n_corrupted, k = 12, 6
    rows = np.random.default_rng(0).choice(96, n_corrupted, replace=False)
    corrupted = Corrupts(FUNCTION, rows)
    draws = Counter()

    class Fewer(SecretChecks):
        def uniform(self, n_outputs, n_checked):
            drawn = super().uniform(n_outputs, k)
            draws.update(drawn.tolist())
            return drawn

    careless = verifier_with(
        _checks=lambda steps: Fewer(steps._secrets.check_key, steps._session.parent)
    )
    n_sessions = 150
    terms = {"design": DESIGN, "clip": CLIP, "epsilon": 0.1}
    caught = sum(
        meet(corrupted, HONEST, FUNCTION, seed, careless, **terms).outcome is Outcome.ABORT
        for seed in range(n_sessions)
    )
    expected = 1.0 - miss_probability(96, n_corrupted, k)
    # Two-sided binomial test with a false-alarm rate of 1e-4.
    assert stats.binomtest(caught, n_sessions, expected).pvalue > 1e-4
    # The rate is another one with 3 checks or 12: the test would see it.
    for other in (3, 12):
        rate = 1.0 - miss_probability(96, n_corrupted, other)
        assert stats.binomtest(round(rate * n_sessions), n_sessions, expected).pvalue < 1e-4
    # All rows are checked equally often (χ² test, false-alarm rate 1e-4).
    counts = [draws[row] for row in range(96)]
    assert stats.chisquare(counts).pvalue > 1e-4


def test_drift_within_the_tolerance_is_allowed_and_paid_for():
    tau = 1e-3

    class Drifts:
        """Off by 0.9 τ, in a direction of each row's own or always up."""

        def __init__(self, one_sided=False):
            self.one_sided = one_sided

        def __call__(self, masks, seeds):
            signs = 1.0 if self.one_sided else 2.0 * (seeds[:, None] >> np.uint64(33) & 1) - 1.0
            return FUNCTION(masks, seeds) + np.float32(0.9 * tau * signs)

    # So few pairs that all outputs are checked: the limits then differ by the drift alone.
    design = ClusterDesign(23)
    provers, verifiers = secrets_of(2)
    prover = Prover(Drifts(), HONEST, tolerance=tau, secret=provers)
    verifier = Verifier(FUNCTION, design=design, clip=CLIP, tolerance=tau, secret=verifiers)
    asked = header(exchange(prover, verifier)[2])
    drifted = verifier.verdict
    assert drifted.n_retrained == 46
    assert drifted.outcome is Outcome.ACCEPT
    masks, seeds = design.draw(int(asked.seed, 16), 60)
    exact = judge_gap(
        Criterion(clip=CLIP),
        design,
        masks,
        FUNCTION(masks, seeds),
        LinearScores.of(HONEST),
        delta=0.04,
    )
    assert session(Drifts(), HONEST, seed=2).details["check"] == "spot check"
    assert session(Drifts(), HONEST, seed=2, tolerance=0.5 * tau).details["check"] == "spot check"
    # Always on the same side, every check passes and the whole does not.
    one_sided = session(Drifts(one_sided=True), HONEST, seed=2, design=design, tolerance=tau)
    assert one_sided.details["check"] == "drift"
    assert one_sided.n_retrained == 2 * 46  # all were trained again before the accusation
    root = np.sqrt(drifted.gap_upper) - np.sqrt(exact.gap_upper)
    assert tau * 0.9 < root[0] * np.sqrt(FUNCTION.variance[0]) < tau * 1.5
    # A tolerance that could hide the whole of ε leaves nothing to accept.
    assert session(FUNCTION, HONEST, seed=2, tolerance=0.3).outcome is not Outcome.ACCEPT


def test_other_p_several_targets_and_seed_noise():
    function = smooth_function(40, p=0.4, n_targets=3, noise=0.1)
    design = ClusterDesign(300, 2, p=0.4, rho=0.4)
    terms = {"p": 0.4, "design": design, "clip": 30.0, "epsilon": 0.1}
    honest = meet(function, function.best, function, 1, **terms)
    assert honest.outcome is Outcome.ACCEPT
    assert honest.n_targets == 3
    wrong = with_gap(function, 0.3)
    assert meet(function, wrong, function, 1, **terms).outcome is Outcome.ABORT


def test_weighted_checks_accept_the_honest_and_catch_answers_from_the_scores():
    terms = {"sampling": "weighted", "design": ClusterDesign(128)}
    for seed in range(10):
        verdict = session(FUNCTION, HONEST, seed, **terms)
        assert verdict.outcome is Outcome.ACCEPT
        assert verdict.details["sampling"] == "weighted"
        # 256 outputs; about 38 checks expected, with a spread of 6.
        assert verdict.n_retrained == verdict.details["n_checked"] < 75
        caught = session(AnswersFromScores(HONEST), HONEST, seed, **terms)
        assert caught.details["check"] == "spot check"  # missed with probability below 1e-10


def test_a_checked_intercept_has_nearly_everything_checked():
    # One output may move the mean by b: of 200 outputs a single corrupted one is to be noticed.
    verdict = session(FUNCTION, HONEST, seed=1, design=ClusterDesign(100), intercept="check")
    assert verdict.outcome is Outcome.ACCEPT
    assert verdict.details["n_corrupted_covered"] == 0
    assert verdict.n_retrained == n_checks(200, 1, 0.01) == 198


def test_outputs_that_suffice_only_if_all_are_true_are_inconclusive():
    # A gap of half ε leaves 48 pairs no room for corruption, and often enough for the limit itself.
    seen = Counter()
    for seed in range(30):
        verdict = session(FUNCTION, with_gap(FUNCTION, 0.02), seed)
        seen[verdict.reason.startswith("the outputs suffice if all are true")] += 1
        if verdict.reason.startswith("the outputs suffice"):
            assert verdict.outcome is Outcome.INCONCLUSIVE
            assert verdict.n_retrained == 0
    assert seen[True] >= 3


def test_a_budget_limits_the_challenge():
    verdict = run(Prover(FUNCTION, HONEST), Verifier(FUNCTION, budget=10))
    assert verdict.n_prover_retrained == 10
    with pytest.raises(ValueError, match="budget: expected at least 96"):
        Verifier(FUNCTION, design=DESIGN, budget=95)


def test_an_absolute_epsilon():
    scaled = CubeFunction(60, {s: 3.0 * c for s, c in FUNCTION.terms.items()})
    terms = {"relative": False, "clip": 30.0}
    assert meet(scaled, scaled.best, scaled, 4, epsilon=0.5, **terms)
    assert not meet(scaled, scaled.best, scaled, 4, epsilon=0.05, **terms)


@pytest.mark.parametrize("truth", [0, 1, 7, 94, 95])
def test_most_covered_is_the_last_that_is_accepted(truth):
    assert most_covered(lambda w: w <= truth, 96) == truth


@pytest.mark.parametrize("design", [DESIGN, ClusterDesign(5, 3, 0.3, 0.1)], ids=str)
def test_chosen_rows_are_rows_of_the_design(design):
    rows = np.array([0, 3, 4, 29])
    masks, seeds = chosen_rows(design, 9, 33, rows)
    (_, all_masks, all_seeds), *rest = row_blocks(design, 9, 33)
    assert not rest
    assert masks == all_masks[rows]
    assert np.array_equal(seeds, all_seeds[rows])


@pytest.mark.parametrize("words", [ClusterParameters, ResidualParameters])
def test_designs_come_back_from_their_words(words):
    cluster = words is ClusterParameters
    parameters = (
        ClusterParameters(n_clusters=7, n_leaves=3, rho=0.2)
        if cluster
        else ResidualParameters(n_pairs=7, rho=0.2)
    )
    design = design_of(parameters, 0.4)
    assert (design.p, design.rho) == (0.4, 0.2)
    assert design.n_evaluations == 42


def test_attribution_objects_are_accepted_as_they_are():
    scores = Attribution(scores=HONEST.scores, intercept=HONEST.intercept)
    assert session(FUNCTION, scores, seed=1)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"sampling": "lazy"}, "sampling: expected 'uniform' or 'weighted', got 'lazy'"),
        (
            {"sampling": "weighted", "method": "paper"},
            "sampling: expected 'uniform' with the paper",
        ),
    ],
)
def test_unknown_ways_to_draw_checks_are_refused(terms, message):
    with pytest.raises(ValueError, match=message):
        Verifier(FUNCTION, **terms)


def test_weighted_checks_may_all_stay_out(monkeypatch):
    """As rarely as a lie is to be missed: nothing is retrained then, and the acceptance stands."""
    nothing = np.empty(0, dtype=np.int64)
    monkeypatch.setattr(SecretChecks, "weighted", lambda checks, chances: nothing)
    verdict = session(FUNCTION, HONEST, seed=1, sampling="weighted", design=ClusterDesign(128))
    assert verdict.outcome is Outcome.ACCEPT
    assert verdict.n_retrained == verdict.details["n_checked"] == 0


@pytest.mark.parametrize(("clip", "accepted"), [(CLIP, True), (1.0, False)])
def test_a_session_that_clips_outputs_is_never_an_acceptance(clip, accepted):
    """At b = 1 a third of the outputs are clipped: what is verified is another function than f."""
    provers, verifiers = secrets_of(3)
    prover = Prover(FUNCTION, HONEST, clip=clip, secret=provers)  # which agreed to it
    verifier = Verifier(FUNCTION, clip=clip, epsilon=0.3, design=DESIGN, secret=verifiers)
    verdict = run(prover, verifier)
    assert (verdict.outcome is Outcome.ACCEPT) == accepted
    assert (verdict.details["challenge_clipped_share"] > 0.01) != accepted


def test_the_clip_of_a_pilot_leaves_outputs_as_they_are():
    """400 pilots of an f with mean 0: with three ranges in place of thirty, 1 in 40 cuts off 1% or more, and
    at least one of 400 does with probability 0.9999."""
    linear = CubeFunction(50, {(i,): np.array([1.0]) for i in range(50)})
    clips = []
    for seed in range(400):
        verifier = Verifier(linear, secret=secrets_of(seed)[1])
        verifier.start()
        clips.append(verifier.manifest.clip)
    assert min(clips) > 4.0 * np.sqrt(linear.variance[0])


@pytest.mark.parametrize(("p", "noise", "n_pilot"), [(0.3, 0.0, 0), (0.5, 0.5, 32)])
def test_a_budget_that_few_examples_exceed_is_refused(p, noise, n_pilot):
    """26 clusters for four examples, with two leaves: before anything is trained where p tells so."""
    weights, n_trained = np.linspace(0.8, 1.2, 4), []

    def retrain(masks, seeds):
        bits = masks.unpack()
        n_trained.append(len(bits))
        runs = [
            np.random.default_rng([seed, *row.astype(int)]).normal()
            for seed, row in zip(seeds, bits, strict=True)
        ]
        return (bits @ weights + noise * np.array(runs)).astype(np.float32)[:, None]

    with pytest.raises(ValueError, match="budget: expected at least 104 trainings of a challenge"):
        Verifier(retrain, n_train=4, n_targets=1, p=p, budget=60).start()
    assert sum(n_trained) == n_pilot
