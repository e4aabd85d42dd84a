"""Sums over rows that stay on the CUDA device, and the Gram matrix made of them.

A fit reads its Gram matrix some hundred times and nobody else ever looks at it: pairs of examples
are counted on the device, centred there and handed to `pyattr.solvers` as they are. Only products,
sums and scores, which are smaller by a factor n_train, come back. Everything here needs
``use_backend("cuda")``; results have the bits of the CPU's.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyattr.array_checks import check_exact, check_packed
from pyattr.device import DeviceMatrix, device_module
from pyattr.errors import bad_value, check_count
from pyattr.reference import FIXED_POINT_LIMIT

__all__ = [
    "DeviceSums",
    "FinishedSums",
    "add_outer",
    "centred_gram",
    "combined_counts",
    "gram_product",
]

_MAX_MASKS = (1 << 31) - 1
_MAX_SQUARE = 1 << 62
_MAX_CHUNK_ROWS = 1 << 15  # 205 MB of turned masks at n_train = 50,000, in each of two streams
_UNCHECKED_ROWS = 1 << 20  # their squares add less than 2^62

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


class FinishedSums(NamedTuple):
    """Sums over rows x (bits) and q (outputs in whole steps).

    Parameters
    ----------
    counts : (n_train, n_train) int32, on the device
        Σ x xᵀ.
    cross_steps : (n_train, n_targets) int64
        Σ x qᵀ.
    total_steps, square_steps : (n_targets,) int64
        Σ q and Σ q².
    """

    counts: DeviceMatrix
    cross_steps: Int64
    total_steps: Int64
    square_steps: Int64


class DeviceSums:
    """Exact sums over rows of masks and outputs: counts and masksᵀY on the device.

    Rows are copied in chunks while the chunk before is summed. Sums are whole numbers: the same for
    any chunks and order, and equal to the CPU's.

    Parameters
    ----------
    n_train : int
    centre, step : (n_targets,) float64
        Of the fixed point (`pyattr.exact_sums.to_fixed_point`).
    chunk_rows : int
        Rows on the device at a time, in each of two streams; changes nothing in the result.
    """

    def __init__(self, n_train: int, centre: Float64, step: Float64, chunk_rows: int = 1 << 15):
        self._n_train = check_count("n_train", n_train, 1)
        self._centre = check_exact("centre", centre, np.float64, 1)
        self._step = check_exact("step", step, np.float64, 1)
        if len(self._step) != len(self._centre) or not np.isfinite(self._centre).all():
            got = f"{len(self._centre)} and {len(self._step)}"
            raise bad_value("centre, step", "as many finite numbers each", got)
        if ((np.frexp(self._step)[0] != 0.5) | (self._step < 2.0**-1020)).any():
            raise bad_value("step", "powers of two, at least 2^-1020", self._step)
        chunk_rows = min(check_count("chunk_rows", chunk_rows, 1), _MAX_CHUNK_ROWS)
        self._sums = device_module().ExactSums(n_train, self._centre, 1.0 / self._step, chunk_rows)
        self._n_masks = self._n_checked = 0

    def add(self, packed: NDArray[np.uint8], outputs: NDArray[np.floating[Any]]) -> None:
        """Add rows; may return before they are summed, but not before they are read.

        Parameters
        ----------
        packed : (n_rows, row_bytes) uint8
        outputs : (n_rows, n_targets) float32 or float64
        """
        bits = check_packed(packed, self._n_train)
        values = np.asarray(outputs)
        if values.dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
            raise bad_value("outputs", "float32 or float64", values.dtype)
        if values.shape != (len(bits), len(self._centre)):
            raise bad_value("outputs", f"shape {(len(bits), len(self._centre))}", values.shape)
        if self._n_masks + len(bits) > _MAX_MASKS:
            raise bad_value("masks", f"at most {_MAX_MASKS}", self._n_masks + len(bits))
        if self._n_masks + len(bits) - self._n_checked > _UNCHECKED_ROWS:
            self._check()
        self._n_masks += len(bits)
        self._sums.add(bits, np.ascontiguousarray(values))

    def finish(self) -> FinishedSums:
        """Wait for all rows so far and return their sums.

        Raises
        ------
        ValueError
            If an output was NaN, infinite or 2^21 steps or more from its centre (the first such
            target is named), or a sum of squares could have overflowed.
        """
        totals, squares = self._check()
        return FinishedSums(self._sums.counts(), self._sums.cross().numpy(), totals, squares)

    def _check(self) -> tuple[Int64, Int64]:
        """Wait, refuse what `finish` refuses, and return Σ q and Σ q²."""
        totals, squares, first_bad = self._sums.finish()
        if first_bad < len(totals):
            reach = self._step[first_bad] * FIXED_POINT_LIMIT
            raise bad_value(
                "outputs",
                f"finite values of target {first_bad} within {reach:.6g} of "
                f"{self._centre[first_bad]:.6g}, as the fixed-point scale has it",
                "others",
            )
        large = np.flatnonzero(squares.astype(np.uint64) >= _MAX_SQUARE)
        if large.size:
            expected = "a sum of squares below 2^62 steps (more rows need a larger step)"
            raise bad_value("outputs", expected, f"more for target {large[0]}")
        self._n_checked = self._n_masks
        return totals, squares


def combined_counts(mine: DeviceMatrix, theirs: DeviceMatrix, sign: int) -> DeviceMatrix:
    """``mine + sign * theirs``, a new matrix on the device.

    Parameters
    ----------
    mine, theirs : (n_train, n_train) int32, on the device
    sign : int
        1 or -1.
    """
    result = mine.copy()
    device_module().add_counts(result, theirs, sign)
    return result


def centred_gram(counts: DeviceMatrix, n_masks: int) -> DeviceMatrix:
    """Mean over masks of ``(x - mean)(x - mean)ᵀ``.

    Parameters
    ----------
    counts : (n_train, n_train) int32, on the device
        Σ x xᵀ.
    n_masks : int
        At least 1.

    Returns
    -------
    (n_train, n_train) float32, on the device
        From exact counts: float64 until the last rounding and the division by n_masks, which are
        float32. The bits of `pyattr.attribution.moments.moments`.
    """
    single = counts.diagonal().astype(np.float64)
    matrix: DeviceMatrix = device_module().centred_gram(counts, single, float(n_masks))
    return matrix


def add_outer(gram: DeviceMatrix, row: Float32) -> None:
    """Add ``row rowᵀ`` to a float32 matrix on the device, in place.

    Parameters
    ----------
    gram : (n_train, n_train) float32, on the device
    row : (n_train,) float32
    """
    device_module().add_outer(gram, row)


def gram_product(gram: DeviceMatrix, rows: Float32) -> Float32:
    """``rows @ gram`` for a few rows.

    Parameters
    ----------
    gram : (n_train, n_train) float32, on the device
        Symmetric.
    rows : (n_rows, n_train) float32

    Returns
    -------
    (n_rows, n_train) float32
        Summed in float32, from the first example to the last.
    """
    product: Float32 = device_module().negative_product(gram, rows)
    return np.negative(product, out=product)
