"""LASSO for many targets: λ per target by cross-validation on subtracted statistics, then refit.

For each target: minimise ``Σ_j (f_j - a0 - x_j·a)² / 2m + λ Σ|a_i|``, with the scores in the 0/1
coding and not standardised, and the intercept free. A path over falling λ is fitted to all rows
but a fold, until the error on the fold has stopped falling; the least total error chooses λ; then
all rows are fitted.

References
----------
Tibshirani, JRSS B 1996; Friedman, Hastie and Tibshirani, "Regularization paths for generalized
linear models via coordinate descent", J. Stat. Software 2010; Ilyas et al. 2022, §3, for datamodels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from pyattr.attribution.moments import held_out_moments, moments, output_scale
from pyattr.attribution.statistics import SufficientStatistics
from pyattr.solvers import HeldOut, lasso_paths

__all__ = [
    "PATIENCE",
    "RISE",
    "SELECTION_GAP",
    "LassoFit",
    "Selection",
    "fit_lasso",
    "lambda_floor",
    "lambda_grid",
    "select",
]

# A path on all rows but a fold ends after so many λ without a new least error, once the error is
# above 1 + RISE times the least; its duality gap may be larger than that of the final fit.
PATIENCE = 3
RISE = 0.003
SELECTION_GAP = 1e-3
_RATIO = 0.8  # between neighbouring λ: ten a decade
_BEYOND = 4  # steps that the other folds may go beyond the best of the first

Fold = TypeVar("Fold")
Float64 = NDArray[np.float64]


class LassoFit(NamedTuple):
    """Scores of all targets at their own λ.

    Parameters
    ----------
    scores : (n_train, n_targets) float64
    lambdas, lambda_max : (n_targets,) float64
        The chosen λ, and the least one at which all scores are 0; in units of the output.
    held_out_error : (n_targets,) float64
        Mean squared error on the folds at that λ, each predicted from the others; NaN without.
    gap : (n_targets,) float64
        Duality gap of the final fit over the variance of the target.
    """

    scores: Float64
    lambdas: Float64
    lambda_max: Float64
    held_out_error: Float64
    gap: Float64


def lambda_floor(n_rows: int, n_train: int) -> float:
    """Return the least λ tried, over λ_max; more rows than examples move it down.

    The chosen λ was measured at 0.22, 0.09 and 0.011 of λ_max with ½, 2 and 16 rows an example:
    the floor is a fifteenth to a twentieth of that.
    """
    return 0.01 * min(1.0, n_train / n_rows)


def lambda_grid(
    lambda_max: Float64, n_rows: int, n_train: int, lambdas: Float64 | None, scale: Float64
) -> Float64:
    """Falling candidates of every target, (n_targets, n_lambdas) float64 in units of its output.

    Parameters
    ----------
    lambda_max : (n_targets,) float64
        The least λ at which all scores are 0, in these units.
    n_rows, n_train : int
    lambdas : (n_lambdas,) float64, optional
        Candidates in units of the outputs themselves; by default ten a decade from λ_max to
        `lambda_floor`.
    scale : (n_targets,) float64
        Unit of the outputs.
    """
    if lambdas is not None:
        return np.asarray(np.sort(lambdas)[::-1] / scale[:, np.newaxis])
    n_lambdas = 1 + int(np.ceil(np.log(lambda_floor(n_rows, n_train)) / np.log(_RATIO)))
    return np.asarray(lambda_max[:, np.newaxis] * _RATIO ** np.arange(n_lambdas))


class Selection(NamedTuple):
    """What cross-validation chose.

    Parameters
    ----------
    best : (n_targets,) int
        Number of the chosen λ.
    error : (n_targets,) float64
        Mean squared held-out error there; NaN where nothing was held out.
    """

    best: NDArray[np.intp]
    error: Float64


def select(
    grid: Float64,
    folds: Iterable[Fold],
    fit_fold: Callable[[Fold, NDArray[np.int32]], tuple[Float64, int]],
) -> Selection:
    """Choose the λ of the least held-out error over all folds.

    Parameters
    ----------
    grid : (n_targets, n_lambdas) float64
    folds : iterable
        Taken one at a time, and not at all if there is but one λ.
    fit_fold : callable
        Of a fold and how many λ to fit of each target: held-out errors (n_targets, n_lambdas),
        those beyond the end of a path being its last, and how many rows were held out.

    Returns
    -------
    Selection
    """
    total, n_held_out = np.zeros(grid.shape), 0
    n_steps = np.full(len(grid), grid.shape[1], np.int32)
    for fold in folds if grid.shape[1] > 1 else ():
        errors, n_rows = fit_fold(fold, n_steps)
        if not n_held_out:
            n_steps = np.minimum(n_steps, errors.argmin(axis=1) + 1 + _BEYOND).astype(np.int32)
        total += n_rows * errors
        n_held_out += n_rows
    total[np.arange(grid.shape[1]) >= n_steps[:, np.newaxis]] = np.inf
    best = total.argmin(axis=1)
    least = total[np.arange(len(best)), best]
    return Selection(best, least / n_held_out if n_held_out else np.full(len(best), np.nan))


def fit_lasso(
    statistics: SufficientStatistics,
    folds: Iterable[SufficientStatistics],
    lambdas: Float64 | None = None,
    *,
    intercept: bool = True,
    final_gap: float = 1e-4,
) -> LassoFit:
    """Fit every target at the λ of the least held-out error.

    Parameters
    ----------
    statistics : SufficientStatistics
        Of all rows, at least 2.
    folds : iterable of SufficientStatistics
        Of disjoint parts of these rows, taken one at a time.
    lambdas : (n_lambdas,) float64, optional
        Candidates, above 0; by default ten a decade from each target's λ_max to `lambda_floor`.
    intercept : bool
        Whether there is one; without, rows are taken minus 1/2.
    final_gap : float
        Bound of the final fit's duality gap, over the variance of the target.

    Returns
    -------
    LassoFit
    """
    scale = output_scale(statistics, intercept)
    everything = moments(statistics, scale, intercept)
    lambda_max = np.abs(everything.cross).max(axis=1).astype(np.float64)
    n_rows, n_train = everything.n_rows, statistics.n_train
    grid = lambda_grid(lambda_max, n_rows, n_train, lambdas, scale)

    def fit_fold(fold: SufficientStatistics, n_steps: NDArray[np.int32]) -> tuple[Float64, int]:
        return _fold_errors(statistics, fold, scale, grid, n_steps, intercept), fold.n_masks

    chosen = select(grid, folds, fit_fold)
    # A path of its own: warm starts down to the chosen λ cost less than starting there.
    final = lasso_paths(
        *everything[:3], grid, n_steps=(chosen.best + 1).astype(np.int32), tolerance=final_gap
    )
    at = np.arange(len(grid)), chosen.best
    return LassoFit(
        final.weights.T * scale,
        grid[at] * scale,
        lambda_max * scale,
        chosen.error * scale**2,
        final.gaps[at],
    )


def _fold_errors(
    statistics: SufficientStatistics,
    fold: SufficientStatistics,
    scale: Float64,
    grid: Float64,
    n_steps: NDArray[np.int32],
    intercept: bool,
) -> Float64:
    """Mean squared error on the fold at each λ, fitted to the other rows: (n_targets, n_lambdas)."""
    others = statistics - fold
    fitted = moments(others, scale, intercept)
    held = held_out_moments(fold, others, scale, intercept)
    paths = lasso_paths(
        *fitted[:3],
        grid,
        tolerance=SELECTION_GAP,
        n_steps=n_steps,
        held_out=HeldOut(*held[:3], PATIENCE, RISE),
    )
    # Beyond its end the error of a path would be larger still: it keeps its last value.
    steps = np.minimum(np.arange(grid.shape[1]), paths.n_done[:, np.newaxis] - 1)
    return np.asarray(np.take_along_axis(paths.errors, steps, axis=1))
