"""Estimates with one-sided limits, and ratios of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

__all__ = ["Interval", "Levels", "quotient_interval", "ratio_interval"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Levels:
    """How often each limit may fail.

    Parameters
    ----------
    lower, upper : float
        Probability that the lower (upper) limit is above (below) the truth.
    horizon : int, optional
        Sample size at which limits that hold at all sample sizes together are to be sharpest; the same
        whenever they are computed. By default that of the sample, for limits computed once.
    """

    lower: float
    upper: float
    horizon: int | None = None

    def times(self, share: float) -> Levels:
        """Both levels times a share."""
        return replace(self, lower=self.lower * share, upper=self.upper * share)

    def swapped(self) -> Levels:
        """The levels of a quantity that the one of interest is divided by."""
        return replace(self, lower=self.upper, upper=self.lower)


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


def quotient_interval(top: Interval, bottom: Interval) -> Interval:
    """Limits of ``top / bottom`` that hold whenever those of both do: no combination, no assumption.

    Parameters
    ----------
    top, bottom : Interval
        Where ``bottom.lower`` is not above 0 there is no upper limit.
    """
    safe = np.where(bottom.estimate > 0.0, bottom.estimate, 1.0)
    least = np.where(bottom.lower > 0.0, bottom.lower, 1.0)
    most = np.where(bottom.upper > 0.0, bottom.upper, 1.0)
    return Interval(
        np.where(bottom.estimate > 0.0, top.estimate / safe, math.nan),
        np.where(bottom.upper > 0.0, np.maximum(top.lower, 0.0) / most, 0.0),
        np.where(bottom.lower > 0.0, np.maximum(top.upper, 0.0) / least, math.inf),
    )


def ratio_interval(top: Interval, bottom: Interval, correlation: Array) -> Interval:
    """Limits of ``top / bottom`` recovered from the limits of the two parts.

    The upper limit is the largest R at which ``top - R·bottom`` could be 0 if the distances of the
    parts' limits from their estimates combined like correlated standard errors; the lower limit
    likewise. The upper limit has the level of the top's upper and the bottom's lower limit.

    Parameters
    ----------
    top, bottom : Interval
        Where ``bottom.lower`` is not above 0 the limits are 0 and infinity; without an estimate of the
        bottom above 0 there is none of the ratio.
    correlation : (n_targets,) float64
        Of the two estimates.

    References
    ----------
    Zou, Donner 2008 (variance estimates recovery); Fieller 1954.
    """
    usable, known = bottom.lower > 0.0, bottom.estimate > 0.0
    size = np.where(known, bottom.estimate, 1.0)
    ratio = top.estimate / size
    # In units of the bottom's estimate: distances of the limits that raise and that lower the ratio.
    raise_top = (top.upper - top.estimate) / size
    lower_top = (top.estimate - top.lower) / size
    raise_bottom = np.where(usable, (bottom.estimate - bottom.lower) / size, 0.0)
    lower_bottom = np.where(usable, (bottom.upper - bottom.estimate) / size, 0.0)
    upper = _fieller(ratio, raise_top, raise_bottom, correlation, 1.0)
    lower = _fieller(ratio, lower_top, lower_bottom, correlation, -1.0)
    return Interval(
        np.where(known, ratio, math.nan),
        np.where(usable, np.maximum(lower, 0.0), 0.0),
        np.where(usable, np.maximum(upper, 0.0), math.inf),
    )


def _fieller(ratio: Array, a: Array, b: Array, correlation: Array, side: float) -> Array:
    """Root R of ``(ratio - R)² = a² + R²b² - 2 R ab·correlation`` on the given side of the ratio."""
    middle = ratio - correlation * a * b
    root = np.sqrt(np.maximum(middle**2 - (1.0 - b**2) * (ratio**2 - a**2), 0.0))
    # Away from (1 - b²) = 0 the plain formula; with b ≥ 1 there is no limit at all.
    denominator = 1.0 - b**2
    limit: Array = np.where(
        denominator > 0.0,
        (middle + side * root) / np.where(denominator > 0.0, denominator, 1.0),
        math.inf if side > 0.0 else 0.0,
    )
    return limit
