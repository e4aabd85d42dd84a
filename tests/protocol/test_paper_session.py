"""Algorithm 1 at its full planned size, on the cheapest function there is.

Majority of 5 of 16 bits, with values ±1: Var f = 1, B_1 = 45/64 = 0.703, B_3 + B_5 = 0.297. With ε = 0.69
the plan is 8.4 million trainings of the prover; halved scores have a gap of 0.18 and are rightly
accepted, so the cheats are others. δ = 0.05; the estimates are accurate to ε/4 by Hoeffding's
inequality, many standard deviations, so no outcome below is in doubt.
"""

from __future__ import annotations

import numpy as np
import pytest

from pyattr import Attribution
from pyattr.errors import Rejected
from pyattr.protocol import Prover, Verifier, run
from pyattr.protocol.challenges import chosen_rows, row_blocks
from pyattr.protocol.checks import SecretChecks
from pyattr.protocol.method import Asked
from pyattr.protocol.paper_session import PaperMethod
from pyattr.protocol.randomness import VerifierSecrets, secret_of
from pyattr.protocol.terms import Terms
from pyattr.verification.bounds import hoeffding_radius
from pyattr.verification.evaluate import Evaluator
from pyattr.verification.judge import Criterion
from pyattr.verification.residual import (
    ResidualDesign,
    ResidualSums,
    output_influence,
    residual_radius,
)
from pyattr.verification.scores import LinearScores
from pyattr.verification.spot_check import n_checks
from pyattr.verification.verdict import Outcome

EPSILON = 0.69
SEED = 5  # the pilot's mean is 0 then, which makes the plan as small as it can be
MAJORITY = np.array([[1.0 if (b & 31).bit_count() >= 3 else -1.0] for b in range(256)], np.float32)


def majority(masks, seeds):
    return MAJORITY[masks.packed[:, 0]]


def scores(factor=1.0):
    values = np.zeros((16, 1), np.float32)
    values[:5] = 0.75 * factor
    return Attribution(scores=values, intercept=[-2.5 * 0.75 * factor])


TERMS = {
    "n_train": 16,
    "n_targets": 1,
    "method": "paper",
    "epsilon": EPSILON,
    "clip": 1.0,
    "budget": 2**27,
    "secret": secret_of(SEED),
}
ASKED = Asked(12345, SecretChecks(bytes(32), "00" * 32))


def method():
    own = VerifierSecrets.of(secret_of(SEED))
    terms = Terms(Criterion(epsilon=EPSILON), 16, 1, own.pilot, own.fresh, 2**27, 0.0, 0.2)
    evaluate = Evaluator(majority, 1, clip=1.0)
    started = PaperMethod(evaluate, terms)
    return started, started.choose_design()


@pytest.fixture(scope="module")
def outputs():
    _, design = method()
    assert design.n_evaluations < 2e7
    true = np.empty((design.n_evaluations, 1), np.float32)
    for start, masks, seeds in row_blocks(design, ASKED.seed, 16):
        true[start : start + len(masks)] = majority(masks, seeds)
    true.flags.writeable = False
    return true


def test_honest_is_accepted_over_a_whole_session():
    prover = Prover(majority, scores(), max_trainings=2**24)
    verdict = run(prover, Verifier(majority, **TERMS))
    assert verdict.outcome is prover.outcome is Outcome.ACCEPT
    assert verdict.n_prover_retrained == prover.n_retrained > 8e6
    details = verdict.details
    assert verdict.n_retrained == 32 + details["n_checked"] + details["n_fresh"]
    # The point of the interaction: the verifier trains 250 times less.
    assert verdict.n_retrained < verdict.n_prover_retrained / 250
    covered = details["n_corrupted_covered"]
    assert details["n_checked"] == n_checks(prover.n_retrained, covered + 1, 0.01)
    # What the uncaught may do is within ε/8.
    uncaught = covered * details["output_influence"]
    assert 0 < uncaught <= EPSILON * details["variance"][0] / 8
    # And is part of the interval.
    alpha = 0.04 / 5
    design = ResidualDesign(details["n_pairs"], details["rho"])
    own = residual_radius(design, 1.0, alpha) + hoeffding_radius(
        details["n_fresh"], 2.875**2 / 2, alpha
    )
    radius = (verdict.gap_upper - verdict.gap) * details["variance"]
    assert radius[0] == pytest.approx(own + uncaught)


@pytest.mark.parametrize("factor", [0.0, -1.0, 2.5])
def test_wrong_scores_are_aborted(outputs, factor):
    verdict = method()[0].judge(LinearScores.of(scores(factor)), outputs, ASKED)
    assert verdict.outcome is Outcome.ABORT
    assert "above ε/2" in verdict.reason


