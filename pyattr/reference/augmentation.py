"""Random changes of images, once they are drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["augment_images"]


def augment_images(
    images: NDArray[Any],
    rows: NDArray[np.int32],
    draws: NDArray[np.int32],
    square: int,
    fill: NDArray[Any],
) -> NDArray[Any]:
    """Flip, shift and cut a square out of images.

    Parameters
    ----------
    images : (n_images, height, width, channels)
    rows : (n_batch,) int32
        Which image each output is made of.
    draws : (n_batch, 5) int32
        Whether to flip left and right; rows dy and columns dx to shift by; first row and column of
        the square. Output pixel (y, x) is pixel (y + dy, x + dx) of the flipped image.
    square : int
        Its side, in pixels.
    fill : (channels,)
        What stands in the square and beyond the image's edge.

    Returns
    -------
    (n_batch, height, width, channels), of the dtype of `images`
    """
    _, height, width, channels = images.shape
    out = np.empty((len(rows), height, width, channels), images.dtype)
    for b, (row, (flip, dy, dx, top, left)) in enumerate(zip(rows, draws, strict=True)):
        around = np.empty((3 * height, 3 * width, channels), images.dtype)
        around[:] = fill
        flipped = images[row, :, ::-1] if flip else images[row]
        around[height : 2 * height, width : 2 * width] = flipped
        out[b] = around[height + dy : 2 * height + dy, width + dx : 2 * width + dx]
        out[b, top : top + square, left : left + square] = fill
    return out
