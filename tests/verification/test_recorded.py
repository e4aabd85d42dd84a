"""Verification from recorded rows: unbiased, covered, and not fooled by rows of the fit."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from cube import CubeFunction, smooth_function, with_gap
from scipy import stats

import pyattr
from pyattr import Outcome
from pyattr.verification import recorded
from pyattr.verification import verify_recorded as module_function
from pyattr.verification.cheats import HalvedScores
from pyattr.verification.interval import Levels
from pyattr.verification.recorded import Features, RecordedSums, recorded_sums
from pyattr.verification.scores import LinearScores


def bank(function, n, seed):
    masks = pyattr.sample_masks(n, function.n_train, function.p, seed=seed)
    return masks, function(masks, pyattr.sample_seeds(n, seed + 10_000))


def sums_of(masks, outputs, attribution, p):
    residual = outputs - LinearScores.of(attribution).linear(masks)
    return recorded_sums(Features.of(masks, p), (residual - residual.mean(0)).astype(np.float32))


@pytest.mark.parametrize("p", [0.5, 0.3])
def test_it_is_the_sum_over_all_pairs(p):
    """Against an n × n matrix, with the exact factor of centring; every part of the variance too."""
    function = smooth_function(40, quadratic=0.2, noise=0.2, p=p)
    masks, outputs = bank(function, 150, 1)
    attribution = with_gap(function, 0.1)
    found = sums_of(masks, outputs, attribution, p)
    r = outputs[:, 0] - LinearScores.of(attribution).linear(masks)[:, 0]
    r -= r.mean()
    phi = (masks.unpack() - p) / np.sqrt(p * (1 - p))
    kernel = np.outer(r, r) * (phi @ phi.T)
    np.fill_diagonal(kernel, 0.0)
    n = 150
    plain = kernel.sum() / (n * (n - 1))
    assert found.estimate[0] == pytest.approx(plain / (1 - 2 / n + 2 / n**2), rel=1e-4)
    projected = kernel.sum(axis=1) / (n - 1)
    second = np.mean(kernel[~np.eye(n, dtype=bool)] ** 2)
    assert found.degenerate[0] == pytest.approx(second - plain**2, rel=0.1)
    linear = max(projected.var() - found.degenerate[0] / (n - 1), 0.0)
    assert found.linear[0] == pytest.approx(linear, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("gap", [0.0, 0.03, 0.2])
def test_it_is_unbiased_and_its_limits_hold(gap):
    """300 banks of 500 rows; beyond 4 standard errors happens to a right estimator 6e-5 of the time, and
    coverage below 0.91 to a right 95% limit 1e-3 of the time."""
    function = smooth_function(100, quadratic=0.2, cubic=0.1, noise=0.3, p=0.4)
    attribution = with_gap(function, gap) if gap else function.best
    truth = gap * function.variance[0]
    found = [sums_of(*bank(function, 500, s), attribution, 0.4) for s in range(300)]
    values = np.array([f.estimate[0] for f in found])
    error = values.std() / np.sqrt(300)
    assert abs(values.mean() - truth) < 4 * error
    assert abs(values.mean() - (truth + 0.1)) > 4 * error  # all cubic weight would show
    assert values.var() == pytest.approx(
        np.mean([f.variance_at(np.array([truth]))[0] for f in found]), rel=0.35
    )
    limits = [f.interval(Levels(0.05, 0.05)) for f in found]
    assert np.mean([i.upper[0] >= truth for i in limits]) >= 0.91
    assert np.mean([i.lower[0] <= truth for i in limits]) >= 0.91
    half = [f.interval(Levels(0.5, 0.5)) for f in found]
    if gap:
        assert np.mean([i.upper[0] >= truth for i in half]) < 0.7


def test_honest_scores_pass_and_lies_do_not():
    """20 banks: several targets, one verdict each. Fixed seeds: where 95% of the honest pass,
    fewer than 18 of other 20 would with probability 0.08. A false acceptance has to miss all four targets."""
    function = smooth_function(80, quadratic=0.1, cubic=0.02, noise=0.3, n_targets=4)
    honest, near = with_gap(function, 0.01), with_gap(function, 0.075)
    halved = HalvedScores()(function.best)
    verdicts = {
        name: [
            pyattr.verify_recorded(*bank(function, 2_000, s), scores, held_out=True)
            for s in range(20)
        ]
        for name, scores in (("honest", honest), ("near", near), ("halved", halved))
    }
    assert sum(bool(v) for v in verdicts["honest"]) >= 18
    assert sum(bool(v) for v in verdicts["near"]) == 0  # 4 targets, each at 1.5 ε
    assert all(v.outcome is Outcome.ABORT for v in verdicts["halved"])
    verdict = verdicts["honest"][0]
    assert (verdict.method, verdict.bound, verdict.n_retrained) == ("gap", "normal", 0)
    assert verdict.delta_split["upper limit of each target"] == 0.05
    assert verdict.delta_split["lower limit of each target"] == 0.05 / 4
    assert verdict.details["leak"].even == verdict.details["leak"].odd == 0.0


def test_rows_of_the_fit_are_refused_or_noticed():
    """A fit to the rows themselves makes any residual look clean: the estimate falls far below 0. With
    200 rows for 80 scores the fit is poor (true gap about 0.13 Var f), and is never accepted."""
    function = smooth_function(80, quadratic=0.1, noise=0.4)
    for seed in range(10):
        masks, outputs = bank(function, 200, seed)
        fitted = pyattr.fit_datamodel(masks, outputs, method="ols")
        verdict = pyattr.verify_recorded(masks, outputs, fitted, held_out=True)
        assert verdict.outcome is Outcome.INCONCLUSIVE
        assert "further below 0 than chance allows" in verdict.reason
        with pytest.raises(ValueError, match="held_out: expected True"):
            pyattr.verify_recorded(masks, outputs, fitted, held_out=False)
        fresh = pyattr.verify_recorded(*bank(function, 3_000, seed + 50), fitted, held_out=True)
        assert fresh.outcome is Outcome.ABORT


def test_the_intercept_is_refitted():
    function = smooth_function(60, constant=5.0)
    scores = with_gap(function, 0.01)
    masks, outputs = bank(function, 1_000, 0)
    moved = pyattr.Attribution(scores=scores.scores, intercept=scores.intercept + 100.0)
    first = pyattr.verify_recorded(masks, outputs, scores, held_out=True)
    second = pyattr.verify_recorded(masks, outputs, moved, held_out=True)
    assert first
    np.testing.assert_allclose(first.gap_upper, second.gap_upper, rtol=1e-6)


def test_blocks_of_rows_and_targets_change_nothing(monkeypatch):
    function = smooth_function(60, quadratic=0.1, noise=0.2, n_targets=3)
    masks, outputs = bank(function, 500, 0)
    scores = with_gap(function, 0.02)
    whole = pyattr.verify_recorded(masks, outputs, scores, held_out=True)
    module = importlib.import_module("pyattr.verification.verify_recorded")  # the function hides it
    monkeypatch.setattr(module, "_CHUNK_BYTES", 1)
    monkeypatch.setattr(module, "BLOCK_ROWS", 97)
    monkeypatch.setattr(recorded, "BLOCK_ROWS", 97)
    parts = pyattr.verify_recorded(masks, outputs, scores, held_out=True)
    np.testing.assert_allclose(parts.gap_upper, whole.gap_upper, rtol=1e-4)
    np.testing.assert_allclose(parts.gap_lower, whole.gap_lower, rtol=1e-4)


def test_vacuous_clipped_and_heavy_targets_are_inconclusive():
    rng = np.random.default_rng(0)
    constant = CubeFunction(40, {(): np.array([3.0])})
    masks, outputs = bank(constant, 200, 0)
    zeros = pyattr.Attribution(scores=np.zeros((40, 1)), intercept=[3.0])
    verdict = pyattr.verify_recorded(masks, outputs, zeros, held_out=True)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "hardly varies" in verdict.reason
    function = smooth_function(60)
    masks, outputs = bank(function, 1_000, 0)
    verdict = pyattr.verify_recorded(masks, outputs, function.best, held_out=True, clip=1.5)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "were clipped" in verdict.reason
    spiky = outputs.copy()
    spiky[rng.choice(1_000, 2)] += 8.0
    verdict = pyattr.verify_recorded(masks, spiky, with_gap(function, 0.001), held_out=True)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert "kurtosis" in verdict.reason


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"masks": "bits"}, "masks: expected pyattr.Masks, got str"),
        ({"outputs": np.zeros((10, 1), np.float32)}, r"outputs: expected shape \(200, 1\)"),
        ({"outputs": np.full((200, 1), np.nan, np.float32)}, "outputs: expected finite"),
        ({"p": 0.4}, "p: expected the share of 1s in the masks"),
        ({"p": 1.0}, "p: expected a probability"),
        ({"held_out": 1}, "held_out: expected True"),
        ({"epsilon": 0.0}, "epsilon"),
        ({"clip": -1.0}, "clip"),
    ],
)
def test_wrong_arguments_are_named(change, message):
    function = smooth_function(40)
    masks, outputs = bank(function, 200, 0)
    arguments = {
        "masks": masks,
        "outputs": outputs,
        "attribution": function.best,
        "held_out": True,
    } | change
    with pytest.raises(ValueError, match=message):
        module_function(**arguments)


def test_too_little_for_the_normal_limit_is_refused():
    function = smooth_function(40)
    with pytest.raises(ValueError, match="masks: expected at least 100 rows"):
        pyattr.verify_recorded(*bank(function, 99, 0), function.best, held_out=True)
    few = smooth_function(20)
    with pytest.raises(ValueError, match="masks: expected at least 30 examples"):
        pyattr.verify_recorded(*bank(few, 200, 0), few.best, held_out=True)
    masks, outputs = bank(function, 200, 0)
    with pytest.raises(ValueError, match="attribution: expected n_train = 40"):
        pyattr.verify_recorded(masks, outputs, few.best, held_out=True)


@pytest.mark.parametrize("design", ["complement", "repeated"])
def test_rows_that_are_alike_are_refused(design):
    """Pairs of complements, or the same masks under other seeds, would shift the estimate."""
    function = smooth_function(100, quadratic=0.3)
    masks = pyattr.sample_masks(500, 100, seed=1)
    other = masks.complement() if design == "complement" else masks
    both = pyattr.Masks.concatenate([masks, other])
    outputs = function(both, pyattr.sample_seeds(1000, 2))
    with pytest.raises(ValueError, match=r"masks: expected independent rows.*500 such pairs"):
        pyattr.verify_recorded(both, outputs, function.best, held_out=True)
    # With few examples masks repeat by chance (5 repeats expected here), and are taken.
    few = smooth_function(30)
    again = pyattr.sample_masks(100_000, 30, seed=3)
    assert len(np.unique(again.packed, axis=0)) < 100_000
    outputs = few(again, pyattr.sample_seeds(100_000, 4))
    assert pyattr.verify_recorded(again, outputs, few.best, held_out=True)


def test_the_variance_at_a_gap_is_its_formula():
    """``ζ_1 = B (σ² + B)``, or the measured one in proportion where that is larger and the estimate knows."""
    n, gap = 100, np.array([0.3, 0.3, 0.3])
    sums = RecordedSums(
        n,
        estimate=np.array([0.5, 0.5, 1e-4]),
        residual_variance=np.full(3, 2.0),
        degenerate=np.full(3, 40.0),
        linear=np.array([0.1, 5.0, 5.0]),  # below, above, and above of an estimate that is noise
        kurtosis=np.full(3, 3.0),
    )
    linear = np.array([0.3 * 2.3, 5.0 * 0.3 / 0.5, 0.3 * 2.3])
    expected = (2.0 * 40.0 + 4.0 * (n - 2) * linear) / (n * (n - 1))
    np.testing.assert_allclose(sums.variance_at(gap), expected)
    # The score limits are the gaps at which the estimate is just so many standard errors away.
    interval = sums.interval(Levels(0.02, 0.05))
    for limit, z in (
        (interval.upper, stats.norm.isf(0.05)),
        (interval.lower, stats.norm.isf(0.02)),
    ):
        away = np.abs(limit - sums.estimate) / np.sqrt(sums.variance_at(limit))
        np.testing.assert_allclose(away[limit > 0.0], z, rtol=1e-6)


def test_payments_rest_on_limits_of_var_f_that_hold_for_all_targets_at_once():
    """The upper limit has the level of the lower limits, δ/T; the lower one, which raises the gap, δ."""
    function = smooth_function(40, noise=0.5, n_targets=4)
    masks, outputs = bank(function, 600, 3)
    verdict = pyattr.verify_recorded(masks, outputs, function.best, held_out=True, delta=0.08)
    values = outputs.astype(np.float64)
    centred = (values - values.mean(axis=0)) ** 2
    error = centred.std(axis=0) / np.sqrt(599)
    expected = values.var(axis=0, ddof=1) + stats.t.isf(0.02, 599) * error
    np.testing.assert_allclose(verdict.details["variance_upper"], expected, rtol=1e-3)
