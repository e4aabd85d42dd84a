"""The file of sufficient statistics: safetensors with a fixed set of names, types and shapes.

================  =====  ==============================================
tensor            dtype  shape
================  =====  ==============================================
``counts``        I32    (n_train, n_train), or (n_train,) if Gram-free
``cross_steps``   I64    (n_train, n_targets)
``total_steps``   I64    (n_targets,)
``square_steps``  I64    (n_targets,)
``centre``        F64    (n_targets,)
``step``          F64    (n_targets,)
================  =====  ==============================================

and where they were summed ``pair_square_steps`` I64 (n_targets,) and ``cross_square_steps`` I64
(n_train, n_targets).

The metadata are exactly ``format``, ``version`` and ``n_masks``, a decimal number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pyattr.attribution.file_format import Layout
from pyattr.errors import bad_value
from pyattr.reference import FIXED_POINT_LIMIT

__all__ = ["METADATA", "OPTIONAL_SUMS", "SUMS", "check_layout", "check_values"]

METADATA: Final = {"format": "pyattr-sufficient-statistics", "version": "1"}
SUMS: Final = ("counts", "cross_steps", "total_steps", "square_steps")
OPTIONAL_SUMS: Final = ("pair_square_steps", "cross_square_steps")
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,9}", re.ASCII)


def check_layout(name: str, metadata: Mapping[str, str], layout: Layout) -> None:
    """Refuse metadata, names, types and shapes other than the table's."""
    n_masks = metadata.get("n_masks", "")
    if metadata != {**METADATA, "n_masks": n_masks} or not _NUMBER.fullmatch(n_masks):
        raise bad_value(f"{name}: metadata", f"{METADATA} and n_masks", dict(metadata))
    shape = layout.get("cross_steps", ("", ()))[1]
    if len(shape) != 2 or shape[0] < 1:
        raise bad_value(name, "a tensor cross_steps (n_train, n_targets)", sorted(layout))
    n_train, n_targets = shape
    gram = len(layout.get("counts", ("", ()))[1]) == 2
    expected: dict[str, tuple[str, tuple[int, ...]]] = {
        "counts": ("I32", (n_train, n_train) if gram else (n_train,)),
        "cross_steps": ("I64", shape),
        "total_steps": ("I64", (n_targets,)),
        "square_steps": ("I64", (n_targets,)),
        "centre": ("F64", (n_targets,)),
        "step": ("F64", (n_targets,)),
    }
    for tensor, size in zip(OPTIONAL_SUMS, ((n_targets,), shape), strict=True):
        if tensor in layout:
            expected[tensor] = ("I64", size)
    if layout != expected:
        raise bad_value(f"{name}: tensors", str(expected), str(dict(layout)))


def check_values(
    name: str, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]
) -> int:
    """Refuse values that are not sums over n_masks rows of bits and numbers below 2^21.

    Returns
    -------
    int
        n_masks.
    """
    n_masks, counts, square = int(metadata["n_masks"]), tensors["counts"], tensors["square_steps"]
    single = np.diagonal(counts) if counts.ndim == 2 else counts
    most = n_masks * (FIXED_POINT_LIMIT - 1)
    cross, total, step = tensors["cross_steps"], tensors["total_steps"], tensors["step"]
    good = {
        "n_masks": n_masks < 1 << 31,
        "counts": bool(((counts >= 0) & (counts <= single)).all() and (single <= n_masks).all())
        and (counts.ndim == 1 or _are_pair_counts(counts, n_masks)),
        "cross_steps": not cross.size or (cross.min() >= -most and cross.max() <= most),
        "total_steps": not total.size
        or bool((total.min() >= -most and total.max() <= most) and _fit(total, square, n_masks)),
        "square_steps": bool(((square >= 0) & (square < 1 << 62)).all()),
        "centre": bool(np.isfinite(tensors["centre"]).all()),
        "step": bool(((np.frexp(step)[0] == 0.5) & (step >= 2.0**-1020)).all()),
    }
    pairs, squares = (tensors.get(tensor) for tensor in OPTIONAL_SUMS)
    if pairs is not None:
        # (q - q')² is at most 2 (q² + q'²); compared without overflow.
        good["pair_square_steps"] = n_masks % 2 == 0 and bool(
            ((pairs >= 0) & (pairs // 2 <= square)).all()
        )
        good["counts"] = good["counts"] and bool((2 * single == n_masks).all())
    if squares is not None:
        good["cross_square_steps"] = bool(((squares >= 0) & (squares <= square)).all())
    bad = [key for key, fine in good.items() if not fine]
    if bad:
        raise bad_value(f"{name}: tensor {bad[0]!r}", f"sums over {n_masks} rows", "other values")
    return n_masks


def _are_pair_counts(counts: NDArray[Any], n_masks: int) -> bool:
    """Whether sets of these sizes can meet in so many rows: symmetric, and ``n_ij ≥ n_i + n_j - n``."""
    single = np.diagonal(counts).astype(np.int64)
    least = single[:, None] + single - n_masks
    return np.array_equal(counts, counts.T) and bool((counts >= least).all())


def _fit(total: NDArray[Any], square: NDArray[Any], n_masks: int) -> bool:
    """Whether numbers with this sum can have this sum of squares: ``(Σ q)² ≤ n Σ q²``."""
    slack = 1.0 + 1e-12  # of the rounding of both sides
    return bool((np.square(total.astype(np.float64)) <= slack * n_masks * square).all())
