"""Sums over rows that grow block by block, in place and exact."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyattr.attribution.designs import Design
from pyattr.attribution.fixed_point import FixedPointScale, check_squares
from pyattr.attribution.statistics_file import OPTIONAL_SUMS, SUMS
from pyattr.backends import backend
from pyattr.device_sums import DeviceSums
from pyattr.errors import bad_value
from pyattr.exact_sums import column_counts, exact_matmul_transposed, gram
from pyattr.reference import FIXED_POINT_LIMIT

__all__ = ["MAX_BLOCK_ROWS", "MAX_MASKS", "DeviceRunningSums", "RunningSums", "running_sums"]

MAX_BLOCK_ROWS = 1 << 15  # a block's squares add less than 2^57; even, so that no pair is cut
MAX_MASKS = (1 << 31) - 1

Int64 = NDArray[np.int64]


class RunningSums:
    """The fields of `pyattr.attribution.statistics.SufficientStatistics`, from 0 on.

    Parameters
    ----------
    n_train : int
    scale : FixedPointScale
    gram : bool
        Whether to count pairs of examples, or examples alone.
    squares : bool
        Whether to sum squares for every example.
    design : {"iid", "complement"}
    """

    def __init__(
        self, n_train: int, scale: FixedPointScale, gram: bool, squares: bool, design: Design
    ) -> None:
        n_targets = len(scale.step)
        self.counts = np.zeros((n_train, n_train) if gram else n_train, np.int32)
        self.cross_steps = np.zeros((n_train, n_targets), np.int64)
        self.total_steps = np.zeros(n_targets, np.int64)
        self.square_steps = np.zeros(n_targets, np.int64)
        self.n_masks = 0
        self.scale = scale
        self.pair_square_steps: Int64 | None = None
        self.cross_square_steps: Int64 | None = None
        if design == "complement":
            self.pair_square_steps = np.zeros(n_targets, np.int64)
        if squares:
            self.cross_square_steps = np.zeros((n_train, n_targets), np.int64)

    def add(self, packed: NDArray[np.uint8], outputs: NDArray[np.floating[Any]]) -> None:
        """Add a block of rows.

        Parameters
        ----------
        packed : (n_rows, row_bytes) uint8
            At most `MAX_BLOCK_ROWS`; whole pairs for the complement design.
        outputs : (n_rows, n_targets) float32 or float64

        Raises
        ------
        ValueError
            If an output is not finite or outside the scale, or there are too many rows.
        """
        self.n_masks += len(packed)
        if self.n_masks > MAX_MASKS:
            raise bad_value("masks", f"at most {MAX_MASKS}", self.n_masks)
        self._add(packed, outputs)

    def fields(self) -> dict[str, Any]:
        """Return the sums over all rows so far by the names of the statistics' fields."""
        return {name: getattr(self, name) for name in (*SUMS, *OPTIONAL_SUMS, "n_masks", "scale")}

    def _add(self, packed: NDArray[np.uint8], outputs: NDArray[np.floating[Any]]) -> None:
        steps, n_train = self.scale.steps(outputs), len(self.cross_steps)
        if self.counts.ndim == 2:
            gram(packed, n_train, out=self.counts)
        else:
            self.counts += column_counts(packed, n_train).astype(np.int32)
        exact_matmul_transposed(packed, steps, n_train, out=self.cross_steps)
        self.total_steps += steps.sum(axis=0, dtype=np.int64)
        self.square_steps += np.einsum("jt,jt->t", steps, steps, dtype=np.int64)
        check_squares(self.square_steps)
        self._add_squares(packed, steps)

    def _add_squares(self, packed: NDArray[np.uint8], steps: NDArray[np.int32]) -> None:
        """Add to the sums that not all statistics have."""
        if self.pair_square_steps is not None:
            apart = steps[0::2] - steps[1::2]
            # At most twice the sum of squares, so below 2^63.
            self.pair_square_steps += np.einsum("jt,jt->t", apart, apart, dtype=np.int64)
        if self.cross_square_steps is not None:
            # Squares are below 2^42: two numbers below 2^21 each.
            high, low = np.divmod(np.square(steps, dtype=np.int64), FIXED_POINT_LIMIT)
            for part, unit in ((high, FIXED_POINT_LIMIT), (low, 1)):
                sums = exact_matmul_transposed(packed, part.astype(np.int32), len(self.cross_steps))
                self.cross_square_steps += unit * sums


class DeviceRunningSums(RunningSums):
    """The same on the backend "cuda": pairs are counted on the device, and their counts stay there.

    Parameters
    ----------
    n_train, scale, squares, design
        As for `RunningSums`.
    """

    def __init__(self, n_train: int, scale: FixedPointScale, squares: bool, design: Design) -> None:
        super().__init__(n_train, scale, False, squares, design)
        self._sums: DeviceSums | None = None

    def _on_device(self, n_rows: int) -> DeviceSums:
        if self._sums is None:
            at = (len(self.cross_steps), self.scale.centre, self.scale.step)
            self._sums = DeviceSums(*at, chunk_rows=max(n_rows, 1))
        return self._sums

    def fields(self) -> dict[str, Any]:
        """Wait for the device, then as for `RunningSums`.

        Raises
        ------
        ValueError
            If an output was not finite or outside the scale, or a sum of squares could overflow.
        """
        return super().fields() | self._on_device(0).finish()._asdict()

    def _add(self, packed: NDArray[np.uint8], outputs: NDArray[np.floating[Any]]) -> None:
        self._on_device(len(packed)).add(packed, outputs)
        if self.pair_square_steps is not None or self.cross_square_steps is not None:
            self._add_squares(packed, self.scale.steps(outputs))


def running_sums(
    n_train: int, scale: FixedPointScale, gram: bool, squares: bool, design: Design
) -> RunningSums:
    """Sums of no rows yet, on the device where counts of pairs are to be made there.

    Parameters
    ----------
    n_train, scale, gram, squares, design
        As for `RunningSums`.
    """
    if gram and backend() == "cuda":
        return DeviceRunningSums(n_train, scale, squares, design)
    return RunningSums(n_train, scale, gram, squares, design)
