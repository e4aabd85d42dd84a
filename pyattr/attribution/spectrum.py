"""What the spectrum of a Gram matrix says about scores that are fitted together.

Ridge regression on columns of variance 1, with eigenvalues λ of their Gram matrix and a penalty κ,
leaves the scores a mean posterior variance of ``mean 1 / (λ + κ) = (1 - s) / κ`` in units of the
noise, where ``s = mean λ / (λ + κ)`` is how much of them it keeps. A score alone, with the share ρ
of its precision, would be left ``1 / (ρ + κ)``: the same for ``ρ = κ s / (1 - s)``. As a function of
s this ρ is all that a fit with another prior has to know of the masks' correlations, if their
eigenvectors are in general position: it is the R-transform of the spectrum. For independent rows
``ρ = 1 - s n_train / n_rows``.

References
----------
Opper and Winther, "Adaptive and self-averaging Thouless-Anderson-Palmer mean-field theory for
probabilistic modeling", Phys. Rev. E 64, 2001; Golub and Meurant, "Matrices, Moments and
Quadrature", 2010, chapter 11 (traces by Lanczos quadrature).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from pyattr.device import DeviceMatrix, on_host
from pyattr.device_sums import gram_product

__all__ = ["kept_precision"]

_N_POINTS = 257
_PENALTIES = np.geomspace(1e4, 1e-5, 300)
_MOST_EXACT = 768  # columns; beyond, quadrature costs less and the traces' error is below 1%
_N_PROBES = 8
_N_STEPS = 24
_LEAST_NORM = 1e-4

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


def kept_precision(gram: Float32 | DeviceMatrix) -> Float64:
    """Tabulate the share ρ of its precision that a score keeps among the others.

    Parameters
    ----------
    gram : (n_train, n_train) float32
        Products of centred columns over the number of rows; constant columns do not count. With the
        backend "cuda" it may be on the device, and a large one stays there.

    Returns
    -------
    (257,) float64
        ρ where s, as a mean over all n_train scores, is 0, 1/256, ... 1; 0 where the rows cannot
        determine so much.
    """
    diagonal = gram.diagonal()
    used = diagonal > 0.0
    root: Float32 = np.sqrt(diagonal[used])
    if isinstance(gram, np.ndarray) or len(root) <= _MOST_EXACT:
        values, weights = _spectrum(_correlation(on_host(gram), used, root))
    else:
        values, weights = _lanczos(_correlation_product(gram, used, root), len(root))
    shrunk = (values / (values + _PENALTIES[:, np.newaxis])) @ weights
    kept = _PENALTIES * shrunk / (1.0 - shrunk)
    at = np.linspace(0.0, 1.0, _N_POINTS) * len(used) / used.sum()
    table: Float64 = np.interp(at, np.append(0.0, shrunk), np.append(1.0, kept))
    return table


def _correlation(gram: Float32, used: NDArray[np.bool_], root: Float32) -> Float32:
    """Gram matrix of the used columns, scaled to variance 1."""
    correlation: Float32 = np.divide(gram if used.all() else gram[np.ix_(used, used)], root)
    correlation /= root[:, np.newaxis]
    return correlation


def _correlation_product(
    gram: DeviceMatrix, used: NDArray[np.bool_], root: Float32
) -> Callable[[Float32], Float32]:
    """Return the product of rows with that matrix, without ever making it."""

    def multiply(rows: Float32) -> Float32:
        padded = np.zeros((len(rows), len(used)), np.float32)
        padded[:, used] = rows / root
        return np.asarray(gram_product(gram, padded)[:, used] / root)

    return multiply


def _spectrum(matrix: Float32) -> tuple[Float64, Float64]:
    """Eigenvalues and weights with sum 1 that give the mean of a smooth function of the spectrum."""
    if len(matrix) > _MOST_EXACT:
        return _lanczos(lambda rows: rows @ matrix, len(matrix))
    values = scipy.linalg.eigh(matrix, eigvals_only=True, driver="evd", check_finite=False)
    return np.maximum(values.astype(np.float64), 0.0), np.full(len(matrix), 1.0 / len(matrix))


def _lanczos(multiply: Callable[[Float32], Float32], n_columns: int) -> tuple[Float64, Float64]:
    """Gauss quadrature of the spectrum as a few random vectors see it, fixed for each size.

    `multiply` is the product of rows with a symmetric matrix whose diagonal is 1.
    """
    generator = np.random.default_rng(n_columns)
    basis = np.zeros((_N_PROBES, _N_STEPS, n_columns), np.float32)
    basis[:, 0] = generator.choice([-1.0, 1.0], (_N_PROBES, n_columns)) / np.sqrt(n_columns)
    alpha, beta = np.zeros((2, _N_PROBES, _N_STEPS))
    for step in range(_N_STEPS):
        found = basis[:, : step + 1]
        following = multiply(found[:, step])[:, :, np.newaxis]
        for _ in range(2):  # once is not enough for orthogonality to rounding
            known = found @ following
            following -= found.transpose(0, 2, 1) @ known
            alpha[:, step] += known[:, step, 0]
        norm = np.sqrt(np.square(following[:, :, 0]).sum(axis=1))
        if step + 1 < _N_STEPS:  # a norm of 0: the probe has seen all that it can
            beta[:, step] = np.where(norm > _LEAST_NORM, norm, 0.0)
            going = beta[:, step] > 0.0
            basis[going, step + 1] = following[going, :, 0] / norm[going, np.newaxis]
    values, weights = np.empty((2, _N_PROBES, _N_STEPS))
    for probe in range(_N_PROBES):
        values[probe], vectors = scipy.linalg.eigh_tridiagonal(alpha[probe], beta[probe, :-1])
        weights[probe] = np.square(vectors[0]) / _N_PROBES
    values = np.maximum(values, 0.0)
    return values.ravel() / (weights * values).sum(), weights.ravel()  # the mean is known: 1
