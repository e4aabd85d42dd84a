"""The rows ``x - centre`` of a regression as a linear map, by packed products: never dense."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyattr.kernels import packed_matmul, packed_matmul_transposed

if TYPE_CHECKING:
    from pyattr.masks import Masks

__all__ = ["CentredRows"]

_BLOCK_SIZE = 1 << 22  # numbers of a product of some rows that is not kept: 16 MiB

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class CentredRows:
    """X, the matrix of n_rows rows ``x - centre``.

    Products are in float32 within a panel of 1,024 terms and in float64 beyond
    (`pyattr.kernels.packed_matmul`); the same bits for any number of threads.

    Parameters
    ----------
    masks : Masks
        n_rows subsets of n_train examples.
    centre : (n_train,) float64
    """

    masks: Masks
    centre: Float64

    def times(self, weights: NDArray[np.floating[Any]]) -> Float32:
        """``X @ weights``, (n_rows, n) float32, of (n_train, n) weights."""
        dense = np.ascontiguousarray(weights, np.float32)
        product = packed_matmul(self.masks.packed, dense)
        product -= (self.centre @ dense).astype(np.float32)
        return product

    def transposed_times(self, values: NDArray[np.floating[Any]]) -> Float64:
        """``Xᵀ @ values``, (n_train, n) float64, of (n_rows, n) values."""
        dense = np.ascontiguousarray(values, np.float32)
        packed, n_train = self.masks.packed, self.masks.n_train
        sums = packed_matmul_transposed(packed, dense, n_train, dtype=np.float64)
        return np.asarray(sums - np.outer(self.centre, dense.sum(axis=0, dtype=np.float64)))

    def gram_times(self, weights: NDArray[np.floating[Any]]) -> Float64:
        """``Xᵀ X @ weights / n_rows``, (n_train, n) float64; in memory a block of rows at a time."""
        dense = np.ascontiguousarray(weights, np.float32)
        sums = np.zeros(dense.shape)
        step = max(1024, _BLOCK_SIZE // max(dense.shape[1], 1) // 1024 * 1024)
        for first in range(0, self.masks.n_masks, step):
            part = CentredRows(self.masks[first : first + step], self.centre)
            sums += part.transposed_times(part.times(dense))
        return sums / self.masks.n_masks
