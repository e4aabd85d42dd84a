"""From the outputs of a cluster design to a verdict; no training happens here.

Shared by the verifier that trains itself (`verify`) and the one that was sent the outputs
(`pyattr.protocol`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyattr.errors import bad_value, check_positive, check_probability
from pyattr.masks import Masks
from pyattr.verification.bounds import BOUNDS, Interval, Levels
from pyattr.verification.clusters import ClusterDesign, ClusterTerms, highest_rho
from pyattr.verification.gap import GapEstimate, estimate_gap
from pyattr.verification.scores import LinearScores
from pyattr.verification.verdict import Outcome, Verdict, decide, overall

__all__ = ["Criterion", "gap_reason", "judge_gap"]

Array = npt.NDArray[np.float64]

VARIANCE_FLOOR = 1e-12  # relative to the mean square: what float32 outputs can resolve
TINY = 1e-300
ASSUMPTION = {
    "chi2": "odd residuals are near normal",
    "t": "means over clusters are near normal",
    "moment": "the fourth moment of odd residuals is as bounded as stated",
}


@dataclass(frozen=True)
class Criterion:
    """What is to be certified, and on which assumptions.

    Parameters
    ----------
    epsilon : float
        Largest acceptable gap; relative to Var f unless `relative` is false.
    delta : float
        Probability of a false certificate, over all targets.
    p : float
        Probability that an example is in a mask.
    bound : {"chi2", "t", "moment"}
        Confidence bound of the gap method.
    relative : bool
        Whether epsilon is a share of Var f.
    nonlinearity : float
        Share of Var f that f may have at odd degrees above 1. Acceptance does not rest on it: it is
        taken off the lower limit before anyone is accused.
    intercept : {"refit", "check"}
        Leave the intercept to be refitted, or bound its error too.
    clip : float, optional
        b: f is clipped to [-b, b] by definition.
    simultaneous : bool
        Let the upper limits of all targets hold at once, at delta / n_targets each. Overall
        acceptance does not need it (see `judge_gap`).
    kappa : float
        Of the moment bound: what ``E o⁴ / (E o²)²`` is stated not to exceed; 3 for linear o. A target
        whose sample exceeds it is inconclusive.

    Raises
    ------
    ValueError
        If a value is out of its range.
    """

    epsilon: float = 0.05
    delta: float = 0.05
    p: float = 0.5
    bound: str = "chi2"
    relative: bool = True
    nonlinearity: float = 0.02
    intercept: str = "refit"
    clip: float | None = None
    simultaneous: bool = False
    kappa: float = 4.0

    def __post_init__(self) -> None:
        check_positive("epsilon", self.epsilon)
        check_probability("delta", self.delta)
        check_probability("p", self.p)
        if self.bound not in BOUNDS:
            raise bad_value("bound", f"one of {', '.join(BOUNDS)}", repr(self.bound))
        if not 0.0 <= self.nonlinearity < 1.0:
            raise bad_value("nonlinearity", "a share of Var f in [0, 1)", self.nonlinearity)
        if self.intercept not in ("refit", "check"):
            raise bad_value("intercept", "'refit' or 'check'", repr(self.intercept))
        if self.clip is not None:
            check_positive("clip", self.clip)
        if self.bound == "moment" and highest_rho(self.p) < 1.0:
            raise bad_value("bound", f"'chi2' or 't' for p = {self.p}", "'moment'")
        if not self.kappa >= 1.0:
            raise bad_value("kappa", "a number of at least 1", self.kappa)

    def levels(self, delta: float, n_targets: int) -> Levels:
        """Levels of each target's limits when delta is for all of them (see `judge_gap`)."""
        return Levels(delta / n_targets, delta / (n_targets if self.simultaneous else 1))


