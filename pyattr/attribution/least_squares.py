"""Least squares of many targets from sufficient statistics, with standard errors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from pyattr.attribution.statistics import SufficientStatistics
from pyattr.errors import bad_value

__all__ = ["LeastSquaresFit", "fit_least_squares"]

Float64 = NDArray[np.float64]


class LeastSquaresFit(NamedTuple):
    """Scores of all targets and how well they are known.

    Parameters
    ----------
    scores, deviations : (n_train, n_targets) float64
        Least-squares scores and their standard errors.
    residual_variance : (n_targets,) float64
        Unbiased.
    """

    scores: Float64
    deviations: Float64
    residual_variance: Float64


def fit_least_squares(statistics: SufficientStatistics) -> LeastSquaresFit:
    """Minimise the sum of squared residuals of every target.

    Parameters
    ----------
    statistics : SufficientStatistics
        With counts of pairs of examples.

    Returns
    -------
    LeastSquaresFit
        The standard errors assume that the residual variance is the same for all subsets.

    Raises
    ------
    ValueError
        If there are too few rows, or the examples' columns are linearly dependent.
    """
    n_rows, n_train = statistics.n_rows, statistics.n_train
    paired = statistics.design == "complement"
    n_free = n_rows - n_train - int(not paired)
    if n_free < 1:
        raise bad_value(
            "masks",
            f"more than {n_rows - n_free} rows for least squares on {n_train} examples"
            + (" (a pair of complements is one row)" if paired else ""),
            f"{n_rows}; ridge needs no such number",
        )
    inverse = _inverse(statistics)
    cross = statistics.centred_cross() / statistics.n_masks
    scores = inverse @ cross
    residual = np.maximum(statistics.row_square - np.einsum("it,it->t", scores, cross), 0.0)
    variance = residual * (n_rows / n_free)
    deviations = np.sqrt(np.outer(np.diagonal(inverse) / n_rows, variance))
    return LeastSquaresFit(scores, deviations, variance)


def _inverse(statistics: SufficientStatistics) -> Float64:
    """Inverse of the mean of ``(x - mean)(x - mean)ᵀ``, by Cholesky."""
    mean = statistics.centred_gram() / statistics.n_masks
    constant = np.flatnonzero(np.diagonal(mean) == 0.0)
    if constant.size:
        expected = "every example in some masks and out of some for least squares"
        raise bad_value(
            "masks", expected, f"example {constant[0]} in all or none; ridge can fit it"
        )
    norm = np.abs(mean).sum(axis=0).max()
    # Symmetric, so its transpose is the Fortran order that LAPACK needs.
    factor, failed = lapack.dpotrf(mean.T, lower=False, overwrite_a=True)
    reciprocal = 0.0 if failed else lapack.dpocon(factor, norm)[0]
    if reciprocal <= statistics.n_train * statistics.n_rows * np.finfo(np.float64).eps:
        raise bad_value(
            "masks",
            "examples that no other examples determine",
            "a singular Gram matrix; ridge can fit it",
        )
    upper, _ = lapack.dpotri(factor, lower=False, overwrite_c=True)
    upper = np.triu(upper)
    return np.asarray(upper + np.triu(upper, 1).T)
