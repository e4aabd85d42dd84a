"""Arrays that stay on the CUDA device from call to call, and the sums that rows are streamed to.

A fit reads its Gram matrix some hundred times and nobody else ever looks at it: counts are summed
on the device, centred there and handed to `pyattr.solvers` as they are. Only products, sums and
scores, which are smaller by a factor n_train, come back. Everything here needs
``use_backend("cuda")``; results have the bits of the CPU's.

Arrays of other libraries (torch, CuPy) are taken wherever a `DeviceArray` is, by their
``__cuda_array_interface__``; they must lie on the same device in C order, and the caller's stream
must have finished with them.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pyattr.array_checks import check_exact, check_labels, check_packed
from pyattr.errors import bad_value, check_count
from pyattr.kernels import backend, compiled
from pyattr.reference import FIXED_POINT_LIMIT, MARGIN_KINDS

__all__ = [
    "DeviceArray",
    "DeviceStatistics",
    "DeviceSums",
    "exact_matmul_transposed",
    "gram",
    "is_on_device",
    "margins",
    "packed_matmul",
    "synchronize",
    "to_device",
]

_MAX_MASKS = (1 << 31) - 1
_MAX_SQUARE = 1 << 62
_MAX_CHUNK_ROWS = 1 << 15  # 205 MB of turned masks at n_train = 50,000, in each of two streams

Float64 = NDArray[np.float64]


class DeviceArray(Protocol):
    """An array on the device: `pyattr._cuda.DeviceArray`, a CUDA tensor and so on."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Where it lies, version 3."""


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
    return _module().DeviceArray(values)


def synchronize() -> None:
    """Wait until the device has done all that it was asked to; CUDA's errors are raised here."""
    _module().synchronize()


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
    _module().add_gram(packed, packed.shape[0], n_train, out)


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
    _module().add_exact_product(packed, values, n_masks, n_train, n_targets, out)


def packed_matmul(packed: DeviceArray, weights: DeviceArray, out: DeviceArray) -> None:
    """Write ``masks @ weights`` to `out`.

    Parameters
    ----------
    packed : (n_masks, row_bytes) uint8, on the device
    weights : (n_train, n_targets) float32, on the device
    out : (n_masks, n_targets) float32, on the device
    """
    n_train, n_targets = weights.shape
    _module().multiply(packed, weights, packed.shape[0], n_train, n_targets, out)


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
    _module().margins_on_device(logits, y, n_rows, n_classes, MARGIN_KINDS.index(kind), out)


def _module() -> Any:
    if backend() != "cuda":
        raise RuntimeError(f'backend: expected use_backend("cuda"), got {backend()!r}')
    return compiled()


