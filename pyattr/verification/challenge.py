"""Which challenge a verifier sends: more trainings for the prover, fewer spot checks for the verifier.

With more pairs a smaller share of them decides nothing, so a larger share of corrupted answers is needed to
hide a gap, and fewer checks find it. The number of checks falls towards a limit that depends on ε, δ and how
much of ε an honest residual fills, and neither on the number of examples nor on that of targets.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import stats

from pyattr.verification.clusters import ClusterDesign
from pyattr.verification.corruption import Truncation, truncated_total
from pyattr.verification.judge import Criterion
from pyattr.verification.plan import (
    HONEST_MISS,
    HONEST_SHARE,
    HONEST_SHARE_WORST,
    choose_clusters,
)
from pyattr.verification.spot_check import check_probabilities, fewest_hiding, n_checks

__all__ = ["ChallengePlan", "choose_challenge", "plan_checks"]

Array = npt.NDArray[np.float64]

CAPS: Final = {
    "chi2": (1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0),
    "moment": (1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0),
}
GROWTH: Final = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0)
# A check that is saved is worth this many more trainings of the prover.
PROVER_TRAININGS: Final = 20.0
# Share of Var f that scores are planned to explain.
EXPLAINED: Final = 0.9


@dataclass(frozen=True)
class ChallengePlan:
    """What a verifier asks for, and how it will check the answers.

    Parameters
    ----------
    design : ClusterDesign
    truncation : Truncation or None
        Where squares are cut off (`pyattr.verification.corruption`); None where a single corrupted output
        may hide a gap, and nearly all have to be checked.
    n_checks : int
        Checks that an honest prover has to expect.
    """

    design: ClusterDesign
    truncation: Truncation | None
    n_checks: int


def plan_checks(
    design: ClusterDesign,
    criterion: Criterion,
    alpha: float,
    miss: float,
    fill: float,
    n_targets: int = 1,
    weighted: bool = False,
) -> ChallengePlan:
    """Choose where to cut squares off, for the fewest checks of an honest prover.

    Parameters
    ----------
    design : ClusterDesign
    criterion : Criterion
    alpha, miss : float
        Shares of delta for the interval and for the checks.
    fill : float
        ``E v² / τ`` of an honest prover.
    n_targets : int
    weighted : bool
        Whether checks are drawn by influence.
    """
    n, n_outputs = design.n_clusters, design.n_evaluations
    everything = ChallengePlan(design, None, n_checks(n_outputs, 1, miss))
    if not _coverable(design, criterion):
        return everything
    squares = _honest_squares(n, fill, HONEST_MISS / n_targets)
    best = everything
    for cap in CAPS[criterion.bound]:
        truncation = Truncation(
            cap, truncated_total(criterion.bound, n, cap, alpha, criterion.kappa)
        )
        influence, slack = np.maximum(cap - squares, 0.0), truncation.total - squares.sum(axis=0)
        fewest = fewest_hiding(influence, slack)
        if fewest == 0:
            continue
        if weighted:
            expected = 2.0 * check_probabilities(np.max(influence / slack, axis=1), miss).sum()
            k = int(np.ceil(expected))
        else:
            k = n_checks(n_outputs, min(fewest, n_outputs), miss)
        if k < best.n_checks:
            best = ChallengePlan(design, truncation, k)
    return best


def choose_challenge(
    noise: float,
    epsilon: float,
    alpha: float,
    miss: float,
    n_targets: int,
    criterion: Criterion,
    budget: int | None = None,
    *,
    weighted: bool = False,
    prover_trainings: float = PROVER_TRAININGS,
    share: float | None = None,
    explained: float = EXPLAINED,
) -> ChallengePlan:
    """Choose the challenge with the least cost to both sides.

    Starts from the design that a verifier would train itself (`choose_clusters`) and makes it larger as
    long as the checks saved are worth the prover's trainings.

    Parameters
    ----------
    noise, epsilon, n_targets, criterion, budget
        As for `choose_clusters`.
    alpha, miss : float
        Shares of delta for the interval and for the checks.
    weighted : bool
    prover_trainings : float
        Trainings of the prover that are worth one of the verifier.
    share : float, optional
        Of ε, that an honest residual fills.
    explained : float
        Share of Var f that the scores explain.
    """
    smallest = choose_clusters(noise, epsilon, alpha, n_targets, criterion, budget)
    if share is None:
        share = HONEST_SHARE if n_targets == 1 else HONEST_SHARE_WORST
    fill = honest_fill(share * epsilon + noise, epsilon, explained, criterion.relative)

    def planned(growth: float) -> ChallengePlan:
        n_clusters = round(growth * smallest.n_clusters)
        larger = replace(smallest, n_clusters=n_clusters)
        return plan_checks(larger, criterion, alpha, miss, fill, n_targets, weighted)

    if not _coverable(smallest, criterion):
        return planned(1.0)
    most = np.inf if budget is None else budget / smallest.n_evaluations
    plans = [planned(growth) for growth in GROWTH if growth <= max(most, 1.0)]
    return min(plans, key=lambda p: p.n_checks + p.design.n_evaluations / prover_trainings)


def honest_fill(residual: float, epsilon: float, explained: float, relative: bool) -> float:
    """``E v² / τ`` for odd residuals of the given mean square that do not go with g (`corruption`).

    Parameters
    ----------
    residual, epsilon : float
        Relative to Var f.
    explained : float
        ``Var g / Var f``.
    relative : bool
    """
    if not relative:
        return residual / epsilon
    rest = (epsilon / (1.0 - epsilon)) ** 2 * explained
    return (residual + rest) * (1.0 - epsilon) ** 2 / (epsilon * explained)


def _coverable(design: ClusterDesign, criterion: Criterion) -> bool:
    """Whether truncated sums say anything for this design and criterion."""
    fits = criterion.bound in CAPS and criterion.intercept == "refit"
    small = not criterion.relative or criterion.epsilon < 1.0
    return fits and small and design.n_leaves == 1


def _honest_squares(n: int, fill: float, miss: float) -> Array:
    """A typical sample of n squares, as large in total as an honest prover's seldom is, (n, 1)."""
    typical = stats.chi2.ppf((np.arange(n) + 0.5) / n, 1)
    total = fill * float(stats.chi2.ppf(1.0 - miss, n))
    squares: Array = (typical * total / typical.sum())[:, None]
    return squares
