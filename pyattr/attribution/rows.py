"""The rows of a regression on masks, never all dense at once.

Leave-one-out errors need the rows themselves, one block at a time; what needs sums over rows alone
is in `pyattr.attribution.statistics`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyattr import reference
from pyattr.exact_sums import exact_matmul_transposed, gram
from pyattr.kernels import packed_matmul, packed_matmul_transposed

if TYPE_CHECKING:
    from pyattr.masks import Masks

__all__ = ["CentredRows", "column_counts", "dense_blocks", "standardise"]

# A dense block holds this many numbers (64 MiB in float32) and no more than so many rows.
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
        counts = gram(self.masks.packed, self.masks.n_train).astype(np.float64)
        return _centred(counts, self.centre, float(self.masks.n_masks))

    def kernel(self) -> Float64:
        """Inner products of the centred rows.

        Returns
        -------
        (n_masks, n_masks) float64
            Exact sizes of intersections, then centred.
        """
        offset = np.concatenate([bits @ self.centre for _, bits in dense_blocks(self.masks)])
        inner = gram(_transposed(self.masks), self.masks.n_masks).astype(np.float64)
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
    ones = np.ones((masks.n_masks, 1), np.int32)
    return exact_matmul_transposed(masks.packed, ones, masks.n_train)[:, 0].astype(np.float64)


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


def _transposed(masks: Masks) -> NDArray[np.uint8]:
    """Packed rows and columns exchanged, (n_train, row_bytes of n_masks) uint8."""
    turned = np.empty((masks.n_train, reference.row_bytes(masks.n_masks)), np.uint8)
    n_bytes = max(1, _BLOCK_SIZE // max(masks.n_masks, 1) // 8)
    for first in range(0, -(-masks.n_train // 8), n_bytes):
        columns = slice(8 * first, min(8 * (first + n_bytes), masks.n_train))
        part = masks.packed[:, first : first + n_bytes]
        bits = reference.unpack(part, columns.stop - columns.start)
        turned[columns] = reference.pack(bits.T)
    return turned


def _centred(counts: Float64, centre: Float64, n_masks: float) -> Float64:
    alone = np.diagonal(counts).copy()
    counts -= np.outer(alone, centre) + np.outer(centre, alone) - n_masks * np.outer(centre, centre)
    return counts
