"""Star designs: unbiased for what they state, for any p, whatever the intercept."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cube import smooth_function, with_gap

import pyattr
from pyattr import StarDesign
from pyattr.verification.bounds import Levels
from pyattr.verification.clusters import ClusterDesign
from pyattr.verification.criterion import Criterion
from pyattr.verification.gap import estimate_gap
from pyattr.verification.judge import judge_gap
from pyattr.verification.scores import LinearScores
from pyattr.verification.stars import StarTerms
from pyattr.verification.verdict import Outcome

LEVELS = Levels(0.05, 0.05)


def terms_of(design, function, attribution, seed):
    scores = LinearScores.of(attribution)
    masks, seeds = design.draw(seed, function.n_train)
    return StarTerms.of(design, function(masks, seeds), scores, scores.linear(masks))


@pytest.mark.parametrize("p", [0.5, 0.3, 0.9])
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_the_estimate_is_unbiased_for_its_stated_target(p, shift):
    """E U = B_1(r) + c_2 B_2 + c_3 B_3, with an intercept that is off by a standard deviation too. 400
    repeats of 32 stars; beyond 4 standard errors happens to a right estimator 6e-5 of the time."""
    function = smooth_function(30, quadratic=0.3, cubic=0.1, noise=0.3, p=p, constant=2.0)
    design = StarDesign(32, 8, p, 0.2)
    attribution = with_gap(function, 0.2)
    attribution = type(attribution)(
        scores=attribution.scores, intercept=attribution.intercept + shift
    )
    rates = design.noise_rates
    gap = 0.2 * function.variance[0]
    target = gap + rates.coefficient(2) * 0.3 + rates.coefficient(3) * 0.1
    found = [terms_of(design, function, attribution, s) for s in range(400)]
    for name in ("products", "independent_products"):
        values = np.array([getattr(t, name).mean() for t in found])
        error = values.std() / 20
        assert abs(values.mean() - target) < 4 * error
        # The half that must fail: without the linear weight of the residual, or with all of B_2.
        assert abs(values.mean() - (target - gap)) > 4 * error
    parts = [t.variance_parts() for t in found]
    predicted = np.mean([p.effect[0] + p.noise[0] for p in parts])
    sampled = np.var([t.products.mean() for t in found])
    assert predicted == pytest.approx(sampled, rel=0.3)


def test_masks_have_the_stated_correlations():
    """20 stars over 20,000 examples: 4e5 bits a comparison; 0.01 is 6 standard errors or more."""
    design = StarDesign(20, 8, 0.3, 0.1)
    masks, seeds = design.draw(3, 20_000)
    assert len(masks) == design.n_evaluations == 180
    phi = design.by_star((masks.unpack() - 0.3) / math.sqrt(0.21))
    rates = np.repeat(design.noise_rates.rates, design.counts)
    for partner, rate in enumerate(rates, start=1):
        assert np.mean(phi[:, 0] * phi[:, partner]) == pytest.approx(rate, abs=0.01)
    by_star = seeds.reshape(20, 9)
    assert (by_star[:, 1:] == by_star[:, 1:2]).all()  # partners share one seed
    assert len(np.unique(by_star[:, :2])) == 40  # which no centre and no other star has
    again, _ = design.draw(3, 20_000)
    assert again == masks


@pytest.mark.parametrize(("p", "gap"), [(0.3, 0.02), (0.3, 0.15), (0.9, 0.02), (0.9, 0.15)])
def test_coverage_of_the_t_limits(p, gap):
    """128 stars, 300 repeats: the 95% limits hold in at least 91% (a right limit falls below that with
    probability 1e-3); a limit at level one half does not."""
    function = smooth_function(150, quadratic=0.05, cubic=0.01, noise=0.2, p=p)
    attribution = with_gap(function, gap)
    known = LinearScores.of(attribution).variance(p)
    design = StarDesign(128, 8, p, 0.05)
    upper, half = [], []
    for seed in range(300):
        terms = terms_of(design, function, attribution, seed)
        upper.append(estimate_gap(terms, known, LEVELS, "t").relative.upper[0])
        half.append(estimate_gap(terms, known, Levels(0.5, 0.5), "t").relative.upper[0])
    assert np.mean(np.array(upper) >= gap) >= 0.91
    assert np.mean(np.array(half) >= gap) < 0.85


def test_stars_cannot_be_judged_by_bounds_for_pairs():
    design = StarDesign(16, 8, 0.3)
    function = smooth_function(40, p=0.3)
    scores = LinearScores.of(function.best)
    masks, seeds = design.draw(0, 40)
    outputs = function(masks, seeds)
    verdict = judge_gap(Criterion(p=0.3, bound="chi2"), design, masks, outputs, scores)
    assert verdict.bound == "t"
    with pytest.raises(ValueError, match="bound: expected 'chi2' or 't'"):
        Criterion(bound="moment").bound_for(design)
    with pytest.raises(ValueError, match="'normal' is for recorded rows"):
        Criterion(bound="normal").bound_for(ClusterDesign(20))
    with pytest.raises(ValueError, match="clip: expected a bound of the outputs"):
        Criterion(p=0.3, bound="proof").bound_for(design)
    assert Criterion(p=0.3, bound="proof", clip=1.0).bound_for(design) == "betting"
    assert Criterion(bound="proof").bound_for(ClusterDesign(20)) == "moment"
    with pytest.raises(ValueError, match="design: expected a ClusterDesign"):
        judge_gap(Criterion(p=0.3), design, masks, outputs, scores, n_corrupted=1)
    with pytest.raises(ValueError, match="design: expected a ClusterDesign"):
        judge_gap(Criterion(p=0.3), design, masks, outputs, scores, tolerance=0.1)


def test_quadratic_weight_does_not_get_the_honest_aborted():
    """Even weight leaks into the estimate; it is taken off before anyone is accused."""
    function = smooth_function(60, quadratic=1.0, p=0.2)
    design = StarDesign(2_000, 8, 0.2, 0.3)
    scores = LinearScores.of(function.best)
    masks, seeds = design.draw(1, 60)
    outputs = function(masks, seeds)
    verdict = judge_gap(Criterion(p=0.2), design, masks, outputs, scores)
    assert verdict.gap_lower[0] > 0.05  # more than ε, all of it leaked
    assert verdict.outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, 8, 0.1), "n_clusters: expected a whole number of at least 4"),
        ((8, 1, 0.1), "n_partners: expected a whole number of at least"),
        ((8, 8, 1e-9), "p: expected a probability in"),
        ((8, 8, 0.1, 0.0), "leak: expected"),
    ],
)
def test_designs_that_do_not_exist_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        StarDesign(*arguments)


def test_one_wrong_score_is_not_accepted_where_examples_are_rare():
    """p = 0.01: one seller's score is too large, for a gap of 1.5 ε. Stars too few to have that example in
    at all look flawless; they are never an acceptance, and the chosen design has enough."""
    function = smooth_function(60, p=0.01)
    scores = function.best.scores.copy()
    scores[7, 0] += np.sqrt(0.075 * function.variance[0] / (0.01 * 0.99))
    wrong = pyattr.Attribution(scores=scores, intercept=function.best.intercept)
    few = StarDesign(128, 8, 0.01)
    assert not few.sees_examples
    verdicts = [pyattr.verify(function, wrong, p=0.01, design=few, seed=s) for s in range(20)]
    assert not any(verdicts)
    assert any(v.gap_upper[0] <= 0.05 and "too few stars" in v.reason for v in verdicts)
    chosen = pyattr.verify(function, wrong, p=0.01, seed=1)
    assert not chosen
    assert chosen.details["n_clusters"] * 0.01 >= 12.8


def test_terms_are_their_formula():
    """The centre's residual from the mean of the other stars, times ``Σ_j w_j r̄_j`` rate by rate."""
    design = StarDesign(6, 9, 0.2)
    assert len(set(design.counts)) > 1  # or weights of partners would be those of rates
    function = smooth_function(30, quadratic=0.2, noise=0.3, p=0.2)
    scores = LinearScores.of(with_gap(function, 0.1))
    masks, seeds = design.draw(3, 30)
    outputs, linear = function(masks, seeds), scores.linear(masks)
    terms = StarTerms.of(design, outputs, scores, linear)
    residual = (outputs - linear).reshape(6, 10)
    ends = 1 + np.cumsum((0, *design.counts))
    weighted = sum(
        weight * residual[:, first:last].mean(axis=1)
        for weight, first, last in zip(design.noise_rates.weights, ends, ends[1:], strict=False)
    )
    others = [np.delete(residual, star, axis=0).mean() for star in range(6)]
    expected = (residual[:, 0] - others) * weighted
    np.testing.assert_allclose(terms.products[:, 0], expected, rtol=1e-5, atol=1e-7)
    independent = (residual[:, 0] - scores.intercept[0]) * weighted
    np.testing.assert_allclose(terms.independent_products[:, 0], independent, rtol=1e-5, atol=1e-7)
