"""Random flips, shifts and cut-outs of images, the same for whoever draws them.

How image i is changed in epoch e of the model with seed s is a pure function of (s, e, i): not of the
subset, the batch, the loader or the machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyattr import kernels, reference
from pyattr.array_checks import check_below, check_exact
from pyattr.backends import backend, cpu
from pyattr.errors import bad_value, check_count
from pyattr.reference import Stream
from pyattr.threads import over_rows

__all__ = ["Augmentation", "augment_images"]

_32 = np.uint64(32)


@dataclass(frozen=True)
class Augmentation:
    """Which random changes an image goes through, in this order.

    Attributes
    ----------
    flip : bool
        Left and right are swapped with probability 1/2.
    translate : int
        Rows and columns are shifted by whole numbers uniform on [-translate, translate].
    cutout : int
        Side of a square within the image, uniform among all places, that is filled over.
    """

    flip: bool = False
    translate: int = 0
    cutout: int = 0

    def __post_init__(self) -> None:
        check_count("translate", self.translate)
        check_count("cutout", self.cutout)

    def check_fits(self, height: int, width: int) -> None:
        """Raise ValueError where a shift or a square is larger than the image."""
        least = min(height, width)
        if self.translate >= least:
            raise bad_value("translate", f"less than the image's {least} pixels", self.translate)
        if self.cutout > least:
            raise bad_value("cutout", f"at most the image's {least} pixels", self.cutout)

    def draws(
        self, seed: int, epochs: ArrayLike, rows: ArrayLike, height: int, width: int
    ) -> NDArray[np.int32]:
        """Draw what happens to each image.

        Parameters
        ----------
        seed : int
            The model's, in [0, 2^64).
        epochs, rows : (n,) int
            How often the model has been through its subset before, and the image's index in the pool;
            both in [0, 2^32).
        height, width : int

        Returns
        -------
        (n, 5) int32
            As `augment_images` takes them. Philox words with key `seed` and counter
            (block, epoch, row, AUGMENT): word 0 of block 0 flips by its highest bit, words 1 and 2 shift
            down and right; words 0 and 1 of block 1 place the square. A word w is made a number
            below k as ⌊w k / 2^32⌋, which favours none by more than 2^-32.
        """
        self.check_fits(height, width)
        seed = check_below("seed", seed, 64)
        n = np.size(rows)
        counters = np.zeros((n, 2, 4), np.uint32)
        counters[:, 1, 0] = 1
        counters[..., 1] = np.asarray(epochs)[:, None]
        counters[..., 2] = np.asarray(rows)[:, None]
        counters[..., 3] = Stream.AUGMENT
        if not self.cutout:
            counters = counters[:, :1]
        keys = np.empty((counters.size // 4, 2), np.uint32)
        keys[:] = seed & 0xFFFFFFFF, seed >> 32
        words = kernels.philox4x32(counters.reshape(-1, 4), keys).reshape(n, -1)
        draws = np.zeros((n, 5), np.int32)
        if self.flip:
            draws[:, 0] = words[:, 0] >> np.uint32(31)
        if self.translate:
            draws[:, 1:3] = _below(words[:, 1:3], 2 * self.translate + 1)
            draws[:, 1:3] -= self.translate
        if self.cutout:
            draws[:, 3] = _below(words[:, 4], height - self.cutout + 1)
            draws[:, 4] = _below(words[:, 5], width - self.cutout + 1)
        return draws


def _below(words: NDArray[np.uint32], limit: int) -> NDArray[np.uint64]:
    """Whole numbers in [0, limit) from random words."""
    return (words.astype(np.uint64) * np.uint64(limit)) >> _32


def augment_images(
    images: NDArray[Any],
    rows: NDArray[np.int32],
    draws: NDArray[np.int32],
    square: int,
    fill: NDArray[Any],
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Gather images and flip, shift and cut a square out of each.

    Parameters
    ----------
    images : (n_images, height, width, channels) uint8 or float32
    rows : (n_batch,) int32
        Which image each output is made of.
    draws : (n_batch, 5) int32
        Flip (0 or 1); rows and columns to shift by; first row and column of the square. Output pixel
        (y, x) is pixel (y + dy, x + dx) of the flipped image. `Augmentation.draws` makes them.
    square : int
        Side of the square that is filled, in pixels.
    fill : (channels,), of the dtype of `images`
        What stands in the square and beyond the image's edge.
    out : (n_batch, height, width, channels), of the dtype of `images`, optional
        C order; written in place and returned.

    Returns
    -------
    (n_batch, height, width, channels), of the dtype of `images`
        Pixels are moved only: exact.
    """
    dtype = np.asarray(images).dtype
    if dtype not in (np.dtype(np.uint8), np.dtype(np.float32)):
        raise bad_value("images", "uint8 or float32", dtype)
    given = check_exact("images", images, dtype, 4)
    chosen = check_exact("rows", rows, np.int32, 1)
    drawn, square = check_exact("draws", draws, np.int32, 2), check_count("square", square)
    colour = check_exact("fill", fill, dtype, 1)
    if colour.shape != given.shape[3:]:
        raise bad_value("fill", f"{given.shape[3]} channels", colour.shape)
    if out is None:
        out = np.empty((len(chosen), *given.shape[1:]), dtype)
    if backend() == "reference":
        out[:] = reference.augment_images(given, chosen, drawn, square, colour)
        return out
    filled = np.empty(given.shape[2:], dtype)
    filled[:] = colour
    at = (given, chosen, drawn, square, filled, out)
    work = given[0].nbytes // 4 if len(given) else 0
    over_rows(len(chosen), work, lambda begin, end: cpu.augment_images(*at, begin, end))
    return out
