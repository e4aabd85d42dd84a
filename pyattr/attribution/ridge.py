"""Ridge regression of many targets on one set of masks, λ by exact leave-one-out.

For each target: minimise ``Σ_j (f_j - a0 - (x_j - c)·a)² + λ‖a‖²``. One eigendecomposition, of the
smaller of the Gram and the kernel matrix, serves all λ and all targets. The error of leaving row j
out is ``(f_j - g(x_j)) / (1 - h_jj)`` with the fit to *all* rows, where the hat diagonal h_jj
includes 1/n_masks for the free intercept.

References
----------
Allen, "The relationship between variable selection and data augmentation", Technometrics 1974;
Golub, Heath and Wahba, "Generalized cross-validation", Technometrics 1979.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from pyattr.attribution.rows import CentredRows, dense_blocks

__all__ = ["RidgeFit", "default_lambdas", "fit_ridge"]

_RELATIVE_LAMBDAS = np.logspace(4, -4, 25)
_FITS_AT_ONCE = 1 << 11  # pairs (λ, target): the residuals of a block of rows stay in memory

Float64 = NDArray[np.float64]


class RidgeFit(NamedTuple):
    """Scores of all targets at their own λ.

    Parameters
    ----------
    scores : (n_train, n_targets) float64
    lambdas : (n_targets,) float64
        The λ with the smallest leave-one-out error; the largest such λ on a tie.
    loo_mse : (n_targets,) float64
        Mean squared leave-one-out error at that λ.
    """

    scores: Float64
    lambdas: Float64
    loo_mse: Float64


def default_lambdas(mean_eigenvalue: float) -> Float64:
    """25 values from 1e4 to 1e-4 times the mean eigenvalue of the Gram matrix, three a decade.

    The best λ over the mean eigenvalue is near ``n_train/n_masks · noise/signal``, which lies
    inside for any n_masks/n_train from 1/100 to 100 and noise/signal from 1/100 to 100.
    """
    return mean_eigenvalue * _RELATIVE_LAMBDAS


def fit_ridge(
    rows: CentredRows, values: NDArray[np.float32], lambdas: Float64 | None, *, intercept: bool
) -> RidgeFit:
    """Fit every target at the λ of the smallest exact leave-one-out error.

    Parameters
    ----------
    rows : CentredRows
        n_masks ≥ 2 rows; with a free intercept they are centred at their mean.
    values : (n_masks, n_targets) float32
        Outputs; with a free intercept centred at their mean.
    lambdas : (n_lambdas,) float64, optional
        Candidates, above 0; `default_lambdas` if not given.
    intercept : bool
        Whether the model has a free intercept.

    Returns
    -------
    RidgeFit

    Notes
    -----
    Time O(n_masks · n · (n + n_lambdas · n_targets) + n³) with n = min(n_masks, n_train).
    """
    n_masks, n_train = rows.shape
    if n_masks <= n_train:
        return _fit_kernel(rows, values, lambdas, intercept)
    eigenvalues, vectors = scipy.linalg.eigh(rows.gram(), overwrite_a=True, driver="evd")
    eigenvalues = np.maximum(eigenvalues, 0.0)
    if lambdas is None:
        lambdas = default_lambdas(float(eigenvalues.mean()))
    projected = vectors.T @ rows.transposed_product(values)
    shrunk = 1.0 / (eigenvalues[:, np.newaxis] + np.sort(lambdas)[::-1])
    # 1 - h_jj averages at least 1 - n_train/n_masks: near 0 it needs float64.
    dtype = np.float32 if n_masks >= 2 * n_train else np.float64
    basis = vectors.astype(dtype)
    constant = 1.0 / n_masks if intercept else 0.0
    errors = np.zeros((shrunk.shape[1], values.shape[1]))
    for which, bits in dense_blocks(rows.masks):
        rotated = (bits - rows.centre.astype(dtype)) @ basis
        free = (1.0 - constant) - np.square(rotated) @ shrunk.astype(dtype)
        for part, weights in _weights(projected, shrunk):
            residual = (rotated @ weights.astype(dtype)).reshape(
                len(bits), -1, part.stop - part.start
            )
            np.subtract(values[which, np.newaxis, part], residual, out=residual)
            errors[:, part] += _sum_of_squares(residual, free)
    best = errors.argmin(axis=0)
    scores = vectors @ (projected * shrunk[:, best])
    return _chosen(scores, errors, best, lambdas, n_masks)


def _fit_kernel(
    rows: CentredRows, values: NDArray[np.float32], lambdas: Float64 | None, intercept: bool
) -> RidgeFit:
    """Fit in the space of rows: residual and 1 - h_jj are both λ times a positive sum."""
    n_masks, n_train = rows.shape
    kernel = rows.kernel()
    trace = float(np.trace(kernel))
    if lambdas is None:
        lambdas = default_lambdas(trace / n_train)
    if intercept:
        # The constant vector has eigenvalue 0 like any repeated row has. Lift it above all
        # others, where it is the last one and can be left out: the intercept takes it.
        kernel += 2.0 * trace / n_masks
    eigenvalues, vectors = scipy.linalg.eigh(kernel, overwrite_a=True, driver="evd")
    if intercept:
        eigenvalues, vectors = eigenvalues[:-1], vectors[:, :-1]
    eigenvalues = np.maximum(eigenvalues, 0.0)
    projected = vectors.T @ values.astype(np.float64)
    shrunk = 1.0 / (eigenvalues[:, np.newaxis] + np.sort(lambdas)[::-1])
    free = np.square(vectors) @ shrunk
    errors = np.zeros((shrunk.shape[1], values.shape[1]))
    for part, weights in _weights(projected, shrunk):
        residual = (vectors @ weights).reshape(n_masks, -1, part.stop - part.start)
        errors[:, part] += _sum_of_squares(residual, free)
    best = errors.argmin(axis=0)
    scores = rows.transposed_product(vectors @ (projected * shrunk[:, best]))
    return _chosen(scores, errors, best, lambdas, n_masks)


def _weights(projected: Float64, shrunk: Float64) -> Iterator[tuple[slice, Float64]]:
    """Coefficients of every λ for a few targets at a time, (n, n_lambdas · n_part)."""
    n_targets = projected.shape[1]
    step = max(1, _FITS_AT_ONCE // shrunk.shape[1])
    for first in range(0, n_targets, step):
        part = slice(first, min(first + step, n_targets))
        product = shrunk[:, :, np.newaxis] * projected[:, np.newaxis, part]
        yield part, product.reshape(len(projected), -1)


def _sum_of_squares(residual: NDArray[Any], free: NDArray[Any]) -> Float64:
    """Sum over rows of ``(residual / free)²``: (n_lambdas, n_targets); overwrites `residual`."""
    # `free` is positive; where rounding says otherwise, the row's own weight is all but 1.
    residual /= np.maximum(free, np.finfo(free.dtype).eps)[:, :, np.newaxis]
    return np.asarray(np.einsum("jlt,jlt->lt", residual, residual, dtype=np.float64))


def _chosen(
    scores: Float64, errors: Float64, best: NDArray[np.intp], lambdas: Float64, n_masks: int
) -> RidgeFit:
    smallest = np.take_along_axis(errors, best[np.newaxis], axis=0)[0]
    return RidgeFit(scores, np.sort(lambdas)[::-1][best], smallest / n_masks)
