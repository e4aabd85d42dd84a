"""Datamodels: the linear function of the subset that fits the recorded outputs best.

References
----------
Ilyas, Park, Engstrom, Leclerc and Madry, "Datamodels: predicting predictions from training data",
ICML 2022 (arXiv 2202.00622).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyattr.attribution.active_sets import fit_lasso_gram_free
from pyattr.attribution.bayes import fit_bayes
from pyattr.attribution.checks import check_shape
from pyattr.attribution.conjugate_gradients import fit_ridge_gram_free
from pyattr.attribution.designs import Design, check_design
from pyattr.attribution.estimators import (
    Method,
    bayes_attribution,
    check_lambdas,
    check_rows,
    lasso_attribution,
    least_squares_attribution,
    ridge_attribution,
)
from pyattr.attribution.lasso import fit_lasso
from pyattr.attribution.leave_one_out_error import fit_ridge_by_rows, fit_ridge_in_row_space
from pyattr.attribution.message_passing import fit_bayes_gram_free
from pyattr.attribution.moments import output_scale
from pyattr.attribution.plan import Solver, in_row_space, plan_fit
from pyattr.attribution.result import Attribution
from pyattr.attribution.rows import Rows
from pyattr.attribution.statistics import SufficientStatistics
from pyattr.errors import bad_value

if TYPE_CHECKING:
    from pyattr.masks import Masks

__all__ = ["fit_datamodel"]

_LOG: Final = logging.getLogger(__name__)
_N_FOLDS = 5


def fit_datamodel(
    masks: Masks,
    outputs: ArrayLike,
    method: Method = "bayes",
    *,
    lambdas: ArrayLike | None = None,
    design: Design = "iid",
    solver: Solver = "auto",
    memory_limit: int | None = None,
) -> Attribution:
    """Fit scores by regression of the outputs on the masks.

    Parameters
    ----------
    masks : Masks
        n_masks subsets.
    outputs : (n_masks, n_targets) array_like
        Outputs of the models trained on them. Read in blocks of rows, so they may lie on disk.
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
    solver : {"auto", "gram", "gram-free"}
        "gram": on the matrix of counts of pairs of examples (for ridge with fewer rows than
        examples, of pairs of rows). "gram-free": on products with the packed masks, for few
        targets or many examples: lasso to the same duality gap; bayes to the same fixed point, for
        correlated masks with estimates of the same quantities; ridge with λ by generalised
        cross-validation. "auto": what fits into memory, and of that what is faster.
    memory_limit : int, optional
        Bytes that the fit may take beside masks and outputs; by default what is available.

    Returns
    -------
    Attribution
        ``details``: but for least squares ``gram_free``, 1 or 0; and, squared errors being those
        of a row (of a pair's half difference for "complement"): for bayes ``held_out_error`` (the
        fit's own estimate), ``residual_variance``, ``degrees_of_freedom``, ``normal_prior`` (1
        where one normal was the better prior) and ``converged`` (0 where nearly dependent columns
        leave other scores as good), and posterior standard deviations as standard errors; for lasso
        ``lambda``, ``lambda_max``, ``held_out_error`` (cross-validated) and ``duality_gap`` (over
        the target's variance); for ridge ``lambda`` and ``loo_mse``, the leave-one-out error, or
        Gram-free ``gcv_mse``, the generalised cross-validation error; for least squares
        ``residual_variance``, and standard errors that assume it is the same for all subsets.

    Raises
    ------
    ValueError
        If shapes do not fit, a value is not finite, all masks are equal, least squares has no
        unique solution, the memory would not suffice, or a Gram-free fit does not converge.

    See Also
    --------
    pyattr.fit_statistics : The same from sums over rows, without masks and outputs.
    """
    if method not in get_args(Method):
        raise bad_value("method", " or ".join(map(repr, get_args(Method))), repr(method))
    values = check_shape(masks, outputs)
    check_design(masks, design)
    if masks.n_masks < 2:
        raise bad_value("masks", "at least 2 rows", masks.n_masks)
    candidates = check_lambdas(lambdas, method)
    rows = Rows(masks, values, design)
    size = len(rows.masks), masks.n_train, values.shape[1]
    gram_free = plan_fit(method, *size, solver, memory_limit)
    in_rows = in_row_space(method, *size[:2])
    sums = SufficientStatistics.of(
        masks, values, gram=not (gram_free or in_rows), design=design, memory_limit=memory_limit
    )
    check_rows(sums)
    _LOG.info(
        "%s: %s rows, %s examples, %s targets, %s", method, *size,
        "Gram-free" if gram_free else "in row space" if in_rows else "on the Gram matrix",
    )  # fmt: skip
    return (_fit_gram_free if gram_free else _fit_on_gram)(method, sums, rows, candidates)


def _fit_on_gram(
    method: Method, sums: SufficientStatistics, rows: Rows, lambdas: NDArray[np.float64] | None
) -> Attribution:
    intercept, kind = rows.design == "iid", {"gram_free": np.zeros(sums.n_targets)}
    if method == "bayes":
        return bayes_attribution(sums, fit_bayes(sums, intercept=intercept), **kind)
    if method == "lasso":
        fit = fit_lasso(sums, _folds(rows, sums), lambdas, intercept=intercept)
        return lasso_attribution(sums, fit, **kind)
    if method == "ols":
        return least_squares_attribution(sums)
    fit_ridge = fit_ridge_by_rows if sums.has_gram else fit_ridge_in_row_space
    scale = output_scale(sums, intercept)
    return ridge_attribution(sums, fit_ridge(sums, scale, lambdas, rows), "loo_mse", **kind)


def _fit_gram_free(
    method: Method, sums: SufficientStatistics, rows: Rows, lambdas: NDArray[np.float64] | None
) -> Attribution:
    scale = output_scale(sums, rows.design == "iid")
    kind = {"gram_free": np.ones(sums.n_targets)}
    if method == "bayes":
        return bayes_attribution(sums, fit_bayes_gram_free(sums, scale, rows), **kind)
    if method == "lasso":
        n_folds = min(_N_FOLDS, sums.n_rows)
        return lasso_attribution(
            sums, fit_lasso_gram_free(sums, scale, lambdas, rows, n_folds), **kind
        )
    fit = fit_ridge_gram_free(sums, scale, lambdas, rows)
    return ridge_attribution(sums, fit, "gcv_mse", **kind)


def _folds(rows: Rows, sums: SufficientStatistics) -> Iterator[SufficientStatistics]:
    """Statistics of every fifth row, or pair of complements, from the first to the fifth on."""
    n_folds = min(_N_FOLDS, sums.n_rows)
    for first in range(n_folds if n_folds > 1 else 0):
        chunks = rows.chunks_of(n_folds, first)
        yield SufficientStatistics.of_chunks(chunks, sums.scale, design=rows.design)
