"""Ridge regression of many targets from sufficient statistics, λ per target.

For each target: minimise ``Σ_j (f_j - a0 - (x_j - c)·a)² + λ‖a‖²``. One eigendecomposition of the
Gram matrix serves all λ and all targets. Statistics alone give the generalised cross-validation
error ``(RSS / m) / (1 - df / m)²``, df = Σ d/(d + λ) and 1 for a free intercept; with the rows at
hand `pyattr.attribution.leave_one_out_error` gives the exact one.

References
----------
Golub, Heath and Wahba, "Generalized cross-validation", Technometrics 1979.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from pyattr.attribution.plan import N_LAMBDAS
from pyattr.attribution.statistics import SufficientStatistics

__all__ = [
    "SQUARE_ERROR",
    "RidgeFit",
    "Spectrum",
    "default_lambdas",
    "fit_ridge",
    "gcv_errors",
    "pick",
    "spectrum",
]

_RELATIVE_LAMBDAS = np.logspace(4, -4, N_LAMBDAS)
# Eigenvalues in float32 are off by about 1e-7 of the largest. Where that is below this share of
# the smallest λ + eigenvalue, it moves no fit by more than float32 scores show.
_SINGLE_ERROR = 1e-5
# Of RSS relative to the sum of squares, from roundings.
SQUARE_ERROR = {np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-11}

Float64 = NDArray[np.float64]


class RidgeFit(NamedTuple):
    """Scores of all targets at their own λ.

    Parameters
    ----------
    scores : (n_train, n_targets) float64
    lambdas : (n_targets,) float64
        The λ with the smallest error; the largest such λ on a tie.
    error : (n_targets,) float64
        Mean squared error at that λ: leave-one-out or generalised cross-validation.
    """

    scores: Float64
    lambdas: Float64
    error: Float64


class Spectrum(NamedTuple):
    """Gram matrix of the rows in its eigenbasis, for falling λ.

    Parameters
    ----------
    values : (n_train,) float64
        Eigenvalues d of the sum over rows of ``(x - c)(x - c)ᵀ``, at least 0.
    vectors : (n_train, n_train) float32 or float64
    projected : (n_train, n_targets) float64
        Eigenvectorsᵀ times the sum over rows of ``(x - c) yᵀ``, y in units of its scale.
    square : (n_targets,) float64
        Σ y².
    lambdas : (n_lambdas,) float64
        Falling.
    shrunk : (n_train, n_lambdas) float64
        ``1 / (d + λ)``.
    n_rows : int
    constant : float
        What a free intercept adds to each row's own weight: 1 / n_rows, or 0 without one.
    """

    values: Float64
    vectors: NDArray[np.floating[Any]]
    projected: Float64
    square: Float64
    lambdas: Float64
    shrunk: Float64
    n_rows: int
    constant: float

    def residual_squares(self) -> Float64:
        """Sum over rows of the squared residual, (n_lambdas, n_targets)."""
        weight = self.shrunk * (2.0 - self.shrunk * self.values[:, np.newaxis])
        squares = self.square - weight.T @ np.square(self.projected)
        return np.asarray(np.maximum(squares, 0.0))

    def scores(self, chosen: NDArray[np.intp], targets: NDArray[np.intp] | slice) -> Float64:
        """Scores of the targets at λ number `chosen`, (n_train, n) float64, y in its units."""
        weights = self.projected[:, targets] * self.shrunk[:, chosen]
        return np.asarray(self.vectors @ weights.astype(self.vectors.dtype), np.float64)


def default_lambdas(mean_eigenvalue: float) -> Float64:
    """25 values from 1e4 to 1e-4 times the mean eigenvalue of the Gram matrix, three a decade.

    The best λ over the mean eigenvalue is near ``n_train/n_masks · noise/signal``, which lies
    inside for any n_masks/n_train from 1/100 to 100 and noise/signal from 1/100 to 100.
    """
    return mean_eigenvalue * _RELATIVE_LAMBDAS


def spectrum(statistics: SufficientStatistics, scale: Float64, lambdas: Float64 | None) -> Spectrum:
    """Eigendecomposition of the Gram matrix of the rows.

    Parameters
    ----------
    statistics : SufficientStatistics
    scale : (n_targets,) float64
        Unit of the outputs.
    lambdas : (n_lambdas,) float64, optional
        Candidates, above 0; `default_lambdas` if not given.

    Returns
    -------
    Spectrum
        In float32 where that is exact enough for scores in float32.
    """
    n_rows, n_train = statistics.n_rows, statistics.n_train
    share = n_rows / statistics.n_masks  # a pair of complements is two masks and one row
    diagonal = statistics.column_counts * (1.0 - statistics.mean_row) * share
    falling = default_lambdas(float(diagonal.mean())) if lambdas is None else lambdas
    falling = np.sort(falling)[::-1]
    values, vectors = np.zeros(0), np.zeros((0, 0))
    for dtype in (np.float32, np.float64) if n_rows >= 2 * n_train else (np.float64,):
        gram = statistics.centred_gram(dtype)
        gram *= dtype(share)
        values, vectors = scipy.linalg.eigh(gram.T, overwrite_a=True, driver="evd")
        values = np.maximum(values.astype(np.float64), 0.0)
        off = np.finfo(np.float32).eps * values[-1]
        if dtype is np.float64 or off <= _SINGLE_ERROR * (values[0] + falling[-1]):
            break
    cross = statistics.centred_cross() * (share / scale)
    projected = vectors.T @ cross.astype(vectors.dtype)
    return Spectrum(
        values,
        vectors,
        projected.astype(np.float64),
        statistics.row_square * n_rows / scale**2,
        falling,
        1.0 / (values[:, np.newaxis] + falling),
        n_rows,
        1.0 / n_rows if statistics.design == "iid" else 0.0,
    )


def gcv_errors(fit: Spectrum) -> Float64:
    """Generalised cross-validation error of every λ and target, (n_lambdas, n_targets).

    Residuals are no smaller than roundings make them: where a fit interpolates, both parts of the ratio
    would be nothing else.
    """
    freedom = (fit.shrunk * fit.values[:, np.newaxis]).mean(axis=0) * len(fit.values)
    left = np.maximum(1.0 - fit.constant - freedom / fit.n_rows, np.finfo(np.float64).eps)
    least = SQUARE_ERROR[fit.vectors.dtype] * fit.square
    squares = np.maximum(fit.residual_squares(), least)
    return np.asarray(squares / fit.n_rows / np.square(left)[:, np.newaxis])


def pick(fit: Spectrum, errors: Float64, scale: Float64) -> RidgeFit:
    """Scores at the λ of the least error.

    Parameters
    ----------
    fit : Spectrum
    errors : (n_lambdas, n_targets) float64
    scale : (n_targets,) float64

    Returns
    -------
    RidgeFit
    """
    best = errors.argmin(axis=0)
    least = errors[best, np.arange(len(best))]
    return RidgeFit(fit.scores(best, slice(None)) * scale, fit.lambdas[best], least * scale**2)


def fit_ridge(
    statistics: SufficientStatistics, scale: Float64, lambdas: Float64 | None
) -> RidgeFit:
    """Fit every target at the λ of the least generalised cross-validation error.

    Parameters
    ----------
    statistics, scale, lambdas
        As for `spectrum`.

    Returns
    -------
    RidgeFit
    """
    fit = spectrum(statistics, scale, lambdas)
    return pick(fit, gcv_errors(fit), scale)
