"""Lanczos quadrature: what vectors see of the spectrum of a symmetric map known by its products.

References
----------
Golub and Meurant, *Matrices, Moments and Quadrature*, 2010.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from pyattr.masks import sample_masks

__all__ = ["Lanczos", "random_signs"]

# The digits of √2: with a seed that a caller would take, the signs could be the masks themselves.
_SEED = 0x6A09E667F3BCC908
_NOISE = 1e-6  # of the products: a remainder below this share of them is rounding alone

Float64 = NDArray[np.float64]


def random_signs(size: int, n: int) -> Float64:
    """Vectors of random signs, (size, n) float64, the same at every call and on every machine."""
    signs: Float64 = 2.0 * sample_masks(n, size, seed=_SEED).unpack().T.astype(np.float64) - 1.0
    return signs


class Lanczos:
    """Tridiagonal matrices of a symmetric positive map, one for each start.

    Parameters
    ----------
    apply : callable
        The map, (size, n) -> (size, n); all starts share a call.
    start : (size, n) float64
    """

    def __init__(self, apply: Callable[[Float64], NDArray[Any]], start: Float64) -> None:
        self._apply = apply
        self._size = np.linalg.norm(start, axis=0)
        self._vector = start / np.where(self._size > 0.0, self._size, 1.0)
        self._last = np.zeros_like(start)
        self._diagonal: list[Float64] = []
        self._beside: list[Float64] = [np.zeros(start.shape[1])]

    @property
    def n_steps(self) -> int:
        """Steps taken."""
        return len(self._diagonal)

    def advance(self, n_steps: int) -> None:
        """Take more steps, one product each."""
        for _ in range(n_steps):
            product = np.asarray(self._apply(self._vector), np.float64)
            along = np.einsum("it,it->t", self._vector, product)
            product -= along * self._vector + self._beside[-1] * self._last
            rest = np.linalg.norm(product, axis=0)
            # A start that has seen all that it can goes on with 0.
            rest = np.where(rest > _NOISE * np.abs(along), rest, 0.0)
            self._diagonal.append(along)
            self._last = self._vector
            self._vector = np.where(rest > 0.0, product / np.where(rest > 0.0, rest, 1.0), 0.0)
            self._beside.append(rest)

    def spectra(self) -> tuple[Float64, Float64]:
        """Eigenvalues and weights, (n, n_steps) float64 each.

        startᵀ f(map) start is the sum of weight · f(eigenvalue), for polynomials f of degree below
        2 n_steps exactly and for other smooth functions nearly.
        """
        diagonal, beside = np.array(self._diagonal), np.array(self._beside)[1:-1]
        values, weights = np.empty((2, len(self._size), self.n_steps))
        for t, size in enumerate(self._size):
            values[t], vectors = scipy.linalg.eigh_tridiagonal(diagonal[:, t], beside[:, t])
            weights[t] = np.square(size * vectors[0])
        return np.maximum(values, 0.0), weights
