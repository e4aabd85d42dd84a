"""LASSO without Gram matrix: coordinate descent on the active set, gradients by packed products.

The same problem, λ and cross-validation as `pyattr.attribution.lasso`. A target's path runs on the
Gram matrix of its working set alone, counted from the bits: of the solution at the λ before, the
scores that are not 0 and those whose gradient is at least λ. One product with all masks then gives
the gradients and duality gaps of all targets; coordinates whose gradient is above λ join, until
every gap is small.

References
----------
Massias, Gramfort and Salmon, "Celer: a fast solver for the lasso with dual extrapolation", ICML
2018, for working sets certified by the duality gap.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyattr.attribution.centred_rows import CentredRows
from pyattr.attribution.lasso import (
    PATIENCE,
    RISE,
    SELECTION_GAP,
    LassoFit,
    lambda_grid,
    select,
)
from pyattr.attribution.rows import Rows, packed_columns
from pyattr.attribution.statistics import SufficientStatistics
from pyattr.exact_sums import column_counts, intersections
from pyattr.solvers import lasso_paths

__all__ = ["fit_lasso_gram_free"]

_TARGETS_AT_ONCE = 64
_MOST_ROUNDS = 40
_PATH_STEP = 4  # on a working set a path of every fourth λ is a warm start good enough

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


class _Problem(NamedTuple):
    """Rows, and outputs (n_rows, n_targets) centred with them, in units of their scale."""

    rows: CentredRows
    values: Float32

    @property
    def n_rows(self) -> int:
        return self.rows.masks.n_masks

    def cross(self) -> Float64:
        return self.rows.transposed_times(self.values) / self.n_rows

    def square(self) -> Float64:
        return np.asarray(
            np.einsum("jt,jt->t", *[self.values.astype(np.float64)] * 2) / self.n_rows
        )


def fit_lasso_gram_free(
    statistics: SufficientStatistics,
    scale: Float64,
    lambdas: Float64 | None,
    rows: Rows,
    n_folds: int,
    *,
    final_gap: float = 1e-4,
) -> LassoFit:
    """Fit every target at the λ of the least held-out error.

    Parameters
    ----------
    statistics : SufficientStatistics
        Counts of pairs are not used.
    scale : (n_targets,) float64
        Unit of the outputs.
    lambdas : (n_lambdas,) float64, optional
        As for `pyattr.attribution.lasso.fit_lasso`.
    rows : Rows
    n_folds : int
        Folds of the cross-validation; 1 means none.
    final_gap : float
        Bound of the final fit's duality gap, over the variance of the target.

    Returns
    -------
    LassoFit
    """
    parts = [
        slice(first, first + _TARGETS_AT_ONCE)
        for first in range(0, statistics.n_targets, _TARGETS_AT_ONCE)
    ]
    fits = [_fit_part(statistics, scale, lambdas, rows, n_folds, final_gap, p) for p in parts]
    scores, chosen, largest, errors, gaps = zip(*fits, strict=True)
    return LassoFit(
        np.concatenate(scores, axis=1) * scale,
        np.concatenate(chosen) * scale,
        np.concatenate(largest) * scale,
        np.concatenate(errors) * scale**2,
        np.concatenate(gaps),
    )


def _fit_part(
    statistics: SufficientStatistics,
    scale: Float64,
    lambdas: Float64 | None,
    rows: Rows,
    n_folds: int,
    final_gap: float,
    part: slice,
) -> LassoFit:
    """Fit some targets, in units of their scale."""
    values = rows.outputs(slice(0, statistics.n_rows), part, statistics.mean, scale)
    whole = _problem(rows, values, np.ones(len(values), bool))
    lambda_max = np.abs(whole.cross()).max(axis=0)
    size = (statistics.n_rows, statistics.n_train)
    grid = lambda_grid(lambda_max, *size, lambdas, scale[part])
    chosen = select(
        grid,
        range(n_folds if n_folds > 1 else 0),
        lambda fold, n_steps: _fold_errors(rows, values, grid, n_steps, fold, n_folds),
    )
    path = _Path(whole, grid, chosen.best + 1, final_gap)
    while path.advance():
        pass
    at = np.arange(len(grid)), chosen.best
    weights = path.weights.astype(np.float64)
    return LassoFit(weights, grid[at], lambda_max, chosen.error, path.gaps[at])


def _problem(rows: Rows, values: Float64, used: NDArray[np.bool_]) -> _Problem:
    """Regression on some rows, centred at their own mean, or at 1/2 and 0 for half differences."""
    masks, outputs = rows.masks[used], values[used]
    if rows.design == "complement":
        return _Problem(CentredRows(masks, np.full(masks.n_train, 0.5)), outputs.astype(np.float32))
    outputs = outputs - outputs.mean(axis=0)
    mean_row = column_counts(masks.packed, masks.n_train) / masks.n_masks
    return _Problem(CentredRows(masks, mean_row), outputs.astype(np.float32))


def _fold_errors(
    rows: Rows, values: Float64, grid: Float64, n_steps: NDArray[np.int32], fold: int, n_folds: int
) -> tuple[Float64, int]:
    """Mean squared error on a fold at each λ, fitted to the other rows; rows of the fold."""
    held = np.arange(len(values)) % n_folds == fold
    fitted = _problem(rows, values, ~held)
    # About the means of the fitted rows, as they predict.
    mean = values[~held].mean(axis=0) if rows.design == "iid" else 0.0
    test = CentredRows(rows.masks[held], fitted.rows.centre)
    outputs = values[held] - mean
    path = _Path(fitted, grid, n_steps, SELECTION_GAP)
    errors = np.full(grid.shape, np.inf)
    while done := path.advance():
        targets, step = done
        residual = outputs[:, targets] - test.times(path.weights[:, targets])
        errors[targets, step] = np.einsum("jc,jc->c", residual, residual) / len(residual)
        path.stop(_has_risen(errors))
    last = np.isfinite(errors).sum(axis=1) - 1
    steps = np.minimum(np.arange(grid.shape[1]), last[:, np.newaxis])
    return np.take_along_axis(errors, steps, axis=1), len(outputs)


def _has_risen(errors: Float64) -> NDArray[np.bool_]:
    """Whether a target's error has stopped falling, by the rule of the Gram solver."""
    done = np.isfinite(errors).sum(axis=1)
    least = errors.min(axis=1)
    last = errors[np.arange(len(errors)), np.maximum(done - 1, 0)]
    waited = done - 1 - errors.argmin(axis=1)
    return np.asarray((done > 0) & (waited >= PATIENCE) & (last > (1.0 + RISE) * least))


