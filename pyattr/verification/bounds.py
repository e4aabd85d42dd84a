"""Confidence bounds for low-degree weight, each with the condition it rests on.

The gap of an attribution is estimated from clusters of odd residuals ``o_cl`` (`gap`). Cluster c
has a mean effect whose variance over clusters is the quantity wanted, and leaves that scatter
around it through seeds and redrawn bits: a one-way layout with random effects and known mean zero.
With ``MSB = L · mean_c(ō_c²)`` and ``MSW`` the within-cluster mean square,

    (MSB - MSW) / L = mean_c U_c,    U_c = Σ_{l≠l'} o_l o_l' / (L(L-1))

is unbiased whatever the distributions are. The bounds differ in what they assume:

========== ============================================================ ==================
name       interval                                                     rests on
========== ============================================================ ==================
chi2       MSB and MSW are scaled χ²; modified large-sample limits       o near normal
t          Student t over the independent U_c                           mean U near normal
moment     lower tails of non-negative variables (L = 1, upper limit)    E o⁴ ≤ κ (E o²)²
hoeffding  bounded products                                              clipping only
========== ============================================================ ==================

References
----------
Ting, Burdick, Graybill, Jeyaratnam, Lu 1990 (modified large-sample limits for differences of mean
squares) · Maurer 2003, "A bound on the deviation probability for sums of non-negative random
variables", Theorem 1 · Hoeffding 1963 · Zou, Donner 2008 (limits of a ratio from limits of its parts).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from pyattr.errors import bad_value

__all__ = [
    "BOUNDS",
    "Interval",
    "Levels",
    "MeanSquares",
    "chi2_interval",
    "hoeffding_radius",
    "moment_factor",
    "moment_interval",
    "ratio_interval",
    "t_interval",
]

Array = npt.NDArray[np.float64]

BOUNDS = ("chi2", "t", "moment")


@dataclass(frozen=True)
class Levels:
    """How often each limit may fail.

    Parameters
    ----------
    lower, upper : float
        Probability that the lower (upper) limit is above (below) the truth.
    """

    lower: float
    upper: float

    def halved(self) -> Levels:
        """Both levels at half."""
        return Levels(self.lower / 2.0, self.upper / 2.0)

    def swapped(self) -> Levels:
        """The levels of a quantity that the one of interest is divided by."""
        return Levels(self.upper, self.lower)


@dataclass(frozen=True)
class Interval:
    """An estimate with one-sided confidence limits.

    Parameters
    ----------
    estimate, lower, upper : (n_targets,) float64
        Each of the two limits fails with its own probability (`Levels`).
    """

    estimate: Array
    lower: Array
    upper: Array

    def scaled(self, factor: float) -> Interval:
        """The interval of `factor` times the quantity, for a positive factor."""
        return Interval(self.estimate * factor, self.lower * factor, self.upper * factor)


@dataclass(frozen=True)
class MeanSquares:
    """Sufficient statistics of the one-way layout.

    Parameters
    ----------
    between, within : (n_targets,) float64
        ``MSB`` with n_clusters degrees of freedom (the mean is known to be 0) and ``MSW`` with
        n_clusters (n_leaves - 1); `within` is 0 for a single leaf.
    n_clusters, n_leaves : int
    """

    between: Array
    within: Array
    n_clusters: int
    n_leaves: int

    @property
    def estimate(self) -> Array:
        """``(MSB - MSW) / L``: unbiased for the variance of the cluster effect."""
        return (self.between - self.within) / self.n_leaves


def _cross_term(f: float, own: float, other: float) -> float:
    """Coefficient of ``MSB·MSW`` that makes the limit exact when the effect vanishes."""
    return ((1.0 - f) ** 2 - own**2 * f**2 - other**2) / f


def chi2_interval(squares: MeanSquares, levels: Levels) -> Interval:
    """Limits of the cluster variance when odd residuals are near normal.

    With one leaf these are the exact limits ``C·mean(o²)/χ²_C``; with more, the modified
    large-sample limits, exact both for vanishing and for dominating cluster variance.

    Parameters
    ----------
    squares : MeanSquares
    levels : Levels

    Returns
    -------
    Interval
        The limits are not below 0.
    """
    between, within, leaves = squares.between, squares.within, squares.n_leaves
    nu_b = squares.n_clusters
    quantiles = [1.0 - levels.lower, levels.upper]
    low_b, high_b = nu_b / stats.chi2.ppf(quantiles, nu_b)
    if leaves == 1:
        return Interval(between, between * low_b, between * high_b)
    nu_w = nu_b * (leaves - 1)
    rise, fall = high_b - 1.0, 1.0 - low_b
    fall_w = 1.0 - nu_w / stats.chi2.ppf(1.0 - levels.upper, nu_w)
    rise_w = nu_w / stats.chi2.ppf(levels.lower, nu_w) - 1.0
    f_low, f_high = stats.f.ppf([levels.upper, 1.0 - levels.lower], nu_b, nu_w)
    above = (
        (rise * between) ** 2
        + (fall_w * within) ** 2
        + _cross_term(f_low, rise, fall_w) * between * within
    )
    below = (
        (fall * between) ** 2
        + (rise_w * within) ** 2
        + _cross_term(f_high, fall, rise_w) * between * within
    )
    estimate = squares.estimate
    upper = estimate + np.sqrt(np.maximum(above, 0.0)) / leaves
    lower = estimate - np.sqrt(np.maximum(below, 0.0)) / leaves
    return Interval(estimate, np.maximum(lower, 0.0), np.maximum(upper, 0.0))


def t_interval(values: Array, levels: Levels, n_fitted: int = 1) -> Interval:
    """Student t limits of the mean of independent rows.

    Undercovers at the upper end for squared data (one leaf, or few clusters whose common effect
    dominates): `chi2_interval` does not.

    Parameters
    ----------
    values : (n, n_targets) float64
        Independent rows, at least 2.
    levels : Levels
    n_fitted : int
        Parameters fitted to the rows, the mean among them: degrees of freedom lost.
    """
    n = values.shape[0]
    if n < 2:
        raise bad_value("n_clusters", "at least 2 for a t interval", n)
    mean = values.mean(axis=0)
    error = values.std(axis=0, ddof=n_fitted) / math.sqrt(n)
    down, up = stats.t.ppf([1.0 - levels.lower, 1.0 - levels.upper], n - n_fitted)
    return Interval(mean, mean - down * error, mean + up * error)


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
    """Finite-sample upper limit of ``E o²`` with one leaf; the lower limit is 0.

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
    mean = squares.between
    upper = np.full_like(mean, math.inf) if math.isinf(factor) else mean * factor
    return Interval(mean, np.zeros_like(mean), upper)


