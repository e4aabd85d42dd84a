"""Limits that rest on near-normal data.

Cluster c of a gap estimate has a mean effect whose variance over clusters is the quantity wanted, and
leaves that scatter around it through seeds and redrawn bits: a one-way layout with random effects and
known mean zero. With ``MSB = L · mean_c(ō_c²)`` and ``MSW`` the within-cluster mean square,

    (MSB - MSW) / L = mean_c U_c,    U_c = Σ_{l≠l'} o_l o_l' / (L(L-1))

is unbiased whatever the distributions are; the limits below need them near normal. What is done where
they are not: `pyattr.verification.tails`.

References
----------
Ting, Burdick, Graybill, Jeyaratnam, Lu 1990 (modified large-sample limits for differences of mean
squares).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from pyattr.errors import bad_value
from pyattr.verification.interval import Interval, Levels

__all__ = ["MeanSquares", "chi2_interval", "t_interval"]

Array = npt.NDArray[np.float64]


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
