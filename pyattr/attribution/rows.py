"""The rows of a regression on masks, packed, for what sums over rows alone do not give.

Leave-one-out errors need the rows themselves, and a regression without Gram matrix multiplies with
them. They are never all dense at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyattr import reference
from pyattr.attribution.designs import Design
from pyattr.exact_sums import intersections

if TYPE_CHECKING:
    from pyattr.masks import Masks

__all__ = ["Rows", "dense_blocks", "packed_columns"]

# A dense block holds this many numbers (64 MiB in float32) and no more than so many rows.
_BLOCK_SIZE = 1 << 24
_BLOCK_ROWS = 1 << 13
_CHUNK_BYTES = 1 << 26  # of outputs taken out of all at once

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Rows:
    """Masks and outputs, or of pairs of complements the first mask and the half difference.

    Parameters
    ----------
    all_masks : Masks
    all_outputs : (n_masks, n_targets)
        Real; read in blocks of rows.
    design : {"iid", "complement"}
    """

    all_masks: Masks
    all_outputs: NDArray[Any]
    design: Design

    @property
    def masks(self) -> Masks:
        """One mask a row."""
        return self.all_masks if self.design == "iid" else self.all_masks[0::2]

    def chunks_of(
        self, n_parts: int, first: int
    ) -> Iterator[tuple[Masks, NDArray[np.floating[Any]]]]:
        """Masks and outputs of one of n_parts disjoint parts: rows `first`, ``first + n_parts``, ….

        A few at a time, since outputs may lie on disk.
        """
        width = 1 if self.design == "iid" else 2
        n_rows, n_targets = self.all_outputs.shape
        whole = n_parts * width
        step = whole * max(1, _CHUNK_BYTES // (4 * n_targets * whole + 1))
        for start in range(0, n_rows, step):
            at = np.arange(start, min(start + step, n_rows))
            chosen = at[at // width % n_parts == first]
            if chosen.size:
                yield self.all_masks[chosen], self.all_outputs[chosen]

    def blocks(self) -> Iterator[slice]:
        """Ranges of rows small enough to be dense."""
        return _blocks(len(self.masks), self.all_masks.n_train)

    def outputs(self, rows: slice, targets: slice, mean: Float64, scale: Float64) -> Float64:
        """Outputs of some rows and targets in standard units.

        Parameters
        ----------
        rows, targets : slice
        mean, scale : (n_targets,) float64
            Of all targets; half differences have no mean to take off.

        Returns
        -------
        (n_rows, n_targets) float64
        """
        if self.design == "iid":
            values = self.all_outputs[rows, targets].astype(np.float64)
            return np.asarray((values - mean[targets]) / scale[targets])
        both = self.all_outputs[2 * rows.start : 2 * rows.stop, targets].astype(np.float64)
        return np.asarray((both[0::2] - both[1::2]) / (2.0 * scale[targets]))

    def kernel(self, centre: Float64) -> Float64:
        """Inner products of the rows ``x - centre``.

        Parameters
        ----------
        centre : (n_train,) float64

        Returns
        -------
        (n_rows, n_rows) float64
            Exact sizes of intersections, then centred.
        """
        masks = self.masks
        offset = np.concatenate([bits @ centre for _, bits in dense_blocks(masks)])
        inner = intersections(masks.packed, masks.n_train).astype(np.float64)
        inner -= offset[:, np.newaxis]
        inner -= offset
        inner += centre @ centre
        return inner


def dense_blocks(masks: Masks) -> Iterator[tuple[slice, NDArray[np.bool_]]]:
    """Unpack consecutive rows, at most 64 MiB of float32 at a time.

    Parameters
    ----------
    masks : Masks

    Yields
    ------
    rows : slice
    bits : (n_rows, n_train) bool
    """
    for rows in _blocks(masks.n_masks, masks.n_train):
        yield rows, masks[rows].unpack()


def _blocks(n_rows: int, n_train: int) -> Iterator[slice]:
    step = max(1, min(_BLOCK_ROWS, _BLOCK_SIZE // n_train))
    for first in range(0, n_rows, step):
        yield slice(first, min(first + step, n_rows))


def packed_columns(masks: Masks) -> NDArray[np.uint8]:
    """Rows and columns exchanged: the masks that each example is in.

    Parameters
    ----------
    masks : Masks

    Returns
    -------
    (n_train, row_bytes of n_masks) uint8
    """
    turned = np.empty((masks.n_train, reference.row_bytes(masks.n_masks)), np.uint8)
    n_bytes = max(1, _BLOCK_SIZE // max(masks.n_masks, 1) // 8)
    for first in range(0, -(-masks.n_train // 8), n_bytes):
        columns = slice(8 * first, min(8 * (first + n_bytes), masks.n_train))
        part = masks.packed[:, first : first + n_bytes]
        bits = reference.unpack(part, columns.stop - columns.start)
        turned[columns] = reference.pack(bits.T)
    return turned