class DeviceSums:
    """Exact sums over rows of masks and outputs: counts and masksᵀY on the device.

    Rows are copied in chunks while the chunk before is summed. Sums are whole numbers: the same for
    any chunks and order, and equal to the CPU's.

    Parameters
    ----------
    n_train : int
    centre, step : (n_targets,) float64
        Of the fixed point (`pyattr.exact_sums.to_fixed_point`).
    chunk_rows : int
        Rows on the device at a time, in each of two streams; changes nothing in the result.

    Examples
    --------
    >>> with pyattr.kernels.use_backend("cuda"):                                # doctest: +SKIP
    ...     sums = DeviceSums(masks.n_train, scale.centre, scale.step)
    ...     sums.add(masks.packed, outputs)
    ...     statistics = sums.finish()
    ...     fits = fit_mixtures(statistics.gram(), cross, square, masks.n_masks, variances)
    """

    def __init__(self, n_train: int, centre: Float64, step: Float64, chunk_rows: int = 1 << 15):
        self._n_train = check_count("n_train", n_train, 1)
        self._centre = check_exact("centre", centre, np.float64, 1)
        self._step = check_exact("step", step, np.float64, 1)
        if len(self._step) != len(self._centre) or not np.isfinite(self._centre).all():
            got = f"{len(self._centre)} and {len(self._step)}"
            raise bad_value("centre, step", "as many finite numbers each", got)
        if ((np.frexp(self._step)[0] != 0.5) | (self._step < 2.0**-1020)).any():
            raise bad_value("step", "powers of two, at least 2^-1020", self._step)
        chunk_rows = min(check_count("chunk_rows", chunk_rows, 1), _MAX_CHUNK_ROWS)
        self._sums = _module().ExactSums(n_train, self._centre, 1.0 / self._step, chunk_rows)
        self._n_masks = 0

    def add(self, packed: NDArray[np.uint8], outputs: NDArray[np.floating[Any]]) -> None:
        """Add rows; may return before they are summed, but not before they are read.

        Parameters
        ----------
        packed : (n_rows, row_bytes) uint8
        outputs : (n_rows, n_targets) float32 or float64
        """
        bits = check_packed(packed, self._n_train)
        values = np.asarray(outputs)
        if values.dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
            raise bad_value("outputs", "float32 or float64", values.dtype)
        if values.shape != (len(bits), len(self._centre)):
            raise bad_value("outputs", f"shape {(len(bits), len(self._centre))}", values.shape)
        if self._n_masks + len(bits) > _MAX_MASKS:
            raise bad_value("masks", f"at most {_MAX_MASKS}", self._n_masks + len(bits))
        self._n_masks += len(bits)
        self._sums.add(bits, np.ascontiguousarray(values))

    def finish(self) -> DeviceStatistics:
        """Wait for all rows and return their sums.

        Raises
        ------
        ValueError
            If an output was NaN, infinite or 2^21 steps or more from its centre (the first such
            target is named), or a sum of squares could have overflowed.
        """
        totals, squares, first_bad = self._sums.finish()
        if first_bad < len(totals):
            reach = self._step[first_bad] * FIXED_POINT_LIMIT
            raise bad_value(
                "outputs",
                f"finite values of target {first_bad} within {reach:.6g} of "
                f"{self._centre[first_bad]:.6g}, as the fixed-point scale has it",
                "others",
            )
        large = np.flatnonzero(squares.astype(np.uint64) >= _MAX_SQUARE)
        if large.size:
            expected = "a sum of squares below 2^62 steps (more rows need a larger step)"
            raise bad_value("outputs", expected, f"more for target {large[0]}")
        return DeviceStatistics(
            self._sums.counts(), self._sums.cross(), totals, squares, self._n_masks
        )


class DeviceStatistics(NamedTuple):
    """Sums over n_masks rows x (bits) and q (outputs in whole steps).

    Parameters
    ----------
    counts : (n_train, n_train) int32, on the device
        Σ x xᵀ.
    cross_steps : (n_train, n_targets) int64, on the device
        Σ x qᵀ.
    total_steps, square_steps : (n_targets,) int64
        Σ q and Σ q².
    n_masks : int
    """

    counts: Any
    cross_steps: Any
    total_steps: NDArray[np.int64]
    square_steps: NDArray[np.int64]
    n_masks: int

    @property
    def column_counts(self) -> NDArray[np.int32]:
        """Number of masks that each example is in, (n_train,) int32."""
        return np.asarray(self.counts.diagonal(), np.int32)

    def subtract(self, part: DeviceStatistics) -> DeviceStatistics:
        """Take the rows of a part away, in place: its counts from these, the rest is new.

        Parameters
        ----------
        part : DeviceStatistics
            Of some of the rows, on the same scale.

        Returns
        -------
        DeviceStatistics
            Of the other rows; its counts are `self.counts`.
        """
        return self._combined(part, -1)

    def add(self, other: DeviceStatistics) -> DeviceStatistics:
        """Add the rows of `other`, on the same scale, in place (see `subtract`)."""
        return self._combined(other, 1)

    def _combined(self, other: DeviceStatistics, sign: int) -> DeviceStatistics:
        module = _module()
        module.add_counts(self.counts, other.counts, sign)
        cross = self.cross_steps.numpy() + sign * other.cross_steps.numpy()
        return DeviceStatistics(
            self.counts,
            to_device(cross),
            self.total_steps + sign * other.total_steps,
            self.square_steps + sign * other.square_steps,
            self.n_masks + sign * other.n_masks,
        )

    def gram(self, middle: float | None = None) -> Any:
        """Mean over rows of ``(x - middle)(x - middle)ᵀ``, on the device.

        Parameters
        ----------
        middle : float, optional
            By default the mean row.

        Returns
        -------
        (n_train, n_train) float32, on the device
            From exact counts: float64 until the last rounding and the division by n_masks, which
            are float32. The bits of `pyattr.attribution.moments.moments`.
        """
        single = self.column_counts.astype(np.float64)
        return _module().centred_gram(self.counts, single, float(max(self.n_masks, 1)), middle)
