"""Every kernel in plain NumPy: slow, obvious, the definition.

The compiled kernels must equal these bit for bit where the result is an integer, and be within the
bound stated in ``csrc/*.hpp`` of these (computed in float64) where it is a float.

Packed masks are ``(n_masks, row_bytes) uint8``, ``row_bytes = 8 * ceil(n_train / 64)``, little bit
order, bits from `n_train` on zero.

References
----------
Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "FIXED_POINT_LIMIT",
    "MARGIN_KINDS",
    "Stream",
    "as_float32",
    "augment_images",
    "correlate_masks",
    "exact_matmul_transposed",
    "gram",
    "margins",
    "normalise",
    "normalise_backward",
    "pack",
    "packed_matmul",
    "packed_matmul_transposed",
    "philox4x32",
    "random_words",
    "rectify",
    "rectify_halved",
    "row_bytes",
    "sample_masks",
    "sample_seeds",
    "scatter_halved",
    "take_moments",
    "to_fixed_point",
    "unpack",
]

MARGIN_KINDS = ("logsumexp", "max", "probability", "cross_entropy", "correct")

FIXED_POINT_LIMIT = 1 << 21  # magnitudes stay below it

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


def _words(
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
    words = philox4x32(counters.reshape(-1, 4), keys.reshape(-1, 2))
    return np.ascontiguousarray(words.reshape(n, 4 * n_blocks)[:, :n_words])


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
    return _words(seeds, np.zeros(len(seeds), np.uint32), stream, plane, n_words)


def sample_seeds(n: int, seed: int, first_row: int = 0) -> NDArray[np.uint64]:
    """Seeds of the runs `first_row` … ``first_row + n - 1``: the first 64 bits of their block.

    Returns
    -------
    (n,) uint64
    """
    rows = np.arange(first_row, first_row + n, dtype=np.uint64).astype(np.uint32)
    words = _words(np.full(n, seed, np.uint64), rows, Stream.SEEDS, 0, 2).astype(np.uint64)
    return words[:, 0] | words[:, 1] << _32


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
        words = _words(seeds, rows, stream, plane, -(-n_train // 32))
        random = unpack(words.astype("<u4").view(np.uint8), n_train)
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


def packed_matmul(packed: NDArray[np.uint8], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """``masks @ weights``: (n_train, n_targets) float32 to (n_masks, n_targets) float32."""
    masks = unpack(packed, len(weights)).astype(np.float64)
    product: NDArray[np.float32] = (masks @ weights.astype(np.float64)).astype(np.float32)
    return product


def packed_matmul_transposed(
    packed: NDArray[np.uint8], residuals: NDArray[np.float32], n_train: int
) -> NDArray[np.float64]:
    """``masks.T @ residuals``: (n_masks, n_targets) float32 to (n_train, n_targets) float64."""
    masks = unpack(packed, n_train).astype(np.float64)
    product: NDArray[np.float64] = masks.T @ residuals.astype(np.float64)
    return product


def intersections(packed: NDArray[np.uint8], n_train: int) -> NDArray[np.int32]:
    """Numbers of examples that two masks share, (n_masks, n_masks) int32."""
    masks = unpack(packed, n_train).astype(np.int32)
    return masks @ masks.T


def gram(packed: NDArray[np.uint8], n_train: int) -> NDArray[np.int32]:
    """Numbers of masks that hold both i and j, (n_train, n_train) int32."""
    masks = unpack(packed, n_train).astype(np.int32)
    return masks.T @ masks


def to_fixed_point(
    outputs: NDArray[np.floating[Any]], centre: NDArray[np.float64], step: NDArray[np.float64]
) -> tuple[NDArray[np.int32], int]:
    """Whole numbers of steps from the centre, ties to even.

    Parameters
    ----------
    outputs : (n_rows, n_targets) float32 or float64
    centre, step : (n_targets,) float64
        Steps are powers of two.

    Returns
    -------
    fixed : (n_rows, n_targets) int32
        int32's least value where an output is not finite or not within `FIXED_POINT_LIMIT` steps.
    first_bad : int
        The first target that has such an output, or n_targets.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        steps = np.rint((outputs.astype(np.float64) - centre) * (1.0 / step))
    good = np.abs(steps) < FIXED_POINT_LIMIT  # False for NaN
    fixed = np.where(good, steps, np.iinfo(np.int32).min).astype(np.int32)
    bad = np.flatnonzero(~good.all(axis=0))
    return fixed, int(bad[0]) if bad.size else outputs.shape[1]


