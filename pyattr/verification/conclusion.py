"""From limits of the gap to a verdict: what is vacuous, what is doubtful, and a reason in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pyattr.verification.bounds import BOUNDS, Interval
from pyattr.verification.criterion import Criterion
from pyattr.verification.verdict import Outcome, Verdict, decide, overall

__all__ = ["CLIPPED_SHARE", "VARIANCE_FLOOR", "Findings", "conclude"]

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

VARIANCE_FLOOR = 1e-12  # relative to the mean square: what float32 outputs can resolve
CLIPPED_SHARE = 0.01  # of a target's outputs: above it, the clipped f is another function
TINY = 1e-300


@dataclass(frozen=True)
class Findings:
    """What was measured, for every target.

    Parameters
    ----------
    bound : str
        The bound that the limits rest on.
    gap : Interval
        In the criterion's unit.
    variance : Interval
        Student t limits of Var f, in squared output units.
    mean_square : (n_targets,) float64
        Of the outputs.
    explained : (n_targets,) float64
        Var g.
    slack : (n_targets,) float64
        Most that the lower limit may contain beyond the gap, in squared output units.
    tails_accept, tails_accuse, tails_noticed : (n_targets,) bool
        See `pyattr.verification.tails`.
    tails : str
        What was too large.
    impossible : (n_targets,) bool
        Estimates so far below 0 that no gap can have led to them.
    clipped : (n_targets,) float64
        Share of the outputs that were clipped.
    unseen : bool
        Whether a single example's score may go unseen in this design.
    delta_split, details : mapping
        For the verdict.
    """

    bound: str
    gap: Interval
    variance: Interval
    mean_square: Array
    explained: Array
    slack: Array
    tails_accept: Flags
    tails_accuse: Flags
    tails_noticed: Flags
    tails: str
    impossible: Flags
    clipped: Array
    delta_split: Mapping[str, float]
    details: Mapping[str, Any] = field(default_factory=dict)
    unseen: bool = False


def conclude(criterion: Criterion, found: Findings) -> Verdict:
    """Decide every target, and all of them together.

    Parameters
    ----------
    criterion : Criterion
    found : Findings

    Returns
    -------
    Verdict
        With no count of trainings: the caller knows it.
    """
    floor = VARIANCE_FLOOR * found.mean_square
    variance = np.maximum(found.variance.estimate, floor + TINY)
    unit = variance if criterion.relative else np.ones_like(variance)
    # Scores that explain no more than ε are as good as zeros: accepting them says nothing.
    largest_unit = found.variance.upper if criterion.relative else unit
    constant = found.variance.estimate <= floor
    unknown = ~constant & (found.variance.lower <= floor)
    weak = ~(constant | unknown) & (found.explained <= criterion.epsilon * largest_unit)
    clipped = found.clipped > CLIPPED_SHARE
    outcomes = decide(
        found.gap,
        criterion.epsilon,
        found.slack / unit,
        constant | unknown | clipped | found.impossible,
    )
    for target, outcome in enumerate(outcomes):
        doubtful = found.unseen or (weak | found.tails_accept)[target]
        barred = (outcome is Outcome.ACCEPT and doubtful) or (
            outcome is Outcome.ABORT and found.tails_accuse[target]
        )
        outcomes[target] = Outcome.INCONCLUSIVE if barred else outcome
    doubts = {
        "the output hardly varies": constant,
        "the budget is too small for any decision: so few trainings do not tell how much the outputs "
        "vary": unknown,
        "examples are in, or out of, too few stars for a single wrong score to be seen: more stars are "
        "needed": (found.gap.upper <= criterion.epsilon) & found.unseen,
        "scores that explain no more than ε say too little to be accepted at it": weak
        & (found.gap.upper <= criterion.epsilon),
        f"more than {CLIPPED_SHARE:.0%} of the outputs were clipped: the clipped f is another function, "
        "a larger clip is needed": clipped,
        "the estimate is further below 0 than chance allows: the rows were used to fit the scores, or "
        "were not drawn as stated": found.impossible,
        f"odd residuals have {found.tails}, which bound {found.bound!r} does not cover": (
            found.tails_accept & (found.gap.upper <= criterion.epsilon)
        )
        | (found.tails_accuse & (found.gap.lower - found.slack / unit > criterion.epsilon)),
    }
    warnings = _warnings(found, outcomes)
    return Verdict(
        outcome=overall(outcomes),
        reason=_reason(criterion, found, outcomes, doubts, warnings),
        method="gap",
        bound=found.bound,
        epsilon=criterion.epsilon,
        delta=criterion.delta,
        gap=found.gap.estimate,
        gap_lower=found.gap.lower,
        gap_upper=found.gap.upper,
        outcomes=tuple(outcomes),
        relative=criterion.relative,
        p=criterion.p,
        delta_split=found.delta_split,
        details={
            "variance": found.variance.estimate,
            "variance_upper": found.variance.upper,
            "slack": found.slack / unit,
            "explained": found.explained,
            "epsilon_share_of_linear": criterion.epsilon * unit / np.maximum(found.explained, TINY),
            "nonlinearity": criterion.nonlinearity,
            "assumption": BOUNDS[found.bound].assumption,
            "finite_sample": BOUNDS[found.bound].finite_sample,
            "warnings": warnings,
            # Whatever the limits become: more trainings do not make these targets acceptable.
            "unacceptable": constant | weak | clipped | found.impossible,
            **found.details,
        },
    )


def _warnings(found: Findings, outcomes: list[Outcome]) -> tuple[str, ...]:
    """What does not change an outcome and should be known."""
    accepted = np.array([outcome is Outcome.ACCEPT for outcome in outcomes])
    noticed = accepted & found.tails_noticed
    if not noticed.any():
        return ()
    return (
        f"odd residuals have {found.tails} at {int(noticed.sum())} of {len(outcomes)} accepted "
        "targets: too little to matter at ε, but limits below ε may be short",
    )


def _reason(
    criterion: Criterion,
    found: Findings,
    outcomes: list[Outcome],
    doubts: Mapping[str, Flags],
    warnings: tuple[str, ...],
) -> str:
    """Say in a sentence why the outcome is what it is."""
    epsilon, n, gap = criterion.epsilon, len(outcomes), found.gap
    outcome = overall(outcomes)
    if outcome is Outcome.ACCEPT:
        noted = f" ({'; '.join(warnings)})" if warnings else ""
        which = "the only target" if n == 1 else f"all {n} targets"
        return (
            f"the upper limit of the gap is at most ε = {epsilon:g} for {which}, if "
            f"{BOUNDS[found.bound].assumption}{noted}"
        )
    if outcome is Outcome.ABORT:
        allowed = " by more than the non-linearity allowed for" if criterion.nonlinearity else ""
        worst = max(range(n), key=lambda t: gap.lower[t] if outcomes[t] is Outcome.ABORT else -1.0)
        return (
            f"the lower limit of the gap, {gap.lower[worst]:.3g} at target {worst}, is above ε = "
            f"{epsilon:g}{allowed} "
            f"({outcomes.count(Outcome.ABORT)} of {n} targets)"
        )
    for what, where in doubts.items():
        if where.any():
            return f"target {int(np.argmax(where))}: {what} ({int(where.sum())} of {n} targets)"
    worst = int(np.argmax(gap.upper))
    if np.isinf(gap.upper[worst]):
        return (
            f"the budget is too small for any decision by bound {found.bound!r}: no upper limit of the gap "
            f"exists at target {worst}"
        )
    tails = f", whose odd residuals have {found.tails}" if found.tails_noticed[worst] else ""
    return (
        f"ε = {epsilon:g} lies between the limits of the gap, {gap.lower[worst]:.3g} and "
        f"{gap.upper[worst]:.3g} at target {worst}{tails}"
    )
