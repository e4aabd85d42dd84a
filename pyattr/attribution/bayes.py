"""Empirical Bayes for many targets: the prior of the scores is fitted to each target.

The prior is a scale mixture of normals, from a point mass at 0 to the width of the largest score;
its weights and the noise come from EM, the posterior means from coordinate ascent (mr.ash), with
the correction that makes them those of approximate message passing on independent masks. Nothing
is held out and there is no path: the fit estimates its own error as ``RSS / (1 - c)²``, c the
effective degrees of freedom over the rows.

A prior of many small scores is better fitted as one normal. Where its own error estimate is no
worse than the mixture's, it is used: ridge regression with λ by generalised cross-validation.

References
----------
Kim, Wang, Carbonetto and Stephens, "A flexible empirical Bayes approach to multiple linear
regression", JMLR 2024 (mr.ash); Donoho, Maleki and Montanari, PNAS 2009 (message passing);
Golub, Heath and Wahba, Technometrics 1979 (generalised cross-validation).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from pyattr.attribution.moments import Moments, moments, output_scale
from pyattr.attribution.statistics import SufficientStatistics
from pyattr.solvers import MixtureFits, fit_mixtures

__all__ = ["BayesFit", "fit_bayes", "prior_variances"]

_N_COMPONENTS = 10
_NARROWEST = 0.2  # in standard errors of a score; narrower is as good as 0
_SOLVER_FREEDOM = 0.9  # beyond, the solver's correction is cut off (csrc/scale_mixture.hpp)
_MOST_FREEDOM = 0.98
# The mixture has more to fit: its error estimate is too low by a share of about 10 / n_rows, and
# by less from 4 rows an example on, where the prior matters less and less. Chosen by the scenarios
# of bench/bench_regression.py.
_PRIOR_COST = 10.0
_ROWS_OF_PRIOR = 4.0
# Where the quick fit of one normal is no worse than the mixture by more than this, it is done
# exactly: on correlated masks the quick estimate is too high.
_WORTH_EXACT = 0.02
_MOST_EXAMPLES = 4096  # for an eigendecomposition: 7.5 s there
_LAMBDAS = np.logspace(3, -3, 37)  # over the mean eigenvalue

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


class BayesFit(NamedTuple):
    """Posterior of the scores of all targets.

    Parameters
    ----------
    scores, deviations : (n_train, n_targets) float64
        Posterior means and standard deviations.
    held_out_error : (n_targets,) float64
        Estimated mean squared error on fresh rows.
    residual_variance : (n_targets,) float64
        Estimated variance of the outputs around the best linear function.
    freedom : (n_targets,) float64
        Effective degrees of freedom.
    normal : (n_targets,) bool
        Whether one normal prior was used.
    """

    scores: Float64
    deviations: Float64
    held_out_error: Float64
    residual_variance: Float64
    freedom: Float64
    normal: NDArray[np.bool_]


class _Posterior(NamedTuple):
    """Means, deviations (n_targets, n_train); residual, degrees of freedom a row, error estimate."""

    mean: Float32
    deviation: Float32
    residual: Float64
    freedom: Float64
    error: Float64


def _either(chosen: NDArray[np.bool_], one: _Posterior, other: _Posterior) -> _Posterior:
    """`one` for the chosen targets, `other` for the rest."""
    column = chosen[:, np.newaxis]
    return _Posterior(
        np.where(column, one.mean, other.mean),
        np.where(column, one.deviation, other.deviation),
        np.where(chosen, one.residual, other.residual),
        np.where(chosen, one.freedom, other.freedom),
        np.where(chosen, one.error, other.error),
    )


def _error(residual: Float64, freedom: Float64, most: float) -> Float64:
    """``residual / (1 - freedom)²``; infinite where so little freedom is left that it says little."""
    left = np.maximum(1.0 - freedom, 1e-9)
    return np.where(freedom <= most, residual / np.square(left), np.inf)


def prior_variances(problem: Moments) -> Float32:
    """Variances of the prior's components for each target, (n_targets, n_components) float32.

    0, then geometric from a fifth of a score's standard error to the largest score that a target
    could have: the largest difference of means.
    """
    diagonal = np.diagonal(problem.gram).astype(np.float64)
    usable = diagonal > 0.0
    low = _NARROWEST / np.sqrt(problem.n_rows * np.median(diagonal[usable]))
    high = np.abs(problem.cross[:, usable] / diagonal[usable]).max(axis=1)
    exponent = np.linspace(0.0, 1.0, _N_COMPONENTS - 1)
    widths = low * (np.maximum(high, 2.0 * low) / low)[:, np.newaxis] ** exponent
    return np.pad(np.square(widths), ((0, 0), (1, 0))).astype(np.float32)


def fit_bayes(statistics: SufficientStatistics, *, intercept: bool = True) -> BayesFit:
    """Fit prior, noise and posterior of every target.

    Parameters
    ----------
    statistics : SufficientStatistics
        At least 2 rows, not all equal.
    intercept : bool
        Whether there is one; without, rows are taken minus 1/2.

    Returns
    -------
    BayesFit
    """
    scale = output_scale(statistics, intercept)
    problem = moments(statistics, scale, intercept)
    taken = 1.0 / problem.n_rows if intercept else 0.0
    variances = prior_variances(problem)
    start = _start(problem, variances)
    mixture = _posterior(
        fit_mixtures(*problem[:3], problem.n_rows, variances, proportions=start), taken
    )
    normal = _normal(problem, taken, mixture)
    fit = _either(normal.chosen, normal.posterior, mixture)
    # Where no estimate holds, the variance of the target is a bound that no useful fit exceeds.
    error = np.where(np.isfinite(fit.error), fit.error, problem.square)
    left = 1.0 - np.minimum(fit.freedom, _MOST_FREEDOM)
    return BayesFit(
        fit.mean.T * scale,
        fit.deviation.T * scale,
        error * scale**2,
        fit.residual / left * scale**2,
        fit.freedom * problem.n_rows,
        normal.chosen,
    )


def _start(problem: Moments, variances: Float32) -> Float32:
    """Where EM starts: few enough scores besides 0 for the rows to tell them apart."""
    used = min(0.9, 0.5 * problem.n_rows / len(problem.gram))
    proportions = np.full(variances.shape, used / (variances.shape[1] - 1), np.float32)
    proportions[:, 0] = 1.0 - used
    return proportions


def _posterior(fits: MixtureFits, taken: float) -> _Posterior:
    freedom = fits.freedom + taken
    error = _error(fits.residual, freedom, _SOLVER_FREEDOM)
    return _Posterior(fits.weights, fits.deviations, fits.residual, freedom, error)


class _Normal(NamedTuple):
    posterior: _Posterior
    chosen: NDArray[np.bool_]


def _normal(problem: Moments, taken: float, mixture: _Posterior) -> _Normal:
    """Fit one normal prior, and say for which targets it is no worse than the mixture."""
    diagonal = np.diagonal(problem.gram)
    start = np.zeros((len(problem.square), 2), np.float32)
    start[:, 1] = 0.3 * problem.square / diagonal.sum()
    only = np.zeros_like(start)
    only[:, 1] = 1.0
    fits = fit_mixtures(*problem[:3], problem.n_rows, start, proportions=only, normal=True)
    normal = _posterior(fits, taken)
    late = min(1.0, _ROWS_OF_PRIOR * len(diagonal) / problem.n_rows)
    margin = 1.0 + _PRIOR_COST / problem.n_rows * late
    bound = mixture.error * margin
    near = np.flatnonzero(normal.error <= bound * (1.0 + _WORTH_EXACT))
    if near.size and len(diagonal) <= _MOST_EXAMPLES:
        exact, correction = _ridge(problem, taken, near, normal.freedom[near])
        arrays: tuple[NDArray[Any], ...] = normal
        for whole, part in zip(arrays, exact, strict=True):
            whole[near] = part
        mixture.freedom[near] *= correction
        mixture.error[near] = _error(mixture.residual[near], mixture.freedom[near], _MOST_FREEDOM)
        bound = mixture.error * margin
    return _Normal(normal, normal.error <= bound)


def _ridge(
    problem: Moments, taken: float, targets: NDArray[np.intp], quick: Float64
) -> tuple[_Posterior, Float64]:
    """Fit the normal prior exactly, its variance by generalised cross-validation.

    Also say by which factor the degrees of freedom `quick` of the solver's fit are wrong: above 1
    means too few. On correlated masks they are too many, for the mixture as well.
    """
    values, vectors = scipy.linalg.eigh(problem.gram, driver="evd", check_finite=False)
    values = np.maximum(values.astype(np.float64), 0.0)
    projected = problem.cross[targets] @ vectors
    shrunk = 1.0 / (values + values.mean() * _LAMBDAS[:, np.newaxis])
    freedom = (shrunk * values).sum(axis=1) / problem.n_rows + taken
    explained = np.square(projected, dtype=np.float64) @ (shrunk * (2.0 - shrunk * values)).T
    residual = np.maximum(problem.square[targets, np.newaxis] - explained, 0.0)
    error = _error(residual, freedom, _MOST_FREEDOM)
    best = error.argmin(axis=1)
    at = np.arange(len(targets)), best
    fit = _Posterior(
        (projected * shrunk[best]).astype(np.float32) @ vectors.T,
        np.sqrt(shrunk[best].astype(np.float32) @ np.square(vectors.T)),
        residual[at],
        freedom[best],
        error[at],
    )
    noise = fit.residual / (1.0 - np.minimum(fit.freedom, _MOST_FREEDOM)) / problem.n_rows
    fit = fit._replace(deviation=fit.deviation * np.sqrt(noise[:, np.newaxis]))
    # The λ of the quick fit: its degrees of freedom are the sum of d / (d + λ / (1 - c)), mean d.
    share = np.clip((quick - taken) * problem.n_rows / len(values), 1e-6, 1.0 - 1e-6)
    quick_lambda = values.mean() * (1.0 / share - 1.0) * np.maximum(1.0 - quick + taken, 1e-3)
    true = (values / (values + quick_lambda[:, np.newaxis])).sum(axis=1) / problem.n_rows + taken
    return fit, true / np.maximum(quick, taken + 1e-12)
