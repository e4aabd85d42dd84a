"""Batch normalisation with the rectifier behind it, there and back, on channels-last images.

A call passes over memory as seldom as it can, on one thread: models are what is split over threads.
Results are the same bytes on every processor. Images are ``(n, height, width, channels) float32``
in C order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyattr import reference
from pyattr.backends import backend, cpu
from pyattr.errors import bad_value

__all__ = ["normalise_backward", "rectify", "rectify_halved", "scatter_halved", "take_moments"]

Floats = NDArray[np.float32]


def take_moments(
    x: Floats,
    scale: Floats,
    shift: Floats,
    epsilon: float,
    momentum: float,
    mean: Floats,
    variance: Floats,
) -> tuple[Floats, NDArray[np.float64]]:
    """What normalises a batch, from its own moments: see `pyattr.reference.take_moments`.

    Raises
    ------
    ValueError
        If a shape is another, or there are fewer than two pixels.
    """
    at = x, scale, shift, epsilon, momentum, mean, variance
    if backend() == "reference":
        return reference.take_moments(*at)
    by, spread = np.empty((3, len(scale)), np.float32), np.empty(len(scale))
    cpu.take_moments(*at, by, spread)
    return by, spread


def rectify(
    x: Floats, by: Floats, bypass: Floats | None = None, out: Floats | None = None
) -> Floats:
    """Normalise, leave what is above 0, add a bypass.

    Parameters
    ----------
    x : (n, height, width, channels) float32
    by : (3, channels) float32
        Mean, slope and shift of each channel.
    bypass : as `x`, optional
    out : as `x`, optional
        May be `x`.

    Returns
    -------
    (n, height, width, channels) float32
        Exact, NaN stays NaN.
    """
    if out is None:
        out = np.empty_like(x)
    if backend() == "reference":
        out[:] = reference.rectify(x, by, bypass)
    else:
        cpu.rectify(x, by, bypass, out)
    return out


def rectify_halved(x: Floats, by: Floats) -> Floats:
    """Maxima of 2x2 pixels of `rectify`, an odd last row or column left out; exact.

    Returns
    -------
    (n, height // 2, width // 2, channels) float32

    Raises
    ------
    ValueError
        If a shape is another.
    """
    if x.ndim != 4:
        raise bad_value("x", "shape (n, height, width, channels)", x.shape)
    if backend() == "reference":
        return reference.rectify_halved(x, by)
    n, height, width, channels = x.shape
    out = np.empty((n, height // 2, width // 2, channels), np.float32)
    cpu.rectify_halved(x, by, out)
    return out


def scatter_halved(x: Floats, by: Floats, gradient: Floats) -> Floats:
    """Gradient of `rectify_halved`'s maxima: see `pyattr.reference.scatter_halved`; exact."""
    if backend() == "reference":
        return reference.scatter_halved(x, by, gradient)
    out = np.empty_like(x)
    cpu.scatter_halved(x, by, gradient, out)
    return out


def normalise_backward(
    x: Floats,
    by: Floats,
    spread: NDArray[np.float64],
    gradient: Floats,
    scale_gradient: Floats,
    shift_gradient: Floats,
) -> None:
    """Gradients of `rectify` behind `take_moments`: see `pyattr.reference.normalise_backward`.

    Parameters
    ----------
    x : (n, height, width, channels) float32
        Its gradient is written over it.
    by, spread
        As `take_moments` returned them.
    gradient : as `x`
        That of a bypass is this itself.
    scale_gradient, shift_gradient : (channels,) float32
        Written in place.
    """
    if backend() == "reference":
        parts = reference.normalise_backward(x, by, spread, gradient)
        x[:], scale_gradient[:], shift_gradient[:] = parts
        return
    cpu.normalise_backward(x, by, spread, gradient, scale_gradient, shift_gradient)
