"""Truncated sums: what corrupted outputs can hide, and a prover that hides as much as it can."""

from __future__ import annotations

import numpy as np
import pytest
from cube import smooth_function, with_gap
from scipy import stats
from two_parties import secrets_of, verifier_with

from pyattr.protocol import Prover, Verifier, run
from pyattr.protocol.checks import SecretChecks
from pyattr.protocol.randomness import secret_of
from pyattr.verification.challenge import CAPS, Honest, choose_challenge, plan_checks
from pyattr.verification.cheats import CorruptsWorst
from pyattr.verification.clusters import ClusterDesign
from pyattr.verification.corruption import Cover, PairSquares, Truncation, truncated_total
from pyattr.verification.judge import Criterion
from pyattr.verification.scores import LinearScores
from pyattr.verification.spot_check import miss_probability, n_checks
from pyattr.verification.verdict import Outcome

ALPHA = 0.05
N_DRAWS = 20_000


def truncated_sums(n: int, cap: float, draw) -> np.ndarray:
    rng = np.random.default_rng(n)
    return np.array(
        [np.minimum(draw(rng, (500, n)) ** 2, cap).sum(axis=1) for _ in range(N_DRAWS // 500)]
    ).ravel()


@pytest.mark.parametrize(("n", "cap"), [(24, 1.0), (24, 3.0), (128, 1.5), (500, 2.0)])
def test_the_normal_limit_is_the_quantile_of_the_truncated_sum(n, cap):
    """20,000 samples: the share below the limit is α within 4 standard errors (0.006) unless rounding costs
    more; a right limit fails with probability 6e-5. A limit 10% higher would be seen."""
    total = truncated_total("chi2", n, cap, ALPHA)
    sums = truncated_sums(n, cap, lambda rng, size: rng.standard_normal(size))
    share = np.mean(sums < total)
    assert 0.7 * ALPHA < share < ALPHA + 0.006
    assert np.mean(sums < 1.1 * total) > ALPHA + 0.02


def few_signs(n_examples: int):
    """o with as few effective examples: kurtosis 3 - 2/n_examples, the least normal a liar can make it."""

    def draw(rng, size):
        return (2.0 * rng.integers(0, 2, (*size, n_examples)) - 1.0).sum(-1) / n_examples**0.5

    return draw


@pytest.mark.parametrize("n_examples", [1, 2, 3, 5, 20])
def test_scores_on_few_examples_gain_a_liar_little(n_examples):
    """Residuals that hang on one to twenty examples are not normal. The χ² limit holds for all of them at
    the caps that are used, and would not at 1.5 for three equal ones; the moment limit always does."""
    for n in (128, 400):
        for cap in (CAPS["chi2"][0], 2.5):
            sums = truncated_sums(n, cap, few_signs(n_examples))
            assert np.mean(sums < truncated_total("chi2", n, cap, ALPHA)) < ALPHA + 0.006
            assert np.mean(sums < truncated_total("moment", n, cap, ALPHA)) == 0.0
    if n_examples == 3:
        sums = truncated_sums(400, 1.5, few_signs(3))
        assert np.mean(sums < truncated_total("chi2", 400, 1.5, ALPHA)) > 2 * ALPHA


def heavy(rng, size):
    """Kurtosis 4: as heavy a tail as the moment bound's κ states."""
    return rng.choice([-2.0, 0.0, 2.0], size, p=[0.125, 0.75, 0.125])


def test_the_moment_limit_holds_where_the_normal_one_fails():
    """Residuals that are 0 in three pairs of four: the χ² limit is passed far too often, the moment limit
    (κ = 4) as rarely as stated."""
    for n in (400, 2000):
        sums = truncated_sums(n, 2.0, heavy)
        assert np.mean(sums < truncated_total("moment", n, 2.0, ALPHA)) <= ALPHA
        assert np.mean(sums < truncated_total("chi2", n, 2.0, ALPHA)) > 0.5


def test_limits_agree_where_they_should():
    # Nothing cut off: the quantile of χ².
    for n in (10, 30, 100):
        exact = stats.chi2.ppf(ALPHA, n)
        assert 0.97 * exact < truncated_total("chi2", n, 25.0, ALPHA) <= exact
    # Both ways to a limit, on either side of the number of pairs where one takes over.
    below, above = (truncated_total("chi2", n, 2.0, ALPHA) / n for n in (1024, 1025))
    assert above == pytest.approx(below, rel=0.03)
    assert truncated_total("moment", 10, 2.0, ALPHA) < 0.0


def test_the_unit_is_the_completed_square():
    """``E o² > ε E y²`` exactly where ``E v² > ε Var g / (1-ε)²``, for any correlation of y and g."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        epsilon, variance, slope, rest = *rng.uniform(0.01, 0.5, 1), *rng.uniform(0.1, 3.0, 3)
        output = slope**2 * variance + rest  # y = slope g + e, Var e = rest
        residual = (slope - 1.0) ** 2 * variance + rest
        scaled = (slope - 1.0 / (1.0 - epsilon)) ** 2 * variance + rest
        unit = epsilon * variance / (1.0 - epsilon) ** 2
        assert (residual > epsilon * output) == (scaled > unit)
        assert residual - epsilon * output == pytest.approx((1.0 - epsilon) * (scaled - unit))


FUNCTION = smooth_function(60, cubic=0.005, quadratic=0.05)
HONEST = FUNCTION.best
DESIGN = ClusterDesign(128)


def squares_of(seed=1, attribution=HONEST, tolerance=0.0, **changes):
    masks, seeds = DESIGN.draw(seed, 60)
    scores = LinearScores.of(attribution)
    criterion = Criterion(**changes)
    outputs = FUNCTION(masks, seeds)
    return PairSquares.of(criterion, DESIGN, outputs, scores, scores.linear(masks), tolerance)


def test_what_a_set_hides_is_at_most_its_influence():
    """The inequality of the proof note, for random sets and answers: no chance involved."""
    rng = np.random.default_rng(3)
    for _ in range(300):
        true, cap = rng.standard_normal(40) ** 2, rng.uniform(0.5, 4.0)
        chosen = rng.random(40) < rng.random()
        shown = np.where(chosen, rng.standard_normal(40) ** 2 * rng.integers(0, 2), true)
        slack = np.minimum(true, cap).sum() - shown.sum()
        assert np.maximum(cap - shown, 0.0)[chosen].sum() >= slack - 1e-9


def test_upper_limits_are_certified_and_cover_the_gap():
    epsilon = 0.05
    truncation = Truncation(2.0, truncated_total("chi2", 128, 2.0, 0.04))
    cover = Cover(squares_of(), truncation, epsilon)
    w = cover.n_hiding - 1
    assert w >= 5
    uppers = [cover.upper_by_count(n)[0] for n in (0, w // 2, w)]
    assert uppers == sorted(uppers)
    assert 0.005 < uppers[0] < uppers[2] <= epsilon
    # At its own limit the set that is covered still hides nothing; a little below it does.
    influence, slack = cover.squares.influence(truncation, np.array([uppers[2]]))
    assert np.sort(influence[:, 0])[-w:].sum() < slack[0]
    influence, slack = cover.squares.influence(truncation, np.array([0.99 * uppers[2]]))
    assert np.sort(influence[:, 0])[-w:].sum() > slack[0]
    assert 0.005 < cover.upper_by_share(cover.shares)[0] <= epsilon
    more = Cover(squares_of(tolerance=0.01), truncation, epsilon)
    assert more.n_hiding < cover.n_hiding
    v = np.abs(cover.squares.output - cover.squares.prediction / 0.95)
    assert more.squares.shown(np.array([epsilon])) == pytest.approx((v + 0.01) ** 2)


def test_the_gap_has_a_limit_without_one_of_var_f():
    """All linear parts ĉ on the sphere ``‖ĉ - c/(1-ε)‖² = τ``; one of them reaches the limit."""
    rng = np.random.default_rng(0)
    c = rng.standard_normal(5)
    for epsilon in (0.002, 0.05, 0.3):
        squares = PairSquares(np.zeros((4, 1)), np.zeros((4, 1)), np.array([c @ c]))
        radius = np.sqrt(squares.threshold(np.array([epsilon]))[0])
        directions = np.vstack([rng.standard_normal((500, 5)), c])
        directions /= np.linalg.norm(directions, axis=1)[:, None]
        gaps = np.sum((c / (1 - epsilon) + radius * directions - c) ** 2, axis=1)
        limit = epsilon * squares.unit(epsilon)[0]
        assert gaps.max() == pytest.approx(limit)


def test_corruption_that_hides_var_f_does_not_narrow_payments():
    """A session's certificate has that limit, whatever the outputs showed of Var f."""
    published = with_gap(FUNCTION, 0.001)
    provers, verifiers = secrets_of(1)
    verifier = Verifier(FUNCTION, design=DESIGN, clip=30.0, secret=verifiers)
    verdict = run(Prover(FUNCTION, published, secret=provers), verifier)
    assert verdict
    assert verdict.details["sampling"] == "uniform"  # by truncated sums
    known = LinearScores.of(published).variance(0.5)
    root = 1 - np.sqrt(verdict.epsilon)
    assert (verdict.details["variance_upper"] >= known / root**2 - 1e-9).all()


def test_absolute_epsilon_uses_the_plain_residual():
    squares = squares_of(relative=False)
    v = squares.output - squares.prediction
    assert squares.shown(np.array([0.3])) == pytest.approx(v**2)
    assert squares.threshold(np.array([0.3])) == pytest.approx(0.3)


def best_lie(published, seed, sampling="uniform"):
    """The number of changed outputs that a prover who foresees everything but the checks would choose, and
    its chance to be accepted."""
    best = (0, 0.0)
    for w in range(2, 70, 4):
        cheat = CorruptsWorst(FUNCTION, published, w)
        provers, verifiers = secrets_of(seed)
        verifier = Careless(FUNCTION, design=DESIGN, clip=30.0, secret=verifiers, sampling=sampling)
        verdict = run(Prover(cheat, published, secret=provers), verifier)
        if "n_corrupted_covered" in verdict.details and verdict:
            k = n_checks(256, verdict.details["n_corrupted_covered"] + 1, 0.01)
            best = max(best, (w, miss_probability(256, w, k)), key=lambda pair: pair[1])
    return best


class Few(SecretChecks):
    """A share of the checks: none shows what the verdict would have been."""

    def __init__(self, key, transcript, share):
        super().__init__(key, transcript)
        self.share = share

    def uniform(self, n_outputs, n_checked):
        return super().uniform(n_outputs, int(self.share * n_checked))


def with_share(share):
    """A verifier that makes a share of the checks that it should."""
    return verifier_with(
        _checks=lambda steps: Few(steps._secrets.check_key, steps._session.parent, share)
    )


Careless, Lax = with_share(0.0), with_share(1 / 16)


def test_a_prover_that_corrupts_the_worst_outputs_is_caught():
    """Gap 1.5 ε, 256 answers, the w worst changed, w chosen with hindsight for each challenge.

    The exact chance of acceptance, averaged over challenges, is to be below δ = 0.05, and below δ_s = 0.01
    in a challenge where truncated sums keep their promise (96% of them at least): 30 challenges.
    Without checks the same lies are accepted.
    """
    published = with_gap(FUNCTION, 0.075)
    chances = [best_lie(published, seed) for seed in range(30)]
    rates = np.array([chance for _, chance in chances])
    assert rates.mean() < 0.05
    # 6 or more broken promises of 30 at 4% each have probability 1e-3.
    assert np.sum(rates > 0.01) < 6
    assert np.mean([w > 0 for w, _ in chances]) > 0.9  # unchecked, nearly every challenge is passed


@pytest.mark.parametrize("sampling", ["uniform", "weighted"])
def test_the_same_prover_in_whole_sessions(sampling):
    """40 changed outputs, gap 1.5 ε: 100 sessions with real checks. Acceptance has probability 0.01 in a
    session: 6 or more have probability 5e-4. A verifier with a sixteenth of the checks accepts far more."""
    published = with_gap(FUNCTION, 0.075)
    cheat = CorruptsWorst(FUNCTION, published, 40)
    terms = {"design": DESIGN, "clip": 30.0, "sampling": sampling}
    outcomes = [
        run(
            Prover(cheat, published, secret=secret_of(seed)),
            Verifier(FUNCTION, secret=secret_of(1000 + seed), **terms),
        ).outcome
        for seed in range(100)
    ]
    assert outcomes.count(Outcome.ACCEPT) < 6
    assert outcomes.count(Outcome.ABORT) > 80

    if sampling == "uniform":
        lax = [
            run(
                Prover(cheat, published, secret=secret_of(seed)),
                Lax(FUNCTION, secret=secret_of(1000 + seed), **terms),
            )
            for seed in range(40)
        ]
        assert sum(map(bool, lax)) > 8


def test_planned_checks_are_what_honest_sessions_need():
    """32 targets, residuals that fill 0.2 of ε: checks within 30% of the plan's, fewer than the trainings of
    a verifier of its own."""
    function = smooth_function(60, cubic=0.01, n_targets=32)
    criterion = Criterion()
    honest = Honest.of(0.05, 32, share=0.2, explained=0.99)
    plan = plan_checks(ClusterDesign(256), criterion, 0.04, 0.01, honest)
    assert plan.truncation is not None
    masks, seeds = plan.design.draw(5, 60)
    scores = LinearScores.of(function.best)
    outputs = function(masks, seeds)
    squares = PairSquares.of(criterion, plan.design, outputs, scores, scores.linear(masks))
    hiding = Cover(squares, plan.truncation, 0.05).n_hiding
    assert 0.7 * plan.n_checks < n_checks(512, hiding, 0.01) < 1.3 * plan.n_checks < 80


def test_a_larger_challenge_saves_checks_and_the_number_levels_off():
    honest = Honest.of(0.05, 32)

    def k(n_clusters, weighted=False):
        design = ClusterDesign(n_clusters)
        return plan_checks(design, Criterion(), 0.04, 0.01, honest, weighted).n_checks

    counts = [k(n) for n in (64, 256, 512, 1024, 4096)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == n_checks(128, 1, 0.01)  # honest residuals that fill half of ε would fail
    assert counts[-1] > 0.7 * counts[-2]
    assert k(256, weighted=True) < k(256)
    plan = choose_challenge(0.0, 0.05, 0.04, 0.01, Criterion(), honest)
    assert plan.design.n_clusters > 64
    assert plan.n_checks < plan.design.n_evaluations / 3


@pytest.mark.parametrize("changes", [{"bound": "t"}, {"intercept": "check"}])
def test_where_truncated_sums_say_nothing_all_outputs_are_checked(changes):
    criterion = Criterion(**changes)
    honest = Honest.of(0.05, 1)
    plan = plan_checks(ClusterDesign(200), criterion, 0.04, 0.01, honest)
    assert plan.truncation is None
    assert plan.n_checks == n_checks(400, 1, 0.01)
    assert plan_checks(ClusterDesign(50, 2), Criterion(), 0.04, 0.01, honest).truncation is None


@pytest.mark.parametrize("relative", [True, False])
def test_influences_and_slack_are_their_formulas(relative):
    """``max(t - a_c, 0)`` and ``x - Σ a_c`` with t and x in units of τ, by hand; a slack that is larger would
    let more be hidden than the checks are drawn for."""
    output, prediction = np.array([[0.3], [-1.0], [2.0]]), np.array([[0.5], [-0.9], [0.0]])
    squares = PairSquares(output, prediction, np.array([4.0]), relative, tolerance=0.1)
    epsilon = np.array([0.2])
    factor, tau = (1.25, 0.2 * 4.0 / 0.64) if relative else (1.0, 0.2)
    shown = (np.abs(output - prediction * factor) + 0.1) ** 2
    influence, slack = squares.influence(Truncation(cap=2.0, total=5.0), epsilon)
    np.testing.assert_allclose(influence, np.maximum(2.0 * tau - shown, 0.0))
    np.testing.assert_allclose(slack, 5.0 * tau - shown.sum(axis=0))
