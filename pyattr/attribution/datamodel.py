"""Datamodels: the linear function of the subset that fits the recorded outputs best.

References
----------
Ilyas, Park, Engstrom, Leclerc and Madry, "Datamodels: predicting predictions from training data",
ICML 2022 (arXiv 2202.00622).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray

from pyattr.attribution.bayes import fit_bayes
from pyattr.attribution.checks import check_outputs
from pyattr.attribution.designs import Design, check_design
from pyattr.attribution.fixed_point import FixedPointScale
from pyattr.attribution.lasso import fit_lasso
from pyattr.attribution.moments import plan_memory
from pyattr.attribution.result import Attribution
from pyattr.attribution.ridge import fit_ridge
from pyattr.attribution.rows import CentredRows, column_counts, standardise
from pyattr.attribution.statistics import SufficientStatistics
from pyattr.errors import bad_value

if TYPE_CHECKING:
    from pyattr.masks import Masks

__all__ = ["fit_datamodel"]

_TARGETS_AT_ONCE = 256
_N_FOLDS = 5
# Counts and Gram, of everything, a fold and the rest; for the LASSO codes and active sets too.
_N_MATRICES = {"bayes": 3, "lasso": 9}

Method: TypeAlias = Literal["bayes", "lasso", "ridge", "ols"]

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
    method: Method = "bayes",
    *,
    lambdas: ArrayLike | None = None,
    design: Design = "iid",
    memory_limit: int | None = None,
) -> Attribution:
    """Fit scores by regression of the outputs on the masks.

    Parameters
    ----------
    masks : Masks
        n_masks subsets.
    outputs : (n_masks, n_targets) array_like
        Outputs of the models trained on them.
    method : {"bayes", "lasso", "ridge", "ols"}
        "bayes": empirical Bayes, the prior of the scores fitted to each target. "lasso": λ for
        each target by 5-fold cross-validation, refitted to all rows. "ridge": λ for each target
        by exact leave-one-out. "ols": least squares, which needs more subsets than examples.
    lambdas : (n_lambdas,) array_like, optional
        Candidates, above 0. For ridge in the units of ``Σ residual² + λ Σ score²``, by default 25
        from 1e4 to 1e-4 times the mean eigenvalue of the Gram matrix; for lasso in those of
        ``Σ residual² / 2 n_masks + λ Σ |score|``, by default from the least λ with all scores 0
        down to 0.01 of it or less (`pyattr.attribution.lasso.lambda_floor`).
    design : {"iid", "complement"}
        "complement": rows 2j and 2j+1 are complements. Then ``(f(x) - f(x̄))/2`` is regressed on
        ``x - 1/2``: all even-degree parts of f drop out of the residual, at the price of half as
        many rows; the intercept comes from the mean of ``(f(x) + f(x̄))/2``.
    memory_limit : int, optional
        Bytes that bayes and lasso may take for matrices; by default what is available.

    Returns
    -------
    Attribution
        ``details``, squared errors being those of a row (of a pair's half difference for
        "complement"): for bayes ``held_out_error`` (the fit's own estimate), ``residual_variance``,
        ``degrees_of_freedom`` and ``normal_prior`` (1 where one normal was the better prior), and
        posterior standard deviations as standard errors; for lasso ``lambda``, ``lambda_max``,
        ``held_out_error`` (cross-validated) and ``duality_gap`` (over the target's variance); for
        ridge ``lambda`` and ``loo_mse``, the leave-one-out error; for least squares
        ``residual_variance``, and standard errors that assume it is the same for all subsets.

    Raises
    ------
    ValueError
        If shapes do not fit, a value is not finite, all masks are equal, least squares has no
        unique solution, or the memory would not suffice.
    """
    if method not in get_args(Method):
        raise bad_value("method", " or ".join(map(repr, get_args(Method))), repr(method))
    values = check_outputs(masks, outputs)
    check_design(masks, design)
    candidates = _check_lambdas(lambdas, method)
    if method in ("bayes", "lasso"):
        plan_memory(masks.n_train, values.shape[1], _N_MATRICES[method], memory_limit)
        sums = _sums(masks, values, design, memory_limit)
        if method == "bayes":
            return _bayes(sums)
        return _lasso(sums, candidates)
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


class _Sums(NamedTuple):
    """Rows and outputs of the regression that a design asks for, and their sums."""

    masks: Masks
    values: NDArray[np.floating[Any]]
    statistics: SufficientStatistics
    mean: Float64  # of the outputs, at ...
    mean_row: Float64  # ... this mean subset
    design: Design

    @property
    def intercept(self) -> bool:
        return self.design == "iid"

    def fold(self, first: int) -> SufficientStatistics:
        rows = slice(first, None, _N_FOLDS)
        return SufficientStatistics.of(
            self.masks[rows], self.values[rows], scale=self.statistics.scale
        )


def _sums(
    masks: Masks, values: NDArray[np.floating[Any]], design: Design, memory_limit: int | None
) -> _Sums:
    """Sums over rows, or over half differences of pairs."""
    if design == "complement":
        first, second = values[0::2].astype(np.float64), values[1::2].astype(np.float64)
        masks, values = masks[0::2], (first - second) / 2.0
        scale = FixedPointScale.of(values, centre=0.0)
        sums = SufficientStatistics.of(masks, values, scale=scale, memory_limit=memory_limit)
        mean = ((first + second) / 2.0).mean(axis=0)
        return _Sums(masks, values, sums, mean, np.full(masks.n_train, 0.5), design)
    if masks.n_masks < 2:
        raise bad_value("masks", "at least 2 rows", masks.n_masks)
    sums = SufficientStatistics.of(masks, values, memory_limit=memory_limit)
    if np.all((sums.column_counts == 0) | (sums.column_counts == masks.n_masks)):
        raise bad_value("masks", "at least two different rows", "all rows equal")
    return _Sums(masks, values, sums, sums.mean, sums.mean_row, design)


def _bayes(sums: _Sums) -> Attribution:
    fit = fit_bayes(sums.statistics, intercept=sums.intercept)
    return Attribution(
        scores=fit.scores,
        intercept=sums.mean - sums.mean_row @ fit.scores,
        standard_error=fit.deviations,
        method="bayes",
        design=sums.design,
        details={
            "held_out_error": fit.held_out_error,
            "residual_variance": fit.residual_variance,
            "degrees_of_freedom": fit.freedom,
            "normal_prior": fit.normal,
        },
    )


def _lasso(sums: _Sums, lambdas: Float64 | None) -> Attribution:
    n_folds = min(_N_FOLDS, sums.statistics.n_masks)
    folds = (sums.fold(first) for first in range(n_folds if n_folds > 1 else 0))
    fit = fit_lasso(sums.statistics, folds, lambdas, intercept=sums.intercept)
    return Attribution(
        scores=fit.scores,
        intercept=sums.mean - sums.mean_row @ fit.scores,
        method="lasso",
        design=sums.design,
        details={
            "lambda": fit.lambdas,
            "lambda_max": fit.lambda_max,
            "held_out_error": fit.held_out_error,
            "duality_gap": fit.gap,
        },
    )


def _check_lambdas(lambdas: ArrayLike | None, method: str) -> Float64 | None:
    if lambdas is None:
        return None
    if method not in ("ridge", "lasso"):
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
