"""Packed masks: to and from bits, the examples in them, and drawing them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyattr.reference.philox import words

__all__ = ["correlate_masks", "mask_indices", "pack", "row_bytes", "sample_masks", "unpack"]


def row_bytes(n_train: int) -> int:
    """Bytes of one packed mask: whole 64-bit words."""
    return -(-n_train // 64) * 8


def pack(masks: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Pack masks (n_masks, n_train) bool into (n_masks, row_bytes) uint8."""
    n_masks, n_train = masks.shape
    packed = np.zeros((n_masks, row_bytes(n_train)), np.uint8)
    packed[:, : -(-n_train // 8)] = np.packbits(masks, axis=1, bitorder="little")
    return packed


def unpack(packed: NDArray[np.uint8], n_train: int) -> NDArray[np.bool_]:
    """Unpack (n_masks, row_bytes) uint8 into (n_masks, n_train) bool."""
    bits = np.unpackbits(packed, axis=1, count=n_train, bitorder="little")
    return bits.astype(np.bool_)


def mask_indices(
    packed: NDArray[np.uint8], n_train: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Examples of every mask, one mask after the other, and where each one's end, (n_masks,)."""
    masks = unpack(packed, n_train)
    return np.nonzero(masks)[1].astype(np.int64), np.cumsum(masks.sum(axis=1), dtype=np.int64)


def _bernoulli_bits(
    seed: int, stream: int, first_row: int, n_rows: int, n_train: int, threshold: int
) -> NDArray[np.bool_]:
    """Bits (n_rows, n_train), each 1 with probability threshold / 2^32.

    A bit compares a uniform number, binary digit k = the bit's random bit of plane k - 1, with the
    threshold: from the last digit to the first, x = (x or r) where the digit is 1, (x and r) where
    it is 0. Each step takes P(x = 1) to (digit + P) / 2.
    """
    if threshold == 0 or threshold == 1 << 32:
        return np.full((n_rows, n_train), threshold != 0, np.bool_)
    digits = f"{threshold:032b}".rstrip("0")
    seeds = np.full(n_rows, seed, np.uint64)
    rows = np.arange(first_row, first_row + n_rows, dtype=np.uint64).astype(np.uint32)
    bits = np.zeros((n_rows, n_train), np.bool_)
    for plane in reversed(range(len(digits))):
        drawn = words(seeds, rows, stream, plane, -(-n_train // 32))
        random = unpack(drawn.astype("<u4").view(np.uint8), n_train)
        bits = bits | random if digits[plane] == "1" else bits & random
    return bits


def sample_masks(
    seed: int, stream: int, first_row: int, n_rows: int, n_train: int, threshold: int
) -> NDArray[np.uint8]:
    """Draw masks `first_row` … ``first_row + n_rows - 1``: independent Bernoulli bits.

    Parameters
    ----------
    seed : int
        In [0, 2^64).
    stream, first_row, n_rows, n_train : int
    threshold : int
        Probability of a 1 in units of 2^-32, in [0, 2^32].

    Returns
    -------
    (n_rows, row_bytes) uint8
    """
    return pack(_bernoulli_bits(seed, stream, first_row, n_rows, n_train, threshold))


def correlate_masks(
    packed: NDArray[np.uint8],
    seed: int,
    stream: int,
    first_row: int,
    n_train: int,
    threshold_one: int,
    threshold_zero: int,
) -> NDArray[np.uint8]:
    """Draw masks given others: Bernoulli(one) where a bit is 1, Bernoulli(zero) where it is 0.

    Row j uses the random bits of row ``first_row + j`` of `stream`.

    Returns
    -------
    (n_masks, row_bytes) uint8
    """
    at = (seed, stream, first_row, len(packed), n_train)
    given = unpack(packed, n_train)
    one, zero = _bernoulli_bits(*at, threshold_one), _bernoulli_bits(*at, threshold_zero)
    return pack(np.where(given, one, zero))
