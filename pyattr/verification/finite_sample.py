"""Limits that hold at any sample size, each under a condition that can be stated beforehand.

`moment` needs a bound of the fourth moment of the residuals, `hoeffding`, `bernstein` and `betting` need
values in a known range (`pyattr.verification.bounded` has the range, from clipped outputs).

*Proof notes.*

- Hoeffding: ``P(mean X ≤ E X - r) ≤ exp(-2nr²)`` for independent X in [0, 1]. The range alone counts.
- Empirical Bernstein: with V the sample variance, ``E X ≤ mean X + √(2V ln(2/α)/n) + 7 ln(2/α)/(3(n-1))``
  fails with probability at most α, for i.i.d. X in [0, 1].
- Betting: see `pyattr.verification.confidence_sequence`; here with all values at once.
- Moment: for i.i.d. ``U ≥ 0``, ``P(mean U ≤ (1-η) E U) ≤ exp(-n η² (E U)² / (2 E U²))``; the lower
  limit is Cantelli's one-sided Chebyshev inequality.

Tests: ``tests/verification/test_finite_sample.py``; coverage of whole gap limits:
``bench/bench_coverage.py``.

References
----------
Hoeffding 1963, Theorem 2 · Maurer, Pontil 2009, "Empirical Bernstein bounds and sample variance
penalization", Theorem 4 · Maurer 2003, "A bound on the deviation probability for sums of non-negative
random variables", Theorem 1.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from pyattr.errors import bad_value
from pyattr.verification.confidence_sequence import betting_lower, betting_upper
from pyattr.verification.interval import Interval, Levels
from pyattr.verification.near_normal import MeanSquares

__all__ = [
    "bernstein_radius",
    "bounded_interval",
    "hoeffding_radius",
    "moment_factor",
    "moment_interval",
]

Array = npt.NDArray[np.float64]


def moment_factor(n: int, kappa: float, alpha: float) -> float:
    """Factor by which a mean of n squares must be enlarged to bound its expectation.

    For i.i.d. ``U ≥ 0`` with ``E U² ≤ κ (E U)²``, ``P(mean U ≤ (1-η) E U) ≤ exp(-nη²/(2κ))``, so
    ``E U ≤ mean U / (1 - √(2κ ln(1/α)/n))`` fails with probability at most α: finite sample, no
    clipping. For ``U = o²`` with o linear in independent signs κ = 3 whatever the coefficients
    (Khintchine). What f itself has at higher odd degrees must be covered by the κ that is stated: a rare
    event, such as an output that depends on five given examples being in together, has a larger one, and
    too few clusters may not meet it at all.

    Returns
    -------
    float
        Infinity when n is too small for any bound: ``n ≤ 2κ ln(1/α)``.

    References
    ----------
    Maurer 2003, Theorem 1.
    """
    shrink = math.sqrt(2.0 * kappa * math.log(1.0 / alpha) / n)
    return 1.0 / (1.0 - shrink) if shrink < 1.0 else math.inf


def moment_interval(squares: MeanSquares, levels: Levels, kappa: float) -> Interval:
    """Finite-sample limits of ``E o²`` with one leaf.

    The lower limit is Cantelli's: ``Var o² ≤ (κ-1)(E o²)²``, so ``mean o² ≥ (1+η) E o²`` with probability
    at most ``(κ-1) / (κ-1 + nη²)``.

    Parameters
    ----------
    squares : MeanSquares
        Of a design with one leaf.
    levels : Levels
    kappa : float
        Bound of ``E o⁴ / (E o²)²``, stated before the data are seen.
    """
    if squares.n_leaves != 1:
        raise bad_value("bound", "'chi2' or 't' for a design of several leaves", "'moment'")
    factor = moment_factor(squares.n_clusters, kappa, levels.upper)
    mean, n = squares.between, squares.n_clusters
    upper = np.full_like(mean, math.inf) if math.isinf(factor) else mean * factor
    excess = math.sqrt((kappa - 1.0) * (1.0 - levels.lower) / (levels.lower * n))
    return Interval(mean, mean / (1.0 + excess), upper)


def hoeffding_radius(n: int, half_width: float, alpha: float) -> float:
    """Radius r with ``P(|mean - E| > r) ≤ alpha`` for n values within ±half_width.

    References
    ----------
    Hoeffding 1963, Theorem 2.
    """
    return half_width * math.sqrt(2.0 * math.log(2.0 / alpha) / n)


def bernstein_radius(variance: Array, n: int, alpha: float) -> Array:
    """Distance of the empirical Bernstein limit from the mean of n values in [0, 1].

    Parameters
    ----------
    variance : (n_targets,) float64
        Sample variance, divided by n - 1.
    n : int
    alpha : float

    Returns
    -------
    (n_targets,) float64
        Infinite for a single value.
    """
    if n < 2:
        return np.full(np.shape(variance), math.inf)
    log = math.log(2.0 / alpha)
    return np.asarray(np.sqrt(2.0 * variance * log / n) + 7.0 * log / (3.0 * (n - 1)))


def bounded_interval(kind: str, values: Array, levels: Levels) -> Interval:
    """Limits of the mean of independent values in [0, 1].

    Parameters
    ----------
    kind : {"hoeffding", "bernstein", "betting"}
    values : (n, n_targets) float64
        In [0, 1].
    levels : Levels
        Not above one half.

    Returns
    -------
    Interval
        Within [0, 1].
    """
    n, mean = values.shape[0], values.mean(axis=0)
    if kind == "betting":
        horizon = n if levels.horizon is None else levels.horizon
        lower = betting_lower(values, levels.lower, horizon=horizon)[0]
        return Interval(mean, lower, betting_upper(values, levels.upper, horizon=horizon)[0])
    if kind == "hoeffding":
        zeros = np.zeros_like(mean)
        down = zeros + hoeffding_radius(n, 0.5, 2.0 * levels.lower)
        up = zeros + hoeffding_radius(n, 0.5, 2.0 * levels.upper)
    elif kind == "bernstein":
        variance = values.var(axis=0, ddof=min(1, n - 1))
        down = bernstein_radius(variance, n, levels.lower)
        up = bernstein_radius(variance, n, levels.upper)
    else:
        raise bad_value("bound", "'hoeffding', 'bernstein' or 'betting'", repr(kind))
    return Interval(mean, np.maximum(mean - down, 0.0), np.minimum(mean + up, 1.0))
