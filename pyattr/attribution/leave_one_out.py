"""Leave-one-out scores: train without each example in turn and compare with training on all.

References
----------
Hampel, "The influence curve and its role in robust estimation", JASA 1974; Cook and Weisberg,
"Residuals and influence in regression", 1982.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyattr.attribution.checks import check_outputs
from pyattr.attribution.result import Attribution
from pyattr.errors import bad_value, check_count
from pyattr.interface import Retrain
from pyattr.masks import Masks

__all__ = ["leave_one_out"]

_ROWS_AT_ONCE = 1024

Float64 = NDArray[np.float64]


def leave_one_out(retrain: Retrain, n_train: int, seeds: ArrayLike) -> Attribution:
    """Measure ``f(1, s) - f(1 - e_i, s)`` for every example i, averaged over seeds.

    Parameters
    ----------
    retrain : callable
        ``retrain(masks, seeds) -> (n_masks, n_targets)`` outputs. It is called with at most 1024
        subsets at a time, n_train + 1 for each seed in all.
    n_train : int
        Number of training examples.
    seeds : (n_seeds,) array_like of uint64
        Different seeds. A seed is shared by all subsets, so that differences are due to the
        example alone.

    Returns
    -------
    Attribution
        With the standard error over seeds if there are two or more. The intercept makes the
        prediction for the full set the mean of ``f(1, s)``.

    Raises
    ------
    ValueError
        If the seeds are not different whole numbers from 0 to 2^64 - 1, or what `retrain`
        returns has the wrong shape or is not finite.
    """
    n_train = check_count("n_train", n_train, minimum=1)
    seed_array = _check_seeds(seeds)
    full, mean = _one_seed(retrain, n_train, seed_array[0])
    squares = np.zeros_like(mean)
    for n_before, seed in enumerate(seed_array[1:], start=1):
        whole, difference = _one_seed(retrain, n_train, seed)
        if whole.shape != full.shape:
            raise bad_value("retrain", f"{full.size} targets as before", whole.size)
        # Welford's running mean and sum of squares
        full += (whole - full) / (n_before + 1)
        step = difference - mean
        mean += step / (n_before + 1)
        squares += step * (difference - mean)
    n_seeds = len(seed_array)
    return Attribution(
        scores=mean,
        intercept=full - mean.sum(axis=0),
        standard_error=np.sqrt(squares / (n_seeds * (n_seeds - 1))) if n_seeds > 1 else None,
        method="leave-one-out",
        design="leave-one-out",
    )


def _check_seeds(seeds: ArrayLike) -> NDArray[np.uint64]:
    values = np.asarray(seeds)
    if values.ndim != 1 or values.size == 0 or values.dtype.kind not in "iu":
        raise bad_value("seeds", "whole numbers in one dimension, at least one", seeds)
    if values.dtype.kind == "i" and values.min() < 0:
        raise bad_value("seeds", "numbers from 0 to 2^64 - 1", values.min())
    if len(np.unique(values)) != len(values):
        raise bad_value("seeds", "different numbers", "one of them twice")
    return values.astype(np.uint64)


def _one_seed(retrain: Retrain, n_train: int, seed: np.uint64) -> tuple[Float64, Float64]:
    """Output on the full set (n_targets,), and its excess over each (n_train, n_targets)."""
    whole = _outputs(retrain, np.ones((1, n_train), dtype=bool), seed)[0]
    parts = []
    for first in range(0, n_train, _ROWS_AT_ONCE):
        left_out = np.arange(first, min(first + _ROWS_AT_ONCE, n_train))
        bits = np.ones((len(left_out), n_train), dtype=bool)
        bits[np.arange(len(left_out)), left_out] = False
        parts.append(whole - _outputs(retrain, bits, seed))
    return whole, np.concatenate(parts)


def _outputs(retrain: Retrain, bits: NDArray[np.bool_], seed: np.uint64) -> NDArray[Any]:
    masks = Masks.pack(bits)
    returned = retrain(masks, np.full(len(bits), seed, dtype=np.uint64))
    return check_outputs(masks, returned).astype(np.float64)
