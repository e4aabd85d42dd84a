"""Sufficient statistics of a regression on masks, from packed bits.

A regression on rows ``x - centre`` needs their Gram matrix (or, with fewer rows than columns,
their kernel matrix) and their products with the outputs. The rows are made dense in blocks only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import ssyrk

from pyattr.kernels import packed_matmul, packed_matmul_transposed

if TYPE_CHECKING:
    from pyattr.masks import Masks

__all__ = ["CentredRows", "column_counts", "dense_blocks", "standardise"]

# A dense block holds this many float32 numbers (64 MiB) and no more than so many rows, so that
# integer sums in float32 stay far below 2^24 and are exact.
_BLOCK_SIZE = 1 << 24
_BLOCK_ROWS = 1 << 13

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class CentredRows:
    """The rows ``x - centre`` of a regression, never all dense at once.

    Parameters
    ----------
    masks : Masks
        n_masks subsets of n_train examples.
    centre : (n_train,) float64
        Subtracted from every row.
    """

    masks: Masks
    centre: Float64

    @property
    def shape(self) -> tuple[int, int]:
        """(n_masks, n_train)."""
        return self.masks.n_masks, self.masks.n_train

    def gram(self) -> Float64:
        """Sum over rows of ``(x - centre)(x - centre)ᵀ``.

        Returns
        -------
        (n_train, n_train) float64
            Exact counts, then centred: ``n_ij - n_i c_j - c_i n_j + n_masks c_i c_j``.
        """
        n_masks, n_train = self.shape
        upper = np.zeros((n_train, n_train), order="F")
        for _, bits in dense_blocks(self.masks):
            upper += ssyrk(1.0, bits.astype(np.float32).T)
        return _centred(_symmetric(upper), self.centre, float(n_masks))

    def kernel(self) -> Float64:
        """Inner products of the centred rows.

        Returns
        -------
        (n_masks, n_masks) float64
            Exact sizes of intersections, then centred.
        """
        n_masks, n_train = self.shape
        upper = np.zeros((n_masks, n_masks), order="F")
        offset = np.zeros(n_masks)
        n_bytes = max(1, min(_BLOCK_ROWS, _BLOCK_SIZE // n_masks) // 8)
        for first in range(0, -(-n_train // 8), n_bytes):
            packed = self.masks.packed[:, first : first + n_bytes]
            columns = np.unpackbits(packed, axis=1, bitorder="little").astype(np.float32)
            upper += ssyrk(1.0, np.asfortranarray(columns))
            part = self.centre[8 * first : 8 * (first + n_bytes)]
            offset += columns[:, : len(part)] @ part
        inner = _symmetric(upper)
        inner -= offset[:, np.newaxis]
        inner -= offset
        inner += self.centre @ self.centre
        return inner

    def transposed_product(self, values: NDArray[np.floating[Any]]) -> Float64:
        """Sum over rows of ``(x - centre) valueᵀ``.

        Parameters
        ----------
        values : (n_masks, n_targets)
            Rounded to float32, so best centred; the sums run in float64 over panels.

        Returns
        -------
        (n_train, n_targets) float64
        """
        dense = np.ascontiguousarray(values, dtype=np.float32)
        sums = packed_matmul_transposed(
            self.masks.packed, dense, self.masks.n_train, dtype=np.float64
        )
        total = dense.sum(axis=0, dtype=np.float64)
        return np.asarray(sums - self.centre[:, np.newaxis] * total)

    def product(self, weights: NDArray[np.floating[Any]]) -> Float64:
        """Predictions ``(x - centre) @ weights``.

        Parameters
        ----------
        weights : (n_train, n_targets)

        Returns
        -------
        (n_masks, n_targets) float64
        """
        dense = np.ascontiguousarray(weights, dtype=np.float32)
        return np.asarray(packed_matmul(self.masks.packed, dense) - self.centre @ dense)


def dense_blocks(masks: Masks) -> Iterator[tuple[slice, NDArray[np.bool_]]]:
    """Unpack consecutive rows, at most 64 MiB of float32 at a time.

    Parameters
    ----------
    masks : Masks

    Yields
    ------
    rows : slice
    bits : (n_rows, n_train) bool
    """
    step = max(1, min(_BLOCK_ROWS, _BLOCK_SIZE // masks.n_train))
    for first in range(0, masks.n_masks, step):
        rows = slice(first, min(first + step, masks.n_masks))
        yield rows, masks[rows].unpack()


def column_counts(masks: Masks) -> Float64:
    """Number of masks that each example is in.

    Parameters
    ----------
    masks : Masks

    Returns
    -------
    (n_train,) float64
        Whole numbers, exact.
    """
    ones = np.ones((masks.n_masks, 1), np.float32)
    count = packed_matmul_transposed(masks.packed, ones, masks.n_train, dtype=np.float64)
    return np.asarray(count[:, 0])


def standardise(
    values: NDArray[np.floating[Any]], *, centre: bool = True
) -> tuple[Float32, Float64, Float64]:
    """Centre and scale each target, so that float32 sums neither drown nor overflow.

    Parameters
    ----------
    values : (n_masks, n_targets)
    centre : bool
        Whether to subtract the mean first.

    Returns
    -------
    standardised : (n_masks, n_targets) float32
        ``(values - mean) / scale``.
    mean, scale : (n_targets,) float64
        The scale is the root mean square, or 1 for a constant target.
    """
    mean = values.mean(axis=0, dtype=np.float64) if centre else np.zeros(values.shape[1])
    centred = values - mean
    largest = np.abs(centred).max(axis=0, initial=0.0)
    # A mean is off by a rounding error: what is left of a constant target is not a signal.
    constant = largest <= 4.0 * np.finfo(np.float64).eps * np.abs(mean)
    largest = np.where(constant, 1.0, largest)
    scale = largest * np.sqrt(np.mean(np.square(centred / largest), axis=0))
    scale = np.where(constant, 1.0, scale)
    return np.where(constant, 0.0, centred / scale).astype(np.float32), mean, scale


def _symmetric(upper: Float64) -> Float64:
    """Fill the lower triangle, in place."""
    lower = np.tril_indices(len(upper), -1)
    upper[lower] = upper.T[lower]
    return upper


def _centred(counts: Float64, centre: Float64, n_masks: float) -> Float64:
    alone = np.diagonal(counts).copy()
    counts -= np.outer(alone, centre) + np.outer(centre, alone) - n_masks * np.outer(centre, centre)
    return counts
