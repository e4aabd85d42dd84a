"""How many corrupted outputs an acceptance survives: truncated sums of squared odd residuals.

For designs of one leaf (p = 1/2), whose C pairs give independent odd outputs ``y_c`` and predictions
``g_c`` with ``E g_c² = Var g``, known exactly from the scores.

*The unit is not estimated.* Let ``v = y - g / (1-ε)``. Because ``E o² ≥ gap`` with ``o = y - g``, and
``Var f ≥ E y²``, a gap above ``ε Var f`` means ``E (y-g)² > ε E y²``, and completing the square turns this
into

    E v² > τ,   τ = ε Var g / (1-ε)².

So a relative gap is a mean square above a number that the prover fixed with its scores: no estimate of
Var f is left that corrupted outputs could raise. For an absolute ε, v = o and τ = ε.

*Proof note.* Let S be the pairs with a corrupted output, chosen by a prover that knows everything but
the checks, ``a_c`` the squares ``v_c²`` that its answers show, and t > 0 fixed before the scores were seen.
Pairs outside S are true, and each pair of S takes at most t from a sum of values cut off at t:

    Σ_c a_c - Σ_S a_c = Σ_{c∉S} v_c² ≥ Σ_{c∉S} min(v_c², t) ≥ Σ_c min(v_c², t) - |S| t.

Let x be such that ``Σ_c min(v_c², t) ≥ x`` with probability 1 - α whenever E v² > τ. Then with that
probability every S, of whatever size, satisfies

    Σ_S (t - a_c) ≥ x - Σ_c a_c.

The left terms, cut off at 0, are the *influences* of the pairs and the right side is the *slack*: a gap can
be hidden only by corrupting pairs whose influences sum to the slack. Spot checks (`spot_check`) are chosen
so that any such set is missed with probability δ_s at most; a false acceptance has probability at most
α + δ_s. Several targets share α and δ_s as in `judge.judge_gap`: a false acceptance needs the target that
is wrong to be hidden.

x for t = sτ, by the bound of the criterion (mean squares above τ only raise the sum):

- ``chi2``, v normal: the distribution of the sum is computed on a lattice, every term rounded down; for many
  pairs Maurer's lower tail with the exact moments of ``min(z², s)``. Near-normality is an assumption: for
  residuals that hang on k equal examples the limit was seen to hold for every k with s ≥ 2, up to 400
  pairs. With smaller s it fails for 2 or 3 of them the more the more pairs there are, so none is used.
- ``moment``, ``E v⁴ ≤ κ(E v²)²``: ``x ≤ min(x, t) + x²/(4t)`` gives ``E min(v², t) ≥ τ(1 - κ/(4s))``, and
  Maurer's lower tail with ``E min(v², t)² ≤ τ² min(κ, s)``.

Nothing here needs the clip b. If outputs are only equivalent within a tolerance, ``a_c`` is the largest
square that they allow. Tests: ``tests/verification/test_corruption.py``.

References
----------
Maurer 2003, Theorem 1 (lower tails of sums of non-negative variables) · Berger 1982 (intersection-union
tests). The truncated bound is this project's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import fft, stats

from pyattr.verification.clusters import ClusterDesign
from pyattr.verification.judge import Criterion
from pyattr.verification.scores import LinearScores
from pyattr.verification.spot_check import fewest_hiding

__all__ = ["Cover", "PairSquares", "Truncation", "truncated_total"]

Array = npt.NDArray[np.float64]
Marks = npt.NDArray[np.bool_]

LATTICE_POINTS = 1 << 17
LATTICE_PAIRS = (
    1 << 11
)  # with more pairs the rounding of the lattice costs more than Maurer's bound
ROUNDING = 1e-9  # of the lattice's probabilities; its arithmetic is good to 1e-11
UPPER_STEPS = 14  # halvings of [0, ε] in search of an upper limit


@lru_cache(maxsize=256)
def _normal_total(n: int, cap: float, alpha: float) -> float:
    """α-quantile of ``Σ min(z², cap)`` over n standard normal z, rounded down."""
    if n > LATTICE_PAIRS:
        beyond = float(stats.chi2.sf(cap, 1))
        mean = float(stats.chi2.cdf(cap, 3)) + cap * beyond
        square = 3.0 * float(stats.chi2.cdf(cap, 5)) + cap**2 * beyond
        return _maurer_total(n, mean, square, alpha)
    bins = LATTICE_POINTS // n
    step = cap / bins
    below = stats.chi2.cdf(step * np.arange(bins + 1), 1)
    weights = np.append(np.diff(below), 1.0 - below[-1])
    size = fft.next_fast_len(n * bins + 1, real=True)
    spectrum = fft.rfft(weights, size)
    power = np.abs(spectrum) ** n * np.exp(1j * n * np.angle(spectrum))
    sums = fft.irfft(power, size)
    reached = int(np.searchsorted(np.cumsum(sums), max(alpha - ROUNDING, 0.0), side="right"))
    return step * min(reached, n * bins)


def _maurer_total(n: int, mean: float, square: float, alpha: float) -> float:
    """Lower limit of a sum of n non-negative terms with at least this mean, at most this mean square."""
    return n * mean - math.sqrt(2.0 * n * square * math.log(1.0 / alpha))


def truncated_total(bound: str, n: int, cap: float, alpha: float, kappa: float = 4.0) -> float:
    """Least value of ``Σ_c min(v_c², cap)`` that n pairs with ``E v² ≥ 1`` fall below with chance ≤ alpha.

    Parameters
    ----------
    bound : {"chi2", "moment"}
        What is assumed about v: see the module.
    n : int
    cap : float
        t, in units of E v².
    alpha : float
    kappa : float
        Of the moment bound.

    Returns
    -------
    float
        Not above 0 where so few pairs say nothing.
    """
    if bound == "chi2":
        return _normal_total(n, cap, alpha)
    return _maurer_total(n, 1.0 - kappa / (4.0 * cap), min(kappa, cap), alpha)


@dataclass(frozen=True)
class Truncation:
    """Where squares are cut off; fixed before scores and outputs are seen.

    Parameters
    ----------
    cap : float
        t / τ.
    total : float
        x / τ, from `truncated_total`.
    """

    cap: float
    total: float


@dataclass(frozen=True)
class PairSquares:
    """What the answers to a challenge show of every pair, for any ε.

    Parameters
    ----------
    output, prediction : (C, n_targets) float64
        Odd parts ``y_c`` and ``g_c``.
    variance_predicted : (n_targets,) float64
        Var g.
    relative : bool
        Whether ε is a share of Var f.
    tolerance : float
        How far each output may be from the verifier's own.
    """

    output: Array
    prediction: Array
    variance_predicted: Array
    relative: bool = True
    tolerance: float = 0.0

    @classmethod
    def of(
        cls,
        criterion: Criterion,
        design: ClusterDesign,
        outputs: npt.NDArray[np.floating],
        scores: LinearScores,
        linear: Array,
        tolerance: float = 0.0,
    ) -> PairSquares:
        """From the outputs of all rows in design order, and ``linear = scores.linear(masks)``."""
        output, prediction = (
            (pairs[:, 0, 0] - pairs[:, 0, 1]) / 2.0
            for pairs in (design.by_leaf(outputs), design.by_leaf(linear))
        )
        known = scores.variance(design.p)
        return cls(output, prediction, known, criterion.relative, tolerance)

    def shown(self, epsilon: Array) -> Array:
        """``a_c`` for one ε a target, (C, n_targets)."""
        factor = 1.0 / (1.0 - epsilon) if self.relative else 1.0
        square: Array = (np.abs(self.output - self.prediction * factor) + self.tolerance) ** 2
        return square

    def threshold(self, epsilon: Array) -> Array:
        """τ for one ε a target, (n_targets,)."""
        scaled = epsilon * self.variance_predicted / (1.0 - epsilon) ** 2
        return scaled if self.relative else epsilon

    def unit(self, epsilon: float) -> Array:
        """ε times this is a limit of the gap if ``E v² ≤ τ``, (n_targets,): no limit of Var f is needed.

        With c and ĉ the linear Fourier coefficients of g and f, ``‖c‖² = Var g`` and
        ``‖ĉ - c/(1-ε)‖² ≤ E v²``. So ``√gap = ‖ĉ - c‖ ≤ √τ + ε √Var g / (1-ε) = √(ε Var g) / (1-√ε)``.
        """
        return self.variance_predicted / (1.0 - math.sqrt(epsilon)) ** 2

    def influence(self, truncation: Truncation, epsilon: Array) -> tuple[Array, Array]:
        """Influences of the pairs (C, n_targets), and the slack (n_targets,)."""
        shown, threshold = self.shown(epsilon), self.threshold(epsilon)
        slack = truncation.total * threshold - shown.sum(axis=0)
        return np.maximum(truncation.cap * threshold - shown, 0.0), slack


@dataclass(frozen=True)
class Cover:
    """How much corruption an acceptance at ε survives.

    Parameters
    ----------
    squares : PairSquares
    truncation : Truncation
    epsilon : float
    """

    squares: PairSquares
    truncation: Truncation
    epsilon: float

    @property
    def _epsilon(self) -> Array:
        return np.full(self.squares.variance_predicted.shape, self.epsilon)

    @property
    def n_hiding(self) -> int:
        """Smallest number of corrupted pairs that could hide a gap above ε; 0 if none is needed."""
        return fewest_hiding(*self.squares.influence(self.truncation, self._epsilon))

    @property
    def shares(self) -> Array:
        """Part of the slack that each pair could hide, largest over targets, (C,); needs `n_hiding` ≥ 1."""
        influence, slack = self.squares.influence(self.truncation, self._epsilon)
        largest: Array = np.max(influence / slack, axis=1)
        return largest

    def upper_by_count(self, n_covered: int) -> Array:
        """Limit of every target's gap that holds with any `n_covered` pairs corrupted, (n_targets,)."""
        least = len(self.squares.output) - n_covered

        def holds(epsilon: Array) -> Marks:
            influence, slack = self.squares.influence(self.truncation, epsilon)
            if n_covered == 0:
                return np.asarray(slack > 0.0)
            return np.asarray(np.partition(influence, least, axis=0)[least:].sum(axis=0) < slack)

        return self._least(holds)

    def upper_by_share(self, shares: Array) -> Array:
        """Limit that holds unless pairs with `shares` of 1 or more in total are corrupted, (n_targets,)."""

        def holds(epsilon: Array) -> Marks:
            influence, slack = self.squares.influence(self.truncation, epsilon)
            return np.asarray(np.all(influence <= shares[:, None] * slack, axis=0) & (slack > 0.0))

        return self._least(holds)

    def _least(self, holds: Callable[[Array], Marks]) -> Array:
        """Bisect for the least ε that is still certified; ε itself is known to be."""
        low, high = np.zeros_like(self._epsilon), self._epsilon
        for _ in range(UPPER_STEPS):
            middle = (low + high) / 2.0
            certified = holds(middle)
            low, high = np.where(certified, low, middle), np.where(certified, middle, high)
        return high
