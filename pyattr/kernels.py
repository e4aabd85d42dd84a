"""One function per kernel: checks its arguments, picks the backend, splits the work over threads.

Results are the same bytes for any number of threads. `use_backend` turns to another backend than the
processor's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from pyattr import reference
from pyattr.array_checks import (
    as_labels,
    check_below,
    check_exact,
    check_label_range,
    check_logits,
    check_matrix,
    check_packed,
    check_rows,
    check_threshold,
)
from pyattr.backends import backend, compiled, cpu, extension_levels, use_backend
from pyattr.errors import bad_value, check_count
from pyattr.threads import get_num_threads, over_outputs, over_rows, set_num_threads

__all__ = [
    "backend",
    "compiled",
    "correlate_masks",
    "extension_levels",
    "get_num_threads",
    "margins",
    "mask_indices",
    "packed_matmul",
    "packed_matmul_transposed",
    "philox4x32",
    "random_words",
    "sample_masks",
    "sample_seeds",
    "set_num_threads",
    "use_backend",
]


def philox4x32(counters: ArrayLike, keys: ArrayLike) -> NDArray[np.uint32]:
    """Philox4x32-10: four random words per counter and key.

    Parameters
    ----------
    counters : (n, 4) uint32
    keys : (n, 2) uint32

    Returns
    -------
    (n, 4) uint32
        Exact on every backend.
    """
    c, k = check_exact("counters", counters, np.uint32, 2), check_exact("keys", keys, np.uint32, 2)
    if c.shape[1] != 4 or k.shape != (len(c), 2):
        raise bad_value("counters, keys", "shapes (n, 4) and (n, 2)", f"{c.shape} and {k.shape}")
    if backend() == "reference":
        return reference.philox4x32(c, k)
    out = np.empty_like(c)
    cpu.philox4x32(c, k, out)
    return out


def random_words(seeds: ArrayLike, stream: int, plane: int, n_words: int) -> NDArray[np.uint32]:
    """Random words for many seeds: row j has key ``seeds[j]``, counter (block, plane, 0, stream).

    Parameters
    ----------
    seeds : (n,) uint64
    stream : int
        A `pyattr.reference.Stream`, below 2^32.
    plane : int
        Below 2^32; a second index for the caller's use.
    n_words : int

    Returns
    -------
    (n, n_words) uint32
        Exact on every backend.
    """
    keys = check_exact("seeds", seeds, np.uint64, 1)
    stream, plane = check_below("stream", stream, 32), check_below("plane", plane, 32)
    n_words = check_count("n_words", n_words)
    if backend() == "reference":
        return reference.random_words(keys, stream, plane, n_words)
    out = np.empty((len(keys), n_words), np.uint32)
    over_rows(len(keys), n_words, lambda b, e: cpu.random_words(keys, stream, plane, out, b, e))
    return out


def sample_seeds(n: int, seed: int, first_row: int = 0) -> NDArray[np.uint64]:
    """Seeds of the runs `first_row` … ``first_row + n - 1`` of a seed.

    Returns
    -------
    (n,) uint64
        Exact on every backend.
    """
    first_row, n = check_rows(first_row, n)
    seed = check_below("seed", seed, 64)
    if backend() == "reference":
        return reference.sample_seeds(n, seed, first_row)
    out = np.empty(n, np.uint64)
    cpu.sample_seeds(seed, first_row, out)
    return out


def sample_masks(
    seed: int, stream: int, first_row: int, n_rows: int, n_train: int, threshold: int
) -> NDArray[np.uint8]:
    """Draw packed masks `first_row` … ``first_row + n_rows - 1``: independent Bernoulli bits.

    Parameters
    ----------
    seed : int
        In [0, 2^64).
    stream, first_row, n_rows, n_train : int
        ``first_row + n_rows`` at most 2^32.
    threshold : int
        Probability of a 1 in units of 2^-32, in [0, 2^32] (both ends included, exact).

    Returns
    -------
    (n_rows, row_bytes) uint8
        Exact on every backend.
    """
    first_row, n_rows = check_rows(first_row, n_rows)
    n_train = check_count("n_train", n_train, 1)
    seed, stream = check_below("seed", seed, 64), check_below("stream", stream, 32)
    threshold = check_threshold("threshold", threshold)
    if backend() == "reference":
        return reference.sample_masks(seed, stream, first_row, n_rows, n_train, threshold)
    out = np.empty((n_rows, reference.row_bytes(n_train)), np.uint8)
    at = (seed, stream, first_row, n_train, threshold, out)
    over_rows(n_rows, out.shape[1], lambda b, e: compiled().sample_masks(*at, b, e))
    return out


def correlate_masks(
    packed: ArrayLike,
    seed: int,
    stream: int,
    first_row: int,
    n_train: int,
    threshold_one: int,
    threshold_zero: int,
) -> NDArray[np.uint8]:
    """Draw masks given others: Bernoulli(one) where a bit is 1, Bernoulli(zero) where it is 0.

    Parameters
    ----------
    packed : (n_masks, row_bytes) uint8
    seed, stream, first_row, n_train : int
        As in `sample_masks`; row j uses the random bits of row ``first_row + j``.
    threshold_one, threshold_zero : int
        Probabilities in units of 2^-32, in [0, 2^32].

    Returns
    -------
    (n_masks, row_bytes) uint8
        Exact on every backend.
    """
    n_train = check_count("n_train", n_train, 1)
    given = check_packed(packed, n_train)
    first_row, _ = check_rows(first_row, len(given))
    seed, stream = check_below("seed", seed, 64), check_below("stream", stream, 32)
    one = check_threshold("threshold_one", threshold_one)
    zero = check_threshold("threshold_zero", threshold_zero)
    if backend() == "reference":
        return reference.correlate_masks(given, seed, stream, first_row, n_train, one, zero)
    out = np.empty_like(given)
    at = (given, seed, stream, first_row, n_train, one, zero, out)
    over_rows(len(given), 8 * given.shape[1], lambda b, e: compiled().correlate_masks(*at, b, e))
    return out


def mask_indices(packed: ArrayLike, n_train: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """List the examples of masks; on one thread.

    Parameters
    ----------
    packed : (n_masks, row_bytes) uint8
    n_train : int

    Returns
    -------
    indices : (n_ones,) int64
        Those of the first mask, rising, then those of the next.
    ends : (n_masks,) int64
        Where in `indices` each mask's end.
    """
    bits = check_packed(packed, n_train)
    if backend() == "reference":
        return reference.mask_indices(bits, n_train)
    counts = np.bitwise_count(bits.view(np.uint64)).sum(axis=1, dtype=np.int64)
    ends = np.cumsum(counts)
    indices = np.empty(counts.sum(), np.int64)
    cpu.mask_indices(bits, ends, indices)
    return indices, ends


def packed_matmul(packed: ArrayLike, weights: ArrayLike) -> NDArray[np.float32]:
    """``masks @ weights`` on packed masks.

    Parameters
    ----------
    packed : (n_masks, row_bytes) uint8
    weights : (n_train, n_targets) float32
        Finite. Other floating-point types are converted.

    Returns
    -------
    (n_masks, n_targets) float32
        Within 1.3e-5 · Σ|x_i w_i| (bound; typically 1e-6) plus one rounding, for every n_train.
        The same bits for any number of threads and on any x86-64 processor.
    """
    w = check_matrix("weights", weights)
    bits = check_packed(packed, len(w))
    if backend() == "reference":
        return reference.packed_matmul(bits, w)
    out = np.empty((len(bits), w.shape[1]), np.float32)
    over_outputs(*out.shape, 1, lambda *at: compiled().packed_matmul(bits, w, out, *at))
    return out


def packed_matmul_transposed(
    packed: ArrayLike, residuals: ArrayLike, n_train: int, dtype: DTypeLike = np.float32
) -> NDArray[Any]:
    """``masks.T @ residuals`` on packed masks.

    Parameters
    ----------
    packed : (n_masks, row_bytes) uint8
    residuals : (n_masks, n_targets) float32
        Finite. Other floating-point types are converted.
    n_train : int
    dtype : float32 or float64
        Of the result. Sums run in float64 over panels of 1,024 masks either way; float64 keeps
        them unrounded, for sums that will be merged.

    Returns
    -------
    (n_train, n_targets) float32 or float64
        Error as for `packed_matmul`, for every n_masks.
    """
    n_train = check_count("n_train", n_train, 1)
    r, bits = check_matrix("residuals", residuals), check_packed(packed, n_train)
    if len(r) != len(bits):
        raise bad_value("residuals", f"{len(bits)} rows, one a mask", len(r))
    if np.dtype(dtype) not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise bad_value("dtype", "float32 or float64", np.dtype(dtype))
    if backend() == "reference":
        return reference.packed_matmul_transposed(bits, r, n_train).astype(dtype)
    out = np.empty((n_train, r.shape[1]), dtype)
    over_outputs(*out.shape, 64, lambda *at: compiled().packed_matmul_transposed(bits, r, out, *at))
    return out


def margins(logits: ArrayLike, labels: ArrayLike, kind: str = "logsumexp") -> NDArray[np.float32]:
    """How right a model is about each target, in one number.

    Parameters
    ----------
    logits : (..., n_targets, n_classes) float32, float16 or bfloat16
        At least two classes. uint16 is taken for the bits of bfloat16, which NumPy lacks; other
        floating-point types are converted to float32.
    labels : (n_targets,) int
        The correct classes, in [0, n_classes).
    kind : {"logsumexp", "max", "probability", "cross_entropy", "correct"}
        With z the logits and y the label: z_y minus log Σ_{c≠y} exp z_c (Park et al. 2023);
        z_y minus max_{c≠y} z_c (Ilyas et al. 2022); the softmax probability of y; minus its
        logarithm; 1 if z_y is above every other logit, else 0 (Feldman, Zhang 2020; a tie is 0).

    Returns
    -------
    (..., n_targets) float32
        Error bounds in ``csrc/margins.hpp``; the same bits for any number of threads and on any
        x86-64 processor. NaN logits give NaN.

    Raises
    ------
    ValueError
        If shapes do not fit, a label is no class, or `kind` is none of these.
    """
    if kind not in reference.MARGIN_KINDS:
        raise bad_value("kind", " or ".join(reference.MARGIN_KINDS), repr(kind))
    z, dtype = check_logits(logits)
    if z.ndim < 2 or z.shape[-2] != np.size(labels) or z.shape[-1] < 2:
        raise bad_value("logits", f"shape (..., {np.size(labels)}, at least 2)", z.shape)
    y, rows = as_labels(labels), z.reshape(-1, z.shape[-1])
    if backend() == "reference" or not len(rows):
        check_label_range(y, z.shape[-1])
    if backend() == "reference":
        return reference.margins(reference.as_float32(rows, dtype), y, kind).reshape(z.shape[:-1])
    out = np.empty(len(rows), np.float32)
    at = (rows, y, reference.MARGIN_KINDS.index(kind), out)
    kernel = {"float16": compiled().margins_float16, "bfloat16": compiled().margins_bfloat16}.get(
        dtype, compiled().margins
    )
    try:
        over_rows(len(rows), z.shape[-1], lambda b, e: kernel(*at, b, e))
    except ValueError:  # each thread looks at its own rows' labels; this says what they are
        check_label_range(y, z.shape[-1])
        raise
    return out.reshape(z.shape[:-1])
