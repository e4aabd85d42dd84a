"""Everything random: Philox4x32-10, keyed by a seed and addressed by row.

References
----------
Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import enum

import numpy as np
from numpy.typing import NDArray

__all__ = ["Stream", "philox4x32", "random_words", "sample_seeds", "words"]

_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)


class Stream(enum.IntEnum):
    """The fourth counter word: each use of a seed has its own numbers."""

    MASKS = 0
    CORRELATED = 1
    SEEDS = 2
    ORDER = 3
    INIT = 4
    CENTRES = 5
    AUGMENT = 6


def philox4x32(counters: NDArray[np.uint32], keys: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Philox4x32-10: four random words per counter and key.

    Parameters
    ----------
    counters : (n, 4) uint32
    keys : (n, 2) uint32

    Returns
    -------
    (n, 4) uint32
    """
    c0, c1, c2, c3 = (counters[:, k].astype(np.uint64) for k in range(4))
    k0, k1 = (keys[:, k].astype(np.uint64) for k in range(2))
    for _ in range(10):
        product0 = np.uint64(0xD2511F53) * c0
        product1 = np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (
            (product1 >> _32) ^ c1 ^ k0,
            product1 & _LOW,
            (product0 >> _32) ^ c3 ^ k1,
            product0 & _LOW,
        )
        k0 = (k0 + np.uint64(0x9E3779B9)) & _LOW
        k1 = (k1 + np.uint64(0xBB67AE85)) & _LOW
    return np.stack([c0, c1, c2, c3], axis=1).astype(np.uint32)


def words(
    seeds: NDArray[np.uint64], rows: NDArray[np.uint32], stream: int, plane: int, n_words: int
) -> NDArray[np.uint32]:
    """Words (n, n_words) of key seeds[j], counter (block, plane, rows[j], stream)."""
    n, n_blocks = len(seeds), -(-n_words // 4)
    counters = np.empty((n, n_blocks, 4), np.uint32)
    counters[..., 0] = np.arange(n_blocks, dtype=np.uint32)
    counters[..., 1] = plane
    counters[..., 2] = rows[:, None]
    counters[..., 3] = stream
    keys = np.empty((n, n_blocks, 2), np.uint32)
    keys[..., 0] = (seeds & _LOW)[:, None]
    keys[..., 1] = (seeds >> _32)[:, None]
    blocks = philox4x32(counters.reshape(-1, 4), keys.reshape(-1, 2))
    return np.ascontiguousarray(blocks.reshape(n, 4 * n_blocks)[:, :n_words])


def random_words(
    seeds: NDArray[np.uint64], stream: int, plane: int, n_words: int
) -> NDArray[np.uint32]:
    """Words for many seeds at once: row j has key ``seeds[j]``, counter (block, plane, 0, stream).

    Parameters
    ----------
    seeds : (n,) uint64
    stream, plane, n_words : int

    Returns
    -------
    (n, n_words) uint32
    """
    return words(seeds, np.zeros(len(seeds), np.uint32), stream, plane, n_words)


def sample_seeds(n: int, seed: int, first_row: int = 0) -> NDArray[np.uint64]:
    """Seeds of the runs `first_row` … ``first_row + n - 1``: the first 64 bits of their block.

    Returns
    -------
    (n,) uint64
    """
    rows = np.arange(first_row, first_row + n, dtype=np.uint64).astype(np.uint32)
    halves = words(np.full(n, seed, np.uint64), rows, Stream.SEEDS, 0, 2).astype(np.uint64)
    return halves[:, 0] | halves[:, 1] << _32
