"""Which challenge a verifier sends: more trainings for the prover, fewer spot checks for the verifier.

With more pairs a smaller share of them decides nothing, so a larger share of corrupted answers is needed to
hide a gap, and fewer checks find it. The number of checks falls towards a limit that depends on ε, δ and how
much of ε an honest residual fills, and neither on the number of examples nor on that of targets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import stats

from pyattr.verification.clusters import LEAST_CLUSTERS, ClusterDesign
from pyattr.verification.corruption import Truncation, truncated_total
from pyattr.verification.judge import Criterion
from pyattr.verification.plan import (
    HONEST_MISS,
    HONEST_SHARE,
    HONEST_SHARE_WORST,
    choose_clusters,
)
from pyattr.verification.spot_check import check_probabilities, fewest_hiding, n_checks

__all__ = ["CAPS", "ChallengePlan", "Honest", "choose_challenge", "coverable", "plan_checks"]

Array = npt.NDArray[np.float64]

CAPS: Final = {
    "chi2": (2.0, 2.5, 3.0, 4.0),
    "moment": (1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0),
}
GROWTH: Final = (1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)
# A check that is saved is worth this many more trainings of the prover.
PROVER_TRAININGS: Final = 20.0
# Share of Var f that scores are planned to explain.
EXPLAINED: Final = 0.9
# Share of ε that an honest residual is expected to fill, for counting checks. What it may fill and still be
# accepted is planned as for `choose_clusters`.
TYPICAL_SHARE: Final = 0.25


@dataclass(frozen=True)
class Honest:
    """What an honest prover's residuals are planned to look like.

    Parameters
    ----------
    typical, worst : float
        ``E v² / τ`` (see `pyattr.verification.corruption`) that checks are counted for, and that has still
        to be accepted with probability 0.95.
    n_targets : int
    """

    typical: float
    worst: float
    n_targets: int = 1

    @classmethod
    def of(
        cls,
        epsilon: float,
        n_targets: int,
        *,
        noise: float = 0.0,
        share: float = TYPICAL_SHARE,
        explained: float = EXPLAINED,
        relative: bool = True,
    ) -> Honest:
        """From shares of ε.

        Parameters
        ----------
        epsilon : float
            Relative to Var f.
        n_targets : int
        noise : float
            Variance of an odd residual from seeds, relative to Var f.
        share : float
            Of ε, that residuals fill at the worst target.
        explained : float
            ``Var g / Var f``.
        relative : bool
            Whether the criterion's ε is.
        """
        worst = max(HONEST_SHARE if n_targets == 1 else HONEST_SHARE_WORST, share)

        def fill(part: float) -> float:
            residual = part * epsilon + noise
            if not relative:
                return residual / epsilon
            rest = (epsilon / (1.0 - epsilon)) ** 2 * explained
            return (residual + rest) * (1.0 - epsilon) ** 2 / (epsilon * explained)

        return cls(fill(share), fill(worst), n_targets)

    def squares(self, n: int) -> tuple[Array, Array]:
        """Samples of n squares, (n, 1): of the middling worst target, and as large as it seldom is."""
        shape = stats.chi2.ppf((np.arange(n) + 0.5) / n, 1)[:, None]
        shape /= shape.sum()
        middling = stats.chi2.ppf(0.5 ** (1.0 / self.n_targets), n)
        largest = stats.chi2.ppf(1.0 - HONEST_MISS / self.n_targets, n)
        return shape * middling * self.typical, shape * largest * self.worst


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
    honest: Honest,
    weighted: bool = False,
) -> ChallengePlan:
    """Choose where to cut squares off, for the fewest checks of an honest prover.

    Parameters
    ----------
    design : ClusterDesign
    criterion : Criterion
    alpha, miss : float
        Shares of delta for the interval and for the checks.
    honest : Honest
    weighted : bool
        Whether checks are drawn by influence.
    """
    n, n_outputs = design.n_clusters, design.n_evaluations
    best = ChallengePlan(design, None, n_checks(n_outputs, 1, miss))
    if not coverable(design, criterion):
        return best
    typical, worst = honest.squares(n)
    for cap in CAPS[criterion.bound]:
        total = truncated_total(criterion.bound, n, cap, alpha, criterion.kappa)
        slack = total - typical.sum(axis=0)
        if total <= worst.sum() or slack <= 0.0:
            continue
        influence = np.maximum(cap - typical, 0.0)
        if weighted:
            expected = 2.0 * check_probabilities(np.max(influence / slack, axis=1), miss).sum()
            k = math.ceil(expected)
        else:
            k = n_checks(n_outputs, min(fewest_hiding(influence, slack), n_outputs), miss)
        if k < best.n_checks:
            best = ChallengePlan(design, Truncation(cap, total), k)
    return best


def choose_challenge(
    noise: float,
    epsilon: float,
    alpha: float,
    miss: float,
    criterion: Criterion,
    honest: Honest,
    budget: int | None = None,
    *,
    weighted: bool = False,
    least: int = LEAST_CLUSTERS,
    prover_trainings: float = PROVER_TRAININGS,
) -> ChallengePlan:
    """Choose the challenge with the least cost to both sides.

    Starts from the design that a verifier would train itself (`choose_clusters`) and makes it larger as
    long as the checks saved are worth the prover's trainings.

    Parameters
    ----------
    noise, epsilon, criterion, budget
        As for `choose_clusters`.
    alpha, miss : float
        Shares of delta for the interval and for the checks.
    honest : Honest
    weighted : bool
    least : int
        Fewest clusters.
    prover_trainings : float
        Trainings of the prover that are worth one of the verifier.
    """
    smallest = choose_clusters(noise, epsilon, alpha, honest.n_targets, criterion, budget, least)

    def planned(growth: float) -> ChallengePlan:
        larger = replace(smallest, n_clusters=round(growth * smallest.n_clusters))
        return plan_checks(larger, criterion, alpha, miss, honest, weighted)

    def cost(plan: ChallengePlan) -> float:
        return plan.n_checks + plan.design.n_evaluations / prover_trainings

    if not coverable(smallest, criterion):
        return planned(1.0)
    most = np.inf if budget is None else max(budget / smallest.n_evaluations, 1.0)
    best = planned(1.0)
    for growth in GROWTH:
        if growth > most:
            break
        larger = planned(growth)
        if cost(larger) < cost(best):
            best = larger
        elif best.truncation is not None:  # checks level off, and the prover's trainings do not
            break
    return best


def coverable(design: ClusterDesign, criterion: Criterion) -> bool:
    """Whether truncated sums say anything for this design and criterion."""
    fits = criterion.bound in CAPS and criterion.intercept == "refit"
    return fits and design.n_leaves == 1
