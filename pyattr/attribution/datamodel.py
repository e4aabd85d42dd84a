"""Datamodels: the linear function of the subset that fits the recorded outputs best.

References
----------
Ilyas, Park, Engstrom, Leclerc and Madry, "Datamodels: predicting predictions from training data",
ICML 2022 (arXiv 2202.00622).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray

from pyattr.attribution.checks import check_outputs
from pyattr.attribution.designs import Design, check_design
from pyattr.attribution.result import Attribution
from pyattr.attribution.ridge import fit_ridge
from pyattr.attribution.statistics import CentredRows, column_counts, standardise
from pyattr.errors import bad_value

if TYPE_CHECKING:
    from pyattr.masks import Masks

__all__ = ["fit_datamodel"]

_TARGETS_AT_ONCE = 256

Float64 = NDArray[np.float64]


class _Regression(NamedTuple):
    """Rows and standardised outputs of the regression that a design asks for."""

    rows: CentredRows
    values: NDArray[np.float32]
    scale: Float64
    mean: Float64  # of the outputs, at ...
    mean_row: Float64  # ... this mean subset
    intercept: bool  # whether the regression itself has one to estimate


def fit_datamodel(
    masks: Masks,
    outputs: ArrayLike,
    method: Literal["ridge", "ols"] = "ridge",
    *,
    lambdas: ArrayLike | None = None,
    design: Design = "iid",
) -> Attribution:
    """Fit scores by regression of the outputs on the masks.

    Parameters
    ----------
    masks : Masks
        n_masks subsets.
    outputs : (n_masks, n_targets) array_like
        Outputs of the models trained on them.
    method : {"ridge", "ols"}
        "ridge": λ for each target by exact leave-one-out. "ols": least squares, which needs more
        subsets than examples.
    lambdas : (n_lambdas,) array_like, optional
        Candidates for ridge, above 0, in the units of ``Σ residual² + λ Σ score²``; by default 25
        from 1e4 to 1e-4 times the mean eigenvalue of the Gram matrix.
    design : {"iid", "complement"}
        "complement": rows 2j and 2j+1 are complements. Then ``(f(x) - f(x̄))/2`` is regressed on
        ``x - 1/2``: all even-degree parts of f drop out of the residual, at the price of half as
        many rows; the intercept comes from the mean of ``(f(x) + f(x̄))/2``.

    Returns
    -------
    Attribution
        ``details``: for ridge ``lambda`` and ``loo_mse``, the mean squared leave-one-out error of
        a row (of a pair's half difference for "complement"). For least squares
        ``residual_variance``, and standard errors that assume it is the same for all subsets.

    Raises
    ------
    ValueError
        If shapes do not fit, a value is not finite, all masks are equal, or least squares has no
        unique solution.
    """
    if method not in ("ridge", "ols"):
        raise bad_value("method", '"ridge" or "ols"', repr(method))
    values = check_outputs(masks, outputs)
    check_design(masks, design)
    candidates = _check_lambdas(lambdas, method)
    regression = (_paired if design == "complement" else _centred)(masks, values)
    error = None
    if method == "ols":
        scores, error, variance = _least_squares(regression)
        error = error * regression.scale
        details = {"residual_variance": variance * regression.scale**2}
    else:
        fit = fit_ridge(
            regression.rows, regression.values, candidates, intercept=regression.intercept
        )
        scores = fit.scores
        details = {"lambda": fit.lambdas, "loo_mse": fit.loo_mse * regression.scale**2}
    scores *= regression.scale
    return Attribution(
        scores=scores,
        intercept=regression.mean - regression.mean_row @ scores,
        standard_error=error,
        method=method,
        design=design,
        details=details,
    )


def _check_lambdas(lambdas: ArrayLike | None, method: str) -> Float64 | None:
    if lambdas is None:
        return None
    if method != "ridge":
        raise bad_value("lambdas", f"none for method {method!r}", lambdas)
    values = np.atleast_1d(np.asarray(lambdas, dtype=np.float64))
    if values.ndim != 1 or not values.size or not ((values > 0) & np.isfinite(values)).all():
        raise bad_value("lambdas", "finite numbers above 0 in one dimension", lambdas)
    return values


def _centred(masks: Masks, values: NDArray[np.floating[Any]]) -> _Regression:
    """Rows minus their mean, outputs minus their mean: the free intercept is gone."""
    if masks.n_masks < 2:
        raise bad_value("masks", "at least 2 rows", masks.n_masks)
    count = column_counts(masks)
    if np.all((count == 0) | (count == masks.n_masks)):
        raise bad_value("masks", "at least two different rows", "all rows equal")
    mean_row = count / masks.n_masks
    standard, mean, scale = standardise(values)
    rows = CentredRows(masks, mean_row)
    return _Regression(rows, standard, scale, mean, mean_row, intercept=True)


def _paired(masks: Masks, values: NDArray[np.floating[Any]]) -> _Regression:
    """Half differences of pairs on x - 1/2, which have no intercept."""
    first, second = values[0::2].astype(np.float64), values[1::2].astype(np.float64)
    standard, _, scale = standardise((first - second) / 2.0, centre=False)
    half = np.full(masks.n_train, 0.5)
    mean = ((first + second) / 2.0).mean(axis=0)
    return _Regression(CentredRows(masks[0::2], half), standard, scale, mean, half, intercept=False)


def _least_squares(regression: _Regression) -> tuple[Float64, Float64, Float64]:
    """Scores, their standard errors, and the residual variance of each target."""
    rows = regression.rows
    n_rows, n_train = rows.shape
    n_free = n_rows - n_train - int(regression.intercept)
    if n_free < 1:
        raise bad_value(
            "masks",
            f"more than {n_rows - n_free} rows for least squares on {n_train} examples"
            + ("" if regression.intercept else " (a pair of complements is one row)"),
            f"{n_rows}; ridge needs no such number",
        )
    eigenvalues, vectors = scipy.linalg.eigh(rows.gram(), overwrite_a=True, driver="evd")
    if eigenvalues[0] <= n_train * np.finfo(np.float64).eps * n_rows * eigenvalues[-1]:
        raise bad_value(
            "masks",
            "examples that no other examples determine",
            "a singular Gram matrix; ridge can fit it",
        )
    inverse = vectors / eigenvalues @ vectors.T
    scores = inverse @ rows.transposed_product(regression.values)
    squares = np.empty(scores.shape[1])
    for first in range(0, scores.shape[1], _TARGETS_AT_ONCE):
        part = slice(first, first + _TARGETS_AT_ONCE)
        residual = regression.values[:, part] - rows.product(scores[:, part])
        squares[part] = np.einsum("jt,jt->t", residual, residual)
    variance = squares / n_free
    error = np.sqrt(np.diagonal(inverse)[:, np.newaxis] * variance)
    return scores, error, variance
