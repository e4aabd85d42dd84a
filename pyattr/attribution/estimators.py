"""Every estimator as a function of sufficient statistics.

References
----------
Ilyas, Park, Engstrom, Leclerc and Madry, "Datamodels: predicting predictions from training data",
ICML 2022 (arXiv 2202.00622).
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyattr.attribution.bayes import BayesFit, fit_bayes
from pyattr.attribution.device_memory import check_device_memory, device_bytes, gram_is_on_device
from pyattr.attribution.influence import influence_of
from pyattr.attribution.lasso import LassoFit, fit_lasso
from pyattr.attribution.least_squares import fit_least_squares
from pyattr.attribution.memory import check_memory
from pyattr.attribution.moments import output_scale
from pyattr.attribution.plan import gram_bytes
from pyattr.attribution.result import Attribution
from pyattr.attribution.ridge import RidgeFit, fit_ridge
from pyattr.attribution.statistics import SufficientStatistics
from pyattr.device import used_on_device
from pyattr.errors import bad_value

__all__ = [
    "Estimator",
    "Method",
    "bayes_attribution",
    "check_lambdas",
    "check_rows",
    "fit_statistics",
    "lasso_attribution",
    "least_squares_attribution",
    "ridge_attribution",
]

Method: TypeAlias = Literal["bayes", "lasso", "ridge", "ols"]
Estimator: TypeAlias = Literal["bayes", "lasso", "ridge", "ols", "influence"]

Float64 = NDArray[np.float64]


def fit_statistics(
    statistics: SufficientStatistics | Sequence[SufficientStatistics],
    method: Estimator = "bayes",
    *,
    lambdas: ArrayLike | None = None,
    memory_limit: int | None = None,
) -> Attribution:
    """Fit scores from sufficient statistics alone: no masks, no outputs.

    Parameters
    ----------
    statistics : SufficientStatistics or sequence of SufficientStatistics
        Of all rows, or of disjoint parts of them with the same scale. The design is theirs.
    method : {"bayes", "lasso", "ridge", "ols", "influence"}
        As for `pyattr.fit_datamodel` and `pyattr.empirical_influence`, but: "ridge" chooses λ by
        generalised cross-validation; "lasso" chooses it by cross-validation over the parts, and
        takes one λ alone where there is one part; "influence" without sums of squares for every
        example (``squares=True``) assumes equal variances with and without an example.
    lambdas : (n_lambdas,) array_like, optional
        As for `pyattr.fit_datamodel`.
    memory_limit : int, optional
        Bytes that the fit may take beside the statistics; by default what is available.

    Returns
    -------
    Attribution
        The same bits for any order of rows, any shards and any number of threads, as far as LAPACK
        (for ridge, least squares and bayes) gives the same bits. For lasso the parts must be the same
        where they choose λ. ``details`` as from `pyattr.fit_datamodel`; for ridge ``gcv_mse``
        instead of ``loo_mse``.

    Raises
    ------
    ValueError
        If the statistics do not belong together, do not count pairs of examples, hold fewer than 2
        rows or equal masks alone, or the fit is impossible or does not fit into memory.

    Examples
    --------
    >>> import pyattr
    >>> masks = pyattr.sample_masks(200, 10, seed=1)
    >>> outputs = masks.unpack().sum(axis=1, keepdims=True) / 7
    >>> scale = pyattr.FixedPointScale.of([[0.0], [2.0]])  # the outputs' bounds
    >>> shards = [
    ...     pyattr.SufficientStatistics.of(masks[rows], outputs[rows], scale=scale)
    ...     for rows in (slice(0, 80), slice(80, 200))
    ... ]
    >>> pyattr.fit_statistics(shards, "ridge")
    Attribution(n_train=10, n_targets=1, method='ridge', design='iid')
    """
    if method not in get_args(Estimator):
        raise bad_value("method", " or ".join(map(repr, get_args(Estimator))), repr(method))
    candidates = check_lambdas(lambdas, method)
    parts = [statistics] if isinstance(statistics, SufficientStatistics) else list(statistics)
    if not parts:
        raise bad_value("statistics", "at least one part", "none")
    whole = functools.reduce(operator.add, parts)
    check_rows(whole)
    if method == "influence":
        scores, intercept, error = influence_of(whole)
        return Attribution(scores, intercept, error, "influence", whole.design)
    if not whole.has_gram:
        expected = f"counts of pairs (gram=True) for method {method!r}"
        raise bad_value("statistics", expected, "Gram-free ones; influence needs none")
    _check_memory(whole, method, memory_limit)
    if method == "bayes":
        return bayes_attribution(whole, fit_bayes(whole, intercept=whole.design == "iid"))
    if method == "ols":
        return least_squares_attribution(whole)
    if method == "ridge":
        scale = output_scale(whole, whole.design == "iid")
        return ridge_attribution(whole, fit_ridge(whole, scale, candidates), "gcv_mse")
    if len(parts) == 1 and (candidates is None or len(candidates) > 1):
        expected = "two or more parts of the rows for lasso to choose λ on, or one λ"
        raise bad_value("statistics", expected, "one part")
    folds = parts if len(parts) > 1 else ()
    fit = fit_lasso(whole, folds, candidates, intercept=whole.design == "iid")
    return lasso_attribution(whole, fit)


def _check_memory(statistics: SufficientStatistics, method: str, limit: int | None) -> None:
    n_train, n_targets = statistics.n_train, statistics.n_targets
    on_device = used_on_device(statistics.counts) and gram_is_on_device(method)
    n_bytes = gram_bytes(method, statistics.n_rows, n_train, n_targets, on_device=on_device)
    what = f"{method} with {n_train} examples and {n_targets} targets"
    advice = "group examples or take fewer targets at a time"
    check_memory(what, n_bytes, limit, advice)
    check_device_memory(what, device_bytes(method, n_train, n_targets, counted=True), advice)


def check_lambdas(lambdas: ArrayLike | None, method: str) -> Float64 | None:
    """Return candidates for λ as a vector of finite numbers above 0.

    Raises
    ------
    ValueError
        If they are not, or the method has no λ.
    """
    if lambdas is None:
        return None
    if method not in ("ridge", "lasso"):
        raise bad_value("lambdas", f"none for method {method!r}", lambdas)
    values = np.atleast_1d(np.asarray(lambdas, dtype=np.float64))
    if values.ndim != 1 or not values.size or not ((values > 0) & np.isfinite(values)).all():
        raise bad_value("lambdas", "finite numbers above 0 in one dimension", lambdas)
    return values


def check_rows(statistics: SufficientStatistics) -> None:
    """Refuse statistics that no regression can be fitted to.

    Raises
    ------
    ValueError
        If there is no target, fewer than 2 masks, or all masks are equal.
    """
    if statistics.n_targets < 1:
        raise bad_value("statistics", "at least one target", statistics.n_targets)
    if statistics.n_masks < 2:
        raise bad_value("masks", "at least 2 rows", statistics.n_masks)
    single = statistics.column_counts
    if np.all((single == 0) | (single == statistics.n_masks)):
        raise bad_value("masks", "at least two different rows", "all rows equal")


def bayes_attribution(
    statistics: SufficientStatistics, fit: BayesFit, **details: ArrayLike
) -> Attribution:
    """Attribution of an empirical Bayes fit, with more details of it."""
    return _attribution(
        statistics,
        "bayes",
        fit.scores,
        {
            "held_out_error": fit.held_out_error,
            "residual_variance": fit.residual_variance,
            "degrees_of_freedom": fit.freedom,
            "normal_prior": fit.normal,
            "converged": fit.converged,
            **details,
        },
        fit.deviations,
    )


def lasso_attribution(
    statistics: SufficientStatistics, fit: LassoFit, **details: ArrayLike
) -> Attribution:
    """Attribution of a LASSO fit, with more details of it."""
    return _attribution(
        statistics,
        "lasso",
        fit.scores,
        {
            "lambda": fit.lambdas,
            "lambda_max": fit.lambda_max,
            "held_out_error": fit.held_out_error,
            "duality_gap": fit.gap,
            **details,
        },
    )


def ridge_attribution(
    statistics: SufficientStatistics, fit: RidgeFit, criterion: str, **details: ArrayLike
) -> Attribution:
    """Attribution of a ridge fit whose λ minimise a criterion, with more details of it."""
    facts = {"lambda": fit.lambdas, criterion: fit.error, **details}
    return _attribution(statistics, "ridge", fit.scores, facts)


def least_squares_attribution(statistics: SufficientStatistics) -> Attribution:
    """Fit by least squares."""
    fit = fit_least_squares(statistics)
    facts = {"residual_variance": fit.residual_variance}
    return _attribution(statistics, "ols", fit.scores, facts, fit.deviations)


def _attribution(
    statistics: SufficientStatistics,
    method: str,
    scores: Float64,
    details: Mapping[str, Any],
    error: Float64 | None = None,
) -> Attribution:
    single = statistics.column_counts
    constant = (single == 0) | (single == statistics.n_masks)  # no evidence, but for roundings
    scores = np.where(constant[:, np.newaxis], 0.0, scores)
    return Attribution(
        scores=scores,
        intercept=statistics.mean - statistics.mean_row @ scores,
        standard_error=error,
        method=method,
        design=statistics.design,
        details=details,
    )
