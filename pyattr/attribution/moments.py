"""Mean squares and products of centred rows and standardised outputs, as the solvers take them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyattr.attribution.memory import check_memory
from pyattr.attribution.statistics import SufficientStatistics

__all__ = ["Moments", "held_out_moments", "moments", "output_scale", "plan_memory"]

Float64 = NDArray[np.float64]


class Moments(NamedTuple):
    """Means over n_rows rows x and outputs y, y in units of its scale.

    Parameters
    ----------
    gram : (n_train, n_train) float32
        Of ``(x - centre)(x - centre)ᵀ``.
    cross : (n_targets, n_train) float32
        Of ``(y - mean)(x - centre)ᵀ``.
    square : (n_targets,) float64
        Of ``(y - mean)²``.
    n_rows : int
    """

    gram: NDArray[np.float32]
    cross: NDArray[np.float32]
    square: Float64
    n_rows: int


def output_scale(statistics: SufficientStatistics, intercept: bool) -> Float64:
    """Root mean square of every target, about its mean if there is an intercept; 1 instead of 0."""
    square = statistics.centred_square if intercept else statistics.square
    scale = np.sqrt(square / max(statistics.n_masks, 1))
    return np.asarray(np.where(scale > 0.0, scale, 1.0))


def moments(statistics: SufficientStatistics, scale: Float64, intercept: bool) -> Moments:
    """Moments about the means of the same rows, or without intercept about 1/2 and 0.

    Parameters
    ----------
    statistics : SufficientStatistics
        At least one row; without intercept their scale must have centre 0.
    scale : (n_targets,) float64
        Unit of the outputs.
    intercept : bool

    Returns
    -------
    Moments
    """
    n_rows = statistics.n_masks
    middle = None if intercept else 0.5
    gram = statistics.centred_gram(middle, np.float32)
    gram /= np.float32(n_rows)
    cross = (statistics.centred_cross(middle) / (n_rows * scale)).T
    square = statistics.centred_square if intercept else statistics.square
    return Moments(
        gram, np.ascontiguousarray(cross, np.float32), square / n_rows / scale**2, n_rows
    )


def held_out_moments(
    held_out: SufficientStatistics,
    fitted: SufficientStatistics,
    scale: Float64,
    intercept: bool,
) -> Moments:
    """Moments of held-out rows about the means of the fitted rows.

    Parameters
    ----------
    held_out, fitted : SufficientStatistics
    scale : (n_targets,) float64
    intercept : bool

    Returns
    -------
    Moments
        Its quadratic form in the weights is the mean squared error on the held-out rows.
    """
    result = moments(held_out, scale, intercept)
    if not intercept:
        return result
    row = held_out.mean_row - fitted.mean_row
    output = (held_out.mean - fitted.mean) / scale
    gram = result.gram + np.multiply.outer(row.astype(np.float32), row.astype(np.float32))
    cross = result.cross + np.multiply.outer(output, row).astype(np.float32)
    return Moments(gram, cross, result.square + output**2, result.n_rows)


def plan_memory(n_train: int, n_targets: int, n_matrices: int, limit: int | None = None) -> None:
    """Refuse a fit whose matrices will not fit, before anything is computed.

    Parameters
    ----------
    n_train, n_targets : int
    n_matrices : int
        How many matrices of n_train² 4-byte numbers are alive at once.
    limit : int, optional
        Bytes allowed; by default what is available.

    Raises
    ------
    ValueError
        If more is needed.
    """
    n_bytes = 4 * n_matrices * n_train**2 + 64 * n_train * n_targets
    what = f"{n_matrices} matrices of {n_train} x {n_train} examples and {n_targets} targets"
    check_memory(what, n_bytes, limit, "group examples or take fewer targets at a time")
