"""Mean squares and products of centred rows and standardised outputs, as the solvers take them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyattr.attribution.statistics import SufficientStatistics
from pyattr.device import DeviceMatrix, used_on_device
from pyattr.device_sums import add_outer, centred_gram
from pyattr.errors import bad_value

__all__ = ["Moments", "held_out_moments", "moments", "output_scale"]

Float64 = NDArray[np.float64]


class Moments(NamedTuple):
    """Means over n_rows rows x and outputs y, y in units of its scale.

    Parameters
    ----------
    gram : (n_train, n_train) float32
        Of ``(x - centre)(x - centre)ᵀ``; on the device if the counts are and the backend is "cuda".
    cross : (n_targets, n_train) float32
        Of ``(y - mean)(x - centre)ᵀ``.
    square : (n_targets,) float64
        Of ``(y - mean)²``.
    n_rows : int
    """

    gram: NDArray[np.float32] | DeviceMatrix
    cross: NDArray[np.float32]
    square: Float64
    n_rows: int


def output_scale(statistics: SufficientStatistics, intercept: bool) -> Float64:
    """Root mean square of the regression's outputs, (n_targets,); 1 instead of 0.

    See `moments` for the arguments.
    """
    _check_intercept(statistics, intercept)
    scale = np.sqrt(statistics.row_square)
    return np.asarray(np.where(scale > 0.0, scale, 1.0))


def moments(statistics: SufficientStatistics, scale: Float64, intercept: bool) -> Moments:
    """Moments of the regression's rows and outputs.

    Parameters
    ----------
    statistics : SufficientStatistics
        At least one row.
    scale : (n_targets,) float64
        Unit of the outputs.
    intercept : bool
        Whether the regression has one: for independent masks, whose means are then taken off;
        not for pairs of complements, whose half differences have none.

    Returns
    -------
    Moments
    """
    _check_intercept(statistics, intercept)
    n_masks = statistics.n_masks
    # A pair's two rows z and -z, with outputs d and -d: means over masks are those over pairs.
    cross = (statistics.centred_cross() / (n_masks * scale)).T
    square = statistics.row_square / scale**2
    gram = _mean_gram(statistics)
    return Moments(gram, np.ascontiguousarray(cross, np.float32), square, statistics.n_rows)


def _mean_gram(statistics: SufficientStatistics) -> NDArray[np.float32] | DeviceMatrix:
    counts, n_masks = statistics.counts, statistics.n_masks
    if used_on_device(counts):
        return centred_gram(counts, n_masks)
    gram = statistics.centred_gram(np.float32)
    gram /= np.float32(n_masks)
    return gram


def _check_intercept(statistics: SufficientStatistics, intercept: bool) -> None:
    if intercept != (statistics.design == "iid"):
        expected = f"{not intercept} for the {statistics.design} design"
        raise bad_value("intercept", expected, intercept)


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
    output, gram, short = (held_out.mean - fitted.mean) / scale, result.gram, row.astype(np.float32)
    if isinstance(gram, np.ndarray):
        gram += np.multiply.outer(short, short)
    else:
        add_outer(gram, short)
    cross = result.cross + np.multiply.outer(output, row).astype(np.float32)
    return Moments(gram, cross, result.square + output**2, result.n_rows)
