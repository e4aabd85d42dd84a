"""Checks on the arrays that a caller hands over, before anything is computed from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyattr.errors import bad_value

if TYPE_CHECKING:
    from pyattr.masks import Masks

__all__ = ["check_outputs", "check_shape", "refuse_not_finite", "two_dimensional"]


def check_outputs(masks: Masks, outputs: ArrayLike) -> NDArray[np.floating[Any]]:
    """Check the outputs of the models trained on `masks`.

    Parameters
    ----------
    masks : Masks
        n_masks subsets.
    outputs : (n_masks, n_targets) array_like
        One row for each subset; (n_masks,) means one target. Real or bool, finite.

    Returns
    -------
    (n_masks, n_targets) float32 or float64
        float32 as it was given, anything else as float64.

    Raises
    ------
    ValueError
        If the shape does not fit or a value is not finite; the first bad target is named.
    """
    values = check_shape(masks, outputs)
    if values.dtype != np.float32:
        values = values.astype(np.float64)
    refuse_not_finite("outputs", values)
    return values


def check_shape(masks: Masks, outputs: ArrayLike) -> NDArray[Any]:
    """Check the shape of outputs that are then read in blocks, for they may be large or on disk.

    Parameters
    ----------
    masks : Masks
        n_masks subsets.
    outputs : (n_masks, n_targets) array_like
        As for `check_outputs`.

    Returns
    -------
    (n_masks, n_targets) array
        A view if they were an array.

    Raises
    ------
    ValueError
        If the shape does not fit.
    """
    values = two_dimensional("outputs", outputs)
    if values.shape[0] != masks.n_masks:
        raise bad_value("outputs", f"{masks.n_masks} rows, one for each mask", values.shape[0])
    if values.shape[1] < 1:
        raise bad_value("outputs", "at least one target", values.shape)
    return values


def two_dimensional(name: str, values: ArrayLike) -> NDArray[Any]:
    """Return real numbers as a matrix; one dimension becomes one column.

    Raises
    ------
    ValueError
        If `values` are not real numbers in one or two dimensions.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise bad_value(name, "real numbers", f"dtype {array.dtype}")
    if array.ndim == 1:
        array = array[:, np.newaxis]
    if array.ndim != 2:
        raise bad_value(name, "one or two dimensions", array.shape)
    return array


def refuse_not_finite(name: str, values: NDArray[Any]) -> None:
    """Refuse NaN and infinity, naming the first bad target (the last axis).

    Raises
    ------
    ValueError
        If a value is not finite.
    """
    good = np.isfinite(values)
    if not good.all():
        target = int(np.argwhere(~good)[:, -1].min())
        raise bad_value(name, "finite numbers", f"NaN or infinity for target {target}")
