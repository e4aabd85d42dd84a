"""Empirical Bayes for many targets: the prior of the scores is fitted to each target.

The prior is a scale mixture of normals, from a point mass at 0 to the width of the largest score;
its weights and the noise come from EM, the posterior means from coordinate ascent (mr.ash), with
the correction that makes them those of approximate message passing on independent masks, and of
adaptive TAP on correlated ones. Nothing is held out and there is no path: the fit estimates its own
error by generalised cross-validation, ``RSS / (1 - c)²``, c the effective degrees of freedom a row.

A prior of many small scores is better fitted as one normal, which is ridge regression with λ by
maximum likelihood: it is used unless the mixture's estimated error is lower by more than fitting
its weights explains.

References
----------
Kim, Wang, Carbonetto and Stephens, "A flexible empirical Bayes approach to multiple linear
regression", JMLR 2024 (mr.ash); Donoho, Maleki and Montanari, PNAS 2009 (message passing); Opper
and Winther, "Adaptive and self-averaging Thouless-Anderson-Palmer mean-field theory for
probabilistic modeling", Phys. Rev. E 64, 2001; Golub, Heath and Wahba, Technometrics 1979
(generalised cross-validation).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyattr.attribution.moments import Moments, moments, output_scale
from pyattr.attribution.spectrum import kept_precision
from pyattr.attribution.statistics import SufficientStatistics
from pyattr.solvers import fit_mixtures

__all__ = ["BayesFit", "fit_bayes", "prior_variances"]

_N_COMPONENTS = 10
_NARROWEST = 0.2  # in standard errors of a score; narrower is as good as 0
# The sums are taken as if there were one more row: the mean subset, with an output one standard
# deviation from the mean, which no score explains. With few rows a fit to all of the noise would
# otherwise pass for one without noise.
_EXTRA_ROWS = 1.0

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


class BayesFit(NamedTuple):
    """Posterior of the scores of all targets.

    Parameters
    ----------
    scores, deviations : (n_train, n_targets) float64
        Posterior means and standard deviations. The deviations take the fitted prior for the true
        one: with 200 examples they are up to a tenth too small.
    held_out_error : (n_targets,) float64
        Estimated mean squared error on fresh rows. For targets almost without noise it is too high: the
        extra row puts a floor of about their variance over n_rows under it.
    residual_variance : (n_targets,) float64
        Estimated variance of the outputs around the best linear function.
    freedom : (n_targets,) float64
        Effective degrees of freedom.
    normal : (n_targets,) bool
        Whether one normal prior was used.
    converged : (n_targets,) bool
        Whether the sweeps came to rest. Where they did not, the columns are nearly dependent: the
        scores still predict, but are not the only ones that do so well.
    """

    scores: Float64
    deviations: Float64
    held_out_error: Float64
    residual_variance: Float64
    freedom: Float64
    normal: NDArray[np.bool_]
    converged: NDArray[np.bool_]


class _Fit(NamedTuple):
    """Means and deviations (n_targets, n_train); the rest (n_targets,), freedom a row."""

    mean: Float32
    deviation: Float32
    noise: Float64
    freedom: Float64
    error: Float64
    converged: NDArray[np.bool_]


def prior_variances(problem: Moments) -> Float32:
    """Variances of the prior's components for each target, (n_targets, n_components) float32.

    0, then geometric from a fifth of a score's standard error to the largest score that a target
    could have: the largest difference of means.
    """
    diagonal = problem.gram.diagonal().astype(np.float64)
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
    kept = kept_precision(problem.gram)
    mixture = _fit(problem, kept, intercept, *_mixture_start(problem))
    normal = _fit(problem, kept, intercept, *_normal_start(problem), normal=True)
    # Each fitted weight lowers the error on the rows of the fit, and so its estimate, by about one
    # part in n_rows, whether or not there was anything to fit.
    chosen = normal.error <= mixture.error * np.exp(_N_COMPONENTS / problem.n_rows)

    def better(one: NDArray[Any], other: NDArray[Any]) -> Float64:
        return np.where(chosen, one.T, other.T)

    return BayesFit(
        better(normal.mean, mixture.mean) * scale,
        better(normal.deviation, mixture.deviation) * scale,
        better(normal.error, mixture.error) * scale**2,
        better(normal.noise, mixture.noise) * scale**2,
        better(normal.freedom, mixture.freedom) * problem.n_rows,
        chosen,
        np.where(chosen, normal.converged, mixture.converged),
    )


def _mixture_start(problem: Moments) -> tuple[Float32, Float32]:
    """Variances, and weights that leave few enough scores besides 0 for the rows to tell apart."""
    variances = prior_variances(problem)
    used = min(0.9, 0.5 * problem.n_rows / problem.gram.shape[0])
    proportions = np.full(variances.shape, used / (variances.shape[1] - 1), np.float32)
    proportions[:, 0] = 1.0 - used
    return variances, proportions


def _normal_start(problem: Moments) -> tuple[Float32, Float32]:
    """The variance with which the scores explain three tenths of the output."""
    variances, proportions = np.zeros((2, len(problem.square), 2), np.float32)
    variances[:, 1] = 0.3 * problem.square / problem.gram.diagonal().sum(dtype=np.float64)
    proportions[:, 1] = 1.0
    return variances, proportions


def _fit(
    problem: Moments,
    kept: Float64,
    intercept: bool,
    variances: Float32,
    proportions: Float32,
    normal: bool = False,
) -> _Fit:
    """Posterior under a mixture fitted from these proportions, or under one fitted normal."""
    fits = fit_mixtures(
        *problem,
        variances,
        proportions=proportions,
        kept=kept,
        extra_rows=_EXTRA_ROWS,
        normal=normal,
    )
    extra = _EXTRA_ROWS / problem.n_rows
    freedom = fits.freedom + (1.0 / problem.n_rows if intercept else 0.0)
    left = np.maximum(1.0 - freedom, 0.0) + extra
    noise = (fits.residual + extra * problem.square) / left
    error = noise * (1.0 + extra) / left
    return _Fit(fits.weights, fits.deviations, noise, freedom, error, fits.sweeps >= 0)
