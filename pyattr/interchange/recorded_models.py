"""Models that somebody else trained: subsets and outputs, with what is unusable left out."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pyattr import reference
from pyattr.errors import bad_value
from pyattr.interchange.array_files import blocks
from pyattr.masks import Masks

__all__ = ["RecordedModels", "gather", "nameless_map", "pack_bits"]

Bits: TypeAlias = Iterable[tuple[slice, NDArray[np.bool_]]]


@dataclass(frozen=True, eq=False)
class RecordedModels:
    """Models that were trained to their end and gave finite outputs.

    What was not trained or is not finite is left out and counted: nothing stands in for it. The
    arguments of `pyattr.fit_datamodel`, `pyattr.empirical_influence` and `pyattr.verify_recorded`.

    Attributes
    ----------
    masks : Masks
        (n, n_train).
    outputs : (n, n_targets) float16, float32 or float64
        Mapped from the file where it can be, else gathered in a nameless file.
    rows : (n,) int64
        Where each model stands in the files, rising.
    diverged : (n_diverged,) int64
        Rows that were finished with NaN or infinity among their outputs.
    n_unfinished : int
        Rows without a finished training.
    """

    masks: Masks
    outputs: NDArray[Any]
    rows: NDArray[np.int64]
    diverged: NDArray[np.int64]
    n_unfinished: int

    def __repr__(self) -> str:
        return (
            f"RecordedModels(n={len(self.rows)}, n_train={self.masks.n_train}, "
            f"n_targets={self.outputs.shape[1]}, n_diverged={len(self.diverged)}, "
            f"n_unfinished={self.n_unfinished})"
        )


def gather(
    name: str,
    masks: NDArray[np.bool_],
    outputs: NDArray[Any],
    finished: NDArray[np.bool_] | None = None,
) -> RecordedModels:
    """Keep the rows that are usable, without holding all of them in memory.

    Parameters
    ----------
    name : str
        Where they come from, for messages.
    masks : (n_rows, n_train) bool
        May lie on disk.
    outputs : (n_rows, n_targets) float
        May lie on disk.
    finished : (n_rows,) bool, optional
        All if not given.

    Returns
    -------
    RecordedModels

    Raises
    ------
    ValueError
        If the numbers of rows differ, there are no examples or targets, or no row is usable.
    """
    n_rows = len(outputs)
    done = np.ones(n_rows, np.bool_) if finished is None else np.array(finished)
    if not len(masks) == n_rows == len(done):
        got = f"{len(masks)} masks, {n_rows} rows of outputs, {len(done)} flags"
        raise bad_value(name, "as many masks as outputs, and flags", got)
    if not (masks.shape[1] and outputs.shape[1]):
        raise bad_value(name, "at least one example and one target", (masks.shape, outputs.shape))
    finite = np.zeros(n_rows, np.bool_)
    for part in blocks(n_rows, outputs.shape[1] * outputs.itemsize):
        chosen = part.start + np.flatnonzero(done[part])
        finite[chosen] = np.isfinite(outputs[chosen]).all(axis=1)
    rows = np.flatnonzero(finite)
    if not rows.size:
        got = f"{int((~done).sum())} unfinished and {int(done.sum())} diverged"
        raise bad_value(name, "models that were trained to their end", got)
    return RecordedModels(
        pack_bits(name, rows.size, masks.shape[1], _chosen(masks, rows)),
        outputs if rows.size == n_rows else _kept(outputs, rows),
        rows,
        np.flatnonzero(done & ~finite),
        int((~done).sum()),
    )


def pack_bits(name: str, n_rows: int, n_train: int, bits: Bits) -> Masks:
    """Pack masks that come in blocks.

    Parameters
    ----------
    name : str
        Where they come from, for messages.
    n_rows, n_train : int
    bits : iterable of (slice, (n, n_train) bool)
        Which rows, and them; all rows.

    Returns
    -------
    Masks
        (n_rows, n_train).

    Raises
    ------
    ValueError
        If a byte of a mask is neither 0 nor 1.
    """
    packed = np.zeros((n_rows, reference.row_bytes(n_train)), np.uint8)
    for rows, block in bits:
        if block.view(np.uint8).max(initial=0) > 1:
            raise bad_value(name, "masks of bytes 0 and 1", f"others in block {rows}")
        packed[rows] = reference.pack(block)
    packed.flags.writeable = False  # so that it is not copied
    return Masks(packed, n_train)


def nameless_map(dtype: DTypeLike, shape: tuple[int, int]) -> NDArray[Any]:
    """Make an array of zeros in a file without a name, which goes when it is no longer mapped."""
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, dtype, "w+", shape=shape)


def _chosen(array: NDArray[Any], rows: NDArray[np.int64]) -> Iterator[tuple[slice, NDArray[Any]]]:
    for part in blocks(rows.size, array.shape[1] * array.itemsize):
        yield part, array[rows[part]]


def _kept(outputs: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    kept = nameless_map(outputs.dtype, (rows.size, outputs.shape[1]))
    for part, block in _chosen(outputs, rows):
        kept[part] = block
    kept.flags.writeable = False
    return kept
