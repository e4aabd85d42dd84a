"""What a model's own seed decides: its initial weights and its data order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyattr import kernels
from pyattr.reference import Stream

__all__ = ["data_order", "uniform_initialisation"]


def uniform_initialisation(
    seeds: NDArray[np.uint64], size: int, plane: int = 0
) -> NDArray[np.float32]:
    """Draw numbers uniform on (-1, 1), one row a seed.

    Parameters
    ----------
    seeds : (n_models,) uint64
    size : int
        Numbers a model.
    plane : int
        Which of the model's independent sets of numbers (one a layer).

    Returns
    -------
    (n_models, size) float32
        The midpoints of 2^24 equal cells, exact in float32; a row depends on its seed alone.
    """
    words = kernels.random_words(seeds, Stream.INIT, plane, size)
    cells = (words >> np.uint32(8)).astype(np.float32)
    cells += np.float32(0.5 - 2**23)
    cells *= np.float32(2**-23)
    return cells


def data_order(
    bits: NDArray[np.bool_], seeds: NDArray[np.uint64], length: int
) -> NDArray[np.int32]:
    """Order in which each model sees the examples of its subset.

    In epoch e every example of the *pool* draws a random word (plane e of the model's seed); the epoch runs
    through the subset in the order of these words, ties by index. So the order of a subset is the pool's
    order restricted to it: taking one example out leaves the others' order as it was. The stream wraps at
    the end of an epoch, whatever the batch size, so a subset smaller than a batch needs no special case.

    Parameters
    ----------
    bits : (n_models, n_examples) bool
    seeds : (n_models,) uint64
    length : int
        Examples each model sees in all.

    Returns
    -------
    (n_models, length) int32
        Indices of examples. Zeros for an empty subset.
    """
    (n_models, n_examples), counts = bits.shape, bits.sum(axis=1)
    widest = int(counts.max(initial=0))
    # The members of each subset first, in rising order; what stands behind them is never used.
    members = np.argsort(~bits, axis=1, kind="stable")[:, :widest]
    outside = np.arange(widest) >= counts[:, None]
    # Each epoch writes a whole row of `widest`; the next epoch overwrites the surplus.
    stream = np.zeros((n_models, length + widest), np.int32)
    filled = np.where(counts > 0, 0, length)
    plane = 0
    while (active := np.flatnonzero(filled < length)).size:
        words = kernels.random_words(seeds[active], Stream.ORDER, plane, n_examples)
        epoch = _sorted_members(words, members[active], outside[active])
        begin = active * stream.shape[1] + filled[active]
        stream.reshape(-1)[begin[:, None] + np.arange(widest)] = epoch
        filled[active] += counts[active]
        plane += 1
    stream[counts == 0] = 0
    return stream[:, :length]


def _sorted_members(
    words: NDArray[np.uint32], members: NDArray[np.intp], outside: NDArray[np.bool_]
) -> NDArray[np.uint32]:
    """Sort each row's members by their words, ties by index; what is outside comes last."""
    at = members + np.arange(0, words.size, words.shape[1])[:, None]
    keys = words.reshape(-1)[at].astype(np.uint64) << np.uint64(32) | members.astype(np.uint64)
    keys[outside] = np.iinfo(np.uint64).max
    keys.sort(axis=1)
    ordered: NDArray[np.uint32] = keys.astype(np.uint32)
    return ordered
