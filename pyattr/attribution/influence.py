"""Empirical influence: the mean output with an example minus the mean output without it.

References
----------
Feldman and Zhang, "What neural networks memorize and why", NeurIPS 2020 (arXiv 2008.03703):
influence, memorization, and their estimators from random subsets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyattr.attribution.checks import check_outputs, check_shape
from pyattr.attribution.designs import Design
from pyattr.attribution.fixed_point import FixedPointScale
from pyattr.attribution.result import Attribution
from pyattr.attribution.rows import dense_blocks
from pyattr.attribution.statistics import SufficientStatistics
from pyattr.errors import bad_value
from pyattr.exact_sums import column_counts

if TYPE_CHECKING:
    from pyattr.masks import Masks

__all__ = ["Memorization", "empirical_influence", "influence_of", "memorization"]

_TARGETS_AT_ONCE = 256

Float64 = NDArray[np.float64]


class Memorization(NamedTuple):
    """Self-influence of every training example.

    Parameters
    ----------
    scores : (n_train,) float32
        How much the output on example i rises when i itself is trained on.
    standard_error : (n_train,) float32
        Its standard error; NaN where it cannot be estimated.
    """

    scores: NDArray[np.float32]
    standard_error: NDArray[np.float32]


def empirical_influence(masks: Masks, outputs: ArrayLike, *, design: Design = "iid") -> Attribution:
    """Estimate all scores as differences of means.

    Parameters
    ----------
    masks : Masks
        n_masks subsets; every example must be in some and out of some.
    outputs : (n_masks, n_targets) array_like
        Outputs of the models trained on them; read in blocks.
    design : {"iid", "complement"}
        "complement": rows 2j and 2j+1 are complements. The scores are the same; the standard
        error then comes from the differences within pairs, which Welch's would understate.

    Returns
    -------
    Attribution
        With standard errors (Welch for "iid"; NaN for an example with fewer than two masks
        on either side). The intercept makes the mean prediction over `masks` equal the mean
        output.

    Raises
    ------
    ValueError
        If shapes do not fit, a value is not finite, or an example is in every mask or in none.

    References
    ----------
    Feldman and Zhang 2020; Welch, Biometrika 1947, for the standard error.
    """
    values = check_shape(masks, outputs)
    scale, parts = FixedPointScale.of(values), []
    for first in range(0, values.shape[1], _TARGETS_AT_ONCE):
        part = slice(first, first + _TARGETS_AT_ONCE)
        sums = SufficientStatistics.of(
            masks,
            values[:, part],
            gram=False,
            squares=design == "iid",
            design=design,
            scale=FixedPointScale(scale.centre[part], scale.step[part]),
        )
        parts.append(influence_of(sums))
    return Attribution(
        scores=np.concatenate([part.scores for part in parts], axis=1),
        intercept=np.concatenate([part.intercept for part in parts]),
        standard_error=np.concatenate([part.standard_error for part in parts], axis=1),
        method="influence",
        design=design,
    )


class _Influence(NamedTuple):
    scores: NDArray[np.float32]
    intercept: Float64
    standard_error: NDArray[np.float32]


def influence_of(statistics: SufficientStatistics) -> _Influence:
    """Differences of means from sufficient statistics.

    Parameters
    ----------
    statistics : SufficientStatistics
        Counts of pairs of examples are not used.

    Returns
    -------
    scores, standard_error : (n_train, n_targets) float32
        The standard error is Welch's where squares were summed for every example
        (``squares=True``), that of differences within pairs for the complement design, and else
        Student's, which takes the variance to be the same with and without an example.
    intercept : (n_targets,) float64

    Raises
    ------
    ValueError
        If an example is in every mask or in none.
    """
    count_in = _check_counts(statistics.column_counts, statistics.n_masks)
    n_train, n_targets = statistics.n_train, statistics.n_targets
    scores = np.empty((n_train, n_targets), np.float32)
    error = np.empty_like(scores)
    for first in range(0, n_targets, _TARGETS_AT_ONCE):
        part = slice(first, first + _TARGETS_AT_ONCE)
        balance = statistics.n_masks / (count_in * (statistics.n_masks - count_in))
        exact = statistics.centred_cross(part) * balance[:, np.newaxis]
        scores[:, part] = exact
        if statistics.design == "complement":
            error[:, part] = _paired_error(statistics, exact, part)
        elif statistics.cross_square_steps is None:
            error[:, part] = _student_error(statistics, exact, part, balance)
        else:
            error[:, part] = _welch_error(statistics, part)
    intercept = statistics.mean - statistics.mean_row @ scores
    return _Influence(scores, intercept, error)


def _paired_error(statistics: SufficientStatistics, scores: Float64, part: slice) -> Float64:
    """Standard error of the mean over pairs of ±(f(x) - f(x̄)), + where an example is in x."""
    if statistics.n_rows < 2:
        return np.full_like(scores, np.nan)
    spread = np.maximum(4.0 * statistics.row_square[part] - np.square(scores), 0.0)
    return np.asarray(np.sqrt(spread / (statistics.n_rows - 1)))


def _student_error(
    statistics: SufficientStatistics, scores: Float64, part: slice, balance: Float64
) -> Float64:
    if statistics.n_masks < 3:
        return np.full_like(scores, np.nan)
    explained = np.square(scores) / balance[:, np.newaxis]
    spread = np.maximum(statistics.centred_square[part] - explained, 0.0)
    return np.asarray(np.sqrt(spread / (statistics.n_masks - 2) * balance[:, np.newaxis]))


def _welch_error(statistics: SufficientStatistics, part: slice) -> Float64:
    """Welch's standard error from sums of whole numbers, so exactly 0 for constant targets.

    Squares are taken about the mean in whole steps. Products may pass 2^63 on the way, but wrap
    around, and the results are below 2^63.
    """
    assert statistics.cross_square_steps is not None
    n_masks, total = statistics.n_masks, statistics.total_steps[part]
    middle = np.rint(total / n_masks).astype(np.int64)
    count_in = statistics.column_counts.astype(np.int64)[:, np.newaxis]
    cross = statistics.cross_steps[:, part]
    inside = statistics.cross_square_steps[:, part] - middle * (2 * cross - middle * count_in)
    both = statistics.square_steps[part] - middle * (2 * total - middle * n_masks)
    cross, total = cross - middle * count_in, total - middle * n_masks
    variance = np.zeros(cross.shape)
    for count, sums, squares in (
        (count_in, cross, inside),
        (n_masks - count_in, total - cross, both - inside),
    ):
        variance += _variance_of_mean(count, sums.astype(np.float64), squares.astype(np.float64))
    return np.asarray(np.sqrt(variance) * statistics.scale.step[part])


def _variance_of_mean(count: NDArray[Any], sums: Float64, squares: Float64) -> Float64:
    """Estimated from `count` values with these sums; NaN from fewer than two."""
    # Rounding can push the variance of equal values just below 0.
    spread = np.maximum(squares - np.square(sums) / count, 0.0)
    return np.asarray(spread / np.where(count > 1, count - 1, np.nan) / count)


def memorization(masks: Masks, outputs: ArrayLike) -> Memorization:
    """Estimate the influence of every training example on itself.

    Only the diagonal of the n_train × n_train matrix of influences is formed.

    Parameters
    ----------
    masks : Masks
        n_masks subsets drawn i.i.d.; every example must be in some and out of some.
    outputs : (n_masks, n_train) array_like
        Output on each *training* example, such as whether it is classified correctly.

    Returns
    -------
    Memorization
        Scores and Welch standard errors.

    Raises
    ------
    ValueError
        If shapes do not fit, a value is not finite, or an example is in every mask or in none.

    References
    ----------
    Feldman and Zhang 2020.
    """
    values = check_outputs(masks, outputs)
    if values.shape[1] != masks.n_train:
        raise bad_value("outputs", f"{masks.n_train} targets, one an example", values.shape[1])
    count_in = _check_counts(column_counts(masks.packed, masks.n_train), masks.n_masks)
    centre = values.mean(axis=0, dtype=np.float64)
    sums, squares = np.zeros((2, 2, masks.n_train))  # of masks with the example, and of all
    for rows, inside in dense_blocks(masks):
        centred = values[rows] - centre
        for at, which in enumerate((inside, np.ones_like(inside))):
            sums[at] += np.sum(centred, axis=0, where=which)
            squares[at] += np.sum(np.square(centred), axis=0, where=which)
    sums[1] -= sums[0]
    squares[1] -= squares[0]
    count = np.stack([count_in, masks.n_masks - count_in])
    means = sums / count
    error = np.sqrt(_variance_of_mean(count, sums, squares).sum(axis=0))
    return Memorization((means[0] - means[1]).astype(np.float32), error.astype(np.float32))


def _check_counts(counts: NDArray[np.integer[Any]], n_masks: int) -> Float64:
    """Number of masks that each example is in, refusing examples always in or always out."""
    bad = np.flatnonzero((counts == 0) | (counts == n_masks))
    if bad.size:
        side = "none" if counts[bad[0]] == 0 else "all"
        raise bad_value(
            "masks",
            "every example in some masks and out of some",
            f"example {bad[0]} in {side} of {n_masks}",
        )
    return counts.astype(np.float64)