def exact_matmul_transposed(
    packed: NDArray[np.uint8], values: NDArray[np.int32], n_train: int
) -> NDArray[np.int64]:
    """``masks.T @ values``: (n_masks, n_targets) int32 to (n_train, n_targets) int64."""
    return unpack(packed, n_train).astype(np.int64).T @ values.astype(np.int64)


def as_float32(logits: NDArray[Any], kind: str) -> NDArray[np.float32]:
    """Logits (...) float32, or the bits (...) uint16 of float16 or bfloat16, as float32."""
    if kind == "float16":
        return logits.view(np.float16).astype(np.float32)
    if kind == "bfloat16":
        return (logits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return logits


def margins(
    logits: NDArray[np.float32], labels: NDArray[np.int64], kind: str
) -> NDArray[np.float32]:
    """Margins of logits; the kinds are defined in ``csrc/margins.hpp``.

    Parameters
    ----------
    logits : (n_rows, n_classes) float32
        Row r belongs to target ``r % n_targets``.
    labels : (n_targets,) int64
    kind : str
        One of `MARGIN_KINDS`.

    Returns
    -------
    (n_rows,) float32
    """
    z = logits.astype(np.float64)
    rows = np.arange(len(z))
    label = labels[rows % max(len(labels), 1)]
    correct = z[rows, label]
    others = z.copy()
    others[rows, label] = -np.inf
    largest = others.max(axis=1)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        return _margin(correct, others, largest, kind).astype(np.float32)


def _margin(
    correct: NDArray[np.float64],
    others: NDArray[np.float64],
    largest: NDArray[np.float64],
    kind: str,
) -> NDArray[np.float64]:
    """Margins from z_y (n,), the logits without it (n, n_classes) and their maximum (n,)."""
    if kind == "max":
        return correct - largest
    if kind == "correct":
        undefined = np.isnan(correct) | np.isnan(largest)
        return np.where(undefined, np.nan, correct > largest)
    origin = np.where(np.isfinite(largest), largest, 0.0)
    total = origin + np.log(np.exp(others - origin[:, None]).sum(axis=1))
    margin = correct - np.where(np.isfinite(largest), total, largest)
    if kind == "logsumexp":
        return margin
    if kind == "probability":
        return np.asarray(1.0 / (1.0 + np.exp(-margin)))
    return np.logaddexp(0.0, -margin)


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


def normalise(x: NDArray[np.float32], by: NDArray[np.float32]) -> NDArray[np.float32]:
    """``(x - mean) slope + shift``, each operation rounded to float32.

    Parameters
    ----------
    x : (n, height, width, channels) float32
    by : (3, channels) float32
        Mean, slope and shift.
    """
    mean, slope, shift = by
    return (x - mean) * slope + shift


def rectify(
    x: NDArray[np.float32], by: NDArray[np.float32], bypass: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """What is above zero of the normalised, plus `bypass`; exact."""
    y = np.maximum(normalise(x, by), np.float32(0))
    return y if bypass is None else y + bypass


def rectify_halved(x: NDArray[np.float32], by: NDArray[np.float32]) -> NDArray[np.float32]:
    """Maxima of 2x2 pixels of `rectify`, an odd last row or column left out; exact.

    Returns
    -------
    (n, height // 2, width // 2, channels) float32
    """
    y = rectify(x, by)
    largest: NDArray[np.float32] = np.maximum.reduce(_corners(y))
    return largest


def scatter_halved(
    x: NDArray[np.float32], by: NDArray[np.float32], gradient: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Gradient of `rectify_halved`'s maxima, to the first of the largest; 0 where none is above 0; exact.

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
