"""The range of cluster terms when outputs are clipped: what Hoeffding, Bernstein and betting need.

f lies in [-b, b] by definition. The scores are known, so the distribution of the linear part is too: the
odd half-difference ``Σ_i a_i (x_i - x'_i)/2`` and the deviation ``Σ_i a_i (x_i - p)`` are sums of
independent, centred terms, each in an interval of length |a_i|, hence sub-Gaussian with variance proxy
``v = Σ_i a_i²/4`` for every p.

*Proof note (truncation).* The largest value of such a sum grows with N, its usual one does not. Let G be
where the sub-Gaussian tail is ``2 exp(-G²/(2v)) = 2e-7``, or the largest possible value if that is
smaller, and A_c the event that |linear part| ≤ G in every row of cluster c. Then ``U'_c = U_c 1(A_c)``
has a range known before any training, and, since ``|U_c| ≤ max_l (β + |g_l|)²`` with β bounding the rest,

    |E U - E U'| ≤ E[|U|; not A_c] ≤ (rows of a cluster) · E[(β + |g|)²; |g| > G],

a constant that is added to the upper limit and taken off the lower one: ``2(β+G)² e^{-G²/2v} +
∫_G^∞ 2(β+t) 2e^{-t²/2v} dt`` (integration by parts), at most 1e-5 of (β+G)². Nothing is assumed but
the clipping. Test: ``tests/verification/test_bounded.py``.

References
----------
Hoeffding 1963 (sub-Gaussian sums of bounded variables).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import stats

from pyattr.errors import bad_value
from pyattr.verification.clusters import ClusterDesign, largest
from pyattr.verification.finite_sample import bounded_interval
from pyattr.verification.interval import Interval, Levels
from pyattr.verification.scores import LinearScores

__all__ = ["VARIANCE_SHARE", "BoundedRange", "cluster_range", "linear_reach"]

Array = npt.NDArray[np.float64]

# Share of a level that the limit of Var f takes: the gap is known to far fewer digits.
VARIANCE_SHARE = 0.1
_TAIL = 1e-7
_ROUNDING = 1e-6  # of float32 products


def linear_reach(scores: LinearScores) -> tuple[Array, Array]:
    """How far the linear part reaches, but for a tail of 2e-7.

    Parameters
    ----------
    scores : LinearScores

    Returns
    -------
    reach : (n_targets,) float64
        G: bound of ``|Σ_i a_i (x_i - x'_i)/2|`` and of ``|Σ_i a_i (x_i - p)|``.
    proxy : (n_targets,) float64
        v, or 0 where G is never exceeded.
    """
    size = np.abs(scores.scores, dtype=np.float64)
    proxy = np.sum(size**2, axis=0) / 4.0
    usual, largest = np.sqrt(2.0 * proxy * math.log(1.0 / _TAIL)), size.sum(axis=0)
    certain = largest <= usual
    return np.where(certain, largest, usual), np.where(certain, 0.0, proxy)


def _square_beyond(rest: Array, reach: Array, proxy: Array) -> Array:
    """Bound of ``E[(rest + |g|)²; |g| > reach]``, 0 where the reach is never exceeded."""
    scale = np.sqrt(np.where(proxy > 0.0, proxy, 1.0))
    beyond = np.exp(-((reach / scale) ** 2) / 2.0)
    integral = math.sqrt(2.0 * math.pi) * scale * stats.norm.sf(reach / scale)
    total = 2.0 * (rest + reach) ** 2 * beyond + 4.0 * rest * integral + 4.0 * scale**2 * beyond
    bound: Array = np.where(proxy > 0.0, total, 0.0)
    return bound


@dataclass(frozen=True)
class BoundedRange:
    """Where the terms of every cluster lie, and values of known range whose mean is Var f.

    Parameters
    ----------
    low, high : (n_targets,) float64
        Range of ``U'_c``.
    tail : (n_targets,) float64
        Bound of ``|E U - E U'|``.
    inside : (n_clusters, n_targets) bool
        A_c.
    spread : (n_clusters // 2, n_targets) float64
        Mean over rows of ``(f - f')²/2`` between two clusters: independent, with mean Var f.
    clip : float
        b.
    offset_reach : (n_targets,) float64, optional
        Bound of the mean residual of a cluster; None where the linear part does not cancel in it.
    """

    low: Array
    high: Array
    tail: Array
    inside: npt.NDArray[np.bool_]
    spread: Array
    clip: float
    offset_reach: Array | None = None

    @classmethod
    def of(
        cls,
        outputs: Array,
        linear: Array,
        scores: LinearScores,
        clip: float,
        *,
        rest: Array | float,
        gain: float = 1.0,
        below: float = 1.0,
    ) -> BoundedRange:
        """From outputs and linear parts by cluster.

        Parameters
        ----------
        outputs : (n_clusters, n_rows, n_targets) float64
        linear : (n_clusters, n_parts, n_targets) float64
            Linear parts that enter the terms, of a kind that `linear_reach` bounds.
        scores : LinearScores
        clip : float
            b.
        rest : (n_targets,) float64 or float
            β: bound of what the linear part is taken from; b for odd half-differences.
        gain : float
            Terms are at most ``gain (β + |g|)²``.
        below : float
            Lowest value of a term relative to its highest, taken negative.

        Raises
        ------
        ValueError
            If an output is outside [-b, b].
        """
        largest = float(np.abs(outputs).max())
        if largest > clip * (1.0 + _ROUNDING):
            raise bad_value("outputs", f"values clipped to ±{clip:g}", largest)
        reach, proxy = linear_reach(scores)
        beta = np.broadcast_to(np.asarray(rest, dtype=np.float64), reach.shape)
        high = gain * (beta + reach) ** 2
        inside: npt.NDArray[np.bool_] = np.all(np.abs(linear) <= reach * (1.0 + _ROUNDING), axis=1)
        half = outputs.shape[0] // 2
        difference = outputs[0 : 2 * half : 2] - outputs[1 : 2 * half : 2]
        return cls(
            low=-below * high,
            high=high,
            tail=gain * linear.shape[1] * _square_beyond(beta, reach, proxy),
            inside=inside,
            spread=np.mean(difference**2, axis=1) / 2.0,
            clip=clip,
        )

    def worst_case(self, n_corrupted: int) -> BoundedRange:
        """With the corruption undone that makes Var f look largest: a pair of clusters each."""
        hit = largest(self.spread, n_corrupted)
        return replace(self, spread=np.where(hit, 0.0, self.spread))

    def drifted(self, tolerance: float) -> BoundedRange:
        """With every output moved by up to `tolerance` so as to lower Var f (to raise it, if negative)."""
        root = np.maximum(np.sqrt(self.spread) - math.sqrt(2.0) * tolerance, 0.0)
        return replace(self, spread=np.minimum(root**2, 2.0 * self.clip**2))

    def weight(self, terms: Array, bound: str, levels: Levels) -> Interval:
        """Limits of ``E U``.

        Parameters
        ----------
        terms : (n_clusters, n_targets) float64
            ``U_c``; what corruption or drift pushed out of the range is cut back to it.
        bound : {"betting", "bernstein", "hoeffding"}
        levels : Levels
        """
        width = self.high - self.low
        safe = np.where(width > 0.0, width, 1.0)
        kept = np.where(self.inside, terms, 0.0)
        scaled = np.clip((kept - self.low) / safe, 0.0, 1.0)
        unit = bounded_interval(bound, scaled, levels)
        below = np.where(self.low < 0.0, self.tail, 0.0)
        return Interval(
            terms.mean(axis=0),
            self.low + width * unit.lower - below,
            self.low + width * unit.upper + self.tail,
        )

    def variance(self, bound: str, levels: Levels) -> Interval:
        """Limits of Var f."""
        highest = 2.0 * self.clip**2
        scaled = np.clip(self.spread / highest, 0.0, 1.0)
        return bounded_interval(bound, scaled, levels).scaled(highest)


def cluster_range(
    design: ClusterDesign,
    outputs: npt.NDArray[np.floating],
    linear: Array,
    scores: LinearScores,
    clip: float,
) -> BoundedRange:
    """The range of ``U_c`` of odd pairs in clusters.

    ``o = (f - f')/2 - Σ_i a_i (x_i - x'_i)/2`` has β = b, and ``Σ_{l≠l'} o_l o_l' ≥ -Σ o_l²``: the lowest
    term is -1/(L-1) of the highest, or 0 for one leaf.

    Parameters
    ----------
    design : ClusterDesign
    outputs, linear : (n_evaluations, n_targets) float
        As for `ClusterTerms.of`.
    scores : LinearScores
    clip : float
    """
    rows, pairs = design.by_leaf(outputs), design.by_leaf(linear)
    flat = rows.reshape(design.n_clusters, -1, rows.shape[-1])
    odd = (pairs[:, :, 0] - pairs[:, :, 1]) / 2.0
    below = 1.0 / (design.n_leaves - 1) if design.n_leaves > 1 else 0.0
    found = BoundedRange.of(flat, odd, scores, clip, rest=clip, below=below)
    if design.p != 0.5:
        return found
    return replace(found, offset_reach=clip + np.abs(scores.linear_mean(0.5) + scores.intercept))
