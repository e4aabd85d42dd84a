"""Var f from the outputs of clusters, with the help of what the scores say about it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pyattr.verification.interval import Interval, Levels
from pyattr.verification.near_normal import t_interval

__all__ = ["VarianceParts", "divide", "known_floor", "regression_variance"]

Array = npt.NDArray[np.float64]

# Below this many clusters a fitted slope would eat the degrees of freedom that the limits need.
REGRESSION_CLUSTERS = 8


@dataclass(frozen=True)
class VarianceParts:
    """Where the squared standard error of a gap estimate comes from, in squared units of the gap.

    Parameters
    ----------
    effect : (n_targets,) float64
        From the gap itself: nothing at a gap of 0.
    noise : (n_targets,) float64
        From residuals that are there at a gap of 0 too.
    """

    effect: Array
    noise: Array


def regression_variance(
    output_square: Array,
    predicted_square: Array,
    variance_predicted: Array,
    products: Array,
    levels: Levels,
) -> tuple[Interval, Array]:
    """Var f by the regression estimator, and its correlation with the gap estimate.

    Var g follows from the scores, so the part of the sampling error of ``mean (f - f̄)²`` that goes
    with that of ``mean (g - E g)²`` is removed: for good scores nearly all of it. Student t over
    clusters, one degree of freedom given to the slope.

    Parameters
    ----------
    output_square, predicted_square : (C, n_targets) float64
        Means over each cluster of ``(f - f̄)²`` and ``(g - E g)²``.
    variance_predicted : (n_targets,) float64
        Var g over masks.
    products : (C, n_targets) float64
        ``U_c``.
    levels : Levels

    Returns
    -------
    interval : Interval
    correlation : (n_targets,) float64
        Between the cluster terms of this estimate and ``U_c``, not above 0: the case in which both
        err towards acceptance at once.

    References
    ----------
    Cochran 1977, *Sampling Techniques*, chapter 7 (regression estimators).
    """
    if output_square.shape[0] < REGRESSION_CLUSTERS:
        return t_interval(output_square, levels), np.full(output_square.shape[1], -1.0)
    known = predicted_square - predicted_square.mean(axis=0)
    slope = divide(np.sum(known * output_square, axis=0), np.sum(known**2, axis=0))
    terms = output_square - slope * (predicted_square - variance_predicted)
    left, right = terms - terms.mean(axis=0), products - products.mean(axis=0)
    size = np.sqrt(np.sum(left**2, axis=0) * np.sum(right**2, axis=0))
    correlation = np.minimum(divide(np.sum(left * right, axis=0), size), 0.0)
    return t_interval(terms, levels, n_fitted=2), correlation


def known_floor(variance_predicted: Array, gap_upper: Array) -> Array:
    """Lower limit of Var f that holds whenever the upper limit of the gap does.

    *Proof note.* With c and ĉ the linear Fourier coefficients of g and f, ``‖ĉ‖ ≥ ‖c‖ - ‖c - ĉ‖``
    (Minkowski), ``‖c‖² = Var g`` is known from the scores, ``‖c - ĉ‖² = B_1(r)`` is the gap, and
    ``Var f ≥ B_1(f) = ‖ĉ‖²``. So ``Var f ≥ (√Var g - √gap)²``, without another measurement and without
    a share of δ. Test: ``tests/verification/test_bounded.py``.

    Parameters
    ----------
    variance_predicted, gap_upper : (n_targets,) float64
    """
    root = np.sqrt(variance_predicted) - np.sqrt(np.maximum(gap_upper, 0.0))
    floor: Array = np.maximum(root, 0.0) ** 2
    return floor


def divide(top: Array, bottom: Array) -> Array:
    """Ratio, and 0 where the bottom is 0."""
    ratio: Array = np.where(bottom > 0.0, top / np.where(bottom > 0.0, bottom, 1.0), 0.0)
    return ratio
