"""Group-sequential looks: when a verification may stop, and how its δ is spent over the looks.

Looks are taken at cluster counts that are fixed before any cluster's mean is seen. At look k each limit
has the nominal level ``α_k = c · min(1, C_k / C_planned) · α``, smaller at the early looks, where little is
to be gained from it; c is such that a limit fails at *any* look with probability α.

*Proof note.* Let B be the true weight and ``X_k = C_k · mean(o²) / B`` over the clusters of the first k
looks. If odd residuals are normal (what the chi2 bound rests on anyway), X_k is a sum of C_k independent
χ²_1, so the X_k are a random walk whose steps are independent χ² with ``C_k - C_{k-1}`` degrees of freedom,
whatever B is. The limit of look k is ``C_k mean(o²) / q_k`` with q_k the α_k-quantile of χ²_{C_k}, and it
fails exactly if ``X_k < q_k``: the limits are pivotal. So the probability that one of them fails depends on
the counts and levels alone, and the smallest of the upper limits is itself an upper limit at level α. It is
computed here by carrying the distribution of the walk from look to look (`failure_probability`), not
bounded by the sum of the levels. The upper tail, for lower limits, overlaps more from look to look and fails
less often at the same levels (0.042 for 0.05 at 9, 12, 16, 22 clusters), and so does a Gaussian walk (0.046),
which several leaves and the t bound tend to; the tests measure all of these. Looks beyond the plan, where a
budget allows them, are added by the union bound, which also serves for levels so small that overlap hardly
counts.

References
----------
Armitage, McPherson, Rowe 1969 (the recursion) · Pocock 1977 · Wang, Tsiatis 1987 (one constant for a family
of boundaries) · Lan, DeMets 1983 (looks fixed by what carries no information on the effect).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import optimize, signal, stats

from pyattr.verification.interval import Levels

__all__ = ["FINAL_SHARE", "MODELLED", "WALKED", "Looks", "failure_probability", "nominal_levels"]

Array = npt.NDArray[np.float64]

MODELLED = ("chi2", "t")  # bounds that rest on the one-way model of odd residuals
# Bounds whose limits keep their level at few clusters: t, on skewed products, does not (a first look at 8
# clusters made its limits fail in 0.10 of sessions instead of 0.05).
WALKED = ("chi2",)
ANYTIME = "betting"
# Where a planned verification looks, as shares of its planned clusters. Later first looks would be wasted on
# honest provers, whose gap is mostly well below what is planned for.
FRACTIONS = (0.2, 0.3, 0.4, 0.55, 0.75)
LEAST_GROWTH = (
    1.2  # from one look to the next: a look at almost the same clusters costs level for nothing
)
LEAST_LOOK = 8  # clusters: fewer bound Var f too loosely
# Level of the last planned look, at least, as a share of α: what the size of a design is planned with.
FINAL_SHARE = 0.5
# Share of α kept for looks beyond the plan where the budget has room for them, and their largest number.
EXTENSION_SHARE = 0.15
EXTENSIONS = 8
EXTENSION_GROWTH = 1.3
_BINS = 4000
_LEAST_ALPHA = 5e-3  # below it the union bound is as good, and the grid too coarse


def failure_probability(counts: Sequence[int], levels: Sequence[float]) -> float:
    """Probability that a limit fails at one of several looks or more.

    Parameters
    ----------
    counts : sequence of int
        Clusters at each look, rising.
    levels : sequence of float
        Nominal level of the limit at each look.

    Returns
    -------
    float
        ``P(∪_k {X_k < q_k})`` of the module's proof note; for a single look its level, to about 1e-4 of it.
    """
    width = float(stats.chi2.isf(1e-10, counts[-1])) / _BINS
    middle = np.arange(
        _BINS
    )  # values are multiples of the width; the mass of each lies half of one around
    edges = width * np.concatenate([[0.0], middle + 0.5])
    failed, before = 0.0, 0
    mass: Array = np.eye(1, _BINS)[0]
    for count, level in zip(counts, levels, strict=True):
        step = np.diff(stats.chi2.cdf(edges, count - before))
        mass = signal.fftconvolve(mass, step)[:_BINS]
        below = np.clip(stats.chi2.ppf(level, count) / width - middle + 0.5, 0.0, 1.0)
        failed += float(mass @ below)
        mass = mass * (1.0 - below)
        before = count
    return failed


@lru_cache(maxsize=256)
def nominal_levels(counts: tuple[int, ...], alpha: float) -> tuple[float, ...]:
    """Levels ``c · C_k / C_K · α`` whose limits fail at any look with probability alpha.

    Parameters
    ----------
    counts : tuple of int
        Clusters at each look, rising.
    alpha : float
        Total.

    Returns
    -------
    tuple of float

    Examples
    --------
    >>> [round(level, 3) for level in nominal_levels((9, 12, 16, 22), 0.05)]
    [0.012, 0.016, 0.021, 0.029]
    """
    if len(counts) == 1:
        return (alpha,)
    shape = np.asarray(counts) / counts[-1]
    union = 1.0 / float(shape.sum())
    if alpha < _LEAST_ALPHA:
        return tuple(float(level) for level in union * alpha * shape)

    def excess(share: float) -> float:
        return failure_probability(counts, tuple(share * alpha * shape)) / alpha - 1.0

    share = optimize.brentq(excess, 0.99 * union, 1.0, xtol=1e-3)
    return tuple(float(level) for level in share * alpha * shape)


@dataclass(frozen=True)
class Looks:
    """Cluster counts at which a verification looks, and the level of each limit there.

    Parameters
    ----------
    counts : tuple of int
        Rising.
    n_planned : int
        How many of them belong to the plan; the others are beyond it.
    rule : {"walk", "anytime"}
        "walk" spends δ over the looks; "anytime" is for limits that hold at all sample sizes together.
    """

    counts: tuple[int, ...]
    n_planned: int
    rule: str = "walk"

    @classmethod
    def plan(cls, n_clusters: int, most: int, bound: str, least: int = LEAST_LOOK) -> Looks:
        """Looks at shares of the planned clusters, and beyond them as far as the budget goes.

        The chi2 bound spends δ by the proof note. A betting confidence sequence needs no spending. The
        others have no look before the plan's end, and the union bound beyond it.

        Parameters
        ----------
        n_clusters : int
            Planned.
        most : int
            Clusters that the budget allows; more than `n_clusters` adds looks.
        bound : str
        least : int
            Clusters at the first look.
        """
        planned = [n_clusters]
        for share in reversed(FRACTIONS) if bound in (*WALKED, ANYTIME) else ():
            count = max(round(share * n_clusters), least)
            if count * LEAST_GROWTH <= planned[0]:
                planned.insert(0, count)
        n_more = 0
        if most > n_clusters:
            steps = np.log(most / n_clusters) / np.log(EXTENSION_GROWTH)
            n_more = int(np.clip(steps, 1, None if bound == ANYTIME else EXTENSIONS))
        beyond = {
            round(n_clusters * (most / n_clusters) ** (k / n_more)) for k in range(1, n_more + 1)
        }
        counts = (*planned, *sorted(beyond - {n_clusters}))
        return cls(counts, len(planned), "anytime" if bound == ANYTIME else "walk")

    def levels(self, total: Levels) -> list[Levels]:
        """Levels of the limits at every look, which fail at any with the total levels.

        Parameters
        ----------
        total : Levels
        """
        if self.rule == "anytime":
            return [replace(total, horizon=self.counts[-1]) for _ in self.counts]
        pairs = zip(self._spent(total.lower), self._spent(total.upper), strict=True)
        return [Levels(lower, upper) for lower, upper in pairs]

    def level_beyond(self, alpha: float) -> float:
        """Level of a limit at a look beyond the plan, where a budget allows as many as there may be."""
        return alpha if self.rule == "anytime" else EXTENSION_SHARE * alpha / EXTENSIONS

    def _spent(self, alpha: float) -> tuple[float, ...]:
        """Nominal level of one limit at every look."""
        n_more = len(self.counts) - self.n_planned
        share = 1.0 - EXTENSION_SHARE if n_more else 1.0
        planned = nominal_levels(self.counts[: self.n_planned], share * alpha)
        return (*planned, *[EXTENSION_SHARE * alpha / n_more for _ in range(n_more)])
