"""What stands between the convolutions of a residual network: normalisation, rectifier, pooling.

The compiled kernels must equal these exactly where a number is touched once, and be within the bound
stated in ``csrc/normalise.hpp`` of these (computed in float64) where numbers are added. Images are
``(n, height, width, channels)``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "normalise",
    "normalise_backward",
    "rectify",
    "rectify_halved",
    "scatter_halved",
    "take_moments",
]


def normalise(x: NDArray[np.float32], by: NDArray[np.float32]) -> NDArray[np.float32]:
    """``(x - mean) slope + shift``, each operation rounded to float32.

    Parameters
    ----------
    x : (n, height, width, channels) float32
    by : (3, channels) float32
        Mean, slope and shift.
    """
    mean, slope, shift = by
    z: NDArray[np.float32] = (x - mean) * slope + shift
    return z


def rectify(
    x: NDArray[np.float32], by: NDArray[np.float32], bypass: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """What is above zero of the normalised, plus `bypass`; exact, -0.0 and NaN stay."""
    z = normalise(x, by)
    y = np.where(z < 0, np.float32(0), z)
    return y if bypass is None else y + bypass


def rectify_halved(x: NDArray[np.float32], by: NDArray[np.float32]) -> NDArray[np.float32]:
    """Maxima of 2x2 pixels of `rectify`, an odd last row or column left out; exact.

    Returns
    -------
    (n, height // 2, width // 2, channels) float32
    """
    y = rectify(x, by)
    largest: NDArray[np.float32] = np.maximum.reduce(_corners(y)) + np.float32(0)  # no -0.0
    return largest


def scatter_halved(
    x: NDArray[np.float32], by: NDArray[np.float32], gradient: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Gradient of `rectify_halved`'s maxima, to the first of the largest; exact.

    It is 0 where none is above 0, or one is NaN.

    Parameters
    ----------
    x, by : as in `rectify_halved`
    gradient : (n, height // 2, width // 2, channels) float32

    Returns
    -------
    (n, height, width, channels) float32
    """
    z, out = normalise(x, by), np.zeros_like(x)
    corners, largest = _corners(z), rectify_halved(x, by)
    left = np.where(largest > 0, gradient, np.float32(0))
    for corner, to in zip(corners, _corners(out), strict=True):
        here = corner == largest
        to[...] = np.where(here, left, np.float32(0))
        left = np.where(here, np.float32(0), left)
    return out


def _corners(x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    return [x[:, dy:height:2, dx:width:2] for dy in (0, 1) for dx in (0, 1)]


def take_moments(
    x: NDArray[np.float32],
    scale: NDArray[np.float32],
    shift: NDArray[np.float32],
    epsilon: float,
    momentum: float,
    mean: NDArray[np.float32],
    variance: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """What normalises a batch, from its own moments.

    Parameters
    ----------
    x : (n, height, width, channels) float32
        At least two pixels.
    scale, shift : (channels,) float32
    epsilon : float
        Added to the variance.
    momentum : float
    mean, variance : (channels,) float32
        Moved in place, by `momentum` of the way, towards the batch's mean and unbiased variance.

    Returns
    -------
    by : (3, channels) float32
        Mean, slope and shift.
    spread : (channels,) float64
        The biased variance plus epsilon.
    """
    pixels = x.reshape(-1, x.shape[-1]).astype(np.float64)
    mean += momentum * (pixels.mean(0) - mean)
    variance += momentum * (pixels.var(0, ddof=1) - variance)
    spread = pixels.var(0) + epsilon
    by = np.stack([pixels.mean(0), scale / np.sqrt(spread), shift]).astype(np.float32)
    return by, spread


def normalise_backward(
    x: NDArray[np.float32],
    by: NDArray[np.float32],
    spread: NDArray[np.float64],
    gradient: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Gradients of `rectify`'s arguments where `by` has the moments of `x` itself.

    Parameters
    ----------
    x : (n, height, width, channels) float32
    by, spread : as `take_moments` returned them
    gradient : (n, height, width, channels) float32
        Of the result.

    Returns
    -------
    x, scale, shift : float32
        With g what passes the rectifier, x' the normalised input and means over pixels:
        ``slope (g - mean(g) - x' mean(g x'))``, the sum of g x', the sum of g.

    References
    ----------
    Ioffe, Szegedy, "Batch normalization", 2015, section 3.
    """
    passed = np.where(normalise(x, by) > 0, gradient, np.float32(0)).astype(np.float64)
    normal = (x.astype(np.float64) - by[0]) / np.sqrt(spread)
    axes = (0, 1, 2)
    through = by[1] * (passed - passed.mean(axes) - normal * (passed * normal).mean(axes))
    parts = through, (passed * normal).sum(axes), passed.sum(axes)
    of_x, of_scale, of_shift = (part.astype(np.float32) for part in parts)
    return of_x, of_scale, of_shift
