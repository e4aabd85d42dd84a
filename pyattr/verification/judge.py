"""From the outputs of a design to a verdict; no training happens here.

Shared by the verifier that trains itself (`verify`) and the one that was sent the outputs
(`pyattr.protocol`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pyattr.errors import bad_value
from pyattr.masks import Masks
from pyattr.verification.bounded import VARIANCE_SHARE, BoundedRange, cluster_range
from pyattr.verification.bounds import BOUNDS, Interval, Levels
from pyattr.verification.clusters import ClusterDesign, ClusterTerms
from pyattr.verification.conclusion import VARIANCE_FLOOR, Findings, conclude
from pyattr.verification.criterion import Criterion
from pyattr.verification.gap import GapEstimate, estimate_gap
from pyattr.verification.near_normal import t_interval
from pyattr.verification.scores import LinearScores
from pyattr.verification.stars import StarDesign, StarTerms, star_range
from pyattr.verification.tails import measure_tails
from pyattr.verification.verdict import Verdict

__all__ = ["VARIANCE_FLOOR", "Criterion", "Evidence", "find_gap", "judge_gap"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Evidence:
    """Terms of a design with what is needed to bound them.

    Parameters
    ----------
    criterion : Criterion
    bound : str
        One of `BOUNDS`, fit for the design (`Criterion.bound_for`).
    terms : ClusterTerms or StarTerms
    bounded : BoundedRange, optional
        For bounds that need clipped outputs.
    explained : (n_targets,) float64
        Var g.
    levels : Levels
        Of each target's limits.
    observed : ClusterTerms or StarTerms, optional
        Terms as received, whose tails are measured; `terms` if not given.
    """

    criterion: Criterion
    bound: str
    terms: ClusterTerms | StarTerms
    bounded: BoundedRange | None
    explained: Array
    levels: Levels
    observed: ClusterTerms | StarTerms | None = None

    def estimate(self, tolerance: float = 0.0) -> GapEstimate:
        """Limits, if every output has drifted by up to the tolerance."""
        terms, bounded = self.terms, self.bounded
        if tolerance and isinstance(terms, ClusterTerms):
            terms = terms.drifted(tolerance)
            bounded = bounded.drifted(tolerance) if bounded is not None else None
        return estimate_gap(
            terms,
            self.explained,
            self.levels,
            self.bound,
            self.criterion.intercept == "check",
            self.criterion.kappa,
            bounded,
            self.criterion.relative,
        )

    def _in_unit(self, estimate: GapEstimate) -> Interval:
        """The gap in the criterion's unit."""
        return estimate.relative if self.criterion.relative else estimate.weight

    def findings(
        self,
        outputs: npt.NDArray[np.floating],
        *,
        tolerance: float = 0.0,
        clipped: Array | None = None,
        **details: object,
    ) -> Findings:
        """What the evidence says; arguments as for `judge_gap`."""
        estimate = self.estimate()
        gap = self._in_unit(estimate)
        if tolerance > 0.0:
            small, large = (self.estimate(drift) for drift in (-tolerance, tolerance))
            limits = self._in_unit(small).lower, self._in_unit(large).upper
            gap = Interval(gap.estimate, *limits)
            # The larger the gap, the smaller Var f: its limits are those of the other drift.
            squares = estimate.measured_variance
            lower, upper = large.measured_variance.lower, small.measured_variance.upper
            estimate = replace(
                estimate, measured_variance=replace(squares, lower=lower, upper=upper)
            )
        return _findings(self, estimate, gap, outputs, clipped, details)


