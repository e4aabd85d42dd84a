"""Arrays that stay on the CUDA device from call to call, and the kernels between them.

Everything here needs ``use_backend("cuda")``; results have the bits of the CPU's.

Arrays of other libraries (torch, CuPy) are taken wherever a `DeviceArray` is, by their
``__cuda_array_interface__``; they must lie on the same device in C order, and the caller's stream
must have finished with them.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import NDArray

from pyattr.array_checks import check_labels
from pyattr.backends import backend, compiled
from pyattr.errors import bad_value
from pyattr.reference import MARGIN_KINDS

__all__ = [
    "DeviceArray",
    "DeviceMatrix",
    "Matrix",
    "device_module",
    "exact_matmul_transposed",
    "free_memory",
    "gram",
    "is_on_device",
    "margins",
    "on_host",
    "packed_matmul",
    "synchronize",
    "to_device",
    "used_on_device",
]


class DeviceArray(Protocol):
    """An array on the device: `pyattr._cuda.DeviceArray`, a CUDA tensor and so on."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Where it lies, version 3."""


class DeviceMatrix(DeviceArray, Protocol):
    """A square matrix that pyattr made on the device."""

    def copy(self) -> DeviceMatrix:
        """Copy it on the device."""

    def diagonal(self) -> NDArray[Any]:
        """Its diagonal, on the host."""

    def numpy(self) -> NDArray[Any]:
        """Copy all of it to the host."""


Matrix: TypeAlias = NDArray[Any] | DeviceMatrix


def on_host(matrix: Matrix) -> NDArray[Any]:
    """Return the matrix, or a copy on the host of one that lies on the device."""
    return matrix if isinstance(matrix, np.ndarray) else matrix.numpy()


def used_on_device(matrix: Matrix) -> TypeGuard[DeviceMatrix]:
    """Whether the matrix lies on the device and the backend works there."""
    return backend() == "cuda" and not isinstance(matrix, np.ndarray)


def is_on_device(array: object) -> bool:
    """Whether `array` says that it lies on a CUDA device."""
    return hasattr(array, "__cuda_array_interface__")


def to_device(values: NDArray[Any]) -> Any:
    """Copy an array to the device.

    Parameters
    ----------
    values : (...) array

    Returns
    -------
    pyattr._cuda.DeviceArray
        Owns its memory; ``.numpy()`` copies it back.

    Raises
    ------
    RuntimeError
        If the backend is not "cuda", or CUDA fails (with its message).
    """
    return device_module().DeviceArray(values)


def synchronize() -> None:
    """Wait until the device has done all that it was asked to; CUDA's errors are raised here."""
    device_module().synchronize()


def free_memory() -> int:
    """Bytes of the device's memory that nobody holds."""
    return int(device_module().free_memory())


# -- kernels between arrays on the device ----------------------------------------------------------
# Arguments and results are those of the functions of the same names in `pyattr.exact_sums` and
# `pyattr.kernels`, on the device; calls may return before the work is done. Values are not checked.


def gram(packed: DeviceArray, n_train: int, out: DeviceArray) -> None:
    """Add ``masks.T @ masks`` to `out`.

    Parameters
    ----------
    packed : (n_masks, row_bytes) uint8, on the device
        Fewer than 2^31 masks in all that `out` sums over.
    n_train : int
    out : (n_train, n_train) int32, on the device
    """
    device_module().add_gram(packed, packed.shape[0], n_train, out)


def exact_matmul_transposed(
    packed: DeviceArray, values: DeviceArray, n_train: int, out: DeviceArray
) -> None:
    """Add ``masks.T @ values`` to `out`.

    Parameters
    ----------
    packed : (n_masks, row_bytes) uint8, on the device
    values : (n_masks, n_targets) int32, on the device
        Below 2^21 in magnitude.
    n_train : int
    out : (n_train, n_targets) int64, on the device
    """
    n_masks, n_targets = values.shape
    device_module().add_exact_product(packed, values, n_masks, n_train, n_targets, out)


def packed_matmul(packed: DeviceArray, weights: DeviceArray, out: DeviceArray) -> None:
    """Write ``masks @ weights`` to `out`.

    Parameters
    ----------
    packed : (n_masks, row_bytes) uint8, on the device
    weights : (n_train, n_targets) float32, on the device
    out : (n_masks, n_targets) float32, on the device
    """
    n_train, n_targets = weights.shape
    device_module().multiply(packed, weights, packed.shape[0], n_train, n_targets, out)


def margins(
    logits: DeviceArray, labels: NDArray[np.int64], out: DeviceArray, kind: str = "logsumexp"
) -> None:
    """Write the margins of rows of logits to `out`.

    Parameters
    ----------
    logits : (n_rows, n_classes) float32, on the device
    labels : (n_targets,) int
        Of rows 0, 1, …, over and over; on the host.
    out : (n_rows,) float32, on the device
    kind : str
        As for `pyattr.kernels.margins`.
    """
    if kind not in MARGIN_KINDS:
        raise bad_value("kind", " or ".join(MARGIN_KINDS), repr(kind))
    n_rows, n_classes = logits.shape
    y = check_labels(labels, n_classes)
    device_module().margins_on_device(logits, y, n_rows, n_classes, MARGIN_KINDS.index(kind), out)


def device_module() -> Any:
    """Return the module of the CUDA kernels.

    Raises
    ------
    RuntimeError
        If the backend is another.
    """
    if backend() != "cuda":
        raise RuntimeError(f'backend: expected use_backend("cuda"), got {backend()!r}')
    return compiled()
