"""Ridge regression with λ by the exact error of leaving each row out.

That error is ``(f_j - g(x_j)) / (1 - h_jj)`` with the fit to *all* rows, h_jj the row's own weight
in its prediction. All h_jj of all λ come from one product of squared rotated rows. Residuals cost a
product for each λ and target, so they are computed for few: RSS, known from the spectrum, over the
largest and the smallest ``(1 - h_jj)²`` bounds the error from both sides, and a λ whose lower bound
is above another's upper bound is out.

References
----------
Allen, "The relationship between variable selection and data augmentation", Technometrics 1974;
Golub, Heath and Wahba, "Generalized cross-validation", Technometrics 1979.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from pyattr.attribution.ridge import SQUARE_ERROR, RidgeFit, default_lambdas, pick, spectrum
from pyattr.attribution.rows import Rows
from pyattr.attribution.statistics import SufficientStatistics
from pyattr.kernels import packed_matmul, packed_matmul_transposed

__all__ = ["fit_ridge_by_rows", "fit_ridge_in_row_space"]

_FITS_AT_ONCE = 1 << 10  # pairs (λ, target): the residuals of a block of rows stay in memory
_BOUND_ERROR = 1e-3  # relative, of RSS and 1 - h_jj, from roundings

Float64 = NDArray[np.float64]


def fit_ridge_by_rows(
    statistics: SufficientStatistics, scale: Float64, lambdas: Float64 | None, rows: Rows
) -> RidgeFit:
    """Fit by the Gram matrix; for more rows than examples.

    Parameters
    ----------
    statistics : SufficientStatistics
        Of the rows, with counts of pairs.
    scale : (n_targets,) float64
        Unit of the outputs.
    lambdas : (n_lambdas,) float64, optional
        Candidates, above 0; by default `pyattr.attribution.ridge.default_lambdas`.
    rows : Rows

    Returns
    -------
    RidgeFit

    Notes
    -----
    Time O(m · N · (N + n_lambdas + pairs) + N³), "pairs" of λ and target that the bounds leave.
    """
    fit = spectrum(statistics, scale, lambdas)
    # 1 - h_jj averages at least 1 - n_train/n_rows: near 0 it needs float64.
    single = fit.n_rows >= 2 * statistics.n_train
    dtype: type[np.floating[Any]] = np.float32 if single else np.float64
    vectors, shrunk = np.ascontiguousarray(fit.vectors, dtype), fit.shrunk.astype(dtype)
    centre = statistics.mean_row
    free = np.empty((fit.n_rows, len(fit.lambdas)), dtype)
    for part in rows.blocks():
        rotated = _product(rows, part, vectors, centre)
        np.square(rotated, out=rotated)
        np.matmul(rotated, shrunk, out=free[part])
    np.subtract(1.0 - fit.constant, free, out=free)
    # Positive; where rounding says otherwise, the row's own weight is all but 1.
    np.maximum(free, np.finfo(dtype).eps, out=free)
    squares = fit.residual_squares()
    errors = np.full(squares.shape, np.inf)
    slack = SQUARE_ERROR[fit.vectors.dtype] * fit.square
    for chosen, targets in _groups(*_contenders(squares, slack, free)):
        span = slice(int(targets[0]), int(targets[-1]) + 1)
        weights = fit.scores(chosen, targets).astype(dtype)
        sums = np.zeros(len(chosen))
        for part in rows.blocks():
            values = rows.outputs(part, span, statistics.mean, scale).astype(dtype)
            residual = values[:, targets - span.start]
            residual -= _product(rows, part, weights, centre)
            sums += _sum_of_squares(residual, free[part][:, chosen])
        errors[chosen, targets] = sums / fit.n_rows
    return pick(fit, errors, scale)


def fit_ridge_in_row_space(
    statistics: SufficientStatistics, scale: Float64, lambdas: Float64 | None, rows: Rows
) -> RidgeFit:
    """Fit by the matrix of inner products of rows; for fewer rows than examples.

    Residual and 1 - h_jj are both λ times a positive sum: exact for any λ.

    Parameters
    ----------
    statistics, scale, lambdas, rows
        As for `fit_ridge_by_rows`; counts of pairs are not used.

    Returns
    -------
    RidgeFit
    """
    n_rows, centre, intercept = statistics.n_rows, statistics.mean_row, rows.design == "iid"
    kernel = rows.kernel(centre)
    trace = float(np.trace(kernel))
    if lambdas is None:
        lambdas = default_lambdas(trace / statistics.n_train)
    lambdas = np.sort(lambdas)[::-1]
    if intercept:
        # The constant vector has eigenvalue 0 like any repeated row has. Lift it above all
        # others, where it is the last one and can be left out: the intercept takes it.
        kernel += 2.0 * trace / n_rows
    eigenvalues, vectors = scipy.linalg.eigh(kernel.T, overwrite_a=True, driver="evd")
    if intercept:
        eigenvalues, vectors = eigenvalues[:-1], vectors[:, :-1]
    values = rows.outputs(slice(0, n_rows), slice(None), statistics.mean, scale)
    projected = vectors.T @ values
    shrunk = 1.0 / (np.maximum(eigenvalues, 0.0)[:, np.newaxis] + lambdas)
    # Divided by λ, which cancels:
    free = np.square(vectors) @ shrunk
    squares = np.square(shrunk).T @ np.square(projected)
    errors = np.full(squares.shape, np.inf)
    slack = np.zeros(squares.shape[1])
    for chosen, targets in _groups(*_contenders(squares, slack, free)):
        residual = vectors @ (projected[:, targets] * shrunk[:, chosen])
        errors[chosen, targets] = _sum_of_squares(residual, free[:, chosen]) / n_rows
    best = errors.argmin(axis=0)
    dual = np.ascontiguousarray(vectors @ (projected * shrunk[:, best]), np.float32)
    masks = rows.masks
    scores = packed_matmul_transposed(masks.packed, dual, masks.n_train, dtype=np.float64)
    scores -= np.outer(centre, dual.sum(axis=0, dtype=np.float64))
    least = errors[best, np.arange(len(best))]
    return RidgeFit(scores * scale, lambdas[best], least * scale**2)


def _contenders(
    squares: Float64, slack: Float64, free: NDArray[np.floating[Any]]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Numbers of the λ and targets that may have the least error, by rising target.

    Parameters
    ----------
    squares : (n_lambdas, n_targets) float64
        Sums of squared residuals ...
    slack : (n_targets,) float64
        ... and what they may be off by.
    free : (n_rows, n_lambdas)
        1 - h_jj.
    """
    smallest = np.square(free.min(axis=0, initial=np.inf).astype(np.float64))[:, np.newaxis]
    largest = np.square(free.max(axis=0, initial=0.0).astype(np.float64))[:, np.newaxis]
    lower = np.maximum(squares - slack, 0.0) / (largest * (1.0 + _BOUND_ERROR))
    upper = (squares + slack) * (1.0 + _BOUND_ERROR) / smallest
    targets, chosen = np.nonzero((lower <= upper.min(axis=0)).T)
    return chosen, targets


def _groups(
    chosen: NDArray[np.intp], targets: NDArray[np.intp]
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    for first in range(0, len(chosen), _FITS_AT_ONCE):
        part = slice(first, first + _FITS_AT_ONCE)
        yield chosen[part], targets[part]


def _product(
    rows: Rows, part: slice, weights: NDArray[np.floating[Any]], centre: Float64
) -> NDArray[Any]:
    """``(x - centre) @ weights`` in the type of the weights, for some rows."""
    masks = rows.masks[part]
    if weights.dtype == np.float32:
        product = packed_matmul(masks.packed, np.ascontiguousarray(weights))
        product -= (centre @ weights).astype(np.float32)
        return product
    return np.asarray((masks.unpack() - centre) @ weights)


def _sum_of_squares(residual: NDArray[Any], free: NDArray[Any]) -> Float64:
    """Sum over rows of ``(residual / free)²``; overwrites `residual`."""
    residual /= free
    return np.asarray(np.einsum("jp,jp->p", residual, residual, dtype=np.float64))
