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

from pyattr.attribution.checks import check_outputs
from pyattr.attribution.designs import Design, check_design
from pyattr.attribution.result import Attribution
from pyattr.attribution.rows import column_counts, dense_blocks, standardise
from pyattr.errors import bad_value
from pyattr.kernels import packed_matmul_transposed

if TYPE_CHECKING:
    from pyattr.masks import Masks

__all__ = ["Memorization", "empirical_influence", "memorization"]

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
        Outputs of the models trained on them.
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
    values = check_outputs(masks, outputs)
    check_design(masks, design)
    count_in = _count_in(masks)
    scores = np.empty((masks.n_train, values.shape[1]), np.float32)
    error = np.empty_like(scores)
    for first in range(0, values.shape[1], _TARGETS_AT_ONCE):
        part = slice(first, first + _TARGETS_AT_ONCE)
        influence = _paired if design == "complement" else _welch
        scores[:, part], error[:, part] = influence(masks, values[:, part], count_in)
    mean = values.mean(axis=0, dtype=np.float64)
    return Attribution(
        scores=scores,
        intercept=mean - (count_in / masks.n_masks) @ scores,
        standard_error=error,
        method="influence",
        design=design,
    )


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
    count_in = _count_in(masks)
    centre = values.mean(axis=0, dtype=np.float64)
    sums = np.zeros((2, masks.n_train))
    totals = np.zeros((2, masks.n_train))
    for rows, inside in dense_blocks(masks):
        centred = values[rows] - centre
        for power, term in enumerate((centred, centred * centred)):
            sums[power] += np.sum(term, axis=0, where=inside)
            totals[power] += np.sum(term, axis=0)
    scores, error = _difference_of_means(count_in, masks.n_masks, sums, totals)
    return Memorization(scores.astype(np.float32), error.astype(np.float32))


def _count_in(masks: Masks) -> Float64:
    """Number of masks that each example is in, refusing examples always in or always out."""
    count = column_counts(masks)
    bad = np.flatnonzero((count == 0) | (count == masks.n_masks))
    if bad.size:
        side = "none" if count[bad[0]] == 0 else "all"
        raise bad_value(
            "masks",
            "every example in some masks and out of some",
            f"example {bad[0]} in {side} of {masks.n_masks}",
        )
    return count


def _welch(
    masks: Masks, values: NDArray[np.floating[Any]], count_in: Float64
) -> tuple[Float64, Float64]:
    """Difference of means and its Welch standard error, both (n_train, n_targets)."""
    centred, _, scale = standardise(values)
    moments = np.concatenate([centred, centred * centred], axis=1)
    product = packed_matmul_transposed(masks.packed, moments, masks.n_train, dtype=np.float64)
    sums = np.hsplit(product, 2)
    totals = np.split(moments.sum(axis=0, dtype=np.float64), 2)
    scores, error = _difference_of_means(
        count_in[:, np.newaxis], masks.n_masks, np.stack(sums), np.stack(totals)
    )
    return scores * scale, error * scale


def _paired(
    masks: Masks, values: NDArray[np.floating[Any]], count_in: Float64
) -> tuple[Float64, Float64]:
    """Mean over pairs of ±(f(x) - f(x̄)), + where example i is in x; its standard error."""
    n_pairs = masks.n_masks // 2
    centred, _, scale = standardise(values)
    difference = centred[0::2] - centred[1::2]
    first = masks[0::2].packed
    inside = packed_matmul_transposed(first, difference, masks.n_train, dtype=np.float64)
    scores = (2.0 * inside - difference.sum(axis=0, dtype=np.float64)) / n_pairs
    square = np.mean(difference * difference, axis=0, dtype=np.float64)
    if n_pairs < 2:
        return scores * scale, np.full_like(scores, np.nan)
    error = np.sqrt(np.maximum(square - scores * scores, 0.0) / (n_pairs - 1))
    return scores * scale, error * scale


def _difference_of_means(
    count_in: Float64, n_masks: int, sums: Float64, totals: Float64
) -> tuple[Float64, Float64]:
    """Welch's comparison from sums: ``sums[k]``, ``totals[k]`` are of the (k+1)-th powers."""
    count_out = n_masks - count_in
    mean_in, mean_out = sums[0] / count_in, (totals[0] - sums[0]) / count_out
    error = np.zeros(np.broadcast_shapes(mean_in.shape, count_in.shape))
    for count, mean, square in (
        (count_in, mean_in, sums[1]),
        (count_out, mean_out, totals[1] - sums[1]),
    ):
        # Rounding can push the variance of equal outputs just below 0.
        spread = np.maximum(square - count * mean * mean, 0.0)
        variance = spread / np.where(count > 1, count - 1, np.nan)
        error += variance / count
    return mean_in - mean_out, np.sqrt(error)