def test_outputs_from_the_scores_are_caught(outputs):
    # ±1 where g is positive or negative is f itself here: answer from the rounded prediction of three
    # of the five scores instead. The residual looks larger than it is, and anything passes.
    _, design = method()
    cheap = outputs.copy()
    n = 2_000_000
    for start, masks, _ in row_blocks(design, ASKED.seed, 16):
        if start >= n:
            break
        votes = np.bitwise_count(masks.packed[:, :1] & 7)
        cheap[start : start + len(masks)] = np.where(votes >= 2, 1.0, -1.0)
    with pytest.raises(
        Rejected, match=r"spot check: observed .* outputs differ, allowed equal bytes"
    ):
        method()[0].judge(LinearScores.of(scores()), cheap, ASKED)


def test_more_corruption_than_the_verdict_covers_is_caught(outputs):
    # The rate at which exactly w + 1 are caught is tested with the gap method; here twice as many as
    # are covered are missed with probability 1e-4.
    started, design = method()
    influence = output_influence(design, 1.0)
    n_corrupted = 2 * int(EPSILON / 8 / influence)
    rows = np.random.default_rng(0).choice(len(outputs), n_corrupted, replace=False)
    changed = outputs.copy()
    changed[rows] *= -1
    with pytest.raises(Rejected, match="spot check"):
        started.judge(LinearScores.of(scores()), changed, ASKED)


def test_below_the_plan_the_verdict_is_inconclusive():
    for budget in (None, 8, 10_000):
        terms = TERMS | {"budget": budget}
        for factor in (1.0, 0.0):
            verdict = run(Prover(majority, scores(factor)), Verifier(majority, **terms))
            assert verdict.outcome is Outcome.INCONCLUSIVE
            assert verdict.details["n_planned"] > 8e6
            assert verdict.n_prover_retrained <= (budget or 96)
            # Nothing is spent on a verdict that cannot be reached.
            assert verdict.n_retrained == 32 + 2


def test_constant_outputs_are_inconclusive():
    def constant(masks, seeds):
        return np.full((len(masks), 1), 0.5, np.float32)

    verifier = Verifier(constant, **TERMS | {"budget": 96})
    verdict = run(Prover(constant, scores()), verifier)
    assert verdict.outcome is Outcome.INCONCLUSIVE


def residual(design, values):
    sums = ResidualSums(design, np.zeros(1))
    sums.add(values, 0)
    return sums.residual()[0]


@pytest.mark.parametrize("rho", [0.05, 0.2, 1.0 / 3.0])
def test_no_corruption_moves_the_estimate_by_more_than_its_influence(rho):
    rng = np.random.default_rng(3)
    design = ResidualDesign(400, rho)
    for n_corrupted in (1, 5, 60, 400):
        for _ in range(40):
            # With and without a mean, so that the fit is inside its cone and on its edges in turn.
            true = rng.uniform(-1, 1, (design.n_evaluations, 1)) + rng.normal()
            true = np.clip(true, -1, 1) if rng.random() < 0.5 else np.sign(true)
            rows = rng.choice(design.n_evaluations, n_corrupted, replace=False)
            corrupted = true.copy()
            corrupted[rows] = rng.choice([-1.0, 0.0, 1.0], (n_corrupted, 1))
            moved = abs(residual(design, corrupted) - residual(design, true))
            assert moved <= n_corrupted * output_influence(design, 1.0) * (1 + 1e-9)


@pytest.mark.parametrize("rho", [0.05, 0.2, 1.0 / 3.0])
def test_the_influence_of_an_output_is_nearly_reached(rho):
    # Inside the cone, B_1 moves by 2/ρ times the value at ρ; the bound says 1 + 2.55/ρ.
    design = ResidualDesign(40_000, rho)
    true = np.ones((3, design.n_pairs, 2))
    for k in range(3):
        level = 0.2 + 0.4 * k * rho + 0.3 * (k * rho) ** 2
        true[k, round((1 + level) / 2 * design.n_pairs) :, 1] = -1.0
    corrupted = true.copy()
    corrupted[1, :20, 0] = -1.0
    moved = residual(design, corrupted.reshape(-1, 1)) - residual(design, true.reshape(-1, 1))
    assert 0.6 < moved / (20 * output_influence(design, 1.0)) < 1.0


def test_chosen_rows_are_rows_of_a_design_in_blocks():
    design = ResidualDesign(30_000, 0.1)  # 180,000 rows: three blocks
    rows = np.array([0, 1, 65_535, 65_536, 131_072, 179_999])
    masks, seeds = chosen_rows(design, 4, 20, rows)
    blocks = list(row_blocks(design, 4, 20))
    assert [start for start, _, _ in blocks] == [0, 65_536, 131_072]
    for j, row in enumerate(rows):
        start, block, block_seeds = blocks[row // 65_536]
        assert masks[j] == block[int(row - start)]
        assert seeds[j] == block_seeds[row - start]
