"""The protocols of Karchmer, Pawelczyk, Neel 2025, with every constant spelled out.

Holes of the published text that are closed here: g has its intercept; f is centred at a pilot mean
before products are taken; no mask is used in two pairs; every evaluation has a seed of its own; the
mean squared error always comes from the verifier's own trainings on fresh subsets.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pyattr.errors import bad_value
from pyattr.masks import sample_masks, sample_seeds
from pyattr.verification.bounds import hoeffding_radius
from pyattr.verification.evaluate import Evaluator
from pyattr.verification.judge import VARIANCE_FLOOR, Criterion
from pyattr.verification.residual import (
    N_MEANS,
    PaperPlan,
    ResidualSums,
    plan_paper,
    residual_radius,
)
from pyattr.verification.scores import LinearScores
from pyattr.verification.verdict import Outcome, Verdict, overall

__all__ = ["Frame", "fresh_error", "pilot_frame", "plan_for", "verify_paper"]

Array = npt.NDArray[np.float64]

PILOT = 32
# The plan runs to millions of trainings on a real model; unless asked, no more than this.
DEFAULT_BUDGET = 96
CLIP_MARGIN = 1.25
# The plan is made for a variance this much smaller than the pilot's, which is off by a quarter or so.
PILOT_MARGIN = 0.7


@dataclass(frozen=True)
class Frame:
    """Where f lies: fixed before the sample that the estimates come from.

    Parameters
    ----------
    centre, variance : (n_targets,) float64
        Pilot mean, subtracted before products are taken, and pilot variance.
    clip : float
        b: f is clipped to [-b, b].
    """

    centre: Array
    variance: Array
    clip: float

    @property
    def half_width(self) -> float:
        """Bound of ``|f - centre|``."""
        return self.clip + float(np.abs(self.centre).max())


def pilot_frame(evaluate: Evaluator, scores: LinearScores, p: float, seed: int) -> Frame:
    """Centre and bound of f from a pilot of 32 trainings.

    Where no clip was given it is set to 1.25 times the largest pilot output: from then on f is, by
    definition, clipped there.
    """
    mask_seed, run_seed = (int(s) for s in sample_seeds(2, seed))
    masks = sample_masks(PILOT, scores.n_train, p, mask_seed)
    outputs = evaluate(masks, sample_seeds(PILOT, run_seed)).astype(np.float64)
    if evaluate.clip is None:
        evaluate.clip = CLIP_MARGIN * float(np.abs(outputs).max()) or 1.0
    return Frame(outputs.mean(axis=0), outputs.var(axis=0, ddof=1), evaluate.clip)


def error_width(scores: LinearScores, clip: float) -> float:
    """Bound of ``|f - g|`` over all masks and targets."""
    highest = scores.intercept + np.maximum(scores.scores, 0.0).sum(axis=0, dtype=np.float64)
    lowest = scores.intercept + np.minimum(scores.scores, 0.0).sum(axis=0, dtype=np.float64)
    return clip + float(max(highest.max(), -lowest.min(), 0.0))


def plan_for(criterion: Criterion, scores: LinearScores, frame: Frame, delta: float) -> PaperPlan:
    """Sample sizes for a criterion whose scale is known from a pilot."""
    # A constant target leaves nothing to be relative to: the plan is then out of every budget's reach.
    smallest = max(float(frame.variance.min()), VARIANCE_FLOOR * frame.half_width**2)
    unit = PILOT_MARGIN * smallest if criterion.relative else 1.0
    alpha = delta / (N_MEANS * scores.n_targets)
    width = error_width(scores, frame.clip)
    return plan_paper(criterion.epsilon * unit, alpha, frame.half_width, width, criterion.p)


def fit_budget(plan: PaperPlan, budget: int) -> PaperPlan:
    """The plan itself if the budget covers it, else its proportions at the size of the budget."""
    if plan.n_trainings <= budget:
        return plan
    n_pairs = max(1, min(plan.design.n_pairs, budget * 3 // 4 // 6))
    n_fresh = max(2, min(plan.n_fresh, budget - 6 * n_pairs))
    return PaperPlan(replace(plan.design, n_pairs=n_pairs), n_fresh)


def fresh_error(
    evaluate: Evaluator, scores: LinearScores, p: float, seed: int, n_fresh: int
) -> Array:
    """Mean squared error of g on fresh subsets, (n_targets,) float64."""
    mask_seed, run_seed = (int(s) for s in sample_seeds(2, seed))
    total = np.zeros(scores.n_targets)
    for start in range(0, n_fresh, evaluate.block):
        n = min(evaluate.block, n_fresh - start)
        masks = sample_masks(n, scores.n_train, p, mask_seed, first_row=start)
        outputs = evaluate(masks, sample_seeds(n, run_seed, first_row=start))
        total += np.sum((outputs - scores.predict(masks)) ** 2, axis=0)
    return total / n_fresh


def verify_paper(
    evaluate: Evaluator, scores: LinearScores, criterion: Criterion, seed: int, budget: int | None
) -> Verdict:
    """The non-interactive protocol: the verifier trains everything itself.

    Parameters
    ----------
    evaluate : Evaluator
    scores : LinearScores
    criterion : Criterion
    seed : int
    budget : int or None
        Most trainings; where it is below the plan the verdict is INCONCLUSIVE.
    """
    budget = DEFAULT_BUDGET if budget is None else budget
    if budget < PILOT + 8:
        raise bad_value(
            "budget", f"at least {PILOT + 8} trainings (pilot and one pair a rate)", budget
        )
    pilot_seed, main_seed, fresh_seed = (int(s) for s in sample_seeds(3, seed))
    frame = pilot_frame(evaluate, scores, criterion.p, pilot_seed)
    plan = plan_for(criterion, scores, frame, criterion.delta)
    used = fit_budget(plan, budget - PILOT)
    evaluate.n_planned = PILOT + used.n_trainings
    sums = ResidualSums(used.design, frame.centre)
    for start in range(0, used.design.n_evaluations, evaluate.block):
        stop = min(start + evaluate.block, used.design.n_evaluations)
        masks, seeds = used.design.draw(main_seed, scores.n_train, start, stop)
        sums.add(evaluate(masks, seeds), start)
    error = fresh_error(evaluate, scores, criterion.p, fresh_seed, used.n_fresh)
    return judge_paper(
        criterion,
        sums,
        error,
        used.n_fresh,
        frame.half_width,
        error_width(scores, frame.clip),
        n_planned=PILOT + plan.n_trainings,
    )


def judge_paper(
    criterion: Criterion,
    sums: ResidualSums,
    error: Array,
    n_fresh: int,
    half_width: float,
    error_width: float,
    *,
    n_planned: int,
    delta: float | None = None,
    corruption: float = 0.0,
) -> Verdict:
    """Decide by ``MSE ≤ B̂_{≥2} + ε/2``, if both estimates are as accurate as that rule needs.

    Parameters
    ----------
    criterion : Criterion
    sums : ResidualSums
        Of all pairs.
    error : (n_targets,) float64
        Mean squared error of g on fresh subsets.
    n_fresh : int
        Number of those subsets.
    half_width, error_width : float
        Bounds of ``|f - centre|`` and ``|f - g|``.
    n_planned : int
        Trainings that the plan asks for.
    delta : float, optional
        Share of delta left for the five means.
    corruption : float
        How far undetected corruption may have moved B̂_{≥2}.

    Returns
    -------
    Verdict

    References
    ----------
    Karchmer, Pawelczyk, Neel 2025, Algorithm 1, last step.
    """
    n_targets = error.size
    share = criterion.delta if delta is None else delta
    alpha = share / (N_MEANS * n_targets)
    variance = np.maximum(sums.variance(), VARIANCE_FLOOR * half_width**2)
    unit = variance if criterion.relative else np.ones_like(variance)
    residual_error = residual_radius(sums.design, half_width, alpha) + corruption
    fresh_error = hoeffding_radius(n_fresh, error_width**2 / 2.0, alpha)
    difference = (error - sums.residual()) / unit
    radius = (residual_error + fresh_error) / unit
    accurate = np.maximum(residual_error, fresh_error) <= criterion.epsilon * unit / 4.0
    passed = difference <= criterion.epsilon / 2.0
    outcomes = [
        Outcome.INCONCLUSIVE if not fine else (Outcome.ACCEPT if good else Outcome.ABORT)
        for fine, good in zip(accurate, passed, strict=True)
    ]
    return Verdict(
        outcome=overall(outcomes),
        reason=_paper_reason(outcomes, difference, radius, n_planned),
        method="paper",
        bound="hoeffding",
        epsilon=criterion.epsilon,
        delta=criterion.delta,
        gap=difference,
        gap_lower=np.maximum(difference - radius, 0.0),
        gap_upper=difference + radius,
        outcomes=tuple(outcomes),
        relative=criterion.relative,
        delta_split={"targets": n_targets, "each of five means": alpha},
        details={
            "n_pairs": sums.design.n_pairs,
            "n_fresh": n_fresh,
            "n_planned": n_planned,
            "rho": sums.design.rho,
            "residual": sums.residual(),
            "error": error,
            "variance": variance,
        },
    )


def _paper_reason(outcomes: list[Outcome], difference: Array, radius: Array, n_planned: int) -> str:
    """Say in a sentence why `judge_paper` decided as it did."""
    worst = int(np.argmax(difference))
    figure = f"MSE - B̂_≥2 = {difference[worst]:.3g} ± {radius[worst]:.3g} at target {worst}"
    outcome = overall(outcomes)
    if outcome is Outcome.ACCEPT:
        return f"{figure}, within ε/2 for all {len(outcomes)} targets"
    if outcome is Outcome.ABORT:
        return f"{figure}, above ε/2 ({outcomes.count(Outcome.ABORT)} of {len(outcomes)} targets)"
    return f"{figure}: too wide to decide; the plan asks for {n_planned:,} trainings"
