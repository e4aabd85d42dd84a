"""How many trainings a verification needs, before any is made."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import stats

from pyattr.verification.bounds import Levels, MeanSquares, chi2_interval, moment_factor
from pyattr.verification.clusters import LEAST_CLUSTERS, ClusterDesign, highest_rho
from pyattr.verification.judge import Criterion

__all__ = [
    "HONEST_MISS",
    "HONEST_SHARE",
    "HONEST_SHARE_SEEDS",
    "HONEST_SHARE_WORST",
    "SEEDS_MATTER",
    "choose_clusters",
    "least_clusters",
    "smallest_design",
]

# Share of ε that an honest residual is planned to fill: its own gap and what is odd and not linear.
# The worst of several targets fills more of it, and so does a prover whose models depend on seeds (measured
# on digits with 20 models an example: 0.2, 0.36 and 0.5).
HONEST_SHARE = 1.0 / 3.0
HONEST_SHARE_WORST = 0.45
HONEST_SHARE_SEEDS = 0.55
# Scatter within clusters, as a share of ε, up to which seeds hardly matter and one leaf will do: it counts
# seed noise as gap, so first trainings that saw too little of more would be fatal.
SEEDS_MATTER = 0.1
# Chance that an honest prover with that residual is not accepted, over all targets.
HONEST_MISS = 0.05
_FEW = 7  # examples, up to which every joint effect is looked for
_LEAVES = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)


def smallest_design(p: float, least: int = LEAST_CLUSTERS) -> int:
    """Trainings of the smallest cluster design of so many clusters."""
    return 2 * least * (1 if highest_rho(p) == 1.0 else 2)


def least_clusters(n_train: int, delta: float, n_at_once: int = 1) -> int:
    """Fewest clusters that a verdict rests on, so that no joint effect of few examples goes unseen.

    N examples, or owners that are in or out as one, have 2^(N-1) odd pairs of subsets. At p = 1/2 each
    is drawn with the same probability, so that ``ln(1/delta) 2^(N-1)`` clusters miss a given one, and with it
    a residual that is there alone, with probability delta at most. Normal theory, which the default bound
    rests on, begins where residuals are sums of many contributions.

    Parameters
    ----------
    n_train : int
        Above 7 it is `LEAST_CLUSTERS`: an effect of one pair in 128 is rare anyway.
    delta : float
    n_at_once : int
        Targets whose limits have to hold at once: each may rest on another pair.

    Returns
    -------
    int
    """
    if n_train > _FEW:
        return LEAST_CLUSTERS
    n_pairs = 1 << (n_train - 1)
    return max(LEAST_CLUSTERS, math.ceil(math.log(min(n_at_once, n_pairs) / delta) * n_pairs))


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
    least: int = LEAST_CLUSTERS,
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
    least : int
        Fewest clusters.

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
    elif noise <= SEEDS_MATTER * epsilon and rho == 1.0:
        leaves = [1, *leaves]
    best: tuple[float, int, ClusterDesign] | None = None
    effect = rho * epsilon * HONEST_SHARE_SEEDS
    if noise <= SEEDS_MATTER * epsilon:
        effect = rho * epsilon * (HONEST_SHARE if n_targets == 1 else HONEST_SHARE_WORST)
    for n_leaves in leaves:

        def limit(n_clusters: int, n_leaves: int = n_leaves) -> float:
            return _planned_upper(criterion, n_clusters, n_leaves, effect, noise, alpha, miss) / rho

        most = 2**16 if budget is None else budget // (2 * n_leaves)
        if most < least:
            continue
        n_clusters = _smallest(limit, epsilon, least, most)
        design = ClusterDesign(n_clusters, n_leaves, p, rho)
        reached = max(limit(n_clusters), epsilon)
        key = (reached, design.n_evaluations, design)
        if best is None or key[:2] < best[:2]:
            best = key
    if best is None:
        return ClusterDesign(least, leaves[0], p, rho)
    return best[2]


def _smallest(limit: Callable[[int], float], epsilon: float, least: int, most: int) -> int:
    """Smallest number of clusters whose limit is at most epsilon, or `most`."""
    if limit(most) > epsilon:
        return most
    low, high = least, most
    while low < high:
        middle = (low + high) // 2
        if limit(middle) <= epsilon:
            high = middle
        else:
            low = middle + 1
    return low