class _Path:
    """Solutions of several targets for falling λ, one λ after the other.

    Parameters
    ----------
    problem : _Problem
    grid : (n_targets, n_lambdas) float64
    n_steps : (n_targets,) int
        How many of the λ to fit.
    tolerance : float
        Bound of the duality gap over the target's mean square.
    """

    def __init__(
        self, problem: _Problem, grid: Float64, n_steps: NDArray[np.integer[Any]], tolerance: float
    ) -> None:
        self._problem, self._grid, self._tolerance = problem, grid, tolerance
        self._n_steps, self._step = np.array(n_steps), 0
        self._columns = packed_columns(problem.rows.masks)
        self._cross, self._square = problem.cross(), problem.square()
        self._gradient = np.abs(self._cross)  # at the last λ done
        self.weights = np.zeros(self._cross.shape, np.float32)  # at the last λ done
        self.gaps = np.full(grid.shape, np.nan)

    def stop(self, targets: NDArray[np.bool_]) -> None:
        """End the paths of these targets."""
        self._n_steps[targets] = 0

    def advance(self) -> tuple[NDArray[np.intp], int] | None:
        """Fit the next λ; the targets that had one and its number, or None at the end."""
        at, step = np.flatnonzero(self._n_steps > self._step), self._step
        if not at.size:
            return None
        lambdas = self._grid[at, step]
        working = (self._gradient[:, at] >= lambdas) | (self.weights[:, at] != 0.0)
        weights = np.zeros(working.shape, np.float32)
        unsolved = np.arange(len(at))
        for _ in range(_MOST_ROUNDS):
            for c in unsolved:
                used = np.flatnonzero(working[:, c])
                weights[used, c] = self._solve(int(at[c]), used)
            gradient, gaps = self._check(at, lambdas, weights)
            missing = (gradient > lambdas) & ~working
            unsolved = np.flatnonzero((gaps > self._tolerance) & missing.any(axis=0))
            if not unsolved.size:
                break
            working[:, unsolved] |= missing[:, unsolved]
        self._gradient[:, at], self.weights[:, at], self.gaps[at, step] = gradient, weights, gaps
        self._step += 1
        return at, step

    def _solve(self, t: int, used: NDArray[np.intp]) -> Float32:
        """Weights of the working set at the present λ, by a path with fewer λ."""
        if not used.size:
            return np.zeros(0, np.float32)
        steps = np.append(np.arange(0, self._step, _PATH_STEP), self._step)
        path = lasso_paths(
            _sub_gram(self._columns, self._problem.rows, used),
            np.ascontiguousarray(self._cross[used, t], np.float32)[np.newaxis],
            self._square[t : t + 1],
            self._grid[t : t + 1, steps],
            tolerance=self._tolerance / 2.0,
        )
        return np.asarray(path.weights[0], np.float32)

    def _check(
        self, targets: NDArray[np.intp], lambdas: Float64, weights: Float32
    ) -> tuple[Float64, Float64]:
        """Magnitudes of the gradients (n_train, n) of the whole problem, and its duality gaps."""
        values, n_rows = self._problem.values[:, targets], self._problem.n_rows
        residual = values - self._problem.rows.times(weights)
        gradient = np.abs(self._problem.rows.transposed_times(residual) / n_rows)
        square = self._square[targets]
        rest = np.einsum("jc,jc->c", residual, residual, dtype=np.float64) / n_rows
        inner = np.einsum("jc,jc->c", residual, values, dtype=np.float64) / n_rows
        largest = gradient.max(axis=0)
        shrink = np.minimum(1.0, lambdas / np.where(largest > 0.0, largest, 1.0))
        size = np.abs(weights).sum(axis=0, dtype=np.float64)
        gap = 0.5 * rest + lambdas * size - shrink * (inner - 0.5 * shrink * rest)
        return gradient, np.maximum(gap, 0.0) / np.where(square > 0.0, square, 1.0)


def _sub_gram(columns: NDArray[np.uint8], rows: CentredRows, used: NDArray[np.intp]) -> Float32:
    """Gram matrix over n_rows of some columns, (n, n) float32, from exact counts."""
    counts = intersections(columns[used], rows.masks.n_masks)
    centre, share = rows.centre[used], np.diagonal(counts) / rows.masks.n_masks
    sub = counts.astype(np.float32)
    sub /= np.float32(rows.masks.n_masks)
    apart = np.outer(share - centre / 2.0, centre).astype(np.float32)
    sub -= apart
    sub -= apart.T
    return sub