def judge_gap(
    criterion: Criterion,
    design: ClusterDesign | StarDesign,
    masks: Masks,
    outputs: npt.NDArray[np.floating],
    scores: LinearScores,
    *,
    delta: float | None = None,
    n_corrupted: int = 0,
    tolerance: float = 0.0,
    clipped: Array | None = None,
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
    design : ClusterDesign or StarDesign
    masks : Masks
        The design's masks.
    outputs : (n_evaluations, n_targets) float
    scores : LinearScores
    delta : float, optional
        Share of delta left for the interval; all of it by default.
    n_corrupted : int
        Outputs that may be corrupted, anywhere in [-b, b]; the interval covers the worst of them.
    tolerance : float
        How far every other output may be from the verifier's own, row by row as it suits a liar.
    clipped : (n_targets,) float64, optional
        Share of each target's outputs that were clipped; a target with more than 1% is inconclusive.

    Returns
    -------
    Verdict
        With no count of trainings: the caller knows it.

    References
    ----------
    Berger 1982, "Multiparameter hypothesis testing and acceptance sampling", Technometrics 24.
    """
    levels = criterion.levels(criterion.delta if delta is None else delta, scores.n_targets)
    found = find_gap(
        criterion,
        design,
        masks,
        outputs,
        scores,
        levels,
        n_corrupted=n_corrupted,
        tolerance=tolerance,
        clipped=clipped,
    )
    return conclude(criterion, found)


def find_gap(
    criterion: Criterion,
    design: ClusterDesign | StarDesign,
    masks: Masks,
    outputs: npt.NDArray[np.floating],
    scores: LinearScores,
    levels: Levels,
    *,
    n_corrupted: int = 0,
    tolerance: float = 0.0,
    clipped: Array | None = None,
) -> Findings:
    """What `judge_gap` concludes from, for limits of any level.

    Parameters
    ----------
    criterion, design, masks, outputs, scores, n_corrupted, tolerance, clipped
        As for `judge_gap`.
    levels : Levels
        Of the limits of each target.
    """
    bound = criterion.bound_for(design)
    evidence = _evidence(criterion, bound, design, masks, outputs, scores, levels, n_corrupted)
    if tolerance > 0.0 and not isinstance(design, ClusterDesign):
        raise bad_value("design", "a ClusterDesign where outputs may have drifted", design)
    return evidence.findings(
        outputs, tolerance=tolerance, clipped=clipped, n_corrupted_covered=n_corrupted
    )


def _evidence(
    criterion: Criterion,
    bound: str,
    design: ClusterDesign | StarDesign,
    masks: Masks,
    outputs: npt.NDArray[np.floating],
    scores: LinearScores,
    levels: Levels,
    n_corrupted: int,
) -> Evidence:
    """Terms of the design, after the worst corruption allowed for has been undone."""
    linear, explained = scores.linear(masks), scores.variance(design.p)
    clip = criterion.clip if BOUNDS[bound].needs_clip else None
    bounded: BoundedRange | None = None
    if isinstance(design, StarDesign):
        if n_corrupted:
            raise bad_value("design", "a ClusterDesign where outputs may be corrupted", design)
        stars = StarTerms.of(design, outputs, scores, linear)
        if clip is not None:
            bounded = star_range(design, outputs, linear, scores, clip)
        return Evidence(criterion, bound, stars, bounded, explained, levels)
    terms = observed = ClusterTerms.of(design, outputs, scores, linear)
    if clip is not None:
        bounded = cluster_range(design, outputs, linear, scores, clip)
    if n_corrupted:
        if criterion.clip is None:
            raise bad_value("clip", "a bound of the outputs where some may be corrupted", None)
        terms = terms.worst_case(linear, criterion.clip, n_corrupted)
        bounded = bounded.worst_case(n_corrupted) if bounded is not None else None
    return Evidence(criterion, bound, terms, bounded, explained, levels, observed)


def _findings(
    evidence: Evidence,
    estimate: GapEstimate,
    gap: Interval,
    outputs: npt.NDArray[np.floating],
    clipped: Array | None,
    details: dict[str, object],
) -> Findings:
    """All that the conclusion rests on."""
    criterion, terms = evidence.criterion, evidence.terms
    design, variance = terms.design, estimate.measured_variance
    at_epsilon = criterion.epsilon * (variance.estimate if criterion.relative else 1.0)
    at_epsilon = np.broadcast_to(terms.rho * at_epsilon, variance.estimate.shape)
    observed = terms if evidence.observed is None else evidence.observed
    level = evidence.levels.upper
    tails = measure_tails(observed, evidence.bound, at_epsilon, criterion.kappa, level)
    upper = gap.estimate + tails.widening * (gap.upper - gap.estimate)
    gap = Interval(gap.estimate, gap.lower, np.where(tails.widening > 1.0, upper, gap.upper))
    shape = (
        {"n_leaves": design.n_leaves, "rho": design.rho}
        if isinstance(design, ClusterDesign)
        else {"n_partners": design.n_partners, "noise_rates": design.noise_rates}
    )
    return Findings(
        bound=evidence.bound,
        gap=gap,
        variance=variance,
        mean_square=np.mean(np.square(outputs, dtype=np.float64), axis=0),
        explained=evidence.explained,
        slack=_slack(evidence, variance),
        tails_accept=tails.against_acceptance,
        tails_accuse=tails.against_accusation,
        tails_noticed=tails.noticed,
        tails=tails.what,
        impossible=np.zeros(variance.estimate.shape, dtype=np.bool_),
        clipped=np.zeros(variance.estimate.shape) if clipped is None else clipped,
        unseen=isinstance(design, StarDesign)
        and not BOUNDS[evidence.bound].finite_sample
        and not design.sees_examples,
        delta_split=_delta_split(evidence),
        details={
            "n_clusters": design.n_clusters,
            **shape,
            "excess_kurtosis": terms.kurtosis,
            "variance_parts": estimate.parts,
            "leak": design.leak,
            **details,
        },
    )


def _slack(evidence: Evidence, variance: Interval) -> Array:
    """Most weight above degree 1 in the estimate: odd as far as stated, even as far as measured."""
    terms = evidence.terms
    odd = terms.design.leak.odd * evidence.criterion.nonlinearity * variance.estimate
    if isinstance(terms, ClusterTerms):
        return odd
    # The even weight of r is at most its variance, that of f at most Var f.
    level = evidence.levels
    if BOUNDS[evidence.bound].finite_sample:
        most = variance.upper
    else:
        most = t_interval(terms.residual_square, Levels(level.lower, level.lower)).upper
    slack: Array = odd + terms.design.leak.even * most
    return slack


def _delta_split(evidence: Evidence) -> dict[str, float]:
    """How delta is divided, in words."""
    levels, criterion = evidence.levels, evidence.criterion
    split = {
        "upper limit of each target": levels.upper,
        "lower limit of each target": levels.lower,
    }
    if not criterion.relative:
        return split
    if BOUNDS[evidence.bound].needs_clip:
        split["of each, for Var f"] = VARIANCE_SHARE
    elif BOUNDS[evidence.bound].finite_sample:
        split["of the upper limit, for Var f (implied by the gap's)"] = 0.0
        split["of the lower limit, for Var f (Student t), on top"] = levels.lower
    else:
        split["limits of Var f (Student t), combined with the gap's"] = levels.upper
    return split