def judge_gap(
    criterion: Criterion,
    design: ClusterDesign,
    masks: Masks,
    outputs: npt.NDArray[np.floating],
    scores: LinearScores,
    *,
    delta: float | None = None,
    levels: Levels | None = None,
    n_corrupted: int = 0,
    tolerance: float = 0.0,
) -> Verdict:
    """Decide by gap estimation.

    *Several targets.* Overall acceptance claims that every target's gap is at most ε, and asks that
    every upper limit is. If some target's gap is larger, acceptance needs *that* target's limit to
    fail: probability δ, however many targets there are (the intersection-union principle; the limits
    may depend on each other in any way). So upper limits have level δ each. Overall ABORT claims that
    some gap is above ε and accuses if any lower limit is: there δ is divided by the number of targets.

    Parameters
    ----------
    criterion : Criterion
    design : ClusterDesign
    masks : Masks
        The design's masks.
    outputs : (n_evaluations, n_targets) float
    scores : LinearScores
    delta : float, optional
        Share of delta left for the interval; all of it by default.
    levels : Levels, optional
        Of each target's limits, instead of those that follow from delta.
    n_corrupted : int
        Outputs that may be corrupted, anywhere in [-b, b]; the interval covers the worst of them.
    tolerance : float
        How far every other output may be from the verifier's own, row by row as it suits a liar.

    Returns
    -------
    Verdict
        With no count of trainings: the caller knows it.

    References
    ----------
    Berger 1982, "Multiparameter hypothesis testing and acceptance sampling", Technometrics 24.
    """
    share = criterion.delta if delta is None else delta
    if levels is None:
        levels = criterion.levels(share, scores.n_targets)
    linear, explained = scores.linear(masks), scores.variance(design.p)
    terms = ClusterTerms.of(design, outputs, scores, linear)
    if n_corrupted:
        if criterion.clip is None:
            raise bad_value("clip", "a bound of the outputs where some may be corrupted", None)
        terms = terms.worst_case(linear, criterion.clip, n_corrupted)
    estimate = _estimate(criterion, terms, explained, levels)
    gap = _gap(criterion, estimate)
    if tolerance > 0.0:
        largest = _gap(criterion, _estimate(criterion, terms.drifted(tolerance), explained, levels))
        least = _gap(criterion, _estimate(criterion, terms.drifted(-tolerance), explained, levels))
        gap = Interval(gap.estimate, least.lower, largest.upper)
    floor = VARIANCE_FLOOR * np.mean(np.square(outputs, dtype=np.float64), axis=0)
    variance = np.maximum(estimate.variance.estimate, floor + TINY)
    unit = variance if criterion.relative else np.ones_like(variance)
    slack = criterion.nonlinearity * design.rho**2 * variance / unit
    # Scores that explain no more than ε could be replaced by zeros: accepting them says nothing.
    largest_unit = estimate.variance.upper if criterion.relative else unit
    vacuous = (estimate.variance.lower <= floor) | (explained <= criterion.epsilon * largest_unit)
    doubtful = (criterion.bound == "moment") & (terms.kurtosis + 3.0 > criterion.kappa)
    outcomes = decide(gap, criterion.epsilon, slack, vacuous | doubtful)
    return Verdict(
        outcome=overall(outcomes),
        reason=gap_reason(outcomes, vacuous, doubtful, gap, criterion),
        method="gap",
        bound=criterion.bound,
        epsilon=criterion.epsilon,
        delta=criterion.delta,
        gap=gap.estimate,
        gap_lower=gap.lower,
        gap_upper=gap.upper,
        outcomes=tuple(outcomes),
        relative=criterion.relative,
        delta_split={
            "upper limit of each target": levels.upper,
            "lower limit of each target": levels.lower,
        },
        details={
            "n_clusters": design.n_clusters,
            "n_leaves": design.n_leaves,
            "rho": design.rho,
            "variance": estimate.variance.estimate,
            "explained": explained,
            "epsilon_share_of_linear": criterion.epsilon * unit / np.maximum(explained, TINY),
            "excess_kurtosis": terms.kurtosis,
            "n_corrupted_covered": n_corrupted,
            "nonlinearity": criterion.nonlinearity,
            "slack": slack,
            "vacuous": vacuous,
            "doubtful": doubtful,
        },
    )


def _estimate(
    criterion: Criterion, terms: ClusterTerms, explained: Array, levels: Levels
) -> GapEstimate:
    """`estimate_gap` as the criterion asks for it."""
    checked = criterion.intercept == "check"
    return estimate_gap(terms, explained, levels, criterion.bound, checked, criterion.kappa)


def _gap(criterion: Criterion, estimate: GapEstimate) -> Interval:
    """The gap in the criterion's unit."""
    return estimate.relative if criterion.relative else estimate.weight


def gap_reason(
    outcomes: list[Outcome],
    vacuous: npt.NDArray[np.bool_],
    doubtful: npt.NDArray[np.bool_],
    gap: Interval,
    criterion: Criterion,
) -> str:
    """Say in a sentence why `judge_gap` decided as it did."""
    epsilon, n = criterion.epsilon, len(outcomes)
    outcome = overall(outcomes)
    if outcome is Outcome.ACCEPT:
        return (
            f"the upper limit of the gap is at most ε = {epsilon:g} for all {n} targets, if "
            f"{ASSUMPTION[criterion.bound]}"
        )
    if outcome is Outcome.ABORT:
        worst = max(range(n), key=lambda t: gap.lower[t] if outcomes[t] is Outcome.ABORT else -1.0)
        return (
            f"the lower limit of the gap, {gap.lower[worst]:.3g} at target {worst}, is above ε = "
            f"{epsilon:g} by more than the non-linearity allowed for "
            f"({outcomes.count(Outcome.ABORT)} of {n} targets)"
        )
    if vacuous.any():
        first = int(np.argmax(vacuous))
        return (
            f"target {first}: the output hardly varies, or the scores explain no more than ε of it, so "
            f"zeros would pass too ({int(vacuous.sum())} of {n} targets)"
        )
    if doubtful.any():
        first = int(np.argmax(doubtful))
        return f"target {first}: odd residuals have heavier tails than kappa = {criterion.kappa:g} covers"
    worst = int(np.argmax(gap.upper))
    return (
        f"ε = {epsilon:g} lies between the limits of the gap, {gap.lower[worst]:.3g} and "
        f"{gap.upper[worst]:.3g} at target {worst}"
    )
