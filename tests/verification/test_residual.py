"""Residual estimation on functions with known weights."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from cube import smooth_function

from pyattr.verification.bounds import hoeffding_radius
from pyattr.verification.residual import (
    ResidualDesign,
    ResidualSums,
    plan_paper,
    residual_radius,
)


def sums_of(design, function, seed, centre=None, block=2**14):
    sums = ResidualSums(design, np.zeros(function.n_targets) if centre is None else centre)
    for start in range(0, design.n_evaluations, block):
        stop = min(start + block, design.n_evaluations)
        sums.add(function(*design.draw(seed, function.n_train, start, stop)), start)
    return sums


@pytest.mark.parametrize("p", [0.5, 0.3])
def test_residual_is_estimated_within_its_stated_accuracy(p):
    """Two targets, 60,000 pairs a rate. The stated radius fails with probability 4 alpha = 0.04 at most
    (Hoeffding: in truth far less); a residual off by the linear weight would be seen."""
    function = smooth_function(
        12, quadratic=0.4, cubic=0.1, noise=0.3, p=p, n_targets=2, constant=0.4
    )
    design = ResidualDesign(60_000, 0.2, p)
    sums = sums_of(design, function, 3, centre=np.full(2, 0.4))
    truth = 0.4 + 0.1 + 0.09
    assert np.all(np.abs(sums.residual() - truth) < residual_radius(design, 3.0, 0.01))
    # far better in practice: 5 standard errors of the derivative plus the stated bias 2 ρ² B_3
    spread = np.abs(sums.residual() - truth)
    assert np.all(spread < 0.15)
    assert np.all(np.abs(sums.residual() - (truth + 1.0)) > 0.5)
    np.testing.assert_allclose(sums.variance(), function.variance, rtol=0.05)


def test_blocks_of_any_size_give_the_same_sums():
    function = smooth_function(10, quadratic=0.2)
    design = ResidualDesign(70, 0.1)
    whole = sums_of(design, function, 1, block=1_000)
    parts = sums_of(design, function, 1, block=34)
    np.testing.assert_allclose(whole.stability(), parts.stability(), rtol=1e-12)


def test_pairs_have_the_stated_correlations_and_no_mask_is_used_twice():
    """3e5 bits a rate: 0.02 is 10 standard errors."""
    design = ResidualDesign(300, 0.25, 0.4)
    masks, seeds = design.draw(9, 1_000)
    phi = (masks.unpack() - 0.4) / np.sqrt(0.24)
    for level in range(3):
        rows = slice(600 * level, 600 * (level + 1))
        left, right = phi[rows][0::2], phi[rows][1::2]
        assert abs(np.mean(left * right) - 0.25 * level) < 0.02
    assert len(np.unique(masks.packed, axis=0)) == len(masks)
    assert len(np.unique(seeds)) == len(seeds)


def test_a_seed_shared_inside_a_pair_estimates_something_else():
    """The trap of the published text: seed noise shared within pairs counts as weight at degree 0."""
    function = dataclasses.replace(smooth_function(12), seed_effect=1.0)
    design = ResidualDesign(20_000, 0.2)
    masks, seeds = design.draw(2, 12)
    right, wrong = ResidualSums(design, np.zeros(1)), ResidualSums(design, np.zeros(1))
    right.add(function(masks, seeds), 0)
    wrong.add(function(masks, np.repeat(seeds[::2], 2)), 0)
    assert right.weights()[0, 0] < 0.1
    assert wrong.weights()[0, 0] > 0.9


def test_plan_has_the_published_orders_and_meets_its_accuracy():
    plans = {e: plan_paper(e, 0.01, 1.0, 2.0, 0.5) for e in (0.4, 0.2, 0.1)}
    for epsilon, plan in plans.items():
        assert residual_radius(plan.design, 1.0, 0.01) <= epsilon / 4 * (1 + 1e-9)
    assert plans[0.1].design.n_pairs / plans[0.2].design.n_pairs == pytest.approx(8, rel=0.15)
    assert plans[0.1].n_fresh / plans[0.2].n_fresh == pytest.approx(4, rel=0.01)


def test_designs_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="n_pairs"):
        ResidualDesign(0, 0.1)
    with pytest.raises(ValueError, match=r"rho: expected a correlation in \(0, 1/3\]"):
        ResidualDesign(10, 0.5)


def test_the_radius_is_its_formula():
    """Mean square, three values of h amplified by √3 (1 + √26/(2ρ)), and the bias 2ρ²b²."""
    design = ResidualDesign(500, 0.2)
    values, total = (hoeffding_radius(n, width, 0.01) for n, width in ((500, 9.0), (1500, 4.5)))
    amplified = np.sqrt(3.0) * (1.0 + np.sqrt(26.0) / 0.4) * values
    assert residual_radius(design, 3.0, 0.01) == pytest.approx(total + amplified + 2 * 0.04 * 9.0)
