"""Ridge regression without Gram matrix: λ per target by Lanczos quadrature, then one solution each.

With K = XXᵀ/m, generalised cross-validation is ``yᵀ(K+λ)⁻² y / m`` over the square of
``tr (K+λ)⁻¹ / m``: λ² has cancelled, and every term is positive, so that it holds where next to no
degrees of freedom are left. Lanczos' tridiagonal matrix started at y gives the first for all λ
together; those started at a few random signs z estimate the second as the mean of zᵀ(K+λ)⁻¹z. With
a free intercept z is centred: it then never sees the direction that the intercept takes. Steps are
taken until the criterion no longer changes. Conjugate gradients then solve (XᵀX/m + λ) w = Xᵀy/m
for each target at its own λ. All columns share every pass over the masks.

References
----------
Golub and Meurant, *Matrices, moments and quadrature*, 1994; Hutchinson, Comm. Stat. Simulation
1990; Golub and von Matt, "Generalized cross-validation for large-scale problems", J. Comp. Graph.
Stat. 1997; Hestenes and Stiefel 1952.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyattr.attribution.centred_rows import CentredRows
from pyattr.attribution.lanczos import Lanczos, random_signs
from pyattr.attribution.ridge import RidgeFit, default_lambdas
from pyattr.attribution.rows import Rows
from pyattr.attribution.statistics import SufficientStatistics
from pyattr.errors import bad_value

__all__ = ["fit_ridge_gram_free"]

_N_PROBES = 16
_TARGETS_AT_ONCE = 64
_STEPS_AT_ONCE = 8
_MOST_STEPS = 400
# Steps end when the criterion of all λ within a factor 2 of the best changes by less.
_CHANGE = 1e-3
_RESIDUAL = 1e-5  # of conjugate gradients, over the right-hand side: the products' own error

Float64 = NDArray[np.float64]


def fit_ridge_gram_free(
    statistics: SufficientStatistics,
    scale: Float64,
    lambdas: Float64 | None,
    rows: Rows,
    *,
    by_evidence: bool = False,
) -> RidgeFit:
    """Fit every target at the λ of the least generalised cross-validation error.

    Parameters
    ----------
    statistics : SufficientStatistics
        Counts of pairs are not used.
    scale : (n_targets,) float64
        Unit of the outputs.
    lambdas : (n_lambdas,) float64, optional
        Candidates, above 0; by default `pyattr.attribution.ridge.default_lambdas`.
    rows : Rows
    by_evidence : bool
        Take the λ of the largest restricted likelihood instead, as a prior's variance is fitted.

    Returns
    -------
    RidgeFit
        Scores within about 1e-5 of their size; the criterion within a percent or two, from 16
        random vectors that are the same at every call.

    Raises
    ------
    ValueError
        If the iteration does not converge, which needs a far smaller λ than any that fits.
    """
    centred = CentredRows(rows.masks, statistics.mean_row)
    n_rows = statistics.n_rows
    variance = statistics.mean_row * (1.0 - statistics.mean_row)
    given = default_lambdas(float(variance.mean()) * n_rows) if lambdas is None else lambdas
    falling = np.sort(given)[::-1]
    criterion = _Criterion(centred, falling / n_rows, statistics.design == "iid")
    fits = []
    for first in range(0, statistics.n_targets, _TARGETS_AT_ONCE):
        part = slice(first, first + _TARGETS_AT_ONCE)
        values = rows.outputs(slice(0, n_rows), part, statistics.mean, scale)
        errors, unlikely = criterion.of(values)
        best = (unlikely if by_evidence else errors).argmin(axis=0)
        # Sums over masks are twice those over pairs, in cross and count alike.
        cross = statistics.centred_cross(part) / (statistics.n_masks * scale[part])
        least = errors[best, np.arange(len(best))]
        fits.append(RidgeFit(_solve(centred, cross, falling[best] / n_rows), falling[best], least))
    return RidgeFit(
        np.concatenate([fit.scores for fit in fits], axis=1) * scale,
        np.concatenate([fit.lambdas for fit in fits]),
        np.concatenate([fit.error for fit in fits]) * scale**2,
    )


class _Criterion:
    """Generalised cross-validation error, and likelihood, for every λ.

    The restricted likelihood of outputs with variance proportional to K + λ, its scale fitted, is
    -2 log p = n log yᵀ(K+λ)⁻¹y + tr log(K+λ) + const over the n dimensions beside the intercept.

    Parameters
    ----------
    rows : CentredRows
    lambdas : (n_lambdas,) float64
        Over the number of rows.
    intercept : bool
    """

    def __init__(self, rows: CentredRows, lambdas: Float64, intercept: bool) -> None:
        n_rows = rows.masks.n_masks
        self._map = lambda values: rows.times(rows.transposed_times(values)) / n_rows
        self._lambdas, self._intercept = lambdas, intercept
        signs = random_signs(n_rows, _N_PROBES)
        self._probes = Lanczos(self._map, signs - intercept * signs.mean(axis=0))

    def of(self, values: Float64) -> tuple[Float64, Float64]:
        """Errors and -2 log likelihoods, (n_lambdas, n_targets) each.

        Parameters
        ----------
        values : (n_rows, n_targets) float64
            Outputs, centred if there is an intercept.
        """
        targets, n_rows = Lanczos(self._map, values), len(values)
        errors = np.full((len(self._lambdas), values.shape[1]), np.inf)
        while targets.n_steps < _MOST_STEPS:
            targets.advance(_STEPS_AT_ONCE)
            self._probes.advance(max(0, targets.n_steps - self._probes.n_steps))
            squares = _resolvent(targets, self._lambdas, 2)
            left = _resolvent(self._probes, self._lambdas, 1).mean(axis=1)
            before, errors = errors, n_rows * squares / np.square(left)[:, np.newaxis]
            near = errors <= 2.0 * errors.min(axis=0)
            if (np.abs(errors - before)[near] <= _CHANGE * errors[near]).all():
                break
        eigenvalues, weights = self._probes.spectra()
        logarithms = [(weights * np.log(eigenvalues + lam)).sum(axis=1) for lam in self._lambdas]
        likely = _resolvent(targets, self._lambdas, 1)
        likely = np.log(np.where(likely > 0.0, likely, 1.0))
        n_free = n_rows - int(self._intercept)
        return errors, n_free * likely + np.mean(logarithms, axis=1)[:, np.newaxis]


def _resolvent(starts: Lanczos, lambdas: Float64, power: int) -> Float64:
    """startᵀ (map + λ)^-power start, (n_lambdas, n_starts)."""
    values, weights = starts.spectra()
    return np.stack([(weights / (values + lam) ** power).sum(axis=1) for lam in lambdas])


def _solve(rows: CentredRows, right: Float64, lambdas: Float64) -> Float64:
    """Solutions of (A + λ) w = right, each column at its own λ, by conjugate gradients."""
    solution, residual = np.zeros_like(right), right.copy()
    direction, size = right.copy(), np.einsum("it,it->t", right, right)
    goal = _RESIDUAL**2 * size
    for _ in range(_MOST_STEPS):
        running = np.flatnonzero(size > goal)
        if not running.size:
            return solution
        along = direction[:, running]
        product = rows.gram_times(along) + lambdas[running] * along
        step = size[running] / np.einsum("it,it->t", along, product)
        solution[:, running] += step * along
        residual[:, running] -= step * product
        new = np.einsum("it,it->t", residual[:, running], residual[:, running])
        direction[:, running] = residual[:, running] + new / size[running] * along
        size[running] = new
    bad = int(np.flatnonzero(size > goal)[0])
    raise bad_value(
        "lambdas",
        f"larger ones, or solver='gram': no convergence in {_MOST_STEPS} steps",
        f"{lambdas[bad] * rows.masks.n_masks:.3g} for target {bad}",
    )