def hoeffding_radius(n: int, half_width: float, alpha: float) -> float:
    """Radius r with ``P(|mean - E| > r) ≤ alpha`` for n values within ±half_width.

    References
    ----------
    Hoeffding 1963, Theorem 2.
    """
    return half_width * math.sqrt(2.0 * math.log(2.0 / alpha) / n)


def ratio_interval(top: Interval, bottom: Interval, correlation: Array) -> Interval:
    """Limits of ``top / bottom`` recovered from the limits of the two parts.

    The upper limit is the largest R at which ``top - R·bottom`` could be 0 if the distances of the
    parts' limits from their estimates combined like correlated standard errors; the lower limit
    likewise. The upper limit has the level of the top's upper and the bottom's lower limit.

    Parameters
    ----------
    top, bottom : Interval
        Where ``bottom.lower`` is not above 0 nothing is known: the limits are 0 and infinity.
    correlation : (n_targets,) float64
        Of the two estimates.

    References
    ----------
    Zou, Donner 2008 (variance estimates recovery); Fieller 1954.
    """
    usable = bottom.lower > 0.0
    size = np.where(usable, bottom.estimate, 1.0)
    ratio = top.estimate / size
    # In units of the bottom's estimate: distances of the limits that raise and that lower the ratio.
    raise_top = (top.upper - top.estimate) / size
    lower_top = (top.estimate - top.lower) / size
    raise_bottom = np.where(usable, (bottom.estimate - bottom.lower) / size, 0.0)
    lower_bottom = np.where(usable, (bottom.upper - bottom.estimate) / size, 0.0)
    upper = _fieller(ratio, raise_top, raise_bottom, correlation, 1.0)
    lower = _fieller(ratio, lower_top, lower_bottom, correlation, -1.0)
    return Interval(
        np.where(usable, ratio, math.nan),
        np.where(usable, np.maximum(lower, 0.0), 0.0),
        np.where(usable, np.maximum(upper, 0.0), math.inf),
    )


def _fieller(ratio: Array, a: Array, b: Array, correlation: Array, side: float) -> Array:
    """Root R of ``(ratio - R)² = a² + R²b² - 2 R ab·correlation`` on the given side of the ratio."""
    middle = ratio - correlation * a * b
    root = np.sqrt(np.maximum(middle**2 - (1.0 - b**2) * (ratio**2 - a**2), 0.0))
    # Away from (1 - b²) = 0 the plain formula; a lower limit with b ≥ 1 is no limit at all.
    denominator = 1.0 - b**2
    limit: Array = np.where(
        denominator > 0.0,
        (middle + side * root) / np.where(denominator > 0.0, denominator, 1.0),
        0.0,
    )
    return limit
