"""Sufficient statistics of all regressions on masks: counts, masksᵀY and ΣY², exact.

Every estimator is a function of these. They are sums over rows of whole numbers (outputs in fixed
point), hence equal for any order of rows, block size, number of threads and device; statistics of
shards add, those of a fold or a hold-out subtract, without rounding.

Complement pairs need one sum more. With z = x - 1/2 the rows of a pair are z and -z, so over all
rows Σ z zᵀ and Σ z y are twice the sums of ``z zᵀ`` and of z times the half difference (y - ȳ)/2
over pairs; only the half differences' own squares must be summed apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from pyattr.attribution.checks import two_dimensional
from pyattr.attribution.designs import Design, check_design
from pyattr.attribution.file_format import read_file, write_file
from pyattr.attribution.fixed_point import FixedPointScale, check_squares, output_blocks
from pyattr.attribution.memory import plan_statistics
from pyattr.attribution.statistics_file import (
    METADATA,
    OPTIONAL_SUMS,
    SUMS,
    check_layout,
    check_values,
)
from pyattr.attribution.summation import MAX_BLOCK_ROWS, MAX_MASKS, RunningSums, running_sums
from pyattr.device import DeviceMatrix, Matrix, on_host, used_on_device
from pyattr.device_sums import combined_counts
from pyattr.errors import bad_value, check_count

if TYPE_CHECKING:
    from pyattr.masks import Masks

__all__ = ["SufficientStatistics"]

_BLOCK_SIZE = 1 << 22  # outputs of a block of rows: 48 MiB while they become fixed point

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SufficientStatistics:
    """Sums over n_masks rows x (bits) and q (outputs in whole steps: y ≈ centre + step · q).

    Parameters
    ----------
    counts : (n_train, n_train) or (n_train,) int32
        Σ x xᵀ, or its diagonal alone (Gram-free). Counts of pairs that the backend "cuda" made are on
        the device (`pyattr.device.DeviceMatrix`); with another backend they are used by a copy.
    cross_steps : (n_train, n_targets) int64
        Σ x qᵀ.
    total_steps, square_steps : (n_targets,) int64
        Σ q and Σ q².
    n_masks : int
    scale : FixedPointScale
        Centre c and step of each target. Steps are at most 2^-19 of the half range of the outputs
        that the scale was made for, so that each output is off by at most 2^-20 of it.
    pair_square_steps : (n_targets,) int64, optional
        Σ (q - q')² over the pairs of the complement design; None for independent masks.
    cross_square_steps : (n_train, n_targets) int64, optional
        Σ x (q²)ᵀ, for standard errors of empirical influence without assuming equal variances.

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

    counts: NDArray[np.int32] | DeviceMatrix
    cross_steps: Int64
    total_steps: Int64
    square_steps: Int64
    n_masks: int
    scale: FixedPointScale
    pair_square_steps: Int64 | None = None
    cross_square_steps: Int64 | None = None

    @classmethod
    def of(
        cls,
        masks: Masks,
        outputs: ArrayLike,
        *,
        gram: bool = True,
        squares: bool = False,
        design: Design = "iid",
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
        squares : bool
            Whether to sum the squares of outputs for every example too: 3 times the time and twice
            the memory of masksᵀY.
        design : {"iid", "complement"}
            "complement": rows 2j and 2j+1 are complements.
        scale : FixedPointScale, optional
            By default that of `outputs`. Statistics must have the same to be added or subtracted.
        block_rows : int, optional
            Rows in memory at a time; changes nothing in the result.
        memory_limit : int, optional
            Bytes that the computation may take; by default what is available.

        Raises
        ------
        ValueError
            If the rows do not match, the design is another, the memory would not suffice, or an
            output is NaN, infinite or outside the scale; the first such target is named.
        """
        values = two_dimensional("outputs", outputs)
        n_masks, n_targets = masks.n_masks, values.shape[1]
        if len(values) != n_masks or n_masks > MAX_MASKS:
            expected = f"{n_masks} rows, one for each mask, and fewer than 2^31"
            raise bad_value("outputs", expected, len(values))
        check_design(masks, design)
        if block_rows is None:
            block_rows = min(MAX_BLOCK_ROWS, max(1024, _BLOCK_SIZE // max(n_targets, 1)))
        block_rows = min(check_count("block_rows", block_rows, 1), MAX_BLOCK_ROWS)
        block_rows += block_rows % 2  # no block ends inside a pair
        rows = min(block_rows, n_masks)
        plan_statistics(masks.n_train, n_targets, rows, gram, memory_limit, squares=squares)
        scale = FixedPointScale.of(values) if scale is None else scale
        sums = running_sums(masks.n_train, scale, gram, squares, design)
        for part, block in output_blocks(values, block_rows):
            sums.add(masks.packed[part], block)
        return cls(**sums.fields())

    @classmethod
    def of_chunks(
        cls,
        chunks: Iterable[tuple[Masks, ArrayLike]],
        scale: FixedPointScale,
        *,
        gram: bool = True,
        squares: bool = False,
        design: Design = "iid",
        memory_limit: int | None = None,
    ) -> SufficientStatistics:
        """Sum over rows that arrive in chunks and need not be kept.

        Parameters
        ----------
        chunks : iterable of (Masks, (n_rows, n_targets) array_like)
            At least one; all over the same examples. No pair of complements is cut.
        scale : FixedPointScale
            That of bounds on the outputs: ``FixedPointScale.of([least, largest])``.
        gram, squares, design, memory_limit
            As for `of`.

        Raises
        ------
        ValueError
            As from `of`, or if there is no chunk or the examples differ.
        """
        sums: RunningSums | None = None
        for masks, outputs in chunks:
            values = two_dimensional("outputs", outputs)
            if sums is None:
                n_train, rows = masks.n_train, min(MAX_BLOCK_ROWS, len(values))
                at = (n_train, len(scale.step), rows, gram, memory_limit)
                plan_statistics(*at, squares=squares)
                sums = running_sums(n_train, scale, gram, squares, design)
            shape = (masks.n_masks, len(scale.step))
            if masks.n_train != n_train or values.shape != shape:
                expected = f"{n_train} examples and outputs {shape}"
                raise bad_value("chunks", expected, f"{masks.n_train} and {values.shape}")
            check_design(masks, design)
            for part, block in output_blocks(values, MAX_BLOCK_ROWS):
                sums.add(masks.packed[part], block)
        if sums is None:
            raise bad_value("chunks", "at least one", "none")
        return cls(**sums.fields())

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
        n_masks = self.n_masks + sign * other.n_masks
        if self._kind() != other._kind() or self.scale != other.scale:
            raise bad_value(
                "statistics",
                "the same examples, targets, fixed-point scale, design and kind of sums",
                f"{self!r} and {other!r}",
            )
        if not 0 <= n_masks <= MAX_MASKS:
            raise bad_value("statistics", f"0 to {MAX_MASKS} masks in all", n_masks)
        sums: dict[str, Any] = {
            name: _combined(mine, theirs, sign)
            for (name, mine), (_, theirs) in zip(self._sums(), other._sums(), strict=True)
        }
        result = replace(self, **sums, n_masks=n_masks)
        single = result.column_counts
        if (single < 0).any() or (single > n_masks).any() or (result.square_steps < 0).any():
            raise bad_value("statistics", "those of some of the rows to subtract", f"{other!r}")
        check_squares(result.square_steps)
        return result

    def _sums(self) -> Iterator[tuple[str, Matrix]]:
        for name in (*SUMS, *OPTIONAL_SUMS):
            value = getattr(self, name)
            if value is not None:
                yield name, value

    def _kind(self) -> dict[str, tuple[int, ...]]:
        return {name: value.shape for name, value in self._sums()}

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
        return len(self.counts.shape) == 2

    @property
    def design(self) -> Design:
        """How the masks were drawn."""
        return "iid" if self.pair_square_steps is None else "complement"

    @property
    def n_rows(self) -> int:
        """Rows of the regression: masks, or pairs of complements."""
        return self.n_masks if self.pair_square_steps is None else self.n_masks // 2

    @property
    def column_counts(self) -> NDArray[np.int32]:
        """Number of masks that each example is in, (n_train,) int32."""
        return self.counts.diagonal() if self.has_gram else on_host(self.counts)

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

    def centred_gram(self, dtype: DTypeLike = np.float64) -> NDArray[Any]:
        """Sum over masks of ``(x - mean)(x - mean)ᵀ``; over pairs of complements it is half of it.

        Parameters
        ----------
        dtype : float32 or float64

        Returns
        -------
        (n_train, n_train) float32 or float64
            From the exact counts with a few float64 roundings.
        """
        if not self.has_gram:
            raise bad_value("statistics", "counts of pairs (gram=True)", "Gram-free ones")
        single, n_masks = self.column_counts.astype(np.float64), max(self.n_masks, 1)
        counts, result = on_host(self.counts), np.empty(self.counts.shape, dtype)
        for i in range(0, self.n_train, 256):
            rows = slice(i, i + 256)
            # n n_ij - n_i n_j is a whole number below 2^62: off by its rounding alone.
            result[rows] = counts[rows] - np.outer(single[rows] / n_masks, single)
        return result

    def centred_cross(self, targets: slice = slice(None)) -> Float64:
        """Sum over masks of ``(x - mean) yᵀ``; the same for every centre of y.

        Parameters
        ----------
        targets : slice
            Which targets.

        Returns
        -------
        (n_train, n_targets) float64
        """
        total = self.total_steps[targets].astype(np.float64)
        single = self.column_counts.astype(np.float64)[:, np.newaxis]
        centred = self.cross_steps[:, targets] - single * (total / max(self.n_masks, 1))
        return np.asarray(centred * self.scale.step[targets])

    @property
    def centred_square(self) -> Float64:
        """Sums over masks of ``(y - mean)²``, (n_targets,) float64; 0 for a constant target."""
        step, n_masks = self.scale.step, max(self.n_masks, 1)
        # Whole numbers up to 2^93, so Python's.
        pairs = zip(self.square_steps.tolist(), self.total_steps.tolist(), strict=True)
        exact = [(n_masks * square - total * total) / n_masks for square, total in pairs]
        return np.asarray(exact, np.float64) * step * step

    @property
    def row_square(self) -> Float64:
        """Mean square of the regression's outputs, (n_targets,) float64.

        Of ``y - mean``, or of the half difference of a pair of complements.
        """
        if self.pair_square_steps is None:
            return self.centred_square / max(self.n_masks, 1)
        step = self.scale.step / 2.0
        return np.asarray(self.pair_square_steps / max(self.n_rows, 1) * step * step)

    # -- files -----------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write to a safetensors file, whole or not at all.

        Parameters
        ----------
        path : str or path
            File to write or replace.
        """
        tensors = {name: on_host(value) for name, value in self._sums()}
        tensors |= {"centre": self.scale.centre, "step": self.scale.step}
        write_file(Path(path), tensors, {**METADATA, "n_masks": str(self.n_masks)})

    @classmethod
    def load(cls, path: str | Path) -> SufficientStatistics:
        """Read what `save` wrote.

        Parameters
        ----------
        path : str or path
            A safetensors file; no code in it is ever run.

        Returns
        -------
        SufficientStatistics

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
            f"n_targets={self.n_targets}, gram={self.has_gram}, design={self.design!r})"
        )


def _combined(mine: Matrix, theirs: Matrix, sign: int) -> Matrix:
    if used_on_device(mine) and used_on_device(theirs):
        return combined_counts(mine, theirs, sign)
    one, other = on_host(mine), on_host(theirs)
    return np.asarray(one + one.dtype.type(sign) * other)
