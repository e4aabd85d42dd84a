"""The scale on which outputs become whole numbers, so that sums of them are exact."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyattr.attribution.checks import two_dimensional
from pyattr.errors import bad_value
from pyattr.exact_sums import to_fixed_point

__all__ = ["FixedPointScale", "check_squares", "output_blocks"]

_SMALLEST_STEP = -1020  # its inverse is a float64
_BITS = 20
_MAX_SQUARE = 1 << 62

Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FixedPointScale:
    """Centre and step of every target: output = centre + step · whole number.

    Whole numbers stay below 2^21 in magnitude. Rounding an output to one is off by half a step at
    most: 2^-20 of the half range of the outputs that the scale was made for (steps are
    no smaller than 2^-1020).

    Parameters
    ----------
    centre : (n_targets,) float64
    step : (n_targets,) float64
        Powers of two.
    """

    centre: Float64
    step: Float64

    @classmethod
    def of(cls, outputs: ArrayLike) -> FixedPointScale:
        """Make the scale of given outputs.

        It depends on the least and the largest output of each target alone, so neither on the
        order of rows nor on blocks. Outputs up to twice as far from the centre fit as well.

        Parameters
        ----------
        outputs : (n_masks, n_targets) array_like
            At least one row; read in blocks of rows. Two rows of bounds will do.

        Raises
        ------
        ValueError
            If an output is NaN or infinite; the first such target is named.
        """
        low = high = None
        for _, block in output_blocks(outputs):
            # min and max hand on NaN.
            bottom, top = block.min(axis=0), block.max(axis=0)
            low = bottom if low is None else np.minimum(low, bottom)
            high = top if high is None else np.maximum(high, top)
        if low is None or high is None:
            raise bad_value("outputs", "at least one row", "none")
        bad = np.flatnonzero(~(np.isfinite(low) & np.isfinite(high)))
        if bad.size:
            got = f"NaN or infinity for target {bad[0]}"
            raise bad_value("outputs", "finite numbers", got)
        low, high = low.astype(np.float64), high.astype(np.float64)
        middle = low / 2 + high / 2
        reach = np.maximum(high / 2 - middle / 2, middle / 2 - low / 2)  # half of it: no overflow
        # A constant target may yet vary by its own size in rows to come.
        reach = np.where(reach > 0, reach, np.abs(middle) / 2)
        exponent = np.where(reach > 0, np.frexp(reach)[1] + 1, 0) - _BITS
        return cls(middle, np.ldexp(1.0, np.maximum(exponent, _SMALLEST_STEP)))

    def steps(self, outputs: NDArray[np.floating[Any]]) -> NDArray[np.int32]:
        """Return outputs (n_rows, n_targets) as whole numbers of steps from the centre."""
        return to_fixed_point(outputs, self.centre, self.step)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FixedPointScale):
            return NotImplemented
        return np.array_equal(self.centre, other.centre) and np.array_equal(self.step, other.step)


def output_blocks(
    outputs: ArrayLike, n_rows: int = 1 << 13
) -> Iterator[tuple[slice, NDArray[np.floating[Any]]]]:
    """Read outputs in blocks of rows: an array on disk is never in memory as a whole.

    Parameters
    ----------
    outputs : (n_masks, n_targets) array_like
        Real or bool; (n_masks,) means one target.
    n_rows : int

    Yields
    ------
    rows : slice
    block : (n_rows or fewer, n_targets) float32 or float64
        float32 as it was given, anything else as float64.
    """
    values = two_dimensional("outputs", outputs)
    for first in range(0, len(values), n_rows):
        rows = slice(first, min(first + n_rows, len(values)))
        block = values[rows]
        yield rows, block if block.dtype == np.float32 else block.astype(np.float64)


def check_squares(square_steps: NDArray[np.int64]) -> None:
    """Refuse sums of squares (n_targets,) that could overflow with the next rows.

    A block of rows adds less than 2^57, merging less than 2^62.
    """
    bad = np.flatnonzero(square_steps >= _MAX_SQUARE)
    if bad.size:
        expected = "a sum of squares below 2^62 steps (more rows need a larger step)"
        raise bad_value("outputs", expected, f"{square_steps[bad[0]]} for target {bad[0]}")
