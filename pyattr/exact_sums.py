"""Sums over masks in whole numbers: exact, whatever the order, the threads and the machine.

What is summed are bits (`gram`) and outputs in fixed point (`to_fixed_point`,
`exact_matmul_transposed`). Definitions in `pyattr.reference`; method and overflow bounds in
``csrc/gram.hpp``, ``csrc/fixed_point.hpp`` and ``csrc/packed_matmul.hpp``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyattr import reference
from pyattr.array_checks import check_exact, check_packed
from pyattr.backends import backend, compiled
from pyattr.errors import bad_value, check_count
from pyattr.threads import over_outputs, over_rows, over_triangle

__all__ = ["column_counts", "exact_matmul_transposed", "gram", "intersections", "to_fixed_point"]

_GRAM_TILE = 64
_LINE_WORDS = 16  # of 4 bytes in a cache line
_TURNED_TILES = 8  # tiles that are turned together
_GRAM_ROWS = 1 << 15  # masks turned at a time: a tile of them, 256 KiB, stays in L2
_MAX_MASKS = (1 << 31) - 1


def gram(
    packed: ArrayLike, n_train: int, out: NDArray[np.int32] | None = None
) -> NDArray[np.int32]:
    """``masks.T @ masks``: how many masks hold both i and j.

    Parameters
    ----------
    packed : (n_masks, row_bytes) uint8
    n_train : int
    out : (n_train, n_train) int32, optional
        Symmetric counts of other masks, C order, to add to. Counts must stay below 2^31.

    Returns
    -------
    (n_train, n_train) int32
        `out` if given. Exact on every backend.
    """
    n_train = check_count("n_train", n_train, 1)
    bits = check_packed(packed, n_train)
    if len(bits) > _MAX_MASKS:
        raise bad_value("packed", f"at most {_MAX_MASKS} masks", len(bits))
    # Memory that nobody has touched is written once, by all threads, instead of being zeroed first.
    fresh = out is None and backend() == "cpu" and len(bits) > 0
    if out is None:
        out = (np.empty if fresh else np.zeros)((n_train, n_train), np.int32)
    else:
        _check_out(out, np.dtype(np.int32), (n_train, n_train))
    if backend() == "reference":
        out += reference.gram(bits, n_train)
        return out
    for first in range(0, len(bits), _GRAM_ROWS):
        put = compiled().first_gram if fresh and first == 0 else compiled().gram
        _put_gram(bits[first : first + _GRAM_ROWS], n_train, put, out)
    return out


def _put_gram(
    bits: NDArray[np.uint8], n_train: int, put: Callable[..., None], out: NDArray[np.int32]
) -> None:
    kernel = compiled().fastest_gram_kernel()
    n_tiles, n_blocks = -(-n_train // _GRAM_TILE), 8 * -(-len(bits) // 256)
    turned = _at_line(n_tiles, n_blocks)
    n_groups = -(-n_tiles // _TURNED_TILES)
    over_rows(
        n_groups,
        len(bits) * 8 * _TURNED_TILES,
        lambda b, e: compiled().turn_masks(
            bits, n_train, turned, b * _TURNED_TILES, min(e * _TURNED_TILES, n_tiles)
        ),
    )
    over_triangle(n_tiles, functools.partial(put, turned, kernel, out))


def _at_line(n_tiles: int, n_blocks: int) -> NDArray[np.uint32]:
    """Room for turned tiles that begins with a cache line: none of their vectors then lies in two."""
    n_words = n_tiles * n_blocks * _GRAM_TILE
    words = np.empty(n_words + _LINE_WORDS, np.uint32)
    first = -(words.ctypes.data // words.itemsize) % _LINE_WORDS
    return words[first : first + n_words].reshape(n_tiles, n_blocks, _GRAM_TILE)


def intersections(packed: ArrayLike, n_train: int) -> NDArray[np.int32]:
    """``masks @ masks.T``: how many examples two masks share.

    Parameters
    ----------
    packed : (n_masks, row_bytes) uint8
    n_train : int

    Returns
    -------
    (n_masks, n_masks) int32
        Exact on every backend.
    """
    n_train = check_count("n_train", n_train, 1)
    bits = check_packed(packed, n_train)
    if backend() == "reference":
        return reference.intersections(bits, n_train)
    n_masks, out = len(bits), np.zeros((len(bits), len(bits)), np.int32)
    # Masks stand for examples and examples for masks: rows of words are turned already.
    kernel, n_tiles = compiled().fastest_gram_kernel(), -(-n_masks // _GRAM_TILE)
    for first in range(0, bits.shape[1], _GRAM_ROWS // 8):
        part = bits[:, first : first + _GRAM_ROWS // 8]
        n_blocks = 8 * -(-part.shape[1] // 32)
        words = np.zeros((n_tiles * _GRAM_TILE, n_blocks), "<u4")
        words.view(np.uint8)[:n_masks, : part.shape[1]] = part
        tiles = words.reshape(n_tiles, _GRAM_TILE, n_blocks).transpose(0, 2, 1)
        turned = np.ascontiguousarray(tiles, np.uint32)
        over_triangle(n_tiles, functools.partial(compiled().gram, turned, kernel, out))
    return out


def column_counts(packed: ArrayLike, n_train: int) -> NDArray[np.int64]:
    """Number of masks that each example is in: the diagonal of `gram`.

    Parameters
    ----------
    packed : (n_masks, row_bytes) uint8
    n_train : int

    Returns
    -------
    (n_train,) int64
        Exact on every backend.
    """
    ones = np.ones((len(check_packed(packed, n_train)), 1), np.int32)
    return exact_matmul_transposed(packed, ones, n_train)[:, 0]


def to_fixed_point(
    outputs: ArrayLike, centre: NDArray[np.float64], step: NDArray[np.float64]
) -> NDArray[np.int32]:
    """Outputs as whole numbers of steps from a centre.

    Parameters
    ----------
    outputs : (n_rows, n_targets) float32 or float64
    centre : (n_targets,) float64
    step : (n_targets,) float64
        Powers of two, at least 2^-1020.

    Returns
    -------
    (n_rows, n_targets) int32
        Below 2^21 in magnitude; off by half a step at most. Exact on every backend.

    Raises
    ------
    ValueError
        If an output is NaN, infinite or 2^21 steps away; the first such target is named.
    """
    values = np.asarray(outputs)
    if values.ndim != 2 or values.dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
        got = f"{values.ndim}-dimensional {values.dtype}"
        raise bad_value("outputs", "a float32 or float64 matrix", got)
    values = np.ascontiguousarray(values)
    c, s = check_exact("centre", centre, np.float64, 1), check_exact("step", step, np.float64, 1)
    n_targets = values.shape[1]
    if c.shape != (n_targets,) or s.shape != (n_targets,) or not np.isfinite(c).all():
        raise bad_value("centre, step", f"{n_targets} finite numbers each", f"{c.shape}, {s.shape}")
    if ((np.frexp(s)[0] != 0.5) | (s < 2.0**-1020)).any():
        raise bad_value("step", "powers of two, at least 2^-1020", s)
    if backend() == "reference":
        fixed, first_bad = reference.to_fixed_point(values, c, s)
    else:
        fixed, first_bad = _to_fixed_point(values, c, s)
    if first_bad < n_targets:
        raise _not_fixed_point(values[:, first_bad], first_bad, c[first_bad], s[first_bad])
    return fixed


def _to_fixed_point(
    values: NDArray[np.floating[Any]], centre: NDArray[np.float64], step: NDArray[np.float64]
) -> tuple[NDArray[np.int32], int]:
    fixed, steps = np.empty(values.shape, np.int32), 1.0 / step
    bad: list[int] = []  # list.append is atomic
    over_rows(
        len(values),
        values.shape[1],
        lambda b, e: bad.append(compiled().to_fixed_point(values, centre, steps, fixed, b, e)),
    )
    return fixed, min(bad)


def _not_fixed_point(
    column: NDArray[np.floating[Any]], target: int, centre: float, step: float
) -> ValueError:
    if not np.isfinite(column).all():
        return bad_value("outputs", "finite numbers", f"NaN or infinity for target {target}")
    reach = step * reference.FIXED_POINT_LIMIT
    return bad_value(
        "outputs",
        f"values of target {target} within {reach:.6g} of {centre:.6g}, as the fixed-point scale has it",
        f"{column.min():.6g} to {column.max():.6g}",
    )


def exact_matmul_transposed(
    packed: ArrayLike,
    values: ArrayLike,
    n_train: int,
    out: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """``masks.T @ values`` for whole numbers.

    Parameters
    ----------
    packed : (n_masks, row_bytes) uint8
    values : (n_masks, n_targets) int32
        Below 2^21 in magnitude.
    n_train : int
    out : (n_train, n_targets) int64, optional
        Sums of other masks, C order, to add to.

    Returns
    -------
    (n_train, n_targets) int64
        `out` if given. Exact on every backend.
    """
    n_train = check_count("n_train", n_train, 1)
    bits, v = check_packed(packed, n_train), check_exact("values", values, np.int32, 2)
    if len(v) != len(bits):
        raise bad_value("values", f"{len(bits)} rows, one a mask", len(v))
    limit = reference.FIXED_POINT_LIMIT
    if v.size and not (-limit < v.min() and v.max() < limit):
        raise bad_value("values", f"magnitudes below {limit}", f"{v.min()} to {v.max()}")
    if out is None:
        out = np.zeros((n_train, v.shape[1]), np.int64)
    else:
        _check_out(out, np.dtype(np.int64), (n_train, v.shape[1]))
    if backend() == "reference":
        out += reference.exact_matmul_transposed(bits, v, n_train)
        return out
    over_outputs(
        n_train, v.shape[1], 64, lambda *at: compiled().packed_matmul_transposed(bits, v, out, *at)
    )
    return out


def _check_out(out: NDArray[Any], dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    writable = out.flags.c_contiguous and out.flags.writeable
    if out.dtype != dtype or out.shape != shape or not writable:
        got = f"{out.shape} {out.dtype}"
        raise bad_value("out", f"a writable {dtype} array {shape} in C order", got)
