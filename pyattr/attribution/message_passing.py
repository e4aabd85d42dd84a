"""Empirical Bayes without Gram matrix: the fixed point of message passing, by packed products.

The same model as `pyattr.attribution.bayes`: each target has its own prior, a scale mixture of
normals, and its own noise, both fitted by EM. With X the centred rows, d the mean
squares of its columns and g = Xᵀ(y - Xw)/m, every score moves at once towards the posterior mean
that its evidence ``r = d w + g/ρ`` gives at the noise ``σ²/(ρ m)``. ρ is the share of its precision
that a score keeps beside the others: 1 - df/m on independent masks, where this is approximate
message passing; in general it follows from the spectrum of the correlations (Opper and Winther),
which Lanczos quadrature estimates. One normal as prior is ridge regression
with λ by likelihood (`pyattr.attribution.conjugate_gradients`).

Moving all scores at once can overshoot, on correlated masks above all. Where a target's move turns
back on the one before, moves become shorter, else longer again; a target whose residual grows past
the target itself starts again with shorter ones. One that has not converged in the end is refused.

References
----------
Donoho, Maleki and Montanari, PNAS 2009; Rangan, Schniter, Riegler, Fletcher and Cevher, "Fixed
points of generalized approximate message passing", IEEE Trans. Inf. Theory 2016; Opper and Winther,
Phys. Rev. E 64, 2001; Kim, Wang, Carbonetto and Stephens, JMLR 2024.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyattr.attribution.bayes import BayesFit, prior_variances
from pyattr.attribution.centred_rows import CentredRows
from pyattr.attribution.conjugate_gradients import fit_ridge_gram_free
from pyattr.attribution.denoising import denoise
from pyattr.attribution.lanczos import Lanczos, random_signs
from pyattr.attribution.moments import Moments
from pyattr.attribution.ridge import RidgeFit
from pyattr.attribution.rows import Rows
from pyattr.attribution.statistics import SufficientStatistics
from pyattr.errors import bad_value

__all__ = ["fit_bayes_gram_free"]

_TARGETS_AT_ONCE = 16  # what one table look-up of a packed product serves
_N_PROBES = 8
_LANCZOS_STEPS = 40
_PENALTIES = np.geomspace(1e4, 1e-5, 300)
_LEAST_KEPT = 0.01
_EXTRA_ROWS = 1.0  # one more row, at the mean subset, that no score explains: noise is never 0
_LEAST_WEIGHT = 1e-8  # of the widest component: no sum of weights is ever 0
_MOST_STEPS = 1000
_TOLERANCE = 1e-6  # of a move's mean square, at no damping, over that of the target
_LEAST_STEPS = 8
# Length of a move, of all that the posterior means ask for: where it starts, by which factors it
# changes where a move turns back on the last one and where not, and its least.
_LENGTH, _CHANGE, _SHORTEST = 0.7, (0.7, 1.1), 1e-3

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


class _Posterior(NamedTuple):
    """Means, deviations (n_train, n_targets); the rest (n_targets,), freedom a row."""

    mean: Float64
    deviation: Float64
    noise: Float64
    freedom: Float64
    error: Float64


@dataclass(frozen=True)
class _Regression:
    """Rows, outputs (n_rows, n_targets) in units of their scale, and what is known of them."""

    rows: CentredRows
    values: Float32
    diagonal: Float64
    cross: Float64
    square: Float64
    kept: _Kept
    intercept: bool

    @property
    def n_rows(self) -> int:
        return self.rows.masks.n_masks

    def residual(self, scores: Float64, targets: NDArray[np.intp] | slice = slice(None)) -> Float32:
        return np.asarray(self.values[:, targets] - self.rows.times(scores))


def fit_bayes_gram_free(statistics: SufficientStatistics, scale: Float64, rows: Rows) -> BayesFit:
    """Fit prior, noise and posterior of every target.

    Parameters
    ----------
    statistics : SufficientStatistics
        Counts of pairs are not used.
    scale : (n_targets,) float64
        Unit of the outputs.
    rows : Rows

    Returns
    -------
    BayesFit

    Raises
    ------
    ValueError
        If the iteration does not converge; the first such target is named.
    """
    centred = CentredRows(rows.masks, statistics.mean_row)
    diagonal = statistics.mean_row * (1.0 - statistics.mean_row)
    kept = _kept_precision(centred, diagonal)
    ridge = fit_ridge_gram_free(statistics, scale, None, rows, by_evidence=True)
    fits = []
    for first in range(0, statistics.n_targets, _TARGETS_AT_ONCE):
        part = slice(first, first + _TARGETS_AT_ONCE)
        values = rows.outputs(slice(0, statistics.n_rows), part, statistics.mean, scale)
        problem = _Regression(
            centred,
            values.astype(np.float32),
            diagonal,
            statistics.centred_cross(part) / (statistics.n_masks * scale[part]),
            statistics.row_square[part] / scale[part] ** 2,
            kept,
            statistics.design == "iid",
        )
        one = RidgeFit(
            ridge.scores[:, part] / scale[part],
            ridge.lambdas[part],
            ridge.error[part] / scale[part] ** 2,
        )
        fits.append(_fit(problem, one, scale[part], first))
    return BayesFit(*(np.concatenate(parts, axis=-1) for parts in zip(*fits, strict=True)))


def _fit(problem: _Regression, ridge: RidgeFit, scale: Float64, first: int) -> BayesFit:
    """Fit a mixture, and take of each target the better of it and one normal."""
    variances, proportions = _start(problem)
    iteration = _Iteration(problem, variances, proportions)
    converged = iteration.run()
    if not converged.all():
        raise bad_value(
            "solver",
            "another than 'gram-free', or method 'ridge' or 'lasso': message passing does not"
            f" converge in {_MOST_STEPS} steps on these masks",
            f"target {first + int(np.flatnonzero(~converged)[0])}",
        )
    mixture, normal = iteration.posterior(), _normal(problem, ridge)
    # Each fitted weight lowers the error on the rows of the fit, and so its estimate, by about one
    # part in n_rows, whether or not there was anything to fit.
    chosen = normal.error <= mixture.error * np.exp(variances.shape[1] / problem.n_rows)
    fit = _Posterior(
        *(np.where(chosen, one, other) for one, other in zip(normal, mixture, strict=True))
    )
    return BayesFit(
        fit.mean * scale,
        fit.deviation * scale,
        fit.error * scale**2,
        fit.noise * scale**2,
        fit.freedom * problem.n_rows,
        chosen,
        np.ones(chosen.shape, dtype=np.bool_),  # what does not is refused
    )


def _start(problem: _Regression) -> tuple[Float64, Float64]:
    """Variances, and weights that leave few enough scores besides 0 for the rows to tell apart."""
    n_rows, n_train = problem.n_rows, len(problem.diagonal)
    # Of the Gram matrix the variances take the diagonal alone.
    known = Moments(
        np.broadcast_to(problem.diagonal.astype(np.float32), (n_train, n_train)),
        problem.cross.T.astype(np.float32),
        problem.square,
        n_rows,
    )
    variances = prior_variances(known).astype(np.float64)
    used = min(0.9, 0.5 * n_rows / n_train)
    proportions = np.full(variances.shape, used / (variances.shape[1] - 1))
    proportions[:, 0] = 1.0 - used
    return variances, proportions


def _normal(problem: _Regression, ridge: RidgeFit) -> _Posterior:
    """Posterior under one normal prior, of which ridge regression is the mean."""
    residual = problem.residual(ridge.scores)
    rest = np.einsum("jt,jt->t", residual, residual, dtype=np.float64) / problem.n_rows
    left = np.sqrt(rest / np.where(ridge.error > 0.0, ridge.error, 1.0))  # as GCV has it
    left = np.where(ridge.error > 0.0, left, 1.0)
    noise, taken = rest / left, float(problem.intercept) / problem.n_rows
    kept = problem.kept.at((1.0 - left - taken) * problem.n_rows / len(problem.diagonal))
    precision = np.outer(problem.diagonal, kept) * problem.n_rows + ridge.lambdas
    deviation = np.sqrt(noise / precision)
    return _Posterior(ridge.scores, deviation, noise, 1.0 - left, ridge.error)


class _Iteration:
    """Means, noise and prior of several targets on their way to the fixed point."""

    def __init__(self, problem: _Regression, variances: Float64, proportions: Float64) -> None:
        self._problem, self._variances, self._proportions = problem, variances, proportions
        self._extra = _EXTRA_ROWS / problem.n_rows
        self._mean, self._deviation = np.zeros((2, *problem.cross.shape))
        self._last_move = np.zeros_like(self._mean)
        self._length = np.full(len(problem.square), _LENGTH)
        self._freedom = np.zeros_like(problem.square)
        self._gradient, self._noise = problem.cross.copy(), problem.square.copy()
        self._rest = problem.square.copy()

    def run(self) -> NDArray[np.bool_]:
        """Iterate; which targets have converged."""
        square = self._problem.square
        running = square > 0.0
        for step in range(_MOST_STEPS):
            if not running.any():
                break
            at = np.flatnonzero(running)
            size = self._move(at, first=step == 0)
            self._assess(at)
            lost = at[self._rest[at] > 2.0 * square[at]]
            if lost.size:
                self._start_again(lost)
            elif step >= _LEAST_STEPS:
                running[at] = size > _TOLERANCE * square[at]
        return ~running

    def posterior(self) -> _Posterior:
        """Posterior at the present state."""
        taken = self._freedom + float(self._problem.intercept) / self._problem.n_rows
        left = np.maximum(1.0 - taken, 0.0) + self._extra
        noise = (self._rest + self._extra * self._problem.square) / left
        error = noise * (1.0 + self._extra) / left
        return _Posterior(self._mean, self._deviation, noise, taken, error)

    def _move(self, at: NDArray[np.intp], *, first: bool) -> Float64:
        """Move all scores of the targets; the mean squares of the whole moves."""
        problem, d = self._problem, self._problem.diagonal[:, np.newaxis]
        kept = problem.kept.at(self._freedom[at] * problem.n_rows / len(d))
        v = self._noise[at] / (kept * problem.n_rows)
        evidence = d * self._mean[:, at] + self._gradient[:, at] / kept
        prior = self._variances[at], self._proportions[at]
        found = denoise(evidence, problem.diagonal, v, *prior)
        shrunk = d * found.variance / v
        # To the root of a score's own equation, its own part in ρ moving along.
        move = (found.mean - self._mean[:, at]) / (1.0 + shrunk * (1.0 / kept - 1.0))
        turned = np.einsum("it,it->t", d * move, self._last_move[:, at]) < 0.0
        length = self._length[at] * np.where(turned, *_CHANGE)
        self._length[at] = np.clip(length, _SHORTEST, 1.0)
        self._mean[:, at] += self._length[at] * move
        self._last_move[:, at], self._deviation[:, at] = move, np.sqrt(found.variance)
        self._proportions[at] = found.proportions
        self._proportions[at, -1] = np.maximum(found.proportions[:, -1], _LEAST_WEIGHT)
        # Undamped, a large noise now gives a small df and a small noise next time, and so on.
        freedom = shrunk.sum(axis=0) / problem.n_rows
        self._freedom[at] = freedom if first else 0.5 * (self._freedom[at] + freedom)
        return np.asarray(np.einsum("it,it->t", d * move, move))

    def _assess(self, at: NDArray[np.intp]) -> None:
        """Gradient and noise at the present means."""
        problem, square = self._problem, self._problem.square[at]
        residual = problem.residual(self._mean[:, at], at)
        rest = np.einsum("jt,jt->t", residual, residual, dtype=np.float64) / problem.n_rows
        self._gradient[:, at] = problem.rows.transposed_times(residual) / problem.n_rows
        left = np.maximum(1.0 - self._freedom[at], 0.0) + self._extra
        unexplained = (rest + self._extra * square) / left
        noise = np.sqrt(self._noise[at] * np.minimum(unexplained, square))
        self._noise[at], self._rest[at] = np.maximum(noise, 1e-6 * square), rest

    def _start_again(self, lost: NDArray[np.intp]) -> None:
        """From no scores, with moves of half the length."""
        self._length[lost] *= 0.5
        self._mean[:, lost], self._gradient[:, lost] = 0.0, self._problem.cross[:, lost]
        self._freedom[lost], self._noise[lost] = 0.0, self._problem.square[lost]


@dataclass(frozen=True)
class _Kept:
    """Share ρ of their precision that scores keep.

    Parameters
    ----------
    shrunk, kept : (n,) float64
        Mean shrinkage of all scores, rising from 0, and ρ there.
    """

    shrunk: Float64
    kept: Float64

    def at(self, shrunk: Float64) -> Float64:
        return np.maximum(np.interp(shrunk, self.shrunk, self.kept), _LEAST_KEPT)


def _kept_precision(rows: CentredRows, diagonal: Float64) -> _Kept:
    """Estimate ρ from the spectrum of the correlations.

    Ridge regression on columns of variance 1 with penalty κ shrinks the scores by a mean factor
    ``s = mean λ/(λ + κ)`` over the eigenvalues λ, with a posterior variance of mean 1/(λ + κ). A
    score alone that kept the share ρ of its precision would have the same if ρ = κ s/(1 - s).
    """
    root = np.sqrt(diagonal)[:, np.newaxis]
    inverse = np.where(root > 0.0, 1.0 / np.where(root > 0.0, root, 1.0), 0.0)
    signs = random_signs(len(diagonal), _N_PROBES) * (root > 0.0)
    probes = Lanczos(lambda vectors: inverse * rows.gram_times(inverse * vectors), signs)
    probes.advance(min(_LANCZOS_STEPS, len(diagonal)))
    values, weights = probes.spectra()
    weights = weights / weights.sum()
    values = values / (weights * values).sum()  # the mean of the correlations' eigenvalues is 1
    ratios = values / (values + _PENALTIES[:, np.newaxis, np.newaxis])
    shrunk = np.einsum("ktl,tl->k", ratios, weights)
    kept = _PENALTIES * shrunk / (1.0 - shrunk)
    used = np.count_nonzero(diagonal) / len(diagonal)
    return _Kept(np.append(0.0, shrunk * used), np.append(1.0, kept))
