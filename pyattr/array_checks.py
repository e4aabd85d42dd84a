"""What the kernels accept: arrays of the right dtype and shape, in C order; the rest is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from pyattr.errors import bad_value, check_count
from pyattr.reference import row_bytes

__all__ = [
    "as_labels",
    "axis_labels",
    "check_below",
    "check_exact",
    "check_floats",
    "check_label_range",
    "check_labels",
    "check_logits",
    "check_matrix",
    "check_packed",
    "check_rows",
    "check_threshold",
]


def check_below(name: str, value: int, bits: int) -> int:
    """Return `value` as an int if it is a whole number in [0, 2^bits)."""
    value = check_count(name, value)
    if value >= 1 << bits:
        raise bad_value(name, f"a whole number below 2^{bits}", value)
    return value


def check_rows(first_row: int, n_rows: int) -> tuple[int, int]:
    """Return both as ints if rows `first_row` … ``first_row + n_rows - 1`` have 32-bit numbers."""
    first_row, n_rows = check_count("first_row", first_row), check_count("n_rows", n_rows)
    if first_row + n_rows > 1 << 32:
        raise bad_value("first_row + n_rows", "at most 2^32", first_row + n_rows)
    return first_row, n_rows


def check_threshold(name: str, value: int) -> int:
    """Return a probability in units of 2^-32 as an int if it lies in [0, 2^32]."""
    value = check_count(name, value)
    if value > 1 << 32:
        raise bad_value(name, "a whole number of at most 2^32", value)
    return value


def axis_labels(name: str, labels: ArrayLike | None, n: int) -> NDArray[Any]:
    """Return n labels of an axis; 0, 1, … if there are none.

    Raises
    ------
    ValueError
        If there is another number of them.
    """
    array = np.arange(n) if labels is None else np.asarray(labels)
    if array.shape != (n,):
        raise bad_value(name, f"{n} labels", f"shape {array.shape}")
    return array


def check_exact(name: str, values: ArrayLike, dtype: DTypeLike, ndim: int) -> NDArray[Any]:
    """Return `values` in C order if they have exactly this dtype and number of dimensions."""
    array = np.asarray(values)
    if array.dtype != np.dtype(dtype) or array.ndim != ndim:
        got = f"{array.ndim}-dimensional {array.dtype}"
        raise bad_value(name, f"{ndim}-dimensional {np.dtype(dtype)}", got)
    return _laid_out(array)


def _laid_out(array: NDArray[Any], dtype: DTypeLike | None = None) -> NDArray[Any]:
    # Numbers read from the middle of a file or of a message may begin at any byte; kernels' do not.
    return np.require(array, dtype, ["C", "ALIGNED"])


def check_floats(name: str, values: ArrayLike) -> NDArray[np.float32]:
    """Return `values` as float32 in C order; only floating-point arrays are converted."""
    array = np.asarray(values)
    if array.dtype.kind != "f":
        raise bad_value(name, "a floating-point array", array.dtype)
    with np.errstate(over="ignore"):  # beyond float32 is infinity, which the caller judges
        return _laid_out(array, np.float32)


def check_logits(values: ArrayLike) -> tuple[NDArray[Any], str]:
    """Return logits in C order and what they are: "float32", or the bits of a 16-bit type.

    Returns
    -------
    logits : (...) float32 or uint16
    kind : {"float32", "float16", "bfloat16"}
    """
    array = np.asarray(values)
    if array.dtype == np.float16:
        return _laid_out(array).view(np.uint16), "float16"
    if array.dtype == np.uint16 or array.dtype.name == "bfloat16":
        return _laid_out(array).view(np.uint16), "bfloat16"
    return check_floats("logits", array), "float32"


def check_matrix(name: str, values: ArrayLike) -> NDArray[np.float32]:
    """Return `values` as a finite float32 matrix in C order."""
    array = check_floats(name, values)
    if array.ndim != 2:
        raise bad_value(name, "a matrix", f"shape {array.shape}")
    if not np.isfinite(array).all():
        raise bad_value(name, "finite numbers within the range of float32", "others")
    return array


def check_packed(packed: ArrayLike, n_train: int) -> NDArray[np.uint8]:
    """Return packed masks (n_masks, row_bytes) uint8 of `n_train` examples in C order."""
    array = check_exact("packed", packed, np.uint8, 2)
    if array.shape[1] != row_bytes(n_train):
        expected = f"{row_bytes(n_train)} bytes a row for n_train {n_train}"
        raise bad_value("packed", expected, array.shape[1])
    return array


def check_labels(labels: ArrayLike, n_classes: int) -> NDArray[np.int64]:
    """Return labels (n_targets,) int64, each in [0, n_classes)."""
    numbers = as_labels(labels)
    check_label_range(numbers, n_classes)
    return numbers


def as_labels(labels: ArrayLike) -> NDArray[np.int64]:
    """Return labels (n_targets,) int64 in C order, whatever their values."""
    array = np.asarray(labels)
    if array.size == 0:
        array = array.astype(np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise bad_value("labels", "a vector of integers", f"{array.ndim}-dimensional {array.dtype}")
    return _laid_out(array, np.int64)


def check_label_range(labels: NDArray[np.int64], n_classes: int) -> None:
    """Refuse labels (n_targets,) int64 that are not in [0, n_classes)."""
    # One pass: as whole numbers without sign negative ones are above all classes.
    if labels.size and labels.view(np.uint64).max() >= n_classes:
        got = f"{labels.min()} to {labels.max()}"
        raise bad_value("labels", f"values in [0, {n_classes})", got)
