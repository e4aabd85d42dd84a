"""The range of clipped terms, and limits that rest on nothing else."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from cube import CubeFunction, smooth_function, with_gap

import pyattr
from pyattr import ClusterDesign, Outcome, StarDesign
from pyattr.verification.bounded import _square_beyond, cluster_range, linear_reach
from pyattr.verification.bounds import Levels
from pyattr.verification.cheats import HalvedScores
from pyattr.verification.clusters import ClusterTerms
from pyattr.verification.gap import estimate_gap
from pyattr.verification.output_variance import known_floor
from pyattr.verification.scores import LinearScores
from pyattr.verification.stars import StarTerms, star_range

LEVELS = Levels(0.05, 0.05)
CLIP = 5.0


def clipped(function):
    return lambda masks, seeds: np.clip(function(masks, seeds), -CLIP, CLIP)


@pytest.mark.parametrize(
    "design",
    [
        ClusterDesign(200),
        ClusterDesign(60, 3),
        ClusterDesign(60, 3, p=0.3, rho=0.15),
        StarDesign(100, 8, 0.2),
    ],
    ids=str,
)
def test_terms_lie_in_the_stated_range(design):
    """Every cluster, for scores a hundred times too large as well; with the tail cut off by hand."""
    function = smooth_function(60, p=design.p, noise=0.5)
    for factor in (1.0, -3.0, 100.0):
        scores = LinearScores.of(HalvedScores(factor)(function.best))
        masks, seeds = design.draw(1, 60)
        outputs, linear = clipped(function)(masks, seeds), scores.linear(masks)
        if isinstance(design, ClusterDesign):
            terms = ClusterTerms.of(design, outputs, scores, linear)
            found = cluster_range(design, outputs, linear, scores, CLIP)
        else:
            terms = StarTerms.of(design, outputs, scores, linear)
            found = star_range(design, outputs, linear, scores, CLIP)
        products = terms.independent_products
        assert found.inside.all()
        assert (products <= found.high * (1 + 1e-6)).all()
        assert (products >= found.low * (1 + 1e-6) - 1e-9).all()
        assert (found.tail <= 1e-4 * found.high).all()
        assert (found.spread <= 2 * CLIP**2).all()
    measure = cluster_range if isinstance(design, ClusterDesign) else star_range
    with pytest.raises(ValueError, match="outputs: expected values clipped"):
        measure(design, outputs * 10, linear, scores, CLIP)


def test_the_cut_tail_is_bounded():
    """E (β+|g|)²; |g| > G for signs, exactly, over all 2^16 of them: at most the stated tail."""
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((16, 1)).astype(np.float32)
    g = np.array(
        [np.dot(signs, scores[:, 0]) / 2 for signs in itertools.product([-1, 1], repeat=16)]
    )
    proxy = np.sum(scores.astype(float) ** 2) / 4
    for reach in (1.0, 2.0, 4.0):
        for rest in (0.0, 3.0):
            exact = np.mean((rest + np.abs(g)) ** 2 * (np.abs(g) > reach))
            bound = _square_beyond(np.array([rest]), np.array([reach]), np.array([proxy]))[0]
            assert exact <= bound
    reach, proxy = linear_reach(LinearScores(scores[:6], np.zeros(1, np.float32)))
    assert reach[0] == pytest.approx(np.abs(scores[:6]).sum(), rel=1e-6)
    assert proxy[0] == 0.0  # six examples: the largest value is nearer than the usual reach
    reach, proxy = linear_reach(LinearScores(scores, np.zeros(1, np.float32)))
    assert np.abs(g).max() <= reach[0] < np.abs(scores).sum()
    assert proxy[0] > 0.0


@pytest.mark.parametrize("seed", range(5))
def test_var_f_is_at_least_what_scores_and_gap_imply(seed):
    """(√Var g - √gap)² ≤ Var f for any scores, with equality for scaled ones of a linear function."""
    rng = np.random.default_rng(seed)
    function = smooth_function(30, quadratic=0.3, noise=0.2)
    scores = with_gap(function, float(rng.uniform(0.0, 3.0)), seed)
    change = scores.scores - function.best.scores
    gap = 0.25 * np.sum(change.astype(float) ** 2, axis=0)
    assert (
        known_floor(LinearScores.of(scores).variance(0.5), gap) <= function.variance + 1e-6
    ).all()
    linear = smooth_function(30)
    double = LinearScores.of(HalvedScores(2.0)(linear.best))
    np.testing.assert_allclose(known_floor(double.variance(0.5), np.array([1.0])), 1.0, rtol=1e-5)


@pytest.mark.parametrize("bound", ["moment", "betting", "bernstein", "hoeffding"])
def test_finite_sample_limits_of_the_relative_gap_hold(bound):
    """The rare event that the default bound misses (gap 0.055 in 15 pairs): 150 sessions of 100 pairs. A
    95% limit fails more than 16 times with probability 1e-3; the moment bound states κ = 17 for it, which
    covers o = ±1.6 one time in 16 (κ = 16)."""

    def rare(masks, seeds):
        bits = masks.unpack()
        out = bits @ np.linspace(-0.3, 0.3, 80) + 3.2 * bits[:, :5].all(axis=1)
        return np.clip(out[:, None], -CLIP, CLIP).astype(np.float32)

    scores = LinearScores.of(pyattr.Attribution(scores=np.linspace(-0.3, 0.3, 80)[:, None]))
    # The event's linear part: five coefficients of 3.2/32 each in the orthonormal basis.
    linear_weight = 5 * (3.2 / 32) ** 2
    design = ClusterDesign(100)
    short = 0
    short_chi2 = 0
    for seed in range(150):
        masks, seeds = design.draw(seed, 80)
        outputs, linear = rare(masks, seeds), scores.linear(masks)
        terms = ClusterTerms.of(design, outputs, scores, linear)
        bounded = cluster_range(design, outputs, linear, scores, CLIP)
        known = scores.variance(0.5)
        found = estimate_gap(terms, known, LEVELS, bound, False, 17.0, bounded)
        short += bool(found.weight.upper[0] < linear_weight)
        # E o² itself, of which chi2 promises the same and which it misses more often
        whole = 1.6**2 / 16
        short_chi2 += bool(estimate_gap(terms, known, LEVELS).weight.upper[0] < whole)
    assert short <= 16
    assert short_chi2 > 16


def test_proofs_are_affordable_where_outputs_cost_nothing():
    """A function whose evaluations are free: betting accepts the honest and aborts the halved."""
    function = smooth_function(40, quadratic=0.02)
    retrain = clipped(function)
    options = {"bound": "betting", "clip": CLIP, "seed": 1, "epsilon": 0.1}
    honest = pyattr.verify(retrain, with_gap(function, 0.01), **options)
    assert honest.outcome is Outcome.ACCEPT
    assert honest.bound == "betting"
    assert honest.details["finite_sample"]
    assert "outputs are clipped" in honest.reason
    assert honest.delta_split["of each, for Var f"] == 0.1
    halved = pyattr.verify(retrain, HalvedScores()(function.best), **options)
    assert halved.outcome is Outcome.ABORT
    proof = pyattr.verify(function, with_gap(function, 0.01), bound="proof", seed=1)
    assert (proof.outcome, proof.bound) == (Outcome.ACCEPT, "moment")


def test_clipped_outputs_and_missing_clips():
    function = smooth_function(40)
    design = ClusterDesign(60)
    verdict = pyattr.verify(function, function.best, design=design, clip=1.0, seed=0)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "more than 1% of the outputs were clipped" in verdict.reason
    with pytest.raises(
        ValueError, match="clip: expected a bound of the outputs for bound 'betting'"
    ):
        pyattr.verify(function, function.best, bound="betting", seed=0)
    # One target clipped among many is not averaged away.
    many = smooth_function(40, n_targets=20)
    calls = many.terms
    for weight in calls.values():
        np.atleast_1d(weight)[3] *= 10.0
    scores = CubeFunction(40, calls, n_targets=20).best
    verdict = pyattr.verify(many, scores, design=ClusterDesign(40), clip=8.0, seed=0)
    assert verdict.outcomes[3] is Outcome.INCONCLUSIVE
    assert verdict.outcomes[0] is Outcome.ACCEPT


@pytest.mark.parametrize("bound", ["moment", "betting", "bernstein", "hoeffding"])
def test_a_budget_too_small_for_any_decision_is_never_acceptance(bound):
    """Perfect scores, four clusters: nothing can be said, and that is what is said."""
    function = smooth_function(40, cubic=0.001)
    verdict = pyattr.verify(
        clipped(function), function.best, bound=bound, clip=CLIP, design=ClusterDesign(4), seed=0
    )
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "budget is too small for any decision" in verdict.reason


@pytest.mark.parametrize("p", [1e-5, 1 - 1e-5])
def test_a_p_without_a_negative_rate_is_never_acceptance(p):
    """Nearly all masks are alike: nothing varies, and nothing is certified."""
    function = smooth_function(40, p=p)
    verdict = pyattr.verify(function, function.best, p=p, seed=0, budget=300)
    assert verdict.outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("design", [ClusterDesign(60), ClusterDesign(60, 3)], ids=str)
def test_limits_are_moved_outwards_by_the_tail(design):
    """Terms that are cut off count with the bound of their mean: above, and below if they may be negative."""
    function, scores = smooth_function(60, noise=0.5), LinearScores.of(smooth_function(60).best)
    masks, seeds = design.draw(1, 60)
    outputs, linear = clipped(function)(masks, seeds), scores.linear(masks)
    terms = ClusterTerms.of(design, outputs, scores, linear)
    found = replace(cluster_range(design, outputs, linear, scores, CLIP), tail=np.zeros(1))
    without = found.weight(terms.products, "betting", LEVELS)
    moved = replace(found, tail=np.array([0.25])).weight(terms.products, "betting", LEVELS)
    assert moved.upper - without.upper == pytest.approx(0.25)
    assert without.lower - moved.lower == pytest.approx(0.25 if design.n_leaves > 1 else 0.0)
    assert moved.estimate == without.estimate
