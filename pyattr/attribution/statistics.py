"""Sufficient statistics of all regressions on masks: counts, masksᵀY and ΣY², exact.

Every estimator is a function of these. They are sums over rows of whole numbers (outputs in fixed
point), hence equal for any order of rows, block size, number of threads and device; statistics of
shards add, those of a fold or a hold-out subtract, without rounding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from pyattr.attribution.checks import two_dimensional
from pyattr.attribution.file_format import read_file, write_file
from pyattr.attribution.fixed_point import FixedPointScale, check_squares, output_blocks
from pyattr.attribution.memory import plan_statistics
from pyattr.attribution.statistics_file import METADATA, SUMS, check_layout, check_values
from pyattr.errors import bad_value, check_count
from pyattr.exact_sums import exact_matmul_transposed, gram

if TYPE_CHECKING:
    from pyattr.masks import Masks

__all__ = ["SufficientStatistics"]

_BLOCK_SIZE = 1 << 22  # outputs of a block of rows: 48 MiB while they become fixed point
_MAX_BLOCK_ROWS = 1 << 15
_MAX_MASKS = (1 << 31) - 1

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SufficientStatistics:
    """Sums over n_masks rows x (bits) and q (outputs in whole steps: y ≈ centre + step · q).

    Parameters
    ----------
    counts : (n_train, n_train) or (n_train,) int32
        Σ x xᵀ, or its diagonal alone (Gram-free).
    cross_steps : (n_train, n_targets) int64
        Σ x qᵀ.
    total_steps, square_steps : (n_targets,) int64
        Σ q and Σ q².
    n_masks : int
    scale : FixedPointScale
        Centre c and step of each target. Steps are at most 2^-19 of the half range of the outputs
        that the scale was made for, so that each output is off by at most 2^-20 of it.

    Examples
    --------
    >>> import pyattr
    >>> masks = pyattr.sample_masks(200, 10, seed=1)
    >>> outputs = masks.unpack().sum(axis=1, keepdims=True) / 7
    >>> all_rows = SufficientStatistics.of(masks, outputs)
    >>> held_out = SufficientStatistics.of(masks[150:], outputs[150:], scale=all_rows.scale)
    >>> (all_rows - held_out).n_masks
    150
    """

    counts: NDArray[np.int32]
    cross_steps: Int64
    total_steps: Int64
    square_steps: Int64
    n_masks: int
    scale: FixedPointScale

    @classmethod
    def of(
        cls,
        masks: Masks,
        outputs: ArrayLike,
        *,
        gram: bool = True,
        scale: FixedPointScale | None = None,
        block_rows: int | None = None,
        memory_limit: int | None = None,
    ) -> SufficientStatistics:
        """Sum over the rows of `masks` and `outputs`.

        Parameters
        ----------
        masks : Masks
            Fewer than 2^31 subsets.
        outputs : (n_masks, n_targets) array_like
            Outputs of the models trained on them; (n_masks,) means one target. Read in blocks of
            rows, so they may lie on disk (``numpy.memmap``).
        gram : bool
            Whether to count all pairs of examples. Without, only masksᵀY, column sums and ΣY² are
            kept.
        scale : FixedPointScale, optional
            By default that of `outputs`. Statistics must have the same to be added or subtracted.
        block_rows : int, optional
            Rows in memory at a time; changes nothing in the result.
        memory_limit : int, optional
            Bytes that the computation may take; by default what is available.

        Raises
        ------
        ValueError
            If the rows do not match, the memory would not suffice, or an output is NaN, infinite
            or outside the scale; the first such target is named.
        """
        values = two_dimensional("outputs", outputs)
        n_masks, n_train, n_targets = masks.n_masks, masks.n_train, values.shape[1]
        if len(values) != n_masks or n_masks > _MAX_MASKS:
            expected = f"{n_masks} rows, one for each mask, and fewer than 2^31"
            raise bad_value("outputs", expected, len(values))
        if block_rows is None:
            block_rows = min(_MAX_BLOCK_ROWS, max(1024, _BLOCK_SIZE // max(n_targets, 1)))
        block_rows = min(check_count("block_rows", block_rows, 1), _MAX_BLOCK_ROWS)
        plan_statistics(n_train, n_targets, min(block_rows, n_masks), gram, memory_limit)
        scale = FixedPointScale.of(values) if scale is None else scale
        empty = cls(
            np.zeros((n_train, n_train) if gram else n_train, np.int32),
            np.zeros((n_train, n_targets), np.int64),
            np.zeros(n_targets, np.int64),
            np.zeros(n_targets, np.int64),
            n_masks,
            scale,
        )
        for rows, block in output_blocks(values, block_rows):
            empty._add_rows(masks.packed[rows], scale.steps(block))
        return empty

    def _add_rows(self, packed: NDArray[np.uint8], steps: NDArray[np.int32]) -> None:
        if self.has_gram:
            gram(packed, self.n_train, out=self.counts)
        else:
            ones = np.ones((len(packed), 1), np.int32)
            self.counts[:] += exact_matmul_transposed(packed, ones, self.n_train)[:, 0].astype(
                np.int32
            )
        exact_matmul_transposed(packed, steps, self.n_train, out=self.cross_steps)
        self.total_steps[:] += steps.sum(axis=0, dtype=np.int64)
        self.square_steps[:] += np.einsum("jt,jt->t", steps, steps, dtype=np.int64)
        check_squares(self.square_steps)

    # -- combining -------------------------------------------------------------------------------

    def __add__(self, other: SufficientStatistics) -> SufficientStatistics:
        """Statistics of the rows of both; exact."""
        return self._combined(other, 1)

    def __sub__(self, other: SufficientStatistics) -> SufficientStatistics:
        """Statistics of the rows of `self` that are not among those of `other`; exact."""
        return self._combined(other, -1)

    def _combined(self, other: SufficientStatistics, sign: int) -> SufficientStatistics:
        if not isinstance(other, SufficientStatistics):
            return NotImplemented
        if self.counts.shape != other.counts.shape or self.scale != other.scale:
            raise bad_value(
                "statistics",
                "the same examples, targets, fixed-point scale and kind of counts",
                f"{self!r} and {other!r}",
            )
        n_masks = self.n_masks + sign * other.n_masks
        if not 0 <= n_masks <= _MAX_MASKS:
            raise bad_value("statistics", f"0 to {_MAX_MASKS} masks in all", n_masks)
        result = replace(
            self,
            counts=self.counts + np.int32(sign) * other.counts,
            cross_steps=self.cross_steps + sign * other.cross_steps,
            total_steps=self.total_steps + sign * other.total_steps,
            square_steps=self.square_steps + sign * other.square_steps,
            n_masks=n_masks,
        )
        single = result.column_counts
        if (single < 0).any() or (single > n_masks).any() or (result.square_steps < 0).any():
            raise bad_value("statistics", "those of some of the rows to subtract", f"{other!r}")
        check_squares(result.square_steps)
        return result

    # -- what they say ---------------------------------------------------------------------------

    @property
    def n_train(self) -> int:
        """Number of training examples."""
        return int(self.cross_steps.shape[0])

    @property
    def n_targets(self) -> int:
        """Number of targets."""
        return int(self.cross_steps.shape[1])

    @property
    def has_gram(self) -> bool:
        """Whether all pairs were counted."""
        return self.counts.ndim == 2

    @property
    def column_counts(self) -> NDArray[np.int32]:
        """Number of masks that each example is in, (n_train,) int32."""
        return np.diagonal(self.counts) if self.has_gram else self.counts

    @property
    def mean(self) -> Float64:
        """Mean output of each target, (n_targets,) float64."""
        return self.scale.centre + self.scale.step * (self.total_steps / max(self.n_masks, 1))

    @property
    def mean_row(self) -> Float64:
        """Share of the masks that each example is in, (n_train,) float64."""
        return self.column_counts / max(self.n_masks, 1)

    @property
    def cross(self) -> Float64:
        """Sums over rows ``x (y - c)ᵀ``, (n_train, n_targets) float64."""
        return self.cross_steps * self.scale.step

    @property
    def total(self) -> Float64:
        """Sums over rows ``y - c``, (n_targets,) float64."""
        return self.total_steps * self.scale.step

    @property
    def square(self) -> Float64:
        """Sums over rows ``(y - c)²``, (n_targets,) float64."""
        return self.square_steps * self.scale.step * self.scale.step

    def centred_gram(
        self, middle: float | None = None, dtype: DTypeLike = np.float64
    ) -> NDArray[Any]:
        """Sum over rows of ``(x - middle)(x - middle)ᵀ``.

        Parameters
        ----------
        middle : float, optional
            By default the mean row.
        dtype : float32 or float64

        Returns
        -------
        (n_train, n_train) float32 or float64
            From the exact counts with a few float64 roundings.
        """
        if not self.has_gram:
            raise bad_value("statistics", "counts of pairs (gram=True)", "Gram-free ones")
        single, n_masks = self.column_counts.astype(np.float64), max(self.n_masks, 1)
        result = np.empty(self.counts.shape, dtype)
        for i in range(0, self.n_train, 256):
            rows = slice(i, i + 256)
            if middle is None:
                # n n_ij - n_i n_j is a whole number below 2^62: off by its rounding alone.
                centred = self.counts[rows] - np.outer(single[rows] / n_masks, single)
            else:
                apart = middle * (single[rows, np.newaxis] + single)
                centred = self.counts[rows] - apart + self.n_masks * middle**2
            result[rows] = centred
        return result

    def centred_cross(self, middle: float | None = None, targets: slice = slice(None)) -> Float64:
        """Sum over rows of ``(x - middle) (y - c)ᵀ``.

        Parameters
        ----------
        middle : float, optional
            By default the mean row; then the result is the same for every c.
        targets : slice
            Which targets.

        Returns
        -------
        (n_train, n_targets) float64
        """
        total = self.total_steps[targets].astype(np.float64)
        single = self.column_counts.astype(np.float64)[:, np.newaxis]
        if middle is None:
            centred = self.cross_steps[:, targets] - single * (total / max(self.n_masks, 1))
        else:
            centred = self.cross_steps[:, targets] - middle * total
        return np.asarray(centred * self.scale.step[targets])

    @property
    def centred_square(self) -> Float64:
        """Sums over rows of ``(y - mean)²``, (n_targets,) float64; 0 for a constant target."""
        step, n_masks = self.scale.step, max(self.n_masks, 1)
        # Whole numbers up to 2^93, so Python's.
        pairs = zip(self.square_steps.tolist(), self.total_steps.tolist(), strict=True)
        exact = [(n_masks * square - total * total) / n_masks for square, total in pairs]
        return np.asarray(exact, np.float64) * step * step

    # -- files -----------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write to a safetensors file, whole or not at all."""
        tensors = {name: getattr(self, name) for name in SUMS}
        tensors |= {"centre": self.scale.centre, "step": self.scale.step}
        write_file(Path(path), tensors, {**METADATA, "n_masks": str(self.n_masks)})

    @classmethod
    def load(cls, path: str | Path) -> SufficientStatistics:
        """Read what `save` wrote.

        Raises
        ------
        ValueError
            If anything in the file is not as `save` would have written it.
        """
        tensors, metadata = read_file(Path(path), check_layout)
        n_masks = check_values(str(path), tensors, metadata)
        centre, step = tensors.pop("centre"), tensors.pop("step")
        return cls(**tensors, n_masks=n_masks, scale=FixedPointScale(centre, step))

    def __repr__(self) -> str:
        return (
            f"SufficientStatistics(n_masks={self.n_masks}, n_train={self.n_train}, "
            f"n_targets={self.n_targets}, gram={self.has_gram})"
        )
