"""Which design and how many trainings, for any p and any bound."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from scipy import stats

from pyattr.verification.bounded import linear_reach
from pyattr.verification.bounds import BOUNDS, PROOF, bernstein_radius, hoeffding_radius
from pyattr.verification.cluster_design import LEAST_CLUSTERS, ClusterDesign
from pyattr.verification.criterion import Criterion
from pyattr.verification.noise_rates import lowest_rate, solve_noise_rates
from pyattr.verification.plan import (
    HONEST_MISS,
    HONEST_SHARE_WORST,
    choose_clusters,
    smallest_design,
)
from pyattr.verification.scores import LinearScores
from pyattr.verification.stars import LEAST_STARS_AN_EXAMPLE, StarDesign

__all__ = ["choose_design", "smallest_choice", "stars_only"]

# The products of odd pairs carry the fourth power of the most negative rate: below this one, at p below
# 0.1 and above 0.9, they are not even considered.
_LEAST_RATE = 1.0 / 9.0
_LEAST_STARS = 128  # fewer, and products of normals are too skewed for a t limit
_LEAKS = (0.05, 0.1, 0.2)
_PARTNERS = 8
# Seed variance of an odd residual, relative to Var f, up to which one leaf is cheaper for a proof.
_QUIET = 0.01
_STAKE = 0.9  # of the betting bound: the share of its capital that it risks on small values
_MOST = 2**16


def smallest_choice(p: float, least: int = LEAST_CLUSTERS) -> int:
    """Trainings of the smallest design for this p, where clusters are no fewer than `least`."""
    return LEAST_CLUSTERS * (1 + _PARTNERS) if stars_only(p) else smallest_design(p, least)


def stars_only(p: float) -> bool:
    """Whether masks can hardly be anticorrelated at this p, so that odd pairs say nothing."""
    return -lowest_rate(p) < _LEAST_RATE - 1e-9


def choose_design(
    noise: float,
    epsilon: float,
    alpha: float,
    criterion: Criterion,
    budget: int | None,
    scores: LinearScores,
    least: int = LEAST_CLUSTERS,
) -> ClusterDesign | StarDesign:
    """Choose the cheapest design that accepts an honest prover.

    Parameters
    ----------
    noise : float
        Variance of an odd residual within its cluster, relative to Var f.
    epsilon : float
        Gap to be certified, relative to Var f.
    alpha : float
        Level of the upper limit of one target.
    criterion : Criterion
    budget : int or None
        Most trainings.
    scores : LinearScores
    least : int
        Fewest clusters.

    Returns
    -------
    ClusterDesign or StarDesign
    """
    bound = criterion.bound
    if bound == PROOF:
        single = criterion.p == 0.5 and noise <= _QUIET
        bound = "moment" if single else "betting"
    if BOUNDS[bound].needs_clip:
        return _bounded(bound, noise, epsilon, alpha, criterion, budget, scores)
    stars = _stars(noise, epsilon, alpha, criterion.p, budget, scores.n_targets)
    if stars_only(criterion.p):
        return stars
    resolved = replace(criterion, bound=bound)
    if bound == "moment" and criterion.relative:
        # Var f is only known to be at least (√Var g - √gap)²: the gap has to be that much smaller.
        epsilon = epsilon / (1.0 + math.sqrt(epsilon)) ** 2
    clusters = choose_clusters(noise, epsilon, alpha, scores.n_targets, resolved, budget, least)
    enough = stars.n_clusters >= _LEAST_STARS and stars.n_evaluations < clusters.n_evaluations
    return stars if criterion.p != 0.5 and enough else clusters


def _stars(
    noise: float, epsilon: float, alpha: float, p: float, budget: int | None, n_targets: int
) -> StarDesign:
    """Stars whose normal limit leaves room for an honest prover; a residual has twice the noise."""
    residual = 2.0 * noise
    least = max(_LEAST_STARS, math.ceil(LEAST_STARS_AN_EXAMPLE / min(p, 1.0 - p)))
    quantiles = stats.norm.isf(alpha) + stats.norm.isf(HONEST_MISS / n_targets)
    best: tuple[int, StarDesign] | None = None
    for leak in _LEAKS:
        room = (1.0 - HONEST_SHARE_WORST) * epsilon - leak * residual
        partners = max(_PARTNERS, len(solve_noise_rates(p, leak).rates))
        most = (_MOST if budget is None else budget) // (1 + partners)
        if most < LEAST_CLUSTERS:
            continue
        cost = solve_noise_rates(p, leak).cost * residual
        needed = math.ceil((cost * quantiles / room) ** 2 / partners) if room > 0.0 else _MOST
        design = StarDesign(min(max(needed, least), most), partners, p, leak)
        key = max(needed, least) * (1 + partners)
        if best is None or key < best[0]:
            best = key, design
    return StarDesign(LEAST_CLUSTERS, _PARTNERS, p) if best is None else best[1]


def _bounded(
    bound: str,
    noise: float,
    epsilon: float,
    alpha: float,
    criterion: Criterion,
    budget: int | None,
    scores: LinearScores,
) -> ClusterDesign | StarDesign:
    """Clusters for a bound that knows the range alone, from that bound's own formula."""
    p = criterion.p
    if stars_only(p):
        most = (_MOST if budget is None else budget) // (1 + _PARTNERS)
        return StarDesign(max(most, LEAST_CLUSTERS), _PARTNERS, p)
    rho = lowest_rate(p) ** 2
    leaves = 1 if rho == 1.0 and noise <= _QUIET else 4
    clip = criterion.clip if criterion.clip is not None else math.inf
    unit = float(np.min(np.maximum(scores.variance(p), 1e-300)))
    high = float(np.max((clip + linear_reach(scores)[0]) ** 2)) / unit
    width = high * (1.0 + (1.0 / (leaves - 1) if leaves > 1 else 0.0))
    effect = HONEST_SHARE_WORST * epsilon * rho
    room = (epsilon * rho - effect) / width
    # Var U for an honest prover: squares of the effect, and products of leaves that scatter.
    variance = (
        2.0 * effect**2 + 2.0 * (noise + effect) ** 2 / max(leaves * (leaves - 1), 1)
    ) / width**2
    most = (_MOST if budget is None else budget) // (2 * leaves)

    def radius(n: int) -> float:
        if bound == "hoeffding":
            return hoeffding_radius(n, 0.5, 2.0 * alpha)
        if bound == "bernstein":
            return float(bernstein_radius(np.array([variance]), n, alpha)[0])
        log = math.log(1.0 / alpha)
        return math.sqrt(2.0 * variance * log / n) + log / (_STAKE * n)

    low, high_n = LEAST_CLUSTERS, max(most, LEAST_CLUSTERS)
    while low < high_n:
        middle = (low + high_n) // 2
        low, high_n = (low, middle) if radius(middle) <= room else (middle + 1, high_n)
    return ClusterDesign(low, leaves, p, rho)
