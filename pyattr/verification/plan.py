"""How many trainings a verification needs, before any is made."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import stats

from pyattr.verification.bounds import Levels, MeanSquares, chi2_interval, moment_factor
from pyattr.verification.clusters import LEAST_CLUSTERS, ClusterDesign, highest_rho
from pyattr.verification.judge import Criterion

__all__ = [
    "HONEST_MISS",
    "HONEST_SHARE",
    "HONEST_SHARE_WORST",
    "choose_clusters",
    "smallest_design",
]

# Share of ε that an honest residual is planned to fill: its own gap and what is odd and not linear.
# The worst of several targets fills more of it, and so does a prover whose models depend on seeds.
HONEST_SHARE = 1.0 / 3.0
HONEST_SHARE_WORST = 0.45
# Chance that an honest prover with that residual is not accepted, over all targets.
HONEST_MISS = 0.05
# One leaf counts seed noise as gap, so a pilot that saw too little of it would be fatal: only where it
# is this share of ε at most.
ONE_LEAF_NOISE = 0.1
_LEAVES = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)


def smallest_design(p: float) -> int:
    """Trainings of the smallest cluster design."""
    return 2 * LEAST_CLUSTERS * (1 if highest_rho(p) == 1.0 else 2)


def _planned_upper(
    criterion: Criterion,
    n_clusters: int,
    n_leaves: int,
    effect: float,
    noise: float,
    alpha: float,
    miss: float,
) -> float:
    """Upper limit that an honest prover stays under with probability 1 - miss."""
    nu = n_clusters
    between = (n_leaves * effect + noise) * stats.chi2.ppf(1.0 - miss, nu) / nu
    if criterion.bound == "moment":
        return float(between) * moment_factor(nu, criterion.kappa, alpha)
    squares = MeanSquares(np.array([between]), np.array([noise]), n_clusters, n_leaves)
    return float(chi2_interval(squares, Levels(alpha, alpha)).upper[0])


def choose_clusters(
    noise: float,
    epsilon: float,
    alpha: float,
    n_targets: int,
    criterion: Criterion,
    budget: int | None,
) -> ClusterDesign:
    """Choose the cheapest cluster design that accepts an honest prover.

    Parameters
    ----------
    noise : float
        Variance of an odd residual within its cluster, relative to Var f: half the seed variance of
        one output at p = 1/2.
    epsilon : float
        Gap to be certified, relative to Var f.
    alpha : float
        Level of the upper limit of one target.
    n_targets : int
        Targets that all have to be accepted.
    criterion : Criterion
        For p, the bound and kappa.
    budget : int or None
        Most trainings; the design with the lowest expected limit within it if none suffices.

    Returns
    -------
    ClusterDesign
    """
    p = criterion.p
    rho = highest_rho(p)
    miss = HONEST_MISS / n_targets
    leaves = list(_LEAVES)
    if criterion.bound == "moment" and rho == 1.0:
        leaves = [1]
    elif noise <= ONE_LEAF_NOISE * epsilon and rho == 1.0:
        leaves = [1, *leaves]
    best: tuple[float, int, ClusterDesign] | None = None
    for n_leaves in leaves:
        easy = n_leaves == 1 and n_targets == 1
        effect = (HONEST_SHARE if easy else HONEST_SHARE_WORST) * epsilon * rho

        def limit(n_clusters: int, n_leaves: int = n_leaves, effect: float = effect) -> float:
            return _planned_upper(criterion, n_clusters, n_leaves, effect, noise, alpha, miss) / rho

        most = 2**16 if budget is None else budget // (2 * n_leaves)
        if most < LEAST_CLUSTERS:
            continue
        n_clusters = _smallest(limit, epsilon, most)
        design = ClusterDesign(n_clusters, n_leaves, p, rho)
        reached = max(limit(n_clusters), epsilon)
        key = (reached, design.n_evaluations, design)
        if best is None or key[:2] < best[:2]:
            best = key
    if best is None:
        return ClusterDesign(LEAST_CLUSTERS, leaves[0], p, rho)
    return best[2]


def _smallest(limit: Callable[[int], float], epsilon: float, most: int) -> int:
    """Smallest number of clusters up to `most` whose limit is at most epsilon; `most` if there is none."""
    if limit(most) > epsilon:
        return most
    low, high = LEAST_CLUSTERS, most
    while low < high:
        middle = (low + high) // 2
        if limit(middle) <= epsilon:
            high = middle
        else:
            low = middle + 1
    return low
