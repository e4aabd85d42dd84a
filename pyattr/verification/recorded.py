"""Verifying scores against outputs that were recorded earlier, with no training at all.

Released banks of retrained models (Feldman-Zhang, Datamodels, TRAK) have i.i.d. masks and one output a
model: no correlated pairs. With φ_j the p-biased features of mask j and r_j the residual of model j,

    B̂_1 = Σ_{j≠k} r_j r_k ⟨φ_j, φ_k⟩ / (n(n-1)) = (‖Φᵀr‖² - Σ_j r_j² ‖φ_j‖²) / (n(n-1))

is unbiased for B_1(r), the gap: ``E r_j r_k ⟨φ_j, φ_k⟩ = ‖E rφ‖²`` for independent j and k. No bias is
left at any degree. It is two packed products, never an n × n matrix.

*Centring.* Residuals are taken from their mean r̄, which leaves the intercept out (B_0 is refitted). Of the
products that r̄ brings in only those with j or k in common have a mean other than 0, so the estimate is
exactly ``1 - 2/n + 2/n²`` times B_1, and is divided by that.

*Variance (Hoeffding's decomposition).* With β = E rφ and ``k(j,k)`` the summand,

    Var B̂_1 = 4(n-2)/(n(n-1)) ζ_1 + 2/(n(n-1)) ζ_2,   ζ_1 = Var(r⟨φ, β⟩),   ζ_2 = Var k.

The second part is there at a gap of 0, about ``2N σ_r⁴/n²``. ``E k²`` is estimated, unbiased, from the pairs
(j, j+s) for a few shifts s, whose ⟨φ_j, φ_k⟩ are counts of common bits. The first depends on the gap, and
an estimate of it errs where the estimate of the gap does; so the limits are those gaps B at which
B̂_1 lies at most z standard errors away *for that B* (a score interval), with

    ζ_1(B) = max( B (σ_r² + B),  ζ̂_1 B / B̂_1 ):

``E r²⟨φ,β⟩² - B²`` for residuals of Gaussian shape, or the measured one in proportion if that is larger.
Condition: the estimate is near normal. Its degenerate part is a sum of N terms like centred χ² with
weights, skewed to the right, so that its lower tail, the one acceptance rests on, is shorter than
normal; for N of 30 or more, n of a few hundred. Named `normal` in verdicts. Tests, with measured
coverage: ``tests/verification/test_recorded.py``, ``bench/bench_coverage.py``.

*What must hold for the rows.* They were drawn independently with probability p, and **played no part in
fitting or choosing the scores**: residuals of a fit are orthogonal to its rows, and the estimate falls by
about ``N σ_r²/n``. An estimate that far below 0 is noticed and never accepted, but a fit to part of the
rows, or a choice among scores by their error on them, is not.

References
----------
Hoeffding 1948 (U-statistics and their decomposition); Serfling 1980, section 5.2-5.3; Wilson 1927 (score
limits). The estimator for residuals is this project's own (method: see `gap`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from pyattr.kernels import packed_matmul, packed_matmul_transposed
from pyattr.masks import Masks
from pyattr.verification.interval import Interval, Levels
from pyattr.verification.output_variance import VarianceParts, divide

__all__ = ["BLOCK_ROWS", "Features", "RecordedSums", "recorded_sums"]

Array = npt.NDArray[np.float64]

Rows = npt.NDArray[np.float32]

BLOCK_ROWS = 1 << 13
_LEAST_PAIRS = 200_000  # that E k² is estimated from
_LEAST_SHIFTS, _MOST_SHIFTS = 8, 64
_HALVINGS = 60
# Standard errors above 0 from which the estimate says in which proportion ζ_1 stands to it.
_KNOWN = 3.0


@dataclass(frozen=True)
class Features:
    """What the p-biased features of the masks contribute, for all targets alike.

    Parameters
    ----------
    masks : Masks
    p : float
    norms : (n,) float64
        ``‖φ_j‖²``.
    squares : (n_shifts, n) float64
        ``⟨φ_j, φ_{j+s}⟩²`` for shifts s = 1, 2, … round the rows.
    """

    masks: Masks
    p: float
    norms: Array
    squares: Array

    @classmethod
    def of(cls, masks: Masks, p: float) -> Features:
        """From common bits: ``⟨φ_j, φ_k⟩ = (|x_j ∧ x_k| - p(|x_j| + |x_k|) + N p²) / (p(1-p))``."""
        n, unit = len(masks), p * (1.0 - p)
        sizes = masks.sizes().astype(np.float64)
        n_shifts = min(max(-(-_LEAST_PAIRS // n), _LEAST_SHIFTS), _MOST_SHIFTS, n - 1)
        squares = np.empty((n_shifts, n))
        words = masks.packed.view(np.uint64)
        for shift in range(1, n_shifts + 1):
            for first in range(0, n, BLOCK_ROWS):
                here = np.arange(first, min(first + BLOCK_ROWS, n))
                there = (here + shift) % n
                common = np.bitwise_count(words[here] & words[there]).sum(axis=1, dtype=np.int64)
                inner = common - p * (sizes[here] + sizes[there]) + masks.n_train * p**2
                squares[shift - 1, here] = (inner / unit) ** 2
        return cls(masks, p, (sizes * (1.0 - 2.0 * p) + masks.n_train * p**2) / unit, squares)

    def total(self, residuals: Rows) -> Array:
        """``Φᵀ r``, (n_train, n_targets) float64."""
        sums = packed_matmul_transposed(
            self.masks.packed, residuals, self.masks.n_train, dtype=np.float64
        )
        centred = sums - self.p * residuals.sum(axis=0, dtype=np.float64)
        return np.asarray(centred / math.sqrt(self.p * (1.0 - self.p)))

    def onto(self, vectors: Array, rows: slice) -> Array:
        """``⟨φ_j, v⟩`` for some rows, (n_rows, n_targets) float64."""
        product = packed_matmul(self.masks.packed[rows], vectors).astype(np.float64)
        return np.asarray(
            (product - self.p * vectors.sum(axis=0)) / math.sqrt(self.p * (1.0 - self.p))
        )


@dataclass(frozen=True)
class RecordedSums:
    """The estimate of B_1 and what its sampling variance is made of, for every target.

    Parameters
    ----------
    n : int
        Rows.
    estimate : (n_targets,) float64
        ``B̂_1``.
    residual_variance : (n_targets,) float64
        ``σ_r²``.
    degenerate : (n_targets,) float64
        ``ζ_2``.
    linear : (n_targets,) float64
        ``ζ̂_1``.
    kurtosis : (n_targets,) float64
        ``mean r⁴ / (mean r²)²``.
    """

    n: int
    estimate: Array
    residual_variance: Array
    degenerate: Array
    linear: Array
    kurtosis: Array

    @property
    def noise(self) -> Array:
        """Variance of the estimate at a gap of 0."""
        return np.asarray(2.0 / (self.n * (self.n - 1.0)) * self.degenerate)

    def variance_at(self, gap: Array) -> Array:
        """Variance of the estimate if the gap is `gap`."""
        known = self.estimate > _KNOWN * np.sqrt(self.noise)
        proportion = np.where(known, divide(self.linear, np.where(known, self.estimate, 0.0)), 0.0)
        linear = np.maximum(gap * (self.residual_variance + gap), proportion * gap)
        n = self.n
        return np.asarray(self.noise + 4.0 * (n - 2.0) / (n * (n - 1.0)) * linear)

    def parts(self) -> VarianceParts:
        """Variance at the estimated gap."""
        total = self.variance_at(np.maximum(self.estimate, 0.0))
        return VarianceParts(total - self.noise, self.noise)

    def interval(self, levels: Levels) -> Interval:
        """Score limits: the gaps for which the estimate is no surprise.

        Parameters
        ----------
        levels : Levels

        Returns
        -------
        Interval
            Limits of at least 0.
        """
        down, up = stats.norm.isf([levels.lower, levels.upper])
        zero = np.zeros_like(self.estimate)
        # Beyond this gap its own standard error cannot bridge the distance.
        reach = (up + 1.0) ** 2 * (self.residual_variance + np.sqrt(self.noise))
        start = np.maximum(self.estimate, 0.0)

        def above(gap: Array) -> npt.NDArray[np.bool_]:
            return np.asarray(gap - self.estimate > up * np.sqrt(self.variance_at(gap)))

        def below(gap: Array) -> npt.NDArray[np.bool_]:
            return np.asarray(self.estimate - gap <= down * np.sqrt(self.variance_at(gap)))

        return Interval(
            self.estimate, _first(below, zero, start), _first(above, start, start + reach)
        )


def _first(holds: Callable[[Array], npt.NDArray[np.bool_]], low: Array, high: Array) -> Array:
    """Where a condition that may fail at first begins to hold, between low and high."""
    high = np.where(holds(low), low, high)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        there = holds(middle)
        low, high = np.where(there, low, middle), np.where(there, middle, high)
    return high


def recorded_sums(features: Features, residuals: Rows) -> RecordedSums:
    """Everything about B_1 that the residuals of some targets say.

    Parameters
    ----------
    features : Features
    residuals : (n, n_targets) float32
        Of mean 0.

    Returns
    -------
    RecordedSums
    """
    n, n_targets = residuals.shape
    vectors = features.total(residuals)
    diagonal, linear, second, fourth, pairs = (np.zeros(n_targets) for _ in range(5))
    for first in range(0, n, BLOCK_ROWS):
        rows = slice(first, min(first + BLOCK_ROWS, n))
        r = residuals[rows].astype(np.float64)
        square = r**2
        own = square * features.norms[rows, np.newaxis]
        diagonal += own.sum(axis=0)
        linear += np.sum((r * features.onto(vectors, rows) - own) ** 2, axis=0)
        second += square.sum(axis=0)
        fourth += np.sum(square**2, axis=0)
        for shift, squares in enumerate(features.squares, start=1):
            partner = residuals[np.arange(rows.start, rows.stop) + shift - n].astype(np.float64)
            pairs += squares[rows] @ (square * partner**2)
    total = n * (n - 1.0)
    estimate = (np.sum(vectors**2, axis=0) - diagonal) / total
    expected_square = pairs / features.squares.size
    degenerate = np.maximum(expected_square - estimate**2, 0.0)
    spread = linear / (n - 1.0) ** 2 / n - estimate**2
    return RecordedSums(
        n,
        estimate / (1.0 - 2.0 / n + 2.0 / n**2),
        second / n,
        degenerate,
        np.maximum(spread - degenerate / (n - 1.0), 0.0),
        divide(fourth / n, (second / n) ** 2),
    )
