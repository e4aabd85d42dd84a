"""Products with packed masks: of floats in float64, of whole numbers exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyattr.reference.packed_masks import unpack

__all__ = [
    "FIXED_POINT_LIMIT",
    "exact_matmul_transposed",
    "gram",
    "intersections",
    "packed_matmul",
    "packed_matmul_transposed",
    "to_fixed_point",
]

FIXED_POINT_LIMIT = 1 << 21  # magnitudes stay below it


def packed_matmul(packed: NDArray[np.uint8], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """``masks @ weights``: (n_train, n_targets) float32 to (n_masks, n_targets) float32."""
    masks = unpack(packed, len(weights)).astype(np.float64)
    product: NDArray[np.float32] = (masks @ weights.astype(np.float64)).astype(np.float32)
    return product


def packed_matmul_transposed(
    packed: NDArray[np.uint8], residuals: NDArray[np.float32], n_train: int
) -> NDArray[np.float64]:
    """``masks.T @ residuals``: (n_masks, n_targets) float32 to (n_train, n_targets) float64."""
    masks = unpack(packed, n_train).astype(np.float64)
    product: NDArray[np.float64] = masks.T @ residuals.astype(np.float64)
    return product


def intersections(packed: NDArray[np.uint8], n_train: int) -> NDArray[np.int32]:
    """Numbers of examples that two masks share, (n_masks, n_masks) int32."""
    masks = unpack(packed, n_train).astype(np.int32)
    return masks @ masks.T


def gram(packed: NDArray[np.uint8], n_train: int) -> NDArray[np.int32]:
    """Numbers of masks that hold both i and j, (n_train, n_train) int32."""
    masks = unpack(packed, n_train).astype(np.int32)
    return masks.T @ masks


def to_fixed_point(
    outputs: NDArray[np.floating[Any]], centre: NDArray[np.float64], step: NDArray[np.float64]
) -> tuple[NDArray[np.int32], int]:
    """Whole numbers of steps from the centre, ties to even.

    Parameters
    ----------
    outputs : (n_rows, n_targets) float32 or float64
    centre, step : (n_targets,) float64
        Steps are powers of two.

    Returns
    -------
    fixed : (n_rows, n_targets) int32
        int32's least value where an output is not finite or not within `FIXED_POINT_LIMIT` steps.
    first_bad : int
        The first target that has such an output, or n_targets.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        steps = np.rint((outputs.astype(np.float64) - centre) * (1.0 / step))
    good = np.abs(steps) < FIXED_POINT_LIMIT  # False for NaN
    fixed = np.where(good, steps, np.iinfo(np.int32).min).astype(np.int32)
    bad = np.flatnonzero(~good.all(axis=0))
    return fixed, int(bad[0]) if bad.size else outputs.shape[1]


def exact_matmul_transposed(
    packed: NDArray[np.uint8], values: NDArray[np.int32], n_train: int
) -> NDArray[np.int64]:
    """``masks.T @ values``: (n_masks, n_targets) int32 to (n_train, n_targets) int64."""
    return unpack(packed, n_train).astype(np.int64).T @ values.astype(np.int64)
